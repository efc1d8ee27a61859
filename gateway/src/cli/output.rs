//! What commands print on standard output: text for people, JSON for programs.
//!
//! The rule: what a gateway or an agent said goes out as a [`Text`] or as harmless JSON ([`shared::terminal`]), never as
//! it came. Only what this program made of checked parts itself, such as a completion script, is printed as it is.

use std::io::{self, IsTerminal as _, Write as _};

use clap::ValueEnum;
use serde::Serialize;
use serde_json::json;
use shared::terminal::{self, Text};

use super::exit::{CliError, complain};

/// The form of what is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns, for people.
    #[default]
    Table,
    /// As the API answers, for programs.
    Json,
}

/// Prints `value` as JSON, or what `text` makes of it.
pub fn print<T: Serialize>(format: Format, value: &T, text: impl FnOnce(&T) -> Text) -> Result<(), CliError> {
    match format {
        Format::Table => print_text(&text(value)),
        Format::Json => {
            let json = terminal::json(value).map_err(|error| CliError::failed("can't write JSON", error))?;
            print_own(&json)
        }
    }
}

/// Says that something was done: as "deleted edge shop-17" on standard error, or as `{"deleted": "shop-17"}`.
pub fn done(format: Format, what: &str, kind: &str, name: &str) -> Result<(), CliError> {
    match format {
        Format::Table => {
            complain(&format!("{what} {kind} {name}"));
            Ok(())
        }
        Format::Json => print(format, &json!({ what: name }), |_| Text::default()),
    }
}

/// Prints text, coloured where a person sees it.
pub fn print_text(text: &Text) -> Result<(), CliError> {
    print_own(&text.render(terminal::colours(&io::stdout())))
}

/// Prints as it is what this program made itself. A reader that has seen enough is no error.
pub fn print_own(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(CliError::failed("can't write the output", error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Asks on a terminal; a script that did not say `--yes` is taken at its word.
pub fn confirm(question: &str) -> Result<(), CliError> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Ok(());
    }
    match ask(&format!("{question} [y/N] "))?.as_str() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(CliError::Failed("nothing was changed".to_owned())),
    }
}

/// Asks on a terminal; a script must say it otherwise.
pub fn confirm_on_terminal(question: &str, otherwise: &str) -> Result<(), CliError> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(CliError::Configuration(otherwise.to_owned()));
    }
    confirm(question)
}

/// Asks for a line on the terminal.
pub fn ask(question: &str) -> Result<String, CliError> {
    let mut err = io::stderr().lock();
    let mut answer = String::new();
    let asked = write!(err, "{}", terminal::escape(question)).and_then(|()| err.flush());
    asked
        .and_then(|()| io::stdin().read_line(&mut answer))
        .map_err(|error| CliError::failed("can't ask", error))?;
    Ok(answer.trim().to_owned())
}
