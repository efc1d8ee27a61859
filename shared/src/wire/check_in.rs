//! The check-in: `POST /api/v1/check-in`.
//!
//! Who asks is in the headers ([`Authorization`], [`INSTANCE_HEADER`]), what changed is in the body. The usual
//! question has an empty body, and its usual answer is 204 without one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::{EdgeId, EdgeKey, InstanceId, OfferId, ServiceName};

/// Where an agent checks in.
pub const PATH: &str = "/api/v1/check-in";
/// Where an agent puts its snapshot.
pub const SNAPSHOT_PATH: &str = "/api/v1/check-in/snapshot";
/// Header that says over HTTP/2 what `authorization` says over HTTP/1.1, in the same form; the gateway takes either. HPACK
/// encoders (nghttp2's, and the one that we use) never put `authorization` into their table, so it would cost 67 bytes in
/// each check-in, a quarter of what one may cost; this one costs a byte after the first.
pub const IDENTITY_HEADER: &str = "x-edge-authorization";
/// Header with which an agent says for how long its question may be held: `wait=SECONDS` (RFC 7240, 4.3).
pub const PREFER_HEADER: &str = "prefer";
/// Header of the answer to a question that was held: [`HELD`] (RFC 7240, 3).
pub const APPLIED_HEADER: &str = "preference-applied";
/// Value of [`APPLIED_HEADER`].
pub const HELD: &str = "wait";
/// Header with the [`InstanceId`].
pub const INSTANCE_HEADER: &str = "x-instance";
/// The protocol that this code speaks; a hello names it.
pub const PROTOCOL_VERSION: u16 = 1;
/// Largest body of a check-in, in bytes.
pub const MAX_BODY: usize = 64 * 1024;
/// Most services of one agent.
pub const MAX_SERVICES: usize = 128;

/// The `authorization` header of an agent: `Edge <edge-id>.<key>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorization {
    /// What the agent proves itself with.
    pub edge_id: EdgeId,
    /// The key from its join token.
    pub key: EdgeKey,
}

/// The header is not of the form `Edge <edge-id>.<key>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the authorization header must be: Edge <edge ID>.<key>")]
pub struct AuthorizationError;

impl Authorization {
    /// The header's text, a secret.
    pub fn expose(&self) -> String {
        format!("Edge {}.{}", self.edge_id, self.key.expose())
    }
}

impl FromStr for Authorization {
    type Err = AuthorizationError;
    fn from_str(text: &str) -> Result<Self, AuthorizationError> {
        let (edge_id, key) =
            text.strip_prefix("Edge ").and_then(|rest| rest.split_once('.')).ok_or(AuthorizationError)?;
        Ok(Self {
            edge_id: edge_id.parse().map_err(|_| AuthorizationError)?,
            key: key.parse().map_err(|_| AuthorizationError)?,
        })
    }
}

/// Body of a check-in. An empty body is `CheckIn::default()`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CheckIn {
    /// Said with the first check-in of a connection, and when the gateway asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hello: Option<Hello>,
    /// What became of an offer, where nothing did any more: no tunnel came of it, or that tunnel is over at the agent's
    /// end without having been closed in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<FailedOffer>,
}

/// Who the agent is and what it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Hello {
    /// Version of the agent, such as `0.1.0`.
    #[cfg_attr(feature = "schema", schemars(length(max = 255)))]
    pub agent: String,
    /// [`PROTOCOL_VERSION`] of the agent.
    pub protocol: u16,
    /// Name of the agent's host.
    #[cfg_attr(feature = "schema", schemars(length(max = 255)))]
    pub hostname: String,
    /// What it exposes.
    #[cfg_attr(feature = "schema", schemars(length(max = 128)))]
    pub services: Vec<Service>,
    /// State of its tunnel.
    pub tunnel: TunnelState,
}

/// A service as the agent announces it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Service {
    /// Its name, by which streams are addressed.
    pub name: ServiceName,
    /// What its bytes are.
    pub kind: ServiceKind,
    /// Where the agent dials it, for people to read.
    #[cfg_attr(feature = "schema", schemars(length(max = 1024)))]
    pub target: String,
}

/// What the bytes of a service are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ServiceKind {
    /// Any protocol over TCP.
    Tcp,
    /// HTTP/1.1 over TCP.
    Http,
    /// Any protocol over a unix socket.
    Unix,
}

impl fmt::Display for ServiceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Http => "http",
            Self::Unix => "unix",
        })
    }
}

/// State of the agent's own end of the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "AgentTunnelState"))]
#[serde(rename_all = "kebab-case")]
pub enum TunnelState {
    /// None.
    Closed,
    /// Being opened.
    Connecting,
    /// Open.
    Open,
    /// Being closed.
    Closing,
}

/// An offer of which no tunnel came, or no tunnel is left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FailedOffer {
    /// Which one.
    pub offer: OfferId,
    /// Why, in a sentence for the operator who waits or was cut off.
    pub reason: String,
}

/// The gateway's 200.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Answer {
    /// Seconds until the next check-in, from 1 to 86,400.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 86_400)))]
    pub interval_s: u32,
    /// Whether the agent is needed.
    pub need: Need,
    /// With [`Need::Tunnel`], for the instance that has the claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offer: Option<Offer>,
    /// The gateway does not know this instance (it was restarted, say): say hello with the next check-in.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hello_wanted: bool,
}

/// Whether the gateway needs this agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Need {
    /// Not now.
    None,
    /// Open a tunnel.
    Tunnel,
}

/// One-time tunnel credentials for one instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Offer {
    /// Its id.
    pub id: OfferId,
    /// Address of the tunnel server, `host:port`.
    pub ssh: String,
    /// See [`crate::envelope`].
    pub credentials: String,
    /// Seconds until the credentials are dead.
    pub expires_in_s: u32,
}

/// The headers that identify an agent, as one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Edge ID and key.
    pub authorization: Authorization,
    /// Which instance of the edge.
    pub instance: InstanceId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorization_survives_its_text_and_other_forms_are_refused() {
        let authorization = Authorization { edge_id: EdgeId::random(), key: EdgeKey::random() };
        let text = authorization.expose();
        assert_eq!(text.parse(), Ok(authorization));
        for bad in ["", "Edge ", "Bearer x", &text[5..], &text[..text.len() - 1], &text.replace('.', " ")] {
            assert_eq!(bad.parse::<Authorization>(), Err(AuthorizationError), "{bad}");
        }
    }

    #[test]
    fn an_empty_object_is_a_check_in_with_nothing_to_report() {
        assert_eq!(serde_json::from_str::<CheckIn>("{}").expect("valid"), CheckIn::default());
        assert_eq!(serde_json::to_string(&CheckIn::default()).expect("serializes"), "{}");
    }
}
