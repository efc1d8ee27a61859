//! A list that is kept outside of a gateway, of all that it acknowledged: edges, settings, API tokens and snapshots,
//! written by many at once, and compared with what the gateway has after it died.
//!
//! The rule: what was acknowledged is there. What was asked for and not acknowledged may be there or not, whole.

use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use hyper::Method;
use serde_json::json;
use shared::wire::admin::{
    AuditOutcome, AuditVerdict, EdgeCreated, Settings, Token, TokenCreated, TokenList,
};
use shared::wire::check_in::CheckIn;
use shared::wire::snapshot::Snapshot;
use tests::admin::Admin;
use tests::gateway::Gateway;
use tests::http::Answer;
use tests::liar::Liar;
use tests::wait::until;
use tokio::task::JoinHandle;

use crate::audit::records;

/// Those who lead edges through their lives.
const OF_EDGES: usize = 40;
const OF_TOKENS: usize = 4;
const OF_SNAPSHOTS: usize = 4;
/// A writer that was refused comes again after this: the store looks once a second whether it works again.
const AGAIN: Duration = Duration::from_millis(200);
/// For so many writes as a test waits for.
const LONG: Duration = Duration::from_secs(60);
/// Settings are told apart by an interval, which has bounds.
const INTERVALS: std::ops::RangeInclusive<u32> = 1..=86_400;

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Acknowledged,
    /// The gateway said that it can't store it: 503 or 507.
    Refused,
    /// There was no answer.
    Gone,
}

/// Something that changes again and again.
#[derive(Debug)]
struct Note<T> {
    acknowledged: T,
    /// What it may have become since: writes that were under way when the gateway died, or that it refused.
    attempted: Vec<T>,
}

impl<T: Debug + PartialEq> Note<T> {
    fn of(value: T) -> Self {
        Self { acknowledged: value, attempted: Vec::new() }
    }

    fn ended(&mut self, value: T, outcome: Outcome) {
        match outcome {
            Outcome::Acknowledged => *self = Self::of(value),
            Outcome::Refused | Outcome::Gone => self.attempted.push(value),
        }
    }

    /// Takes over what was found, if it is right.
    fn compare(&mut self, what: &str, found: T) {
        let right = found == self.acknowledged || self.attempted.contains(&found);
        assert!(right, "{what}: found {found:?}, known is {self:?}");
        *self = Self::of(found);
    }
}

