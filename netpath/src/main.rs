//! `netpath`: runs a command at the far end of a path, or keeps the path until Ctrl-C.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use netpath::Path;
use netpath::weather::{Loss, Weather};
use tokio::signal::ctrl_c;

/// Lays a network path with a chosen delay, loss and rate to a network namespace of its own
///
/// Needs root and /dev/net/tun. COMMAND runs at the far end and finds both addresses in `NETPATH_NEAR` and
/// `NETPATH_FAR`; the exit status is its. Without COMMAND the path stays until Ctrl-C.
#[derive(Debug, Parser)]
#[command(name = "netpath", version)]
struct Options {
    /// Round trip in milliseconds, half of it in each direction
    #[arg(long, value_name = "MS", default_value_t = 100)]
    round_trip_ms: u32,
    /// Packets that vanish, in each direction
    #[arg(long, value_name = "SHARE", default_value = "0%")]
    loss: Loss,
    /// Megabits a second, in each direction; as many as come by default
    #[arg(long, value_name = "MBIT")]
    rate_mbit: Option<u32>,
    /// Which packets vanish
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// What to run at the far end
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<String>,
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let weather = Weather {
        delay: Duration::from_millis(options.round_trip_ms.into()) / 2,
        loss: options.loss,
        rate: options.rate_mbit.map(|megabits| u64::from(megabits) * 1_000_000 / 8),
    };
    let path = Path::lay(weather, options.seed)?;
    let Some((program, arguments)) = options.command.split_first() else {
        writeln!(io::stdout(), "near {}\nfar {}\nuntil Ctrl-C", path.near(), path.far())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(ctrl_c())?;
        return Ok(ExitCode::SUCCESS);
    };
    let mut command = path.inside(program);
    command.args(arguments);
    command.env("NETPATH_NEAR", path.near().to_string()).env("NETPATH_FAR", path.far().to_string());
    let status = command.status().with_context(|| format!("can't run {program}"))?;
    // Who was ended by a signal has no code.
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
