//! All agents of a run, in this process or in workers: they join, are told things, and go home.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::agent::Common;
use super::cast::{Cast, Company};
use super::connection::ANSWER_TIMEOUT;
use super::limits::Machine;
use super::options::Options;
use super::result::Second;
use super::run::Progress;
use super::sample::{self, Watched};
use super::target::{Crowd, Server};
use super::wake::Wakes;
use super::worker::{Order, Workers};
use crate::pattern::Pattern;

/// Time for all agents to join: this many a second, a tenth of what a core does, and a minute.
const SLOWEST_JOINS_PER_S: f64 = 100.0;
const JOIN_AT_LEAST: Duration = Duration::from_secs(60);
/// Pause between two looks at something that is waited for.
const LOOK: Duration = Duration::from_millis(20);

/// The agents, wherever they are, and what they share.
pub struct Stage {
    /// What they share.
    pub common: Arc<Common>,
    /// What streams carry.
    pub pattern: Pattern,
    /// What happened to flags.
    pub wakes: Arc<Wakes>,
    count: u32,
    agents: Agents,
    sampled: CancellationToken,
}

enum Agents {
    Here(Company),
    InWorkers(Workers),
}

impl Stage {
    /// Lets all agents begin.
    pub fn set(server: &Server, options: &Options, crowd: &Crowd) -> Result<Self> {
        let cast = Cast {
            seed: options.seed,
            agents: options.count,
            interval: options.interval,
            api: server.api,
            pins: crowd.pins.clone(),
            host_keys: crowd.host_keys.clone(),
            http1: options.http1,
            hold: options.hold.map(|seconds| Duration::from_secs(seconds.into())),
            abrupt: options.churn.is_some(),
            spread_sources: server.is_loopback(),
            reconnect_each: options.reconnect_each,
            keep_tunnels: options.tunnels.is_some(),
        };
        let common = Arc::new(cast.common(Duration::ZERO)?);
        let agents = match options.workers(&Machine::this()) {
            1 => Agents::Here(Company::enter(&common, 0, crowd.identities.clone())),
            workers => Agents::InWorkers(Workers::start(&common, &cast, &crowd.identities, workers)?),
        };
        Ok(Self {
            common,
            pattern: Pattern::new(options.seed),
            wakes: Arc::default(),
            count: options.count,
            agents,
            sampled: CancellationToken::new(),
        })
    }

    /// All of the harness's processes.
    pub fn processes(&self) -> Vec<u32> {
        let own = std::iter::once(std::process::id());
        match &self.agents {
            Agents::Here(_) => own.collect(),
            Agents::InWorkers(workers) => own.chain(workers.ids.iter().copied()).collect(),
        }
    }

    /// Passes an order on to all agents.
    pub fn tell(&self, order: Order) {
        match &self.agents {
            Agents::Here(company) => company.obey(&self.common, order),
            Agents::InWorkers(workers) => {
                workers.tell(order);
                // This process looks at the time that is measured as well.
                match order {
                    Order::Window(begin, end) => self.common.tally.window.set(begin, end),
                    Order::EndAt(end) => self.common.tally.window.end_at(end),
                    Order::Restarted | Order::Vanish(_, _) | Order::Over => {}
                }
            }
        }
    }

    /// Samples everything once a second, until the end.
    pub fn sampler(
        &self,
        server: &Server,
        own: &Arc<Watched>,
        progress: &Arc<impl Progress>,
    ) -> JoinHandle<Vec<Second>> {
        let (common, progress) = (Arc::clone(&self.common), Arc::clone(progress));
        let show = move |second: &Second| {
            let begin = common.tally.window.begin();
            progress.second(begin.and_then(|begin| common.now().checked_sub(begin)), second);
        };
        let (common, wakes) = (Arc::clone(&self.common), Arc::clone(&self.wakes));
        tokio::spawn(sample::sample(
            common,
            server.watched.clone(),
            Arc::clone(own),
            wakes,
            self.sampled.clone(),
            show,
        ))
    }

    /// Waits until every agent has been answered. Returns how long that took.
    pub async fn joined(&self, interrupt: &CancellationToken) -> Result<Duration> {
        let patience = JOIN_AT_LEAST + Duration::from_secs_f64(f64::from(self.count) / SLOWEST_JOINS_PER_S);
        let tally = &self.common.tally;
        while tally.joined() < u64::from(self.count) {
            if interrupt.is_cancelled() {
                bail!("interrupted before all agents had joined; nothing was measured");
            }
            if self.common.now() > patience {
                let failures = tally.counts().first_failures.clone();
                let kinds: Vec<String> =
                    failures.iter().map(|(kind, count)| format!("{}: {count}", kind.name())).collect();
                bail!(
                    "only {} of {} agents could join within {} s ({})",
                    tally.joined(),
                    self.count,
                    patience.as_secs(),
                    kinds.join(", ")
                );
            }
            sleep(LOOK).await;
        }
        Ok(self.common.now())
    }

    /// Waits for the answers that are still due. Held questions have none due, and who pressed Ctrl-C waits for nothing.
    pub async fn settle(&self, interrupted: bool) {
        if interrupted || self.common.endpoint.holds() {
            return;
        }
        let under_way = || {
            let counts = self.common.tally.counts();
            counts.scheduled > counts.answered + counts.cut + counts.failures.values().sum::<u64>()
        };
        let settled = async {
            while under_way() {
                sleep(LOOK).await;
            }
        };
        // What is still under way then is cut.
        let _ = timeout(ANSWER_TIMEOUT, settled).await;
    }

    /// Sends everybody home, and waits for them.
    pub async fn end(&mut self, sampler: JoinHandle<Vec<Second>>) -> Result<Vec<Second>> {
        self.sampled.cancel();
        let series = sampler.await.unwrap_or_default();
        self.tell(Order::Over);
        self.common.over.cancel();
        match &mut self.agents {
            Agents::Here(company) => company.end(&self.common).await,
            Agents::InWorkers(workers) => workers.end().await?,
        }
        Ok(series)
    }
}
