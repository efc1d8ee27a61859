//! Snapshots as they come from agents: so many at a time, unpacked within bounds, read, and only then believed to be
//! one.
//!
//! Thousands of tunnels may fall idle in the same minute, and each brings its snapshot before it closes. The rule: a
//! snapshot has one of [`MAX_UPLOADS`] places from the head of its request until it is stored. Whoever finds none waits in
//! line, with its bytes still on its own side, and is asked to come again where that takes too long: a refusal at once
//! would cost the gateway another TLS handshake for each. Unpacking is work for a thread of its own, a few at a time: each may take as much memory as
//! the largest snapshot.

use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flate2::bufread::GzDecoder;
use shared::wire::snapshot::{MAX_JSON, Snapshot};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::problem::{Code, Problem};

/// Snapshots that are taken in at once. Their compressed bytes are 128 MiB at most. One of the usual 2 to 50 KiB takes
/// half a second over a slow satellite link, so 5,000 agents on such links are through within half a minute.
pub const MAX_UPLOADS: usize = 128;

/// Longest wait for a place. Agents wait for twice as long and more until they hear that their snapshot is stored.
const TURN_TIME: Duration = Duration::from_secs(20);

/// When one that got no place should come again; agents spread themselves over as much again, and come later each time.
const RETRY_S: u32 = 1;

/// Snapshots that are unpacked at once. Each takes some tens of milliseconds and up to a few times [`MAX_JSON`]; more
/// would only take the processor from everybody else. When full, the next one waits.
const AT_ONCE: usize = 4;

static UNPACKING: Semaphore = Semaphore::const_new(AT_ONCE);

/// The places. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Uploads(Arc<Semaphore>);

impl Default for Uploads {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_UPLOADS)))
    }
}

impl Uploads {
    /// A place, held until it is dropped; or the answer that there was none.
    pub async fn enter(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let place = timeout(TURN_TIME, Arc::clone(&self.0).acquire_owned()).await;
        place.map(|place| place.expect("nobody closes this semaphore")).map_err(|_| {
            let detail = format!(
                "the gateway takes in {MAX_UPLOADS} snapshots at once and had no place within {} s; try again",
                TURN_TIME.as_secs()
            );
            Problem::new(Code::Busy, detail).retry_after_s(RETRY_S)
        })
    }
}

/// Why bytes are no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// Not gzip, or damaged.
    #[error("the snapshot is not gzip: {0}")]
    Gzip(#[source] std::io::Error),
    /// Something follows the gzip member.
    #[error("the snapshot has bytes after the end of its gzip data")]
    Trailing,
    /// Too much of it.
    #[error("the snapshot unpacks to more than {MAX_JSON} bytes of JSON")]
    TooLarge,
    /// Not the JSON of a snapshot.
    #[error("the snapshot is not as it should be: {0}")]
    Json(#[source] serde_json::Error),
    /// The thread that unpacked it did not come back.
    #[error("unpacking the snapshot failed")]
    Failed,
}

/// Unpacks gzip of a snapshot's JSON.
pub async fn unpack(gzip: Bytes) -> Result<Snapshot, UnpackError> {
    let _turn = UNPACKING.acquire().await.expect("nobody closes this semaphore");
    tokio::task::spawn_blocking(move || unpack_now(&gzip)).await.map_err(|_| UnpackError::Failed)?
}

pub(super) fn unpack_now(mut gzip: &[u8]) -> Result<Snapshot, UnpackError> {
    let mut json = Vec::new();
    // One byte more than allowed tells too large from just fitting.
    GzDecoder::new(&mut gzip).take(MAX_JSON as u64 + 1).read_to_end(&mut json).map_err(UnpackError::Gzip)?;
    if json.len() > MAX_JSON {
        return Err(UnpackError::TooLarge);
    }
    if !gzip.is_empty() {
        return Err(UnpackError::Trailing);
    }
    serde_json::from_slice(&json).map_err(UnpackError::Json)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn pack(json: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(json).expect("a Vec takes everything");
        encoder.finish().expect("a Vec takes everything")
    }

    #[tokio::test]
    async fn a_packed_snapshot_is_read() {
        let snapshot = Snapshot { taken_at: "2026-11-09T08:00:00Z".into(), ..Snapshot::default() };
        let json = serde_json::to_vec(&snapshot).expect("serializes");
        assert_eq!(unpack(pack(&json).into()).await.expect("a snapshot"), snapshot);
    }

    #[tokio::test]
    async fn a_bomb_stops_at_the_limit() {
        let bomb = pack(&vec![b' '; MAX_JSON + 1]);
        assert!(bomb.len() < 100_000, "it is small on the wire");
        assert!(matches!(unpack(bomb.into()).await, Err(UnpackError::TooLarge)));
    }

    #[tokio::test]
    async fn what_is_no_snapshot_is_refused() {
        assert!(matches!(unpack(Bytes::from_static(b"{}")).await, Err(UnpackError::Gzip(_))));
        assert!(matches!(unpack(pack(b"[]").into()).await, Err(UnpackError::Json(_))));
        let mut damaged = pack(b"{}");
        damaged.truncate(damaged.len() - 3);
        assert!(matches!(unpack(damaged.into()).await, Err(UnpackError::Gzip(_))));
        let json = serde_json::to_vec(&Snapshot::default()).expect("serializes");
        let mut longer = pack(&json);
        longer.extend_from_slice(b"more");
        assert!(matches!(unpack(longer.into()).await, Err(UnpackError::Trailing)));
    }
}
