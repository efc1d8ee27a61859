//! A snapshot on its way to the gateway: taken once, sent until it is stored. PURE.
//!
//! When thousands of tunnels fall idle together, the gateway takes some of their snapshots at a time and asks the others
//! to come again; an agent that shares a small machine may meet limits of its own. So a try that failed is repeated after
//! a back-off with jitter, and not before the time that the gateway asked for.
//!
//! | state | event | becomes | and |
//! | --- | --- | --- | --- |
//! | idle | wanted | busy | take one and send it |
//! | busy, waiting | wanted | the same | the one that is on its way will do |
//! | busy | stored, or refused for good | idle | |
//! | busy | failed, tries are left | waiting | |
//! | busy | failed for the last time | idle | |
//! | waiting | the time is over | busy | send it again |
//!
//! What must stay true: the tries are bounded, so nothing that waits for a delivery waits for ever.

use std::time::Instant;

use super::back_off::{MAX_RETRY_AFTER, back_off};
use super::{Command, Notice, Roll, Sent};

/// Tries of one snapshot. With their back-offs they fill the minute that a closing tunnel waits for it.
const MAX_TRIES: u32 = 7;

/// See the module's text.
#[derive(Debug)]
pub(super) enum Delivery {
    Idle,
    /// Being taken or sent.
    Busy {
        tries: u32,
    },
    /// A try failed.
    Waiting {
        tries: u32,
        until: Instant,
    },
}

impl Delivery {
    /// A snapshot is wanted.
    pub(super) fn start(&mut self, out: &mut Vec<Command>) {
        match self {
            Self::Idle => {
                out.push(Command::TakeSnapshot);
                *self = Self::Busy { tries: 1 };
            }
            Self::Busy { .. } | Self::Waiting { .. } => {}
        }
    }

    /// When [`Delivery::tick`] is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Idle | Self::Busy { .. } => None,
            Self::Waiting { until, .. } => Some(*until),
        }
    }

    pub(super) fn tick(&mut self, now: Instant, out: &mut Vec<Command>) {
        match *self {
            Self::Waiting { tries, until } if until <= now => {
                out.push(Command::SendSnapshot);
                *self = Self::Busy { tries: tries + 1 };
            }
            Self::Waiting { .. } | Self::Idle | Self::Busy { .. } => {}
        }
    }

    /// What became of a try. `true` when the delivery is over, one way or the other.
    pub(super) fn tried(&mut self, sent: Sent, now: Instant, roll: Roll, out: &mut Vec<Command>) -> bool {
        let Self::Busy { tries } = *self else { return false };
        let reason = match sent {
            Sent::Stored => {
                out.push(Command::Tell(Notice::SnapshotStored));
                *self = Self::Idle;
                return true;
            }
            Sent::Failed { reason, retry_after } if tries < MAX_TRIES => {
                out.push(Command::Tell(Notice::SnapshotDelayed { reason }));
                let asked = retry_after.unwrap_or_default().min(MAX_RETRY_AFTER);
                let wait = back_off(tries, roll).max(asked + roll.of(asked));
                *self = Self::Waiting { tries, until: now + wait };
                return false;
            }
            Sent::Failed { reason, .. } | Sent::Refused { reason } => reason,
        };
        out.push(Command::Tell(Notice::SnapshotGivenUp { reason, tries }));
        *self = Self::Idle;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn failed(retry_after: Option<u64>) -> Sent {
        Sent::Failed { reason: "busy".into(), retry_after: retry_after.map(Duration::from_secs) }
    }

    #[test]
    fn tries_are_bounded_and_come_later_each_time() {
        let (mut delivery, mut now, mut out) = (Delivery::Idle, Instant::now(), Vec::new());
        let start = now;
        delivery.start(&mut out);
        let mut waits = Vec::new();
        while !delivery.tried(failed(None), now, Roll(1.0), &mut out) {
            let due = delivery.deadline().expect("it waits");
            waits.push((due - now).as_secs());
            now = due;
            delivery.tick(now, &mut out);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32]);
        assert!(
            now - start > super::super::SNAPSHOT_LIMIT,
            "the tries last as long as a close waits for them"
        );
        let given_up = Notice::SnapshotGivenUp { reason: "busy".into(), tries: MAX_TRIES };
        assert_eq!(out.last(), Some(&Command::Tell(given_up)));
        assert_eq!(out.iter().filter(|command| **command == Command::TakeSnapshot).count(), 1);
        out.clear();
        delivery.start(&mut out);
        assert_eq!(out, [Command::TakeSnapshot], "the next snapshot is a new one");
    }

    #[test]
    fn time_that_the_gateway_asks_for_is_given_and_spread_over_as_much_again() {
        for (roll, expected) in [(0.0, 5), (1.0, 10)] {
            let (mut delivery, now) = (Delivery::Busy { tries: 1 }, Instant::now());
            delivery.tried(failed(Some(5)), now, Roll(roll), &mut Vec::new());
            assert_eq!(delivery.deadline(), Some(now + Duration::from_secs(expected)));
        }
        let (mut delivery, now) = (Delivery::Busy { tries: 1 }, Instant::now());
        delivery.tried(failed(Some(1_000_000)), now, Roll(0.0), &mut Vec::new());
        assert_eq!(delivery.deadline(), Some(now + MAX_RETRY_AFTER), "but not for ever");
    }

    #[test]
    fn stale_outcomes_and_wishes_while_one_is_on_its_way_change_nothing() {
        let (mut delivery, now, mut out) = (Delivery::Idle, Instant::now(), Vec::new());
        assert!(!delivery.tried(Sent::Stored, now, Roll(0.0), &mut out));
        delivery.start(&mut out);
        out.clear();
        delivery.start(&mut out);
        delivery.tick(now, &mut out);
        assert_eq!(out, []);
        assert!(delivery.tried(Sent::Stored, now, Roll(0.0), &mut out));
        assert_eq!((out, delivery.deadline()), (vec![Command::Tell(Notice::SnapshotStored)], None));
    }
}
