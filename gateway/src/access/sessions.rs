//! Sessions: browsers that signed in. A session is a cookie of 256 random bits, of which the gateway keeps the SHA-256.
//!
//! Durable, so that a restart of the gateway signs nobody out. The rule: a session ends at its time whatever happens,
//! and before that with its sign-out, its user's new password or its user.

use std::time::{Duration, SystemTime};

use shared::secret::Secret;
use uuid::Uuid;

use super::ledger::Ledger;
use super::tokens::new_secret;
use crate::domain::edge::{Change, Timestamp};
use crate::domain::people::{Session, User};
use crate::store::StoreError;

/// What every session's cookie begins with, so that secret scanners know one when they see it.
pub(super) const PREFIX: &str = "tgs_";
/// From sign-in to the next one, however busy it was: a working day.
pub const SESSION_LIFE: Duration = Duration::from_secs(12 * 60 * 60);
/// Browsers of one user; the oldest is signed out for the one beyond.
const MAX_PER_USER: usize = 20;
/// Sessions in all; the oldest makes place. Five times the browsers of a thousand users, and a few MiB.
const MAX_SESSIONS: usize = 5000;

/// The sessions. Cheap to clone.
#[derive(Clone)]
pub struct Sessions {
    ledger: Ledger,
}

/// A browser that has just signed in.
#[derive(Debug)]
pub struct NewSession {
    /// What is kept of it.
    pub record: Session,
    /// Value of its cookie: the only copy there is.
    pub cookie: Secret<String>,
}

impl Sessions {
    pub(super) fn new(ledger: Ledger) -> Self {
        Self { ledger }
    }

    /// Begins a session of a user as they were when they proved who they are. `None` if they have changed since: their
    /// password may be another, or they may be gone.
    pub(super) async fn begin(&self, user: &User) -> Result<Option<NewSession>, StoreError> {
        let turn = self.ledger.turn().await?;
        let now: Timestamp = SystemTime::now().into();
        if self.ledger.read(|book| book.user(user.id).is_none_or(|now| now.password != user.password)) {
            return Ok(None);
        }
        let mut batch: Vec<_> = self.ended(user.id, now).into_iter().map(Change::DeleteSession).collect();
        let (cookie, digest) = new_secret(PREFIX);
        let (id, expires_at) = (Uuid::new_v4(), now.after(SESSION_LIFE));
        let record = Session { id, digest, user: user.id, created_at: now, expires_at };
        batch.push(Change::PutSession(record.clone()));
        turn.commit(batch).await?;
        Ok(Some(NewSession { record, cookie }))
    }

    /// Signs a browser out: durable, and in force, before this returns. One that is signed out already stays so.
    pub async fn end(&self, id: Uuid) -> Result<(), StoreError> {
        self.ledger.turn().await?.commit(vec![Change::DeleteSession(id)]).await
    }

    /// Those that are over, and those that make place for one more of `user`.
    fn ended(&self, user: Uuid, now: Timestamp) -> Vec<Uuid> {
        let mut sessions: Vec<(Timestamp, Uuid, Uuid)> = self.ledger.read(|book| {
            book.sessions().map(|session| (session.expires_at, session.id, session.user)).collect()
        });
        // All live equally long: the first to end is the oldest.
        sessions.sort();
        let (mut of_user, mut in_all) = (0, 0);
        let ended = sessions.into_iter().rev().filter_map(|(expires_at, id, owner)| {
            in_all += 1;
            of_user += usize::from(owner == user);
            let crowded = in_all >= MAX_SESSIONS || (owner == user && of_user >= MAX_PER_USER);
            (expires_at <= now || crowded).then_some(id)
        });
        ended.collect()
    }
}
