//! Durable changes: checked, committed, and only then in force and answered.

use std::collections::VecDeque;
use std::time::Duration;

use shared::id::EdgeName;
use shared::wire::admin;

use super::{BUSY_RETRY_S, Command, Event, Fresh, Like, MAX_PARKED, Registry, Request, Ticket, Token, news};
use crate::domain::Now;
use crate::domain::authority::checked_tags;
use crate::domain::edge::{Change, EdgeRecord, Settings};
use crate::domain::event::What;
use crate::domain::refusal::{AdminError, CheckInRefusal, StoreError};
use crate::domain::tunnel;
use crate::domain::version::Condition;

/// Check-in interval, in seconds: below one is load without use, beyond a day an edge is as good as unreachable.
const INTERVAL_S: std::ops::RangeInclusive<u32> = 1..=86_400;
/// Idle time, in seconds: below ten a person who reads loses the tunnel, beyond a week it is no idle time.
const IDLE_TIMEOUT_S: std::ops::RangeInclusive<u32> = 10..=604_800;

/// How long a check-in may be held, in seconds: 0 is not at all. Most proxies and load balancers cut a request that is not
/// answered for a minute.
const HOLD_S: std::ops::RangeInclusive<u32> = 0..=55;

/// What waits for its commit.
#[derive(Debug)]
pub(super) enum Pending {
    /// A key is claimed. Whose check-in it was waits in the edge's queue.
    Bind { record: EdgeRecord },
    /// A new edge.
    Create { token: Token, record: EdgeRecord },
    /// Many new edges; `taken` are those that are not among them.
    CreateMany { token: Token, records: Vec<EdgeRecord>, taken: Vec<EdgeName> },
    /// Changed fields of an edge; `renamed` is a name that was reserved for it.
    Update { token: Token, record: EdgeRecord, renamed: Option<EdgeName> },
    /// The binding is freed, perhaps with a new key.
    Dissociate { token: Token, record: EdgeRecord },
    /// The edge goes.
    Delete { token: Token, endpoint: shared::id::EndpointId },
    /// New settings.
    Settings { token: Token, settings: Settings },
}

impl Registry {
    pub(super) fn ticket(&mut self) -> Ticket {
        Ticket(self.fresh())
    }

    pub(super) fn change(
        &mut self,
        token: Token,
        condition: Condition,
        request: Request,
        now: Now,
        out: &mut Vec<Command>,
    ) {
        let result = match request {
            Request::Create { new, endpoint, key } => {
                let fresh = Fresh { name: new.name, endpoint, key };
                let like = Like {
                    cluster: new.cluster,
                    interval_s: new.interval_s,
                    idle_timeout_s: new.idle_timeout_s,
                    tags: new.tags,
                };
                self.create(token, fresh, like, now, out)
            }
            Request::Settings { change } => self.change_settings(token, condition, change, out),
            Request::Update { ref edge, .. }
            | Request::Dissociate { ref edge }
            | Request::Rotate { ref edge, .. }
            | Request::AllowKey { ref edge, .. }
            | Request::RevokeStock { ref edge }
            | Request::Delete { ref edge } => {
                let edge = edge.clone();
                self.change_edge(token, &edge, (condition, request), now, out)
            }
        };
        if let Err(error) = result {
            out.push(Command::Change { token, answer: Err(error) });
        }
    }

    fn create(
        &mut self,
        token: Token,
        fresh: Fresh,
        like: Like,
        now: Now,
        out: &mut Vec<Command>,
    ) -> Result<(), AdminError> {
        self.check_free(&fresh.name)?;
        let record = record(like, now)?(fresh);
        self.reserved.insert(record.name.clone());
        let mut batch = self.without_ghosts(&record.name);
        batch.push(Change::PutEdge(record.clone()));
        self.commit(Pending::Create { token, record }, batch, out);
        Ok(())
    }

    /// Names that are taken, or reserved by a change under way, are left out: for whoever enrols a thousand sites, the
    /// one that is there already is no reason to have none.
    pub(super) fn create_many(
        &mut self,
        token: Token,
        edges: Vec<Fresh>,
        like: Like,
        now: Now,
        out: &mut Vec<Command>,
    ) {
        let record = match record(like, now) {
            Ok(record) => record,
            Err(error) => return out.push(Command::CreatedMany { token, answer: Err(error) }),
        };
        let (free, taken): (Vec<_>, Vec<_>) =
            edges.into_iter().partition(|fresh| self.check_free(&fresh.name).is_ok());
        let taken: Vec<_> = taken.into_iter().map(|fresh| fresh.name).collect();
        if free.is_empty() {
            return out.push(Command::CreatedMany { token, answer: Ok(taken) });
        }
        let records: Vec<_> = free.into_iter().map(record).collect();
        let mut batch = Vec::with_capacity(records.len());
        for record in &records {
            self.reserved.insert(record.name.clone());
            batch.extend(self.without_ghosts(&record.name));
            batch.push(Change::PutEdge(record.clone()));
        }
        self.commit(Pending::CreateMany { token, records, taken }, batch, out);
    }

