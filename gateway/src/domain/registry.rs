//! All edges of the gateway, their durable changes, and the index of their deadlines. Pure.
//!
//! One edge is one [`Edge`]: its durable record, the agents that are live, the life of its tunnel. Whatever happens comes
//! in as an [`Event`]; what is to be done goes out as [`Command`]s. A durable change is first committed and only then
//! takes effect and is answered; while one of an edge is under way, whatever else concerns the edge's record or its
//! check-ins waits in its queue, in order. Changes of different edges don't wait for each other.
//!
//! What must always hold: every check-in, request, login and waiter is answered exactly once; nothing is answered as
//! done before its commit; a name and a key belong to one edge; an edge without deadline is not in the index, and a tick
//! touches due edges only; whatever happened to an edge is published, in order, after it is so.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

pub use census::Census;
pub use messages::{
    Accepted, Admitted, Command, Decision, Event, Fresh, Like, Origin, Request, Stands, Ticket, Token,
};
use shared::fingerprint::HostKeyFingerprint;
use shared::id::{EdgeName, EndpointId, KeyDigest, ServiceName};
use shared::tunnel::control::ToAgent;
use shared::wire::admin;
use shared::wire::check_in::Identity;
use waiting::{PATIENCE, Waiter, shutting_down};

use super::Now;
use super::edge::{EdgeRecord, Records, Settings, Timestamp};
use super::instances::{Instances, Rule};
use super::refusal::{AdminError, CheckInRefusal};
use super::tunnel::{self, LinkId, Tunnel, WaiterId};
use super::version::Condition;
pub use check_in::fresh_login;
pub use stock::{OneTime, Terms};

mod census;
mod changes;
mod check_in;
mod messages;
mod news;
mod presence;
mod stock;
#[cfg(test)]
mod tests;
mod waiting;

/// Events that may wait for one edge's durable change. A hundred agents that race for a fresh token fit well; beyond
/// that, callers are told to come again.
const MAX_PARKED: usize = 256;

/// What [`CheckInRefusal::Busy`] and [`AdminError::Busy`] tell.
const BUSY_RETRY_S: u32 = 5;

/// One edge.
#[derive(Debug)]
pub struct Edge {
    /// What is durable.
    pub record: EdgeRecord,
    /// The life of its tunnel.
    pub tunnel: Tunnel,
    /// Its agents.
    pub instances: Instances,
    /// Its last check-in as far as it was noted, also from before this start.
    noted_seen: Option<presence::Noted>,
    /// What its link carries, while one is up.
    services: Vec<ServiceName>,
    /// Credentials for one login of a stock SSH client.
    one_time: Option<OneTime>,
    /// Its durable change that is under way.
    busy: Option<Ticket>,
    /// It is being deleted.
    leaving: bool,
    /// What waits for that.
    parked: VecDeque<Event>,
    /// Where it stands in the index.
    due: Option<Instant>,
    /// Whether an agent is there, as was told last.
    presence: presence::Presence,
    /// Since when its tunnel is open, and by which link.
    opened: Option<(Instant, LinkId)>,
    /// How often it was told that the present wish for a tunnel was offered or failed.
    retries_told: u8,
}

/// All edges.
#[derive(Debug)]
pub struct Registry {
    edges: HashMap<EndpointId, Edge>,
    by_name: BTreeMap<EdgeName, EndpointId>,
    by_key: HashMap<KeyDigest, EndpointId>,
    by_username: HashMap<String, EndpointId>,
    by_link: HashMap<LinkId, EndpointId>,
    by_stock_key: HashMap<HostKeyFingerprint, EndpointId>,
    waiters: HashMap<WaiterId, Waiter>,
    deadlines: BTreeSet<(Instant, EndpointId)>,
    rounds: presence::Rounds,
    settings: Settings,
    pending: HashMap<Ticket, changes::Pending>,
    /// Names that a change under way will take.
    reserved: HashSet<EdgeName>,
    /// Edges whose creation failed, by their name: the store may have them all the same. Whoever takes the name next
    /// deletes them with it, so that no name is ever stored twice.
    ghosts: HashMap<EdgeName, Vec<EndpointId>>,
    settings_busy: bool,
    settings_parked: VecDeque<(Token, Condition, admin::Settings)>,
    seen: HashMap<EndpointId, Timestamp>,
    draining: bool,
    next: u64,
}

