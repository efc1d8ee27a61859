//! Passwords, from a terminal that does not show them or from a file; never from a flag, which every user of the machine
//! could read.

use std::fs::File;
use std::io::{self, BufRead as _, IsTerminal as _, Read, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use shared::secret::Secret;
use shared::terminal::escape;

use super::exit::CliError;

/// Read of a file at most: a password has 256 characters.
const MAX_FILE: u64 = 4096;
/// Stands for standard input.
const STDIN: &str = "-";

/// Where a password comes from.
#[derive(Args, Clone, Debug, Default)]
pub struct PasswordArgs {
    /// File with the password, - for standard input [default: it is asked for]
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl PasswordArgs {
    /// Whether a file is named.
    pub fn is_given(&self) -> bool {
        self.password_file.is_some()
    }

    /// The password, asked for by this where no file is named.
    pub fn read(&self, question: &str) -> Result<Secret<String>, CliError> {
        match &self.password_file {
            Some(file) => from_file(file),
            None => asked(question),
        }
    }

    /// A new one: asked for twice.
    pub fn read_new(&self, whose: &str) -> Result<Secret<String>, CliError> {
        if self.is_given() {
            return self.read("");
        }
        let password = asked(&format!("New password of {whose}: "))?;
        let again = asked("Once more: ")?;
        if password.expose() != again.expose() {
            return Err(CliError::Failed("the two passwords differ; nothing was changed".to_owned()));
        }
        Ok(password)
    }
}

/// A password in a file, without the end of its line.
pub fn from_file(file: &Path) -> Result<Secret<String>, CliError> {
    let failed = |error| CliError::failed(format!("can't read the password from {}", file.display()), error);
    let text = if file == Path::new(STDIN) { read(io::stdin()) } else { File::open(file).and_then(read) };
    let text = Secret::new(text.map_err(failed)?);
    let line = text.expose().lines().next().unwrap_or_default();
    if line.is_empty() {
        return Err(CliError::Failed(format!("there is no password in {}", file.display())));
    }
    Ok(Secret::from(line))
}

fn read(from: impl Read) -> io::Result<String> {
    let mut text = String::new();
    from.take(MAX_FILE).read_to_string(&mut text)?;
    Ok(text)
}

fn asked(question: &str) -> Result<Secret<String>, CliError> {
    if !io::stdin().is_terminal() {
        let hint = "a password is asked for on a terminal only; give it with --password-file";
        return Err(CliError::Configuration(hint.to_owned()));
    }
    let failed = |error: io::Error| CliError::failed("can't ask for a password", error);
    let mut err = io::stderr().lock();
    write!(err, "{}", escape(question)).and_then(|()| err.flush()).map_err(failed)?;
    let silence = Silence::begin().map_err(failed)?;
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line);
    drop(silence);
    // The end of the line that was not shown either.
    let _ = writeln!(err);
    let line = Secret::new(line);
    read.map_err(failed)?;
    Ok(Secret::from(line.expose().trim_end_matches(['\r', '\n'])))
}

/// The terminal shows nothing of what is typed, for as long as the value lives.
struct Silence(Termios);

impl Silence {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        // What was typed before the question is thrown away: it was shown.
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent)?;
        Ok(Self(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // A terminal that is gone shows nothing more.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_a_password_in_its_first_line() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "correct horse \n").expect("written");
        assert_eq!(from_file(file.path()).expect("one").expose(), "correct horse ");
        std::fs::write(file.path(), "\n").expect("written");
        assert!(from_file(file.path()).is_err());
    }
}
