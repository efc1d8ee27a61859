//! How long something took, in buckets: atomics only, unlike the library's own histogram, which locks at every
//! observation.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// Durations in buckets. Clones count together.
#[derive(Clone, Debug)]
pub struct Histogram {
    /// Upper bounds in microseconds, each included, in order.
    bounds: &'static [u64],
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// One for each bound, and one for what is beyond them.
    counts: Box<[AtomicU64]>,
    microseconds: AtomicU64,
}

impl Histogram {
    /// With these bounds, in microseconds and in order.
    pub fn new(bounds: &'static [u64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, inner: Arc::new(Inner { counts, microseconds: AtomicU64::new(0) }) }
    }

    /// It took so long.
    pub fn observe(&self, time: Duration) {
        let microseconds = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let bucket = self.bounds.partition_point(|bound| *bound < microseconds);
        self.inner.counts[bucket].fetch_add(1, Relaxed);
        self.inner.microseconds.fetch_add(microseconds, Relaxed);
    }
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let bounds = self.bounds.iter().map(|bound| *bound as f64 / 1e6).chain([f64::INFINITY]);
        let counts = self.inner.counts.iter().map(|count| count.load(Relaxed));
        let buckets: Vec<_> = bounds.zip(counts).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let seconds = self.inner.microseconds.load(Relaxed) as f64 / 1e6;
        encoder.encode_histogram::<NoLabelSet>(seconds, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn each_duration_is_in_the_first_bucket_that_holds_it() {
        let histogram = Histogram::new(&[1_000, 10_000]);
        for microseconds in [0, 1_000, 1_001, 10_000, 10_001, 60_000_000] {
            histogram.observe(Duration::from_micros(microseconds));
        }
        let mut registry = Registry::default();
        registry.register("took_seconds", "How long it took", histogram);
        let mut text = String::new();
        encode(&mut text, &registry).expect("a String takes everything");
        let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let expected = [
            "took_seconds_sum 60.022002",
            "took_seconds_count 6",
            "took_seconds_bucket{le=\"0.001\"} 2",
            "took_seconds_bucket{le=\"0.01\"} 4",
            "took_seconds_bucket{le=\"+Inf\"} 6",
        ];
        assert_eq!(lines, expected);
    }
}
