//! All agents of a process, and what they share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use shared::fingerprint::{HostKeyFingerprint, TlsFingerprint};
use shared::line::Protocol;
use shared::wire::check_in::Identity;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::agent::{Agent, Common};
use super::connection::Endpoint;
use super::plan::{Plan, Vanishing};
use super::tally::Tally;
use super::tunnel::Ground;
use super::wire::Ledger;
use super::worker::Order;
use crate::pattern::Pattern;

/// Agents that join at a time: enough to keep two cores busy with handshakes, few enough that none waits for seconds.
const JOIN_AT_ONCE: usize = 64;
/// Time for everybody to go home.
const HOME: Duration = Duration::from_secs(20);

/// What all agents of a run share, as it can be passed on to another process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cast {
    /// Seed of the schedule and of all data.
    pub seed: u64,
    /// Agents of the whole run.
    pub agents: u32,
    /// Time between two check-ins of an agent.
    pub interval: Duration,
    /// The gateway's API.
    pub api: SocketAddr,
    /// TLS keys that it may show.
    pub pins: Vec<TlsFingerprint>,
    /// Host keys that it may show.
    pub host_keys: Vec<HostKeyFingerprint>,
    /// HTTP/1.1 instead of HTTP/2.
    pub http1: bool,
    /// For how long a question may be held, if it may.
    pub hold: Option<Duration>,
    /// Connections end with a reset instead of a goodbye.
    pub abrupt: bool,
    /// Connections come from addresses of 127.0.0.0/8.
    pub spread_sources: bool,
    /// A new connection for each question.
    pub reconnect_each: bool,
    /// Tunnels are to stay open until the end.
    pub keep_tunnels: bool,
}

impl Cast {
    /// What the agents of this process share, of a run that began `age` ago.
    ///
    /// # Errors
    /// If there is no TLS on this machine.
    pub fn common(&self, age: Duration) -> Result<Common> {
        let protocol = if self.http1 { Protocol::Http1 } else { Protocol::Http2 };
        let now = Instant::now();
        Ok(Common {
            plan: Plan::new(self.seed, self.agents, self.interval),
            epoch: now.checked_sub(age).unwrap_or(now),
            endpoint: Endpoint::new(self.api, &self.pins, protocol, self.hold, self.abrupt)?,
            ground: Arc::new(Ground::new(self.host_keys.clone(), Pattern::new(self.seed))),
            tally: Tally::default(),
            door: Semaphore::new(JOIN_AT_ONCE),
            spread_sources: self.spread_sources,
            reconnect_each: self.reconnect_each,
            keep_tunnels: self.keep_tunnels,
            ledger: Ledger::new(self.api),
            over: CancellationToken::new(),
        })
    }
}

/// The agents of this process.
#[derive(Debug)]
pub struct Company {
    first: u32,
    tasks: JoinSet<()>,
    vanish: Vec<mpsc::Sender<Vanishing>>,
}

impl Company {
    /// Lets these agents begin, whose numbers begin with `first`.
    pub fn enter(common: &Arc<Common>, first: u32, identities: Vec<Identity>) -> Self {
        let (mut tasks, mut vanish) = (JoinSet::new(), Vec::with_capacity(identities.len()));
        for (number, identity) in (first..).zip(identities) {
            let (sender, told) = mpsc::channel(1);
            vanish.push(sender);
            tasks.spawn(Agent::new(Arc::clone(common), number, identity).run(told));
        }
        Self { first, tasks, vanish }
    }

    /// Does what was ordered.
    pub fn obey(&self, common: &Common, order: Order) {
        match order {
            Order::Window(begin, end) => common.tally.window.set(begin, end),
            Order::EndAt(end) => common.tally.window.end_at(end),
            Order::Restarted => common.tally.restarted(),
            Order::Vanish(agent, way) => {
                let own = agent.checked_sub(self.first).and_then(|number| usize::try_from(number).ok());
                if let Some(agent) = own.and_then(|number| self.vanish.get(number)) {
                    // One that has not yet heard of the last time need not vanish twice.
                    let _ = agent.try_send(way);
                }
            }
            Order::Over => common.over.cancel(),
        }
    }

    /// Sends everybody home, and waits for them.
    pub async fn end(&mut self, common: &Common) {
        common.over.cancel();
        let gone = async { while self.tasks.join_next().await.is_some() {} };
        // What does not end by then is dropped, and counted as cut.
        let _ = timeout(HOME, gone).await;
        self.tasks.shutdown().await;
    }
}
