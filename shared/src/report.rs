//! What `doctor` says, of the gateway and of the agent: one line for each thing that was looked at, and what to do next.
//!
//! The rule: whoever reads a warning or a failure knows what to do about it from this report alone.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::terminal::{Cell, Style, Text};

/// A `date` header has whole seconds, and a slow answer costs some: less than this says nothing.
const SKEW_NOTED: Duration = Duration::from_secs(10);
/// With more than this, certificates begin to fail.
const SKEW_BAD: Duration = Duration::from_secs(300);

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Outcome {
    /// As it should be.
    #[serde(rename = "ok")]
    Ok,
    /// It works, and will not for ever, or not for everybody.
    #[serde(rename = "warn")]
    Warning,
    /// It does not work.
    #[serde(rename = "fail")]
    Failure,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What, in a word or two.
    pub name: String,
    /// How it is.
    pub outcome: Outcome,
    /// What was found.
    pub found: String,
    /// What to do next; always there unless it is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl Check {
    /// It is well.
    pub fn ok(name: impl Into<String>, found: impl Into<String>) -> Self {
        Self { name: name.into(), outcome: Outcome::Ok, found: found.into(), next: None }
    }

    /// Somebody should do this soon.
    pub fn warn(name: impl Into<String>, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self { name: name.into(), outcome: Outcome::Warning, found: found.into(), next: Some(next.into()) }
    }

    /// Somebody must do this.
    pub fn fail(name: impl Into<String>, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self { name: name.into(), outcome: Outcome::Failure, found: found.into(), next: Some(next.into()) }
    }

    /// How far this machine's clock is from the gateway's, which made its answer at `there`.
    pub fn clock(there: SystemTime, here: SystemTime, round_trip: Duration) -> Self {
        let (name, next) = ("clock", "set the clock that is wrong by NTP: `timedatectl set-ntp true`");
        let (ahead, skew) = match here.duration_since(there) {
            Ok(ahead) => ("ahead of", ahead.saturating_sub(round_trip)),
            Err(error) => ("behind", error.duration()),
        };
        let found = format!("this machine's is {} s {ahead} the gateway's", skew.as_secs());
        match skew {
            skew if skew < SKEW_NOTED => Self::ok(name, "as the gateway's, to some seconds"),
            skew if skew < SKEW_BAD => Self::warn(name, found, next),
            _ => Self::fail(name, found, next),
        }
    }
}

/// All that was looked at, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// One after the other.
    pub checks: Vec<Check>,
}

impl Report {
    /// Adds what was found.
    pub fn add(&mut self, check: Check) {
        self.checks.push(check);
    }

    /// How the worst of them ended.
    pub fn worst(&self) -> Outcome {
        self.checks.iter().map(|check| check.outcome).max().unwrap_or(Outcome::Ok)
    }

    /// As people read it.
    pub fn text(&self) -> Text {
        let rows = self.checks.iter().flat_map(|check| {
            let (style, word) = word(check.outcome);
            let found = [Cell::styled(style, word), check.name.as_str().into(), check.found.as_str().into()];
            let next = check.next.as_ref().map(|next| ["".into(), "".into(), format!("→ {next}").into()]);
            [Some(found), next].into_iter().flatten()
        });
        Text::table(["", "CHECK", "FOUND"], rows).then(Text::lines(&self.summary()))
    }

    fn summary(&self) -> String {
        let count = |outcome| self.checks.iter().filter(|check| check.outcome == outcome).count();
        match (count(Outcome::Warning), count(Outcome::Failure)) {
            (0, 0) => format!("{} checks, all is well\n", self.checks.len()),
            (warnings, failures) => {
                format!("{} checks: {warnings} to look at, {failures} to mend\n", self.checks.len())
            }
        }
    }
}

fn word(outcome: Outcome) -> (Style, &'static str) {
    match outcome {
        Outcome::Ok => (Style::Good, "ok"),
        Outcome::Warning => (Style::Warning, "warn"),
        Outcome::Failure => (Style::Bad, "fail"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_is_as_bad_as_its_worst_check_and_says_what_to_do_next() {
        let mut report = Report::default();
        assert_eq!(report.worst(), Outcome::Ok);
        report.add(Check::ok("clock", "1 s behind"));
        report.add(Check::fail("disk", "full", "make room"));
        report.add(Check::warn("certificate", "ends in 7 days", "renew it"));
        assert_eq!(report.worst(), Outcome::Failure);
        let text = report.text().render(false);
        for part in ["ok    clock", "fail  disk", "→ make room", "3 checks: 1 to look at, 1 to mend"] {
            assert!(text.contains(part), "{part} is missing:\n{text}");
        }
        let json = serde_json::to_value(&report).expect("strings");
        assert_eq!(json["checks"][2]["outcome"], "warn");
        assert!(json["checks"][0].get("next").is_none());
    }

    #[test]
    fn a_slow_answer_is_no_wrong_clock() {
        let now = SystemTime::now();
        let clock = |behind: u64, round_trip: u64| {
            Check::clock(now - Duration::from_secs(behind), now, Duration::from_secs(round_trip)).outcome
        };
        assert_eq!([clock(3, 0), clock(25, 20), clock(25, 0)], [Outcome::Ok, Outcome::Ok, Outcome::Warning]);
        let behind = Check::clock(now + Duration::from_secs(4000), now, Duration::ZERO);
        assert_eq!(behind.outcome, Outcome::Failure);
        assert!(behind.found.contains("4000 s behind"), "{behind:?}");
    }
}
