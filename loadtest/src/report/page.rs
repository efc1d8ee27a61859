//! A report as one HTML file: style and charts are in it, it has no script, and its policy lets a browser fetch nothing.
//! Pure.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::agents::result::{AgentsReport, AgentsRun, Latency, Second, Target};
use crate::attacks::result::{AttacksReport, Phase};
use crate::machine::Circumstances;
use crate::plan::Way;
use crate::report::chart::{self, Bar, Line, Lines, Scale, bars};
use crate::report::compare::Comparison;
use crate::report::document::Results;
use crate::report::figures::{micros, short};
use crate::report::{BulkRow, Report, RequestRow, Row, agents, attacks, text};
use crate::table::{Lean, Table};

/// What a browser may do with it: show it.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";
const STYLE: &str = include_str!("page.css");

/// The page. `broken` are bounds that are, a sentence each.
pub fn page(results: &Results, comparison: Option<&Comparison>, broken: &[String]) -> String {
    let title = format!("Tidegate load test: {}", results.name());
    let (lead, body) = match results {
        Results::Throughput(report) | Results::Path(report) => (lead(report), bulk(report)),
        Results::Latency(report) => (lead(report), requests(report)),
        Results::Agents(report) => (agents::setup(&report.setup), of_agents(report)),
        Results::Attacks(report) => (attacks::setup(&report.setup), of_attacks(report)),
    };
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="content-security-policy" content=(POLICY);
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    h1 { (title) }
                    p.lead { (lead) }
                    (facts(results.circumstances()))
                    @for sentence in broken {
                        p.broken { (sentence) }
                    }
                    (body)
                    @if let Some(comparison) = comparison {
                        h2 { "Compared with an earlier report" }
                        p.heading { (comparison.heading()) }
                        (table(&comparison.table()))
                    }
                }
            }
        }
    };
    page.into_string()
}

fn of_attacks(report: &AttacksReport) -> Markup {
    let p99 = |whose: fn(&Phase) -> &Latency| -> Vec<Bar> {
        let judged = report.phases.iter().filter(|phase| !phase.restarted);
        let bar = |phase: &Phase| {
            let value = whose(phase).percentiles?.p99_us as f64;
            Some(Bar { name: phase.name.clone(), value, spread: None, ours: true })
        };
        judged.filter_map(bar).collect()
    };
    let charts = [
        bars("honest check-ins: p99", micros, &p99(|phase| &phase.honest.check_ins)),
        bars("messages through honest tunnels: p99", micros, &p99(|phase| &phase.honest.messages)),
    ];
    html! {
        h2 { "What the honest ones noticed" }
        (figures(charts))
        h2 { "All figures" }
        (table(&attacks::table(report)))
        @for line in attacks::lines(report) {
            p { (line) }
        }
    }
}

fn lead<R>(report: &Report<R>) -> String {
    let missing = match &report.missing[..] {
        [] => String::new(),
        missing => format!("; missing: {}", missing.join(", ")),
    };
    format!("{}, {} rounds in turn{missing}", report.each, report.rounds)
}

fn facts(circumstances: &Circumstances) -> Markup {
    let Circumstances { cpu, cores, kernel, load, commit, date, command, seed } = circumstances;
    html! {
        dl {
            dt { "machine" } dd { (cpu) ", " (cores) " cores, " (kernel) ", load " (load) }
            dt { "commit" } dd { (commit) }
            dt { "date" } dd { (date) }
            dt { "command" } dd { code { (command) } }
            dt { "seed" } dd { (seed) }
        }
    }
}

fn table(table: &Table) -> Markup {
    let class = |column: usize| {
        (table.head.get(column).map(|(_, lean)| *lean) == Some(Lean::Right)).then_some("right")
    };
    html! {
        div.scroll {
            table {
                thead { tr { @for (column, (name, _)) in table.head.iter().enumerate() {
                    th class=[class(column)] { (name) }
                } } }
                tbody { @for row in &table.rows {
                    tr { @for (column, cell) in row.iter().enumerate() {
                        @let verdict = (cell == "better" || cell == "worse").then_some(cell.as_str());
                        td class=[class(column).or(verdict)] { (cell) }
                    } }
                } }
            }
        }
    }
}

fn figures(charts: impl IntoIterator<Item = Option<Markup>>) -> Markup {
    html! { div.charts { @for chart in charts.into_iter().flatten() { (chart) } } }
}

