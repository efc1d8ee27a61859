//! What a run of simulated agents measured: the data of its report, as it stands in the JSON. No presentation, no IO.
//!
//! The rules that stay true: counts add up ([`CheckIns::adds_up`], and each wake and each tunnel is in exactly one
//! count); what was not measured is absent (`None`), never 0; units are in the names (`_us` microseconds, `_ms`
//! milliseconds, `_s` seconds, `_kib` 1,024 bytes, `cpu_percent` of one core). A field is only ever added, with a
//! serde default, so that an older report can be compared with a newer one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::machine::Circumstances;
use crate::statistics::Percentiles;

/// A whole report of `agents`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentsReport {
    /// On what, of what, when and how.
    pub circumstances: Circumstances,
    /// What was asked for.
    pub setup: Setup,
    /// What was measured: the gateway's first, and with `--floor` the floor server's second.
    pub runs: Vec<AgentsRun>,
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    /// Simulated agents, each of an edge of its own.
    pub agents: u32,
    /// Edges that the gateway knew beside those, whose agents never come.
    #[serde(default)]
    pub idle_edges: u32,
    /// Time between two check-ins of an agent.
    pub interval_ms: u64,
    /// Planned length of the measurement, after all agents were connected and bound.
    pub duration_s: f64,
    /// What agents speak.
    pub protocol: Protocol,
    /// Agents ask the gateway to hold their questions for so long (`prefer: wait=N`), where they do.
    #[serde(default)]
    pub hold_s: Option<u32>,
    /// A new connection for every check-in.
    #[serde(default)]
    pub reconnect_each: bool,
    /// Flags raised each second, where any are.
    #[serde(default)]
    pub wakes_per_s: Option<f64>,
    /// Tunnels that were to be open all at once, where any were.
    #[serde(default)]
    pub tunnels: Option<u32>,
    /// How many of them were to carry traffic.
    #[serde(default)]
    pub carrying: u32,
    /// Agents that vanish each second, where any do.
    #[serde(default)]
    pub vanishing_per_s: Option<f64>,
    /// When the gateway is restarted, in seconds of the measurement, where it is.
    #[serde(default)]
    pub restart_at_s: Option<f64>,
    /// Processes that the agents were split into; 1 is the harness itself.
    pub workers: u32,
}

/// What agents speak with a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// HTTP/2 over TLS, as agents do.
    #[serde(rename = "h2")]
    Http2,
    /// HTTP/1.1 over TLS.
    #[serde(rename = "http/1.1")]
    Http1,
}

/// Who was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// A gateway, started by the harness.
    Gateway,
    /// A gateway that ran already. Nothing is known of its process.
    RunningGateway,
    /// The floor server: TLS, HTTP, a map look-up, and nothing else.
    Floor,
}

/// Everything that was measured of one server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentsRun {
    /// Whose figures these are.
    pub target: Target,
    /// How long the measurement lasted; shorter than planned where it was interrupted.
    pub seconds: f64,
    /// Somebody pressed Ctrl-C: the figures are of what was measured until then.
    #[serde(default)]
    pub interrupted: bool,
    /// Until all agents were connected, bound and answered, before the measurement.
    pub ramp: Ramp,
    /// The check-ins of the measurement.
    pub check_ins: CheckIns,
    /// What they cost on the wire; absent where the kernel did not tell.
    #[serde(default)]
    pub wire: Option<Wire>,
    /// The server's process; absent for a gateway that ran already.
    #[serde(default)]
    pub server: Option<ProcessUse>,
    /// The harness's own processes: near one core of CPU, the latencies are its own.
    pub harness: ProcessUse,
    /// With `--wake`.
    #[serde(default)]
    pub wake: Option<Wake>,
    /// With `--tunnels`.
    #[serde(default)]
    pub tunnels: Option<Tunnels>,
    /// With `--churn` or `--restart-at`.
    #[serde(default)]
    pub churn: Option<Churn>,
    /// The run second by second, from the first connection of the ramp on. A second in which nothing could be sampled
    /// is missing.
    pub series: Vec<Second>,
}

