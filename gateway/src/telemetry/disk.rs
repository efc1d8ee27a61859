//! The disk under the data folder, looked at without waiting for it: `statvfs(3)`, which a disk that hangs does not answer.
//!
//! The rule: at most one thread is in that call, however many want to know.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

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
pub(super) struct Looks {
    folder: PathBuf,
    /// Guards the look that was begun last; held to take a handle of it.
    last: Mutex<Option<Look>>,
}

/// A look: nothing until it is done.
type Look = watch::Receiver<Option<Option<Disk>>>;

impl Looks {
    pub(super) fn at(folder: PathBuf) -> Self {
        Self { folder, last: Mutex::default() }
    }

    /// The disk as it is now; `None` where it can't be told, or does not answer at once.
    pub(super) async fn look(&self) -> Option<Disk> {
        let folder = self.folder.clone();
        let mut look = self.joined(move || Disk::under(&folder));
        let seen = timeout(PATIENCE, look.wait_for(Option::is_some)).await;
        seen.ok().and_then(Result::ok).and_then(|seen| seen.flatten())
    }

    /// The look that is under way, or a new one.
    fn joined(&self, look: impl FnOnce() -> Option<Disk> + Send + 'static) -> Look {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some(under_way) if under_way.borrow().is_none() && under_way.has_changed().is_ok() => {
                under_way.clone()
            }
            Some(_) | None => {
                let (done, begun) = watch::channel(None);
                // It goes on after those who gave up; nobody may be left to see it.
                spawn_blocking(move || done.send_replace(Some(look())));
                last.insert(begun).clone()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_disk_has_no_more_free_than_it_has() {
        let disk = Disk::under(Path::new("/")).expect("there is a root");
        assert!(disk.total_bytes > 0 && disk.free_bytes <= disk.total_bytes, "{disk:?}");
        assert_eq!(Disk::under(Path::new("/no/such/folder")), None);
    }

    #[tokio::test]
    async fn a_disk_that_hangs_is_asked_once_and_again_when_it_answered() {
        let looks = Looks::at("/".into());
        let (answer, disk) = channel();
        let mut first = looks.joined(move || disk.recv().ok());
        assert_eq!(looks.look().await, None, "it joined the first, which hangs");
        let well = Disk { free_bytes: 1, total_bytes: 2 };
        answer.send(well).expect("somebody is in the call");
        assert_eq!(*first.wait_for(Option::is_some).await.expect("it is done"), Some(Some(well)));
        let next = looks.look().await.expect("the root answers");
        assert!(next.total_bytes > 2, "a look of its own: {next:?}");
    }
}
