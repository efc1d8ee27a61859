//! Changes to who may use the gateway: durable first, then in force, one after the other.
//!
//! The rule: a change that was begun is finished, also when whoever asked for it went away. Otherwise a revocation could
//! be on disk and not in force until a restart.

use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::{Mutex, OwnedMutexGuard, watch};

use super::book::Book;
use crate::domain::edge::{Change, Records};
use crate::store::pulse::in_time;
use crate::store::{Store, StoreError};

/// The book with the store behind it. Cheap to clone.
#[derive(Clone)]
pub(super) struct Ledger {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn Store>,
    /// Guards what is in force; never held across an await.
    book: RwLock<Book>,
    /// Held from the check of a change until it is in force, so that two changes can't both pass a check.
    turn: Arc<Mutex<()>>,
    /// Counts changes, for those who must notice.
    changes: watch::Sender<u64>,
}

/// The right to change something next.
pub(super) struct Turn {
    inner: Arc<Inner>,
    guard: OwnedMutexGuard<()>,
}

impl Ledger {
    /// Takes what is its own out of the records of `store`.
    pub(super) fn open(records: &mut Records, store: Arc<dyn Store>) -> Self {
        let book = RwLock::new(Book::take(records));
        let (turn, changes) = (Arc::default(), watch::Sender::new(0));
        Self { inner: Arc::new(Inner { store, book, turn, changes }) }
    }

    /// Looks something up.
    pub(super) fn read<T>(&self, look: impl FnOnce(&Book) -> T) -> T {
        look(&self.inner.book.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits for the changes that were begun before, for as long as the disk may take.
    pub(super) async fn turn(&self) -> Result<Turn, StoreError> {
        let guard =
            in_time(async { Ok::<_, StoreError>(Arc::clone(&self.inner.turn).lock_owned().await) }).await?;
        Ok(Turn { inner: Arc::clone(&self.inner), guard })
    }

    /// Tells of every change from now on.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }
}

impl Turn {
    /// Makes the changes durable, all or none, and then puts them in force; after that it returns. Where the disk takes
    /// too long it returns before, and the change is finished all the same.
    pub(super) async fn commit(self, batch: Vec<Change>) -> Result<(), StoreError> {
        let Self { inner, guard } = self;
        let commit = tokio::spawn(async move {
            inner.store.commit(batch.clone()).await?;
            let mut book = inner.book.write().unwrap_or_else(PoisonError::into_inner);
            batch.into_iter().for_each(|change| book.apply(change));
            drop(book);
            inner.changes.send_modify(|count| *count += 1);
            drop(guard);
            Ok(())
        });
        // The task neither panics nor is aborted; where it is gone, the gateway is too.
        in_time(async { commit.await.unwrap_or(Err(StoreError::Closed)) }).await
    }
}