    fn change_edge(
        &mut self,
        token: Token,
        name: &EdgeName,
        (condition, request): (Condition, Request),
        now: Now,
        out: &mut Vec<Command>,
    ) -> Result<(), AdminError> {
        let endpoint = self.endpoint(name)?;
        let edge = self.edges.get_mut(&endpoint).expect("the name index holds edges that are there");
        if edge.busy.is_some() {
            if edge.parked.len() >= MAX_PARKED {
                return Err(AdminError::Busy { retry_after_s: BUSY_RETRY_S });
            }
            edge.parked.push_back(Event::Change { token, condition, request });
            return Ok(());
        }
        if !condition.admits(&edge.record) {
            return Err(AdminError::Stale);
        }
        let mut record = edge.record.clone();
        let (pending, batch) = match request {
            Request::Update { change, .. } => {
                let renamed = change.name.clone().filter(|new| *new != record.name);
                if let Some(new) = &renamed {
                    self.check_free(new)?;
                }
                apply(&mut record, &change)?;
                let mut batch = Vec::new();
                if let Some(new) = &renamed {
                    self.reserved.insert(new.clone());
                    record.name = new.clone();
                    batch = self.without_ghosts(new);
                }
                batch.push(Change::PutEdge(record.clone()));
                (Pending::Update { token, record, renamed }, batch)
            }
            Request::Dissociate { .. } => self.dissociation(token, record, now, out),
            Request::Rotate { key, .. } => {
                record.key = key;
                self.dissociation(token, record, now, out)
            }
            Request::AllowKey { key, .. } => {
                record.stock_key = Some(key);
                let batch = vec![Change::PutEdge(record.clone())];
                (Pending::Update { token, record, renamed: None }, batch)
            }
            Request::RevokeStock { .. } => {
                record.stock_key = None;
                let batch = vec![Change::PutEdge(record.clone())];
                self.retire_one_time(endpoint);
                self.on_tunnel(endpoint, tunnel::Event::RevokeStock, now, out);
                (Pending::Update { token, record, renamed: None }, batch)
            }
            Request::Delete { .. } => {
                edge.leaving = true;
                self.retire_one_time(endpoint);
                self.on_tunnel(endpoint, tunnel::Event::Revoke, now, out);
                (Pending::Delete { token, endpoint }, vec![Change::DeleteEdge(endpoint)])
            }
            Request::Create { .. } | Request::Settings { .. } => {
                unreachable!("these concern no edge that is there")
            }
        };
        let ticket = self.commit(pending, batch, out);
        self.edges.get_mut(&endpoint).expect("it was there").busy = Some(ticket);
        Ok(())
    }

    fn dissociation(
        &mut self,
        token: Token,
        mut record: EdgeRecord,
        now: Now,
        out: &mut Vec<Command>,
    ) -> (Pending, Vec<Change>) {
        record.bound = None;
        record.stock_key = None;
        let batch = vec![Change::PutEdge(record.clone())];
        self.retire_one_time(record.endpoint);
        // The tunnel goes at once: whoever had the binding has no business here any more.
        self.on_tunnel(record.endpoint, tunnel::Event::Revoke, now, out);
        (Pending::Dissociate { token, record }, batch)
    }

    fn change_settings(
        &mut self,
        token: Token,
        condition: Condition,
        change: admin::Settings,
        out: &mut Vec<Command>,
    ) -> Result<(), AdminError> {
        if self.settings_busy {
            if self.settings_parked.len() >= MAX_PARKED {
                return Err(AdminError::Busy { retry_after_s: BUSY_RETRY_S });
            }
            self.settings_parked.push_back((token, condition, change));
            return Ok(());
        }
        if !condition.admits(&self.settings) {
            return Err(AdminError::Stale);
        }
        let settings = changed(&self.settings, change)?;
        self.settings_busy = true;
        let batch = vec![Change::PutSettings(settings.clone())];
        self.commit(Pending::Settings { token, settings }, batch, out);
        Ok(())
    }

    fn commit(&mut self, pending: Pending, batch: Vec<Change>, out: &mut Vec<Command>) -> Ticket {
        let ticket = self.ticket();
        self.pending.insert(ticket, pending);
        out.push(Command::Commit { ticket, batch });
        ticket
    }

    /// What must go from the store before the name is stored again.
    fn without_ghosts(&self, name: &EdgeName) -> Vec<Change> {
        self.ghosts.get(name).into_iter().flatten().map(|endpoint| Change::DeleteEdge(*endpoint)).collect()
    }

