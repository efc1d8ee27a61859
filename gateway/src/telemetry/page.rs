//! All metrics as a scraper reads them, in the OpenMetrics text format 1.0. `docs/metrics.md` says what each means.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};

use super::counts::{Levels, label};
use super::vitals::Reading;
use super::{PortLabel, Vitals};
use crate::domain::authority::Reach;

/// Media type of the page.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

label! {
    /// State of an edge, as the API's list has it.
    EdgeLabel is "status" {
        /// No agent ever came.
        NeverJoined = "never-joined",
        /// None comes any more.
        Offline = "offline",
        /// It checks in.
        Online = "online",
        /// It has a tunnel.
        TunnelOpen = "tunnel-open",
    }
}

/// The page.
pub struct Page {
    vitals: Vitals,
    registry: Registry,
    levels: Mutex<ReadLevels>,
}

/// What is read when somebody looks. Behind a lock that is held while the page is written, so that two who look at once
/// each get one moment.
struct ReadLevels {
    edges: Levels<EdgeLabel>,
    agents: Gauge<u64, AtomicU64>,
    tunnels_wanted: Gauge<u64, AtomicU64>,
    streams: Gauge<u64, AtomicU64>,
    connections: Gauge<u64, AtomicU64>,
    held_check_ins: Gauge<u64, AtomicU64>,
    before_login: Levels<PortLabel>,
    penalised: Gauge<u64, AtomicU64>,
    sources: Gauge<u64, AtomicU64>,
    budget: Gauge<u64, AtomicU64>,
    reserved: Gauge<u64, AtomicU64>,
    watchers: Gauge<u64, AtomicU64>,
    queue: Gauge<u64, AtomicU64>,
    store_up: Gauge<u64, AtomicU64>,
    from_edges: Counter,
    to_edges: Counter,
    disk_free: Gauge<u64, AtomicU64>,
    resident: Gauge<u64, AtomicU64>,
    threads: Gauge<u64, AtomicU64>,
    open_files: Gauge<u64, AtomicU64>,
    max_open_files: Gauge<u64, AtomicU64>,
    cpu: Counter<f64, AtomicU64>,
}

impl Page {
    /// Of this gateway.
    pub fn new(vitals: Vitals) -> Self {
        let mut registry = Registry::default();
        let levels = Mutex::new(ReadLevels::register(&mut registry));
        register_counters(&mut registry, &vitals);
        Self { vitals, registry, levels }
    }

    /// The page as of now.
    pub async fn text(&self) -> String {
        let reading = self.vitals.read(Reach::all()).await;
        let counted = self.vitals.telemetry().instruments();
        let connections = counted.live_connections.load(Relaxed);
        let held_check_ins = counted.held_check_ins.load(Relaxed);
        let levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        levels.set(&reading);
        levels.connections.set(connections as u64);
        levels.held_check_ins.set(held_check_ins as u64);
        levels.store_up.set(self.vitals.is_store_well().into());
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a String takes everything");
        text
    }
}

/// Registers under a name with the gateway's prefix.
fn add<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: &M) {
    registry.register(format!("tidegate_{name}"), help, metric.clone());
}

/// What is counted where the work is done.
fn register_counters(registry: &mut Registry, vitals: &Vitals) {
    let counted = vitals.telemetry().instruments();
    add(registry, "check_ins", "Check-ins by how they were answered", &counted.check_ins);
    add(
        registry,
        "check_in_seconds",
        "Time that the registry took for a check-in",
        &counted.check_in_seconds,
    );
    add(registry, "events", "What happened to edges", &counted.events);
    add(registry, "tunnels_closed", "Open tunnels that ended, by whose doing", &counted.tunnels_closed);
    add(
        registry,
        "tunnel_wait_seconds",
        "Time until somebody was let through to a tunnel",
        &counted.tunnel_wait_seconds,
    );
    add(registry, "stream_openings", "Streams that operators asked for", &counted.streams);
    add(registry, "ssh_logins", "Logins on port 8000", &counted.logins);
    let [http, ssh] = &counted.admissions;
    add(registry, "http_admissions", "Connections to port 9000 by what became of them before login", http);
    add(registry, "ssh_admissions", "Connections to port 8000 by what became of them before login", ssh);
    add(registry, "stranger_failures", "What strangers did wrong", &counted.failures);
    add(registry, "refused_work", "New work for which there was no room", &counted.refused_work);
    add(registry, "http_connections_accepted", "Connections to port 9000", &counted.connections);
    add(registry, "http_requests", "Answers of the API by operation", &counted.requests);
    add(registry, "store_writes", "Writes to the store", &counted.store_writes);
    add(
        registry,
        "store_write_seconds",
        "Time until a write to the store was durable",
        &counted.store_write_seconds,
    );
    let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("tidegate_build", "Version of the gateway", build);
    let (_, started) = counted.started;
    let started = started.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let start_time = Gauge::<f64, AtomicU64>::default();
    start_time.set(started.as_secs_f64());
    registry.register(
        "process_start_time_seconds",
        "Start of the process, in seconds since 1970",
        start_time,
    );
}

