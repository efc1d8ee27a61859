//! Folders for what must not be lost.
//!
//! The rule: a folder outlives a power cut once the one that it is in was synced. Syncing what is inside says nothing of
//! that, so whoever makes a folder for durable things makes it here.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

/// For nobody but the owner: what is kept in these folders is secret.
pub const MODE: u32 = 0o700;

/// Makes a folder where it is missing, and those around it, so that all of them outlive a power cut.
///
/// # Errors
/// Where one of them can't be made, or its name can't be made durable.
pub fn make_durable(path: &Path) -> io::Result<()> {
    let missing =
        path.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists()).count();
    DirBuilder::new().recursive(true).mode(MODE).create(path)?;
    if missing == 0 {
        // A process that was killed before it came to this may have made it. Where it can't be done, somebody else has:
        // a folder around ours that we may not read, or a file system that takes no changes.
        let _ = sync_name(path);
    }
    path.ancestors().take(missing).try_for_each(sync_name)
}

/// Syncs the folder that this one is in.
fn sync_name(folder: &Path) -> io::Result<()> {
    match folder.parent() {
        Some(around) if around.as_os_str().is_empty() => File::open(".")?.sync_all(),
        Some(around) => File::open(around)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn missing_folders_are_made_for_their_owner_and_others_left_alone() {
        let place = tempfile::tempdir().expect("a folder");
        let path = place.path().join("a/b/c");
        make_durable(&path).expect("made");
        make_durable(&path).expect("there already");
        for folder in ["a", "a/b", "a/b/c"] {
            let mode = place.path().join(folder).metadata().expect("made").permissions().mode();
            assert_eq!(mode & 0o777, MODE, "{folder}");
        }
        std::fs::write(path.join("file"), b"x").expect("written");
        assert!(make_durable(&path.join("file/folder")).is_err(), "a file is no folder");
    }
}
