//! What port 9000 serves: check-ins, the admin API, and services through their tunnels.
//!
//! | room | what lives there |
//! | --- | --- |
//! | [`problem`] | every error's way out; the one file that knows their status codes |
//! | [`auth`] | the layer in front of the admin API that asks for a token |
//! | [`listener`] | the port itself: TLS and plain HTTP, limits, an orderly end |
//! | [`connection`] | the connection under HTTP, which an upgraded stream gets back |
//! | [`peer`], [`public`] | who sent a request and by which address; which addresses we tell others |
//! | [`check_in`] | what agents ask |
//! | [`admin`], [`commands`], [`offer`] | the admin API, and the commands that start an agent or stand in for one |
//! | [`proxy`], [`stream`], [`upgraded`] | services through their tunnels: HTTP, and any bytes |
//! | [`body`], [`snapshot`] | taking in bodies and snapshots within bounds |
//!
//! The rule: whatever is below `/api/v1/` needs an API token, unknown paths included, unless [`router`] puts it beside
//! the admin API by name. Handlers hold no state and take no lock across an await: what they know is in [`ApiState`].

mod admin;
pub mod auth;
mod body;
mod check_in;
mod commands;
pub mod connection;
pub mod listener;
mod offer;
pub mod peer;
pub mod problem;
mod proxy;
pub mod public;
mod snapshot;
mod stream;
mod upgraded;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::State;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use http::StatusCode;
use russh::keys::PublicKey;
use shared::fingerprint::TlsFingerprint;
use shared::wire::{self, admin as json};

use crate::access::Access;
use crate::readiness::Readiness;
use crate::store::Store;
use crate::tunnels::Tunnels;
use public::PublicAddresses;

/// What the handlers know.
pub struct ApiState {
    /// The registry of edges.
    pub tunnels: Tunnels,
    /// Operators' credentials.
    pub access: Access,
    /// For backups, as is the data folder.
    pub store: Arc<dyn Store>,
    /// Where keys and certificates are.
    pub data_dir: PathBuf,
    /// Host keys that the SSH server may show.
    pub host_keys: Vec<PublicKey>,
    /// TLS keys to pin in join tokens; empty where agents check the certificate against public roots.
    pub tls_pins: Vec<TlsFingerprint>,
    /// Where the gateway is, for those outside.
    pub public: PublicAddresses,
    /// Says of each part of the gateway whether it can do its work.
    pub readiness: Readiness,
}

/// All of port 9000. Every request must carry a [`peer::Peer`].
pub fn router(state: ApiState) -> Router {
    let state = Arc::new(state);
    let admin = admin::routes()
        .route("/edges/{edge}/services/{service}/proxy", any(proxy::add_slash))
        .route("/edges/{edge}/services/{service}/proxy/", any(proxy::proxy))
        .route("/edges/{edge}/services/{service}/proxy/{*path}", any(proxy::proxy))
        .route("/edges/{edge}/services/{service}/stream", get(stream::stream))
        .fallback(problem::not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(from_fn_with_state(state.access.clone(), auth::require_token));
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route(wire::check_in::PATH, post(check_in::check_in))
        .route(wire::check_in::SNAPSHOT_PATH, post(check_in::put_snapshot))
        .nest("/api/v1", admin)
        .fallback(problem::not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(from_fn(problem::observe))
        .with_state(state)
}

/// The process answers.
async fn healthz() -> Json<json::Health> {
    Json(json::Health { status: json::HealthStatus::Ok, parts: BTreeMap::new() })
}

/// Every part can do its work, or which one can't.
async fn readyz(State(state): State<Arc<ApiState>>) -> Response {
    let parts = state.readiness.parts();
    let ready = parts.values().all(|part| part.status == json::HealthStatus::Ok);
    let (code, status) = if ready {
        (StatusCode::OK, json::HealthStatus::Ok)
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, json::HealthStatus::Unavailable)
    };
    (code, Json(json::Health { status, parts })).into_response()
}

#[cfg(test)]
mod tests;
