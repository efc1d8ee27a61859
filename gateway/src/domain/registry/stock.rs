//! Stock SSH clients in the place of an agent: what they may log in with, for boxes on which nothing can be installed.
//!
//! | credentials | let in | until | survive a restart |
//! | --- | --- | --- | --- |
//! | user name and password | once | used, expired, replaced, revoked | no |
//! | a key | again and again | expired, replaced, revoked | yes |
//!
//! An edge has at most one of each; a new one takes the place of the old one and leaves a tunnel that is open alone.
//! What must always hold: they let nobody in while the edge has a link, and nobody announces a service that they don't
//! name. While a change of the edge is being stored its key lets nobody in, for it may be the one that goes.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use shared::fingerprint::HostKeyFingerprint;
use shared::id::{EdgeName, EndpointId, KeyDigest, ServiceName};
use subtle::ConstantTimeEq as _;

use super::presence::Noted;
use super::{Admitted, Command, Edge, Registry, Token};
use crate::domain::Now;
use crate::domain::edge::{StockKey, Timestamp};
use crate::domain::refusal::AdminError;
use crate::domain::tunnel::{self, LinkId, Party};

/// Life of one-time credentials, in seconds: somebody has to carry them to the box, and a day is enough for that.
const ONCE_S: RangeInclusive<u32> = 60..=86_400;
/// Where nobody said how long: both ends are being looked at.
const ONCE_DEFAULT_S: u32 = 600;
/// Life of a key, in seconds. It lies in a file on the box, so it must not be good for ever.
const KEY_S: RangeInclusive<u32> = 60..=90 * 86_400;
/// Where nobody said how long: a month.
const KEY_DEFAULT_S: u32 = 30 * 86_400;

/// Services of a stock client. Its key's record lies in the edge's, which must stay small; a person types them anyway.
const MAX_SERVICES: usize = 16;

/// What a stock client may announce, and how long its credentials live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    services: Vec<ServiceName>,
    valid: Duration,
}

/// Credentials for one login.
#[derive(Clone, Debug)]
pub struct OneTime {
    username: String,
    password: KeyDigest,
    services: Vec<ServiceName>,
    expires: Now,
}

impl Terms {
    /// For one login.
    pub fn once(services: Vec<ServiceName>, valid_s: Option<u32>) -> Result<Self, AdminError> {
        Self::new(services, valid_s.unwrap_or(ONCE_DEFAULT_S), ONCE_S)
    }

    /// For a key.
    pub fn renewing(services: Vec<ServiceName>, valid_s: Option<u32>) -> Result<Self, AdminError> {
        Self::new(services, valid_s.unwrap_or(KEY_DEFAULT_S), KEY_S)
    }

    fn new(
        services: Vec<ServiceName>,
        valid_s: u32,
        bounds: RangeInclusive<u32>,
    ) -> Result<Self, AdminError> {
        if !bounds.contains(&valid_s) {
            let (low, high) = bounds.into_inner();
            let detail = format!("valid_s: {valid_s} is not within {low} to {high} seconds");
            return Err(AdminError::Invalid(detail));
        }
        let names: BTreeSet<_> = services.iter().collect();
        if names.len() != services.len() || !(1..=MAX_SERVICES).contains(&services.len()) {
            let detail = format!("services: 1 to {MAX_SERVICES} are needed, each with a name of its own");
            return Err(AdminError::Invalid(detail));
        }
        Ok(Self { services, valid: Duration::from_secs(valid_s.into()) })
    }

    /// Credentials for one login, from now on.
    pub fn one_time(self, username: String, password: KeyDigest, now: Now) -> OneTime {
        let expires = Now { instant: now.instant + self.valid, wall: self.end(now) };
        OneTime { username, password, services: self.services, expires }
    }

    /// A key, from now on.
    pub fn key(self, fingerprint: HostKeyFingerprint, now: Now) -> StockKey {
        StockKey { fingerprint, expires_at: self.end(now), services: self.services }
    }

    fn end(&self, now: Now) -> Timestamp {
        Timestamp(now.wall.0.saturating_add(u64::try_from(self.valid.as_millis()).unwrap_or(u64::MAX)))
    }
}

