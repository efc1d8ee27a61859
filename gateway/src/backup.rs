//! Backups: everything that a gateway must keep, in one checksummed file, taken while it runs.
//!
//! A backup holds the plain files of the data folder (host key, TLS key and certificate), all durable records as of one
//! moment, and the edges' last snapshots. **It is a secret**: who has it can stand in for the gateway. [`begin`] makes
//! one as a stream; [`verify`] checks a file; [`restore()`] makes a data folder of it. The format is in [`mod@format`].
//!
//! Of the audit log a backup holds no record, but how far it came: the log of a restored gateway goes on from there, and
//! says so, so that what was done between the backup and its restore can't be passed over in silence.
//!
//! Restoring is all or nothing: as long as it is not finished, a mark in the folder keeps every gateway from starting
//! on it ([`crate::data_dir`]).

mod format;
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
mod restore;
#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::poll_fn;
use shared::wire::admin::AuditHead;
use tokio::sync::mpsc;

use self::format::{Encoder, Entry};
pub use self::restore::{RestoreError, Summary, restore, verify};
use crate::audit::log::RESTORED;
use crate::domain::edge::Records;
use crate::store::{self, Store, StoreError};

/// Bytes of a chunk: large enough that its cost is in the bytes.
const CHUNK: usize = 64 * 1024;
/// Chunks that wait for a slow reader. When full, the backup waits for it.
const CHUNKS_AHEAD: usize = 4;
/// Keys and certificates take a few KiB; something larger in the data folder is not ours.
const MAX_FILE: u64 = 1024 * 1024;

/// Why no backup could be made.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The records can't be read.
    #[error("the backup can't be made: {0}")]
    Store(#[from] StoreError),
    /// A file of the data folder can't be read.
    #[error("the backup can't be made: {path} can't be read: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The runtime is shutting down.
    #[error("the backup can't be made: the gateway is shutting down")]
    ShuttingDown,
}

/// Begins a backup of the data folder and the store in it. What can fail at once fails here, so that a caller knows
/// before it answers; then the stream gives the file in chunks. After an `Err` in the stream the file is incomplete,
/// which [`verify`] notices. Dropping the stream ends the backup.
///
/// The API answers `GET /api/v1/backup` with it: `Body::from_stream(begin(store, data_dir).await?)`.
pub async fn begin(
    store: Arc<dyn Store>,
    data_dir: PathBuf,
    audit: AuditHead,
) -> Result<impl Stream<Item = Result<Bytes, BackupError>> + Send + use<>, BackupError> {
    let reader = Arc::clone(&store);
    let read = move || Ok::<_, BackupError>((files(&data_dir, audit)?, reader.load()?));
    let (files, records) =
        tokio::task::spawn_blocking(read).await.map_err(|_| BackupError::ShuttingDown)??;
    let (chunks, mut taken) = mpsc::channel(CHUNKS_AHEAD);
    tokio::spawn(async move {
        if let Err(error) = write(&store, files, &records, &chunks).await {
            // A reader that went away needs no error.
            let _ = chunks.send(Err(error)).await;
        }
    });
    Ok(poll_fn(move |context| taken.poll_recv(context)))
}

type Chunks = mpsc::Sender<Result<Bytes, BackupError>>;

async fn write(
    store: &Arc<dyn Store>,
    files: Vec<Entry>,
    records: &Records,
    chunks: &Chunks,
) -> Result<(), BackupError> {
    let mut encoder = Encoder::new();
    for file in files {
        encoder.add(&file);
    }
    for record in store::codec::entries(records) {
        let (key, value) = record?;
        encoder.add(&Entry::Record { key, value });
        if !pass_on(&mut encoder, chunks).await {
            return Ok(());
        }
    }
    for edge in records.edges.iter().map(|edge| edge.endpoint) {
        if let Some(snapshot) = store.snapshot(edge).await? {
            encoder.add(&Entry::Snapshot { edge, snapshot });
        }
        if !pass_on(&mut encoder, chunks).await {
            return Ok(());
        }
    }
    // A reader that went away needs no end.
    let _ = chunks.send(Ok(encoder.finish())).await;
    Ok(())
}

/// Sends what is ready once it is worth a chunk. `false` when the reader is gone.
async fn pass_on(encoder: &mut Encoder, chunks: &Chunks) -> bool {
    encoder.ready() < CHUNK || chunks.send(Ok(encoder.take())).await.is_ok()
}

/// The plain files of the data folder: those at its top, without hidden ones and the lock. And how far its audit log came.
fn files(data_dir: &Path, audit: AuditHead) -> Result<Vec<Entry>, BackupError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| BackupError::File { path, source }
    };
    let place = serde_json::to_vec(&audit).expect("a number and a string have no failing serializer");
    let mut files = Vec::new();
    if audit.seq > 0 {
        files.push(Entry::File { name: RESTORED.to_owned(), content: place });
    }
    for entry in fs::read_dir(data_dir).map_err(failed(data_dir))? {
        let entry = entry.map_err(failed(data_dir))?;
        let path = entry.path();
        let metadata = entry.metadata().map_err(failed(&path))?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name == RESTORED {
            continue;
        }
        if metadata.is_file() && metadata.len() <= MAX_FILE && format::is_file_name(&name) {
            files.push(Entry::File { name, content: fs::read(&path).map_err(failed(&path))? });
        }
    }
    Ok(files)
}
