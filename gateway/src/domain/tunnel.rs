//! The life of one edge's tunnel, seen from the gateway. Pure.
//!
//! | state | flag is raised | an instance checks in | it logs in | the link is up | the link is gone | nobody wants it |
//! | --- | --- | --- | --- | --- | --- | --- |
//! | idle | → wanted | | stock client: → joining | | | |
//! | wanted | more wait | → offered | stock client: → joining | | | → idle |
//! | offered | more wait | same instance: the same offer again | → joining | | | → idle, offer retired |
//! | joining | more wait | | refused | → open, waiters are let through | → wanted or idle | goes on |
//! | open | let through at once | | refused | ignored | → wanted or idle | the agent asks to close: → closing |
//! | closing | more wait | | refused | ignored | → wanted or idle | |
//!
//! A stock SSH client logs in with credentials that an operator handed out, without an offer: whoever of it and an
//! offered agent logs in first has the tunnel, and the offer is retired. *Revoke stock* ends its link and nothing else.
//!
//! Offered falls back to wanted when the offer expires or the agent says that it failed; joining, when the link does
//! not come up in time. From there the next instance that checks in gets the next offer. *Revoke* and *lower* lead from
//! every state to idle, close the link and turn away all who wait.
//!
//! An agent often knows first that its tunnel broke: its address changed, its machine was restarted. It says so with its
//! next check-in, naming the offer that the tunnel came of, and a link that came of that offer is retired at once
//! instead of when its keep-alives fail. A report that is stale or false names no offer of a newer link, and changes
//! nothing.
//!
//! A link that breaks under streams leaves a lease behind ([`RETURN_TIME`]): those who were cut off come again.
//!
//! What must always hold: at most one link; an offer's credentials let in once, and never after the offer was retired;
//! every waiter is answered exactly once; the flag is up only while somebody waits or a lease runs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use shared::id::{InstanceId, KeyDigest, OfferId};
use shared::secret::Secret;
use shared::tunnel::control::ToAgent;
use subtle::ConstantTimeEq as _;

use super::Now;
use super::edge::Timestamp;

/// How long an offer can be used. A login through a proxy on a satellite path takes about ten round trips, 6 s; a
/// longer life would keep the next instance of a cluster waiting when this one died.
pub const OFFER_LIFETIME: Duration = Duration::from_secs(15);

/// How long an agent may take from its login until all its services are announced; a few round trips.
pub const JOIN_TIME: Duration = Duration::from_secs(15);

/// How long a link may take to go away once its close was granted; then it is cut.
pub const CLOSE_TIME: Duration = Duration::from_secs(10);

/// How long a tunnel that broke under streams is wanted for those who were cut off. Programs come again within seconds,
/// people take a moment to see what happened.
pub const RETURN_TIME: Duration = Duration::from_secs(60);

/// A stream that ended so shortly before its link counts as cut off by the same break: its end may be told first.
const JUST_BEFORE: Duration = Duration::from_secs(3);

/// How often the agent hears that somebody holds the tunnel though no byte flows.
pub const HOLD_EVERY: Duration = Duration::from_secs(60);

/// One SSH connection of an agent. A new one gets a new id, so that whatever still refers to an old one can do no harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(pub u64);

/// Somebody who waits for a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WaiterId(pub u64);

/// Who has the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// An instance, which logged in with its offer.
    Agent {
        /// Which instance.
        instance: InstanceId,
        /// Which offer.
        offer: OfferId,
    },
    /// A stock SSH client that stands in for an agent.
    Stock,
}

/// One-time credentials for one instance.
#[derive(Clone, Debug)]
pub struct Offer {
    /// Public id.
    pub id: OfferId,
    /// SSH user name.
    pub username: String,
    /// SSH password.
    pub password: Secret<String>,
}

