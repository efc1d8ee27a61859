//! Reading a backup: checking it, and making a data folder of it.
//!
//! The rule: nothing is written before the whole file was found good, and what is written stands in [`RESTORING`] until
//! all of it is durable. A sibling folder that is renamed would be simpler, but the data folder of a container is a
//! mount point, which nothing can be renamed over.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::format::{Decoder, Entry, FormatError, VERSION};
use crate::audit::log::RESTORED;
use crate::data_dir::{DataDir, DataDirError, LOCK_FILE, RESTORING};
use crate::domain::edge::{Change, Records};
use crate::store::{self, DEFAULT_CACHE_BYTES, OpenError, SledStore, Store as _, StoreError};

/// What may be in an empty data folder: its lock, and what a file system that is mounted there begins with.
const IGNORED: [&str; 2] = [LOCK_FILE, "lost+found"];
/// Changes of one commit: few flushes, and batches of a few hundred KiB.
const BATCH: usize = 512;

/// What a backup holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Edges.
    pub edges: usize,
    /// Users.
    pub users: usize,
    /// API tokens.
    pub tokens: usize,
    /// SSH keys of operators.
    pub ssh_keys: usize,
    /// Snapshots.
    pub snapshots: usize,
    /// Files of the data folder: host key, TLS key and certificate.
    pub files: usize,
}

