//! Whether a disk answers: of the one thread that works on it, since when it has been at it.
//!
//! A disk that hangs fails nothing; it keeps whoever asks it. So those who wait for that thread look here first, and what
//! is begun while the disk stands still is refused at once: it never gets into a queue, and nobody need wonder whether it
//! will be done some day.

use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::StoreError;

/// A disk that has been at one thing for this long stands still. A hundred times what a busy disk takes, and well within
/// the times of those who wait.
const STANDS_STILL: Duration = Duration::from_secs(5);
/// How long somebody waits for what was begun just before the disk stood still: shorter than agents (30 s) and most
/// clients do, so that they hear the reason.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// Of one thread that works on a disk.
#[derive(Debug, Default)]
pub struct Pulse {
    /// Guards when what is being done was begun; held for a look.
    begun: Mutex<Option<Instant>>,
}

impl Pulse {
    /// Does something that asks the disk.
    pub fn at_work<T>(&self, work: impl FnOnce() -> T) -> T {
        let _done = Done(self);
        *self.begun() = Some(Instant::now());
        work()
    }

    /// An error while the disk stands still.
    pub fn check(&self) -> Result<(), StoreError> {
        match self.begun().map(|begun| begun.elapsed()) {
            Some(silent) if silent >= STANDS_STILL => {
                Err(StoreError::StandsStill { seconds: silent.as_secs() })
            }
            Some(_) | None => Ok(()),
        }
    }

    fn begun(&self) -> MutexGuard<'_, Option<Instant>> {
        // Nothing under this lock can panic half-way through a change.
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the work, also where it panics.
struct Done<'a>(&'a Pulse);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        *self.0.begun() = None;
    }
}

/// Waits for what the disk must answer, and no longer than whoever asked does. The work itself must not end with this
/// future: who gives up knows nothing of its outcome, and somebody has to.
pub async fn in_time<T, E: From<StoreError>>(answer: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let late = |_| Err(StoreError::StandsStill { seconds: ANSWER_TIME.as_secs() }.into());
    timeout(ANSWER_TIME, answer).await.unwrap_or_else(late)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_stands_still_once_one_thing_takes_long() {
        let pulse = Pulse::default();
        pulse.check().expect("nothing is being done");
        pulse.at_work(|| pulse.check().expect("it was just begun"));
        *pulse.begun() = Instant::now().checked_sub(STANDS_STILL);
        let error = pulse.check().expect_err("it takes long").to_string();
        assert!(error.contains("has not answered for 5 s"), "{error}");
        pulse.at_work(|| ());
        pulse.check().expect("it is done");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_disk_that_stands_still_hears_of_it() {
        let outcome = in_time(std::future::pending::<Result<(), StoreError>>()).await;
        assert!(matches!(outcome, Err(StoreError::StandsStill { seconds: 10 })), "{outcome:?}");
        in_time(async { Ok::<_, StoreError>(()) }).await.expect("an answer");
    }
}
