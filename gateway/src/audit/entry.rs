//! What happened, before it has its place in the log: who, from where, what, to which edge, how it went.
//!
//! The rule: every text in it is bounded, and none comes from somebody who was not shown to be there: a stranger has no
//! name, since people type passwords into the wrong field.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};
use shared::id::{EdgeId, EdgeName, ServiceName};
use shared::wire::admin::{
    AuditActor, AuditActorKind, AuditHash, AuditHead, AuditOutcome, AuditRecord, AuditVia,
};

use crate::access::{Credential, Operator};
use crate::domain::edge::Timestamp;

/// Longest detail, in characters: a sentence or two.
const MAX_DETAIL: usize = 300;
/// Longest name of an actor, in characters; labels and names of users are no longer than this anyway.
const MAX_NAME: usize = 100;
/// Longest name of an action or a code, in characters; ours are shorter.
const MAX_WORD: usize = 64;
/// Enough to tell the edge IDs of an edge apart; too little to find one by trying, of its 122 random bits.
const FINGERPRINT_BYTES: usize = 8;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Number and hashes are given to it in the log.
    record: AuditRecord,
    source: Option<IpAddr>,
}

impl Entry {
    /// Somebody did something, now, and it went well.
    pub fn new(actor: AuditActor, action: &str) -> Self {
        let record = AuditRecord {
            seq: 0,
            at: Timestamp::from(SystemTime::now()).0,
            actor: AuditActor { name: bounded(&actor.name, MAX_NAME), ..actor },
            from: None,
            action: bounded(action, MAX_WORD),
            edge: None,
            service: None,
            via: None,
            outcome: AuditOutcome::Ok,
            code: None,
            count: None,
            bytes_in: None,
            bytes_out: None,
            duration_ms: None,
            detail: None,
            prev: AuditHash::default(),
            hash: AuditHash::default(),
        };
        Self { record, source: None }
    }

    /// The gateway itself did something.
    pub fn by_gateway(action: &str) -> Self {
        Self::new(AuditActor { kind: AuditActorKind::Gateway, name: String::new(), id: None }, action)
    }

    /// It was somebody else.
    #[must_use]
    pub fn by(mut self, actor: AuditActor) -> Self {
        self.record.actor = AuditActor { name: bounded(&actor.name, MAX_NAME), ..actor };
        self
    }

    /// It was something else.
    #[must_use]
    pub fn action(mut self, action: &str) -> Self {
        self.record.action = bounded(action, MAX_WORD);
        self
    }

    /// It was not done again: the answer of the first time was given once more. What counts things that were done does
    /// not count this one.
    #[must_use]
    pub fn replayed(self) -> Self {
        let action = format!("{}.replay", self.record.action);
        self.action(&action)
            .and_detail("the answer of the first time, for its idempotency-key; nothing was done")
    }

    /// The same, now.
    #[must_use]
    pub fn at_now(mut self) -> Self {
        self.record.at = Timestamp::from(SystemTime::now()).0;
        self
    }

    /// From this address.
    #[must_use]
    pub fn from(mut self, peer: SocketAddr) -> Self {
        let ip = peer.ip().to_canonical();
        self.record.from = Some(SocketAddr::new(ip, peer.port()).to_string());
        self.source = Some(ip);
        self
    }

    /// From this address, of which the port is not known.
    #[must_use]
    pub fn from_ip(mut self, ip: IpAddr) -> Self {
        let ip = ip.to_canonical();
        (self.record.from, self.source) = (Some(ip.to_string()), Some(ip));
        self
    }

    /// About this edge.
    #[must_use]
    pub fn edge(mut self, edge: &EdgeName) -> Self {
        self.record.edge = Some(edge.clone());
        self
    }

    /// About this service.
    #[must_use]
    pub fn service(mut self, service: &ServiceName) -> Self {
        self.record.service = Some(service.clone());
        self
    }

    /// About more than one edge.
    #[must_use]
    pub fn of_no_edge(mut self) -> Self {
        (self.record.edge, self.record.service) = (None, None);
        self
    }

    /// By this way.
    #[must_use]
    pub fn via(mut self, via: AuditVia) -> Self {
        self.record.via = Some(via);
        self
    }

    /// It was refused, for this reason.
    #[must_use]
    pub fn refused(self, code: &str) -> Self {
        self.ended(AuditOutcome::Refused, code)
    }

    /// It failed, for this reason.
    #[must_use]
    pub fn failed(self, code: &str) -> Self {
        self.ended(AuditOutcome::Failed, code)
    }

    /// It stands for so many of its kind.
    #[must_use]
    pub fn count(mut self, count: u64) -> Self {
        self.record.count = Some(count);
        self
    }

    /// Bytes towards the service, and from it.
    #[must_use]
    pub fn bytes(mut self, inward: u64, outward: u64) -> Self {
        (self.record.bytes_in, self.record.bytes_out) = (Some(inward), Some(outward));
        self
    }

    /// So long it took.
    #[must_use]
    pub fn took(mut self, time: Duration) -> Self {
        self.record.duration_ms = Some(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// More, for people. An empty text is none.
    #[must_use]
    pub fn detail(mut self, detail: &str) -> Self {
        self.record.detail = Some(bounded(detail, MAX_DETAIL)).filter(|text| !text.is_empty());
        self
    }

    /// As [`Entry::detail`], behind what there is.
    #[must_use]
    pub fn and_detail(self, more: &str) -> Self {
        let detail = match &self.record.detail {
            Some(before) if !more.is_empty() => format!("{before}; {more}"),
            Some(before) => before.clone(),
            None => more.to_owned(),
        };
        self.detail(&detail)
    }

    /// The record behind `before`. Its hash is still missing.
    pub(super) fn after(&self, before: AuditHead) -> AuditRecord {
        AuditRecord { seq: before.seq + 1, prev: before.hash, ..self.record.clone() }
    }

    /// What it says so far.
    pub(crate) fn record(&self) -> &AuditRecord {
        &self.record
    }

    /// Where it came from.
    pub(super) fn source(&self) -> Option<IpAddr> {
        self.source
    }

    fn ended(mut self, outcome: AuditOutcome, code: &str) -> Self {
        (self.record.outcome, self.record.code) = (outcome, Some(bounded(code, MAX_WORD)));
        self
    }
}

impl From<&Operator> for AuditActor {
    fn from(operator: &Operator) -> Self {
        let (kind, id) = match operator.credential {
            Credential::Token(id) => (AuditActorKind::Token, id),
            Credential::SshKey(id) => (AuditActorKind::SshKey, id),
            Credential::Session(id) => (AuditActorKind::Session, id),
        };
        Self { kind, name: operator.name.clone(), id: Some(id) }
    }
}

/// Somebody who showed nothing.
pub fn stranger() -> AuditActor {
    AuditActor { kind: AuditActorKind::Stranger, name: String::new(), id: None }
}

/// The agent of an edge, or the stock SSH client in its place.
pub fn agent(edge: &EdgeName) -> AuditActor {
    AuditActor { kind: AuditActorKind::Agent, name: edge.to_string(), id: None }
}

/// What shows which edge ID it was, without being one: the first digits of its SHA-256.
pub fn edge_id_fingerprint(edge_id: &EdgeId) -> String {
    let digest = Sha256::digest(edge_id.as_bytes());
    digest.iter().take(FINGERPRINT_BYTES).map(|byte| format!("{byte:02x}")).collect()
}

fn bounded(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}
