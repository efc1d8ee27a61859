//! `kill -9` of the gateway, again and again in the middle of enrolments: whatever it acknowledged is there afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use hyper::Method;
use shared::wire::admin::EdgeCreated;
use shared::wire::check_in::CheckIn;
use tests::admin::Admin;
use tests::gateway::Gateway;
use tests::liar::Liar;
use tests::wait::until;

const KILLS: usize = 50;
const WORKERS: usize = 64;
/// The gateway dies once this many more writes were acknowledged: sooner in one round, later in the next, so that the
/// blow falls on batches of every size.
const ACKNOWLEDGED: [usize; 5] = [3, 40, 90, 7, 150];
const ROUND: Duration = Duration::from_secs(60);

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

/// One edge in the list that is kept outside of the gateway.
struct Known {
    name: String,
    created: Option<EdgeCreated>,
    agent: Option<Liar>,
    /// What the gateway has acknowledged.
    acknowledged: State,
    /// What the write that was under way when the gateway died would have made of it.
    attempted: Option<State>,
    /// What is to come of its life.
    ahead: &'static [State],
}

/// Makes one edge after another and leads each through its life, until the gateway dies under it.
struct Worker {
    admin: Admin,
    number: usize,
    edges: Vec<Known>,
    acknowledged: Arc<AtomicUsize>,
}

impl Worker {
    async fn work(&mut self) {
        while self.step().await.is_some() {
            self.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One write; `None` if it got no answer.
    async fn step(&mut self) -> Option<()> {
        if self.edges.last().is_none_or(|edge| edge.ahead.is_empty()) {
            let count = self.edges.len();
            self.edges.push(Known {
                name: format!("w{}-{count}", self.number),
                created: None,
                agent: None,
                acknowledged: State::Absent,
                attempted: None,
                ahead: LIVES[(self.number + count) % LIVES.len()],
            });
        }
        self.edges.last_mut()?.step(&self.admin).await
    }
}

impl Known {
    async fn step(&mut self, admin: &Admin) -> Option<()> {
        let (&next, rest) = self.ahead.split_first()?;
        self.attempted = Some(next);
        let path = format!("/api/v1/edges/{}", self.name);
        match (self.acknowledged, next) {
            (State::Absent, _) => {
                let body = serde_json::json!({ "name": self.name });
                let answer = admin.http.send_json(Method::POST, "/api/v1/edges", &body).await.ok()?;
                self.created = Some(answer.expect(201).json());
            }
            (_, State::Bound) => {
                let agent = self.agent.insert(Liar::new(&admin.http, self.created.as_ref()?));
                agent.try_check_in(&Liar::hello(&["web"])).await.ok()?.expect(200);
            }
            (_, State::Deleted) => {
                let answer = admin.http.call(Method::DELETE, &path).await.ok()?;
                assert!(answer.status.is_success(), "{answer:?}");
            }
            (_, State::Free | State::Absent) => {
                let answer = admin.http.call(Method::POST, &format!("{path}/dissociate")).await.ok()?;
                assert!(answer.status.is_success(), "{answer:?}");
            }
        }
        (self.acknowledged, self.attempted, self.ahead) = (next, None, rest);
        Some(())
    }

    /// Compares with what the gateway lists after its restart, and takes that over where both outcomes are right.
    fn compare(&mut self, bound: Option<bool>) {
        let found = match bound {
            None if self.acknowledged == State::Absent => State::Absent,
            None => State::Deleted,
            Some(true) => State::Bound,
            Some(false) => State::Free,
        };
        let (acknowledged, attempted) = (self.acknowledged, self.attempted.take());
        assert!(
            found == acknowledged || Some(found) == attempted,
            "{}: acknowledged {acknowledged:?}, attempted {attempted:?}, found {found:?}",
            self.name
        );
        if attempted.is_some() && found != acknowledged {
            self.ahead = &self.ahead[1..];
        }
        if self.created.is_none() {
            // Whether it was stored or not, its key was never told to anybody.
            self.ahead = &[];
        }
        self.acknowledged = found;
    }

    /// The key does what the list says: a torn record would be listed and yet not work.
    async fn prove(&self, admin: &Admin) {
        let (Some(created), Some(agent)) = (&self.created, &self.agent) else { return };
        match self.acknowledged {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_or_torn_by_fifty_kills_during_enrolments() {
    let mut gateway = Gateway::start().await;
    let mut lists: Vec<Vec<Known>> = (0..WORKERS).map(|_| Vec::new()).collect();
    for round in 0..KILLS {
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = lists
            .drain(..)
            .enumerate()
            .map(|(number, edges)| {
                let (admin, acknowledged) = (gateway.admin.clone(), acknowledged.clone());
                let mut worker = Worker { admin, number, edges, acknowledged };
                tokio::spawn(async move {
                    worker.work().await;
                    worker.edges
                })
            })
            .collect();
        let enough = ACKNOWLEDGED[round % ACKNOWLEDGED.len()];
        until(ROUND, "enough writes are acknowledged", async || {
            (acknowledged.load(Ordering::Relaxed) >= enough).then_some(())
        })
        .await;
        gateway.kill();
        for task in tasks {
            lists.push(task.await.expect("no worker saw a wrong answer"));
        }
        gateway.resume().await;
        compare_all(&gateway, &mut lists, round + 1 == KILLS).await;
    }
    let edges: Vec<_> = lists.iter().flatten().collect();
    for state in [State::Free, State::Bound, State::Deleted] {
        let count = edges.iter().filter(|edge| edge.acknowledged == state).count();
        assert!(count > WORKERS / 4, "{count} edges are {state:?}: the test proves too little");
    }
}

/// Compares every edge with its record; tries the keys of the newest, and of all at the `end`.
async fn compare_all(gateway: &Gateway, lists: &mut [Vec<Known>], end: bool) {
    let listed = gateway.admin.edges().await;
    let records: std::collections::HashMap<_, _> =
        listed.iter().map(|edge| (edge.name.as_str(), edge.bound)).collect();
    for edge in lists.iter_mut().flatten() {
        edge.compare(records.get(edge.name.as_str()).copied());
    }
    for edges in lists.iter().map(|list| if end { &list[..] } else { &list[list.len().saturating_sub(1)..] })
    {
        join_all(edges.iter().map(|edge| edge.prove(&gateway.admin))).await;
    }
}
