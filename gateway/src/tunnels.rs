//! The one task that owns the registry of edges and runs its commands; [`Tunnels`] is its handle.
//!
//! Everything that asks or changes something about an edge goes through here: check-ins, tunnel logins, the admin API,
//! operators' streams. Decisions are the registry's ([`crate::domain::registry`]); this file gives it clock, randomness,
//! store and links. No lock is held anywhere while the store or a peer is awaited, and the task itself never waits for
//! either: commits run beside it and come back as events.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

use shared::envelope::{self, Credentials};
use shared::fingerprint::HostKeyFingerprint;
use shared::id::{EdgeId, EdgeKey, EdgeName, EndpointId, KeyDigest, ServiceName};
use shared::secret::Secret;
use shared::tunnel::control::ToAgent;
use shared::tunnel::dial_failure::DialFailure;
use shared::wire::admin::{self, HistoryEntry};
use shared::wire::check_in::{self, Answer, CheckIn, Identity, Need};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::access::Operator;
use crate::audit::{self, Audit, Entry};
use crate::budget::Budget;
use crate::domain::Now;
use crate::domain::authority::Reach;
use crate::domain::edge::{Records, Settings, Timestamp};
use crate::domain::list::{self, Found};
pub use crate::domain::list::{Cursor, EdgeQuery};
pub use crate::domain::refusal::{AdminError, CheckInRefusal, OpenError};
use crate::domain::registry::{
    self, Accepted, Census, Command, Decision, Event, Fresh, Registry, Request, Ticket, Token,
};
pub use crate::domain::registry::{Admitted, Like, Origin, Stands, Terms};
use crate::domain::tunnel::{self, LinkId, WaiterId};
use crate::domain::version::{Condition, Version};
use crate::domain::view;
use crate::link::{Closer, Hold, Link, OpenFailure, Stream};
use crate::store::pulse::in_time;
use crate::store::{SnapshotBlob, Store, StoreError};
use crate::telemetry::Telemetry;

mod history;
mod task;
mod watch;
mod within;

use history::History;
pub use watch::{EventId, Numbered, Watch};
pub use within::Within;

/// Questions that may wait for the task. It answers tens of thousands a second; when this is full, askers wait.
const QUEUE: usize = 4096;

/// How long an agent may take for a snapshot that an operator waits for: 20 s to take it, the rest to send it.
const SNAPSHOT_TIME: Duration = Duration::from_secs(60);

/// How often a stream is tried anew when the link that it was let through to was just ending.
const OPEN_TRIES: usize = 5;

/// How long to wait for the registry to hear that a link is gone before the next try.
const GONE_TIME: Duration = Duration::from_secs(2);

/// The answer to a check-in that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckInAnswer {
    /// 204: nothing changed since the last answer.
    Unchanged,
    /// 200.
    Changed(Answer),
}

/// A freshly made edge: what the admin API shows once.
#[derive(Clone, Debug)]
pub struct NewEdge {
    /// Its public id.
    pub endpoint: EndpointId,
    /// Its name.
    pub name: EdgeName,
    /// Its key, of which the gateway keeps a digest only.
    pub key: EdgeKey,
}

/// Credentials for one login of a stock SSH client: what the admin API shows once.
#[derive(Clone, Debug)]
pub struct NewOffer {
    /// SSH user name.
    pub username: String,
    /// SSH password, of which the gateway keeps a digest only.
    pub password: Secret<String>,
    /// From then on they let nobody in.
    pub expires_at: Timestamp,
}

/// How it all stands at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measure {
    /// Edges by status.
    pub census: Census,
    /// What streams carried since the start.
    pub carried: Carried,
    /// Streams that are live.
    pub streams: usize,
    /// Readers of events.
    pub watchers: usize,
    /// Questions that waited for the task.
    pub queue: usize,
}

/// Bytes that streams carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// From edges to operators.
    pub from_edges: u64,
    /// From operators to edges.
    pub to_edges: u64,
}

/// A function that runs inside the task.
type Question = Box<dyn FnOnce(&mut task::Task, Now) + Send>;

