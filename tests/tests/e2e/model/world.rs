//! The simulated world: one gateway, the agents of one edge, operators, and what lies between them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use edge_agent::lifecycle::{
    Attempt, Command as AgentCommand, Event as AgentEvent, Failure, Lifecycle, Outcome, Pace,
};
use edge_agent::lifecycle::{Roll, Sent, Start, TunnelEvent};
use gateway::domain::Now;
use gateway::domain::edge::{Change, EdgeRecord, Records, Settings, Timestamp};
use gateway::domain::registry::{Accepted, Command, Decision, Event, Origin, Registry, Token};
use gateway::domain::tunnel::{LinkId, Phase, WaiterId};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use shared::dial::CONNECT_TIMEOUT;
use shared::id::{EdgeId, EdgeKey, EndpointId, InstanceId, KeyDigest, OfferId, ServiceName};
use shared::tunnel::control::ToAgent;
use shared::wire::check_in::{
    Authorization, CheckIn, Hello, Identity, Offer, Service, ServiceKind, TunnelState,
};

/// What is to be simulated.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Instances of the edge; more than one make it a cluster.
    pub agents: usize,
    /// Whether machines are killed and networks broken.
    pub faults: bool,
}

const IDLE: Duration = Duration::from_secs(60);
/// Both sides know of a silent break within this.
const KEEPALIVE: Duration = Duration::from_secs(45);
/// An agent gives a connection up after this, whatever became of it.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);
/// Two intervals and ten seconds: how long a waiter waits, and a moment.
const PATIENCE: Duration = Duration::from_secs(21);
/// An eager agent dials again after this, beside what is under way.
const EAGER_DIAL: Duration = Duration::from_secs(1);
/// An eager agent has checked in so soon after its network's return: 1.5 s from one question to the next, and the way.
const BACK: Duration = Duration::from_secs(2);
/// Of the check-ins, so many arrive a second time.
const STRAYS: f64 = 0.02;
/// After a fault the world is given so long until its promises hold again: keep-alives, back-off, a stale instance.
const RECOVERY: Duration = Duration::from_secs(180);

/// Something on its way.
#[derive(Debug)]
enum Arrival {
    /// With the time at which the agent gives up, if it dials again and again until then.
    CheckIn {
        site: usize,
        life: u32,
        body: CheckIn,
        eager: Option<Instant>,
    },
    Answer {
        site: usize,
        life: u32,
        outcome: Outcome,
    },
    LogIn {
        site: usize,
        life: u32,
        attempt: Attempt,
        offer: OfferId,
        credentials: String,
    },
    LinkUp {
        link: LinkId,
    },
    ToAgent {
        link: LinkId,
        message: ToAgent,
    },
    AskClose {
        link: LinkId,
    },
    AgentSees {
        site: usize,
        life: u32,
        attempt: Attempt,
        event: TunnelEvent,
    },
    GatewaySees {
        link: LinkId,
    },
    SnapshotTried {
        site: usize,
        life: u32,
        sent: Sent,
    },
    Committed {
        ticket: gateway::domain::registry::Ticket,
    },
    StreamEnds {
        link: LinkId,
    },
    /// A check-in's copy, whose answer nobody hears.
    Stray {
        site: usize,
        body: CheckIn,
    },
    Heal {
        site: usize,
    },
    Revive {
        site: usize,
    },
    Operator,
    Fault,
}

#[derive(Debug)]
struct InFlight(Instant, u64, Arrival);

