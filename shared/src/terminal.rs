//! What people read on a terminal: lines, facts, tables, colours.
//!
//! The rule: a text of somebody else's never becomes a command of the terminal. Names, snapshots and errors come from
//! agents and gateways, and a terminal obeys escape sequences, which can rewrite what stands above them. So everything
//! that is shown becomes a [`Text`] first, whose makers escape; the only sequences that get out are the colours that
//! [`Text::render`] adds itself. Programs get JSON, which [`json`] keeps as harmless without changing what it means.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::IsTerminal;

use serde::Serialize;

/// How a piece of text looks where there are colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// As the terminal shows text.
    #[default]
    Plain,
    /// Headings of columns.
    Heading,
    /// All is well.
    Good,
    /// Somebody should look at it.
    Warning,
    /// It is broken.
    Bad,
    /// Of less interest than its neighbours.
    Faint,
}

impl Style {
    /// SGR parameters of ECMA-48, section 8.3.117: from the eight colours that every terminal has and its theme sets.
    fn parameters(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Heading => Some("1"),
            Self::Good => Some("32"),
            Self::Warning => Some("33"),
            Self::Bad => Some("31"),
            Self::Faint => Some("2"),
        }
    }
}

/// Text that is safe to show: no control character is in it but ends of lines that we made ourselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text(Vec<(Style, String)>);

impl Text {
    /// Lines as they are; other control characters are shown escaped.
    pub fn lines(text: &str) -> Self {
        Self(vec![(Style::Plain, text.split('\n').map(escape).collect::<Vec<_>>().join("\n"))])
    }

    /// One line in this style, with its end.
    pub fn line(style: Style, text: &str) -> Self {
        Self(vec![(style, escape(text)), (Style::Plain, "\n".to_owned())])
    }

    /// One line of pieces, each in its style, with its end.
    pub fn words(words: &[(Style, &str)]) -> Self {
        let mut text = Self(words.iter().map(|(style, word)| (*style, escape(word))).collect());
        text.push(Style::Plain, "\n".to_owned());
        text
    }

    /// A name and a value each; what has no value is left out.
    pub fn facts<'a, C: Into<Cell>>(facts: impl IntoIterator<Item = (&'a str, C)>) -> Self {
        let facts = facts.into_iter().map(|(name, value)| (name, value.into()));
        let facts: Vec<(&str, Cell)> = facts.filter(|(_, value)| !value.text.is_empty()).collect();
        let width = facts.iter().map(|(name, _)| name.chars().count() + 1).max().unwrap_or(0);
        let mut text = Self::default();
        for (name, value) in facts {
            text.push(Style::Plain, format!("{:width$} ", format!("{name}:")));
            text.push(value.style, value.text);
            text.push(Style::Plain, "\n".to_owned());
        }
        text
    }

    /// Columns under their headings, each as wide as its widest cell; the last one ends where its text ends.
    pub fn table<const N: usize, C: Into<Cell>>(
        headings: [&str; N],
        rows: impl IntoIterator<Item = [C; N]>,
    ) -> Self {
        let mut all = vec![headings.map(|heading| Cell::styled(Style::Heading, heading))];
        all.extend(rows.into_iter().map(|row| row.map(Into::into)));
        let width = |column: usize| all.iter().map(|row| row[column].width()).max().unwrap_or(0);
        let widths: [usize; N] = std::array::from_fn(width);
        let mut text = Self::default();
        for row in all {
            let end = row.iter().rposition(|cell| !cell.text.is_empty()).map_or(0, |last| last + 1);
            for (column, cell) in row.into_iter().take(end).enumerate() {
                let padding = if column + 1 < end { widths[column] - cell.width() + 2 } else { 0 };
                text.push(cell.style, cell.text);
                text.push(Style::Plain, " ".repeat(padding));
            }
            text.push(Style::Plain, "\n".to_owned());
        }
        text
    }

    /// This and then `other`.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// This, a blank line, and then `other`.
    #[must_use]
    pub fn then(self, other: Self) -> Self {
        self.and(Self::lines("\n")).and(other)
    }

    /// As it is written out.
    pub fn render(&self, colours: bool) -> String {
        self.0.iter().fold(String::new(), |mut out, (style, text)| {
            match style.parameters().filter(|_| colours && !text.is_empty()) {
                Some(parameters) => {
                    let _ = write!(out, "\u{1b}[{parameters}m{text}\u{1b}[0m");
                }
                None => out.push_str(text),
            }
            out
        })
    }

    fn push(&mut self, style: Style, harmless: String) {
        self.0.push((style, harmless));
    }
}

/// What stands in one field of a table or behind the name of a fact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    style: Style,
    /// Without any control character.
    text: String,
}

