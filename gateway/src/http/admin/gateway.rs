//! The gateway itself: where it is and how to recognise it. All of it is public.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use russh::keys::{PublicKey, PublicKeyBase64 as _};
use shared::fingerprint::HostKeyFingerprint;
use shared::wire::admin;

use crate::http::ApiState;
use crate::http::peer::{Arrival, Peer};

/// `GET /gateway`.
pub(super) async fn show(
    State(state): State<Arc<ApiState>>,
    peer: Peer,
    arrival: Arrival,
) -> Json<admin::Gateway> {
    Json(admin::Gateway {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        public_url: state.public.api_url(peer, &arrival),
        public_ssh: state.public.ssh(&arrival),
        host_keys: state.host_keys.iter().map(to_wire).collect(),
        tls_pins: state.tls_pins.clone(),
    })
}

fn to_wire(key: &PublicKey) -> admin::HostKey {
    let algorithm = key.algorithm().to_string();
    // Without the comment, which would tell where the key was made.
    let public_key = format!("{algorithm} {}", key.public_key_base64());
    admin::HostKey { fingerprint: HostKeyFingerprint::of(key), public_key, algorithm }
}
