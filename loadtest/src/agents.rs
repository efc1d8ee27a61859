//! Thousands of simulated agents against one gateway.
//!
//! | room | what lives there |
//! | --- | --- |
//! | [`options`], [`limits`] | the command line, and whether this machine can hold what it asks for |
//! | [`plan`] PURE | who is due when: offsets, wakes, vanishings, source addresses |
//! | [`result`] | what a run measured: the data of its report |
//! | [`tally`], [`counts`], [`times`], [`window`] | the counts that it is made of, while they grow |
//! | [`target`] | the gateway or the floor server, and the agents' enrolment there |
//! | [`agent`], [`connection`], [`tunnel`] | one agent: its life, its check-ins, its SSH tunnel |
//! | [`cast`], [`worker`] | all agents of a process, and processes of their own where one has too few files |
//! | [`operator`], [`wake`], [`tunnels`] | the other side: flags, streams, traffic |
//! | [`sample`], [`wire`] | processes and connections, seen from outside |
//! | [`run`], [`stage`], [`others`] | who does what in which order |
//!
//! The rule: latency counts from the scheduled time of a question, so a gateway that is slow can't slow its clients, and
//! nothing that was scheduled is missing from the counts.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use tokio_util::sync::CancellationToken;

use crate::machine::Circumstances;
use limits::Machine;
use options::Options;
use result::AgentsReport;
use run::{Progress, play};
use target::Server;

pub mod agent;
pub mod cast;
pub mod connection;
pub mod counts;
pub mod limits;
pub mod operator;
pub mod options;
pub mod others;
pub mod plan;
pub mod result;
pub mod run;
pub mod sample;
pub mod stage;
pub mod tally;
pub mod target;
pub mod times;
pub mod tunnel;
pub mod tunnels;
pub mod wake;
pub mod window;
pub mod wire;
pub mod worker;

/// Runs what the options ask for: against the gateway, and then against the floor server where that is asked for too.
/// When `interrupt` is cancelled, it ends early with what was measured.
///
/// # Errors
/// If this machine is too small, or a server does not come up, or agents can't join.
pub async fn measure(
    options: &Options,
    interrupt: &CancellationToken,
    progress: Arc<impl Progress>,
) -> Result<AgentsReport> {
    options.check()?;
    let machine = Machine::this();
    options.needs().fit(&machine, options.gateway.is_none())?;
    let circumstances = Circumstances::now(options.seed);
    progress.step("starting the gateway");
    let gateway = Server::gateway(options).await?;
    // The gateway goes with its run, so that it takes nothing from the floor server.
    let mut runs = vec![play(gateway, options, interrupt, Arc::clone(&progress)).await?];
    if let Some(program) = options.floor.as_ref().filter(|_| !interrupt.is_cancelled()) {
        progress.step("starting the floor server");
        let floor = Server::floor(program.as_deref(), options).await?;
        runs.push(play(floor, options, interrupt, progress).await.context("against the floor server")?);
    }
    Ok(AgentsReport { circumstances, setup: options.setup(&machine), runs })
}
