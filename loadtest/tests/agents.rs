//! Small runs of simulated agents against a real gateway, judged on correctness only: every question is answered rightly,
//! every flag ends in a stream that carries what was sent, and counts add up. How fast it was is nobody's business here.

use std::path::Path;
use std::process::Command;

use loadtest::agents::plan::Plan;
use loadtest::agents::result::{AgentsRun, Target};
use loadtest::report::document::{Document, Results};
use tempfile::TempDir;

/// Seconds that a run may take: some of the tests measure for ten.
const LONGEST: &str = "120";

/// Runs the program and returns what it measured of the gateway that it started.
fn run(arguments: &[&str]) -> AgentsRun {
    let folder = TempDir::new().expect("the folder for temporary files is writable");
    let json = folder.path().join("report.json");
    // Every step of a run is bounded in time; one that hangs all the same is to be a failure with its last words.
    let output = Command::new("timeout")
        .args([LONGEST, env!("CARGO_BIN_EXE_tidegate-loadtest")])
        .args(["agents", "--count", "50", "--interval", "1s"])
        .args(arguments)
        .arg("--json")
        .arg(&json)
        .output()
        .expect("needs timeout, of the package coreutils");
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{errors}\n{text}");
    let Results::Agents(report) = Document::read(&json).expect("a report").results else {
        panic!("another measurement")
    };
    assert_eq!((report.runs.len(), report.setup.agents), (1, 50));
    let run = report.runs.into_iter().next().expect("one run");
    assert_eq!(run.target, Target::Gateway);
    assert_eq!(run.ramp.first_answer.count, 50);
    assert!(run.check_ins.adds_up(), "{:?}", run.check_ins);
    assert!(run.check_ins.answered > 0);
    run
}

/// Nothing failed, and what was asked is what the schedule says: once an interval for each agent.
fn assert_flawless(run: &AgentsRun, seconds: u64) {
    let check_ins = &run.check_ins;
    assert_eq!((check_ins.scheduled, check_ins.answered), (50 * seconds, 50 * seconds), "{check_ins:?}");
    assert!(run.ramp.failures.is_empty(), "{:?}", run.ramp.failures);
}

#[test]
fn every_check_in_of_the_schedule_is_answered_over_http_2() {
    let run = run(&["--duration", "4s", "--idle-edges", "100"]);
    assert_flawless(&run, 4);
    let wire = run.wire.expect("the kernel counts what goes over its sockets");
    assert_eq!(wire.connections, 50);
    assert!(wire.bytes > wire.payload && wire.payload > 0, "{wire:?}");
    let server = run.server.expect("the gateway is on this machine");
    assert!(server.rss_kib > 0 && server.rss_peak_kib >= server.rss_kib, "{server:?}");
    // One sample a second; a busy machine may lose some.
    assert!(
        !run.series.is_empty() && run.series.iter().any(|second| second.connected == 50),
        "{:?}",
        run.series
    );
}

#[test]
fn a_new_connection_for_every_check_in_is_counted_whole() {
    let run = run(&["--duration", "3s", "--http1", "--reconnect-each"]);
    assert_flawless(&run, 3);
    let wire = run.wire.expect("the kernel counts what goes over its sockets");
    // A handshake alone is more than a check-in on a kept connection.
    assert!(wire.bytes_per_check_in.expect("there are some") > 1000.0, "{wire:?}");
}

#[test]
fn every_raised_flag_ends_in_a_stream_to_the_agents_service() {
    let run = run(&["--duration", "4s", "--wake", "10/s"]);
    assert_flawless(&run, 4);
    let wake = run.wake.expect("it was asked for");
    assert_eq!((wake.raised, wake.usable, wake.failed), (40, 40, 0), "{wake:?}");
    assert_eq!(wake.flag_to_usable.count, 40);
    assert!(wake.offer_to_tunnel.count >= 40, "{wake:?}");
}

#[test]
fn tunnels_are_open_at_once_and_carry_what_was_sent() {
    let run = run(&["--duration", "4s", "--tunnels", "40", "--carrying", "10"]);
    assert_flawless(&run, 4);
    let tunnels = run.tunnels.expect("they were asked for");
    assert_eq!((tunnels.wanted, tunnels.opened, tunnels.failed, tunnels.lost), (40, 40, 0, 0), "{tunnels:?}");
    let traffic = tunnels.traffic.expect("it was asked for");
    assert_eq!((traffic.streams, traffic.failed), (10, 0), "{traffic:?}");
    assert!(traffic.messages > 10, "{traffic:?}");
    assert_eq!(traffic.round_trip.count, traffic.messages);
    assert!(run.series.iter().any(|second| second.tunnels == 40), "{:?}", run.series);
}

#[test]
fn agents_that_vanish_come_back_and_so_do_all_after_a_restart() {
    let run = run(&["--duration", "10s", "--churn", "4/s", "--restart-at", "4s"]);
    let churn = run.churn.expect("it was asked for");
    assert_eq!(churn.vanished, 40, "{churn:?}");
    let restart = churn.restart.expect("it was asked for");
    assert_eq!(restart.back, 50, "{restart:?}");
    assert!(restart.all_back_s.is_some(), "{restart:?}");
}

#[test]
fn held_questions_bring_offers_at_once() {
    // Longer than a hold, so that answers of both kinds come: those that brought an offer, and those whose time was up.
    let run = run(&["--duration", "8s", "--hold", "5", "--wake", "5/s"]);
    let held = run.check_ins.held.clone().expect("it was asked for");
    let wake = run.wake.expect("it was asked for");
    assert_eq!((wake.raised, wake.usable, wake.failed), (40, 40, 0), "{wake:?}");
    assert!(held.offers > 0 && held.answered > held.offers, "{held:?}");
    assert_eq!(run.check_ins.failed, 0, "{:?}", run.check_ins);
}

#[test]
fn the_number_of_check_ins_is_planned_before_the_first_is_asked() {
    let plan = Plan::new(1, 50, std::time::Duration::from_secs(1));
    let at = std::time::Duration::from_millis;
    assert_eq!(plan.scheduled(at(1234), at(5234)), 200);
}

#[test]
fn a_run_that_could_not_finish_is_not_begun() {
    let output = Command::new(Path::new(env!("CARGO_BIN_EXE_tidegate-loadtest")))
        .args(["agents", "--count", "1000000", "--tunnels", "1000000"])
        .output()
        .expect("the program was built with this test");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(errors.contains("this run needs"), "{errors}");
}
