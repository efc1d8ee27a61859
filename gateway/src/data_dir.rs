//! The data folder: who may use it, and how secrets are kept in it.
//!
//! The rule: one process at a time, and every secret 0600 and written so that a power cut leaves the old content or the
//! new one, whole. What the files mean is the business of those who ask for them.

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use shared::folder::make_durable;
use shared::secret::Secret;
use tracing::warn;

/// The file whose lock keeps a second process out.
pub(crate) const LOCK_FILE: &str = "lock";
/// Folder inside a data folder while a backup is being restored into it: where it exists, the rest is not complete.
pub(crate) const RESTORING: &str = ".restoring";
pub(crate) const SECRET_MODE: u32 = 0o600;
/// The permission bits of group and others.
const OTHERS: u32 = 0o077;

/// The data folder, locked by this process for as long as the value lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// The kernel gives the lock back when the file is closed, also after `kill -9`.
    _lock: File,
}

/// Why the data folder can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// It is not there and can't be made.
    #[error("can't make the data folder {path}: {source}; make it, or choose another with --data-dir")]
    Create {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its lock can't be taken for another reason than that it is taken.
    #[error("can't lock the data folder {path}: {source}; this process must be able to write there")]
    Lock {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has it.
    #[error(
        "the data folder {path} is in use by another tidegate; stop that one, or choose another with --data-dir"
    )]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// A restore did not come to its end there.
    #[error("the data folder {path} is half restored: empty it, and restore the backup again")]
    HalfRestored {
        /// The folder.
        path: PathBuf,
    },
}

impl DataDir {
    /// Makes the folder (0700) where it is missing, and locks it. What in it is open to others is closed.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let create = |source| DataDirError::Create { path: path.to_owned(), source };
        make_durable(path).map_err(create)?;
        let failed = |source| DataDirError::Lock { path: path.to_owned(), source };
        let mut options = OpenOptions::new();
        options.create(true).write(true).truncate(false).mode(SECRET_MODE);
        let lock = options.open(path.join(LOCK_FILE)).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) if path.join(RESTORING).exists() => {
                Err(DataDirError::HalfRestored { path: path.to_owned() })
            }
            Ok(()) => {
                close_to_others(path);
                Ok(Self { path: path.to_owned(), _lock: lock })
            }
            Err(TryLockError::WouldBlock) => Err(DataDirError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of something inside.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// Takes the permissions of group and others away from a folder and all in it: everything there is a secret, or leads to
/// one. What belongs to somebody else can't be closed by us; then it is said, since a volume may be made that way.
fn close_to_others(folder: &Path) {
    let (mut closed, mut open) = (0_usize, Vec::new());
    let mut paths = vec![folder.to_owned()];
    while let Some(path) = paths.pop() {
        // Of the link itself, not of what it leads to: that is not ours to change.
        let Ok(metadata) = path.symlink_metadata() else { continue };
        if metadata.is_dir() {
            paths.extend(std::fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        } else if !metadata.is_file() {
            continue;
        }
        let mode = metadata.permissions().mode();
        if mode & OTHERS != 0 {
            match std::fs::set_permissions(&path, Permissions::from_mode(mode & !OTHERS)) {
                Ok(()) => closed += 1,
                Err(_) => open.push(path),
            }
        }
    }
    if closed > 0 {
        warn!(folder = %folder.display(), closed, "files of the data folder were open to others; closed them");
    }
    if let Some(first) = open.first() {
        warn!(
            first = %first.display(), files = open.len(),
            "files of the data folder are open to others and belong to somebody else; chmod -R go= the folder"
        );
    }
}

/// Reads a secret; `None` where there is no such file. Permissions of group and others are taken away first.
pub fn read_secret(path: &Path) -> io::Result<Option<Secret<String>>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let metadata = file.metadata()?;
    let mode = metadata.permissions().mode();
    if mode & OTHERS != 0 {
        warn!(file = %path.display(), mode = format!("{:o}", mode & 0o777), "secret was open to others; closed it");
        file.set_permissions(Permissions::from_mode(SECRET_MODE))?;
    }
    // All at once: a buffer that grew would leave its beginnings behind, which nobody zeroes.
    let mut text = String::with_capacity(usize::try_from(metadata.len()).unwrap_or(0) + 1);
    file.read_to_string(&mut text)?;
    Ok(Some(Secret::new(text)))
}

/// Writes a secret in one go; see [`SecretFile`].
pub fn write_secret(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = SecretFile::create(path)?;
    file.write_all(content)?;
    file.commit()
}

/// A secret that is being written, 0600: to a hidden file beside its place, which takes the place when it is whole.
/// Dropped before that it leaves nothing behind.
#[derive(Debug)]
pub struct SecretFile {
    path: PathBuf,
    folder: PathBuf,
    beside: PathBuf,
    file: File,
}

impl SecretFile {
    /// Begins a secret that is to stand at `path`.
    pub fn create(path: &Path) -> io::Result<Self> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let beside = folder.join(format!(".{}.new", name.to_string_lossy()));
        match std::fs::remove_file(&beside) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        // `create_new` opens nothing that was there before, such as a link or a file of other permissions.
        let file = OpenOptions::new().create_new(true).write(true).mode(SECRET_MODE).open(&beside)?;
        Ok(Self { path: path.to_owned(), folder: folder.to_owned(), beside, file })
    }

    /// Where it stands until it is whole.
    pub fn beside(&self) -> &Path {
        &self.beside
    }

    /// Syncs it, renames it over what was there, and syncs the folder.
    pub fn commit(self) -> io::Result<()> {
        self.file.sync_all()?;
        std::fs::rename(&self.beside, &self.path)?;
        File::open(&self.folder)?.sync_all()
    }
}

