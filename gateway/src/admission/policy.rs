//! Who gets in, who has to go for them, and who is told to come back later. Pure: `now` and chance are arguments.
//!
//! A **caller** is a connection; it is before its login until somebody showed a good credential on it. A source is
//! **acquainted** while somebody did from there within [`ACQUAINTED_FOR`]: agents that check in, and operators. Failures
//! cost a source time, as OpenSSH's `PerSourcePenalties`: what they cost adds up, runs off with the clock, and counts
//! from [`PENALTY_MIN`] on.
//!
//! | a new caller | where there is room | where it is crowded | where its source is penalised |
//! | --- | --- | --- | --- |
//! | of a stranger | gets in | takes the place of whoever waited longest beyond [`PATIENCE`], else is dropped by chance | the same within [`LANE`] places, on probation |
//! | of an acquainted source | gets in | the same among callers of its source, of which there may be more; the door keeps a reserve for it | gets in |
//! | of an exempt one | gets in | gets in, until the reserve is used up | gets in |
//!
//! The rules: whatever one source does, others get in; a penalty never shuts out a source from which agents come; and
//! all that is kept of sources is bounded.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use super::crowd::Crowd;
use super::source::Source;

/// After the last good credential. Longer than most agents' intervals and an operator's night; a source that changes
/// hands is forgotten the day after.
pub const ACQUAINTED_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// A penalty below this is not felt: one or two mistyped passwords, an aborted handshake. A third in a row is.
pub const PENALTY_MIN: Duration = Duration::from_secs(12);
/// No source is penalised for longer at a time.
pub const PENALTY_MAX: Duration = Duration::from_secs(600);
/// Callers before their login that a penalised source may still have at each door: behind its address may be an agent that
/// is new there, with its one-time password in hand.
pub const LANE: usize = 4;
/// Who has been before its login for so long gives its place up where it is crowded. An agent on a line of 150 ms is
/// through by then; one on a slower line is cut only while somebody else wants its place.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// More places for an acquainted source, beside one for each of its connections that is past its login: an office, or a
/// row of agents behind one address that all come back at once.
pub const ACQUAINTED_PLACES: usize = 192;
/// Sources that something is known of, some 10 MiB at most. Further ones count at the door only.
pub const MAX_SOURCES: usize = 65_536;
/// A full table is searched for what is over at most so often: the search looks at all of it.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// What callers can do wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// They showed a credential that is nobody's.
    Credential,
    /// They left, broke the protocol, or had to make place, without showing any.
    Nothing,
    /// They were still before their login when its time was over.
    Grace,
    /// Something here broke while it dealt with them.
    Crash,
}

impl Failure {
    /// What it costs: OpenSSH's figures.
    pub fn cost(self) -> Duration {
        Duration::from_secs(match self {
            Self::Credential => 5,
            Self::Nothing => 1,
            Self::Grace => 10,
            Self::Crash => 90,
        })
    }
}

/// Why a caller does not get in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its source failed too often, and has its [`LANE`] full.
    Penalised,
    /// Its source has too many callers before their login.
    SourceCrowded,
    /// The door has.
    Crowded,
}

/// Limits of one door, before login.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For all.
    pub all: Crowd,
    /// For each source.
    pub of_source: Crowd,
}

/// Number of a caller, in the order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallerId(u64);

/// A caller that got in.
#[derive(Debug, PartialEq, Eq)]
pub struct Entered<B> {
    /// Its number.
    pub id: CallerId,
    /// Its source is penalised: its first failure is its last.
    pub probation: bool,
    /// The bell of whoever has to go.
    pub displaced: Option<B>,
}

/// How it stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Callers before their login, by door.
    pub before_login: [usize; DOORS],
    /// Sources whose penalty counts.
    pub penalised: usize,
    /// Sources that something is known of.
    pub sources: usize,
}

/// Doors that there are; one is meant by its place.
pub const DOORS: usize = 2;

