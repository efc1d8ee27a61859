//! `tidegate-loadtest`: command line → run → report and exit code.

use std::fs;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Parser as _;
use loadtest::agents::result::Second;
use loadtest::agents::run::Progress;
use loadtest::bench::Bench;
use loadtest::machine::Circumstances;
use loadtest::options::{Measurement, Options, Run};
use loadtest::place::Place;
use loadtest::plan::{self, Bulk, Requests, Way};
use loadtest::report::document::{Document, Results};
use loadtest::report::outputs::{Outcome, Outputs};
use loadtest::report::{self, BulkRow, Placed, Report, markdown};
use loadtest::units::MIB;
use loadtest::{agents, attacks, latency, throughput};
use tokio::signal::ctrl_c;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Exit status where a bound of `--fail-over` is broken. Those below are taken by what other things can go wrong in our
/// programs.
const BOUND_BROKEN: u8 = 6;

#[tokio::main]
async fn main() -> ExitCode {
    let measurement = Options::parse().measurement;
    if let Measurement::Agents { agents, outputs } = measurement {
        return end(run_agents(&agents, &outputs).await);
    }
    if let Measurement::Attacks { attacks, outputs } = measurement {
        return end(run_attacks(&attacks, &outputs).await);
    }
    if let Measurement::AgentsWorker = measurement {
        return end(agents::worker::work().await.map(|()| Outcome::Fine));
    }
    // Leaving by this select drops the run, and with it every child process.
    let result = tokio::select! {
        result = run(measurement) => result,
        _ = interrupted() => Err(anyhow!("interrupted; nothing is left running")),
    };
    end(result)
}

