//! How the gateway's two keys are pinned: the SSH host key as OpenSSH prints it, the TLS key as curl takes it.
//!
//! Both pin a public key, not a certificate, so that renewing a certificate with the same key breaks nobody's pin.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Why a text is no fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FingerprintError {
    /// Not in OpenSSH's form.
    #[error("not a host key fingerprint, which looks like SHA256:uNiVztksCsDhcc0u9e8BrF1z+...")]
    HostKey,
    /// Not in curl's form.
    #[error("not a TLS fingerprint, which looks like sha256//uNiVztksCsDhcc0u9e8BrF1z+...=")]
    Tls,
}

macro_rules! fingerprint {
    ($(#[$meta:meta])* $name:ident, $prefix:literal, $pattern:literal, $engine:expr, $error:expr) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name([u8; 32]);

        #[cfg(feature = "schema")]
        crate::schema::text! { $name, "pattern": $pattern }

        impl $name {
            /// The fingerprint with these 32 bytes of SHA-256.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// Its 32 bytes of SHA-256.
            pub fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), $engine.encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = FingerprintError;
            fn from_str(text: &str) -> Result<Self, FingerprintError> {
                let encoded = text.strip_prefix($prefix).ok_or($error)?;
                let bytes = $engine.decode(encoded).map_err(|_| $error)?;
                bytes.try_into().map(Self).map_err(|_| $error)
            }
        }

        impl TryFrom<String> for $name {
            type Error = FingerprintError;
            fn try_from(text: String) -> Result<Self, FingerprintError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(fingerprint: $name) -> Self {
                fingerprint.to_string()
            }
        }
    };
}

fingerprint! {
    /// SHA-256 of an SSH public key blob, written as `ssh-keygen -l` does: `SHA256:` and base64 without padding.
    HostKeyFingerprint, "SHA256:", "^SHA256:[A-Za-z0-9+/]{43}$", STANDARD_NO_PAD, FingerprintError::HostKey
}

fingerprint! {
    /// SHA-256 of a certificate's SubjectPublicKeyInfo (RFC 7469 §2.4), written as `curl --pinnedpubkey` takes it:
    /// `sha256//` and base64 with padding.
    TlsFingerprint, "sha256//", "^sha256//[A-Za-z0-9+/]{43}=$", STANDARD, FingerprintError::Tls
}

impl TlsFingerprint {
    /// Fingerprint of a SubjectPublicKeyInfo in DER.
    pub fn of_spki(der: &[u8]) -> Self {
        Self(Sha256::digest(der).into())
    }
}

impl HostKeyFingerprint {
    /// Fingerprint of an SSH public key.
    pub fn of(key: &russh::keys::PublicKey) -> Self {
        match key.fingerprint(russh::keys::HashAlg::Sha256) {
            russh::keys::ssh_key::Fingerprint::Sha256(bytes) => Self(bytes),
            other => unreachable!("asked for SHA-256, got {other}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_survive_their_text() {
        let host = HostKeyFingerprint::from_bytes([7; 32]);
        assert_eq!(host.to_string().parse(), Ok(host));
        let tls = TlsFingerprint::from_bytes([7; 32]);
        assert_eq!(tls.to_string().parse(), Ok(tls));
        assert!(tls.to_string().ends_with('='));
    }

    #[test]
    fn other_forms_are_refused() {
        for bad in ["", "SHA256:", "MD5:aa:bb", "SHA256:AAAA", "sha256//AAAA"] {
            assert!(bad.parse::<HostKeyFingerprint>().is_err(), "{bad}");
            assert!(bad.parse::<TlsFingerprint>().is_err(), "{bad}");
        }
    }

    #[test]
    fn host_key_fingerprint_is_the_one_that_ssh_keygen_prints() {
        // `ssh-keygen -lf` on this very key.
        let key = russh::keys::PublicKey::from_openssh(
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ",
        )
        .expect("a well-formed key");
        assert_eq!(
            HostKeyFingerprint::of(&key).to_string(),
            "SHA256:T7SvZ2cslqpPj6nKzitCBHHlpVF3r3MvLwmFL0fk0IE"
        );
    }
}
