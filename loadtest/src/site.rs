//! Tidegate, up and with an open tunnel: `tidegate serve`, an edge enrolled through its API, `tidegate-agent` with the
//! harness's service, and `tidegate connect` for an operator who is elsewhere.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;
use shared::id::EdgeName;
use shared::secret::Secret;

use crate::admin::Admin;
use crate::process::Process;

/// The edge's name.
const EDGE: &str = "loadtest";
/// The service's name.
const SERVICE: &str = "bench";
/// Message of the gateway's log record with its addresses and keys.
const READY: &str = "gateway is ready";
/// A proxy of this machine's own would come between the programs and the loopback interface.
const PROXIES: [&str; 8] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
];

/// The programs under test.
#[derive(Clone, Debug)]
pub struct Programs {
    /// `tidegate`.
    pub gateway: PathBuf,
    /// `tidegate-agent`.
    pub agent: PathBuf,
}

/// All processes of Tidegate, dropped in this order: from the operator's side inwards.
#[derive(Debug)]
pub struct Site {
    connect: Process,
    agent: Process,
    gateway: Process,
    admin: Admin,
    /// Where `tidegate connect` listens.
    pub connect_address: SocketAddr,
}

impl Site {
    /// Starts everything in `folder` and opens the tunnel to `service`.
    ///
    /// # Errors
    /// If a program does not come up; with its last words.
    pub async fn start(programs: &Programs, folder: &Path, service: SocketAddr) -> Result<Self> {
        let mut gateway = start_gateway(programs, folder)?;
        let ready = gateway.printed("that it is ready", ready_record).await?;
        let api: SocketAddr =
            ready["api"].as_str().and_then(|text| text.parse().ok()).context("no API address")?;
        let fingerprint = ready["tls_fingerprint"].as_str().context("no TLS fingerprint")?;
        let token = fs::read_to_string(folder.join("token")).context("can't read the API token")?;
        let admin = Admin { api, token: Secret::new(token.trim().to_owned()) };

        let edge: EdgeName = EDGE.parse().expect("lower-case letters are a name");
        let created = admin.create(&edge).await?;
        fs::write(folder.join("join-token"), created.join_token).context("can't write the join token")?;
        let agent = start_agent(programs, folder, service)?;
        let opened = admin.open_tunnel(&edge).await;
        opened.with_context(|| format!("the agent does not open its tunnel:\n{}", agent.last_words()))?;

        let mut connect = start_connect(programs, folder, api, fingerprint)?;
        let connect_address = connect.printed("where it listens", first_address).await?;
        Ok(Self { connect, agent, gateway, admin, connect_address })
    }

    /// Processes of a stream through the gateway's API: gateway and agent.
    pub fn upgrade_processes(&self) -> Vec<u32> {
        vec![self.gateway.id(), self.agent.id()]
    }

    /// Processes of a stream through `tidegate connect`.
    pub fn connect_processes(&self) -> Vec<u32> {
        vec![self.gateway.id(), self.agent.id(), self.connect.id()]
    }

    /// Where the gateway serves its API.
    pub fn api(&self) -> SocketAddr {
        self.admin.api
    }

    /// The request that turns a plain connection to the API into a stream. A secret: it holds the API token.
    pub fn upgrade_request(&self) -> Secret<String> {
        Secret::new(format!(
            "GET /api/v1/edges/{EDGE}/services/{SERVICE}/stream HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\
             connection: upgrade\r\nupgrade: tcp\r\n\r\n",
            self.admin.api,
            self.admin.token.expose(),
        ))
    }
}

fn start_gateway(programs: &Programs, folder: &Path) -> Result<Process> {
    let mut command = program(&programs.gateway);
    command.args(["serve", "--json", "--api-addr", "127.0.0.1:0", "--ssh-addr", "127.0.0.1:0"]);
    command.args(["--metrics-addr", "none"]);
    command.arg("--data-dir").arg(folder.join("gateway"));
    command.arg("--bootstrap-token-file").arg(folder.join("token"));
    Process::start("tidegate serve", command, folder.join("gateway.log"))
}

fn start_agent(programs: &Programs, folder: &Path, service: SocketAddr) -> Result<Process> {
    let mut command = program(&programs.agent);
    command.arg("--data-dir").arg(folder.join("agent"));
    command.arg("--join-token-file").arg(folder.join("join-token"));
    command.args(["--expose", &format!("{SERVICE}={service}")]);
    Process::start("tidegate-agent", command, folder.join("agent.log"))
}

fn start_connect(programs: &Programs, folder: &Path, api: SocketAddr, fingerprint: &str) -> Result<Process> {
    let mut command = program(&programs.gateway);
    command.args(["connect", &format!("{EDGE}/{SERVICE}"), "--listen", "127.0.0.1:0"]);
    command.env("TIDEGATE_URL", format!("https://{api}")).env("TIDEGATE_TLS_FINGERPRINT", fingerprint);
    command.env("TIDEGATE_TOKEN_FILE", folder.join("token"));
    Process::start("tidegate connect", command, folder.join("connect.log"))
}

/// A command without settings from this process's environment.
fn program(path: &Path) -> Command {
    let mut command = Command::new(path);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TIDEGATE_") {
            command.env_remove(name);
        }
    }
    for name in PROXIES {
        command.env_remove(name);
    }
    command
}

fn ready_record(log: &str) -> Option<Value> {
    log.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .find(|record: &Value| record["message"] == READY)
}

fn first_address(text: &str) -> Option<SocketAddr> {
    text.split_whitespace().find_map(|word| word.parse().ok())
}
