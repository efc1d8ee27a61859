//! Offers for stock SSH clients that stand in for an agent.

use serde::{Deserialize, Serialize};

use crate::fingerprint::HostKeyFingerprint;
use crate::host_port::HostPort;
use crate::id::{EdgeName, ServiceName};

/// Credentials of stock SSH clients that are good, without what they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StandingOffer {
    /// Fingerprint of the key; absent for a password that works once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<HostKeyFingerprint>,
    /// What the client may announce.
    pub services: Vec<ServiceName>,
    /// From then on they let nobody in.
    #[cfg_attr(feature = "schema", schemars(extend("format" = "date-time")))]
    pub expires_at: String,
}

/// `POST /api/v1/edges/{edge}/offer`: credentials for a stock SSH client in the place of an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateOffer {
    /// What the client may announce, 16 at most; `ssh` at `localhost:22` where there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(length(max = 16)))]
    pub services: Vec<OfferedService>,
    /// A key that lets in again and again, instead of a password that does so once.
    #[serde(default)]
    pub renew: bool,
    /// How long they live: 600 and at most a day for a password, 30 days and at most 90 for a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 60, max = 7_776_000)))]
    pub valid_s: Option<u32>,
}

/// A service that a stock SSH client announces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct OfferedService {
    /// Its name.
    pub name: ServiceName,
    /// Where the box reaches it, `host:port`.
    #[serde(with = "as_text")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "crate::schema::host_port"))]
    pub target: HostPort,
}

/// The 201 to [`CreateOffer`]. The only answer that shows the secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OfferCreated {
    /// Which edge.
    pub edge: EdgeName,
    /// Address of the tunnel server.
    pub ssh: String,
    /// SSH user name.
    pub username: String,
    /// What it proves itself with.
    #[serde(flatten)]
    pub secret: OfferSecret,
    /// From then on they let nobody in.
    #[cfg_attr(feature = "schema", schemars(extend("format" = "date-time")))]
    pub expires_at: String,
    /// Lines for a known_hosts file that pin the tunnel server.
    pub known_hosts: String,
    /// Ready to paste into a POSIX shell on the box. Has the private key in it, but not the password.
    pub command: String,
}

/// What a stock SSH client proves itself with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum OfferSecret {
    /// Works once.
    Password {
        /// A secret.
        password: String,
    },
    /// Works until it expires.
    Key {
        /// In OpenSSH's form. A secret.
        private_key: String,
        /// As `ssh-keygen -l` prints it.
        fingerprint: HostKeyFingerprint,
    },
}

/// Values that JSON has as their text.
mod as_text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
