//! What the agent keeps in its data folder: edge ID, instance id, join token, last offer. All of it is secret or proves something,
//! so the folder is 0700 and its files are 0600.
//!
//! Beside them `format` says how they are to be read: a number, and the release that wrote it. There is one format so far; a
//! folder without the file is from before it was written, and has that one. A release that keeps something else writes the
//! next number once it has brought the files to it, from a copy in a folder beside them, and refuses every later one.
//!
//! The rules: a file is there as a whole or not at all, whenever the machine stops; one process at a time owns the
//! folder; and the edge ID is never dropped because a gateway refused it or was away, only replaced by one given
//! explicitly.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use shared::folder::make_durable;
use shared::id::{EdgeId, InstanceId, OfferId};
use shared::join_token::{JoinToken, JoinTokenError};
use shared::secret::Secret;
use shared::terminal::escape;

const LOCK: &str = "lock";
const EDGE_ID: &str = "edge-id";
const INSTANCE_ID: &str = "instance-id";
const JOIN_TOKEN: &str = "join-token";
const LAST_OFFER: &str = "last-offer";
const FORMAT_FILE: &str = "format";
/// What this release keeps, and the newest that it reads.
const FORMAT: u32 = 1;
const RELEASE: &str = env!("CARGO_PKG_VERSION");

/// Why the data folder can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file system said no.
    #[error("can't {doing} {path}: {source}")]
    Io {
        /// What we were doing.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A newer release wrote it.
    #[error(
        "the data folder {folder} has format {found} and was written by tidegate-agent {release}; this is tidegate-agent \
         {RELEASE}, which reads formats up to {FORMAT}: start tidegate-agent {release} or a newer one, or give this one a \
         copy of the folder from before the upgrade"
    )]
    Newer {
        /// The folder.
        folder: PathBuf,
        /// The format that it has.
        found: u32,
        /// The release that wrote it.
        release: String,
    },
    /// A second process.
    #[error(
        "another tidegate-agent is using {0}: stop it, or give this one a folder of its own with --data-dir"
    )]
    InUse(PathBuf),
    /// Somebody changed a file.
    #[error(
        "{path} is damaged ({problem}): restore it, or delete it to have a new one made, which the gateway's admin must then allow by dissociating the edge"
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// The data folder, owned by this process for as long as the value lives.
#[derive(Debug)]
pub struct State {
    folder: PathBuf,
    /// Its lock ends with the process, however that ends.
    _lock: File,
}

