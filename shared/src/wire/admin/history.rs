//! What happened to an edge, as `GET /api/v1/edges/{edge}/history` tells it afterwards.

use serde::{Deserialize, Serialize};

use super::EdgeEvent;

/// `GET /api/v1/edges/{edge}/history`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct History {
    /// Newest first.
    pub entries: Vec<HistoryEntry>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HistoryEntry {
    /// When.
    #[cfg_attr(feature = "schema", schemars(extend("format" = "date-time")))]
    pub at: String,
    /// What.
    #[serde(flatten)]
    pub what: EdgeEvent,
    /// Of a tunnel that ended: what it was used for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<TunnelUse>,
}

/// What a tunnel was used for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TunnelUse {
    /// Streams that were let through.
    pub streams: u64,
    /// Bytes from the edge to operators.
    pub from_edge_bytes: u64,
    /// Bytes from operators to the edge.
    pub to_edge_bytes: u64,
    /// Who used it, as far as that is known; the first five.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operators: Vec<String>,
}
