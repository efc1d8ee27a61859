//! The tunnel server on port 8000.

use std::sync::Arc;

use russh::keys::PrivateKey;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::tunnels::Tunnels;

/// Accepts tunnels until `stop` is cancelled, then closes the listener; tunnels that are open live on until
/// [`Tunnels`] closes them. Bounds connections before login by number and time.
pub async fn serve(
    _listener: TcpListener,
    _host_key: Arc<PrivateKey>,
    _tunnels: Tunnels,
    _stop: CancellationToken,
) {
    todo!()
}
