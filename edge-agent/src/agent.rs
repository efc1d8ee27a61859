//! The agent's driver: carries out what [`crate::lifecycle`] decides, and tells it what happens.
//!
//! One task owns the lifecycle. Check-ins, tunnels and snapshots are tasks beside it, which answer through queues; it
//! never waits for any of them.

use std::path::Path;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use shared::dial::Dialer;
use shared::join_token::JoinToken;
use shared::wire::check_in::{
    Authorization, FailedOffer, Hello, Identity, Offer, PROTOCOL_VERSION, TunnelState,
};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::client::{Client, ClientError, Endpoint, Pace};
use crate::config::Config;
use crate::exit::Exit;
use crate::lifecycle::{Attempt, Command, Event, Lifecycle, Notice, Outcome, Roll, Sent, Start, TunnelEvent};
use crate::services::Service;
use crate::state::{State, StateError};
use crate::status::Board;
use crate::status::socket::Socket;
use crate::tunnel::{Request, Site, Tunnel};
use crate::{page, snapshot};

/// Events of tunnels that wait for the lifecycle. It takes each in microseconds; a tunnel that finds the queue full
/// waits.
const TUNNEL_EVENTS: usize = 256;

/// Why the agent can't go on.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The data folder.
    #[error(transparent)]
    State(#[from] StateError),
    /// The join page.
    #[error(
        "the join page can't listen on {address}: {source}; choose another address with --page-addr, or give a join token"
    )]
    Page {
        /// Where.
        address: std::net::SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The join token or the TLS configuration.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl AgentError {
    /// How the process ends because of it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::State(_) | Self::Page { .. } => Exit::Failed,
            Self::Client(_) => Exit::Configuration,
        }
    }
}

/// Runs the agent until `stop` is cancelled; then closes its tunnel in order.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), AgentError> {
    let state = Arc::new(State::open(&config.data_dir)?);
    let edge_id = state.edge_id(config.edge_id)?;
    let instance = state.instance_id()?;
    let services = config.services.iter().map(Service::announced).collect();
    let board = Board::new(instance, services, SystemTime::now());
    let _told = tell(&config.data_dir, &board);
    let Some((token, start)) = join(&state, &config, &stop).await? else { return Ok(()) };
    if config.services.is_empty() {
        tracing::warn!("no service is exposed: give some with --expose NAME=TARGET");
    }
    let dialer = Dialer::from_environment();
    let identity = Identity { authorization: Authorization { edge_id, key: token.key.clone() }, instance };
    let endpoint = Endpoint::new(&token, &identity, config.ca_file.as_deref(), dialer.clone())?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"), gateway = %endpoint.address(), %instance,
        services = config.services.len(), "the agent starts"
    );
    board.joined(&token.api_url);
    let site = Site { dialer, edge_id, host_keys: token.host_keys.clone(), services: config.services.into() };
    let agent = Agent::new(board, endpoint, state, site, start);
    agent.run(stop).await;
    tracing::info!("the agent has ended");
    Ok(())
}

/// Tells those who ask in the data folder, for as long as the value lives.
fn tell(folder: &Path, board: &Board) -> Option<AbortOnDropHandle<()>> {
    match Socket::open(folder) {
        Ok(socket) => Some(AbortOnDropHandle::new(tokio::spawn(socket.serve(board.clone())))),
        // Its path may be too long for a socket, or its file system may know none: the agent's work needs none.
        Err(error) => {
            tracing::warn!(%error, "the status socket can't be made: `tidegate-agent status` will not see this agent");
            None
        }
    }
}

/// The gateway to check in at: the one given, else the one kept, else the one that somebody pastes. `None` if the
/// process is told to end before.
async fn join(
    state: &State,
    config: &Config,
    stop: &CancellationToken,
) -> Result<Option<(JoinToken, Start)>, AgentError> {
    let kept = match (&config.join_token, state.join_token()) {
        (_, Ok(kept)) => kept,
        // The given one is about to replace what is damaged.
        (Some(_), Err(StateError::Damaged { .. })) => None,
        (_, Err(error)) => return Err(error.into()),
    };
    match (config.join_token.clone(), kept) {
        (Some(given), Some(kept)) if given == kept => Ok(Some((kept, again(state)))),
        (Some(given), kept) => {
            if kept.is_some() {
                tracing::warn!(gateway = %given.api_url, "the given join token replaces the one kept so far");
            }
            state.keep_join_token(&given)?;
            Ok(Some((given, Start::Joined)))
        }
        (None, Some(kept)) => Ok(Some((kept, again(state)))),
        (None, None) => {
            let Some(pasted) = ask_for_token(config, stop).await? else { return Ok(None) };
            state.keep_join_token(&pasted)?;
            tracing::info!(gateway = %pasted.api_url, "joined");
            Ok(Some((pasted, Start::Joined)))
        }
    }
}

fn again(state: &State) -> Start {
    Start::Again { last_offer: state.last_offer() }
}

