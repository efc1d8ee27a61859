//! The layer that lets nobody into the admin API without a token, and what goes wrong with operators' credentials as
//! problems. The credentials themselves are in [`crate::access`].

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::AUTHORIZATION;

use super::problem::{Code, Problem};
use crate::access::{Access, SshKeyError, TokenError};

/// Layer over the whole admin API, unknown paths included: passes on what shows a valid bearer token (RFC 6750 §2.1).
pub async fn require_token(
    State(access): State<Access>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let refused = |detail: &str| Err(Problem::new(Code::NotAuthenticated, detail));
    let Some(header) = request.headers().get(AUTHORIZATION) else {
        return refused("send an API token as `authorization: Bearer tga_...`");
    };
    // Scheme names are case-insensitive (RFC 9110 §11.1).
    let token = match header.to_str().ok().and_then(|text| text.split_once(' ')) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim_start(),
        Some(_) | None => return refused("the authorization header must be `Bearer` and an API token"),
    };
    if access.by_token(token).is_none() {
        return refused("this API token is not known here: it was revoked, or belongs to another gateway");
    }
    Ok(next.run(request).await)
}

impl From<TokenError> for Problem {
    fn from(error: TokenError) -> Self {
        let detail = error.to_string();
        match error {
            TokenError::Label => Self::new(Code::InvalidField, detail),
            TokenError::TooMany => Self::new(Code::TooManyTokens, detail),
            TokenError::NoSuchToken(_) => Self::new(Code::TokenNotFound, detail),
            TokenError::Last => Self::new(Code::LastToken, detail),
            TokenError::Store(error) => error.into(),
        }
    }
}

impl From<SshKeyError> for Problem {
    fn from(error: SshKeyError) -> Self {
        let detail = error.to_string();
        match error {
            SshKeyError::Label | SshKeyError::Key(_) => Self::new(Code::InvalidField, detail),
            SshKeyError::TooMany => Self::new(Code::TooManySshKeys, detail),
            SshKeyError::Known { .. } => Self::new(Code::SshKeyExists, detail),
            SshKeyError::NoSuchKey(_) => Self::new(Code::SshKeyNotFound, detail),
            SshKeyError::Store(error) => error.into(),
        }
    }
}
