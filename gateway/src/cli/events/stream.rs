//! Server-sent events out of a stream of bytes (WHATWG HTML, section 9.2.6): PURE.

/// Longest line and longest message, in bytes. The gateway's have a few hundred; what is longer is left out, so that
/// nobody can fill this program's memory.
const MAX: usize = 64 * 1024;

/// One message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    /// Its kind; empty where none was given.
    pub(super) event: String,
    /// What it says.
    pub(super) data: String,
    /// By which to go on behind it.
    pub(super) id: Option<String>,
}

/// Takes bytes as they arrive. A message may come in any number of pieces.
#[derive(Debug, Default)]
pub(super) struct Parser {
    line: Vec<u8>,
    /// The line is longer than it may be: the rest of it is skipped.
    too_long: bool,
    message: Message,
}

impl Parser {
    /// What is whole with these bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Message> {
        let mut whole = Vec::new();
        for byte in bytes {
            match byte {
                // Our gateway ends lines with LF; a CR before it is no part of the line.
                b'\n' => whole.extend(self.end_of_line()),
                _ if self.line.len() >= MAX => self.too_long = true,
                byte => self.line.push(*byte),
            }
        }
        whole
    }

    fn end_of_line(&mut self) -> Option<Message> {
        let line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.too_long) {
            return None;
        }
        let line = String::from_utf8_lossy(&line);
        let line = line.strip_suffix('\r').unwrap_or(&line);
        if line.is_empty() {
            let message = std::mem::take(&mut self.message);
            return (!message.data.is_empty()).then_some(message);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.message.event),
            // An id goes into a request's path: what is none of ours is as good as none.
            "id" if is_id(value) => self.message.id = Some(value.to_owned()),
            "data" if self.message.data.len() + value.len() < MAX => {
                if !self.message.data.is_empty() {
                    self.message.data.push('\n');
                }
                self.message.data.push_str(value);
            }
            // Comments have no name in front of their colon; `retry` is for browsers.
            _ => {}
        }
        None
    }
}

fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = ": alive\n\nevent: online\ndata: {\"a\":1}\nid: 179-7\n\nevent: resync\r\ndata:{}\r\n\r\ndata: one\ndata: two\nid: a b\n\n";

    fn expected() -> Vec<Message> {
        let message = |event: &str, data: &str, id: Option<&str>| Message {
            event: event.into(),
            data: data.into(),
            id: id.map(Into::into),
        };
        vec![
            message("online", "{\"a\":1}", Some("179-7")),
            message("resync", "{}", None),
            message("", "one\ntwo", None),
        ]
    }

    #[test]
    fn messages_are_told_apart_from_comments_and_from_each_other() {
        assert_eq!(Parser::default().push(TEXT.as_bytes()), expected());
    }

    #[test]
    fn a_line_without_an_end_takes_no_memory_without_an_end() {
        let mut parser = Parser::default();
        for _ in 0..8 {
            assert_eq!(parser.push(&[b'x'; MAX]), []);
        }
        assert!(parser.line.len() <= MAX);
        let messages = parser.push(b"\ndata: on\n\n");
        assert_eq!(messages.first().map(|message| message.data.as_str()), Some("on"));
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(cuts in proptest::collection::vec(0..TEXT.len(), 0..8)) {
            let mut cuts = cuts;
            cuts.sort_unstable();
            let (mut parser, mut messages, mut start) = (Parser::default(), Vec::new(), 0);
            for cut in cuts.into_iter().chain([TEXT.len()]) {
                messages.extend(parser.push(&TEXT.as_bytes()[start..cut]));
                start = cut;
            }
            prop_assert_eq!(messages, expected());
        }
    }
}
