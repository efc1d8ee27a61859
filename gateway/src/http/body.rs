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
        Err(_) => Err(too_slow(deadline)),
    }
}

/// From its first use to its last byte, for a body that an operator writes: 64 KiB over a mobile line. Before login it is
/// what keeps strangers from holding a place with a byte now and then.
const DEADLINE: Duration = Duration::from_secs(10);

/// Takes a small body in by `taking`, if it is there in time.
pub async fn in_time<T>(taking: impl Future<Output = T>) -> Result<T> {
    timeout(DEADLINE, taking).await.map_err(|_| too_slow(DEADLINE))
}

fn too_slow(deadline: Duration) -> Problem {
    let detail = format!("the body did not arrive within {} s; send it faster", deadline.as_secs());
    Problem::new(Code::BodyTooSlow, detail)
}

/// As axum's extractors, but with our problems for rejections, and in time.
macro_rules! extractor {
    ($(#[$meta:meta])* $name:ident, $trait:ident, $method:ident, $from:ty, $rejection:ty) => {
        $(#[$meta])*
        #[derive(Debug)]
        pub struct $name<T>(pub T);

        impl<T: DeserializeOwned + Send, S: Send + Sync> $trait<S> for $name<T> {
            type Rejection = Problem;

            async fn $method(from: $from, state: &S) -> Result<Self> {
                let extracted: std::result::Result<_, $rejection> = in_time(axum::extract::$name::$method(from, state)).await?;
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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::{StreamExt as _, stream};

    use super::*;

    const LIMIT: usize = 8;

    async fn code(body: Body) -> Option<Code> {
        read(body, LIMIT, DEADLINE).await.err().map(|problem| problem.code())
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_taken_whole_within_size_and_time_only() {
        let chunk = || Ok::<_, Infallible>(Bytes::from_static(b"1234"));
        let chunks = |count| stream::iter((0..count).map(move |_| chunk()));
        assert_eq!(read(Body::from_stream(chunks(2)), LIMIT, DEADLINE).await.expect("8 bytes"), "12341234");
        assert_eq!(code(Body::from_stream(chunks(3))).await, Some(Code::BodyTooLarge));
        let endless = Body::from_stream(chunks(1).chain(stream::pending()));
        assert_eq!(code(endless).await, Some(Code::BodyTooSlow));
        let broken = chunks(1).map(|_| Err::<Bytes, _>(std::io::Error::other("gone")));
        assert_eq!(code(Body::from_stream(broken)).await, Some(Code::InvalidRequest));
    }
}
