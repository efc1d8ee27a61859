//! A report on simulated agents as text. Pure.

use crate::agents::result::{AgentsReport, AgentsRun, Churn, Failures, Protocol, Setup, Target};
use crate::report::document::Results;
use crate::report::figures::{Figure, Name, figures, micros, short};
use crate::report::text::facts;
use crate::table::{Lean, Table};

/// The report for a terminal.
pub fn text(report: &AgentsReport) -> String {
    let mut text = format!("agents: {}\n{}\n", setup(&report.setup), facts(&report.circumstances));
    text += &table(report).text();
    for run in &report.runs {
        text.push('\n');
        for line in lines(run) {
            text += &line;
            text.push('\n');
        }
    }
    text
}

/// What was asked for, in a sentence.
pub fn setup(setup: &Setup) -> String {
    let protocol = match setup.protocol {
        Protocol::Http2 => "HTTP/2",
        Protocol::Http1 => "HTTP/1.1",
    };
    let mut parts = vec![
        format!("{} agents", setup.agents),
        format!("every {} s", short(setup.interval_ms as f64 / 1000.0)),
        format!("for {} s", short(setup.duration_s)),
        protocol.to_owned(),
    ];
    let mut also = |part: Option<String>| parts.extend(part);
    also((setup.idle_edges > 0).then(|| format!("{} idle edges beside them", setup.idle_edges)));
    also(setup.hold_s.map(|seconds| format!("held for {seconds} s")));
    also(setup.reconnect_each.then(|| "a new connection for each check-in".to_owned()));
    also(setup.wakes_per_s.map(|rate| format!("{} woken a second", short(rate))));
    also(setup.tunnels.map(|tunnels| format!("{tunnels} tunnels, {} of them carrying", setup.carrying)));
    also(setup.vanishing_per_s.map(|rate| format!("{} vanishing a second", short(rate))));
    also(setup.restart_at_s.map(|at| format!("the gateway restarted after {} s", short(at))));
    parts.join(", ")
}

/// The columns of the table.
const COLUMNS: [Name; 9] = [
    Name::Rate,
    Name::P50,
    Name::P99,
    Name::P999,
    Name::Max,
    Name::CpuEach,
    Name::MemoryEach,
    Name::WireBytes,
    Name::Failures,
];

/// Its figures, a part of the run in each row.
pub fn table(report: &AgentsReport) -> Table {
    let all = figures(&Results::Agents(report.clone()));
    let mut subjects: Vec<&str> = all.iter().map(|figure| figure.subject.as_str()).collect();
    subjects.dedup();
    let cell = |subject: &str, name: Name| {
        let is = |figure: &&Figure| figure.subject == subject && figure.name == name;
        all.iter().find(is).map_or_else(String::new, |figure| name.show(figure.value))
    };
    let row = |subject: &str| {
        let cells = COLUMNS.map(|name| cell(subject, name));
        [&[subject.to_owned()], &cells[..]].concat()
    };
    let head = ["rate /s", "p50", "p99", "p99.9", "max", "CPU each", "memory each", "wire each", "failures"];
    let head = head.map(|name| (name, Lean::Right));
    Table {
        head: [&[("what", Lean::Left)], &head[..]].concat(),
        rows: subjects.into_iter().map(row).collect(),
    }
}

/// What of a run is no figure of the table, a sentence each.
pub fn lines(run: &AgentsRun) -> Vec<String> {
    let whose = match run.target {
        Target::Gateway => "gateway",
        Target::RunningGateway => "gateway that ran already",
        Target::Floor => "floor",
    };
    let mut lines = Vec::new();
    let (ramp, checks) = (&run.ramp, &run.check_ins);
    lines.push(format!(
        "{whose}: {} s of measurement{}, after {} s to enrol and {} s until all were answered",
        short(run.seconds),
        if run.interrupted { " (interrupted)" } else { "" },
        short(ramp.enrol_seconds),
        short(ramp.seconds),
    ));
    lines.push(format!(
        "check-ins: {} scheduled, {} answered, {} failed, {} under way at the end{}",
        checks.scheduled,
        checks.answered,
        checks.failed,
        checks.cut,
        by_kind(&checks.failures),
    ));
    if let Some(held) = &checks.held {
        lines.push(format!("held: {} answers, {} of them with an offer", held.answered, held.offers));
    }
    if let Some(wire) = &run.wire {
        lines.push(format!(
            "on the wire: {} bytes a second for each agent, {} packets for each check-in, over {} connections",
            short(wire.bytes_per_agent_s),
            wire.packets_per_check_in.map_or_else(|| "no".to_owned(), short),
            wire.connections,
        ));
    }
    if let Some(server) = &run.server {
        lines.push(format!(
            "{whose}'s process: {} % of a core, {} MiB, {} at most, {} before the first agent",
            short(server.cpu_percent),
            server.rss_kib / 1024,
            server.rss_peak_kib / 1024,
            server.rss_before_kib / 1024,
        ));
    }
    lines.push(format!(
        "the harness itself: {} % of a core, {} MiB",
        short(run.harness.cpu_percent),
        run.harness.rss_kib / 1024
    ));
    if let Some(wake) = &run.wake {
        lines.push(format!(
            "woken: {} flags, {} usable, {} failed, {} under way at the end{}",
            wake.raised,
            wake.usable,
            wake.failed,
            wake.cut,
            by_kind(&wake.failures),
        ));
    }
    if let Some(tunnels) = &run.tunnels {
        lines.push(format!(
            "tunnels: {} of {} opened in {} s, {} lost{}",
            tunnels.opened,
            tunnels.wanted,
            short(tunnels.seconds),
            tunnels.lost,
            by_kind(&tunnels.failures),
        ));
    }
    lines.extend(run.churn.iter().flat_map(churn_lines));
    lines
}

fn churn_lines(churn: &Churn) -> Vec<String> {
    let mut lines = vec![format!(
        "churn: {} vanished, {} came back, {} without an answered check-in at most",
        churn.vanished,
        churn.returned,
        micros(churn.longest_silence_ms as f64 * 1000.0),
    )];
    if let Some(restart) = &churn.restart {
        let all =
            restart.all_back_s.map(|seconds| format!("all back {} s after it was ready", short(seconds)));
        lines.push(format!(
            "restart: down for {} s, up after {} s more, first answer after {} s; {}; {} seconds without an answer since",
            short(restart.down_s),
            short(restart.up_s),
            short(restart.first_answer_s),
            all.unwrap_or_else(|| format!("{} back at the end", restart.back)),
            restart.silent_seconds,
        ));
    }
    lines
}

fn by_kind(failures: &Failures) -> String {
    let kinds: Vec<String> =
        failures.iter().map(|(kind, count)| format!("{count} {}", kind.name())).collect();
    if kinds.is_empty() { String::new() } else { format!(" (failed: {})", kinds.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn the_text_has_every_part_of_the_run() {
        let Results::Agents(report) = sample::agents() else { panic!("another measurement") };
        let text = text(&report);
        for part in [
            "agents: 15000 agents, every 5.00 s, for 10.0 s, HTTP/2, 50.0 woken a second",
            "commit: abc",
            "| gateway, check-ins ",
            "| floor, check-ins ",
            "| gateway, flag to usable stream ",
            "1 failed, 0 under way at the end (failed: 1 no answer in time)",
            "restart: down for 1.00 s",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
