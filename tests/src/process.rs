//! Child processes that can't outlive their test.
//!
//! Each child leads a process group of its own, which is killed when its [`Process`] is dropped; and where the test run
//! itself is killed, the kernel kills the child. What it prints goes line by line into a [`Log`]; when the test fails,
//! the log is printed with it.

use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

use crate::tool;
use crate::wait::until;

/// The binaries under test, as `make test` builds them.
const BUILD: &str = "cargo build -p gateway -p edge-agent";
/// A command that is expected to end by itself and does not is stuck.
const COMMAND_DEADLINE: Duration = Duration::from_secs(120);
/// Lines of a failed process that are printed; a flood at debug level would bury the assertion.
const PRINTED_LINES: usize = 400;

/// Path of one of our binaries, next to the test executable in the target folder.
///
/// # Panics
/// If it was not built.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a running executable has a path");
    let profile = test.ancestors().nth(2).expect("cargo puts tests into PROFILE/deps");
    let path = profile.join(name);
    assert!(path.is_file(), "{} is missing: run `{BUILD}` first", path.display());
    path
}

/// Everything that a process printed, through all its lives.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn lines<T>(&self, read: impl FnOnce(&mut Vec<String>) -> T) -> T {
        // A poisoned lock means that another thread of this test has panicked; the lines are still whole.
        read(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Number of lines so far: pass it to [`Log::wait_for_after`] to wait for something new.
    pub fn len(&self) -> usize {
        self.lines(|lines| lines.len())
    }

    /// Whether nothing was printed yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a line contains `text`.
    pub fn contains(&self, text: &str) -> bool {
        self.count(text) > 0
    }

    /// How many lines contain `text`.
    pub fn count(&self, text: &str) -> usize {
        self.lines(|lines| lines.iter().filter(|line| line.contains(text)).count())
    }

    /// All lines as one text.
    pub fn text(&self) -> String {
        self.lines(|lines| lines.join("\n"))
    }

    /// Waits for a line with `text` and returns it.
    pub async fn wait_for(&self, text: &str, within: Duration) -> String {
        self.wait_for_after(0, text, within).await
    }

    /// As [`Log::wait_for`], looking only at lines from number `start` on.
    pub async fn wait_for_after(&self, start: usize, text: &str, within: Duration) -> String {
        until(within, &format!("a log line with {text:?}"), async || {
            self.lines(|lines| lines.iter().skip(start).find(|line| line.contains(text)).cloned())
        })
        .await
    }

    /// The JSON objects among the lines from number `start` on.
    pub fn records(&self, start: usize) -> Vec<Value> {
        self.lines(|lines| {
            lines.iter().skip(start).filter_map(|line| serde_json::from_str(line).ok()).collect()
        })
    }

    fn follow(&self, source: impl Read + Send + 'static) -> JoinHandle<()> {
        let log = self.clone();
        thread::spawn(move || {
            for line in BufReader::new(source).split(b'\n').map_while(Result::ok) {
                log.lines(|lines| lines.push(String::from_utf8_lossy(&line).into_owned()));
            }
        })
    }
}

/// A running child process.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: Log,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts `command`; what it prints goes to `log`.
    ///
    /// # Panics
    /// If it can't be started.
    pub fn start(name: &str, command: Command, log: &Log) -> Self {
        Self::start_with(Stdio::null(), name, command, log)
    }

    /// As [`Process::start`], with the other end of its standard input.
    ///
    /// # Panics
    /// If it can't be started.
    pub fn start_talking(name: &str, command: Command, log: &Log) -> (Self, ChildStdin) {
        let mut process = Self::start_with(Stdio::piped(), name, command, log);
        let input = process.child.stdin.take().expect("it was piped");
        (process, input)
    }

    fn start_with(input: Stdio, name: &str, command: Command, log: &Log) -> Self {
        let mut child = dying_with_us(&command)
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} can't be started ({command:?}): {error}"));
        let stdout = child.stdout.take().expect("it was piped");
        let stderr = child.stderr.take().expect("it was piped");
        let readers = vec![log.follow(stdout), log.follow(stderr)];
        Self { name: name.to_owned(), child, log: log.clone(), readers }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal to its process group.
    pub fn signal(&self, signal: Signal) {
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        // It may have ended already, and then there is nothing to tell it.
        let _ = kill_process_group(group.expect("a child's id is a positive i32"), signal);
    }

    /// Waits for its end.
    pub async fn exit(&mut self, within: Duration) -> ExitStatus {
        let name = self.name.clone();
        until(within, &format!("{name} ends"), async || self.child.try_wait().ok().flatten()).await
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.child.wait();
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> u64 {
        self.status_kib("VmRSS:") * 1024
    }

    /// Open files and sockets.
    pub fn descriptors(&self) -> usize {
        let folder = std::fs::read_dir(format!("/proc/{}/fd", self.pid()));
        folder.unwrap_or_else(|error| panic!("{} does not run: {error}", self.name)).count()
    }

    /// Threads.
    pub fn threads(&self) -> u64 {
        self.status("Threads:").trim().parse().expect("a number")
    }

    fn status_kib(&self, field: &str) -> u64 {
        self.status(field).trim().trim_end_matches(" kB").parse().expect("a number")
    }

    fn status(&self, field: &str) -> String {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let value = status.lines().find_map(|line| line.strip_prefix(field));
        value
            .unwrap_or_else(|| panic!("{} has no {field} in its status: it does not run", self.name))
            .to_owned()
    }
}

/// The same command by way of `setpriv`, which has the kernel kill it once the thread that starts it is gone: a test run
/// that is interrupted drops nothing.
fn dying_with_us(command: &Command) -> Command {
    let mut wrapped = tool::command("setpriv", "util-linux");
    wrapped.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(name, value),
            None => wrapped.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        wrapped.current_dir(folder);
    }
    wrapped
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            print_log(&self.name, &self.log);
        }
    }
}

fn print_log(name: &str, log: &Log) {
    log.lines(|lines| {
        let hidden = lines.len().saturating_sub(PRINTED_LINES);
        println!("---- log of {name} ({hidden} earlier lines left out)");
        for line in &lines[hidden..] {
            println!("{line}");
        }
        println!("---- end of the log of {name}");
    });
}

/// How a command ended, and what it said.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Exit code; -1 if a signal ended it.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Ended {
    /// The same, once it is known to have exited with 0.
    ///
    /// # Panics
    /// If it did not.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "the command failed: {self:#?}");
        self
    }
}

/// Runs `command` to its end.
///
/// # Panics
/// If it can't be started or takes longer than two minutes.
pub async fn run(command: Command) -> Ended {
    run_with(Stdio::null(), command).await
}

/// As [`run`], with this as its standard input.
///
/// # Panics
/// As [`run`].
pub async fn run_with(input: impl Into<Stdio>, mut command: Command) -> Ended {
    let name = format!("{command:?}");
    let child = command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).spawn();
    let child = child.unwrap_or_else(|error| panic!("{name} can't be started: {error}"));
    let group =
        i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a child's id is a positive i32");
    let output = tokio::task::spawn_blocking(move || child.wait_with_output());
    let Ok(output) = tokio::time::timeout(COMMAND_DEADLINE, output).await else {
        let _ = kill_process_group(group, Signal::KILL);
        panic!("{name} did not end within {COMMAND_DEADLINE:?}");
    };
    let output = output.expect("waiting does not panic").expect("the pipes of a child can be read");
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