async fn ask_for_token(config: &Config, stop: &CancellationToken) -> Result<Option<JoinToken>, AgentError> {
    let failed = |source| AgentError::Page { address: config.page_addr, source };
    let listener = TcpListener::bind(config.page_addr).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    tracing::info!(page = %page::url(address), "there is no join token yet: paste one into this page");
    if !address.ip().is_loopback() {
        tracing::warn!("everybody who reaches the join page can join this agent to a gateway");
    }
    tokio::select! {
        token = page::ask(listener) => Ok(Some(token)),
        () = stop.cancelled() => Ok(None),
    }
}

/// What a check-in's task is given.
struct Question {
    hello: Hello,
    failed: Option<FailedOffer>,
    pace: Pace,
}

struct Agent {
    /// Where it is noted how the agent is.
    board: Board,
    lifecycle: Lifecycle,
    started: Instant,
    endpoint: Endpoint,
    state: Arc<State>,
    site: Arc<Site>,
    hostname: String,
    questions: mpsc::Sender<Question>,
    /// The last tunnel that was started; it may have ended.
    tunnel: Option<(Attempt, Tunnel)>,
    tunnel_events: mpsc::Sender<(Attempt, TunnelEvent)>,
    /// The last snapshot that was taken, compressed, while it may have to be sent again.
    snapshot: Option<Bytes>,
    snapshot_tried: mpsc::Sender<Tried>,
    inbox: Inbox,
}

/// A try to deliver a snapshot: what was sent, if there was anything to send, and what became of it.
struct Tried(Option<Bytes>, Sent);

/// Where answers arrive.
struct Inbox {
    outcomes: mpsc::Receiver<Outcome>,
    tunnel_events: mpsc::Receiver<(Attempt, TunnelEvent)>,
    snapshot_tried: mpsc::Receiver<Tried>,
}

impl Agent {
    fn new(board: Board, endpoint: Endpoint, state: Arc<State>, site: Site, start: Start) -> Self {
        // One question and one snapshot at a time: the lifecycle sees to it.
        let (questions, asked) = mpsc::channel(1);
        let (snapshot_tried, snapshots_tried) = mpsc::channel(1);
        let (tunnel_events, tunnel_happened) = mpsc::channel(TUNNEL_EVENTS);
        let outcomes = spawn_client(Client::new(endpoint.clone()), asked);
        Self {
            board,
            lifecycle: Lifecycle::new(start, Instant::now(), roll()),
            started: Instant::now(),
            endpoint,
            state,
            site: Arc::new(site),
            hostname: snapshot::host_name(),
            questions,
            tunnel: None,
            tunnel_events,
            snapshot: None,
            snapshot_tried,
            inbox: Inbox { outcomes, tunnel_events: tunnel_happened, snapshot_tried: snapshots_tried },
        }
    }

    async fn run(mut self, stop: CancellationToken) {
        let mut commands = Vec::new();
        let mut stopped = false;
        loop {
            let deadline = self.lifecycle.deadline();
            let tick = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            let event = tokio::select! {
                () = stop.cancelled(), if !stopped => {
                    stopped = true;
                    Event::Stop
                }
                Some(outcome) = self.inbox.outcomes.recv() => Event::CheckedIn(outcome),
                Some((attempt, event)) = self.inbox.tunnel_events.recv() => Event::Tunnel(attempt, event),
                Some(Tried(snapshot, sent)) = self.inbox.snapshot_tried.recv() => {
                    self.snapshot = snapshot.filter(|_| sent != Sent::Stored);
                    Event::Snapshot(sent)
                }
                () = tick => Event::Tick,
            };
            if let Event::CheckedIn(outcome) = &event {
                self.board.checked_in(outcome, Instant::now(), SystemTime::now());
            }
            self.lifecycle.handle(event, Instant::now(), roll(), &mut commands);
            self.board.tunnel(self.lifecycle.tunnel_state(), SystemTime::now());
            for command in commands.drain(..) {
                match command {
                    Command::CheckIn { tunnel, failed, eager } => {
                        self.check_in(tunnel, failed, if eager { Pace::Eager } else { Pace::Usual });
                    }
                    Command::OpenTunnel(attempt, offer) => self.open_tunnel(attempt, offer),
                    Command::ProbeTunnel(attempt) => self.request(attempt, Request::Probe),
                    Command::AskToClose(attempt) => self.request(attempt, Request::AskToClose),
                    Command::CloseTunnel(attempt) => self.request(attempt, Request::Close),
                    Command::TakeSnapshot => self.take_snapshot(),
                    Command::SendSnapshot => self.send_snapshot(),
                    Command::Tell(notice) => {
                        self.board.told(&notice);
                        log(&notice);
                    }
                    Command::Exit => return,
                }
            }
        }
    }