impl io::Write for SecretFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        // After a commit there is nothing of this name.
        let _ = std::fs::remove_file(&self.beside);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        path.metadata().expect("it exists").permissions().mode() & 0o777
    }

    #[test]
    fn second_user_of_a_folder_is_told_its_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a/b");
        let first = DataDir::open(&path).expect("nobody else is there");
        assert_eq!(mode(&path), shared::folder::MODE);
        let error = DataDir::open(&path).expect_err("the first one is there").to_string();
        assert!(error.contains("in use") && error.contains(path.to_str().unwrap()), "{error}");
        drop(first);
        DataDir::open(&path).expect("the first one is gone");
    }

    #[test]
    fn what_is_open_to_others_is_closed_at_the_start_and_links_are_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data");
        let outside = folder.path().join("outside");
        std::fs::create_dir_all(data.join("store")).expect("made");
        for path in [&outside, &data.join("key"), &data.join("store/db")] {
            std::fs::write(path, b"x").expect("written");
            std::fs::set_permissions(path, Permissions::from_mode(0o664)).expect("opened");
        }
        std::os::unix::fs::symlink(&outside, data.join("link")).expect("made");
        std::fs::set_permissions(&data, Permissions::from_mode(0o755)).expect("opened");
        let _data = DataDir::open(&data).expect("nobody else is there");
        for (path, left) in [("", 0o700), ("store", 0o700), ("key", 0o600), ("store/db", 0o600)] {
            assert_eq!(mode(&data.join(path)), left, "{path}");
        }
        assert_eq!(mode(&outside), 0o664);
    }

    #[test]
    fn secrets_are_replaced_whole_and_closed_to_others() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret");
        assert!(read_secret(&path).expect("no error").is_none());
        let read = || read_secret(&path).expect("readable").expect("there").expose().clone();
        write_secret(&path, b"one").expect("written");
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("opened to others");
        assert_eq!(read(), "one");
        assert_eq!(mode(&path), SECRET_MODE);
        // What a crash between create and rename leaves behind is no obstacle.
        std::fs::write(folder.path().join(".secret.new"), b"torn").expect("written");
        write_secret(&path, b"two").expect("written");
        assert_eq!(read(), "two");
        assert_eq!(std::fs::read_dir(folder.path()).expect("readable").count(), 1);
    }
}
