//! What the gateway knows durably: edges, settings, and all records together. People and their credentials are in
//! [`super::people`]. Plain values; how they are kept is `store`'s business.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use shared::fingerprint::HostKeyFingerprint;
use shared::id::{EdgeId, EdgeName, EndpointId, KeyDigest, ServiceName};
use uuid::Uuid;

use super::people::{ApiToken, Session, SshKey, User};

/// Milliseconds since 1970 by the wall clock: for people and records, never for deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// So much later; the last moment there is, at most.
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// What passed since `earlier`; nothing where that is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for Timestamp {
    /// As the wire carries it: RFC 3339 in UTC.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shared::wire::rfc3339(UNIX_EPOCH + Duration::from_millis(self.0)))
    }
}

/// The record of one remote site.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EdgeRecord {
    /// Public id; never changes.
    pub endpoint: EndpointId,
    /// Unique name; can change.
    pub name: EdgeName,
    /// What is kept of the edge's key.
    pub key: KeyDigest,
    /// The edge ID that claimed the key, once one did.
    pub bound: Option<EdgeId>,
    /// Whether several instances may run with one edge ID.
    pub cluster: bool,
    /// Check-in interval of this edge; the gateway's where `None`.
    pub interval: Option<Duration>,
    /// Idle time of this edge; the gateway's where `None`.
    pub idle_timeout: Option<Duration>,
    /// Free words to find it by.
    pub tags: Vec<String>,
    /// When the record was made.
    pub created_at: Timestamp,
    /// The key of a stock SSH client that stands in for an agent, where an operator made one.
    pub stock_key: Option<StockKey>,
}

/// By this a stock SSH client may log in in the place of an agent, as often as it likes until the key expires. The key
/// itself is shown once and never kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StockKey {
    /// SHA-256 of the public key, as `ssh-keygen -l` prints it.
    pub fingerprint: HostKeyFingerprint,
    /// What the client may announce.
    pub services: Vec<ServiceName>,
    /// From then on it lets nobody in.
    pub expires_at: Timestamp,
}

/// What an operator sets for the whole gateway while it runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// Check-in interval.
    pub interval: Duration,
    /// Idle time after which a tunnel closes.
    pub idle_timeout: Duration,
    /// How long an answer may be kept back; zero is off.
    pub hold: Duration,
    /// Where agents and browsers reach the API; overrides `--public-url`.
    pub public_url: Option<String>,
    /// Where agents reach the tunnel server; overrides `--public-ssh`.
    pub public_ssh: Option<String>,
    /// Below which services have host names of their own; overrides `--service-domain`.
    pub service_domain: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(300),
            hold: Duration::ZERO,
            public_url: None,
            public_ssh: None,
            service_domain: None,
        }
    }
}

/// One durable change. Changes that belong together are committed in one batch: all or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new or changed edge.
    PutEdge(EdgeRecord),
    /// An edge is gone, with its snapshot and its last-seen time.
    DeleteEdge(EndpointId),
    /// New settings.
    PutSettings(Settings),
    /// A new or changed user.
    PutUser(User),
    /// A user is gone. What is theirs goes by changes of its own, in the same batch.
    DeleteUser(Uuid),
    /// Somebody signed in.
    PutSession(Session),
    /// Somebody signed out, or was signed out.
    DeleteSession(Uuid),
    /// A new token.
    PutToken(ApiToken),
    /// A token is revoked.
    DeleteToken(Uuid),
    /// A new SSH key.
    PutSshKey(SshKey),
    /// An SSH key is removed.
    DeleteSshKey(Uuid),
}

/// All durable records, as read at start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// Every edge.
    pub edges: Vec<EdgeRecord>,
    /// The settings; defaults where none were ever stored.
    pub settings: Settings,
    /// Every user.
    pub users: Vec<User>,
    /// Every session of a browser.
    pub sessions: Vec<Session>,
    /// Every API token.
    pub tokens: Vec<ApiToken>,
    /// Every SSH key of an operator.
    pub ssh_keys: Vec<SshKey>,
    /// When each edge was last heard of, as far as that was written.
    pub last_seen: Vec<(EndpointId, Timestamp)>,
}
