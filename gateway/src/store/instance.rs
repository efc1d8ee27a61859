//! One open sled database: opening it safely, durable writes, errors that say what happened.
//!
//! It belongs to one thread and blocks. What it works around was measured or read in sled 0.34.7:
//!
//! - `flush` hands pages to the kernel with `sync_file_range` and does not fsync: [`Instance::write`] follows it with
//!   `sync_data` on a file handle of our own.
//! - Its background flusher would write at times of its own; it is off, and segments are cleaned by writes alone.
//! - A left-over `snap.*.generating` makes the next open fail as corrupt; such files are removed first.
//! - Damage, and a failed sync on drop, can show as a panic: every call runs under `catch_unwind`.
//! - A flush can miss the wake-up that would tell it of an error: see [`super::watchdog`].
//! - All databases of a process share one lock inside sled, on which a batch of one waits for the flush of another:
//!   see [`TURNS`].
//!
//! The rule: [`Instance::write`] answers `Ok` only when everything in it survives a power cut. After an error the
//! instance is spent: what to do then is [`super::database`]'s business.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use shared::terminal::escape;

use super::StoreError;
use super::codec::{FORMAT_KEY, RELEASE_KEY};
use super::upgrade::{self, RELEASE};
use super::watchdog::Watchdog;

/// The one tree that everything is in.
const TREE: &str = "records";
/// File in which sled 0.34 keeps a database, inside its folder.
const SLED_FILE: &str = "db";
/// Taken for batches and their flush, by every database of the process. They exclude each other inside sled anyway; but
/// a batch that waits there would also keep the watchdog's flush out, which is to wake the flush that it waits for.
static TURNS: Mutex<()> = Mutex::new(());
/// File beside it that stands for as long as the other must be settled. It need not outlive a power cut, since what can
/// be read after one is what is on disk; it tells a process that is started after this one was killed.
const UNSETTLED: &str = "unsettled";
/// How long a database may be locked and still be opened. sled's own threads hold on to the files of one that was closed,
/// for milliseconds; another process holds on to them for as long as it runs.
const LETTING_GO: Duration = Duration::from_secs(1);
/// Between two looks at the lock, in that time.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// Bytes that [`settle`] copies at a time.
const SETTLE_BUFFER: usize = 1024 * 1024;

