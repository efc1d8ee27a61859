//! A gateway that the harness starts, in a folder of its own and on free ports, and can start anew on the same ones.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::Value;
use shared::fingerprint::TlsFingerprint;
use shared::secret::Secret;

use crate::admin::Admin;
use crate::process::{self, Process};

/// Message of the gateway's log record with its addresses and keys.
const READY: &str = "gateway is ready";
/// Longest wait for a gateway that was asked to end. It gives live streams 30 s.
const END: Duration = Duration::from_secs(45);

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    program: PathBuf,
    folder: PathBuf,
    flags: Vec<String>,
    process: Process,
    /// Where it serves its API.
    pub api: SocketAddr,
    /// Where it takes tunnels.
    pub ssh: SocketAddr,
    /// Fingerprint of its TLS key.
    pub fingerprint: TlsFingerprint,
    /// An admin of it.
    pub admin: Admin,
}

/// How long a restart took.
#[derive(Clone, Copy, Debug)]
pub struct Restarted {
    /// From SIGTERM to the end of the process.
    pub down: Duration,
    /// From the start of the new one until it was ready.
    pub up: Duration,
}

impl Gateway {
    /// Starts `program` with its data and logs in `folder`.
    ///
    /// # Errors
    /// If it does not come up; with its last words.
    pub async fn start(program: &Path, folder: &Path) -> Result<Self> {
        Self::start_with(program, folder, Vec::new()).await
    }

    /// As [`Gateway::start`], with these flags besides its usual ones.
    ///
    /// # Errors
    /// As for [`Gateway::start`].
    pub async fn start_with(program: &Path, folder: &Path, flags: Vec<String>) -> Result<Self> {
        Self::begin(Ipv4Addr::LOCALHOST.into(), program, folder, flags).await
    }

    /// As [`Gateway::start`], on another address of this machine.
    ///
    /// # Errors
    /// As for [`Gateway::start`].
    pub async fn start_on(address: IpAddr, program: &Path, folder: &Path) -> Result<Self> {
        Self::begin(address, program, folder, Vec::new()).await
    }

    async fn begin(address: IpAddr, program: &Path, folder: &Path, flags: Vec<String>) -> Result<Self> {
        let free = SocketAddr::new(address, 0);
        let (process, ready) = start(program, folder, &flags, free, free).await?;
        let address = |field: &str| -> Result<SocketAddr> {
            ready[field]
                .as_str()
                .and_then(|text| text.parse().ok())
                .with_context(|| format!("no {field} address"))
        };
        let fingerprint = ready["tls_fingerprint"].as_str().context("no TLS fingerprint")?.parse()?;
        let token = fs::read_to_string(token_file(folder)).context("can't read the API token")?;
        let (api, ssh) = (address("api")?, address("ssh")?);
        let admin = Admin::plain(api, Secret::new(token.trim().to_owned()));
        Ok(Self {
            program: program.to_owned(),
            folder: folder.to_owned(),
            flags,
            process,
            api,
            ssh,
            fingerprint,
            admin,
        })
    }

    /// Asks it to end, and starts it anew on the same ports and data.
    ///
    /// # Errors
    /// If it does not end, or does not come up again.
    pub async fn restart(&mut self) -> Result<Restarted> {
        let begun = Instant::now();
        self.process.terminate(END).await?;
        let down = begun.elapsed();
        let begun = Instant::now();
        (self.process, _) = start(&self.program, &self.folder, &self.flags, self.api, self.ssh).await?;
        Ok(Restarted { down, up: begun.elapsed() })
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Tasks of it that panicked since it was started last, as far as its log says.
    ///
    /// # Errors
    /// If its log can't be read.
    pub fn panics(&self) -> Result<u64> {
        let log = fs::read(log_file(&self.folder)).context("can't read the gateway's log")?;
        Ok(String::from_utf8_lossy(&log).matches("panicked at").count() as u64)
    }

    /// Where its API token is.
    pub fn token_file(&self) -> PathBuf {
        token_file(&self.folder)
    }
}

fn token_file(folder: &Path) -> PathBuf {
    folder.join("token")
}

fn log_file(folder: &Path) -> PathBuf {
    folder.join("gateway.log")
}

async fn start(
    program: &Path,
    folder: &Path,
    flags: &[String],
    api: SocketAddr,
    ssh: SocketAddr,
) -> Result<(Process, Value)> {
    let mut command = process::program(program);
    command.args(["serve", "--json", "--metrics-addr", "none"]).args(flags);
    command.args(["--api-addr", &api.to_string(), "--ssh-addr", &ssh.to_string()]);
    if !api.ip().is_loopback() {
        // The end of a path: an operator on the gateway's machine comes from that address itself.
        command.args(["--plain-http", "any"]);
    }
    command.arg("--data-dir").arg(folder.join("gateway"));
    command.arg("--bootstrap-token-file").arg(token_file(folder));
    // `Process` makes its log anew, so that the word of an earlier start is not taken for this one's.
    let mut process = Process::start("tidegate serve", command, log_file(folder))?;
    let ready = process.printed("that it is ready", ready_record).await?;
    Ok((process, ready))
}

fn ready_record(log: &str) -> Option<Value> {
    log.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .find(|record: &Value| record["message"] == READY)
}