impl ReadLevels {
    fn register(registry: &mut Registry) -> Self {
        let levels = Self {
            edges: Levels::default(),
            agents: Gauge::default(),
            tunnels_wanted: Gauge::default(),
            streams: Gauge::default(),
            connections: Gauge::default(),
            held_check_ins: Gauge::default(),
            before_login: Levels::default(),
            penalised: Gauge::default(),
            sources: Gauge::default(),
            budget: Gauge::default(),
            reserved: Gauge::default(),
            watchers: Gauge::default(),
            queue: Gauge::default(),
            store_up: Gauge::default(),
            from_edges: Counter::default(),
            to_edges: Counter::default(),
            disk_free: Gauge::default(),
            resident: Gauge::default(),
            threads: Gauge::default(),
            open_files: Gauge::default(),
            max_open_files: Gauge::default(),
            cpu: Counter::default(),
        };
        add(registry, "edges", "Edges by status", &levels.edges);
        add(registry, "agents", "Instances that check in", &levels.agents);
        add(registry, "tunnels_wanted", "Tunnels that somebody waits for", &levels.tunnels_wanted);
        add(registry, "streams", "Streams that are live", &levels.streams);
        add(registry, "http_connections", "Connections to port 9000 that are open", &levels.connections);
        add(registry, "check_ins_held", "Check-ins that are held", &levels.held_check_ins);
        add(registry, "before_login", "Connections on which nobody has logged in", &levels.before_login);
        add(registry, "penalised_sources", "Sources whose failures count against them", &levels.penalised);
        add(registry, "known_sources", "Sources that something is remembered of", &levels.sources);
        add(registry, "memory_budget_bytes", "What the gateway may use", &levels.budget);
        add(registry, "memory_reserved_bytes", "What its work may come to need", &levels.reserved);
        add(registry, "event_watchers", "Readers of the event stream", &levels.watchers);
        add(registry, "registry_queue", "Questions that wait for the registry", &levels.queue);
        add(registry, "store_up", "1 while the store can write", &levels.store_up);
        add(registry, "from_edges_bytes", "Bytes of streams from edges", &levels.from_edges);
        add(registry, "to_edges_bytes", "Bytes of streams to edges", &levels.to_edges);
        add(registry, "disk_free_bytes", "What the gateway may still write to its disk", &levels.disk_free);
        for (name, help, metric) in [
            ("process_resident_memory_bytes", "Resident memory", &levels.resident),
            ("process_threads", "Threads", &levels.threads),
            ("process_open_fds", "Open files", &levels.open_files),
            ("process_max_fds", "How many files may be open", &levels.max_open_files),
        ] {
            registry.register(name, help, metric.clone());
        }
        registry.register("process_cpu_seconds", "Processor time, user and system", levels.cpu.clone());
        levels
    }

    fn set(&self, reading: &Reading) {
        let Reading { measure, process, disk, admission, memory } = reading;
        let census = &measure.census;
        self.edges.set(EdgeLabel::NeverJoined, census.never_joined);
        self.edges.set(EdgeLabel::Offline, census.offline);
        self.edges.set(EdgeLabel::Online, census.online);
        self.edges.set(EdgeLabel::TunnelOpen, census.tunnel_open);
        self.agents.set(census.agents as u64);
        self.tunnels_wanted.set(census.wanted as u64);
        self.streams.set(measure.streams as u64);
        let [http, ssh] = admission.before_login;
        self.before_login.set(PortLabel::Http, http);
        self.before_login.set(PortLabel::Ssh, ssh);
        self.penalised.set(admission.penalised as u64);
        self.sources.set(admission.sources as u64);
        self.budget.set(memory.budget());
        self.reserved.set(memory.used());
        self.watchers.set(measure.watchers as u64);
        self.queue.set(measure.queue as u64);
        self.from_edges.inner().store(measure.carried.from_edges, Relaxed);
        self.to_edges.inner().store(measure.carried.to_edges, Relaxed);
        self.disk_free.set(disk.map_or(0, |disk| disk.free_bytes));
        self.resident.set(process.resident_bytes.unwrap_or(0));
        self.threads.set(process.threads.unwrap_or(0));
        self.open_files.set(process.open_files.unwrap_or(0));
        self.max_open_files.set(process.max_open_files.unwrap_or(0));
        self.cpu.inner().store(process.cpu_seconds.unwrap_or(0.0).to_bits(), Relaxed);
    }
}

#[cfg(test)]
mod tests;