    fn check_free(&self, name: &EdgeName) -> Result<(), AdminError> {
        if self.by_name.contains_key(name) || self.reserved.contains(name) {
            return Err(AdminError::NameTaken(name.clone()));
        }
        Ok(())
    }

    /// The commit's outcome takes effect; what waited for it is returned, to be handled in order.
    pub(super) fn committed(
        &mut self,
        ticket: Ticket,
        result: Result<(), StoreError>,
        now: Now,
        out: &mut Vec<Command>,
    ) -> VecDeque<Event> {
        let Some(pending) = self.pending.remove(&ticket) else { return VecDeque::new() };
        let answer = |token, out: &mut Vec<Command>| {
            out.push(Command::Change { token, answer: result.clone().map_err(AdminError::Store) });
        };
        match pending {
            Pending::Bind { record } => {
                let mut parked = self.unpark(record.endpoint);
                match result {
                    Ok(()) => {
                        let (endpoint, edge) = (record.endpoint, record.name.clone());
                        if let (Some(edge_id), Some(Event::CheckIn { origin, .. })) =
                            (record.bound, parked.front())
                        {
                            out.push(Command::Bound { edge, edge_id, address: origin.address });
                        }
                        self.replace(record);
                        self.tell(endpoint, What::Joined, now, out);
                    }
                    // Its own check-in stands first. The others are tried again: one of them may have better luck.
                    Err(error) => {
                        if let Some(Event::CheckIn { token, .. }) = parked.pop_front() {
                            out.push(Command::CheckIn { token, answer: Err(CheckInRefusal::Store(error)) });
                        }
                    }
                }
                parked
            }
            Pending::Create { token, record } => {
                self.created(record, result.is_ok(), now, out);
                answer(token, out);
                VecDeque::new()
            }
            Pending::CreateMany { token, records, taken } => {
                for record in records {
                    self.created(record, result.is_ok(), now, out);
                }
                let answer = result.map(|()| taken).map_err(AdminError::Store);
                out.push(Command::CreatedMany { token, answer });
                VecDeque::new()
            }
            Pending::Update { token, record, renamed } => {
                if let Some(new) = renamed {
                    self.reserved.remove(&new);
                    if result.is_ok() {
                        self.ghosts.remove(&new);
                    }
                }
                let endpoint = record.endpoint;
                if result.is_ok() {
                    let before = &self.edges[&endpoint].record;
                    let what = What::Changed { name: before.name.clone(), tags: before.tags.clone() };
                    self.replace(record);
                    self.tell(endpoint, what, now, out);
                    self.tell_idle_timeout(&self.edges[&endpoint], out);
                }
                answer(token, out);
                self.unpark(endpoint)
            }
            Pending::Dissociate { token, record } => {
                let endpoint = record.endpoint;
                if result.is_ok() {
                    self.replace(record);
                    if let Some(edge) = self.edges.get_mut(&endpoint) {
                        edge.note_seen(now, endpoint, &mut self.seen);
                        edge.instances.clear();
                        edge.presence.clear();
                    }
                    self.tell(endpoint, What::Dissociated, now, out);
                }
                answer(token, out);
                self.unpark(endpoint)
            }
            Pending::Delete { token, endpoint } => {
                let parked = self.unpark(endpoint);
                if result.is_ok() {
                    self.remove(endpoint, now, out);
                } else if let Some(edge) = self.edges.get_mut(&endpoint) {
                    edge.leaving = false;
                }
                answer(token, out);
                parked
            }
            Pending::Settings { token, settings } => {
                self.settings_busy = false;
                if result.is_ok() {
                    let before = std::mem::replace(&mut self.settings, settings);
                    if (before.interval, before.hold) != (self.settings.interval, self.settings.hold) {
                        self.edges.values().for_each(|edge| edge.instances.close());
                    }
                    for edge in self.by_link.values().filter_map(|endpoint| self.edges.get(endpoint)) {
                        self.tell_idle_timeout(edge, out);
                    }
                }
                answer(token, out);
                let parked = std::mem::take(&mut self.settings_parked);
                parked
                    .into_iter()
                    .map(|(token, condition, change)| {
                        let request = Request::Settings { change };
                        Event::Change { token, condition, request }
                    })
                    .collect()
            }
        }
    }

    fn created(&mut self, record: EdgeRecord, stored: bool, now: Now, out: &mut Vec<Command>) {
        self.reserved.remove(&record.name);
        if stored {
            self.ghosts.remove(&record.name);
            let endpoint = record.endpoint;
            self.insert(record, now);
            self.tell(endpoint, What::Created, now, out);
        } else {
            self.ghosts.entry(record.name).or_default().push(record.endpoint);
        }
    }

