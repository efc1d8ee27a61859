//! Taking in what clients send: bounded in size and, where strangers can send it, in time.

use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use bytes::Bytes;
use http::request::Parts;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Body as _;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::problem::{Code, Problem, Result};

/// Reads a whole body of at most `limit` bytes that arrives within `deadline`.
pub async fn read(body: Body, limit: usize, deadline: Duration) -> Result<Bytes> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    match timeout(deadline, Limited::new(body, limit).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(Problem::new(Code::BodyTooLarge, format!("the body may have {limit} bytes at most")))
        }
        Ok(Err(error)) => Err(Problem::new(Code::InvalidRequest, format!("the body broke off: {error}"))),
        Err(_) => {
            let detail = format!("the body did not arrive within {} s; send it faster", deadline.as_secs());
            Err(Problem::new(Code::BodyTooSlow, detail))
        }
    }
}

/// As axum's extractors, but with our problems for rejections.
macro_rules! extractor {
    ($(#[$meta:meta])* $name:ident, $trait:ident, $method:ident, $from:ty, $rejection:ty) => {
        $(#[$meta])*
        #[derive(Debug)]
        pub struct $name<T>(pub T);

        impl<T: DeserializeOwned + Send, S: Send + Sync> $trait<S> for $name<T> {
            type Rejection = Problem;

            async fn $method(from: $from, state: &S) -> Result<Self> {
                let extracted: std::result::Result<_, $rejection> = axum::extract::$name::$method(from, state).await;
                extracted.map(|axum::extract::$name(value)| Self(value)).map_err(Problem::from)
            }
        }
    };
}

extractor! {
    /// A JSON body.
    Json, FromRequest, from_request, Request, JsonRejection
}
extractor! {
    /// The query.
    Query, FromRequestParts, from_request_parts, &mut Parts, QueryRejection
}
extractor! {
    /// The variables of the path.
    Path, FromRequestParts, from_request_parts, &mut Parts, PathRejection
}
