//! The command line of `tidegate`: the server's commands, and the operator's, which talk to a gateway over HTTP.
//!
//! The rule: standard output has what was asked for and nothing else; everything about how it went is on standard
//! error, one line for an error, and in the exit code.

pub mod access;
pub mod audit;
pub mod backup;
pub mod client;
pub mod connect;
pub mod doctor;
mod download;
pub mod edge;
pub mod events;
pub mod exit;
pub mod healthcheck;
pub mod login;
pub mod manuals;
pub mod offer;
pub mod output;
pub mod password;
pub mod people;
pub mod progress;
pub mod settings;
mod snapshot;
pub mod ssh_config;
pub mod ssh_key;
pub mod status;
pub mod token;
pub mod transport;
pub mod units;
pub mod user;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use shared::log;

use crate::config::{Config, Options};
use crate::serve::{configuration, serve};
use audit::AuditArgs;
use backup::{BackupArgs, RestoreArgs};
use connect::ConnectArgs;
use doctor::DoctorArgs;
use edge::EdgeArgs;
use events::EventsArgs;
use exit::{CliError, Exit, complain};
use healthcheck::healthcheck;
use login::{LoginArgs, LogoutArgs, WhoamiArgs};
use manuals::{CompletionsArgs, ManArgs};
use output::print_own;
use settings::SettingsArgs;
use ssh_config::SshConfigArgs;
use ssh_key::SshKeyArgs;
use status::StatusArgs;
use token::TokenArgs;
use user::UserArgs;

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
    /// Ask the gateway on this machine how it is; exits with 0 if it is well
    Healthcheck {
        /// Ask whether every part can do its work, not only whether the process answers
        #[arg(long)]
        ready: bool,
        #[command(flatten)]
        serve: ServeArgs,
    },
    /// Log in to a gateway: keep a token that ends by itself, for the commands after it
    Login(LoginArgs),
    /// Revoke and forget the token of a login
    Logout(LogoutArgs),
    /// Show who you are to the gateway, and what you may
    Whoami(WhoamiArgs),
    /// Show how the gateway is: edges by status, what is open, its parts
    Status(StatusArgs),
    /// Say what is wrong with this set-up, and how to mend it
    Doctor(DoctorArgs),
    /// Enrol sites, look at them, open and close their tunnels
    Edge(EdgeArgs),
    /// Reach a service of an edge through a local port, or through standard input and output
    Connect(ConnectArgs),
    /// Print what happens to edges, while it happens
    Events(EventsArgs),
    /// Make, change and delete users
    User(UserArgs),
    /// Make, list and revoke tokens of the admin API
    Token(TokenArgs),
    /// Add, list and remove operators' SSH keys
    SshKey(SshKeyArgs),
    /// Print what ~/.ssh/config needs so that ssh reaches every edge through the gateway
    SshConfig(SshConfigArgs),
    /// Show and change what is set while the gateway runs
    Settings(SettingsArgs),
    /// List what was done by whom, export it, and find out whether the log of it is intact
    Audit(AuditArgs),
    /// Take a backup of a running gateway: keys, records and snapshots in one checked file
    Backup(BackupArgs),
    /// Make a data folder of a backup, for a gateway that does not run
    Restore(RestoreArgs),
    /// Print what bash, zsh or fish needs to complete this command line
    Completions(CompletionsArgs),
    /// Print the manual page, or write one for every subcommand
    Man(ManArgs),
}

