//! What a run of attacks came to: the data of its report, and what of it is a fault. No presentation, no IO.
//!
//! Units are in the names. A field is only ever added, with a serde default.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::agents::result::{Failures, Latency};
use crate::machine::Circumstances;

/// 99 of 100 honest check-ins, and messages through honest tunnels, take no longer, whoever attacks.
pub const HONEST_P99_US: u64 = 1_000_000;

/// A whole report of `attacks`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttacksReport {
    /// On what, of what, when and how.
    pub circumstances: Circumstances,
    /// What was asked for.
    pub setup: Setup,
    /// Nothing but honest work first, then one attack after the other.
    pub phases: Vec<Phase>,
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    /// Honest agents.
    pub agents: u32,
    /// Time between two of their check-ins.
    pub interval_ms: u64,
    /// Honest tunnels with traffic.
    pub tunnels: u32,
    /// How many of everything, of what the full size is.
    pub scale: f64,
    /// How long each attack went on at least.
    pub seconds: u32,
    /// The gateway's memory budget.
    pub memory_budget_mib: u32,
}

/// One attack, or the time before the first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// The attack's name.
    pub name: String,
    /// What it does, in a sentence.
    pub about: String,
    /// How long it took.
    pub seconds: f64,
    /// The gateway was restarted: nothing honest is judged.
    pub restarted: bool,
    /// Things that the attackers sent: connections, logins, messages, requests.
    pub sent: u64,
    /// What became of them, by kind.
    pub fates: BTreeMap<String, u64>,
    /// What must not have happened, a sentence each.
    pub wrong: Vec<String>,
    /// The honest ones meanwhile.
    pub honest: Honest,
    /// The gateway meanwhile.
    pub gateway: Vitals,
    /// From the attack's end until a newcomer was served on both ports; absent where that was given up.
    pub recovery_ms: Option<u64>,
}

/// What the honest ones noticed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Honest {
    /// Check-ins, from when they were due to their answers.
    pub check_ins: Latency,
    /// Check-ins that failed.
    pub check_ins_failed: Failures,
    /// Messages through tunnels, there and back.
    pub messages: Latency,
    /// Streams that failed, in opening or later.
    pub streams_failed: Failures,
    /// Flags of agents without a tunnel that were raised and ended in a stream.
    pub woken: u64,
    /// Flags that did not.
    pub wakes_failed: Failures,
    /// Offers of which no tunnel came.
    pub tunnels_failed: Failures,
    /// Tunnels that ended though nobody asked for it.
    pub tunnels_lost: u64,
    /// Agents that lost their connection and came back.
    pub returned: u64,
}

impl Honest {
    /// Everything that failed.
    pub fn failures(&self) -> u64 {
        let kinds = [&self.check_ins_failed, &self.streams_failed, &self.wakes_failed, &self.tunnels_failed];
        kinds.into_iter().flat_map(BTreeMap::values).sum::<u64>() + self.tunnels_lost
    }
}

/// The gateway's process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Vitals {
    /// Most resident memory in any sample.
    pub rss_max_kib: u64,
    /// Processor time that it took, until newcomers were served again.
    #[serde(default)]
    pub cpu_seconds: f64,
    /// Most open files in any sample.
    pub files_max: u64,
    /// Tasks that panicked, as far as its log says.
    pub panics: u64,
    /// The process that was there before was there at the end.
    pub alive: bool,
}

impl Phase {
    /// What was not as it must be, a sentence each.
    pub fn faults(&self, setup: &Setup) -> Vec<String> {
        let mut faults = self.wrong.clone();
        let mut must = |holds: bool, fault: String| {
            if !holds {
                faults.push(fault);
            }
        };
        must(self.gateway.alive, "the gateway's process ended".to_owned());
        must(self.gateway.panics == 0, format!("{} tasks of the gateway panicked", self.gateway.panics));
        let (used, budget) = (self.gateway.rss_max_kib / 1024, u64::from(setup.memory_budget_mib));
        must(used <= budget, format!("{used} MiB of memory, of a budget of {budget} MiB"));
        must(self.recovery_ms.is_some(), "newcomers were not served again after it".to_owned());
        if self.restarted {
            return faults;
        }
        let failures = self.honest.failures();
        must(failures == 0, format!("{failures} honest things failed"));
        must(self.honest.check_ins.count > 0, "no honest check-in was answered".to_owned());
        must(self.honest.messages.count > 0, "no message went through an honest tunnel".to_owned());
        for (what, latency) in [("check-ins", &self.honest.check_ins), ("messages", &self.honest.messages)] {
            let p99 = latency.percentiles.map_or(0, |percentiles| percentiles.p99_us);
            must(p99 < HONEST_P99_US, format!("honest {what} have a p99 of {} ms", p99 / 1000));
        }
        faults
    }
}

impl AttacksReport {
    /// All faults, each with the attack's name.
    pub fn faults(&self) -> Vec<String> {
        let of = |phase: &Phase| -> Vec<String> {
            phase.faults(&self.setup).iter().map(|fault| format!("{}: {fault}", phase.name)).collect()
        };
        self.phases.iter().flat_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agents::result::FailureKind;
    use crate::report::document::Results;
    use crate::report::sample;

    fn sample() -> (Setup, Phase) {
        let Results::Attacks(report) = sample::attacks() else { panic!("another measurement") };
        (report.setup, report.phases.into_iter().next_back().expect("there are some"))
    }

    #[test]
    fn a_phase_without_a_fault_has_none() {
        let (setup, phase) = sample();
        assert_eq!(phase.faults(&setup), Vec::<String>::new());
    }

    #[test]
    fn each_thing_that_must_hold_is_a_fault_where_it_does_not() {
        let changes: [fn(&mut Phase); 8] = [
            |phase| phase.wrong.push("let in".to_owned()),
            |phase| phase.gateway.alive = false,
            |phase| phase.gateway.panics = 1,
            |phase| phase.gateway.rss_max_kib = 1 << 40,
            |phase| phase.recovery_ms = None,
            |phase| phase.honest.check_ins_failed = Failures::from([(FailureKind::Timeout, 1)]),
            |phase| phase.honest.tunnels_lost = 1,
            |phase| phase.honest.messages = Latency::default(),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let (setup, mut phase) = sample();
            change(&mut phase);
            assert_eq!(phase.faults(&setup).len(), 1, "{number}");
        }
    }

    #[test]
    fn a_restart_excuses_honest_failures_and_nothing_else() {
        let (setup, mut phase) = sample();
        phase.restarted = true;
        phase.honest.tunnels_lost = 50;
        assert_eq!(phase.faults(&setup), Vec::<String>::new());
        phase.gateway.panics = 1;
        assert_eq!(phase.faults(&setup).len(), 1);
    }
}
