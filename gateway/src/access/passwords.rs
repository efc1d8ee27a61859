//! Passwords: argon2id, off the runtime's threads, and only a few at a time.
//!
//! The rule: whoever asks for a check learns whether name and password belong together and nothing else; a name that
//! nobody has takes as long as one that somebody has.

use std::sync::Arc;

use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use shared::secret::Secret;
use tokio::sync::Semaphore;

/// OWASP's first choice for argon2id (Password Storage Cheat Sheet): 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// Hashes at a time: bounds what a flood of sign-ins takes to 40 MiB and two cores.
const AT_A_TIME: usize = 2;
/// Hashes that wait for their turn. At some 40 ms each, the last one waits for less than a second.
const WAITING: usize = 32;

/// Characters of a password. NIST SP 800-63B asks for 8 at least, and for room for 64.
const MIN_LENGTH: usize = 10;
const MAX_LENGTH: usize = 256;

/// A hash that no password is known to have, checked where there is no user.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Hashes passwords. Cheap to clone.
#[derive(Clone)]
pub(super) struct Passwords {
    working: Arc<Semaphore>,
    places: Arc<Semaphore>,
}

/// Why there is no hash of a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Too short or too long.
    #[error("a password must be {MIN_LENGTH} to {MAX_LENGTH} characters; a few words with spaces do well")]
    Length,
    /// Too many ask at once.
    #[error("too many sign in at this moment; try again in a second")]
    Busy,
}

impl Default for Passwords {
    fn default() -> Self {
        Self {
            working: Arc::new(Semaphore::new(AT_A_TIME)),
            places: Arc::new(Semaphore::new(AT_A_TIME + WAITING)),
        }
    }
}

impl Passwords {
    /// What is kept of a new password, in PHC form.
    pub(super) async fn hash(&self, password: Secret<String>) -> Result<String, PasswordError> {
        if !(MIN_LENGTH..=MAX_LENGTH).contains(&password.expose().chars().count()) {
            return Err(PasswordError::Length);
        }
        self.work(move || {
            let salt = SaltString::encode_b64(&rand::random::<[u8; 16]>())
                .expect("16 bytes are a salt's usual length");
            let hash = argon2().hash_password(password.expose().as_bytes(), &salt);
            hash.expect("the parameters are within argon2's bounds, which a test checks").to_string()
        })
        .await
    }

    /// Whether this is the password that `kept` is of. Without one it never is, and takes as long.
    pub(super) async fn verify(
        &self,
        password: Secret<String>,
        kept: Option<String>,
    ) -> Result<bool, PasswordError> {
        if password.expose().chars().count() > MAX_LENGTH {
            return Ok(false);
        }
        self.work(move || {
            let parsed = PasswordHash::new(kept.as_deref().unwrap_or(NOBODY));
            let fits = parsed.and_then(|hash| argon2().verify_password(password.expose().as_bytes(), &hash));
            fits.is_ok() && kept.is_some()
        })
        .await
    }

    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PasswordError> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| PasswordError::Busy)?;
        let turn = Arc::clone(&self.working).acquire_owned().await.map_err(|_| PasswordError::Busy)?;
        let done = tokio::task::spawn_blocking(move || {
            // Whoever asked may be gone; the work is not, and neither are its places.
            let _held = (place, turn);
            work()
        });
        done.await.map_err(|_| PasswordError::Busy)
    }
}

fn argon2() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).expect("a test checks these very constants");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_recognised_and_no_other_and_no_hash_is_like_another() {
        let passwords = Passwords::default();
        let hash = |text: &str| passwords.hash(Secret::from(text));
        let kept = hash("correct horse").await.expect("long enough");
        assert!(kept.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{kept}");
        assert_ne!(kept, hash("correct horse").await.expect("long enough"), "salted");
        let verify = |text: &str, kept: Option<&String>| passwords.verify(Secret::from(text), kept.cloned());
        assert_eq!(verify("correct horse", Some(&kept)).await, Ok(true));
        for wrong in ["correct horsf", "", &"x".repeat(300)] {
            assert_eq!(verify(wrong, Some(&kept)).await, Ok(false), "{wrong}");
        }
        assert_eq!(verify("correct horse", None).await, Ok(false));
        assert_eq!(verify("correct horse", Some(&"damaged".to_owned())).await, Ok(false));
    }

    #[tokio::test]
    async fn a_password_has_bounds_in_characters() {
        let passwords = Passwords::default();
        for (text, fits) in [
            ("x".repeat(9), false),
            ("é".repeat(10), true),
            ("x".repeat(256), true),
            ("x".repeat(257), false),
        ] {
            assert_eq!(passwords.hash(Secret::new(text)).await.is_ok(), fits);
        }
    }

    #[test]
    fn the_hash_of_nobody_costs_what_everybodys_costs() {
        let nobody = PasswordHash::new(NOBODY).expect("well-formed");
        let params = Params::try_from(&nobody).expect("of argon2");
        assert_eq!((params.m_cost(), params.t_cost(), params.p_cost()), (MEMORY_KIB, PASSES, LANES));
        assert_eq!(nobody.hash.map(|hash| hash.len()), Some(Params::DEFAULT_OUTPUT_LEN));
    }

    #[tokio::test]
    async fn a_flood_is_turned_away_and_does_not_pile_up() {
        let passwords = Passwords::default();
        let attempts = (0..2 * (AT_A_TIME + WAITING)).map(|_| passwords.hash(Secret::from("correct horse")));
        let outcomes = futures_util::future::join_all(attempts).await;
        let refused = outcomes.iter().filter(|outcome| **outcome == Err(PasswordError::Busy)).count();
        assert_eq!(refused, AT_A_TIME + WAITING);
    }
}
