//! Logging, the same on every binary: `-l/--log FILTER`, `-j/--json`, to standard error.

use std::io;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::terminal;

/// The filter where none is given.
pub const DEFAULT_FILTER: &str = "info";

/// Why logging can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is malformed.
    #[error(
        "the log filter {filter:?} is not valid: {source}; write a level, or TARGET=LEVEL,..., as in info,gateway=debug"
    )]
    Filter {
        /// As given.
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Called twice.
    #[error("logging is set up already")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Checks a filter without using it, for `check-config`.
pub fn check_filter(filter: &str) -> Result<(), LogError> {
    parse(filter).map(drop)
}

/// Sends this process' log to standard error: as text, coloured for those who want colours, or as one JSON object a line.
/// Once in a process.
pub fn init(filter: &str, json: bool) -> Result<(), LogError> {
    let builder = tracing_subscriber::fmt().with_env_filter(parse(filter)?).with_writer(io::stderr);
    if json {
        builder.json().flatten_event(true).finish().try_init()?;
    } else {
        builder.with_ansi(terminal::colours(&io::stderr())).finish().try_init()?;
    }
    Ok(())
}

fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::try_new(filter).map_err(|source| LogError::Filter { filter: filter.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_filter_is_named() {
        assert!(check_filter("info,gateway::http=debug").is_ok());
        let error = check_filter("gateway=loud").expect_err("no such level");
        assert!(error.to_string().contains("gateway=loud"), "{error}");
    }
}
