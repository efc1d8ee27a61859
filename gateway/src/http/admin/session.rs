//! Signing in and out, and who is there: by a browser's cookie, or by a token for programs.
//!
//! These are open to anybody, so whatever they tell a stranger is one answer ([`crate::access`]).

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, SET_COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode};
use shared::wire::admin;

use super::tokens::{self, created};
use super::users;
use crate::access::{Credential, Operator};
use crate::domain::people::User;
use crate::http::audited::Noted;
use crate::http::body::Json;
use crate::http::origin::{self, OwnOrigin};
use crate::http::peer::{Arrival, Peer};
use crate::http::problem::{Code, Problem, Result};
use crate::http::{ApiState, cookie};

/// `POST /session`.
pub(super) async fn sign_in(
    State(state): State<Arc<ApiState>>,
    peer: Peer,
    arrival: Arrival,
    headers: HeaderMap,
    Json(given): Json<admin::SignIn>,
) -> Result<Response> {
    // Or a page of somebody else could sign a person in as somebody else.
    let public_url = state.public.configured_url();
    let own = OwnOrigin { secure: peer.secure, arrival: &arrival.0, public_url: public_url.as_deref() };
    if origin::is_anothers(&headers, own) {
        let detail = "a browser signs in on the gateway's own page only; programs use POST /api/v1/login";
        return Err(Problem::new(Code::CrossOrigin, detail));
    }
    let from = peer.address.ip();
    let (user, session) = match state.access.sign_in(&given.name, given.password, from).await {
        Ok(signed_in) => signed_in,
        Err(error) => return Ok(in_vain(&state, &given.name, error.into())),
    };
    tracing::info!(user = %user.name, peer = %from, "signed in");
    let operator = state.access.operator(Credential::Session(session.record.id)).ok_or_else(|| {
        Problem::new(Code::SignInRefused, "the user was changed at this moment; sign in again")
    })?;
    let cookie = cookie::begin(&session, peer);
    let noted = Noted { actor: Some((&operator).into()), ..Noted::default() };
    let headers = [(CACHE_CONTROL, HeaderValue::from_static("no-store")), (SET_COOKIE, cookie)];
    Ok((Extension(noted), headers, axum::Json(to_wire(&state, operator))).into_response())
}

/// `POST /login`.
pub(super) async fn log_in(
    State(state): State<Arc<ApiState>>,
    peer: Peer,
    Json(given): Json<admin::LogIn>,
) -> Result<Response> {
    let (from, spec) = (peer.address.ip(), tokens::spec(given.token));
    let made = match state.access.log_in(&given.name, given.password, from, spec).await {
        Ok(made) => made,
        Err(error) => return Ok(in_vain(&state, &given.name, error.into())),
    };
    tracing::info!(user = given.name, token = %made.record.id, peer = %from, "logged in");
    let actor = state.access.operator(Credential::Token(made.record.id)).map(|operator| (&operator).into());
    let noted = Noted { actor, ..tokens::noted(&made.record) };
    Ok((Extension(noted), created(&state, made)).into_response())
}

/// The answer to who did not get in, with the name for the audit log.
fn in_vain(state: &ApiState, name: &str, problem: Problem) -> Response {
    (Extension(Noted::tried(&state.access, name)), problem).into_response()
}

/// `POST /setup`.
pub(super) async fn set_up(
    State(state): State<Arc<ApiState>>,
    peer: Peer,
    Json(given): Json<admin::SetUp>,
) -> Result<(StatusCode, Extension<Noted>, axum::Json<admin::User>)> {
    let from = peer.address.ip();
    let user: User = state.access.set_up(&given.code, given.name, given.password, from).await?;
    tracing::info!(user = %user.name, peer = %from, "set up: the first user was made");
    Ok((StatusCode::CREATED, Extension(Noted::detail(users::said(&user))), axum::Json(users::to_wire(user))))
}

/// `GET /session`.
pub(super) async fn show(
    State(state): State<Arc<ApiState>>,
    operator: Operator,
) -> axum::Json<admin::Session> {
    axum::Json(to_wire(&state, operator))
}

/// `DELETE /session`.
pub(super) async fn end(
    State(state): State<Arc<ApiState>>,
    peer: Peer,
    operator: Operator,
) -> Result<Response> {
    match operator.credential {
        Credential::Session(id) => state.access.sessions().end(id).await?,
        Credential::Token(id) => state.access.tokens().revoke(&operator, id).await?,
        Credential::SshKey(_) => return Err(Problem::internal("an SSH key came by HTTP")),
    }
    tracing::info!(operator = operator.name, "signed out");
    Ok((StatusCode::NO_CONTENT, [(SET_COOKIE, cookie::end(peer))]).into_response())
}

fn to_wire(state: &ApiState, operator: Operator) -> admin::Session {
    let (credential, credential_id) = match operator.credential {
        Credential::Token(id) => (admin::CredentialKind::Token, id),
        Credential::SshKey(id) => (admin::CredentialKind::SshKey, id),
        Credential::Session(id) => (admin::CredentialKind::Session, id),
    };
    admin::Session {
        user: operator.user.and_then(|user| state.access.users().name_of(user)),
        name: operator.name,
        credential,
        credential_id,
        role: operator.role.into(),
        bounds: operator.reach.bounds().map(|tags| tags.iter().cloned().collect()).collect(),
        expires_at: state.access.expires_at(operator.credential).map(|at| at.to_string()),
    }
}
