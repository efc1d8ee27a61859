//! The join token: what an admin pastes into an agent, and all that the agent needs to know of its gateway.
//!
//! Form, version 1: `tidegate1.PAYLOAD.CHECKSUM`. PAYLOAD is base64url of a JSON object; CHECKSUM is base64url of the
//! first six bytes of SHA-256 over everything before the last dot. The checksum finds damage, it proves nothing: the
//! token is a secret that its owner carries over a channel that they trust. White space anywhere is ignored, since
//! terminals and mail programs break long lines.

use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::fingerprint::{HostKeyFingerprint, TlsFingerprint};
use crate::id::EdgeKey;
use crate::secret::{Secret, exposed};
use crate::terminal::escape;

/// The only version there is.
const PREFIX: &str = "tidegate1.";
const CHECKSUM_BYTES: usize = 6;
/// Six bytes in base64url.
const CHECKSUM_CHARS: usize = 8;
/// A token is a few hundred bytes; far more is not one, and need not be decoded to know that.
pub const MAX_LENGTH: usize = 8 * 1024;

/// What a join token carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinToken {
    /// Where the agent checks in, such as `https://gate.example.com:9000`; scheme, host and port, no path.
    pub api_url: String,
    /// Address of the tunnel server, `host:port`.
    pub ssh: String,
    /// The unguessable key of the edge.
    pub key: EdgeKey,
    /// Host keys that the tunnel server may show; at least one.
    pub host_keys: Vec<HostKeyFingerprint>,
    /// TLS keys that the gateway may show. Empty: its certificate must verify against the system's roots.
    pub tls_pins: Vec<TlsFingerprint>,
}

/// What is wrong with a join token, in words for the person who pasted it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinTokenError {
    /// Nothing but white space.
    #[error("the join token is empty")]
    Empty,
    /// It can't be a token.
    #[error("this is no join token: it has {0} characters, and a token has at most {MAX_LENGTH}")]
    TooLong(usize),
    /// Something else, or its beginning was not copied.
    #[error("this is no join token, or its beginning was not copied: it must begin with \"{PREFIX}\"")]
    Prefix,
    /// From a newer gateway.
    #[error("the join token has format version {0}, and this agent knows version 1 only: update the agent")]
    Version(u32),
    /// Its end is missing.
    #[error("the join token is cut off: its end is missing after {0} characters; copy the whole token")]
    Truncated(usize),
    /// A character that no token has.
    #[error("the join token is damaged: {character:?} at position {position} does not belong in a token")]
    Character {
        /// Counted from 1, white space left out.
        position: usize,
        /// What stands there.
        character: char,
    },
    /// All characters are possible, but not together.
    #[error("the join token is damaged: its checksum does not match; copy it again")]
    Checksum,
    /// The checksum is right and the content is not: whoever made it did not follow the format. Safe to show.
    #[error("the join token's content is not valid: {0}")]
    Content(String),
}

/// The JSON inside. Short keys: the token goes through terminals, chat and labels on machines.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    api: String,
    ssh: String,
    #[serde(serialize_with = "exposed")]
    key: Secret<String>,
    host: Vec<HostKeyFingerprint>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tls: Vec<TlsFingerprint>,
}

impl JoinToken {
    /// The token's text. It contains the edge's key: treat it as a secret.
    pub fn expose(&self) -> String {
        let payload = Payload {
            api: self.api_url.clone(),
            ssh: self.ssh.clone(),
            key: Secret::new(self.key.expose()),
            host: self.host_keys.clone(),
            tls: self.tls_pins.clone(),
        };
        let json =
            serde_json::to_vec(&payload).expect("strings and arrays of strings have no failing serializer");
        let body = Zeroizing::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(Zeroizing::new(json))));
        let checksum = checksum(&body);
        format!("{}.{checksum}", *body)
    }
}

/// Any content in the form of a token whose checksum fits.
#[cfg(feature = "fuzz")]
pub(crate) fn sealed(content: &[u8]) -> String {
    let body = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(content));
    let checksum = checksum(&body);
    format!("{body}.{checksum}")
}

fn checksum(body: &str) -> String {
    let digest = Sha256::digest(body.as_bytes());
    URL_SAFE_NO_PAD.encode(&digest[..CHECKSUM_BYTES])
}

impl FromStr for JoinToken {
    type Err = JoinTokenError;

