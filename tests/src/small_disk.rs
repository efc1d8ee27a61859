//! A real file system of a few MiB that a test can fill: ext4 in a file, mounted as a loop device. Needs root.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::process::run;
use crate::tool;

/// Written at a time.
const CHUNK: usize = 64 * 1024;

/// A mounted file system. Dropped, it is gone.
#[derive(Debug)]
pub struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// Makes one of so many bytes.
    ///
    /// # Panics
    /// If this is not run by root, or a tool is missing.
    pub async fn mount(bytes: u64) -> Self {
        assert!(rustix::process::geteuid().is_root(), "this test mounts a file system: run it as root");
        let folder = TempDir::new().expect("the folder for temporary files is writable");
        let disk = Self { folder };
        let image = disk.folder.path().join("image");
        File::create(&image).and_then(|image| image.set_len(bytes)).expect("the folder is ours");
        fs::create_dir(disk.path()).expect("the folder is ours");
        let mut make = tool::command("mkfs.ext4", "e2fsprogs");
        // Nothing set aside for root, who runs this: full is full.
        make.args(["-q", "-m", "0"]).arg(&image);
        run(make).await.ok();
        let mut mount = tool::command("mount", "mount");
        mount.args(["-o", "loop"]).arg(&image).arg(disk.path());
        run(mount).await.ok();
        disk
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    /// Takes all the room that there is.
    pub fn fill(&self) {
        let mut ballast = File::create(self.ballast()).expect("a full disk takes names still");
        let bytes = vec![0; CHUNK];
        let full = loop {
            // A part that fits is written before the error, so nothing is left in the end.
            match ballast.write_all(&bytes) {
                Ok(()) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::StorageFull, "{full}");
    }

    /// Gives it back.
    pub fn free(&self) {
        fs::remove_file(self.ballast()).expect("it was filled");
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        unmount(&self.path());
    }
}

/// Also where something still uses it, and whoever that is loses it with its end.
fn unmount(path: &Path) {
    let mut command: Command = tool::command("umount", "mount");
    let _ = command.arg("--lazy").arg(path).output();
}