/// Enrolment and the first question of every agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ramp {
    /// Time to enrol all edges through the admin API.
    pub enrol_seconds: f64,
    /// From the first connection to the last first answer.
    pub seconds: f64,
    /// From the begin of an agent's connection to its first answer: TCP, TLS, the binding on the gateway's disk.
    pub first_answer: Latency,
    /// First check-ins that had to be tried again, by what went wrong.
    #[serde(default)]
    pub failures: Failures,
}

/// What went wrong, and how often.
pub type Failures = BTreeMap<FailureKind, u64>;

/// What can go wrong with a check-in, a wake or a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// No TCP connection: refused, reset or timed out.
    Connect,
    /// TLS failed, a pin that did not match included.
    Tls,
    /// The connection broke before the answer was complete.
    Broken,
    /// No answer in time.
    Timeout,
    /// 401 or 403.
    Refused,
    /// 409.
    Conflict,
    /// 429.
    TooMany,
    /// 503 and other 5xx.
    Unavailable,
    /// Any other answer that makes no sense there, and bodies that can't be understood.
    Nonsense,
    /// An envelope that does not open, or an address that is none.
    Offer,
    /// SSH: key exchange, host key, login or forwards.
    Ssh,
    /// Another byte than was sent, or an end too soon.
    Data,
    /// An admin request that was refused.
    Admin,
}

impl FailureKind {
    /// As the report calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Tls => "TLS",
            Self::Broken => "broken",
            Self::Timeout => "no answer in time",
            Self::Refused => "refused (401, 403)",
            Self::Conflict => "conflict (409)",
            Self::TooMany => "too many (429)",
            Self::Unavailable => "unavailable (5xx)",
            Self::Nonsense => "nonsense",
            Self::Offer => "offer",
            Self::Ssh => "SSH",
            Self::Data => "wrong bytes",
            Self::Admin => "admin API",
        }
    }
}

/// The check-ins of the measurement. `scheduled` is the sum of the other three.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CheckIns {
    /// That were due within the measurement.
    pub scheduled: u64,
    /// Answered with 200 or 204, those of `held` included.
    pub answered: u64,
    /// That got another answer, or none.
    pub failed: u64,
    /// Still under way when the measurement ended (a held question at its end is one, and no failure), or when its agent
    /// vanished.
    pub cut: u64,
    /// `failed` by kind.
    #[serde(default)]
    pub failures: Failures,
    /// From the scheduled time to the answer, of those that were not held. An agent that is late counts as late: what it
    /// did not ask while it waited is in here.
    pub latency: Latency,
    /// Answers that were held; absent without `--hold`.
    #[serde(default)]
    pub held: Option<Held>,
    /// Connections that had to be made anew, because the kept one had been closed.
    #[serde(default)]
    pub reconnects: u64,
}

impl CheckIns {
    /// Whether every scheduled check-in is in exactly one count, and every failure has a kind.
    pub fn adds_up(&self) -> bool {
        self.scheduled == self.answered + self.failed + self.cut
            && self.failed == self.failures.values().sum::<u64>()
            && self.answered == self.latency.count + self.held.as_ref().map_or(0, |held| held.answered)
    }
}

/// Answers that the gateway held back for a while (`preference-applied: wait`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Held {
    /// How many.
    pub answered: u64,
    /// How many of them brought an offer.
    pub offers: u64,
    /// How long they were held, from question to answer.
    pub time: Latency,
}

/// A distribution of times.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// How many.
    pub count: u64,
    /// Absent where there are none. Exact to 1/1,000.
    #[serde(default)]
    pub percentiles: Option<Percentiles>,
    /// Mean; 0 where there are none.
    #[serde(default)]
    pub mean_us: f64,
    /// The distribution, for a chart: in ascending order, empty ones left out. Their counts add up to `count`.
    #[serde(default)]
    pub buckets: Vec<Bucket>,
}

