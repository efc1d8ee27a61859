//! The agent's configuration: flags, environment and file with one meaning.
//!
//! The rule: a flag beats the environment, the environment beats the file, and an unknown key is an error.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use serde::Deserialize;
use shared::id::EdgeId;
use shared::join_token::{JoinToken, JoinTokenError};
use shared::log::{self, LogError};
use shared::secret::Secret;
use shared::tls::{self, TlsError};
use shared::toml_file::{self, TomlFileError};

use crate::services::{self, Service, ServiceError};
use crate::state::{self, StateError};

const DATA_DIR: &str = "/var/lib/tidegate-agent";
const PAGE_ADDR: &str = "127.0.0.1:9080";

/// Everything the agent is told at its start.
#[derive(Debug)]
pub struct Config {
    /// The gateway to join; kept in the data folder, so needed once only.
    pub join_token: Option<JoinToken>,
    /// The edge ID to use instead of the one in the data folder.
    pub edge_id: Option<EdgeId>,
    /// Where state is kept.
    pub data_dir: PathBuf,
    /// What is exposed.
    pub services: Vec<Service>,
    /// Where the join page listens while there is no token.
    pub page_addr: SocketAddr,
    /// More certificates to trust, for gateways that are not pinned.
    pub ca_file: Option<PathBuf>,
    /// What is logged.
    pub log: String,
    /// Whether it is logged as JSON.
    pub json: bool,
}

/// What the process was started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// To be an agent.
    Run,
    /// To say whether the configuration can be used.
    CheckConfig,
    /// To show how the agent that runs on the data folder is.
    Status(Format),
    /// To say whether that agent's gateway answered it lately.
    Ready,
    /// To look for what is wrong.
    Doctor(Format),
}

/// The form of what is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns, for people.
    Table,
    /// For programs.
    Json,
}

/// What the process was started for, and what it was told.
#[derive(Debug)]
pub struct Invocation {
    /// To do what.
    pub task: Task,
    /// Where state is kept: known also where the rest can't be used.
    pub data_dir: PathBuf,
    /// All of it.
    pub config: Result<Config, ConfigError>,
}

/// Why the configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file.
    #[error(transparent)]
    File(#[from] TomlFileError),
    /// The join token.
    #[error("{source} (given by {origin})")]
    JoinToken {
        /// Where it was given.
        origin: &'static str,
        /// What is wrong with it.
        source: JoinTokenError,
    },
    /// The file with the join token.
    #[error(transparent)]
    JoinTokenFile(StateError),
    /// Two tokens.
    #[error("both a join token and a file with one are given: give one of them")]
    TwoTokens,
    /// The edge ID.
    #[error("the edge ID is not valid: {0}")]
    EdgeId(shared::id::IdError),
    /// A service.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The file with certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The log filter.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// Tidegate's agent: asks the gateway every few seconds whether it is needed, and opens a tunnel when it is.
#[derive(Debug, Parser)]
#[command(name = "tidegate-agent", version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say whether the configuration can be used, without using it
    CheckConfig,
    /// Show how the agent that runs on the data folder is: gateway, last check-in, tunnel, services
    Status {
        /// Form of the output
        #[arg(short, long, value_enum, default_value = "table")]
        output: Format,
    },
    /// Exit with 0 if that agent's gateway answered it lately, else with 1: for the health checks of containers
    Ready,
    /// Say what keeps the agent from its gateway or its services, and how to mend it
    Doctor {
        /// Form of the output
        #[arg(short, long, value_enum, default_value = "table")]
        output: Format,
    },
}

/// Values stay text here, so that flags, environment and file are read by the same code below.
#[derive(Debug, Args)]
struct Flags {
    /// Join token, from the gateway's admin (a secret: prefer the file or the environment)
    #[arg(
        long,
        global = true,
        value_name = "TOKEN",
        env = "TIDEGATE_AGENT_JOIN_TOKEN",
        hide_env_values = true
    )]
    join_token: Option<String>,
    /// File with the join token
    #[arg(long, global = true, value_name = "FILE", env = "TIDEGATE_AGENT_JOIN_TOKEN_FILE")]
    join_token_file: Option<PathBuf>,
    /// Edge ID to use instead of the one kept in the data folder (a secret: prefer the environment)
    #[arg(long, global = true, value_name = "UUID", env = "TIDEGATE_AGENT_EDGE_ID", hide_env_values = true)]
    edge_id: Option<String>,
    /// Folder for the agent's state [default: /var/lib/tidegate-agent]
    #[arg(long, global = true, value_name = "DIR", env = "TIDEGATE_AGENT_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Service to expose, as in web=http://127.0.0.1:8080, db=127.0.0.1:5432 or docker=unix:///var/run/docker.sock
    #[arg(
        long,
        global = true,
        value_name = "NAME=TARGET",
        env = "TIDEGATE_AGENT_EXPOSE",
        value_delimiter = ','
    )]
    expose: Vec<String>,
    /// Where the page listens on which a join token is pasted, while there is none [default: 127.0.0.1:9080]
    #[arg(long, global = true, value_name = "ADDR", env = "TIDEGATE_AGENT_PAGE_ADDR")]
    page_addr: Option<SocketAddr>,
    /// PEM file with more certificates to trust, for a gateway behind a private certificate authority
    #[arg(long, global = true, value_name = "FILE", env = "TIDEGATE_AGENT_CA_FILE")]
    ca_file: Option<PathBuf>,
    /// TOML file with the same settings under the same names
    #[arg(short, long, global = true, value_name = "FILE", env = "TIDEGATE_AGENT_CONFIG")]
    config: Option<PathBuf>,
    /// What to log: a level, or TARGET=LEVEL,... [default: info]
    #[arg(short, long, global = true, value_name = "FILTER", env = "TIDEGATE_AGENT_LOG")]
    log: Option<String>,
    /// Log as JSON, one object a line
    #[arg(
        short, long, global = true, env = "TIDEGATE_AGENT_JSON",
        num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL"
    )]
    json: Option<bool>,
}