/// What happens to a tunnel.
#[derive(Debug)]
pub enum Event {
    /// Somebody wants a stream, and waits for it until the deadline.
    Want {
        /// Who.
        waiter: WaiterId,
        /// Until when.
        deadline: Instant,
    },
    /// A waiter went away.
    GiveUp {
        /// Who.
        waiter: WaiterId,
    },
    /// The flag is raised for a time, for nobody in particular; once the tunnel is open the lease holds it.
    Raise {
        /// Until when.
        until: Instant,
    },
    /// An operator wants it closed.
    Lower,
    /// The edge is deleted or dissociated, or its key is rotated.
    Revoke,
    /// An instance checked in while the tunnel was wanted: these are its credentials.
    Offer {
        /// Which instance.
        instance: InstanceId,
        /// Its credentials, fresh.
        offer: Offer,
    },
    /// The instance could not use its offer, or the tunnel that came of it is over at its end.
    OfferFailed {
        /// Which instance says so.
        instance: InstanceId,
        /// Which offer.
        offer: OfferId,
        /// Why, in the agent's words.
        reason: String,
    },
    /// Somebody logged in with an offer's user name. What the password is worth is decided here.
    LogIn {
        /// The user name's digest was matched by the registry; this is what came with it.
        password: KeyDigest,
        /// The id that the connection has from now on.
        link: LinkId,
    },
    /// A stock SSH client showed credentials of its own; that they are right is for the registry to say.
    LogInStock {
        /// The id that the connection has from now on.
        link: LinkId,
    },
    /// The credentials of stock SSH clients were taken back.
    RevokeStock,
    /// The agent announced its services.
    LinkUp {
        /// Which link.
        link: LinkId,
    },
    /// The connection ended.
    LinkDown {
        /// Which link.
        link: LinkId,
        /// Why.
        reason: String,
    },
    /// The agent finds the tunnel idle and asks whether it may close it.
    AskClose {
        /// Which link.
        link: LinkId,
    },
    /// A stream that a waiter was let through to has ended.
    StreamEnded {
        /// Which link carried it.
        link: LinkId,
    },
    /// A deadline may have passed.
    Tick,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// The waiter may open its stream on this link; it counts as a stream until [`Event::StreamEnded`].
    Grant {
        /// Who.
        waiter: WaiterId,
        /// Where.
        link: LinkId,
    },
    /// The waiter gets no tunnel.
    Deny {
        /// Who.
        waiter: WaiterId,
        /// How far it had come; [`Tunnel::failure`] may say more.
        phase: Phase,
    },
    /// The login is right: the connection is the edge's link now.
    Admit {
        /// The link.
        link: LinkId,
    },
    /// End the connection.
    Close {
        /// Which.
        link: LinkId,
        /// Why, for the agent and the log.
        reason: &'static str,
    },
    /// Tell the agent.
    Tell {
        /// On which link.
        link: LinkId,
        /// What.
        message: ToAgent,
    },
}

#[derive(Debug)]
enum State {
    Idle,
    Wanted,
    Offered {
        instance: InstanceId,
        offer: Offer,
        expires: Instant,
    },
    Joining {
        party: Party,
        link: LinkId,
        deadline: Instant,
    },
    Open {
        party: Party,
        link: LinkId,
        streams: usize,
        /// When a stream ended last.
        used: Option<Instant>,
        next_hold: Instant,
    },
    Closing {
        party: Party,
        link: LinkId,
        deadline: Instant,
    },
}

/// The phases that others may tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nobody needs it.
    Idle,
    /// The flag is up.
    Wanted,
    /// An instance has credentials, or is logging in with them.
    Offered,
    /// Streams can be opened.
    Open,
    /// The agent is leaving.
    Closing,
}

/// One edge's tunnel.
#[derive(Debug)]
pub struct Tunnel {
    state: State,
    since: Timestamp,
    waiters: BTreeMap<WaiterId, Instant>,
    lease: Option<Instant>,
    /// Why the last attempt failed or the last link ended.
    failure: Option<String>,
}

impl Tunnel {
    /// Idle.
    pub fn new(now: Now) -> Self {
        Self { state: State::Idle, since: now.wall, waiters: BTreeMap::new(), lease: None, failure: None }
    }

