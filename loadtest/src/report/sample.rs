//! One report of each kind, made up: every part is there, and nothing was measured.

use std::f64::consts::PI;
use std::time::Duration;

use crate::agents::result::{
    AgentsReport, AgentsRun, Bucket, CheckIns, Churn, FailureKind, Failures, Latency, ProcessUse, Protocol,
    Ramp, Restart, Second, Setup, Target, Traffic, Tunnels, Wake, Wire,
};
use crate::attacks;
use crate::attacks::result::{AttacksReport, Honest, Phase, Vitals};
use crate::plan::{Bulk, Requests, Way};
use crate::report::document::Results;
use crate::report::tests::{bulk, circumstances};
use crate::report::{Report, RequestSample, bulk_rows, request_rows};
use crate::statistics::Percentiles;

/// One of each.
pub(crate) fn all() -> Vec<Results> {
    vec![throughput(200), path(), latency(), agents(), attacks()]
}

/// Bulk data, the fastest way at so many MiB a second.
pub(crate) fn throughput(fastest: u64) -> Results {
    Results::Throughput(bulk_report("256.0 MiB each time", &Bulk::ALL, &Way::ALL, fastest))
}

pub(crate) fn path() -> Results {
    let each = "64.0 MiB over 100 ms round trip, 1 % loss each way each time";
    Results::Path(bulk_report(each, &Bulk::OVER_A_PATH, &Way::OVER_A_PATH, 40))
}

fn bulk_report(each: &str, cases: &[Bulk], ways: &[Way], fastest: u64) -> Report<crate::report::BulkRow> {
    let mut samples = Vec::new();
    for round in 0..3 {
        for case in cases {
            for (number, way) in (0..).zip(ways) {
                samples.push((*case, *way, bulk(fastest * 8 / (8 + number + round), 1.0)));
            }
        }
    }
    let rows = bulk_rows(cases, ways, &samples);
    Report { circumstances: circumstances(), each: each.to_owned(), rounds: 3, missing: Vec::new(), rows }
}

pub(crate) fn latency() -> Results {
    let mut samples = Vec::new();
    for case in Requests::ALL {
        for (number, way) in (1..).zip(Way::ALL) {
            let latencies =
                (0..20_000_u64).map(|n| Duration::from_micros(number * (50 + 40_000 / (20_001 - n))));
            let sample = RequestSample {
                requests: 20_000,
                seconds: number as f64,
                failures: 0,
                bulk_mib_per_second: (case == Requests::BesideBulk).then_some(300.0 / number as f64),
                latencies: latencies.collect(),
            };
            samples.push((case, way, sample));
        }
    }
    let rows = request_rows(&Requests::ALL, &Way::ALL, &samples);
    let each = "64 bytes there and back, 1.0 s each time".to_owned();
    Results::Latency(Report { circumstances: circumstances(), each, rounds: 1, missing: Vec::new(), rows })
}

pub(crate) fn agents() -> Results {
    let setup = Setup {
        agents: 15_000,
        idle_edges: 0,
        interval_ms: 5_000,
        duration_s: 10.0,
        protocol: Protocol::Http2,
        hold_s: None,
        reconnect_each: false,
        wakes_per_s: Some(50.0),
        tunnels: None,
        carrying: 0,
        vanishing_per_s: None,
        restart_at_s: Some(5.0),
        workers: 1,
    };
    let runs = vec![run(Target::Gateway, 1.0), run(Target::Floor, 0.7)];
    Results::Agents(AgentsReport { circumstances: circumstances(), setup, runs })
}

pub(crate) fn attacks() -> Results {
    let setup = attacks::result::Setup {
        agents: 1000,
        interval_ms: 5000,
        tunnels: 50,
        scale: 1.0,
        seconds: 10,
        memory_budget_mib: 1024,
    };
    let phase = |name: &str, sent: u64, fates: &[(&str, u64)]| Phase {
        name: name.to_owned(),
        about: format!("What {name} is"),
        seconds: 10.0,
        restarted: false,
        sent,
        fates: fates.iter().map(|(fate, count)| ((*fate).to_owned(), *count)).collect(),
        wrong: Vec::new(),
        honest: Honest {
            check_ins: distribution(2_000, 900),
            messages: distribution(2_500, 700),
            woken: 2,
            returned: 40,
            ..Honest::default()
        },
        gateway: Vitals { rss_max_kib: 200_000, cpu_seconds: 1.5, files_max: 1_500, panics: 0, alive: true },
        recovery_ms: Some(3),
    };
    let slow = [("turned away", 9_000), ("closed", 500), ("unanswered", 500)];
    let phases = vec![phase("baseline", 0, &[]), phase("slow-banner", 10_000, &slow)];
    Results::Attacks(AttacksReport { circumstances: circumstances(), setup, phases })
}