/// What the audit log must have of a change: its action, and its edge where it is about one.
type Record = (&'static str, Option<String>);

/// The list.
pub struct Witness {
    writers: Vec<Writer>,
    /// Of every change that was acknowledged.
    recorded: Vec<Record>,
}

/// Writers at work.
pub struct Working {
    tasks: Vec<JoinHandle<(Writer, Vec<Record>)>>,
    told: Arc<Told>,
}

#[derive(Default)]
struct Told {
    acknowledged: AtomicUsize,
    refused: AtomicUsize,
    enough: AtomicBool,
}

/// One of those who write.
enum Writer {
    Edges(Edges),
    Settings(Note<u32>),
    Tokens(Tokens),
    Snapshots(Box<Snapshots>),
}

impl Witness {
    /// Of a gateway on which nothing was written yet.
    pub fn new() -> Self {
        let edges = (0..OF_EDGES).map(|number| Writer::Edges(Edges { number, edges: Vec::new() }));
        let tokens = (0..OF_TOKENS).map(|number| Writer::Tokens(Tokens::new(number)));
        let snapshots = (0..OF_SNAPSHOTS).map(|number| Writer::Snapshots(Box::new(Snapshots::new(number))));
        let settings = Writer::Settings(Note::of(5));
        let writers = edges.chain(tokens).chain(snapshots).chain([settings]).collect();
        Self { writers, recorded: Vec::new() }
    }

    /// Everybody writes from now on, until they are told to stop or get no answer any more.
    pub fn begin(&mut self, admin: &Admin) -> Working {
        let told = Arc::new(Told::default());
        let writers = std::mem::take(&mut self.writers).into_iter();
        let tasks =
            writers.map(|writer| tokio::spawn(write(writer, admin.clone(), Arc::clone(&told)))).collect();
        Working { tasks, told }
    }

    /// Takes the writers back once they have ended, with what they know.
    pub async fn end(&mut self, working: Working) {
        working.told.enough.store(true, Ordering::Relaxed);
        for task in working.tasks {
            let (writer, recorded) = task.await.expect("no writer saw a wrong answer");
            self.writers.push(writer);
            self.recorded.extend(recorded);
        }
    }

    /// Compares everything with what the gateway has now; tries the keys of the newest edges, and of all with `every_key`.
    pub async fn compare(&mut self, gateway: &Gateway, every_key: bool) {
        let admin = &gateway.admin;
        let listed = admin.edges().await;
        let bound: std::collections::HashMap<_, _> =
            listed.iter().map(|edge| (edge.name.as_str(), edge.bound)).collect();
        let tokens = list_tokens(admin).await;
        let settings: Settings = admin.get("/api/v1/settings").await.expect(200).json();
        for writer in &mut self.writers {
            match writer {
                Writer::Edges(edges) => {
                    for edge in &mut edges.edges {
                        edge.compare(bound.get(edge.name.as_str()).copied());
                    }
                    let newest = edges.edges.len().saturating_sub(if every_key { usize::MAX } else { 1 });
                    join_all(edges.edges[newest..].iter().map(|edge| edge.prove(admin))).await;
                }
                Writer::Settings(note) => {
                    note.compare("the interval", settings.interval_s.expect("always set"))
                }
                Writer::Tokens(writer) => writer.compare(&tokens),
                Writer::Snapshots(writer) => writer.compare(admin).await,
            }
        }
        let verdict: AuditVerdict = admin.get("/api/v1/audit/verify").await.expect(200).json();
        assert!(verdict.intact && verdict.damage_noted == 0, "{verdict:?}");
    }

    /// Every acknowledged change has its record in the log of this data folder. How many there are.
    pub fn assert_recorded(&self, data: &Path) -> usize {
        let mut there = std::collections::HashMap::<(String, Option<String>), usize>::new();
        for record in records(data) {
            if record.outcome == AuditOutcome::Ok {
                *there.entry((record.action, record.edge.map(|edge| edge.to_string()))).or_default() += 1;
            }
        }
        for (action, edge) in &self.recorded {
            let left = there.get_mut(&((*action).to_owned(), edge.clone())).filter(|left| **left > 0);
            let left =
                left.unwrap_or_else(|| panic!("no record of {action} {edge:?}, which was acknowledged"));
            *left -= 1;
        }
        self.recorded.len()
    }

    /// How many edges are in each of the states that lives end in: free, bound, deleted.
    pub fn edges(&self) -> [usize; 3] {
        let edges = self.writers.iter().filter_map(|writer| match writer {
            Writer::Edges(edges) => Some(&edges.edges),
            Writer::Settings(_) | Writer::Tokens(_) | Writer::Snapshots(_) => None,
        });
        let states: Vec<State> = edges.flatten().map(|edge| edge.state.acknowledged).collect();
        [State::Free, State::Bound, State::Deleted]
            .map(|state| states.iter().filter(|found| **found == state).count())
    }
}

impl Working {
    /// Waits until so many more writes were acknowledged.
    pub async fn acknowledged(&self, more: usize) {
        let wanted = self.told.acknowledged.load(Ordering::Relaxed) + more;
        until(LONG, "enough writes are acknowledged", async || {
            (self.told.acknowledged.load(Ordering::Relaxed) >= wanted).then_some(())
        })
        .await;
    }

    /// Waits until so many more writes were refused.
    pub async fn refused(&self, more: usize) {
        let wanted = self.told.refused.load(Ordering::Relaxed) + more;
        until(LONG, "writes are refused", async || {
            (self.told.refused.load(Ordering::Relaxed) >= wanted).then_some(())
        })
        .await;
    }
}

async fn write(mut writer: Writer, admin: Admin, told: Arc<Told>) -> (Writer, Vec<Record>) {
    let mut recorded = Vec::new();
    while !told.enough.load(Ordering::Relaxed) {
        let (outcome, record) = match &mut writer {
            Writer::Edges(edges) => edges.step(&admin).await,
            Writer::Settings(note) => (set_interval(note, &admin).await, Some(("settings.change", None))),
            Writer::Tokens(tokens) => tokens.step(&admin).await,
            Writer::Snapshots(snapshots) => (snapshots.step(&admin).await, None),
        };
        match outcome {
            Outcome::Acknowledged => {
                told.acknowledged.fetch_add(1, Ordering::Relaxed);
                recorded.extend(record);
            }
            Outcome::Refused => {
                told.refused.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(AGAIN).await;
            }
            Outcome::Gone => break,
        }
    }
    (writer, recorded)
}

/// What an answer means to somebody who expects success.
fn outcome(answer: io::Result<Answer>) -> (Outcome, Option<Answer>) {
    match answer {
        Ok(answer) if answer.status.is_success() => (Outcome::Acknowledged, Some(answer)),
        Ok(answer) if [503, 507].contains(&answer.status.as_u16()) => (Outcome::Refused, None),
        Ok(answer) => panic!("{} {}", answer.status, answer.text()),
        Err(_) => (Outcome::Gone, None),
    }
}

/// What can be known of one edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Absent,
    Free,
    Bound,
    Deleted,
}

