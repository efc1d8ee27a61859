//! What happens to edges, as `GET /api/v1/events` tells it while it happens, and as an edge's history keeps it.

use serde::{Deserialize, Serialize};

use crate::id::{EdgeName, EndpointId, InstanceId};

/// `event` of the message which says that events were missed, or that none were seen so far: what one knows of edges is
/// to be asked for anew. Its data is empty.
pub const RESYNC: &str = "resync";

/// One event: the data of a message, of which `event` is [`EdgeEvent::kind`] and `id` goes into `last-event-id`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Event {
    /// When it happened.
    #[cfg_attr(feature = "schema", schemars(extend("format" = "date-time")))]
    pub at: String,
    /// The edge's name from then on.
    pub edge: EdgeName,
    /// Its public id.
    pub endpoint_id: EndpointId,
    /// What happened.
    #[serde(flatten)]
    pub what: EdgeEvent,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum EdgeEvent {
    /// The edge was enrolled.
    Created,
    /// Its name, tags, settings or what stock clients may log in with changed.
    Changed {
        /// Its name before.
        name_before: EdgeName,
    },
    /// It was deleted, or is tagged out of one's sight.
    Deleted,
    /// An agent claimed its key.
    Joined,
    /// It was freed from its agent.
    Dissociated,
    /// Its agent checks in, after it did not.
    Online {
        /// Which instance.
        instance: InstanceId,
        /// Its host's name, if it said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hostname: Option<String>,
    },
    /// No check-in within three intervals.
    Offline {
        /// The last check-in, if it is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last_seen: Option<String>,
    },
    /// A second live instance was refused, on an edge that is no cluster.
    Duplicate {
        /// Host of the instance that is there.
        present: String,
        /// Host of the instance that was refused, if it said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        refused: Option<String>,
    },
    /// The flag is raised.
    TunnelWanted,
    /// Somebody has credentials, or is logging in with them.
    TunnelOffered {
        /// Which instance; absent for a stock client.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        instance: Option<InstanceId>,
    },
    /// Streams can be opened.
    TunnelOpened {
        /// Which instance; absent for a stock client.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        instance: Option<InstanceId>,
    },
    /// The tunnel that was open ended.
    TunnelClosed {
        /// By whose doing.
        cause: CloseCause,
        /// The same in words.
        reason: String,
        /// How long it was open.
        open_s: u64,
    },
    /// Nobody wants the tunnel any more, and it had not opened.
    TunnelUnwanted {
        /// Why it had not, if an attempt failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// A snapshot was stored.
    SnapshotReceived {
        /// Which instance took it.
        instance: InstanceId,
    },
    /// Something that a gateway newer than this program tells.
    #[serde(other)]
    Other,
}

/// By whose doing an open tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum CloseCause {
    /// Nobody used it.
    Idle,
    /// An operator closed it.
    Operator,
    /// The edge was dissociated or deleted, or the credentials were taken back.
    Revoked,
    /// The gateway shut down.
    Shutdown,
    /// The connection ended by itself.
    Lost,
}

impl EdgeEvent {
    /// Its name on the wire, such as `tunnel-opened`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Changed { .. } => "changed",
            Self::Deleted => "deleted",
            Self::Joined => "joined",
            Self::Dissociated => "dissociated",
            Self::Online { .. } => "online",
            Self::Offline { .. } => "offline",
            Self::Duplicate { .. } => "duplicate",
            Self::TunnelWanted => "tunnel-wanted",
            Self::TunnelOffered { .. } => "tunnel-offered",
            Self::TunnelOpened { .. } => "tunnel-opened",
            Self::TunnelClosed { .. } => "tunnel-closed",
            Self::TunnelUnwanted { .. } => "tunnel-unwanted",
            Self::SnapshotReceived { .. } => "snapshot-received",
            Self::Other => "other",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_older_program_does_not_know_is_read_as_other() {
        let text = r#"{"at":"2026-11-09T08:00:00Z","edge":"shop","endpoint_id":"ENDPOINT","event":"painted","colour":"red"}"#;
        let text = text.replace("ENDPOINT", &EndpointId::from_bytes([1; 16]).to_string());
        let event: Event = serde_json::from_str(&text).expect("an event all the same");
        assert_eq!(event.what, EdgeEvent::Other);
    }
}
