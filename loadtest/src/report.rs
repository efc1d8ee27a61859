//! From samples to the report: JSON for programs, tables and a page for people. Pure but for [`outputs`].
//!
//! | room | what lives there |
//! | --- | --- |
//! | this file | samples of bulk data and requests, and the rows that they come to |
//! | [`document`] | what is written as JSON, with its version |
//! | [`text`], [`agents`], [`attacks`] | tables for a terminal, which Markdown reads as well |
//! | [`figures`] | every report as one list of named figures |
//! | [`compare`], [`bounds`] | what changed since an earlier report; what is over a bound |
//! | [`page`], [`chart`] | one HTML file with charts that needs nothing else |
//! | [`markdown`] | a report as a section of a page that people write |
//! | [`outputs`] | where it all goes, and the exit status |
//!
//! The rule: what a report says is computed here and in no other place, so that the table, the page and a comparison
//! can't disagree.

pub mod agents;
pub mod attacks;
pub mod bounds;
pub mod chart;
pub mod compare;
pub mod document;
pub mod figures;
pub mod markdown;
pub mod outputs;
pub mod page;
#[cfg(test)]
pub(crate) mod sample;
pub mod text;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::machine::Circumstances;
use crate::plan::{Bulk, Requests, Way};
use crate::statistics::{Percentiles, Spread};
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
pub type RequestRow = Row<Requests, RequestSample, Latencies>;

/// How long requests took, all rounds together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latencies {
    /// The usual four.
    #[serde(flatten)]
    pub percentiles: Percentiles,
    /// The whole distribution, for a chart: in ascending order.
    #[serde(default)]
    pub curve: Vec<Quantile>,
}

/// The time that a share of all requests does not exceed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quantile {
    /// The share, below 1.
    pub share: f64,
    /// The time.
    pub us: u64,
}

/// Shares of a curve: closer together towards the slowest requests, of which there are few.
const CURVE: [f64; 13] = [0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999];

impl Latencies {
    fn of(mut latencies: Vec<Duration>) -> Option<Self> {
        latencies.sort_unstable();
        // What a curve says of the slowest of 10,000 is chance where there are not many times more requests.
        let known = CURVE.iter().filter(|share| (1.0 - **share) * latencies.len() as f64 >= 1.0);
        let at = |share: f64| latencies.get((latencies.len() as f64 * share) as usize);
        let curve = known.filter_map(|share| {
            Some(Quantile { share: *share, us: u64::try_from(at(*share)?.as_micros()).unwrap_or(u64::MAX) })
        });
        let curve = curve.collect();
        Some(Self { percentiles: Percentiles::of(latencies)?, curve })
    }
}

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
        |rounds| Latencies::of(rounds.iter().flat_map(|sample| sample.latencies.iter().copied()).collect()),
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

impl RequestRow {
    /// What the bulk stream beside the requests got in each round, in MiB a second.
    pub fn bulk_beside(&self) -> Option<Spread> {
        Spread::of(self.rounds.iter().filter_map(|round| round.bulk_mib_per_second))
    }
}

impl<C, S, P> Report<Row<C, S, P>> {
    /// Failures of the whole run.
    pub fn failures(&self) -> u64 {
        self.rows.iter().map(|row| row.failures).sum()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::plan::Direction;

    pub(crate) const CASE: Bulk = Bulk { streams: 1, direction: Direction::EdgeToOperator };

    pub(crate) fn bulk(mib: u64, seconds: f64) -> BulkSample {
        BulkSample { bytes: mib * MIB, seconds, cpu_seconds: 1.0, failures: 0 }
    }

    pub(crate) fn circumstances() -> Circumstances {
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
        assert_eq!(
            row.cost.as_ref().map(|cost| (cost.percentiles.p50_us, cost.percentiles.max_us)),
            Some((1, 9))
        );
        assert_eq!(row.failures, 2);
    }

    #[test]
    fn a_curve_says_nothing_of_what_there_are_too_few_requests_for() {
        let curve = |count: u64| {
            let latencies = (1..=count).map(Duration::from_micros).collect();
            Latencies::of(latencies).expect("there are some").curve
        };
        let last = |count| curve(count).last().map(|quantile| (quantile.share, quantile.us));
        assert_eq!(last(1), Some((0.0, 1)));
        assert_eq!(last(100), Some((0.99, 100)));
        assert_eq!(last(100_000), Some((0.9999, 99_991)));
        assert!(curve(100_000).is_sorted_by(|one, next| one.us < next.us));
    }
}
