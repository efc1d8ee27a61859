//! A run, from enrolment to the end: who does what in which order.
//!
//! ```text
//!   enrol ── join ── tunnels open ──┬─ measurement ─────────────────────┬── grace ── everybody goes home
//!                                   └ wakes, traffic, churn, a restart ─┘
//! ```

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::sync::mpsc;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use super::agent::Common;
use super::counts::Counts;
use super::operator::Operator;
use super::options::Options;
use super::others::Others;
use super::result::{AgentsRun, CheckIns, Churn, Held, Ramp, Restart, Second, Tunnels};
use super::sample::{self, Looks, Watched, look_at_wire};
use super::stage::Stage;
use super::target::Server;
use super::tunnels;
use super::worker::Order;
use crate::gateway::Restarted;
use crate::process::usage;

/// From the last agent's joining to the begin of the measurement: longer than anybody needs to hear of it.
const LEAD: Duration = Duration::from_secs(1);
/// Orders that wait for the one who passes them on.
const ORDERS: usize = 1024;

/// Tells how far it is.
pub trait Progress: Send + Sync + 'static {
    /// A step begins.
    fn step(&self, text: &str);
    /// A second has passed.
    fn second(&self, measured: Option<Duration>, second: &Second);
}

/// Plays the agents of `options` against `server`. When `interrupt` is cancelled, it ends early with what was measured.
///
/// # Errors
/// If agents can't join, or the gateway does not come back from a restart.
pub async fn play(
    mut server: Server,
    options: &Options,
    interrupt: &CancellationToken,
    progress: Arc<impl Progress>,
) -> Result<AgentsRun> {
    progress.step("enrolling");
    let crowd = server.enrol(options).await?;
    let mut stage = Stage::set(&server, options, &crowd)?;
    let looks_before = Looks {
        before: server.watched.as_ref().and_then(|watched| watched.usage()).unwrap_or_default(),
        ..Looks::default()
    };
    let own = Arc::new(Watched::new(stage.processes()));
    let own_before = usage(std::process::id()).unwrap_or_default();
    let operator = server.admin.clone().map(|admin| Operator::new(admin, stage.pattern.clone(), crowd.names));
    let sampler = stage.sampler(&server, &own, &progress);

    progress.step("joining");
    let joined = match stage.joined(interrupt).await {
        Ok(took) => took,
        Err(error) => {
            stage.end(sampler).await?;
            return Err(error);
        }
    };

    let mut tunnels = None;
    if let (Some(wanted), Some(operator)) = (options.tunnels, &operator) {
        progress.step("opening tunnels");
        tunnels = Some(tunnels::open_all(&stage.common, operator, server.watched.as_deref(), wanted).await);
    }

    progress.step("measuring");
    let begin = stage.common.now() + LEAD;
    let end = begin + options.duration;
    stage.tell(Order::Window(begin, end));
    sleep_until(stage.common.epoch + begin).await;
    let look = || server.watched.as_ref().and_then(|watched| watched.usage()).unwrap_or_default();
    let mut looks = Looks { begin: look(), ..looks_before };
    let mut own_looks =
        Looks { before: own_before, begin: own.usage().unwrap_or_default(), ..Looks::default() };
    let wire_begin = look_at_wire(&stage.common, server.api).await;

    let (orders, mut ordered) = mpsc::channel(ORDERS);
    let mut others =
        Others::start(&stage, options, operator.as_ref(), tunnels.as_ref(), orders.clone(), begin, end);
    let restarted = {
        let measuring = measurement(&stage.common, options, &mut server, orders, begin, end);
        tokio::pin!(measuring);
        loop {
            tokio::select! {
                restarted = &mut measuring => break restarted,
                Some(order) = ordered.recv() => stage.tell(order),
                () = interrupt.cancelled() => break Ok(None),
            }
        }
    };
    stage.tell(Order::EndAt(stage.common.now()));
    let interrupted = interrupt.is_cancelled();
    let end = stage.common.tally.window.end().unwrap_or(end);
    looks.end = server.watched.as_ref().and_then(|watched| watched.usage()).unwrap_or_default();
    own_looks.end = own.usage().unwrap_or_default();
    let wire_end = look_at_wire(&stage.common, server.api).await;

    progress.step("ending");
    others.end(interrupted).await;
    stage.settle(interrupted).await;
    let carrying = others.carrying.report();
    let series = stage.end(sampler).await?;
    let restarted = restarted?;

    let seconds = end.saturating_sub(begin).as_secs_f64();
    let counts = stage.common.tally.counts().clone();
    let course = stage.common.tally.course();
    let back = course.back;
    let check_ins = check_ins(&counts, options.hold.is_some());
    let answered = check_ins.answered;
    let use_of = |watched: &Watched, looks: &Looks| watched.report(looks, seconds, answered, options.count);
    let restart = restarted.map(|(at, ready, how)| {
        let since_ready = |time: Duration| time.saturating_sub(ready).as_secs_f64();
        Restart {
            at_s: at.saturating_sub(begin).as_secs_f64(),
            down_s: how.down.as_secs_f64(),
            up_s: how.up.as_secs_f64(),
            first_answer_s: back.map_or(0.0, |back| since_ready(back.first)),
            all_back_s: back
                .filter(|back| back.agents >= u64::from(options.count))
                .map(|back| since_ready(back.last)),
            back: back.map_or(0, |back| back.agents),
            silent_seconds: course.silent_seconds,
        }
    });
    let changes = options.churn.is_some() || options.restart_at.is_some();
    Ok(AgentsRun {
        target: server.kind,
        seconds,
        interrupted,
        ramp: Ramp {
            enrol_seconds: crowd.took.as_secs_f64(),
            seconds: joined.as_secs_f64(),
            first_answer: counts.first_answers.report(),
            failures: counts.first_failures.clone(),
        },
        wire: wire_begin.zip(wire_end).map(|(begin, end)| sample::wire(&begin, &end, options.hold.is_some())),
        server: server.watched.as_ref().map(|watched| use_of(watched, &looks)),
        harness: use_of(&own, &own_looks),
        wake: options.wake.map(|_| others.wakes.report(&counts.tunnel_openings)),
        tunnels: tunnels.map(|(report, _)| Tunnels {
            lost: counts.tunnels_lost,
            traffic: (options.carrying > 0).then_some(carrying),
            ..report
        }),
        churn: changes.then(|| Churn {
            vanished: counts.vanished,
            returned: counts.returns.count(),
            return_to_answer: counts.returns.report(),
            restart,
            longest_silence_ms: u64::try_from(course.longest_silence.as_millis()).unwrap_or(u64::MAX),
        }),
        check_ins,
        series: from(series, begin),
    })
}

