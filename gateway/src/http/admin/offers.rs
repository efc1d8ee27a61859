//! Credentials for stock SSH clients that stand in for an agent.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CACHE_CONTROL;
use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, PrivateKey};
use shared::fingerprint::HostKeyFingerprint;
use shared::host_port::HostPort;
use shared::id::EdgeName;
use shared::wire::admin::{CreateOffer, OfferCreated, OfferSecret, OfferedService};

use crate::domain::view::rfc3339;
use crate::http::ApiState;
use crate::http::audited::Noted;
use crate::http::body::{Json, Path};
use crate::http::offer::Script;
use crate::http::peer::Arrival;
use crate::http::problem::{Problem, Result};
use crate::tunnels::Terms;

/// `POST /edges/{edge}/offer`.
pub(super) async fn create(
    State(state): State<Arc<ApiState>>,
    Path(edge): Path<EdgeName>,
    arrival: Arrival,
    Json(asked): Json<CreateOffer>,
) -> Result<Response> {
    let (noted, created) = make(&state, edge, &arrival, asked).await?;
    Ok((StatusCode::CREATED, noted, [(CACHE_CONTROL, "no-store")], axum::Json(created)).into_response())
}

/// Makes the credentials, and what is to be pasted on the box; with what the audit log says of it.
pub async fn make(
    state: &ApiState,
    edge: EdgeName,
    arrival: &Arrival,
    asked: CreateOffer,
) -> Result<(Extension<Noted>, OfferCreated)> {
    let CreateOffer { mut services, renew, valid_s } = asked;
    if services.is_empty() {
        services.push(usual_service());
    }
    let names = services.iter().map(|service| service.name.clone()).collect();
    let announced: Vec<_> = services.iter().map(|service| service.name.to_string()).collect();
    let ssh = state.public.ssh(arrival);
    // What nobody configured is a host of the request and our port.
    let gateway: HostPort = ssh.parse().map_err(Problem::internal)?;
    let (username, secret, expires_at) = if renew {
        let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).map_err(Problem::internal)?;
        let private_key = key.to_openssh(LineEnding::LF).map_err(Problem::internal)?.to_string();
        let fingerprint = HostKeyFingerprint::of(key.public_key());
        let expires_at =
            state.tunnels.allow_key(&edge, Terms::renewing(names, valid_s)?, fingerprint).await?;
        // A key says who it is; the name is for whoever reads the command.
        (edge.to_string(), OfferSecret::Key { private_key, fingerprint }, expires_at)
    } else {
        let made = state.tunnels.offer_once(&edge, Terms::once(names, valid_s)?).await?;
        let password = made.password.expose().clone();
        (made.username, OfferSecret::Password { password }, made.expires_at)
    };
    let script = Script {
        edge: &edge,
        gateway: &gateway,
        host_keys: &state.host_keys,
        username: &username,
        services: &services,
    };
    let command = match &secret {
        OfferSecret::Password { .. } => script.with_password(),
        OfferSecret::Key { private_key, .. } => script.with_key(private_key),
    };
    let known_hosts = script.known_hosts();
    let expires_at = rfc3339(expires_at);
    let how = if renew { "until it expires" } else { "once" };
    let noted = Noted::detail(format!("login {how} for {}", announced.join(" ")));
    Ok((Extension(noted), OfferCreated { edge, ssh, username, secret, expires_at, known_hosts, command }))
}

/// `DELETE /edges/{edge}/offer`.
pub(super) async fn revoke(
    State(state): State<Arc<ApiState>>,
    Path(edge): Path<EdgeName>,
) -> Result<StatusCode> {
    state.tunnels.revoke_stock(&edge).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What most boxes have.
fn usual_service() -> OfferedService {
    OfferedService {
        name: "ssh".parse().expect("a DNS label"),
        target: HostPort { host: "localhost".to_owned(), port: 22 },
    }
}
