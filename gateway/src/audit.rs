//! The audit log: who did what, from where, to which edge, and how it went. [`Audit`] is its handle.
//!
//! | room | what lives there |
//! | --- | --- |
//! | [`entry`], [`usage`] | what happened; a stream while it is open |
//! | [`line`](mod@line) | PURE: a record as a line, and the chain of hashes that lines form |
//! | [`flood`] | PURE: many of a kind become one record |
//! | [`files`], [`log`] | segments on disk; appending, rotation, recovery |
//! | [`writer`] | the thread that owns the log |
//! | [`page`], [`mod@export`], [`verify`] | reading it |
//!
//! The rule: nothing is changed that is not recorded. Whoever changes something asks for a [`Promise`] first, which is
//! room for its record on the disk, and answers nobody before that record is durable. All else is recorded without
//! waiting, through a bounded queue: streams, logins of agents, refusals, which are counted together by kind. Where that
//! queue is full, records are dropped, and how many is a record of its own. Check-ins never wait for any of it.

pub mod entry;
pub mod export;
pub mod files;
pub mod flood;
pub mod line;
pub mod log;
pub mod page;
#[cfg(test)]
mod tests;
pub mod usage;
pub mod verify;
mod writer;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use shared::wire::admin::AuditHead;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::timeout;

pub use entry::Entry;
use files::View;
use flood::Flood;
use log::Log;
use writer::{Job, Writer};

use crate::store::StoreError;
use crate::store::pulse::{Pulse, in_time};

/// Changes that may be under way at a time, each with room for its record. More wait for a place.
const PLACES: usize = 128;
/// Records that nobody waits for, of one round: they must leave the room alone that was promised.
const ROUND_NOTES: usize = 128;
/// Records that nobody waits for and that wait for their round. At 500 bytes each they take 4 MiB; beyond, they are
/// dropped and counted.
const NOTES: usize = 8192;
/// How long a change waits for its place. A disk that takes this long for a round stands still.
const PLACE_TIME: Duration = Duration::from_secs(10);

/// Handle of the audit log. Cheap to clone.
#[derive(Clone)]
pub struct Audit {
    inner: Arc<Inner>,
}

struct Inner {
    /// Where jobs go; `None` once closed. The channel itself has no bound: `places` and `notes` bound what is in it.
    jobs: Mutex<Option<Sender<Job>>>,
    places: Arc<Semaphore>,
    notes: Arc<Semaphore>,
    shared: Arc<Shared>,
    ended: watch::Receiver<bool>,
}

/// What handles and the thread share.
struct Shared {
    /// Guards the counts; held for one look-up.
    flood: Mutex<Flood>,
    dropped: AtomicU64,
    pulse: Pulse,
    /// Guards what readers may look at, and whether the last round went well; held for a clone.
    state: Mutex<(View, Result<(), StoreError>)>,
}

/// Room on the disk for one record.
#[derive(Debug)]
pub struct Promise {
    audit: Audit,
    place: OwnedSemaphorePermit,
}

