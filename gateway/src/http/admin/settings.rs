//! Settings of the whole gateway.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use shared::wire::admin;

use crate::domain::edge::Settings;
use crate::http::ApiState;
use crate::http::body::Json;
use crate::http::problem::Result;

/// `GET /settings`.
pub(super) async fn show(State(state): State<Arc<ApiState>>) -> axum::Json<admin::Settings> {
    axum::Json(to_wire(&state.tunnels.settings().await))
}

/// `PATCH /settings`.
pub(super) async fn change(
    State(state): State<Arc<ApiState>>,
    Json(change): Json<admin::Settings>,
) -> Result<axum::Json<admin::Settings>> {
    let settings = state.tunnels.change_settings(change).await?;
    state.public.update(&settings);
    Ok(axum::Json(to_wire(&settings)))
}

fn to_wire(settings: &Settings) -> admin::Settings {
    let seconds = |duration: Duration| Some(u32::try_from(duration.as_secs()).unwrap_or(u32::MAX));
    admin::Settings {
        interval_s: seconds(settings.interval),
        idle_timeout_s: seconds(settings.idle_timeout),
        hold_s: seconds(settings.hold),
        public_url: settings.public_url.clone(),
        public_ssh: settings.public_ssh.clone(),
    }
}
