//! Keeps what happened to edges: takes it from the registry's task, which never waits for it, and brings it to the store
//! a few seconds later.
//!
//! What is on its way when the process is killed is lost, and so is what comes while more than [`QUEUE`] entries wait for
//! a store that is slow: a history is told for people; the audit log is what nothing may be missing from.

use std::sync::Arc;
use std::time::Duration;

use shared::id::EndpointId;
use shared::wire::admin::{HistoryEntry, TunnelUse};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::domain::event::{Event, What};
use crate::domain::history::entry;
use crate::store::Store;

/// How long entries are gathered for one write: long enough to make one of all that comes with an outage's end, short
/// beside what a crash may lose.
const GATHER: Duration = Duration::from_secs(2);
/// Most entries of one write.
const MAX_BATCH: usize = 512;
/// Most entries that wait for the writer. When full, new ones are lost, and the log says so.
const QUEUE: usize = 8192;

/// The way to the writer. It ends when the last of these is dropped.
#[derive(Clone)]
pub(super) struct History {
    jobs: mpsc::Sender<Job>,
}

enum Job {
    /// Keep this.
    Keep(EndpointId, HistoryEntry),
    /// The edge was deleted: what waits of it is not worth writing.
    Forget(EndpointId),
    /// Write what waits, then answer.
    Flush(oneshot::Sender<()>),
}

impl History {
    pub(super) fn start(store: Arc<dyn Store>) -> Self {
        let (jobs, queue) = mpsc::channel(QUEUE);
        tokio::spawn(Writer { store, queue, waiting: Vec::new() }.run());
        Self { jobs }
    }

    /// Notes the event; of a tunnel that ended, with what it was used for.
    pub(super) fn note(&self, event: &Event, used: Option<TunnelUse>) {
        let job = match (&event.what, entry(event, used)) {
            (What::Deleted, _) => Job::Forget(event.endpoint),
            (_, Some(entry)) => Job::Keep(event.endpoint, entry),
            (_, None) => return,
        };
        if self.jobs.try_send(job).is_err() {
            tracing::warn!(edge = %event.edge, "the store is slow: an entry of the edge's history is lost");
        }
    }

    /// Waits until everything that was noted so far is written, or could not be.
    pub(super) async fn flush(&self) {
        let (done, written) = oneshot::channel();
        if self.jobs.send(Job::Flush(done)).await.is_ok() {
            let _ = written.await;
        }
    }
}

struct Writer {
    store: Arc<dyn Store>,
    queue: mpsc::Receiver<Job>,
    waiting: Vec<(EndpointId, HistoryEntry)>,
}

impl Writer {
    async fn run(mut self) {
        while let Some(job) = self.queue.recv().await {
            let mut flushed = self.take(job);
            let end = Instant::now() + GATHER;
            while flushed.is_none() && self.waiting.len() < MAX_BATCH {
                match timeout_at(end, self.queue.recv()).await {
                    Ok(Some(job)) => flushed = self.take(job),
                    Ok(None) | Err(_) => break,
                }
            }
            self.write().await;
            if let Some(flushed) = flushed {
                let _ = flushed.send(());
            }
        }
    }

    fn take(&mut self, job: Job) -> Option<oneshot::Sender<()>> {
        match job {
            Job::Keep(edge, entry) => self.waiting.push((edge, entry)),
            Job::Forget(edge) => self.waiting.retain(|(of, _)| *of != edge),
            Job::Flush(done) => return Some(done),
        }
        None
    }

    async fn write(&mut self) {
        let entries = std::mem::take(&mut self.waiting);
        if entries.is_empty() {
            return;
        }
        let count = entries.len();
        if let Err(error) = self.store.put_history(entries).await {
            tracing::warn!(%error, count, "entries of the history of edges could not be stored");
        }
    }
}
