//! The command line of `tidegate-loadtest`.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Parser, Subcommand};
use fixtures::netpath::{Loss, Weather};

use crate::agents;
use crate::attacks;
use crate::bench::Peers;
use crate::report::outputs::Outputs;
use crate::site::Programs;
use crate::units;

/// Measures Tidegate from outside, beside peers that do the same work in the same minute
///
/// Starts the programs itself, on free ports of the loopback interface and in a temporary folder. The report goes to
/// standard output, progress to standard error. Exits with 1 if anything failed, and with 6 if a bound of --fail-over is
/// broken.
#[derive(Debug, Parser)]
#[command(name = "tidegate-loadtest", version)]
pub struct Options {
    /// What to measure.
    #[command(subcommand)]
    pub measurement: Measurement,
}

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum Measurement {
    /// Bulk data: MiB/s and CPU time, 1 and 8 streams, each direction
    Throughput {
        /// Bytes of each measurement, shared by its streams
        #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = units::bytes)]
        bytes: u64,
        /// How to run.
        #[command(flatten)]
        run: Run,
    },
    /// Bulk data over a path that is far, narrow or loses packets, beside a plain TCP connection; needs root and TUN devices
    Path {
        /// Bytes of each measurement
        #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = units::bytes)]
        bytes: u64,
        /// The path.
        #[command(flatten)]
        path: PathOptions,
        /// How to run.
        #[command(flatten)]
        run: Run,
    },
    /// Shows a report again that was written with --json
    Report {
        /// The report
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Write it into this page too, between the marks that are named like the report's file: throughput.json goes between
        /// <!-- bench:throughput --> and <!-- /bench:throughput -->
        #[arg(long, value_name = "PAGE")]
        into: Option<PathBuf>,
        /// Where it goes.
        #[command(flatten)]
        outputs: Outputs,
    },
    /// Small requests: how many a second and how long they take, on kept and new connections and beside bulk data
    Latency {
        /// Length of each measurement
        #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = units::duration)]
        each: Duration,
        /// How to run.
        #[command(flatten)]
        run: Run,
    },
    /// Thousands of simulated agents: what a check-in costs, how fast a site wakes, how many tunnels hold
    ///
    /// Enrols the edges through the admin API and plays their agents: TLS with pins, binding, check-ins at scheduled times,
    /// real SSH tunnels, streams with traffic. Ctrl-C ends it with a report of what was measured.
    Agents {
        /// What agents do.
        #[command(flatten)]
        agents: Box<agents::options::Options>,
        /// Where the report goes.
        #[command(flatten)]
        outputs: Outputs,
    },
    /// Attacks on a gateway with honest agents and operators at work beside them: what becomes of both
    ///
    /// Starts the gateway itself, plays honest agents, tunnels and operators, and attacks in one way after the other. Exits
    /// with 1 if anything was let in that must not be, a task of the gateway panicked, it took more memory than its budget,
    /// or honest work failed or took a second.
    Attacks {
        /// How to attack.
        #[command(flatten)]
        attacks: Box<attacks::options::Options>,
        /// Where the report goes.
        #[command(flatten)]
        outputs: Outputs,
    },
    /// Plays a part of the agents of `agents`, which starts it
    #[command(name = agents::worker::SUBCOMMAND, hide = true)]
    AgentsWorker,
}

/// The path between the agent's side and the gateway's.
#[derive(Args, Clone, Copy, Debug)]
pub struct PathOptions {
    /// Round trip, half of it in each direction
    #[arg(long, value_name = "DURATION", default_value = "100ms", value_parser = units::duration)]
    pub round_trip: Duration,
    /// Packets that vanish, in each direction
    #[arg(long, value_name = "SHARE", default_value = "0%")]
    pub loss: Loss,
    /// Bytes a second that the path takes in each direction, with IP headers; as many as come by default
    #[arg(long, value_name = "SIZE", value_parser = units::bytes)]
    pub rate: Option<u64>,
}

