//! What the gateway refuses, and why, in words for whoever asked. `http::problem` gives each its status and code.

use shared::id::{EdgeName, ServiceName};

/// Why the store did not do what was asked. After an error nothing of the batch is promised either way until the next
/// start; callers must not act as if it were stored.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk is full.
    #[error("the store's disk is full")]
    Full,
    /// Anything else that keeps the store from writing or reading.
    #[error("the store failed to {doing}: {reason}")]
    Failed {
        /// What it was doing.
        doing: &'static str,
        /// Its cause, in words.
        reason: String,
    },
    /// The disk hangs. What was begun before may be stored once it answers again.
    #[error("the store's disk has not answered for {seconds} s")]
    StandsStill {
        /// For how long.
        seconds: u64,
    },
    /// The store was told to stop.
    #[error("the store is closed")]
    Closed,
}

/// Why a check-in or an agent's snapshot is refused.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CheckInRefusal {
    /// 401: no edge has this key, or it was deleted.
    #[error(
        "no edge has this key: it was deleted or its key was rotated; get a new join token from the gateway's admin"
    )]
    UnknownKey,
    /// 403: the key belongs to another edge ID.
    #[error(
        "this key is bound to another edge ID; use that one, or have the gateway's admin dissociate the edge"
    )]
    BoundToAnother,
    /// 409: a second live instance on an edge that is no cluster.
    #[error(
        "another agent with this edge ID is checking in from {hostname}; stop one of the two, or mark the edge as a cluster"
    )]
    SecondInstance {
        /// Host of the instance that is already there.
        hostname: String,
    },
    /// 426: the hello names a protocol that this gateway does not speak.
    #[error(
        "this gateway speaks check-in protocol {supported}, the agent {offered}: update the older of the two"
    )]
    Protocol {
        /// What we speak.
        supported: u16,
        /// What the hello said.
        offered: u16,
    },
    /// 503: overload or drain.
    #[error("the gateway is busy; try again in {retry_after_s} s")]
    Busy {
        /// For `retry-after`.
        retry_after_s: u32,
    },
    /// 503: the binding could not be stored.
    #[error("the gateway can't store the binding now: {0}")]
    Store(#[from] StoreError),
}

/// Why a request of the admin API is refused.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AdminError {
    /// 404.
    #[error("there is no edge named {0}")]
    NoSuchEdge(EdgeName),
    /// 409.
    #[error("an edge named {0} exists already; choose another name")]
    NameTaken(EdgeName),
    /// 422: a value is out of its bounds.
    #[error("{0}")]
    Invalid(String),
    /// 412: somebody else changed it meanwhile.
    #[error(
        "this was changed since you read it; read it again, look whether your change still fits, and send its new etag as if-match"
    )]
    Stale,
    /// 404: it was never taken.
    #[error("there is no snapshot of this edge yet; take one with POST")]
    NoSnapshot,
    /// 503: overload or drain.
    #[error("the gateway is busy; try again in {retry_after_s} s")]
    Busy {
        /// For `retry-after`.
        retry_after_s: u32,
    },
    /// 503 or 507.
    #[error("the change could not be stored: {0}")]
    Store(#[from] StoreError),
}

/// Why an operator gets no stream to a service.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OpenError {
    /// 404.
    #[error("there is no edge named {0}")]
    NoSuchEdge(EdgeName),
    /// 404: the agent announced no such service.
    #[error("edge {edge} has no service named {service}; it has: {available}")]
    NoSuchService {
        /// Which edge.
        edge: EdgeName,
        /// What was asked for.
        service: ServiceName,
        /// What there is, comma-separated.
        available: String,
    },
    /// 504: no tunnel in time, and why.
    #[error("no tunnel to {edge} within {waited_s} s: {reason}")]
    NoTunnel {
        /// Which edge.
        edge: EdgeName,
        /// How long the request waited.
        waited_s: u32,
        /// Offline since when, refused, offered but not connected.
        reason: String,
    },
    /// 502: the agent could not connect to the service's target.
    #[error("edge {edge} could not reach {service}: {reason}")]
    Dial {
        /// Which edge.
        edge: EdgeName,
        /// Which service.
        service: ServiceName,
        /// The agent's words.
        reason: String,
    },
    /// 502: the tunnel broke while the stream was being opened.
    #[error("the tunnel to {0} broke while the stream was being opened; try again")]
    Lost(EdgeName),
    /// 503: too many streams in this tunnel, or the gateway is shutting down.
    #[error("{reason}")]
    Refused {
        /// Why.
        reason: String,
    },
}
