//! When to check in, and when the tunnel opens and closes. PURE: imports no tokio, russh or hyper, performs nothing and
//! reads no clock; [`Lifecycle::handle`] takes what happened and the time, and gives commands. The driver around it
//! ([`crate::agent`]) carries them out and comes back at [`Lifecycle::deadline`].
//!
//! Checking in goes on all the time, whatever the tunnel does; its answer sets the next time:
//!
//! | answer | next check-in | said in the log |
//! | --- | --- | --- |
//! | 200, 204, held before | at once, on the same connection | |
//! | 200, 204 | after the interval; after errors at a random moment of the next interval | when it follows errors |
//! | none: cut off while it was held | some moment of the next 5 s, or of the interval if that is shorter | what is learned of it |
//! | trouble (network, 429, 5xx) | eager: 1 s to 1.5 s after the last one began, or to 5 s | the first time in a row |
//! | | else some moment of the next interval, then a back-off up to 60 s; or `retry-after` | |
//! | refused (401, 403, 409, 426, wrong pin) | after 5 min; a second instance (409) after the interval | when it changes |
//!
//! While there is no tunnel and nothing is wrong, a check-in asks to be held ([`patience`] says for how long), so that a
//! gateway that needs the agent reaches it at once. One that has a tunnel is reached, and comes at the interval: that shows
//! soon that its network is another one. After trouble or a refusal an answer is wanted now. Nothing but an answer changes
//! what a question that is held asks for, so it stays until it is answered, is cut off, or the machine was asleep.
//!
//! An agent is eager when somebody may be waiting for it: its tunnel was in use when it broke, or is in use while
//! check-ins fail, or it could not use an offer. It stays so until the gateway answers, for ten minutes at most. While its
//! network is silent it hurries, for two minutes: that is most often a matter of its own. Where the gateway's machine
//! answers and the gateway does not, or the silence lasts, others wait for the same thing, and it leaves them room. All
//! others come back spread out, so that thousands that lost their gateway together don't return together.
//!
//! Whatever became of an offer is reported with the next check-in until that gets through: that it failed, or that the
//! tunnel which came of it was lost. The gateway may not know the latter yet, and so can offer the next one at once. An
//! agent that starts again reports the last offer of its earlier life. Where the network has shown itself to be another
//! one (check-ins work again after trouble, or only over a new connection), an open tunnel is probed.
//!
//! The tunnel, with "check in" meaning at once, unless the tunnel broke twice in a row: then after a back-off. One that
//! nobody was using is no reason to hurry: some moment of the interval.
//!
//! | state | event | becomes | and |
//! | --- | --- | --- | --- |
//! | closed | offer | connecting | open it |
//! | connecting | opened | open | |
//! | connecting | failed | closed | check in, reporting the failure |
//! | connecting, open | offer | the same | ignored; an open tunnel is probed, since the gateway seems to have lost it |
//! | open | idle time is over | closing: snapshot | take a snapshot |
//! | open, closing | ended | closed | check in, reporting the loss |
//! | open, closing | dismissed by the gateway | closed | check in |
//! | closing: snapshot | stream, hold | open | |
//! | closing: snapshot | snapshot stored or given up, or 60 s over | closing: asking | ask the gateway |
//! | closing: asking | refused | open | |
//! | closing: asking | granted, or 10 s over | closing: leaving | disconnect |
//! | closing: leaving | ended, or 10 s over | closed | check in |
//! | closing: leaving | offer | connecting | open it; the old tunnel can carry nothing any more |
//! | any | stop | | disconnect what is open, then exit |
//!
//! Events of a tunnel carry its [`Attempt`]: those of an earlier one are stale and ignored.

use std::time::{Duration, Instant};

use shared::id::OfferId;
use shared::wire::check_in::{FailedOffer, Offer, TunnelState};

mod back_off;
mod check_ins;
mod delivery;
mod messages;
mod patience;
#[cfg(test)]
mod tests;

use back_off::{REFUSED_RETRY, back_off};
use check_ins::{CheckIns, Eager};
use delivery::Delivery;
pub use messages::{
    Attempt, Command, Event, Failure, Notice, Outcome, Pace, Refusal, RefusalKind, Roll, Sent, Start,
    TunnelEvent,
};
pub use patience::BRIEF;
pub use patience::Holding;
use patience::Patience;

