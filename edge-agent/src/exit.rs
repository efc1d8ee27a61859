//! How the process ends: one code for each kind of failure, the same on every binary of Tidegate. 4 (refused) and 5
//! (unreachable) are the operator's commands': an agent that is refused or can't reach its gateway goes on trying.

use std::process::ExitCode;

/// Why the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It was told to, or did what it was asked.
    Ok,
    /// Something failed at run time.
    Failed,
    /// The configuration, or the join token in it, can't be used.
    Configuration,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Ok => 0,
            Exit::Failed => 1,
            // 2 is for usage: clap exits with it.
            Exit::Configuration => 3,
        })
    }
}