/// Why a store can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("the database in {dir} is in use by another process: stop that one first")]
    Locked {
        /// Its folder.
        dir: PathBuf,
    },
    /// A newer release wrote it.
    #[error(
        "the database in {dir} has format {found} and was written by tidegate {release}; this is tidegate {RELEASE}, which \
         reads formats up to {newest}: start tidegate {release} or a newer one, or {}",
        go_back(.copy.as_deref())
    )]
    Newer {
        /// Its folder.
        dir: PathBuf,
        /// The format that it has.
        found: u32,
        /// The release that opened it last.
        release: String,
        /// The newest format that this release reads.
        newest: u32,
        /// The store as it was before it was upgraded, in a format that this release reads.
        copy: Option<PathBuf>,
    },
    /// An older release wrote it, and it was not upgraded.
    #[error("the database in {dir} has the old format {found}: start tidegate anew, which upgrades it")]
    Older {
        /// Its folder.
        dir: PathBuf,
        /// The format that it has.
        found: u32,
    },
    /// It must be upgraded, and there is no room for the copy that is made before.
    #[error(
        "the store in {dir} must be upgraded, and the disk has {free} bytes of the {needed} that its copy and the upgrade \
         need: make room and start again; nothing was changed"
    )]
    NoRoom {
        /// The store's folder.
        dir: PathBuf,
        /// Bytes that must be free.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// It must be upgraded, and the copy that is made before can't be.
    #[error(
        "can't copy the store to {path}, which is done before it is upgraded: {source}; nothing was changed"
    )]
    Copy {
        /// Where copies are made.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It can't be read.
    #[error("the database in {dir} is damaged: {reason}; restore a backup")]
    Damaged {
        /// Its folder.
        dir: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The disk, its permissions, or the operating system's limits.
    #[error("can't open the database in {dir}: {source}")]
    Io {
        /// Its folder.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// How to go on with this release.
fn go_back(copy: Option<&Path>) -> String {
    match copy {
        Some(copy) => format!(
            "go back to the store as it was before the upgrade: move the folder of the store away and copy {} to its place",
            copy.display()
        ),
        None => "restore a backup that this release made".to_owned(),
    }
}

/// Builds a batch with a view of what is there. It runs on the database's thread.
pub(super) type Build = Box<dyn FnOnce(&sled::Tree) -> sled::Result<sled::Batch> + Send>;

/// An instance of sled that has not failed yet.
#[derive(Debug)]
pub(super) struct Instance {
    tree: sled::Tree,
    sled: sled::Db,
    /// The file that sled writes, by a handle that we can sync.
    file: File,
    watchdog: Watchdog,
}

impl Instance {
    /// Opens the database in `dir`, which must have the format `newest`, or makes it.
    pub(super) fn open(dir: &Path, cache_bytes: u64, newest: u32) -> Result<Self, OpenError> {
        let instance = Self::open_as_it_is(dir, cache_bytes)?;
        match instance.check_format(dir, newest) {
            Ok(()) => Ok(instance),
            Err(error) => {
                instance.close();
                Err(error)
            }
        }
    }

    /// Opens the database in `dir` whatever its format is, or makes an empty one of none.
    pub(super) fn open_as_it_is(dir: &Path, cache_bytes: u64) -> Result<Self, OpenError> {
        let io_error = |source| OpenError::Io { dir: dir.to_owned(), source };
        // The records hold edge IDs, which are secrets.
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io_error)?;
        refuse_if_locked(dir)?;
        clear_half_made(dir).map_err(io_error)?;
        let config = sled::Config::new().path(dir).cache_capacity(cache_bytes).flush_every_ms(None);
        let (sled, tree) = guarded(|| {
            let sled = config.open()?;
            let tree = sled.open_tree(TREE)?;
            Ok((sled, tree))
        })
        .map_err(|trouble| trouble.into_open_error(dir))?;
        let file = File::options().read(true).write(true).open(dir.join(SLED_FILE)).map_err(io_error)?;
        sync_folder(dir).map_err(io_error)?;
        let watchdog = Watchdog::start().map_err(io_error)?;
        Ok(Self { tree, sled, file, watchdog })
    }

    /// Applies the batches in order, each atomically, and makes all of them durable with one flush.
    pub(super) fn write(&self, builds: Vec<Build>) -> Result<(), Trouble> {
        let turn = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
        guarded(|| {
            for build in builds {
                self.tree.apply_batch(build(&self.tree)?)?;
            }
            self.watchdog.flush(&self.sled)
        })?;
        drop(turn);
        self.watchdog.sync(&self.file).map_err(Trouble::Sync)
    }

    /// Reads whatever `look` looks at.
    pub(super) fn read<T>(&self, look: impl FnOnce(&sled::Tree) -> sled::Result<T>) -> Result<T, Trouble> {
        guarded(|| look(&self.tree))
    }

    /// Lets go of the files.
    pub(super) fn close(self) {
        // sled's drop flushes and unwraps an fsync; whatever was promised is on disk already.
        if catch_unwind(AssertUnwindSafe(|| drop(self))).is_err() {
            tracing::warn!("the store's file could not be synced as it was closed");
        }
    }

    /// Checks the database's format, or notes it in a new one. As this writes, it also shows that the disk takes writes.
    fn check_format(&self, dir: &Path, newest: u32) -> Result<(), OpenError> {
        match self.format(dir)? {
            Some(found) if found > newest => return Err(self.newer(dir, found, newest)),
            Some(found) if found < newest => return Err(OpenError::Older { dir: dir.to_owned(), found }),
            Some(_) | None => {}
        }
        let note: Build = Box::new(move |_| {
            let mut batch = sled::Batch::default();
            upgrade::note(&mut batch, newest);
            Ok(batch)
        });
        self.write(vec![note]).map_err(|trouble| trouble.into_open_error(dir))
    }

    /// The format that the database says it has; `None` where it is empty.
    pub(super) fn format(&self, dir: &Path) -> Result<Option<u32>, OpenError> {
        let damaged = |reason: &str| OpenError::Damaged { dir: dir.to_owned(), reason: reason.to_owned() };
        let (stored, is_empty) = self
            .read(|tree| Ok((tree.get(FORMAT_KEY)?, tree.is_empty())))
            .map_err(|trouble| trouble.into_open_error(dir))?;
        match stored {
            Some(stored) => {
                let number = str::from_utf8(&stored).ok().and_then(|text| text.parse().ok());
                let number = number.filter(|number| *number > 0);
                number.map(Some).ok_or_else(|| damaged("its format is no number"))
            }
            None if is_empty => Ok(None),
            None => Err(damaged("it has records and no format")),
        }
    }

    /// That its format is newer than what this release reads.
    pub(super) fn newer(&self, dir: &Path, found: u32, newest: u32) -> OpenError {
        let noted = self.read(|tree| tree.get(RELEASE_KEY)).ok().flatten();
        // It is shown, and whoever may write the file may have written anything.
        let release = noted.map(|noted| escape(&String::from_utf8_lossy(&noted)));
        let release = release.unwrap_or_else(|| "of another version".to_owned());
        let copy = dir.parent().and_then(|store| upgrade::copy_for(store, newest));
        OpenError::Newer { dir: dir.to_owned(), found, release, newest, copy }
    }
}

/// Why a call into sled failed.
pub(super) enum Trouble {
    /// sled said so.
    Sled(sled::Error),
    /// Our own call to the file failed.
    Sync(io::Error),
    /// sled panicked, with this message.
    Panic(String),
}

impl From<sled::Error> for Trouble {
    fn from(error: sled::Error) -> Self {
        Self::Sled(error)
    }
}

impl Trouble {
    /// For those who wanted something of the store.
    pub(super) fn to_store_error(&self, doing: &'static str) -> StoreError {
        let reason = match self {
            Self::Sled(sled::Error::Io(error)) | Self::Sync(error) if is_full(error) => {
                return StoreError::Full;
            }
            Self::Sled(error) => error.to_string(),
            Self::Sync(error) => error.to_string(),
            Self::Panic(message) => message.clone(),
        };
        StoreError::Failed { doing, reason }
    }

    pub(super) fn into_open_error(self, dir: &Path) -> OpenError {
        let dir = dir.to_owned();
        match self {
            Self::Sled(sled::Error::Io(source)) | Self::Sync(source) => OpenError::Io { dir, source },
            Self::Sled(error) => OpenError::Damaged { dir, reason: error.to_string() },
            Self::Panic(reason) => OpenError::Damaged { dir, reason },
        }
    }

    /// Whether what is on disk is not what was written.
    pub(super) fn is_damage(&self) -> bool {
        match self {
            Self::Sled(error) => !matches!(error, sled::Error::Io(_)),
            Self::Sync(_) => false,
            Self::Panic(_) => true,
        }
    }

    /// Whether the kernel may have dropped writes that it had taken, so that what is read back may not be on disk. A
    /// write that was refused for want of space dropped nothing.
    pub(super) fn unsettles(&self) -> bool {
        match self {
            Self::Sled(sled::Error::Io(error)) => !is_full(error),
            Self::Sync(_) => true,
            Self::Sled(_) | Self::Panic(_) => false,
        }
    }
}

/// Calls into sled; a panic in there becomes an error.
fn guarded<T>(call: impl FnOnce() -> sled::Result<T>) -> Result<T, Trouble> {
    // A database that panicked is closed and never used again, so nobody sees what the panic left half done.
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => Ok(result?),
        Err(payload) => {
            let message = payload.downcast_ref::<String>().map(String::as_str);
            let message = message.or_else(|| payload.downcast_ref::<&str>().copied());
            Err(Trouble::Panic(message.unwrap_or("sled panicked").to_owned()))
        }
    }
}

/// No space, no quota, or the process's limit on the size of files.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

/// sled reports a lock as one I/O error among others; this asks for the same lock first, to tell it apart. It waits a moment
/// for it: the one who has it may be an instance of our own that was closed just now.
fn refuse_if_locked(dir: &Path) -> Result<(), OpenError> {
    let dir = dir.to_owned();
    let file = match File::open(dir.join(SLED_FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(OpenError::Io { dir, source }),
    };
    let until = Instant::now() + LETTING_GO;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(fs::TryLockError::WouldBlock) if Instant::now() < until => thread::sleep(LOOK_AGAIN),
            Err(fs::TryLockError::WouldBlock) => return Err(OpenError::Locked { dir }),
            Err(fs::TryLockError::Error(source)) => return Err(OpenError::Io { dir, source }),
        }
    }
}

