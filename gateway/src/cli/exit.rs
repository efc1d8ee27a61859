//! How a command ends: the exit code, and the line on standard error.

use std::fmt::Display;
use std::io::Write as _;
use std::process::ExitCode;

use http::StatusCode;
use shared::terminal::escape;
use shared::wire::problem::Problem;

/// Exit codes, the same on every binary. 2 is a command line that makes no sense; clap gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Ok,
    /// It failed while it ran.
    Failure,
    /// The configuration is wrong.
    Configuration,
    /// Token, binding or permission refused, or the gateway is not the one that was pinned.
    Refused,
    /// Nobody answers.
    Unreachable,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Ok => 0,
            Exit::Failure => 1,
            Exit::Configuration => 3,
            Exit::Refused => 4,
            Exit::Unreachable => 5,
        })
    }
}

/// Why a command of the operator's side failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// URL, token or fingerprint are missing or malformed.
    #[error("{0}")]
    Configuration(String),
    /// The gateway can't be reached, or broke off.
    #[error("{0}")]
    Unreachable(String),
    /// The gateway is not the one that was pinned, or its certificate is not trusted.
    #[error("{0}")]
    Distrusted(String),
    /// What one came with counts no more.
    #[error("{0}")]
    Refused(String),
    /// The gateway says no.
    #[error("{}: {}", .0.title, .0.detail)]
    Problem(Problem),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

impl CliError {
    /// A failure of doing something with something.
    pub fn failed(doing: impl Display, cause: impl Display) -> Self {
        Self::Failed(format!("{doing}: {cause}"))
    }

    /// The exit code for it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Configuration(_) => Exit::Configuration,
            Self::Unreachable(_) => Exit::Unreachable,
            Self::Distrusted(_) | Self::Refused(_) => Exit::Refused,
            Self::Problem(problem) if is_refusal(problem.status) => Exit::Refused,
            Self::Problem(_) | Self::Failed(_) => Exit::Failure,
        }
    }
}

fn is_refusal(status: u16) -> bool {
    [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].iter().any(|refusal| refusal.as_u16() == status)
}

/// Says on standard error what went wrong, or what goes on. Nothing can be done where even that fails.
pub fn complain(what: &dyn Display) {
    let text = what.to_string().lines().map(escape).collect::<Vec<_>>().join("\n");
    let _ = writeln!(std::io::stderr(), "tidegate: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_code_tells_a_refusal_from_a_failure() {
        let problem = |status| {
            CliError::Problem(Problem {
                kind: String::new(),
                title: "Title".into(),
                status,
                code: "code".into(),
                detail: "what to do".into(),
            })
        };
        assert_eq!(problem(401).exit(), Exit::Refused);
        assert_eq!(problem(403).exit(), Exit::Refused);
        assert_eq!(problem(409).exit(), Exit::Failure);
        assert_eq!(problem(409).to_string(), "Title: what to do");
    }
}
