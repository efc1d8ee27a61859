//! The disk under the data folder, looked at without waiting for it: `statvfs(3)`, which a disk that hangs does not answer.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::timeout;

use super::looks::Looks;

/// How long a reading of the gateway's state waits for its disk. A disk that is well answers from memory.
const PATIENCE: Duration = Duration::from_millis(250);

/// A disk at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// Bytes that this process may still write.
    pub free_bytes: u64,
    /// All bytes.
    pub total_bytes: u64,
}

impl Disk {
    /// The disk under `folder`. Blocks.
    fn under(folder: &Path) -> Option<Self> {
        let disk = rustix::fs::statvfs(folder).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        Some(Self { free_bytes: bytes(disk.f_bavail), total_bytes: bytes(disk.f_blocks) })
    }
}

/// Looks at the disk under one folder.
#[derive(Debug)]
pub(super) struct DiskLooks {
    folder: PathBuf,
    looks: Looks<Option<Disk>>,
}

impl DiskLooks {
    pub(super) fn at(folder: PathBuf) -> Self {
        Self { folder, looks: Looks::default() }
    }

    /// The disk as it is now; `None` where it can't be told, or does not answer at once.
    pub(super) async fn look(&self) -> Option<Disk> {
        let folder = self.folder.clone();
        timeout(PATIENCE, self.looks.look(move || Disk::under(&folder))).await.ok()??
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_disk_has_no_more_free_than_it_has() {
        let disk = DiskLooks::at("/".into()).look().await.expect("there is a root");
        assert!(disk.total_bytes > 0 && disk.free_bytes <= disk.total_bytes, "{disk:?}");
        assert_eq!(DiskLooks::at("/no/such/folder".into()).look().await, None);
    }
}
