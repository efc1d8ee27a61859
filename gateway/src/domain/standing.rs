//! How one instance stands: whether there is anything new for it, and when it was heard last. The one thing of the
//! registry that others may touch beside it, so that the usual check-in is answered without asking. Pure.
//!
//! The registry keeps it with the instance, and whoever speaks with the agent keeps another end. While it is *open*, the
//! registry would answer the instance's next question with "nothing new", whatever else goes on. The registry opens it with
//! such an answer, and closes it before anything takes effect that it would answer otherwise.
//!
//! | | [`Standing::pass`] | [`Standing::hold`] | [`Standing::hear`] | [`Standing::close`] |
//! | --- | --- | --- | --- | --- |
//! | closed, or forgotten for good | ask the registry | ask the registry | heard now | |
//! | open | heard now, nothing new | held | heard now | closed |
//! | open, a question is held | ask the registry | held, in place of that one | heard now, in place of that one | closed, that one is woken |
//!
//! What must always hold: "open" and "heard" change in one step, so an answer that was given is never missed by whoever
//! judges silence ([`Standing::fell_silent`]); a question that is held ends by being woken, replaced or released, and only the
//! last one that was held is.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// There is nothing new.
const OPEN: u64 = 1;
/// A question is held; together with [`OPEN`], or it has been woken and is about to end.
const HELD: u64 = 2;
/// The registry has no such instance any more, and never opens this again.
const FORGOTTEN: u64 = 4;
/// Where the milliseconds begin.
const SHIFT: u32 = 3;

/// What registry and connections share about one instance.
#[derive(Debug)]
pub struct Standing {
    /// What `word` counts from.
    origin: Instant,
    /// [`OPEN`], [`HELD`], [`FORGOTTEN`], and above them when the instance was heard, in milliseconds since `origin`. While a question is
    /// held, that is when it ends: a live agent has no reason to speak before.
    word: AtomicU64,
    /// Guards who is held. Taken to hold, to replace, to wake, for a few instructions; never by [`Self::pass`].
    seat: Mutex<Seat>,
}

/// The question that is held.
#[derive(Debug, Default)]
struct Seat {
    /// Which one, of all that ever were.
    number: u64,
    waker: Option<Waker>,
}

impl Standing {
    /// Closed, of an instance that is heard for the first time.
    pub fn new(now: Instant) -> Self {
        Self { origin: now, word: AtomicU64::new(0), seat: Mutex::default() }
    }

    /// There is nothing new for the instance from now on.
    pub fn open(&self) {
        self.word.fetch_or(OPEN, Ordering::AcqRel);
    }

    /// There may be something new: whoever is held is woken, whoever asks has to ask the registry.
    pub fn close(&self) {
        self.shut(0);
    }