/// The lives that edges lead, in turn; each ends in a state of its own.
const LIVES: [&[State]; 4] = [
    &[State::Free],
    &[State::Free, State::Bound],
    &[State::Free, State::Bound, State::Deleted],
    &[State::Free, State::Bound, State::Free],
];

/// Makes one edge after another and leads each through its life.
struct Edges {
    number: usize,
    edges: Vec<Known>,
}

struct Known {
    name: String,
    created: Option<EdgeCreated>,
    agent: Option<Liar>,
    state: Note<State>,
    /// What is to come of its life.
    ahead: &'static [State],
}

impl Edges {
    async fn step(&mut self, admin: &Admin) -> (Outcome, Option<Record>) {
        if self.edges.last().is_none_or(|edge| edge.ahead.is_empty()) {
            let count = self.edges.len();
            self.edges.push(Known {
                name: format!("w{}-{count}", self.number),
                created: None,
                agent: None,
                state: Note::of(State::Absent),
                ahead: LIVES[(self.number + count) % LIVES.len()],
            });
        }
        let edge = self.edges.last_mut().expect("one was just pushed");
        let (outcome, action) = edge.step(admin).await;
        (outcome, action.map(|action| (action, Some(edge.name.clone()))))
    }
}

impl Known {
    /// One write, and the action that the audit log must have of it where the gateway waits for the record.
    async fn step(&mut self, admin: &Admin) -> (Outcome, Option<&'static str>) {
        let (&next, rest) = self.ahead.split_first().expect("its life is not over");
        let path = format!("/api/v1/edges/{}", self.name);
        let (outcome, action) = match (self.state.acknowledged, next) {
            (State::Absent, _) => {
                let body = json!({ "name": self.name });
                let (outcome, answer) =
                    outcome(admin.http.send_json(Method::POST, "/api/v1/edges", &body).await);
                self.created = answer.map(|answer| answer.expect(201).json());
                (outcome, Some("edge.create"))
            }
            (_, State::Bound) => {
                let created = self.created.as_ref().expect("only what was created has a life ahead");
                let agent = self.agent.insert(Liar::new(&admin.http, created));
                (outcome(agent.try_check_in(&Liar::hello(&["web"])).await).0, None)
            }
            (_, State::Deleted) => {
                (outcome(admin.http.call(Method::DELETE, &path).await).0, Some("edge.delete"))
            }
            (_, State::Free | State::Absent) => {
                let path = format!("{path}/dissociate");
                (outcome(admin.http.call(Method::POST, &path).await).0, Some("edge.dissociate"))
            }
        };
        self.state.ended(next, outcome);
        // What was refused may have been done all the same: it is left as it is, whatever that may be.
        self.ahead = match outcome {
            Outcome::Acknowledged => rest,
            Outcome::Refused => &[],
            Outcome::Gone => self.ahead,
        };
        (outcome, action)
    }

    /// Compares with what the gateway lists, and takes that over where both outcomes are right.
    fn compare(&mut self, bound: Option<bool>) {
        let before = self.state.acknowledged;
        let found = match bound {
            None if before == State::Absent => State::Absent,
            None => State::Deleted,
            Some(true) => State::Bound,
            Some(false) => State::Free,
        };
        self.state.compare(&self.name, found);
        if found != before {
            self.ahead = self.ahead.get(1..).unwrap_or_default();
        }
        if self.created.is_none() {
            // Whether it was stored or not, its key was never told to anybody.
            self.ahead = &[];
        }
    }

    /// The key does what the list says: a torn record would be listed and yet not work.
    async fn prove(&self, admin: &Admin) {
        let (Some(created), Some(agent)) = (&self.created, &self.agent) else { return };
        match self.state.acknowledged {
            State::Bound => {
                agent.check_in(&CheckIn::default()).await.expect(200);
                Liar::new(&admin.http, created).check_in(&CheckIn::default()).await.problem(403);
            }
            State::Deleted => {
                agent.check_in(&CheckIn::default()).await.problem(401);
            }
            State::Absent | State::Free => {}
        }
    }
}

async fn set_interval(note: &mut Note<u32>, admin: &Admin) -> Outcome {
    let newest = note.attempted.last().unwrap_or(&note.acknowledged);
    let next = if INTERVALS.contains(&(newest + 1)) { newest + 1 } else { *INTERVALS.start() };
    let change = Settings { interval_s: Some(next), ..Settings::default() };
    let (outcome, _) = outcome(admin.http.send_json(Method::PATCH, "/api/v1/settings", &change).await);
    note.ended(next, outcome);
    outcome
}

