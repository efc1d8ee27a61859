//! A container's log as the engine sends it, taken apart into lines. Pure.
//!
//! Without a terminal, standard output and standard error come in frames: which of them (1 byte), three zeros, the length
//! (4 bytes, big-endian), the bytes (Docker Engine API, `ContainerAttach`). With one there are no frames. The engine puts
//! its time before each line.
//!
//! The rule: a line takes at most [`MAX_LINE`] of memory, however the engine cuts frames; a longer one is told in pieces.

use shared::wire::admin::{LogLine, LogSource};

/// Bytes of a line that is told in one piece. The engine cuts its own at 16 KiB.
pub const MAX_LINE: usize = 16 * 1024;
/// Before each frame.
const HEADER: usize = 8;

/// What comes is no log.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the engine's answer is not a log of the kind that it said it would be")]
pub struct NoLog;

/// Takes a log apart.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

#[derive(Debug)]
enum State {
    /// There are no frames.
    Raw,
    /// So much of a header.
    Header { bytes: [u8; HEADER], filled: usize },
    /// So many bytes of a frame are still to come.
    Frame { source: LogSource, left: usize },
}

impl Decoder {
    /// For a container with a terminal or without.
    pub fn new(terminal: bool) -> Self {
        let state = if terminal { State::Raw } else { State::Header { bytes: [0; HEADER], filled: 0 } };
        Self { state, stdout: Vec::new(), stderr: Vec::new() }
    }

