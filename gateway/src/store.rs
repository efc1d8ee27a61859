//! Where the gateway keeps its state: the trait that every store implements.
//!
//! The rule: when [`Store::commit`] or [`Store::put_snapshot`] answers `Ok`, the change survives `kill -9` and a power
//! cut at any later moment; a batch is there as a whole or not at all.

pub(crate) mod codec;
mod committer;
mod database;
mod history;
mod instance;
pub mod pulse;
mod sled;
mod snapshots;
#[cfg(test)]
pub(crate) mod suite;
mod upgrade;
mod watchdog;

use std::future::Future;
use std::pin::Pin;

use shared::id::{EndpointId, InstanceId};
use shared::wire::admin::HistoryEntry;

pub use self::instance::OpenError;
pub(crate) use self::instance::is_full;
pub use self::sled::{DEFAULT_CACHE_BYTES, FOLDER, SledStore};
use crate::domain::edge::{Change, Records, Timestamp};
pub use crate::domain::refusal::StoreError;

/// A boxed future, so that stores can stand behind `Arc<dyn Store>`.
pub type StoreFuture<T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send>>;

/// An encoded snapshot as the store keeps it: opaque bytes with the facts to list it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotBlob {
    /// When the gateway received it.
    pub received_at: Timestamp,
    /// Which instance took it.
    pub instance: InstanceId,
    /// Gzip of its JSON (`shared::wire::snapshot`), as it arrived.
    pub gzip: Vec<u8>,
}

/// Durable state of a gateway.
pub trait Store: Send + Sync + 'static {
    /// Reads everything that `commit` and `put_last_seen` wrote, as of one moment. Blocks; on a runtime, call it from
    /// `spawn_blocking`.
    fn load(&self) -> Result<Records, StoreError>;

    /// Applies the batch atomically and answers when it is durable. Concurrent callers share a flush. Batches whose
    /// futures run at the same time may be applied in either order: whoever needs an order awaits the first.
    fn commit(&self, batch: Vec<Change>) -> StoreFuture<()>;

    /// Notes when edges were last heard of. Durable within a few seconds, which is enough for what it is.
    fn put_last_seen(&self, seen: Vec<(EndpointId, Timestamp)>) -> StoreFuture<()>;

    /// Replaces the edge's snapshot.
    fn put_snapshot(&self, edge: EndpointId, snapshot: SnapshotBlob) -> StoreFuture<()>;

    /// The edge's last snapshot.
    fn snapshot(&self, edge: EndpointId) -> StoreFuture<Option<SnapshotBlob>>;

    /// The edge's snapshot before that: the last one as it was until another took its place.
    fn snapshot_before(&self, edge: EndpointId) -> StoreFuture<Option<SnapshotBlob>>;

    /// Adds what happened to edges, in order; of each edge the newest [`crate::domain::history::KEPT`] stay.
    fn put_history(&self, entries: Vec<(EndpointId, HistoryEntry)>) -> StoreFuture<()>;

    /// The newest of what happened to the edge, newest first.
    fn history(&self, edge: EndpointId, limit: usize) -> StoreFuture<Vec<HistoryEntry>>;

    /// `Err` with the reason while the last attempt to write failed, or the disk stands still.
    fn health(&self) -> Result<(), String>;
}
