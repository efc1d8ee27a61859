//! Names and ids. Each is a type of its own, so that no two can be mixed up, and parsing is the only way in.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use uuid::Uuid;
use zeroize::Zeroize as _;

/// Why a text is no id or no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not a UUID.
    #[error("not a UUID, as in 123e4567-e89b-42d3-a456-426614174000")]
    Uuid,
    /// Not a DNS label.
    #[error(
        "not a DNS label: 1 to 63 of the characters a-z, 0-9 and '-', with no '-' at either end, as in shop-17"
    )]
    Label,
    /// Not a user's name.
    #[error(
        "not a user's name: 1 to 32 of the characters a-z, 0-9 and '-', with no '-' at either end, as in ada"
    )]
    UserName,
    /// Not the key of an edge.
    #[error("not an edge key: 43 characters of base64url are needed")]
    Key,
}

macro_rules! uuid_id {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(inline))]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new random id (UUID version 4).
            pub fn random() -> Self {
                Self(Uuid::new_v4())
            }

            /// The id with these 16 bytes.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// Its 16 bytes.
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Uuid::try_parse(text).map(Self).map_err(|_| IdError::Uuid)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

uuid_id! {
    /// What an agent proves itself with. A secret: it is also the key material of the edge's tunnel credentials, so
    /// its `Debug` hides it. `Display` shows it, for the few places that hand it to its owner.
    EdgeId
}
uuid_id! {
    /// The public id of an edge record. It never changes, also when the edge is renamed or bound anew.
    EndpointId
}
uuid_id! {
    /// One running agent process' installation; kept in its data folder. Public.
    InstanceId
}
uuid_id! {
    /// One offer of tunnel credentials. Public; it is the associated data of the sealed credentials.
    OfferId
}

impl fmt::Debug for EdgeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EdgeId(***)")
    }
}

macro_rules! debug_is_display {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    )*};
}
debug_is_display!(EndpointId, InstanceId, OfferId, EdgeName, ServiceName, UserName);

macro_rules! label {
    ($(#[$meta:meta])* $name:ident, at most $most:literal, else $error:ident) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        #[cfg(feature = "schema")]
        crate::schema::text! { $name, "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", "maxLength": $most }

        impl $name {
            /// The label's text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                if is_label(text, $most) { Ok(Self(text.into())) } else { Err(IdError::$error) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

label! {
    /// The name of an edge: a DNS label in lower case, unique at its gateway, so that `shop-17` and
    /// `db.shop-17` work as host names of SSH clients.
    EdgeName, at most 63, else Label
}
label! {
    /// The name of a service of an edge: a DNS label in lower case.
    ServiceName, at most 63, else Label
}
label! {
    /// The name of a user: spelt as an edge's, and shorter, so that a list of what they did stays readable.
    UserName, at most 32, else UserName
}

/// RFC 1035 §2.3.1 as relaxed by RFC 1123 §2.1, in lower case only, of at most `most` characters.
fn is_label(text: &str, most: usize) -> bool {
    let bytes = text.as_bytes();
    (1..=most).contains(&bytes.len())
        && bytes.iter().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        && bytes.first() != Some(&b'-')
        && bytes.last() != Some(&b'-')
}

/// The unguessable key of an edge, 256 random bits; it travels in the join token. The gateway keeps only its
/// [`KeyDigest`].
#[derive(Clone, Eq)]
pub struct EdgeKey([u8; 32]);

impl PartialEq for EdgeKey {
    /// In the same time, whatever the keys have in common.
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl EdgeKey {
    /// A new key from the operating system's random source.
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// The key with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// What is stored of it. A plain SHA-256 is enough for a key of full entropy: there is nothing to guess.
    pub fn digest(&self) -> KeyDigest {
        KeyDigest::of(&self.0)
    }

    /// The 43 characters of base64url that stand for it in a token and a header.
    pub fn expose(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }
}

impl Drop for EdgeKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for EdgeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EdgeKey(***)")
    }
}

impl FromStr for EdgeKey {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let mut bytes = [0; 32];
        match URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) {
            Ok(32) => Ok(Self(bytes)),
            Ok(_) | Err(_) => Err(IdError::Key),
        }
    }
}

/// SHA-256 of a secret of full entropy (the key of an edge, an API token): enough to recognise it, useless to a thief.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KeyDigest(pub [u8; 32]);

impl KeyDigest {
    /// Digest of any secret of full entropy.
    pub fn of(secret: &[u8]) -> Self {
        Self(Sha256::digest(secret).into())
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dns_labels_are_names() {
        for good in ["a", "shop-17", "0", "a--b", &"x".repeat(63)] {
            assert!(good.parse::<EdgeName>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "ä", "a b", "a\n", &"x".repeat(64)] {
            assert_eq!(bad.parse::<ServiceName>(), Err(IdError::Label), "{bad:?}");
        }
        assert!("x".repeat(32).parse::<UserName>().is_ok());
        for bad in ["", "Ada", "ada lovelace", &"x".repeat(33)] {
            assert_eq!(bad.parse::<UserName>(), Err(IdError::UserName), "{bad:?}");
        }
    }

    #[test]
    fn key_survives_its_text_and_nothing_else_parses() {
        let key = EdgeKey::random();
        let text = key.expose();
        assert_eq!(text.len(), 43);
        assert_eq!(text.parse::<EdgeKey>(), Ok(key));
        for bad in [&text[1..], &format!("{text}A"), "", "not base64 at all, not even nearly so......"] {
            assert_eq!(bad.parse::<EdgeKey>(), Err(IdError::Key), "{bad:?}");
        }
    }

    #[test]
    fn debug_of_secrets_hides_them() {
        let (id, key) = (EdgeId::random(), EdgeKey::random());
        let shown = format!("{id:?} {key:?} {:?}", key.digest());
        assert_eq!(shown, "EdgeId(***) EdgeKey(***) KeyDigest(***)");
    }

    #[test]
    fn names_are_checked_when_they_come_from_json() {
        assert!(serde_json::from_str::<EdgeName>(r#""shop-17""#).is_ok());
        assert!(serde_json::from_str::<EdgeName>(r#""Shop 17""#).is_err());
    }
}