    fn from_str(text: &str) -> Result<Self, JoinTokenError> {
        if text.len() > MAX_LENGTH {
            return Err(JoinTokenError::TooLong(text.len()));
        }
        let text: Zeroizing<String> = Zeroizing::new(text.split_whitespace().collect());
        let rest = strip_prefix(&text)?;
        if let Some((position, character)) = text
            .chars()
            .enumerate()
            .find(|(_, c)| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')))
        {
            return Err(JoinTokenError::Character { position: position + 1, character });
        }
        let truncated = JoinTokenError::Truncated(text.len());
        let (payload, given) = rest.rsplit_once('.').ok_or(truncated.clone())?;
        if given.len() < CHECKSUM_CHARS {
            return Err(truncated);
        }
        let body = &text[..PREFIX.len() + payload.len()];
        if checksum(body) != given {
            return Err(JoinTokenError::Checksum);
        }
        let json =
            URL_SAFE_NO_PAD.decode(payload).map_err(|_| JoinTokenError::Content("no base64url".into()))?;
        let json = Zeroizing::new(json);
        let payload: Payload = serde_json::from_slice(&json)
            .map_err(|error| JoinTokenError::Content(escape(&error.to_string())))?;
        Self::from_payload(payload)
    }
}

/// What comes after the prefix of version 1, or why there is no such prefix.
fn strip_prefix(text: &str) -> Result<&str, JoinTokenError> {
    if text.is_empty() {
        return Err(JoinTokenError::Empty);
    }
    if let Some(rest) = text.strip_prefix(PREFIX) {
        return Ok(rest);
    }
    if PREFIX.starts_with(text) {
        return Err(JoinTokenError::Truncated(text.len()));
    }
    let version = text
        .strip_prefix("tidegate")
        .and_then(|rest| rest.split_once('.'))
        .and_then(|(version, _)| version.parse().ok());
    Err(version.map_or(JoinTokenError::Prefix, JoinTokenError::Version))
}

impl JoinToken {
    fn from_payload(payload: Payload) -> Result<Self, JoinTokenError> {
        let invalid = |what: &str| Err(JoinTokenError::Content(what.to_owned()));
        let Ok(key) = payload.key.expose().parse() else { return invalid("the edge's key is malformed") };
        if payload.host.is_empty() {
            return invalid("it pins no host key");
        }
        let secure = payload.api.starts_with("https://");
        if !secure && !payload.api.starts_with("http://") {
            return invalid("its API address is no http:// or https:// URL");
        }
        if !secure && !payload.tls.is_empty() {
            return invalid("it pins a TLS key for a plain http:// address");
        }
        if payload
            .ssh
            .rsplit_once(':')
            .is_none_or(|(host, port)| host.is_empty() || port.parse::<u16>().is_err())
        {
            return invalid("its tunnel address is not host:port");
        }
        Ok(Self {
            api_url: payload.api,
            ssh: payload.ssh,
            key,
            host_keys: payload.host,
            tls_pins: payload.tls,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token() -> JoinToken {
        JoinToken {
            api_url: "https://gate.example.com:9000".into(),
            ssh: "gate.example.com:8000".into(),
            key: EdgeKey::from_bytes([3; 32]),
            host_keys: vec![HostKeyFingerprint::from_bytes([1; 32])],
            tls_pins: vec![TlsFingerprint::from_bytes([2; 32])],
        }
    }

    #[test]
    fn token_survives_its_text_and_line_breaks() {
        let text = token().expose();
        assert_eq!(text.parse(), Ok(token()));
        let (head, tail) = text.split_at(40);
        assert_eq!(format!("  {head}\r\n\t{tail}\n").parse(), Ok(token()));
    }

    #[test]
    fn every_truncation_is_called_one() {
        let text = token().expose();
        for length in 1..text.len() {
            let error = text[..length].parse::<JoinToken>().expect_err("a part of a token");
            assert_eq!(error, JoinTokenError::Truncated(length), "after {length} characters");
        }
        assert_eq!("".parse::<JoinToken>(), Err(JoinTokenError::Empty));
    }

    #[test]
    fn damage_is_named() {
        let text = token().expose();
        assert_eq!(text[3..].parse::<JoinToken>(), Err(JoinTokenError::Prefix));
        assert_eq!(text.replacen('1', "2", 1).parse::<JoinToken>(), Err(JoinTokenError::Version(2)));
        let odd = format!("{}…{}", &text[..30], &text[30..]);
        assert_eq!(odd.parse::<JoinToken>(), Err(JoinTokenError::Character { position: 31, character: '…' }));
        assert!(matches!("x".repeat(9000).parse::<JoinToken>(), Err(JoinTokenError::TooLong(9000))));
    }

    #[test]
    fn content_that_makes_no_sense_is_refused_though_the_checksum_fits() {
        for (change, word) in [
            (JoinToken { host_keys: vec![], ..token() }, "host key"),
            (JoinToken { api_url: "ftp://x".into(), ..token() }, "http"),
            (JoinToken { api_url: "http://x".into(), ..token() }, "TLS"),
            (JoinToken { ssh: "gate.example.com".into(), ..token() }, "host:port"),
        ] {
            let error = change.expose().parse::<JoinToken>().expect_err(word);
            assert!(matches!(&error, JoinTokenError::Content(what) if what.contains(word)), "{error}");
        }
    }

    #[test]
    fn a_content_that_would_act_on_a_terminal_is_shown_escaped() {
        let body = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode("{\"\\u001b[2J\":1}"));
        let text = format!("{body}.{}", checksum(&body));
        let error = text.parse::<JoinToken>().expect_err("no such field").to_string();
        assert!(error.contains("\\u{1b}[2J") && !error.contains('\u{1b}'), "{error}");
    }

    proptest! {
        #[test]
        fn one_changed_character_never_passes(position in 0usize..400, replacement in "[A-Za-z0-9_-]") {
            let text = token().expose();
            let position = position % text.len();
            let mut changed = text.clone();
            changed.replace_range(position..=position, &replacement);
            prop_assume!(changed != text);
            prop_assert!(changed.parse::<JoinToken>().is_err());
        }

        #[test]
        fn no_text_panics(text in ".{0,200}") {
            let _ = text.parse::<JoinToken>();
            let _ = format!("tidegate1.{text}").parse::<JoinToken>();
        }
    }
}
