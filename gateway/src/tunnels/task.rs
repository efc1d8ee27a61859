//! The task itself: takes questions, lets the registry decide, runs the commands.

use super::history::History;
use super::watch::Events;
use super::within::Bounds;
use super::*;
use crate::domain::event::What;
use crate::domain::history::MAX_OPERATORS;
use shared::wire::admin::TunnelUse;

/// How often last-seen times go to the store. They are for people; losing half a minute of them in a crash is fine.
const SEEN_EVERY: Duration = Duration::from_secs(30);

/// How old a count of all edges may be while nothing happened to any: what changes without an event (another instance
/// of a cluster) shows after this. Bounds what those who ask for the gateway's status can cost.
const CENSUS_AGE: Duration = Duration::from_secs(1);

/// Questions taken in a row before the task looks at its other inputs.
const BATCH: usize = 256;

/// Where the task hears from.
pub(super) struct Inbox {
    pub(super) asked: mpsc::Receiver<Question>,
    pub(super) returned: mpsc::UnboundedReceiver<Return>,
    pub(super) streams_ended: mpsc::UnboundedReceiver<LinkId>,
}

/// A connection that was admitted.
struct Attached {
    closer: Closer,
    /// Once its services are announced.
    link: Option<Link>,
    /// Streams that were let through, and for whom.
    streams: u64,
    operators: Vec<String>,
}

/// Somebody who waits for a link.
pub(super) struct Waiting {
    pub(super) reply: oneshot::Sender<Result<Granted, OpenError>>,
    /// For whom, where it is for an operator's stream.
    pub(super) operator: Option<String>,
}

/// State of the task.
pub(super) struct Task {
    pub(super) registry: Registry,
    pub(super) check_ins: HashMap<Token, oneshot::Sender<Result<Accepted, CheckInRefusal>>>,
    pub(super) changes: HashMap<Token, oneshot::Sender<Result<(), AdminError>>>,
    pub(super) enrolments: HashMap<Token, oneshot::Sender<Result<Vec<EdgeName>, AdminError>>>,
    pub(super) logins: HashMap<Token, (oneshot::Sender<Option<Admitted>>, Closer)>,
    pub(super) waiters: HashMap<WaiterId, Waiting>,
    links: HashMap<LinkId, Attached>,
    snapshots: HashMap<EndpointId, Vec<oneshot::Sender<SnapshotBlob>>>,
    store: Arc<dyn Store>,
    audit: Audit,
    commits: JoinSet<(Ticket, Result<(), StoreError>)>,
    ended: mpsc::UnboundedSender<LinkId>,
    live: Arc<AtomicUsize>,
    pub(super) events: Events,
    bounds: Bounds,
    /// What the links that are gone carried.
    carried: Carried,
    telemetry: Telemetry,
    history: History,
    /// All edges counted, when, and after which event.
    census: Option<(Instant, EventId, Census)>,
    next_token: u64,
}

impl Task {
    pub(super) fn new(
        registry: Registry,
        (store, audit): (Arc<dyn Store>, Audit),
        ended: mpsc::UnboundedSender<LinkId>,
        (live, telemetry, history): (Arc<AtomicUsize>, Telemetry, History),
    ) -> Self {
        Self {
            registry,
            check_ins: HashMap::new(),
            changes: HashMap::new(),
            enrolments: HashMap::new(),
            logins: HashMap::new(),
            waiters: HashMap::new(),
            links: HashMap::new(),
            snapshots: HashMap::new(),
            store,
            audit,
            commits: JoinSet::new(),
            ended,
            live,
            events: Events::new(now().wall),
            bounds: Bounds::default(),
            carried: Carried::default(),
            telemetry,
            history,
            census: None,
            next_token: 0,
        }
    }

