//! From samples to the report: JSON for programs, tables for people. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::machine::Circumstances;
use crate::plan::{Bulk, Requests, Way};
use crate::statistics::{Percentiles, Spread};
use crate::table::{self, Lean};
use crate::units::{GIB, MIB};

/// One measurement of bulk data.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BulkSample {
    /// Bytes that arrived and were compared, of streams that did not fail.
    pub bytes: u64,
    /// Time from the first to the last of them.
    pub seconds: f64,
    /// Processor time of all processes of the way.
    pub cpu_seconds: f64,
    /// Streams that failed.
    pub failures: u64,
}

impl BulkSample {
    fn mib_per_second(&self) -> f64 {
        if self.bytes == 0 { 0.0 } else { self.bytes as f64 / MIB as f64 / self.seconds }
    }

    /// Nothing where nothing arrived, and where no process took part but the harness.
    fn cpu_per_gib(&self) -> Option<f64> {
        (self.bytes > 0 && self.cpu_seconds > 0.0)
            .then(|| self.cpu_seconds / (self.bytes as f64 / GIB as f64))
    }
}

/// One measurement of small requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RequestSample {
    /// Requests that were answered rightly.
    pub requests: u64,
    /// Time that they took together.
    pub seconds: f64,
    /// Requests, or whole connections, that failed.
    pub failures: u64,
    /// MiB a second of the bulk stream beside them, where there was one.
    #[serde(default)]
    pub bulk_mib_per_second: Option<f64>,
    /// How long each request took. Not part of the JSON, where percentiles stand for it.
    #[serde(skip)]
    pub latencies: Vec<Duration>,
}

impl RequestSample {
    fn per_second(&self) -> f64 {
        if self.requests == 0 { 0.0 } else { self.requests as f64 / self.seconds }
    }
}

/// All rounds of one case through one way, with what they come to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row<C, S, P> {
    /// The way.
    pub way: Way,
    /// The case.
    pub case: C,
    /// MiB or requests a second.
    pub rate: Spread,
    /// Of a peer: what our way that is compared with it makes of the same round.
    #[serde(default)]
    pub ours: Option<Ours>,
    /// Processor seconds a GiB, or percentiles of the latencies of all rounds; absent where everything failed.
    pub cost: Option<P>,
    /// Failures of all rounds.
    pub failures: u64,
    /// Each round.
    pub rounds: Vec<S>,
}

/// Ours, divided by what the peer made in the same round.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ours {
    /// Our rate: above 1 we are faster.
    pub rate: Spread,
    /// Our processor time for each GiB: below 1 we are cheaper. Absent for requests, and where one of both made nothing.
    #[serde(default)]
    pub cpu: Option<Spread>,
}

/// A row of the throughput report.
pub type BulkRow = Row<Bulk, BulkSample, f64>;
/// A row of the latency report.
pub type RequestRow = Row<Requests, RequestSample, Percentiles>;

/// A whole report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report<R> {
    /// On what, of what, when and how.
    pub circumstances: Circumstances,
    /// What one measurement was.
    pub each: String,
    /// Rounds that ended before the time was up.
    pub rounds: u32,
    /// Peers that should have been there.
    #[serde(default)]
    pub missing: Vec<String>,
    /// Cases, and within each the ways.
    pub rows: Vec<R>,
}

/// A sample with its place in the plan.
pub type Placed<C, S> = (C, Way, S);

/// The rows of a throughput report.
pub fn bulk_rows(cases: &[Bulk], ways: &[Way], samples: &[Placed<Bulk, BulkSample>]) -> Vec<BulkRow> {
    rows(
        cases,
        ways,
        samples,
        BulkSample::mib_per_second,
        BulkSample::cpu_per_gib,
        |sample| sample.failures,
        |rounds| {
            let sum = |figure: fn(&BulkSample) -> f64| rounds.iter().map(figure).sum();
            let bytes = rounds.iter().map(|sample| sample.bytes).sum();
            let all = BulkSample {
                bytes,
                seconds: sum(|sample| sample.seconds),
                cpu_seconds: sum(|sample| sample.cpu_seconds),
                failures: 0,
            };
            all.cpu_per_gib()
        },
    )
}

/// The rows of a latency report.
pub fn request_rows(
    cases: &[Requests],
    ways: &[Way],
    samples: &[Placed<Requests, RequestSample>],
) -> Vec<RequestRow> {
    rows(
        cases,
        ways,
        samples,
        RequestSample::per_second,
        |_| None,
        |sample| sample.failures,
        |rounds| Percentiles::of(rounds.iter().flat_map(|sample| sample.latencies.iter().copied()).collect()),
    )
}

