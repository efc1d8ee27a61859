//! What happened so far: counts and distributions, for the whole measurement and for the second that runs.
//!
//! The rule: a check-in that was asked ends in exactly one count. [`Question`] sees to it: it is resolved once, and one
//! that is dropped without was cut.

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::counts::{Back, Counts, Course, SecondCounts};
use super::result::FailureKind;
use super::window::Window;

#[cfg(test)]
mod tests;

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
