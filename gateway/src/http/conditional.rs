//! `etag` and `if-match` (RFC 9110 §8.8.3 and §13.1.1): a change that is made only if nobody else changed the same thing
//! since its author read it.
//!
//! An etag is of what is durable about a thing: an edge that checks in stays the same, one that is renamed or bound does
//! not. The comparison is the registry's ([`crate::domain::version`]); here are the headers.

use axum::Json;
use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::header::{ETAG, IF_MATCH};
use http::request::Parts;
use serde::Serialize;

use super::problem::{Code, Problem, Result};
use crate::domain::version::{Condition, Version};

/// The condition of a request, if it has one.
#[derive(Debug)]
pub struct IfMatch(pub Condition);

impl<S: Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self> {
        condition(&parts.headers).map(Self)
    }
}

/// What `if-match` asks for.
pub(super) fn condition(headers: &HeaderMap) -> Result<Condition> {
    let mut lines = headers.get_all(IF_MATCH).into_iter().peekable();
    if lines.peek().is_none() {
        return Ok(Condition::None);
    }
    let mut versions = Vec::new();
    for line in lines {
        let text = line.to_str().map_err(|_| unreadable())?;
        // What is there at all is there: the handler says if it is not.
        if text.trim() == "*" {
            return Ok(Condition::None);
        }
        for tag in text.split(',') {
            versions.extend(version(tag.trim())?);
        }
    }
    Ok(Condition::OneOf(versions))
}

/// An entity tag; `None` where it is a good one of something else, which matches nothing here. Weak ones never match
/// (§13.1.1).
fn version(tag: &str) -> Result<Option<Version>> {
    let (weak, tag) = match tag.strip_prefix("W/") {
        Some(tag) => (true, tag),
        None => (false, tag),
    };
    let opaque = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).ok_or_else(unreadable)?;
    if opaque.contains('"') {
        return Err(unreadable());
    }
    Ok(opaque.parse().ok().filter(|_| !weak))
}

fn unreadable() -> Problem {
    Problem::new(
        Code::InvalidRequest,
        "if-match must be the etag of an answer as it was, quotes included, or *",
    )
}

/// JSON with its etag.
#[derive(Debug)]
pub struct Tagged<T>(pub Version, pub T);

impl<T: Serialize> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response {
        let Self(version, value) = self;
        ([(ETAG, format!("\"{version}\""))], Json(value)).into_response()
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    async fn condition(lines: &[&str]) -> std::result::Result<Condition, Code> {
        let request = lines.iter().fold(Request::get("/"), |request, line| request.header(IF_MATCH, *line));
        let mut parts = request.body(()).expect("a request").into_parts().0;
        let extracted = IfMatch::from_request_parts(&mut parts, &()).await;
        extracted.map(|IfMatch(condition)| condition).map_err(|problem| problem.code())
    }

    #[tokio::test]
    async fn if_match_is_read_as_http_has_it() {
        let version: Version = "00000000000000ff".parse().expect("a version");
        let (ours, other) = ("\"00000000000000ff\"", "\"of-something-else\"");
        assert_eq!(condition(&[]).await, Ok(Condition::None));
        assert_eq!(condition(&["*"]).await, Ok(Condition::None));
        assert_eq!(condition(&[ours]).await, Ok(Condition::OneOf(vec![version])));
        assert_eq!(condition(&[other]).await, Ok(Condition::OneOf(vec![])));
        assert_eq!(condition(&[&format!("W/{ours}")]).await, Ok(Condition::OneOf(vec![])));
        assert_eq!(
            condition(&[other, &format!("{other} , {ours}")]).await,
            Ok(Condition::OneOf(vec![version]))
        );
        for bad in ["", "00000000000000ff", "\"", "\"a\"b\"", "\"a\","] {
            assert_eq!(condition(&[bad]).await, Err(Code::InvalidRequest), "{bad}");
        }
    }
}
