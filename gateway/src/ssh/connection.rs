//! One connection on port 8000, from its first byte to its end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use russh::server::{Config, RunningSession, run_stream};
use russh::{Disconnect, Error};
use shared::tunnel::carry::Meter;
use shared::tunnel::sever::Severable;
use shared::tunnel::socket::PatientSocket;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::agent::Wires;
use super::handler::Handler;
use super::login::{Login, Who};
use super::recorder::Recorder;
use super::{LOGIN_GRACE, address};
use crate::access::{Access, Ending};
use crate::audit::entry::{agent, stranger};
use crate::link::Closer;
use crate::tunnels::Tunnels;

/// How long a peer that was told to disconnect may take before its socket is cut.
const GOODBYE: Duration = Duration::from_secs(2);

/// How often a drain looks whether an operator's streams have ended. The count has no bell.
const DRAIN_LOOK: Duration = Duration::from_millis(100);

/// A connection that was accepted.
pub(super) struct Connection {
    pub(super) config: Arc<Config>,
    pub(super) tunnels: Tunnels,
    pub(super) access: Access,
    pub(super) recorder: Recorder,
    /// The gateway takes no new work.
    pub(super) stop: CancellationToken,
    pub(super) peer: SocketAddr,
}

impl Connection {
    /// Until it ends. `before_login` is given back at the login.
    pub(super) async fn run(self, socket: TcpStream, before_login: OwnedSemaphorePermit) {
        let Self { config, tunnels, access, recorder, stop, peer } = self;
        let begun = Instant::now();
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%peer, %error, "the socket is gone already");
            return;
        }
        let sever = CancellationToken::new();
        // However this ends, also by a panic: the socket goes with it.
        let _sever_at_the_end = sever.clone().drop_guard();
        let socket = PatientSocket::new(Severable::new(socket, sever.clone()));
        let login = Login::default();
        let wires = Wires {
            closer: Closer::default(),
            backlog: socket.backlog(),
            meter: Arc::new(Meter::default()),
            gone: CancellationToken::new(),
        };
        let (closer, gone) = (wires.closer.clone(), wires.gone.clone());
        let meter = Arc::clone(&wires.meter);
        let handler = Handler::new(tunnels.clone(), access.clone(), recorder.clone(), login.clone(), wires);
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
            reason = until_closed(&closer, &login, before_login) => say_goodbye(&mut session, &sever, reason).await,
            () = operator_is_done(&login, &meter, &stop) => {
                say_goodbye(&mut session, &sever, "the gateway is shutting down").await
            }
            ending = operator_ended(&login, &access) => {
                say_goodbye(&mut session, &sever, ending.reason()).await
            }
        };
        let reason = closer.reason().map_or_else(|| describe(&end), str::to_owned);
        let peer = address(peer);
        match login.who() {
            Some(Who::Agent(admitted)) => {
                tracing::info!(edge = %admitted.edge, link = admitted.link.0, %peer, reason, "tunnel closed");
                let closed = recorder.entry(agent(&admitted.edge), "tunnel.close").edge(&admitted.edge);
                let closed =
                    closed.bytes(meter.received(), meter.sent()).took(begun.elapsed()).detail(&reason);
                recorder.audit.note(closed);
                tunnels.link_down(admitted.link, reason);
            }
            Some(Who::Operator(operator)) => {
                tracing::info!(operator = %operator.name, %peer, reason, "operator left");
            }
            None => {
                tracing::debug!(%peer, reason, "no login");
                if login.was_tried() {
                    recorder.refused(stranger(), "ssh.login", "unknown-credential");
                }
            }
        }
        gone.cancel();
    }
}

/// Waits for the end of an operator's last stream once the gateway takes no new work. Agents are told by the registry.
async fn operator_is_done(login: &Login, meter: &Meter, stop: &CancellationToken) {
    login.happened().await;
    stop.cancelled().await;
    if !matches!(login.who(), Some(Who::Operator(_))) {
        std::future::pending().await
    }
    while meter.streams() > 0 {
        tokio::time::sleep(DRAIN_LOOK).await;
    }
}

/// Waits for an operator's credential to end or to change, which ends all that was begun with it.
async fn operator_ended(login: &Login, access: &Access) -> Ending {
    login.happened().await;
    match login.who() {
        Some(Who::Operator(operator)) => access.ended(operator).await,
        Some(Who::Agent(_)) | None => std::future::pending().await,
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
        Ok(()) => "the other end closed it".to_owned(),
        Err(Error::KeepaliveTimeout | Error::InactivityTimeout) => {
            "the other end stopped answering: its machine or its network is down".to_owned()
        }
        Err(Error::HUP) => "the connection ended".to_owned(),
        Err(Error::IO(error)) => format!("the connection broke: {error}"),
        Err(error) => format!("the connection failed: {error}"),
    }
}
