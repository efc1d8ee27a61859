//! The honest ones: agents that check in, tunnels that carry small requests, sites that are woken, agents that lose their
//! connection and come back. They are those of [`crate::agents`], in processes of their own.
//!
//! The rule: what they notice is counted for each attack by itself, from its begin to its end, and a check-in that fails is
//! a failure of the attack in which it failed.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::options::Options;
use super::result::Honest;
use crate::agents::counts::Counts;
use crate::agents::limits::Machine;
use crate::agents::operator::Operator;
use crate::agents::options as played;
use crate::agents::plan::Vanishing;
use crate::agents::stage::Stage;
use crate::agents::target::Server;
use crate::agents::tunnels::{Carrying, open_all};
use crate::agents::wake::Wakes;
use crate::agents::worker::Order;

/// Longest run.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// From the last agent's joining to the first count: longer than a worker needs to hear of it.
const LEAD: Duration = Duration::from_millis(500);
/// Counts of workers come ten times a second; what they say within this time was known before.
const WORDS: Duration = Duration::from_millis(250);
/// One agent in so many loses its connection in each interval and comes back.
const LOST_OF: u32 = 50;
/// Sites that are woken in each attack.
const WOKEN: u32 = 2;

/// The honest ones, at work.
pub struct Bystanders {
    stage: Stage,
    operator: Operator,
    /// Whose tunnels are open.
    tunnels: Vec<u32>,
    /// The others, in the order in which they are woken and lose their connections.
    others: Vec<u32>,
    turn: usize,
    interval: Duration,
}

impl Bystanders {
    /// Lets them begin; returns when all are there.
    ///
    /// # Errors
    /// If the gateway does not enrol them, or they can't join.
    pub async fn enter(server: &Server, options: &Options, interrupt: &CancellationToken) -> Result<Self> {
        let played: played::Options = options.bystanders();
        played.check()?;
        played.needs().fit(&Machine::this(), true)?;
        let crowd = server.enrol(&played).await?;
        let stage = Stage::set(server, &played, &crowd)?;
        let admin = server.admin.clone().expect("a gateway that was started here has an admin");
        let operator = Operator::new(admin, stage.pattern.clone(), crowd.names);
        stage.joined(interrupt).await?;
        let wanted = options.setup().tunnels;
        let (opened, tunnels) = open_all(&stage.common, &operator, server.watched.as_deref(), wanted).await;
        ensure!(opened.opened == u64::from(wanted), "only {} of {wanted} tunnels opened", opened.opened);
        let all = stage.common.plan.shuffled("attacks");
        let others = all.into_iter().filter(|agent| !tunnels.contains(agent)).collect();
        let begin = stage.common.now() + LEAD;
        stage.tell(Order::Window(begin, begin + DAY));
        sleep(LEAD).await;
        Ok(Self { stage, operator, tunnels, others, turn: 0, interval: options.interval })
    }

    /// What they notice while `attack` goes on. With a restart of the gateway in it they only check in.
    pub async fn beside<T>(&mut self, restarts: bool, attack: impl Future<Output = T>) -> (T, Honest) {
        // What workers know already is of the attack before.
        sleep(WORDS).await;
        drop(self.take());
        if restarts {
            let outcome = attack.await;
            sleep(WORDS).await;
            return (outcome, honest(&self.take(), &Carrying::default(), &Wakes::default()));
        }
        let (carrying, wakes) = (Arc::<Carrying>::default(), Arc::<Wakes>::default());
        let (stop, never) = (CancellationToken::new(), CancellationToken::new());
        let traffic = Arc::clone(&carrying).run(self.operator.clone(), self.tunnels.clone(), stop.clone());
        let due = self.stage.common.now();
        let schedule: Vec<(Duration, u32)> = (0..WOKEN).map(|_| (due, self.next())).collect();
        let epoch = self.stage.common.epoch;
        let waking =
            Arc::clone(&wakes).run(self.operator.clone(), epoch, self.interval, schedule, never.clone());
        let going = async {
            let outcome = attack.await;
            stop.cancel();
            outcome
        };
        let (outcome, (), (), ()) = tokio::join!(going, traffic, waking, self.lose(&stop));
        sleep(WORDS).await;
        let counts = self.take();
        (outcome, honest(&counts, &carrying, &wakes))
    }

    /// Sends everybody home.
    ///
    /// # Errors
    /// If a worker ended badly.
    pub async fn leave(mut self) -> Result<()> {
        self.stage.tell(Order::EndAt(self.stage.common.now()));
        let nobody = tokio::spawn(async { Vec::new() });
        self.stage.end(nobody).await.map(drop)
    }

    /// Lets agents lose their connections, evenly, until `stop`.
    async fn lose(&self, stop: &CancellationToken) {
        let each = self.interval * LOST_OF / u32::try_from(self.others.len()).unwrap_or(u32::MAX).max(1);
        let mut ticks = interval(each.max(Duration::from_millis(10)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        for agent in self.others.iter().rev().cycle() {
            tokio::select! {
                _ = ticks.tick() => self.stage.tell(Order::Vanish(*agent, Vanishing::Reset)),
                () = stop.cancelled() => return,
            }
        }
    }

    fn next(&mut self) -> u32 {
        let agent = self.others[self.turn % self.others.len()];
        self.turn += 1;
        agent
    }

    /// What was counted since the last time.
    fn take(&self) -> Counts {
        let mut counts = self.stage.common.tally.counts();
        let course = counts.course;
        std::mem::replace(&mut *counts, Counts { course, ..Counts::default() })
    }
}

/// Waits until newcomers are served, looking again and again. Returns how long that took, `None` where it was given up.
pub async fn recovered(within: Duration, mut serves: impl AsyncFnMut() -> bool) -> Option<Duration> {
    let begun = Instant::now();
    while !serves().await {
        if begun.elapsed() > within {
            return None;
        }
        sleep_until(Instant::now() + WORDS).await;
    }
    Some(begun.elapsed())
}

fn honest(counts: &Counts, carrying: &Carrying, wakes: &Wakes) -> Honest {
    let (traffic, wake) = (carrying.report(), wakes.report(&counts.tunnel_openings));
    Honest {
        check_ins: counts.latency.report(),
        check_ins_failed: counts.failures.clone(),
        messages: traffic.round_trip,
        streams_failed: traffic.failures,
        woken: wake.usable,
        wakes_failed: wake.failures,
        tunnels_failed: counts.tunnel_failures.clone(),
        // Those that were woken are sent to sleep again, which ends their tunnels.
        tunnels_lost: counts.tunnels_lost.saturating_sub(wake.usable),
        returned: counts.returns.count(),
    }
}