/// Makes an API token, revokes it, and makes the next.
struct Tokens {
    number: usize,
    made: usize,
    /// The token, if there is one.
    token: Note<Option<String>>,
    /// Tokens that may be there or not: they are nobody's any more.
    doubtful: Vec<String>,
    /// Of the token, once it is known.
    id: Option<uuid::Uuid>,
}

async fn list_tokens(admin: &Admin) -> Vec<Token> {
    let page: TokenList = admin.get("/api/v1/tokens?limit=500").await.expect(200).json();
    page.tokens
}

impl Tokens {
    fn new(number: usize) -> Self {
        Self { number, made: 0, token: Note::of(None), doubtful: Vec::new(), id: None }
    }

    async fn step(&mut self, admin: &Admin) -> (Outcome, Option<Record>) {
        let action = match self.id {
            None => {
                self.made += 1;
                let label = format!("p{}-{}", self.number, self.made);
                let body = json!({ "label": label });
                let (outcome, answer) =
                    outcome(admin.http.send_json(Method::POST, "/api/v1/tokens", &body).await);
                self.id = answer.map(|answer| answer.expect(201).json::<TokenCreated>().listed.id);
                self.token.ended(Some(label), outcome);
                (outcome, "token.create")
            }
            Some(id) => {
                let path = format!("/api/v1/tokens/{id}");
                let (outcome, _) = outcome(admin.http.call(Method::DELETE, &path).await);
                self.token.ended(None, outcome);
                if outcome != Outcome::Gone {
                    self.id = None;
                }
                (outcome, "token.revoke")
            }
        };
        if action.0 == Outcome::Refused {
            let Note { acknowledged, attempted } = std::mem::replace(&mut self.token, Note::of(None));
            self.doubtful.extend(attempted.into_iter().chain([acknowledged]).flatten());
        }
        (action.0, Some((action.1, None)))
    }

    fn compare(&mut self, listed: &[Token]) {
        let prefix = format!("p{}-", self.number);
        let mine = listed.iter().filter(|token| token.label.starts_with(&prefix));
        let (_, certain): (Vec<_>, Vec<_>) = mine.partition(|token| self.doubtful.contains(&token.label));
        assert!(certain.len() <= 1, "{certain:?}");
        let found = certain.first().map(|token| token.label.clone());
        self.token.compare("a token", found);
        self.id = certain.first().map(|token| token.id);
    }
}

/// Sends snapshots of one site, each with a number.
struct Snapshots {
    number: usize,
    tries: usize,
    agent: Option<(String, Liar)>,
    snapshot: Note<Option<u64>>,
}

impl Snapshots {
    fn new(number: usize) -> Self {
        Self { number, tries: 0, agent: None, snapshot: Note::of(None) }
    }

    async fn step(&mut self, admin: &Admin) -> Outcome {
        let Some((_, agent)) = &self.agent else { return self.enrol(admin).await };
        let sent = self.snapshot.attempted.iter().chain([&self.snapshot.acknowledged]).flatten();
        let next = sent.max().map_or(1, |newest| newest + 1);
        let mut snapshot = Snapshot::default();
        snapshot.host.uptime_s = next;
        // Longer than a page of the store, so that it can be torn.
        snapshot.problems =
            (0..400).map(|line| format!("{next} {line} {:x}", next.wrapping_mul(line * line))).collect();
        let (outcome, _) = outcome(agent.try_put_snapshot(snapshot).await);
        self.snapshot.ended(Some(next), outcome);
        outcome
    }

    /// Makes the edge that the snapshots are of. One whose making got no answer is left alone.
    async fn enrol(&mut self, admin: &Admin) -> Outcome {
        self.tries += 1;
        let name = format!("s{}-{}", self.number, self.tries);
        let body = json!({ "name": name });
        let (made, answer) = outcome(admin.http.send_json(Method::POST, "/api/v1/edges", &body).await);
        let Some(answer) = answer else { return made };
        let agent = Liar::new(&admin.http, &answer.expect(201).json());
        let (bound, _) = outcome(agent.try_check_in(&Liar::hello(&["web"])).await);
        if bound == Outcome::Acknowledged {
            self.agent = Some((name, agent));
        }
        bound
    }

    async fn compare(&mut self, admin: &Admin) {
        let Some((name, _)) = &self.agent else { return };
        let found = admin.snapshot(name).await.map(|stored| stored.snapshot.host.uptime_s);
        self.snapshot.compare(name, found);
    }
}