/// The measurement itself: time passes, and the gateway is restarted if that was asked for. Returns when it was asked to
/// end, when it was ready again, and how long both took.
async fn measurement(
    common: &Common,
    options: &Options,
    server: &mut Server,
    orders: mpsc::Sender<Order>,
    begin: Duration,
    end: Duration,
) -> Result<Option<(Duration, Duration, Restarted)>> {
    let mut restarted = None;
    if let Some(at) = options.restart_at {
        sleep_until(common.epoch + begin + at).await;
        let asked = common.now();
        let how = server.restart().await.context("the gateway does not restart")?;
        // Whoever passes orders on lives as long as this does.
        let _ = orders.send(Order::Restarted).await;
        restarted = Some((asked, common.now(), how));
    }
    sleep_until(common.epoch + end).await;
    Ok(restarted)
}

fn check_ins(counts: &Counts, holds: bool) -> CheckIns {
    CheckIns {
        scheduled: counts.scheduled,
        answered: counts.answered,
        failed: counts.failures.values().sum(),
        cut: counts.cut,
        failures: counts.failures.clone(),
        latency: counts.latency.report(),
        held: holds.then(|| Held {
            answered: counts.held.count(),
            offers: counts.held_offers,
            time: counts.held.report(),
        }),
        reconnects: counts.reconnects,
    }
}

/// The series with times from the begin of the measurement.
fn from(mut series: Vec<Second>, begin: Duration) -> Vec<Second> {
    for second in &mut series {
        second.at_s -= begin.as_secs_f64();
    }
    series
}
