//! A store that times its writes. What it does is done by the store inside.

use std::sync::Arc;
use std::time::Instant;

use shared::id::EndpointId;
use shared::wire::admin::HistoryEntry;

use super::Telemetry;
use crate::domain::edge::{Change, Records, Timestamp};
use crate::store::{SnapshotBlob, Store, StoreError, StoreFuture};

/// The store inside, with a watch in its hand.
pub struct Timed {
    store: Arc<dyn Store>,
    telemetry: Telemetry,
}

impl Timed {
    /// Times this store.
    pub fn new(store: Arc<dyn Store>, telemetry: Telemetry) -> Self {
        Self { store, telemetry }
    }

    fn time(&self, write: StoreFuture<()>) -> StoreFuture<()> {
        let telemetry = self.telemetry.clone();
        Box::pin(async move {
            let began = Instant::now();
            let written = write.await;
            telemetry.store_wrote(written.is_ok(), began.elapsed());
            written
        })
    }
}

impl Store for Timed {
    fn load(&self) -> Result<Records, StoreError> {
        self.store.load()
    }

    fn commit(&self, batch: Vec<Change>) -> StoreFuture<()> {
        self.time(self.store.commit(batch))
    }

    fn put_last_seen(&self, seen: Vec<(EndpointId, Timestamp)>) -> StoreFuture<()> {
        self.time(self.store.put_last_seen(seen))
    }

    fn put_snapshot(&self, edge: EndpointId, snapshot: SnapshotBlob) -> StoreFuture<()> {
        self.time(self.store.put_snapshot(edge, snapshot))
    }

    fn snapshot(&self, edge: EndpointId) -> StoreFuture<Option<SnapshotBlob>> {
        self.store.snapshot(edge)
    }

    fn snapshot_before(&self, edge: EndpointId) -> StoreFuture<Option<SnapshotBlob>> {
        self.store.snapshot_before(edge)
    }

    fn put_history(&self, entries: Vec<(EndpointId, HistoryEntry)>) -> StoreFuture<()> {
        self.time(self.store.put_history(entries))
    }

    fn history(&self, edge: EndpointId, limit: usize) -> StoreFuture<Vec<HistoryEntry>> {
        self.store.history(edge, limit)
    }

    fn health(&self) -> Result<(), String> {
        self.store.health()
    }
}