    /// Takes one event; what is to be done is added to `out`.
    pub fn handle(&mut self, event: Event, now: Now, out: &mut Vec<Command>) {
        match event {
            Event::Want { waiter, deadline } => self.want(waiter, deadline, now, out),
            Event::GiveUp { waiter } => {
                self.waiters.remove(&waiter);
                self.settle(now);
            }
            Event::Raise { until } => {
                self.lease(until);
                self.settle(now);
            }
            Event::Lower => self.end("an operator closed the tunnel", now, out),
            Event::Revoke => self.end("the edge was deleted or dissociated", now, out),
            Event::Offer { instance, offer } => {
                if matches!(self.state, State::Wanted) {
                    let expires = now.instant + OFFER_LIFETIME;
                    self.enter(State::Offered { instance, offer, expires }, now);
                }
            }
            Event::OfferFailed { instance, offer, reason } => {
                self.offer_failed(instance, offer, reason, now, out);
            }
            Event::LogIn { password, link } => self.log_in(password, link, now, out),
            Event::LogInStock { link } => self.log_in_stock(link, now, out),
            Event::RevokeStock => {
                if self.party() == Some(Party::Stock)
                    && let Some(link) = self.link()
                {
                    let reason = "its credentials were revoked";
                    out.push(Command::Close { link, reason });
                    self.failure = Some(reason.to_owned());
                    self.fall_back(now);
                }
            }
            Event::LinkUp { link: up } => {
                if let State::Joining { party, link, .. } = self.state
                    && link == up
                {
                    self.open(party, link, now, out);
                }
            }
            Event::LinkDown { link, reason } => {
                if self.link() == Some(link) {
                    self.lose(reason, now);
                }
            }
            Event::AskClose { link } => self.ask_close(link, now, out),
            Event::StreamEnded { link: ended } => {
                if let State::Open { link, streams, used, .. } = &mut self.state
                    && *link == ended
                {
                    *streams = streams.saturating_sub(1);
                    *used = Some(now.instant);
                }
            }
            Event::Tick => self.tick(now, out),
        }
    }

    /// When [`Event::Tick`] is due, if nothing else happens before.
    pub fn deadline(&self) -> Option<Instant> {
        let of_state = match &self.state {
            State::Idle | State::Wanted => None,
            State::Offered { expires, .. } => Some(*expires),
            State::Joining { deadline, .. } | State::Closing { deadline, .. } => Some(*deadline),
            State::Open { next_hold, .. } => (self.holds() > 0).then_some(*next_hold),
        };
        self.waiters.values().copied().chain(self.lease).chain(of_state).min()
    }

    /// Whether the next instance that checks in is to get an offer.
    pub fn wants_an_offer(&self) -> bool {
        match self.state {
            State::Wanted => true,
            State::Idle
            | State::Offered { .. }
            | State::Joining { .. }
            | State::Open { .. }
            | State::Closing { .. } => false,
        }
    }

    /// The offer that this instance has and did not use yet, with what is left of its life.
    pub fn offer_of(&self, of: InstanceId, now: Now) -> Option<(&Offer, Duration)> {
        match &self.state {
            State::Offered { instance, offer, expires } if *instance == of && *expires > now.instant => {
                Some((offer, *expires - now.instant))
            }
            State::Offered { .. }
            | State::Idle
            | State::Wanted
            | State::Joining { .. }
            | State::Open { .. }
            | State::Closing { .. } => None,
        }
    }

    /// User name of the offer that may be used now, for the registry's index.
    pub fn username(&self) -> Option<&str> {
        match &self.state {
            State::Offered { offer, .. } => Some(&offer.username),
            State::Idle
            | State::Wanted
            | State::Joining { .. }
            | State::Open { .. }
            | State::Closing { .. } => None,
        }
    }

    /// The connection that is this edge's link, from its login to its end.
    pub fn link(&self) -> Option<LinkId> {
        match self.state {
            State::Joining { link, .. } | State::Open { link, .. } | State::Closing { link, .. } => {
                Some(link)
            }
            State::Idle | State::Wanted | State::Offered { .. } => None,
        }
    }

    /// Who has the link.
    pub fn party(&self) -> Option<Party> {
        match self.state {
            State::Joining { party, .. } | State::Open { party, .. } | State::Closing { party, .. } => {
                Some(party)
            }
            State::Idle | State::Wanted | State::Offered { .. } => None,
        }
    }

    /// Which instance has the link or the offer.
    pub fn instance(&self) -> Option<InstanceId> {
        match (&self.state, self.party()) {
            (State::Offered { instance, .. }, _) => Some(*instance),
            (_, Some(Party::Agent { instance, .. })) => Some(instance),
            (_, Some(Party::Stock) | None) => None,
        }
    }