impl PartialEq for InFlight {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for InFlight {}
impl PartialOrd for InFlight {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for InFlight {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// One agent's machine.
struct Site {
    instance: InstanceId,
    /// `None` while it is dead.
    lifecycle: Option<Lifecycle>,
    /// Counts its lives, so that what was meant for an earlier one gets lost.
    life: u32,
    online: bool,
    said_hello: bool,
    /// The last offer that it used, on its disk.
    last_offer: Option<OfferId>,
    /// It dials into a network that is broken.
    eager: bool,
    /// The network is back, and so must the agent be by then.
    back_by: Option<Instant>,
}

/// An SSH connection, known to both ends or to one.
struct Link {
    site: usize,
    life: u32,
    attempt: Attempt,
    offer: OfferId,
    streams: usize,
    /// It carries nothing any more, though an end may not know.
    broken: bool,
}

/// A login that the gateway is asked about.
struct LogIn {
    site: usize,
    life: u32,
    attempt: Attempt,
    offer: OfferId,
    username: String,
}

/// The simulated world.
pub struct World {
    now: Instant,
    started: Instant,
    seed: u64,
    rng: StdRng,
    plan: Plan,
    queue: BinaryHeap<Reverse<InFlight>>,
    sent: u64,
    registry: Registry,
    record: EdgeRecord,
    key: EdgeKey,
    edge_id: EdgeId,
    sites: Vec<Site>,
    links: HashMap<LinkId, Link>,
    /// Links that the gateway admitted and neither closed nor lost.
    live: HashSet<LinkId>,
    used: HashSet<String>,
    waiters: BTreeMap<WaiterId, Instant>,
    tokens: HashMap<Token, (usize, u32)>,
    logins: HashMap<Token, LogIn>,
    next: u64,
    last_fault: Option<Instant>,
    operators: bool,
    last_sent: HashMap<(usize, u8), Instant>,
}

impl World {
    pub fn new(seed: u64, plan: Plan) -> Self {
        let started = Instant::now();
        let (key, edge_id) = (EdgeKey::from_bytes([1; 32]), EdgeId::from_bytes([2; 16]));
        let record = EdgeRecord {
            endpoint: EndpointId::from_bytes([3; 16]),
            name: "shop".parse().expect("a label"),
            key: key.digest(),
            bound: None,
            cluster: plan.agents > 1,
            interval: None,
            idle_timeout: Some(IDLE),
            tags: vec![],
            created_at: Timestamp(0),
            stock_key: None,
        };
        let mut world = Self {
            now: started,
            started,
            seed,
            rng: StdRng::seed_from_u64(seed),
            plan,
            queue: BinaryHeap::new(),
            sent: 0,
            registry: Registry::new(records(&record), Now { instant: started, wall: Timestamp(0) }),
            record,
            key,
            edge_id,
            sites: Vec::new(),
            links: HashMap::new(),
            live: HashSet::new(),
            used: HashSet::new(),
            waiters: BTreeMap::new(),
            tokens: HashMap::new(),
            logins: HashMap::new(),
            next: 0,
            last_fault: None,
            operators: true,
            last_sent: HashMap::new(),
        };
        for number in 0..plan.agents {
            let roll = world.roll();
            world.sites.push(Site {
                instance: InstanceId::from_bytes([10 + number as u8; 16]),
                lifecycle: Some(Lifecycle::new(Start::Joined, started, roll)),
                life: 0,
                online: true,
                said_hello: false,
                last_offer: None,
                eager: false,
                back_by: None,
            });
        }
        world.after(Duration::from_secs(5), Arrival::Operator);
        if plan.faults {
            world.after(Duration::from_secs(60), Arrival::Fault);
        }
        world
    }

    /// What arrived so far.
    pub fn events(&self) -> u64 {
        self.sent
    }

    /// Lets the time pass.
    pub fn live(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step();
        }
    }

    /// Operators go home and faults end: everything must close by itself.
    pub fn come_to_rest(&mut self) {
        self.operators = false;
        self.plan.faults = false;
        // Faults heal within 3 min, streams end within 10, then idle time and the back-off of agents.
        self.live(Duration::from_secs(1800));
        let edge = self.registry.edge(&self.record.name).expect("it was never deleted");
        assert_eq!(edge.tunnel.phase(), Phase::Idle, "seed {}: the gateway's side is at rest", self.seed);
        assert!(self.waiters.is_empty(), "seed {}: nobody waits", self.seed);
        for site in &self.sites {
            let state = site.lifecycle.as_ref().expect("all machines are up").tunnel_state();
            assert_eq!(state, TunnelState::Closed, "seed {}: the agent's side is at rest", self.seed);
        }
    }