fn bulk(report: &Report<BulkRow>) -> Markup {
    let case = |row: &BulkRow| {
        let streams = if row.case.streams == 1 { "stream" } else { "streams" };
        format!("{}, {} {streams}", row.case.direction.name(), row.case.streams)
    };
    let charts = by_case(&report.rows).into_iter().flat_map(|rows| {
        let case = rows.first().map(|row| case(row)).unwrap_or_default();
        let cpu = |row: &&BulkRow| Some(Bar { spread: None, ..bar(row.way, row.cost?, None) });
        let cpu: Vec<Bar> = rows.iter().filter_map(cpu).collect();
        [
            bars(&format!("{case}: MiB a second"), short, &rates(&rows)),
            bars(&format!("{case}: processor seconds for each GiB"), short, &cpu),
        ]
    });
    html! {
        h2 { "Rates" }
        (figures(charts))
        h2 { "All figures" }
        (table(&text::bulk_table(report)))
    }
}

fn requests(report: &Report<RequestRow>) -> Markup {
    let charts = by_case(&report.rows).into_iter().flat_map(|rows| {
        let case = rows.first().map(|row| row.case.name()).unwrap_or_default();
        [
            percentiles(
                format!("{case}: time within which so many were answered"),
                rows.iter().map(|row| curve(row)),
            ),
            bars(&format!("{case}: requests a second"), short, &rates(&rows)),
        ]
    });
    html! {
        h2 { "Times and rates" }
        (figures(charts))
        h2 { "All figures" }
        (table(&text::request_table(report)))
    }
}

/// Rows that are next to each other and of the same case.
fn by_case<C: PartialEq, S, P>(rows: &[Row<C, S, P>]) -> Vec<Vec<&Row<C, S, P>>> {
    rows.chunk_by(|one, next| one.case == next.case).map(|rows| rows.iter().collect()).collect()
}

fn rates<C, S, P>(rows: &[&Row<C, S, P>]) -> Vec<Bar> {
    let spread = |row: &Row<C, S, P>| Some((row.rate.lowest, row.rate.highest));
    rows.iter().map(|row| bar(row.way, row.rate.median, spread(row))).collect()
}

fn bar(way: Way, value: f64, spread: Option<(f64, f64)>) -> Bar {
    Bar { name: way.name().to_owned(), value, spread, ours: way.rival().is_none() }
}

fn curve(row: &RequestRow) -> Line {
    let quantiles = row.cost.iter().flat_map(|cost| &cost.curve);
    let points = quantiles.map(|quantile| (chart::share(quantile.share), quantile.us as f64)).collect();
    Line { name: row.way.name().to_owned(), points }
}

/// The times of a distribution that shares of it do not exceed.
fn distribution(name: &str, latency: &Latency) -> Line {
    let mut below = 0;
    let mut points = Vec::new();
    for bucket in latency.buckets.iter().filter(|bucket| bucket.count > 0) {
        // What is in this bucket begins with the share that all before it have.
        points.push((chart::share(below as f64 / latency.count.max(1) as f64), bucket.up_to_us as f64));
        below += bucket.count;
    }
    Line { name: name.to_owned(), points }
}

fn percentiles(title: String, lines: impl Iterator<Item = Line>) -> Option<Markup> {
    let lines: Vec<Line> = lines.collect();
    let largest = lines.iter().flat_map(|line| &line.points).map(|(at, _)| *at).fold(0.0, f64::max);
    // Back from the place on the axis to the share; the tick after the last point would stand in empty space.
    let largest = 1.0 - 10_f64.powf(-largest);
    let ticks = chart::shares(largest.max(0.9) + 1e-9);
    Lines {
        title,
        across: "share of all, the slowest to the right",
        ticks,
        scale: Scale::Log,
        show: micros,
        lines,
    }
    .draw()
}

fn of_agents(report: &AgentsReport) -> Markup {
    html! {
        h2 { "All figures" }
        (table(&agents::table(report)))
        h2 { "How long things took" }
        (figures([percentiles("time within which so many were done".to_owned(), distributions(report).into_iter())]))
        @for run in &report.runs {
            h2 { (over_time(run)) }
            ul.lines { @for line in agents::lines(run) { li { (line) } } }
            (figures(series(run)))
        }
    }
}

fn over_time(run: &AgentsRun) -> &'static str {
    match run.target {
        Target::Gateway | Target::RunningGateway => "The gateway, second by second",
        Target::Floor => "The floor, second by second",
    }
}

fn distributions(report: &AgentsReport) -> Vec<Line> {
    let mut lines = Vec::new();
    for run in &report.runs {
        match run.target {
            Target::Gateway | Target::RunningGateway => {
                lines.push(distribution("check-in", &run.check_ins.latency));
                lines.push(distribution("first answer", &run.ramp.first_answer));
            }
            Target::Floor => lines.push(distribution("check-in at the floor", &run.check_ins.latency)),
        }
        if let Some(wake) = &run.wake {
            lines.push(distribution("flag to usable stream", &wake.flag_to_usable));
        }
        if let Some(tunnels) = &run.tunnels {
            lines.push(distribution("offer to tunnel", &tunnels.offer_to_tunnel));
            lines.extend(
                tunnels
                    .traffic
                    .iter()
                    .map(|traffic| distribution("message in a tunnel", &traffic.round_trip)),
            );
        }
    }
    lines
}