fn rows<C: Copy + PartialEq, S: Clone, P>(
    cases: &[C],
    ways: &[Way],
    samples: &[Placed<C, S>],
    rate: impl Fn(&S) -> f64,
    cpu: impl Fn(&S) -> Option<f64>,
    failures: impl Fn(&S) -> u64,
    cost: impl Fn(&[S]) -> Option<P>,
) -> Vec<Row<C, S, P>> {
    // Samples stand in the order of rounds, so the same place in two of these lists is the same round.
    let of = |case: C, way: Way| -> Vec<S> {
        let here = samples.iter().filter(|(its_case, its_way, _)| (*its_case, *its_way) == (case, way));
        here.map(|(_, _, sample)| sample.clone()).collect()
    };
    let mut rows = Vec::new();
    for (case, way) in cases.iter().flat_map(|case| ways.iter().map(|way| (*case, *way))) {
        let rounds = of(case, way);
        let Some(spread) = Spread::of(rounds.iter().map(&rate)) else { continue };
        let ours = way.rival().and_then(|ours| {
            let ours = of(case, ours);
            let ratio = |figure: &dyn Fn(&S) -> Option<f64>| {
                let pairs =
                    ours.iter().zip(&rounds).filter_map(|(ours, peer)| figure(ours).zip(figure(peer)));
                Spread::of(pairs.filter(|(_, peer)| *peer > 0.0).map(|(ours, peer)| ours / peer))
            };
            Some(Ours { rate: ratio(&|sample| Some(rate(sample)))?, cpu: ratio(&cpu) })
        });
        let (cost, failures) = (cost(&rounds), rounds.iter().map(&failures).sum());
        rows.push(Row { way, case, rate: spread, ours, cost, failures, rounds });
    }
    rows
}

impl<C, S, P> Report<Row<C, S, P>> {
    /// Failures of the whole run.
    pub fn failures(&self) -> u64 {
        self.rows.iter().map(|row| row.failures).sum()
    }
}

/// The throughput report for people.
pub fn bulk_text(report: &Report<BulkRow>) -> String {
    let head = [
        ("direction", Lean::Left),
        ("streams", Lean::Right),
        ("way", Lean::Left),
        ("MiB/s", Lean::Right),
        ("spread", Lean::Right),
        ("ours to it", Lean::Right),
        ("spread", Lean::Right),
        ("CPU s/GiB", Lean::Right),
        ("ours to it", Lean::Right),
        ("failures", Lean::Right),
    ];
    let rows: Vec<Vec<String>> = report
        .rows
        .iter()
        .map(|row| {
            let mut cells = vec![
                row.case.direction.name().to_owned(),
                row.case.streams.to_string(),
                row.way.name().to_owned(),
            ];
            cells.extend(rate_cells(&row.rate, row.ours.as_ref()));
            cells.push(row.cost.map_or_else(String::new, |cost| format!("{cost:.2}")));
            let cpu = row.ours.and_then(|ours| ours.cpu);
            cells.push(cpu.map_or_else(String::new, |ratio| format!("{:.2}", ratio.median)));
            cells.push(row.failures.to_string());
            cells
        })
        .collect();
    format!("{}{}", preamble("throughput", report), table::render(&head, &rows))
}

/// The latency report for people.
pub fn request_text(report: &Report<RequestRow>) -> String {
    let head = [
        ("requests", Lean::Left),
        ("way", Lean::Left),
        ("requests/s", Lean::Right),
        ("spread", Lean::Right),
        ("ours to it", Lean::Right),
        ("spread", Lean::Right),
        ("p50 ms", Lean::Right),
        ("p99 ms", Lean::Right),
        ("p99.9 ms", Lean::Right),
        ("max ms", Lean::Right),
        ("bulk MiB/s", Lean::Right),
        ("failures", Lean::Right),
    ];
    let milliseconds = |us: u64| format!("{:.2}", us as f64 / 1000.0);
    let rows: Vec<Vec<String>> = report
        .rows
        .iter()
        .map(|row| {
            let mut cells = vec![row.case.name().to_owned(), row.way.name().to_owned()];
            cells.extend(rate_cells(&row.rate, row.ours.as_ref()));
            let latencies = row.cost.map(|cost| [cost.p50_us, cost.p99_us, cost.p999_us, cost.max_us]);
            cells.extend(latencies.map_or_else(Default::default, |latencies| latencies.map(milliseconds)));
            let bulk = Spread::of(row.rounds.iter().filter_map(|round| round.bulk_mib_per_second));
            cells.push(bulk.map_or_else(String::new, |bulk| format!("{:.0}", bulk.median)));
            cells.push(row.failures.to_string());
            cells
        })
        .collect();
    format!("{}{}", preamble("latency", report), table::render(&head, &rows))
}

fn rate_cells(rate: &Spread, ours: Option<&Ours>) -> [String; 4] {
    let range =
        |spread: &Spread, digits: usize| format!("{:.digits$}–{:.digits$}", spread.lowest, spread.highest);
    // Over a path that loses packets, rates are a few MiB a second.
    let digits = if rate.median < 10.0 { 2 } else { 0 };
    let (ratio, ratio_range) =
        ours.map_or_else(Default::default, |ours| (format!("{:.2}", ours.rate.median), range(&ours.rate, 2)));
    [format!("{:.digits$}", rate.median), range(rate, digits), ratio, ratio_range]
}