    /// Up to the next thing that happens.
    fn step(&mut self) {
        let arrival = self.queue.peek().map(|Reverse(next)| next.0);
        let gateway = self.registry.deadline();
        let agents = self.sites.iter().filter_map(|site| site.lifecycle.as_ref()?.deadline()).min();
        let next =
            [arrival, gateway, agents].into_iter().flatten().min().expect("operators and agents never rest");
        self.now = self.now.max(next);
        self.sent += 1;
        if arrival == Some(next) {
            let Reverse(InFlight(_, _, arrival)) = self.queue.pop().expect("it was peeked");
            self.arrive(arrival);
        } else if gateway == Some(next) {
            self.tell_gateway(Event::Tick);
            assert!(
                self.registry.deadline().is_none_or(|at| at > self.now),
                "seed {}: a tick helps",
                self.seed
            );
        } else {
            let due = |site: &Site| site.lifecycle.as_ref().and_then(Lifecycle::deadline) == Some(next);
            let site = self.sites.iter().position(due).expect("one of them was the next");
            self.tell_agent(site, AgentEvent::Tick);
        }
        for site in &self.sites {
            let late = site.back_by.is_some_and(|by| self.now > by && site.online);
            assert!(!late, "seed {}: an eager agent is not back in time", self.seed);
        }
        for (waiter, since) in &self.waiters {
            assert!(self.now - *since <= PATIENCE, "seed {}: {waiter:?} was forgotten", self.seed);
        }
    }

    fn arrive(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::CheckIn { site, life, body, eager } => self.check_in_arrives(site, life, body, eager),
            Arrival::Answer { site, life, outcome } => {
                if self.alive(site, life) {
                    let lost = no_network();
                    let outcome = if self.sites[site].online { outcome } else { lost };
                    self.tell_agent(site, AgentEvent::CheckedIn(outcome));
                }
            }
            Arrival::LogIn { site, life, attempt, offer, credentials } => {
                let (username, password) = credentials.split_once(':').expect("made so");
                let (token, username) = (self.token(), username.to_owned());
                let login = LogIn { site, life, attempt, offer, username: username.clone() };
                self.logins.insert(token, login);
                let password = KeyDigest::of(password.as_bytes());
                self.tell_gateway(Event::LogIn { token, username, password });
            }
            Arrival::LinkUp { link } => {
                if self.carries(link) {
                    self.tell_gateway(Event::LinkUp { link, services: vec![web()] });
                }
            }
            Arrival::ToAgent { link, message } => self.message_arrives(link, message),
            Arrival::AskClose { link } => {
                if self.carries(link) {
                    self.tell_gateway(Event::AskClose { link });
                }
            }
            Arrival::AgentSees { site, life, attempt, event } => {
                if self.alive(site, life) {
                    self.tell_agent(site, AgentEvent::Tunnel(attempt, event));
                }
            }
            Arrival::GatewaySees { link } => {
                if self.links.remove(&link).is_some() {
                    self.live.remove(&link);
                    self.tell_gateway(Event::LinkDown { link, reason: "gone".into() });
                }
            }
            Arrival::SnapshotTried { site, life, sent } => {
                if self.alive(site, life) {
                    self.tell_agent(site, AgentEvent::Snapshot(sent));
                }
            }
            Arrival::Committed { ticket } => self.tell_gateway(Event::Committed { ticket, result: Ok(()) }),
            Arrival::StreamEnds { link } => self.stream_ends(link),
            Arrival::Stray { site, body } => {
                // What it brings about, an offer that nobody gets, is a fault as any other.
                self.last_fault = Some(self.now);
                let token = self.token();
                self.ask_gateway(token, site, body);
            }
            Arrival::Heal { site } => {
                let site = &mut self.sites[site];
                site.online = true;
                // Unless it was killed meanwhile: whoever starts anew knows nothing of its earlier life.
                site.back_by = (site.eager && site.lifecycle.is_some()).then(|| self.now + BACK);
            }
            Arrival::Revive { site } => {
                let roll = self.roll();
                let start = Start::Again { last_offer: self.sites[site].last_offer };
                self.sites[site].lifecycle = Some(Lifecycle::new(start, self.now, roll));
            }
            Arrival::Operator => self.operator(),
            Arrival::Fault => self.fault(),
        }
    }

