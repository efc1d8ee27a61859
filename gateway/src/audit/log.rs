//! The log on its disk: appends whole rounds, makes room for them before it is needed, rotates, and finds its way back
//! after a crash.
//!
//! The rule: what is durable stays as it is. A round that fails is taken back to the last durable byte, so that it can be
//! tried again. Room for [`RESERVE`] bytes is allocated ahead: what was promised to be recorded can be, also on a disk
//! that became full meanwhile.
//!
//! | at start there is | what happens |
//! | --- | --- |
//! | an incomplete last line, as `kill -9` or a power cut may leave it | it is cut off, and a record says so |
//! | a line that was changed, or a log that ends before `head.json` | it is kept as it is, the log says so loudly, and a new segment begins with a record about it |
//! | no log, and a place that a backup brought along | the log goes on from that place, with a record about it |

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use shared::folder::make_durable;
use shared::wire::admin::AuditHead;

use super::entry::Entry;
use super::files::{self, Segment, View};
use super::line::{Chain, MAX_LINE, seal};

/// Largest segment, and what a log of one segment's share of its bound has at least and at most.
const MAX_SEGMENT: u64 = 16 * 1024 * 1024;
const MIN_SEGMENT: u64 = 64 * 1024;
/// Segments that the bound of the whole log is divided into, so that dropping one forgets a sixteenth at most.
const SEGMENTS: u64 = 16;
/// Allocated ahead at the least: a round of records of the greatest length, and after it one more for everybody who was
/// promised one meanwhile.
pub const RESERVE: u64 = ((super::PLACES + super::ROUND_NOTES + super::PLACES) * MAX_LINE) as u64;
/// Allocated at a time.
const AHEAD: u64 = 2 * RESERVE;

/// Where a restored backup puts the place that its log had come to, in the data folder.
pub const RESTORED: &str = "audit-head.json";

/// The log of one gateway.
#[derive(Debug)]
pub struct Log {
    dir: PathBuf,
    max_bytes: u64,
    segments: VecDeque<Segment>,
    file: File,
    /// Bytes that the file system keeps for the last segment.
    allocated: u64,
    anchor: AuditHead,
    head: AuditHead,
    /// Of `head.json`.
    noted: AuditHead,
    /// Numbers of segments that were dropped and whose files are still there.
    dropped: Vec<u32>,
}

/// What happened to the log while nobody watched, to be its next records.
pub type Found = Vec<Entry>;

impl Log {
    /// Opens the log in `dir`, or makes it, bounded to `max_bytes`.
    pub fn open(dir: &Path, max_bytes: u64) -> io::Result<(Self, Found)> {
        make_durable(dir)?;
        let mut found = Vec::new();
        let mut segments = VecDeque::from(files::list(dir)?);
        let view = View::of_folder(dir);
        let (anchor, noted) = match view {
            Ok(view) => (view.anchor, view.head),
            Err(error) => {
                found.push(damage(&format!("anchor.json or head.json: {error}")));
                (AuditHead::default(), AuditHead::default())
            }
        };
        drop_forgotten(dir, &mut segments, anchor)?;
        let (head, whole) = recover(dir, &mut segments, anchor, &mut found)?;
        if head.seq < noted.seq {
            found.push(damage(&format!(
                "the log ends at record {}, and had come to record {}",
                head.seq, noted.seq
            )));
        }
        let file = match segments.back() {
            Some(last) if whole => OpenOptions::new().append(true).open(files::path(dir, last.number))?,
            last => {
                let number = last.map_or(1, |last| last.number + 1);
                let file = files::create(dir, number)?;
                segments.push_back(Segment { number, bytes: 0, first: head.seq + 1 });
                file
            }
        };
        let allocated = segments.back().map_or(0, |last| last.bytes);
        let dir = dir.to_owned();
        let dropped = Vec::new();
        Ok((Self { dir, max_bytes, segments, file, allocated, anchor, head, noted, dropped }, found))
    }

    /// As [`Log::open`], for a data folder: where it has no log yet and was restored from a backup, the log goes on from
    /// where that of the backup had come to.
    pub fn open_in(data_dir: &Path, max_bytes: u64) -> io::Result<(Self, Found)> {
        let (dir, restored) = (data_dir.join(files::FOLDER), data_dir.join(RESTORED));
        let Some(place) = files::read_place(&restored)? else { return Self::open(&dir, max_bytes) };
        make_durable(&dir)?;
        let fresh = files::list(&dir)?.is_empty();
        if fresh {
            files::write_anchor(&dir, place)?;
        }
        let (log, mut found) = Self::open(&dir, max_bytes)?;
        fs::remove_file(&restored)?;
        if fresh {
            let text =
                format!("from a backup; the log that it came from had come to record {} then", place.seq);
            found.push(Entry::by_gateway("gateway.restore").detail(&text));
        }
        Ok((log, found))
    }