/// Check-in interval until the gateway says another: its own default.
const FIRST_INTERVAL: Duration = Duration::from_secs(5);
/// Longest time for a snapshot before a tunnel closes without it. It takes 20 s at most; the rest is for a slow link, or
/// for the turn of this agent where the gateway takes those of thousands.
pub const SNAPSHOT_LIMIT: Duration = Duration::from_secs(60);
/// Longest wait for the gateway to grant or refuse closing. It answers from memory, so a silent one is gone.
const ASK_LIMIT: Duration = Duration::from_secs(10);
/// Longest wait for a disconnect to be carried out.
const LEAVE_LIMIT: Duration = Duration::from_secs(10);
/// A tunnel that was open for longer than this was a good one: its end is no reason to back off.
const SETTLED: Duration = Duration::from_secs(60);
/// A tunnel whose last stream or hold is not older than this was in use. Holds come every minute, and a silent break is
/// noticed 45 s after the last of them could arrive.
const IN_USE: Duration = Duration::from_secs(120);

/// The agent's decisions. See the module's text.
#[derive(Debug)]
pub struct Lifecycle {
    interval: Duration,
    check_ins: CheckIns,
    patience: Patience,
    /// Questions in a row that followed an answer within [`check_ins`]'s `PAUSE` of the one before.
    hasty: u32,
    /// Check-ins in a row that met trouble.
    troubles: u32,
    /// Somebody may be waiting for this agent's return.
    eager: Option<Eager>,
    /// The refusal that the log knows of.
    refused: Option<Refusal>,
    tunnel: Tunnel,
    attempts: u64,
    /// Tunnels in a row that failed or were lost soon.
    setbacks: u32,
    /// The failure that the log knows of.
    last_failure: Option<String>,
    /// What the next check-in reports.
    failed: Option<FailedOffer>,
    snapshot: Delivery,
    stopping: bool,
}

#[derive(Debug)]
enum Tunnel {
    Closed,
    /// Streams may be told of before the welcome: they are served by tasks of their own.
    Connecting {
        attempt: Attempt,
        offer: OfferId,
        streams: usize,
    },
    Open(Live),
    Closing {
        live: Live,
        phase: Phase,
        until: Instant,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Snapshot,
    Asking,
    Leaving,
}

/// A tunnel that is open.
#[derive(Clone, Copy, Debug)]
struct Live {
    attempt: Attempt,
    /// What it came of.
    offer: OfferId,
    since: Instant,
    streams: usize,
    /// When a stream was last seen open or a hold was reported. Bytes flow in open streams only, so they need no watch of
    /// their own.
    active: Instant,
    idle_timeout: Duration,
}

impl Live {
    fn in_use(&self, now: Instant) -> bool {
        self.streams > 0 || now.saturating_duration_since(self.active) <= IN_USE
    }

    /// When it will have been idle for long enough, if nothing happens.
    fn idle_at(&self) -> Option<Instant> {
        (self.streams == 0).then(|| self.active + self.idle_timeout)
    }
}

impl Lifecycle {
    /// An agent that starts at `now`.
    pub fn new(start: Start, now: Instant, roll: Roll) -> Self {
        let (first, last_offer) = match start {
            Start::Joined => (now, None),
            Start::Again { last_offer } => (now + roll.of(FIRST_INTERVAL), last_offer),
        };
        Self {
            interval: FIRST_INTERVAL,
            check_ins: CheckIns::Due { at: first, pace: Pace::Usual },
            patience: Patience::new(),
            hasty: 0,
            troubles: 0,
            eager: None,
            refused: None,
            tunnel: Tunnel::Closed,
            attempts: 0,
            setbacks: 0,
            last_failure: None,
            failed: last_offer
                .map(|offer| FailedOffer { offer, reason: "the agent was started again".into() }),
            snapshot: Delivery::Idle,
            stopping: false,
        }
    }

