//! Pages of edges.

use serde::{Deserialize, Serialize};

use super::{Edge, EdgeCounts};

/// `GET /api/v1/edges`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EdgePage {
    /// In the order that was asked for.
    pub edges: Vec<Edge>,
    /// `after` of the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Edges on all pages together.
    #[serde(default)]
    pub total: usize,
    /// Edges of each status among those that the query matches, whatever status it asks for.
    #[serde(default)]
    pub counts: EdgeCounts,
}

/// What edges are sorted by. Those that are alike in it are in order of name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum EdgeSort {
    /// Their name.
    #[default]
    Name,
    /// Their status: never joined, offline, online, tunnel open.
    Status,
    /// Their last check-in; those that never had one come first.
    LastSeen,
    /// The version of their agent; those without a live one come first.
    Version,
}

impl EdgeSort {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Name, Self::Status, Self::LastSeen, Self::Version];

    /// As the wire spells it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Status => "status",
            Self::LastSeen => "last_seen",
            Self::Version => "version",
        }
    }
}

/// Which way a list runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SortOrder {
    /// The least first.
    #[default]
    Asc,
    /// The greatest first.
    Desc,
}

impl SortOrder {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Asc, Self::Desc];

    /// As the wire spells it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Asc => "asc",
            Self::Desc => "desc",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::admin::EdgeStatus;

    #[test]
    fn words_are_those_of_the_wire() {
        let json = |word: &str| serde_json::Value::from(word);
        for sort in EdgeSort::ALL {
            assert_eq!(serde_json::to_value(sort).expect("a word"), json(sort.word()));
        }
        for order in SortOrder::ALL {
            assert_eq!(serde_json::to_value(order).expect("a word"), json(order.word()));
        }
        for status in EdgeStatus::ALL {
            assert_eq!(serde_json::to_value(status).expect("a word"), json(status.word()));
        }
    }
}
