//! The JSON of a report: which measurement it is, and the version of its form. Pure but for [`Document::read`].
//!
//! A field that is added has a default and changes no version. One that is taken away or means something else does.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::agents::result::AgentsReport;
use crate::attacks::result::AttacksReport;
use crate::machine::Circumstances;
use crate::report::{BulkRow, Report, RequestRow};

/// The version of the form that this program writes, and the only one that it reads.
pub const SCHEMA: u32 = 1;

/// A report with what a reader must know of its form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// [`SCHEMA`] when it was written.
    pub schema: u32,
    /// The report.
    #[serde(flatten)]
    pub results: Results,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "measurement", content = "report", rename_all = "kebab-case")]
pub enum Results {
    /// Bulk data on the loopback interface.
    Throughput(Report<BulkRow>),
    /// Bulk data over a path.
    Path(Report<BulkRow>),
    /// Small requests.
    Latency(Report<RequestRow>),
    /// Thousands of agents.
    Agents(AgentsReport),
    /// Attacks beside honest agents.
    Attacks(AttacksReport),
}

impl Results {
    /// As the command line calls the measurement.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Throughput(_) => "throughput",
            Self::Path(_) => "path",
            Self::Latency(_) => "latency",
            Self::Agents(_) => "agents",
            Self::Attacks(_) => "attacks",
        }
    }

    /// On what, of what, when and how.
    pub fn circumstances(&self) -> &Circumstances {
        match self {
            Self::Throughput(report) | Self::Path(report) => &report.circumstances,
            Self::Latency(report) => &report.circumstances,
            Self::Agents(report) => &report.circumstances,
            Self::Attacks(report) => &report.circumstances,
        }
    }
}

/// Why a file is no report.
#[derive(Debug, Error)]
pub enum NoReport {
    /// It can't be read.
    #[error("can't read {0}")]
    Unreadable(PathBuf, #[source] std::io::Error),
    /// It is not JSON, or not ours.
    #[error("{0} is no report of tidegate-loadtest: give a file that it wrote with --json")]
    Foreign(PathBuf, #[source] Option<serde_json::Error>),
    /// It has another form.
    #[error(
        "{file} has the form {found}, and this program reads {SCHEMA}: use the release that wrote it, or measure again"
    )]
    OtherSchema {
        /// The file.
        file: PathBuf,
        /// Its version.
        found: u64,
    },
}

impl Document {
    /// These results in today's form.
    pub fn new(results: Results) -> Self {
        Self { schema: SCHEMA, results }
    }

    /// The one in this file.
    ///
    /// # Errors
    /// If there is none that this program understands.
    pub fn read(file: &Path) -> Result<Self, NoReport> {
        let bytes = fs::read(file).map_err(|error| NoReport::Unreadable(file.to_owned(), error))?;
        let foreign = |error| NoReport::Foreign(file.to_owned(), Some(error));
        let value: Value = serde_json::from_slice(&bytes).map_err(foreign)?;
        // The version first: what another one holds need not make sense here.
        match value["schema"].as_u64() {
            Some(found) if found == u64::from(SCHEMA) => serde_json::from_value(value).map_err(foreign),
            Some(found) => Err(NoReport::OtherSchema { file: file.to_owned(), found }),
            None => Err(NoReport::Foreign(file.to_owned(), None)),
        }
    }

    /// As it is written to a file.
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec_pretty(self).expect("maps with text as keys, and finite numbers");
        json.push(b'\n');
        json
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::figures::figures;
    use crate::report::sample;

    fn read(text: &[u8]) -> Result<Document, NoReport> {
        let folder = tempfile::TempDir::new().expect("the folder for temporary files is writable");
        let file = folder.path().join("report.json");
        fs::write(&file, text).expect("the folder is ours");
        Document::read(&file)
    }

    #[test]
    fn what_is_written_is_read_again() {
        for results in sample::all() {
            let document = Document::new(results);
            let again = read(&document.to_json()).expect("it is ours");
            let (before, after) = (figures(&document.results), figures(&again.results));
            assert_eq!(before.len(), after.len());
            for (before, after) in before.iter().zip(&after) {
                assert_eq!((&before.subject, before.name), (&after.subject, after.name));
                // Numbers with a fraction may differ in their last digit.
                let difference = (before.value - after.value).abs();
                assert!(difference <= before.value.abs() * 1e-12, "{before:?} became {after:?}");
            }
        }
    }

    #[test]
    fn a_report_of_another_form_and_a_foreign_file_are_refused_each_in_its_own_words() {
        let other = read(br#"{"schema": 2, "measurement": "dreams"}"#).expect_err("it is of another form");
        assert!(other.to_string().contains("has the form 2, and this program reads 1"), "{other}");
        for foreign in [&b"not JSON"[..], b"{}", b"[]", br#"{"schema": 1, "measurement": "dreams"}"#] {
            let refused = read(foreign).expect_err("it is not ours").to_string();
            assert!(refused.contains("no report of tidegate-loadtest"), "{refused}");
        }
        let missing = Document::read(Path::new("/nowhere/report.json")).expect_err("nobody is there");
        assert!(missing.to_string().contains("can't read"), "{missing}");
    }

    #[test]
    fn the_form_is_held_still() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        for results in sample::all() {
            let golden = folder.join(format!("{}.json", results.name()));
            let json = Document::new(results).to_json();
            if std::env::var_os("WRITE_GOLDEN").is_some() {
                fs::write(&golden, &json).expect("the folder is ours");
            }
            let expected = fs::read(&golden).expect("it is in the repository");
            // Who compares with an earlier report reads this form: what changes it decides on `SCHEMA` first.
            assert!(json == expected, "{} has another form: WRITE_GOLDEN=1 writes it", golden.display());
        }
    }
}
