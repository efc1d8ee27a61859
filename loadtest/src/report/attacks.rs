//! A report on attacks as text. Pure.

use std::collections::BTreeMap;

use crate::agents::result::Latency;
use crate::attacks::result::{AttacksReport, Phase, Setup};
use crate::report::figures::{micros, short};
use crate::report::text::facts;
use crate::table::{Lean, Table};

/// The report for a terminal.
pub fn text(report: &AttacksReport) -> String {
    let mut text = format!("attacks: {}\n{}\n", setup(&report.setup), facts(&report.circumstances));
    text += &table(report).text();
    text.push('\n');
    for line in lines(report) {
        text += &line;
        text.push('\n');
    }
    text
}

/// What was asked for, in a sentence.
pub fn setup(setup: &Setup) -> String {
    format!(
        "{} honest agents every {} s, {} honest tunnels with traffic, {} s for each attack at least, {} of its full size, \
         {} MiB of memory",
        setup.agents,
        short(setup.interval_ms as f64 / 1000.0),
        setup.tunnels,
        setup.seconds,
        short(setup.scale),
        setup.memory_budget_mib,
    )
}

/// An attack in each row.
pub fn table(report: &AttacksReport) -> Table {
    let numbers = [
        "sent",
        "p50",
        "p99",
        "max",
        "failures",
        "tunnels p99",
        "failures",
        "CPU s",
        "memory MiB",
        "files",
        "recovery",
    ];
    let head = numbers.map(|name| (name, Lean::Right));
    let words = [("attack", Lean::Left)];
    let fates = [("what became of it", Lean::Left), ("as it must be", Lean::Left)];
    Table {
        head: [&words[..], &head, &fates].concat(),
        rows: report.phases.iter().map(|phase| row(phase, &report.setup)).collect(),
    }
}

fn row(phase: &Phase, setup: &Setup) -> Vec<String> {
    let (honest, gateway) = (&phase.honest, &phase.gateway);
    let check_ins: u64 = honest.check_ins_failed.values().sum();
    let verdict = if phase.faults(setup).is_empty() { "yes" } else { "NO" };
    let failures = |count: u64| if phase.restarted { String::new() } else { count.to_string() };
    vec![
        phase.name.clone(),
        phase.sent.to_string(),
        at(&honest.check_ins, |percentiles| percentiles.p50_us),
        at(&honest.check_ins, |percentiles| percentiles.p99_us),
        at(&honest.check_ins, |percentiles| percentiles.max_us),
        failures(check_ins),
        at(&honest.messages, |percentiles| percentiles.p99_us),
        failures(honest.failures() - check_ins),
        short(gateway.cpu_seconds),
        (gateway.rss_max_kib / 1024).to_string(),
        gateway.files_max.to_string(),
        phase.recovery_ms.map_or_else(|| "none".to_owned(), |ms| micros(ms as f64 * 1000.0)),
        fates(&phase.fates),
        verdict.to_owned(),
    ]
}

fn at(latency: &Latency, which: impl Fn(&crate::statistics::Percentiles) -> u64) -> String {
    latency.percentiles.as_ref().map_or_else(String::new, |percentiles| micros(which(percentiles) as f64))
}

fn fates(fates: &BTreeMap<String, u64>) -> String {
    let each: Vec<String> = fates.iter().map(|(fate, count)| format!("{count} {fate}")).collect();
    each.join(", ")
}

/// What is no cell of the table: what each attack does, and what was not as it must be.
pub fn lines(report: &AttacksReport) -> Vec<String> {
    let attacks = report.phases.iter().map(|phase| format!("{}: {}", phase.name, phase.about));
    let faults = report.faults();
    let verdict = match faults.len() {
        0 => "everything was as it must be".to_owned(),
        count => format!("{count} things were not as they must be:"),
    };
    attacks.chain([verdict]).chain(faults).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::document::Results;
    use crate::report::sample;

    #[test]
    fn the_text_has_each_attack_and_what_was_wrong_with_it() {
        let Results::Attacks(mut report) = sample::attacks() else { panic!("another measurement") };
        assert!(text(&report).contains("everything was as it must be"));
        report.phases[1].wrong.push("a guess was right".to_owned());
        let text = text(&report);
        for part in ["slow-banner", "9000 turned away", "| NO ", "slow-banner: a guess was right"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