    /// Where in its life it is.
    pub fn phase(&self) -> Phase {
        match self.state {
            State::Idle => Phase::Idle,
            State::Wanted => Phase::Wanted,
            State::Offered { .. } | State::Joining { .. } => Phase::Offered,
            State::Open { .. } => Phase::Open,
            State::Closing { .. } => Phase::Closing,
        }
    }

    /// Since when it is in this phase.
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// How many keep it from being idle: streams, waiters, a lease.
    pub fn holds(&self) -> usize {
        let streams = match self.state {
            State::Open { streams, .. } => streams,
            State::Idle
            | State::Wanted
            | State::Offered { .. }
            | State::Joining { .. }
            | State::Closing { .. } => 0,
        };
        streams + self.waiters.len() + usize::from(self.lease.is_some())
    }

    /// Why the last attempt failed or the last link ended, if one did.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    fn is_wanted(&self) -> bool {
        !self.waiters.is_empty() || self.lease.is_some()
    }

    fn enter(&mut self, state: State, now: Now) {
        let before = self.phase();
        self.state = state;
        if self.phase() != before {
            self.since = now.wall;
        }
    }

    /// Raises or lowers the flag, as somebody wants the tunnel or nobody does.
    fn settle(&mut self, now: Now) {
        match (&self.state, self.is_wanted()) {
            (State::Idle, true) => {
                self.failure = None;
                self.enter(State::Wanted, now);
            }
            (State::Wanted | State::Offered { .. }, false) => self.enter(State::Idle, now),
            (State::Idle | State::Joining { .. } | State::Open { .. } | State::Closing { .. }, _)
            | (State::Wanted | State::Offered { .. }, true) => {}
        }
    }

    /// The agent knows better than we do what became of its offer.
    fn offer_failed(
        &mut self,
        instance: InstanceId,
        offer: OfferId,
        reason: String,
        now: Now,
        out: &mut Vec<Command>,
    ) {
        match &self.state {
            State::Offered { instance: to, offer: offered, .. } if *to == instance && offered.id == offer => {
                self.failure = Some(reason);
                self.fall_back(now);
            }
            State::Joining { party, link, .. }
            | State::Open { party, link, .. }
            | State::Closing { party, link, .. }
                if *party == (Party::Agent { instance, offer }) =>
            {
                out.push(Command::Close { link: *link, reason: "its agent says that it is lost" });
                self.lose(reason, now);
            }
            State::Idle
            | State::Wanted
            | State::Offered { .. }
            | State::Joining { .. }
            | State::Open { .. }
            | State::Closing { .. } => {}
        }
    }

    /// The link is no more, and nobody wanted that.
    fn lose(&mut self, reason: String, now: Now) {
        if let State::Open { party: Party::Agent { .. }, streams, used, .. } = self.state
            && (streams > 0
                || used.is_some_and(|at| now.instant.saturating_duration_since(at) <= JUST_BEFORE))
        {
            self.lease(now.instant + RETURN_TIME);
        }
        self.failure = Some(reason);
        self.fall_back(now);
    }

    fn lease(&mut self, until: Instant) {
        self.lease = Some(self.lease.map_or(until, |lease| lease.max(until)));
    }

    /// The offer or the link is no more.
    fn fall_back(&mut self, now: Now) {
        let next = if self.is_wanted() { State::Wanted } else { State::Idle };
        self.enter(next, now);
    }

    fn want(&mut self, waiter: WaiterId, deadline: Instant, now: Now, out: &mut Vec<Command>) {
        if let State::Open { link, streams, .. } = &mut self.state {
            *streams += 1;
            out.push(Command::Grant { waiter, link: *link });
            return;
        }
        self.waiters.insert(waiter, deadline);
        self.settle(now);
    }

    fn log_in(&mut self, password: KeyDigest, link: LinkId, now: Now, out: &mut Vec<Command>) {
        let State::Offered { instance, offer, expires } = &self.state else { return };
        let right = digest(&offer.password).0.ct_eq(&password.0);
        if *expires > now.instant && bool::from(right) {
            let party = Party::Agent { instance: *instance, offer: offer.id };
            self.enter(State::Joining { party, link, deadline: now.instant + JOIN_TIME }, now);
            out.push(Command::Admit { link });
        }
    }

    /// Wherever there is no link. One that is dead and not yet known to be has to be found out by its keep-alives
    /// first: who asks to replace it proves no more than that it has the credentials too.
    fn log_in_stock(&mut self, link: LinkId, now: Now, out: &mut Vec<Command>) {
        match self.state {
            State::Idle | State::Wanted | State::Offered { .. } => {
                self.failure = None;
                let deadline = now.instant + JOIN_TIME;
                self.enter(State::Joining { party: Party::Stock, link, deadline }, now);
                out.push(Command::Admit { link });
            }
            State::Joining { .. } | State::Open { .. } | State::Closing { .. } => {}
        }
    }

    fn open(&mut self, party: Party, link: LinkId, now: Now, out: &mut Vec<Command>) {
        let waiters = std::mem::take(&mut self.waiters);
        let (streams, next_hold) = (waiters.len(), now.instant + HOLD_EVERY);
        let state = State::Open { party, link, streams, used: None, next_hold };
        self.enter(state, now);
        self.failure = None;
        out.extend(waiters.into_keys().map(|waiter| Command::Grant { waiter, link }));
    }

    fn ask_close(&mut self, asking: LinkId, now: Now, out: &mut Vec<Command>) {
        if let State::Open { party, link, .. } = self.state
            && link == asking
        {
            let message = if self.holds() == 0 {
                self.enter(State::Closing { party, link, deadline: now.instant + CLOSE_TIME }, now);
                ToAgent::CloseGranted
            } else {
                ToAgent::CloseRefused
            };
            out.push(Command::Tell { link, message });
        }
    }

    fn end(&mut self, reason: &'static str, now: Now, out: &mut Vec<Command>) {
        self.failure = Some(reason.to_owned());
        self.lease = None;
        let phase = self.phase();
        out.extend(
            std::mem::take(&mut self.waiters).into_keys().map(|waiter| Command::Deny { waiter, phase }),
        );
        if let Some(link) = self.link() {
            out.push(Command::Close { link, reason });
        }
        self.enter(State::Idle, now);
    }

    fn tick(&mut self, now: Now, out: &mut Vec<Command>) {
        // Waiters are told first: what they learn is the state that they waited in.
        let late: Vec<_> =
            self.waiters.iter().filter(|(_, at)| **at <= now.instant).map(|(waiter, _)| *waiter).collect();
        for waiter in late {
            self.waiters.remove(&waiter);
            out.push(Command::Deny { waiter, phase: self.phase() });
        }
        if self.lease.is_some_and(|until| until <= now.instant) {
            self.lease = None;
        }
        let held = self.holds() > 0;
        match &mut self.state {
            State::Offered { expires, .. } if *expires <= now.instant => {
                // What an agent said of an earlier offer says more.
                let silent = || "its agent was offered a tunnel and did not connect in time".to_owned();
                self.failure.get_or_insert_with(silent);
                self.fall_back(now);
            }
            State::Joining { link, deadline, .. } if *deadline <= now.instant => {
                let link = *link;
                out.push(Command::Close { link, reason: "the agent did not announce its services in time" });
                self.failure =
                    Some("the agent logged in but did not announce its services in time".to_owned());
                self.fall_back(now);
            }
            State::Closing { link, deadline, .. } if *deadline <= now.instant => {
                out.push(Command::Close { link: *link, reason: "the agent did not close in time" });
                self.fall_back(now);
            }
            State::Open { link, next_hold, .. } if held && *next_hold <= now.instant => {
                *next_hold = now.instant + HOLD_EVERY;
                out.push(Command::Tell { link: *link, message: ToAgent::Hold });
            }
            State::Idle
            | State::Wanted
            | State::Offered { .. }
            | State::Joining { .. }
            | State::Closing { .. }
            | State::Open { .. } => {}
        }
        self.settle(now);
    }
}

/// What a password is compared by.
pub fn digest(password: &Secret<String>) -> KeyDigest {
    KeyDigest::of(password.expose().as_bytes())
}

#[cfg(test)]
mod tests;
