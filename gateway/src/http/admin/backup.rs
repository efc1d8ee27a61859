//! The backup, as a download.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};

use crate::backup::{self, BackupError};
use crate::http::ApiState;
use crate::http::problem::{Code, Problem, Result};

/// `GET /backup`. A secret: who has it can stand in for the gateway. Where it breaks off, the connection does too, so
/// that a client does not take a part for the whole.
pub(super) async fn download(State(state): State<Arc<ApiState>>) -> Result<Response> {
    let chunks = backup::begin(Arc::clone(&state.store), state.data_dir.clone(), state.audit.head()).await?;
    let headers = [
        (CONTENT_TYPE, "application/octet-stream"),
        (CONTENT_DISPOSITION, "attachment; filename=\"tidegate.backup\""),
        (CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, Body::from_stream(chunks)).into_response())
}

impl From<BackupError> for Problem {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::Store(error) => error.into(),
            BackupError::File { .. } => Self::internal(error),
            BackupError::ShuttingDown => Self::new(Code::Busy, error.to_string()),
        }
    }
}
