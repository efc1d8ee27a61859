//! One connection on port 8000, from its first byte to its end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use russh::server::{Config, RunningSession, run_stream};
use russh::{Disconnect, Error};
use shared::tunnel::carry::Meter;
use shared::tunnel::pool::{Pool, WindowBudget};
use shared::tunnel::sever::Severable;
use shared::tunnel::socket::PatientSocket;
use tokio::net::TcpStream;
use tokio::time::{timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::agent::Wires;
use super::handler::Handler;
use super::login::{Login, Who};
use super::recorder::Recorder;
use super::{LOGIN_GRACE, Rooms, address};
use crate::access::{Access, Ending};
use crate::admission::{Caller, Failure, Port};
use crate::audit::entry::{agent, stranger};
use crate::budget::Budget;
use crate::budget::memory::Use;
use crate::link::Closer;
use crate::tunnels::Tunnels;

/// How long a peer that was told to disconnect may take before its socket is cut.
const GOODBYE: Duration = Duration::from_secs(2);

/// How often a drain looks whether an operator's streams have ended. The count has no bell.
const DRAIN_LOOK: Duration = Duration::from_millis(100);

/// A connection that was accepted, from its first byte on, if it may be here.
pub(super) async fn enter(
    config: Arc<Config>,
    rooms: Rooms,
    stop: CancellationToken,
    mut socket: TcpStream,
    peer: SocketAddr,
) {
    let peer = match rooms.proxy_headers.client(&mut socket, peer).await {
        Ok(peer) => peer,
        Err(error) => {
            tracing::warn!(%peer, %error, "a load balancer's connection was closed");
            return;
        }
    };
    let Ok(caller) = rooms.admission.enter(Port::Ssh, peer.ip()) else { return };
    let Ok(_room) = rooms.budget.reserve(Use::Ssh) else { return };
    let Rooms { tunnels, access, audit, budget, windows, .. } = rooms;
    let recorder = Recorder { audit, peer };
    Connection { config, tunnels, access, budget, windows, recorder, stop, peer, caller }.run(socket).await;
}

/// A connection that may be here.
struct Connection {
    config: Arc<Config>,
    tunnels: Tunnels,
    access: Access,
    budget: Budget,
    windows: WindowBudget,
    recorder: Recorder,
    /// The gateway takes no new work.
    stop: CancellationToken,
    peer: SocketAddr,
    caller: Caller,
}

impl Connection {
    /// Until it ends.
    async fn run(self, socket: TcpStream) {
        let Self { config, tunnels, access, budget, windows, recorder, stop, peer, caller } = self;
        let begun = Instant::now();
        let grace = tokio::time::Instant::now() + LOGIN_GRACE;
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
            pool: Arc::new(Pool::new(windows)),
            gone: CancellationToken::new(),
        };
        let (closer, gone) = (wires.closer.clone(), wires.gone.clone());
        let meter = Arc::clone(&wires.meter);
        let (rooms, known) = ((tunnels.clone(), access.clone(), budget), caller.clone());
        let handler = Handler::new(rooms, recorder.clone(), login.clone(), wires, known);
        let greeted = tokio::select! {
            greeted = timeout_at(grace, run_stream(config, socket, handler)) => greeted,
            () = caller.displaced() => return,
        };
        let mut session = match greeted {
            Ok(Ok(session)) => session,
            Ok(Err(error)) => {
                tracing::debug!(peer = %address(peer), %error, "no SSH client");
                caller.failed(Failure::Nothing);
                return;
            }
            Err(_) => {
                tracing::debug!(peer = %address(peer), "no SSH version within the login grace");
                caller.failed(Failure::Grace);
                return;
            }
        };
        let end = tokio::select! {
            end = &mut session => end,
            () = login.missed(grace) => {
                tracing::debug!(peer = %address(peer), "no login within the login grace");
                caller.failed(Failure::Grace);
                return;
            }
            () = caller.displaced() => {
                tracing::debug!(peer = %address(peer), "no login yet, and others wait for the place");
                return;
            }
            reason = closer.closed() => say_goodbye(&mut session, &sever, reason).await,
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
                caller.failed(failure(&end, &login));
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

/// What somebody did wrong who left without a login.
fn failure(end: &Result<(), Error>, login: &Login) -> Failure {
    match end {
        // The task of the session panicked.
        Err(Error::Join(_)) => Failure::Crash,
        _ if login.was_refused() => Failure::Credential,
        Ok(()) | Err(_) => Failure::Nothing,
    }
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
