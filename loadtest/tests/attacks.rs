//! Small runs of every attack against a real gateway, judged on correctness only: nothing is let in that must not be, the
//! gateway stays up, honest check-ins, tunnels and wakes do not fail. How fast they were is a matter of full runs.

use std::process::Command;

use loadtest::attacks::attack::Attack;
use loadtest::attacks::result::{AttacksReport, Phase};
use loadtest::report::document::{Document, Results};
use tempfile::TempDir;

/// Seconds that a run may take: beside three others on a busy machine.
const LONGEST: &str = "170";
/// What a busy machine may make of the only fault that is one of time.
const LATE: &str = "have a p99 of";

/// Attacks of those who have nothing, on port 8000.
const SSH: [Attack; 10] = [
    Attack::SlowBanner,
    Attack::SlowKeyExchange,
    Attack::SlowLogin,
    Attack::SlowNeighbours,
    Attack::KeyProbes,
    Attack::Guesses,
    Attack::Terrapin,
    Attack::PacketSizes,
    Attack::Compression,
    Attack::BeforeLogin,
];
/// Attacks on port 9000, whoever makes them.
const HTTP: [Attack; 10] = [
    Attack::SlowTls,
    Attack::SlowHead,
    Attack::SlowBody,
    Attack::Connections,
    Attack::Json,
    Attack::PackedBodies,
    Attack::Snapshot,
    Attack::RequestSmuggling,
    Attack::HostileAnswers,
    Attack::Html,
];
/// Attacks of those who have an edge's key: on what only they may ask for, and on streams.
const AGENTS: [Attack; 8] = [
    Attack::UserSwitch,
    Attack::Names,
    Attack::Channels,
    Attack::UnknownChannels,
    Attack::Windows,
    Attack::DeafStreams,
    Attack::Floods,
    Attack::Rekeys,
];
/// Attacks with credentials that were good once.
const CREDENTIALS: [Attack; 2] = [Attack::Replay, Attack::ReplayAfterRestart];

/// Runs these attacks, and returns what became of them.
fn run(attacks: &[Attack]) -> AttacksReport {
    let folder = TempDir::new().expect("the folder for temporary files is writable");
    let json = folder.path().join("report.json");
    let mut command = Command::new("timeout");
    command.args([LONGEST, env!("CARGO_BIN_EXE_tidegate-loadtest"), "attacks"]);
    command.args([
        "--agents",
        "30",
        "--interval",
        "1s",
        "--tunnels",
        "4",
        "--seconds",
        "1",
        "--scale",
        "0.01",
    ]);
    for attack in attacks {
        command.args(["--only", &attack.name()]);
    }
    let output = command.arg("--json").arg(&json).output().expect("needs timeout, of the package coreutils");
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(json.exists(), "{errors}\n{text}");
    let Results::Attacks(report) = Document::read(&json).expect("a report").results else {
        panic!("another measurement")
    };
    let faults: Vec<String> = report.faults().into_iter().filter(|fault| !fault.contains(LATE)).collect();
    assert!(faults.is_empty(), "{faults:#?}\n{errors}\n{text}");
    let names: Vec<String> = report.phases.iter().skip(1).map(|phase| phase.name.clone()).collect();
    assert_eq!(names, attacks.iter().map(|attack| attack.name()).collect::<Vec<_>>(), "each was run");
    assert!(report.phases[1..].iter().all(attacked), "{text}");
    report
}

/// An attack that sends nothing, or of which nothing becomes, shows nothing.
fn attacked(phase: &Phase) -> bool {
    phase.sent > 0 && phase.fates.values().sum::<u64>() > 0
}

fn fate(report: &AttacksReport, attack: Attack, fate: &str) -> u64 {
    let phase = report.phases.iter().find(|phase| phase.name == attack.name()).expect("it was run");
    phase.fates.get(fate).copied().unwrap_or(0)
}

#[test]
fn strangers_at_the_tunnel_port_get_nowhere_and_keep_nobody_from_their_work() {
    let report = run(&SSH);
    for attack in [Attack::Terrapin, Attack::KeyProbes, Attack::Guesses] {
        assert_eq!(fate(&report, attack, "granted"), 0, "{attack:?}");
    }
    assert!(fate(&report, Attack::KeyProbes, "refused") > 0);
    assert!(fate(&report, Attack::Guesses, "answered 401") > 0);
    assert!(fate(&report, Attack::Compression, "granted") > 0, "beside none, compression is not agreed on");
}

#[test]
fn bodies_and_pages_are_what_they_should_be_or_nothing() {
    run(&HTTP);
}

#[test]
fn a_stolen_agent_gets_what_it_announced_and_stops_nobody() {
    let report = run(&AGENTS);
    assert!(fate(&report, Attack::Channels, "refused") > 0);
    assert!(fate(&report, Attack::DeafStreams, "granted") > 0, "streams were opened");
}

#[test]
fn credentials_let_one_login_in_and_none_when_they_are_over() {
    let report = run(&CREDENTIALS);
    assert_eq!(fate(&report, Attack::Replay, "granted"), 1, "one of many at once");
}

#[test]
fn every_attack_is_in_one_of_the_small_runs() {
    let runs: [&[Attack]; 4] = [&SSH, &HTTP, &AGENTS, &CREDENTIALS];
    let mut all: Vec<String> = runs.concat().iter().map(|attack| attack.name()).collect();
    let mut names: Vec<String> = Attack::all().map(Attack::name).collect();
    all.sort();
    names.sort();
    assert_eq!(all, names);
}