/// What `serve` takes, and all that must know how a gateway is served.
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
    if let (Some(args), Some((_, matches))) = (cli.command.serve_args(), matches.subcommand()) {
        args.options.note_sources(matches);
    }
    let exit = match cli.command {
        Command::Serve(args) => with_configuration(args, run_gateway),
        Command::CheckConfig(args) => {
            with_configuration(args, |config| finish(print_own(&format!("{config}\n"))))
        }
        Command::Healthcheck { ready, serve } => with_configuration(serve, |config| {
            // Containers know 0 and 1; other codes are reserved there.
            if operate(healthcheck(&config, ready)) == Exit::Ok { Exit::Ok } else { Exit::Failure }
        }),
        Command::Login(args) => operate(args.run()),
        Command::Logout(args) => operate(args.run()),
        Command::Whoami(args) => operate(args.run()),
        Command::User(args) => operate(args.run()),
        Command::Status(args) => operate(args.run()),
        Command::Doctor(args) => operate(args.run()),
        Command::Events(args) => operate(args.run()),
        Command::Edge(args) => operate(args.run()),
        Command::Connect(args) => operate(args.run()),
        Command::Token(args) => operate(args.run()),
        Command::SshKey(args) => operate(args.run()),
        Command::SshConfig(args) => operate(args.run()),
        Command::Settings(args) => operate(args.run()),
        Command::Audit(args) => operate(args.run()),
        Command::Backup(args) => operate(args.run()),
        Command::Restore(args) => operate(args.run()),
        Command::Completions(args) => finish(args.run(Cli::command())),
        Command::Man(args) => finish(args.run(Cli::command())),
    };
    exit.into()
}

impl Command {
    fn serve_args(&mut self) -> Option<&mut ServeArgs> {
        match self {
            Self::Serve(args) | Self::CheckConfig(args) | Self::Healthcheck { serve: args, .. } => Some(args),
            Self::Doctor(args) => Some(&mut args.serve),
            Self::Login(_)
            | Self::Logout(_)
            | Self::Whoami(_)
            | Self::User(_)
            | Self::Status(_)
            | Self::Edge(_)
            | Self::Events(_)
            | Self::Connect(_)
            | Self::Token(_)
            | Self::SshKey(_)
            | Self::SshConfig(_)
            | Self::Settings(_)
            | Self::Audit(_)
            | Self::Backup(_)
            | Self::Restore(_)
            | Self::Completions(_)
            | Self::Man(_) => None,
        }
    }
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
    match runtime().block_on(serve(&config)) {
        Ok(()) => Exit::Ok,
        Err(error) => {
            complain(&error);
            Exit::Failure
        }
    }
}

/// Runs a command of the operator's side.
fn operate(command: impl Future<Output = Result<(), CliError>>) -> Exit {
    let runtime = runtime();
    let outcome = runtime.block_on(command);
    // A read of standard input that is under way can't be called back, and nobody needs it any more.
    runtime.shutdown_background();
    finish(outcome)
}