    /// Runs until the last handle is dropped, then writes what is left to write.
    pub(super) async fn run(mut self, mut inbox: Inbox) {
        let mut seen = tokio::time::interval(SEEN_EVERY);
        seen.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let deadline = self.registry.deadline();
            tokio::select! {
                Some(link) = inbox.streams_ended.recv() => self.handle(Event::StreamEnded { link }, now()),
                Some(returned) = inbox.returned.recv() => self.take_back(returned),
                Some(done) = self.commits.join_next(), if !self.commits.is_empty() => {
                    // A store that panicked promised nothing; the ticket's waiters go with the gateway.
                    let (ticket, result) = done.expect("a store's commit does not panic");
                    self.handle(Event::Committed { ticket, result }, now());
                }
                count = inbox.asked.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        break;
                    }
                    for question in batch.drain(..) {
                        question(&mut self, now());
                    }
                }
                () = sleep_until(deadline) => self.handle(Event::Tick, now()),
                _ = seen.tick() => self.write_seen(),
            }
        }
        self.registry.note_all_seen(now());
        self.write_seen();
        while self.commits.join_next().await.is_some() {}
    }

    pub(super) fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }

    pub(super) fn handle(&mut self, event: Event, now: Now) {
        self.run_commands(now, |registry, out| registry.handle(event, now, &mut rand::rng(), out));
    }

    /// Lets the registry decide, and does what it says.
    pub(super) fn run_commands<T>(
        &mut self,
        now: Now,
        decide: impl FnOnce(&mut Registry, &mut Vec<Command>) -> T,
    ) -> T {
        let mut commands = Vec::new();
        let result = decide(&mut self.registry, &mut commands);
        for command in commands {
            self.run_command(command, now);
        }
        result
    }

    fn run_command(&mut self, command: Command, now: Now) {
        match command {
            Command::CheckIn { token, answer } => {
                if let Some(reply) = self.check_ins.remove(&token) {
                    let _ = reply.send(answer);
                }
            }
            Command::Change { token, answer } => {
                if let Some(reply) = self.changes.remove(&token) {
                    let _ = reply.send(answer);
                }
            }
            Command::CreatedMany { token, answer } => {
                if let Some(reply) = self.enrolments.remove(&token) {
                    let _ = reply.send(answer);
                }
            }
            Command::LogIn { token, answer } => {
                if let Some((reply, closer)) = self.logins.remove(&token) {
                    if let Some(admitted) = &answer {
                        self.links.insert(
                            admitted.link,
                            Attached { closer, link: None, streams: 0, operators: Vec::new() },
                        );
                    }
                    let _ = reply.send(answer);
                }
            }
            Command::Commit { ticket, batch } => {
                let commit = self.store.commit(batch);
                self.commits.spawn(async move { (ticket, commit.await) });
            }
            Command::Bound { edge, edge_id, address } => {
                let fingerprint = audit::entry::edge_id_fingerprint(&edge_id);
                let entry = Entry::new(audit::entry::agent(&edge), "edge.bind").edge(&edge);
                // Check-ins wait for no record.
                self.audit.note(entry.from_ip(address).detail(&format!("edge ID {fingerprint}")));
            }
            Command::Grant { waiter, link } => self.grant(waiter, link, now),
            Command::Deny { waiter, error } => {
                if let Some(Waiting { reply, .. }) = self.waiters.remove(&waiter) {
                    let _ = reply.send(Err(error));
                }
            }
            Command::Close { link, reason } => {
                if let Some(attached) = self.links.get(&link) {
                    attached.closer.close(reason);
                    if let Some(link) = &attached.link {
                        link.retire();
                    }
                }
            }
            Command::Tell { link, message } => self.tell(link, message),
            Command::Publish(event) => {
                self.telemetry.happened(&event.what);
                self.history.note(&event, self.used(&event.what));
                self.bounds.heed(&event);
                self.events.publish(event);
            }
        }
    }

    fn grant(&mut self, waiter: WaiterId, id: LinkId, now: Now) {
        let link = self.links.get(&id).and_then(|attached| attached.link.clone());
        let waiting = self.waiters.remove(&waiter);
        match (link, waiting) {
            (Some(link), Some(Waiting { reply, operator })) => {
                self.note_use(id, operator);
                // If nobody waits any more, dropping the hold gives the stream back.
                let hold = Hold::new(id, self.ended.clone(), Arc::clone(&self.live));
                let _ = reply.send(Ok(Granted { link, hold }));
            }
            (None, _) | (_, None) => self.handle(Event::StreamEnded { link: id }, now),
        }
    }

    /// A stock client can't be told anything; what it can be is closed.
    fn tell(&mut self, id: LinkId, message: ToAgent) {
        let Some(attached) = self.links.get(&id) else { return };
        let close_granted = message == ToAgent::CloseGranted;
        let told = attached.link.as_ref().is_some_and(|link| link.tell(message));
        if close_granted && !told {
            attached.closer.close("idle");
        }
    }

    /// The edge of this name for as long as it is within `reach`; `None` where it is not, or there is none. To who
    /// reaches every edge, what there is is the registry's to say.
    pub(super) fn within(&mut self, name: &EdgeName, reach: Reach) -> Option<Within> {
        if reach.is_all() {
            return Some(Within::always());
        }
        self.bounds.within(&self.registry.edge(name).ok()?.record, reach)
    }

    pub(super) fn attach(&mut self, link: Link) {
        if let Some(attached) = self.links.get_mut(&link.id()) {
            attached.link = Some(link);
        }
    }

    fn note_use(&mut self, link: LinkId, operator: Option<String>) {
        let (Some(attached), Some(operator)) = (self.links.get_mut(&link), operator) else { return };
        attached.streams += 1;
        if attached.operators.len() < MAX_OPERATORS && !attached.operators.contains(&operator) {
            attached.operators.push(operator);
        }
    }

    /// What the tunnel was used for that ended with this event, if one did.
    fn used(&self, what: &What) -> Option<TunnelUse> {
        let What::TunnelClosed { link: Some(link), .. } = what else { return None };
        let attached = self.links.get(link)?;
        let (from_edge_bytes, to_edge_bytes) = attached.link.as_ref().map_or((0, 0), Link::carried);
        let (streams, operators) = (attached.streams, attached.operators.clone());
        Some(TunnelUse { streams, from_edge_bytes, to_edge_bytes, operators })
    }

    /// Edges within reach by status.
    pub(super) fn census(&mut self, reach: &Reach, now: Now) -> Census {
        if !reach.is_all() {
            return self.registry.census(|tags| reach.covers(tags), now);
        }
        let event = self.events.last();
        match self.census {
            Some((at, after, census)) if after == event && now.instant < at + CENSUS_AGE => census,
            Some(_) | None => {
                let census = self.registry.census(|_| true, now);
                self.census = Some((now.instant, event, census));
                census
            }
        }
    }

    /// What streams carried since the start.
    pub(super) fn carried(&self) -> Carried {
        let mut carried = self.carried;
        for link in self.links.values().filter_map(|attached| attached.link.as_ref()) {
            carried.add(link);
        }
        carried
    }

    pub(super) fn live_streams(&self) -> usize {
        self.live.load(Relaxed)
    }

    pub(super) fn close_all(&mut self, reason: &'static str) -> usize {
        for attached in self.links.values() {
            attached.closer.close(reason);
        }
        self.links.len()
    }

    pub(super) fn await_snapshot(&mut self, edge: EndpointId, arrival: oneshot::Sender<SnapshotBlob>) {
        let waiting = self.snapshots.entry(edge).or_default();
        waiting.retain(|arrival| !arrival.is_closed());
        waiting.push(arrival);
    }

    pub(super) fn snapshot_arrived(&mut self, edge: EndpointId, snapshot: &SnapshotBlob) {
        for arrival in self.snapshots.remove(&edge).into_iter().flatten() {
            let _ = arrival.send(snapshot.clone());
        }
    }

    fn take_back(&mut self, returned: Return) {
        match returned {
            Return::Waiter(waiter) => {
                self.waiters.remove(&waiter);
                self.handle(Event::GiveUp { waiter }, now());
            }
            Return::Link(link, reason) => {
                self.handle(Event::LinkDown { link, reason }, now());
                if let Some(gone) = self.links.remove(&link).and_then(|attached| attached.link) {
                    self.carried.add(&gone);
                }
            }
        }
    }

    fn write_seen(&mut self) {
        let seen = self.registry.take_seen();
        if seen.is_empty() {
            return;
        }
        let writing = self.store.put_last_seen(seen);
        tokio::spawn(async move {
            if let Err(error) = writing.await {
                tracing::warn!(%error, "last-seen times could not be stored");
            }
        });
    }
}

impl Carried {
    fn add(&mut self, link: &Link) {
        let (from_edge, to_edge) = link.carried();
        self.from_edges += from_edge;
        self.to_edges += to_edge;
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
