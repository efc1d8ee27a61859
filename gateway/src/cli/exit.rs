//! How a command ends: the exit code, and the line on standard error.

use std::fmt::Display;
use std::io::Write as _;
use std::process::ExitCode;

/// Exit codes, the same on every binary. (2, usage, is clap's own.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Ok,
    /// It failed while it ran.
    Failure,
    /// The command line asks for what makes no sense.
    Usage,
    /// The configuration is wrong.
    Configuration,
    /// Token, binding or permission refused.
    Refused,
    /// Nobody answers.
    Unreachable,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Ok => 0,
            Exit::Failure => 1,
            Exit::Usage => 2,
            Exit::Configuration => 3,
            Exit::Refused => 4,
            Exit::Unreachable => 5,
        })
    }
}

/// Says on standard error what went wrong. Nothing can be done where even that fails.
pub fn complain(what: &dyn Display) {
    let _ = writeln!(std::io::stderr(), "tidegate: {what}");
}
