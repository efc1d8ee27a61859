//! Operators' own SSH keys: the way in on port 8000 with stock OpenSSH.
//!
//! Only public keys are kept, and a key belongs to one operator: two labels for one key would leave it open whose login
//! it was.

use std::time::SystemTime;

use uuid::Uuid;

use super::ledger::Ledger;
use super::{MAX_LABEL, Operator, OperatorKey, OperatorKeyError, is_label};
use crate::domain::authority::{Reach, Role};
use crate::domain::edge::Change;
use crate::domain::people::SshKey;
use crate::store::StoreError;

/// Far more than a team has, and still nothing in memory.
const MAX_KEYS: usize = 1000;

/// Operators' SSH keys. Cheap to clone.
#[derive(Clone)]
pub struct SshKeys {
    ledger: Ledger,
}

/// A key that is known here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownKey {
    /// What is kept of it.
    pub record: SshKey,
    /// As `ssh-keygen -l` prints it.
    pub fingerprint: String,
}

/// Whose a new key is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// That of whoever adds it.
    Maker,
    /// This user's.
    User(Uuid),
    /// Nobody's in particular: it lets in whoever has it, to use every edge.
    Nobody,
}

/// Why a key is not added or not removed.
#[derive(Debug, thiserror::Error)]
pub enum SshKeyError {
    /// No usable label.
    #[error("a key's label must be 1 to {MAX_LABEL} characters without control characters")]
    Label,
    /// No usable key.
    #[error(transparent)]
    Key(#[from] OperatorKeyError),
    /// It is there already.
    #[error(
        "this key is there already, as {label:?} with the id {id}; to give it another label, remove it first"
    )]
    Known {
        /// Its id.
        id: Uuid,
        /// Its label.
        label: String,
    },
    /// There are too many.
    #[error("there are {MAX_KEYS} SSH keys already; remove some with DELETE /api/v1/ssh-keys/ID")]
    TooMany,
    /// It would allow more than whoever adds it may.
    #[error(
        "an SSH key lets its owner use all edges that they reach, and you, or the token that you use, may not so much; \
         ask an admin"
    )]
    More,
    /// Whoever adds it is no user.
    #[error(
        "this token is no user's and not an admin's over all edges, so it adds no keys; sign in as a user"
    )]
    Nobody,
    /// No key has this id, or it is somebody else's.
    #[error("there is no SSH key with the id {0}; GET /api/v1/ssh-keys lists them")]
    NoSuchKey(Uuid),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl SshKeys {
    pub(super) fn new(ledger: Ledger) -> Self {
        Self { ledger }
    }

    /// Adds the key that is in `line`, which is that of a `.pub` file, on behalf of `by`: for themselves if they are a
    /// user; for anybody, or nobody in particular, as who may everything says in `owner`. It is durable before this
    /// returns.
    pub async fn add(
        &self,
        by: &Operator,
        owner: Owner,
        label: &str,
        line: &str,
    ) -> Result<KnownKey, SshKeyError> {
        if !is_label(label) {
            return Err(SshKeyError::Label);
        }
        let key = OperatorKey::parse(line)?;
        let owner = match owner {
            Owner::Maker if by.user.is_none() && !by.may_everything() => return Err(SshKeyError::Nobody),
            Owner::Maker => by.user,
            Owner::User(owner) => Some(owner),
            Owner::Nobody => None,
        };
        let turn = self.ledger.turn().await?;
        self.ledger.read(|book| {
            if let Some(KnownKey { record, .. }) = book.by_key(key.canonical()) {
                return Err(SshKeyError::Known { id: record.id, label: record.label.clone() });
            }
            if book.ssh_keys().len() >= MAX_KEYS {
                return Err(SshKeyError::TooMany);
            }
            let owner = owner.and_then(|owner| book.user(owner));
            let reach = owner.map_or_else(Reach::all, |user| Reach::of(user.tags.as_deref()));
            let role = owner.map_or(Role::Operator, |user| user.role.min(Role::Operator));
            if role <= by.role && reach.is_within(&by.reach) { Ok(()) } else { Err(SshKeyError::More) }
        })?;
        let record = SshKey {
            id: Uuid::new_v4(),
            label: label.to_owned(),
            key: key.canonical().to_owned(),
            created_at: SystemTime::now().into(),
            owner,
        };
        turn.commit(vec![Change::PutSshKey(record.clone())]).await?;
        Ok(KnownKey { record, fingerprint: key.fingerprint().to_owned() })
    }

    /// The keys that `viewer` may see and remove, oldest first: their own, and everybody's for who may everything.
    pub fn visible_to(&self, viewer: &Operator) -> Vec<KnownKey> {
        let mut keys: Vec<_> =
            self.ledger.read(|book| book.ssh_keys().filter(|key| is_visible(key, viewer)).cloned().collect());
        keys.sort_by_key(|key| (key.record.created_at, key.record.id));
        keys
    }

    /// Whether a key lets this operator in by SSH: one of their own, or one that is nobody's for whoever has no user either.
    pub fn lets_in(&self, operator: &Operator) -> bool {
        self.ledger.read(|book| book.ssh_keys().any(|key| key.record.owner == operator.user))
    }

    /// Removes a key that `by` may see: durable, and no login with it succeeds, before this returns.
    pub async fn remove(&self, by: &Operator, id: Uuid) -> Result<(), SshKeyError> {
        let turn = self.ledger.turn().await?;
        if !self.ledger.read(|book| book.ssh_key(id).is_some_and(|key| is_visible(key, by))) {
            return Err(SshKeyError::NoSuchKey(id));
        }
        turn.commit(vec![Change::DeleteSshKey(id)]).await?;
        Ok(())
    }
}

fn is_visible(key: &KnownKey, viewer: &Operator) -> bool {
    viewer.may_everything() || (viewer.user.is_some() && viewer.user == key.record.owner)
}
