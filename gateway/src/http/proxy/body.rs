//! Bodies on their way through the proxy: the request's, kept back until the service asks for it, and the answer's,
//! which owns the connection that it comes from.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::Request;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

/// A client that sends `expect: 100-continue` must not wait for ever (RFC 9110 §10.1.1): a service that never heard of
/// it gets the body after this, as it would from curl.
const EXPECT_PATIENCE: Duration = Duration::from_secs(1);

type Gate = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A request's body. Reading it is what makes our server tell the client to go on, so it is not read before the service
/// said so.
pub struct RequestBody {
    body: Body,
    gate: Option<Gate>,
}

impl RequestBody {
    /// A body to be sent at once.
    pub fn immediate(body: Body) -> Self {
        Self { body, gate: None }
    }

    /// Turns `request` into one whose body waits for the service's 100.
    pub fn expected(request: Request<Body>) -> Request<Self> {
        let go_on = Arc::new(Notify::new());
        let signal = go_on.clone();
        let gate = async move { drop(timeout(EXPECT_PATIENCE, go_on.notified()).await) };
        let mut request = request.map(|body| Self { body, gate: Some(Box::pin(gate)) });
        hyper::ext::on_informational(&mut request, move |answer| {
            if answer.status() == http::StatusCode::CONTINUE {
                signal.notify_one();
            }
        });
        request
    }
}

impl hyper::body::Body for RequestBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Some(gate) = &mut self.gate {
            ready!(gate.as_mut().poll(cx));
            self.gate = None;
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body with the task that drives its connection. Dropped before its end (the client went away), it takes
/// the connection and so the stream with it; read to its end, it leaves the connection to close in order.
pub struct ResponseBody {
    body: Incoming,
    connection: Option<AbortOnDropHandle<()>>,
}

impl ResponseBody {
    /// The body of an answer that came over `connection`.
    pub fn new(body: Incoming, connection: AbortOnDropHandle<()>) -> Self {
        Self { body, connection: Some(connection) }
    }

    fn finished(&mut self) {
        // What the task still has to do is short: a request's body that is still being sent ends with its client.
        if let Some(connection) = self.connection.take() {
            drop(connection.detach());
        }
    }
}

impl hyper::body::Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() {
            self.finished();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        // A server does not read a body further that it knows to be complete.
        if self.body.is_end_stream() {
            self.finished();
        }
    }
}
