//! `tidegate-agent`: arguments, logging, run, exit code.

use std::process::ExitCode;
use std::time::Duration;

use edge_agent::agent;
use edge_agent::config::{self, Config, Task};
use edge_agent::exit::Exit;
use shared::log;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A thread that hangs in the file system (a snapshot asks for sizes of disks) must not keep the process alive.
const THREADS_GRACE: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let exit = match config::from_process() {
        Ok((Task::Run, config)) => run(config),
        Ok((Task::CheckConfig, config)) => {
            say(&format!("the configuration is valid: {} services", config.services.len()));
            Exit::Ok
        }
        Err(error) => {
            complain(&error);
            Exit::Configuration
        }
    };
    exit.into()
}

fn run(config: Config) -> Exit {
    if let Err(error) = log::init(&config.log, config.json) {
        complain(&error);
        return Exit::Configuration;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "the runtime can't start");
            return Exit::Failed;
        }
    };
    let result = runtime.block_on(async {
        let stop = CancellationToken::new();
        let (mut terminate, mut interrupt) =
            match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
                (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
                (Err(error), _) | (_, Err(error)) => {
                    tracing::error!(%error, "signals can't be received");
                    return Exit::Failed;
                }
            };
        let stopper = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("told to end");
            stopper.cancel();
        });
        match agent::run(config, stop).await {
            Ok(()) => Exit::Ok,
            Err(error) => {
                tracing::error!("{error}");
                error.exit()
            }
        }
    });
    runtime.shutdown_timeout(THREADS_GRACE);
    result
}

#[expect(clippy::print_stderr, reason = "there is no log before the configuration is read")]
fn complain(error: &dyn std::error::Error) {
    eprintln!("tidegate-agent: {error}");
}

fn say(text: &str) {
    println!("{text}");
}
