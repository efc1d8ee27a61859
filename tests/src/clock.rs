//! A clock on the wall that a test turns: for programs that are started with it, by libfaketime. Their monotonic clock goes on.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// The library for programs with threads, wherever Debian puts it for this machine's architecture.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// A clock, right until it is turned.
#[derive(Debug)]
pub struct Clock {
    folder: TempDir,
    library: PathBuf,
}

impl Clock {
    /// One that is right.
    ///
    /// # Panics
    /// If libfaketime is not installed.
    pub fn right() -> Self {
        let folder = TempDir::new().expect("the folder for temporary files is writable");
        let clock = Self { folder, library: library() };
        clock.turn(0);
        clock
    }

    /// From now on it is so many seconds ahead of this machine's, or behind.
    pub fn turn(&self, seconds: i64) {
        // Renamed into its place: a program that looks at this moment finds one or the other.
        let new = self.folder.path().join("new");
        std::fs::write(&new, format!("{seconds:+}\n")).expect("the folder is ours");
        std::fs::rename(new, self.offset()).expect("the folder is ours");
    }

    /// What a program must be started with.
    pub fn environment(&self) -> [(&'static str, String); 5] {
        let text = |path: &Path| path.to_str().expect("paths of temporary files are plain").to_owned();
        [
            ("LD_PRELOAD", text(&self.library)),
            ("FAKETIME_TIMESTAMP_FILE", text(&self.offset())),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            // The same, as releases before 0.9.10 call it.
            ("DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
    }

    fn offset(&self) -> PathBuf {
        self.folder.path().join("offset")
    }
}

fn library() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|entry| entry.path());
    let places = folders.chain([PathBuf::from("/usr/lib")]);
    places
        .map(|folder| folder.join(LIBRARY))
        .find(|library| library.is_file())
        .expect("this test needs libfaketime: apt-get install libfaketime")
}