/// Handle of the registry's task. Cheap to clone.
#[derive(Clone)]
pub struct Tunnels {
    questions: mpsc::Sender<Question>,
    returns: mpsc::UnboundedSender<Return>,
    store: Arc<dyn Store>,
    next_waiter: Arc<AtomicU64>,
    live: Arc<AtomicUsize>,
    telemetry: Telemetry,
    condition: Condition,
    history: History,
    budget: Option<Budget>,
}

impl std::fmt::Debug for Tunnels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tunnels").field("live_streams", &self.live_streams()).finish_non_exhaustive()
    }
}

/// What is given back to the registry, by whoever has it when it is dropped. Each is the end of something that was
/// granted, so there are never more of them than grants.
#[derive(Debug)]
enum Return {
    /// A waiter went away.
    Waiter(WaiterId),
    /// A link ended.
    Link(LinkId, String),
}

/// A link that a waiter was let through to.
struct Granted {
    link: Link,
    hold: Hold,
}

/// What a stream is wanted for.
#[derive(Clone, Copy)]
struct Errand<'a> {
    service: &'a ServiceName,
    operator: &'a Operator,
}

/// The task is gone only while the gateway is being torn down.
const TASK_LIVES: &str = "the registry's task lives as long as a handle does";

impl Tunnels {
    /// Starts the task. It ends when the last handle is dropped.
    pub fn start(store: Arc<dyn Store>, records: Records, audit: Audit, telemetry: Telemetry) -> Self {
        let (questions, asked) = mpsc::channel(QUEUE);
        let (returns, returned) = mpsc::unbounded_channel();
        let (ended, streams_ended) = mpsc::unbounded_channel();
        let live = Arc::new(AtomicUsize::new(0));
        let registry = Registry::new(records, now());
        let inbox = task::Inbox { asked, returned, streams_ended };
        let history = History::start(Arc::clone(&store));
        let watchers = (Arc::clone(&live), telemetry.clone(), history.clone());
        let task = task::Task::new(registry, (Arc::clone(&store), audit), ended, watchers);
        tokio::spawn(task.run(inbox));
        let condition = Condition::None;
        Self {
            questions,
            returns,
            store,
            next_waiter: Arc::default(),
            live,
            telemetry,
            condition,
            history,
            budget: None,
        }
    }

    /// A handle whose streams must find room.
    pub fn within(self, budget: Budget) -> Self {
        Self { budget: Some(budget), ..self }
    }

    /// A handle whose changes of what is there are made on this condition, or refused as stale. It is checked in the step
    /// that begins the change.
    pub fn provided(&self, condition: Condition) -> Self {
        Self { condition, ..self.clone() }
    }

    /// Answers a check-in, and says how its instance stands from then on.
    pub async fn check_in(
        &self,
        who: Identity,
        body: CheckIn,
        origin: Origin,
    ) -> Result<(CheckInAnswer, Stands), CheckInRefusal> {
        let edge_id = who.authorization.edge_id;
        // Only a binding waits for the disk.
        let answer = self.event(
            |token| Event::CheckIn { token, who, body, origin },
            |task, token, reply| {
                task.check_ins.insert(token, reply);
            },
        );
        let Accepted { decision, stands } = in_time(answer).await?;
        Ok((sealed(decision, &edge_id), stands))
    }

    /// Whose snapshot this is, if the agent may put one.
    pub async fn identify(&self, who: &Identity) -> Result<EndpointId, CheckInRefusal> {
        let who = who.clone();
        self.ask(move |task, _| task.registry.identify(&who)).await
    }

    /// The edge that has this key.
    pub async fn edge_of_key(&self, key: KeyDigest) -> Option<EdgeName> {
        self.ask(move |task, _| task.registry.edge_of_key(&key)).await
    }

    /// Stores the snapshot and wakes whoever waits for one of this edge.
    pub async fn put_snapshot(&self, edge: EndpointId, snapshot: SnapshotBlob) -> Result<(), StoreError> {
        in_time(self.store.put_snapshot(edge, snapshot.clone())).await?;
        self.ask(move |task, now| {
            task.run_commands(now, |registry, out| {
                registry.snapshot_stored(edge, snapshot.instance, now, out);
            });
            task.snapshot_arrived(edge, &snapshot);
        })
        .await;
        Ok(())
    }

