//! How the gateway is, now and over the last hour.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{EdgeStatus, Part};

/// `GET /api/v1/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Status {
    /// The gateway's version.
    pub version: String,
    /// When it was started.
    #[cfg_attr(feature = "schema", schemars(extend("format" = "date-time")))]
    pub started_at: String,
    /// How long ago that is.
    pub uptime_s: u64,
    /// Edges within one's reach.
    pub edges: EdgeCounts,
    /// The gateway as a whole; only for those who reach every edge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<GatewayStatus>,
}

/// Edges by status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EdgeCounts {
    /// No agent ever used its token.
    pub never_joined: usize,
    /// No check-in within three intervals.
    pub offline: usize,
    /// Checking in.
    pub online: usize,
    /// Checking in, and its tunnel is open.
    pub tunnel_open: usize,
}

impl EdgeCounts {
    /// All of them.
    pub fn total(&self) -> usize {
        self.never_joined + self.offline + self.online + self.tunnel_open
    }

    /// Those with this status.
    pub fn of(&self, status: EdgeStatus) -> usize {
        match status {
            EdgeStatus::NeverJoined => self.never_joined,
            EdgeStatus::Offline => self.offline,
            EdgeStatus::Online => self.online,
            EdgeStatus::TunnelOpen => self.tunnel_open,
        }
    }

    /// Those with this status, to be counted.
    pub fn of_mut(&mut self, status: EdgeStatus) -> &mut usize {
        match status {
            EdgeStatus::NeverJoined => &mut self.never_joined,
            EdgeStatus::Offline => &mut self.offline,
            EdgeStatus::Online => &mut self.online,
            EdgeStatus::TunnelOpen => &mut self.tunnel_open,
        }
    }
}

/// The gateway as a whole. Rates are those of the last ten seconds; what the system does not tell is absent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GatewayStatus {
    /// Its parts, as `/readyz` shows them.
    pub parts: BTreeMap<String, Part>,
    /// Instances that check in.
    pub agents: usize,
    /// Edges whose tunnel is wanted and not open yet.
    pub tunnels_wanted: usize,
    /// Streams that are live.
    pub streams: usize,
    /// Connections to port 9000.
    pub connections: usize,
    /// Readers of the event stream.
    pub watchers: usize,
    /// Check-ins in a second.
    pub check_ins_per_s: f64,
    /// Bytes of streams in a second, from edges to operators.
    pub from_edges_per_s: u64,
    /// Bytes of streams in a second, from operators to edges.
    pub to_edges_per_s: u64,
    /// Resident memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Open files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_files: Option<u64>,
    /// How many may be open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_open_files: Option<u64>,
    /// What the gateway may still write to its disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_free_bytes: Option<u64>,
    /// Size of that disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_total_bytes: Option<u64>,
}

/// `GET /api/v1/status/series`: the last hour, for charts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StatusSeries {
    /// Time between two points.
    pub step_s: u32,
    /// Oldest first, 360 at most; fewer after a start.
    pub points: Vec<StatusPoint>,
}

/// One point; rates are those since the point before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StatusPoint {
    /// When.
    #[cfg_attr(feature = "schema", schemars(extend("format" = "date-time")))]
    pub at: String,
    /// Edges that check in, those with a tunnel included.
    pub online: usize,
    /// Tunnels that are open.
    pub tunnels: usize,
    /// Streams that are live.
    pub streams: usize,
    /// Check-ins in a second.
    pub check_ins_per_s: f64,
    /// Bytes of streams in a second, from edges to operators.
    pub from_edges_per_s: u64,
    /// Bytes of streams in a second, from operators to edges.
    pub to_edges_per_s: u64,
}
