//! `tidegate-agent` as a process with a data folder of its own, which outlives every restart.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;

use rustix::process::Signal;
use shared::wire::admin::EdgeCreated;
use tempfile::TempDir;

use crate::names::Names;
use crate::network::Network;
use crate::process::{Log, Process, binary};
use crate::wait::SOON;

/// How to start an agent.
#[derive(Debug, Default)]
pub struct AgentOptions {
    token: Option<String>,
    args: Vec<String>,
    envs: Vec<(String, String)>,
    network: Option<Arc<Network>>,
    names: Option<Arc<Names>>,
    log: Option<String>,
    data: Option<PathBuf>,
}

impl AgentOptions {
    /// With the join token of an edge, in a file.
    pub fn joining(edge: &EdgeCreated) -> Self {
        Self::with_token(&edge.join_token)
    }

    /// With this text as join token, in a file.
    pub fn with_token(token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..Self::default() }
    }

    /// Exposes a service.
    pub fn expose(self, name: &str, target: impl std::fmt::Display) -> Self {
        self.args(&["--expose", &format!("{name}={target}")])
    }

    /// With these additional arguments.
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    /// With an additional environment variable.
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.envs.push((name.to_owned(), value.into()));
        self
    }

    /// Logging this instead of what tests usually want to read.
    pub fn log(self, filter: &str) -> Self {
        Self { log: Some(filter.to_owned()), ..self }
    }

    /// On a machine of its own.
    pub fn on(self, network: &Arc<Network>) -> Self {
        Self { network: Some(network.clone()), ..self }
    }

    /// With its data folder there: on a disk of its own, say.
    pub fn data(self, folder: PathBuf) -> Self {
        Self { data: Some(folder), ..self }
    }

    fn data_in(&self, directory: &Path) -> PathBuf {
        self.data.clone().unwrap_or_else(|| directory.join("data"))
    }

    /// Finding these names and no others.
    pub fn finding(self, names: &Arc<Names>) -> Self {
        Self { names: Some(names.clone()), ..self }
    }

    /// Starts it on a fresh data folder. It need not ever join.
    pub fn start(self) -> Agent {
        let directory = TempDir::new().expect("the folder for temporary files is writable");
        if let Some(token) = &self.token {
            std::fs::write(directory.path().join("token"), token).expect("the folder is ours");
        }
        let log = Log::default();
        let process = spawn(&self, directory.path(), &log);
        Agent { options: self, directory, log, process }
    }
}

/// An agent under test.
#[derive(Debug)]
pub struct Agent {
    options: AgentOptions,
    directory: TempDir,
    log: Log,
    process: Process,
}

fn spawn(options: &AgentOptions, directory: &Path, log: &Log) -> Process {
    let program = binary("tidegate-agent");
    let mut command = match (&options.network, &options.names) {
        (Some(network), None) => network.inside(&program),
        (None, Some(names)) => names.within(&program),
        (None, None) => Command::new(program),
        (Some(_), Some(_)) => panic!("a machine of its own has names of its own"),
    };
    command.args(["--log", options.log.as_deref().unwrap_or("info,edge_agent=debug,shared=debug")]);
    command.arg("--data-dir").arg(options.data_in(directory));
    if options.token.is_some() {
        command.arg("--join-token-file").arg(directory.join("token"));
    }
    without_proxies(&mut command);
    command.args(&options.args).envs(options.envs.iter().cloned());
    Process::start("tidegate-agent", command, log)
}

/// A proxy of this machine's own would come between an agent and the loopback interface.
fn without_proxies(command: &mut Command) {
    for name in [
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "no_proxy",
    ] {
        command.env_remove(name);
    }
}

impl Agent {
    /// Its data folder.
    pub fn data(&self) -> PathBuf {
        self.options.data_in(self.directory.path())
    }

    /// Another command on its data folder: `status`, `ready`, `doctor`.
    pub fn cli(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary("tidegate-agent"));
        command.args(args).arg("--data-dir").arg(self.data());
        without_proxies(&mut command);
        command
    }

    /// Everything that it logged so far, in all its lives.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The running process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// SIGTERM, and waits for its end.
    pub async fn stop(&mut self) -> ExitStatus {
        self.process.signal(Signal::TERM);
        self.process.exit(SOON).await
    }

    /// Waits until it ends by itself.
    pub async fn exit(&mut self) -> ExitStatus {
        self.process.exit(SOON).await
    }

    /// Starts it again on the same data folder, after it was killed or stopped.
    pub fn resume(&mut self) {
        self.process = spawn(&self.options, self.directory.path(), &self.log);
    }

    /// Takes the join token away from its next life.
    pub fn forget_token(&mut self) {
        self.options.token = None;
        let _ = std::fs::remove_file(self.directory.path().join("token"));
    }

    /// Kills it and starts it again.
    pub fn kill_and_resume(&mut self) {
        self.kill();
        self.resume();
    }
}