    /// Takes what came, and gives the lines that are whole.
    pub fn feed(&mut self, mut bytes: &[u8], lines: &mut Vec<LogLine>) -> Result<(), NoLog> {
        while !bytes.is_empty() {
            let (next, taken) = match &mut self.state {
                State::Raw => {
                    self.take(LogSource::Stdout, bytes, lines);
                    return Ok(());
                }
                State::Header { bytes: header, filled } => {
                    let taken = bytes.len().min(HEADER - *filled);
                    header[*filled..*filled + taken].copy_from_slice(&bytes[..taken]);
                    *filled += taken;
                    (if *filled == HEADER { frame(*header)? } else { None }, taken)
                }
                State::Frame { source, left } => {
                    let (source, taken) = (*source, bytes.len().min(*left));
                    *left -= taken;
                    let is_over = *left == 0;
                    self.take(source, &bytes[..taken], lines);
                    (is_over.then_some(State::Header { bytes: [0; HEADER], filled: 0 }), taken)
                }
            };
            if let Some(next) = next {
                self.state = next;
            }
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    /// What is left at the end, without an end of its line.
    pub fn finish(mut self, lines: &mut Vec<LogLine>) {
        for source in [LogSource::Stdout, LogSource::Stderr] {
            let rest = std::mem::take(self.buffer(source));
            if !rest.is_empty() {
                lines.push(line(source, &rest));
            }
        }
    }

    fn buffer(&mut self, source: LogSource) -> &mut Vec<u8> {
        match source {
            LogSource::Stdout => &mut self.stdout,
            LogSource::Stderr => &mut self.stderr,
        }
    }

    fn take(&mut self, source: LogSource, mut bytes: &[u8], lines: &mut Vec<LogLine>) {
        let buffer = self.buffer(source);
        while !bytes.is_empty() {
            let room = MAX_LINE - buffer.len();
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let taken = end.unwrap_or(bytes.len()).min(room);
            buffer.extend_from_slice(&bytes[..taken]);
            let is_whole = end == Some(taken);
            if is_whole || buffer.len() == MAX_LINE {
                lines.push(line(source, buffer));
                buffer.clear();
            }
            bytes = &bytes[taken + usize::from(is_whole)..];
        }
    }
}

/// What a header begins. An empty frame is none.
fn frame([source, a, b, c, length @ ..]: [u8; HEADER]) -> Result<Option<State>, NoLog> {
    let source = match (source, [a, b, c]) {
        // 0 is standard input, which the engine would only echo; it is told where it comes from a terminal.
        (0 | 1, [0, 0, 0]) => LogSource::Stdout,
        // 3 is what the engine itself has to say, of which standard error is what comes closest.
        (2 | 3, [0, 0, 0]) => LogSource::Stderr,
        (_, _) => return Err(NoLog),
    };
    let left = usize::try_from(u32::from_be_bytes(length)).map_err(|_| NoLog)?;
    Ok(Some(if left == 0 {
        State::Header { bytes: [0; HEADER], filled: 0 }
    } else {
        State::Frame { source, left }
    }))
}

/// A line with its time taken off.
fn line(source: LogSource, bytes: &[u8]) -> LogLine {
    let text = String::from_utf8_lossy(bytes.strip_suffix(b"\r").unwrap_or(bytes)).into_owned();
    match text.split_once(' ') {
        Some((at, rest)) if is_time(at) => LogLine { source, at: Some(at.to_owned()), text: rest.to_owned() },
        Some(_) | None => LogLine { source, at: None, text },
    }
}

/// As the engine writes times: `2026-11-21T14:03:05.123456789Z`.
fn is_time(text: &str) -> bool {
    text.len() <= 35 && text.ends_with('Z') && shared::wire::parse_rfc3339(text).is_some()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const AT: &str = "2026-11-21T14:03:05.123456789Z";

    fn framed(source: u8, bytes: &[u8]) -> Vec<u8> {
        let length = u32::try_from(bytes.len()).expect("short").to_be_bytes();
        [&[source, 0, 0, 0][..], &length, bytes].concat()
    }

    fn decoded(terminal: bool, pieces: &[&[u8]]) -> Result<Vec<(LogSource, Option<String>, String)>, NoLog> {
        let (mut decoder, mut lines) = (Decoder::new(terminal), Vec::new());
        for piece in pieces {
            decoder.feed(piece, &mut lines)?;
        }
        decoder.finish(&mut lines);
        Ok(lines.into_iter().map(|line| (line.source, line.at, line.text)).collect())
    }

    #[test]
    fn lines_of_both_sources_are_told_apart_and_put_together_across_frames() {
        let log = [
            framed(1, format!("{AT} one\n{AT} t").as_bytes()),
            framed(2, format!("{AT} oh\r\n").as_bytes()),
            framed(1, b""),
            framed(1, b"wo\nno time"),
        ]
        .concat();
        let at = Some(AT.to_owned());
        assert_eq!(
            decoded(false, &[&log]).expect("a log"),
            [
                (LogSource::Stdout, at.clone(), "one".to_owned()),
                (LogSource::Stderr, at.clone(), "oh".to_owned()),
                (LogSource::Stdout, at, "two".to_owned()),
                (LogSource::Stdout, None, "no time".to_owned()),
            ]
        );
    }

    #[test]
    fn a_terminal_has_no_frames() {
        let lines = decoded(true, &[b"\x01\0\0\0 a\nb", b"c\n"]).expect("a log");
        let texts: Vec<_> = lines.iter().map(|(_, _, text)| text.as_str()).collect();
        assert_eq!(texts, ["\u{1}\0\0\0 a", "bc"]);
    }

    #[test]
    fn what_is_no_frame_is_no_log() {
        assert_eq!(decoded(false, &[b"plain text"]), Err(NoLog));
        assert_eq!(decoded(false, &[&[4, 0, 0, 0, 0, 0, 0, 0]]), Err(NoLog));
        assert_eq!(decoded(false, &[&framed(1, b"\xff\n")]).expect("a log")[0].2, "\u{fffd}");
    }

    #[test]
    fn a_line_without_end_is_told_in_pieces() {
        let long = vec![b'x'; MAX_LINE * 2 + 5];
        let lengths =
            |lines: Vec<(_, _, String)>| lines.iter().map(|(_, _, text)| text.len()).collect::<Vec<_>>();
        assert_eq!(lengths(decoded(true, &[&long, b"\n"]).expect("a log")), [MAX_LINE, MAX_LINE, 5]);
        let (mut decoder, mut lines) = (Decoder::new(false), Vec::new());
        // A frame may say that it has 4 GiB.
        decoder.feed(&[1, 0, 0, 0, 255, 255, 255, 255], &mut lines).expect("a frame");
        for _ in 0..10 {
            decoder.feed(&long, &mut lines).expect("its bytes");
            lines.clear();
            assert!(decoder.stdout.capacity() <= 2 * MAX_LINE);
        }
    }

    proptest! {
        #[test]
        fn it_is_the_same_log_however_it_is_cut(
            frames in proptest::collection::vec((1u8..3, "[a-z \\n]{0,20}"), 0..20), cut in 1usize..40
        ) {
            let log: Vec<u8> = frames.iter().flat_map(|(source, text)| framed(*source, text.as_bytes())).collect();
            let pieces: Vec<_> = log.chunks(cut).collect();
            prop_assert_eq!(decoded(false, &pieces), decoded(false, &[&log]));
        }
    }
}
