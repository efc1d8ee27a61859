//! The admin API: what scripts, the CLI and the page exchange with the gateway. Times are RFC 3339 in UTC; durations
//! are whole seconds in fields that end in `_s`.

use serde::{Deserialize, Serialize};

use super::check_in::Service;
use crate::fingerprint::{HostKeyFingerprint, TlsFingerprint};
use crate::id::{EdgeName, EndpointId, InstanceId, ServiceName};

pub use audit::{
    AuditActor, AuditActorKind, AuditHash, AuditHead, AuditOutcome, AuditPage, AuditProblem, AuditRecord,
    AuditVerdict, AuditVia,
};
pub use bulk::{BULK_EDGES, CreateEdges, EdgeRefused, EdgesCreated, Enrolled, MAX_BULK};
pub use docker::{ContainerList, LogLine, LogSource};
pub use event::{CloseCause, EdgeEvent, Event, RESYNC};
pub use history::{History, HistoryEntry, TunnelUse};
pub use list::{EdgePage, EdgeSort, SortOrder};
pub use offer::{CreateOffer, OfferCreated, OfferSecret, OfferedService, StandingOffer};
pub use people::{
    AddSshKey, ChangeUser, CreateToken, CreateUser, CredentialKind, LogIn, Role, Session, SetPassword, SetUp,
    SignIn, SshKey, SshKeyList, Token, TokenCreated, TokenList, User, UserList,
};
pub use status::{EdgeCounts, GatewayStatus, Status, StatusPoint, StatusSeries};

mod audit;
mod bulk;
mod docker;
mod event;
mod history;
mod list;
mod offer;
mod people;
mod status;

/// `POST /api/v1/edges`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateEdge {
    /// Unique name.
    pub name: EdgeName,
    /// Whether several instances may run with one edge ID.
    #[serde(default)]
    pub cluster: bool,
    /// Check-in interval of this edge; the gateway's where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 86400)))]
    pub interval_s: Option<u32>,
    /// Idle time of this edge; the gateway's where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 10, max = 604800)))]
    pub idle_timeout_s: Option<u32>,
    /// Free words to find it by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "crate::schema::tags"))]
    pub tags: Vec<String>,
}

/// The 201 to [`CreateEdge`], and the answer to `POST /api/v1/edges/{edge}/rotate`: the only ones that show the key and
/// the join token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EdgeCreated {
    /// As asked for.
    pub name: EdgeName,
    /// Public id.
    pub endpoint_id: EndpointId,
    /// A fresh edge ID for the agent, used in `commands`. Any other would do as well: the first that presents the
    /// key is bound.
    pub edge_id: String,
    /// The edge's key; also in the token.
    pub key: String,
    /// What the agent needs.
    pub join_token: String,
    /// Ready to copy.
    pub commands: Commands,
}

/// Ways to start the agent, ready to copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Commands {
    /// `docker run ...`
    pub container: String,
    /// `tidegate-agent ...`
    pub binary: String,
    /// A `compose.yaml`.
    pub compose: String,
    /// A systemd unit with the commands that install it.
    pub systemd: String,
}

/// One edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Edge {
    /// Unique name.
    pub name: EdgeName,
    /// Public id.
    pub endpoint_id: EndpointId,
    /// Whether several instances may run with one edge ID.
    pub cluster: bool,
    /// Free words.
    pub tags: Vec<String>,
    /// Check-in interval in force.
    pub interval_s: u32,
    /// Idle time in force.
    pub idle_timeout_s: u32,
    /// When the record was made.
    #[cfg_attr(feature = "schema", schemars(extend("format" = "date-time")))]
    pub created_at: String,
    /// Whether an edge ID is bound to its key.
    pub bound: bool,
    /// What the operator wants to know first.
    pub status: EdgeStatus,
    /// Last check-in, if there was one.
    #[cfg_attr(feature = "schema", schemars(extend("format" = "date-time")))]
    pub last_seen: Option<String>,
    /// Instances that checked in within three intervals.
    pub instances: Vec<Instance>,
    /// Two agents share its edge ID though it is no cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duplicate: Option<Duplicate>,
    /// An agent shows its key with an edge ID that is not the bound one, and is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stranger: Option<Stranger>,
    /// State of its tunnel.
    pub tunnel: Tunnel,
    /// The stock SSH client that has its tunnel in the place of an agent, if one has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stock_client: Option<StockClient>,
    /// What a stock SSH client could log in with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub offers: Vec<StandingOffer>,
}

/// A stock SSH client in the place of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StockClient {
    /// What it announced.
    pub services: Vec<ServiceName>,
}

/// What the operator wants to know first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum EdgeStatus {
    /// No agent ever used its token.
    NeverJoined,
    /// No check-in within three intervals.
    Offline,
    /// Checking in.
    Online,
    /// Checking in, and its tunnel is open.
    TunnelOpen,
}

impl EdgeStatus {
    /// All of them, in the order in which lists are sorted by them.
    pub const ALL: [Self; 4] = [Self::NeverJoined, Self::Offline, Self::Online, Self::TunnelOpen];

    /// As the wire spells it.
    pub fn word(self) -> &'static str {
        match self {
            Self::NeverJoined => "never-joined",
            Self::Offline => "offline",
            Self::Online => "online",
            Self::TunnelOpen => "tunnel-open",
        }
    }
}

