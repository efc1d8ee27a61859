//! What agents count, as it can be added up over processes. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::result::Failures;
use super::times::Times;

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
    /// Of the second that runs.
    pub second: SecondCounts,
}

impl Counts {
    /// Adds what another process counted.
    pub fn add(&mut self, other: &Self) {
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
    /// When the last answer came.
    pub last_answer: Option<Duration>,
}

impl Course {
    /// Of both together: no silence is longer than in either.
    pub fn joined(self, other: Self) -> Self {
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