    fn check_in(&self, tunnel: TunnelState, failed: Option<FailedOffer>, pace: Pace) {
        let hello = Hello {
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: PROTOCOL_VERSION,
            hostname: self.hostname.clone(),
            services: self.site.services.iter().map(Service::announced).collect(),
            tunnel,
        };
        let asked = self.questions.try_send(Question { hello, failed, pace });
        debug_assert!(asked.is_ok(), "the lifecycle asks one question at a time");
    }

    fn open_tunnel(&mut self, attempt: Attempt, offer: Offer) {
        tracing::debug!(offer = %offer.id, "the gateway needs a tunnel");
        let (state, id) = (Arc::clone(&self.state), offer.id);
        // Beside the login, which need not wait for it: who finds no id after a power cut only comes back later.
        tokio::task::spawn_blocking(move || {
            if let Err(error) = state.keep_last_offer(id) {
                tracing::debug!(%error, "the offer's id could not be kept");
            }
        });
        let events = self.tunnel_events.clone();
        self.tunnel = Some((attempt, Tunnel::start(attempt, offer, Arc::clone(&self.site), events)));
    }

    fn request(&self, attempt: Attempt, request: Request) {
        match &self.tunnel {
            Some((current, tunnel)) if *current == attempt => tunnel.request(request),
            Some(_) | None => {}
        }
    }

    fn take_snapshot(&self) {
        let (site, endpoint, started) = (Arc::clone(&self.site), self.endpoint.clone(), self.started);
        let tried = self.snapshot_tried.clone();
        tokio::spawn(async move {
            let snapshot = snapshot::take(&site.services, started).await;
            let encoded = tokio::task::spawn_blocking(|| snapshot::encode(snapshot)).await;
            let refused = |reason| Tried(None, Sent::Refused { reason });
            let outcome = match encoded {
                Ok(Ok(gzip)) => deliver(&endpoint, gzip.into()).await,
                Ok(Err(error)) => refused(error.to_string()),
                Err(error) => refused(error.to_string()),
            };
            // Nobody listens any more when the agent has ended.
            let _ = tried.send(outcome).await;
        });
    }

    fn send_snapshot(&mut self) {
        let Some(gzip) = self.snapshot.take() else { return self.take_snapshot() };
        let (endpoint, tried) = (self.endpoint.clone(), self.snapshot_tried.clone());
        tokio::spawn(async move {
            // As above.
            let _ = tried.send(deliver(&endpoint, gzip).await).await;
        });
    }
}

async fn deliver(endpoint: &Endpoint, gzip: Bytes) -> Tried {
    let sent = endpoint.put_snapshot(gzip.clone()).await;
    Tried(Some(gzip), sent)
}

/// The task that owns the connection for check-ins; it ends with the agent.
fn spawn_client(mut client: Client, mut asked: mpsc::Receiver<Question>) -> mpsc::Receiver<Outcome> {
    let (answered, outcomes) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Some(Question { hello, failed, pace }) = asked.recv().await {
            let outcome = client.check_in(hello, failed, pace).await;
            if answered.send(outcome).await.is_err() {
                return;
            }
        }
    });
    outcomes
}

fn roll() -> Roll {
    Roll(rand::random())
}

fn log(notice: &Notice) {
    match notice {
        Notice::Refused(refusal) => tracing::error!(
            reason = refusal.detail,
            "the gateway refuses this agent, which keeps its edge ID and asks again every few minutes"
        ),
        Notice::Trouble { reason, first: true } => {
            tracing::warn!(reason, "the gateway can't be asked; the agent goes on trying");
        }
        Notice::Trouble { reason, first: false } => {
            tracing::debug!(reason, "the gateway still can't be asked")
        }
        Notice::Reached => tracing::info!("the gateway answers again"),
        Notice::TunnelOpened => tracing::info!("the tunnel is open"),
        Notice::TunnelFailed { reason, changed: true } => {
            tracing::warn!(reason, "the tunnel could not be opened")
        }
        Notice::TunnelFailed { reason, changed: false } => {
            tracing::debug!(reason, "the tunnel still can't be opened");
        }
        Notice::Idle => tracing::debug!("the tunnel is idle"),
        Notice::SnapshotStored => tracing::info!("a snapshot was sent"),
        Notice::SnapshotDelayed { reason } => {
            tracing::debug!(reason, "a snapshot could not be sent; it is sent again")
        }
        Notice::SnapshotGivenUp { reason, tries } => {
            tracing::warn!(reason, tries, "a snapshot could not be sent")
        }
        Notice::SnapshotLate => {
            tracing::warn!("the tunnel closes without its snapshot, which took too long to deliver");
        }
        Notice::CloseRefused => tracing::debug!("the tunnel stays open: somebody needs it"),
        Notice::TunnelClosed => tracing::info!("the tunnel is closed"),
        Notice::TunnelDismissed { reason } => tracing::info!(reason, "the gateway closed the tunnel"),
        Notice::TunnelLost { reason } => tracing::warn!(reason, "the tunnel is lost"),
        Notice::OfferIgnored => tracing::debug!("an offer is ignored: there is a tunnel"),
    }
}
