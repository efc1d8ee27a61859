//! Who may use the gateway as an operator: API tokens, and operators' own SSH keys.
//!
//! What is let in where is the business of the doors: [`crate::http::auth`] and [`crate::ssh`]. The rule: a credential
//! counts from the moment its creation is durable to the moment its revocation is, and the answer for one that is not
//! known never depends on how much of it is right.

mod public_key;
mod ssh_keys;
mod tokens;

use uuid::Uuid;

use crate::domain::authority::{Reach, Role};

pub use public_key::{OperatorKey, OperatorKeyError};
pub use ssh_keys::{KnownKey, SshKeyError, SshKeys};
pub use tokens::{NewToken, TokenError, Tokens};

/// Longest label of a credential, in characters: a line in a list.
const MAX_LABEL: usize = 100;

/// All credentials of operators. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Access {
    tokens: Tokens,
    ssh_keys: SshKeys,
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

impl Access {
    /// Both kinds of credentials together.
    pub fn new(tokens: Tokens, ssh_keys: SshKeys) -> Self {
        Self { tokens, ssh_keys }
    }

    /// The API tokens.
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// The SSH keys.
    pub fn ssh_keys(&self) -> &SshKeys {
        &self.ssh_keys
    }

    /// Whose API token this is.
    pub fn by_token(&self, token: &str) -> Option<Operator> {
        self.tokens.owner(token)
    }

    /// Whose public key this is. That its owner is there, a signature must have shown.
    pub fn by_ssh_key(&self, key: &russh::keys::PublicKey) -> Option<Operator> {
        self.ssh_keys.owner(key)
    }
}

fn is_label(label: &str) -> bool {
    (1..=MAX_LABEL).contains(&label.chars().count()) && !label.chars().any(char::is_control)
}