    /// Creates an edge; durable before it returns.
    pub async fn create_edge(&self, new: admin::CreateEdge) -> Result<NewEdge, AdminError> {
        let created =
            NewEdge { endpoint: EndpointId::random(), name: new.name.clone(), key: EdgeKey::random() };
        self.change(Request::Create { new, endpoint: created.endpoint, key: created.key.digest() }).await?;
        Ok(created)
    }

    /// Creates many edges that are alike, in one commit; durable before it returns. Also returns the names that were taken,
    /// which are not among them.
    pub async fn create_edges(
        &self,
        names: Vec<EdgeName>,
        like: Like,
    ) -> Result<(Vec<NewEdge>, Vec<EdgeName>), AdminError> {
        let new = |name| NewEdge { endpoint: EndpointId::random(), name, key: EdgeKey::random() };
        let mut created: Vec<_> = names.into_iter().map(new).collect();
        let fresh =
            |new: &NewEdge| Fresh { name: new.name.clone(), endpoint: new.endpoint, key: new.key.digest() };
        let edges = created.iter().map(fresh).collect();
        let answer = self.event(
            |token| Event::CreateMany { token, edges, like },
            |task, token, reply| {
                task.enrolments.insert(token, reply);
            },
        );
        let taken = in_time(answer).await?;
        let refused: HashSet<_> = taken.iter().collect();
        created.retain(|new| !refused.contains(&new.name));
        Ok((created, taken))
    }

    /// A page of edges.
    pub async fn edges(&self, query: EdgeQuery) -> admin::EdgePage {
        let query = Arc::new(query);
        let mut found = Found::default();
        let mut from = None;
        loop {
            let query = Arc::clone(&query);
            let (more, last) =
                self.ask(move |task, now| list::look(&task.registry, &query, from.as_ref(), now)).await;
            found.add(more);
            if last.is_none() {
                break;
            }
            from = last;
        }
        let Found { rows, counts, total } = found;
        let (rows, more) = query.page(rows);
        let (edges, last) = self.ask(move |task, now| query.show(&task.registry, rows, now)).await;
        let next = last.filter(|_| more).map(|cursor| cursor.to_string());
        admin::EdgePage { edges, next, total, counts }
    }

    /// Those of these names that there are within `reach`, in the order of the names.
    pub async fn edges_named(&self, names: Vec<EdgeName>, reach: Reach) -> Vec<Option<admin::Edge>> {
        self.ask(move |task, now| {
            let registry = &task.registry;
            let edge = |name| {
                registry.edge(name).ok().filter(|edge: &&registry::Edge| reach.covers(&edge.record.tags))
            };
            names.iter().map(|name| edge(name).map(|edge| view::edge(registry, edge, now))).collect()
        })
        .await
    }

    /// One edge.
    pub async fn edge(&self, name: &EdgeName) -> Result<admin::Edge, AdminError> {
        let name = name.clone();
        self.ask(move |task, now| Ok(view::edge(&task.registry, task.registry.edge(&name)?, now))).await
    }

    /// One edge with the version of its record, for [`Self::provided`].
    pub async fn edge_with_version(&self, name: &EdgeName) -> Result<(admin::Edge, Version), AdminError> {
        let name = name.clone();
        self.ask(move |task, now| {
            let edge = task.registry.edge(&name)?;
            Ok((view::edge(&task.registry, edge, now), Version::of(&edge.record)))
        })
        .await
    }

    /// Whether there is such an edge within `reach`.
    pub async fn reaches(&self, name: &EdgeName, reach: Reach) -> bool {
        let name = name.clone();
        self.ask(move |task, _| task.registry.edge(&name).is_ok_and(|edge| reach.covers(&edge.record.tags)))
            .await
    }

    /// Changes an edge; durable before it returns.
    pub async fn change_edge(
        &self,
        name: &EdgeName,
        change: admin::ChangeEdge,
    ) -> Result<(admin::Edge, Version), AdminError> {
        let renamed = change.name.clone().unwrap_or_else(|| name.clone());
        self.change(Request::Update { edge: name.clone(), change }).await?;
        self.edge_with_version(&renamed).await
    }

    /// Frees the binding and closes the tunnel; durable before it returns.
    pub async fn dissociate(&self, name: &EdgeName) -> Result<(), AdminError> {
        self.change(Request::Dissociate { edge: name.clone() }).await
    }