    /// Makes sure that there is room for [`RESERVE`] bytes: begins a new segment and drops the oldest where it is time
    /// for that, and allocates.
    pub fn make_room(&mut self) -> io::Result<()> {
        if self.last().bytes >= self.segment_bytes() {
            self.rotate()?;
        }
        let bytes = self.last().bytes;
        if self.allocated < bytes + RESERVE {
            self.allocated = allocate(&self.file, bytes, AHEAD)?;
        }
        Ok(())
    }

    /// Appends a round of records and makes it durable; where it came to. After an error none of them is there.
    pub fn append(&mut self, round: &[Entry]) -> io::Result<AuditHead> {
        let (mut head, mut lines) = (self.head, String::new());
        for entry in round {
            let (line, place) = seal(&entry.after(head));
            lines.push_str(&line);
            lines.push('\n');
            head = place;
        }
        let written = self.file.write_all(lines.as_bytes()).and_then(|()| self.file.sync_data());
        let last = self.segments.back_mut().expect("a log has a segment from its beginning on");
        if let Err(error) = written {
            // What can't be cut off now is cut off before the next try: appends go where the file ends.
            let _ = self.file.set_len(last.bytes);
            self.allocated = last.bytes;
            return Err(error);
        }
        last.bytes += lines.len() as u64;
        self.head = head;
        Ok(head)
    }

    /// Takes back what a failed round may have left. `Ok` when the file ends where the durable records do.
    pub fn settle(&mut self) -> io::Result<()> {
        let durable = self.last().bytes;
        if self.file.metadata()?.len() != durable {
            self.file.set_len(durable)?;
            self.file.sync_all()?;
        }
        Ok(())
    }

    /// Notes how far the log came, if that is news.
    pub fn note_head(&mut self) -> io::Result<()> {
        if self.noted != self.head {
            files::write_head(&self.dir, self.head)?;
            self.noted = self.head;
        }
        Ok(())
    }