impl Registry {
    /// With what was stored.
    pub fn new(records: Records, now: Now) -> Self {
        let mut registry = Self {
            edges: HashMap::with_capacity(records.edges.len()),
            by_name: BTreeMap::new(),
            by_key: HashMap::with_capacity(records.edges.len()),
            by_username: HashMap::new(),
            by_link: HashMap::new(),
            by_stock_key: HashMap::new(),
            waiters: HashMap::new(),
            deadlines: BTreeSet::new(),
            rounds: presence::Rounds::new(now.instant),
            settings: records.settings,
            pending: HashMap::new(),
            reserved: HashSet::new(),
            ghosts: HashMap::new(),
            settings_busy: false,
            settings_parked: VecDeque::new(),
            seen: HashMap::new(),
            draining: false,
            next: 1,
        };
        for record in records.edges {
            registry.insert(record, now);
        }
        for (endpoint, at) in records.last_seen {
            if let Some(edge) = registry.edges.get_mut(&endpoint) {
                edge.noted_seen = Some(presence::Noted::before(at));
            }
        }
        let bound = registry.edges.values().filter(|edge| edge.record.bound.is_some());
        for endpoint in bound.map(|edge| edge.record.endpoint).collect::<Vec<_>>() {
            registry.await_return(endpoint, now);
        }
        registry
    }

    /// Takes one event; what is to be done is added to `out`. `rng` makes credentials.
    pub fn handle(&mut self, event: Event, now: Now, rng: &mut impl rand::Rng, out: &mut Vec<Command>) {
        match event {
            Event::CheckIn { token, who, body, origin } => {
                self.check_in(check_in::Question { token, who, body, origin }, now, rng, out);
            }
            Event::Change { token, condition, request } => self.change(token, condition, request, now, out),
            Event::CreateMany { token, edges, like } => self.create_many(token, edges, like, now, out),
            Event::Committed { ticket, result } => {
                let parked = self.committed(ticket, result, now, out);
                for event in parked {
                    self.handle(event, now, rng, out);
                }
            }
            Event::Want { waiter, edge, service } => self.want(waiter, edge, service, now, out),
            Event::GiveUp { waiter } => {
                if let Some(Waiter { endpoint, .. }) = self.waiters.remove(&waiter) {
                    self.on_tunnel(endpoint, tunnel::Event::GiveUp { waiter }, now, out);
                }
            }
            Event::LogIn { token, username, password } => self.log_in(token, &username, password, now, out),
            Event::LogInByKey { token, key } => self.log_in_by_key(token, &key, now, out),
            Event::LinkUp { link, services } => self.link_up(link, services, now, out),
            Event::LinkDown { link, reason } => {
                if let Some(endpoint) = self.by_link.remove(&link) {
                    self.note_stock_client(endpoint, now);
                    self.on_tunnel(endpoint, tunnel::Event::LinkDown { link, reason }, now, out);
                }
            }
            Event::AskClose { link } => self.on_link(link, tunnel::Event::AskClose { link }, now, out),
            Event::StreamEnded { link } => self.on_link(link, tunnel::Event::StreamEnded { link }, now, out),
            Event::Drain => self.drain(out),
            Event::Tick => self.tick(now, out),
        }
    }

