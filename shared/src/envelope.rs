//! The credentials envelope: tunnel credentials, sealed so that only the holder of the edge ID can read them, and
//! only as the credentials of the offer that they were made for.
//!
//! base64url(salt 16 ‖ nonce 12 ‖ AES-256-GCM(`username:password`) ‖ tag 16), key = HKDF-SHA256 (RFC 5869) over the 16
//! bytes of the edge ID with that salt and [`INFO`]; associated data is the text of the offer id. Salt and nonce are
//! fresh for every envelope, so each key seals one message. Test vectors: `fixtures/golden/envelope.json`.

use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::id::{EdgeId, OfferId};
use crate::secret::Secret;

/// HKDF's info: binds the key to this use and this version.
pub const INFO: &[u8] = b"tidegate/v1 tunnel credentials";

const SALT: usize = 16;
const NONCE: usize = 12;
const TAG: usize = 16;
/// A user name and a password of ours take 76 bytes; anything far longer did not come from a gateway.
pub(crate) const MAX_SEALED: usize = 1024;

/// What a tunnel logs in with, once.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// SSH user name; no colon in it.
    pub username: String,
    /// SSH password.
    pub password: Secret<String>,
}

/// Why an envelope can't be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Not base64url, or of an impossible length.
    #[error("the credentials are malformed")]
    Malformed,
    /// Made for another edge ID or another offer, or changed on the way.
    #[error("the credentials were not sealed for this edge ID and this offer")]
    Unauthentic,
}

/// Seals `credentials` with a fresh salt and nonce.
pub fn seal(credentials: &Credentials, edge: &EdgeId, offer: &OfferId) -> String {
    seal_with(credentials, edge, offer, rand::random(), rand::random())
}

/// As [`seal`], with salt and nonce given: for test vectors. Never use a pair twice for one edge ID.
pub fn seal_with(
    credentials: &Credentials,
    edge: &EdgeId,
    offer: &OfferId,
    salt: [u8; SALT],
    nonce: [u8; NONCE],
) -> String {
    debug_assert!(!credentials.username.contains(':'), "the first colon ends the user name");
    let text = Zeroizing::new(format!("{}:{}", credentials.username, credentials.password.expose()));
    let offer = offer.to_string();
    let sealed = cipher(edge, &salt)
        .encrypt(&Nonce::from(nonce), Payload { msg: text.as_bytes(), aad: offer.as_bytes() })
        .expect("AES-GCM seals anything below 64 GiB");
    let mut envelope = Vec::with_capacity(SALT + NONCE + sealed.len());
    envelope.extend_from_slice(&salt);
    envelope.extend_from_slice(&nonce);
    envelope.extend_from_slice(&sealed);
    URL_SAFE_NO_PAD.encode(envelope)
}

/// Opens an envelope with the edge's own ID and the id of the offer that it came in.
pub fn open(envelope: &str, edge: &EdgeId, offer: &OfferId) -> Result<Credentials, EnvelopeError> {
    if envelope.len() > MAX_SEALED {
        return Err(EnvelopeError::Malformed);
    }
    let bytes = URL_SAFE_NO_PAD.decode(envelope).map_err(|_| EnvelopeError::Malformed)?;
    let Some((salt, rest)) = bytes.split_first_chunk::<SALT>() else { return Err(EnvelopeError::Malformed) };
    let Some((nonce, sealed)) = rest.split_first_chunk::<NONCE>() else {
        return Err(EnvelopeError::Malformed);
    };
    if sealed.len() < TAG {
        return Err(EnvelopeError::Malformed);
    }
    let offer = offer.to_string();
    let text = cipher(edge, salt)
        .decrypt(&Nonce::from(*nonce), Payload { msg: sealed, aad: offer.as_bytes() })
        .map(Zeroizing::new)
        .map_err(|_| EnvelopeError::Unauthentic)?;
    let text = str::from_utf8(&text).map_err(|_| EnvelopeError::Malformed)?;
    let (username, password) = text.split_once(':').ok_or(EnvelopeError::Malformed)?;
    Ok(Credentials { username: username.to_owned(), password: password.into() })
}

fn cipher(edge: &EdgeId, salt: &[u8; SALT]) -> Aes256Gcm {
    let mut key = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(Some(salt), edge.as_bytes())
        .expand(INFO, key.as_mut())
        .expect("32 bytes are one block of HKDF-SHA256");
    Aes256Gcm::new_from_slice(key.as_ref()).expect("AES-256 takes 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials() -> Credentials {
        Credentials { username: "u-1".into(), password: "pass:with:colons".into() }
    }

    #[test]
    fn sealed_credentials_open_for_the_same_edge_and_offer_only() {
        let (edge, offer) = (EdgeId::random(), OfferId::random());
        let sealed = seal(&credentials(), &edge, &offer);
        let opened = open(&sealed, &edge, &offer).expect("sealed for them");
        assert_eq!(opened.username, "u-1");
        assert_eq!(opened.password.expose(), "pass:with:colons");
        for (edge, offer) in [(EdgeId::random(), offer), (edge, OfferId::random())] {
            assert_eq!(open(&sealed, &edge, &offer).err(), Some(EnvelopeError::Unauthentic));
        }
    }

    #[test]
    fn two_envelopes_of_the_same_credentials_differ() {
        let (edge, offer) = (EdgeId::random(), OfferId::random());
        assert_ne!(seal(&credentials(), &edge, &offer), seal(&credentials(), &edge, &offer));
    }

    #[test]
    fn every_changed_or_missing_byte_is_noticed() {
        let (edge, offer) = (EdgeId::random(), OfferId::random());
        let sealed = URL_SAFE_NO_PAD.decode(seal(&credentials(), &edge, &offer)).expect("base64url");
        for position in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[position] ^= 1;
            assert!(open(&URL_SAFE_NO_PAD.encode(&changed), &edge, &offer).is_err(), "byte {position}");
            assert!(open(&URL_SAFE_NO_PAD.encode(&sealed[..position]), &edge, &offer).is_err());
        }
        assert_eq!(open("!", &edge, &offer).err(), Some(EnvelopeError::Malformed));
        assert_eq!(open(&"A".repeat(5000), &edge, &offer).err(), Some(EnvelopeError::Malformed));
    }
}
