//! What commands print on standard output: a table for people, JSON for programs.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};

use clap::ValueEnum;
use serde::Serialize;

use super::exit::CliError;

/// The form of what is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns, for people.
    Table,
    /// As the API answers, for programs.
    Json,
}

/// Prints `value` as JSON, or what `text` makes of it.
pub fn print<T: Serialize>(
    format: Format,
    value: &T,
    text: impl FnOnce(&T) -> String,
) -> Result<(), CliError> {
    let text = match format {
        Format::Table => text(value),
        Format::Json => {
            serde_json::to_string_pretty(value)
                .map_err(|error| CliError::failed("can't write JSON", error))?
                + "\n"
        }
    };
    print_text(&text)
}

/// Prints `text` as it is. A reader that has seen enough is no error.
pub fn print_text(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(CliError::failed("can't write the output", error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// What agents say goes to the operator's terminal, where control characters would be commands.
pub fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Columns under their headings, each as wide as its widest cell; the last one ends where its text ends.
pub fn table<const N: usize>(headings: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut rows: Vec<_> = rows.into_iter().map(|row| row.map(|cell| harmless(&cell))).collect();
    rows.insert(0, headings.map(str::to_owned));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// Lines of a name and a value.
pub fn facts<'a>(facts: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let facts = facts.into_iter().map(|(name, value)| (name, harmless(&value)));
    let facts: Vec<_> = facts.filter(|(_, value)| !value.is_empty()).collect();
    let width = facts.iter().map(|(name, _)| name.chars().count() + 1).max().unwrap_or(0);
    facts.into_iter().fold(String::new(), |mut text, (name, value)| {
        let _ = writeln!(text, "{:width$} {value}", format!("{name}:"));
        text
    })
}

/// Asks on a terminal; a script that did not say `--yes` is taken at its word.
pub fn confirm(question: &str) -> Result<(), CliError> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Ok(());
    }
    let mut err = io::stderr().lock();
    let mut answer = String::new();
    let asked = write!(err, "{question} [y/N] ").and_then(|()| err.flush());
    asked
        .and_then(|()| io::stdin().read_line(&mut answer))
        .map_err(|error| CliError::failed("can't ask", error))?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(CliError::Failed("nothing was changed".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["shop".to_owned(), "online".to_owned()], ["käse-7".to_owned(), String::new()]];
        assert_eq!(table(["NAME", "STATUS"], rows), "NAME    STATUS\nshop    online\nkäse-7\n");
        assert_eq!(
            facts([("name", "shop".into()), ("none", String::new()), ("id", "7".into())]),
            "name: shop\nid:   7\n"
        );
        assert_eq!(facts([("host", "a\u{1b}[2J".into())]), "host: a\u{fffd}[2J\n");
    }
}
