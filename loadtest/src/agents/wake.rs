//! Flags raised at a rate, each until bytes came back through a stream to the service behind the agent, and then lowered.
//!
//! The rule: a flag is raised when it is due, however many are still waiting, and its time counts from when it was due.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::operator::Operator;
use super::result::{FailureKind, Failures, Wake};
use super::times::Times;

/// What a wake may take beyond two intervals, as the gateway lets an operator wait.
const PATIENCE: Duration = Duration::from_secs(15);

/// What happened to the flags.
#[derive(Debug, Default)]
pub struct Wakes {
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    raised: u64,
    usable: u64,
    failures: Failures,
    times: Times,
    this_second: u64,
}

impl Wakes {
    /// Raises every flag of `schedule`, whose times count from `epoch`, until all is done or `over` is cancelled.
    pub async fn run(
        self: Arc<Self>,
        operator: Operator,
        epoch: Instant,
        interval: Duration,
        schedule: Vec<(Duration, u32)>,
        over: CancellationToken,
    ) {
        let within = 2 * interval + PATIENCE;
        let mut under_way = JoinSet::new();
        for (due, agent) in schedule {
            tokio::select! {
                () = sleep_until(epoch + due) => {}
                () = over.cancelled() => break,
            }
            let (wakes, operator) = (Arc::clone(&self), operator.clone());
            under_way.spawn(async move {
                wakes.counts().raised += 1;
                let result = wake(&operator, agent, within, || {
                    let mut counts = wakes.counts();
                    counts.times.record(epoch.elapsed().saturating_sub(due));
                    counts.this_second += 1;
                });
                let result = result.await;
                let mut counts = wakes.counts();
                match result {
                    Ok(()) => counts.usable += 1,
                    Err(kind) => *counts.failures.entry(kind).or_default() += 1,
                }
            });
            while under_way.try_join_next().is_some() {}
        }
        // What is dropped with this set counts as cut: it was raised, and had no end.
        tokio::select! {
            () = async { while under_way.join_next().await.is_some() {} } => {}
            () = over.cancelled() => {}
        }
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Streams that became usable since this was asked last.
    pub fn end_second(&self) -> u64 {
        std::mem::take(&mut self.counts().this_second)
    }

    /// The report, with the times of the agents' own part.
    pub fn report(&self, offer_to_tunnel: &Times) -> Wake {
        let counts = self.counts();
        let failed: u64 = counts.failures.values().sum();
        Wake {
            raised: counts.raised,
            usable: counts.usable,
            failed,
            cut: counts.raised - counts.usable - failed,
            failures: counts.failures.clone(),
            flag_to_usable: counts.times.report(),
            offer_to_tunnel: offer_to_tunnel.report(),
        }
    }
}

/// One flag, from its raising to its lowering.
async fn wake(
    operator: &Operator,
    agent: u32,
    within: Duration,
    usable: impl FnOnce(),
) -> Result<(), FailureKind> {
    operator.raise(agent).await?;
    let mut stream = operator.open(agent, within).await?;
    usable();
    stream.probe().await?;
    stream.finish().await?;
    operator.lower(agent).await
}