    /// State of the tunnel, as a hello says it.
    pub fn tunnel_state(&self) -> TunnelState {
        match self.tunnel {
            Tunnel::Closed => TunnelState::Closed,
            Tunnel::Connecting { .. } => TunnelState::Connecting,
            Tunnel::Open(_) => TunnelState::Open,
            Tunnel::Closing { .. } => TunnelState::Closing,
        }
    }

    /// How the gateway holds its questions.
    pub fn holding(&self) -> Holding {
        self.patience.holding()
    }

    /// When to send [`Event::Tick`] next; `None` while only an answer can bring anything on.
    pub fn deadline(&self) -> Option<Instant> {
        let tunnel = match &self.tunnel {
            Tunnel::Closed | Tunnel::Connecting { .. } => None,
            Tunnel::Open(live) => live.idle_at(),
            Tunnel::Closing { until, .. } => Some(*until),
        };
        [self.check_in_at(), tunnel, self.snapshot.deadline()].into_iter().flatten().min()
    }

    /// Takes in what happened at `now` and appends what to do to `out`.
    pub fn handle(&mut self, event: Event, now: Instant, roll: Roll, out: &mut Vec<Command>) {
        match event {
            Event::Tick => self.tick(now, roll, out),
            Event::CheckedIn(outcome) => self.checked_in(outcome, now, roll, out),
            Event::Tunnel(attempt, event) => self.tunnel_event(attempt, event, now, roll, out),
            Event::Snapshot(sent) => {
                let over = self.snapshot.tried(sent, now, roll, out);
                if let Tunnel::Closing { live, phase: Phase::Snapshot, .. } = self.tunnel
                    && over
                {
                    self.ask(live, now, out);
                }
            }
            Event::Woke => self.woke(now, roll, out),
            Event::Stop => self.stop(now, out),
        }
    }

    fn tick(&mut self, now: Instant, roll: Roll, out: &mut Vec<Command>) {
        self.snapshot.tick(now, out);
        match self.tunnel {
            Tunnel::Closed | Tunnel::Connecting { .. } => {}
            Tunnel::Open(live) => {
                if live.idle_at().is_some_and(|at| at <= now) {
                    out.push(Command::Tell(Notice::Idle));
                    self.snapshot.start(out);
                    let until = now + SNAPSHOT_LIMIT;
                    self.tunnel = Tunnel::Closing { live, phase: Phase::Snapshot, until };
                }
            }
            Tunnel::Closing { live, phase, until } if until <= now => match phase {
                Phase::Snapshot => {
                    out.push(Command::Tell(Notice::SnapshotLate));
                    self.ask(live, now, out);
                }
                Phase::Asking => self.leave(live, now, out),
                Phase::Leaving => self.closed(now, out),
            },
            Tunnel::Closing { .. } => {}
        }
        self.check_in_if_due(now, roll, out);
    }

    fn offered(&mut self, offer: Offer, out: &mut Vec<Command>) {
        if self.stopping {
            return;
        }
        match self.tunnel {
            Tunnel::Closed | Tunnel::Closing { phase: Phase::Leaving, .. } => {
                self.attempts += 1;
                let attempt = Attempt(self.attempts);
                self.tunnel = Tunnel::Connecting { attempt, offer: offer.id, streams: 0 };
                out.push(Command::OpenTunnel(attempt, offer));
            }
            Tunnel::Connecting { .. } => out.push(Command::Tell(Notice::OfferIgnored)),
            Tunnel::Open(live) | Tunnel::Closing { live, phase: Phase::Snapshot | Phase::Asking, .. } => {
                out.push(Command::Tell(Notice::OfferIgnored));
                out.push(Command::ProbeTunnel(live.attempt));
            }
        }
    }

    fn tunnel_event(
        &mut self,
        attempt: Attempt,
        event: TunnelEvent,
        now: Instant,
        roll: Roll,
        out: &mut Vec<Command>,
    ) {
        match self.tunnel {
            Tunnel::Closed => {}
            Tunnel::Connecting { attempt: current, offer, streams } if current == attempt => {
                self.while_connecting(attempt, (offer, streams), event, now, roll, out);
            }
            Tunnel::Open(live) if live.attempt == attempt => self.while_open(live, event, now, roll, out),
            Tunnel::Closing { live, phase, until } if live.attempt == attempt => {
                self.while_closing(live, (phase, until), event, now, roll, out);
            }
            Tunnel::Connecting { .. } | Tunnel::Open(_) | Tunnel::Closing { .. } => {}
        }
    }

