//! What the kernel says of this process: `/proc/self` (proc(5)).
//!
//! Everything is optional: where the kernel does not say (no `/proc`, another system), nothing is shown.

use std::fs;

use rustix::process::{Resource, getrlimit};

/// `AT_CLKTCK` of getauxval(3): clock ticks in a second, by which `/proc/self/stat` counts.
const AT_CLKTCK: usize = 17;
/// Where `utime` and `stime` stand in `/proc/self/stat`, counted from behind the name in parentheses.
const UTIME: usize = 11;
const STIME: usize = 12;

/// The process at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// Resident memory, in bytes.
    pub resident_bytes: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
    /// Seconds of processor time so far, user and system.
    pub cpu_seconds: Option<f64>,
    /// Open files.
    pub open_files: Option<u64>,
    /// How many files may be open.
    pub max_open_files: Option<u64>,
}

impl Process {
    /// This process now. Reads files of the kernel: some tens of microseconds, more with thousands of open files.
    pub fn read() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let number = |field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field))?;
            line.trim_start_matches(':').split_whitespace().next()?.parse::<u64>().ok()
        };
        Self {
            resident_bytes: number("VmRSS").map(|kib| kib * 1024),
            threads: number("Threads"),
            cpu_seconds: cpu_seconds(),
            open_files: fs::read_dir("/proc/self/fd").ok().map(|files| files.count() as u64),
            max_open_files: getrlimit(Resource::Nofile).current,
        }
    }
}

fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, behind_name) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = behind_name.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some((ticks(UTIME)? + ticks(STIME)?) as f64 / ticks_per_second()? as f64)
}

fn ticks_per_second() -> Option<usize> {
    let vector = fs::read("/proc/self/auxv").ok()?;
    let words: Vec<usize> = vector
        .chunks_exact(size_of::<usize>())
        .map(|word| usize::from_ne_bytes(word.try_into().expect("chunks of that size")))
        .collect();
    words.chunks_exact(2).find(|pair| pair[0] == AT_CLKTCK).map(|pair| pair[1]).filter(|ticks| *ticks > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_threads_files_and_spends_time() {
        let before = Process::read();
        assert!(before.resident_bytes.expect("Linux says so") > 1024 * 1024);
        assert!(before.threads.expect("Linux says so") >= 1);
        assert!(before.open_files.expect("Linux says so") >= 3);
        assert!(before.max_open_files.is_none_or(|most| most >= before.open_files.unwrap_or(0)));
        let spent = || Process::read().cpu_seconds.expect("Linux says so");
        // A tick is ten milliseconds: work until one has passed.
        while spent() <= before.cpu_seconds.expect("Linux says so") {}
    }
}