    /// When [`Event::Tick`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        let of_tunnels = self.deadlines.first().map(|(at, _)| *at);
        of_tunnels.into_iter().chain(self.rounds.deadline()).min()
    }

    /// Raises the flag for as long as a waiter would wait, at least a minute; an open tunnel is held as long.
    pub fn raise(&mut self, name: &EdgeName, now: Now, out: &mut Vec<Command>) -> Result<(), AdminError> {
        let endpoint = self.endpoint(name)?;
        if self.draining {
            return Err(AdminError::Busy { retry_after_s: BUSY_RETRY_S });
        }
        let patience = self.patience(&self.edges[&endpoint]).max(tunnel::HOLD_EVERY + PATIENCE);
        self.on_tunnel(endpoint, tunnel::Event::Raise { until: now.instant + patience }, now, out);
        Ok(())
    }

    /// Lowers the flag and closes the tunnel; whoever waits is turned away.
    pub fn lower(&mut self, name: &EdgeName, now: Now, out: &mut Vec<Command>) -> Result<(), AdminError> {
        let endpoint = self.endpoint(name)?;
        self.on_tunnel(endpoint, tunnel::Event::Lower, now, out);
        Ok(())
    }

    /// The edge of this name.
    pub fn edge(&self, name: &EdgeName) -> Result<&Edge, AdminError> {
        Ok(&self.edges[&self.endpoint(name)?])
    }

    /// The edge with this id, unless it is being deleted.
    pub fn edge_of(&self, endpoint: EndpointId) -> Option<&Edge> {
        self.edges.get(&endpoint).filter(|edge| !edge.leaving)
    }

    /// All edges in order of name, from the first after `after`.
    pub fn edges_after(&self, after: Option<&EdgeName>) -> impl Iterator<Item = &Edge> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        self.by_name.range::<EdgeName, _>((from, Unbounded)).map(|(_, endpoint)| &self.edges[endpoint])
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What the edge's record and the settings say of its instances.
    pub fn rule(&self, edge: &Edge) -> Rule {
        Rule {
            cluster: edge.record.cluster,
            interval: edge.record.interval.unwrap_or(self.settings.interval),
        }
    }

    /// The idle time in force for an edge.
    pub fn idle_timeout(&self, edge: &Edge) -> Duration {
        edge.record.idle_timeout.unwrap_or(self.settings.idle_timeout)
    }

    /// Whose key this is, if this edge ID is bound to it: who may put a snapshot.
    pub fn identify(&self, who: &Identity) -> Result<EndpointId, CheckInRefusal> {
        let endpoint = self.by_key.get(&who.authorization.key.digest()).ok_or(CheckInRefusal::UnknownKey)?;
        match self.edges[endpoint].record.bound {
            Some(bound) if check_in::same_edge_id(&bound, &who.authorization.edge_id) => Ok(*endpoint),
            Some(_) | None => Err(CheckInRefusal::BoundToAnother),
        }
    }

    /// The edge that has this key.
    pub fn edge_of_key(&self, key: &KeyDigest) -> Option<EdgeName> {
        self.by_key.get(key).map(|endpoint| self.edges[endpoint].record.name.clone())
    }

    /// Notes the last check-in of every edge, before the last of [`Self::take_seen`].
    pub fn note_all_seen(&mut self, now: Now) {
        for (endpoint, edge) in &mut self.edges {
            edge.note_seen(now, *endpoint, &mut self.seen);
        }
    }

    /// Check-ins that were noted since the last call, to be written in a batch.
    pub fn take_seen(&mut self) -> Vec<(EndpointId, Timestamp)> {
        self.seen.drain().collect()
    }

    fn endpoint(&self, name: &EdgeName) -> Result<EndpointId, AdminError> {
        match self.by_name.get(name) {
            Some(endpoint) if !self.edges[endpoint].leaving => Ok(*endpoint),
            Some(_) | None => Err(AdminError::NoSuchEdge(name.clone())),
        }
    }

    fn insert(&mut self, record: EdgeRecord, now: Now) {
        self.by_name.insert(record.name.clone(), record.endpoint);
        self.by_key.insert(record.key, record.endpoint);
        if let Some(key) = &record.stock_key {
            self.by_stock_key.insert(key.fingerprint, record.endpoint);
        }
        let edge = Edge {
            tunnel: Tunnel::new(now),
            instances: Instances::default(),
            noted_seen: None,
            services: Vec::new(),
            one_time: None,
            busy: None,
            leaving: false,
            parked: VecDeque::new(),
            due: None,
            presence: presence::Presence::default(),
            opened: None,
            retries_told: 0,
            record,
        };
        self.edges.insert(edge.record.endpoint, edge);
    }

    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn log_in(
        &mut self,
        token: Token,
        username: &str,
        password: KeyDigest,
        now: Now,
        out: &mut Vec<Command>,
    ) {
        let link = LinkId(self.fresh());
        let answer = self.by_username.get(username).copied().and_then(|endpoint| {
            if self.edges[&endpoint].tunnel.username() != Some(username) {
                return self.log_in_once(endpoint, &password, link, now, out);
            }
            self.on_tunnel(endpoint, tunnel::Event::LogIn { password, link }, now, out);
            let edge = &self.edges[&endpoint];
            let hello = edge.tunnel.instance().and_then(|id| edge.instances.find(id)?.hello.as_ref());
            let services = hello.into_iter().flat_map(|h| &h.services).map(|s| s.name.clone()).collect();
            self.admitted(edge, link, services)
        });
        out.push(Command::LogIn { token, answer });
    }

    /// Whether the login that was to make this link has made it.
    fn admitted(&self, edge: &Edge, link: LinkId, services: Vec<ServiceName>) -> Option<Admitted> {
        (edge.tunnel.link() == Some(link)).then(|| Admitted {
            link,
            edge: edge.record.name.clone(),
            services,
            idle_timeout: self.idle_timeout(edge),
        })
    }

    fn link_up(&mut self, link: LinkId, services: Vec<ServiceName>, now: Now, out: &mut Vec<Command>) {
        let Some(endpoint) = self.by_link.get(&link).copied() else { return };
        let Some(edge) = self.edges.get_mut(&endpoint) else { return };
        edge.services = services;
        self.tell_idle_timeout(&self.edges[&endpoint], out);
        self.on_tunnel(endpoint, tunnel::Event::LinkUp { link }, now, out);
    }

    /// The link's agent greets or learns of a change; a stock client hears nothing of it.
    fn tell_idle_timeout(&self, edge: &Edge, out: &mut Vec<Command>) {
        if let Some(link) = edge.tunnel.link() {
            let idle_timeout_s = u32::try_from(self.idle_timeout(edge).as_secs()).unwrap_or(u32::MAX);
            out.push(Command::Tell { link, message: ToAgent::Welcome { idle_timeout_s } });
        }
    }

    fn on_link(&mut self, link: LinkId, event: tunnel::Event, now: Now, out: &mut Vec<Command>) {
        if let Some(endpoint) = self.by_link.get(&link).copied() {
            self.on_tunnel(endpoint, event, now, out);
        }
    }

    /// Lets the edge's tunnel take the event, and keeps the indexes in step.
    fn on_tunnel(&mut self, endpoint: EndpointId, event: tunnel::Event, now: Now, out: &mut Vec<Command>) {
        let Some(edge) = self.edges.get_mut(&endpoint) else { return };
        if let Some(username) = edge.tunnel.username() {
            self.by_username.remove(username);
        }
        let mut commands = Vec::new();
        let before = edge.tunnel.phase();
        let cause = news::cause(&event, before, self.draining);
        edge.tunnel.handle(event, now, &mut commands);
        let changed = edge.tunnel.phase() != before;
        if let Some(username) = edge.tunnel.username() {
            self.by_username.insert(username.to_owned(), endpoint);
        }
        let due = edge.tunnel.deadline();
        if due != edge.due {
            if let Some(before) = edge.due {
                self.deadlines.remove(&(before, endpoint));
            }
            if let Some(due) = due {
                self.deadlines.insert((due, endpoint));
            }
            edge.due = due;
        }
        if edge.tunnel.wants_an_offer() {
            // Whoever asks first gets it.
            edge.instances.close();
        }
        if changed {
            self.tell_phase(endpoint, before, cause, now, out);
        }
        for command in commands {
            match command {
                tunnel::Command::Grant { waiter, link } => self.grant(waiter, link, now, out),
                tunnel::Command::Deny { waiter, phase } => self.deny(waiter, phase, now, out),
                tunnel::Command::Admit { link } => {
                    self.by_link.insert(link, endpoint);
                }
                tunnel::Command::Close { link, reason } => out.push(Command::Close { link, reason }),
                tunnel::Command::Tell { link, message } => out.push(Command::Tell { link, message }),
            }
        }
    }

    fn drain(&mut self, out: &mut Vec<Command>) {
        self.draining = true;
        // What is held is answered now: from here on nothing is.
        self.edges.values().for_each(|edge| edge.instances.close());
        // Their tunnels would not open any more; the flag goes down with them.
        for (waiter, Waiter { .. }) in self.waiters.drain() {
            out.push(Command::Deny { waiter, error: shutting_down() });
        }
    }

    fn tick(&mut self, now: Now, out: &mut Vec<Command>) {
        while let Some((at, endpoint)) = self.deadlines.first().copied() {
            if at > now.instant {
                break;
            }
            self.on_tunnel(endpoint, tunnel::Event::Tick, now, out);
            if self.deadlines.first() == Some(&(at, endpoint)) {
                debug_assert!(false, "a tick moves the deadline that was due");
                self.deadlines.pop_first();
            }
        }
        self.look_round(now, out);
    }
}