impl OneTime {
    /// What the client may announce.
    pub fn services(&self) -> &[ServiceName] {
        &self.services
    }

    /// From then on they let nobody in, for people.
    pub fn expires_at(&self) -> Timestamp {
        self.expires.wall
    }
}

impl Edge {
    /// What the stock client that has the tunnel announced.
    pub fn stock_services(&self) -> Option<&[ServiceName]> {
        (self.tunnel.party() == Some(Party::Stock) && self.tunnel.phase() != tunnel::Phase::Offered)
            .then_some(self.services.as_slice())
    }

    /// One-time credentials that nobody has used.
    pub fn one_time(&self, now: Now) -> Option<&OneTime> {
        self.one_time.as_ref().filter(|one_time| one_time.expires.instant > now.instant)
    }
}

impl Registry {
    /// Hands out one-time credentials, in the place of those that there were.
    pub fn offer_once(&mut self, name: &EdgeName, one_time: OneTime) -> Result<(), AdminError> {
        let endpoint = self.endpoint(name)?;
        self.retire_one_time(endpoint);
        self.by_username.insert(one_time.username.clone(), endpoint);
        let edge = self.edges.get_mut(&endpoint).expect("the name index holds edges that are there");
        edge.one_time = Some(one_time);
        Ok(())
    }

    /// Whether a client that has this key would be let in, if it proved that it does.
    pub fn knows_key(&self, key: &HostKeyFingerprint, now: Now) -> bool {
        self.keyholder(key, now).is_some()
    }

    pub(super) fn log_in_once(
        &mut self,
        endpoint: EndpointId,
        password: &KeyDigest,
        link: LinkId,
        now: Now,
        out: &mut Vec<Command>,
    ) -> Option<Admitted> {
        let one_time = self.edges[&endpoint].one_time(now)?;
        if !bool::from(one_time.password.0.ct_eq(&password.0)) {
            return None;
        }
        let services = one_time.services.clone();
        let admitted = self.log_in_stock(endpoint, services, link, now, out)?;
        self.retire_one_time(endpoint);
        Some(admitted)
    }

    pub(super) fn log_in_by_key(
        &mut self,
        token: Token,
        key: &HostKeyFingerprint,
        now: Now,
        out: &mut Vec<Command>,
    ) {
        let link = LinkId(self.fresh());
        let holder = self.keyholder(key, now).map(|(endpoint, key)| (endpoint, key.services.clone()));
        let answer =
            holder.and_then(|(endpoint, services)| self.log_in_stock(endpoint, services, link, now, out));
        out.push(Command::LogIn { token, answer });
    }

    /// The client was there until now.
    pub(super) fn note_stock_client(&mut self, endpoint: EndpointId, now: Now) {
        if let Some(edge) = self.edges.get_mut(&endpoint)
            && edge.tunnel.party() == Some(Party::Stock)
        {
            edge.noted_seen = Some(Noted::at(now));
            self.seen.insert(endpoint, now.wall);
        }
    }

    pub(super) fn retire_one_time(&mut self, endpoint: EndpointId) {
        if let Some(retired) = self.edges.get_mut(&endpoint).and_then(|edge| edge.one_time.take()) {
            self.by_username.remove(&retired.username);
        }
    }

    fn keyholder(&self, key: &HostKeyFingerprint, now: Now) -> Option<(EndpointId, &StockKey)> {
        let endpoint = self.by_stock_key.get(key)?;
        let edge = &self.edges[endpoint];
        let key = edge.record.stock_key.as_ref()?;
        (edge.busy.is_none() && key.expires_at > now.wall).then_some((*endpoint, key))
    }

    fn log_in_stock(
        &mut self,
        endpoint: EndpointId,
        services: Vec<ServiceName>,
        link: LinkId,
        now: Now,
        out: &mut Vec<Command>,
    ) -> Option<Admitted> {
        self.on_tunnel(endpoint, tunnel::Event::LogInStock { link }, now, out);
        let admitted = self.admitted(&self.edges[&endpoint], link, services)?;
        self.note_stock_client(endpoint, now);
        Some(admitted)
    }
}
