//! Operators' own SSH keys: the way in on port 8000 with stock OpenSSH.
//!
//! Only public keys are kept, and a key belongs to one operator: two labels for one key would leave it open whose login
//! it was.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use russh::keys::PublicKey;
use tokio::sync::Mutex;
use uuid::Uuid;

use super::public_key::canonical;
use super::{Credential, MAX_LABEL, Operator, OperatorKey, OperatorKeyError, is_label};
use crate::domain::authority::{Reach, Role};
use crate::domain::edge::{Change, SshKey};
use crate::store::{Store, StoreError};

/// Far more than a team has, and still nothing in memory.
const MAX_KEYS: usize = 1000;

/// Operators' SSH keys. Cheap to clone.
#[derive(Clone)]
pub struct SshKeys {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn Store>,
    /// Guards what the keys are right now, by algorithm and base64; never held across an await.
    by_key: RwLock<HashMap<String, KnownKey>>,
    /// Held while a change goes to the store, so that two changes can't both pass a check.
    changing: Mutex<()>,
}

/// A key that is known here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownKey {
    /// What is kept of it.
    pub record: SshKey,
    /// As `ssh-keygen -l` prints it.
    pub fingerprint: String,
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
    /// No key has this id.
    #[error("there is no SSH key with the id {0}; GET /api/v1/ssh-keys lists them")]
    NoSuchKey(Uuid),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl SshKeys {
    /// The keys that the store holds.
    pub fn load(keys: Vec<SshKey>, store: Arc<dyn Store>) -> Self {
        let known = keys.into_iter().filter_map(|record| match OperatorKey::parse(&record.key) {
            Ok(key) => Some((key.canonical().to_owned(), KnownKey::new(record, &key))),
            Err(error) => {
                tracing::error!(key = %record.id, %error, "a stored SSH key can't be read and lets nobody in");
                None
            }
        });
        let by_key = known.collect();
        Self { inner: Arc::new(Inner { store, by_key: RwLock::new(by_key), changing: Mutex::new(()) }) }
    }

    /// Adds the key that is in `line`, which is that of a `.pub` file. It is durable before this returns.
    pub async fn add(&self, label: &str, line: &str) -> Result<KnownKey, SshKeyError> {
        if !is_label(label) {
            return Err(SshKeyError::Label);
        }
        let key = OperatorKey::parse(line)?;
        let _changing = self.inner.changing.lock().await;
        if let Some(KnownKey { record, .. }) = self.read().get(key.canonical()) {
            return Err(SshKeyError::Known { id: record.id, label: record.label.clone() });
        }
        if self.read().len() >= MAX_KEYS {
            return Err(SshKeyError::TooMany);
        }
        let record = SshKey {
            id: Uuid::new_v4(),
            label: label.to_owned(),
            key: key.canonical().to_owned(),
            created_at: SystemTime::now().into(),
        };
        self.inner.store.commit(vec![Change::PutSshKey(record.clone())]).await?;
        let known = KnownKey::new(record, &key);
        self.write().insert(key.canonical().to_owned(), known.clone());
        Ok(known)
    }

    /// All keys, oldest first.
    pub fn list(&self) -> Vec<KnownKey> {
        let mut keys: Vec<_> = self.read().values().cloned().collect();
        keys.sort_by_key(|key| (key.record.created_at, key.record.id));
        keys
    }

    /// Removes a key: durable, and no login with it succeeds, before this returns.
    pub async fn remove(&self, id: Uuid) -> Result<(), SshKeyError> {
        let _changing = self.inner.changing.lock().await;
        let found = self.read().iter().find(|(_, known)| known.record.id == id).map(|(key, _)| key.clone());
        let key = found.ok_or(SshKeyError::NoSuchKey(id))?;
        self.inner.store.commit(vec![Change::DeleteSshKey(id)]).await?;
        self.write().remove(&key);
        Ok(())
    }

    /// Whose key this is, if it is one of these. Its comment does not count.
    pub fn owner(&self, key: &PublicKey) -> Option<Operator> {
        let keys = self.read();
        let KnownKey { record, .. } = keys.get(&canonical(key.key_data())?)?;
        Some(operator(record))
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, HashMap<String, KnownKey>> {
        self.inner.by_key.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<String, KnownKey>> {
        self.inner.by_key.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a key's owner may: use every edge, and change nothing.
fn operator(record: &SshKey) -> Operator {
    Operator {
        name: record.label.clone(),
        user: None,
        credential: Credential::SshKey(record.id),
        role: Role::Operator,
        reach: Reach::all(),
    }
}

impl KnownKey {
    fn new(record: SshKey, key: &OperatorKey) -> Self {
        Self { record, fingerprint: key.fingerprint().to_owned() }
    }
}

impl fmt::Debug for SshKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SshKeys").field("count", &self.read().len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use russh::keys::{Algorithm, PrivateKey};

    use super::*;
    use crate::domain::edge::Timestamp;
    use crate::store::SledStore;

    fn public_key() -> PublicKey {
        let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).expect("a key");
        key.public_key().clone()
    }

    fn line(key: &PublicKey) -> String {
        format!("{} ada@work", key.to_openssh().expect("a line"))
    }

    fn store(folder: &tempfile::TempDir) -> Arc<dyn Store> {
        Arc::new(SledStore::open(&folder.path().join("store"), 1 << 20).expect("a store"))
    }

    #[tokio::test]
    async fn a_key_counts_from_its_addition_to_its_removal_and_the_store_agrees() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = store(&folder);
        let keys = SshKeys::load(vec![], Arc::clone(&store));
        let key = public_key();
        assert_eq!(keys.owner(&key), None);
        let added = keys.add("Ada", &line(&key)).await.expect("a good key").record;
        let operator = operator(&added);
        let mut shown = key.clone();
        shown.set_comment("another comment");
        assert_eq!(keys.owner(&shown), Some(operator.clone()));
        assert_eq!(keys.owner(&public_key()), None);

        let again = SshKeys::load(store.load().expect("readable").ssh_keys, Arc::clone(&store));
        assert_eq!(again.owner(&key), Some(operator));
        keys.remove(added.id).await.expect("it is there");
        assert_eq!(keys.owner(&key), None);
        assert!(store.load().expect("readable").ssh_keys.is_empty());
        assert!(matches!(keys.remove(added.id).await, Err(SshKeyError::NoSuchKey(id)) if id == added.id));
    }

    #[tokio::test]
    async fn one_key_has_one_owner_however_often_it_is_added() {
        let folder = tempfile::tempdir().expect("a folder");
        let keys = SshKeys::load(vec![], store(&folder));
        let key = public_key();
        let line = line(&key);
        let (one, two) = tokio::join!(keys.add("Ada", &line), keys.add("Grace", &line));
        let first = one.expect("the first");
        let owner = keys.owner(&key).expect("it is known");
        assert_eq!(owner.credential, Credential::SshKey(first.record.id));
        match two.expect_err("there is one already") {
            SshKeyError::Known { id, label } => assert_eq!((id, label), (first.record.id, "Ada".to_owned())),
            other => panic!("{other}"),
        }
        assert_eq!(keys.list(), [first]);
    }

    #[tokio::test]
    async fn a_bad_label_or_key_is_not_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let keys = SshKeys::load(vec![], store(&folder));
        let line = line(&public_key());
        for label in ["", "a\nb", &"x".repeat(MAX_LABEL + 1)] {
            assert!(matches!(keys.add(label, &line).await, Err(SshKeyError::Label)));
        }
        assert!(matches!(keys.add("Ada", "no key").await, Err(SshKeyError::Key(_))));
        assert!(keys.list().is_empty());
    }

    #[test]
    fn a_stored_key_that_can_not_be_read_lets_nobody_in_and_keeps_nobody_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let good = public_key();
        let record = |key| SshKey { id: Uuid::new_v4(), label: "Ada".into(), key, created_at: Timestamp(1) };
        let stored = vec![record("ssh-ed25519 AAAA".into()), record(good.to_openssh().expect("a line"))];
        let keys = SshKeys::load(stored, store(&folder));
        assert_eq!(keys.list().len(), 1);
        assert!(keys.owner(&good).is_some());
    }
}
