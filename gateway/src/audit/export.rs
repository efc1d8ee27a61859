//! The log as one file: JSON lines, oldest first, as they stand in the segments.

use std::io::{self, BufReader};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::Audit;
use super::files::View;
use super::line;
use super::log::next_piece;

/// Bytes of a chunk: large enough that its cost is in the bytes.
const CHUNK: usize = 64 * 1024;

/// Gives the records behind `after` in chunks, until all are given or the reader is gone. Blocks, as long as the reader
/// takes.
pub fn export(audit: &Audit, after: u64, chunks: &mpsc::Sender<io::Result<Bytes>>) {
    if let Err(error) = audit.read(|view| give(view, after, chunks)) {
        // A reader that went away needs no error.
        let _ = chunks.blocking_send(Err(error));
    }
}

fn give(view: &View, after: u64, chunks: &mpsc::Sender<io::Result<Bytes>>) -> io::Result<()> {
    // Opened before anything is given, so that segments that are dropped meanwhile can still be read to their end.
    let segments = view.segments.iter().zip(view.segments.iter().skip(1).map(Some).chain([None]));
    let wanted = segments.filter(|(_, next)| next.is_none_or(|next| next.first > after + 1));
    let files = wanted.map(|(segment, _)| Ok(io::Read::take(view.open(segment)?, segment.bytes)));
    let mut chunk = Vec::with_capacity(CHUNK);
    for file in files.collect::<io::Result<Vec<_>>>()? {
        let mut reader = BufReader::new(file);
        let (mut begins, mut known) = (true, false);
        while let Some(piece) = next_piece(&mut reader)? {
            // What can't be read is given as it is: that is for whoever verifies it.
            if begins {
                known = line::seq_of(&piece).is_some_and(|seq| seq <= after);
            }
            begins = piece.ends_with(b"\n");
            if known {
                continue;
            }
            chunk.extend_from_slice(&piece);
            if chunk.len() >= CHUNK && chunks.blocking_send(Ok(std::mem::take(&mut chunk).into())).is_err() {
                return Ok(());
            }
        }
    }
    if !chunk.is_empty() {
        // A reader that went away needs no end.
        let _ = chunks.blocking_send(Ok(chunk.into()));
    }
    Ok(())
}
