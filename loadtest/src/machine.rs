//! What a reader of the report must know to repeat it: machine, commit, date, command and seed.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// The circumstances of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Circumstances {
    /// Processor.
    pub cpu: String,
    /// Cores that the harness may use, which it shares with all that it measures.
    pub cores: usize,
    /// Kernel, and how its TCP controls congestion: over a path that loses packets, that decides.
    pub kernel: String,
    /// Processes that wanted a core when the run began: the load average of the last minute. Well above 0 on an idle
    /// machine means that others worked there too.
    pub load: String,
    /// Commit of the source that the harness was run in; `-dirty` where it had changes.
    pub commit: String,
    /// When the run began, in UTC.
    pub date: String,
    /// The command, without the folder of the program.
    pub command: String,
    /// Seed of all data.
    pub seed: u64,
}

impl Circumstances {
    /// Those of this process.
    pub fn now(seed: u64) -> Self {
        let uname = rustix::system::uname();
        Self {
            cpu: cpu_model(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
            cores: std::thread::available_parallelism().map_or(1, Into::into),
            kernel: format!(
                "{} {}, TCP {}",
                uname.sysname().to_string_lossy(),
                uname.release().to_string_lossy(),
                congestion_control()
            ),
            load: fs::read_to_string("/proc/loadavg")
                .ok()
                .and_then(|text| Some(text.split_once(' ')?.0.to_owned()))
                .unwrap_or_else(unknown),
            commit: commit(),
            date: shared::wire::rfc3339(SystemTime::now()),
            command: command(std::env::args()),
            seed,
        }
    }
}

fn unknown() -> String {
    "unknown".to_owned()
}

fn congestion_control() -> String {
    let file = fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control");
    file.map_or_else(|_| unknown(), |name| name.trim().to_owned())
}

fn cpu_model(cpuinfo: &str) -> String {
    let line = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
    line.and_then(|line| line.split_once(':')).map_or_else(unknown, |(_, model)| model.trim().to_owned())
}

fn commit() -> String {
    let output = Command::new("git").args(["describe", "--always", "--dirty", "--abbrev=10"]).output();
    match output {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        // A copy of the program alone can be measured too.
        Ok(_) | Err(_) => unknown(),
    }
}

fn command(arguments: impl IntoIterator<Item = String>) -> String {
    let mut words: Vec<String> = arguments.into_iter().collect();
    if let Some(program) = words.first_mut() {
        let name = Path::new(program.as_str()).file_name().map(|name| name.to_string_lossy().into_owned());
        *program = name.unwrap_or_else(unknown);
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_named_where_the_kernel_names_it() {
        assert_eq!(cpu_model("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n"), "Some CPU @ 2 GHz");
        assert_eq!(cpu_model("processor\t: 0\n"), "unknown");
    }

    #[test]
    fn the_command_is_shown_without_the_folder_of_the_program() {
        let arguments = ["/somewhere/tidegate-loadtest", "throughput", "--rounds", "3"].map(str::to_owned);
        assert_eq!(command(arguments), "tidegate-loadtest throughput --rounds 3");
    }
}
