//! `tidegate serve` as a process with a data folder of its own, which outlives every restart.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use serde_json::Value;
use shared::fingerprint::TlsFingerprint;
use tempfile::TempDir;

use crate::admin::Admin;
use crate::http::Http;
use crate::process::{Log, Process, binary};
use crate::wait::{SOON, until};

/// Message of the log record that names the gateway's addresses and keys.
const READY: &str = "gateway is ready";
/// What tests usually want to read.
const LOGGED: &str = "info,gateway=debug,shared=debug";
/// What a gateway says whose port is taken.
const TAKEN: &str = "Address already in use";

/// How to start a gateway.
#[derive(Debug, Default)]
pub struct GatewayOptions {
    args: Vec<String>,
    envs: Vec<(String, String)>,
    address: Option<IpAddr>,
    log: Option<String>,
    data: Option<PathBuf>,
}

impl GatewayOptions {
    /// With its data folder there: on a disk of its own, say.
    pub fn data(self, folder: PathBuf) -> Self {
        Self { data: Some(folder), ..self }
    }

    /// With these additional arguments.
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    /// With an additional environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.envs.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Logging this instead of what tests usually want to read.
    pub fn log(self, filter: &str) -> Self {
        Self { log: Some(filter.to_owned()), ..self }
    }

    /// On this address of this machine instead of loopback.
    pub fn on(self, address: IpAddr) -> Self {
        Self { address: Some(address), ..self }
    }

    fn data_in(&self, directory: &Path) -> PathBuf {
        self.data.clone().unwrap_or_else(|| directory.join("data"))
    }

    /// Starts it on a fresh data folder and free ports of the loopback interface, and waits until it serves.
    pub async fn start(self) -> Gateway {
        let directory = TempDir::new().expect("the folder for temporary files is writable");
        self.start_in(directory).await
    }

    /// As [`GatewayOptions::start`], with a folder that holds a data folder already.
    pub async fn start_in(self, directory: TempDir) -> Gateway {
        let any = SocketAddr::new(self.address.unwrap_or(Ipv4Addr::LOCALHOST.into()), 0);
        let log = Log::default();
        let process = spawn(&self, directory.path(), any, any, &log);
        let mut gateway = Gateway {
            options: self,
            directory,
            log,
            process,
            api: any,
            ssh: any,
            metrics: any,
            admin: Admin { http: Http::plain(any) },
            pin: None,
        };
        gateway.wait_ready(0).await;
        gateway
    }
}

/// A gateway under test.
#[derive(Debug)]
pub struct Gateway {
    options: GatewayOptions,
    directory: TempDir,
    log: Log,
    process: Process,
    api: SocketAddr,
    ssh: SocketAddr,
    metrics: SocketAddr,
    pin: Option<TlsFingerprint>,
    /// Its admin, over TLS with the gateway's key pinned.
    pub admin: Admin,
}

fn spawn(options: &GatewayOptions, directory: &Path, api: SocketAddr, ssh: SocketAddr, log: &Log) -> Process {
    let mut command = Command::new(binary("tidegate"));
    command.args(["serve", "--json", "--log", options.log.as_deref().unwrap_or(LOGGED)]);
    command.arg("--data-dir").arg(options.data_in(directory));
    command.arg("--bootstrap-token-file").arg(directory.join("token"));
    command.args(["--api-addr", &api.to_string(), "--ssh-addr", &ssh.to_string()]);
    command.args(["--metrics-addr", "127.0.0.1:0"]);
    command.args(&options.args).envs(options.envs.iter().cloned());
    Process::start("tidegate serve", command, log)
}

impl Gateway {
    /// Starts a gateway with default options.
    pub async fn start() -> Self {
        GatewayOptions::default().start().await
    }

    /// Waits until this life of the process says that it serves, and learns its addresses and its key.
    async fn wait_ready(&mut self, start: usize) {
        let log = self.log.clone();
        let record = until(SOON, "the gateway is ready", async || {
            if !self.process.runs() {
                // Between two lives its ports are anybody's: a connection of another test may have one for a moment.
                assert!(log.contains(TAKEN), "the gateway ended while it started:\n{}", log.text());
                self.process = spawn(&self.options, self.directory.path(), self.api, self.ssh, &log);
            }
            log.records(start).into_iter().find(|record| record["message"] == READY)
        })
        .await;
        self.api = address(&record, "api");
        self.ssh = address(&record, "ssh");
        self.metrics = address(&record, "metrics");
        self.pin = record["tls_fingerprint"].as_str().map(|text| text.parse().expect("a fingerprint"));
        let token =
            std::fs::read_to_string(self.directory.path().join("token")).expect("the token file was written");
        let http = match self.pin {
            Some(pin) => Http::pinned(self.api, &[pin]),
            None => Http::plain(self.api),
        };
        self.admin = Admin { http: http.with_authorization(format!("Bearer {}", token.trim())) };
    }

