//! What a site looked like last, and what it looks like now.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use shared::id::EdgeName;
use shared::wire::admin::{SiteChanges, StoredSnapshot};
use shared::wire::snapshot::Snapshot;

use crate::domain::difference;
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

/// `GET /edges/{edge}/snapshot/changes`.
pub(super) async fn changes(
    State(state): State<Arc<ApiState>>,
    Path(edge): Path<EdgeName>,
) -> Result<Json<SiteChanges>> {
    let last = unpack(state.tunnels.snapshot(&edge).await?.gzip.into()).await.map_err(Problem::internal)?;
    Ok(Json(changes_to(&state, &edge, &last).await?))
}

/// How the site differs in its last snapshot from how it was in the one before.
pub async fn changes_to(state: &ApiState, edge: &EdgeName, last: &Snapshot) -> Result<SiteChanges> {
    let Some(blob) = state.tunnels.snapshot_before(edge).await? else {
        return Ok(SiteChanges { since: None, changes: Vec::new() });
    };
    let since = Some(blob.received_at.to_string());
    let before = unpack(blob.gzip.into()).await.map_err(Problem::internal)?;
    Ok(SiteChanges { since, changes: difference::between(&before, last) })
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
