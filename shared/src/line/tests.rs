use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::Response;
use hyper::body::Incoming;
use hyper::server::conn::{http1 as server_http1, http2 as server_http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf, duplex, split};

use super::*;
use crate::id::{EdgeId, EdgeKey, InstanceId};
use crate::wire::check_in::Authorization;

const BUFFER: usize = 64 * 1024;
const WAIT: Duration = Duration::from_secs(50);
/// Answered only once its connection is gone.
const STUCK: &str = "/stuck";

fn identity() -> Identity {
    let authorization =
        Authorization { edge_id: EdgeId::from_bytes([1; 16]), key: EdgeKey::from_bytes([2; 32]) };
    Identity { authorization, instance: InstanceId::from_bytes([3; 16]) }
}

fn caller() -> Caller {
    Caller::new(Scheme::HTTPS, "gate.example.com:9000", &identity()).expect("an authority")
}

/// Says in its answer's fields what the request had in its own.
async fn mirror(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() == STUCK {
        std::future::pending::<()>().await;
    }
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    if request.headers().contains_key("x-mirror") {
        *answer.headers_mut() = request.headers().clone();
        answer.headers_mut().insert("x-uri", request.uri().to_string().parse().expect("visible"));
    }
    Ok(answer)
}

fn serve(stream: DuplexStream, protocol: Protocol) {
    let io = TokioIo::new(stream);
    match protocol {
        Protocol::Http1 => {
            tokio::spawn(server_http1::Builder::new().serve_connection(io, service_fn(mirror)));
        }
        Protocol::Http2 => {
            let serving = server_http2::Builder::new(TokioExecutor::new())
                .auto_date_header(false)
                .serve_connection(io, service_fn(mirror));
            tokio::spawn(serving);
        }
    }
}

async fn line(protocol: Protocol) -> Line {
    let (near, far) = duplex(BUFFER);
    serve(far, protocol);
    Line::open(near, protocol).await.expect("the server speaks it")
}

async fn pass(mut from: ReadHalf<DuplexStream>, mut to: WriteHalf<DuplexStream>, passed: Arc<AtomicUsize>) {
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        passed.fetch_add(count, Ordering::SeqCst);
        to.write_all(&bytes[..count]).await.expect("the other end reads");
    }
}

#[tokio::test]
async fn idle_check_in_over_http2_is_33_bytes_and_its_answer_is_10() {
    let ((near, a), (b, far)) = (duplex(BUFFER), duplex(BUFFER));
    serve(far, Protocol::Http2);
    let ((from_us, to_us), (from_server, to_server)) = (split(a), split(b));
    let (asked, answered) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    tokio::spawn(pass(from_us, to_server, asked.clone()));
    tokio::spawn(pass(from_server, to_us, answered.clone()));
    let (caller, mut line) = (caller(), Line::open(near, Protocol::Http2).await.expect("HTTP/2"));
    // The first one fills the tables, and SETTINGS are acknowledged along with it.
    for _ in 0..2 {
        line.exchange(caller.check_in(Protocol::Http2, Some(WAIT), None)).await.expect("an answer");
    }
    let count = || (asked.load(Ordering::SeqCst), answered.load(Ordering::SeqCst));
    for _ in 0..100 {
        let before = count();
        line.exchange(caller.check_in(Protocol::Http2, Some(WAIT), None)).await.expect("an answer");
        let after = count();
        assert_eq!((after.0 - before.0, after.1 - before.1), (33, 10));
    }
}

#[tokio::test]
async fn each_version_says_who_asks_in_its_own_way_and_a_look_says_it_in_none() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let (caller, mut line) = (caller(), line(protocol).await);
        let mut request = caller.check_in(protocol, Some(WAIT), Some(Bytes::from_static(b"{}")));
        request.headers_mut().insert("x-mirror", HeaderValue::from_static("1"));
        let seen = line.exchange(request).await.expect("an answer").headers;
        let said = |name: &str| seen.get(name).map(|value| value.to_str().expect("visible").to_owned());
        let who = Some(identity().authorization.expose());
        let (http1, http2) = match protocol {
            Protocol::Http1 => (who, None),
            Protocol::Http2 => (None, who),
        };
        assert_eq!((said("authorization"), said(IDENTITY_HEADER)), (http1, http2));
        assert_eq!(said(INSTANCE_HEADER), Some(identity().instance.to_string()));
        assert_eq!(said(PREFER_HEADER).as_deref(), Some("wait=50"));
        assert_eq!(said("content-type").as_deref(), Some("application/json"));
        assert!(said("x-uri").expect("said").ends_with(PATH));
        assert_eq!((said("accept"), said("user-agent")), (None, None));
        let look = caller.get(protocol, "/healthz");
        assert!(look.headers().keys().all(|name| name == header::HOST), "{:?}", look.headers());
    }
}

#[tokio::test]
async fn question_that_is_given_up_spends_an_http1_connection_and_no_http2_connection() {
    for (protocol, spent) in [(Protocol::Http1, true), (Protocol::Http2, false)] {
        let (caller, mut line) = (caller(), line(protocol).await);
        let stuck = line.exchange(caller.get(protocol, STUCK));
        tokio::time::timeout(Duration::from_millis(10), stuck).await.expect_err("it is stuck");
        assert_eq!(line.is_spent(), spent, "{protocol:?}");
        if !spent {
            let answer = line.exchange(caller.check_in(protocol, None, None)).await.expect("an answer");
            assert_eq!(answer.status, StatusCode::NO_CONTENT);
        }
    }
}

#[tokio::test]
async fn line_that_is_dropped_closes_its_connection_though_a_question_is_under_way() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let (near, mut far) = duplex(BUFFER);
        let (caller, mut line) = (caller(), Line::open(near, protocol).await.expect("opened"));
        let asking = line.exchange(caller.check_in(protocol, None, None));
        tokio::time::timeout(Duration::from_millis(10), asking).await.expect_err("nobody answers");
        drop(line);
        let mut said = Vec::new();
        far.read_to_end(&mut said).await.expect("it ends");
        assert!(!said.is_empty());
    }
}

#[test]
fn answer_holds_where_it_says_that_waiting_was_applied() {
    for (applied, held) in
        [(None, false), (Some("wait"), true), (Some("respond-async, wait"), true), (Some("waiting"), false)]
    {
        let mut headers = HeaderMap::new();
        if let Some(applied) = applied {
            headers.insert(APPLIED_HEADER, HeaderValue::from_static(applied));
        }
        let answer = Answer { status: StatusCode::NO_CONTENT, headers, body: Bytes::new() };
        assert_eq!(answer.holds(), held, "{applied:?}");
    }
}

#[test]
fn debug_shows_nothing_of_the_key() {
    let (shown, key) = (format!("{:?}", caller()), identity().authorization.expose());
    assert!(shown.contains("***") && !shown.contains(&key[10..]), "{shown}");
}
