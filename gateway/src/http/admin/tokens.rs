//! API tokens.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CACHE_CONTROL;
use shared::wire::admin;
use uuid::Uuid;

use crate::access::{Operator, TokenSpec};
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
    let spec = TokenSpec { label: new.label, role: None, tags: None, life: None };
    let made = state.access.tokens().create_by(&operator, spec).await?;
    let noted = Noted::detail(format!("token {} {:?}", made.record.id, made.record.label));
    let created = admin::TokenCreated { listed: to_wire(made.record), token: made.token.expose().clone() };
    Ok((StatusCode::CREATED, Extension(noted), [(CACHE_CONTROL, "no-store")], axum::Json(created))
        .into_response())
}

/// `GET /tokens`.
pub(super) async fn list(
    State(state): State<Arc<ApiState>>,
    operator: Operator,
    Query(query): Query<PageQuery<ByAge>>,
) -> Result<axum::Json<admin::TokenList>> {
    let tokens = state.access.tokens().visible_to(&operator);
    let (tokens, next) = query.cut(tokens, |token| ByAge { at: token.created_at, id: token.id })?;
    Ok(axum::Json(admin::TokenList { tokens: tokens.into_iter().map(to_wire).collect(), next }))
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

fn to_wire(token: ApiToken) -> admin::Token {
    admin::Token { id: token.id, label: token.label, created_at: token.created_at.to_string() }
}
