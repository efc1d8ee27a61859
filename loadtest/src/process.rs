//! Child processes that can't outlive the harness, and the processor time that they and their children used.
//!
//! Each child leads a process group of its own, which is killed when its [`Process`] is dropped. What it prints goes into
//! a file beside its data, which is where the harness learns addresses from and what it quotes when a child fails.

use std::collections::HashMap;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::net::TcpStream;
use tokio::time::sleep;

/// Longest wait for a program to be up, or for an agent to open its tunnel: a second or two on an idle machine.
pub const START: Duration = Duration::from_secs(60);
/// Time between two looks at something that takes a moment.
pub const PAUSE: Duration = Duration::from_millis(20);
/// Where Debian puts programs, also those for root.
const FOLDERS: [&str; 4] = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];
/// Lines of a failed program that are quoted.
const QUOTED_LINES: usize = 20;
/// Clock ticks a second in /proc/PID/stat. The kernel calls it `USER_HZ` and keeps it at 100 for programs on every
/// architecture that these programs run on.
const TICKS: f64 = 100.0;

/// A proxy of this machine's own would come between the programs and the loopback interface.
const PROXIES: [&str; 8] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
];

/// A command without settings from this process's environment.
pub fn program(path: &Path) -> Command {
    let mut command = Command::new(path);
    without_settings(&mut command);
    command
}

/// Takes settings of this process's environment away from the command.
pub fn without_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TIDEGATE_") {
            command.env_remove(name);
        }
    }
    for name in PROXIES {
        command.env_remove(name);
    }
}

/// A running child.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; what it prints goes into the file `log`.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn start(name: &str, mut command: Command, log: PathBuf) -> Result<Self> {
        let output = File::create(&log).with_context(|| format!("can't write the log of {name}"))?;
        let both = output.try_clone().with_context(|| format!("can't write the log of {name}"))?;
        command.stdin(Stdio::null()).stdout(output).stderr(both).process_group(0);
        let child = command.spawn().with_context(|| format!("can't start {name}"))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it printed something in which `look` finds what it looks for.
    ///
    /// # Errors
    /// If it ends, or does not come to it in a minute; with its last words.
    pub async fn printed<T>(&mut self, what: &str, look: impl Fn(&str) -> Option<T>) -> Result<T> {
        let begun = Instant::now();
        loop {
            let text = fs::read_to_string(&self.log).unwrap_or_default();
            if let Some(found) = look(&text) {
                return Ok(found);
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended ({status}) before it said {what}:\n{}", self.name, self.last_words());
            }
            if begun.elapsed() > START {
                bail!("{} did not say {what} within {START:?}:\n{}", self.name, self.last_words());
            }
            sleep(PAUSE).await;
        }
    }

    /// Asks it to end (SIGTERM), and waits until it has.
    ///
    /// # Errors
    /// If it is still there after `within`; with its last words.
    pub async fn terminate(&mut self, within: Duration) -> Result<()> {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("no process id")?;
        kill_process(id, Signal::TERM).with_context(|| format!("can't end {}", self.name))?;
        let begun = Instant::now();
        while self.child.try_wait()?.is_none() {
            if begun.elapsed() > within {
                bail!("{} did not end within {within:?}:\n{}", self.name, self.last_words());
            }
            sleep(PAUSE).await;
        }
        Ok(())
    }

    /// The end of what it printed.
    pub fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(QUOTED_LINES)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already, and then there is nobody to tell.
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// Waits until somebody listens there, which `process` is to do or to bring about.
///
/// # Errors
/// If nobody does within a minute; with its last words.
pub async fn wait_for_listener(process: &Process, address: SocketAddr) -> Result<()> {
    let begun = Instant::now();
    while TcpStream::connect(address).await.is_err() {
        ensure!(
            begun.elapsed() < START,
            "{} does not bring about a listener on {address}:\n{}",
            process.name,
            process.last_words()
        );
        sleep(PAUSE).await;
    }
    Ok(())
}

/// The path of a program of this system.
///
/// # Errors
/// If it is not installed; with the name of its package.
pub fn installed(program: &str, package: &str) -> Result<PathBuf> {
    let mut places = FOLDERS.iter().map(|folder| Path::new(folder).join(program));
    places
        .find(|path| path.is_file())
        .with_context(|| format!("{program} is missing: apt-get install {package}"))
}