    fn check_in_arrives(&mut self, site: usize, life: u32, body: CheckIn, eager: Option<Instant>) {
        if !self.sites[site].online {
            if eager.is_some_and(|until| self.now < until) && self.alive(site, life) {
                self.sites[site].eager = true;
                self.after(EAGER_DIAL, Arrival::CheckIn { site, life, body, eager });
                return;
            }
            let outcome = no_network();
            let lost = if eager.is_some() { Duration::ZERO } else { Duration::from_secs(10) };
            self.after(lost, Arrival::Answer { site, life, outcome });
            return;
        }
        (self.sites[site].eager, self.sites[site].back_by) = (false, None);
        let token = self.token();
        self.tokens.insert(token, (site, life));
        if self.plan.faults && self.rng.random_bool(STRAYS) {
            // It arrives once more, much later: something on the way kept a copy.
            let late = self.within(Duration::from_secs(60));
            self.after(late, Arrival::Stray { site, body: body.clone() });
        }
        self.ask_gateway(token, site, body);
    }

    fn ask_gateway(&mut self, token: Token, site: usize, body: CheckIn) {
        let reported = body.failed.as_ref().map(|failed| failed.offer);
        let before = self.live.clone();
        let authorization = Authorization { edge_id: self.edge_id, key: self.key.clone() };
        let who = Identity { authorization, instance: self.sites[site].instance };
        let origin = Origin { address: IpAddr::V4(Ipv4Addr::LOCALHOST), ssh: "gate:8000".into() };
        self.tell_gateway(Event::CheckIn { token, who, body, origin });
        let mut cut_off = false;
        for closed in before.difference(&self.live) {
            let link = &self.links[closed];
            assert_eq!(Some(link.offer), reported, "seed {}: a report closes its own link only", self.seed);
            cut_off = link.streams > 0;
        }
        let reports = |link: &LinkId| self.links.get(link).map(|link| link.offer) == reported;
        assert!(
            reported.is_none() || !self.live.iter().any(reports),
            "seed {}: a link that its agent lost is retired",
            self.seed
        );
        let edge = self.registry.edge(&self.record.name).expect("it was never deleted");
        let known =
            edge.instances.find(self.sites[site].instance).is_some_and(|instance| instance.hello.is_some());
        if reported.is_some() && known && self.plan.agents == 1 && (cut_off || !self.waiters.is_empty()) {
            let phase = edge.tunnel.phase();
            assert!(phase == Phase::Offered, "seed {}: the report was no use, it is {phase:?}", self.seed);
        }
    }

    fn message_arrives(&mut self, id: LinkId, message: ToAgent) {
        if !self.carries(id) {
            return;
        }
        let link = &self.links[&id];
        let (site, life, attempt) = (link.site, link.life, link.attempt);
        let event = match message {
            ToAgent::Welcome { .. } => TunnelEvent::Opened { idle_timeout: IDLE },
            ToAgent::Hold => TunnelEvent::Held,
            ToAgent::Snapshot => TunnelEvent::SnapshotWanted,
            ToAgent::CloseGranted => TunnelEvent::CloseGranted,
            ToAgent::CloseRefused => TunnelEvent::CloseRefused,
        };
        if self.alive(site, life) {
            self.tell_agent(site, AgentEvent::Tunnel(attempt, event));
        }
    }

    fn stream_ends(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.streams -= 1;
        let (site, life, attempt) = (link.site, link.life, link.attempt);
        self.tell_gateway(Event::StreamEnded { link: id });
        self.in_order(site, 0, Arrival::AgentSees { site, life, attempt, event: TunnelEvent::StreamEnded });
    }

    /// An operator asks for a stream, sometimes loses patience, and comes back after a while.
    fn operator(&mut self) {
        if !self.operators {
            return;
        }
        self.next += 1;
        let waiter = WaiterId(self.next);
        self.waiters.insert(waiter, self.now);
        self.tell_gateway(Event::Want { waiter, edge: self.record.name.clone(), service: Some(web()) });
        if self.rng.random_bool(0.1) && self.waiters.remove(&waiter).is_some() {
            self.tell_gateway(Event::GiveUp { waiter });
        }
        // Often while the last tunnel is closing: that is where requests could get lost.
        let pause = if self.rng.random_bool(0.5) { 55.0..75.0 } else { 0.0..200.0 };
        let pause = Duration::from_secs_f64(self.rng.random_range(pause));
        self.after(pause, Arrival::Operator);
    }

