//! How the gateway is.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use shared::wire::admin;

use crate::access::Operator;
use crate::http::ApiState;

/// `GET /status`.
pub(super) async fn show(State(state): State<Arc<ApiState>>, operator: Operator) -> Json<admin::Status> {
    Json(state.vitals.status(operator.reach).await)
}

/// `GET /status/series`.
pub(super) async fn series(State(state): State<Arc<ApiState>>) -> Json<admin::StatusSeries> {
    Json(state.vitals.last_hour())
}