fn end(result: Result<Outcome>) -> ExitCode {
    match result {
        Ok(Outcome::Fine) => ExitCode::SUCCESS,
        Ok(Outcome::Failures(failures)) => {
            complain(&format!("tidegate-loadtest: {failures} failures, see the report"));
            ExitCode::FAILURE
        }
        Ok(Outcome::BoundBroken) => ExitCode::from(BOUND_BROKEN),
        Err(error) => {
            complain(&format!("tidegate-loadtest: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Simulated agents. The first Ctrl-C ends them with a report, the second one without.
async fn run_agents(options: &agents::options::Options, outputs: &Outputs) -> Result<Outcome> {
    let earlier = outputs.earlier()?;
    let interrupt = CancellationToken::new();
    let measuring = agents::measure(options, &interrupt, Arc::new(Line));
    tokio::pin!(measuring);
    let report = tokio::select! {
        report = &mut measuring => report,
        _ = interrupted() => {
            interrupt.cancel();
            progress("");
            complain("ending early; once more to end at once");
            tokio::select! {
                report = &mut measuring => report,
                _ = interrupted() => Err(anyhow!("interrupted; nothing is left running")),
            }
        }
    }?;
    progress("");
    outputs.publish(Results::Agents(report), earlier.as_ref())
}

/// Attacks. The first Ctrl-C ends them after the one that goes on, with a report; the second one at once, without.
async fn run_attacks(options: &attacks::options::Options, outputs: &Outputs) -> Result<Outcome> {
    let earlier = outputs.earlier()?;
    let interrupt = CancellationToken::new();
    let measuring = attacks::measure(options, &interrupt, complain);
    tokio::pin!(measuring);
    let report = tokio::select! {
        report = &mut measuring => report,
        _ = interrupted() => {
            interrupt.cancel();
            complain("ending after this attack; once more to end at once");
            tokio::select! {
                report = &mut measuring => report,
                _ = interrupted() => Err(anyhow!("interrupted; nothing is left running")),
            }
        }
    }?;
    outputs.publish(Results::Attacks(report), earlier.as_ref())
}

/// How far simulated agents are, on a terminal.
struct Line;

impl Progress for Line {
    fn step(&self, text: &str) {
        if io::stderr().is_terminal() { progress(text) } else { complain(text) }
    }

    fn second(&self, measured: Option<Duration>, second: &Second) {
        let so_far = measured.map_or_else(|| "before".to_owned(), |time| format!("{} s", time.as_secs()));
        progress(&format!(
            "{so_far}: {} connected, {} tunnels, {} answered/s, {} failed/s, p99 {:.1} ms, CPU {:.0} %, {} MiB",
            second.connected,
            second.tunnels,
            second.answered,
            second.failed,
            second.p99_us.unwrap_or(0) as f64 / 1000.0,
            second.cpu_percent.unwrap_or(0.0),
            second.rss_kib.unwrap_or(0) / 1024,
        ));
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

async fn run(measurement: Measurement) -> Result<Outcome> {
    match measurement {
        Measurement::Agents { .. } | Measurement::Attacks { .. } | Measurement::AgentsWorker => {
            bail!("simulated agents have runs of their own")
        }
        Measurement::Throughput { bytes, run } => {
            let earlier = run.outputs.earlier()?;
            let started = start(&run, Place::Loopback, &Way::ALL).await?;
            let report = bulk(&run, &started, &Bulk::ALL, bytes, &size(bytes)).await;
            run.outputs.publish(Results::Throughput(report), earlier.as_ref())
        }
        Measurement::Path { bytes, path, run } => {
            let earlier = run.outputs.earlier()?;
            let place = Place::Path(fixtures::netpath::Path::lay(path.weather(), run.seed)?);
            let started = start(&run, place, &Way::OVER_A_PATH).await?;
            let each = format!("{} over {path}", size(bytes));
            let report = bulk(&run, &started, &Bulk::OVER_A_PATH, bytes, &each).await;
            run.outputs.publish(Results::Path(report), earlier.as_ref())
        }
        Measurement::Latency { each, run } => {
            let earlier = run.outputs.earlier()?;
            let started = start(&run, Place::Loopback, &Way::ALL).await?;
            let measure = async |case: Requests, way| latency::measure(&started.bench, way, case, each).await;
            let (rounds, samples) = in_turn(&run, &Requests::ALL, &started.ways, measure).await;
            let each = format!("64 bytes there and back, {:.1} s each time", each.as_secs_f64());
            let rows = report::request_rows(&Requests::ALL, &started.ways, &samples);
            run.outputs.publish(Results::Latency(started.report(each, rounds, rows)), earlier.as_ref())
        }
        Measurement::Report { file, into, outputs } => {
            let earlier = outputs.earlier()?;
            let results = Document::read(&file)?.results;
            if let Some(page) = into {
                write_into(&page, &file, &results)?;
            }
            outputs.publish(results, earlier.as_ref())
        }
    }
}

async fn bulk(run: &Run, started: &Started, cases: &[Bulk], bytes: u64, each: &str) -> Report<BulkRow> {
    let measure = async |case: Bulk, way| throughput::measure(&started.bench, way, case, bytes).await;
    let (rounds, samples) = in_turn(run, cases, &started.ways, measure).await;
    let rows = report::bulk_rows(cases, &started.ways, &samples);
    started.report(format!("{each} each time"), rounds, rows)
}

/// Writes the report of `file` into its section of the page.
fn write_into(page: &Path, file: &Path, results: &Results) -> Result<()> {
    let section = file.file_stem().map(|stem| stem.to_string_lossy()).unwrap_or_default();
    let before = fs::read_to_string(page).with_context(|| format!("can't read {}", page.display()))?;
    let after = markdown::fill(&before, &section, &markdown::section(results));
    let after = after.with_context(|| format!("can't write {section} into {}", page.display()))?;
    fs::write(page, after).with_context(|| format!("can't write {}", page.display()))
}

fn size(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / MIB as f64)
}

/// Everything that takes part, up.
struct Started {
    circumstances: Circumstances,
    bench: Bench,
    ways: Vec<Way>,
    missing: Vec<String>,
}

impl Started {
    fn report<R>(&self, each: String, rounds: u32, rows: Vec<R>) -> Report<R> {
        let (circumstances, missing) = (self.circumstances.clone(), self.missing.clone());
        Report { circumstances, each, rounds, missing, rows }
    }
}

async fn start(run: &Run, place: Place, ways: &[Way]) -> Result<Started> {
    let (programs, peers) = (run.programs()?, run.peers()?);
    let circumstances = Circumstances::now(run.seed);
    complain("starting a gateway, an agent and their peers");
    let bench = Bench::start(&programs, &peers, place, ways, run.seed).await?;
    let (ways, missing) = (bench.ways(ways), peers.missing());
    if !missing.is_empty() {
        complain(&format!("without {}: ci/install-peers builds what is missing", missing.join(", ")));
    }
    Ok(Started { circumstances, bench, ways, missing })
}

/// Runs the plan until it is done or the time is up. Returns the number of whole rounds with their samples.
async fn in_turn<C: Copy, S>(
    run: &Run,
    cases: &[C],
    ways: &[Way],
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
        let steps = plan::round(round, cases, ways);
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
