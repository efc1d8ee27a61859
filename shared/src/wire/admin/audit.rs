//! The audit log: its records as they stand in the file, are exported and are listed, and what a verification found.
//!
//! The rule: a record on the wire is the record of the log, field by field and in this order. `docs/audit.md` describes
//! the format; who changes it changes what others verify.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::id::{EdgeName, ServiceName};

/// SHA-256 of a record, which the record after it names: 64 hexadecimal digits.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct AuditHash(pub [u8; 32]);

#[cfg(feature = "schema")]
crate::schema::text! { AuditHash, "pattern": "^[0-9a-f]{64}$" }

/// A text that is no SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a hash is 64 digits of 0 to 9 and a to f")]
pub struct NoHash;

impl fmt::Display for AuditHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for AuditHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for AuditHash {
    type Err = NoHash;

    /// Lower-case digits only, so that a hash has one spelling.
    fn from_str(text: &str) -> Result<Self, NoHash> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let mut hash = [0; 32];
        if pairs.len() != hash.len() || !rest.is_empty() {
            return Err(NoHash);
        }
        for (byte, [high, low]) in hash.iter_mut().zip(pairs) {
            *byte = digit(*high).zip(digit(*low)).map(|(high, low)| high << 4 | low).ok_or(NoHash)?;
        }
        Ok(Self(hash))
    }
}

impl Serialize for AuditHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AuditHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A place in the log: a record's number and hash. Who noted one elsewhere can prove later that the log up to there is
/// the one that it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AuditHead {
    /// Number of the record.
    pub seq: u64,
    /// Its hash.
    pub hash: AuditHash,
}

/// A text that is no place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a place in the audit log is SEQ:HASH, as `tidegate audit verify` prints it")]
pub struct NoHead;

impl fmt::Display for AuditHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.hash)
    }
}

impl FromStr for AuditHead {
    type Err = NoHead;

    fn from_str(text: &str) -> Result<Self, NoHead> {
        let (seq, hash) = text.split_once(':').ok_or(NoHead)?;
        Ok(Self { seq: seq.parse().map_err(|_| NoHead)?, hash: hash.parse().map_err(|_| NoHead)? })
    }
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AuditRecord {
    /// Its number: one more than that of the record before.
    pub seq: u64,
    /// When it happened, in milliseconds since 1970 in UTC.
    pub at: u64,
    /// Who did it.
    pub actor: AuditActor,
    /// From where: an address, with its port where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What: the id of an operation such as `edge.create`, or one of the words of `docs/audit.md`.
    pub action: String,
    /// Which edge it was about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edge: Option<EdgeName>,
    /// Which service of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceName>,
    /// By which way a stream came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<AuditVia>,
    /// How it went.
    pub outcome: AuditOutcome,
    /// Why it was refused or failed: the code of the problem that whoever asked was told, or one like it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// How many of the same kind this record stands for, where it is more than one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Bytes from the operator to the service; of a tunnel, from the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_in: Option<u64>,
    /// Bytes from the service to the operator; of a tunnel, to the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_out: Option<u64>,
    /// How long it took or lasted, or the time that `count` was counted in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// More, for people. Bounded, and never a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Hash of the record before; zeros in the first.
    pub prev: AuditHash,
    /// SHA-256 of the record's line without this member.
    pub hash: AuditHash,
}

/// Who did something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AuditActor {
    /// What showed who it was.
    pub kind: AuditActorKind,
    /// Name of the user or the edge, or label of the credential. Empty where nobody was shown to be there: what a
    /// stranger claims to be is not repeated, since people type secrets into the wrong field.
    pub name: String,
    /// Public id of the credential, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Uuid>,
}

/// What showed who somebody is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum AuditActorKind {
    /// Name and password.
    User,
    /// An API token.
    Token,
    /// An SSH key.
    SshKey,
    /// A browser that signed in.
    Session,
    /// An agent, or a stock SSH client in its place.
    Agent,
    /// Nothing.
    Stranger,
    /// The gateway itself.
    Gateway,
}

/// How something went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum AuditOutcome {
    /// As asked.
    Ok,
    /// The gateway said no.
    Refused,
    /// It could not be done, or not to its end.
    Failed,
}

/// By which way an operator's stream came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum AuditVia {
    /// A stock SSH client.
    Ssh,
    /// `Upgrade: tcp`, as `tidegate connect` does it.
    Stream,
    /// The HTTP proxy.
    Proxy,
}

/// `GET /api/v1/audit`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AuditPage {
    /// Newest first.
    pub records: Vec<AuditRecord>,
    /// `after` of the next page, which has older records; absent on the last. A page that looked through much of the
    /// log without finding enough is short, even empty, and still has a next one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// `GET /api/v1/audit/verify`: what a verification found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AuditVerdict {
    /// Whether every record is the one that was written, and none is missing.
    pub intact: bool,
    /// Records that were looked at.
    pub records: u64,
    /// The record before the first: what was dropped to keep the log within its bounds ends there. 0 where nothing was.
    pub anchor: AuditHead,
    /// The last record. Note it elsewhere to prove later that the log up to here did not change.
    pub head: AuditHead,
    /// Records in which the gateway itself noted damage that it found when it started.
    pub damage_noted: u64,
    /// What is wrong: the first of it, a hundred at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<AuditProblem>,
}

/// One thing that is wrong with a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AuditProblem {
    /// Which file.
    pub file: String,
    /// Which line of it, from 1.
    pub line: u64,
    /// What is wrong there.
    pub what: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_has_one_spelling() {
        let text = "00ff".repeat(16);
        let hash: AuditHash = text.parse().expect("64 digits");
        assert_eq!(hash.to_string(), text);
        for bad in [&text[1..], &text.to_uppercase(), &format!("{text}0"), &text.replace('f', "g"), ""] {
            assert_eq!(bad.parse::<AuditHash>(), Err(NoHash), "{bad}");
        }
        let head: AuditHead = format!("7:{text}").parse().expect("a place");
        assert_eq!(head, AuditHead { seq: 7, hash });
        assert_eq!(head.to_string().parse(), Ok(head));
        assert_eq!(text.parse::<AuditHead>(), Err(NoHead));
    }
}