fn distribution(count: u64, p50_us: u64) -> Latency {
    let percentiles = Percentiles { p50_us, p99_us: p50_us * 4, p999_us: p50_us * 20, max_us: p50_us * 50 };
    let bucket = |up_to_us, count| Bucket { up_to_us, count };
    let rare = count / 1000;
    let buckets = vec![
        bucket(p50_us, count / 2),
        bucket(p50_us * 4, count - count / 2 - 10 * rare),
        bucket(p50_us * 20, 9 * rare),
        bucket(p50_us * 50, rare),
    ];
    Latency { count, percentiles: Some(percentiles), mean_us: p50_us as f64, buckets }
}

fn run(target: Target, weight: f64) -> AgentsRun {
    let ours = target == Target::Gateway;
    let second = |number: u32| {
        let at = f64::from(number) - 2.0;
        let wave = 1.0 + (at / 10.0 * PI).sin() / 4.0;
        Second {
            at_s: at,
            answered: (3000.0 * wave) as u64,
            failed: u64::from(ours && number == 7),
            p50_us: Some((300.0 * wave * weight) as u64),
            p99_us: Some((900.0 * wave * weight) as u64),
            max_us: Some((4_000.0 * wave * weight) as u64),
            connected: 15_000.min(u64::from(number) * 7_500),
            tunnels: if ours { u64::from(number) * 20 } else { 0 },
            woken: if ours { 50 } else { 0 },
            cpu_percent: Some(9.0 * wave * weight),
            rss_kib: Some(200_000 + u64::from(number) * 300),
            harness_cpu_percent: Some(20.0 * wave),
            wire_bytes: Some((700_000.0 * wave) as u64),
        }
    };
    AgentsRun {
        target,
        seconds: 10.0,
        interrupted: false,
        ramp: Ramp {
            enrol_seconds: 3.0,
            seconds: 2.0,
            first_answer: distribution(15_000, 700),
            failures: Failures::new(),
        },
        check_ins: CheckIns {
            scheduled: 30_000,
            answered: 30_000 - u64::from(ours),
            failed: u64::from(ours),
            cut: 0,
            failures: if ours { Failures::from([(FailureKind::Timeout, 1)]) } else { Failures::new() },
            latency: distribution(30_000 - u64::from(ours), (300.0 * weight) as u64),
            held: None,
            reconnects: 0,
        },
        wire: Some(Wire {
            seconds: 5.0,
            connections: 15_000,
            check_ins: 15_000,
            bytes: 3_900_000,
            packets: 45_000,
            payload: 1_500_000,
            bytes_per_check_in: Some(260.0),
            packets_per_check_in: Some(3.0),
            bytes_per_agent_s: 52.0,
        }),
        server: Some(ProcessUse {
            cpu_seconds: 0.9 * weight,
            cpu_percent: 9.0 * weight,
            cpu_us_per_check_in: Some(30.0 * weight),
            rss_before_kib: 20_000,
            rss_kib: 300_000,
            rss_peak_kib: 310_000,
            rss_per_agent_kib: Some(19.7 * weight),
        }),
        harness: ProcessUse { cpu_percent: 20.0, rss_kib: 200_000, ..ProcessUse::default() },
        wake: ours.then(|| Wake {
            raised: 500,
            usable: 500,
            flag_to_usable: distribution(500, 9_000),
            offer_to_tunnel: distribution(500, 3_000),
            ..Wake::default()
        }),
        tunnels: ours.then(|| Tunnels {
            wanted: 200,
            opened: 200,
            seconds: 1.0,
            per_s: 200.0,
            cpu_us_per_tunnel: Some(500.0),
            rss_per_tunnel_kib: Some(44.0),
            offer_to_tunnel: distribution(200, 4_000),
            traffic: Some(Traffic {
                streams: 20,
                round_trip: distribution(2_000, 400),
                ..Traffic::default()
            }),
            ..Tunnels::default()
        }),
        churn: ours.then(|| Churn {
            vanished: 10,
            returned: 10,
            return_to_answer: distribution(10, 800),
            restart: Some(Restart {
                at_s: 5.0,
                down_s: 1.0,
                up_s: 0.2,
                first_answer_s: 0.1,
                all_back_s: Some(6.0),
                back: 15_000,
                silent_seconds: 0,
            }),
            longest_silence_ms: 1_300,
        }),
        series: (0..12).map(second).collect(),
    }
}
