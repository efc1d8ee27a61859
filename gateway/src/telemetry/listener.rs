//! The port of the page of metrics: `GET /metrics`, and nothing else, without a login. That is why it listens on
//! loopback unless the operator says otherwise, and why no name of an edge is on the page.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Page;
use super::page::CONTENT_TYPE as OPEN_METRICS;
use crate::accept::Accepting;

/// Connections at once: a few scrapers and a curious person. The next one is closed.
const MAX_CONNECTIONS: usize = 16;
/// From accept to the last byte of the answer. One request for each connection: a scrape every few seconds does not
/// need more, and nobody can hold a place longer than this.
const CONNECTION_TIME: Duration = Duration::from_secs(10);
/// Bytes of a request head; hyper's least.
const MAX_HEAD: usize = 8 * 1024;

/// Serves the page, for ever: dropped, it ends its connections.
pub async fn serve(listener: TcpListener, page: Arc<Page>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut accepting = Accepting::on(listener, "metrics");
    let mut connections = JoinSet::new();
    loop {
        let (socket, peer) = tokio::select! {
            accepted = accepting.next() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::debug!(%peer, "closed: too many connections for metrics");
            continue;
        };
        let page = Arc::clone(&page);
        connections.spawn(async move {
            if timeout(CONNECTION_TIME, converse(socket, page)).await.is_err() {
                tracing::debug!(%peer, "a connection for metrics took too long");
            }
            drop(place);
        });
    }
}

async fn converse(socket: TcpStream, page: Arc<Page>) {
    let service = service_fn(|request: Request<Incoming>| {
        let page = Arc::clone(&page);
        async move { Ok::<_, Infallible>(answer(&request, &page).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).keep_alive(false).max_buf_size(MAX_HEAD);
    if let Err(error) = builder.serve_connection(TokioIo::new(socket), service).await {
        tracing::debug!(%error, "a connection for metrics ended out of order");
    }
}

async fn answer(request: &Request<Incoming>, page: &Page) -> Response<Full<Bytes>> {
    let (status, media_type, text) = match (request.uri().path(), request.method()) {
        ("/metrics", &Method::GET | &Method::HEAD) => (StatusCode::OK, OPEN_METRICS, page.text().await),
        ("/metrics", _) => (StatusCode::METHOD_NOT_ALLOWED, "text/plain", "use GET\n".to_owned()),
        (_, _) => (StatusCode::NOT_FOUND, "text/plain", "metrics are at /metrics\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}
