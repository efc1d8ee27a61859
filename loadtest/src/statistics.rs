//! Medians, spreads and percentiles. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What is said of one figure over all rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The middle one; of an even number the mean of the middle two.
    pub median: f64,
    /// The lowest.
    pub lowest: f64,
    /// The highest.
    pub highest: f64,
}

impl Spread {
    /// Of finite values; `None` of none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (&lowest, &highest) = (sorted.first()?, sorted.last()?);
        let middle = sorted.len() / 2;
        let median =
            if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 };
        Some(Self { median, lowest, highest })
    }
}

/// What is said of latencies, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Half are no longer than this.
    pub p50_us: u64,
    /// 99 of 100 are no longer than this.
    pub p99_us: u64,
    /// 999 of 1,000 are no longer than this.
    pub p999_us: u64,
    /// The longest.
    pub max_us: u64,
}

impl Percentiles {
    /// Of all these; `None` of none.
    pub fn of(mut latencies: Vec<Duration>) -> Option<Self> {
        latencies.sort_unstable();
        let max = latencies.last()?;
        let at = |per_mille| microseconds(latencies[rank(latencies.len(), per_mille)]);
        Some(Self { p50_us: at(500), p99_us: at(990), p999_us: at(999), max_us: microseconds(*max) })
    }
}

/// Index of the nearest rank: the smallest value that at least `per_mille` of all `count` values do not exceed.
fn rank(count: usize, per_mille: usize) -> usize {
    (count * per_mille).div_ceil(1000).max(1) - 1
}

/// The slope of the straight line with the least squares through these points; `None` where all have the same x.
pub fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let count = points.len() as f64;
    let mean = |values: &dyn Fn(&(f64, f64)) -> f64| points.iter().map(values).sum::<f64>() / count;
    let (mean_x, mean_y) = (mean(&|point| point.0), mean(&|point| point.1));
    let (mut together, mut squares) = (0.0, 0.0);
    for (x, y) in points {
        together += (x - mean_x) * (y - mean_y);
        squares += (x - mean_x) * (x - mean_x);
    }
    (squares > 0.0).then(|| together / squares)
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_an_even_number_lies_between_the_middle_two() {
        let spread = |values: &[f64]| Spread::of(values.iter().copied());
        assert_eq!(spread(&[3.0, 1.0, 9.0]), Some(Spread { median: 3.0, lowest: 1.0, highest: 9.0 }));
        assert_eq!(spread(&[4.0, 1.0, 2.0, 9.0]).map(|spread| spread.median), Some(3.0));
        assert_eq!(spread(&[]), None);
    }

    #[test]
    fn the_slope_is_that_of_the_line_with_the_least_squares() {
        let near = |points: &[(f64, f64)], expected: f64| {
            let slope = slope(points).expect("two places");
            assert!((slope - expected).abs() < 1e-9, "{slope} {expected}");
        };
        near(&[(0.0, 5.0), (10.0, 25.0), (20.0, 45.0)], 2.0);
        near(&[(0.0, 0.0), (1.0, 3.0), (2.0, 0.0)], 0.0);
        assert_eq!(slope(&[(1.0, 1.0), (1.0, 2.0)]), None);
        assert_eq!(slope(&[]), None);
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        let of = |micros: std::ops::RangeInclusive<u64>| {
            Percentiles::of(micros.rev().map(Duration::from_micros).collect())
        };
        assert_eq!(of(1..=1000), Some(Percentiles { p50_us: 500, p99_us: 990, p999_us: 999, max_us: 1000 }));
        assert_eq!(of(7..=7), Some(Percentiles { p50_us: 7, p99_us: 7, p999_us: 7, max_us: 7 }));
        assert_eq!(of(1..=2).map(|two| (two.p50_us, two.p99_us)), Some((1, 2)));
        assert_eq!(Percentiles::of(Vec::new()), None);
    }
}