/// Why a backup can't be used.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// It can't be read.
    #[error("can't read {file}: {source}")]
    Read {
        /// The backup.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something else.
    #[error("{file} is no backup of tidegate")]
    NotABackup {
        /// What was given.
        file: PathBuf,
    },
    /// From a newer release.
    #[error(
        "the backup {file} has version {found}, and this tidegate reads versions up to {VERSION}: use the tidegate \
         that made it, or a newer one"
    )]
    Newer {
        /// The backup.
        file: PathBuf,
        /// Its version.
        found: u32,
    },
    /// Its end is missing.
    #[error("the backup {file} is cut off after {length} bytes: copy it again, or use another")]
    Truncated {
        /// The backup.
        file: PathBuf,
        /// Where it ends.
        length: u64,
    },
    /// Its checksum is wrong.
    #[error("the backup {file} was changed or damaged: its checksum does not match; use another")]
    Changed {
        /// The backup.
        file: PathBuf,
    },
    /// The checksum is right and the content is not.
    #[error("the backup {file} can't be used: {reason}")]
    Content {
        /// The backup.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The data folder can't be used: a gateway runs on it, it can't be made, or an earlier restore was cut short.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// There is something already.
    #[error("the data folder {dir} is not empty: restore into an empty one, and move what is there away")]
    NotEmpty {
        /// The data folder.
        dir: PathBuf,
    },
    /// The data folder can't be written.
    #[error("can't write {path}: {source}")]
    Write {
        /// What was to be written.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The new store can't be made.
    #[error("can't make the store: {0}")]
    Open(#[from] OpenError),
    /// The new store can't be written.
    #[error("can't fill the store: {0}")]
    Store(#[from] StoreError),
}

/// Checks that the backup is whole, unchanged and of a version that we read, and says what it holds. Blocks.
pub fn verify(file: &Path) -> Result<Summary, RestoreError> {
    Backup::open(file)?.verify()
}

/// Makes the data folder `data_dir` of the backup `file`: a folder that is absent or empty, and in use by nobody. Files
/// get mode 0600. After an error the folder is as it was, or has [`RESTORING`] in it and no gateway starts on it.
pub async fn restore(file: &Path, data_dir: &Path) -> Result<Summary, RestoreError> {
    let backup = Backup::open(file)?;
    let summary = backup.verify()?;
    let folder = Folder::claim(data_dir)?;
    if let Err(error) = fill(&backup, &folder.staging).await {
        // Nothing has left the staging folder yet. What can't be removed says by its name that it is not complete.
        let _ = fs::remove_dir_all(&folder.staging);
        return Err(error);
    }
    folder.finish()?;
    Ok(summary)
}

/// A backup file, opened once: what was checked is what is restored.
struct Backup {
    path: PathBuf,
    file: File,
}

impl Backup {
    fn open(path: &Path) -> Result<Self, RestoreError> {
        let file = File::open(path).map_err(|source| RestoreError::Read { file: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), file })
    }

    fn decoder(&self) -> Result<Decoder<BufReader<&File>>, RestoreError> {
        let mut file = &self.file;
        file.rewind().map_err(|error| self.error(error.into()))?;
        Decoder::new(BufReader::new(file)).map_err(|error| self.error(error))
    }

    fn verify(&self) -> Result<Summary, RestoreError> {
        let mut decoder = self.decoder()?;
        // The checksum first: what an entry says counts only if it is what was written.
        while decoder.next().map_err(|error| self.error(error))?.is_some() {}
        let mut decoder = self.decoder()?;
        let mut summary = Summary::default();
        let mut records = Records::default();
        while let Some(entry) = self.next(&mut decoder)? {
            match entry {
                // How far the audit log came is no file of the data folder that it was taken from.
                Entry::File { name, .. } => summary.files += usize::from(name != RESTORED),
                Entry::Record { key, value } => self.read_record(&mut records, &key, &value)?,
                Entry::Snapshot { .. } => summary.snapshots += 1,
            }
        }
        let (edges, users) = (records.edges.len(), records.users.len());
        let (tokens, ssh_keys) = (records.tokens.len(), records.ssh_keys.len());
        Ok(Summary { edges, users, tokens, ssh_keys, ..summary })
    }

    fn next(&self, decoder: &mut Decoder<BufReader<&File>>) -> Result<Option<Entry>, RestoreError> {
        let frame = decoder.next().map_err(|error| self.error(error))?;
        frame.map(|frame| frame.entry().map_err(|error| self.error(error))).transpose()
    }

    fn read_record(&self, records: &mut Records, key: &[u8], value: &[u8]) -> Result<(), RestoreError> {
        store::codec::read_into(records, key, value)
            .map_err(|error| self.error(FormatError::Content(error.to_string())))
    }

    fn error(&self, error: FormatError) -> RestoreError {
        let file = self.path.clone();
        match error {
            FormatError::Read(source) => RestoreError::Read { file, source },
            FormatError::Magic => RestoreError::NotABackup { file },
            FormatError::Newer(found) => RestoreError::Newer { file, found },
            FormatError::Truncated(length) => RestoreError::Truncated { file, length },
            FormatError::Changed => RestoreError::Changed { file },
            FormatError::Content(reason) => RestoreError::Content { file, reason },
        }
    }
}

/// The data folder, claimed for a restore.
struct Folder {
    dir: DataDir,
    /// [`RESTORING`] in it.
    staging: PathBuf,
}

impl Folder {
    /// Makes the folder where it is missing, locks it, and makes sure that it is empty.
    fn claim(path: &Path) -> Result<Self, RestoreError> {
        let dir = DataDir::open(path)?;
        for entry in fs::read_dir(path).map_err(failed(path))? {
            let name = entry.map_err(failed(path))?.file_name();
            if !IGNORED.iter().any(|ignored| name == *ignored) {
                return Err(RestoreError::NotEmpty { dir: path.to_owned() });
            }
        }
        let staging = dir.join(RESTORING);
        DirBuilder::new().mode(0o700).create(&staging).map_err(failed(&staging))?;
        sync(path)?;
        Ok(Self { dir, staging })
    }

    /// Moves everything to its place. The staging folder goes last, and with it the mark that the folder is incomplete.
    fn finish(&self) -> Result<(), RestoreError> {
        for entry in fs::read_dir(&self.staging).map_err(failed(&self.staging))? {
            let entry = entry.map_err(failed(&self.staging))?;
            let place = self.dir.path().join(entry.file_name());
            fs::rename(entry.path(), &place).map_err(failed(&place))?;
        }
        sync(&self.staging)?;
        sync(self.dir.path())?;
        fs::remove_dir(&self.staging).map_err(failed(&self.staging))?;
        sync(self.dir.path())
    }
}

/// Writes everything that the backup holds into `staging`, durably.
async fn fill(backup: &Backup, staging: &Path) -> Result<(), RestoreError> {
    let store = SledStore::open(&staging.join(store::FOLDER), DEFAULT_CACHE_BYTES)?;
    let mut decoder = backup.decoder()?;
    let mut records = Records::default();
    while let Some(entry) = backup.next(&mut decoder)? {
        match entry {
            Entry::File { name, content } => write_file(&staging.join(name), &content)?,
            Entry::Record { key, value } => backup.read_record(&mut records, &key, &value)?,
            Entry::Snapshot { edge, snapshot } => store.put_snapshot(edge, snapshot).await?,
        }
    }
    let mut changes: Vec<Change> = records.edges.into_iter().map(Change::PutEdge).collect();
    changes.extend(records.users.into_iter().map(Change::PutUser));
    changes.extend(records.tokens.into_iter().map(Change::PutToken));
    changes.extend(records.ssh_keys.into_iter().map(Change::PutSshKey));
    changes.push(Change::PutSettings(records.settings));
    for batch in changes.chunks(BATCH) {
        store.commit(batch.to_vec()).await?;
    }
    store.put_last_seen(records.last_seen).await?;
    store.close().await;
    sync(staging)
}

fn write_file(path: &Path, content: &[u8]) -> Result<(), RestoreError> {
    let write = || {
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().map_err(failed(path))
}

/// Makes what a folder names durable.
fn sync(dir: &Path) -> Result<(), RestoreError> {
    File::open(dir).and_then(|folder| folder.sync_all()).map_err(failed(dir))
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> RestoreError + use<> {
    let path = path.to_owned();
    move |source| RestoreError::Write { path, source }
}
