//! The embedded store: two sled databases, `records` and `snapshots`, each with its own thread.
//!
//! The second has the history of edges too. Records are the truth; a snapshot can be taken again, and a history is told once. So a damaged `records` is an error for a person to decide on,
//! and a damaged `snapshots` is thrown away with a warning.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use shared::id::EndpointId;
use shared::wire::admin::HistoryEntry;

use super::codec::{self, FORMAT_KEY, RELEASE_KEY, Write};
use super::committer::Committer;
use super::database::{Database, OnDamage};
use super::instance::{Build, OpenError, sync_folder};
use super::upgrade::{self, Part, STEPS};
use super::{SnapshotBlob, Store, StoreError, StoreFuture, history, snapshots};
use crate::domain::edge::{Change, Records, Timestamp};

/// Folder of the store inside the gateway's data folder.
pub const FOLDER: &str = "store";
/// Memory for sled's page cache unless the operator says otherwise. sled's own default is a gigabyte.
pub const DEFAULT_CACHE_BYTES: u64 = 64 * 1024 * 1024;

/// What must not be lost.
const RECORDS: Part = Part { folder: "records", on_damage: OnDamage::Refuse, steps: STEPS };
/// What can be had again.
const SNAPSHOTS: Part = Part { folder: "snapshots", on_damage: OnDamage::Remake, steps: STEPS };
/// Records are small and all of them are in memory anyway; snapshots are read one page at a time. Each gets half.
const CACHE_SHARES: u64 = 2;
/// Most last-seen times of one batch: so many take about a millisecond, which other commits can wait.
const SEEN_SLICE: usize = 512;

/// The embedded store. [`SledStore::close`] it before the process ends, so that its files are free for the next one;
/// what was acknowledged is safe either way.
#[derive(Clone, Debug)]
pub struct SledStore {
    records: Arc<Committer>,
    snapshots: Arc<Committer>,
}

impl SledStore {
    /// Opens the store in `dir` (the data folder's [`FOLDER`]), or makes it, with `cache_bytes` of memory for pages.
    /// One that an older release wrote is upgraded, after a copy of it was made beside `dir`. Blocks for as long as reading
    /// its files takes, and copying them.
    pub fn open(dir: &Path, cache_bytes: u64) -> Result<Self, OpenError> {
        let cache_bytes = cache_bytes / CACHE_SHARES;
        let open = |part| Database::open(dir, cache_bytes, part);
        let both = || -> Result<_, OpenError> { Ok((open(RECORDS)?, open(SNAPSHOTS)?)) };
        let (mut records, mut snapshots) = match both() {
            Err(OpenError::Older { .. }) => {
                upgrade::upgrade(dir, cache_bytes, &[RECORDS, SNAPSHOTS], upgrade::free)?;
                both()?
            }
            outcome => outcome?,
        };
        let damaged =
            |error: StoreError| OpenError::Damaged { dir: dir.to_owned(), reason: error.to_string() };
        sweep(&mut records, &mut snapshots).map_err(damaged)?;
        let io = |source| OpenError::Io { dir: dir.to_owned(), source };
        // Both databases synced their own folders; this is for the folder that they are in.
        sync_folder(dir).map_err(io)?;
        Ok(Self {
            records: Arc::new(Committer::start("store-records", records).map_err(io)?),
            snapshots: Arc::new(Committer::start("store-snapshots", snapshots).map_err(io)?),
        })
    }

    /// Does what was asked so far and lets go of the files; whoever asks later hears [`StoreError::Closed`].
    pub async fn close(&self) {
        self.records.close().await;
        self.snapshots.close().await;
    }
}

impl Store for SledStore {
    fn load(&self) -> Result<Records, StoreError> {
        self.records.read_blocking(read_all)?
    }

    fn commit(&self, batch: Vec<Change>) -> StoreFuture<()> {
        let store = self.clone();
        Box::pin(async move {
            let writes: Vec<Vec<Write>> = batch.iter().map(codec::writes).collect::<Result<_, _>>()?;
            store.records.write(build(writes.into_iter().flatten())).await?;
            for change in batch {
                if let Change::DeleteEdge(edge) = change {
                    store.forget(edge).await;
                }
            }
            Ok(())
        })
    }

    fn put_last_seen(&self, seen: Vec<(EndpointId, Timestamp)>) -> StoreFuture<()> {
        let store = self.clone();
        Box::pin(async move {
            for slice in seen.chunks(SEEN_SLICE) {
                store.records.write(build(slice.iter().map(|(edge, at)| codec::seen(*edge, *at)))).await?;
            }
            Ok(())
        })
    }

