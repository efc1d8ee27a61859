//! A record as a line of the log, and the chain that lines form. Pure.
//!
//! The line is the record's JSON without spaces, its members in the order of [`AuditRecord`], `hash` last. The hash is
//! the SHA-256 of the line's bytes without the member `hash` and the comma before it; as `prev`, the hash of the record
//! before is under it too. The rule: a line is checked as the bytes that it is, never as what a parser makes of them, so
//! that there is no second way to write a record that passes.

use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use shared::wire::admin::{AuditHash, AuditHead, AuditRecord};

/// What stands before the hash in a line, and what after it.
const BEFORE_HASH: &str = ",\"hash\":\"";
const AFTER_HASH: &str = "\"}";
const HASH_DIGITS: usize = 64;
/// Longest line that is ever written. Texts are bounded in characters; what they grow to as JSON escapes fits.
pub const MAX_LINE: usize = 4 * 1024;

/// The line of a record, without a line end, and the place in the log that it takes.
pub fn seal(record: &AuditRecord) -> (String, AuditHead) {
    let unsealed = AuditRecord { hash: AuditHash::default(), ..record.clone() };
    let mut line = serde_json::to_string(&unsealed).expect("strings and numbers have no failing serializer");
    line.truncate(line.len() - BEFORE_HASH.len() - HASH_DIGITS - AFTER_HASH.len());
    let hash = hash_of(line.as_bytes());
    line.push_str(BEFORE_HASH);
    line.push_str(&hash.to_string());
    line.push_str(AFTER_HASH);
    (line, AuditHead { seq: record.seq, hash })
}

/// What a line says of its place, if its hash is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The record itself.
    pub head: AuditHead,
    /// Hash of the one before.
    pub prev: AuditHash,
}

/// Reads the place of a line; `None` where the line is not what was written.
pub fn placed(line: &[u8]) -> Option<Placed> {
    #[derive(Deserialize)]
    struct Place {
        seq: u64,
        prev: AuditHash,
    }
    let text = std::str::from_utf8(line).ok()?;
    let body = text.strip_suffix(AFTER_HASH)?;
    let (body, digits) = body.split_at_checked(body.len().checked_sub(HASH_DIGITS)?)?;
    let body = body.strip_suffix(BEFORE_HASH)?;
    let hash = digits.parse().ok()?;
    if hash_of(body.as_bytes()) != hash {
        return None;
    }
    let place: Place = serde_json::from_str(text).ok()?;
    // Records are counted from 1, and no log comes to the last number there is: both have a neighbour on either side.
    if place.seq == 0 || place.seq == u64::MAX {
        return None;
    }
    Some(Placed { head: AuditHead { seq: place.seq, hash }, prev: place.prev })
}

/// The number of a line that begins as ours do, without a look at the rest: to find a place in much of the log.
pub fn seq_of(line: &[u8]) -> Option<u64> {
    let digits = line.strip_prefix(b"{\"seq\":")?;
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

fn hash_of(body: &[u8]) -> AuditHash {
    let mut hash = Sha256::new();
    hash.update(body);
    hash.update(b"}");
    AuditHash(hash.finalize().into())
}

/// Follows a log line by line and says where it is not whole.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    /// The last record, once there is one or it is known what the first must follow.
    last: Option<AuditHead>,
    /// A line was not readable: the next one can't be held to follow it.
    torn: bool,
}

/// Why a line does not belong where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Break {
    /// Its hash does not fit its text, or it is no record at all.
    #[error("this line is not as it was written")]
    Changed,
    /// Records are missing before it, or were moved.
    #[error("record {found} stands where record {expected} belongs")]
    Misplaced {
        /// What belongs here.
        expected: u64,
        /// What is here.
        found: u64,
    },
    /// The record before it is another one than when it was written.
    #[error("record {seq} does not follow from the record before it")]
    Unlinked {
        /// Which record.
        seq: u64,
    },
}

impl Chain {
    /// A log that continues behind `head`.
    pub fn after(head: AuditHead) -> Self {
        Self { last: Some(head), torn: false }
    }

    /// The last record so far that was as it was written.
    pub fn last(&self) -> Option<AuditHead> {
        self.last
    }

    /// Takes the next line. After a break the chain goes on from the line itself, if that is whole.
    pub fn next(&mut self, line: &[u8]) -> Result<Placed, Break> {
        let Some(placed) = placed(line) else {
            self.torn = true;
            return Err(Break::Changed);
        };
        let seq = placed.head.seq;
        let before = self.last.replace(placed.head);
        let torn = std::mem::take(&mut self.torn);
        match before {
            Some(_) if torn => Ok(placed),
            Some(before) if before.seq + 1 != seq => {
                Err(Break::Misplaced { expected: before.seq + 1, found: seq })
            }
            Some(before) if before.hash != placed.prev => Err(Break::Unlinked { seq }),
            // Only the very first record has nothing before it.
            None if seq == 0 || (seq == 1) != (placed.prev == AuditHash::default()) => {
                Err(Break::Unlinked { seq })
            }
            Some(_) | None => Ok(placed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::entry::{Entry, stranger};

    #[test]
    fn a_line_is_sealed_and_read_back() {
        let before = AuditHead { seq: 6, hash: AuditHash([3; 32]) };
        let entry =
            Entry::new(stranger(), "ssh.login").refused("unknown-credential").detail("a\n\"b\"\u{1b}[2J");
        let (line, head) = seal(&entry.after(before));
        assert!(!line.contains(|c: char| c.is_control()), "{line}");
        assert!(line.starts_with("{\"seq\":7,\"at\":"), "{line}");
        assert_eq!(placed(line.as_bytes()), Some(Placed { head, prev: before.hash }));
        assert_eq!(seq_of(line.as_bytes()), Some(7));
        let record: AuditRecord = serde_json::from_str(&line).expect("a record");
        assert_eq!(record.detail.as_deref(), Some("a\n\"b\"\u{1b}[2J"));
        assert_eq!(seal(&record), (line, head));
    }

    #[test]
    fn a_number_that_no_log_comes_to_is_no_record_though_its_hash_fits() {
        let record = Entry::new(stranger(), "ssh.login").after(AuditHead::default());
        let mut chain = Chain::default();
        for seq in [u64::MAX, 0] {
            let (line, _) = seal(&AuditRecord { seq, ..record.clone() });
            assert_eq!(chain.next(line.as_bytes()), Err(Break::Changed), "{seq}");
        }
        let (first, head) = seal(&record);
        assert_eq!(chain.next(first.as_bytes()).map(|placed| placed.head), Ok(head));
    }

    #[test]
    fn the_longest_line_fits() {
        let wild = "\u{1}".repeat(5000);
        let label = "x".repeat(63);
        let actor =
            shared::wire::admin::AuditActor { name: wild.clone(), id: Some(uuid::Uuid::max()), ..stranger() };
        let entry = Entry::new(actor, &"x".repeat(100))
            .from("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535".parse().expect("an address"))
            .edge(&label.parse().expect("a label"))
            .service(&label.parse().expect("a label"))
            .via(shared::wire::admin::AuditVia::Stream)
            .refused(&"x".repeat(100))
            .count(u64::MAX)
            .bytes(u64::MAX, u64::MAX)
            .took(std::time::Duration::MAX)
            .detail(&wild);
        let (line, _) = seal(&entry.after(AuditHead { seq: u64::MAX - 1, hash: AuditHash([7; 32]) }));
        assert!(line.len() < MAX_LINE, "{}", line.len());
    }
}
