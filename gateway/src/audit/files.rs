//! What the audit log's folder holds, and its names.
//!
//! | file | what |
//! | --- | --- |
//! | `NNNNNNNN.jsonl` | a segment: records, a line each; the last one grows |
//! | `anchor.json` | number and hash of the last record that was dropped; absent while none was |
//! | `head.json` | number and hash of a record that was there a moment ago, so that a log that was cut short shows it |
//!
//! The rule: nothing is ever written over. Segments grow at their end and are dropped as a whole, oldest first.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use shared::wire::admin::AuditHead;

use super::line::{self, MAX_LINE};
use crate::data_dir::{SECRET_MODE, read_secret, write_secret};

/// Folder of the log in the data folder.
pub const FOLDER: &str = "audit";
const ANCHOR: &str = "anchor.json";
const HEAD: &str = "head.json";
const EXTENSION: &str = "jsonl";
const DIGITS: usize = 8;

/// A segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its number, which is its name.
    pub number: u32,
    /// Bytes of records that are durable.
    pub bytes: u64,
    /// Number of its first record, or of the first that may be in it.
    pub first: u64,
}

/// What a reader may look at: all that is durable at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The folder.
    pub dir: PathBuf,
    /// Oldest first.
    pub segments: Vec<Segment>,
    /// What the first record follows.
    pub anchor: AuditHead,
    /// The last record.
    pub head: AuditHead,
}

impl View {
    /// Of a folder in which nobody writes. Its head is what `head.json` says, or the anchor.
    pub fn of_folder(dir: &Path) -> io::Result<Self> {
        let segments = list(dir)?;
        let anchor = read_place(&dir.join(ANCHOR))?.unwrap_or_default();
        let head = read_place(&dir.join(HEAD))?.unwrap_or(anchor);
        Ok(Self { dir: dir.to_owned(), segments, anchor, head })
    }

    /// Opens a segment for reading.
    pub fn open(&self, segment: &Segment) -> io::Result<File> {
        File::open(path(&self.dir, segment.number))
    }
}

/// The file of a segment.
pub fn path(dir: &Path, number: u32) -> PathBuf {
    dir.join(name(number))
}

/// The name of a segment's file.
pub fn name(number: u32) -> String {
    format!("{number:0DIGITS$}.{EXTENSION}")
}

/// All segments, oldest first.
pub fn list(dir: &Path) -> io::Result<Vec<Segment>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let number =
            name.to_str().and_then(|name| name.strip_suffix(EXTENSION)?.strip_suffix('.')?.parse().ok());
        let Some(number) = number.filter(|number| name == *self::name(*number)) else { continue };
        segments.push(Segment { number, bytes: entry.metadata()?.len(), first: 0 });
    }
    segments.sort_by_key(|segment| segment.number);
    let mut known = 0;
    for segment in &mut segments {
        // One whose first line can't be read may hold whatever follows the one before.
        let first = first_line(&path(dir, segment.number))?;
        known = first.as_deref().and_then(line::seq_of).unwrap_or(known);
        segment.first = known;
    }
    Ok(segments)
}

/// A new, empty segment.
pub fn create(dir: &Path, number: u32) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = options.create_new(true).append(true).mode(SECRET_MODE).open(path(dir, number))?;
    File::open(dir)?.sync_all()?;
    Ok(file)
}

/// Notes what the first record that is left follows.
pub fn write_anchor(dir: &Path, place: AuditHead) -> io::Result<()> {
    write_place(&dir.join(ANCHOR), place)
}

/// Notes that the log came this far.
pub fn write_head(dir: &Path, place: AuditHead) -> io::Result<()> {
    write_place(&dir.join(HEAD), place)
}

/// A file with a place in the log.
pub fn write_place(path: &Path, place: AuditHead) -> io::Result<()> {
    let json = serde_json::to_string(&place).expect("a number and a string have no failing serializer");
    write_secret(path, format!("{json}\n").as_bytes())
}

/// The place that a file names, if there is such a file.
pub fn read_place(path: &Path) -> io::Result<Option<AuditHead>> {
    let Some(text) = read_secret(path)? else { return Ok(None) };
    serde_json::from_str(text.expose()).map(Some).map_err(|error| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{} can't be read: {error}", path.display()))
    })
}

/// The first line of a segment, without its end; what there is of it where it is too long to be ours.
fn first_line(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let file = io::Read::take(File::open(path)?, MAX_LINE as u64);
    BufReader::with_capacity(MAX_LINE, file).read_until(b'\n', &mut line)?;
    Ok((!line.is_empty()).then_some(line))
}
