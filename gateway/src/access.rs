//! Who may use the gateway: users, and the credentials by which they come: passwords, sessions, API tokens, SSH keys.
//!
//! | room | what lives there |
//! | --- | --- |
//! | [`book`], [`ledger`] | what is in force, and how it changes: durable first |
//! | [`users`], [`tokens`], [`ssh_keys`], [`sessions`] | each kind, with its rules and limits |
//! | [`public_key`] | what is an operator's public key |
//! | [`sign_in`], [`passwords`], [`throttle`] | from a name and a password to a user; the first run |
//!
//! What is let in where is the business of the doors: `crate::http::guard` and [`crate::ssh`]. The rule: a credential
//! counts from the moment its creation is durable to the moment its revocation is; what it allows is decided anew each
//! time it is shown, and what was begun with it ends when that changes ([`Access::ended`]). The answer for one that is
//! not known never depends on how much of it is right.

mod book;
mod ledger;
mod passwords;
mod public_key;
mod sessions;
mod sign_in;
mod ssh_keys;
mod throttle;
mod tokens;
mod users;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use shared::id::{KeyDigest, UserName};
use shared::secret::Secret;
use uuid::Uuid;

use crate::admission::Source;
use crate::domain::authority::{Reach, Role};
use crate::domain::edge::{Records, Timestamp};
use crate::domain::people::User;
use crate::store::Store;

pub use passwords::PasswordError;
pub use public_key::{OperatorKey, OperatorKeyError};
pub use sessions::{NewSession, SESSION_LIFE, Sessions};
pub use sign_in::{SetUpError, SignInError, whole_seconds};
pub use ssh_keys::{KnownKey, Owner, SshKeyError, SshKeys};
pub use tokens::{NewToken, TokenError, TokenSpec, Tokens};
pub use users::{ChangeUser, NewUser, UserError, Users};

use ledger::Ledger;
use passwords::Passwords;
use sign_in::Door;
use throttle::SourceThrottle;

/// Longest label of a credential, in characters: a line in a list.
const MAX_LABEL: usize = 100;

/// How often the end of a credential is looked for by the clock of the wall, which may jump; nothing is told to us then.
const LOOK: Duration = Duration::from_secs(30);

/// All users and credentials. Cheap to clone.
#[derive(Clone)]
pub struct Access {
    ledger: Ledger,
    passwords: Passwords,
    door: Door,
    /// Guards how often tokens were tried over SSH.
    token_throttle: Arc<Mutex<SourceThrottle>>,
}

/// Somebody who showed a valid credential, with what it allowed at that moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// Of the user, or the label of a credential that is no user's.
    pub name: String,
    /// Whose credential it is, if it is a user's.
    pub user: Option<Uuid>,
    /// What was shown.
    pub credential: Credential,
    /// What they may do.
    pub role: Role,
    /// To which edges.
    pub reach: Reach,
}

/// What somebody showed, by its public id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Credential {
    /// An API token.
    Token(Uuid),
    /// An SSH key.
    SshKey(Uuid),
    /// The cookie of a browser that signed in.
    Session(Uuid),
}

/// Why what an operator has open must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The credential counts no more: revoked, expired, signed out, or its owner is gone.
    Revoked,
    /// It allows something else than it did.
    Changed,
}

impl Ending {
    /// For the operator's client.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Revoked => "the credential was revoked or has expired; log in with another one",
            Self::Changed => "your role or your tags were changed; connect again",
        }
    }
}

impl Operator {
    /// Whether there is nothing that they may not: an admin over all edges.
    pub fn may_everything(&self) -> bool {
        self.role == Role::Admin && self.reach.is_all()
    }
}

impl Access {
    /// Takes users and credentials out of the records that `store` holds.
    pub fn load(records: &mut Records, store: Arc<dyn Store>) -> Self {
        let ledger = Ledger::open(records, store);
        let passwords = Passwords::default();
        let door =
            Door::new(ledger.clone(), Users::new(ledger.clone(), passwords.clone()), passwords.clone());
        Self { ledger, passwords, door, token_throttle: Arc::default() }
    }

    /// The users.
    pub fn users(&self) -> Users {
        Users::new(self.ledger.clone(), self.passwords.clone())
    }

    /// The API tokens.
    pub fn tokens(&self) -> Tokens {
        Tokens::new(self.ledger.clone())
    }

    /// The SSH keys.
    pub fn ssh_keys(&self) -> SshKeys {
        SshKeys::new(self.ledger.clone())
    }

    /// The sessions.
    pub fn sessions(&self) -> Sessions {
        Sessions::new(self.ledger.clone())
    }

    /// Whose API token this is, and what it allows now.
    pub fn by_token(&self, token: &str) -> Option<Operator> {
        self.by_secret(token, tokens::PREFIX)
    }

