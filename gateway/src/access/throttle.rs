//! How often somebody may try to sign in: per source and per account. Pure: `now` is an argument.
//!
//! A few tries are free; each one beyond doubles the wait before the next, up to a bound. An attempt counts when it
//! begins, so that many at once gain nothing, and is taken back when it succeeds.
//!
//! The rule: nobody is locked out for ever. The longest wait of an account is a minute, all is forgotten after an hour
//! of quiet, and a source that has signed in to an account is not slowed by what strangers try on it.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use shared::id::UserName;

use crate::admission::Source;

/// Attempts without a wait: people mistype, and try the password of another place.
const FREE: u32 = 5;
/// The first wait.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait of a source: 96 tries a day.
const LONGEST_OF_SOURCE: Duration = Duration::from_secs(15 * 60);
/// The longest wait of an account, which its owner may be in through no fault of theirs.
const LONGEST_OF_ACCOUNT: Duration = Duration::from_secs(60);
/// After this much quiet all is forgotten.
const FORGET: Duration = Duration::from_secs(60 * 60);
/// How long a source that signed in to an account is known for it.
const FRIEND_FOR: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Entries of each map, a few hundred KiB. The one that waits least makes place.
const MAX_ENTRIES: usize = 10_000;

/// Attempts to sign in.
#[derive(Debug)]
pub(super) struct SignInThrottle {
    sources: Throttle<Source>,
    accounts: Throttle<UserName>,
    /// Who signed in to what from where, and when last.
    friends: HashMap<(UserName, Source), Instant>,
}

impl Default for SignInThrottle {
    fn default() -> Self {
        Self {
            sources: Throttle::new(LONGEST_OF_SOURCE),
            accounts: Throttle::new(LONGEST_OF_ACCOUNT),
            friends: HashMap::new(),
        }
    }
}

impl SignInThrottle {
    /// Counts an attempt on an account, whether there is such a one or not. `Err` is how long to wait instead; that
    /// attempt does not count.
    pub(super) fn attempt(
        &mut self,
        account: &UserName,
        source: Source,
        now: Instant,
    ) -> Result<(), Duration> {
        let friend = self
            .friends
            .get(&(account.clone(), source))
            .is_some_and(|last| now.saturating_duration_since(*last) < FRIEND_FOR);
        let of_account = if friend { Duration::ZERO } else { self.accounts.wait(account, now) };
        let wait = self.sources.wait(&source, now).max(of_account);
        if !wait.is_zero() {
            return Err(wait);
        }
        self.sources.count(source, now);
        if !friend {
            self.accounts.count(account.clone(), now);
        }
        Ok(())
    }

    /// The attempt was right.
    pub(super) fn succeeded(&mut self, account: &UserName, source: Source, now: Instant) {
        self.accounts.forget(account);
        // Not forgotten: who has one account could wipe the slate for guessing at others.
        self.sources.take_back(&source);
        if self.friends.len() >= MAX_ENTRIES {
            let oldest = self.friends.iter().min_by_key(|(_, last)| **last).map(|(friend, _)| friend.clone());
            oldest.map(|oldest| self.friends.remove(&oldest));
        }
        self.friends.insert((account.clone(), source), now);
    }
}

/// Attempts on something that has no account: an API token over SSH, the set-up code.
#[derive(Debug)]
pub(super) struct SourceThrottle(Throttle<Source>);

impl Default for SourceThrottle {
    fn default() -> Self {
        Self(Throttle::new(LONGEST_OF_SOURCE))
    }
}

impl SourceThrottle {
    /// As [`SignInThrottle::attempt`].
    pub(super) fn attempt(&mut self, source: Source, now: Instant) -> Result<(), Duration> {
        let wait = self.0.wait(&source, now);
        if !wait.is_zero() {
            return Err(wait);
        }
        self.0.count(source, now);
        Ok(())
    }

    /// The attempt was right.
    pub(super) fn succeeded(&mut self, source: Source) {
        self.0.take_back(&source);
    }
}

#[derive(Debug)]
struct Throttle<K> {
    longest: Duration,
    entries: HashMap<K, Entry>,
}

#[derive(Debug)]
struct Entry {
    attempts: u32,
    last: Instant,
    /// No further attempt before this.
    free_at: Instant,
}

impl<K: Clone + Eq + Hash> Throttle<K> {
    fn new(longest: Duration) -> Self {
        Self { longest, entries: HashMap::new() }
    }

    fn wait(&self, key: &K, now: Instant) -> Duration {
        self.entries.get(key).map_or(Duration::ZERO, |entry| entry.free_at.saturating_duration_since(now))
    }

    fn count(&mut self, key: K, now: Instant) {
        if self.entries.len() >= MAX_ENTRIES && !self.entries.contains_key(&key) {
            self.make_place(now);
        }
        let entry = self.entries.entry(key).or_insert(Entry { attempts: 0, last: now, free_at: now });
        if entry.is_forgotten(now) {
            entry.attempts = 0;
        }
        entry.attempts = entry.attempts.saturating_add(1);
        entry.last = now;
        entry.free_at = now + wait_after(entry.attempts).min(self.longest);
    }

