//! One line on standard error that says what a command is waiting for, and is gone when it goes on.
//!
//! The rule: only a person on a terminal sees it. In a script's log each step would be a line of its own, full of escape
//! sequences.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use shared::terminal::escape;

/// How often a line that counts seconds is written anew.
pub const TICK: Duration = Duration::from_secs(1);
/// Columns of a terminal that does not say how many it has.
const COLUMNS: u16 = 80;
/// To the first column, and nothing right of it (ECMA-48, CR and EL).
const CLEAR: &str = "\r\u{1b}[K";

/// The line. It goes away with the value.
#[derive(Debug)]
pub struct Progress {
    terminal: bool,
    shown: bool,
}

impl Progress {
    /// Nothing is shown yet.
    pub fn new() -> Self {
        Self { terminal: io::stderr().is_terminal(), shown: false }
    }

    /// Whether somebody sees it.
    pub fn is_seen(&self) -> bool {
        self.terminal
    }

    /// Shows this in the place of what was shown before. A text that does not fit is cut: a line that wraps could not be
    /// taken back.
    pub fn show(&mut self, text: &str) {
        if !self.terminal {
            return;
        }
        let columns = rustix::termios::tcgetwinsize(io::stderr()).map_or(COLUMNS, |size| size.ws_col);
        let text = cut(&escape(text), usize::from(if columns == 0 { COLUMNS } else { columns }) - 1);
        self.shown = true;
        let mut err = io::stderr().lock();
        // A terminal that is gone needs no progress.
        let _ = write!(err, "{CLEAR}{text}").and_then(|()| err.flush());
    }

    /// Takes the line away.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            let mut err = io::stderr().lock();
            let _ = write!(err, "{CLEAR}").and_then(|()| err.flush());
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

fn cut(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(columns.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_keeps_to_its_width() {
        assert_eq!(cut("käse", 4), "käse");
        assert_eq!(cut("käsekuchen", 5), "käse…");
        assert_eq!(cut("käse", 0), "…");
    }
}
