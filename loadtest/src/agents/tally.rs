//! What happened so far: counts and distributions, for the whole measurement and for the second that runs.
//!
//! The rule: a check-in that was asked ends in exactly one count. [`Question`] sees to it: it is resolved once, and one
//! that is dropped without was cut.

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::result::{Bucket, FailureKind, Failures, Latency};
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

/// Everything that agents count.
#[derive(Debug, Default)]
pub struct Tally {
    /// What is measured.
    pub window: Window,
    counts: Mutex<Counts>,
    connected: Arc<AtomicI64>,
    tunnels: Arc<AtomicI64>,
    /// Agents whose first check-in was answered.
    joined: AtomicU64,
    /// How often the gateway was started anew.
    generation: AtomicU32,
    /// How agents in other processes are; one for each process. Its lock is never taken while that of `counts` is held.
    elsewhere: Mutex<Vec<Now>>,
}

/// What is counted under the lock.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Check-ins of the measurement that were asked, or due and not asked.
    pub scheduled: u64,
    /// Of them, answered.
    pub answered: u64,
    /// Of them, cut.
    pub cut: u64,
    /// Of them, failed.
    pub failures: Failures,
    /// Of those that were not held.
    pub latency: Times,
    /// Of those that were held.
    pub held: Times,
    /// Held answers with an offer.
    pub held_offers: u64,
    /// Connections made anew within the measurement.
    pub reconnects: u64,
    /// First answers.
    pub first_answers: Times,
    /// First check-ins that failed and were tried again.
    pub first_failures: Failures,
    /// Connections dropped without a goodbye.
    pub vanished: u64,
    /// From the return of an agent that had vanished to its answer.
    pub returns: Times,
    /// From offer to welcome, of tunnels.
    pub tunnel_openings: Times,
    /// Offers of which no tunnel came.
    pub tunnel_failures: Failures,
    /// Tunnels that ended though nobody had asked them to.
    pub tunnels_lost: u64,
    /// What can't be added up.
    pub course: Course,
    second: SecondCounts,
}

impl Counts {
    /// Adds what another process counted.
    fn add(&mut self, other: &Self) {
        let Self {
            scheduled,
            answered,
            cut,
            failures,
            latency,
            held,
            held_offers,
            reconnects,
            first_answers,
            first_failures,
            vanished,
            returns,
            tunnel_openings,
            tunnel_failures,
            tunnels_lost,
            course: _,
            second,
        } = self;
        *scheduled += other.scheduled;
        *answered += other.answered;
        *cut += other.cut;
        *held_offers += other.held_offers;
        *reconnects += other.reconnects;
        *vanished += other.vanished;
        *tunnels_lost += other.tunnels_lost;
        let all_failures = [
            (failures, &other.failures),
            (first_failures, &other.first_failures),
            (tunnel_failures, &other.tunnel_failures),
        ];
        for (mine, theirs) in all_failures {
            for (kind, count) in theirs {
                *mine.entry(*kind).or_default() += count;
            }
        }
        let all_times = [
            (latency, &other.latency),
            (held, &other.held),
            (first_answers, &other.first_answers),
            (returns, &other.returns),
            (tunnel_openings, &other.tunnel_openings),
            (&mut second.latency, &other.second.latency),
        ];
        for (mine, theirs) in all_times {
            mine.add(theirs);
        }
        second.answered += other.second.answered;
        second.failed += other.second.failed;
    }
}

/// How answers followed each other. Of several processes, only bounds are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Course {
    /// Longest time between two answers that followed each other within the measurement.
    pub longest_silence: Duration,
    /// Whole seconds without an answer since the gateway was started anew and had answered once.
    pub silent_seconds: u64,
    /// Agents that were answered by the gateway that was started anew, with the times of the first and the last of them.
    pub back: Option<Back>,
    last_answer: Option<Duration>,
}

impl Course {
    /// Of both together: no silence is longer than in either.
    fn joined(self, other: Self) -> Self {
        let back = match (self.back, other.back) {
            (Some(one), Some(two)) => Some(Back {
                agents: one.agents + two.agents,
                first: one.first.min(two.first),
                last: one.last.max(two.last),
            }),
            (one, two) => one.or(two),
        };
        Self {
            longest_silence: self.longest_silence.min(other.longest_silence),
            silent_seconds: self.silent_seconds.min(other.silent_seconds),
            back,
            last_answer: self.last_answer.max(other.last_answer),
        }
    }
}