    fn shut(&self, flag: u64) {
        let shut = |word: u64| Some(word & !OPEN | flag);
        let before = self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, shut);
        if before.is_ok_and(|before| before & (OPEN | HELD) == OPEN | HELD) {
            let waker = self.seat().waker.take();
            wake(waker);
        }
    }

    /// The instance asked the registry. A question of it that is held is out of date.
    pub fn hear(&self, now: Instant) {
        self.sit(|_| Some(self.heard_at(now)));
    }

    /// When the instance was heard last. While a question is held: when that ends.
    pub fn heard(&self) -> Instant {
        self.origin + Duration::from_millis(self.word.load(Ordering::Acquire) >> SHIFT)
    }

    /// Whether the instance was not heard for longer than `patience`. One that was not is closed, so that nobody answers it
    /// who does not know.
    pub fn fell_silent(&self, patience: Duration, now: Instant) -> bool {
        let is_silent = || now > self.heard() + patience;
        is_silent() && {
            self.close();
            // It may have been heard just before.
            is_silent()
        }
    }

    /// Answers a question with "nothing new", if there is nothing. Without a lock.
    pub fn pass(&self, now: Instant) -> bool {
        let heard = self.heard_at(now);
        let mut word = self.word.load(Ordering::Acquire);
        while word & (OPEN | HELD) == OPEN {
            // Clocks of two threads may be read in one order and noted in the other.
            let next = heard.max(word & !OPEN) | OPEN;
            match self.word.compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                Err(changed) => word = changed,
            }
        }
        false
    }

    /// Holds a question, at most until the given moment, if there is nothing new.
    pub fn hold(self: &Arc<Self>, until: Instant) -> Option<Held> {
        let held = self.heard_at(until) | OPEN | HELD;
        let number = self.sit(|word| (word & OPEN != 0).then_some(held))?;
        Some(Held { standing: Arc::clone(self), number })
    }

    /// Changes the word and takes the place of whoever is held.
    fn sit(&self, change: impl Fn(u64) -> Option<u64>) -> Option<u64> {
        let mut seat = self.seat();
        // These flags are the registry's, which may close meanwhile.
        let keep = |word: u64| change(word).map(|next| next & !OPEN | word & (OPEN | FORGOTTEN));
        self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, keep).ok()?;
        seat.number += 1;
        let (number, replaced) = (seat.number, seat.waker.take());
        drop(seat);
        wake(replaced);
        Some(number)
    }

    fn heard_at(&self, moment: Instant) -> u64 {
        let since = moment.saturating_duration_since(self.origin).as_millis();
        u64::try_from(since).map_or(u64::MAX >> SHIFT, |since| since.min(u64::MAX >> SHIFT)) << SHIFT
    }

    fn seat(&self) -> MutexGuard<'_, Seat> {
        self.seat.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// The registry's end. An instance that it forgets has nobody who would close its standing later.
#[derive(Debug)]
pub struct Registered(Arc<Standing>);

impl Registered {
    /// Of an instance that is heard for the first time.
    pub fn new(now: Instant) -> Self {
        Self(Arc::new(Standing::new(now)))
    }

    /// An end for whoever speaks with the agent.
    pub fn share(&self) -> Arc<Standing> {
        Arc::clone(&self.0)
    }
}

impl std::ops::Deref for Registered {
    type Target = Standing;

    fn deref(&self) -> &Standing {
        &self.0
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.0.shut(FORGOTTEN);
    }
}

/// A question that is held: ready when it has to be answered before its time. Whoever has it ends it with
/// [`Self::release`], or the instance counts as heard until the question's time would have been over.
#[derive(Debug)]
pub struct Held {
    standing: Arc<Standing>,
    number: u64,
}

/// Why a question is held no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The registry may have something new.
    News,
    /// The registry let go of the instance: its edge was dissociated or deleted, or another one took its place. A question
    /// that was let in before is not to be put again: it would claim a key that was just freed from it.
    Forgotten,
    /// The instance asked again.
    Replaced,
}

impl Future for Held {
    type Output = Ended;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Ended> {
        let mut seat = self.standing.seat();
        if seat.number != self.number {
            return Poll::Ready(Ended::Replaced);
        }
        match self.standing.word.load(Ordering::Acquire) & (OPEN | FORGOTTEN) {
            OPEN => {}
            0 => return Poll::Ready(Ended::News),
            _ => return Poll::Ready(Ended::Forgotten),
        }
        match &mut seat.waker {
            Some(waker) => waker.clone_from(context.waker()),
            empty @ None => *empty = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

impl Held {
    /// It is held no longer, for whatever reason: it is answered, or its connection is gone.
    pub fn release(&self, now: Instant) {
        let mut seat = self.standing.seat();
        if seat.number == self.number {
            seat.waker = None;
            let heard = self.standing.heard_at(now);
            let ended = |word: u64| Some(heard.min(word >> SHIFT << SHIFT) | word & (OPEN | FORGOTTEN));
            // Nobody else changes what is above the flags while a question is held.
            let _ = self.standing.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, ended);
            // So that a second call finds nothing.
            seat.number += 1;
        }
    }
}

#[cfg(test)]
mod tests;
