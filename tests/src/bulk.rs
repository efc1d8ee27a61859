//! Long bodies with a known checksum, made as they are sent: no gigabyte is ever in memory.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// One gibibyte.
pub const GIB: u64 = 1 << 30;
const BLOCK: usize = 64 * 1024;
/// A stream on which nothing moves for this long is stuck.
const STUCK: Duration = Duration::from_secs(60);

/// A SHA-256.
pub type Checksum = [u8; 32];

/// Blocks that differ from each other, so that a lost, doubled or swapped one changes the checksum.
#[derive(Debug)]
pub struct Pattern {
    block: Vec<u8>,
    number: u64,
    left: u64,
    hasher: Sha256,
}

impl Pattern {
    /// `length` bytes; another `seed` gives others.
    pub fn new(seed: u8, length: u64) -> Self {
        // A full period of an odd step modulo 251 keeps the block free of short repetitions.
        let block = (0..BLOCK).map(|i| (i.wrapping_mul(31) % 251) as u8 ^ seed).collect();
        Self { block, number: 0, left: length, hasher: Sha256::new() }
    }

    /// The next block; `None` at the end.
    pub fn next_block(&mut self) -> Option<&[u8]> {
        if self.left == 0 {
            return None;
        }
        self.block[..8].copy_from_slice(&self.number.to_be_bytes());
        self.number += 1;
        let length = usize::try_from(self.left).map_or(BLOCK, |left| left.min(BLOCK));
        self.left -= length as u64;
        self.hasher.update(&self.block[..length]);
        Some(&self.block[..length])
    }

    /// Checksum of all that was given out.
    pub fn checksum(self) -> Checksum {
        self.hasher.finalize().into()
    }
}

/// The outcome of one step on a stream, or an error if it does not come in a minute.
pub async fn moving<T>(step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(STUCK, step).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Writes the whole pattern and returns its checksum. An error if it gets stuck.
pub async fn send(mut pattern: Pattern, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<Checksum> {
    while let Some(block) = pattern.next_block() {
        moving(to.write_all(block)).await?;
    }
    moving(to.flush()).await?;
    Ok(pattern.checksum())
}

/// Reads to the end and returns length and checksum. An error if it gets stuck.
pub async fn receive(from: &mut (impl AsyncRead + Unpin)) -> io::Result<(u64, Checksum)> {
    let mut buffer = vec![0; BLOCK];
    let (mut length, mut hasher) = (0, Sha256::new());
    loop {
        let count = moving(from.read(&mut buffer)).await?;
        if count == 0 {
            return Ok((length, hasher.finalize().into()));
        }
        hasher.update(&buffer[..count]);
        length += count as u64;
    }
}

/// The checksum of the whole pattern.
pub fn checksum(mut pattern: Pattern) -> Checksum {
    while pattern.next_block().is_some() {}
    pattern.checksum()
}

/// The whole pattern in memory, for small ones.
pub fn bytes(seed: u8, length: u64) -> Bytes {
    let mut pattern = Pattern::new(seed, length);
    let mut all = Vec::new();
    while let Some(block) = pattern.next_block() {
        all.extend_from_slice(block);
    }
    all.into()
}
