//! What the registry tells those who watch: every change of an edge as one [`event::Event`].
//!
//! The rule: an agent that behaves badly can make no flood of them. What it can repeat for nothing (failing offers, being
//! a second instance) is told a few times and then no more until something else happened.

use shared::id::{EndpointId, InstanceId};

use super::{Command, Edge, Registry};
use crate::domain::Now;
use crate::domain::edge::EdgeRecord;
use crate::domain::event::{self, Cause, What};
use crate::domain::tunnel::{self, Phase};

/// How often it is told that the same wish for a tunnel was offered and failed. Ten are two minutes of offers that run
/// out, which is more than anybody watches.
const MAX_RETRIES_TOLD: u8 = 10;

impl Registry {
    /// Tells what happened to the edge.
    pub(super) fn tell(&self, endpoint: EndpointId, what: What, now: Now, out: &mut Vec<Command>) {
        if let Some(edge) = self.edges.get(&endpoint) {
            out.push(Command::Publish(of(&edge.record, what, now)));
        }
    }

    /// A second instance was refused, and none was a moment ago.
    pub(super) fn tell_duplicate(&self, endpoint: EndpointId, now: Now, out: &mut Vec<Command>) {
        let edge = &self.edges[&endpoint];
        if let Some(duplicate) = edge.instances.duplicate(self.rule(edge), now) {
            let (present, refused) = (duplicate.present.clone(), duplicate.refused.clone());
            self.tell(endpoint, What::Duplicate { present, refused }, now, out);
        }
    }

    /// Its snapshot was stored.
    pub fn snapshot_stored(
        &self,
        endpoint: EndpointId,
        instance: InstanceId,
        now: Now,
        out: &mut Vec<Command>,
    ) {
        self.tell(endpoint, What::SnapshotReceived { instance }, now, out);
    }

    /// Its tunnel went from one phase to another.
    pub(super) fn tell_phase(
        &mut self,
        endpoint: EndpointId,
        before: Phase,
        cause: Cause,
        now: Now,
        out: &mut Vec<Command>,
    ) {
        let Some(edge) = self.edges.get_mut(&endpoint) else { return };
        let after = edge.tunnel.phase();
        for what in edge.changes_of_phase(before, after, cause, now) {
            out.push(Command::Publish(of(&edge.record, what, now)));
        }
    }
}

impl Edge {
    fn changes_of_phase(&mut self, before: Phase, after: Phase, cause: Cause, now: Now) -> Vec<What> {
        match (before, after) {
            (Phase::Idle, Phase::Idle)
            | (Phase::Wanted, Phase::Wanted)
            | (Phase::Offered, Phase::Offered)
            | (Phase::Open | Phase::Closing, Phase::Open | Phase::Closing) => vec![],
            (Phase::Idle, Phase::Wanted) => {
                self.retries_told = 0;
                vec![What::TunnelWanted]
            }
            (Phase::Offered, Phase::Wanted) => self.retried(What::TunnelWanted),
            (Phase::Idle | Phase::Wanted, Phase::Offered) => {
                self.retried(What::TunnelOffered { instance: self.tunnel.instance() })
            }
            (Phase::Idle | Phase::Wanted | Phase::Offered, Phase::Open | Phase::Closing) => {
                self.opened = self.tunnel.link().map(|link| (now.instant, link));
                self.retries_told = 0;
                vec![What::TunnelOpened { instance: self.tunnel.instance() }]
            }
            (Phase::Wanted | Phase::Offered, Phase::Idle) => {
                vec![What::TunnelUnwanted { reason: self.tunnel.failure().map(str::to_owned) }]
            }
            (Phase::Open | Phase::Closing, Phase::Idle) => vec![self.closed(cause, now)],
            (Phase::Open | Phase::Closing, Phase::Wanted) => {
                vec![self.closed(cause, now), What::TunnelWanted]
            }
            (Phase::Open | Phase::Closing, Phase::Offered) => {
                let instance = self.tunnel.instance();
                vec![self.closed(cause, now), What::TunnelOffered { instance }]
            }
        }
    }

    fn closed(&mut self, cause: Cause, now: Now) -> What {
        let opened = self.opened.take();
        let open_ms = opened.map_or(0, |(at, _)| now.instant.saturating_duration_since(at).as_millis());
        let link = opened.map(|(_, link)| link);
        let reason = self.tunnel.failure().unwrap_or("it closed").to_owned();
        What::TunnelClosed { link, cause, reason, open_ms: u64::try_from(open_ms).unwrap_or(u64::MAX) }
    }

    fn retried(&mut self, what: What) -> Vec<What> {
        self.retries_told = self.retries_told.saturating_add(1);
        if self.retries_told <= 2 * MAX_RETRIES_TOLD { vec![what] } else { vec![] }
    }
}

/// The event of an edge with this record.
pub(super) fn of(record: &EdgeRecord, what: What, now: Now) -> event::Event {
    event::Event {
        at: now.wall,
        edge: record.name.clone(),
        endpoint: record.endpoint,
        tags: record.tags.clone(),
        what,
    }
}

/// By whose doing the tunnel would end, if this event ends it.
pub(super) fn cause(event: &tunnel::Event, phase: Phase, draining: bool) -> Cause {
    match event {
        tunnel::Event::Lower => Cause::Operator,
        tunnel::Event::Revoke | tunnel::Event::RevokeStock => Cause::Revoked,
        tunnel::Event::LinkDown { .. } | tunnel::Event::Tick if phase == Phase::Closing => Cause::Idle,
        tunnel::Event::LinkDown { .. } if draining => Cause::Shutdown,
        tunnel::Event::LinkDown { .. }
        | tunnel::Event::Tick
        | tunnel::Event::Want { .. }
        | tunnel::Event::GiveUp { .. }
        | tunnel::Event::Raise { .. }
        | tunnel::Event::Offer { .. }
        | tunnel::Event::OfferFailed { .. }
        | tunnel::Event::LogIn { .. }
        | tunnel::Event::LogInStock { .. }
        | tunnel::Event::LinkUp { .. }
        | tunnel::Event::AskClose { .. }
        | tunnel::Event::StreamEnded { .. } => Cause::Lost,
    }
}
