//! Every report as one list of named figures: what is compared with an earlier report and held to bounds. Pure.

use std::fmt;

use crate::agents::result::{AgentsReport, AgentsRun, Failures, Latency, Target};
use crate::attacks::result::AttacksReport;
use crate::plan::Way;
use crate::report::document::Results;
use crate::report::{BulkRow, Report, RequestRow};
use crate::statistics::Percentiles;

/// One figure of a report.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Of what: a case and a way, or a part of the run.
    pub subject: String,
    /// Which figure of that.
    pub name: Name,
    /// In the unit of its name.
    pub value: f64,
    /// Whether it says something of Tidegate, and not of a peer or of the floor: only ours are held to bounds.
    pub ours: bool,
}

/// What a figure says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Name {
    /// The median of all, in microseconds.
    P50,
    /// 99 of 100 are no longer, in microseconds.
    P99,
    /// 999 of 1,000.
    P999,
    /// The longest.
    Max,
    /// How many failed.
    Failures,
    /// MiB a second, requests a second or tunnels a second.
    Rate,
    /// MiB a second of a bulk stream beside requests.
    BulkBeside,
    /// Processor seconds for each GiB.
    CpuPerGib,
    /// Processor time for each check-in or tunnel, in microseconds.
    CpuEach,
    /// Resident memory for each agent or tunnel, in KiB.
    MemoryEach,
    /// Bytes on the wire for each check-in.
    WireBytes,
}

impl Name {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::P50,
        Self::P99,
        Self::P999,
        Self::Max,
        Self::Failures,
        Self::Rate,
        Self::BulkBeside,
        Self::CpuPerGib,
        Self::CpuEach,
        Self::MemoryEach,
        Self::WireBytes,
    ];

    /// On the command line and in tables.
    pub fn text(self) -> &'static str {
        match self {
            Self::P50 => "p50",
            Self::P99 => "p99",
            Self::P999 => "p99.9",
            Self::Max => "max",
            Self::Failures => "failures",
            Self::Rate => "rate",
            Self::BulkBeside => "bulk-beside",
            Self::CpuPerGib => "cpu-per-gib",
            Self::CpuEach => "cpu-each",
            Self::MemoryEach => "memory-each",
            Self::WireBytes => "wire-bytes",
        }
    }

    /// Whether more of it is better.
    pub fn more_is_better(self) -> bool {
        match self {
            Self::Rate | Self::BulkBeside => true,
            Self::P50
            | Self::P99
            | Self::P999
            | Self::Max
            | Self::Failures
            | Self::CpuPerGib
            | Self::CpuEach
            | Self::MemoryEach
            | Self::WireBytes => false,
        }
    }

    /// Whether it is a time in microseconds.
    pub fn is_time(self) -> bool {
        match self {
            Self::P50 | Self::P99 | Self::P999 | Self::Max | Self::CpuEach => true,
            Self::Failures
            | Self::Rate
            | Self::BulkBeside
            | Self::CpuPerGib
            | Self::MemoryEach
            | Self::WireBytes => false,
        }
    }

    /// A value of it, with its unit.
    pub fn show(self, value: f64) -> String {
        if self.is_time() {
            return micros(value);
        }
        let unit = match self {
            Self::CpuPerGib => " s",
            Self::MemoryEach => " KiB",
            Self::WireBytes => " B",
            Self::Failures => return format!("{value:.0}"),
            Self::P50
            | Self::P99
            | Self::P999
            | Self::Max
            | Self::CpuEach
            | Self::Rate
            | Self::BulkBeside => "",
        };
        format!("{}{unit}", short(value))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.text())
    }
}

/// A time in the unit that suits it.
pub fn micros(micros: f64) -> String {
    match micros {
        value if value < 1_000.0 => format!("{} µs", short(value)),
        value if value < 1_000_000.0 => format!("{} ms", short(value / 1_000.0)),
        value => format!("{} s", short(value / 1_000_000.0)),
    }
}

