//! A report as a section of a page that people write: `docs/benchmarks.md` has prose, and between two marks what was
//! measured. Pure.
//!
//! A section is named by its marks, `<!-- bench:throughput -->` and `<!-- /bench:throughput -->`, each on a line of its own.
//! What stands between them is written anew; nothing else is touched.

use thiserror::Error;

use crate::machine::Circumstances;
use crate::report::document::Results;
use crate::report::{Report, agents, attacks, text};

/// The page has no place for a section.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("there is no place for it: add the lines {begin} and {end}, in this order")]
pub struct NoPlace {
    begin: String,
    end: String,
}

/// The page with the section's content in its place.
///
/// # Errors
/// If it does not have one.
pub fn fill(page: &str, section: &str, content: &str) -> Result<String, NoPlace> {
    let (begin, end) = (format!("<!-- bench:{section} -->\n"), format!("<!-- /bench:{section} -->"));
    let place = page.split_once(&begin).and_then(|(before, rest)| Some((before, rest.split_once(&end)?.1)));
    let Some((before, after)) = place else {
        return Err(NoPlace { begin: begin.trim_end().to_owned(), end });
    };
    Ok(format!("{before}{begin}\n{}\n\n{end}{after}", content.trim_end()))
}

/// The report as a section.
pub fn section(results: &Results) -> String {
    let (lead, body) = match results {
        Results::Throughput(report) | Results::Path(report) => {
            (lead(report), text::bulk_table(report).text())
        }
        Results::Latency(report) => (lead(report), text::request_table(report).text()),
        Results::Agents(report) => {
            let lines: Vec<String> = report.runs.iter().flat_map(agents::lines).collect();
            let lines = lines.iter().map(|line| format!("- {line}\n")).collect::<String>();
            (agents::setup(&report.setup), format!("{}\n{lines}", agents::table(report).text()))
        }
        Results::Attacks(report) => {
            let lines: Vec<String> =
                attacks::lines(report).iter().map(|line| format!("- {line}\n")).collect();
            let table = attacks::table(report).text();
            (attacks::setup(&report.setup), format!("{table}\n{}", lines.concat()))
        }
    };
    format!("{}: {lead}.\n\n{}\n{body}", capital(results.name()), facts(results.circumstances()))
}

fn lead<R>(report: &Report<R>) -> String {
    let missing = match &report.missing[..] {
        [] => String::new(),
        missing => format!("; without {}, which could not be built", missing.join(" and ")),
    };
    format!("{}, {} rounds in turn{missing}", report.each, report.rounds)
}

fn facts(circumstances: &Circumstances) -> String {
    let Circumstances { cpu, cores, kernel, load, commit, date, command, seed } = circumstances;
    format!(
        "| | |\n| --- | --- |\n| machine | {cpu}, {cores} cores, {kernel}, load {load} |\n\
         | commit, date, seed | {commit}, {date}, {seed} |\n| command | `{command}` |\n"
    )
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    const PAGE: &str =
        "# A\n<!-- bench:a -->\nold\n<!-- /bench:a -->\nprose\n<!-- bench:b -->\n<!-- /bench:b -->\n";

    #[test]
    fn only_what_stands_between_the_marks_is_written_anew() {
        let filled = fill(PAGE, "a", "new\n").expect("it has a place");
        assert_eq!(filled, PAGE.replace("old\n", "\nnew\n\n"));
        assert_eq!(fill(&filled, "a", "new\n").as_ref(), Ok(&filled), "twice is once");
        assert!(
            fill(&filled, "b", "there").expect("it has a place").contains("-->\n\nthere\n\n<!-- /bench:b")
        );
    }

    #[test]
    fn a_page_without_the_place_is_told_what_it_lacks() {
        let refused = fill(PAGE, "c", "new").expect_err("it has no place").to_string();
        assert!(refused.contains("<!-- bench:c --> and <!-- /bench:c -->"), "{refused}");
        assert!(fill("<!-- /bench:d -->\n<!-- bench:d -->\n", "d", "new").is_err(), "in this order");
    }

    #[test]
    fn a_section_has_the_facts_and_the_table() {
        for results in sample::all() {
            let section = section(&results);
            for part in ["some CPU, 2 cores", "| abc, 2026-01-01T00:00:00Z, 1 |", "failures |"] {
                assert!(section.contains(part), "{part} in {section}");
            }
        }
    }
}
