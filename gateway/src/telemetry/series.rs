//! The last hour in points of ten seconds, for charts.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use shared::wire::admin::{StatusPoint, StatusSeries};
use tokio::time::{MissedTickBehavior, interval};

use super::Vitals;
use crate::domain::authority::Reach;
use crate::domain::edge::Timestamp;
use crate::tunnels::Measure;

/// Time between two points: fine enough to see a tunnel come and go, and far apart beside what a look costs.
const STEP: Duration = Duration::from_secs(10);
/// Points that are kept: an hour of them, some 40 KiB.
const KEPT: usize = 360;

/// Points of the last hour.
#[derive(Debug, Default)]
pub(super) struct Series {
    points: VecDeque<StatusPoint>,
    before: Option<Totals>,
}

/// What only ever grows, at one moment.
#[derive(Clone, Copy, Debug)]
struct Totals {
    at: Instant,
    check_ins: u64,
    from_edges: u64,
    to_edges: u64,
}

/// Adds a point every [`STEP`], for ever.
pub async fn sample(vitals: Vitals) {
    let mut ticks = interval(STEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let measure = vitals.tunnels().measure(Reach::all()).await;
        let check_ins = vitals.telemetry().instruments().check_ins.total();
        vitals.series(|series| series.add(&measure, check_ins, Instant::now(), SystemTime::now().into()));
    }
}

impl Series {
    pub(super) fn last(&self) -> Option<&StatusPoint> {
        self.points.back()
    }

    pub(super) fn to_wire(&self) -> StatusSeries {
        let step_s = u32::try_from(STEP.as_secs()).expect("it is ten seconds");
        StatusSeries { step_s, points: self.points.iter().cloned().collect() }
    }

    /// The first call has nothing to compare with and adds no point.
    fn add(&mut self, measure: &Measure, check_ins: u64, at: Instant, wall: Timestamp) {
        let (from_edges, to_edges) = (measure.carried.from_edges, measure.carried.to_edges);
        let now = Totals { at, check_ins, from_edges, to_edges };
        let Some(before) = self.before.replace(now) else { return };
        let seconds = at.saturating_duration_since(before.at).as_secs_f64();
        if seconds == 0.0 {
            return;
        }
        let per_s = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        if self.points.len() == KEPT {
            self.points.pop_front();
        }
        self.points.push_back(StatusPoint {
            at: wall.to_string(),
            online: measure.census.online + measure.census.tunnel_open,
            tunnels: measure.census.tunnel_open,
            streams: measure.streams,
            // Tenths are enough for a chart.
            check_ins_per_s: (per_s(check_ins, before.check_ins) * 10.0).round() / 10.0,
            from_edges_per_s: per_s(from_edges, before.from_edges).round() as u64,
            to_edges_per_s: per_s(to_edges, before.to_edges).round() as u64,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tunnels::Carried;

    fn measure(from_edges: u64) -> Measure {
        Measure { carried: Carried { from_edges, to_edges: 2 * from_edges }, ..Measure::default() }
    }

    #[test]
    fn points_have_the_rates_between_two_looks() {
        let (mut series, start) = (Series::default(), Instant::now());
        let seconds = Duration::from_secs;
        series.add(&measure(1000), 500, start, Timestamp(0));
        assert!(series.last().is_none(), "there is nothing to compare with");
        series.add(&measure(21_000), 530_505, start + seconds(10), Timestamp(10_000));
        let point = series.last().expect("a point");
        assert_eq!((point.from_edges_per_s, point.to_edges_per_s), (2000, 4000));
        assert_eq!(point.check_ins_per_s, 53_000.5);
        assert_eq!(point.at, "1970-01-01T00:00:10Z");
        // A late look divides by the time that has passed.
        series.add(&measure(21_000), 530_605, start + seconds(30), Timestamp(30_000));
        assert_eq!(series.last().expect("a point").check_ins_per_s, 5.0);
    }

    #[test]
    fn an_hour_is_kept() {
        let (mut series, start) = (Series::default(), Instant::now());
        for step in 0..1000 {
            series.add(&measure(0), step, start + STEP * step as u32, Timestamp(step * 10_000));
        }
        let wire = series.to_wire();
        assert_eq!((wire.step_s, wire.points.len()), (10, KEPT));
        assert_eq!(wire.points.last().expect("the newest").at, Timestamp(9_990_000).to_string());
    }
}