/// A number with three digits that count.
pub fn short(value: f64) -> String {
    match value.abs() {
        size if size == 0.0 || size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Every figure of the report.
pub fn figures(results: &Results) -> Vec<Figure> {
    match results {
        Results::Throughput(report) | Results::Path(report) => of_bulk(report),
        Results::Latency(report) => of_requests(report),
        Results::Agents(report) => of_agents(report),
        Results::Attacks(report) => of_attacks(report),
    }
}

/// What failed and must not: of everybody, for a peer that fails makes its ratio worthless. Where agents or the gateway were
/// made to go away, check-ins that failed are no failures of the run.
pub fn failures(results: &Results) -> u64 {
    let of_run = |run: &AgentsRun| {
        let check_ins = if run.churn.is_some() { 0 } else { run.check_ins.failed };
        let wakes = run.wake.as_ref().map_or(0, |wake| wake.failed);
        let tunnels = run.tunnels.as_ref().map_or(0, |tunnels| {
            tunnels.failed + tunnels.lost + tunnels.traffic.as_ref().map_or(0, |traffic| traffic.failed)
        });
        check_ins + wakes + tunnels
    };
    match results {
        Results::Throughput(report) | Results::Path(report) => report.failures(),
        Results::Latency(report) => report.failures(),
        Results::Agents(report) => report.runs.iter().map(of_run).sum(),
        Results::Attacks(report) => report.faults().len() as u64,
    }
}

fn of_bulk(report: &Report<BulkRow>) -> Vec<Figure> {
    let mut list = List::default();
    for row in &report.rows {
        let streams = if row.case.streams == 1 { "stream" } else { "streams" };
        let case = format!("{}, {} {streams}", row.case.direction.name(), row.case.streams);
        list.about(&case, row.way);
        list.add(Name::Rate, row.rate.median);
        list.add(Name::CpuPerGib, row.cost);
        list.add(Name::Failures, row.failures as f64);
    }
    list.figures
}

fn of_requests(report: &Report<RequestRow>) -> Vec<Figure> {
    let mut list = List::default();
    for row in &report.rows {
        list.about(row.case.name(), row.way);
        list.add(Name::Rate, row.rate.median);
        list.percentiles(row.cost.as_ref().map(|cost| cost.percentiles));
        list.add(Name::BulkBeside, row.bulk_beside().map(|rate| rate.median));
        list.add(Name::Failures, row.failures as f64);
    }
    list.figures
}

fn of_agents(report: &AgentsReport) -> Vec<Figure> {
    let mut list = List::default();
    for run in &report.runs {
        of_run(run, &mut list);
    }
    list.figures
}

fn of_attacks(report: &AttacksReport) -> Vec<Figure> {
    let mut list = List::default();
    for phase in report.phases.iter().filter(|phase| !phase.restarted) {
        let failed: u64 = phase.honest.check_ins_failed.values().sum();
        list.of(format!("{}, check-ins", phase.name), true);
        list.latency(&phase.honest.check_ins);
        list.add(Name::Failures, failed as f64);
        list.of(format!("{}, tunnels", phase.name), true);
        list.latency(&phase.honest.messages);
        list.add(Name::Failures, (phase.honest.failures() - failed) as f64);
    }
    list.figures
}

fn of_run(run: &AgentsRun, list: &mut List) {
    let (ours, whose) = match run.target {
        Target::Gateway | Target::RunningGateway => (true, "gateway"),
        Target::Floor => (false, "floor"),
    };
    let count = |failures: &Failures| failures.values().sum::<u64>() as f64;
    list.of(format!("{whose}, ramp"), ours);
    list.add(Name::Failures, count(&run.ramp.failures));

    list.of(format!("{whose}, check-ins"), ours);
    list.latency(&run.check_ins.latency);
    list.add(Name::Rate, run.check_ins.answered as f64 / run.seconds.max(f64::MIN_POSITIVE));
    list.add(Name::WireBytes, run.wire.as_ref().and_then(|wire| wire.bytes_per_check_in));
    if let Some(server) = &run.server {
        list.add(Name::CpuEach, server.cpu_us_per_check_in);
        list.add(Name::MemoryEach, server.rss_per_agent_kib);
    }
    list.add(Name::Failures, run.check_ins.failed as f64);

    if let Some(wake) = &run.wake {
        list.of(format!("{whose}, flag to usable stream"), ours);
        list.latency(&wake.flag_to_usable);
        list.add(Name::Failures, wake.failed as f64);
    }
    if let Some(tunnels) = &run.tunnels {
        list.of(format!("{whose}, tunnels"), ours);
        list.latency(&tunnels.offer_to_tunnel);
        list.add(Name::Rate, tunnels.per_s);
        list.add(Name::CpuEach, tunnels.cpu_us_per_tunnel);
        list.add(Name::MemoryEach, tunnels.rss_per_tunnel_kib);
        list.add(Name::Failures, (tunnels.failed + tunnels.lost) as f64);
        if let Some(traffic) = &tunnels.traffic {
            list.of(format!("{whose}, traffic in tunnels"), ours);
            list.latency(&traffic.round_trip);
            list.add(Name::Failures, traffic.failed as f64);
        }
    }
    if let Some(churn) = &run.churn {
        list.of(format!("{whose}, agents that came back"), ours);
        list.latency(&churn.return_to_answer);
    }
}

/// Figures under way, with what the next ones are of.
#[derive(Default)]
struct List {
    figures: Vec<Figure>,
    subject: String,
    ours: bool,
}

impl List {
    fn of(&mut self, subject: String, ours: bool) {
        (self.subject, self.ours) = (subject, ours);
    }

    fn about(&mut self, case: &str, way: Way) {
        self.of(format!("{case}: {}", way.name()), way.rival().is_none());
    }

    fn add(&mut self, name: Name, value: impl Into<Option<f64>>) {
        let Some(value) = value.into() else { return };
        self.figures.push(Figure { subject: self.subject.clone(), name, value, ours: self.ours });
    }

    fn latency(&mut self, latency: &Latency) {
        self.percentiles(latency.percentiles);
    }

    fn percentiles(&mut self, percentiles: Option<Percentiles>) {
        let Some(Percentiles { p50_us, p99_us, p999_us, max_us }) = percentiles else { return };
        for (name, us) in
            [(Name::P50, p50_us), (Name::P99, p99_us), (Name::P999, p999_us), (Name::Max, max_us)]
        {
            self.add(name, us as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn every_report_has_figures_of_ours_and_no_figure_stands_there_twice() {
        for results in sample::all() {
            let all = figures(&results);
            assert!(
                all.iter().any(|figure| figure.ours && figure.name == Name::P99 || figure.name == Name::Rate)
            );
            let mut names: Vec<(&str, Name)> =
                all.iter().map(|figure| (figure.subject.as_str(), figure.name)).collect();
            names.sort_unstable();
            let count = names.len();
            names.dedup();
            assert_eq!(names.len(), count, "{}", results.name());
        }
    }

    #[test]
    fn values_are_shown_with_three_digits_and_their_unit() {
        for (name, value, expected) in [
            (Name::P99, 12.0, "12.0 µs"),
            (Name::P99, 12_345.0, "12.3 ms"),
            (Name::Max, 2_000_000.0, "2.00 s"),
            (Name::Rate, 1234.5, "1234"),
            (Name::MemoryEach, 19.66, "19.7 KiB"),
            (Name::Failures, 3.0, "3"),
        ] {
            assert_eq!(name.show(value), expected);
        }
    }
}
