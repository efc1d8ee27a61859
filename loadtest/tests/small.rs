//! A run of seconds with tiny sizes, judged on correctness only: everything that the plan names was done, bytes arrived
//! as they were sent, and counts add up. How fast it was is nobody's business here.

use std::path::Path;
use std::process::Command;

use loadtest::plan::{Bulk, Requests, Way};
use loadtest::report::{BulkRow, Report, RequestRow};
use serde::de::DeserializeOwned;
use tempfile::TempDir;

const BYTES: u64 = 1_000_003;

/// Runs the program and returns its report.
fn run<R: DeserializeOwned>(arguments: &[&str]) -> Report<R> {
    let folder = TempDir::new().expect("the folder for temporary files is writable");
    let json = folder.path().join("report.json");
    // Peers that Debian does not have are for benchmarks; this test runs without them, and says so.
    let peers = folder.path().join("no-peers");
    let output = Command::new(Path::new(env!("CARGO_BIN_EXE_tidegate-loadtest")))
        .args(arguments)
        .arg("--peers")
        .arg(&peers)
        .arg("--json")
        .arg(&json)
        .output()
        .expect("the program was built with this test");
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{errors}\n{text}");
    let command = arguments.join(" ");
    assert!(text.contains(&command), "the report names its command: {text}");
    let report: Report<R> =
        serde_json::from_slice(&std::fs::read(&json).expect("it was written")).expect("a report");
    assert_eq!(report.missing, ["rathole", "bore"]);
    assert!(text.contains("missing: rathole, bore"), "{text}");
    report
}

/// Ways that need nothing but what Debian has.
const WAYS: [Way; 4] = [Way::Upgrade, Way::SshRemote, Way::Connect, Way::SshBoth];

fn assert_all_arrived(report: &Report<BulkRow>, rounds: usize, cases: usize, ways: &[Way]) {
    assert_eq!((report.rounds as usize, report.failures()), (rounds, 0));
    assert_eq!(report.rows.len(), cases * ways.len());
    for row in &report.rows {
        assert!(ways.contains(&row.way), "{row:?}");
        let bytes: Vec<u64> = row.rounds.iter().map(|sample| sample.bytes).collect();
        assert_eq!(bytes, vec![BYTES; rounds], "{row:?}");
        assert_eq!(row.ours.is_some(), row.way.rival().is_some(), "{row:?}");
    }
}

#[test]
fn every_byte_of_every_case_arrives_through_every_way() {
    let bytes = BYTES.to_string();
    let report: Report<BulkRow> = run(&["throughput", "--rounds", "2", "--at-most", "5m", "--bytes", &bytes]);
    assert_all_arrived(&report, 2, Bulk::ALL.len(), &WAYS);
}

#[test]
fn every_byte_arrives_over_a_path_that_is_far_and_loses_packets() {
    let bytes = BYTES.to_string();
    let path = ["--round-trip", "20ms", "--loss", "1%", "--rate", "50MiB"];
    let report = run(&[&["path", "--rounds", "1", "--bytes", &bytes], &path[..]].concat());
    assert_all_arrived(&report, 1, Bulk::OVER_A_PATH.len(), &[Way::Direct, Way::Upgrade, Way::SshRemote]);
}

#[test]
fn every_kind_of_request_is_answered_through_every_way() {
    let report: Report<RequestRow> = run(&["latency", "--rounds", "1", "--each", "200ms"]);
    assert_eq!((report.rounds, report.failures()), (1, 0));
    assert_eq!(report.rows.len(), Requests::ALL.len() * WAYS.len());
    for row in &report.rows {
        let bulk = row.rounds.iter().all(|sample| sample.bulk_mib_per_second.is_some_and(|rate| rate > 0.0));
        assert_eq!(bulk, row.case == Requests::BesideBulk, "{row:?}");
        let requests: u64 = row.rounds.iter().map(|sample| sample.requests).sum();
        assert!(requests > 0, "{row:?}");
        let latencies = row.cost.expect("there are requests");
        assert!(latencies.p50_us <= latencies.p99_us && latencies.p99_us <= latencies.max_us, "{row:?}");
    }
}
