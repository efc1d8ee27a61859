//! A sled database that finds its way back after failures.
//!
//! After one failed write the whole instance of sled answers that error for ever (`Config::global_error` is sticky), and
//! a disk that was full has room again some day. So a failure closes the instance; callers hear of it at once and until
//! an attempt to open a new one works, which is made at most every [`RETRY`]. Nothing of the failed writes is promised:
//! a part of them may be there afterwards.
//!
//! | state | event | next |
//! | --- | --- | --- |
//! | open | a write or read fails | failed |
//! | open | damage is found, and it may be remade | open, and empty |
//! | failed | something is asked before [`RETRY`] is over | failed, with the same error |
//! | failed | something is asked later, opening works | open |
//! | failed | something is asked later, opening fails | failed, with the new error |

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::StoreError;
use super::instance::{self, Build, Instance, OpenError, Trouble};
use super::upgrade::Part;

/// After a failure, the least time between two attempts to open the database anew. An attempt reads the whole file, so
/// it must not be made for every request that comes in meanwhile.
pub(super) const RETRY: Duration = Duration::from_secs(1);

/// What to do with a database that turns out to be damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnDamage {
    /// Say so and leave it as it is.
    Refuse,
    /// Throw it away and begin an empty one: for what can be had again.
    Remake,
}

/// A sled database that finds its way back after failures.
#[derive(Debug)]
pub(super) struct Database {
    dir: PathBuf,
    cache_bytes: u64,
    part: Part,
    state: State,
}

#[derive(Debug)]
enum State {
    Open(Instance),
    /// Closed since a failure; what callers hear until an attempt to open it works.
    Failed {
        error: StoreError,
        tried: Instant,
        /// Whether the file must be settled before it is trusted again.
        unsettled: bool,
    },
}

impl Database {
    /// Opens this part of the store in `dir`, or makes it.
    pub(super) fn open(dir: &Path, cache_bytes: u64, part: Part) -> Result<Self, OpenError> {
        let dir = dir.join(part.folder);
        if instance::is_marked(&dir) {
            tracing::warn!(dir = %dir.display(), "a sync failed before this start: writing the database onto itself");
            instance::settle(&dir).map_err(|source| OpenError::Io { dir: dir.clone(), source })?;
        }
        let state = State::Open(open_or_remake(&dir, cache_bytes, part)?);
        Ok(Self { dir, cache_bytes, part, state })
    }

    /// Applies the batches in order, each atomically, and makes all of them durable with one flush. After an error
    /// nothing is promised of any of them.
    pub(super) fn write(&mut self, builds: Vec<Build>) -> Result<(), StoreError> {
        let outcome = self.opened()?.write(builds);
        outcome.map_err(|trouble| self.fail("write", trouble))
    }

    /// Reads whatever `look` looks at.
    pub(super) fn read<T>(
        &mut self,
        look: impl FnOnce(&sled::Tree) -> sled::Result<T>,
    ) -> Result<T, StoreError> {
        let outcome = self.opened()?.read(look);
        outcome.map_err(|trouble| self.fail("read", trouble))
    }

    /// After a failure, and not too soon after the last attempt, tries to open the database anew. `Ok` when it is open.
    pub(super) fn recover(&mut self) -> Result<(), StoreError> {
        self.opened().map(drop)
    }

    /// Whether it is open, as far as is known.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// Lets go of the files. Everything that was written is durable already.
    pub(super) fn close(self) {
        if let State::Open(instance) = self.state {
            instance.close();
        }
    }

    fn opened(&mut self) -> Result<&Instance, StoreError> {
        if let State::Failed { error, tried, unsettled } = &mut self.state {
            if tried.elapsed() < RETRY {
                return Err(error.clone());
            }
            let reopened = reopen(&self.dir, self.cache_bytes, self.part, unsettled);
            *tried = Instant::now();
            match reopened {
                Ok(instance) => {
                    tracing::info!(dir = %self.dir.display(), "the store works again");
                    self.state = State::Open(instance);
                }
                Err(again) => *error = again,
            }
        }
        match &self.state {
            State::Open(instance) => Ok(instance),
            State::Failed { error, .. } => Err(error.clone()),
        }
    }

    /// Closes the database after `trouble`.
    fn fail(&mut self, doing: &'static str, trouble: Trouble) -> StoreError {
        let error = trouble.to_store_error(doing);
        tracing::error!(dir = %self.dir.display(), %error, "the store failed");
        if trouble.unsettles() {
            instance::mark_unsettled(&self.dir);
        }
        let failed =
            State::Failed { error: error.clone(), tried: Instant::now(), unsettled: trouble.unsettles() };
        if let State::Open(instance) = std::mem::replace(&mut self.state, failed) {
            instance.close();
        }
        if trouble.is_damage() && self.part.on_damage == OnDamage::Remake {
            match remake(&self.dir, self.cache_bytes, self.part, &error.to_string()) {
                Ok(instance) => self.state = State::Open(instance),
                Err(error) => {
                    tracing::error!(dir = %self.dir.display(), %error, "the store can't be made anew")
                }
            }
        }
        error
    }
}

fn open_or_remake(dir: &Path, cache_bytes: u64, part: Part) -> Result<Instance, OpenError> {
    match Instance::open(dir, cache_bytes, part.format()) {
        Err(OpenError::Damaged { reason, .. }) if part.on_damage == OnDamage::Remake => {
            remake(dir, cache_bytes, part, &reason)
        }
        outcome => outcome,
    }
}

/// Throws the database away and begins an empty one.
fn remake(dir: &Path, cache_bytes: u64, part: Part, reason: &str) -> Result<Instance, OpenError> {
    tracing::warn!(dir = %dir.display(), reason, "threw away a damaged database and made it anew");
    fs::remove_dir_all(dir).map_err(|source| OpenError::Io { dir: dir.to_owned(), source })?;
    Instance::open(dir, cache_bytes, part.format())
}

fn reopen(dir: &Path, cache_bytes: u64, part: Part, unsettled: &mut bool) -> Result<Instance, StoreError> {
    const DOING: &str = "open its database again";
    if *unsettled {
        instance::settle(dir).map_err(|error| Trouble::Sync(error).to_store_error(DOING))?;
        *unsettled = false;
    }
    open_or_remake(dir, cache_bytes, part).map_err(|error| match error {
        OpenError::Io { source, .. } => {
            let trouble = Trouble::from(sled::Error::Io(source));
            if trouble.unsettles() && !*unsettled {
                *unsettled = true;
                instance::mark_unsettled(dir);
            }
            trouble.to_store_error(DOING)
        }
        other @ (OpenError::Locked { .. }
        | OpenError::Newer { .. }
        | OpenError::Older { .. }
        | OpenError::NoRoom { .. }
        | OpenError::Copy { .. }
        | OpenError::Damaged { .. }) => StoreError::Failed { doing: DOING, reason: other.to_string() },
    })
}