    /// Gives the edge a new key, frees the binding and closes the tunnel; durable before it returns. The old key is worth
    /// nothing from then on.
    pub async fn rotate(&self, name: &EdgeName) -> Result<NewEdge, AdminError> {
        let endpoint = self.edge(name).await?.endpoint_id;
        let key = EdgeKey::random();
        self.change(Request::Rotate { edge: name.clone(), key: key.digest() }).await?;
        Ok(NewEdge { endpoint, name: name.clone(), key })
    }

    /// Deletes the edge, revokes its key and closes its tunnel; durable before it returns.
    pub async fn delete_edge(&self, name: &EdgeName) -> Result<(), AdminError> {
        self.change(Request::Delete { edge: name.clone() }).await
    }

    /// Hands out credentials for one login of a stock SSH client, in the place of those that there were. They are gone
    /// with a restart.
    pub async fn offer_once(&self, name: &EdgeName, terms: Terms) -> Result<NewOffer, AdminError> {
        let name = name.clone();
        self.ask(move |task, now| {
            let (username, password) = registry::fresh_login(&mut rand::rng());
            let one_time = terms.one_time(username.clone(), tunnel::digest(&password), now);
            let expires_at = one_time.expires_at();
            task.registry.offer_once(&name, one_time)?;
            Ok(NewOffer { username, password, expires_at })
        })
        .await
    }

    /// Lets a stock SSH client in by this key from now on, in the place of the key that there was; durable before it
    /// returns with the key's end.
    pub async fn allow_key(
        &self,
        name: &EdgeName,
        terms: Terms,
        fingerprint: HostKeyFingerprint,
    ) -> Result<Timestamp, AdminError> {
        let key = terms.key(fingerprint, now());
        let expires_at = key.expires_at;
        self.change(Request::AllowKey { edge: name.clone(), key }).await?;
        Ok(expires_at)
    }

    /// Takes back what stock SSH clients may log in with and closes the tunnel of one; durable before it returns.
    pub async fn revoke_stock(&self, name: &EdgeName) -> Result<(), AdminError> {
        self.change(Request::RevokeStock { edge: name.clone() }).await
    }

    /// Raises the flag for a while: until somebody could have connected, at least a minute. An open tunnel is held as
    /// long. Whoever wants it longer raises it again.
    pub async fn raise(&self, name: &EdgeName) -> Result<admin::Tunnel, AdminError> {
        let name = name.clone();
        self.ask(move |task, now| {
            task.run_commands(now, |registry, out| registry.raise(&name, now, out))?;
            Ok(view::tunnel(&task.registry.edge(&name)?.tunnel))
        })
        .await
    }

    /// Lowers the flag and closes the tunnel.
    pub async fn lower(&self, name: &EdgeName) -> Result<admin::Tunnel, AdminError> {
        let name = name.clone();
        self.ask(move |task, now| {
            task.run_commands(now, |registry, out| registry.lower(&name, now, out))?;
            Ok(view::tunnel(&task.registry.edge(&name)?.tunnel))
        })
        .await
    }

    /// Settings in force.
    pub async fn settings(&self) -> Settings {
        self.ask(|task, _| task.registry.settings().clone()).await
    }

    /// Changes settings; durable before it returns.
    pub async fn change_settings(&self, change: admin::Settings) -> Result<Settings, AdminError> {
        self.change(Request::Settings { change }).await?;
        Ok(self.settings().await)
    }

    /// The edge's last snapshot.
    pub async fn snapshot(&self, name: &EdgeName) -> Result<SnapshotBlob, AdminError> {
        let endpoint = self.edge(name).await?.endpoint_id;
        self.store.snapshot(endpoint).await?.ok_or(AdminError::NoSnapshot)
    }

    /// The snapshot before that, if there is one.
    pub async fn snapshot_before(&self, name: &EdgeName) -> Result<Option<SnapshotBlob>, AdminError> {
        let endpoint = self.edge(name).await?.endpoint_id;
        Ok(self.store.snapshot_before(endpoint).await?)
    }

