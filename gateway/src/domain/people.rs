//! What the gateway knows durably of those who use it: users, and the credentials by which they come. Plain values, none
//! of which is a secret: of passwords, tokens and cookies only what recognises them is here.
//!
//! The rule: a credential says what it allows at most. What it allows at a moment is decided when it is shown, together
//! with its owner's role and reach ([`crate::access`]).

use shared::id::{KeyDigest, UserName};
use uuid::Uuid;

use super::authority::Role;
use super::edge::Timestamp;

/// A person who uses the gateway.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// Never changes, and is never given again.
    pub id: Uuid,
    /// Unique; what they sign in with.
    pub name: UserName,
    /// What is kept of their password: argon2id in PHC form. Without one they can't sign in, and use keys and tokens.
    pub password: Option<String>,
    /// What they may do.
    pub role: Role,
    /// The edges that they reach: those with one of these tags. `None` is every edge.
    pub tags: Option<Vec<String>>,
    /// When the record was made.
    pub created_at: Timestamp,
}

/// A browser that signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Public id.
    pub id: Uuid,
    /// What is kept of its cookie.
    pub digest: KeyDigest,
    /// Who signed in.
    pub user: Uuid,
    /// When.
    pub created_at: Timestamp,
    /// From then on it counts no more, whatever was done with it.
    pub expires_at: Timestamp,
}

/// A token of the admin API. The token itself is shown once and never kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiToken {
    /// Public id, to list and revoke it by.
    pub id: Uuid,
    /// What it is for, in its owner's words.
    pub label: String,
    /// What is kept of it.
    pub digest: KeyDigest,
    /// When it was made.
    pub created_at: Timestamp,
    /// What it allows at most.
    pub role: Role,
    /// To which edges at most: those with one of these tags. `None` is every edge.
    pub tags: Option<Vec<String>>,
    /// From then on it counts no more.
    pub expires_at: Option<Timestamp>,
    /// Whose it is: it never allows more than they may, and goes when they go. `None` is nobody's, as the first one's.
    pub owner: Option<Uuid>,
}

/// An operator's own SSH key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshKey {
    /// Public id, to list and remove it by.
    pub id: Uuid,
    /// Whose it is, in its owner's words.
    pub label: String,
    /// Public key as OpenSSH writes it, without a comment: algorithm, space, base64.
    pub key: String,
    /// When it was added.
    pub created_at: Timestamp,
    /// Whose it is: it never allows more than they may, and goes when they go. `None` is nobody's in particular.
    pub owner: Option<Uuid>,
}

impl User {
    /// What a change of them may depend on: what they may. Their password is no part of it, so that nothing made of it
    /// is ever shown.
    pub fn changeable(&self) -> impl std::hash::Hash + '_ {
        (self.id, self.role, &self.tags)
    }

    /// Whether they may do everything: what must never end for the last who can.
    pub fn is_unbound_admin(&self) -> bool {
        self.role == Role::Admin && self.tags.is_none()
    }
}

impl std::fmt::Debug for User {
    /// Without what is kept of the password: it is of use to whoever guesses.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("role", &self.role)
            .field("tags", &self.tags)
            .finish_non_exhaustive()
    }
}