/// Times up to a bound, and above that of the bucket before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    /// The bound.
    pub up_to_us: u64,
    /// How many.
    pub count: u64,
}

/// What the kernel counted on the agents' check-in connections (TCP_INFO), both directions together, over a part of the
/// measurement. Bytes are those of IP packets: TCP and IP headers, TLS and everything inside; link headers are not in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Wire {
    /// Over how much time.
    pub seconds: f64,
    /// Connections that were there at both ends of that time; nothing of any other is in here.
    pub connections: u64,
    /// Check-ins answered on all connections in that time.
    pub check_ins: u64,
    /// Bytes in IP packets.
    pub bytes: u64,
    /// IP packets.
    pub packets: u64,
    /// Bytes of TCP payload: TLS records.
    pub payload: u64,
    /// `bytes` for each check-in; absent where there was none (or where they were held).
    #[serde(default)]
    pub bytes_per_check_in: Option<f64>,
    /// `packets` for each check-in.
    #[serde(default)]
    pub packets_per_check_in: Option<f64>,
    /// `bytes` for each connection and second.
    pub bytes_per_agent_s: f64,
}

/// What a process used, sampled from outside through /proc.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessUse {
    /// Processor seconds within the measurement, user and kernel.
    pub cpu_seconds: f64,
    /// The same for each second, in percent of one core.
    pub cpu_percent: f64,
    /// Processor time for each check-in that was answered; absent without any.
    #[serde(default)]
    pub cpu_us_per_check_in: Option<f64>,
    /// Resident memory before the first agent came.
    pub rss_before_kib: u64,
    /// Resident memory at the end of the measurement.
    pub rss_kib: u64,
    /// The most in any sample.
    pub rss_peak_kib: u64,
    /// Growth of the resident memory from before the first agent to the end, for each agent.
    #[serde(default)]
    pub rss_per_agent_kib: Option<f64>,
}

/// Flags that were raised through the admin API. `raised` is the sum of `usable`, `failed` and `cut`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Wake {
    /// Flags.
    pub raised: u64,
    /// Bytes came back from the service behind the agent, and were those that were sent.
    pub usable: u64,
    /// They did not.
    pub failed: u64,
    /// Still under way when the measurement ended.
    pub cut: u64,
    /// `failed` by kind.
    #[serde(default)]
    pub failures: Failures,
    /// From the scheduled time of the flag to the first byte back through the stream.
    pub flag_to_usable: Latency,
    /// From the agent's having the offer to its tunnel's being welcomed by the gateway.
    pub offer_to_tunnel: Latency,
}

/// Tunnels that were all open at once. `wanted` is the sum of `opened` and `failed`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tunnels {
    /// How many were asked for.
    pub wanted: u64,
    /// How many opened.
    pub opened: u64,
    /// How many did not.
    pub failed: u64,
    /// Attempts that failed, by kind; one that failed first may be open at last.
    #[serde(default)]
    pub failures: Failures,
    /// Tunnels that were lost while they should have been open.
    pub lost: u64,
    /// From the first flag to the last tunnel.
    pub seconds: f64,
    /// Opened for each second of that.
    pub per_s: f64,
    /// The gateway's processor time while they opened, for each; absent for a gateway that ran already.
    #[serde(default)]
    pub cpu_us_per_tunnel: Option<f64>,
    /// Growth of the gateway's resident memory while they opened, for each: the slope through the samples.
    #[serde(default)]
    pub rss_per_tunnel_kib: Option<f64>,
    /// From offer to welcome.
    pub offer_to_tunnel: Latency,
    /// Of those that carried traffic; absent without `--carrying`.
    #[serde(default)]
    pub traffic: Option<Traffic>,
}

/// Streams with traffic, each in a tunnel of its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    /// Streams that were to carry.
    pub streams: u64,
    /// Streams that failed.
    pub failed: u64,
    /// Why.
    #[serde(default)]
    pub failures: Failures,
    /// Messages that came back from the service, every byte as it was sent.
    pub messages: u64,
    /// Their bytes, one way.
    pub bytes: u64,
    /// From the scheduled time of a message to its last byte back.
    pub round_trip: Latency,
}

