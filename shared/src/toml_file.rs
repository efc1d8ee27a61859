//! Reading a configuration file: TOML into a struct with `#[serde(deny_unknown_fields)]`.
//!
//! Errors name file, line and key, and never quote a value: it may be a secret.

use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::terminal::escape;

/// A configuration is a few hundred bytes; more than this is another file given by mistake.
const MAX_BYTES: u64 = 1024 * 1024;

/// Why a configuration file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TomlFileError {
    /// It can't be read.
    #[error("can't read the configuration file {file}: {source}")]
    Read {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It can't be a configuration.
    #[error("{file} is larger than {MAX_BYTES} bytes: it is no configuration file")]
    TooLarge {
        /// Which file.
        file: PathBuf,
    },
    /// Not TOML, an unknown key, or a value that its key can't have.
    #[error("{file}:{line}: {place}{message}")]
    Content {
        /// Which file.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
        /// The key on that line with a colon, if there is one.
        place: String,
        /// What is wrong.
        message: String,
    },
}

/// Reads `file`. The struct must deny unknown fields, so that a misspelt key is an error and not a silent default.
pub fn load<T: DeserializeOwned>(file: &Path) -> Result<T, TomlFileError> {
    let read = |source| TomlFileError::Read { file: file.to_owned(), source };
    if std::fs::metadata(file).map_err(read)?.len() > MAX_BYTES {
        return Err(TomlFileError::TooLarge { file: file.to_owned() });
    }
    let text = std::fs::read_to_string(file).map_err(read)?;
    parse(&text, file)
}

/// Reads the text of `file`.
pub fn parse<T: DeserializeOwned>(text: &str, file: &Path) -> Result<T, TomlFileError> {
    toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        let before = text.get(..start).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let key = text.lines().nth(line - 1).and_then(|text| text.split_once('=')).map(|(key, _)| key.trim());
        TomlFileError::Content {
            file: file.to_owned(),
            line,
            place: key.map_or_else(String::new, |key| format!("{}: ", escape(key))),
            message: escape(&error.message().lines().collect::<Vec<_>>().join("; ")),
        }
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    struct Config {
        #[serde(default)]
        ssh_addr: Option<std::net::SocketAddr>,
    }

    fn error(text: &str) -> String {
        parse::<Config>(text, Path::new("gate.toml")).expect_err("not valid").to_string()
    }

    #[test]
    fn errors_name_file_line_and_key() {
        let config: Config = parse("ssh-addr = '[::1]:8000'", Path::new("x")).expect("valid");
        assert!(config.ssh_addr.is_some());
        let unknown = error("# a comment\n\nshh-addr = '[::1]:8000'\n");
        assert!(unknown.starts_with("gate.toml:3: shh-addr: unknown field `shh-addr`"), "{unknown}");
        let value = error("ssh-addr = 'nowhere'");
        assert!(value.starts_with("gate.toml:1: ssh-addr: "), "{value}");
        let syntax = error("\nssh-addr = '");
        assert!(syntax.starts_with("gate.toml:2: ssh-addr: "), "{syntax}");
    }

    #[test]
    fn errors_never_act_on_a_terminal() {
        let error = error("\"\\u001b[2J\u{202e}\" = 1");
        assert!(!error.contains(['\u{1b}', '\u{202e}']), "{error}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = load::<Config>(Path::new("/does/not/exist.toml")).expect_err("missing").to_string();
        assert!(error.contains("/does/not/exist.toml"), "{error}");
    }
}
