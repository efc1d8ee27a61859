//! Who is there and who fell silent: the moments at which an edge goes online and offline. Pure.
//!
//! An edge is watched by rounds of a second each. It stands in one round, the first by which all its instances may have
//! fallen silent; when that comes and somebody checked in meanwhile, it moves on to the next such round. So a check-in
//! costs nothing here, and an edge is looked at once in three intervals, or in a minute where that is sooner, together with
//! all others of that second. What check-ins left in the instances' standings is noted then.
//!
//! What must always hold: an edge that is online stands in a round; a round that finds an edge standing in another one
//! by now leaves it alone.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use shared::id::{EndpointId, InstanceId};

use super::{Command, Edge, Registry};
use crate::domain::Now;
use crate::domain::edge::Timestamp;
use crate::domain::event::What;
use crate::domain::instances::LIVE_INTERVALS;

/// Length of a round: what an edge's going offline may be noticed late by.
const ROUND: Duration = Duration::from_secs(1);

/// How often an edge is looked at, at least, while an agent is there: bounds what a crash loses of its last-seen time.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Whether somebody is there, as was told last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Told {
    /// Nothing was told since the start of the gateway, and agents may come back.
    #[default]
    Nothing,
    Online,
    Offline,
}

/// An edge's place among the rounds.
#[derive(Debug, Default)]
pub(super) struct Presence {
    told: Told,
    round: Option<u64>,
}

/// Which edges to look at in which round.
#[derive(Debug)]
pub(super) struct Rounds {
    origin: Instant,
    edges: BTreeMap<u64, Vec<EndpointId>>,
}

impl Presence {
    pub(super) fn is_online(&self) -> bool {
        self.told == Told::Online
    }

    /// The edge was dissociated: whoever was there is nobody now.
    pub(super) fn clear(&mut self) {
        self.told = Told::Offline;
    }
}

impl Rounds {
    pub(super) fn new(origin: Instant) -> Self {
        Self { origin, edges: BTreeMap::new() }
    }

    /// When the next one is.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.edges.keys().next().map(|round| self.origin + ROUND * u32::try_from(*round).unwrap_or(u32::MAX))
    }

    /// The first round that begins after the moment.
    fn after(&self, moment: Instant) -> u64 {
        moment.saturating_duration_since(self.origin).as_secs() / ROUND.as_secs() + 1
    }

    /// Takes out the first round, if it has begun.
    fn next(&mut self, now: Instant) -> Option<(u64, Vec<EndpointId>)> {
        let first = self.edges.first_entry()?;
        let begins = now.saturating_duration_since(self.origin).as_secs() / ROUND.as_secs();
        (*first.key() <= begins).then(|| first.remove_entry())
    }
}

impl Registry {
    /// An instance checked in that was not there before, or that has a new interval.
    pub(super) fn arrived(
        &mut self,
        endpoint: EndpointId,
        instance: InstanceId,
        now: Now,
        out: &mut Vec<Command>,
    ) {
        self.watch(endpoint, now);
        let Some(edge) = self.edges.get_mut(&endpoint) else { return };
        if edge.presence.told != Told::Online {
            edge.presence.told = Told::Online;
            let hello = edge.instances.find(instance).and_then(|instance| instance.hello.as_ref());
            let hostname = hello.map(|hello| hello.hostname.clone());
            self.tell(endpoint, What::Online { instance, hostname }, now, out);
        }
    }

    /// The gateway starts: the edge's agent has three intervals to come back before it counts as gone.
    pub(super) fn await_return(&mut self, endpoint: EndpointId, now: Now) {
        self.watch(endpoint, now);
    }

    /// Looks at the edges whose round has come.
    pub(super) fn look_round(&mut self, now: Now, out: &mut Vec<Command>) {
        while let Some((round, endpoints)) = self.rounds.next(now.instant) {
            for endpoint in endpoints {
                self.look_at(endpoint, round, now, out);
            }
        }
    }

    fn look_at(&mut self, endpoint: EndpointId, round: u64, now: Now, out: &mut Vec<Command>) {
        let Some(edge) = self.edges.get_mut(&endpoint) else { return };
        if edge.presence.round != Some(round) {
            return;
        }
        edge.presence.round = None;
        edge.note_seen(now, endpoint, &mut self.seen);
        let edge = &self.edges[&endpoint];
        let silent = edge.instances.fell_silent(self.rule(edge), now);
        match (edge.presence.told, silent) {
            (Told::Nothing | Told::Online, true) => {
                let last_seen = edge.last_seen(now);
                self.edges.get_mut(&endpoint).expect("it was there").presence.told = Told::Offline;
                self.tell(endpoint, What::Offline { last_seen }, now, out);
            }
            (Told::Nothing | Told::Online, false) => self.watch(endpoint, now),
            (Told::Offline, _) => {}
        }
    }

    /// Puts the edge into the round by which all its instances may be silent, or the look that is due before, unless it
    /// stands in an earlier one.
    fn watch(&mut self, endpoint: EndpointId, now: Now) {
        let edge = &self.edges[&endpoint];
        let rule = self.rule(edge);
        let look_at = match edge.instances.silent_at(rule) {
            Some(silent_at) => silent_at.min(now.instant + LOOK_EVERY),
            None => now.instant + rule.interval * LIVE_INTERVALS,
        };
        let round = self.rounds.after(look_at);
        if edge.presence.round.is_none_or(|earlier| round < earlier) {
            self.edges.get_mut(&endpoint).expect("it was there").presence.round = Some(round);
            self.rounds.edges.entry(round).or_default().push(endpoint);
        }
    }
}

/// A time at which an edge was heard, as it is noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Noted {
    /// For people.
    at: Timestamp,
    /// The same by the clock that does not jump, which decides what was later: the one on the wall may have been put back
    /// since. `None` if it was before this start.
    heard: Option<Instant>,
}

impl Noted {
    /// Now.
    pub(super) fn at(now: Now) -> Self {
        Self { at: now.wall, heard: Some(now.instant) }
    }

    /// Before this start.
    pub(super) fn before(at: Timestamp) -> Self {
        Self { at, heard: None }
    }
}

impl Edge {
    /// Its last check-in, also from before this start.
    pub fn last_seen(&self, now: Now) -> Option<Timestamp> {
        match self.noted_seen {
            Some(noted) if noted.heard >= self.instances.heard(now) => Some(noted.at),
            Some(_) | None => self.instances.last_seen(now),
        }
    }

    /// Notes its last check-in, to be written with the next batch where it is news.
    pub(super) fn note_seen(
        &mut self,
        now: Now,
        endpoint: EndpointId,
        seen: &mut HashMap<EndpointId, Timestamp>,
    ) {
        let heard = self.instances.heard(now);
        if heard > self.noted_seen.and_then(|noted| noted.heard)
            && let Some(at) = self.instances.last_seen(now)
        {
            self.noted_seen = Some(Noted { at, heard });
            seen.insert(endpoint, at);
        }
    }
}
