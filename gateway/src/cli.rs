//! The command line of `tidegate`: the server's commands, and the operator's, which talk to a gateway over HTTP.
//!
//! The rule: standard output has what was asked for and nothing else; everything about how it went is on standard
//! error, one line for an error, and in the exit code.

pub mod exit;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use shared::log;

use crate::config::{Config, Options};
use crate::serve::{configuration, serve};
use exit::{Exit, complain};

/// SSH reverse tunnels on demand, to machines that nothing can reach.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, max_term_width = 110, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a gateway
    Serve(ServeArgs),
    /// Check the configuration that `serve` would run on, and print it
    CheckConfig(ServeArgs),
}

/// What `serve` and `check-config` take.
#[derive(Args, Debug)]
struct ServeArgs {
    /// Configuration file (TOML); flags and environment variables go before it
    #[arg(short, long, env = "TIDEGATE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
}

/// Parses this process' arguments, does what they say and answers with the exit code.
pub fn run() -> ExitCode {
    let matches = Cli::command().get_matches();
    let mut cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    if let (Command::Serve(args) | Command::CheckConfig(args), Some((_, matches))) =
        (&mut cli.command, matches.subcommand())
    {
        args.options.note_sources(matches);
    }
    match cli.command {
        Command::Serve(args) => with_configuration(args, run_gateway),
        Command::CheckConfig(args) => with_configuration(args, |config| {
            println!("{config}");
            Exit::Ok
        }),
    }
    .into()
}

fn with_configuration(args: ServeArgs, act: impl FnOnce(Config) -> Exit) -> Exit {
    match configuration(args.options, args.config.as_deref().filter(|file| !file.as_os_str().is_empty())) {
        Ok(config) => act(config),
        Err(error) => {
            complain(&error);
            Exit::Configuration
        }
    }
}

fn run_gateway(config: Config) -> Exit {
    if let Err(error) = log::init(&config.log, config.json) {
        complain(&error);
        return Exit::Configuration;
    }
    finish(runtime().block_on(serve(&config)))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().expect("a process may start threads; without any nothing here can work")
}

fn finish<E: std::fmt::Display>(outcome: Result<(), E>) -> Exit {
    match outcome {
        Ok(()) => Exit::Ok,
        Err(error) => {
            complain(&error);
            Exit::Failure
        }
    }
}
