//! The tunnel of one simulated agent: SSH with the offer's one-time credentials, the host key pinned, one forward for its
//! service and one for control, as an agent of ours does it.
//!
//! The service behind it lives in this process and takes no descriptor: [`crate::service`] on a pipe.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use russh::client::{self, ChannelOpenHandle, Handle, Msg, Session};
use russh::keys::PublicKeyOrCertificate;
use russh::{Channel, ChannelStream, Disconnect};
use shared::envelope;
use shared::fingerprint::HostKeyFingerprint;
use shared::id::EdgeId;
use shared::tunnel::carry::{Flow, Meter, carry};
use shared::tunnel::control::{ControlReader, ToAgent};
use shared::tunnel::credit::Terms;
use shared::tunnel::dial_failure::DialFailure;
use shared::tunnel::pipe::pipe;
use shared::tunnel::pool::{Pool, WindowBudget};
use shared::tunnel::sever::Severable;
use shared::tunnel::socket::{Backlog, PatientSocket};
use shared::tunnel::ssh::{CONTROL_NAME, CONTROL_VERSION, agent_config};
use shared::wire::check_in::Offer;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::connection::dial;
use super::result::FailureKind;
use crate::pattern::Pattern;
use crate::service;

/// The service's name.
pub const SERVICE: &str = "echo";
/// Bind port of the service's forward: stock clients need one, the gateway ignores it.
const FORWARD_PORT: u32 = 80;
/// From the dial to the gateway's welcome: milliseconds, unless thousands come at once.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest wait for a disconnect to go out.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// What all tunnels of a run have in common.
#[derive(Debug)]
pub struct Ground {
    /// Host keys that the gateway may show.
    pub host_keys: Vec<HostKeyFingerprint>,
    /// What the service checks bulk data with.
    pub pattern: Pattern,
    config: Arc<client::Config>,
}

impl Ground {
    /// For a gateway with one of these host keys.
    pub fn new(host_keys: Vec<HostKeyFingerprint>, pattern: Pattern) -> Self {
        Self { host_keys, pattern, config: Arc::new(agent_config()) }
    }
}

/// A tunnel that the gateway has welcomed.
pub struct Tunnel {
    ssh: Handle<Handler>,
    control: ControlReader<ChannelStream<Msg>>,
    _cut: DropGuard,
}

impl Tunnel {
    /// Opens it.
    ///
    /// # Errors
    /// What failed.
    pub async fn open(
        ground: &Arc<Ground>,
        offer: &Offer,
        edge_id: &EdgeId,
        source: Option<IpAddr>,
    ) -> Result<Self, FailureKind> {
        let opening = open(ground, offer, edge_id, source);
        timeout(OPEN_TIMEOUT, opening).await.unwrap_or(Err(FailureKind::Timeout))
    }

    /// Serves it until the gateway ends it, it breaks, or `over` is cancelled.
    pub async fn live(mut self, over: &CancellationToken) {
        loop {
            tokio::select! {
                _ = &mut self.ssh => return,
                // Holds, snapshots and new idle times are for agents that live longer than a measurement.
                message = self.control.read::<ToAgent>() => match message {
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => break,
                },
                () = over.cancelled() => break,
            }
        }
        let disconnect = async {
            if self.ssh.disconnect(Disconnect::ByApplication, "", "").await.is_ok() {
                let _ = (&mut self.ssh).await;
            }
        };
        // Whatever is left of it is cut right after.
        let _ = timeout(DISCONNECT_TIMEOUT, disconnect).await;
    }
}

async fn open(
    ground: &Arc<Ground>,
    offer: &Offer,
    edge_id: &EdgeId,
    source: Option<IpAddr>,
) -> Result<Tunnel, FailureKind> {
    let credentials =
        envelope::open(&offer.credentials, edge_id, &offer.id).map_err(|_| FailureKind::Offer)?;
    let address: SocketAddr = offer.ssh.parse().map_err(|_| FailureKind::Offer)?;
    let socket = dial(address, source).await.map_err(|_| FailureKind::Connect)?;
    let cut = CancellationToken::new();
    // However this ends, the socket goes with it, and russh's task with the socket.
    let guard = cut.clone().drop_guard();
    let socket = PatientSocket::new(Severable::new(socket, cut));
    let (control, controlled) = oneshot::channel();
    let handler = Handler {
        ground: Arc::clone(ground),
        backlog: socket.backlog(),
        pool: Arc::new(Pool::new(WindowBudget::new(0))),
        control: Some(control),
    };
    let ssh_failed = |_| FailureKind::Ssh;
    let mut ssh =
        client::connect_stream(Arc::clone(&ground.config), socket, handler).await.map_err(ssh_failed)?;
    let password = credentials.password.expose().clone();
    let login = ssh.authenticate_password(credentials.username, password).await.map_err(ssh_failed)?;
    if !login.success() {
        return Err(FailureKind::Ssh);
    }
    let forwards = async {
        ssh.tcpip_forward(SERVICE, FORWARD_PORT).await?;
        ssh.tcpip_forward(CONTROL_NAME, CONTROL_VERSION).await
    };
    forwards.await.map_err(ssh_failed)?;
    let channel = controlled.await.map_err(|_| FailureKind::Ssh)?;
    let mut control = ControlReader::new(channel.into_stream());
    match control.read::<ToAgent>().await {
        Ok(Some(ToAgent::Welcome { idle_timeout_s: _ })) => Ok(Tunnel { ssh, control, _cut: guard }),
        Ok(Some(ToAgent::Hold | ToAgent::Snapshot | ToAgent::CloseGranted | ToAgent::CloseRefused))
        | Ok(None)
        | Err(_) => Err(FailureKind::Ssh),
    }
}

/// What the gateway may do in a tunnel.
struct Handler {
    ground: Arc<Ground>,
    backlog: Arc<Backlog>,
    /// Without memory beyond each stream's own: there may be thousands of tunnels here.
    pool: Arc<Pool>,
    /// Taken by the control channel.
    control: Option<oneshot::Sender<Channel<Msg>>>,
}

impl client::Handler for Handler {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(match shown {
            PublicKeyOrCertificate::PublicKey { key, .. } => {
                self.ground.host_keys.contains(&HostKeyFingerprint::of(key))
            }
            PublicKeyOrCertificate::Certificate(_) => false,
        })
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        channel: Channel<Msg>,
        connected_address: &str,
        _connected_port: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        if connected_address == CONTROL_NAME {
            if let Some(control) = self.control.take() {
                reply.accept().await;
                // Nobody waits for it any more when the opening was given up.
                let _ = control.send(channel);
            }
        } else if connected_address == SERVICE {
            reply.accept().await;
            let (carried, used) = pipe();
            let (ground, backlog) = (Arc::clone(&self.ground), Arc::clone(&self.backlog));
            let flow = Flow::Credit(Terms::ADAPTIVE, Arc::clone(&self.pool));
            // The operator's side opens a bounded number of streams, and counts what fails in them.
            tokio::spawn(async move { carry(channel, carried, flow, &backlog, &Meter::default()).await });
            tokio::spawn(async move { service::serve(used, &ground.pattern).await });
        } else {
            reply.reject(DialFailure::NoSuchService.to_open_failure()).await;
        }
        Ok(())
    }
}
