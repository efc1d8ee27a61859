//! What happened to an edge lately.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Deserialize;
use shared::id::EdgeName;
use shared::wire::admin;

use crate::domain::history::KEPT;
use crate::http::ApiState;
use crate::http::body::{Path, Query};
use crate::http::problem::{Code, Problem, Result};

/// Query of the history.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HistoryQuery {
    /// Entries at most, 1 to 50; 50 where it is not given.
    #[schemars(range(min = 1, max = 50))]
    limit: Option<u64>,
}

/// `GET /edges/{edge}/history`.
pub(super) async fn show(
    State(state): State<Arc<ApiState>>,
    Path(edge): Path<EdgeName>,
    Query(query): Query<HistoryQuery>,
) -> Result<Json<admin::History>> {
    let limit = query.limit.unwrap_or(KEPT);
    if !(1..=KEPT).contains(&limit) {
        return Err(Problem::new(Code::InvalidRequest, format!("limit must be 1 to {KEPT}")));
    }
    let limit = usize::try_from(limit).expect("it is fifty at most");
    let entries = state.tunnels.edge_history(&edge, limit).await?;
    Ok(Json(admin::History { entries }))
}