    fn put_snapshot(&self, edge: EndpointId, snapshot: SnapshotBlob) -> StoreFuture<()> {
        let store = self.clone();
        Box::pin(async move {
            snapshots::check(&snapshot)?;
            store.snapshots.write(Box::new(move |tree| snapshots::put(tree, edge, &snapshot))).await
        })
    }

    fn snapshot(&self, edge: EndpointId) -> StoreFuture<Option<SnapshotBlob>> {
        let store = self.clone();
        Box::pin(async move {
            store.snapshots.read(move |tree| snapshots::read(tree, snapshots::Slot::LAST, edge)).await
        })
    }

    fn snapshot_before(&self, edge: EndpointId) -> StoreFuture<Option<SnapshotBlob>> {
        let store = self.clone();
        Box::pin(async move {
            store.snapshots.read(move |tree| snapshots::read(tree, snapshots::Slot::BEFORE, edge)).await
        })
    }

    fn put_history(&self, entries: Vec<(EndpointId, HistoryEntry)>) -> StoreFuture<()> {
        let store = self.clone();
        Box::pin(
            async move { store.snapshots.write(Box::new(move |tree| history::add(tree, entries))).await },
        )
    }

    fn history(&self, edge: EndpointId, limit: usize) -> StoreFuture<Vec<HistoryEntry>> {
        let store = self.clone();
        Box::pin(async move { store.snapshots.read(move |tree| Ok(history::read(tree, edge, limit))).await })
    }

    fn health(&self) -> Result<(), String> {
        self.records.health().and_then(|()| self.snapshots.health()).map_err(|error| error.to_string())
    }
}

impl SledStore {
    /// The edge is gone already; what stays behind of its snapshot and its history is swept at the next start.
    async fn forget(&self, edge: EndpointId) {
        let removals: [Build; 2] = [
            Box::new(move |tree| snapshots::remove(tree, edge)),
            Box::new(move |tree| history::remove(tree, edge)),
        ];
        for removal in removals {
            if let Err(error) = self.snapshots.write(removal).await {
                tracing::warn!(endpoint = %edge, %error, "a part of a deleted edge stays until the next start");
            }
        }
    }
}

fn build(writes: impl Iterator<Item = Write>) -> Build {
    let mut batch = sled::Batch::default();
    for (key, value) in writes {
        match value {
            Some(value) => batch.insert(key, value),
            None => batch.remove(key),
        }
    }
    Box::new(move |_| Ok(batch))
}

/// All records; the inner error is about what one of them says.
fn read_all(tree: &sled::Tree) -> sled::Result<Result<Records, StoreError>> {
    let mut records = Records::default();
    for entry in tree {
        let (key, value) = entry?;
        if key == FORMAT_KEY || key == RELEASE_KEY {
            continue;
        }
        if let Err(error) = codec::read_into(&mut records, &key, &value) {
            return Ok(Err(StoreError::Failed { doing: "read its records", reason: error.to_string() }));
        }
    }
    Ok(Ok(records))
}

/// Removes what stayed behind of deleted edges: a last-seen time or an entry of their history that was written late, a
/// snapshot whose removal was cut short.
fn sweep(records: &mut Database, snapshots: &mut Database) -> Result<(), StoreError> {
    let all = records.read(read_all)??;
    let edges: HashSet<EndpointId> = all.edges.iter().map(|edge| edge.endpoint).collect();
    let late = all.last_seen.iter().map(|(edge, _)| *edge).filter(|edge| !edges.contains(edge));
    let removals: Vec<Write> = late.map(|edge| (codec::seen_key(edge), None)).collect();
    if !removals.is_empty() {
        records.write(vec![build(removals.into_iter())])?;
    }
    let orphans = snapshots.read(|tree| snapshots::orphans(tree, &edges))?;
    let of_snapshots =
        orphans.into_iter().map(|edge| -> Build { Box::new(move |tree| snapshots::remove(tree, edge)) });
    let orphans = snapshots.read(|tree| history::orphans(tree, &edges))?;
    let of_history =
        orphans.into_iter().map(|edge| -> Build { Box::new(move |tree| history::remove(tree, edge)) });
    snapshots.write(of_snapshots.chain(of_history).collect())
}

#[cfg(test)]
mod survival;
#[cfg(test)]
mod tests;
