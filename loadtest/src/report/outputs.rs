//! Where a report goes: the terminal, files, a comparison with an earlier one, bounds; and the exit status.

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::report::bounds::{Bound, broken};
use crate::report::compare::compare;
use crate::report::document::{Document, Results};
use crate::report::figures::{failures, figures};
use crate::report::{agents, attacks, page, text};

/// Where a report goes.
#[derive(Args, Clone, Debug, Default)]
pub struct Outputs {
    /// Write the report to this file as JSON too
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write it to this file as a page too: charts, and nothing that has to be fetched
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Show what changed since this earlier report (JSON)
    #[arg(long, value_name = "FILE")]
    pub compare: Option<PathBuf>,
    /// End with exit status 6 if one of our figures is over this: p50, p99, p99.9, max, failures and others; may be given
    /// several times
    #[arg(long, value_name = "NAME=LIMIT")]
    pub fail_over: Vec<Bound>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything was as it should be.
    Fine,
    /// Something that was measured failed.
    Failures(u64),
    /// Nothing that bounds do not allow failed, but one of them is broken.
    BoundBroken,
}

impl Outputs {
    /// Reads the earlier report, so that a wrong file is found before an hour of measurement and not after it.
    ///
    /// # Errors
    /// If it is not one.
    pub fn earlier(&self) -> Result<Option<Document>> {
        self.compare.as_ref().map(|file| Document::read(file)).transpose().context("nothing to compare with")
    }

    /// Writes the report everywhere and says how the run ended.
    ///
    /// # Errors
    /// If a file can't be written, or the earlier report is of another plan. The report is on the terminal by then.
    pub fn publish(&self, results: Results, earlier: Option<&Document>) -> Result<Outcome> {
        let document = Document::new(results);
        let results = &document.results;
        print(&terminal(results))?;
        if let Some(file) = &self.json {
            fs::write(file, document.to_json()).with_context(|| format!("can't write {}", file.display()))?;
        }
        let comparison = earlier.map(|earlier| compare(&earlier.results, results)).transpose();
        let broken = broken(&self.fail_over, &figures(results));
        if let Some(file) = &self.html {
            let compared = comparison.as_ref().ok().and_then(Option::as_ref);
            let page = page::page(results, compared, &broken);
            fs::write(file, page).with_context(|| format!("can't write {}", file.display()))?;
        }
        if let Some(comparison) = comparison? {
            print(&comparison.text())?;
        }
        for sentence in &broken {
            print(sentence)?;
        }
        Ok(match (broken.is_empty(), failures(results)) {
            (false, _) => Outcome::BoundBroken,
            (true, 0) => Outcome::Fine,
            (true, failures) => Outcome::Failures(failures),
        })
    }
}

/// The report for a terminal.
pub fn terminal(results: &Results) -> String {
    match results {
        Results::Throughput(report) | Results::Path(report) => text::bulk(results.name(), report),
        Results::Latency(report) => text::requests(report),
        Results::Agents(report) => agents::text(report),
        Results::Attacks(report) => attacks::text(report),
    }
}

fn print(text: &str) -> Result<()> {
    writeln!(io::stdout(), "{text}").context("can't write to standard output")
}
