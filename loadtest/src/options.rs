//! The command line of `tidegate-loadtest`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Parser, Subcommand};

use crate::agents;
use crate::site::Programs;
use crate::units;

/// Measures Tidegate from outside, beside stock OpenSSH that does the same work in the same minute
///
/// Starts the programs itself, on free ports of the loopback interface and in a temporary folder. The report goes to
/// standard output, progress to standard error. Exits with 1 if anything failed.
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
        /// Write the report to this file as JSON too
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
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
    /// Write the report to this file as JSON too
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// The gateway's program [default: beside this one]
    #[arg(long, value_name = "FILE")]
    tidegate: Option<PathBuf>,
    /// The agent's program [default: beside this one]
    #[arg(long, value_name = "FILE")]
    tidegate_agent: Option<PathBuf>,
}

impl Run {
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
}