    /// Where it serves the API.
    pub fn api(&self) -> SocketAddr {
        self.api
    }

    /// Where it serves tunnels.
    pub fn ssh(&self) -> SocketAddr {
        self.ssh
    }

    /// Where it serves metrics.
    pub fn metrics(&self) -> SocketAddr {
        self.metrics
    }

    /// The fingerprint of its own certificate.
    pub fn pin(&self) -> TlsFingerprint {
        self.pin.expect("a gateway with a certificate of its own logs its fingerprint")
    }

    /// Its data folder.
    pub fn data(&self) -> PathBuf {
        self.options.data_in(self.directory.path())
    }

    /// Its folder, which has the token file beside the data folder; free for a test's own files.
    pub fn folder(&self) -> &Path {
        self.directory.path()
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

    /// From now on it can have so many files and sockets open, those that it has included.
    pub fn limit_descriptors(&self, most: usize) {
        let pid = i32::try_from(self.process.pid()).ok().and_then(Pid::from_raw).expect("it runs");
        let limit = Rlimit { current: Some(most as u64), maximum: Some(most as u64) };
        prlimit(Some(pid), Resource::Nofile, limit).expect("the process is ours");
    }

    /// SIGTERM, and waits for its end.
    pub async fn stop(&mut self) -> ExitStatus {
        self.process.signal(Signal::TERM);
        self.process.exit(SOON).await
    }

    /// Starts it again, on the same data folder and the same ports, after it was killed or stopped.
    pub async fn resume(&mut self) {
        let start = self.log.len();
        self.process = spawn(&self.options, self.directory.path(), self.api, self.ssh, &self.log);
        self.wait_ready(start).await;
    }

    /// Of one that was killed: starts it again on any free ports, and kills it after this time, however far it came.
    pub async fn start_in_vain(&mut self, life: Duration) {
        let any = SocketAddr::new(self.api.ip(), 0);
        self.process = spawn(&self.options, self.directory.path(), any, any, &self.log);
        // A moment that nobody chose is the point; nothing is waited for.
        tokio::time::sleep(life).await;
        self.process.kill();
    }

    /// Kills it and starts it again.
    pub async fn kill_and_resume(&mut self) {
        self.kill();
        self.resume().await;
    }

    /// The operator's command line, signed in to this gateway.
    pub fn cli(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary("tidegate"));
        command.args(args).env("TIDEGATE_URL", format!("https://{}", self.api));
        let token =
            std::fs::read_to_string(self.directory.path().join("token")).expect("the token file was written");
        command.env("TIDEGATE_TOKEN", token.trim()).env("TIDEGATE_TLS_FINGERPRINT", self.pin().to_string());
        command
    }

    /// Path of a service behind the HTTP proxy.
    pub fn proxy_path(edge: &str, service: &str, rest: &str) -> String {
        format!("/api/v1/edges/{edge}/services/{service}/proxy{rest}")
    }

    /// Starts `tidegate connect EDGE/SERVICE --listen` on a free port and waits until it listens.
    pub async fn listen(&self, edge: &str, service: &str) -> Listen {
        let log = Log::default();
        let command = self.cli(&["connect", &format!("{edge}/{service}"), "--listen", "127.0.0.1:0"]);
        let mut process = Process::start("tidegate connect", command, &log);
        let address = until(SOON, "tidegate connect prints its address", async || {
            assert!(process.runs(), "tidegate connect ended:\n{}", log.text());
            log.text().split_whitespace().find_map(|word| word.parse().ok())
        })
        .await;
        Listen { address, process }
    }
}

/// A running `tidegate connect --listen`.
#[derive(Debug)]
pub struct Listen {
    /// Where it listens.
    pub address: SocketAddr,
    /// The process.
    pub process: Process,
}

fn address(record: &Value, field: &str) -> SocketAddr {
    let text = record[field].as_str().unwrap_or_else(|| panic!("no field {field} in {record}"));
    text.parse().unwrap_or_else(|_| panic!("{field} is no address in {record}"))
}

/// How long a pleasant end of the gateway may take: its drain has a grace for live streams.
pub const DRAIN: Duration = Duration::from_secs(60);