    /// Has the agent take a snapshot now (opening the tunnel for it) and waits for it.
    pub async fn take_snapshot(&self, name: &EdgeName) -> Result<SnapshotBlob, OpenError> {
        let (Granted { link, hold }, _) = self.want(name, None).await?;
        let no_such_edge = || OpenError::NoSuchEdge(name.clone());
        let endpoint = self.edge(name).await.map_err(|_| no_such_edge())?.endpoint_id;
        let (arrival, arrived) = oneshot::channel();
        self.ask(move |task, _| task.await_snapshot(endpoint, arrival)).await;
        if !link.tell(ToAgent::Snapshot) {
            let reason = "its tunnel was opened by a stock SSH client, which takes no snapshots";
            return Err(OpenError::Refused { reason: reason.to_owned() });
        }
        let taken = tokio::select! {
            taken = timeout(SNAPSHOT_TIME, arrived) => taken,
            () = link.gone() => return Err(OpenError::Lost(name.clone())),
        };
        drop(hold);
        match taken {
            Ok(Ok(snapshot)) => Ok(snapshot),
            Ok(Err(_)) => Err(no_such_edge()),
            Err(_) => Err(OpenError::Refused {
                reason: format!(
                    "its agent sent no snapshot within {} s; its log says why",
                    SNAPSHOT_TIME.as_secs()
                ),
            }),
        }
    }

    /// Opens a stream to a service of an edge: raises the flag where the tunnel is closed, and waits a bounded time.
    /// Dropping the future gives up: the flag is lowered unless others want it. The stream holds the tunnel for as
    /// long as it lives.
    ///
    /// An edge that `operator` does not reach is one that is not there, and one that leaves their reach meanwhile ends
    /// the wait, and later the stream. The end of their credential is the caller's business. The edge's history names
    /// them.
    pub async fn open(
        &self,
        edge: &EdgeName,
        service: &ServiceName,
        operator: &Operator,
    ) -> Result<Stream, OpenError> {
        let opened = self.try_open(edge, Errand { service, operator }).await;
        self.telemetry.stream(&opened);
        opened
    }

    async fn try_open(&self, edge: &EdgeName, errand: Errand<'_>) -> Result<Stream, OpenError> {
        let Errand { service, operator } = errand;
        let room = self.budget.as_ref().map(|budget| budget.stream(&operator.name)).transpose();
        let room = room.map_err(|full| OpenError::Refused { reason: full.to_string() })?;
        for _ in 0..OPEN_TRIES {
            let (Granted { link, hold }, within) = self.want(edge, Some(errand)).await?;
            match link.open(service, hold).await {
                Ok(stream) => {
                    let stream = stream.with_room(room);
                    return Ok(stream.until(left(within, edge.clone(), operator.name.clone())));
                }
                // The link ended under us: the next tunnel is the one to use, once the registry knows.
                Err(OpenFailure::Lost) => {
                    let _ = timeout(GONE_TIME, link.gone()).await;
                }
                Err(OpenFailure::TooMany) => {
                    return Err(OpenError::Refused { reason: DialFailure::TooManyStreams.to_string() });
                }
                Err(OpenFailure::Dial(failure)) => {
                    return Err(OpenError::Dial {
                        edge: edge.clone(),
                        service: service.clone(),
                        reason: failure.to_string(),
                    });
                }
            }
        }
        Err(OpenError::Lost(edge.clone()))
    }

    /// What somebody who wants the edge's tunnel now would wait for; `None` where nothing.
    pub async fn outlook(&self, edge: &EdgeName) -> Option<String> {
        let edge = edge.clone();
        self.ask(move |task, now| task.registry.outlook(&edge, now)).await
    }

    /// The service behind a port of an edge, for clients that can say a port only.
    pub async fn service_at(&self, edge: &EdgeName, port: u16) -> Result<ServiceName, OpenError> {
        let edge = edge.clone();
        self.ask(move |task, now| task.registry.service_at(&edge, port, now)).await
    }

    /// Decides a tunnel login. `closer` ends the connection when the registry says so.
    pub async fn log_in(&self, username: &str, password: &str, closer: Closer) -> Option<Admitted> {
        let (username, password) = (username.to_owned(), KeyDigest::of(password.as_bytes()));
        self.event(
            move |token| Event::LogIn { token, username, password },
            |task, token, reply| {
                task.logins.insert(token, (reply, closer));
            },
        )
        .await
    }

