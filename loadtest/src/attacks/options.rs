//! The command line of `attacks`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::attack::Attack;
use super::result::Setup;
use crate::agents;
use crate::units;

/// Agents are in processes of their own, so that what attackers cost this one does not show in their latency.
const WORKERS: u16 = 2;

/// What is attacked, and how hard.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Honest agents that check in meanwhile
    #[arg(long, value_name = "COUNT", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(2..=15_000))]
    pub agents: u32,
    /// Time between two check-ins of an honest agent
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = units::duration)]
    pub interval: Duration,
    /// Honest tunnels, each with a stream that carries small requests
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=5000))]
    pub tunnels: u32,
    /// Attack in this way only; may be given several times
    #[arg(long, value_name = "NAME", value_enum)]
    pub only: Vec<Attack>,
    /// How many of everything that an attack sends: 1 is what a report names, 0.01 a hundredth of it
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = scale)]
    pub scale: f64,
    /// How long each attack goes on at least, in seconds
    #[arg(long, value_name = "COUNT", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub seconds: u32,
    /// Memory that the gateway is given, in MiB, and is to stay within
    #[arg(long, value_name = "COUNT", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(192..=1_048_576))]
    pub memory_budget_mib: u32,
    /// Seed of the schedule and of all data
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub seed: u64,
    /// The gateway's program [default: beside this one]
    #[arg(long, value_name = "FILE")]
    pub tidegate: Option<PathBuf>,
}

impl Options {
    /// The attacks that were asked for, in the order in which they are run.
    pub fn attacks(&self) -> Vec<Attack> {
        let wanted = |attack: &Attack| self.only.is_empty() || self.only.contains(attack);
        Attack::all().filter(wanted).collect()
    }

    /// How long each attack goes on.
    pub fn length(&self) -> Duration {
        Duration::from_secs(self.seconds.into())
    }

    /// What the gateway is started with.
    pub fn flags(&self) -> Vec<String> {
        vec!["--memory-budget-mib".to_owned(), self.memory_budget_mib.to_string()]
    }

    /// The honest agents.
    pub fn bystanders(&self) -> agents::options::Options {
        agents::options::Options {
            count: self.agents,
            interval: self.interval,
            duration: self.length(),
            http1: false,
            hold: None,
            reconnect_each: false,
            wake: None,
            tunnels: Some(self.tunnels.min(self.agents - 1)),
            carrying: 0,
            churn: None,
            restart_at: None,
            idle_edges: 0,
            workers: Some(WORKERS),
            seed: self.seed,
            floor: None,
            gateway: None,
            token_file: None,
            tls_fingerprint: None,
            tidegate: self.tidegate.clone(),
        }
    }

    /// As it stands in the report.
    pub fn setup(&self) -> Setup {
        Setup {
            agents: self.agents,
            interval_ms: u64::try_from(self.interval.as_millis()).unwrap_or(u64::MAX),
            tunnels: self.tunnels.min(self.agents - 1),
            scale: self.scale,
            seconds: self.seconds,
            memory_budget_mib: self.memory_budget_mib,
        }
    }
}

fn scale(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.parse().ok().filter(|number| *number > 0.0 && *number <= 100.0);
    number.ok_or_else(|| "give a factor above 0 and up to 100, such as 0.01".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_positive_numbers() {
        assert_eq!(scale("0.01"), Ok(0.01));
        for bad in ["", "0", "-1", "NaN", "inf", "101", "x"] {
            assert!(scale(bad).is_err(), "{bad}");
        }
    }
}
