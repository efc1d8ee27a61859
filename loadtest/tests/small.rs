//! A run of seconds with tiny sizes, judged on correctness only: everything that the plan names was done, bytes arrived
//! as they were sent, and counts add up. How fast it was is nobody's business here.

use std::path::Path;
use std::process::Command;

use loadtest::plan::{Bulk, Requests, Way};
use loadtest::report::document::{Document, Results};
use loadtest::report::{BulkRow, Report};
use tempfile::TempDir;

const BYTES: u64 = 1_000_003;

/// Runs the program and returns its report, and what it says on the terminal.
fn run(arguments: &[&str]) -> (Results, String) {
    let folder = TempDir::new().expect("the folder for temporary files is writable");
    let json = folder.path().join("report.json");
    // Peers that Debian does not have are for benchmarks; this test runs without them, and the report says so.
    let peers = folder.path().join("no-peers");
    let output = command(arguments).arg("--peers").arg(&peers).arg("--json").arg(&json).output();
    let output = output.expect("the program was built with this test");
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{errors}\n{text}");
    assert!(text.contains(&arguments.join(" ")), "the report names its command: {text}");
    assert!(text.contains("missing: rathole, bore"), "{text}");
    (Document::read(&json).expect("a report").results, text.into_owned())
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_tidegate-loadtest")));
    command.args(arguments);
    command
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
    let (results, _) = run(&["throughput", "--rounds", "2", "--at-most", "5m", "--bytes", &bytes]);
    let Results::Throughput(report) = results else { panic!("another measurement") };
    assert_all_arrived(&report, 2, Bulk::ALL.len(), &WAYS);
}

#[test]
fn every_byte_arrives_over_a_path_that_is_far_and_loses_packets() {
    let bytes = BYTES.to_string();
    let path = ["--round-trip", "20ms", "--loss", "1%", "--rate", "50MiB"];
    let (results, _) = run(&[&["path", "--rounds", "1", "--bytes", &bytes], &path[..]].concat());
    let Results::Path(report) = results else { panic!("another measurement") };
    assert_all_arrived(&report, 1, Bulk::OVER_A_PATH.len(), &[Way::Direct, Way::Upgrade, Way::SshRemote]);
}

#[test]
fn every_kind_of_request_is_answered_through_every_way() {
    let (results, _) = run(&["latency", "--rounds", "1", "--each", "200ms"]);
    let Results::Latency(report) = results else { panic!("another measurement") };
    assert_eq!((report.rounds, report.failures()), (1, 0));
    assert_eq!(report.rows.len(), Requests::ALL.len() * WAYS.len());
    for row in &report.rows {
        let bulk = row.rounds.iter().all(|sample| sample.bulk_mib_per_second.is_some_and(|rate| rate > 0.0));
        assert_eq!(bulk, row.case == Requests::BesideBulk, "{row:?}");
        let requests: u64 = row.rounds.iter().map(|sample| sample.requests).sum();
        assert!(requests > 0, "{row:?}");
        let latencies = row.cost.as_ref().expect("there are requests").percentiles;
        assert!(latencies.p50_us <= latencies.p99_us && latencies.p99_us <= latencies.max_us, "{row:?}");
    }
}

#[test]
fn a_report_is_shown_again_compared_and_held_to_bounds() {
    let folder = TempDir::new().expect("the folder for temporary files is writable");
    let (json, page) = (folder.path().join("report.json"), folder.path().join("report.html"));
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let bytes = std::fs::read(golden.join("latency.json")).expect("it is in the repository");
    std::fs::write(&json, bytes).expect("the folder is ours");
    let show = |arguments: &[&str]| {
        let output = command(&["report"]).arg(&json).args(arguments).output().expect("the program was built");
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    };
    let file = |path: &Path| path.to_str().expect("a path of plain letters").to_owned();

    let (status, text) =
        show(&["--html", &file(&page), "--compare", &file(&json), "--fail-over", "failures=0"]);
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("since 2026-01-01T00:00:00Z, commit abc"), "{text}");
    assert!(std::fs::read_to_string(&page).expect("it was written").contains("<svg"));

    let (status, text) = show(&["--fail-over", "p99=1us", "--fail-over", "failures=0"]);
    assert_eq!(status, Some(6), "{text}");
    assert!(
        text.contains("the bound p99 1.00 µs is broken: 1 connection: tidegate upgrade has p99"),
        "{text}"
    );

    let (status, text) = show(&["--compare", &file(&golden.join("agents.json"))]);
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("the earlier report is of `agents` and this one of `latency`"), "{text}");
}
