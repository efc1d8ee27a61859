//! The agent's driver: carries out what [`crate::lifecycle`] decides, and tells it what happens.
//!
//! One task owns the lifecycle. Check-ins, tunnels and snapshots are tasks beside it; it never waits for any of them.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use shared::dial::Dialer;
use shared::join_token::JoinToken;
use shared::wire::check_in::{
    Authorization, FailedOffer, Hello, Identity, Offer, PROTOCOL_VERSION, TunnelState,
};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::client::{Client, ClientError, Endpoint, Question};
use crate::config::Config;
use crate::exit::Exit;
use crate::lifecycle::{
    Attempt, Command, Event, Lifecycle, Notice, Outcome, Pace, Roll, Sent, Start, TunnelEvent,
};
use crate::services::Service;
use crate::slumber::Slumber;
use crate::state::{State, StateError};
use crate::status::Board;
use crate::status::socket::Socket;
use crate::tunnel::{Request, Site, Tunnel};
use crate::{page, snapshot};

/// Events of tunnels that wait for the lifecycle. It takes each in microseconds; a tunnel that finds the queue full
/// waits.
const TUNNEL_EVENTS: usize = 256;
/// How often it is looked whether the machine was asleep: as late a machine that woke may be noticed at its gateway.
const LOOK_AT_THE_CLOCK: Duration = Duration::from_secs(5);

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

struct Agent {
    /// Where it is noted how the agent is.
    board: Board,
    lifecycle: Lifecycle,
    started: Instant,
    endpoint: Endpoint,
    state: Arc<State>,
    site: Arc<Site>,
    hostname: String,
    /// The connection for check-ins. Whoever asks has it locked until there is an answer or the question is given up, so the
    /// next one waits for that moment.
    client: Arc<Mutex<Client>>,
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
    /// The question that is out. A newer one takes its place, and with it goes its answer.
    question: Option<AbortOnDropHandle<Outcome>>,
    tunnel_events: mpsc::Receiver<(Attempt, TunnelEvent)>,
    snapshot_tried: mpsc::Receiver<Tried>,
}

impl Agent {
    fn new(board: Board, endpoint: Endpoint, state: Arc<State>, site: Site, start: Start) -> Self {
        // One snapshot at a time: the lifecycle sees to it.
        let (snapshot_tried, snapshots_tried) = mpsc::channel(1);
        let (tunnel_events, tunnel_happened) = mpsc::channel(TUNNEL_EVENTS);
        Self {
            board,
            lifecycle: Lifecycle::new(start, Instant::now(), roll()),
            started: Instant::now(),
            client: Arc::new(Mutex::new(Client::new(endpoint.clone()))),
            endpoint,
            state,
            site: Arc::new(site),
            hostname: snapshot::host_name(),
            tunnel: None,
            tunnel_events,
            snapshot: None,
            snapshot_tried,
            inbox: Inbox { question: None, tunnel_events: tunnel_happened, snapshot_tried: snapshots_tried },
        }
    }

    async fn run(mut self, stop: CancellationToken) {
        let mut commands = Vec::new();
        let mut stopped = false;
        let mut slumber = Slumber::new(Instant::now(), SystemTime::now());
        let mut look = tokio::time::interval(LOOK_AT_THE_CLOCK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
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
                outcome = answered(&mut self.inbox.question) => Event::CheckedIn(outcome),
                Some((attempt, event)) = self.inbox.tunnel_events.recv() => Event::Tunnel(attempt, event),
                Some(Tried(snapshot, sent)) = self.inbox.snapshot_tried.recv() => {
                    self.snapshot = snapshot.filter(|_| sent != Sent::Stored);
                    Event::Snapshot(sent)
                }
                _ = look.tick() => match slumber.ended(Instant::now(), SystemTime::now()) {
                    Some(missing) => {
                        tracing::debug!(missing_s = missing.as_secs(), "this machine was asleep, or its clock was set");
                        Event::Woke
                    }
                    None => continue,
                },
                () = tick => Event::Tick,
            };
            if let Event::CheckedIn(outcome) = &event {
                self.board.checked_in(outcome, Instant::now(), SystemTime::now());
            }
            self.lifecycle.handle(event, Instant::now(), roll(), &mut commands);
            self.board.tunnel(self.lifecycle.tunnel_state(), SystemTime::now());
            self.board.holding(self.lifecycle.holding());
            for command in commands.drain(..) {
                match command {
                    Command::CheckIn { tunnel, failed, pace, wait } => {
                        self.check_in(tunnel, failed, pace, wait);
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

    fn check_in(
        &mut self,
        tunnel: TunnelState,
        failed: Option<FailedOffer>,
        pace: Pace,
        wait: Option<Duration>,
    ) {
        let hello = Hello {
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: PROTOCOL_VERSION,
            hostname: self.hostname.clone(),
            services: self.site.services.iter().map(Service::announced).collect(),
            tunnel,
        };
        let (client, question) = (Arc::clone(&self.client), Question { hello, failed, pace, wait });
        let asking = tokio::spawn(async move { client.lock().await.check_in(&question).await });
        self.inbox.question = Some(AbortOnDropHandle::new(asking));
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

/// What became of the question that is out; waits for ever where there is none.
async fn answered(question: &mut Option<AbortOnDropHandle<Outcome>>) -> Outcome {
    let Some(asking) = question else { return std::future::pending().await };
    let outcome = asking.await;
    *question = None;
    // It is given up only by whoever waits here, so it can but have panicked.
    outcome.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
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
        Notice::Cut { reason } => tracing::debug!(reason, "a check-in was cut off; the next one follows"),
        Notice::WayLimited(holding) => tracing::info!(
            cut_after_s = holding.cut.map(|cut| cut.as_secs()),
            held_s = holding.held.map(|held| held.as_secs()),
            "something between agent and gateway cuts off check-ins that are held; they are held for less, or not at all"
        ),
        Notice::WayFree => tracing::info!("check-ins that are held are cut off no more"),
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
