//! A run, from enrolment to the end: who does what in which order.
//!
//! ```text
//!   enrol ── join ── tunnels open ──┬─ measurement ─────────────────────┬── grace ── everybody goes home
//!                                   └ wakes, traffic, churn, a restart ─┘
//! ```

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::agent::Common;
use super::cast::{Cast, Company};
use super::connection::ANSWER_TIMEOUT;
use super::limits::Machine;
use super::operator::Operator;
use super::options::Options;
use super::result::{AgentsRun, CheckIns, Churn, Held, Ramp, Restart, Second, Tunnels};
use super::sample::{self, Looks, Watched, look_at_wire};
use super::tally::Counts;
use super::target::{Crowd, Server};
use super::tunnels::{self, Carrying};
use super::wake::Wakes;
use super::worker::{Order, Workers};
use crate::gateway::Restarted;
use crate::pattern::Pattern;
use crate::process::usage;

/// Time for all agents to join: this many a second, a tenth of what a core does, and a minute.
const SLOWEST_JOINS_PER_S: f64 = 100.0;
const JOIN_AT_LEAST: Duration = Duration::from_secs(60);
/// From the last agent's joining to the begin of the measurement: longer than anybody needs to hear of it.
const LEAD: Duration = Duration::from_secs(1);
/// Pause between two looks at something that is waited for.
const LOOK: Duration = Duration::from_millis(20);
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

/// The agents, wherever they are, and what they share.
struct Stage {
    common: Arc<Common>,
    pattern: Pattern,
    wakes: Arc<Wakes>,
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
    fn set(server: &Server, options: &Options, crowd: &Crowd) -> Result<Self> {
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
    fn processes(&self) -> Vec<u32> {
        let own = std::iter::once(std::process::id());
        match &self.agents {
            Agents::Here(_) => own.collect(),
            Agents::InWorkers(workers) => own.chain(workers.ids.iter().copied()).collect(),
        }
    }

    /// Passes an order on to all agents.
    fn tell(&self, order: Order) {
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

    fn sampler(
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
    async fn end(&mut self, sampler: JoinHandle<Vec<Second>>) -> Result<Vec<Second>> {
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
        orders: mpsc::Sender<Order>,
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
                    if orders.send(Order::Vanish(agent, way)).await.is_err() {
                        return;
                    }
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