    fn fault(&mut self) {
        if !self.plan.faults {
            return;
        }
        self.last_fault = Some(self.now);
        let site = self.rng.random_range(0..self.sites.len());
        match self.rng.random_range(0..4) {
            0 => self.cut_network(site),
            1 => self.kill_agent(site),
            2 => self.kill_gateway(),
            _ => self.break_links(site),
        }
        let pause = Duration::from_secs_f64(self.rng.random_range(1.0..400.0));
        self.after(pause, Arrival::Fault);
    }

    /// Nothing gets through, and no end is told.
    fn cut_network(&mut self, site: usize) {
        self.sites[site].online = false;
        let heal = Duration::from_secs_f64(self.rng.random_range(0.1..100.0));
        self.after(heal, Arrival::Heal { site });
        self.last_fault = Some(self.now + heal);
        for (id, life, attempt) in self.breakable(site) {
            let (one, other) = (self.within(KEEPALIVE), self.within(KEEPALIVE));
            self.after(one, Arrival::GatewaySees { link: id });
            let event = TunnelEvent::Ended { reason: "silence".into() };
            self.after(other, Arrival::AgentSees { site, life, attempt, event });
        }
    }

    /// A reset that both ends see.
    fn break_links(&mut self, site: usize) {
        for (id, life, attempt) in self.breakable(site) {
            let (one, other) = (self.delay(), self.delay());
            self.after(one, Arrival::GatewaySees { link: id });
            let event = TunnelEvent::Ended { reason: "reset".into() };
            self.after(other, Arrival::AgentSees { site, life, attempt, event });
        }
    }

    fn kill_agent(&mut self, site: usize) {
        if self.sites[site].lifecycle.take().is_none() {
            return;
        }
        self.sites[site].life += 1;
        self.sites[site].said_hello = false;
        (self.sites[site].eager, self.sites[site].back_by) = (false, None);
        // Its kernel says goodbye for it, unless the power went.
        let power = self.rng.random_bool(0.5);
        for (id, ..) in self.breakable(site) {
            let seen = if power { self.delay() } else { self.within(KEEPALIVE) };
            self.after(seen, Arrival::GatewaySees { link: id });
        }
        let pause = Duration::from_secs_f64(self.rng.random_range(0.1..60.0));
        self.last_fault = Some(self.now + pause);
        self.after(pause, Arrival::Revive { site });
    }

    /// What was durable is all that is left.
    fn kill_gateway(&mut self) {
        let now = self.gateway_now();
        self.registry = Registry::new(records(&self.record), now);
        self.live.clear();
        self.waiters.clear();
        self.tokens.clear();
        self.logins.clear();
        let links: Vec<_> = self.links.drain().map(|(_, link)| link).collect();
        for link in links {
            let seen = self.delay();
            let event = TunnelEvent::Ended { reason: "gateway gone".into() };
            let (site, life, attempt) = (link.site, link.life, link.attempt);
            self.after(seen, Arrival::AgentSees { site, life, attempt, event });
        }
        for site in 0..self.sites.len() {
            self.sites[site].said_hello = false;
            // Whatever was being answered is not any more; the agent sees its connection end.
            let life = self.sites[site].life;
            let reason = "connection reset".into();
            let outcome = Outcome::Trouble { reason, retry_after: None, reached: true };
            let seen = self.delay();
            self.after(seen, Arrival::Answer { site, life, outcome });
        }
        // The new process numbers its links and tickets anew.
        self.queue.retain(|Reverse(InFlight(_, _, arrival))| match arrival {
            Arrival::Committed { .. }
            | Arrival::GatewaySees { .. }
            | Arrival::LogIn { .. }
            | Arrival::LinkUp { .. }
            | Arrival::ToAgent { .. }
            | Arrival::AskClose { .. }
            | Arrival::StreamEnds { .. } => false,
            Arrival::CheckIn { .. }
            | Arrival::Stray { .. }
            | Arrival::Answer { .. }
            | Arrival::AgentSees { .. }
            | Arrival::SnapshotTried { .. }
            | Arrival::Heal { .. }
            | Arrival::Revive { .. }
            | Arrival::Operator
            | Arrival::Fault => true,
        });
    }

