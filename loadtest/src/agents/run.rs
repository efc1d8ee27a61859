//! A run, from enrolment to the end: who does what in which order.
//!
//! ```text
//!   enrol ── join ── tunnels open ──┬─ measurement ─────────────────────┬── grace ── everybody goes home
//!                                   └ wakes, traffic, churn, a restart ─┘
//! ```

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use shared::wire::check_in::Identity;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::agent::{Agent, Common};
use super::connection::{ANSWER_TIMEOUT, Endpoint};
use super::operator::Operator;
use super::options::Options;
use super::plan::Vanishing;
use super::result::{AgentsRun, CheckIns, Churn, Held, Ramp, Restart, Second, Tunnels};
use super::sample::{self, Looks, Watched, look_at_wire};
use super::tally::{Counts, Tally};
use super::target::{Crowd, Server};
use super::tunnel::Ground;
use super::tunnels::{self, Carrying};
use super::wake::Wakes;
use super::wire::Ledger;
use crate::gateway::Restarted;
use crate::pattern::Pattern;
use crate::process::usage;

/// Agents that join at a time: enough to keep two cores busy with handshakes, few enough that none waits for seconds.
const JOIN_AT_ONCE: usize = 64;
/// Time for all agents to join: this many a second, a tenth of what a core does, and a minute.
const SLOWEST_JOINS_PER_S: f64 = 100.0;
const JOIN_AT_LEAST: Duration = Duration::from_secs(60);
/// From the last agent's joining to the begin of the measurement: longer than anybody needs to hear of it.
const LEAD: Duration = Duration::from_secs(1);
/// Pause between two looks at something that is waited for.
const LOOK: Duration = Duration::from_millis(20);
/// Time for everybody to go home.
const HOME: Duration = Duration::from_secs(20);

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
    let stage = Stage::set(&server, options, &crowd)?;
    let looks_before = Looks {
        before: server.watched.as_ref().and_then(|watched| watched.usage()).unwrap_or_default(),
        ..Looks::default()
    };
    let own = Watched::new(std::process::id());
    let own_before = usage(std::process::id()).unwrap_or_default();
    let operator = server.admin.clone().map(|admin| Operator::new(admin, stage.pattern.clone(), crowd.names));
    let (agents, leave) = stage.enter(crowd.identities);
    let sampler = stage.sampler(&server, &progress);

    progress.step("joining");
    let joined = stage.joined(interrupt).await;
    let joined = match joined {
        Ok(took) => took,
        Err(error) => {
            stage.end(agents, sampler).await;
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
    stage.common.tally.window.set(begin, end);
    sleep_until(stage.common.epoch + begin).await;
    let look = || server.watched.as_ref().and_then(|watched| watched.usage()).unwrap_or_default();
    let mut looks = Looks { begin: look(), ..looks_before };
    let mut own_looks =
        Looks { before: own_before, begin: own.usage().unwrap_or_default(), ..Looks::default() };
    let wire_begin = look_at_wire(&stage.common, server.api).await;

    let mut others = Others::start(&stage, options, operator.as_ref(), tunnels.as_ref(), leave, begin, end);
    let restarted = tokio::select! {
        restarted = measurement(&stage, options, &mut server, begin, end) => restarted,
        () = interrupt.cancelled() => Ok(None),
    };
    stage.common.tally.window.end_at(stage.common.now());
    let interrupted = interrupt.is_cancelled();
    let end = stage.common.tally.window.end().unwrap_or(end);
    looks.end = server.watched.as_ref().and_then(|watched| watched.usage()).unwrap_or_default();
    own_looks.end = own.usage().unwrap_or_default();
    let wire_end = look_at_wire(&stage.common, server.api).await;

    progress.step("ending");
    others.end(interrupted).await;
    stage.settle(interrupted).await;
    let back = stage.common.tally.counts().back;
    let carrying = others.carrying.report();
    let series = stage.end(agents, sampler).await;
    let restarted = restarted?;

    let seconds = end.saturating_sub(begin).as_secs_f64();
    let counts = stage.common.tally.counts().clone();
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
            silent_seconds: counts.silent_seconds,
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
            longest_silence_ms: u64::try_from(counts.longest_silence.as_millis()).unwrap_or(u64::MAX),
        }),
        check_ins,
        series: from(series, begin),
    })
}

/// The measurement itself: time passes, and the gateway is restarted if that was asked for. Returns when it was asked to
/// end, when it was ready again, and how long both took.
async fn measurement(
    stage: &Stage,
    options: &Options,
    server: &mut Server,
    begin: Duration,
    end: Duration,
) -> Result<Option<(Duration, Duration, Restarted)>> {
    let mut restarted = None;
    if let Some(at) = options.restart_at {
        sleep_until(stage.common.epoch + begin + at).await;
        let asked = stage.common.now();
        let how = server.restart().await.context("the gateway does not restart")?;
        stage.common.tally.restarted();
        restarted = Some((asked, stage.common.now(), how));
    }
    sleep_until(stage.common.epoch + end).await;
    Ok(restarted)
}

/// Everything that agents share, before the first of them comes.
struct Stage {
    common: Arc<Common>,
    pattern: Pattern,
    wakes: Arc<Wakes>,
    count: u32,
    sampled: CancellationToken,
}

type Leave = Vec<mpsc::Sender<Vanishing>>;

