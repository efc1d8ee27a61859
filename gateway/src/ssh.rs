//! The SSH server on port 8000: agents' tunnels, and operators with stock clients. An agent that logs in with an offer's
//! credentials becomes a [`crate::link::Link`]; an operator reaches services through links.
//!
//! russh bounds nothing before login by itself, so the accept loop here only accepts: each connection runs on its own
//! task, under a cap and an absolute grace, over a socket that can be severed whatever russh is doing at that moment.
//! From an agent nothing but the forwards that it announced is accepted, from an operator nothing but streams to services.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use russh::keys::PrivateKey;
use russh::server::Config;
use russh::{MethodKind, MethodSet, SshId};
use shared::tunnel::pool::WindowBudget;
use shared::tunnel::ssh;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::accept::Accepting;
use crate::access::Access;
use crate::admission::Admission;
use crate::admission::proxy_header::ProxyHeaders;
use crate::audit::Audit;
use crate::budget::Budget;
use crate::tunnels::Tunnels;

mod agent;
mod connection;
mod control;
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
mod handler;
mod listing;
mod login;
mod operator;
mod recorder;
mod stock;

/// From the connection to the login, at most. OpenSSH's `LoginGraceTime` is 120 s for people who type; an agent needs
/// ten round trips.
const LOGIN_GRACE: Duration = Duration::from_secs(20);

/// Refusals on one connection, as OpenSSH's `MaxAuthTries`. An agent has one offer and needs one
/// try; a person's ssh-agent may hold several keys.
const MAX_TRIES: usize = 6;

/// How long every refusal takes. Longer than deciding takes, so that the time tells nothing; passwords here have 192
/// random bits, so slowing guesses down is not what it is for, and a person with three keys should not wait for seconds.
const REJECTION_TIME: Duration = Duration::from_millis(250);

/// Messages of all channels of a connection that wait for its session to send them. With russh's ten, a few dozen streams
/// of small requests wait for each other's turns; their bytes are bounded by credit already.
const EVENT_QUEUE: usize = 64;

/// What the server works with.
#[derive(Clone)]
pub struct Rooms {
    /// Where agents' tunnels go.
    pub tunnels: Tunnels,
    /// Who is an operator.
    pub access: Access,
    /// Where logins are recorded.
    pub audit: Audit,
    /// Who may be here before their login.
    pub admission: Admission,
    /// What there is for whoever may.
    pub budget: Budget,
    /// Memory for the windows of streams beyond what each has to itself.
    pub windows: WindowBudget,
    /// Who speaks for others.
    pub proxy_headers: ProxyHeaders,
}

/// Accepts tunnels until `stop` is cancelled, then closes the listener and waits for the connections that are open;
/// [`Tunnels::cut`] ends those. Bounds connections before login by number ([`crate::admission`]) and time.
pub async fn serve(listener: TcpListener, host_key: Arc<PrivateKey>, rooms: Rooms, stop: CancellationToken) {
    let config = Arc::new(config(&host_key));
    let mut accepting = Accepting::on(listener, "ssh");
    let connections = TaskTracker::new();
    loop {
        let (socket, peer) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accepting.next() => accepted,
        };
        let (config, rooms, stop) = (Arc::clone(&config), rooms.clone(), stop.clone());
        connections.spawn(connection::enter(config, rooms, stop, socket, peer));
    }
    drop(accepting);
    connections.close();
    connections.wait().await;
}

/// What is logged of a peer: its address without the port, which says nothing.
fn address(peer: SocketAddr) -> std::net::IpAddr {
    peer.ip().to_canonical()
}

fn config(host_key: &PrivateKey) -> Config {
    Config {
        // No version: a stranger needs none.
        server_id: SshId::Standard("SSH-2.0-Tidegate".into()),
        methods: MethodSet::from(&[MethodKind::PublicKey, MethodKind::Password][..]),
        auth_rejection_time: REJECTION_TIME,
        // Stock clients probe with `none` first; that is no guess.
        auth_rejection_time_initial: Some(Duration::ZERO),
        max_auth_attempts: MAX_TRIES,
        keys: vec![host_key.clone()],
        preferred: ssh::preferred(),
        limits: ssh::limits(),
        window_size: ssh::WINDOW,
        maximum_packet_size: ssh::MAX_PACKET,
        channel_buffer_size: ssh::CHANNEL_QUEUE,
        event_buffer_size: EVENT_QUEUE,
        inactivity_timeout: Some(ssh::INACTIVITY),
        keepalive_interval: Some(ssh::KEEPALIVE),
        keepalive_max: ssh::KEEPALIVE_UNANSWERED,
        nodelay: true,
        ..Config::default()
    }
}
