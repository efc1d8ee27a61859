//! The bytes of bulk streams: seeded noise that both ends know, so that every byte that arrives can be compared with the
//! one that was sent. Comparing costs far less than a checksum, which would take processor time from what is measured.

use std::io;
use std::sync::Arc;

use fixtures::seeded::Seeded;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Length of the noise before it repeats: a prime, so that no block, frame or window of any protocol can be lost, doubled
/// or swapped without a difference.
const PERIOD: usize = 1_048_573;
/// Bytes written or read at a time: above what any tunnel carries in one message.
const BLOCK: usize = 128 * 1024;

/// Endless seeded bytes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Pattern(Arc<[u8]>);

impl Pattern {
    /// The pattern of this seed.
    pub fn new(seed: u64) -> Self {
        let seeded = Seeded::new(seed);
        let blocks = (0..).flat_map(|number| seeded.bytes("bulk pattern", number));
        Self(blocks.take(PERIOD).collect())
    }

    /// Some of the bytes from `offset` on: at most `limit`, at least one unless that is 0.
    fn at(&self, offset: u64, limit: usize) -> &[u8] {
        let start = usize::try_from(offset % PERIOD as u64).expect("a remainder is smaller than its divisor");
        let end = PERIOD.min(start.saturating_add(limit));
        &self.0[start..end]
    }

    /// Whether `bytes` are what stands at `offset`.
    fn matches(&self, mut offset: u64, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let expected = self.at(offset, bytes.len());
            let (now, later) = bytes.split_at(expected.len());
            if now != expected {
                return false;
            }
            offset = offset.wrapping_add(now.len() as u64);
            bytes = later;
        }
        true
    }

    /// Writes `length` bytes from `start` on.
    ///
    /// # Errors
    /// Those of the stream.
    pub async fn send(&self, to: &mut (impl AsyncWrite + Unpin), start: u64, length: u64) -> io::Result<()> {
        let mut sent = 0;
        while sent < length {
            let block = self.at(start.wrapping_add(sent), at_most(BLOCK, length - sent));
            to.write_all(block).await?;
            sent += block.len() as u64;
        }
        to.flush().await
    }

    /// Reads `length` bytes and compares them with those from `start` on.
    ///
    /// # Errors
    /// Those of the stream; `UnexpectedEof` if it ends before; `InvalidData` at the first difference.
    pub async fn receive(
        &self,
        from: &mut (impl AsyncRead + Unpin),
        start: u64,
        length: u64,
    ) -> io::Result<()> {
        self.receive_counting(from, start, length, |_| {}).await
    }

    /// As [`Pattern::receive`], and says of each part that was right how many bytes it had.
    ///
    /// # Errors
    /// As for [`Pattern::receive`].
    pub async fn receive_counting(
        &self,
        from: &mut (impl AsyncRead + Unpin),
        start: u64,
        length: u64,
        mut arrived: impl FnMut(u64),
    ) -> io::Result<()> {
        let mut buffer = vec![0; BLOCK];
        let mut received = 0;
        while received < length {
            let limit = at_most(BLOCK, length - received);
            let count = from.read(&mut buffer[..limit]).await?;
            if count == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    format!("the stream ended after {received} of {length} bytes"),
                ));
            }
            if !self.matches(start.wrapping_add(received), &buffer[..count]) {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("other bytes than were sent, after {received} right ones"),
                ));
            }
            received += count as u64;
            arrived(count as u64);
        }
        Ok(())
    }
}

fn at_most(limit: usize, left: u64) -> usize {
    usize::try_from(left).map_or(limit, |left| left.min(limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: u64 = 2 * PERIOD as u64 + 7;

    async fn sent(pattern: &Pattern, start: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        pattern.send(&mut bytes, start, LENGTH).await.expect("memory takes it");
        bytes
    }

    #[tokio::test]
    async fn what_was_sent_is_recognised_across_the_period() {
        let pattern = Pattern::new(1);
        for start in [0, 5, PERIOD as u64 - 1] {
            let bytes = sent(&pattern, start).await;
            assert_eq!(bytes.len() as u64, LENGTH);
            pattern.receive(&mut bytes.as_slice(), start, LENGTH).await.expect("the same bytes");
        }
    }

    #[tokio::test]
    async fn a_changed_lost_or_foreign_byte_is_noticed() {
        let pattern = Pattern::new(1);
        let bytes = sent(&pattern, 0).await;
        let mut changed = bytes.clone();
        changed[PERIOD + 3] ^= 1;
        let mut lost = bytes.clone();
        lost.remove(100_000);
        let foreign = sent(&Pattern::new(2), 0).await;
        for wrong in [changed, lost, foreign] {
            let error = pattern.receive(&mut wrong.as_slice(), 0, LENGTH).await.expect_err("not the same");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
        }
        let short = &bytes[..bytes.len() - 1];
        let error = pattern.receive(&mut &*short, 0, LENGTH).await.expect_err("too short");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