/// The whole state. `B` is how a caller is told to go.
#[derive(Debug)]
pub struct Policy<B> {
    doors: [Door<B>; DOORS],
    sources: HashMap<Source, Known>,
    next: u64,
    swept: Option<Instant>,
}

#[derive(Debug)]
struct Door<B> {
    limits: Limits,
    waiting: BTreeMap<CallerId, Waiting<B>>,
}

#[derive(Debug)]
struct Waiting<B> {
    source: Source,
    since: Instant,
    bell: B,
}

/// What is known of a source.
#[derive(Debug, Default)]
struct Known {
    waiting: [BTreeSet<CallerId>; DOORS],
    /// Connections past their login.
    guests: usize,
    acquainted_until: Option<Instant>,
    penalty: Option<Penalty>,
}

/// What failures cost a source.
#[derive(Clone, Copy, Debug)]
struct Penalty {
    until: Instant,
    /// It came to [`PENALTY_MIN`]; from then on it counts until it has run off.
    counts: bool,
}

impl<B> Policy<B> {
    /// With these limits.
    pub fn new(limits: [Limits; DOORS]) -> Self {
        let doors = limits.map(|limits| Door { limits, waiting: BTreeMap::new() });
        Self { doors, sources: HashMap::new(), next: 0, swept: None }
    }

    /// Somebody knocks. `roll` is random, below 100.
    pub fn enter(
        &mut self,
        door: usize,
        source: Source,
        exempt: bool,
        bell: B,
        (now, roll): (Instant, u8),
    ) -> Result<Entered<B>, Refusal> {
        let known = self.sources.get(&source);
        let acquainted = exempt || known.is_some_and(|known| known.is_acquainted(now));
        let probation = !acquainted && known.is_some_and(|known| known.penalty(now).is_some());
        let present = known.map_or(0, |known| known.waiting[door].len());
        let guests = known.filter(|_| acquainted).map_or(0, |known| known.guests + ACQUAINTED_PLACES);
        let places = self.doors[door].limits.of_source.and(guests);
        let short = match probation {
            true if present >= LANE => Some(Refusal::Penalised),
            false if !exempt && places.drops(present, roll) => Some(Refusal::SourceCrowded),
            true | false => None,
        };
        let mut displaced = None;
        if let Some(refusal) = short {
            let oldest = known.and_then(|known| known.waiting[door].first().copied());
            displaced = Some(self.displace(door, oldest, now).ok_or(refusal)?);
        }
        let (all, everybody) = (self.doors[door].limits.all, self.doors[door].waiting.len());
        let reserve = all.full + all.full / 4;
        let crowded = if acquainted { everybody >= reserve } else { all.drops(everybody, roll) };
        if crowded && displaced.is_none() {
            let oldest = self.doors[door].waiting.first_key_value().map(|(id, _)| *id);
            displaced = Some(self.displace(door, oldest, now).ok_or(Refusal::Crowded)?);
        }
        let id = CallerId(self.next);
        self.next += 1;
        if let Some(known) = self.known(source, now) {
            known.waiting[door].insert(id);
        }
        self.doors[door].waiting.insert(id, Waiting { source, since: now, bell });
        Ok(Entered { id, probation, displaced })
    }

    /// A caller showed a good credential. Answers whether it was before its login until now; who had to go already was not.
    pub fn welcome(&mut self, door: usize, id: CallerId, now: Instant) -> bool {
        let Some(Waiting { source, .. }) = self.doors[door].waiting.remove(&id) else { return false };
        if let Some(known) = self.known(source, now) {
            known.waiting[door].remove(&id);
            known.guests += 1;
            known.acquainted_until = Some(now + ACQUAINTED_FOR);
        }
        true
    }

    /// Somebody from there showed a good credential, on whatever connection.
    pub fn acquaint(&mut self, source: Source, now: Instant) {
        if let Some(known) = self.known(source, now) {
            known.acquainted_until = Some(now + ACQUAINTED_FOR);
        }
    }

    /// A caller that was past its login is gone.
    pub fn guest_left(&mut self, source: Source, now: Instant) {
        if let Some(known) = self.sources.get_mut(&source) {
            known.guests = known.guests.saturating_sub(1);
            self.forget_if_over(source, now);
        }
    }

