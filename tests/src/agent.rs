//! `tidegate-agent` as a process with a data folder of its own, which outlives every restart.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;

use rustix::process::Signal;
use shared::wire::admin::EdgeCreated;
use tempfile::TempDir;

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
    log: Option<String>,
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
    let mut command = match &options.network {
        Some(network) => network.inside(&program),
        None => Command::new(program),
    };
    command.args(["--log", options.log.as_deref().unwrap_or("info,edge_agent=debug,shared=debug")]);
    command.arg("--data-dir").arg(directory.join("data"));
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
        self.directory.path().join("data")
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
