//! Reports of bulk data and of requests as text: who reads them on a terminal sees columns, and Markdown a table.

use crate::machine::Circumstances;
use crate::report::{BulkRow, Ours, Report, RequestRow};
use crate::statistics::Spread;
use crate::table::{Lean, Table};

/// The throughput report for people.
pub fn bulk(title: &str, report: &Report<BulkRow>) -> String {
    format!("{}{}", preamble(title, report), bulk_table(report).text())
}

/// The table alone.
pub fn bulk_table(report: &Report<BulkRow>) -> Table {
    let head = vec![
        ("direction", Lean::Left),
        ("streams", Lean::Right),
        ("way", Lean::Left),
        ("MiB/s", Lean::Right),
        ("spread", Lean::Right),
        ("ours to it", Lean::Right),
        ("spread", Lean::Right),
        ("CPU s/GiB", Lean::Right),
        ("ours to it", Lean::Right),
        ("failures", Lean::Right),
    ];
    let rows: Vec<Vec<String>> = report
        .rows
        .iter()
        .map(|row| {
            let mut cells = vec![
                row.case.direction.name().to_owned(),
                row.case.streams.to_string(),
                row.way.name().to_owned(),
            ];
            cells.extend(rate_cells(&row.rate, row.ours.as_ref()));
            cells.push(row.cost.map_or_else(String::new, |cost| format!("{cost:.2}")));
            let cpu = row.ours.and_then(|ours| ours.cpu);
            cells.push(cpu.map_or_else(String::new, |ratio| format!("{:.2}", ratio.median)));
            cells.push(row.failures.to_string());
            cells
        })
        .collect();
    Table { head, rows }
}

/// The latency report for people.
pub fn requests(report: &Report<RequestRow>) -> String {
    format!("{}{}", preamble("latency", report), request_table(report).text())
}

/// The table alone.
pub fn request_table(report: &Report<RequestRow>) -> Table {
    let head = vec![
        ("requests", Lean::Left),
        ("way", Lean::Left),
        ("requests/s", Lean::Right),
        ("spread", Lean::Right),
        ("ours to it", Lean::Right),
        ("spread", Lean::Right),
        ("p50 ms", Lean::Right),
        ("p99 ms", Lean::Right),
        ("p99.9 ms", Lean::Right),
        ("max ms", Lean::Right),
        ("bulk MiB/s", Lean::Right),
        ("failures", Lean::Right),
    ];
    let milliseconds = |us: u64| format!("{:.2}", us as f64 / 1000.0);
    let rows: Vec<Vec<String>> = report
        .rows
        .iter()
        .map(|row| {
            let mut cells = vec![row.case.name().to_owned(), row.way.name().to_owned()];
            cells.extend(rate_cells(&row.rate, row.ours.as_ref()));
            let percentiles = row.cost.as_ref().map(|cost| cost.percentiles);
            let latencies = percentiles.map(|cost| [cost.p50_us, cost.p99_us, cost.p999_us, cost.max_us]);
            cells.extend(latencies.map_or_else(Default::default, |latencies| latencies.map(milliseconds)));
            cells.push(row.bulk_beside().map_or_else(String::new, |bulk| format!("{:.0}", bulk.median)));
            cells.push(row.failures.to_string());
            cells
        })
        .collect();
    Table { head, rows }
}

fn rate_cells(rate: &Spread, ours: Option<&Ours>) -> [String; 4] {
    let range =
        |spread: &Spread, digits: usize| format!("{:.digits$}–{:.digits$}", spread.lowest, spread.highest);
    // Over a path that loses packets, rates are a few MiB a second.
    let digits = if rate.median < 10.0 { 2 } else { 0 };
    let (ratio, ratio_range) =
        ours.map_or_else(Default::default, |ours| (format!("{:.2}", ours.rate.median), range(&ours.rate, 2)));
    [format!("{:.digits$}", rate.median), range(rate, digits), ratio, ratio_range]
}

fn preamble<R>(what: &str, report: &Report<R>) -> String {
    let missing = match &report.missing[..] {
        [] => String::new(),
        missing => format!("missing: {} (ci/install-peers builds them)\n", missing.join(", ")),
    };
    let Report { each, rounds, circumstances, .. } = report;
    format!("{what}: {each}, {rounds} rounds in turn\n{}{missing}\n", facts(circumstances))
}

/// What one must know to repeat it, in three lines.
pub fn facts(circumstances: &Circumstances) -> String {
    let Circumstances { cpu, cores, kernel, load, commit, date, command, seed } = circumstances;
    format!(
        "machine: {cpu}, {cores} cores, {kernel}, load {load}\n\
         commit: {commit}   date: {date}   seed: {seed}\n\
         command: {command}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Requests, Way};
    use crate::report::tests::{CASE, bulk, circumstances};
    use crate::report::{RequestSample, bulk_rows, request_rows};

    #[test]
    fn the_text_says_how_to_repeat_the_run() {
        let rows = bulk_rows(&[CASE], &Way::ALL, &[(CASE, Way::Upgrade, bulk(256, 2.0))]);
        let report = Report {
            circumstances: circumstances(),
            each: "256 MiB each".to_owned(),
            rounds: 1,
            missing: Vec::new(),
            rows,
        };
        let text = super::bulk("throughput", &report);
        for part in [
            "some CPU",
            "commit: abc",
            "seed: 1",
            "tidegate-loadtest throughput",
            "| tidegate upgrade | ",
            " 128 |",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!(report.failures(), 0);
    }

    #[test]
    fn a_row_where_everything_failed_is_shown_with_empty_cells() {
        let failed = RequestSample { failures: 3, ..RequestSample::default() };
        let rows = request_rows(&[Requests::One], &Way::ALL, &[(Requests::One, Way::Upgrade, failed)]);
        let report = Report {
            circumstances: circumstances(),
            each: "1 s each".to_owned(),
            rounds: 1,
            missing: Vec::new(),
            rows,
        };
        let text = requests(&report);
        let last = text.lines().last().unwrap_or_default();
        assert!(last.trim_end_matches([' ', '|']).ends_with('3'), "{text}");
    }
}
