//! An operator with a stock SSH client: `ssh -J ada@gateway:8000 root@shop-17`, `-L 5432:db.shop-17:5432`, `-W`, scp,
//! sftp, rsync. A forward names a service, raises the edge's flag and waits; a session shows what can be reached, or is
//! the stream itself (`connect EDGE`). Nothing else is allowed: no shell here, no forwards to the gateway's own network.
//!
//! What a waiting client can be told: SSH has no message for it between the request for a forward and its answer but
//! DEBUG, which stock `ssh` prints with `-v` only; a session has its standard error, which it always prints.
//!
//! | the client asks for | it gets |
//! | --- | --- |
//! | `SERVICE.EDGE`, any port | that service |
//! | `EDGE`, port 22 | its service `ssh` |
//! | `EDGE`, another port | its service whose target has that port |
//! | a unix socket `SERVICE.EDGE` or `/SERVICE.EDGE` | that service |

use std::collections::HashMap;
use std::sync::Arc;

use russh::server::{ChannelOpenHandle, Msg};
use russh::{Channel, ChannelId, ChannelOpenFailure};
use shared::id::{EdgeName, ServiceName};
use shared::tunnel::carry::{self, Flow, Meter};
use shared::tunnel::socket::Backlog;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::agent::Wires;
use super::listing;
use super::recorder::Recorder;
use crate::access::Operator;
use crate::audit::usage::StreamUse;
use crate::domain::authority::Role;
use crate::domain::refusal::OpenError;
use crate::http::problem::Problem;
use crate::link::Stream;
use crate::tunnels::{EdgeQuery, Tunnels};

/// Streams of one operator's connection at a time. A browser behind a dozen forwards needs fewer.
const MAX_STREAMS: usize = 256;

/// Sessions of one operator's connection at a time: each only shows a list and ends.
const MAX_SESSIONS: usize = 8;

/// SSH's code for a channel whose target could not be reached (RFC 4254 §5.1). With it, russh sends our own words
/// along, and `ssh` prints them.
const CONNECT_FAILED: u32 = 2;

/// By which an edge's service `ssh` is named where only a port can be said.
const SSH_PORT: u32 = 22;

/// Type of the extended data that is a session's standard error (RFC 4254 §5.2).
const STDERR: u32 = 1;

/// An operator that logged in.
pub(super) struct Operating {
    operator: Operator,
    streams: Streams,
    recorder: Recorder,
    sessions: HashMap<ChannelId, SessionChannel>,
}

struct SessionChannel {
    channel: Channel<Msg>,
    terminal: bool,
}

/// What all streams of the connection share.
#[derive(Clone)]
struct Streams {
    tunnels: Tunnels,
    backlog: Arc<Backlog>,
    meter: Arc<Meter>,
    permits: Arc<Semaphore>,
    recorder: Recorder,
    /// Cancelled when the connection is over.
    gone: CancellationToken,
}

/// A stream that was opened for an operator.
struct Opened {
    edge: EdgeName,
    service: ServiceName,
    stream: Stream,
    recorded: StreamUse,
    _permit: OwnedSemaphorePermit,
}

impl Operating {
    pub(super) fn new(operator: Operator, tunnels: Tunnels, wires: &Wires, recorder: Recorder) -> Self {
        let streams = Streams {
            tunnels,
            backlog: Arc::clone(&wires.backlog),
            meter: Arc::clone(&wires.meter),
            permits: Arc::new(Semaphore::new(MAX_STREAMS)),
            recorder: recorder.clone(),
            gone: wires.gone.clone(),
        };
        Self { operator, streams, recorder, sessions: HashMap::new() }
    }

    /// Opens a stream, in its own time.
    pub(super) fn forward(&self, to: Option<Destination>, channel: Channel<Msg>, reply: ChannelOpenHandle) {
        tokio::spawn(self.streams.clone().forward(self.operator.clone(), to, channel, reply));
    }

    pub(super) async fn open_session(&mut self, channel: Channel<Msg>, reply: ChannelOpenHandle) {
        if self.sessions.len() >= MAX_SESSIONS {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return;
        }
        reply.accept().await;
        self.sessions.insert(channel.id(), SessionChannel { channel, terminal: false });
    }

    pub(super) fn has_terminal(&mut self, channel: ChannelId) {
        if let Some(session) = self.sessions.get_mut(&channel) {
            session.terminal = true;
        }
    }

    /// Shows the edges and ends the session.
    pub(super) fn list(&mut self, channel: ChannelId) {
        let Some(SessionChannel { channel, terminal }) = self.sessions.remove(&channel) else { return };
        let tunnels = self.streams.tunnels.clone();
        let reach = self.operator.reach.clone();
        tokio::spawn(async move {
            let query = EdgeQuery::first(reach, listing::MOST);
            let page = tunnels.edges(query).await;
            say(channel, listing::text(&page, terminal), 0).await;
        });
    }