    /// Breaks the site's links; whoever broke them says when each end notices.
    fn breakable(&mut self, site: usize) -> Vec<(LinkId, u32, Attempt)> {
        let of_site = self.links.iter_mut().filter(|(_, link)| link.site == site && !link.broken);
        of_site
            .map(|(id, link)| {
                link.broken = true;
                (*id, link.life, link.attempt)
            })
            .collect()
    }

    fn tell_gateway(&mut self, event: Event) {
        let now = self.gateway_now();
        let mut out = Vec::new();
        self.registry.handle(event, now, &mut self.rng, &mut out);
        for command in out {
            self.gateway_orders(command);
        }
    }

    fn gateway_orders(&mut self, command: Command) {
        match command {
            Command::CheckIn { token, answer } => {
                let Some((site, life)) = self.tokens.remove(&token) else { return };
                let outcome = match answer {
                    Ok(Accepted { decision, .. }) => {
                        if matches!(decision, Decision::NotNeeded { hello_wanted: true, .. }) {
                            self.sites[site].said_hello = false;
                        }
                        answered(decision)
                    }
                    Err(refusal) => {
                        Outcome::Trouble { reason: refusal.to_string(), retry_after: None, reached: true }
                    }
                };
                let delay = self.delay();
                self.after(delay, Arrival::Answer { site, life, outcome });
            }
            Command::LogIn { token, answer } => {
                self.login_answered(token, answer.map(|admitted| admitted.link))
            }
            Command::Commit { ticket, batch } => {
                for change in batch {
                    if let Change::PutEdge(record) = change {
                        self.record = record;
                    }
                }
                let delay = self.delay();
                self.after(delay, Arrival::Committed { ticket });
            }
            Command::Grant { waiter, link } => self.granted(waiter, link),
            Command::Deny { waiter, error } => {
                let since = self.waiters.remove(&waiter);
                let since = since.unwrap_or_else(|| panic!("seed {}: {waiter:?} answered twice", self.seed));
                let calm = self.last_fault.is_none_or(|at| since > at + RECOVERY);
                assert!(!calm, "seed {}: after {:?}: {error}", self.seed, self.now - self.started);
            }
            Command::Close { link, .. } => {
                self.live.remove(&link);
                self.break_one(link);
            }
            Command::Tell { link, message } => {
                if message == ToAgent::CloseGranted {
                    let streams = self.links.get(&link).map_or(0, |link| link.streams);
                    assert_eq!(streams, 0, "seed {}: a tunnel in use is not closed", self.seed);
                }
                if let Some(site) = self.links.get(&link).map(|link| link.site) {
                    self.in_order(site, 0, Arrival::ToAgent { link, message });
                }
            }
            Command::Publish(_)
            | Command::Change { .. }
            | Command::CreatedMany { .. }
            | Command::Bound { .. } => {}
        }
    }

    fn login_answered(&mut self, token: Token, admitted: Option<LinkId>) {
        let Some(LogIn { site, life, attempt, offer, username }) = self.logins.remove(&token) else { return };
        let Some(link) = admitted else {
            let failure = Failure { reason: "refused".into(), lasting: false };
            let event = TunnelEvent::Failed(failure);
            self.in_order(site, 0, Arrival::AgentSees { site, life, attempt, event });
            return;
        };
        assert!(self.live.is_empty(), "seed {}: a second live link", self.seed);
        assert!(self.used.insert(username), "seed {}: credentials worked twice", self.seed);
        self.live.insert(link);
        let broken = !self.sites[site].online || self.sites[site].life != life;
        self.links.insert(link, Link { site, life, attempt, offer, streams: 0, broken });
        if broken {
            self.after(KEEPALIVE, Arrival::GatewaySees { link });
        } else {
            self.in_order(site, 1, Arrival::LinkUp { link });
        }
    }