    /// Whether a stock SSH client that has this key would be let in.
    pub async fn knows_key(&self, key: HostKeyFingerprint) -> bool {
        self.ask(move |task, now| task.registry.knows_key(&key, now)).await
    }

    /// Decides a login by a key, of which the signature is checked.
    pub async fn log_in_by_key(&self, key: HostKeyFingerprint, closer: Closer) -> Option<Admitted> {
        self.event(
            move |token| Event::LogInByKey { token, key },
            |task, token, reply| {
                task.logins.insert(token, (reply, closer));
            },
        )
        .await
    }

    /// The agent on this link announced all its services, or one more.
    pub async fn link_up(&self, link: Link, services: Vec<ServiceName>) {
        self.ask(move |task, now| {
            let id = link.id();
            task.attach(link);
            task.handle(Event::LinkUp { link: id, services }, now);
        })
        .await;
    }

    /// A connection that was admitted is over.
    pub fn link_down(&self, link: LinkId, reason: String) {
        // Without a registry there is nobody to tell.
        let _ = self.returns.send(Return::Link(link, reason));
    }

    /// The agent asks whether it may close its idle tunnel; the answer goes through the link.
    pub async fn ask_close(&self, link: LinkId) {
        self.ask(move |task, now| task.handle(Event::AskClose { link }, now)).await;
    }

    /// Takes no new work from now on. Streams that are live go on.
    pub async fn drain(&self) {
        self.ask(|task, now| {
            task.handle(Event::Drain, now);
            task.events.end();
        })
        .await;
    }

    /// Closes every link that there is; how many that were.
    pub async fn cut(&self) -> usize {
        self.ask(|task, _| task.close_all("the gateway is shutting down")).await
    }

    /// Writes the last-seen times that wait for their batch: the last thing before the store is closed.
    pub async fn write_last_seen(&self) -> Result<(), StoreError> {
        let seen = self
            .ask(|task, now| {
                task.registry.note_all_seen(now);
                task.registry.take_seen()
            })
            .await;
        self.store.put_last_seen(seen).await
    }

    /// Watches what happens to edges. `after` is the last event that the watcher saw, if it saw any. `None` where as
    /// many watch as may, or the gateway is shutting down.
    pub async fn watch(&self, after: Option<EventId>) -> Option<Watch> {
        self.ask(move |task, _| task.events.watch(after)).await
    }

    /// The last event that there was: who reads the state of edges after this call and then watches from here on has
    /// missed nothing.
    pub async fn last_event(&self) -> EventId {
        self.ask(|task, _| task.events.last()).await
    }

    /// How it all stands; of edges, those within reach.
    pub async fn measure(&self, reach: Reach) -> Measure {
        let queue = self.questions.max_capacity() - self.questions.capacity();
        self.ask(move |task, now| Measure {
            census: task.census(&reach, now),
            carried: task.carried(),
            streams: task.live_streams(),
            watchers: task.events.watchers(),
            queue,
        })
        .await
    }

    /// What happened to the edge lately, newest first.
    pub async fn edge_history(&self, name: &EdgeName, limit: usize) -> Result<Vec<HistoryEntry>, AdminError> {
        let endpoint = self.edge(name).await?.endpoint_id;
        self.history.flush().await;
        Ok(self.store.history(endpoint, limit).await?)
    }

    /// Writes what waits to be kept of the history of edges: before the store is closed.
    pub async fn write_history(&self) {
        self.history.flush().await;
    }

    /// Where whoever uses tunnels counts what comes of it.
    pub fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    /// Streams that are live now, for the drain.
    pub fn live_streams(&self) -> usize {
        self.live.load(Relaxed)
    }

    async fn change(&self, request: Request) -> Result<(), AdminError> {
        let condition = self.condition.clone();
        let answer = self.event(
            |token| Event::Change { token, condition, request },
            |task, token, reply| {
                task.changes.insert(token, reply);
            },
        );
        // The task goes on with it: a name that is being stored stays reserved.
        in_time(answer).await
    }