impl PathOptions {
    /// The weather in each direction.
    pub fn weather(self) -> Weather {
        Weather { rate: self.rate, ..Weather::far(self.round_trip, self.loss) }
    }
}

impl fmt::Display for PathOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ms round trip, ", self.round_trip.as_millis())?;
        write!(formatter, "{} % loss each way", self.loss.share() * 100.0)?;
        match self.rate {
            Some(rate) => write!(formatter, ", {:.1} MiB/s", rate as f64 / units::MIB as f64),
            None => Ok(()),
        }
    }
}

/// How to run, whatever is measured.
#[derive(Args, Debug)]
pub struct Run {
    /// Rounds; in each, every case goes through every way once
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Begin no round when this much time has passed; the first is always run
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = units::duration)]
    pub at_most: Duration,
    /// Seed of all data
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub seed: u64,
    /// Where the report goes.
    #[command(flatten)]
    pub outputs: Outputs,
    /// Folder with the peers that Debian does not have [default: where ci/install-peers puts them, beside this program's]
    #[arg(long, value_name = "FOLDER")]
    peers: Option<PathBuf>,
    /// Do not run where a peer is missing
    #[arg(long)]
    pub all_peers: bool,
    /// The gateway's program [default: beside this one]
    #[arg(long, value_name = "FILE")]
    tidegate: Option<PathBuf>,
    /// The agent's program [default: beside this one]
    #[arg(long, value_name = "FILE")]
    tidegate_agent: Option<PathBuf>,
}

impl Run {
    /// The peers that are there.
    ///
    /// # Errors
    /// With the name of one that is missing, where all are wanted.
    pub fn peers(&self) -> Result<Peers> {
        let own = std::env::current_exe().context("can't tell where this program is")?;
        // From target/release/PROGRAM to target/peers/bin.
        let beside = own.ancestors().nth(2).map(|target| target.join("peers/bin"));
        let folder = self.peers.clone().or(beside).context("this program is in no folder")?;
        let peers = Peers::in_folder(&folder);
        let missing = peers.missing().join(", ");
        ensure!(
            missing.is_empty() || !self.all_peers,
            "{missing}: missing in {}; ci/install-peers builds what is missing",
            folder.display()
        );
        Ok(peers)
    }

    /// The programs to measure.
    ///
    /// # Errors
    /// If one is not there.
    pub fn programs(&self) -> Result<Programs> {
        let own = std::env::current_exe().context("can't tell where this program is")?;
        let find = |given: &Option<PathBuf>, name: &str| {
            let path = given.clone().unwrap_or_else(|| own.with_file_name(name));
            ensure!(
                path.is_file(),
                "{} is missing: cargo build --release, or say where it is",
                path.display()
            );
            Ok(path)
        };
        Ok(Programs {
            gateway: find(&self.tidegate, "tidegate")?,
            agent: find(&self.tidegate_agent, "tidegate-agent")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed_and_its_defaults_are_the_short_version() {
        Options::command().debug_assert();
        let options = Options::parse_from(["tidegate-loadtest", "throughput"]);
        let Measurement::Throughput { bytes, run } = options.measurement else {
            panic!("another measurement")
        };
        assert_eq!((bytes, run.rounds, run.at_most), (256 * units::MIB, 3, Duration::from_secs(60)));
    }

    #[test]
    fn the_floor_is_played_by_the_program_beside_this_one_unless_another_is_named() {
        let floor = |line: &[&str]| {
            let Measurement::Agents { agents, .. } = Options::parse_from(line).measurement else {
                panic!("another measurement")
            };
            agents.floor
        };
        let line = ["tidegate-loadtest", "agents", "--count", "9", "--floor", "program", "--seed", "2"];
        assert_eq!(floor(&line[..4]), None);
        assert_eq!(floor(&line[..5]), Some(None));
        assert_eq!(floor(&line), Some(Some("program".into())));
    }
}