/// The file: the flags by their names, with underscores as in the gateway's.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    join_token: Option<Secret<String>>,
    join_token_file: Option<PathBuf>,
    edge_id: Option<Secret<String>>,
    data_dir: Option<PathBuf>,
    #[serde(default)]
    pub(crate) expose: Vec<String>,
    page_addr: Option<SocketAddr>,
    ca_file: Option<PathBuf>,
    log: Option<String>,
    json: Option<bool>,
}

/// Reads this process' arguments, environment and file. Wrong usage, `--help` and `--version` end the process here.
/// An error here is one of the file, without which nothing else is known.
pub fn from_process() -> Result<Invocation, ConfigError> {
    read(&command().get_matches())
}

/// The command line, for those who describe it.
pub fn command() -> clap::Command {
    Arguments::command()
}

fn read(matches: &ArgMatches) -> Result<Invocation, ConfigError> {
    let arguments = Arguments::from_arg_matches(matches).unwrap_or_else(|error| error.exit());
    let task = match arguments.command {
        Some(Command::CheckConfig) => Task::CheckConfig,
        Some(Command::Status { output }) => Task::Status(output),
        Some(Command::Ready) => Task::Ready,
        Some(Command::Doctor { output }) => Task::Doctor(output),
        None => Task::Run,
    };
    let flags = arguments.flags;
    let file: File = match &flags.config {
        Some(path) => toml_file::load(path)?,
        None => File::default(),
    };
    let data_dir =
        flags.data_dir.clone().or_else(|| file.data_dir.clone()).unwrap_or_else(|| DATA_DIR.into());
    let config = checked(matches, flags, file, data_dir.clone());
    Ok(Invocation { task, data_dir, config })
}

fn checked(matches: &ArgMatches, flags: Flags, file: File, data_dir: PathBuf) -> Result<Config, ConfigError> {
    let join_token = join_token(matches, &flags, &file)?;
    let edge_id = flags.edge_id.as_deref().or(file.edge_id.as_ref().map(|id| id.expose().as_str()));
    let edge_id = edge_id.map(|id| id.trim().parse().map_err(ConfigError::EdgeId)).transpose()?;
    let expose = if flags.expose.is_empty() { file.expose } else { flags.expose };
    let services = expose.iter().map(|text| text.trim().parse()).collect::<Result<Vec<Service>, _>>()?;
    services::check(&services)?;
    let config = Config {
        join_token,
        edge_id,
        data_dir,
        services,
        page_addr: flags
            .page_addr
            .or(file.page_addr)
            .unwrap_or_else(|| PAGE_ADDR.parse().expect("the default is an address")),
        ca_file: flags.ca_file.or(file.ca_file),
        log: flags.log.or(file.log).unwrap_or_else(|| log::DEFAULT_FILTER.into()),
        json: flags.json.or(file.json).unwrap_or(false),
    };
    log::check_filter(&config.log)?;
    // Read again when it is used; here, so that a wrong file is found before.
    if config.ca_file.is_some() {
        tls::client_config(&[], config.ca_file.as_deref())?;
    }
    Ok(config)
}

/// The token can be given in two forms in each of three places: the higher place wins, whatever its form.
fn join_token(matches: &ArgMatches, flags: &Flags, file: &File) -> Result<Option<JoinToken>, ConfigError> {
    let given_by = |id, source| matches.value_source(id) == Some(source);
    for (source, origin) in [(ValueSource::CommandLine, "flag"), (ValueSource::EnvVariable, "environment")] {
        let token = flags.join_token.as_deref().filter(|_| given_by("join_token", source));
        let path = flags.join_token_file.as_ref().filter(|_| given_by("join_token_file", source));
        if token.is_some() || path.is_some() {
            return one_token(origin, token, path);
        }
    }
    let token = file.join_token.as_ref().map(|token| token.expose().as_str());
    one_token("configuration file", token, file.join_token_file.as_ref())
}

