//! What attackers sent, and what became of it. Pure but for the mutex that lets many count into one.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// Sentences of what must not have happened that are kept: more of the same say nothing new.
const SENTENCES: usize = 20;

/// What became of one thing that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// The connection was closed at the door, before a word.
    TurnedAway,
    /// The connection was closed.
    Closed,
    /// No, in the protocol's own words.
    Refused,
    /// Yes, in the protocol's own words.
    Granted,
    /// An HTTP answer.
    Answered(u16),
    /// Nothing was said of it until the end of the attack.
    Unanswered,
    /// There was no connection to be had.
    Unreachable,
}

impl fmt::Display for Fate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::TurnedAway => "turned away",
            Self::Closed => "closed",
            Self::Refused => "refused",
            Self::Granted => "granted",
            Self::Answered(status) => return write!(formatter, "answered {status}"),
            Self::Unanswered => "unanswered",
            Self::Unreachable => "unreachable",
        };
        formatter.write_str(text)
    }
}

impl Fate {
    /// Of an HTTP answer's first bytes; of nothing, the connection was closed.
    pub fn of_answer(bytes: &[u8]) -> Self {
        let status = bytes.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        status.filter(|_| bytes.starts_with(b"HTTP/1.")).map_or(Self::Closed, Self::Answered)
    }

    /// Of a connection that could not be made.
    pub fn of_dialling(error: &io::Error) -> Self {
        match error.kind() {
            // It was accepted and reset before this end knew of it.
            io::ErrorKind::ConnectionReset => Self::TurnedAway,
            _ => Self::Unreachable,
        }
    }
}

/// What was sent, and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// How many things.
    pub sent: u64,
    /// What became of them. Floods count messages as sent and connections here.
    pub fates: BTreeMap<Fate, u64>,
    /// What must not have happened, a sentence each.
    pub wrong: Vec<String>,
}

impl Account {
    /// One more that met this fate.
    pub fn met(&mut self, fate: Fate) {
        *self.fates.entry(fate).or_default() += 1;
    }

    /// How many did.
    pub fn count(&self, fate: Fate) -> u64 {
        self.fates.get(&fate).copied().unwrap_or(0)
    }

    /// Something that must not have happened did, unless this holds.
    pub fn must(&mut self, holds: bool, sentence: impl FnOnce() -> String) {
        if !holds && self.wrong.len() < SENTENCES {
            self.wrong.push(sentence());
        }
    }
}

/// An account that many write into. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Book(Arc<Mutex<Account>>);

impl Book {
    /// One thing was sent.
    pub fn sent(&self) {
        self.with(|account| account.sent += 1);
    }

    /// So many things were.
    pub fn sent_many(&self, count: u64) {
        self.with(|account| account.sent += count);
    }

    /// One met this fate.
    pub fn met(&self, fate: Fate) {
        self.with(|account| account.met(fate));
    }

    /// Something that must not have happened did, unless this holds.
    pub fn must(&self, holds: bool, sentence: impl FnOnce() -> String) {
        self.with(|account| account.must(holds, sentence));
    }

    /// The account so far.
    pub fn account(&self) -> Account {
        self.with(|account| account.clone())
    }

    fn with<T>(&self, change: impl FnOnce(&mut Account) -> T) -> T {
        // An account is whole after each change, so one that panicked left it right.
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_known_by_its_status_and_all_else_is_the_end_of_a_connection() {
        assert_eq!(Fate::of_answer(b"HTTP/1.1 429 Too Many Requests\r\n"), Fate::Answered(429));
        for other in [&b""[..], b"HTTP/1.1 ", b"HTTP/1.1 xyz", b"SSH-2.0-429"] {
            assert_eq!(Fate::of_answer(other), Fate::Closed, "{other:?}");
        }
    }

    #[test]
    fn everybody_counts_into_one_account() {
        let book = Book::default();
        for _ in 0..100 {
            let book = book.clone();
            book.sent();
            book.met(Fate::Closed);
            book.must(false, || "no".to_owned());
        }
        let account = book.account();
        assert_eq!((account.sent, account.count(Fate::Closed), account.wrong.len()), (100, 100, SENTENCES));
    }
}
