//! Upgrades: what an older release stored becomes what this one reads.
//!
//! A database says which format it has. [`STEPS`] leads from each number to the next; the newest is what this release
//! writes. The number stands for the whole data folder: the audit log and the files of keys have none of their own, since
//! nothing reads them before the store is open. Who changes what is kept in any of them so that an older release would
//! misread it adds a step, even if it does nothing.
//!
//! The rules:
//!
//! - A step and its number are one batch: a process that is killed leaves the format before it or the one behind it, whole,
//!   and the next start goes on from there.
//! - Nothing is changed before a copy of the whole store is durable beside it, in [`COPIES`], and nothing at all where the
//!   disk has no room for that.
//! - A step is never taken out or changed once a release had it. It works on keys and values as they were then, not on what
//!   [`super::codec`] makes of them today.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use shared::folder::make_durable;

use super::codec::{FORMAT_KEY, RELEASE_KEY};
use super::database::OnDamage;
use super::instance::{self, Build, Instance, OpenError, Trouble, sync_folder};

/// What a step changes, with a view of what is there. The database's format is noted in the same batch.
pub(super) type Step = fn(&sled::Tree) -> sled::Result<sled::Batch>;

/// Step by step from format 1 to the newest.
pub(super) const STEPS: &[Step] = &[
    // 2: a database says which release wrote it, which releases of format 1 would not understand.
    |_| Ok(sled::Batch::default()),
];

/// This release, as stores are told.
pub(super) const RELEASE: &str = env!("CARGO_PKG_VERSION");
/// Folder of the copies, beside the store's.
pub(super) const COPIES: &str = "store-before-upgrade";
/// Copies that are kept, the newest ones: a release, the one before it, and one that was tried in between.
const KEPT: usize = 3;
/// A copy that is not whole begins like this.
const UNFINISHED: &str = ".making-";
const NAME: &str = "format-";
/// Room that the disk must have besides the copy and what the steps write: for the log, and for going on.
const RESERVE: u64 = 16 * 1024 * 1024;

/// A database of the store.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// Its folder in that of the store.
    pub folder: &'static str,
    /// What to do where it is damaged.
    pub on_damage: OnDamage,
    /// What leads to the format in which it is used.
    pub steps: &'static [Step],
}

impl Part {
    /// The format in which it is used.
    pub(super) fn format(&self) -> u32 {
        newest(self.steps)
    }
}

/// The format that these steps lead to.
pub(super) const fn newest(steps: &[Step]) -> u32 {
    1 + steps.len() as u32
}

/// Brings every part of the store in `dir` to its newest format. Blocks. `free` tells the bytes that a file system has left.
pub(super) fn upgrade(
    dir: &Path,
    cache_bytes: u64,
    parts: &[Part],
    free: impl FnOnce(&Path) -> io::Result<u64>,
) -> Result<(), OpenError> {
    let mut found = Vec::new();
    for part in parts {
        if let Some(format) = format_of(dir, cache_bytes, part)?.filter(|format| *format < part.format()) {
            found.push((part, format));
        }
    }
    let Some(oldest) = found.iter().map(|(_, format)| *format).min() else { return Ok(()) };
    let copies = dir.with_file_name(COPIES);
    let copy = copy(dir, &copies, oldest, free)?;
    let path = copy.display();
    tracing::warn!(from = oldest, release = RELEASE, copy = %path, "upgrading the store; a copy of it was made");
    for (part, format) in found {
        let instance = Instance::open_as_it_is(&dir.join(part.folder), cache_bytes)?;
        let outcome = run(&instance, part.steps, format);
        instance.close();
        outcome.map_err(|trouble| trouble.into_open_error(dir))?;
    }
    tracing::info!(copy = %path, "the store is upgraded");
    if let Err(error) = forget_old(&copies) {
        tracing::warn!(%error, folder = %copies.display(), "old copies of the store can't be removed");
    }
    Ok(())
}

/// The format of a part that is there and can be read.
fn format_of(dir: &Path, cache_bytes: u64, part: &Part) -> Result<Option<u32>, OpenError> {
    match read_format(&dir.join(part.folder), cache_bytes, part.format()) {
        Err(OpenError::Damaged { .. }) if part.on_damage == OnDamage::Remake => Ok(None),
        outcome => outcome,
    }
}