fn preamble<R>(what: &str, report: &Report<R>) -> String {
    let Circumstances { cpu, cores, kernel, load, commit, date, command, seed, .. } = &report.circumstances;
    let missing = match &report.missing[..] {
        [] => String::new(),
        missing => format!("missing: {} (ci/install-peers builds them)\n", missing.join(", ")),
    };
    format!(
        "{what}: {}, {} rounds in turn\n\
         machine: {cpu}, {cores} cores, {kernel}, load {load}\n\
         commit: {commit}   date: {date}   seed: {seed}\n\
         command: {command}\n{missing}\n",
        report.each, report.rounds,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Direction;

    const CASE: Bulk = Bulk { streams: 1, direction: Direction::EdgeToOperator };

    fn bulk(mib: u64, seconds: f64) -> BulkSample {
        BulkSample { bytes: mib * MIB, seconds, cpu_seconds: 1.0, failures: 0 }
    }

    fn circumstances() -> Circumstances {
        Circumstances {
            cpu: "some CPU".to_owned(),
            cores: 2,
            kernel: "Linux 6".to_owned(),
            load: "0.10".to_owned(),
            commit: "abc".to_owned(),
            date: "2026-01-01T00:00:00Z".to_owned(),
            command: "tidegate-loadtest throughput".to_owned(),
            seed: 1,
        }
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        // The machine was slow in the second round; medians of each way alone would give 3.
        let samples = [
            (CASE, Way::Upgrade, bulk(200, 1.0)),
            (CASE, Way::SshRemote, bulk(100, 1.0)),
            (CASE, Way::SshRemote, bulk(10, 1.0)),
            (CASE, Way::Upgrade, bulk(30, 1.0)),
            (CASE, Way::Upgrade, bulk(400, 1.0)),
            (CASE, Way::SshRemote, bulk(100, 1.0)),
        ];
        let rows = bulk_rows(&[CASE], &Way::ALL, &samples);
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].way, rows[0].ours), (Way::Upgrade, None));
        assert_eq!(rows[0].rate, Spread { median: 200.0, lowest: 30.0, highest: 400.0 });
        let ours = rows[1].ours.expect("the peer has a row of its own");
        assert_eq!(ours.rate, Spread { median: 3.0, lowest: 2.0, highest: 4.0 });
        let cpu = ours.cpu.expect("both took processor time");
        assert!((cpu.median - 1.0 / 3.0).abs() < 1e-9, "{cpu:?}");
    }

    #[test]
    fn processor_time_is_for_each_gibibyte_that_arrived() {
        let samples = [(CASE, Way::Connect, bulk(512, 1.0)), (CASE, Way::Connect, bulk(512, 2.0))];
        assert_eq!(bulk_rows(&[CASE], &Way::ALL, &samples)[0].cost, Some(2.0));
        let nothing = BulkSample { failures: 1, ..bulk(0, 1.0) };
        let row = &bulk_rows(&[CASE], &Way::ALL, &[(CASE, Way::Connect, nothing)])[0];
        assert_eq!((row.cost, row.failures, row.rate.median), (None, 1, 0.0));
    }

    #[test]
    fn latencies_of_all_rounds_are_pooled() {
        let sample = |micros: u64| RequestSample {
            requests: 1,
            seconds: 1.0,
            failures: 1,
            bulk_mib_per_second: None,
            latencies: vec![Duration::from_micros(micros)],
        };
        let samples = [(Requests::One, Way::Connect, sample(1)), (Requests::One, Way::Connect, sample(9))];
        let row = &request_rows(&[Requests::One], &Way::ALL, &samples)[0];
        assert_eq!(row.cost.map(|cost| (cost.p50_us, cost.max_us)), Some((1, 9)));
        assert_eq!(row.failures, 2);
    }

    #[test]
    fn the_text_says_how_to_repeat_the_run() {
        let rows = bulk_rows(&[CASE], &Way::ALL, &[(CASE, Way::Upgrade, bulk(256, 2.0))]);
        let report = Report {
            circumstances: circumstances(),
            each: "256 MiB each".to_owned(),
            rounds: 1,
            missing: Vec::new(),
            rows,
        };
        let text = bulk_text(&report);
        for part in [
            "some CPU",
            "commit: abc",
            "seed: 1",
            "tidegate-loadtest throughput",
            "| tidegate upgrade | ",
            " 128 |",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!(report.failures(), 0);
    }

    #[test]
    fn a_row_where_everything_failed_is_shown_with_empty_cells() {
        let failed = RequestSample { failures: 3, ..RequestSample::default() };
        let rows = request_rows(&[Requests::One], &Way::ALL, &[(Requests::One, Way::Upgrade, failed)]);
        let report = Report {
            circumstances: circumstances(),
            each: "1 s each".to_owned(),
            rounds: 1,
            missing: Vec::new(),
            rows,
        };
        let text = request_text(&report);
        let last = text.lines().last().unwrap_or_default();
        assert!(last.trim_end_matches([' ', '|']).ends_with('3'), "{text}");
    }
}