    fn granted(&mut self, waiter: WaiterId, id: LinkId) {
        assert!(self.waiters.remove(&waiter).is_some(), "seed {}: {waiter:?} answered twice", self.seed);
        assert!(self.live.contains(&id), "seed {}: a grant on a dead link", self.seed);
        let Some(link) = self.links.get_mut(&id) else { return };
        link.streams += 1;
        let (site, life, attempt) = (link.site, link.life, link.attempt);
        self.in_order(site, 0, Arrival::AgentSees { site, life, attempt, event: TunnelEvent::StreamStarted });
        let lasts = if self.rng.random_bool(0.1) { 600.0 } else { 5.0 };
        let ends = Duration::from_secs_f64(self.rng.random_range(0.0..lasts));
        self.after(ends, Arrival::StreamEnds { link: id });
    }

    /// The gateway ended it; the agent hears of it.
    fn break_one(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.broken = true;
        let (site, life, attempt) = (link.site, link.life, link.attempt);
        // Its goodbye may be lost with the connection.
        let reason = "closed by the gateway".into();
        let event = if self.rng.random_bool(0.5) {
            TunnelEvent::Dismissed { reason }
        } else {
            TunnelEvent::Ended { reason }
        };
        let (one, other) = (self.delay(), self.delay());
        self.after(one, Arrival::AgentSees { site, life, attempt, event });
        self.after(other, Arrival::GatewaySees { link: id });
    }

    fn tell_agent(&mut self, site: usize, event: AgentEvent) {
        let roll = self.roll();
        let now = self.now;
        let Some(lifecycle) = self.sites[site].lifecycle.as_mut() else { return };
        let mut out = Vec::new();
        lifecycle.handle(event, now, roll, &mut out);
        for command in out {
            self.agent_orders(site, command);
        }
    }

    fn agent_orders(&mut self, site: usize, command: AgentCommand) {
        let life = self.sites[site].life;
        match command {
            // This gateway answers at once.
            AgentCommand::CheckIn { tunnel, failed, pace, wait: _ } => {
                let hello = (!self.sites[site].said_hello).then(|| hello(site, tunnel));
                self.sites[site].said_hello = true;
                let delay = self.delay();
                let eager = (pace == Pace::Eager).then(|| self.now + CONNECT_TIMEOUT);
                self.after(delay, Arrival::CheckIn { site, life, body: CheckIn { hello, failed }, eager });
            }
            AgentCommand::OpenTunnel(attempt, offer) => {
                let late = TunnelEvent::Failed(Failure { reason: "no answer".into(), lasting: false });
                self.after(CONNECT_LIMIT, Arrival::AgentSees { site, life, attempt, event: late });
                self.sites[site].last_offer = Some(offer.id);
                if self.sites[site].online {
                    let (offer, credentials) = (offer.id, offer.credentials);
                    self.in_order(site, 1, Arrival::LogIn { site, life, attempt, offer, credentials });
                } else {
                    let event = TunnelEvent::Failed(Failure { reason: "no network".into(), lasting: false });
                    self.after(Duration::from_secs(10), Arrival::AgentSees { site, life, attempt, event });
                }
            }
            AgentCommand::AskToClose(attempt) => {
                if let Some(link) = self.link_of(site, life, attempt) {
                    self.in_order(site, 1, Arrival::AskClose { link });
                }
            }
            AgentCommand::CloseTunnel(attempt) => {
                let event = TunnelEvent::Ended { reason: "left".into() };
                self.after(Duration::from_millis(1), Arrival::AgentSees { site, life, attempt, event });
                if let Some(link) = self.link_of(site, life, attempt) {
                    self.links.get_mut(&link).expect("just found").broken = true;
                    let delay = self.delay();
                    self.after(delay, Arrival::GatewaySees { link });
                }
            }
            AgentCommand::ProbeTunnel(attempt) => {
                if self.link_of(site, life, attempt).is_none() {
                    let event = TunnelEvent::Ended { reason: "probe".into() };
                    self.after(Duration::from_secs(10), Arrival::AgentSees { site, life, attempt, event });
                }
            }
            AgentCommand::TakeSnapshot => self.snapshot_tried(site, 20.0),
            AgentCommand::SendSnapshot => self.snapshot_tried(site, 5.0),
            AgentCommand::Tell(_) => {}
            AgentCommand::Exit => unreachable!("nobody stops an agent in order here"),
        }
    }

