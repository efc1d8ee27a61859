//! The names that a program on this machine can resolve, which a test gives and takes: `/etc/hosts` and `/etc/resolv.conf`
//! of its own, in a mount namespace. Needs root.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::tool;

/// A resolver that is not there, and is not waited for long.
const NOBODY: &str = "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n";
/// Puts the files into their places and becomes the program.
const SCRIPT: &str =
    "mount --bind \"$1\" /etc/hosts && mount --bind \"$2\" /etc/resolv.conf && shift 2 && exec \"$@\"";

/// What can be resolved: the names that were given, and no others.
#[derive(Debug)]
pub struct Names {
    folder: TempDir,
}

impl Names {
    /// None yet.
    ///
    /// # Panics
    /// If this is not run by root.
    pub fn none() -> Self {
        assert!(rustix::process::geteuid().is_root(), "this test makes a mount namespace: run it as root");
        let names = Self { folder: TempDir::new().expect("the folder for temporary files is writable") };
        names.take_all();
        std::fs::write(names.resolver(), NOBODY).expect("the folder is ours");
        names
    }

    /// From now on this name is this address.
    pub fn give(&self, name: &str, address: IpAddr) {
        self.write(&format!("{address} {name}\n"));
    }

    /// From now on no name can be resolved.
    pub fn take_all(&self) {
        self.write("");
    }

    /// A command that runs the program with these names.
    pub fn within(&self, program: &Path) -> Command {
        let mut command = tool::command("unshare", "util-linux");
        command
            .args(["--mount", "sh", "-c", SCRIPT, "sh"])
            .args([self.hosts(), self.resolver()])
            .arg(program);
        command
    }

    /// In its place: a file that is bound to a path stays the file that it was.
    fn write(&self, text: &str) {
        std::fs::write(self.hosts(), text).expect("the folder is ours");
    }

    fn hosts(&self) -> PathBuf {
        self.folder.path().join("hosts")
    }

    fn resolver(&self) -> PathBuf {
        self.folder.path().join("resolv.conf")
    }
}
