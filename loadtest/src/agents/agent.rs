//! One simulated agent: it joins, asks when it is due, opens tunnels when it is offered one, and vanishes when it is told.
//!
//! It differs from a real one in what a load needs: it asks at its scheduled times, whatever became of the last question,
//! where a real one backs off. Like a real one it asks once more on a new connection when the kept one turns out to be
//! closed, says hello with the first question of a connection, and asks again at once after an answer that was held.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use hyper::body::Bytes;
use shared::line::{self, Caller};
use shared::wire::check_in::{
    Answer, CheckIn, FailedOffer, Hello, Identity, Need, Offer, PROTOCOL_VERSION, Service, ServiceKind,
    TunnelState,
};
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::connection::{Connection, Endpoint};
use super::plan::{Plan, Vanishing};
use super::result::FailureKind;
use super::tally::{Answered, Gauge, Tally};
use super::tunnel::{Ground, SERVICE, Tunnel};
use super::wire::Ledger;

/// Pause before a first question is tried again.
const JOIN_AGAIN: Duration = Duration::from_secs(1);
/// How long the connection of an agent that fell silent stays as it is, before its socket is given back.
const SILENCE: Duration = Duration::from_secs(30);

/// What all agents of a process share.
#[derive(Debug)]
pub struct Common {
    /// Who is due when.
    pub plan: Plan,
    /// The begin of the run.
    pub epoch: Instant,
    /// Where they ask.
    pub endpoint: Endpoint,
    /// What their tunnels have in common.
    pub ground: Arc<Ground>,
    /// What happened so far.
    pub tally: Tally,
    /// Bounds how many join at a time.
    pub door: Semaphore,
    /// Connections come from addresses of 127.0.0.0/8.
    pub spread_sources: bool,
    /// A new connection for each question.
    pub reconnect_each: bool,
    /// Tunnels are to stay open until the end.
    pub keep_tunnels: bool,
    /// What connections cost that are closed.
    pub ledger: Ledger,
    /// Everybody goes home.
    pub over: CancellationToken,
}

impl Common {
    /// Time since the begin of the run.
    pub fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    fn source(&self, number: u32) -> Option<IpAddr> {
        self.spread_sources.then(|| self.plan.source(number).into())
    }
}

/// One agent.
#[derive(Debug)]
pub struct Agent {
    common: Arc<Common>,
    number: u32,
    identity: Identity,
    caller: Caller,
    connection: Option<(Connection, Gauge)>,
    hello_wanted: bool,
    /// How often it did something out of turn.
    turns: u32,
    /// Which start of the gateway answered it last.
    generation: u32,
    /// Says what became of the offer when no tunnel came of it, and fails when its tunnel has ended.
    tunnel: Option<oneshot::Receiver<FailedOffer>>,
    /// What to tell the gateway of an offer.
    failed: Option<FailedOffer>,
}

/// What an answer means for an agent.
#[derive(Debug)]
struct Heard {
    held: bool,
    offer: Option<Offer>,
}

impl Agent {
    /// The `number`th agent.
    pub fn new(common: Arc<Common>, number: u32, identity: Identity) -> Self {
        let caller = common.endpoint.caller(&identity);
        Self {
            common,
            number,
            identity,
            caller,
            connection: None,
            hello_wanted: true,
            turns: 0,
            generation: 0,
            tunnel: None,
            failed: None,
        }
    }