/// Removes what an open that was killed left half made; sled would take it for a corrupt snapshot of its page table.
fn clear_half_made(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Syncs the files of a folder, the folder and the one that it is in: sled syncs neither its configuration nor folders.
pub(super) fn sync_folder(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            File::open(entry.path())?.sync_all()?;
        }
    }
    File::open(dir)?.sync_all()?;
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        Some(_) | None => Ok(()),
    }
}

/// Notes that `dir` must be settled, also by whoever opens it next.
pub(super) fn mark_unsettled(dir: &Path) {
    if let Err(error) = File::create(dir.join(UNSETTLED)) {
        tracing::warn!(dir = %dir.display(), %error, "can't note that the database must be settled");
    }
}

/// Whether `dir` must be settled by the word of an earlier process.
pub(super) fn is_marked(dir: &Path) -> bool {
    dir.join(UNSETTLED).exists()
}

/// Makes what can be read in `dir` the same as what is on disk. After a failed fsync the kernel may keep pages as clean that
/// never reached the disk, and later fsyncs succeed without them; writing the file onto itself makes them dirty again.
pub(super) fn settle(dir: &Path) -> io::Result<()> {
    let file = File::options().read(true).write(true).open(dir.join(SLED_FILE))?;
    let mut buffer = vec![0; SETTLE_BUFFER];
    let mut offset = 0;
    loop {
        let length = file.read_at(&mut buffer, offset)?;
        if length == 0 {
            file.sync_all()?;
            break;
        }
        file.write_all_at(&buffer[..length], offset)?;
        offset += length as u64;
    }
    match fs::remove_file(dir.join(UNSETTLED)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
