//! Reading the log from its end: pages of records, newest first.
//!
//! The rule: a page costs a bounded amount of reading, whatever it asks for and however large the log is. A page that
//! looked through [`MAX_SCAN`] bytes ends there, with a place from which the next one goes on.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use shared::id::EdgeName;
use shared::wire::admin::{AuditPage, AuditRecord};

use super::files::View;
use super::line;

/// Most bytes that a page looks through: about 150,000 records, a fraction of a second.
const MAX_SCAN: u64 = 64 * 1024 * 1024;
/// Bytes that are read at a time.
const CHUNK: u64 = 128 * 1024;
/// How far clocks may have stepped back within the log: a record that is older than asked for by more than this ends a
/// page, since those before it are older still.
const CLOCK_STEP_MS: u64 = 60 * 60 * 1000;

/// Which records are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Only those before this one.
    pub after: Option<u64>,
    /// At most so many.
    pub limit: usize,
    /// Only those about this edge.
    pub edge: Option<EdgeName>,
    /// Only those of an actor with this name.
    pub actor: Option<String>,
    /// Only those of this action, or of all that begin with it where it ends in a dot.
    pub action: Option<String>,
    /// Only those from this millisecond on.
    pub since: Option<u64>,
    /// Only those before this millisecond.
    pub until: Option<u64>,
}

/// Reads a page. Blocks.
pub fn page(view: &View, query: &Query) -> io::Result<AuditPage> {
    let mut page = AuditPage { records: Vec::new(), next: None };
    let mut left = MAX_SCAN;
    for segment in view.segments.iter().rev() {
        if query.after.is_some_and(|after| segment.first >= after) {
            continue;
        }
        let file = match view.open(segment) {
            Ok(file) => file,
            // It was dropped since, as is all before it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(error),
        };
        let mut lines = Backwards::new(&file, segment.bytes);
        while let Some(line) = lines.next()? {
            let seq = line::seq_of(&line);
            if seq.is_some_and(|seq| query.after.is_some_and(|after| seq >= after)) {
                continue;
            }
            left = left.saturating_sub(line.len() as u64 + 1);
            if let Some(record) = query.matching(&line) {
                if page.records.len() == query.limit {
                    page.next = page.records.last().map(|record| record.seq);
                    return Ok(page);
                }
                page.records.push(record);
            }
            if query.is_past(&line) {
                return Ok(page);
            }
            if left == 0
                && let Some(seq) = seq
            {
                page.next = (seq > 1).then_some(seq);
                return Ok(page);
            }
        }
    }
    Ok(page)
}

impl Query {
    /// The record of a line, if it is asked for. Most lines are sorted out without being parsed.
    fn matching(&self, line: &[u8]) -> Option<AuditRecord> {
        let text = std::str::from_utf8(line).ok()?;
        let has = |member: &str, value: &str| {
            let value = serde_json::to_string(value).expect("a string has no failing serializer");
            text.contains(&format!("\"{member}\":{}", value.trim_end_matches(['"', '.'])))
        };
        let edge = self.edge.as_ref().map(EdgeName::as_str);
        if edge.is_some_and(|edge| !has("edge", edge))
            || self.actor.as_deref().is_some_and(|actor| !has("name", actor))
            || self.action.as_deref().is_some_and(|action| !has("action", action))
        {
            return None;
        }
        let record: AuditRecord = serde_json::from_str(text).ok()?;
        let asked = self.edge.as_ref().is_none_or(|edge| record.edge.as_ref() == Some(edge))
            && self.actor.as_ref().is_none_or(|actor| record.actor.name == *actor)
            && self.action.as_ref().is_none_or(|action| {
                record.action == *action
                    || (action.ends_with('.') && record.action.starts_with(action.as_str()))
            })
            && self.since.is_none_or(|since| record.at >= since)
            && self.until.is_none_or(|until| record.at < until);
        asked.then_some(record)
    }

    /// Whether all records before this line are too old.
    fn is_past(&self, line: &[u8]) -> bool {
        let Some(since) = self.since else { return false };
        at_of(line).is_some_and(|at| at.saturating_add(CLOCK_STEP_MS) < since)
    }
}

/// The time of a line that begins as ours do.
fn at_of(line: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(line).ok()?;
    let (_, rest) = text.split_once(",\"at\":")?;
    rest.split(',').next()?.parse().ok()
}

/// The lines of a file from its end on.
struct Backwards<'a> {
    file: &'a File,
    /// What is not read yet ends here.
    end: u64,
    /// What was read and not given out: whole lines but for the first.
    buffer: Vec<u8>,
}

impl<'a> Backwards<'a> {
    fn new(file: &'a File, end: u64) -> Self {
        Self { file, end, buffer: Vec::new() }
    }

    /// The line before the last one, without its end.
    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if self.buffer.last() == Some(&b'\n') && self.end == 0 && self.buffer.len() == 1 {
                self.buffer.clear();
            }
            let body = self.buffer.strip_suffix(b"\n").unwrap_or(&self.buffer);
            if let Some(before) = body.iter().rposition(|byte| *byte == b'\n') {
                let line = body[before + 1..].to_vec();
                self.buffer.truncate(before + 1);
                return Ok(Some(line));
            }
            if self.end == 0 {
                let line = std::mem::take(&mut self.buffer);
                let line = line.strip_suffix(b"\n").map(<[u8]>::to_vec).unwrap_or(line);
                return Ok((!line.is_empty()).then_some(line));
            }
            let start = self.end.saturating_sub(CHUNK);
            let length = usize::try_from(self.end - start).expect("a chunk fits into memory");
            let mut chunk = vec![0; length];
            self.file.read_exact_at(&mut chunk, start)?;
            chunk.extend_from_slice(&self.buffer);
            (self.buffer, self.end) = (chunk, start);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn lines_come_from_the_end_whatever_their_length() {
        let mut file = tempfile::tempfile().expect("a file");
        let lines: Vec<_> =
            (0..2000).map(|number| "x".repeat(number * 7 % 900) + &number.to_string()).collect();
        file.write_all((lines.join("\n") + "\n").as_bytes()).expect("written");
        let length = file.metadata().expect("a file").len();
        let mut backwards = Backwards::new(&file, length);
        let mut read = Vec::new();
        while let Some(line) = backwards.next().expect("readable") {
            read.push(String::from_utf8(line).expect("text"));
        }
        read.reverse();
        assert_eq!(read, lines);
        assert_eq!(Backwards::new(&file, 0).next().expect("readable"), None);
    }
}