    fn while_connecting(
        &mut self,
        attempt: Attempt,
        (offer, streams): (OfferId, usize),
        event: TunnelEvent,
        now: Instant,
        roll: Roll,
        out: &mut Vec<Command>,
    ) {
        let failure = match event {
            TunnelEvent::Opened { idle_timeout } => {
                out.push(Command::Tell(Notice::TunnelOpened));
                self.last_failure = None;
                self.tunnel =
                    Tunnel::Open(Live { attempt, offer, since: now, streams, active: now, idle_timeout });
                return;
            }
            TunnelEvent::Failed(failure) => failure,
            TunnelEvent::Ended { reason } | TunnelEvent::Dismissed { reason } => {
                Failure { reason, lasting: false }
            }
            TunnelEvent::StreamStarted => {
                self.tunnel = Tunnel::Connecting { attempt, offer, streams: streams + 1 };
                return;
            }
            TunnelEvent::StreamEnded => {
                self.tunnel = Tunnel::Connecting { attempt, offer, streams: streams.saturating_sub(1) };
                return;
            }
            TunnelEvent::IdleTimeout(_)
            | TunnelEvent::Held
            | TunnelEvent::SnapshotWanted
            | TunnelEvent::CloseGranted
            | TunnelEvent::CloseRefused => return,
        };
        let changed = self.last_failure.as_ref() != Some(&failure.reason);
        out.push(Command::Tell(Notice::TunnelFailed { reason: failure.reason.clone(), changed }));
        self.last_failure = Some(failure.reason.clone());
        self.failed = Some(FailedOffer { offer, reason: failure.reason });
        self.tunnel = Tunnel::Closed;
        if !failure.lasting {
            self.be_eager(now);
        }
        self.set_back(failure.lasting, now, roll);
    }

    fn while_open(
        &mut self,
        mut live: Live,
        event: TunnelEvent,
        now: Instant,
        roll: Roll,
        out: &mut Vec<Command>,
    ) {
        match event {
            TunnelEvent::IdleTimeout(idle_timeout) => live.idle_timeout = idle_timeout,
            TunnelEvent::StreamStarted => {
                live.streams += 1;
                live.active = now;
            }
            TunnelEvent::StreamEnded => {
                live.streams = live.streams.saturating_sub(1);
                live.active = now;
            }
            TunnelEvent::Held => live.active = now,
            TunnelEvent::SnapshotWanted => {
                live.active = now;
                self.snapshot.start(out);
            }
            TunnelEvent::Ended { reason } => return self.lost(live, reason, now, roll, out),
            TunnelEvent::Dismissed { reason } => return self.dismissed(live, reason, now, roll, out),
            // The answer to a question that was given up, or a second greeting.
            TunnelEvent::CloseGranted
            | TunnelEvent::CloseRefused
            | TunnelEvent::Opened { .. }
            | TunnelEvent::Failed(_) => {}
        }
        self.tunnel = Tunnel::Open(live);
    }