    /// The agent takes or sends a snapshot, for so many seconds at most; one of four finds the gateway busy.
    fn snapshot_tried(&mut self, site: usize, seconds: f64) {
        let busy = Sent::Failed { reason: "busy".into(), retry_after: Some(Duration::from_secs(1)) };
        let sent = if self.rng.random_bool(0.25) { busy } else { Sent::Stored };
        let takes = Duration::from_secs_f64(self.rng.random_range(0.1..seconds));
        let life = self.sites[site].life;
        self.after(takes, Arrival::SnapshotTried { site, life, sent });
    }

    fn link_of(&self, site: usize, life: u32, attempt: Attempt) -> Option<LinkId> {
        let same =
            |link: &Link| (link.site, link.life, link.attempt) == (site, life, attempt) && !link.broken;
        self.links.iter().find(|(_, link)| same(link)).map(|(id, _)| *id)
    }

    fn carries(&self, link: LinkId) -> bool {
        self.links.get(&link).is_some_and(|link| !link.broken)
    }

    fn alive(&self, site: usize, life: u32) -> bool {
        self.sites[site].life == life && self.sites[site].lifecycle.is_some()
    }

    fn after(&mut self, delay: Duration, arrival: Arrival) {
        self.next += 1;
        self.queue.push(Reverse(InFlight(self.now + delay, self.next, arrival)));
    }

    /// One connection keeps its order in each direction.
    fn in_order(&mut self, site: usize, direction: u8, arrival: Arrival) {
        let earliest = self.last_sent.get(&(site, direction)).copied().unwrap_or(self.now);
        let at = (self.now + self.delay()).max(earliest);
        self.last_sent.insert((site, direction), at);
        self.after(at - self.now, arrival);
    }

    fn delay(&mut self) -> Duration {
        Duration::from_millis(self.rng.random_range(1..400))
    }

    fn within(&mut self, time: Duration) -> Duration {
        time.mul_f64(self.rng.random_range(0.0..1.0))
    }

    fn roll(&mut self) -> Roll {
        Roll(self.rng.random_range(0.0..1.0))
    }

    fn token(&mut self) -> Token {
        self.next += 1;
        Token(self.next)
    }

    fn gateway_now(&self) -> Now {
        let wall = Timestamp((self.now - self.started).as_millis() as u64);
        Now { instant: self.now, wall }
    }
}

fn records(record: &EdgeRecord) -> Records {
    let settings = Settings { interval: Duration::from_secs(5), ..Settings::default() };
    Records { edges: vec![record.clone()], settings, ..Records::default() }
}

fn no_network() -> Outcome {
    Outcome::Trouble { reason: "no network".into(), retry_after: None, reached: false }
}

fn web() -> ServiceName {
    "web".parse().expect("a label")
}

fn hello(site: usize, tunnel: TunnelState) -> Hello {
    let service = Service { name: web(), kind: ServiceKind::Http, target: "http://127.0.0.1".into() };
    Hello {
        agent: "0.1.0".into(),
        protocol: 1,
        hostname: format!("node-{site}"),
        services: vec![service],
        tunnel,
    }
}

/// The answer as the agent reads it; the credentials are not sealed here, which is the envelope's own test.
fn answered(decision: Decision) -> Outcome {
    match decision {
        Decision::Unchanged => {
            Outcome::Answered { interval: None, offer: None, holds: false, rerouted: false }
        }
        Decision::NotNeeded { interval, .. } => {
            Outcome::Answered { interval: Some(interval), offer: None, holds: false, rerouted: false }
        }
        Decision::Needed { interval, offer, expires_in, ssh } => {
            let credentials = format!("{}:{}", offer.username, offer.password.expose());
            let expires_in_s = expires_in.as_secs() as u32;
            let offer = Offer { id: offer.id, ssh, credentials, expires_in_s };
            Outcome::Answered { interval: Some(interval), offer: Some(offer), holds: false, rerouted: false }
        }
    }
}