    /// A caller that was before its login is gone, if it had not gone before.
    pub fn left(&mut self, door: usize, id: CallerId, now: Instant) {
        if let Some(Waiting { source, .. }) = self.doors[door].waiting.remove(&id) {
            self.stop_waiting(door, source, id, now);
        }
    }

    /// Somebody from there failed.
    pub fn failed(&mut self, source: Source, failure: Failure, now: Instant) {
        if let Some(known) = self.known(source, now) {
            let before = known.penalty.filter(|penalty| now < penalty.until);
            let from = before.map_or(now, |penalty| penalty.until);
            let until = (from + failure.cost()).min(now + PENALTY_MAX);
            let counts = before.is_some_and(|penalty| penalty.counts) || until >= now + PENALTY_MIN;
            known.penalty = Some(Penalty { until, counts });
        }
    }

    /// How long a source is penalised for, if it is and that counts.
    pub fn penalty(&self, source: Source, now: Instant) -> Option<Duration> {
        self.sources.get(&source).filter(|known| !known.is_acquainted(now))?.penalty(now)
    }

    /// How it stands. Looks at every source.
    pub fn census(&self, now: Instant) -> Census {
        let penalised =
            self.sources.values().filter(|known| !known.is_acquainted(now) && known.penalty(now).is_some());
        Census {
            before_login: std::array::from_fn(|door| self.doors[door].waiting.len()),
            penalised: penalised.count(),
            sources: self.sources.len(),
        }
    }

    /// Takes the place of this caller, if it had its time. That it needed longer while others waited counts against its
    /// source, or one that holds its places for ever would never be penalised.
    fn displace(&mut self, door: usize, oldest: Option<CallerId>, now: Instant) -> Option<B> {
        let id = oldest?;
        let waiting = &mut self.doors[door].waiting;
        if now.saturating_duration_since(waiting.get(&id)?.since) < PATIENCE {
            return None;
        }
        let Waiting { source, bell, .. } = waiting.remove(&id)?;
        self.failed(source, Failure::Nothing, now);
        self.stop_waiting(door, source, id, now);
        Some(bell)
    }

    fn stop_waiting(&mut self, door: usize, source: Source, id: CallerId, now: Instant) {
        if let Some(known) = self.sources.get_mut(&source) {
            known.waiting[door].remove(&id);
            self.forget_if_over(source, now);
        }
    }

    fn forget_if_over(&mut self, source: Source, now: Instant) {
        if self.sources.get(&source).is_some_and(|known| known.is_over(now)) {
            self.sources.remove(&source);
        }
    }

    /// What is known of a source; `None` where the table is full of others.
    fn known(&mut self, source: Source, now: Instant) -> Option<&mut Known> {
        if self.sources.len() >= MAX_SOURCES && !self.sources.contains_key(&source) {
            if self.swept.is_none_or(|swept| now.saturating_duration_since(swept) >= SWEEP_EVERY) {
                self.swept = Some(now);
                self.sources.retain(|_, known| !known.is_over(now));
            }
            if self.sources.len() >= MAX_SOURCES {
                return None;
            }
        }
        Some(self.sources.entry(source).or_default())
    }
}

impl Known {
    fn is_acquainted(&self, now: Instant) -> bool {
        self.guests > 0 || self.acquainted_until.is_some_and(|until| now < until)
    }

    /// Time left of a penalty that counts.
    fn penalty(&self, now: Instant) -> Option<Duration> {
        let penalty = self.penalty.filter(|penalty| penalty.counts && now < penalty.until)?;
        Some(penalty.until.saturating_duration_since(now))
    }

    /// Nothing is known that still matters.
    fn is_over(&self, now: Instant) -> bool {
        !self.is_acquainted(now)
            && self.penalty.is_none_or(|penalty| penalty.until <= now)
            && self.waiting.iter().all(BTreeSet::is_empty)
    }
}

#[cfg(test)]
mod tests;
