//! Containers of a Docker Engine behind an edge, asked through its tunnel.

use serde::{Deserialize, Serialize};

use crate::id::ServiceName;
use crate::wire::snapshot::Container;

/// `GET /api/v1/edges/{edge}/containers`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ContainerList {
    /// The service that leads to the engine.
    pub service: ServiceName,
    /// Running or not, in the engine's order: the newest first.
    pub containers: Vec<Container>,
}

/// A line of a container's log: the data of each `log` event of `GET .../containers/{container}/logs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LogLine {
    /// Where the container wrote it.
    pub source: LogSource,
    /// When the engine read it, RFC 3339 in UTC; absent in the middle of a line that was too long for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// The line without its end. Bytes that are no UTF-8 show as U+FFFD.
    pub text: String,
}

/// Where a container writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum LogSource {
    /// Standard output; all of a container with a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}