    /// Lives until the run is over. It vanishes when `vanish` says so.
    pub async fn run(mut self, mut vanish: mpsc::Receiver<Vanishing>) {
        let common = Arc::clone(&self.common);
        let over = common.over.clone();
        tokio::select! {
            () = self.join() => {}
            () = over.cancelled() => return,
        }
        let plan = common.plan;
        let mut due = plan.due_after(self.number, common.now());
        let mut returning = false;
        // On after the end of the measurement too: whoever raised a flag right before it still waits.
        loop {
            tokio::select! {
                () = over.cancelled() => break,
                Some(way) = vanish.recv() => {
                    self.leave(way);
                    returning = true;
                    continue;
                }
                // Where questions are held, the next one can be from now on.
                failed = ended(&mut self.tunnel), if common.endpoint.holds() => {
                    self.failed = failed;
                    due = common.now();
                }
                () = sleep_until(common.epoch + due) => {}
            }
            let question = if common.endpoint.holds() {
                common.tally.asks_patiently(due)
            } else {
                common.tally.asks(due)
            };
            let asked = common.now();
            let outcome = tokio::select! {
                () = over.cancelled() => break,
                Some(way) = vanish.recv() => Err(way),
                heard = self.check_in(|| question.reconnected()) => Ok(heard),
            };
            let now = common.now();
            due = match outcome {
                // It left in the middle of a question, which is cut.
                Err(way) => {
                    drop(question);
                    self.leave(way);
                    returning = true;
                    self.next(due, now)
                }
                Ok(Err(kind)) => {
                    question.failed(now, kind);
                    self.next(due, now)
                }
                Ok(Ok(heard)) => {
                    let offer = heard.offer.is_some();
                    // An answer with an offer was held as well, and does not say so: it is not to be asked for again at once.
                    let held = heard.held || (offer && common.endpoint.holds());
                    question.answered(now, if held { Answered::Held { offer } } else { Answered::AtOnce });
                    let generation = common.tally.generation();
                    if std::mem::replace(&mut self.generation, generation) != generation {
                        common.tally.comes_back(now);
                    }
                    if std::mem::take(&mut returning) {
                        common.tally.counts().returns.record(now.saturating_sub(asked));
                    }
                    if let Some(offer) = heard.offer {
                        self.open_tunnel(offer);
                    }
                    if heard.held { now } else { self.next_in_turn(due, now) }
                }
            };
        }
        // What was due and could not be asked, because an answer was late, is cut as well.
        let end = common.tally.window.end().filter(|_| !common.endpoint.holds());
        while end.is_some_and(|end| due < end) {
            drop(common.tally.asks(due));
            due += plan.interval();
        }
    }

    /// The first question, until it is answered.
    async fn join(&mut self) {
        let common = Arc::clone(&self.common);
        loop {
            {
                let _place = common.door.acquire().await.expect("the door is never closed");
                let begun = common.now();
                match self.check_in(|| {}).await {
                    Ok(_) => {
                        common.tally.joins(common.now().saturating_sub(begun));
                        return;
                    }
                    Err(kind) => *common.tally.counts().first_failures.entry(kind).or_default() += 1,
                }
            }
            sleep(JOIN_AGAIN).await;
        }
    }

    /// When to ask after an answer that was not held. Held questions have no turns.
    fn next_in_turn(&self, due: Duration, now: Duration) -> Duration {
        self.common.plan.interval() + if self.common.endpoint.holds() { now } else { due }
    }

    /// When to ask after trouble. Agents that lost their gateway together while it held their questions spread.
    fn next(&mut self, due: Duration, now: Duration) -> Duration {
        if !self.common.endpoint.holds() {
            return self.next_in_turn(due, now);
        }
        self.turns += 1;
        now + self.common.plan.jitter(self.number, self.turns)
    }

    /// One question, on a new connection if the kept one is closed or turns out to be.
    async fn check_in(&mut self, reconnected: impl Fn()) -> Result<Heard, FailureKind> {
        match self.tunnel.as_mut().map(oneshot::Receiver::try_recv) {
            Some(Ok(failed)) => (self.tunnel, self.failed) = (None, Some(failed)),
            Some(Err(TryRecvError::Closed)) => self.tunnel = None,
            Some(Err(TryRecvError::Empty)) | None => {}
        }
        let kept = self.connection.take().filter(|(kept, _)| !kept.is_closed());
        if let Some((mut kept, gauge)) = kept {
            match self.ask(&mut kept).await {
                Ok(reply) => return self.hear(kept, gauge, &reply),
                Err(FailureKind::Broken) => {}
                Err(kind) => return Err(kind),
            }
            reconnected();
        }
        self.hello_wanted = true;
        let mut fresh = Connection::open(&self.common.endpoint, self.common.source(self.number)).await?;
        let gauge = self.common.tally.connection();
        let reply = self.ask(&mut fresh).await?;
        self.hear(fresh, gauge, &reply)
    }

    async fn ask(&self, connection: &mut Connection) -> Result<line::Answer, FailureKind> {
        // As a real agent, it wants its answer now where it says hello, and while it has a tunnel.
        let patient = self.tunnel.is_none() && self.failed.is_none() && !self.hello_wanted;
        connection.ask(&self.common.endpoint, &self.caller, patient, self.report()).await
    }

