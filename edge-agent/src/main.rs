//! `tidegate-agent`: arguments, logging, run, exit code.

use std::process::ExitCode;
use std::time::Duration;

use edge_agent::config::{self, Config, ConfigError, Invocation, Task};
use edge_agent::exit::Exit;
use edge_agent::{agent, show};
use shared::log;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A thread that hangs in the file system (a snapshot asks for sizes of disks) must not keep the process alive.
const THREADS_GRACE: Duration = Duration::from_secs(1);

/// A quarter more bulk data than with glibc's: every message of a stream is a buffer that one thread makes and another frees.
/// Without huge pages, which make a process that has little to do 30 MiB larger.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let exit = match config::from_process() {
        Ok(invocation) => carry_out(invocation),
        Err(error) => wrong(&error),
    };
    exit.into()
}

fn carry_out(Invocation { task, data_dir, config }: Invocation) -> Exit {
    match (task, config) {
        (Task::Run, Ok(config)) => run(config),
        (Task::CheckConfig, Ok(config)) => {
            say(&format!("the configuration is valid: {} services", config.services.len()));
            Exit::Ok
        }
        (Task::Run | Task::CheckConfig, Err(error)) => wrong(&error),
        (Task::Status(format), _) => show::status(&data_dir, format),
        (Task::Ready, _) => show::ready(&data_dir),
        (Task::Doctor(format), config) => match tokio::runtime::Runtime::new() {
            Ok(runtime) => {
                let exit = runtime.block_on(show::doctor(&data_dir, config, format));
                // A name that is still being looked up must not keep the process alive.
                runtime.shutdown_background();
                exit
            }
            Err(error) => {
                complain(&error);
                Exit::Failed
            }
        },
    }
}

fn wrong(error: &ConfigError) -> Exit {
    complain(error);
    Exit::Configuration
}

fn run(config: Config) -> Exit {
    if let Err(error) = log::init(&config.log, config.json) {
        complain(&error);
        return Exit::Configuration;
    }
    // One thread: an agent has one tunnel, whose encryption is one task's anyway, and streams that share its thread need no
    // wake-ups across processors. What may block (files, sizes of disks) has threads of its own.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
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