fn finish(outcome: Result<(), CliError>) -> Exit {
    match outcome {
        Ok(()) => Exit::Ok,
        Err(error) => {
            complain(&error);
            error.exit()
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().expect("a process may start threads; without any nothing here can work")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from([&["tidegate"], arguments].concat())
    }

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn commands_of_the_documentation_are_understood() {
        for line in [
            "serve -c /etc/tidegate.toml --api-addr 0.0.0.0:9000 --trusted-proxy 10.0.0.1 --trusted-proxy 10.0.0.2 -j",
            "check-config --config gate.toml",
            "healthcheck --ready --api-addr 127.0.0.1:9000",
            "edge create shop-17 --cluster --interval 30 --tag paris --tag till",
            "edge list --tag berlin --tag till --sort last-seen --reverse",
            "audit list --edge shop-17 --actor ada --action edge. --since 2h --until 2026-11-09T08:00:00Z --limit 5",
            "audit verify",
            "audit verify --data-dir /var/lib/tidegate --head 1:0000000000000000000000000000000000000000000000000000000000000000",
            "audit verify --file audit.jsonl",
            "audit export - --after 7",
            "edge list --query paris --status never-joined -o json",
            "edge show shop-17",
            "edge open shop-17",
            "edge close shop-17",
            "edge snapshot shop-17 --last",
            "edge offer shop-17 --service web=localhost:8080 --service db=[::1]:5432 --valid 1h",
            "edge offer shop-17 --renew --valid 30d -o json",
            "edge offer shop-17 --revoke",
            "edge create shop-17 --wait --timeout 10m",
            "edge create --from-file names.txt --tokens tokens.txt --tag berlin",
            "edge rename shop-17 shop-18",
            "edge tag shop-17 --add north --remove south --clear",
            "edge set shop-17 --interval 30 --idle-timeout default --cluster true",
            "edge open shop-17 --wait --timeout 30s",
            "edge rotate shop-17 --yes -o json",
            "edge dissociate shop-17 --yes",
            "edge delete shop-17 -y",
            "token create deploy -o json",
            "token list",
            "token revoke 123e4567-e89b-42d3-a456-426614174000",
            "ssh-key add",
            "ssh-key add --label Ada /home/ada/.ssh/id_ed25519.pub -o json",
            "ssh-key add -",
            "ssh-key list",
            "ssh-key remove 123e4567-e89b-42d3-a456-426614174000",
            "ssh-config",
            "ssh-config --user ada --identity-file /home/ada/.ssh/key --gateway-name gate -f /home/ada/.ssh/tidegate",
            "settings show --url https://gate:9000 --token-file t",
            "settings set --interval 10 --idle-timeout 60 --hold 0",
            "connect shop-17/db --listen 127.0.0.1:5432",
            "connect shop-17/ssh --stdio",
            "login gate.example.com --user ada --expires 8h --tls-fingerprint sha256//x",
            "logout",
            "logout https://gate.example.com:9000 -o json",
            "whoami",
            "user add ada --role operator --tag berlin --tag paris",
            "user add ci --role viewer --no-password",
            "user list -o json",
            "user set-role ada admin",
            "user set-tags ada --tag berlin",
            "user set-tags ada --all",
            "user passwd",
            "user passwd ada --password-file new",
            "user delete ada --yes",
            "token create deploy --role operator --tag berlin --expires 30d",
            "ssh-key add --user ada",
            "ssh-key add --user nobody",
            "status",
            "events --follow",
            "events --edge shop-17 --until tunnel-opened -o json",
            "doctor",
            "doctor -c /etc/tidegate.toml --data-dir /var/lib/tidegate --url https://gate:9000 -o json",
            "backup gate.backup",
            "completions bash",
            "completions fish",
            "man",
            "man --dir /tmp/man1",
            "restore gate.backup --data-dir /var/lib/tidegate",
        ] {
            let arguments: Vec<_> = line.split(' ').collect();
            assert!(parse(&arguments).is_ok(), "{line}: {}", parse(&arguments).expect_err("not understood"));
        }
    }

    #[test]
    fn command_lines_that_make_no_sense_are_refused() {
        for line in [
            "",
            "edge create Shop_17",
            "edge create",
            "edge create shop-17 --from-file names.txt --tokens tokens.txt",
            "edge create --from-file names.txt",
            "edge create shop-17 --timeout 1m",
            "edge tag shop-17",
            "edge set shop-17",
            "edge set shop-17 --interval soon",
            "completions tcsh",
            "events",
            "login",
            "user add ada",
            "user set-tags ada",
            "user set-tags ada --tag berlin --all",
            "user add ada --role king",
            "audit list --since yesterday",
            "audit verify --data-dir d --file f",
            "events --follow --until online",
            "events --until lunch",
            "settings set",
            "connect shop-17/db",
            "connect shop-17/db --stdio --listen 127.0.0.1:1",
            "connect shop-17 --stdio",
            "edge list --token tga_x",
            "edge offer shop-17 --service web",
            "edge offer shop-17 --valid 30",
            "edge offer shop-17 --revoke --renew",
            "ssh-key remove 1",
            "ssh-config --user -oProxyCommand=x",
        ] {
            let arguments: Vec<_> = line.split(' ').filter(|word| !word.is_empty()).collect();
            let error = parse(&arguments).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