fn read_format(folder: &Path, cache_bytes: u64, newest: u32) -> Result<Option<u32>, OpenError> {
    if instance::is_marked(folder) {
        instance::settle(folder).map_err(|source| OpenError::Io { dir: folder.to_owned(), source })?;
    }
    let instance = Instance::open_as_it_is(folder, cache_bytes)?;
    let format = match instance.format(folder) {
        Ok(Some(found)) if found > newest => Err(instance.newer(folder, found, newest)),
        outcome => outcome,
    };
    instance.close();
    format
}

fn run(instance: &Instance, steps: &'static [Step], from: u32) -> Result<(), Trouble> {
    for (format, step) in (1..).zip(steps).skip_while(|(format, _)| *format < from) {
        let build: Build = Box::new(move |tree| {
            let mut batch = step(tree)?;
            note(&mut batch, format + 1);
            Ok(batch)
        });
        instance.write(vec![build])?;
        tracing::info!(format = format + 1, "a step of the store's upgrade is done");
    }
    Ok(())
}

/// Notes in a batch which format the database has from then on, and which release wrote it.
pub(super) fn note(batch: &mut sled::Batch, format: u32) {
    batch.insert(FORMAT_KEY, format.to_string().as_bytes());
    batch.insert(RELEASE_KEY, RELEASE.as_bytes());
}

/// Copies the store to a folder of its own in `copies`, durably and as a whole.
fn copy(
    dir: &Path,
    copies: &Path,
    format: u32,
    free: impl FnOnce(&Path) -> io::Result<u64>,
) -> Result<PathBuf, OpenError> {
    let failed = |source| OpenError::Copy { path: copies.to_owned(), source };
    make_durable(copies).map_err(failed)?;
    for (name, path) in entries(copies).map_err(failed)? {
        if name.starts_with(UNFINISHED) {
            fs::remove_dir_all(path).map_err(failed)?;
        }
    }
    // The steps write at most what is there once more, beside it: sled never writes in place.
    let needed = 2 * size(dir).map_err(failed)? + RESERVE;
    let free = free(copies).map_err(failed)?;
    if free < needed {
        return Err(OpenError::NoRoom { dir: dir.to_owned(), needed, free });
    }
    let time = shared::wire::rfc3339(SystemTime::now()).replace(':', "");
    let (name, place) = (format!("{UNFINISHED}{time}"), copies.join(format!("{NAME}{format}-{time}")));
    let making = copies.join(name);
    let all = || {
        copy_folder(dir, &making)?;
        fs::rename(&making, &place)?;
        sync_folder(copies)
    };
    all().map_err(failed)?;
    Ok(place)
}

fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    make_durable(to)?;
    for (name, path) in entries(from)? {
        let place = to.join(name);
        if path.is_dir() {
            copy_folder(&path, &place)?;
        } else {
            fs::copy(&path, &place)?;
            File::open(&place)?.sync_all()?;
        }
    }
    sync_folder(to)
}

fn size(folder: &Path) -> io::Result<u64> {
    entries(folder)?.into_iter().try_fold(0, |sum, (_, path)| {
        Ok(sum + if path.is_dir() { size(&path)? } else { path.metadata()?.len() })
    })
}

/// The copy that a release which reads formats up to `newest` can go back to, the last one that was made.
pub(super) fn copy_for(dir: &Path, newest: u32) -> Option<PathBuf> {
    let copies = finished(&dir.with_file_name(COPIES)).ok()?;
    copies.into_iter().rfind(|copy| copy.format <= newest).map(|copy| copy.path)
}

/// Removes all copies but the newest ones.
fn forget_old(copies: &Path) -> io::Result<()> {
    let all = finished(copies)?;
    for old in &all[..all.len().saturating_sub(KEPT)] {
        fs::remove_dir_all(&old.path)?;
    }
    Ok(())
}

/// A copy that is whole.
struct Copy {
    time: String,
    format: u32,
    path: PathBuf,
}

/// The copies that are whole, oldest first.
fn finished(copies: &Path) -> io::Result<Vec<Copy>> {
    let named = |(name, path): (String, PathBuf)| {
        let (format, time) = name.strip_prefix(NAME)?.split_once('-')?;
        Some(Copy { time: time.to_owned(), format: format.parse().ok()?, path })
    };
    let mut found: Vec<Copy> = entries(copies)?.into_iter().filter_map(named).collect();
    found.sort_by(|one, other| one.time.cmp(&other.time));
    Ok(found)
}

fn entries(folder: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let named = |entry: fs::DirEntry| (entry.file_name().to_string_lossy().into_owned(), entry.path());
    fs::read_dir(folder)?.map(|entry| entry.map(named)).collect()
}

/// Bytes that whoever runs this process may still write to the file system of `path`.
pub(super) fn free(path: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(path)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(test)]
mod tests;