impl State {
    /// Makes the folder if it is not there, and takes it.
    pub fn open(folder: &Path) -> Result<Self, StateError> {
        make_durable(folder).map_err(failed("make the folder", folder))?;
        make_private(folder)?;
        let path = folder.join(LOCK);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed("open", &path))?;
        match lock.try_lock() {
            Ok(()) => {
                let state = Self { folder: folder.to_owned(), _lock: lock };
                state.check_format()?;
                Ok(state)
            }
            Err(TryLockError::WouldBlock) => Err(StateError::InUse(folder.to_owned())),
            Err(TryLockError::Error(source)) => Err(failed("lock", &path)(source)),
        }
    }

    /// Refuses a folder of a newer release; notes the format in one that says none.
    fn check_format(&self) -> Result<(), StateError> {
        match read::<Format>(&self.folder, FORMAT_FILE)? {
            Some(Format { number, release }) if number > FORMAT => {
                Err(StateError::Newer { folder: self.folder.clone(), found: number, release })
            }
            Some(Format { number: FORMAT, .. }) => Ok(()),
            Some(_) | None => self.write(FORMAT_FILE, &format!("{FORMAT} {RELEASE}")),
        }
    }

    /// This edge's ID: the one given, else the one kept, else a new one; kept from now on.
    pub fn edge_id(&self, given: Option<EdgeId>) -> Result<EdgeId, StateError> {
        let kept = read::<EdgeId>(&self.folder, EDGE_ID)?;
        match (given, kept) {
            (None, Some(kept)) => Ok(kept),
            (Some(given), Some(kept)) if given == kept => Ok(kept),
            (given, kept) => {
                if kept.is_some() {
                    tracing::warn!("the given edge ID replaces the one kept so far");
                }
                let edge_id = given.unwrap_or_else(EdgeId::random);
                self.write(EDGE_ID, &edge_id.to_string())?;
                Ok(edge_id)
            }
        }
    }

    /// The id of this installation.
    pub fn instance_id(&self) -> Result<InstanceId, StateError> {
        if let Some(kept) = read(&self.folder, INSTANCE_ID)? {
            return Ok(kept);
        }
        let instance = InstanceId::random();
        self.write(INSTANCE_ID, &instance.to_string())?;
        Ok(instance)
    }

    /// The token that this agent joined with, if it has.
    pub fn join_token(&self) -> Result<Option<JoinToken>, StateError> {
        kept_join_token(&self.folder)
    }

    /// Keeps the token.
    pub fn keep_join_token(&self, token: &JoinToken) -> Result<(), StateError> {
        self.write(JOIN_TOKEN, Secret::new(token.expose()).expose())
    }

    /// The last offer that was used, if it can be read; nothing is lost without it but some time.
    pub fn last_offer(&self) -> Option<OfferId> {
        read(&self.folder, LAST_OFFER).ok().flatten()
    }

    /// Keeps the id of an offer that is about to be used.
    pub fn keep_last_offer(&self, offer: OfferId) -> Result<(), StateError> {
        self.write(LAST_OFFER, &offer.to_string())
    }

    /// Written aside, synced and renamed, with the folder synced after: old or new, never half.
    fn write(&self, name: &str, text: &str) -> Result<(), StateError> {
        let path = self.folder.join(name);
        let write = || -> io::Result<()> {
            // Made with mode 0600.
            let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
            writeln!(file, "{text}")?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            File::open(&self.folder)?.sync_all()
        };
        write().map_err(failed("write", &path))
    }
}

/// How the files are to be read, and who says so.
struct Format {
    number: u32,
    release: String,
}

impl FromStr for Format {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (number, release) = text.split_once(' ').unwrap_or((text, "of another version"));
        let number = number.parse().map_err(|_| "a number and a version are needed")?;
        Ok(Self { number, release: escape(release) })
    }
}

/// A folder of ours that others may look into is closed to them. One that holds other things is not ours to change (it
/// may be `/tmp`); the files in it are private by themselves.
fn make_private(folder: &Path) -> Result<(), StateError> {
    let mode = folder.metadata().map_err(failed("look at", folder))?.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let empty = folder.read_dir().map_err(failed("look into", folder))?.next().is_none();
    if empty || folder.join(LOCK).exists() {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))
            .map_err(failed("make private", folder))
    } else {
        tracing::warn!(folder = %folder.display(), "the data folder is open to other users and holds other files");
        Ok(())
    }
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError {
    move |source| StateError::Io { doing, path: path.to_owned(), source }
}

/// The token in a data folder, for those who only look at it.
pub fn kept_join_token(folder: &Path) -> Result<Option<JoinToken>, StateError> {
    read::<JoinToken>(folder, JOIN_TOKEN)
}

fn read<T>(folder: &Path, name: &str) -> Result<Option<T>, StateError>
where
    T: FromStr<Err: std::fmt::Display>,
{
    let path = folder.join(name);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => Secret::new(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", &path)(error)),
    };
    match text.expose().trim().parse() {
        Ok(value) => Ok(Some(value)),
        Err(problem) => Err(StateError::Damaged { path, problem: problem.to_string() }),
    }
}

/// Reads a join token from a file that somebody else wrote.
pub fn read_token_file(path: &Path) -> Result<Result<JoinToken, JoinTokenError>, StateError> {
    let text = std::fs::read_to_string(path).map_err(failed("read the join token from", path))?;
    Ok(Secret::new(text).expose().parse())
}

#[cfg(test)]
mod tests {
    use shared::fingerprint::HostKeyFingerprint;
    use shared::id::EdgeKey;

    use super::*;

