//! Everybody who may use the gateway, and by what they are recognised, as it is right now in memory.
//!
//! The rule: it changes by [`Book::apply`] only, with changes that are durable already ([`super::ledger`]), so that it is
//! at all times what a restart would read.

use std::collections::HashMap;

use shared::id::{KeyDigest, UserName};
use uuid::Uuid;

use super::{Credential, KnownKey, Operator, OperatorKey};
use crate::domain::authority::{Reach, Role};
use crate::domain::edge::{Change, Records, Timestamp};
use crate::domain::people::{ApiToken, Session, SshKey, User};

/// See the module's text.
#[derive(Default)]
pub(super) struct Book {
    users: HashMap<Uuid, User>,
    by_name: HashMap<UserName, Uuid>,
    tokens: HashMap<Uuid, ApiToken>,
    sessions: HashMap<Uuid, Session>,
    /// Of tokens and of sessions.
    by_digest: HashMap<KeyDigest, Credential>,
    ssh_keys: HashMap<Uuid, KnownKey>,
    /// By algorithm and base64.
    by_key: HashMap<String, Uuid>,
}

impl Book {
    /// Takes what is its own out of the records of a store.
    pub(super) fn take(records: &mut Records) -> Self {
        let mut book = Self::default();
        let users = std::mem::take(&mut records.users).into_iter().map(Change::PutUser);
        let sessions = std::mem::take(&mut records.sessions).into_iter().map(Change::PutSession);
        let tokens = std::mem::take(&mut records.tokens).into_iter().map(Change::PutToken);
        let ssh_keys = std::mem::take(&mut records.ssh_keys).into_iter().map(Change::PutSshKey);
        for change in users.chain(sessions).chain(tokens).chain(ssh_keys) {
            book.apply(change);
        }
        book
    }

    /// Follows a change that is durable.
    pub(super) fn apply(&mut self, change: Change) {
        match change {
            Change::PutUser(user) => {
                self.by_name.insert(user.name.clone(), user.id);
                self.users.insert(user.id, user);
            }
            Change::DeleteUser(id) => {
                if let Some(user) = self.users.remove(&id) {
                    self.by_name.remove(&user.name);
                }
            }
            Change::PutToken(token) => {
                self.by_digest.insert(token.digest, Credential::Token(token.id));
                self.tokens.insert(token.id, token);
            }
            Change::DeleteToken(id) => {
                if let Some(token) = self.tokens.remove(&id) {
                    self.by_digest.remove(&token.digest);
                }
            }
            Change::PutSession(session) => {
                self.by_digest.insert(session.digest, Credential::Session(session.id));
                self.sessions.insert(session.id, session);
            }
            Change::DeleteSession(id) => {
                if let Some(session) = self.sessions.remove(&id) {
                    self.by_digest.remove(&session.digest);
                }
            }
            Change::PutSshKey(record) => self.put_ssh_key(record),
            Change::DeleteSshKey(id) => {
                if let Some(known) = self.ssh_keys.remove(&id) {
                    self.by_key.remove(&known.record.key);
                }
            }
            Change::PutEdge(_) | Change::DeleteEdge(_) | Change::PutSettings(_) => {}
        }
    }

    fn put_ssh_key(&mut self, record: SshKey) {
        match OperatorKey::parse(&record.key) {
            Ok(key) => {
                self.by_key.insert(record.key.clone(), record.id);
                let fingerprint = key.fingerprint().to_owned();
                self.ssh_keys.insert(record.id, KnownKey { record, fingerprint });
            }
            Err(error) => {
                tracing::error!(key = %record.id, %error, "a stored SSH key can't be read and lets nobody in");
            }
        }
    }

    /// Who comes with this credential at this moment, and what they may. `None` where it counts no more.
    pub(super) fn operator(&self, credential: Credential, now: Timestamp) -> Option<Operator> {
        if self.expires_at(credential).is_some_and(|at| at <= now) {
            return None;
        }
        // What the credential itself allows.
        let (label, role, reach, owner) = match credential {
            Credential::Token(id) => {
                let token = self.tokens.get(&id)?;
                (&token.label, token.role, Reach::of(token.tags.as_deref()), token.owner)
            }
            Credential::SshKey(id) => {
                let SshKey { label, owner, .. } = &self.ssh_keys.get(&id)?.record;
                // Uses edges, and changes nothing.
                (label, Role::Operator, Reach::all(), *owner)
            }
            Credential::Session(id) => {
                let user = self.users.get(&self.sessions.get(&id)?.user)?;
                return Some(Operator {
                    name: user.name.to_string(),
                    user: Some(user.id),
                    credential,
                    role: user.role,
                    reach: Reach::of(user.tags.as_deref()),
                });
            }
        };
        let Some(owner) = owner else {
            return Some(Operator { name: label.clone(), user: None, credential, role, reach });
        };
        let owner = self.users.get(&owner)?;
        Some(Operator {
            name: owner.name.to_string(),
            user: Some(owner.id),
            credential,
            role: role.min(owner.role),
            reach: reach.and(Reach::of(owner.tags.as_deref())),
        })
    }

    /// When it ends by itself, if it does.
    pub(super) fn expires_at(&self, credential: Credential) -> Option<Timestamp> {
        match credential {
            Credential::Token(id) => self.tokens.get(&id)?.expires_at,
            Credential::SshKey(_) => None,
            Credential::Session(id) => Some(self.sessions.get(&id)?.expires_at),
        }
    }

    /// Which token or session has this digest.
    pub(super) fn by_digest(&self, digest: &KeyDigest) -> Option<Credential> {
        self.by_digest.get(digest).copied()
    }

    /// The SSH key with this algorithm and base64.
    pub(super) fn by_key(&self, canonical: &str) -> Option<&KnownKey> {
        self.ssh_keys.get(self.by_key.get(canonical)?)
    }

    /// The user of this name.
    pub(super) fn by_name(&self, name: &UserName) -> Option<&User> {
        self.users.get(self.by_name.get(name)?)
    }

    pub(super) fn user(&self, id: Uuid) -> Option<&User> {
        self.users.get(&id)
    }

    pub(super) fn users(&self) -> impl ExactSizeIterator<Item = &User> {
        self.users.values()
    }

    pub(super) fn token(&self, id: Uuid) -> Option<&ApiToken> {
        self.tokens.get(&id)
    }

    pub(super) fn tokens(&self) -> impl ExactSizeIterator<Item = &ApiToken> {
        self.tokens.values()
    }

    pub(super) fn sessions(&self) -> impl ExactSizeIterator<Item = &Session> {
        self.sessions.values()
    }

    pub(super) fn ssh_key(&self, id: Uuid) -> Option<&KnownKey> {
        self.ssh_keys.get(&id)
    }

    pub(super) fn ssh_keys(&self) -> impl ExactSizeIterator<Item = &KnownKey> {
        self.ssh_keys.values()
    }

    /// Whether somebody other than `except` can sign in and do everything.
    pub(super) fn has_admin_besides(&self, except: Option<Uuid>) -> bool {
        self.users().any(|user| user.is_unbound_admin() && user.password.is_some() && Some(user.id) != except)
    }
}