impl Cell {
    /// In this style.
    pub fn styled(style: Style, text: &str) -> Self {
        Self { style, text: escape(text) }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::styled(Style::Plain, text)
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

/// Shows control characters, ends of lines included, and those that turn the direction of writing around, the way Rust
/// writes them: `\n`, `\u{1b}`.
pub fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, character| {
        if acts(character) {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
        escaped
    })
}

/// `value` as JSON for people and programs alike, with an end of line. JSON itself escapes the control characters of
/// ASCII only; the others are written as `\u009b`, which means the same to whoever parses it.
pub fn json(value: &impl Serialize) -> Result<String, serde_json::Error> {
    Ok(harmless(&serde_json::to_string_pretty(value)?))
}

/// As [`json`], in one line.
pub fn json_line(value: &impl Serialize) -> Result<String, serde_json::Error> {
    Ok(harmless(&serde_json::to_string(value)?))
}

fn harmless(json: &str) -> String {
    let mut harmless = json.chars().fold(String::with_capacity(json.len() + 1), |mut out, character| {
        // Ends of lines in it are those of the layout: inside a string they are escaped.
        if character != '\n' && acts(character) {
            let _ = write!(out, "\\u{:04x}", u32::from(character));
        } else {
            out.push(character);
        }
        out
    });
    harmless.push('\n');
    harmless
}

/// Whether a terminal does something at this character instead of showing it. All of them are below U+10000.
fn acts(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            // Marks, embeddings, overrides and isolates of the bidirectional algorithm (Unicode UAX #9, section 2).
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            // Ends of lines and paragraphs, and what takes no place at all.
            | '\u{2028}' | '\u{2029}' | '\u{200b}' | '\u{feff}'
        )
}

/// Whether to use colours there: on a terminal that has them, unless NO_COLOR is set (no-color.org).
pub fn colours(stream: &impl IsTerminal) -> bool {
    let variable = std::env::var_os;
    stream.is_terminal() && wanted(variable("NO_COLOR").as_deref(), variable("TERM").as_deref())
}

fn wanted(no_color: Option<&OsStr>, term: Option<&OsStr>) -> bool {
    no_color.is_none_or(OsStr::is_empty) && term.is_none_or(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Clears the screen, by the one-byte form too; sets the title; rewrites the line; turns the direction around.
    const HOSTILE: &str = "a\u{1b}[2J\u{9b}2J\u{1b}]0;owned\u{7}\rb\u{8}\u{7f}\u{202e}c\nd\te";

    fn acting(text: &str) -> Vec<char> {
        text.chars().filter(|c| *c != '\n' && acts(*c)).collect()
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["shop", "online"], ["käse-7", ""]];
        let table = Text::table(["NAME", "STATUS"], rows).render(false);
        assert_eq!(table, "NAME    STATUS\nshop    online\nkäse-7\n");
        let facts = Text::facts([("name", "shop"), ("none", ""), ("id", "7")]).render(false);
        assert_eq!(facts, "name: shop\nid:   7\n");
    }

    #[test]
    fn nothing_of_somebody_elses_acts_on_a_terminal() {
        let all = Text::facts([("host", HOSTILE)])
            .and(Text::table(["HOST"], [[HOSTILE]]))
            .and(Text::lines(HOSTILE))
            .then(Text::line(Style::Bad, HOSTILE));
        let shown = all.render(false);
        assert!(acting(&shown).is_empty(), "{shown:?}");
        assert!(
            shown.contains(r"a\u{1b}[2J\u{9b}2J\u{1b}]0;owned\u{7}\rb\u{8}\u{7f}\u{202e}c\nd\te"),
            "{shown}"
        );
        // One each of fact, heading, row, the two as they are, and the styled one.
        assert_eq!(shown.lines().count(), 6, "a cell keeps to its line: {shown}");
    }

    #[test]
    fn colours_are_around_the_text_and_never_out_of_it() {
        let rows = [[Cell::styled(Style::Good, "online"), Cell::from(HOSTILE)]];
        let table = Text::table(["STATUS", "HOST"], rows);
        let coloured = table.render(true);
        assert!(coloured.contains("\u{1b}[32monline\u{1b}[0m"), "{coloured:?}");
        let without: String =
            coloured.replace("\u{1b}[1m", "").replace("\u{1b}[32m", "").replace("\u{1b}[0m", "");
        assert_eq!(without, table.render(false));
    }

    #[test]
    fn json_is_harmless_and_means_the_same() {
        let text = json(&[HOSTILE]).expect("a list of strings");
        assert!(acting(&text).is_empty(), "{text:?}");
        let back: Vec<String> = serde_json::from_str(&text).expect("still JSON");
        assert_eq!(back, [HOSTILE]);
    }

    #[test]
    fn colours_are_for_terminals_that_have_them_and_people_who_want_them() {
        let text = |text: &'static str| Some(OsStr::new(text));
        assert!(wanted(None, text("xterm")) && wanted(text(""), None));
        assert!(!wanted(text("1"), text("xterm")) && !wanted(None, text("dumb")));
    }
}