fn series(run: &AgentsRun) -> Vec<Option<Markup>> {
    let seconds = &run.series;
    let line = |name: &str, value: &dyn Fn(&Second) -> Option<f64>| {
        let points = seconds.iter().filter_map(|second| Some((second.at_s, value(second)?))).collect();
        Line { name: name.to_owned(), points }
    };
    let (from, to) = match seconds.as_slice() {
        [first, .., last] => (first.at_s, last.at_s),
        [] | [_] => return Vec::new(),
    };
    let chart = |title: &str, scale, show, lines| {
        let (title, ticks) = (title.to_owned(), chart::seconds(from, to));
        Lines { title, across: "seconds of the measurement", ticks, scale, show, lines }.draw()
    };
    let time = |value: Option<u64>| value.map(|us| us as f64);
    let count = |value: u64| (value > 0).then_some(value as f64);
    let some = |any: &dyn Fn(&Second) -> u64| seconds.iter().any(|second| any(second) > 0);
    vec![
        chart(
            "Latency of check-ins",
            Scale::Log,
            micros,
            vec![
                line("p50", &|second| time(second.p50_us)),
                line("p99", &|second| time(second.p99_us)),
                line("max", &|second| time(second.max_us)),
            ],
        ),
        chart(
            "Check-ins a second",
            Scale::Linear,
            short,
            vec![
                line("answered", &|second| Some(second.answered as f64)),
                line("failed", &|second| Some(second.failed as f64)),
            ],
        ),
        chart(
            "Processor time, % of a core",
            Scale::Linear,
            short,
            vec![
                line("server", &|second| second.cpu_percent),
                line("harness", &|second| second.harness_cpu_percent),
            ],
        ),
        chart(
            "Resident memory of the server, MiB",
            Scale::Linear,
            short,
            vec![line("server", &|second| second.rss_kib.map(|kib| kib as f64 / 1024.0))],
        ),
        chart(
            "Bytes a second on the wire",
            Scale::Linear,
            bytes,
            vec![line("check-in connections, both directions", &|second| time(second.wire_bytes))],
        ),
        chart(
            "Agents that are connected",
            Scale::Linear,
            short,
            vec![line("connected", &|second| Some(second.connected as f64))],
        ),
        some(&|second| second.tunnels + second.woken)
            .then(|| {
                chart(
                    "Tunnels",
                    Scale::Linear,
                    short,
                    vec![
                        line("open", &|second| Some(second.tunnels as f64)),
                        line("streams that became usable, a second", &|second| count(second.woken)),
                    ],
                )
            })
            .flatten(),
    ]
}

fn bytes(value: f64) -> String {
    match value {
        value if value < 1024.0 => format!("{} B", short(value)),
        value if value < 1024.0 * 1024.0 => format!("{} KiB", short(value / 1024.0)),
        value => format!("{} MiB", short(value / 1024.0 / 1024.0)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::report::compare::compare;
    use crate::report::sample;

    #[test]
    fn a_page_has_the_facts_and_its_charts_and_needs_nothing_from_elsewhere() {
        for results in sample::all() {
            let comparison = compare(&results, &results).expect("the same plan");
            let broken = ["the bound p99 1 ms is broken: <all>".to_owned()];
            let page = page(&results, Some(&comparison), &broken);
            for part in [
                "some CPU",
                "abc",
                "2026-01-01T00:00:00Z",
                "<svg",
                "is broken: &lt;all&gt;",
                "since 2026-01-01",
            ] {
                assert!(page.contains(part), "{part} in the page of {}", results.name());
            }
            for foreign in ["<script", "http:", "https:", "src=", "href=", "url(", "@import", "NaN", "inf"] {
                assert!(!page.contains(foreign), "{foreign} in the page of {}", results.name());
            }
        }
    }

    #[test]
    fn the_page_of_a_run_on_agents_is_as_it_was() {
        let page = page(&sample::agents(), None, &[]);
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/agents.html");
        // With a line for each element, a difference is found by reading it.
        let lines = page.replace("><", ">\n<");
        if std::env::var_os("WRITE_GOLDEN").is_some() {
            fs::write(&golden, &lines).expect("the folder is ours");
        }
        let expected = fs::read_to_string(&golden).expect("it is in the repository");
        assert!(lines == expected, "the page has changed: look at it, then run this with WRITE_GOLDEN=1");
    }
}