/// Agents that vanish and gateways that restart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Churn {
    /// Connections that agents dropped without a goodbye.
    pub vanished: u64,
    /// Those that were answered again, on a new connection.
    pub returned: u64,
    /// From an agent's return to its next answer.
    pub return_to_answer: Latency,
    /// Of the gateway's restart, where there was one.
    #[serde(default)]
    pub restart: Option<Restart>,
    /// The longest time without an answered check-in, between the first and the last of the measurement (and from the
    /// first after the restart to the last).
    pub longest_silence_ms: u64,
}

/// A restart of the gateway, by SIGTERM and a new process on the same ports and data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Restart {
    /// When SIGTERM was sent, in seconds of the measurement.
    pub at_s: f64,
    /// From SIGTERM to the end of the process.
    pub down_s: f64,
    /// From the new process's start to its word that it is ready.
    pub up_s: f64,
    /// From ready to the first answered check-in.
    pub first_answer_s: f64,
    /// From ready until every agent had been answered again; absent where the measurement ended first.
    #[serde(default)]
    pub all_back_s: Option<f64>,
    /// Agents that had been answered again at the end.
    pub back: u64,
    /// Whole seconds after the first accepted check-in without another one.
    pub silent_seconds: u64,
}

/// One second of the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// Its end, in seconds from the begin of the measurement; negative during the ramp.
    pub at_s: f64,
    /// Check-ins answered.
    pub answered: u64,
    /// Check-ins failed.
    pub failed: u64,
    /// Half of the answers that were not held came within this; absent without any.
    #[serde(default)]
    pub p50_us: Option<u64>,
    /// 99 of 100.
    #[serde(default)]
    pub p99_us: Option<u64>,
    /// All.
    #[serde(default)]
    pub max_us: Option<u64>,
    /// Agents that are connected.
    pub connected: u64,
    /// Tunnels that are open at the agents' end.
    pub tunnels: u64,
    /// Streams that became usable (`--wake`).
    #[serde(default)]
    pub woken: u64,
    /// The server's processor time in this second.
    #[serde(default)]
    pub cpu_percent: Option<f64>,
    /// Its resident memory.
    #[serde(default)]
    pub rss_kib: Option<u64>,
    /// The harness's processor time in this second.
    #[serde(default)]
    pub harness_cpu_percent: Option<f64>,
    /// Bytes of IP packets on check-in connections in this second; only where they were counted.
    #[serde(default)]
    pub wire_bytes: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_ins_add_up_only_when_each_is_counted_once() {
        let latency = |count| Latency { count, ..Latency::default() };
        let whole = CheckIns {
            scheduled: 10,
            answered: 6,
            failed: 3,
            cut: 1,
            failures: Failures::from([(FailureKind::Broken, 2), (FailureKind::Timeout, 1)]),
            latency: latency(4),
            held: Some(Held { answered: 2, ..Held::default() }),
            reconnects: 7,
        };
        assert!(whole.adds_up());
        assert!(!CheckIns { scheduled: 11, ..whole.clone() }.adds_up());
        assert!(!CheckIns { failures: Failures::new(), ..whole.clone() }.adds_up());
        assert!(!CheckIns { held: None, ..whole }.adds_up());
    }

    #[test]
    fn a_report_of_an_older_harness_still_reads() {
        let second = r#"{"at_s":1.0,"answered":3,"failed":0,"connected":3,"tunnels":0}"#;
        let second: Second = serde_json::from_str(second).expect("what is missing has a default");
        assert_eq!((second.answered, second.cpu_percent), (3, None));
    }

    #[test]
    fn failures_are_named_in_the_json() {
        let failures = Failures::from([(FailureKind::TooMany, 2)]);
        assert_eq!(serde_json::to_string(&failures).expect("serializes"), r#"{"too-many":2}"#);
    }
}