/// A second live instance that was refused, on an edge that is no cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Duplicate {
    /// Host of the instance that is there.
    pub present: String,
    /// Host of the instance that was refused, if it said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// When it was refused last.
    #[cfg_attr(feature = "schema", schemars(extend("format" = "date-time")))]
    pub at: String,
}

/// An agent that shows an edge's key with an edge ID that is not the bound one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Stranger {
    /// Its host, if it said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Address that its check-ins come from.
    pub address: String,
    /// When it was refused last.
    #[cfg_attr(feature = "schema", schemars(extend("format" = "date-time")))]
    pub at: String,
}

/// A running agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Instance {
    /// Its id.
    pub instance: InstanceId,
    /// Its host's name.
    pub hostname: String,
    /// Its version.
    pub agent: String,
    /// Address that its check-ins come from.
    pub address: String,
    /// Its last check-in.
    #[cfg_attr(feature = "schema", schemars(extend("format" = "date-time")))]
    pub last_seen: String,
    /// What it exposes.
    pub services: Vec<Service>,
}

/// `PATCH /api/v1/edges/{edge}`: only what is given changes; `null` takes a setting of the edge back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ChangeEdge {
    /// New name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<EdgeName>,
    /// New tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "crate::schema::tags"))]
    pub tags: Option<Vec<String>>,
    /// Whether several instances may run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<bool>,
    /// Check-in interval of this edge.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 86400)))]
    pub interval_s: Option<Option<u32>>,
    /// Idle time of this edge.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[cfg_attr(feature = "schema", schemars(range(min = 10, max = 604800)))]
    pub idle_timeout_s: Option<Option<u32>>,
}

/// Tells a field that is `null` from one that is absent.
fn present<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// `GET /api/v1/edges/{edge}/tunnel`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Tunnel {
    /// Where in its life it is.
    pub state: TunnelState,
    /// Since when.
    #[cfg_attr(feature = "schema", schemars(extend("format" = "date-time")))]
    pub since: String,
    /// Which instance has it or was offered it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// How many hold it open: streams, sessions, waiting requests.
    pub holds: usize,
    /// Why the last attempt failed or the last tunnel ended, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Life of an edge's tunnel, seen from the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum TunnelState {
    /// Nobody needs it.
    Idle,
    /// The flag is raised.
    Wanted,
    /// An instance has credentials.
    Offered,
    /// Streams can be opened.
    Open,
}

/// `GET|PATCH /api/v1/settings`; in a PATCH only what is given changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Check-in interval, 1 to 86,400.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 86400)))]
    pub interval_s: Option<u32>,
    /// Idle time after which a tunnel closes, 10 to 604,800.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 10, max = 604800)))]
    pub idle_timeout_s: Option<u32>,
    /// How long the gateway may keep a check-in's answer back (hold mode), up to 55; 0 is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 55)))]
    pub hold_s: Option<u32>,
    /// Where agents and browsers reach port 9000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_url: Option<String>,
    /// Where agents reach port 8000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_ssh: Option<String>,
    /// Domain below which every service has a host name of its own, for browsers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_domain: Option<String>,
}

/// `GET /api/v1/edges/{edge}/snapshot`, and the answer to its POST.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StoredSnapshot {
    /// When the gateway received it.
    #[cfg_attr(feature = "schema", schemars(extend("format" = "date-time")))]
    pub received_at: String,
    /// Which instance took it.
    pub instance: InstanceId,
    /// What the site looked like.
    pub snapshot: super::snapshot::Snapshot,
}

/// `GET /api/v1/edges/{edge}/snapshot/changes`: how the site differs from how it was in the snapshot before the last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SiteChanges {
    /// When the snapshot before was received; absent where there is none, and nothing to compare with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// What changed, 200 at most.
    pub changes: Vec<SiteChange>,
}

/// Something at a site that changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SiteChange {
    /// What, such as `container web`.
    pub what: String,
    /// What it was; absent where it was not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// What it is; absent where it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now: Option<String>,
}

/// `GET /api/v1/gateway`: where the gateway is and how to recognise it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Gateway {
    /// Its version.
    pub version: String,
    /// Base URL of the API, without a slash at its end.
    pub public_url: String,
    /// `host:port` of the SSH server.
    pub public_ssh: String,
    /// Keys that the SSH server may show.
    pub host_keys: Vec<HostKey>,
    /// TLS keys that join tokens pin; empty where the certificate verifies by public roots.
    pub tls_pins: Vec<TlsFingerprint>,
}

/// A host key of the SSH server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HostKey {
    /// Its algorithm as SSH names it.
    pub algorithm: String,
    /// Its fingerprint, which join tokens pin.
    pub fingerprint: HostKeyFingerprint,
    /// The key as in `known_hosts` behind the host: algorithm and base64.
    pub public_key: String,
}

/// `GET /healthz` and `GET /readyz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Health {
    /// `ok` or `unavailable`.
    pub status: HealthStatus,
    /// State of each part; `readyz` only.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub parts: std::collections::BTreeMap<String, Part>,
}

/// A part of the gateway, as `readyz` sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Part {
    /// `ok` or `unavailable`.
    pub status: HealthStatus,
    /// What is wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Whether something can do its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum HealthStatus {
    /// It can.
    Ok,
    /// It can't.
    Unavailable,
}