    /// Waits for a link of the edge, which comes with the end of the right to it. Giving up (dropping the future) takes the
    /// wish back.
    async fn want(
        &self,
        edge: &EdgeName,
        errand: Option<Errand<'_>>,
    ) -> Result<(Granted, Within), OpenError> {
        let service = errand.map(|errand| errand.service);
        let operator = errand.map(|errand| errand.operator.name.clone());
        let reach = errand.map_or_else(Reach::all, |errand| errand.operator.reach.clone());
        let waiter = WaiterId(self.next_waiter.fetch_add(1, Relaxed));
        let (reply, answer) = oneshot::channel();
        let began = Instant::now();
        let event = Event::Want { waiter, edge: edge.clone(), service: service.cloned() };
        let name = edge.clone();
        let give_up = GiveUp { waiter, returns: &self.returns };
        let within = self.ask(move |task, now| {
            let within = task.within(&name, reach)?;
            task.waiters.insert(waiter, task::Waiting { reply, operator });
            task.handle(event, now);
            Some(within)
        });
        let out_of_reach = || OpenError::NoSuchEdge(edge.clone());
        let within = within.await.ok_or_else(out_of_reach)?;
        let answer = tokio::select! {
            answer = answer => answer.expect(TASK_LIVES),
            () = within.clone().left() => return Err(out_of_reach()),
        };
        std::mem::forget(give_up);
        if answer.is_ok() {
            self.telemetry.tunnel_waited(began.elapsed());
        }
        answer.map(|granted| (granted, within))
    }

    /// Sends an event that is answered through `token`, wherever `keep` puts the way back.
    async fn event<T: Send + 'static>(
        &self,
        event: impl FnOnce(Token) -> Event + Send + 'static,
        keep: impl FnOnce(&mut task::Task, Token, oneshot::Sender<T>) + Send + 'static,
    ) -> T {
        let (reply, answer) = oneshot::channel();
        let question: Question = Box::new(move |task, now| {
            let token = task.token();
            keep(task, token, reply);
            task.handle(event(token), now);
        });
        let asked = self.questions.send(question).await;
        assert!(asked.is_ok(), "{TASK_LIVES}");
        answer.await.expect(TASK_LIVES)
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut task::Task, Now) -> T + Send + 'static,
    ) -> T {
        let (reply, answer) = oneshot::channel();
        let question: Question = Box::new(move |task, now| {
            let _ = reply.send(question(task, now));
        });
        let asked = self.questions.send(question).await;
        assert!(asked.is_ok(), "{TASK_LIVES}");
        answer.await.expect(TASK_LIVES)
    }
}

/// Completes when an operator's stream must end because its edge is none of theirs any more.
async fn left(within: Within, edge: EdgeName, operator: String) {
    within.left().await;
    tracing::info!(operator, %edge, "cut a stream: the edge left the operator's reach");
}

/// Tells the registry when a waiter's future is dropped before its answer.
struct GiveUp<'a> {
    waiter: WaiterId,
    returns: &'a mpsc::UnboundedSender<Return>,
}

impl Drop for GiveUp<'_> {
    fn drop(&mut self) {
        let _ = self.returns.send(Return::Waiter(self.waiter));
    }
}

fn now() -> Now {
    Now { instant: Instant::now(), wall: Timestamp::from(SystemTime::now()) }
}

/// The decision as it goes over the wire.
fn sealed(decision: Decision, edge_id: &EdgeId) -> CheckInAnswer {
    let seconds = |duration: Duration| u32::try_from(duration.as_secs()).unwrap_or(u32::MAX);
    match decision {
        Decision::Unchanged => CheckInAnswer::Unchanged,
        Decision::NotNeeded { interval, hello_wanted } => CheckInAnswer::Changed(Answer {
            interval_s: seconds(interval),
            need: Need::None,
            offer: None,
            hello_wanted,
        }),
        Decision::Needed { interval, offer, expires_in, ssh } => {
            let credentials = Credentials { username: offer.username, password: offer.password };
            let credentials = envelope::seal(&credentials, edge_id, &offer.id);
            let offer = check_in::Offer { id: offer.id, ssh, credentials, expires_in_s: seconds(expires_in) };
            CheckInAnswer::Changed(Answer {
                interval_s: seconds(interval),
                need: Need::Tunnel,
                offer: Some(offer),
                hello_wanted: false,
            })
        }
    }
}
