//! Answers that go on: server-sent events (WHATWG HTML, section 9.2), in the one form that all rooms give them.
//!
//! The rule: an answer of this kind may outlive the right of its reader, so the guard ends it with that
//! ([`super::guard`]); no room has to.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::Stream;
use http::HeaderValue;
use http::header::CACHE_CONTROL;

/// A comment so often tells both ends, and proxies between them, that the connection lives. Proxies cut silent ones
/// after 30 to 60 s.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The answer with these messages.
pub fn event_stream(messages: impl Stream<Item = Result<Event, Infallible>> + Send + 'static) -> Response {
    let mut response = Sse::new(messages).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx keeps answers back until they are whole, unless it is told not to.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}
