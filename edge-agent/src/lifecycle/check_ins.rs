//! When and how the agent asks, and what follows from an answer or from none. PURE. The table stands in
//! [`super`]'s text.
//!
//! What must stay true: one question is out at a time, or the time of the next one is known.

use std::time::{Duration, Instant};

use shared::wire::check_in::FailedOffer;

use super::back_off::{MAX_RETRY_AFTER, REFUSED_RETRY, hurried_pace, spread_pace, wait_out};
use super::patience::{BRIEF, Next};
use super::{Command, Lifecycle, Notice, Outcome, Pace, RefusalKind, Roll, Tunnel};

/// How long an eager agent hurries on a silent network: cables, radio links and NATs are back by then, or for long not.
pub(super) const HURRY_TIME: Duration = Duration::from_secs(120);
/// How long an agent stays eager. Most breaks are over by then, and hardly an operator waits for longer.
pub(super) const EAGER_TIME: Duration = Duration::from_secs(600);
/// Those who were cut off together, or whose machines woke together, come back spread over so much, if the interval is not
/// shorter: it is what they would do at the default interval.
const SPREAD: Duration = Duration::from_secs(5);
/// Questions that may follow an answer at once although the one before did so too, less than [`PAUSE`] ago. A gateway that
/// says something three times in a second has a reason; one that goes on is broken.
const HASTY: u32 = 3;
/// Least time from one question to the next after that.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
pub(super) struct Eager {
    since: Instant,
    /// At its last check-in the gateway's machine answered, and the gateway did not.
    reached: bool,
}

#[derive(Debug)]
pub(super) enum CheckIns {
    /// The next one's time.
    Due { at: Instant, pace: Pace },
    /// One is on its way.
    Running {
        /// When it began.
        since: Instant,
        pace: Pace,
        /// For how long it may be held.
        wait: Option<Duration>,
        /// Its report, in case that it has to be repeated.
        failed: Option<FailedOffer>,
        /// When the next one is wanted at the latest, for something that happened meanwhile.
        then: Option<Instant>,
    },
}

impl Lifecycle {
    /// When [`Lifecycle::check_in_if_due`] is.
    pub(super) fn check_in_at(&self) -> Option<Instant> {
        match self.check_ins {
            CheckIns::Due { at, .. } => (!self.stopping).then_some(at),
            CheckIns::Running { .. } => None,
        }
    }

    pub(super) fn check_in_if_due(&mut self, now: Instant, roll: Roll, out: &mut Vec<Command>) {
        match self.check_ins {
            CheckIns::Due { at, pace } if at <= now && !self.stopping => {
                let pace = if self.hurries(now) { Pace::Eager } else { pace };
                let wait = self.wait(now, roll).filter(|_| pace != Pace::Eager);
                let (tunnel, failed) = (self.tunnel_state(), self.failed.take());
                out.push(Command::CheckIn { tunnel, failed: failed.clone(), pace, wait });
                self.check_ins = CheckIns::Running { since: now, pace, wait, failed, then: None };
            }
            CheckIns::Due { .. } | CheckIns::Running { .. } => {}
        }
    }

    /// For how long a question may be held now, if it may.
    fn wait(&self, now: Instant, roll: Roll) -> Option<Duration> {
        let alone = matches!(self.tunnel, Tunnel::Closed);
        let well = self.troubles == 0 && self.refused.is_none() && !self.is_eager(now);
        if alone && well { self.patience.wait(now, roll) } else { None }
    }

    pub(super) fn checked_in(&mut self, outcome: Outcome, now: Instant, roll: Roll, out: &mut Vec<Command>) {
        let CheckIns::Running { since, pace, wait, failed, then } = &mut self.check_ins else { return };
        let (since, pace, wait, failed, then) = (*since, *pace, *wait, failed.take(), then.take());
        match outcome {
            Outcome::Answered { interval, offer, holds, rerouted } => {
                let news = interval.is_some();
                self.interval = interval.unwrap_or(self.interval);
                let after_errors = self.troubles > 0 || self.refused.is_some();
                self.troubles = 0;
                self.eager = None;
                self.refused = None;
                if after_errors {
                    out.push(Command::Tell(Notice::Reached));
                }
                if let Tunnel::Open(live) = self.tunnel
                    && (after_errors || rerouted)
                {
                    out.push(Command::ProbeTunnel(live.attempt));
                }
                let next = match (offer, wait) {
                    (Some(offer), _) => {
                        self.offered(offer, out);
                        Next::Interval
                    }
                    (None, Some(_)) if holds => {
                        if self.patience.held(now.saturating_duration_since(since), now) {
                            out.push(Command::Tell(Notice::WayFree));
                        }
                        Next::AtOnce
                    }
                    (None, wait) => self.patience.not_held(wait, news),
                };
                let (at, pace) = self.follow_up(next, after_errors, since, now, roll);
                self.check_ins = CheckIns::Due { at: then.map_or(at, |then| then.min(at)), pace };
            }
            Outcome::Cut { reason, after } => {
                let soon = now + self.spread(roll);
                match wait.filter(|_| after >= BRIEF) {
                    Some(asked) => {
                        out.push(Command::Tell(match self.patience.cut(asked, after, now) {
                            Some(holding) => Notice::WayLimited(holding),
                            None => Notice::Cut { reason },
                        }));
                        self.repeat(failed, soon);
                    }
                    None if pace == Pace::Following => self.repeat(failed, soon),
                    None => self.trouble((reason, None, true), since, failed, now, roll, out),
                }
            }
            Outcome::Trouble { reason, retry_after, reached } => {
                self.trouble((reason, retry_after, reached), since, failed, now, roll, out);
            }
            Outcome::Refused(refusal) => {
                let wait = match refusal.kind {
                    // The other one may have been replaced by us: the gateway forgets it three intervals after its end.
                    RefusalKind::SecondInstance => self.interval,
                    RefusalKind::UnknownKey
                    | RefusalKind::BoundToAnother
                    | RefusalKind::Protocol
                    | RefusalKind::TlsPin => REFUSED_RETRY,
                };
                self.eager = None;
                if self.refused.as_ref() != Some(&refusal) {
                    out.push(Command::Tell(Notice::Refused(refusal.clone())));
                    self.refused = Some(refusal);
                }
                self.repeat(failed, now + wait + roll.of(wait / 10));
            }
        }
    }

