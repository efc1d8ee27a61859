//! `tidegate`: the gateway and its operator's command line.

use std::process::ExitCode;

/// A quarter more bulk data than with glibc's: every message of a stream is a buffer that one thread makes and another frees.
/// Without huge pages, which make a process that has little to do 30 MiB larger.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    gateway::cli::run()
}