    /// Removes the files of dropped segments: once readers were shown a view without them, so that one who finds a file
    /// missing need only look again.
    pub fn forget(&mut self) -> io::Result<()> {
        while let Some(number) = self.dropped.last() {
            match fs::remove_file(files::path(&self.dir, *number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
            self.dropped.pop();
        }
        Ok(())
    }

    /// What readers may look at.
    pub fn view(&self) -> View {
        let segments = self.segments.iter().copied().collect();
        View { dir: self.dir.clone(), segments, anchor: self.anchor, head: self.head }
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.drop_oldest()?;
        let number = self.last().number + 1;
        let file = files::create(&self.dir, number)?;
        match allocate(&file, 0, AHEAD) {
            Ok(allocated) => self.allocated = allocated,
            Err(error) => {
                // Where it can't be removed it is an empty segment, which is none.
                let _ = fs::remove_file(files::path(&self.dir, number));
                return Err(error);
            }
        }
        self.file = file;
        self.segments.push_back(Segment { number, bytes: 0, first: self.head.seq + 1 });
        tracing::info!(seq = self.head.seq, hash = %self.head.hash, "the audit log begins a new segment");
        self.note_head()
    }

    /// Drops segments until another one fits.
    fn drop_oldest(&mut self) -> io::Result<()> {
        let room = self.max_bytes.saturating_sub(self.segment_bytes());
        while self.segments.len() > 1 && self.segments.iter().map(|segment| segment.bytes).sum::<u64>() > room
        {
            let (oldest, next) = (self.segments[0], self.segments[1]);
            if let Some(anchor) = before(&self.dir, next)? {
                files::write_anchor(&self.dir, anchor)?;
                self.anchor = anchor;
            }
            self.dropped.push(oldest.number);
            self.segments.pop_front();
        }
        Ok(())
    }

    fn segment_bytes(&self) -> u64 {
        (self.max_bytes / SEGMENTS).clamp(MIN_SEGMENT, MAX_SEGMENT)
    }

    fn last(&self) -> Segment {
        *self.segments.back().expect("a log has a segment from its beginning on")
    }
}

/// A record that says what was found to be wrong. It is in the process' log too, at once.
fn damage(what: &str) -> Entry {
    tracing::error!(
        damage = what,
        "the audit log is damaged: it was kept as it is; `tidegate audit verify` tells more"
    );
    Entry::by_gateway("audit.damage").failed("damaged").detail(what)
}

/// What the first record of a segment follows, by its own word; `None` where it can't be read.
fn before(dir: &Path, segment: Segment) -> io::Result<Option<AuditHead>> {
    let mut reader = BufReader::new(File::open(files::path(dir, segment.number))?);
    let line = next_line(&mut reader)?.filter(|line| line.is_ended);
    let placed = line.and_then(|line| super::line::placed(&line.bytes));
    Ok(placed.map(|placed| AuditHead { seq: placed.head.seq - 1, hash: placed.prev }))
}

/// Finishes the dropping of segments whose records the anchor has already.
fn drop_forgotten(dir: &Path, segments: &mut VecDeque<Segment>, anchor: AuditHead) -> io::Result<()> {
    let first = segments.iter().position(|segment| segment.first == anchor.seq + 1);
    for forgotten in segments.drain(..first.unwrap_or(0)) {
        fs::remove_file(files::path(dir, forgotten.number))?;
    }
    Ok(())
}

/// Looks at the end of the log: where it came to, and whether its last segment can be written on.
fn recover(
    dir: &Path,
    segments: &mut VecDeque<Segment>,
    anchor: AuditHead,
    found: &mut Found,
) -> io::Result<(AuditHead, bool)> {
    let mut whole = true;
    // The last segment has the end, unless it is empty yet.
    for position in (0..segments.len()).rev() {
        let segment = &mut segments[position];
        let file = files::path(dir, segment.number);
        let end = scan(&file, (position == 0).then_some(anchor))?;
        if end.torn > 0 {
            let keep = segment.bytes - end.torn;
            let cut = OpenOptions::new().write(true).open(&file)?;
            cut.set_len(keep)?;
            cut.sync_all()?;
            segment.bytes = keep;
            tracing::warn!(bytes = end.torn, "cut an incomplete record off the end of the audit log");
            let text = format!("cut {} bytes of an incomplete record off the end of the log", end.torn);
            found.push(Entry::by_gateway("audit.repair").detail(&text));
        }
        if let Some((line, why)) = end.broken {
            whole = false;
            found.push(damage(&format!("line {line} of {}: {why}", files::name(segment.number))));
        }
        if let Some(head) = end.last {
            return Ok((head, whole));
        }
    }
    Ok((anchor, whole))
}

/// What a segment's lines come to.
struct End {
    last: Option<AuditHead>,
    /// The first line that does not belong, and why.
    broken: Option<(u64, super::line::Break)>,
    /// Bytes behind the last line end.
    torn: u64,
}

fn scan(file: &Path, follows: Option<AuditHead>) -> io::Result<End> {
    let mut reader = BufReader::new(File::open(file)?);
    let mut chain = follows.map(Chain::after).unwrap_or_default();
    let mut end = End { last: None, broken: None, torn: 0 };
    let mut number = 0;
    while let Some(line) = next_line(&mut reader)? {
        number += 1;
        if !line.is_ended {
            end.torn = line.length;
            break;
        }
        match chain.next(&line.bytes) {
            Ok(placed) => end.last = Some(placed.head),
            Err(why) => {
                end.broken.get_or_insert((number, why));
                if why != super::line::Break::Changed {
                    end.last = chain.last();
                }
            }
        }
    }
    Ok(end)
}

/// A line as it was found.
#[derive(Debug)]
pub struct Line {
    /// Its bytes without the end; of one that is too long for a record so many that this shows.
    pub bytes: Vec<u8>,
    /// Whether it has an end.
    pub is_ended: bool,
    /// Bytes that it takes in the file, with its end.
    pub length: u64,
}

/// The next line. Whoever wrote the file, no more of a line is kept than a record can have.
pub fn next_line(reader: &mut impl io::BufRead) -> io::Result<Option<Line>> {
    let Some(mut bytes) = next_piece(reader)? else { return Ok(None) };
    let mut length = bytes.len() as u64;
    let mut is_ended = bytes.pop_if(|last| *last == b'\n').is_some();
    if !is_ended && bytes.len() > MAX_LINE {
        // What is beyond is counted and needs nobody's memory.
        while let Some(rest) = next_piece(reader)? {
            length += rest.len() as u64;
            is_ended = rest.ends_with(b"\n");
            if is_ended {
                break;
            }
        }
    }
    Ok(Some(Line { bytes, is_ended, length }))
}

/// What comes up to the end of a line, and that end; or the first bytes of it, where it is longer than records are.
pub fn next_piece(reader: &mut impl io::BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut piece = Vec::new();
    io::Read::take(reader, MAX_LINE as u64 + 1).read_until(b'\n', &mut piece)?;
    Ok((!piece.is_empty()).then_some(piece))
}

/// Has the file system keep `more` bytes behind `from`, without changing what the file shows; up to where. File systems
/// that can't are taken at their word when it comes to writing.
fn allocate(file: &File, from: u64, more: u64) -> io::Result<u64> {
    // What is allocated behind a file's end is not held against the limit on the size of files; a write will be.
    if getrlimit(Resource::Fsize).current.is_some_and(|limit| from + more > limit) {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    match fallocate(file, FallocateFlags::KEEP_SIZE, from, more) {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(from + more),
        Err(error) => Err(error.into()),
    }
}
