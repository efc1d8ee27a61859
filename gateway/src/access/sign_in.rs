//! Signing in: from a name and a password to a user, and the first run, when there is no user yet.
//!
//! The rule: a wrong name and a wrong password are one answer, given in one time, and both count.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use shared::id::UserName;
use shared::secret::Secret;
use subtle::ConstantTimeEq as _;

use super::ledger::Ledger;
use super::passwords::{PasswordError, Passwords};
use super::throttle::{SignInThrottle, SourceThrottle};
use super::users::{UserError, Users};
use crate::admission::Source;
use crate::domain::people::User;
use crate::store::StoreError;

/// Letters of the set-up code: Crockford's base 32, without those that people mix up.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Random characters of the code, 80 bits, which nobody guesses at a few tries an hour; and how they are grouped.
const CODE_LENGTH: usize = 16;
const CODE_GROUP: usize = 4;

/// Checks passwords and the set-up code. Cheap to clone.
#[derive(Clone)]
pub(super) struct Door {
    ledger: Ledger,
    users: Users,
    passwords: Passwords,
    /// Guards how often was tried; never held across an await.
    throttle: Arc<Mutex<SignInThrottle>>,
    set_up: Arc<SetUp>,
}

struct SetUp {
    /// Of this life of the process; good for as long as there is no user.
    code: Secret<String>,
    /// Guards how often was tried.
    throttle: Mutex<SourceThrottle>,
}

/// Why somebody is not signed in.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// Name or password is wrong; nobody is told which.
    #[error("name or password is wrong; an admin can set a new password")]
    Wrong,
    /// Too many attempts.
    #[error("too many attempts from here or on this account; try again in {} s", whole_seconds(*.0))]
    TooMany(Duration),
    /// Too many at once.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why the first user is not made.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    /// The code is wrong.
    #[error(
        "this is not the set-up code; the gateway's log shows it at its start, and each start has another"
    )]
    WrongCode,
    /// Too many attempts.
    #[error("too many wrong codes from here; try again in {} s", whole_seconds(*.0))]
    TooMany(Duration),
    /// There is no user to be made, or it can't be.
    #[error(transparent)]
    User(#[from] UserError),
}

impl Door {
    pub(super) fn new(ledger: Ledger, users: Users, passwords: Passwords) -> Self {
        let set_up = SetUp { code: new_code(), throttle: Mutex::default() };
        Self { ledger, users, passwords, throttle: Arc::default(), set_up: Arc::new(set_up) }
    }

    /// The user whose name and password these are.
    pub(super) async fn sign_in(
        &self,
        name: &str,
        password: Secret<String>,
        from: IpAddr,
    ) -> Result<User, SignInError> {
        // A text that can be nobody's name is tried all the same, under a name of its own.
        let name: UserName = name.parse().unwrap_or_else(|_| NO_NAME.parse().expect("a label"));
        let source = Source::from(from);
        self.throttle().attempt(&name, source, Instant::now()).map_err(SignInError::TooMany)?;
        let user = self.ledger.read(|book| book.by_name(&name).cloned());
        let kept = user.as_ref().and_then(|user| user.password.clone());
        let fits = self.passwords.verify(password, kept).await?;
        match user.filter(|_| fits) {
            Some(user) => {
                self.throttle().succeeded(&name, source, Instant::now());
                Ok(user)
            }
            None => {
                tracing::warn!(user = %name, peer = %from, "a sign-in was refused: wrong name or password");
                Err(SignInError::Wrong)
            }
        }
    }

    /// The code that makes the first user, while there is none.
    pub(super) fn set_up_code(&self) -> Option<Secret<String>> {
        self.ledger.read(|book| book.users().len() == 0).then(|| self.set_up.code.clone())
    }

    /// Makes the first user, who may everything, for whoever knows the code.
    pub(super) async fn set_up(
        &self,
        code: &Secret<String>,
        name: UserName,
        password: Secret<String>,
        from: IpAddr,
    ) -> Result<User, SetUpError> {
        if self.set_up_code().is_none() {
            return Err(UserError::NotFirst.into());
        }
        let source = Source::from(from);
        let attempts = || self.set_up.throttle.lock().unwrap_or_else(PoisonError::into_inner);
        attempts().attempt(source, Instant::now()).map_err(SetUpError::TooMany)?;
        if !is_code(code, &self.set_up.code) {
            tracing::warn!(peer = %from, "a set-up was refused: wrong code");
            return Err(SetUpError::WrongCode);
        }
        attempts().succeeded(source);
        Ok(self.users.create_first(name, password).await?)
    }

    fn throttle(&self) -> std::sync::MutexGuard<'_, SignInThrottle> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As `retry-after` counts; who waits for them has waited enough.
pub fn whole_seconds(wait: Duration) -> u32 {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

/// Stands for all that is no name, where attempts are counted. Longer than a person's name would be, and should there be
/// one of this name, strangers slow it down as they could any other.
const NO_NAME: &str = "not-a-name";

fn new_code() -> Secret<String> {
    let random: [u8; CODE_LENGTH] = rand::random();
    let letters: Vec<u8> = random.iter().map(|byte| ALPHABET[usize::from(byte % 32)]).collect();
    let groups =
        letters.chunks(CODE_GROUP).map(|group| group.iter().copied().map(char::from).collect::<String>());
    Secret::new(groups.collect::<Vec<_>>().join("-"))
}

/// Whether somebody means `code`: case, hyphens and blanks don't count, and letters that look alike are alike.
fn is_code(given: &Secret<String>, code: &Secret<String>) -> bool {
    let plain = |text: &Secret<String>| {
        let letters = text.expose().chars().filter(|c| !c.is_whitespace() && *c != '-');
        Secret::new(letters.map(alike).collect::<String>())
    };
    plain(given).expose().as_bytes().ct_eq(plain(code).expose().as_bytes()).into()
}

fn alike(letter: char) -> char {
    match letter.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_recognised_however_people_write_it() {
        let code = Secret::from("0AB1-CDEF-GHJK-MNPQ");
        for (given, right) in [
            ("0AB1-CDEF-GHJK-MNPQ", true),
            ("oabl cdef ghjk mnpq", true),
            ("0ab1cdefghjkmnpq\n", true),
            ("0AB1-CDEF-GHJK-MNPR", false),
            ("0AB1-CDEF-GHJK", false),
            ("", false),
        ] {
            assert_eq!(is_code(&Secret::from(given), &code), right, "{given}");
        }
    }

    #[test]
    fn codes_have_four_groups_of_four_and_are_never_the_same() {
        let code = new_code();
        assert_eq!(code.expose().len(), 19);
        assert!(code.expose().split('-').all(|group| group.len() == CODE_GROUP));
        assert_ne!(code.expose(), new_code().expose());
    }
}