    fn while_closing(
        &mut self,
        mut live: Live,
        (phase, until): (Phase, Instant),
        event: TunnelEvent,
        now: Instant,
        roll: Roll,
        out: &mut Vec<Command>,
    ) {
        let mut work = false;
        match event {
            TunnelEvent::StreamStarted => {
                live.streams += 1;
                work = true;
            }
            TunnelEvent::StreamEnded => {
                live.streams = live.streams.saturating_sub(1);
                work = true;
            }
            TunnelEvent::Held => work = true,
            TunnelEvent::SnapshotWanted => {
                work = true;
                self.snapshot.start(out);
            }
            TunnelEvent::IdleTimeout(idle_timeout) => live.idle_timeout = idle_timeout,
            TunnelEvent::CloseGranted if phase == Phase::Asking => return self.leave(live, now, out),
            TunnelEvent::CloseRefused if phase == Phase::Asking => {
                out.push(Command::Tell(Notice::CloseRefused));
                live.active = now;
                self.tunnel = Tunnel::Open(live);
                return;
            }
            TunnelEvent::Ended { .. } | TunnelEvent::Dismissed { .. } if phase == Phase::Leaving => {
                return self.closed(now, out);
            }
            TunnelEvent::Ended { reason } => return self.lost(live, reason, now, roll, out),
            TunnelEvent::Dismissed { reason } => return self.dismissed(live, reason, now, roll, out),
            TunnelEvent::CloseGranted
            | TunnelEvent::CloseRefused
            | TunnelEvent::Opened { .. }
            | TunnelEvent::Failed(_) => {}
        }
        if work {
            live.active = now;
        }
        // Once the gateway is asked, it decides: it knows of the stream as well.
        self.tunnel = if work && phase == Phase::Snapshot {
            Tunnel::Open(live)
        } else {
            Tunnel::Closing { live, phase, until }
        };
    }

    fn ask(&mut self, live: Live, now: Instant, out: &mut Vec<Command>) {
        out.push(Command::AskToClose(live.attempt));
        self.tunnel = Tunnel::Closing { live, phase: Phase::Asking, until: now + ASK_LIMIT };
    }

    fn leave(&mut self, live: Live, now: Instant, out: &mut Vec<Command>) {
        out.push(Command::CloseTunnel(live.attempt));
        self.tunnel = Tunnel::Closing { live, phase: Phase::Leaving, until: now + LEAVE_LIMIT };
    }

    /// The tunnel ended as agreed.
    fn closed(&mut self, now: Instant, out: &mut Vec<Command>) {
        out.push(Command::Tell(Notice::TunnelClosed));
        self.tunnel = Tunnel::Closed;
        self.setbacks = 0;
        if self.stopping {
            out.push(Command::Exit);
        }
        self.check_in_by(now);
    }

    fn lost(&mut self, live: Live, reason: String, now: Instant, roll: Roll, out: &mut Vec<Command>) {
        let report = format!("its tunnel was lost: {reason}");
        self.failed = Some(FailedOffer { offer: live.offer, reason: report });
        out.push(Command::Tell(Notice::TunnelLost { reason }));
        self.gone(live, now, roll);
    }

    /// The gateway knows, and has its reasons; somebody may want the next tunnel all the same.
    fn dismissed(&mut self, live: Live, reason: String, now: Instant, roll: Roll, out: &mut Vec<Command>) {
        out.push(Command::Tell(Notice::TunnelDismissed { reason }));
        self.gone(live, now, roll);
    }

    fn gone(&mut self, live: Live, now: Instant, roll: Roll) {
        self.tunnel = Tunnel::Closed;
        if now.duration_since(live.since) > SETTLED {
            self.setbacks = 0;
        }
        if live.in_use(now) {
            self.be_eager(now);
            self.set_back(false, now, roll);
        } else {
            self.check_in_by(now + roll.of(self.interval));
        }
    }

    /// Something went wrong with a tunnel: check in at once the first time, and later the more often it happens.
    fn set_back(&mut self, lasting: bool, now: Instant, roll: Roll) {
        let wait = match self.setbacks {
            0 => Duration::ZERO,
            _ if lasting => REFUSED_RETRY,
            again => back_off(again, roll),
        };
        self.setbacks = self.setbacks.saturating_add(1);
        if lasting && wait > Duration::ZERO {
            // An earlier check-in would only bring another offer to fail with.
            self.check_in_not_before(now + wait);
        } else {
            self.check_in_by(now + wait);
        }
    }

    fn stop(&mut self, now: Instant, out: &mut Vec<Command>) {
        if self.stopping {
            return;
        }
        self.stopping = true;
        match self.tunnel {
            // What is half open is dropped with the process.
            Tunnel::Closed | Tunnel::Connecting { .. } => out.push(Command::Exit),
            Tunnel::Open(live) | Tunnel::Closing { live, phase: Phase::Snapshot | Phase::Asking, .. } => {
                self.leave(live, now, out);
            }
            Tunnel::Closing { phase: Phase::Leaving, .. } => {}
        }
    }
}
