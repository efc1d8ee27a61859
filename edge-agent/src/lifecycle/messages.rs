//! What goes into the lifecycle and what comes out: values only, no decision.

use std::time::Duration;

use shared::id::OfferId;
use shared::wire::check_in::{FailedOffer, Offer, TunnelState};

use super::Holding;

/// A random number from 0 up to, not including, 1, fresh for every event.
#[derive(Clone, Copy, Debug)]
pub struct Roll(pub f64);

impl Roll {
    /// Some moment within `span`.
    pub(super) fn of(self, span: Duration) -> Duration {
        span.mul_f64(self.0.clamp(0.0, 1.0))
    }
}

/// How the agent comes to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// It has just been given its join token: somebody is watching, so it checks in at once.
    Joined,
    /// It starts again, perhaps with a thousand others after a power cut: at a random moment of the first interval.
    Again {
        /// The last offer that it used before. The gateway may still believe in the tunnel that came of it.
        last_offer: Option<OfferId>,
    },
}

/// One try to open a tunnel, and the tunnel that came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attempt(pub(crate) u64);

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The time of [`super::Lifecycle::deadline`] has come.
    Tick,
    /// The check-in that was asked for is done.
    CheckedIn(Outcome),
    /// Something about a tunnel.
    Tunnel(Attempt, TunnelEvent),
    /// What became of a try to deliver the snapshot.
    Snapshot(Sent),
    /// The machine was asleep, or its clock was set: connections may be dead, and the next one who wants it may be there.
    Woke,
    /// The process was told to end.
    Stop,
}

/// What became of a check-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The gateway answered.
    Answered {
        /// Its interval, if it said one.
        interval: Option<Duration>,
        /// Credentials for a tunnel, if it needs one.
        offer: Option<Offer>,
        /// It holds questions that ask for it, so the next one may come at once.
        holds: bool,
        /// It was reached over a new connection only, after the kept one had failed: the network may be another one.
        rerouted: bool,
    },
    /// A question that asked to be held got no answer: its connection broke, or a proxy lost its patience, or nothing came.
    /// Or there was no connection any more for one that follows an answer.
    Cut {
        /// Why, for the log.
        reason: String,
        /// How long the question had been out.
        after: Duration,
    },
    /// The gateway said no and will go on saying so until somebody does something.
    Refused(Refusal),
    /// It was not reached, or can't answer now.
    Trouble {
        /// Why, for the log.
        reason: String,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
        /// Something at its address answered: the network works, and the gateway does not.
        reached: bool,
    },
}

/// What became of a try to deliver a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The gateway has stored it.
    Stored,
    /// It can't be delivered now.
    Failed {
        /// Why, for the log.
        reason: String,
        /// When the gateway wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// It can't be delivered at all: there is none, or the gateway will never take it.
    Refused {
        /// Why, for the log.
        reason: String,
    },
}

/// A refusal that only people can lift.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which one.
    pub kind: RefusalKind,
    /// The gateway's sentence on what to do.
    pub detail: String,
}

/// Kinds of refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// 401: no edge has this key.
    UnknownKey,
    /// 403: the key belongs to another edge ID.
    BoundToAnother,
    /// 409: another agent uses this edge ID.
    SecondInstance,
    /// 426: the gateway speaks another version.
    Protocol,
    /// The gateway's TLS key is not the pinned one.
    TlsPin,
}

/// Something about a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TunnelEvent {
    /// The gateway welcomed it.
    Opened {
        /// After which the agent closes it.
        idle_timeout: Duration,
    },
    /// It did not come up.
    Failed(Failure),
    /// The gateway changed the idle time.
    IdleTimeout(Duration),
    /// A stream began.
    StreamStarted,
    /// A stream ended.
    StreamEnded,
    /// Somebody is working, says the gateway.
    Held,
    /// The gateway wants a snapshot.
    SnapshotWanted,
    /// The tunnel may close.
    CloseGranted,
    /// It may not.
    CloseRefused,
    /// It is gone.
    Ended {
        /// Why, for the log.
        reason: String,
    },
    /// The gateway closed it: an operator wanted that, or the gateway shuts down.
    Dismissed {
        /// The gateway's words.
        reason: String,
    },
}

/// Why a tunnel did not come up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// A sentence for the operator who waits and for the log.
    pub reason: String,
    /// Trying again soon is useless: the host key is wrong.
    pub lasting: bool,
}

/// How a check-in goes about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Over the kept connection or a new one, with patience.
    Usual,
    /// Right after an answer: over the connection that brought it, and no other. Where that is gone, the gateway is
    /// stopping, and all of its agents know it in the same moment.
    Following,
    /// Somebody may be waiting, and the network was broken: over a new connection, dialled again every second, and without
    /// much patience.
    Eager,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Check in; answer with [`Event::CheckedIn`]. A question that is still out is given up for it, and its answer is none
    /// any more.
    CheckIn {
        /// State of the tunnel, for a hello.
        tunnel: TunnelState,
        /// What to report.
        failed: Option<FailedOffer>,
        /// How.
        pace: Pace,
        /// For how long it may be held, if it may.
        wait: Option<Duration>,
    },
    /// Open a tunnel; answer with [`TunnelEvent::Opened`] or [`TunnelEvent::Failed`], in bounded time.
    OpenTunnel(Attempt, Offer),
    /// Find out whether it lives, and end it if not.
    ProbeTunnel(Attempt),
    /// Take a snapshot and send it; answer with [`Event::Snapshot`], in bounded time.
    TakeSnapshot,
    /// Send the one that was taken last once more; answer as before.
    SendSnapshot,
    /// Ask the gateway whether the tunnel may close.
    AskToClose(Attempt),
    /// Disconnect; answer with [`TunnelEvent::Ended`] or [`TunnelEvent::Dismissed`].
    CloseTunnel(Attempt),
    /// Say it in the log.
    Tell(Notice),
    /// Everything is closed: end the process.
    Exit,
}

/// What the log should say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The gateway refuses us, and did not (or differently) before.
    Refused(Refusal),
    /// The gateway can't be asked.
    Trouble {
        /// Why.
        reason: String,
        /// The first in a row.
        first: bool,
    },
    /// The gateway answers again.
    Reached,
    /// A question that the gateway may have held was cut off; another one is asked.
    Cut {
        /// Why.
        reason: String,
    },
    /// Something on the way cuts off questions that are held.
    WayLimited(Holding),
    /// It does so no more.
    WayFree,
    /// The tunnel is open.
    TunnelOpened,
    /// The tunnel did not come up.
    TunnelFailed {
        /// Why.
        reason: String,
        /// Another reason than the last time.
        changed: bool,
    },
    /// The tunnel is idle and will be closed.
    Idle,
    /// The gateway has the snapshot.
    SnapshotStored,
    /// It will be sent again.
    SnapshotDelayed {
        /// Why.
        reason: String,
    },
    /// It is not sent again.
    SnapshotGivenUp {
        /// Why.
        reason: String,
        /// How often it was tried.
        tries: u32,
    },
    /// The tunnel is closed before its snapshot is delivered.
    SnapshotLate,
    /// The gateway did not let it close.
    CloseRefused,
    /// The tunnel is closed as agreed.
    TunnelClosed,
    /// The gateway closed the tunnel.
    TunnelDismissed {
        /// The gateway's words.
        reason: String,
    },
    /// The tunnel is gone, without anybody having asked.
    TunnelLost {
        /// Why.
        reason: String,
    },
    /// An offer came while there is a tunnel.
    OfferIgnored,
}
