//! One tunnel: the SSH connection to the gateway, and the streams inside.
//!
//! Each tunnel is a task of its own. It tells [`crate::lifecycle`] what happens and does what that decides; the last thing
//! it ever tells is [`TunnelEvent::Failed`] or [`TunnelEvent::Ended`], after which nothing of it is left. From the
//! gateway it accepts forwarded channels to services that it announced, and nothing else.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::client::{self, Handle};
use russh::{Channel, ChannelStream, Disconnect};
use shared::dial::{DialError, Dialer};
use shared::envelope::{self, Credentials, EnvelopeError};
use shared::fingerprint::HostKeyFingerprint;
use shared::host_port::{HostPort, HostPortError};
use shared::id::EdgeId;
use shared::tunnel::control::{self, ControlReader, FromAgent, ToAgent};
use shared::tunnel::sever::Severable;
use shared::tunnel::socket::PatientSocket;
use shared::tunnel::ssh::{CONTROL_NAME, CONTROL_VERSION, CONTROL_VERSION_FIXED, agent_config};
use shared::wire::check_in::Offer;
use tokio::io::{AsyncWrite, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::lifecycle::{Attempt, Failure, TunnelEvent};
use crate::services::Service;

mod handler;
#[cfg(test)]
mod tests;

use handler::{End, Handler, Streams};

/// Longest wait for key exchange, for login, and for the forwards with the gateway's welcome: each takes a few round
/// trips, and a slow satellite link has one of a second.
const STEP_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest wait for a control message to be taken. They are rare and small.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for a ping's answer when a tunnel is suspected to be dead.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for a disconnect to go out.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Streams of a tunnel that is gone may write out what they hold for so long.
const DRAIN: Duration = Duration::from_secs(3);
/// Bind port of a service's forward: stock clients need one, the gateway ignores it.
const FORWARD_PORT: u32 = 80;
/// Requests that wait for a tunnel. It serves them at once; more than a few means that it hangs.
const REQUESTS: usize = 8;

/// What stays the same for all tunnels of this agent.
#[derive(Debug)]
pub struct Site {
    /// How the gateway is reached.
    pub dialer: Dialer,
    /// What opens offers.
    pub edge_id: EdgeId,
    /// Host keys that the gateway may show.
    pub host_keys: Vec<HostKeyFingerprint>,
    /// What is exposed.
    pub services: Arc<[Service]>,
}

/// What a tunnel is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Ask the gateway whether it may close.
    AskToClose,
    /// Find out whether it lives, and end if not.
    Probe,
    /// Disconnect.
    Close,
}

/// Handle of a tunnel's task; the task ends by itself.
#[derive(Debug)]
pub struct Tunnel {
    requests: mpsc::Sender<Request>,
}

/// Where a tunnel tells what happens. Bounded: a full one slows the tunnel's control down, not its streams.
pub type Events = mpsc::Sender<(Attempt, TunnelEvent)>;

