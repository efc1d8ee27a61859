//! The admin API below `/api/v1/`: what scripts, the CLI and the page may ask once they have shown a token.
//!
//! Handlers translate between the wire and the registry, and nothing else: who may is decided in front of them
//! ([`super::auth`]), what happens behind them ([`crate::tunnels`]). An answer that shows a secret is never cached.

mod backup;
mod edges;
mod gateway;
mod offers;
mod settings;
mod snapshots;
mod ssh_keys;
mod tokens;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{delete, get, post};

use super::ApiState;

/// Largest JSON body: an edge with all its tags takes a few KiB.
const MAX_BODY: usize = 64 * 1024;

/// The routes of the admin API, without the layer that asks for a token.
pub fn routes() -> Router<Arc<ApiState>> {
    Router::new()
        .route("/edges", post(edges::create).get(edges::list))
        .route("/edges/{edge}", get(edges::show).patch(edges::change).delete(edges::delete))
        .route("/edges/{edge}/dissociate", post(edges::dissociate))
        .route("/edges/{edge}/rotate", post(edges::rotate))
        .route("/edges/{edge}/tunnel", post(edges::raise).get(edges::tunnel).delete(edges::lower))
        .route("/edges/{edge}/offer", post(offers::create).delete(offers::revoke))
        .route("/edges/{edge}/snapshot", get(snapshots::show).post(snapshots::take))
        .route("/settings", get(settings::show).patch(settings::change))
        .route("/tokens", post(tokens::create).get(tokens::list))
        .route("/tokens/{token}", delete(tokens::revoke))
        .route("/ssh-keys", post(ssh_keys::add).get(ssh_keys::list))
        .route("/ssh-keys/{key}", delete(ssh_keys::remove))
        .route("/gateway", get(gateway::show))
        .route("/backup", get(backup::download))
        .layer(DefaultBodyLimit::max(MAX_BODY))
}