/// What a process says of its agents: counts since it last said something, and how it is now.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Word {
    counts: Counts,
    now: Now,
}

/// How the agents of a process are.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Now {
    joined: u64,
    connected: u64,
    tunnels: u64,
    course: Course,
}

/// Agents that came back after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Back {
    /// How many.
    pub agents: u64,
    /// When the first was answered.
    pub first: Duration,
    /// When the last was.
    pub last: Duration,
}

/// What is counted anew each second, whether it is measured or not.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SecondCounts {
    /// Check-ins answered.
    pub answered: u64,
    /// Check-ins failed.
    pub failed: u64,
    /// Of answers that were not held.
    pub latency: Times,
}

/// How a question was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// At once.
    AtOnce,
    /// After having been held.
    Held {
        /// It brought an offer.
        offer: bool,
    },
}

impl Tally {
    /// Counts, now.
    pub fn counts(&self) -> MutexGuard<'_, Counts> {
        // Counts are whole after each statement, so one that panicked left them right.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A question that is due at `due` is being asked.
    pub fn asks(&self, due: Duration) -> Question<'_> {
        let measured = self.window.contains(due);
        if measured {
            self.counts().scheduled += 1;
        }
        Question { tally: self, due, measured, patient: false, resolved: false }
    }

    /// The same for a question that may be held for longer than the time before the measurement: it counts where it ends.
    pub fn asks_patiently(&self, due: Duration) -> Question<'_> {
        Question { tally: self, due, measured: false, patient: true, resolved: false }
    }

    /// The counts of the second that ends now.
    pub fn end_second(&self) -> SecondCounts {
        std::mem::take(&mut self.counts().second)
    }

    /// An agent is connected, until what this returns is dropped.
    pub fn connection(&self) -> Gauge {
        Gauge::up(&self.connected)
    }

    /// A tunnel is open, until what this returns is dropped.
    pub fn tunnel(&self) -> Gauge {
        Gauge::up(&self.tunnels)
    }

    /// Agents that are connected.
    pub fn connected(&self) -> u64 {
        self.all(|| level(&self.connected), |now| now.connected)
    }

    /// Tunnels that are open.
    pub fn tunnels(&self) -> u64 {
        self.all(|| level(&self.tunnels), |now| now.tunnels)
    }

    /// Agents whose first check-in was answered.
    pub fn joined(&self) -> u64 {
        self.all(|| self.joined.load(Relaxed), |now| now.joined)
    }

    /// A number of agents: they are either all in this process or all in others.
    fn all(&self, here: impl Fn() -> u64, there: impl Fn(&Now) -> u64) -> u64 {
        let elsewhere = self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner);
        if elsewhere.is_empty() { here() } else { elsewhere.iter().map(there).sum() }
    }

    /// How answers followed each other.
    pub fn course(&self) -> Course {
        let elsewhere = self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner);
        let together = elsewhere.iter().map(|now| now.course).reduce(Course::joined);
        together.unwrap_or_else(|| self.counts().course)
    }

    /// What happened in this process since this was asked last.
    pub fn word(&self) -> Word {
        let mut counts = self.counts();
        let course = counts.course;
        let now = Now {
            joined: self.joined.load(Relaxed),
            connected: level(&self.connected),
            tunnels: level(&self.tunnels),
            course,
        };
        let counts = std::mem::replace(&mut *counts, Counts { course, ..Counts::default() });
        Word { counts, now }
    }

    /// So many processes will say what happens in them.
    pub fn expect_words(&self, processes: usize) {
        *self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner) = vec![Now::default(); processes];
    }

    /// The process with this number, from 0, says what happened.
    pub fn hear(&self, process: usize, word: &Word) {
        self.counts().add(&word.counts);
        self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner)[process] = word.now;
    }

    /// An agent's first check-in was answered, so long after its connection was begun.
    pub fn joins(&self, took: Duration) {
        self.counts().first_answers.record(took);
        self.joined.fetch_add(1, Relaxed);
    }

    /// The gateway was started anew, and is ready.
    pub fn restarted(&self) {
        // The time that it was away is no silence of its own.
        self.counts().course.last_answer = None;
        self.generation.fetch_add(1, Relaxed);
    }

    /// How often the gateway was started anew.
    pub fn generation(&self) -> u32 {
        self.generation.load(Relaxed)
    }

    /// An agent was answered for the first time since the gateway was started anew.
    pub fn comes_back(&self, now: Duration) {
        let mut counts = self.counts();
        let back = counts.course.back.get_or_insert(Back { agents: 0, first: now, last: now });
        *back = Back { agents: back.agents + 1, first: back.first.min(now), last: back.last.max(now) };
    }
}