/// Why a tunnel did not come up.
#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error("the gateway's offer can't be used: {0}")]
    Envelope(#[from] EnvelopeError),
    #[error("the gateway's offer can't be used: {0}")]
    Address(#[from] HostPortError),
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error(
        "the tunnel server's host key is {got} and not the pinned {expected}: if the gateway was set up anew, get a new \
         join token from its admin; if not, somebody may be listening in"
    )]
    HostKey { expected: String, got: HostKeyFingerprint },
    #[error("{doing} failed: {source}")]
    Ssh { doing: &'static str, source: russh::Error },
    #[error("{doing} took longer than {} s", STEP_TIMEOUT.as_secs())]
    Timeout { doing: &'static str },
    #[error("the tunnel server refused the offer's credentials: they were used, expired or revoked")]
    Login,
    #[error("the tunnel server sent no welcome: {0}")]
    Welcome(&'static str),
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        Self { lasting: matches!(error, OpenError::HostKey { .. }), reason: error.to_string() }
    }
}

impl Tunnel {
    /// Starts opening a tunnel with this offer.
    pub fn start(attempt: Attempt, offer: Offer, site: Arc<Site>, events: Events) -> Self {
        let (requests, wanted) = mpsc::channel(REQUESTS);
        tokio::spawn(async move {
            let last = match open(attempt, &offer, &site, &events).await {
                Ok(open) => {
                    let idle_timeout = open.idle_timeout;
                    tell(&events, attempt, TunnelEvent::Opened { idle_timeout }).await;
                    match open.live(attempt, wanted, &events).await {
                        End::Dismissed(reason) => TunnelEvent::Dismissed { reason },
                        End::Broken(reason) => TunnelEvent::Ended { reason },
                    }
                }
                Err(error) => TunnelEvent::Failed(error.into()),
            };
            tell(&events, attempt, last).await;
        });
        Self { requests }
    }

    /// Passes the request on. One that finds the queue full is dropped: the tunnel hangs then, and the lifecycle's
    /// deadline for the answer deals with it.
    pub fn request(&self, request: Request) {
        if self.requests.try_send(request).is_err() {
            tracing::debug!(?request, "the tunnel takes no request");
        }
    }
}

async fn tell(events: &Events, attempt: Attempt, event: TunnelEvent) {
    // Nobody listens any more when the agent has ended.
    let _ = events.send((attempt, event)).await;
}

/// A tunnel that the gateway has welcomed.
struct Open {
    ssh: Handle<Handler>,
    streams: Arc<Streams>,
    reader: ControlReader<ReadHalf<ChannelStream<client::Msg>>>,
    writer: WriteHalf<ChannelStream<client::Msg>>,
    idle_timeout: Duration,
    /// Why the connection ended, as the handler saw it.
    end: Arc<Mutex<Option<End>>>,
    _sever_at_the_end: DropGuard,
}

async fn open(attempt: Attempt, offer: &Offer, site: &Site, events: &Events) -> Result<Open, OpenError> {
    let credentials = envelope::open(&offer.credentials, &site.edge_id, &offer.id)?;
    let address: HostPort = offer.ssh.parse()?;
    let sever = CancellationToken::new();
    let socket = site.dialer.dial(&address).await?;
    // However this ends, the socket goes with it, and russh's task with the socket.
    let sever_at_the_end = sever.clone().drop_guard();
    let socket = PatientSocket::new(Severable::new(socket, sever));
    let streams =
        Arc::new(Streams::new(attempt, Arc::clone(&site.services), socket.backlog(), events.clone()));
    let (control, controlled) = oneshot::channel();
    let shown = Arc::new(Mutex::new(None));
    let end = Arc::new(Mutex::new(None));
    let handler = Handler::new(
        site.host_keys.clone(),
        Arc::clone(&shown),
        Arc::clone(&streams),
        control,
        Arc::clone(&end),
    );
    let mut ssh = step("the key exchange", client::connect_stream(Arc::new(agent_config()), socket, handler))
        .await
        .map_err(|error| refused_key(&shown, site).unwrap_or(error))?;
    log_in(&mut ssh, credentials).await?;
    let welcome = async {
        forward(&ssh, &site.services).await?;
        let channel = controlled.await.map_err(|_| OpenError::Welcome("the connection ended"))?;
        let (reader, writer) = tokio::io::split(channel.into_stream());
        let mut reader = ControlReader::new(reader);
        match reader.read::<ToAgent>().await {
            Ok(Some(ToAgent::Welcome { idle_timeout_s })) => {
                Ok((reader, writer, Duration::from_secs(idle_timeout_s.into())))
            }
            Ok(Some(ToAgent::Hold | ToAgent::Snapshot | ToAgent::CloseGranted | ToAgent::CloseRefused)) => {
                Err(OpenError::Welcome("it said something else first"))
            }
            Ok(None) | Err(_) => Err(OpenError::Welcome("it closed the control channel")),
        }
    };
    let (reader, writer, idle_timeout) = timeout(STEP_TIMEOUT, welcome)
        .await
        .unwrap_or(Err(OpenError::Timeout { doing: "asking for the forwards" }))?;
    Ok(Open { ssh, streams, reader, writer, idle_timeout, end, _sever_at_the_end: sever_at_the_end })
}

async fn step<T>(
    doing: &'static str,
    work: impl Future<Output = Result<T, russh::Error>>,
) -> Result<T, OpenError> {
    match timeout(STEP_TIMEOUT, work).await {
        Ok(result) => result.map_err(|source| OpenError::Ssh { doing, source }),
        Err(_) => Err(OpenError::Timeout { doing }),
    }
}

/// The host key that was refused, if that is why the key exchange failed.
fn refused_key(shown: &Mutex<Option<HostKeyFingerprint>>, site: &Site) -> Option<OpenError> {
    let got = shown.lock().unwrap_or_else(PoisonError::into_inner).take()?;
    let expected = site.host_keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ");
    Some(OpenError::HostKey { expected, got })
}

async fn log_in(ssh: &mut Handle<Handler>, credentials: Credentials) -> Result<(), OpenError> {
    let password = credentials.password.expose().clone();
    let result = step("the login", ssh.authenticate_password(credentials.username, password)).await?;
    if result.success() { Ok(()) } else { Err(OpenError::Login) }
}

/// One forward for each service, all on their way at once, and then the one for control, which says that it was all. A
/// gateway that is older than this agent refuses the version that it does not know and stays as it is, so the one before
/// can be asked for.
async fn forward(ssh: &Handle<Handler>, services: &[Service]) -> Result<(), OpenError> {
    let refused = |source| OpenError::Ssh { doing: "asking for the forwards", source };
    let forwards = services.iter().map(|service| ssh.tcpip_forward(service.name.as_str(), FORWARD_PORT));
    futures_util::future::try_join_all(forwards).await.map_err(refused)?;
    match ssh.tcpip_forward(CONTROL_NAME, CONTROL_VERSION).await {
        Ok(_) => {}
        Err(russh::Error::RequestDenied) => {
            ssh.tcpip_forward(CONTROL_NAME, CONTROL_VERSION_FIXED).await.map_err(refused)?;
        }
        Err(error) => return Err(refused(error)),
    }
    Ok(())
}

impl Open {
    /// Serves the tunnel until it ends, and says why it did.
    async fn live(mut self, attempt: Attempt, mut requests: mpsc::Receiver<Request>, events: &Events) -> End {
        let end = loop {
            tokio::select! {
                // The connection first: what follows makes no sense without it.
                biased;
                result = &mut self.ssh => break match result {
                    Ok(()) => self.ended("the connection ended"),
                    Err(error) => self.ended(&error.to_string()),
                },
                request = requests.recv() => match request {
                    Some(Request::AskToClose) => {
                        if !say(&mut self.writer, &FromAgent::Closing).await {
                            break End::Broken("the gateway takes no control message".to_owned());
                        }
                    }
                    Some(Request::Probe) => {
                        if timeout(PROBE_TIMEOUT, self.ssh.send_ping()).await.is_err() {
                            let silence = PROBE_TIMEOUT.as_secs();
                            break End::Broken(format!("no answer to a ping within {silence} s"));
                        }
                    }
                    // `None`: the agent has ended or has given this tunnel up.
                    Some(Request::Close) | None => break End::Broken("closed".to_owned()),
                },
                message = self.reader.read::<ToAgent>() => match message {
                    Ok(Some(message)) => tell(events, attempt, told(message)).await,
                    Ok(None) => break self.ended("the gateway closed it"),
                    Err(error) => break self.ended(&error.to_string()),
                },
            }
        };
        self.streams.close();
        let disconnect = async {
            let (End::Dismissed(reason) | End::Broken(reason)) = &end;
            if self.ssh.disconnect(Disconnect::ByApplication, reason, "").await.is_ok() {
                let _ = (&mut self.ssh).await;
            }
        };
        // Whatever is left of the connection is cut at the end of this function.
        let _ = timeout(DISCONNECT_TIMEOUT, disconnect).await;
        self.streams.drain(DRAIN).await;
        end
    }

    /// The handler's reason is nearer to the cause than what follows from it.
    fn ended(&self, otherwise: &str) -> End {
        let end = self.end.lock().unwrap_or_else(PoisonError::into_inner).take();
        end.unwrap_or_else(|| End::Broken(otherwise.to_owned()))
    }
}

fn told(message: ToAgent) -> TunnelEvent {
    match message {
        ToAgent::Welcome { idle_timeout_s } => {
            TunnelEvent::IdleTimeout(Duration::from_secs(idle_timeout_s.into()))
        }
        ToAgent::Hold => TunnelEvent::Held,
        ToAgent::Snapshot => TunnelEvent::SnapshotWanted,
        ToAgent::CloseGranted => TunnelEvent::CloseGranted,
        ToAgent::CloseRefused => TunnelEvent::CloseRefused,
    }
}

async fn say(writer: &mut (impl AsyncWrite + Unpin), message: &FromAgent) -> bool {
    matches!(timeout(CONTROL_TIMEOUT, control::write(writer, message)).await, Ok(Ok(())))
}

/// The control channel, on its way from the handler to the tunnel.
type ControlChannel = Channel<client::Msg>;
