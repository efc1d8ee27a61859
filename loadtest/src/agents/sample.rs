//! Looks at everything once a second: counts, processes, the wire. Also draws the line that says how far the run is.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::agent::Common;
use super::result::{ProcessUse, Second, Wire};
use super::wake::Wakes;
use super::wire::{Diagnosis, Traffic};
use crate::process::{Usage, usage};

/// From one sample to the next.
const EVERY: Duration = Duration::from_secs(1);

/// Processes that are looked at as one; one may be replaced by another.
#[derive(Debug)]
pub struct Watched {
    ids: Mutex<Vec<u32>>,
    /// What those before it used.
    before: Mutex<Duration>,
    /// The most memory in any sample.
    peak: Mutex<u64>,
}

impl Watched {
    /// The processes with these ids.
    pub fn new(ids: Vec<u32>) -> Self {
        Self { ids: Mutex::new(ids), before: Mutex::default(), peak: Mutex::default() }
    }

    /// What they have used until now, with those before. `None` while one is away.
    pub fn usage(&self) -> Option<Usage> {
        let ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut now = Usage::default();
        for id in ids {
            let usage = usage(id)?;
            now = Usage { cpu: now.cpu + usage.cpu, rss_kib: now.rss_kib + usage.rss_kib };
        }
        let mut peak = self.peak.lock().unwrap_or_else(PoisonError::into_inner);
        *peak = now.rss_kib.max(*peak);
        Some(Usage { cpu: now.cpu + *self.before.lock().unwrap_or_else(PoisonError::into_inner), ..now })
    }

    /// A process is about to end. To be followed by [`Watched::replaced`].
    pub fn ends(&self, id: u32) {
        let used = usage(id).map_or(Duration::ZERO, |usage| usage.cpu);
        *self.before.lock().unwrap_or_else(PoisonError::into_inner) += used;
    }

    /// Others are in its place.
    pub fn replaced(&self, ids: Vec<u32>) {
        *self.ids.lock().unwrap_or_else(PoisonError::into_inner) = ids;
    }

    /// What they used between two looks, for so many check-ins of so many agents.
    pub fn report(&self, looks: &Looks, seconds: f64, check_ins: u64, agents: u32) -> ProcessUse {
        let cpu = looks.end.cpu.saturating_sub(looks.begin.cpu).as_secs_f64();
        let grown = looks.end.rss_kib.saturating_sub(looks.before.rss_kib);
        ProcessUse {
            cpu_seconds: cpu,
            cpu_percent: cpu / seconds * 100.0,
            cpu_us_per_check_in: (check_ins > 0).then(|| cpu * 1e6 / check_ins as f64),
            rss_before_kib: looks.before.rss_kib,
            rss_kib: looks.end.rss_kib,
            rss_peak_kib: *self.peak.lock().unwrap_or_else(PoisonError::into_inner),
            rss_per_agent_kib: (agents > 0).then(|| grown as f64 / f64::from(agents)),
        }
    }
}

/// Three looks at a process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Looks {
    /// Before the first agent came.
    pub before: Usage,
    /// At the begin of the measurement.
    pub begin: Usage,
    /// At its end.
    pub end: Usage,
}

/// What went over check-in connections until some moment.
#[derive(Debug)]
pub struct WireLook {
    at: Instant,
    open: HashMap<SocketAddr, Traffic>,
    closed: Traffic,
    closed_count: u64,
    answered: u64,
}

/// Looks at all check-in connections. `None` where the kernel does not tell.
pub async fn look_at_wire(common: &Arc<Common>, api: SocketAddr) -> Option<WireLook> {
    let looking = Arc::clone(common);
    // A list of thousands takes the kernel some ten milliseconds, in which no agent should wait.
    let open = tokio::task::spawn_blocking(move || {
        let mut open = Diagnosis::new().ok()?.connections(api).ok()?;
        if looking.spread_sources {
            // The operator's connections come from 127.0.0.1.
            open.retain(|from, _| from.ip() != Ipv4Addr::LOCALHOST);
        }
        Some(open)
    });
    let open = open.await.ok()??;
    let (closed, closed_count) = common.ledger.sum();
    let answered = common.tally.counts().answered;
    Some(WireLook { at: Instant::now(), open, closed, closed_count, answered })
}

/// What went over them between two looks.
pub fn wire(begin: &WireLook, end: &WireLook, held: bool) -> Wire {
    let mut sum = end.closed - begin.closed;
    let mut connections = end.closed_count - begin.closed_count;
    for (from, now) in &end.open {
        if let Some(then) = begin.open.get(from) {
            sum = sum + (*now - *then);
            connections += 1;
        }
    }
    let seconds = end.at.duration_since(begin.at).as_secs_f64();
    let check_ins = end.answered - begin.answered;
    let each = |amount: u64| (check_ins > 0 && !held).then(|| amount as f64 / check_ins as f64);
    Wire {
        seconds,
        connections,
        check_ins,
        bytes: sum.bytes,
        packets: sum.packets,
        payload: sum.payload,
        bytes_per_check_in: each(sum.bytes),
        packets_per_check_in: each(sum.packets),
        bytes_per_agent_s: sum.bytes as f64 / connections.max(1) as f64 / seconds,
    }
}

/// Samples once a second until `done`, and tells `progress` after each. Times count from the begin of the run.
pub async fn sample(
    common: Arc<Common>,
    server: Option<Arc<Watched>>,
    own: Arc<Watched>,
    wakes: Arc<Wakes>,
    done: CancellationToken,
    progress: impl Fn(&Second),
) -> Vec<Second> {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let look = || (Instant::now(), server.as_ref().and_then(|server| server.usage()), own.usage());
    let mut last = look();
    let mut series = Vec::new();
    ticks.tick().await;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = done.cancelled() => return series,
        }
        let now = look();
        let elapsed = now.0.duration_since(last.0).as_secs_f64();
        let percent = |before: Option<Usage>, after: Option<Usage>| {
            let (before, after) = before.zip(after)?;
            Some(after.cpu.saturating_sub(before.cpu).as_secs_f64() / elapsed * 100.0)
        };
        let counts = common.tally.end_second();
        let latency = counts.latency.percentiles();
        let second = Second {
            at_s: common.now().as_secs_f64(),
            answered: counts.answered,
            failed: counts.failed,
            p50_us: latency.map(|latency| latency.p50_us),
            p99_us: latency.map(|latency| latency.p99_us),
            max_us: latency.map(|latency| latency.max_us),
            connected: common.tally.connected(),
            tunnels: common.tally.tunnels(),
            woken: wakes.end_second(),
            cpu_percent: percent(last.1, now.1),
            rss_kib: now.1.map(|usage| usage.rss_kib),
            harness_cpu_percent: percent(last.2, now.2),
            wire_bytes: None,
        };
        progress(&second);
        series.push(second);
        last = now;
    }
}