    /// Records that something was refused that nobody gets here.
    pub(super) fn refuse(&self, action: &str) {
        self.recorder.refused((&self.operator).into(), action, "not-allowed");
    }

    /// What a forward would have to wait for.
    pub(super) async fn outlook(&self, to: Option<&Destination>) -> Option<String> {
        self.streams.outlook(&self.operator, to?).await
    }

    /// Runs the one command that there is, or says that there is no other.
    pub(super) fn run(&mut self, channel: ChannelId, command: &[u8]) {
        let Some(to) = Destination::of_command(command) else { return self.refuse_command(channel) };
        let Some(SessionChannel { channel, .. }) = self.sessions.remove(&channel) else { return };
        tokio::spawn(self.streams.clone().connect(self.operator.clone(), to, channel));
    }

    fn refuse_command(&mut self, channel: ChannelId) {
        let Some(SessionChannel { channel, .. }) = self.sessions.remove(&channel) else { return };
        self.refuse("ssh.exec");
        let text = "The gateway runs no commands but `connect EDGE` and `connect SERVICE.EDGE`. Log in on an edge through it: \
             ssh -J THIS-GATEWAY USER@EDGE\n";
        tokio::spawn(say(channel, text.to_owned(), 1));
    }
}

/// Writes a session's text, to its standard error if it is a refusal, and ends it. A client that left does not read it.
async fn say(channel: Channel<Msg>, text: String, status: u32) {
    let said = async {
        match status {
            0 => channel.data_bytes(text.into_bytes()).await?,
            _ => channel.extended_data_bytes(STDERR, text.into_bytes()).await?,
        }
        channel.exit_status(status).await?;
        channel.eof().await
    };
    let _ = said.await;
    let _ = channel.close().await;
}

/// Where a forward leads.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Destination {
    /// A service by name.
    Service(EdgeName, ServiceName),
    /// Whatever stands behind this port of the edge.
    Port(EdgeName, u16),
}

impl Destination {
    /// Of a forward to `host:port`.
    pub(super) fn of_tcp(host: &str, port: u32) -> Option<Self> {
        let host = host.strip_suffix('.').unwrap_or(host);
        if let Some(named) = Self::named(host) {
            return Some(named);
        }
        Some(Self::Port(host.parse().ok()?, u16::try_from(port).ok()?))
    }

    /// Of the command `connect EDGE`, which means its service `ssh`, or `connect SERVICE.EDGE`.
    pub(super) fn of_command(command: &[u8]) -> Option<Self> {
        let to = std::str::from_utf8(command).ok()?.strip_prefix("connect ")?.trim();
        Self::of_tcp(to, SSH_PORT)
    }

    /// Of a forward to a unix socket.
    pub(super) fn of_socket(path: &str) -> Option<Self> {
        Self::named(path.strip_prefix('/').unwrap_or(path))
    }

    fn edge(&self) -> &EdgeName {
        match self {
            Self::Service(edge, _) | Self::Port(edge, _) => edge,
        }
    }

    fn named(text: &str) -> Option<Self> {
        let (service, edge) = text.split_once('.')?;
        Some(Self::Service(edge.parse().ok()?, service.parse().ok()?))
    }
}

impl Streams {
    /// Opens the stream, answers the client, and carries until the end. The client waits as long as an edge may take to
    /// wake up; when its connection ends meanwhile, so does its wish.
    async fn forward(
        self,
        operator: Operator,
        destination: Option<Destination>,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
    ) {
        match self.admit(&operator, destination).await {
            Ok(opened) => {
                reply.accept().await;
                self.carry(&operator, opened, channel).await;
            }
            Err(reason) => reply.reject(failure(reason)).await,
        }
    }

    /// As [`Streams::forward`], through a session, whose standard error says what is waited for.
    async fn connect(self, operator: Operator, destination: Destination, channel: Channel<Msg>) {
        if let Some(waiting) = self.outlook(&operator, &destination).await {
            // Who does not read it waits all the same.
            let _ = channel.extended_data_bytes(STDERR, format!("{waiting}\r\n").into_bytes()).await;
        }
        match self.admit(&operator, Some(destination)).await {
            Ok(opened) => self.carry(&operator, opened, channel).await,
            Err(reason) => say(channel, format!("{reason}\r\n"), 1).await,
        }
    }

    /// What a stream to this destination would have to wait for, for the operator to read.
    async fn outlook(&self, operator: &Operator, destination: &Destination) -> Option<String> {
        let edge = destination.edge();
        if operator.role < Role::Operator || !self.tunnels.reaches(edge, operator.reach.clone()).await {
            return None;
        }
        self.tunnels.outlook(edge).await
    }

