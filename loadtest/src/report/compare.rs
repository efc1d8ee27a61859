//! What changed since an earlier report. Pure.
//!
//! Only reports of the same plan are compared: of the same measurement with the same sizes. The number of rounds, the
//! machine and the commit may differ; what differs is said.

use std::fmt;

use serde_json::Value;
use thiserror::Error;

use crate::report::document::Results;
use crate::report::figures::{Figure, figures};
use crate::table::{Lean, Table};

/// Differences up to this share are not called better or worse: two runs of the same programs on the same idle machine
/// differ by so much.
const NOISE: f64 = 0.05;

/// Why two reports can't be compared.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Incomparable {
    /// They measured different things.
    #[error("the earlier report is of `{earlier}` and this one of `{now}`: compare like with like")]
    Measurement {
        /// What the earlier one measured.
        earlier: &'static str,
        /// What this one did.
        now: &'static str,
    },
    /// They measured the same in different ways.
    #[error(
        "the earlier report has another plan ({what}: {earlier} then, {now} now): repeat its command, `{command}`"
    )]
    Plan {
        /// What of the plan.
        what: String,
        /// Then.
        earlier: String,
        /// Now.
        now: String,
        /// The earlier report's command.
        command: String,
    },
}

/// What became of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It changed for the better.
    Better,
    /// It did not change by more than noise.
    Same,
    /// It changed for the worse.
    Worse,
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Better => "better",
            Self::Same => "",
            Self::Worse => "worse",
        })
    }
}

/// A figure then and now.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// As it is now.
    pub figure: Figure,
    /// Then.
    pub before: f64,
    /// Now by then; absent where it was 0.
    pub ratio: Option<f64>,
    /// Whether that is good.
    pub verdict: Verdict,
}

/// What changed, and what can't be said.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Date and commit of the earlier report.
    pub since: String,
    /// Machine, where it was another one.
    pub other_machine: Option<String>,
    /// Figures that both have.
    pub changes: Vec<Change>,
    /// Figures that only one has: a peer that was missing, a part that was not measured.
    pub alone: usize,
}

/// Compares two reports.
///
/// # Errors
/// If they are not of the same plan.
pub fn compare(earlier: &Results, now: &Results) -> Result<Comparison, Incomparable> {
    same_plan(earlier, now)?;
    let (then, today) = (figures(earlier), figures(now));
    let changes: Vec<Change> = today
        .iter()
        .filter_map(|figure| {
            let before =
                then.iter().find(|old| (&old.subject, old.name) == (&figure.subject, figure.name))?;
            Some(change(figure, before.value))
        })
        .collect();
    let (was, is) = (earlier.circumstances(), now.circumstances());
    let machine = |cpu: &str, cores, kernel: &str| format!("{cpu}, {cores} cores, {kernel}");
    let other = machine(&was.cpu, was.cores, &was.kernel);
    Ok(Comparison {
        since: format!("{}, commit {}", was.date, was.commit),
        other_machine: (other != machine(&is.cpu, is.cores, &is.kernel)).then_some(other),
        alone: then.len() + today.len() - 2 * changes.len(),
        changes,
    })
}

fn change(figure: &Figure, before: f64) -> Change {
    let now = figure.value;
    let ratio = (before != 0.0).then(|| now / before);
    // From 0 to anything is a change, however small.
    let small = match ratio {
        Some(ratio) => (ratio - 1.0).abs() <= NOISE,
        None => now == 0.0,
    };
    let verdict = match (small, (now > before) == figure.name.more_is_better()) {
        (true, _) => Verdict::Same,
        (false, true) => Verdict::Better,
        (false, false) => Verdict::Worse,
    };
    Change { figure: figure.clone(), before, ratio, verdict }
}

fn same_plan(earlier: &Results, now: &Results) -> Result<(), Incomparable> {
    if earlier.name() != now.name() {
        return Err(Incomparable::Measurement { earlier: earlier.name(), now: now.name() });
    }
    let (then, today) = (plan(earlier), plan(now));
    let Some((what, today, then)) = difference(&today, &then) else { return Ok(()) };
    let command = earlier.circumstances().command.clone();
    Err(Incomparable::Plan { what, earlier: then, now: today, command })
}

/// What must be the same in both, by name.
fn plan(results: &Results) -> Value {
    match results {
        Results::Throughput(report) | Results::Path(report) => serde_json::json!({ "each": report.each }),
        Results::Latency(report) => serde_json::json!({ "each": report.each }),
        Results::Attacks(report) => serde_json::to_value(&report.setup).expect("a struct of plain values"),
        Results::Agents(report) => {
            let mut setup = serde_json::to_value(&report.setup).expect("a struct of plain values");
            // How the harness splits its own work is not what it asks of the gateway.
            if let Some(fields) = setup.as_object_mut() {
                fields.remove("workers");
            }
            setup
        }
    }
}

