//! `tidegate`: the gateway and its operator's command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    gateway::cli::run()
}