    /// A stream to the destination, or why there is none, for the operator to read.
    async fn admit(&self, operator: &Operator, destination: Option<Destination>) -> Result<Opened, String> {
        let entry = self.recorder.stream(operator.into());
        let entry = destination.as_ref().map_or(entry.clone(), |to| entry.edge(to.edge()));
        let refused = |code: &str| self.recorder.audit.refused(entry.clone().refused(code));
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            refused("stream-refused");
            return Err(format!("this connection has {MAX_STREAMS} streams; close some first"));
        };
        let Some(destination) = destination else {
            refused("invalid-request");
            return Err("only services of edges can be reached: use EDGE, or SERVICE.EDGE".to_owned());
        };
        if operator.role < Role::Operator {
            refused("not-allowed");
            return Err(format!("the role {} may look at edges only; ask an admin", operator.role));
        }
        let opened = tokio::select! {
            opened = self.open(operator, destination) => opened,
            () = self.gone.cancelled() => return Err("the connection ended".to_owned()),
        };
        match opened {
            Ok((edge, service, stream)) => {
                let recorded = StreamUse::open(&self.recorder.audit, entry.service(&service));
                Ok(Opened { edge, service, stream, recorded, _permit: permit })
            }
            Err(error) => {
                tracing::debug!(operator = %operator.name, %error, "a forward was refused");
                refused(Problem::from(error.clone()).code().name());
                Err(error.to_string())
            }
        }
    }

    async fn carry(&self, operator: &Operator, opened: Opened, channel: Channel<Msg>) {
        let Opened { edge, service, stream, recorded, _permit } = opened;
        tracing::debug!(operator = %operator.name, %edge, %service, "stream opened");
        let end = carry::carry(channel, stream.into_io(), Flow::Plain, &self.backlog, &self.meter).await;
        let (received, sent, orderly) = (end.received, end.sent, end.orderly);
        recorded.close(received, sent, orderly);
        tracing::debug!(operator = %operator.name, %edge, %service, received, sent, orderly, "stream ended");
    }

    async fn open(
        &self,
        operator: &Operator,
        destination: Destination,
    ) -> Result<(EdgeName, ServiceName, Stream), OpenError> {
        let edge = destination.edge();
        if !self.tunnels.reaches(edge, operator.reach.clone()).await {
            return Err(OpenError::NoSuchEdge(edge.clone()));
        }
        let (edge, service) = match destination {
            Destination::Service(edge, service) => (edge, service),
            Destination::Port(edge, port) => {
                let service = self.tunnels.service_at(&edge, port).await?;
                (edge, service)
            }
        };
        let stream = self.tunnels.open(&edge, &service, operator).await?;
        Ok((edge, service, stream))
    }
}

fn failure(reason: String) -> ChannelOpenFailure {
    ChannelOpenFailure::Other { code: CONNECT_FAILED, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(edge: &str, service: &str) -> Option<Destination> {
        Some(Destination::Service(edge.parse().expect("a label"), service.parse().expect("a label")))
    }

    #[test]
    fn forwards_name_services_and_nothing_else() {
        assert_eq!(Destination::of_tcp("db.shop-17", 5432), service("shop-17", "db"));
        assert_eq!(Destination::of_tcp("db.shop-17.", 1), service("shop-17", "db"));
        let edge = "shop-17".parse().expect("a label");
        assert_eq!(Destination::of_tcp("shop-17", 22), Some(Destination::Port(edge, 22)));
        for (host, port) in
            [("127.0.0.1", 80), ("::1", 80), ("a.b.c", 80), ("", 80), ("Shop", 22), ("shop", 70_000)]
        {
            assert_eq!(Destination::of_tcp(host, port), None, "{host}:{port}");
        }
        assert_eq!(Destination::of_socket("/docker.shop-17"), service("shop-17", "docker"));
        assert_eq!(Destination::of_socket("docker.shop-17"), service("shop-17", "docker"));
        assert_eq!(Destination::of_command(b"connect db.shop-17"), service("shop-17", "db"));
        let ssh = Some(Destination::Port("shop-17".parse().expect("a label"), 22));
        assert_eq!(Destination::of_command(b"connect shop-17"), ssh);
        for command in ["id", "connect", "connect a b", "connect ../x", "connectshop", "connect -x", "\u{1b}"]
        {
            assert_eq!(Destination::of_command(command.as_bytes()), None, "{command}");
        }
        for path in ["/var/run/docker.sock", "/docker", "../x.y", ""] {
            assert_eq!(Destination::of_socket(path), None, "{path}");
        }
    }
}
