//! The thread that owns a database: it gathers what callers want written, makes it durable in one go, and only then
//! lets their answers go.
//!
//! Rounds form by themselves: what comes in during one flush is the next round. Where the last round was a crowd, the
//! next one waits a moment for it ([`GATHER`]), since callers that were just answered tend to come again; a lone caller
//! is never kept waiting. Reads are answered after the round's flush, so that nobody sees what a power cut could take.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::StoreError;
use super::database::{Database, RETRY};
use super::instance::Build;
use super::pulse::{Pulse, in_time};

/// The longest time that a round is kept open for more to come. A flush takes about as long.
const GATHER: Duration = Duration::from_millis(2);
/// Most events of one round: bounds how long the first of them waits for the last.
const MAX_ROUND: usize = 1024;
/// Most events that wait for their round. Callers beyond that wait for a place, in order.
const QUEUE: usize = 4096;

type Answer = oneshot::Sender<Result<(), StoreError>>;

type Read = Box<dyn FnOnce(&mut Database) + Send>;

enum Job {
    Write { build: Build, answer: Answer, place: OwnedSemaphorePermit },
    Read(Read),
}

/// Handle of the thread. The thread ends, after it has done what was asked of it, when the handle is closed or dropped.
#[derive(Debug)]
pub(super) struct Committer {
    /// Where jobs go; `None` once closed. The channel itself has no bound: `places` bounds the writes in it, and reads
    /// are as many as there are callers that wait for one.
    jobs: Mutex<Option<Sender<Job>>>,
    places: Arc<Semaphore>,
    health: Arc<Mutex<Result<(), StoreError>>>,
    pulse: Arc<Pulse>,
    ended: watch::Receiver<bool>,
}

impl Committer {
    /// Starts the thread.
    pub(super) fn start(name: &str, database: Database) -> std::io::Result<Self> {
        let (jobs, queue) = channel();
        let (end, ended) = watch::channel(false);
        let health = Arc::new(Mutex::new(Ok(())));
        let pulse = Arc::new(Pulse::default());
        let noted = (Arc::clone(&health), Arc::clone(&pulse));
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            run(database, &queue, &noted.0, &noted.1);
            // Nobody may be left to hear it.
            let _ = end.send(true);
        })?;
        Ok(Self {
            jobs: Mutex::new(Some(jobs)),
            places: Arc::new(Semaphore::new(QUEUE)),
            health,
            pulse,
            ended,
        })
    }

    /// Applies a batch and answers when it is durable. Once it is in the queue it is done also if the caller goes away;
    /// while the disk stands still it gets into none.
    pub(super) async fn write(&self, build: Build) -> Result<(), StoreError> {
        self.pulse.check()?;
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let (answer, answered) = oneshot::channel();
        self.send(Job::Write { build, answer, place })?;
        answered.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Reads on the database's thread.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(&sled::Tree) -> sled::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.pulse.check()?;
        let (answer, answered) = oneshot::channel();
        self.send(Job::Read(Box::new(move |database| {
            // A caller that went away needs no answer.
            let _ = answer.send(database.read(look));
        })))?;
        in_time(async { answered.await.unwrap_or(Err(StoreError::Closed)) }).await
    }

    /// As [`Committer::read`], blocking.
    pub(super) fn read_blocking<T: Send + 'static>(
        &self,
        look: impl FnOnce(&sled::Tree) -> sled::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = channel();
        self.send(Job::Read(Box::new(move |database| {
            let _ = answer.send(database.read(look));
        })))?;
        answered.recv().unwrap_or(Err(StoreError::Closed))
    }

    /// How the last attempt to write went, and whether the one that is under way comes to an end.
    pub(super) fn health(&self) -> Result<(), StoreError> {
        self.pulse.check().and_then(|()| locked(&self.health).clone())
    }

    /// Does what was asked so far and lets go of the database. Later callers hear that it is closed.
    pub(super) async fn close(&self) {
        drop(locked(&self.jobs).take());
        // An error means that the thread is gone, which is what we wait for.
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
    }

    fn send(&self, job: Job) -> Result<(), StoreError> {
        match locked(&self.jobs).as_ref() {
            Some(jobs) => jobs.send(job).map_err(|_| StoreError::Closed),
            None => Err(StoreError::Closed),
        }
    }
}

/// Nothing under these locks can panic half-way through a change.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run(mut database: Database, queue: &Receiver<Job>, health: &Mutex<Result<(), StoreError>>, pulse: &Pulse) {
    let mut crowd = 1;
    while let Some(round) = next_round(&mut database, queue, crowd, health) {
        crowd = round.writes.len();
        if crowd > 0 {
            let outcome = pulse.at_work(|| database.write(round.writes));
            locked(health).clone_from(&outcome);
            for answer in round.answers {
                // A caller that went away needs no answer.
                let _ = answer.send(outcome.clone());
            }
            drop(round.places);
        }
        for read in round.reads {
            pulse.at_work(|| read(&mut database));
        }
    }
    database.close();
}

#[derive(Default)]
struct Round {
    writes: Vec<Build>,
    answers: Vec<Answer>,
    places: Vec<OwnedSemaphorePermit>,
    reads: Vec<Read>,
}

impl Round {
    fn add(&mut self, job: Job) {
        match job {
            Job::Write { build, answer, place } => {
                self.writes.push(build);
                self.answers.push(answer);
                self.places.push(place);
            }
            Job::Read(read) => self.reads.push(read),
        }
    }

    fn is_full(&self) -> bool {
        self.writes.len() + self.reads.len() >= MAX_ROUND
    }
}

/// Waits for a first job and gathers those that come with it. `None` once the handle is gone and nothing is left to do.
fn next_round(
    database: &mut Database,
    queue: &Receiver<Job>,
    crowd: usize,
    health: &Mutex<Result<(), StoreError>>,
) -> Option<Round> {
    let mut round = Round::default();
    round.add(first_job(database, queue, health)?);
    let end = Instant::now() + GATHER;
    while !round.is_full() {
        match queue.try_recv() {
            Ok(job) => round.add(job),
            Err(TryRecvError::Empty) if round.writes.len() < crowd => {
                match queue.recv_timeout(end.saturating_duration_since(Instant::now())) {
                    Ok(job) => round.add(job),
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
                }
            }
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
        }
    }
    Some(round)
}

/// Waits for a job; while the database is closed after a failure, tries to open it meanwhile.
fn first_job(
    database: &mut Database,
    queue: &Receiver<Job>,
    health: &Mutex<Result<(), StoreError>>,
) -> Option<Job> {
    while !database.is_open() {
        match queue.recv_timeout(RETRY) {
            Ok(job) => return Some(job),
            Err(RecvTimeoutError::Timeout) => {
                let outcome = database.recover();
                *locked(health) = outcome;
            }
            Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
    queue.recv().ok()
}