    /// As [`Self::by_token`], for a password of an SSH login, where nothing else bounds how often it is tried.
    pub fn by_ssh_password(&self, password: &str, from: IpAddr) -> Option<Operator> {
        if !password.starts_with(tokens::PREFIX) {
            return None;
        }
        let throttle = || self.token_throttle.lock().unwrap_or_else(PoisonError::into_inner);
        if throttle().attempt(from.into(), Instant::now()).is_err() {
            tracing::debug!(peer = %from, "an SSH login was refused: too many wrong tokens from there");
            return None;
        }
        let operator = self.by_token(password)?;
        throttle().succeeded(Source::from(from));
        Some(operator)
    }

    /// Whose session this cookie's value is.
    pub fn by_session(&self, cookie: &str) -> Option<Operator> {
        self.by_secret(cookie, sessions::PREFIX)
    }

    /// Whose public key this is. That its owner is there, a signature must have shown.
    pub fn by_ssh_key(&self, key: &russh::keys::PublicKey) -> Option<Operator> {
        let canonical = public_key::canonical(key.key_data())?;
        self.ledger.read(|book| {
            let id = book.by_key(&canonical)?.record.id;
            book.operator(Credential::SshKey(id), now())
        })
    }

    /// Who comes with this credential now.
    pub fn operator(&self, credential: Credential) -> Option<Operator> {
        self.ledger.read(|book| book.operator(credential, now()))
    }

    /// When a credential ends by itself, if it does.
    pub fn expires_at(&self, credential: Credential) -> Option<Timestamp> {
        self.ledger.read(|book| book.expires_at(credential))
    }

    /// Whether a user of this name and password is there, and a session for their browser.
    pub async fn sign_in(
        &self,
        name: &str,
        password: Secret<String>,
        from: IpAddr,
    ) -> Result<(User, NewSession), SignInError> {
        let user = self.door.sign_in(name, password, from).await?;
        let session = self.sessions().begin(&user).await?.ok_or(SignInError::Wrong)?;
        Ok((user, session))
    }

    /// As [`Self::sign_in`], for whoever goes on with an API token of theirs instead of a cookie. The user's own bounds
    /// are the token's.
    pub async fn log_in(
        &self,
        name: &str,
        password: Secret<String>,
        from: IpAddr,
        spec: TokenSpec,
    ) -> Result<NewToken, LogInError> {
        let user = self.door.sign_in(name, password, from).await?;
        Ok(self.tokens().create_at_log_in(&user, spec).await?)
    }

    /// Whether this is the user's password. Counts as an attempt to sign in.
    pub async fn knows_password(
        &self,
        name: &UserName,
        password: Secret<String>,
        from: IpAddr,
    ) -> Result<(), SignInError> {
        self.door.sign_in(name.as_str(), password, from).await.map(drop)
    }

    /// The code with which the first user is made, while there is no user. A secret for whoever reads the gateway's log.
    pub fn set_up_code(&self) -> Option<Secret<String>> {
        self.door.set_up_code()
    }

    /// Makes the first user for whoever knows the code.
    pub async fn set_up(
        &self,
        code: &Secret<String>,
        name: UserName,
        password: Secret<String>,
        from: IpAddr,
    ) -> Result<User, SetUpError> {
        self.door.set_up(code, name, password, from).await
    }

    /// Completes when what `operator` has open must end: their credential counts no more, or allows something else than
    /// it did when it was shown.
    pub async fn ended(&self, operator: &Operator) -> Ending {
        let mut changes = self.ledger.changes();
        loop {
            changes.mark_unchanged();
            match self.operator(operator.credential) {
                None => return Ending::Revoked,
                Some(now) if now.role != operator.role || now.reach != operator.reach => {
                    return Ending::Changed;
                }
                Some(_) => {}
            }
            tokio::select! {
                // The ledger is ours, so the sender is there.
                _ = changes.changed() => {}
                () = tokio::time::sleep(self.next_look(operator.credential)) => {}
            }
        }
    }

    /// As [`Self::ended`], for whoever outlives the borrow.
    pub fn until_ended(&self, operator: Operator) -> impl Future<Output = ()> + Send + 'static {
        let access = self.clone();
        async move {
            let ending = access.ended(&operator).await;
            tracing::info!(
                operator = operator.name,
                reason = ending.reason(),
                "cut what an operator had open"
            );
        }
    }

    fn next_look(&self, credential: Credential) -> Duration {
        let left = self.expires_at(credential).map(|at| at.since(now()));
        left.map_or(LOOK, |left| left.min(LOOK))
    }

    fn by_secret(&self, secret: &str, prefix: &str) -> Option<Operator> {
        if !secret.starts_with(prefix) {
            return None;
        }
        let digest = KeyDigest::of(secret.as_bytes());
        self.ledger.read(|book| book.operator(book.by_digest(&digest)?, now()))
    }
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Access")
    }
}

/// Why somebody gets no token for their password.
#[derive(Debug, thiserror::Error)]
pub enum LogInError {
    /// They did not get in.
    #[error(transparent)]
    SignIn(#[from] SignInError),
    /// The token can't be.
    #[error(transparent)]
    Token(#[from] TokenError),
}

fn now() -> Timestamp {
    SystemTime::now().into()
}

fn is_label(label: &str) -> bool {
    (1..=MAX_LABEL).contains(&label.chars().count()) && !label.chars().any(char::is_control)
}

#[cfg(test)]
mod tests;
