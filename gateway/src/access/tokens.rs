//! API tokens: the way in for scripts and the command line, and a password for SSH.
//!
//! A token is `tga_` and 256 random bits; it is shown once, and the gateway keeps its SHA-256 only. The check is one
//! look-up by digest: what its time tells a stranger is about the digest, from which nothing leads back to a token.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use shared::id::KeyDigest;
use shared::secret::Secret;
use tokio::sync::Mutex;
use uuid::Uuid;

use super::{Credential, MAX_LABEL, Operator, is_label};
use crate::domain::authority::{Reach, Role};
use crate::domain::edge::{ApiToken, Change};
use crate::store::{Store, StoreError};

/// What every token begins with, so that people and secret scanners know one when they see it.
const PREFIX: &str = "tga_";
/// Far more than scripts and people need, and still nothing in memory.
const MAX_TOKENS: usize = 1000;

/// The API tokens. Cheap to clone.
#[derive(Clone)]
pub struct Tokens {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn Store>,
    /// Guards what the tokens are right now; never held across an await.
    by_digest: RwLock<HashMap<KeyDigest, ApiToken>>,
    /// Held while a change goes to the store, so that two changes can't both pass a check on the number of tokens.
    changing: Mutex<()>,
}

/// A freshly made token.
#[derive(Debug)]
pub struct NewToken {
    /// What is kept of it.
    pub record: ApiToken,
    /// The token itself: the only copy there is.
    pub token: Secret<String>,
}

/// Why a token is not made or not revoked.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// No usable label.
    #[error("a token's label must be 1 to {MAX_LABEL} characters without control characters")]
    Label,
    /// There are too many.
    #[error("there are {MAX_TOKENS} API tokens already; revoke some with DELETE /api/v1/tokens/ID")]
    TooMany,
    /// No token has this id.
    #[error("there is no API token with the id {0}; GET /api/v1/tokens lists them")]
    NoSuchToken(Uuid),
    /// Revoking it would lock everybody out.
    #[error("this is the last API token, and without one nobody could use the API; create another one first")]
    Last,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Tokens {
    /// The tokens that the store holds.
    pub fn load(tokens: Vec<ApiToken>, store: Arc<dyn Store>) -> Self {
        let by_digest = tokens.into_iter().map(|token| (token.digest, token)).collect();
        Self { inner: Arc::new(Inner { store, by_digest: RwLock::new(by_digest), changing: Mutex::new(()) }) }
    }

    /// Makes a token. It is durable before this returns.
    pub async fn create(&self, label: &str) -> Result<NewToken, TokenError> {
        if !is_label(label) {
            return Err(TokenError::Label);
        }
        let _changing = self.inner.changing.lock().await;
        if self.read().len() >= MAX_TOKENS {
            return Err(TokenError::TooMany);
        }
        let bytes: [u8; 32] = rand::random();
        let token = Secret::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)));
        let record = ApiToken {
            id: Uuid::new_v4(),
            label: label.to_owned(),
            digest: digest(token.expose()),
            created_at: SystemTime::now().into(),
        };
        self.inner.store.commit(vec![Change::PutToken(record.clone())]).await?;
        self.write().insert(record.digest, record.clone());
        Ok(NewToken { record, token })
    }

    /// All tokens, oldest first.
    pub fn list(&self) -> Vec<ApiToken> {
        let mut tokens: Vec<_> = self.read().values().cloned().collect();
        tokens.sort_by_key(|token| (token.created_at, token.id));
        tokens
    }

    /// Revokes a token: durable, and in force, before this returns.
    pub async fn revoke(&self, id: Uuid) -> Result<(), TokenError> {
        let _changing = self.inner.changing.lock().await;
        let (digest, count) = {
            let tokens = self.read();
            let token = tokens.values().find(|token| token.id == id).ok_or(TokenError::NoSuchToken(id))?;
            (token.digest, tokens.len())
        };
        if count == 1 {
            return Err(TokenError::Last);
        }
        self.inner.store.commit(vec![Change::DeleteToken(id)]).await?;
        self.write().remove(&digest);
        Ok(())
    }

    /// Whether `token` is one of these.
    pub fn check(&self, token: &str) -> bool {
        self.owner(token).is_some()
    }

    /// Who shows `token`, if it is one of these.
    pub fn owner(&self, token: &str) -> Option<Operator> {
        if !token.starts_with(PREFIX) {
            return None;
        }
        let tokens = self.read();
        tokens.get(&digest(token)).map(|token| Operator {
            name: token.label.clone(),
            user: None,
            credential: Credential::Token(token.id),
            role: Role::Admin,
            reach: Reach::all(),
        })
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, HashMap<KeyDigest, ApiToken>> {
        self.inner.by_digest.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<KeyDigest, ApiToken>> {
        self.inner.by_digest.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("count", &self.read().len()).finish()
    }
}

fn digest(token: &str) -> KeyDigest {
    KeyDigest(Sha256::digest(token).into())
}
