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
    let output = Command::new(Path::new(env!("CARGO_BIN_EXE_tidegate-loadtest")))
        .args(arguments)
        .arg("--json")
        .arg(&json)
        .output()
        .expect("the program was built with this test");
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{errors}\n{text}");
    let command = arguments.join(" ");
    assert!(text.contains(&command), "the report names its command: {text}");
    serde_json::from_slice(&std::fs::read(&json).expect("it was written")).expect("a report")
}

#[test]
fn every_byte_of_every_case_arrives_through_every_way() {
    let bytes = BYTES.to_string();
    let report: Report<BulkRow> = run(&["throughput", "--rounds", "2", "--at-most", "5m", "--bytes", &bytes]);
    assert_eq!((report.rounds, report.failures()), (2, 0));
    assert_eq!(report.rows.len(), Bulk::ALL.len() * Way::ALL.len());
    for row in &report.rows {
        let bytes: Vec<u64> = row.rounds.iter().map(|sample| sample.bytes).collect();
        assert_eq!(bytes, [BYTES; 2], "{row:?}");
        assert_eq!(row.to_peer.is_some(), row.way.peer().is_some(), "{row:?}");
    }
}

#[test]
fn every_kind_of_request_is_answered_through_every_way() {
    let report: Report<RequestRow> = run(&["latency", "--rounds", "1", "--each", "200ms"]);
    assert_eq!((report.rounds, report.failures()), (1, 0));
    assert_eq!(report.rows.len(), Requests::ALL.len() * Way::ALL.len());
    for row in &report.rows {
        let requests: u64 = row.rounds.iter().map(|sample| sample.requests).sum();
        assert!(requests > 0, "{row:?}");
        let latencies = row.cost.expect("there are requests");
        assert!(latencies.p50_us <= latencies.p99_us && latencies.p99_us <= latencies.max_us, "{row:?}");
    }
}