    /// The hello, where one is due, and what became of an offer.
    fn report(&self) -> Option<Bytes> {
        let check_in =
            CheckIn { hello: self.hello_wanted.then(|| self.hello()), failed: self.failed.clone() };
        if check_in == CheckIn::default() {
            return None;
        }
        let json = serde_json::to_vec(&check_in);
        Some(json.expect("strings, numbers and lists have no failing serializer").into())
    }

    fn hello(&self) -> Hello {
        Hello {
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: PROTOCOL_VERSION,
            hostname: format!("host-{:05}", self.number),
            services: vec![Service {
                name: SERVICE.parse().expect("lower-case letters are a name"),
                kind: ServiceKind::Tcp,
                target: "the load harness".to_owned(),
            }],
            tunnel: TunnelState::Closed,
        }
    }

    /// Understands the answer, and keeps the connection.
    fn hear(
        &mut self,
        connection: Connection,
        gauge: Gauge,
        reply: &line::Answer,
    ) -> Result<Heard, FailureKind> {
        let answer = understood(reply)?;
        self.failed = None;
        self.hello_wanted = answer.as_ref().is_some_and(|answer| answer.hello_wanted);
        if self.common.reconnect_each {
            self.common.ledger.close(connection.local);
        } else {
            self.connection = Some((connection, gauge));
        }
        let offer = answer.filter(|answer| answer.need == Need::Tunnel).and_then(|answer| answer.offer);
        Ok(Heard { held: reply.holds(), offer })
    }

    fn open_tunnel(&mut self, offer: Offer) {
        let (alive, ended) = oneshot::channel();
        self.tunnel = Some(ended);
        let common = Arc::clone(&self.common);
        let (edge_id, source) = (self.identity.authorization.edge_id, common.source(self.number));
        tokio::spawn(async move {
            let begun = common.now();
            let tunnel = match Tunnel::open(&common.ground, &offer, &edge_id, source).await {
                Ok(tunnel) => tunnel,
                Err(kind) => {
                    *common.tally.counts().tunnel_failures.entry(kind).or_default() += 1;
                    // Its agent may be gone.
                    let _ = alive.send(FailedOffer { offer: offer.id, reason: kind.name().to_owned() });
                    return;
                }
            };
            let took = common.now().saturating_sub(begun);
            common.tally.counts().tunnel_openings.record(took);
            let open = common.tally.tunnel();
            tunnel.live(&common.over).await;
            drop((open, alive));
            if common.keep_tunnels && !common.over.is_cancelled() {
                common.tally.counts().tunnels_lost += 1;
            }
        });
    }

    /// Leaves without a goodbye.
    fn leave(&mut self, way: Vanishing) {
        self.common.tally.counts().vanished += 1;
        let Some((connection, _gauge)) = self.connection.take() else { return };
        match way {
            // Its socket is set to reset when it is closed, which is now.
            Vanishing::Reset => drop(connection),
            Vanishing::Silence => {
                let over = self.common.over.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        () = sleep(SILENCE) => {}
                        () = over.cancelled() => {}
                    }
                    drop(connection);
                });
            }
        }
    }
}

/// Waits until a tunnel that there is has ended, or did not come to be; for ever where there is none.
async fn ended(tunnel: &mut Option<oneshot::Receiver<FailedOffer>>) -> Option<FailedOffer> {
    let Some(ended) = tunnel else { return std::future::pending().await };
    let failed = ended.await.ok();
    *tunnel = None;
    failed
}

/// The body of a 200, nothing of a 204, and what went wrong of all else.
fn understood(reply: &line::Answer) -> Result<Option<Answer>, FailureKind> {
    match reply.status {
        StatusCode::NO_CONTENT => Ok(None),
        StatusCode::OK => serde_json::from_slice(&reply.body).map(Some).map_err(|_| FailureKind::Nonsense),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(FailureKind::Refused),
        StatusCode::CONFLICT => Err(FailureKind::Conflict),
        StatusCode::TOO_MANY_REQUESTS => Err(FailureKind::TooMany),
        status if status.is_server_error() => Err(FailureKind::Unavailable),
        _ => Err(FailureKind::Nonsense),
    }
}