impl Audit {
    /// Opens the log of a data folder, bounded to `max_bytes`. What was found there is recorded first. Blocks.
    pub fn open(data_dir: &Path, max_bytes: u64) -> io::Result<Self> {
        let (log, found) = Log::open_in(data_dir, max_bytes)?;
        let (jobs, queue) = channel();
        let (end, ended) = watch::channel(false);
        let shared = Arc::new(Shared {
            flood: Mutex::default(),
            dropped: AtomicU64::new(0),
            pulse: Pulse::default(),
            state: Mutex::new((log.view(), Ok(()))),
        });
        let writer = Writer {
            log,
            jobs: queue,
            shared: Arc::clone(&shared),
            promised: VecDeque::new(),
            notes: found.into_iter().map(|entry| (entry, None)).collect(),
            head_noted: Instant::now(),
            failed: None,
        };
        thread::Builder::new().name("audit".into()).spawn(move || {
            writer.run();
            // Nobody may be left to hear it.
            let _ = end.send(true);
        })?;
        let semaphore = |places| Arc::new(Semaphore::new(places));
        let (places, notes) = (semaphore(PLACES), semaphore(NOTES));
        let inner = Inner { jobs: Mutex::new(Some(jobs)), places, notes, shared, ended };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Makes sure that a change can be recorded, before it is made.
    pub async fn promise(&self) -> Result<Promise, StoreError> {
        self.health()?;
        let late = |_| StoreError::StandsStill { seconds: PLACE_TIME.as_secs() };
        let place =
            timeout(PLACE_TIME, Arc::clone(&self.inner.places).acquire_owned()).await.map_err(late)?;
        let place = place.map_err(|_| StoreError::Closed)?;
        // The wait may have been for a disk that failed meanwhile.
        self.health()?;
        Ok(Promise { audit: self.clone(), place })
    }

    /// Records, and returns when that is durable.
    pub async fn record(&self, entry: Entry) -> Result<(), StoreError> {
        self.promise().await?.keep(entry).await
    }

    /// Records durably where the disk allows, and otherwise as soon as it does: for what goes on while nothing can be
    /// changed.
    pub async fn record_if_possible(&self, entry: Entry) {
        match self.promise().await {
            // A record that could not be written now is kept.
            Ok(promise) => drop(promise.keep(entry).await),
            Err(_) => self.note(entry),
        }
    }

    /// Records without waiting.
    pub fn note(&self, entry: Entry) {
        let Ok(place) = Arc::clone(&self.inner.notes).try_acquire_owned() else {
            self.inner.shared.dropped.fetch_add(1, Relaxed);
            return;
        };
        // Once it is closed, nobody is left who could do something.
        let _ = self.send(Job::Note { entry, place });
    }

    /// Records a refusal, or counts it where there was one like it a moment ago.
    pub fn refused(&self, entry: Entry) {
        let told = self.inner.shared.flood().refused(entry, Instant::now());
        if let Some(entry) = told {
            self.note(entry);
        }
    }

    /// Records that somebody uses a service through the proxy, or counts it where they did a moment ago.
    pub fn used(&self, entry: Entry) {
        let told = self.inner.shared.flood().used(entry, Instant::now());
        if let Some(entry) = told {
            self.note(entry);
        }
    }

    /// What a request of [`Audit::used`] carried: towards the service, and from it.
    pub fn carried(&self, entry: &Entry, inward: u64, outward: u64) {
        self.inner.shared.flood().carried(entry, inward, outward, Instant::now());
    }

    /// Everything that is durable now, for readers.
    pub fn view(&self) -> View {
        self.inner.shared.state().0.clone()
    }

    /// Reads what is durable now. Blocks. `read` opens what it needs before anything else: what is dropped from then on can
    /// still be read to its end. Where a segment was dropped just before, it is asked again with what is left.
    pub fn read<T>(&self, mut read: impl FnMut(&View) -> io::Result<T>) -> io::Result<T> {
        let mut view = self.view();
        loop {
            match read(&view) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let oldest = |view: &View| view.segments.first().map(|segment| segment.number);
                    let fresh = self.view();
                    // A file that is missing although it was not dropped is what the reader has to hear of.
                    if oldest(&fresh) == oldest(&view) {
                        return Err(error);
                    }
                    view = fresh;
                }
                result => return result,
            }
        }
    }

    /// The last record that is durable.
    pub fn head(&self) -> AuditHead {
        self.inner.shared.state().0.head
    }

    /// Whether changes can be recorded.
    pub fn health(&self) -> Result<(), StoreError> {
        self.inner.shared.pulse.check().and_then(|()| self.inner.shared.state().1.clone())
    }

    /// Writes what is left and closes the log. Later records are lost.
    pub async fn close(&self) {
        drop(locked(&self.inner.jobs).take());
        // An error means that the thread is gone, which is what we wait for.
        let _ = self.inner.ended.clone().wait_for(|ended| *ended).await;
    }

    fn send(&self, job: Job) -> Result<(), StoreError> {
        match locked(&self.inner.jobs).as_ref() {
            Some(jobs) => jobs.send(job).map_err(|_| StoreError::Closed),
            None => Err(StoreError::Closed),
        }
    }
}

impl Promise {
    /// Records, and returns when that is durable. After an error, and where the disk takes too long, the record is kept
    /// and written when that is possible.
    pub async fn keep(self, entry: Entry) -> Result<(), StoreError> {
        let (answer, answered) = oneshot::channel();
        self.audit.send(Job::Promised { entry, answer: Some(answer), place: self.place })?;
        in_time(async { answered.await.unwrap_or(Err(StoreError::Closed)) }).await
    }

    /// Records without waiting for it.
    pub fn keep_later(self, entry: Entry) {
        // Once it is closed, nobody is left who could do something.
        let _ = self.audit.send(Job::Promised { entry, answer: None, place: self.place });
    }
}

impl Shared {
    fn flood(&self) -> MutexGuard<'_, Flood> {
        locked(&self.flood)
    }

    fn state(&self) -> MutexGuard<'_, (View, Result<(), StoreError>)> {
        locked(&self.state)
    }

    fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Relaxed)
    }

    fn publish(&self, view: View, health: Result<(), StoreError>) {
        let mut state = self.state();
        match (&state.1, &health) {
            (Ok(()), Err(error)) => {
                tracing::error!(%error, "the audit log can't be written, and nothing can be changed")
            }
            (Err(_), Ok(())) => tracing::info!("the audit log can be written again"),
            (Ok(()), Ok(())) | (Err(_), Err(_)) => {}
        }
        *state = (view, health);
    }
}

/// Nothing under these locks can panic half-way through a change.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audit").field("head", &self.head()).finish_non_exhaustive()
    }
}
