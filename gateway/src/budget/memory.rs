//! The ledger of memory: every kind of work is entered with the most that it holds, before it begins.
//!
//! The figures are worst cases of what a peer can make the gateway keep, measured where that is possible and added up
//! where not; they are checked against the resident memory of a gateway under load. The rule: what is entered is taken
//! out when the [`Reservation`] is dropped, once, and the sum never passes the budget.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use shared::tunnel::ssh::MAX_PACKET;

use crate::telemetry::WorkLabel;

const KIB: u64 = 1024;
/// Messages of a stream that wait for a reader that stopped.
const STREAM_MESSAGES: u64 = 16;
/// What a gateway holds that does nothing: code, runtime, registry of some ten thousand edges, buffers of the audit log.
const BASE: u64 = 48 * KIB * KIB;
/// Part of the budget for what streams on long paths hold beyond their own: an eighth.
const WINDOWS_PART: u64 = 8;
/// No more than this is of use: it fills 10 Gbit/s at a round trip of 200 ms.
const WINDOWS_MOST: u64 = 256 * KIB * KIB;

/// Of a budget of so many bytes, what the windows of all streams may hold together beyond what each has for itself.
pub fn windows(budget: u64) -> u64 {
    (budget / WINDOWS_PART).min(WINDOWS_MOST)
}

/// What is in use for good, beside a store's cache of so many bytes.
pub fn base(budget: u64, store_cache: u64) -> u64 {
    BASE + store_cache + windows(budget)
}

/// What memory is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// A connection to port 9000: TLS and HTTP buffers. An agent that waits holds some 30 KiB.
    Http,
    /// A connection to port 8000, also before its login: key exchange, packets, channels.
    Ssh,
    /// An agent's tunnel or an operator's connection, after its login: what waits for its socket, its control channel.
    Tunnel,
    /// A stream: what waits for a reader that stopped, in one direction, and the buffers of the other.
    Stream,
}

impl Use {
    /// Most that one of it holds.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Http => 48 * KIB,
            Self::Ssh => 160 * KIB,
            Self::Tunnel => 512 * KIB,
            Self::Stream => (STREAM_MESSAGES + 4) * MAX_PACKET as u64,
        }
    }

    /// Up to which part of the budget it gets any, in percent: what matters more has the rest to itself.
    const fn percent(self) -> u64 {
        match self {
            Self::Stream => 80,
            Self::Tunnel => 90,
            Self::Ssh => 95,
            Self::Http => 100,
        }
    }

    /// As it is counted.
    pub fn label(self) -> WorkLabel {
        match self {
            Self::Http => WorkLabel::Http,
            Self::Ssh => WorkLabel::Ssh,
            Self::Tunnel => WorkLabel::Tunnel,
            Self::Stream => WorkLabel::Stream,
        }
    }
}

/// The ledger. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Memory(Arc<Ledger>);

#[derive(Debug)]
struct Ledger {
    budget: u64,
    used: AtomicU64,
}

/// What is reserved, until it is dropped.
#[derive(Debug)]
pub struct Reservation {
    memory: Memory,
    bytes: u64,
}

impl Memory {
    /// Of a budget of so many bytes, of which `base` are in use for good.
    pub fn new(budget: u64, base: u64) -> Self {
        Self(Arc::new(Ledger { budget, used: AtomicU64::new(base) }))
    }

    /// Enters one more, if it fits.
    pub fn reserve(&self, what: Use) -> Option<Reservation> {
        let (bytes, limit) = (what.bytes(), self.0.budget / 100 * what.percent());
        let entered = |used: u64| Some(used + bytes).filter(|sum| *sum <= limit);
        self.0.used.fetch_update(Relaxed, Relaxed, entered).ok()?;
        Some(Reservation { memory: self.clone(), bytes })
    }

    /// The budget, in bytes.
    pub fn budget(&self) -> u64 {
        self.0.budget
    }

    /// What is entered, in bytes.
    pub fn used(&self) -> u64 {
        self.0.used.load(Relaxed)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.memory.0.used.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_never_passes_the_part_that_is_for_this_use() {
        for what in [Use::Http, Use::Ssh, Use::Tunnel, Use::Stream] {
            let memory = Memory::new(100 << 20, 10 << 20);
            let reserved: Vec<_> = (0..).map_while(|_| memory.reserve(what)).collect();
            assert!(memory.used() <= (100 << 20) / 100 * what.percent(), "{what:?}");
            assert!(memory.used() + what.bytes() > (100 << 20) / 100 * what.percent(), "{what:?}");
            drop(reserved);
            assert_eq!(memory.used(), 10 << 20);
        }
    }

    #[test]
    fn many_at_once_do_not_pass_it_either() {
        let memory = Memory::new(64 << 20, 0);
        let count = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| (0..).map_while(|_| memory.reserve(Use::Stream)).collect::<Vec<_>>()))
                .collect();
            let reserved: Vec<_> =
                threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect();
            assert!(memory.used() <= 64 << 20);
            reserved.len() as u64
        });
        assert_eq!(count, (64 << 20) / 100 * 80 / Use::Stream.bytes());
    }
}
