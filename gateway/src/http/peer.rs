//! Who sent a request, as its connection knows: an extension that the listener puts into every request.

use std::net::SocketAddr;

use axum::extract::FromRequestParts;
use http::request::Parts;

use super::problem::Problem;

/// Who is at the other end of a request's connection.
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
