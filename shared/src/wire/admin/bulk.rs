//! Many edges at once.

use serde::{Deserialize, Serialize};

use crate::id::{EdgeName, EndpointId};

/// Where many edges are made. Not below `/api/v1/edges/`, where every word is the name of an edge.
pub const BULK_EDGES: &str = "/api/v1/bulk/edges";

/// Most edges of one request: the largest estates that are enrolled site by site, and a commit of a fraction of a second.
pub const MAX_BULK: usize = 1000;

/// `POST /api/v1/bulk/edges`: new edges that are alike.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateEdges {
    /// Their names, 1 to 1,000. One that is none, or is taken, is refused by itself.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 1000), inner(length(max = 63))))]
    pub names: Vec<String>,
    /// Whether several instances of each may run with one edge ID.
    #[serde(default)]
    pub cluster: bool,
    /// Their check-in interval; the gateway's where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 86_400)))]
    pub interval_s: Option<u32>,
    /// Their idle time; the gateway's where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 10, max = 604_800)))]
    pub idle_timeout_s: Option<u32>,
    /// Free words to find them by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "crate::schema::tags"))]
    pub tags: Vec<String>,
}

/// The answer to [`CreateEdges`]: every name is in one of the two lists. The only answer that shows the join tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EdgesCreated {
    /// In the order of the request.
    pub created: Vec<Enrolled>,
    /// Each with its reason.
    pub refused: Vec<EdgeRefused>,
}

/// One of many new edges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Enrolled {
    /// As asked for.
    pub name: EdgeName,
    /// Public id.
    pub endpoint_id: EndpointId,
    /// A fresh edge ID for the agent. Any other would do as well: the first that presents the key is bound.
    pub edge_id: String,
    /// What the agent needs. A secret.
    pub join_token: String,
}

/// A name that became no edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EdgeRefused {
    /// As asked for.
    pub name: String,
    /// As of a problem: `edge-name-taken` or `invalid-field`.
    pub code: String,
    /// What is wrong with it, and what to do next.
    pub detail: String,
}