fn level(gauge: &AtomicI64) -> u64 {
    u64::try_from(gauge.load(Relaxed)).unwrap_or(0)
}

/// Something that is there for a while.
#[derive(Debug)]
pub struct Gauge(Arc<AtomicI64>);

impl Gauge {
    fn up(count: &Arc<AtomicI64>) -> Self {
        count.fetch_add(1, Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// A question under way.
#[derive(Debug)]
pub struct Question<'a> {
    tally: &'a Tally,
    due: Duration,
    measured: bool,
    /// Whether it is measured shows when it ends.
    patient: bool,
    resolved: bool,
}

impl Question<'_> {
    /// It was answered at `now`.
    pub fn answered(mut self, now: Duration, how: Answered) {
        self.ends(self.tally.window.contains(now));
        let took = now.saturating_sub(self.due);
        let mut counts = self.tally.counts();
        let counts = &mut *counts;
        counts.second.answered += 1;
        if how == Answered::AtOnce {
            counts.second.latency.record(took);
        }
        if !self.measured {
            return;
        }
        counts.answered += 1;
        let course = &mut counts.course;
        if let Some(last) = course.last_answer.replace(now) {
            let silence = now.saturating_sub(last);
            course.longest_silence = course.longest_silence.max(silence);
            if course.back.is_some() {
                course.silent_seconds += silence.as_secs();
            }
        }
        match how {
            Answered::AtOnce => counts.latency.record(took),
            Answered::Held { offer } => {
                counts.held.record(took);
                counts.held_offers += u64::from(offer);
            }
        }
    }

    /// It failed at `now`.
    pub fn failed(mut self, now: Duration, kind: FailureKind) {
        self.ends(self.tally.window.contains(now));
        let mut counts = self.tally.counts();
        counts.second.failed += 1;
        if self.measured {
            *counts.failures.entry(kind).or_default() += 1;
        }
    }

    /// It had to be asked again on a new connection.
    pub fn reconnected(&self) {
        if self.measured {
            self.tally.counts().reconnects += 1;
        }
    }
}

impl Question<'_> {
    fn ends(&mut self, measured: bool) {
        self.resolved = true;
        if self.patient && measured {
            self.measured = true;
            self.tally.counts().scheduled += 1;
        }
    }
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        if !self.resolved {
            // It was there at the end of the measurement, or its agent left in the middle of it.
            let window = &self.tally.window;
            self.ends(window.begin().is_some() && !window.is_over(self.due));
            self.resolved = false;
        }
        if self.measured && !self.resolved {
            self.tally.counts().cut += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn each_question_of_the_measurement_ends_in_one_count_and_others_in_none() {
        let tally = Tally::default();
        tally.asks(ms(1)).answered(ms(2), Answered::AtOnce);
        tally.window.set(ms(1000), ms(2000));
        tally.asks(ms(999)).failed(ms(1000), FailureKind::Broken);
        tally.asks(ms(1000)).answered(ms(1003), Answered::AtOnce);
        tally.asks(ms(1500)).answered(ms(1900), Answered::Held { offer: true });
        tally.asks(ms(1600)).failed(ms(1000), FailureKind::Timeout);
        drop(tally.asks(ms(1999)));
        drop(tally.asks(ms(2000)));
        let counts = tally.counts().clone();
        assert_eq!((counts.scheduled, counts.answered, counts.cut), (4, 2, 1));
        assert_eq!(counts.failures, Failures::from([(FailureKind::Timeout, 1)]));
        assert_eq!((counts.latency.count(), counts.held.count(), counts.held_offers), (1, 1, 1));
        assert_eq!(counts.course.longest_silence, ms(897));
        let second = tally.end_second();
        assert_eq!((second.answered, second.failed, second.latency.count()), (3, 2, 2));
        assert_eq!(tally.end_second().answered, 0);
    }

    #[test]
    fn a_question_that_may_be_held_counts_where_it_ends() {
        let tally = Tally::default();
        let (early, asked_before, open) =
            (tally.asks_patiently(ms(1)), tally.asks_patiently(ms(2)), tally.asks_patiently(ms(3)));
        tally.window.set(ms(1000), ms(2000));
        early.answered(ms(999), Answered::AtOnce);
        asked_before.answered(ms(1500), Answered::Held { offer: false });
        tally.asks_patiently(ms(1700)).failed(ms(2100), FailureKind::Broken);
        drop((open, tally.asks_patiently(ms(2000))));
        let counts = tally.counts().clone();
        assert_eq!((counts.scheduled, counts.held.count(), counts.cut, counts.failures.len()), (2, 1, 1, 0));
    }

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

    #[test]
    fn latency_counts_from_the_scheduled_time() {
        let tally = Tally::default();
        tally.window.set(ms(0), ms(100_000));
        // An agent that is due once in a second and gets its first answer after three.
        for due in [0, 1000, 2000] {
            tally.asks(ms(due)).answered(ms(3000), Answered::AtOnce);
        }
        let percentiles = tally.counts().latency.percentiles().expect("three");
        assert_eq!(percentiles.p50_us / 10_000, 200);
        assert_eq!(percentiles.max_us / 10_000, 300);
    }

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

    #[test]
    fn a_restart_is_no_silence_and_a_second_without_an_answer_after_it_is() {
        let tally = Tally::default();
        tally.window.set(ms(0), ms(100_000));
        let answered = |now| tally.asks(ms(0)).answered(ms(now), Answered::AtOnce);
        answered(1000);
        tally.restarted();
        assert_eq!(tally.generation(), 1);
        for now in [9000, 9900] {
            answered(now);
            tally.comes_back(ms(now));
        }
        assert_eq!((tally.course().longest_silence, tally.course().silent_seconds), (ms(900), 0));
        answered(12_000);
        assert_eq!((tally.course().longest_silence, tally.course().silent_seconds), (ms(2100), 2));
        assert_eq!(tally.course().back, Some(Back { agents: 2, first: ms(9000), last: ms(9900) }));
    }

    #[test]
    fn what_other_processes_say_adds_up_to_what_one_would_have_counted() {
        let (all, workers) = (Tally::default(), [Tally::default(), Tally::default()]);
        all.expect_words(2);
        for round in 0..3 {
            for (number, worker) in workers.iter().enumerate() {
                worker.window.set(ms(0), ms(100_000));
                worker.joins(ms(7));
                worker.asks(ms(1000)).answered(ms(1001 + round), Answered::AtOnce);
                worker.asks(ms(1000)).failed(ms(1000), FailureKind::Broken);
                let word = serde_json::to_string(&worker.word()).expect("serializes");
                all.hear(number, &serde_json::from_str(&word).expect("what was written"));
            }
        }
        let counts = all.counts().clone();
        assert_eq!((counts.scheduled, counts.answered, all.joined()), (12, 6, 6));
        assert_eq!(counts.failures, Failures::from([(FailureKind::Broken, 6)]));
        assert_eq!(
            counts.latency.percentiles().map(|all| (all.p50_us / 1000, all.max_us / 1000)),
            Some((2, 3))
        );
        assert_eq!(all.end_second().answered, 6);
        assert_eq!(all.course().longest_silence, ms(1));
    }

    #[test]
    fn gauges_go_down_again() {
        let tally = Tally::default();
        let (one, two) = (tally.connection(), tally.connection());
        assert_eq!((tally.connected(), tally.tunnels()), (2, 0));
        drop((one, two));
        assert_eq!(tally.connected(), 0);
    }
}
