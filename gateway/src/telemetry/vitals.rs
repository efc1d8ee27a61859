//! A reading of the gateway's state at one moment: what the status of the API, the page of metrics and the series are
//! made of.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shared::wire::admin;

use super::Telemetry;
use super::disk::{Disk, DiskLooks};
use super::looks::Looks;
use super::process::Process;
use super::series::Series;
use crate::admission::Admission;
use crate::admission::policy::Census;
use crate::budget::Budget;
use crate::budget::memory::Memory;
use crate::domain::authority::Reach;
use crate::domain::edge::Timestamp;
use crate::readiness::Readiness;
use crate::tunnels::{Measure, Tunnels};

/// Where readings come from. Cheap to clone.
#[derive(Clone)]
pub struct Vitals(Arc<Inner>);

struct Inner {
    telemetry: Telemetry,
    tunnels: Tunnels,
    readiness: Readiness,
    admission: Admission,
    budget: Budget,
    process: Looks<Process>,
    disk: DiskLooks,
    /// Guards the series; held for as long as copying it takes.
    series: Mutex<Series>,
}

/// Everything at one moment.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub(super) measure: Measure,
    pub(super) process: Process,
    pub(super) disk: Option<Disk>,
    pub(super) admission: Census,
    pub(super) memory: Memory,
}

impl Vitals {
    /// Of a gateway with these parts and this data folder.
    pub fn new(
        telemetry: Telemetry,
        tunnels: Tunnels,
        readiness: Readiness,
        (admission, budget): (Admission, Budget),
        data_dir: PathBuf,
    ) -> Self {
        let series = Mutex::new(Series::default());
        let (process, disk) = (Looks::default(), DiskLooks::at(data_dir));
        let inner = Inner { telemetry, tunnels, readiness, admission, budget, process, disk, series };
        Self(Arc::new(inner))
    }

    /// The counters.
    pub fn telemetry(&self) -> &Telemetry {
        &self.0.telemetry
    }

    /// `GET /api/v1/status` for somebody who reaches these edges: the gateway as a whole is shown to who reaches all.
    pub async fn status(&self, reach: Reach) -> admin::Status {
        let (elapsed, started) = self.age();
        let whole = reach.is_all();
        let Reading { measure, process, disk, .. } = self.read(reach).await;
        let census = measure.census;
        let edges = admin::EdgeCounts {
            never_joined: census.never_joined,
            offline: census.offline,
            online: census.online,
            tunnel_open: census.tunnel_open,
        };
        let gateway = || {
            let recent = self.series(|series| series.last().cloned());
            let instruments = self.0.telemetry.instruments();
            admin::GatewayStatus {
                parts: self.0.readiness.parts(),
                agents: census.agents,
                tunnels_wanted: census.wanted,
                streams: measure.streams,
                connections: instruments.live_connections.load(std::sync::atomic::Ordering::Relaxed),
                watchers: measure.watchers,
                check_ins_per_s: recent.as_ref().map_or(0.0, |point| point.check_ins_per_s),
                from_edges_per_s: recent.as_ref().map_or(0, |point| point.from_edges_per_s),
                to_edges_per_s: recent.as_ref().map_or(0, |point| point.to_edges_per_s),
                memory_bytes: process.resident_bytes,
                open_files: process.open_files,
                max_open_files: process.max_open_files,
                disk_free_bytes: disk.map(|disk| disk.free_bytes),
                disk_total_bytes: disk.map(|disk| disk.total_bytes),
            }
        };
        admin::Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: started.to_string(),
            uptime_s: elapsed.as_secs(),
            edges,
            gateway: whole.then(gateway),
        }
    }

    /// `GET /api/v1/status/series`.
    pub fn last_hour(&self) -> admin::StatusSeries {
        self.series(|series| series.to_wire())
    }

    /// Reads everything; of edges, those within reach.
    pub(super) async fn read(&self, reach: Reach) -> Reading {
        let measure = self.0.tunnels.measure(reach).await;
        // With thousands of open files it takes a while to count them.
        let process = self.0.process.look(Process::read).await.unwrap_or_default();
        let disk = self.0.disk.look().await;
        let (admission, memory) = (self.0.admission.census(), self.0.budget.memory().clone());
        Reading { measure, process, disk, admission, memory }
    }

    pub(super) fn series<T>(&self, with: impl FnOnce(&mut Series) -> T) -> T {
        with(&mut self.0.series.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn tunnels(&self) -> &Tunnels {
        &self.0.tunnels
    }

    pub(super) fn is_store_well(&self) -> bool {
        self.0.readiness.is_store_well()
    }

    fn age(&self) -> (Duration, Timestamp) {
        let (instant, wall) = self.0.telemetry.instruments().started;
        (instant.elapsed(), wall.into())
    }
}