    /// When and how the next question comes after an answer.
    fn follow_up(
        &mut self,
        next: Next,
        after_errors: bool,
        since: Instant,
        now: Instant,
        roll: Roll,
    ) -> (Instant, Pace) {
        match next {
            // What could not be held would only be asked too soon.
            Next::AtOnce if self.wait(now, roll).is_some() => {
                let hasty = now.saturating_duration_since(since) < PAUSE;
                self.hasty = if hasty { self.hasty.saturating_add(1) } else { 0 };
                let at = if self.hasty > HASTY { now.max(since + PAUSE) } else { now };
                (at, Pace::Following)
            }
            Next::Soon => (now + self.spread(roll), Pace::Usual),
            Next::AtOnce | Next::Interval if !after_errors => (now + self.interval, Pace::Usual),
            Next::AtOnce | Next::Interval | Next::SomeMoment => (now + roll.of(self.interval), Pace::Usual),
        }
    }

    fn trouble(
        &mut self,
        (reason, retry_after, reached): (String, Option<Duration>, bool),
        since: Instant,
        failed: Option<FailedOffer>,
        now: Instant,
        roll: Roll,
        out: &mut Vec<Command>,
    ) {
        self.troubles = self.troubles.saturating_add(1);
        out.push(Command::Tell(Notice::Trouble { reason, first: self.troubles == 1 }));
        if let Tunnel::Open(live) = self.tunnel
            && live.in_use(now)
        {
            self.be_eager(now);
        }
        if let Some(eager) = &mut self.eager {
            eager.reached = reached;
        }
        let again = if self.hurries(now) {
            (since + hurried_pace(roll)).max(now)
        } else if self.is_eager(now) {
            (since + spread_pace(self.interval, roll)).max(now)
        } else {
            // Whoever is held expects to be reached at once, however long its interval is.
            let interval = if self.patience.is_hopeful() { self.interval.min(SPREAD) } else { self.interval };
            now + wait_out(interval, self.troubles, roll)
        };
        let asked = retry_after.unwrap_or_default().min(MAX_RETRY_AFTER);
        self.repeat(failed, again.max(now + asked + roll.of(asked / 10)));
    }

    /// Some moment soon, for one of many.
    fn spread(&self, roll: Roll) -> Duration {
        roll.of(self.interval.min(SPREAD))
    }

    /// What was under way when the machine fell asleep may wait for somebody who has long forgotten it.
    pub(super) fn woke(&mut self, now: Instant, roll: Roll, out: &mut Vec<Command>) {
        if let Tunnel::Open(live) = self.tunnel {
            out.push(Command::ProbeTunnel(live.attempt));
        }
        let soon = now + self.spread(roll);
        match &mut self.check_ins {
            CheckIns::Running { wait: Some(_), failed, .. } => {
                self.failed = self.failed.take().or(failed.take());
                self.check_ins = CheckIns::Due { at: soon, pace: Pace::Eager };
            }
            // It has little patience anyway.
            CheckIns::Running { wait: None, .. } => {}
            CheckIns::Due { at, pace } => {
                *at = soon.min(*at);
                *pace = Pace::Eager;
            }
        }
    }

    /// The check-in's report did not get through: the next one carries it, unless there is a newer one.
    fn repeat(&mut self, failed: Option<FailedOffer>, due: Instant) {
        self.failed = self.failed.take().or(failed);
        self.check_ins = CheckIns::Due { at: due, pace: Pace::Usual };
    }

    /// Somebody may be waiting. Told again in the same trouble, it does not begin anew.
    pub(super) fn be_eager(&mut self, now: Instant) {
        self.eager.get_or_insert(Eager { since: now, reached: false });
    }

    fn is_eager(&self, now: Instant) -> bool {
        self.eager.is_some_and(|eager| now < eager.since + EAGER_TIME)
    }

    pub(super) fn hurries(&self, now: Instant) -> bool {
        self.eager.is_some_and(|eager| now < eager.since + HURRY_TIME && !eager.reached)
    }

    pub(super) fn check_in_by(&mut self, at: Instant) {
        match &mut self.check_ins {
            CheckIns::Due { at: due, .. } => *due = at.min(*due),
            CheckIns::Running { then, .. } => *then = Some(then.map_or(at, |then| then.min(at))),
        }
    }

    pub(super) fn check_in_not_before(&mut self, at: Instant) {
        if let CheckIns::Due { at: due, .. } = &mut self.check_ins {
            *due = at;
        }
    }
}