fn one_token(
    origin: &'static str,
    token: Option<&str>,
    path: Option<&PathBuf>,
) -> Result<Option<JoinToken>, ConfigError> {
    let parsed = match (token, path) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => return Err(ConfigError::TwoTokens),
        (Some(token), None) => token.parse(),
        (None, Some(path)) => state::read_token_file(path).map_err(ConfigError::JoinTokenFile)?,
    };
    parsed.map(Some).map_err(|source| ConfigError::JoinToken { origin, source })
}

#[cfg(test)]
mod tests {
    use shared::fingerprint::HostKeyFingerprint;
    use shared::id::EdgeKey;

    use super::*;

    fn config(arguments: &[&str]) -> Result<(Task, Config), ConfigError> {
        let all = std::iter::once("tidegate-agent").chain(arguments.iter().copied());
        let invocation = read(&command().try_get_matches_from(all).expect("right usage"))?;
        Ok((invocation.task, invocation.config?))
    }

    fn token(host: &str) -> JoinToken {
        JoinToken {
            api_url: format!("https://{host}:9000"),
            ssh: format!("{host}:8000"),
            key: EdgeKey::random(),
            host_keys: vec![HostKeyFingerprint::from_bytes([1; 32])],
            tls_pins: vec![],
        }
    }

    #[test]
    fn the_command_line_is_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn a_wrong_configuration_does_not_hide_the_data_folder() {
        let arguments = ["tidegate-agent", "doctor", "-o", "json", "--data-dir", "/data", "--expose", "8080"];
        let invocation =
            read(&command().try_get_matches_from(arguments).expect("right usage")).expect("no file");
        assert_eq!((invocation.task, invocation.data_dir), (Task::Doctor(Format::Json), "/data".into()));
        assert!(matches!(invocation.config, Err(ConfigError::Service(_))));
    }

    #[test]
    fn without_anything_there_are_defaults() {
        let (task, config) = config(&[]).expect("valid");
        assert_eq!(task, Task::Run);
        assert_eq!(config.data_dir, PathBuf::from(DATA_DIR));
        assert_eq!(config.page_addr.to_string(), PAGE_ADDR);
        assert!(config.page_addr.ip().is_loopback());
        assert!(config.join_token.is_none() && config.services.is_empty() && !config.json);
    }

    #[test]
    fn flags_beat_the_file_and_the_file_fills_in() {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, token_file) = (folder.path().join("agent.toml"), folder.path().join("token"));
        let (in_file, in_flag) = (token("file.test"), token("flag.test"));
        std::fs::write(&token_file, in_file.expose()).expect("written");
        let text = format!(
            "join_token_file = {token_file:?}\ndata_dir = '/file'\nlog = 'debug'\njson = true\nexpose = ['a=h:1']\n"
        );
        std::fs::write(&file, text).expect("written");
        let path = file.to_str().expect("UTF-8");

        let (task, from_file) = config(&["check-config", "-c", path]).expect("valid");
        assert_eq!(task, Task::CheckConfig);
        assert_eq!(from_file.join_token, Some(in_file));
        assert_eq!((from_file.log.as_str(), from_file.json, from_file.services.len()), ("debug", true, 1));

        let flag = in_flag.expose();
        let flags = ["-c", path, "--join-token", &flag, "--data-dir", "/flag", "--json=false", "-l", "warn"];
        let (_, mixed) = config(&flags).expect("valid");
        assert_eq!(mixed.join_token, Some(in_flag));
        assert_eq!(mixed.data_dir, PathBuf::from("/flag"));
        assert_eq!((mixed.log.as_str(), mixed.json, mixed.services.len()), ("warn", false, 1));
    }

    #[test]
    fn services_are_repeated_or_separated_by_commas() {
        let (_, config) = config(&["--expose", "a=h:1,b=h:2", "--expose", "c=unix:///s"]).expect("valid");
        let names: Vec<_> = config.services.iter().map(|service| service.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c"]);
    }

    #[test]
    fn what_is_wrong_is_said_and_where() {
        for (arguments, word) in [
            (&["--join-token", "tidegate1.x"][..], "cut off"),
            (&["--join-token", "t", "--join-token-file", "f"][..], "one of them"),
            (&["--join-token-file", "/does/not/exist"][..], "/does/not/exist"),
            (&["--edge-id", "7"][..], "UUID"),
            (&["--expose", "a=h:1,a=h:2"][..], "two services"),
            (&["--ca-file", "/does/not/exist.pem"][..], "exist.pem"),
            (&["-l", "gateway=loud"][..], "loud"),
            (&["-c", "/does/not/exist.toml"][..], "exist.toml"),
        ] {
            let error = config(arguments).expect_err(word).to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn an_unknown_key_in_the_file_is_an_error() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "exposes = []\n").expect("written");
        let path = file.path().to_str().expect("UTF-8");
        let error = config(&["-c", path]).expect_err("a misspelt key").to_string();
        assert!(error.contains(":1: exposes: unknown field"), "{error}");
    }
}
