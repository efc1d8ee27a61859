//! Tidegate, up and with an open tunnel: `tidegate serve`, an edge enrolled through its API, `tidegate-agent` with the
//! harness's service, and `tidegate connect` for an operator who is elsewhere.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use shared::id::EdgeName;
use shared::secret::Secret;

use crate::gateway::Gateway;
use crate::place::Place;
use crate::process::{Process, program, without_settings};

/// The edge's name.
const EDGE: &str = "loadtest";
/// The service's name.
const SERVICE: &str = "bench";

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
    gateway: Gateway,
    /// Where `tidegate connect` listens.
    pub connect_address: SocketAddr,
}

impl Site {
    /// Starts everything in `folder` and opens the tunnel to `service`.
    ///
    /// # Errors
    /// If a program does not come up; with its last words.
    pub async fn start(programs: &Programs, place: &Place, folder: &Path, service: u16) -> Result<Self> {
        let gateway = Gateway::start_on(place.server(), &programs.gateway, folder).await?;
        let edge: EdgeName = EDGE.parse().expect("lower-case letters are a name");
        let created = gateway.admin.create(&edge).await?;
        fs::write(folder.join("join-token"), created.join_token).context("can't write the join token")?;
        let agent = start_agent(programs, place, folder, service)?;
        let opened = gateway.admin.open_tunnel(&edge).await;
        opened.with_context(|| format!("the agent does not open its tunnel:\n{}", agent.last_words()))?;

        let mut connect = start_connect(programs, folder, &gateway)?;
        let connect_address = connect.printed("where it listens", first_address).await?;
        Ok(Self { connect, agent, gateway, connect_address })
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
        self.gateway.api
    }

    /// The request that turns a plain connection to the API into a stream. A secret: it holds the API token.
    pub fn upgrade_request(&self) -> Secret<String> {
        self.gateway.admin.upgrade_request(&format!("/api/v1/edges/{EDGE}/services/{SERVICE}/stream"))
    }
}

fn start_agent(programs: &Programs, place: &Place, folder: &Path, service: u16) -> Result<Process> {
    let mut command = place.agents_side(&programs.agent);
    without_settings(&mut command);
    command.arg("--data-dir").arg(folder.join("agent"));
    command.arg("--join-token-file").arg(folder.join("join-token"));
    command.args(["--expose", &format!("{SERVICE}=127.0.0.1:{service}")]);
    Process::start("tidegate-agent", command, folder.join("agent.log"))
}

fn start_connect(programs: &Programs, folder: &Path, gateway: &Gateway) -> Result<Process> {
    let mut command = program(&programs.gateway);
    command.args(["connect", &format!("{EDGE}/{SERVICE}"), "--listen", "127.0.0.1:0"]);
    command.env("TIDEGATE_URL", format!("https://{}", gateway.api));
    command.env("TIDEGATE_TLS_FINGERPRINT", gateway.fingerprint.to_string());
    command.env("TIDEGATE_TOKEN_FILE", gateway.token_file());
    Process::start("tidegate connect", command, folder.join("connect.log"))
}

fn first_address(text: &str) -> Option<SocketAddr> {
    text.split_whitespace().find_map(|word| word.parse().ok())
}