/// Processor time that these processes and all their descendants have used until now, with that of children that have
/// ended. Exact to 10 ms a process. A process that is gone counts as nothing.
pub fn cpu_time(roots: &[u32]) -> Duration {
    let all: HashMap<u32, Stat> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("stat")).ok())
        .filter_map(|text| Stat::parse(&text))
        .map(|stat| (stat.id, stat))
        .collect();
    Duration::from_secs_f64(ticks(&all, roots) as f64 / TICKS)
}

/// What one process has used until now, without its children. `None` where it is gone.
pub fn usage(id: u32) -> Option<Usage> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    Some(Usage {
        cpu: Duration::from_secs_f64(Stat::parse(&stat)?.own_ticks as f64 / TICKS),
        rss_kib: resident(&status)?,
    })
}

/// What a process has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time, user and kernel, exact to 10 ms.
    pub cpu: Duration,
    /// Resident memory now.
    pub rss_kib: u64,
}

/// `VmRSS` of /proc/PID/status (proc_pid_status(5)).
fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// What /proc/PID/stat says of a process (proc_pid_stat(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    id: u32,
    parent: u32,
    /// Its own time in user and kernel mode.
    own_ticks: u64,
    /// That, and the time of its children that ended and were waited for.
    ticks: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The program's name stands in parentheses and may hold spaces and parentheses itself.
        let (head, tail) = text.rsplit_once(')')?;
        let id = head.split_once(' ')?.0.parse().ok()?;
        let fields: Vec<&str> = tail.split_whitespace().collect();
        // After the name come the state, field 3, and the parent, field 4; times are fields 14 to 17.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let own_ticks = field(14)? + field(15)?;
        let ticks = own_ticks + field(16)? + field(17)?;
        Some(Self { id, parent: u32::try_from(field(4)?).ok()?, own_ticks, ticks })
    }
}

fn ticks(all: &HashMap<u32, Stat>, roots: &[u32]) -> u64 {
    let below_a_root = |stat: &Stat| {
        let mut ancestor = Some(stat);
        // No line of ancestors is longer than the table; a table that was read while it changed may have a circle.
        for _ in 0..all.len() {
            match ancestor {
                Some(stat) if roots.contains(&stat.id) => return true,
                Some(stat) => ancestor = all.get(&stat.parent),
                None => return false,
            }
        }
        false
    };
    all.values().filter(|stat| below_a_root(stat)).map(|stat| stat.ticks).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_whatever_the_program_is_called() {
        let text = "42 (a ) b (c) S 7 42 42 0 -1 4194304 1 2 3 4 10 20 30 40 20 0 1 0 5 6 7";
        assert_eq!(Stat::parse(text), Some(Stat { id: 42, parent: 7, own_ticks: 30, ticks: 100 }));
        for bad in ["", "42", "42 (x)", "42 (x) S 7"] {
            assert_eq!(Stat::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn time_of_descendants_counts_and_that_of_others_does_not() {
        let stat = |id, parent, ticks| (id, Stat { id, parent, own_ticks: 0, ticks });
        let all = HashMap::from([
            stat(1, 0, 1),
            stat(2, 1, 10),
            stat(3, 2, 100),
            stat(4, 1, 1000),
            // A circle, as a table that was read while it changed may show.
            stat(5, 6, 1),
            stat(6, 5, 1),
        ]);
        assert_eq!(ticks(&all, &[2]), 110);
        assert_eq!(ticks(&all, &[3, 4]), 1100);
        assert_eq!(ticks(&all, &[9]), 0);
    }

    #[test]
    fn resident_memory_is_read_in_kib() {
        assert_eq!(resident("Name:\tx\nVmRSS:\t    1234 kB\nThreads:\t1\n"), Some(1234));
        assert_eq!(resident("Name:\tx\n"), None);
        assert!(usage(std::process::id()).expect("it lives").rss_kib > 0);
    }

    #[test]
    fn this_process_has_used_some_time() {
        let id = std::process::id();
        let begun = Instant::now();
        while cpu_time(&[id]).is_zero() {
            assert!(begun.elapsed() < START, "no processor time in {START:?}");
        }
    }
}
