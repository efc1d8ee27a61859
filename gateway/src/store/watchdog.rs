//! Makes sure that a flush comes back.
//!
//! sled 0.34.7 can lose the wake-up for a flush: when the write of a full buffer fails, `exit_reservation` records the
//! error but notifies nobody, and a flush that went to sleep before waits for ever. Any second flush finds the error and
//! wakes all. So a thread watches: a flush that takes long is joined by another one, whose own result does not matter.
//! On a disk that is only slow, both just wait; the log says so once, and when it is over.

use std::fs::File;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long a flush may take before another one looks after it. Far above any healthy flush (p99 below 50 ms on a
/// spinning disk), so that the second one is not part of everyday work; short enough that callers of a failed disk hear
/// of it within their own timeouts.
const PATIENCE: Duration = Duration::from_secs(3);

/// Watches the flushes and syncs of one database. Dropping it ends its thread.
#[derive(Debug)]
pub(super) struct Watchdog {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Guards `Watch`; never held while the disk is asked.
    watch: Mutex<Watch>,
    stopped: Condvar,
}

#[derive(Debug, Default)]
struct Watch {
    /// What is under way, and since when.
    work: Option<(Work, Instant)>,
    /// Whether the log has it that this takes long.
    told: bool,
    stop: bool,
}

/// What may take long.
#[derive(Clone, Debug)]
enum Work {
    Flush(sled::Db),
    Sync,
}

impl Watchdog {
    /// Starts its thread.
    pub(super) fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let watched = Arc::clone(&shared);
        thread::Builder::new().name("store-watchdog".into()).spawn(move || watched.run())?;
        Ok(Self { shared })
    }

    /// Flushes `sled`, watched.
    pub(super) fn flush(&self, sled: &sled::Db) -> sled::Result<()> {
        self.watched(Work::Flush(sled.clone()), || sled.flush()).map(drop)
    }

    /// Syncs what is in `file`, watched.
    pub(super) fn sync(&self, file: &File) -> io::Result<()> {
        self.watched(Work::Sync, || file.sync_data())
    }

    fn watched<T>(&self, work: Work, does: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        self.shared.lock().work = Some((work, began));
        let done = does();
        let mut watch = self.shared.lock();
        watch.work = None;
        if std::mem::take(&mut watch.told) {
            let elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            tracing::info!(elapsed_ms, "the store's disk answers again");
        }
        done
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.stopped.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Watch> {
        // Nothing under this lock can panic half-way through a change.
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut watch = self.lock();
        while !watch.stop {
            watch = self.stopped.wait_timeout(watch, PATIENCE).unwrap_or_else(PoisonError::into_inner).0;
            let late = watch.work.as_ref().filter(|(_, since)| since.elapsed() >= PATIENCE);
            let Some(work) = late.map(|(work, _)| work.clone()) else { continue };
            if !std::mem::replace(&mut watch.told, true) {
                tracing::error!("the store's disk does not answer; what must be stored waits");
            }
            if let Work::Flush(sled) = work {
                drop(watch);
                // Its result belongs to the flush that is watched; this one only wakes it.
                let _ = sled.flush();
                drop(sled);
                watch = self.lock();
            }
        }
    }
}