    #[test]
    fn ids_are_made_once_and_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("deep/data");
        let first = State::open(&path).expect("a new folder");
        let (edge, instance) = (first.edge_id(None).expect("made"), first.instance_id().expect("made"));
        drop(first);
        let second = State::open(&path).expect("unlocked");
        assert_eq!(second.edge_id(None).expect("kept"), edge);
        assert_eq!(second.instance_id().expect("kept"), instance);
    }

    #[test]
    fn folder_of_an_earlier_release_is_taken_and_one_of_a_later_release_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let edge = State::open(folder.path()).expect("a new folder").edge_id(None).expect("made");
        let format = folder.path().join(FORMAT_FILE);
        std::fs::remove_file(&format).expect("it was noted");
        let state = State::open(folder.path()).expect("from before there were formats");
        assert_eq!(state.edge_id(None).expect("kept"), edge);
        drop(state);
        std::fs::write(&format, "7 9.8.7\u{1b}[2J\n").expect("written");
        let error = State::open(folder.path()).expect_err("from the future");
        assert!(matches!(error, StateError::Newer { found: 7, .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("9.8.7") && text.contains(RELEASE) && !text.contains('\u{1b}'), "{text}");
        std::fs::write(&format, "seven").expect("written");
        assert!(matches!(State::open(folder.path()), Err(StateError::Damaged { .. })));
        assert_eq!(
            std::fs::read_to_string(folder.path().join(EDGE_ID)).expect("there").trim(),
            edge.to_string()
        );
    }

    #[test]
    fn last_offer_is_kept_and_a_damaged_one_counts_as_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = State::open(folder.path()).expect("a new folder");
        assert_eq!(state.last_offer(), None);
        for offer in [OfferId::random(), OfferId::random()] {
            state.keep_last_offer(offer).expect("written");
            assert_eq!(state.last_offer(), Some(offer));
        }
        std::fs::write(folder.path().join(LAST_OFFER), "gibberish").expect("written");
        assert_eq!(state.last_offer(), None);
    }

    #[test]
    fn edge_id_that_is_given_replaces_the_kept_one_for_good() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = State::open(folder.path()).expect("a folder");
        let kept = state.edge_id(None).expect("made");
        let given = EdgeId::random();
        assert_eq!(state.edge_id(Some(given)).expect("kept"), given);
        assert_eq!(state.edge_id(None).expect("kept"), given);
        assert_ne!(kept, given);
    }

    #[test]
    fn second_process_is_told_that_the_folder_is_in_use() {
        let folder = tempfile::tempdir().expect("a folder");
        let _first = State::open(folder.path()).expect("a folder");
        assert!(matches!(State::open(folder.path()), Err(StateError::InUse(_))));
    }

    #[test]
    fn token_is_kept_and_everything_is_private() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("ours");
        let state = State::open(folder.path()).expect("a folder");
        let token = JoinToken {
            api_url: "https://gate.test:9000".into(),
            ssh: "gate.test:8000".into(),
            key: EdgeKey::random(),
            host_keys: vec![HostKeyFingerprint::from_bytes([1; 32])],
            tls_pins: vec![],
        };
        assert_eq!(state.join_token().expect("readable"), None);
        state.keep_join_token(&token).expect("written");
        state.edge_id(None).expect("made");
        assert_eq!(state.join_token().expect("readable"), Some(token));
        let mode = |path: &Path| path.metadata().expect("there").permissions().mode() & 0o777;
        assert_eq!(mode(folder.path()), 0o700);
        for entry in folder.path().read_dir().expect("readable") {
            let path = entry.expect("an entry").path();
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        }
    }

    #[test]
    fn a_damaged_file_is_named_and_not_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = State::open(folder.path()).expect("a folder");
        std::fs::write(folder.path().join(EDGE_ID), "oops").expect("written");
        let error = state.edge_id(None).expect_err("damaged").to_string();
        assert!(error.contains(EDGE_ID), "{error}");
        assert_eq!(std::fs::read_to_string(folder.path().join(EDGE_ID)).expect("there"), "oops");
    }
}