    fn take_back(&mut self, key: &K) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.attempts = entry.attempts.saturating_sub(1);
            entry.free_at = entry.last;
        }
    }

    fn forget(&mut self, key: &K) {
        self.entries.remove(key);
    }

    fn make_place(&mut self, now: Instant) {
        self.entries.retain(|_, entry| !entry.is_forgotten(now));
        if self.entries.len() >= MAX_ENTRIES {
            let first =
                self.entries.iter().min_by_key(|(_, entry)| entry.free_at).map(|(key, _)| key.clone());
            first.map(|first| self.entries.remove(&first));
        }
    }
}

impl Entry {
    fn is_forgotten(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) > FORGET
    }
}

/// After so many attempts.
fn wait_after(attempts: u32) -> Duration {
    match attempts.checked_sub(FREE) {
        None => Duration::ZERO,
        // Far beyond every bound, and no overflow.
        Some(beyond) => FIRST_WAIT * 2_u32.pow(beyond.min(20)),
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn name(text: &str) -> UserName {
        text.parse().expect("a name")
    }

    fn source(last: u8) -> Source {
        IpAddr::from([192, 0, 2, last]).into()
    }

    #[test]
    fn waits_double_to_their_bound_and_an_attempt_that_must_wait_does_not_count() {
        let mut throttle = SourceThrottle::default();
        let mut now = Instant::now();
        for _ in 0..FREE {
            assert_eq!(throttle.attempt(source(1), now), Ok(()));
        }
        for wait in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900] {
            let wait = Duration::from_secs(wait);
            for _ in 0..3 {
                assert_eq!(throttle.attempt(source(1), now), Err(wait));
            }
            assert_eq!(throttle.attempt(source(2), now), Ok(()), "another source");
            throttle.succeeded(source(2));
            now += wait;
            assert_eq!(throttle.attempt(source(1), now), Ok(()));
        }
        now += 2 * HOUR;
        for _ in 0..FREE {
            assert_eq!(throttle.attempt(source(1), now), Ok(()), "all is forgotten");
        }
    }

    #[test]
    fn an_account_is_slowed_whatever_sources_try_it_and_never_for_more_than_a_minute() {
        let mut throttle = SignInThrottle::default();
        let mut now = Instant::now();
        let mut longest = Duration::ZERO;
        for attempt in 0..200_u8 {
            if let Err(wait) = throttle.attempt(&name("ada"), source(attempt), now) {
                longest = longest.max(wait);
                now += wait;
                assert_eq!(throttle.attempt(&name("ada"), source(attempt), now), Ok(()));
            }
        }
        assert_eq!(longest, LONGEST_OF_ACCOUNT);
        assert_eq!(throttle.attempt(&name("grace"), source(250), now), Ok(()), "another account");
    }

    #[test]
    fn where_somebody_signed_in_before_strangers_keep_them_out_of_nothing() {
        let mut throttle = SignInThrottle::default();
        let now = Instant::now();
        assert_eq!(throttle.attempt(&name("ada"), source(1), now), Ok(()));
        throttle.succeeded(&name("ada"), source(1), now);
        for stranger in 2..100 {
            let _ = throttle.attempt(&name("ada"), source(stranger), now);
        }
        assert!(throttle.attempt(&name("ada"), source(100), now).is_err());
        assert_eq!(throttle.attempt(&name("ada"), source(1), now), Ok(()));
    }

    #[test]
    fn success_on_one_account_does_not_clear_the_way_for_guesses_at_others() {
        let mut throttle = SignInThrottle::default();
        let mut now = Instant::now();
        let mut guesses = 0;
        for account in 0..1000 {
            if throttle.attempt(&name(&format!("user-{account}")), source(1), now).is_ok() {
                guesses += 1;
            }
            if throttle.attempt(&name("mallory"), source(1), now).is_ok() {
                throttle.succeeded(&name("mallory"), source(1), now);
            }
            now += Duration::from_millis(100);
        }
        assert!(guesses <= FREE + 7, "{guesses} guesses in 100 s");
    }

    #[test]
    fn many_sources_take_a_bounded_space_and_free_none_that_waits() {
        let mut throttle = SourceThrottle::default();
        let now = Instant::now();
        let of = |number: u32| Source::from(IpAddr::from(number.to_be_bytes()));
        while throttle.attempt(of(0), now).is_ok() {}
        for number in 1..=2 * u32::try_from(MAX_ENTRIES).expect("it fits") {
            assert_eq!(throttle.attempt(of(number), now), Ok(()));
        }
        assert_eq!(throttle.0.entries.len(), MAX_ENTRIES);
        assert!(throttle.attempt(of(0), now).is_err(), "still waits");
    }
}
