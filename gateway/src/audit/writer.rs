//! The thread that owns the log: it gathers what is to be recorded, makes it durable in one go, and only then lets the
//! answers go. As the store's committer, but it never gives a record up: what can't be written now is kept and tried
//! again every second.
//!
//! | disk | promised records | other records | promises |
//! | --- | --- | --- | --- |
//! | fine | written | written | given |
//! | no room for the reserve | written into the reserve | kept | refused: the disk is full |
//! | fails | kept; who waits for one hears of it | kept | refused |

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::entry::Entry;
use super::log::Log;
use super::{NOTES, ROUND_NOTES, Shared};
use crate::store::{StoreError, is_full};

/// How often the thread looks without being asked: at sums that are due, and whether a failed disk works again.
const LOOK: Duration = Duration::from_secs(1);
/// How often `head.json` is written while records come. It costs two syncs, and what it guards against is rare.
const NOTE_HEAD_EVERY: Duration = Duration::from_secs(10);

/// What the thread is asked to do.
pub(super) enum Job {
    /// Record what was promised to be. Without an answer where nobody waits for it.
    Promised {
        entry: Entry,
        answer: Option<oneshot::Sender<Result<(), StoreError>>>,
        place: OwnedSemaphorePermit,
    },
    /// Record it when there is time.
    Note { entry: Entry, place: OwnedSemaphorePermit },
}

/// The thread's state.
pub(super) struct Writer {
    pub(super) log: Log,
    pub(super) jobs: Receiver<Job>,
    pub(super) shared: Arc<Shared>,
    pub(super) promised: VecDeque<Promised>,
    pub(super) notes: VecDeque<(Entry, Option<OwnedSemaphorePermit>)>,
    /// When `head.json` was written last.
    pub(super) head_noted: Instant,
    /// When the last round failed, if it did.
    pub(super) failed: Option<Instant>,
}

pub(super) struct Promised {
    entry: Entry,
    answer: Option<oneshot::Sender<Result<(), StoreError>>>,
    _place: OwnedSemaphorePermit,
}

impl Writer {
    /// Runs until every handle is closed and all that can be written is.
    pub(super) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        // What was found at the start comes before all that happens now.
        shared.pulse.at_work(|| self.round());
        while self.gather() {
            self.add_due(false);
            shared.pulse.at_work(|| self.round());
        }
        self.add_due(true);
        self.failed = None;
        while !(self.promised.is_empty() && self.notes.is_empty()) {
            if !self.round() {
                let lost = self.promised.len() + self.notes.len();
                tracing::error!(records = lost, "the audit log could not be written; these records are lost");
                return;
            }
        }
        if let Err(error) = self.log.note_head() {
            tracing::warn!(%error, "can't note how far the audit log came");
        }
    }

    /// Waits a while for something to do, and takes what is there. `false` once nothing more can come.
    fn gather(&mut self) -> bool {
        match self.jobs.recv_timeout(LOOK) {
            Ok(job) => self.take(job),
            Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
        }
        loop {
            match self.jobs.try_recv() {
                Ok(job) => self.take(job),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn take(&mut self, job: Job) {
        match job {
            Job::Promised { entry, answer, place } => {
                self.promised.push_back(Promised { entry, answer, _place: place });
            }
            Job::Note { entry, place } => self.notes.push_back((entry, Some(place))),
        }
    }

    /// Adds the sums of what was counted, and how many records were dropped. While the disk takes nothing, both stay
    /// where they are counted, for what waits here must not grow with the hours that takes.
    fn add_due(&mut self, all: bool) {
        if self.notes.len() >= NOTES && !all {
            return;
        }
        let due = self.shared.flood().due(Instant::now(), all);
        self.notes.extend(due.into_iter().map(|entry| (entry, None)));
        let dropped = self.shared.take_dropped();
        if dropped > 0 {
            let text = "records of refusals, streams and reads for which the queue had no room";
            let entry = Entry::by_gateway("audit.dropped").failed("queue-full").count(dropped).detail(text);
            self.notes.push_back((entry, None));
        }
    }

    /// Writes what waits, as far as the disk allows; whether it did.
    fn round(&mut self) -> bool {
        if self.failed.is_some_and(|at| at.elapsed() < LOOK) {
            return false;
        }
        let room = self.log.settle().and_then(|()| self.log.make_room());
        let notes = if room.is_ok() { self.notes.len().min(ROUND_NOTES) } else { 0 };
        let promised = self.promised.iter().map(|promised| promised.entry.clone());
        let round: Vec<_> =
            promised.chain(self.notes.iter().take(notes).map(|(entry, _)| entry.clone())).collect();
        let written = if round.is_empty() { Ok(()) } else { self.log.append(&round).map(drop) };
        let written = written.map_err(|error| to_store_error(&error));
        let health = written.clone().and(room.map_err(|error| to_store_error(&error)));
        self.failed = health.is_err().then(Instant::now);
        // Whoever hears of the record may look for it at once.
        self.shared.publish(self.log.view(), health.clone());
        if let Err(error) = self.log.forget() {
            tracing::warn!(%error, "can't remove what was dropped of the audit log; trying again");
        }
        self.answer(&written, notes);
        if health.is_ok() && self.head_noted.elapsed() >= NOTE_HEAD_EVERY {
            self.head_noted = Instant::now();
            if let Err(error) = self.log.note_head() {
                tracing::warn!(%error, "can't note how far the audit log came");
            }
        }
        health.is_ok()
    }

    /// Lets those go whose records are written. After a failure they are told, and their records are kept all the same:
    /// what they are about has happened.
    fn answer(&mut self, written: &Result<(), StoreError>, notes: usize) {
        for promised in &mut self.promised {
            if let Some(answer) = promised.answer.take() {
                // A caller that went away needs no answer.
                let _ = answer.send(written.clone());
            }
        }
        if written.is_ok() {
            self.promised.clear();
            self.notes.drain(..notes);
        }
    }
}

fn to_store_error(error: &io::Error) -> StoreError {
    if is_full(error) {
        return StoreError::Full;
    }
    StoreError::Failed { doing: "write the audit log", reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    use std::sync::mpsc::channel;

    use super::*;
    use crate::audit::entry::stranger;
    use crate::audit::flood::WINDOW;
    use crate::store::pulse::Pulse;

    #[test]
    fn what_waits_for_a_disk_that_takes_nothing_does_not_grow_with_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let (log, _) = Log::open(folder.path(), 1 << 20).expect("an empty folder");
        let state = Mutex::new((log.view(), Ok(())));
        let (flood, pulse) = (Mutex::default(), Pulse::default());
        let shared = Arc::new(Shared { flood, dropped: AtomicU64::new(0), pulse, state });
        let (_jobs, queue) = channel();
        let entry = || Entry::new(stranger(), "service.proxy");
        let notes = (0..NOTES).map(|_| (entry(), None)).collect();
        let mut writer = Writer {
            log,
            jobs: queue,
            shared: Arc::clone(&shared),
            promised: VecDeque::new(),
            notes,
            head_noted: Instant::now(),
            failed: None,
        };
        let before = Instant::now().checked_sub(WINDOW).expect("the machine runs for a minute");
        assert!(shared.flood().used(entry(), before).is_some());
        shared.dropped.store(7, Relaxed);
        writer.add_due(false);
        assert_eq!(writer.notes.len(), NOTES);
        writer.notes.clear();
        writer.add_due(false);
        assert_eq!(writer.notes.len(), 2, "the sum, and how many were dropped");
        assert_eq!(writer.notes[1].0.record().count, Some(7));
    }
}