impl Stage {
    fn set(server: &Server, options: &Options, crowd: &Crowd) -> Result<Self> {
        let abrupt = options.churn.is_some();
        let hold = options.hold.map(|seconds| Duration::from_secs(seconds.into()));
        let endpoint = Endpoint::new(server.api, &crowd.pins, options.protocol(), hold, abrupt)?;
        let pattern = Pattern::new(options.seed);
        let common = Common {
            plan: options.plan(),
            epoch: Instant::now(),
            endpoint,
            ground: Arc::new(Ground::new(crowd.host_keys.clone(), pattern.clone())),
            tally: Tally::default(),
            door: Semaphore::new(JOIN_AT_ONCE),
            spread_sources: server.is_loopback(),
            reconnect_each: options.reconnect_each,
            keep_tunnels: options.tunnels.is_some(),
            ledger: Ledger::new(server.api),
            over: CancellationToken::new(),
        };
        Ok(Self {
            common: Arc::new(common),
            pattern,
            wakes: Arc::default(),
            count: options.count,
            sampled: CancellationToken::new(),
        })
    }

    /// Lets all agents begin. Returns their tasks, and how to tell each to vanish.
    fn enter(&self, identities: Vec<Identity>) -> (JoinSet<()>, Leave) {
        let mut agents = JoinSet::new();
        let mut leave = Vec::with_capacity(identities.len());
        for (number, identity) in (0..).zip(identities) {
            let (sender, vanish) = mpsc::channel(1);
            leave.push(sender);
            agents.spawn(Agent::new(Arc::clone(&self.common), number, identity).run(vanish));
        }
        (agents, leave)
    }

    fn sampler(&self, server: &Server, progress: &Arc<impl Progress>) -> JoinHandle<Vec<Second>> {
        let (common, progress) = (Arc::clone(&self.common), Arc::clone(progress));
        let show = move |second: &Second| {
            let begin = common.tally.window.begin();
            progress.second(begin.and_then(|begin| common.now().checked_sub(begin)), second);
        };
        let (common, wakes) = (Arc::clone(&self.common), Arc::clone(&self.wakes));
        tokio::spawn(sample::sample(common, server.watched.clone(), wakes, self.sampled.clone(), show))
    }

    /// Waits until every agent has been answered. Returns how long that took.
    async fn joined(&self, interrupt: &CancellationToken) -> Result<Duration> {
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
    async fn settle(&self, interrupted: bool) {
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
    async fn end(&self, mut agents: JoinSet<()>, sampler: JoinHandle<Vec<Second>>) -> Vec<Second> {
        self.sampled.cancel();
        let series = sampler.await.unwrap_or_default();
        self.common.over.cancel();
        let gone = async { while agents.join_next().await.is_some() {} };
        // What does not end by then is dropped with the set, and counted as cut.
        let _ = timeout(HOME, gone).await;
        agents.shutdown().await;
        series
    }
}

/// Whatever goes on beside check-ins.
struct Others {
    wakes: Arc<Wakes>,
    carrying: Arc<Carrying>,
    tasks: JoinSet<()>,
    /// Nothing new is begun.
    stop: CancellationToken,
    /// What is under way is cut.
    over: CancellationToken,
    patience: Duration,
}

impl Others {
    fn start(
        stage: &Stage,
        options: &Options,
        operator: Option<&Operator>,
        tunnels: Option<&(Tunnels, Vec<u32>)>,
        leave: Leave,
        begin: Duration,
        end: Duration,
    ) -> Self {
        let (wakes, carrying) = (Arc::clone(&stage.wakes), Arc::<Carrying>::default());
        let mut tasks = JoinSet::new();
        let (stop, over) = (CancellationToken::new(), CancellationToken::new());
        let (plan, epoch) = (stage.common.plan, stage.common.epoch);
        let length = end.saturating_sub(begin);
        if let (Some(rate), Some(operator)) = (options.wake, operator) {
            let schedule = plan.wakes(rate, length).into_iter().map(|(at, agent)| (begin + at, agent));
            let (wakes, over) = (Arc::clone(&wakes), over.clone());
            tasks.spawn(wakes.run(operator.clone(), epoch, plan.interval(), schedule.collect(), over));
        }
        if let (Some((_, agents)), Some(operator)) = (tunnels, operator) {
            let some = agents.iter().copied().take(usize::try_from(options.carrying).unwrap_or(0)).collect();
            tasks.spawn(Arc::clone(&carrying).run(operator.clone(), some, stop.clone()));
        }
        if let Some(rate) = options.churn {
            let (schedule, stop) = (plan.vanishings(rate, length), stop.clone());
            tasks.spawn(async move {
                for (at, agent, way) in schedule {
                    tokio::select! {
                        () = sleep_until(epoch + begin + at) => {}
                        () = stop.cancelled() => return,
                    }
                    // An agent that has not yet heard of the last time need not vanish twice.
                    let _ =
                        leave[usize::try_from(agent).expect("a usize has 32 bits at least")].try_send(way);
                }
            });
        }
        let patience = 2 * plan.interval() + ANSWER_TIMEOUT;
        Self { wakes, carrying, tasks, stop, over, patience }
    }

    /// Ends traffic and churn, waits for wakes that are under way, and cuts what is left.
    async fn end(&mut self, interrupted: bool) {
        self.stop.cancel();
        let patience = if interrupted { Duration::ZERO } else { self.patience };
        if timeout(patience, self.all_end()).await.is_err() {
            self.over.cancel();
            self.all_end().await;
        }
    }

    async fn all_end(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
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
