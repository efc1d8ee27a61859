//! `tidegate-loadtest`: command line → run → report and exit code.

use std::fs;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Parser as _;
use loadtest::bench::Bench;
use loadtest::machine::Circumstances;
use loadtest::options::{Measurement, Options, Run};
use loadtest::plan::{self, Bulk, Requests, Way};
use loadtest::report::{self, Placed, Report, Row};
use loadtest::units::MIB;
use loadtest::{latency, throughput};
use serde::Serialize;
use tokio::signal::ctrl_c;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

#[tokio::main]
async fn main() -> ExitCode {
    let measurement = Options::parse().measurement;
    // Leaving by this select drops the run, and with it every child process.
    let result = tokio::select! {
        result = run(measurement) => result,
        _ = interrupted() => Err(anyhow!("interrupted; nothing is left running")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("tidegate-loadtest: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Ends when somebody wants this process to end. Its children have process groups of their own and hear nothing of that.
async fn interrupted() -> io::Result<()> {
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        pressed = ctrl_c() => pressed,
        _ = terminated.recv() => Ok(()),
    }
}

async fn run(measurement: Measurement) -> Result<()> {
    match measurement {
        Measurement::Throughput { bytes, run } => {
            let (circumstances, bench) = start(&run).await?;
            let measure = async |case: Bulk, way| throughput::measure(&bench, way, case, bytes).await;
            let (rounds, samples) = in_turn(&run, &Bulk::ALL, measure).await;
            let each = format!("{:.1} MiB each time", bytes as f64 / MIB as f64);
            let rows = report::bulk_rows(&Bulk::ALL, &samples);
            publish(&run, &Report { circumstances, each, rounds, rows }, report::bulk_text)
        }
        Measurement::Latency { each, run } => {
            let (circumstances, bench) = start(&run).await?;
            let measure = async |case: Requests, way| latency::measure(&bench, way, case, each).await;
            let (rounds, samples) = in_turn(&run, &Requests::ALL, measure).await;
            let each = format!("64 bytes there and back, {:.1} s each time", each.as_secs_f64());
            let rows = report::request_rows(&Requests::ALL, &samples);
            publish(&run, &Report { circumstances, each, rounds, rows }, report::request_text)
        }
    }
}

async fn start(run: &Run) -> Result<(Circumstances, Bench)> {
    let programs = run.programs()?;
    let circumstances = Circumstances::now(run.seed);
    complain("starting a gateway, an agent and OpenSSH");
    Ok((circumstances, Bench::start(&programs, run.seed).await?))
}

/// Runs the plan until it is done or the time is up. Returns the number of whole rounds with their samples.
async fn in_turn<C: Copy, S>(
    run: &Run,
    cases: &[C],
    mut measure: impl AsyncFnMut(C, Way) -> S,
) -> (u32, Vec<Placed<C, S>>) {
    let begun = Instant::now();
    let mut samples = Vec::new();
    for round in 0..run.rounds {
        if round > 0 && begun.elapsed() >= run.at_most {
            complain(&format!("time is up after {round} of {} rounds", run.rounds));
            return (round, samples);
        }
        if !io::stderr().is_terminal() {
            complain(&format!("round {} of {}", round + 1, run.rounds));
        }
        let steps = plan::round(round, cases);
        for (number, (case, way)) in steps.iter().enumerate() {
            progress(&format!(
                "round {} of {}, {} of {}: {}",
                round + 1,
                run.rounds,
                number + 1,
                steps.len(),
                way.name(),
            ));
            samples.push((*case, *way, measure(*case, *way).await));
        }
        progress("");
    }
    (run.rounds, samples)
}

fn publish<C, S, P>(
    run: &Run,
    report: &Report<Row<C, S, P>>,
    text: impl Fn(&Report<Row<C, S, P>>) -> String,
) -> Result<()>
where
    Report<Row<C, S, P>>: Serialize,
{
    if let Some(path) = &run.json {
        let json = serde_json::to_vec_pretty(report).context("can't write JSON")?;
        fs::write(path, json).with_context(|| format!("can't write {}", path.display()))?;
    }
    writeln!(io::stdout(), "{}", text(report)).context("can't write to standard output")?;
    match report.failures() {
        0 => Ok(()),
        failures => bail!("{failures} failures, see the last column"),
    }
}

/// One line that the next one overwrites; nothing where nobody watches.
fn progress(text: &str) {
    if !io::stderr().is_terminal() {
        return;
    }
    // Whoever closed standard error does not want to read this.
    let _ = write!(io::stderr(), "\r\x1b[K{text}").and_then(|()| io::stderr().flush());
}

fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
