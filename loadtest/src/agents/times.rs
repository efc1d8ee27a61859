//! A distribution of times: what was recorded, its percentiles, and its form for a chart. Pure.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::result::{Bucket, Latency};
use crate::statistics::Percentiles;

/// Longest time that a distribution tells from longer ones: above every deadline of this harness.
const LONGEST_US: u64 = 600_000_000;
/// Decimal digits that a distribution keeps of each time.
const DIGITS: u8 = 3;
/// Buckets of a distribution in the report: twenty for each factor of ten, which draws a smooth line.
const BUCKETS_PER_DECADE: u32 = 20;

/// A distribution of times while it grows.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "Vec<(u64, u64)>", into = "Vec<(u64, u64)>")]
pub struct Times(Histogram<u64>);

/// Each time in microseconds, and how often.
impl From<Vec<(u64, u64)>> for Times {
    fn from(all: Vec<(u64, u64)>) -> Self {
        let mut times = Self::default();
        for (time, count) in all {
            times.0.saturating_record_n(time, count);
        }
        times
    }
}

impl From<Times> for Vec<(u64, u64)> {
    fn from(times: Times) -> Self {
        let each = times.0.iter_recorded();
        each.map(|value| (value.value_iterated_to(), value.count_at_value())).collect()
    }
}

impl Default for Times {
    fn default() -> Self {
        Self(
            Histogram::new_with_bounds(1, LONGEST_US, DIGITS)
                .expect("1 to ten minutes in three digits are bounds"),
        )
    }
}

impl Times {
    /// One more.
    pub fn record(&mut self, time: Duration) {
        self.0.saturating_record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1));
    }

    /// Those of `other` too.
    pub fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("both have the same bounds");
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// Percentiles; `None` of none.
    pub fn percentiles(&self) -> Option<Percentiles> {
        let at = |quantile| self.0.value_at_quantile(quantile);
        (self.count() > 0).then(|| Percentiles {
            p50_us: at(0.5),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: self.0.max(),
        })
    }

    /// As it stands in the report.
    pub fn report(&self) -> Latency {
        let step = 10f64.powf(1.0 / f64::from(BUCKETS_PER_DECADE));
        let bound = |value: u64| step.powf((value as f64).log(step).ceil()).round() as u64;
        let mut buckets: Vec<Bucket> = Vec::new();
        for value in self.0.iter_recorded() {
            let up_to_us = bound(value.value_iterated_to()).max(value.value_iterated_to());
            match buckets.last_mut() {
                Some(last) if last.up_to_us >= value.value_iterated_to() => {
                    last.count += value.count_since_last_iteration();
                }
                Some(_) | None => {
                    buckets.push(Bucket { up_to_us, count: value.count_since_last_iteration() });
                }
            }
        }
        let count = self.count();
        let mean_us = if count == 0 { 0.0 } else { self.0.mean() };
        Latency { count, percentiles: self.percentiles(), mean_us, buckets }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buckets_of_a_distribution_hold_everything_once() {
        let mut times = Times::default();
        for number in 1..=10_000u64 {
            times.record(Duration::from_micros(number * number % 7_000_003));
        }
        times.record(Duration::from_secs(100_000));
        let report = times.report();
        assert_eq!(report.count, 10_001);
        assert_eq!(report.buckets.iter().map(|bucket| bucket.count).sum::<u64>(), 10_001);
        assert!(report.buckets.windows(2).all(|pair| pair[0].up_to_us < pair[1].up_to_us));
        assert_eq!(Times::default().report(), Latency::default());
    }
}
