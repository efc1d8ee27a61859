//! Errors on the wire: RFC 9457 problem details with a stable `code`.

use serde::{Deserialize, Serialize};

/// `content-type` of a problem.
pub const CONTENT_TYPE: &str = "application/problem+json";

/// An error as every answer of the gateway carries it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Problem {
    /// Always `about:blank#CODE`: the code is what identifies the problem.
    #[serde(rename = "type")]
    pub kind: String,
    /// A short, fixed sentence for this code.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// Stable identifier for programs, such as `edge-not-found`.
    pub code: String,
    /// What happened in this case, and what to do next.
    pub detail: String,
}