    fn unpark(&mut self, endpoint: shared::id::EndpointId) -> VecDeque<Event> {
        let Some(edge) = self.edges.get_mut(&endpoint) else { return VecDeque::new() };
        edge.busy = None;
        std::mem::take(&mut edge.parked)
    }

    fn replace(&mut self, record: EdgeRecord) {
        let Some(edge) = self.edges.get_mut(&record.endpoint) else { return };
        if edge.record.name != record.name {
            self.by_name.remove(&edge.record.name);
            self.by_name.insert(record.name.clone(), record.endpoint);
        }
        if edge.record.key != record.key {
            self.by_key.remove(&edge.record.key);
            self.by_key.insert(record.key, record.endpoint);
        }
        if let Some(key) = &edge.record.stock_key {
            self.by_stock_key.remove(&key.fingerprint);
        }
        if let Some(key) = &record.stock_key {
            self.by_stock_key.insert(key.fingerprint, record.endpoint);
        }
        edge.record = record;
        // There may be another interval, or one instance too many.
        edge.instances.close();
    }

    /// Nothing of the edge is left, in any index.
    fn remove(&mut self, endpoint: shared::id::EndpointId, now: Now, out: &mut Vec<Command>) {
        // Once more: somebody may have raised the flag while the deletion was being stored.
        self.on_tunnel(endpoint, tunnel::Event::Revoke, now, out);
        self.retire_one_time(endpoint);
        let Some(edge) = self.edges.remove(&endpoint) else { return };
        if let Some(key) = &edge.record.stock_key {
            self.by_stock_key.remove(&key.fingerprint);
        }
        self.by_name.remove(&edge.record.name);
        self.by_key.remove(&edge.record.key);
        self.seen.remove(&endpoint);
        if let Some(due) = edge.due {
            self.deadlines.remove(&(due, endpoint));
        }
        out.push(Command::Publish(news::of(&edge.record, What::Deleted, now)));
    }
}

/// Makes records of new edges that have this in common, once that is checked.
fn record(like: Like, now: Now) -> Result<impl Fn(Fresh) -> EdgeRecord, AdminError> {
    let interval = like.interval_s.map(|s| seconds("interval_s", s, INTERVAL_S)).transpose()?;
    let idle_timeout =
        like.idle_timeout_s.map(|s| seconds("idle_timeout_s", s, IDLE_TIMEOUT_S)).transpose()?;
    let tags = checked_tags(&like.tags).map_err(|error| AdminError::Invalid(error.to_string()))?;
    Ok(move |Fresh { name, endpoint, key }| EdgeRecord {
        endpoint,
        name,
        key,
        bound: None,
        cluster: like.cluster,
        interval,
        idle_timeout,
        tags: tags.clone(),
        created_at: now.wall,
        stock_key: None,
    })
}

fn apply(record: &mut EdgeRecord, change: &admin::ChangeEdge) -> Result<(), AdminError> {
    if let Some(tags) = &change.tags {
        record.tags = checked_tags(tags).map_err(|error| AdminError::Invalid(error.to_string()))?;
    }
    if let Some(cluster) = change.cluster {
        record.cluster = cluster;
    }
    if let Some(interval) = change.interval_s {
        record.interval = interval.map(|s| seconds("interval_s", s, INTERVAL_S)).transpose()?;
    }
    if let Some(idle) = change.idle_timeout_s {
        record.idle_timeout = idle.map(|s| seconds("idle_timeout_s", s, IDLE_TIMEOUT_S)).transpose()?;
    }
    Ok(())
}

fn changed(before: &Settings, change: admin::Settings) -> Result<Settings, AdminError> {
    let mut settings = before.clone();
    if let Some(s) = change.interval_s {
        settings.interval = seconds("interval_s", s, INTERVAL_S)?;
    }
    if let Some(s) = change.idle_timeout_s {
        settings.idle_timeout = seconds("idle_timeout_s", s, IDLE_TIMEOUT_S)?;
    }
    if let Some(s) = change.hold_s {
        settings.hold = seconds("hold_s", s, HOLD_S)?;
    }
    if let Some(url) = change.public_url {
        settings.public_url = cleared_when_empty(url);
    }
    if let Some(address) = change.public_ssh {
        settings.public_ssh = cleared_when_empty(address);
    }
    if let Some(domain) = change.service_domain {
        settings.service_domain = cleared_when_empty(domain);
    }
    Ok(settings)
}

/// An empty text takes a setting back.
fn cleared_when_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn seconds(field: &str, value: u32, bounds: std::ops::RangeInclusive<u32>) -> Result<Duration, AdminError> {
    if !bounds.contains(&value) {
        let (low, high) = bounds.into_inner();
        return Err(AdminError::Invalid(format!("{field}: {value} is not within {low} to {high} seconds")));
    }
    Ok(Duration::from_secs(value.into()))
}
