//! The command line of `agents`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{ArgGroup, Args};
use shared::fingerprint::TlsFingerprint;

use super::limits::{Machine, Needs};
use super::plan::Plan;
use super::result::{Protocol as Spoken, Setup};
use crate::units;

/// Most agents of a run.
const MAX_AGENTS: i64 = 1_000_000;
/// Seconds that a question may be held unless said otherwise: below the minute after which common proxies cut.
const HOLD: &str = "50";
/// Streams that wakes have open at a time take this long at the most when all is well.
const WAKE_S: f64 = 2.0;
/// How long the connection of an agent that fell silent stays open.
const SILENCE_S: f64 = 30.0;

/// What simulated agents do.
#[derive(Args, Clone, Debug)]
#[command(group = ArgGroup::new("gateways").args(["gateway", "floor"]))]
pub struct Options {
    /// Simulated agents, each of an edge of its own
    #[arg(long, value_name = "COUNT", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=MAX_AGENTS))]
    pub count: u32,
    /// Time between two check-ins of an agent
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = units::duration)]
    pub interval: Duration,
    /// Length of the measurement, which begins when all agents have joined
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = units::duration)]
    pub duration: Duration,
    /// Agents speak HTTP/1.1 instead of HTTP/2
    #[arg(long)]
    pub http1: bool,
    /// Let the gateway hold each question until there is something to say, for so many seconds at most
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = HOLD, value_parser = clap::value_parser!(u32).range(1..=55))]
    pub hold: Option<u32>,
    /// A new connection for every check-in
    #[arg(long, conflicts_with = "hold")]
    pub reconnect_each: bool,
    /// Raise so many flags, each until bytes came back through a stream to the agent's service: 50/s, 150/m
    #[arg(long, value_name = "RATE", value_parser = units::rate)]
    pub wake: Option<f64>,
    /// Open the tunnels of so many agents before the measurement, and keep them open
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=MAX_AGENTS), conflicts_with = "wake")]
    pub tunnels: Option<u32>,
    /// How many of these tunnels carry traffic
    #[arg(long, value_name = "COUNT", default_value_t = 0, requires = "tunnels")]
    pub carrying: u32,
    /// Let so many agents vanish without a goodbye, and come back: 10/s
    #[arg(long, value_name = "RATE", value_parser = units::rate)]
    pub churn: Option<f64>,
    /// Restart the gateway when so much of the measurement has passed
    #[arg(long, value_name = "DURATION", value_parser = units::duration, conflicts_with_all = ["gateway", "floor"])]
    pub restart_at: Option<Duration>,
    /// Edges that the gateway knows besides those of the agents
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    pub idle_edges: u32,
    /// Split the agents into so many processes [default: as many as their open files need]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub workers: Option<u16>,
    /// Seed of the schedule and of all data
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub seed: u64,
    /// Play the same against the floor server afterwards: TLS, HTTP, a map look-up and nothing else
    /// [default program: examples/check-in-floor beside this one]
    #[arg(long, value_name = "FILE", num_args = 0..=1, conflicts_with_all = ["hold", "wake", "tunnels", "churn"])]
    pub floor: Option<Option<PathBuf>>,
    /// A gateway that runs already, instead of one that is started here: address of its API, over TLS
    #[arg(long, value_name = "IP:PORT", requires_all = ["token_file", "tls_fingerprint"])]
    pub gateway: Option<SocketAddr>,
    /// File with an API token of an admin of that gateway
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Fingerprint of that gateway's TLS key
    #[arg(long, value_name = "FINGERPRINT")]
    pub tls_fingerprint: Option<TlsFingerprint>,
    /// The gateway's program [default: beside this one]
    #[arg(long, value_name = "FILE", conflicts_with = "gateway")]
    pub tidegate: Option<PathBuf>,
}

impl Options {
    /// What clap can't check.
    ///
    /// # Errors
    /// Says what does not go together.
    pub fn check(&self) -> Result<()> {
        let tunnels = self.tunnels.unwrap_or(0);
        ensure!(tunnels <= self.count, "--tunnels {tunnels} needs as many agents: --count {tunnels}");
        ensure!(
            self.carrying <= tunnels,
            "--carrying {} needs as many tunnels: --tunnels {}",
            self.carrying,
            self.carrying
        );
        if let Some(at) = self.restart_at {
            ensure!(at < self.duration, "--restart-at must lie within --duration");
        }
        Ok(())
    }

    /// The schedule.
    pub fn plan(&self) -> Plan {
        Plan::new(self.seed, self.count, self.interval)
    }

    /// How many processes the agents are split into; 1 is this one.
    pub fn workers(&self, machine: &Machine) -> usize {
        let workers = self.workers.map_or_else(|| self.needs().workers(machine), u64::from);
        usize::try_from(workers.min(u64::from(self.count))).unwrap_or(usize::MAX)
    }

    /// What this takes at its worst moment.
    pub fn needs(&self) -> Needs {
        let tunnels = f64::from(self.tunnels.unwrap_or(0));
        let waking = self.wake.unwrap_or(0.0) * (self.interval.as_secs_f64() + WAKE_S);
        let silent = self.churn.unwrap_or(0.0) * SILENCE_S / 2.0;
        let reconnects = if self.reconnect_each {
            f64::from(self.count) / self.interval.as_secs_f64()
        } else {
            self.churn.unwrap_or(0.0)
        };
        Needs {
            connections: u64::from(self.count) + silent.ceil() as u64,
            tunnels: (tunnels + waking).ceil() as u64,
            streams: waking.ceil() as u64 + u64::from(self.carrying),
            reconnects_per_s: reconnects,
            sources: self.plan().sources().into(),
        }
    }

    /// As it stands in the report.
    pub fn setup(&self, machine: &Machine) -> Setup {
        Setup {
            agents: self.count,
            idle_edges: self.idle_edges,
            interval_ms: u64::try_from(self.interval.as_millis()).unwrap_or(u64::MAX),
            duration_s: self.duration.as_secs_f64(),
            protocol: if self.http1 { Spoken::Http1 } else { Spoken::Http2 },
            hold_s: self.hold,
            reconnect_each: self.reconnect_each,
            wakes_per_s: self.wake,
            tunnels: self.tunnels,
            carrying: self.carrying,
            vanishing_per_s: self.churn,
            restart_at_s: self.restart_at.map(|at| at.as_secs_f64()),
            workers: u32::try_from(self.workers(machine)).unwrap_or(u32::MAX),
        }
    }
}
