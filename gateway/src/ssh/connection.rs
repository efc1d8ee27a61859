//! One connection on port 8000, from its first byte to its end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use russh::server::{Config, RunningSession, run_stream};
use russh::{Disconnect, Error};
use shared::tunnel::carry::Meter;
use shared::tunnel::sever::Severable;
use shared::tunnel::socket::PatientSocket;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::handler::{Handler, Login};
use super::{LOGIN_GRACE, address};
use crate::link::Closer;
use crate::tunnels::Tunnels;

/// How long a peer that was told to disconnect may take before its socket is cut.
const GOODBYE: Duration = Duration::from_secs(2);

/// A connection that was accepted.
pub(super) struct Connection {
    pub(super) config: Arc<Config>,
    pub(super) tunnels: Tunnels,
    pub(super) peer: SocketAddr,
}

impl Connection {
    /// Until it ends. `before_login` is given back at the login.
    pub(super) async fn run(self, socket: TcpStream, before_login: OwnedSemaphorePermit) {
        let Self { config, tunnels, peer } = self;
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%peer, %error, "the socket is gone already");
            return;
        }
        let sever = CancellationToken::new();
        // However this ends, also by a panic: the socket goes with it.
        let _sever_at_the_end = sever.clone().drop_guard();
        let socket = PatientSocket::new(Severable::new(socket, sever.clone()));
        let closer = Closer::default();
        let login = Login::default();
        let gone = CancellationToken::new();
        let handler = Handler::new(
            tunnels.clone(),
            closer.clone(),
            login.clone(),
            socket.backlog(),
            Arc::new(Meter::default()),
            gone.clone(),
        );
        let greeted = timeout(LOGIN_GRACE, run_stream(config, socket, handler)).await;
        let mut session = match greeted {
            Ok(Ok(session)) => session,
            Ok(Err(error)) => {
                tracing::debug!(peer = %address(peer), %error, "no SSH client");
                return;
            }
            Err(_) => {
                tracing::debug!(peer = %address(peer), "no SSH version within the login grace");
                return;
            }
        };
        let end = tokio::select! {
            end = &mut session => end,
            () = login.missed(LOGIN_GRACE) => {
                tracing::debug!(peer = %address(peer), "no login within the login grace");
                return;
            }
            never = until_closed(&closer, &login, before_login) => {
                say_goodbye(&mut session, &sever, never).await
            }
        };
        let Some(admitted) = login.admitted() else { return };
        let reason = closer.reason().map_or_else(|| describe(&end), str::to_owned);
        tracing::info!(
            edge = %admitted.edge, link = admitted.link.0, peer = %address(peer), reason, "tunnel closed"
        );
        tunnels.link_down(admitted.link, reason);
        gone.cancel();
    }
}

/// Gives the place before login back once there is a login, then waits for the order to close.
async fn until_closed(closer: &Closer, login: &Login, before_login: OwnedSemaphorePermit) -> &'static str {
    login.happened().await;
    drop(before_login);
    closer.closed().await
}

async fn say_goodbye(
    session: &mut RunningSession<Handler>,
    sever: &CancellationToken,
    reason: &'static str,
) -> Result<(), Error> {
    let handle = session.handle();
    let goodbye = async {
        let _ = handle.disconnect(Disconnect::ByApplication, reason.to_owned(), String::new()).await;
        session.await
    };
    match timeout(GOODBYE, goodbye).await {
        Ok(end) => end,
        Err(_) => {
            sever.cancel();
            Ok(())
        }
    }
}

/// Why a connection ended, for an operator.
fn describe(end: &Result<(), Error>) -> String {
    match end {
        Ok(()) => "the agent closed the tunnel".to_owned(),
        Err(Error::KeepaliveTimeout | Error::InactivityTimeout) => {
            "the agent stopped answering: its machine or its network is down".to_owned()
        }
        Err(Error::HUP) => "the agent's connection ended".to_owned(),
        Err(Error::IO(error)) => format!("the agent's connection broke: {error}"),
        Err(error) => format!("the agent's connection failed: {error}"),
    }
}
