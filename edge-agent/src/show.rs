//! The commands beside running: `tidegate-agent status`, `ready`, `doctor`. They print, and answer with the exit code.

use std::io::{self, Write as _};
use std::path::Path;

use serde::Serialize;
use shared::report::{Outcome, Report};
use shared::terminal::{self, Text};

use crate::config::{Config, ConfigError, Format};
use crate::doctor::examine;
use crate::exit::Exit;
use crate::status::Status;
use crate::status::socket::{AskError, ask};

/// Shows how the agent of this data folder is.
pub fn status(folder: &Path, format: Format) -> Exit {
    match ask(folder) {
        Ok(status) => print(format, &status, Status::text),
        Err(error) => no(&error.to_string()),
    }
}

/// Says whether that agent's gateway answered it lately: for container engines, which look at the exit code.
pub fn ready(folder: &Path) -> Exit {
    match ask(folder) {
        Ok(status) if status.ready => print(Format::Table, &status, |_| Text::lines("ready\n")),
        Ok(status) => no(&not_ready(&status)),
        Err(error @ (AskError::NotRunning(_) | AskError::Io { .. } | AskError::Answer(_))) => {
            no(&error.to_string())
        }
    }
}

fn not_ready(status: &Status) -> String {
    if status.gateway.is_none() {
        return "not ready: the agent waits for a join token".to_owned();
    }
    let reason = status.check_in.as_ref().and_then(|last| last.reason.as_deref());
    match (reason, status.answered_s_ago) {
        (Some(reason), _) => format!("not ready: {reason}"),
        (None, Some(ago)) => format!("not ready: the gateway answered {ago} s ago for the last time"),
        (None, None) => "not ready: the agent has not checked in yet".to_owned(),
    }
}

/// Looks for what is wrong.
pub async fn doctor(folder: &Path, config: Result<Config, ConfigError>, format: Format) -> Exit {
    let report = examine(folder, config).await;
    match (print(format, &report, Report::text), report.worst()) {
        (Exit::Ok, Outcome::Failure) => Exit::Failed,
        (exit, _) => exit,
    }
}

fn print<T: Serialize>(format: Format, value: &T, text: impl FnOnce(&T) -> Text) -> Exit {
    let printed = match format {
        Format::Table => text(value).render(terminal::colours(&io::stdout())),
        Format::Json => terminal::json(value).expect("strings, numbers and lists have no failing serializer"),
    };
    let mut out = io::stdout().lock();
    match out.write_all(printed.as_bytes()).and_then(|()| out.flush()) {
        // A reader that has seen enough is no error.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            no(&format!("can't write the output: {error}"))
        }
        Ok(()) | Err(_) => Exit::Ok,
    }
}

fn no(why: &str) -> Exit {
    // Nothing can be done where even that fails.
    let _ = writeln!(io::stderr(), "tidegate-agent: {}", terminal::escape(why));
    Exit::Failed
}
