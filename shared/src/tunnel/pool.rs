//! What the streams of one tunnel share: the memory for their windows, and what they learn about path and company.
//!
//! Every stream has [`SHARED`](super::credit::SHARED) messages for itself; what is beyond is taken from the tunnel's pool,
//! and that from the process's [`WindowBudget`]. Whoever gets less than was asked for is slower on a path with delay, and
//! nothing else happens. The rule: what was taken comes back when the [`Reservation`] is dropped, once.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::credit::Delay;
use super::ssh::MAX_PACKET;

/// Most that the streams of one tunnel hold together beyond their own: 64 MiB, so that one tunnel on a long path leaves
/// room for others.
const TUNNEL_MOST: u32 = 2048;

/// Memory for the windows of all tunnels of a process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct WindowBudget(Arc<Purse>);

#[derive(Debug)]
struct Purse {
    /// In messages.
    cap: u32,
    taken: AtomicU32,
}

impl Purse {
    fn new(cap: u32) -> Self {
        Self { cap, taken: AtomicU32::new(0) }
    }

    /// Takes up to `wanted`; how much it was.
    fn take(&self, wanted: u32) -> u32 {
        let mut got = 0;
        let take = |taken: u32| {
            got = wanted.min(self.cap.saturating_sub(taken));
            (got > 0).then_some(taken + got)
        };
        match self.taken.fetch_update(Relaxed, Relaxed, take) {
            Ok(_) => got,
            Err(_) => 0,
        }
    }

    fn give_back(&self, count: u32) {
        self.taken.fetch_sub(count, Relaxed);
    }
}

impl WindowBudget {
    /// At most so many bytes, counted as messages of full size.
    pub fn new(bytes: u64) -> Self {
        let messages = u32::try_from(bytes / u64::from(MAX_PACKET)).unwrap_or(u32::MAX);
        Self(Arc::new(Purse::new(messages)))
    }

    /// Bytes that streams hold now.
    pub fn taken(&self) -> u64 {
        u64::from(self.0.taken.load(Relaxed)) * u64::from(MAX_PACKET)
    }
}

/// What the streams of one tunnel share.
#[derive(Debug)]
pub struct Pool {
    budget: WindowBudget,
    purse: Purse,
    delay: Mutex<Delay>,
    messages: AtomicU64,
}

impl Pool {
    /// For a new tunnel.
    pub fn new(budget: WindowBudget) -> Self {
        Self { budget, purse: Purse::new(TUNNEL_MOST), delay: Mutex::default(), messages: AtomicU64::new(0) }
    }

    /// A stream carried messages, in either direction.
    pub(super) fn carried(&self, messages: u64) {
        self.messages.fetch_add(messages, Relaxed);
    }

    /// Messages that all streams carried so far.
    pub(super) fn messages(&self) -> u64 {
        self.messages.load(Relaxed)
    }

    /// A round trip was measured.
    pub(super) fn observe(&self, round_trip: Duration) {
        self.delay.lock().unwrap_or_else(PoisonError::into_inner).observe(round_trip);
    }

    /// The path's shortest round trip so far.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.delay.lock().unwrap_or_else(PoisonError::into_inner).shortest()
    }

    fn take(&self, wanted: u32) -> u32 {
        let from_pool = self.purse.take(wanted);
        let from_budget = self.budget.0.take(from_pool);
        self.purse.give_back(from_pool - from_budget);
        from_budget
    }

    fn give_back(&self, count: u32) {
        self.purse.give_back(count);
        self.budget.0.give_back(count);
    }
}

/// What one stream has taken from its tunnel's pool.
#[derive(Debug)]
pub(super) struct Reservation<'a> {
    pool: &'a Pool,
    messages: u32,
}

impl<'a> Reservation<'a> {
    /// Nothing yet.
    pub(super) fn new(pool: &'a Pool) -> Self {
        Self { pool, messages: 0 }
    }

    /// Asks for this many in all, and says how many it has then.
    pub(super) fn resize(&mut self, messages: u32) -> u32 {
        if messages > self.messages {
            self.messages += self.pool.take(messages - self.messages);
        } else if messages < self.messages {
            self.pool.give_back(self.messages - messages);
            self.messages = messages;
        }
        self.messages
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.pool.give_back(self.messages);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gets_more_than_there_is_and_all_comes_back() {
        let budget = WindowBudget::new(u64::from(MAX_PACKET) * 100);
        let (near, far) = (Pool::new(budget.clone()), Pool::new(budget.clone()));
        let (mut one, mut two) = (Reservation::new(&near), Reservation::new(&far));
        assert_eq!(one.resize(70), 70);
        assert_eq!(two.resize(70), 30, "the rest of the budget");
        assert_eq!(two.resize(80), 30, "nothing is left");
        assert_eq!(one.resize(20), 20);
        assert_eq!(two.resize(80), 80);
        assert_eq!(budget.taken(), u64::from(MAX_PACKET) * 100);
        drop((one, two));
        assert_eq!(budget.taken(), 0);
    }

    #[test]
    fn one_tunnel_leaves_room_for_others() {
        let budget = WindowBudget::new(u64::MAX);
        let pool = Pool::new(budget.clone());
        let mut streams: Vec<_> = (0..10).map(|_| Reservation::new(&pool)).collect();
        let got: u32 = streams.iter_mut().map(|stream| stream.resize(500)).sum();
        assert_eq!(got, TUNNEL_MOST);
        drop(streams);
        assert_eq!((budget.taken(), Reservation::new(&pool).resize(5000)), (0, TUNNEL_MOST));
    }
}
