//! Many tunnels open at once, and traffic in some of them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::agent::Common;
use super::operator::Operator;
use super::result::{FailureKind, Failures, Traffic, Tunnels};
use super::sample::Watched;
use super::times::Times;
use crate::statistics::slope;

/// Flags that are raised at a time: enough to keep the gateway busy, few enough to be answered at once.
const RAISED_AT_ONCE: usize = 64;
/// Pause between two looks at how many are open.
const LOOK: Duration = Duration::from_millis(100);
/// Time for all tunnels to open, beyond three intervals: at this many a second, a tenth of what is asked of a gateway.
const SLOWEST_PER_S: f64 = 150.0;
/// No tunnel opens for so long: then no other will.
const STALLED: Duration = Duration::from_secs(30);
/// A message of a stream that carries traffic, and the time from one to the next.
const MESSAGE: usize = 4096;
const MESSAGE_EVERY: Duration = Duration::from_millis(200);
/// Longest wait for a stream in a tunnel that is open.
const STREAM_TIMEOUT: Duration = Duration::from_secs(20);

/// Opens the tunnels of the first `wanted` agents in the order of the plan, and waits until all are open or no more come.
/// Returns the report so far, and whose they are.
pub async fn open_all(
    common: &Arc<Common>,
    operator: &Operator,
    server: Option<&Watched>,
    wanted: u32,
) -> (Tunnels, Vec<u32>) {
    let mut chosen = common.plan.shuffled("tunnels");
    chosen.truncate(usize::try_from(wanted).unwrap_or(usize::MAX));
    let begun = Instant::now();
    let before = server.and_then(Watched::usage);
    let raising = stream::iter(chosen.clone())
        .map(|agent| async move { operator.raise(agent).await })
        .buffer_unordered(RAISED_AT_ONCE)
        .filter_map(async |result| result.err())
        .collect::<Vec<FailureKind>>();
    let watching = watch(common, server, wanted, begun);
    let (refused, (points, ended)) = tokio::join!(raising, watching);
    let after = server.and_then(Watched::usage);
    let opened = common.tally.tunnels().min(wanted.into());
    let counts = common.tally.counts();
    let mut failures = counts.tunnel_failures.clone();
    for kind in refused {
        *failures.entry(kind).or_default() += 1;
    }
    let seconds = ended.duration_since(begun).as_secs_f64();
    let cpu = before.zip(after).map(|(before, after)| after.cpu.saturating_sub(before.cpu));
    let report = Tunnels {
        wanted: wanted.into(),
        opened,
        failed: u64::from(wanted) - opened,
        failures,
        lost: 0,
        seconds,
        per_s: opened as f64 / seconds,
        cpu_us_per_tunnel: cpu.filter(|_| opened > 0).map(|cpu| cpu.as_secs_f64() * 1e6 / opened as f64),
        rss_per_tunnel_kib: slope(&points),
        offer_to_tunnel: counts.tunnel_openings.report(),
        traffic: None,
    };
    (report, chosen)
}

/// Looks at tunnels and memory until `wanted` are open, or it takes too long. Returns the memory by number of tunnels, and
/// when the last one was seen to open.
async fn watch(
    common: &Common,
    server: Option<&Watched>,
    wanted: u32,
    begun: Instant,
) -> (Vec<(f64, f64)>, Instant) {
    let patience = 3 * common.plan.interval() + Duration::from_secs_f64(f64::from(wanted) / SLOWEST_PER_S);
    let mut points = Vec::new();
    let (mut most, mut grew) = (0, begun);
    loop {
        let open = common.tally.tunnels();
        if open > most {
            (most, grew) = (open, Instant::now());
        }
        if let Some(usage) = server.and_then(Watched::usage) {
            points.push((open as f64, usage.rss_kib as f64));
        }
        let given_up = begun.elapsed() > patience && grew.elapsed() > STALLED;
        if open >= u64::from(wanted) || given_up || common.over.is_cancelled() {
            return (points, grew);
        }
        sleep(LOOK).await;
    }
}

/// What streams with traffic count.
#[derive(Debug, Default)]
pub struct Carrying {
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    streams: u64,
    failures: Failures,
    messages: u64,
    times: Times,
}

impl Carrying {
    /// Opens a stream in the tunnel of each of these agents, and sends messages through all of them until `over`.
    pub async fn run(self: Arc<Self>, operator: Operator, agents: Vec<u32>, over: CancellationToken) {
        let mut streams = JoinSet::new();
        let count = u32::try_from(agents.len()).unwrap_or(u32::MAX);
        for (number, agent) in (0..).zip(agents) {
            self.counts().streams += 1;
            let (carrying, operator, over) = (Arc::clone(&self), operator.clone(), over.clone());
            // Evenly spread over the time from one message to the next.
            let first = Instant::now() + MESSAGE_EVERY * number / count;
            streams.spawn(async move {
                if let Err(kind) = carrying.converse(&operator, agent, first, &over).await {
                    *carrying.counts().failures.entry(kind).or_default() += 1;
                }
            });
        }
        while streams.join_next().await.is_some() {}
    }

    async fn converse(
        &self,
        operator: &Operator,
        agent: u32,
        first: Instant,
        over: &CancellationToken,
    ) -> Result<(), FailureKind> {
        let mut stream = operator.open(agent, STREAM_TIMEOUT).await?;
        let mut due = first;
        loop {
            tokio::select! {
                () = sleep_until(due) => {}
                () = over.cancelled() => return stream.finish().await,
            }
            stream.round_trip(MESSAGE).await?;
            let mut counts = self.counts();
            counts.messages += 1;
            counts.times.record(due.elapsed());
            due += MESSAGE_EVERY;
        }
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The report.
    pub fn report(&self) -> Traffic {
        let counts = self.counts();
        Traffic {
            streams: counts.streams,
            failed: counts.failures.values().sum(),
            failures: counts.failures.clone(),
            messages: counts.messages,
            bytes: counts.messages * MESSAGE as u64,
            round_trip: counts.times.report(),
        }
    }
}
