//! Who sent a request and by which address: what its connection and its `host` say.

use std::net::SocketAddr;

use axum::extract::FromRequestParts;
use http::header::HOST;
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, Uri};

use super::problem::{Code, Problem};

/// Who is at the other end of a request's connection. The listener puts it into every request's extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The address that sent the request; behind a trusted proxy, the client's by the proxy's word.
    pub address: SocketAddr,
    /// Whether the client's side of the conversation is encrypted; behind a trusted proxy, by the proxy's word.
    pub secure: bool,
}

impl<S: Sync> FromRequestParts<S> for Peer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        parts.extensions.get().copied().ok_or_else(|| Problem::internal("the listener named no peer"))
    }
}

/// The address by which the sender reached the gateway, as it wrote it: `host` or `host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival(pub Authority);

impl Arrival {
    /// The host alone, IPv6 addresses without brackets.
    pub fn host(&self) -> &str {
        self.0.host().trim_start_matches('[').trim_end_matches(']')
    }

    /// Of a request with this URI and these headers: HTTP/2 has it in the URI, HTTP/1.1 in `host`, which every request
    /// must have (RFC 9112 §3.2).
    pub fn of(uri: &Uri, headers: &HeaderMap) -> Result<Self, Problem> {
        let in_header = || headers.get(HOST).and_then(|value| Authority::try_from(value.as_bytes()).ok());
        uri.authority()
            .cloned()
            .or_else(in_header)
            .filter(|authority| !authority.as_str().contains('@'))
            .map(Self)
            .ok_or_else(|| Problem::new(Code::InvalidRequest, "the host header must be HOST or HOST:PORT"))
    }
}

impl<S: Sync> FromRequestParts<S> for Arrival {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        Self::of(&parts.uri, &parts.headers)
    }
}
