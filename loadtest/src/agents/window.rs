//! Which part of a run is measured. Pure: times are distances from the begin of the run.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The time that is measured, in distances from the begin of the run. Set while the run goes on: it begins when the
/// last agent is there, and it may be ended early.
#[derive(Debug)]
pub struct Window {
    begin: AtomicU64,
    end: AtomicU64,
}

impl Default for Window {
    fn default() -> Self {
        Self { begin: AtomicU64::new(u64::MAX), end: AtomicU64::new(u64::MAX) }
    }
}

impl Window {
    /// Sets it. Both must lie in the future of everybody who asks.
    pub fn set(&self, begin: Duration, end: Duration) {
        self.end.store(nanoseconds(end), Relaxed);
        self.begin.store(nanoseconds(begin), Relaxed);
    }

    /// Ends it now, if it would end later.
    pub fn end_at(&self, end: Duration) {
        self.end.fetch_min(nanoseconds(end), Relaxed);
    }

    /// Its end; `None` before it is set.
    pub fn end(&self) -> Option<Duration> {
        let end = self.end.load(Relaxed);
        (end != u64::MAX).then(|| Duration::from_nanos(end))
    }

    /// Its begin; `None` before it is set.
    pub fn begin(&self) -> Option<Duration> {
        let begin = self.begin.load(Relaxed);
        (begin != u64::MAX).then(|| Duration::from_nanos(begin))
    }

    /// Whether what is due at that time is measured.
    pub fn contains(&self, due: Duration) -> bool {
        let due = nanoseconds(due);
        self.begin.load(Relaxed) <= due && due < self.end.load(Relaxed)
    }

    /// Whether it is over for what is due at that time.
    pub fn is_over(&self, due: Duration) -> bool {
        nanoseconds(due) >= self.end.load(Relaxed)
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_can_be_ended_early_and_not_late() {
        let window = Window::default();
        assert!(!window.contains(ms(5)) && !window.is_over(ms(5)) && window.end().is_none());
        window.set(ms(10), ms(20));
        window.end_at(ms(30));
        assert!(window.contains(ms(19)) && window.is_over(ms(20)));
        window.end_at(ms(15));
        assert!(window.contains(ms(14)) && !window.contains(ms(15)));
    }

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }
}