/// The first thing in which two plans differ, with both values.
fn difference(one: &Value, other: &Value) -> Option<(String, String, String)> {
    let names = one.as_object()?.keys();
    let mut differing = names.filter(|name| one[name.as_str()] != other[name.as_str()]);
    let name = differing.next()?;
    Some((name.clone(), one[name.as_str()].to_string(), other[name.as_str()].to_string()))
}

impl Comparison {
    /// The figures, one a row.
    pub fn table(&self) -> Table {
        let head = vec![
            ("what", Lean::Left),
            ("figure", Lean::Left),
            ("then", Lean::Right),
            ("now", Lean::Right),
            ("ratio", Lean::Right),
            ("", Lean::Left),
        ];
        Table { head, rows: self.changes.iter().map(cells).collect() }
    }

    /// What to know before reading them: since when, where, and what is left out.
    pub fn heading(&self) -> String {
        let machine = self.other_machine.as_ref().map(|machine| format!("another machine then: {machine}"));
        let alone = (self.alone > 0).then(|| format!("{} figures are in one of both only", self.alone));
        let lines = [Some(format!("since {}", self.since)), machine, alone];
        lines.into_iter().flatten().collect::<Vec<_>>().join("\n")
    }

    /// The comparison for a terminal.
    pub fn text(&self) -> String {
        format!("{}\n\n{}", self.heading(), self.table().text())
    }
}

fn cells(change: &Change) -> Vec<String> {
    let Figure { subject, name, value, .. } = &change.figure;
    vec![
        subject.clone(),
        name.to_string(),
        name.show(change.before),
        name.show(*value),
        change.ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}")),
        change.verdict.to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::figures::Name;
    use crate::report::sample;

    fn verdict(name: Name, before: f64, now: f64) -> Verdict {
        change(&Figure { subject: "a".to_owned(), name, value: now, ours: true }, before).verdict
    }

    #[test]
    fn more_is_better_for_rates_and_worse_for_times_beyond_noise() {
        for (name, before, now, expected) in [
            (Name::Rate, 100.0, 110.0, Verdict::Better),
            (Name::Rate, 100.0, 90.0, Verdict::Worse),
            (Name::Rate, 100.0, 104.0, Verdict::Same),
            (Name::P99, 100.0, 110.0, Verdict::Worse),
            (Name::P99, 100.0, 50.0, Verdict::Better),
            (Name::Failures, 0.0, 0.0, Verdict::Same),
            (Name::Failures, 0.0, 1.0, Verdict::Worse),
        ] {
            assert_eq!(verdict(name, before, now), expected, "{name}: {before} → {now}");
        }
    }

    #[test]
    fn a_report_is_the_same_as_itself() {
        for results in sample::all() {
            let comparison = compare(&results, &results).expect("the same plan");
            assert!(!comparison.changes.is_empty());
            assert_eq!((comparison.alone, &comparison.other_machine), (0, &None));
            assert!(comparison.changes.iter().all(|change| change.verdict == Verdict::Same));
        }
    }

    #[test]
    fn what_only_one_report_has_is_counted_and_another_machine_is_named() {
        let earlier = sample::throughput(200);
        let mut now = sample::throughput(100);
        let Results::Throughput(report) = &mut now else { panic!("another measurement") };
        report.rows.pop();
        report.circumstances.cores = 64;
        let comparison = compare(&earlier, &now).expect("the same plan");
        assert_eq!(comparison.alone, 3);
        let text = comparison.text();
        for part in [
            "another machine then: some CPU, 2 cores",
            "3 figures are in one of both only",
            " 0.50 | worse |",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn other_measurements_and_other_plans_are_refused() {
        let refused = compare(&sample::latency(), &sample::throughput(1)).expect_err("another measurement");
        assert!(refused.to_string().contains("is of `latency` and this one of `throughput`"), "{refused}");

        let (earlier, mut now) = (sample::agents(), sample::agents());
        let Results::Agents(report) = &mut now else { panic!("another measurement") };
        report.setup.workers += 1;
        assert!(compare(&earlier, &now).is_ok(), "the harness's own processes are no plan");
        let Results::Agents(report) = &mut now else { panic!("another measurement") };
        report.setup.agents = 9;
        let refused = compare(&earlier, &now).expect_err("another plan").to_string();
        assert!(refused.contains("(agents: 15000 then, 9 now): repeat its command"), "{refused}");
    }
}
