//! API tokens: everybody's own, and all of them for who may everything.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CACHE_CONTROL;
use shared::wire::admin;
use uuid::Uuid;

use crate::access::{NewToken, Operator, TokenSpec};
use crate::domain::people::ApiToken;
use crate::http::ApiState;
use crate::http::audited::Noted;
use crate::http::body::{Json, Path, Query};
use crate::http::paging::{ByAge, PageQuery};
use crate::http::problem::Result;

/// `POST /tokens`.
pub(super) async fn create(
    State(state): State<Arc<ApiState>>,
    operator: Operator,
    Json(new): Json<admin::CreateToken>,
) -> Result<Response> {
    let made = state.access.tokens().create_by(&operator, spec(new)).await?;
    Ok((Extension(noted(&made.record)), created(&state, made)).into_response())
}

/// `GET /tokens`.
pub(super) async fn list(
    State(state): State<Arc<ApiState>>,
    operator: Operator,
    Query(query): Query<PageQuery<ByAge>>,
) -> Result<axum::Json<admin::TokenList>> {
    let tokens = state.access.tokens().visible_to(&operator);
    let (tokens, next) = query.cut(tokens, |token| ByAge { at: token.created_at, id: token.id })?;
    Ok(axum::Json(admin::TokenList {
        tokens: tokens.into_iter().map(|token| to_wire(&state, token)).collect(),
        next,
    }))
}

/// `DELETE /tokens/{token}`.
pub(super) async fn revoke(
    State(state): State<Arc<ApiState>>,
    operator: Operator,
    Path(token): Path<Uuid>,
) -> Result<StatusCode> {
    state.access.tokens().revoke(&operator, token).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) fn spec(new: admin::CreateToken) -> TokenSpec {
    let life = new.expires_in_s.map(|seconds| Duration::from_secs(seconds.into()));
    TokenSpec { label: new.label, role: new.role.map(Into::into), tags: new.tags, life }
}

/// What the audit log gets to know of it.
pub(in crate::http) fn noted(token: &ApiToken) -> Noted {
    Noted::detail(format!("token {} {:?}, {}", token.id, token.label, token.role))
}

/// The one answer that shows a token.
pub(super) fn created(state: &ApiState, made: NewToken) -> Response {
    let listed = to_wire(state, made.record);
    let created = admin::TokenCreated { listed, token: made.token.expose().clone() };
    (StatusCode::CREATED, [(CACHE_CONTROL, "no-store")], axum::Json(created)).into_response()
}

fn to_wire(state: &ApiState, token: ApiToken) -> admin::Token {
    admin::Token {
        id: token.id,
        label: token.label,
        created_at: token.created_at.to_string(),
        role: token.role.into(),
        tags: token.tags,
        expires_at: token.expires_at.map(|at| at.to_string()),
        user: token.owner.and_then(|owner| state.access.users().name_of(owner)),
    }
}
