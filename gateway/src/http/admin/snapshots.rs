//! What a site looked like last, and what it looks like now.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use shared::id::EdgeName;
use shared::wire::admin::StoredSnapshot;

use crate::http::ApiState;
use crate::http::body::Path;
use crate::http::problem::{Problem, Result};
use crate::http::snapshot::unpack;
use crate::store::SnapshotBlob;

/// `GET /edges/{edge}/snapshot`.
pub(super) async fn show(
    State(state): State<Arc<ApiState>>,
    Path(edge): Path<EdgeName>,
) -> Result<Json<StoredSnapshot>> {
    to_wire(state.tunnels.snapshot(&edge).await?).await
}

/// `POST /edges/{edge}/snapshot`.
pub(super) async fn take(
    State(state): State<Arc<ApiState>>,
    Path(edge): Path<EdgeName>,
) -> Result<Json<StoredSnapshot>> {
    to_wire(state.tunnels.take_snapshot(&edge).await?).await
}

async fn to_wire(blob: SnapshotBlob) -> Result<Json<StoredSnapshot>> {
    // It was unpacked once before it was stored.
    let snapshot = unpack(blob.gzip.into()).await.map_err(Problem::internal)?;
    Ok(Json(StoredSnapshot { received_at: blob.received_at.to_string(), instance: blob.instance, snapshot }))
}
