//! Settings of the whole gateway.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use shared::wire::admin;

use crate::config::{host_and_port, public_url, service_domain};
use crate::domain::edge::Settings;
use crate::domain::version::{Condition, Version};
use crate::http::ApiState;
use crate::http::audited::Noted;
use crate::http::body::Json;
use crate::http::conditional::{IfMatch, Tagged};
use crate::http::problem::Result;
use crate::tunnels::AdminError;

/// `GET /settings`.
pub(super) async fn show(State(state): State<Arc<ApiState>>) -> Tagged<admin::Settings> {
    tagged(&state.tunnels.settings().await)
}

/// `PATCH /settings`.
pub(super) async fn change(
    State(state): State<Arc<ApiState>>,
    IfMatch(condition): IfMatch,
    Json(change): Json<admin::Settings>,
) -> Result<(Extension<Noted>, Tagged<admin::Settings>)> {
    let noted = Extension(Noted::asked(&change));
    let settings = apply(&state, condition, change).await?;
    Ok((noted, tagged(&settings)))
}

/// Changes what is given, for the API and the page.
pub(in crate::http) async fn apply(
    state: &ApiState,
    condition: Condition,
    mut change: admin::Settings,
) -> std::result::Result<Settings, AdminError> {
    check("public_url", &mut change.public_url, public_url)?;
    check("public_ssh", &mut change.public_ssh, host_and_port)?;
    check("service_domain", &mut change.service_domain, service_domain)?;
    let settings = state.tunnels.provided(condition).change_settings(change).await?;
    state.public.update(&settings);
    Ok(settings)
}

/// Join tokens are made of these addresses, so they are held to what the flags of the same names are held to. An empty
/// text takes a setting back.
fn check(
    field: &str,
    given: &mut Option<String>,
    parse: impl Fn(&str) -> std::result::Result<String, String>,
) -> std::result::Result<(), AdminError> {
    if let Some(text) = given.as_mut().filter(|text| !text.is_empty()) {
        *text = parse(text)
            .map_err(|problem| AdminError::Invalid(format!("{field}: {text:?} is not valid: {problem}")))?;
    }
    Ok(())
}

fn tagged(settings: &Settings) -> Tagged<admin::Settings> {
    Tagged(Version::of(settings), to_wire(settings))
}

pub(in crate::http) fn to_wire(settings: &Settings) -> admin::Settings {
    let seconds = |duration: Duration| Some(u32::try_from(duration.as_secs()).unwrap_or(u32::MAX));
    admin::Settings {
        interval_s: seconds(settings.interval),
        idle_timeout_s: seconds(settings.idle_timeout),
        hold_s: seconds(settings.hold),
        public_url: settings.public_url.clone(),
        public_ssh: settings.public_ssh.clone(),
        service_domain: settings.service_domain.clone(),
    }
}
