//! `tidegate audit`: what was done, by whom; and whether the log of it is intact.
//!
//! The rule: whether a log is intact can be found out without its gateway, which may be the one that nobody trusts any
//! more: from its data folder, or from a file that was exported.

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use http::Method;
use shared::id::EdgeName;
use shared::terminal::{Cell, Style, Text};
use shared::wire::admin::{
    AuditActor, AuditActorKind, AuditHead, AuditOutcome, AuditPage, AuditRecord, AuditVerdict,
};
use shared::wire::{parse_rfc3339, rfc3339};

use super::access::{Access, How};
use super::client::NOTHING;
use super::download::write_to;
use super::edge::percent_encode;
use super::exit::{CliError, complain};
use super::output::print;
use super::units::{bytes, seconds};
use crate::audit::verify::{verify_file, verify_folder};
use crate::data_dir::SecretFile;

const PATH: &str = "/api/v1/audit";
/// Most records of a page, as the gateway has it.
const PAGE: usize = 1000;
/// Stands for standard output.
const STDOUT: &str = "-";

/// `tidegate audit`.
#[derive(Args, Debug)]
pub struct AuditArgs {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// List what was done, newest first
    List(List),
    /// Find out whether the log is as it was written: the gateway's, that of a data folder, or an exported one
    Verify(Verify),
    /// Write the log as JSON lines, oldest first
    Export(Export),
}

#[derive(Args, Debug)]
struct List {
    /// Only what was done to this edge
    #[arg(long, value_name = "NAME")]
    edge: Option<EdgeName>,
    /// Only what this user, token or key did
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
    /// Only this action, such as edge.delete; with a dot at its end all that begin so, such as edge.
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// Only from then on: a time such as 2026-11-09T08:00:00Z, or how long ago, such as 2h
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<u64>,
    /// Only before then
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<u64>,
    /// At most so many
    #[arg(long, value_name = "COUNT", default_value = "100")]
    limit: usize,
    #[command(flatten)]
    how: How,
}

#[derive(Args, Debug)]
struct Verify {
    /// The log in this data folder, of a gateway that does not run
    #[arg(long, value_name = "DIR", conflicts_with = "file")]
    data_dir: Option<PathBuf>,
    /// This file, which was exported
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// A place that was noted before: the log must still have that record. May be given several times
    #[arg(long = "head", value_name = "SEQ:HASH")]
    heads: Vec<AuditHead>,
    #[command(flatten)]
    how: How,
}

#[derive(Args, Debug)]
struct Export {
    /// Where to put it; - for standard output
    file: PathBuf,
    /// Only records behind the one with this number
    #[arg(long, value_name = "SEQ", default_value = "0")]
    after: u64,
    #[command(flatten)]
    access: Access,
}

impl AuditArgs {
    /// Does it.
    pub async fn run(self) -> Result<(), CliError> {
        match self.command {
            AuditCommand::List(list) => list.run().await,
            AuditCommand::Verify(verify) => verify.run().await,
            AuditCommand::Export(export) => export.run().await,
        }
    }
}

impl List {
    async fn run(self) -> Result<(), CliError> {
        let client = self.how.access.client()?;
        let mut found = AuditPage { records: Vec::new(), next: None };
        while found.records.len() < self.limit {
            let path = self.path(self.limit - found.records.len(), found.next);
            let page: AuditPage = client.call(Method::GET, &path, NOTHING).await?;
            found.records.extend(page.records);
            // A page that does not move on would be asked for again for ever.
            let moved = page.next.filter(|next| found.next.is_none_or(|before| *next < before));
            found.next = moved;
            if moved.is_none() {
                break;
            }
        }
        print(self.how.output, &found, |found| listed(&found.records))
    }

    fn path(&self, wanted: usize, after: Option<u64>) -> String {
        let text = |name: &str, value: &Option<String>| {
            value.as_ref().map(|value| format!("&{name}={}", percent_encode(value)))
        };
        let number = |name: &str, value: Option<u64>| value.map(|value| format!("&{name}={value}"));
        let parts = [
            self.edge.as_ref().map(|edge| format!("&edge={edge}")),
            text("actor", &self.actor),
            text("action", &self.action),
            number("since", self.since),
            number("until", self.until),
            number("after", after),
        ];
        format!("{PATH}?limit={}{}", wanted.min(PAGE), parts.into_iter().flatten().collect::<String>())
    }
}

impl Verify {
    async fn run(self) -> Result<(), CliError> {
        let verdict = match (self.data_dir, self.file) {
            (Some(folder), _) => {
                let heads = self.heads;
                read(folder, move |folder| verify_folder(folder, &heads)).await?
            }
            (None, Some(file)) => {
                let heads = self.heads;
                read(file, move |file| verify_file(file, &heads)).await?
            }
            (None, None) if self.heads.is_empty() => {
                let client = self.how.access.client()?;
                client.call_patiently(Method::GET, &format!("{PATH}/verify"), NOTHING).await?
            }
            (None, None) => {
                let hint =
                    "--head needs --data-dir or --file: a gateway that is not trusted could say anything";
                return Err(CliError::Configuration(hint.to_owned()));
            }
        };
        print(self.how.output, &verdict, judged)?;
        if verdict.intact {
            return Ok(());
        }
        Err(CliError::Failed("the audit log is not as it was written".to_owned()))
    }
}

/// A gigabyte takes seconds to read.
async fn read(
    path: PathBuf,
    verify: impl FnOnce(&Path) -> io::Result<AuditVerdict> + Send + 'static,
) -> Result<AuditVerdict, CliError> {
    let shown = path.display().to_string();
    let verified = tokio::task::spawn_blocking(move || verify(&path)).await;
    let verified = verified.map_err(|error| CliError::failed("the verification broke off", error))?;
    verified.map_err(|error| CliError::failed(format!("can't read the audit log in {shown}"), error))
}

impl Export {
    async fn run(self) -> Result<(), CliError> {
        let body = self.access.client()?.download(&format!("{PATH}/export?after={}", self.after)).await?;
        if self.file == Path::new(STDOUT) {
            if io::stdout().is_terminal() {
                let hint = "the log as it is does not belong on a terminal; name a file, or use `tidegate audit list`";
                return Err(CliError::Failed(hint.to_owned()));
            }
            return write_to(&mut io::stdout().lock(), "standard output", body, "export").await.map(drop);
        }
        let shown = self.file.display().to_string();
        let failed = |error| CliError::failed(format!("can't write {shown}"), error);
        let mut file = SecretFile::create(&self.file).map_err(failed)?;
        let size = write_to(&mut file, &shown, body, "export").await?;
        file.commit().map_err(failed)?;
        complain(&format!("exported {} to {shown}", bytes(size)));
        Ok(())
    }
}

fn listed(records: &[AuditRecord]) -> Text {
    let rows = records.iter().map(|record| {
        let (style, outcome) = match record.outcome {
            AuditOutcome::Ok => (Style::Plain, "ok"),
            AuditOutcome::Refused => (Style::Warning, "refused"),
            AuditOutcome::Failed => (Style::Bad, "failed"),
        };
        let outcome = match &record.code {
            Some(code) => format!("{outcome} {code}"),
            None => outcome.to_owned(),
        };
        [
            rfc3339(UNIX_EPOCH + Duration::from_millis(record.at)).into(),
            actor(&record.actor).into(),
            record.from.as_deref().unwrap_or_default().into(),
            record.action.as_str().into(),
            about(record).into(),
            Cell::styled(style, &outcome),
            more(record).into(),
        ]
    });
    Text::table(["AT", "WHO", "FROM", "ACTION", "EDGE", "OUTCOME", "MORE"], rows)
}

fn actor(actor: &AuditActor) -> String {
    let kind = match actor.kind {
        AuditActorKind::User => "user",
        AuditActorKind::Token => "token",
        AuditActorKind::SshKey => "ssh key",
        AuditActorKind::Session => "session",
        AuditActorKind::Agent => "agent",
        AuditActorKind::Stranger => "stranger",
        AuditActorKind::Gateway => "gateway",
    };
    if actor.name.is_empty() { kind.to_owned() } else { format!("{kind} {}", actor.name) }
}

fn about(record: &AuditRecord) -> String {
    match (&record.edge, &record.service) {
        (Some(edge), Some(service)) => format!("{edge}/{service}"),
        (Some(edge), None) => edge.to_string(),
        (None, _) => String::new(),
    }
}

fn more(record: &AuditRecord) -> String {
    let parts = [
        record.count.map(|count| format!("{count} times")),
        record.bytes_in.map(|count| format!("{} in", bytes(count))),
        record.bytes_out.map(|count| format!("{} out", bytes(count))),
        record.duration_ms.map(|time| format!("{:.1} s", time as f64 / 1000.0)),
        record.detail.clone(),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn judged(verdict: &AuditVerdict) -> Text {
    let intact = if verdict.intact { (Style::Good, "yes") } else { (Style::Bad, "no") };
    let from = if verdict.anchor.seq == 0 {
        "the first record".to_owned()
    } else {
        format!("behind {}; what was before that was dropped", verdict.anchor)
    };
    let noted = match verdict.damage_noted {
        0 => Cell::default(),
        times => {
            Cell::styled(Style::Warning, &format!("{times} times by the gateway itself when it started"))
        }
    };
    let text = Text::facts::<Cell>([
        ("intact", Cell::styled(intact.0, intact.1)),
        ("records", verdict.records.to_string().into()),
        ("from", from.into()),
        ("head", verdict.head.to_string().into()),
        ("damage noted", noted),
    ]);
    if verdict.problems.is_empty() {
        return text;
    }
    let rows = verdict
        .problems
        .iter()
        .map(|problem| [problem.file.clone(), problem.line.to_string(), problem.what.clone()]);
    text.then(Text::table(["FILE", "LINE", "WHAT IS WRONG"], rows))
}

/// Milliseconds since 1970, of a time or of how long ago it was.
fn moment(text: &str) -> Result<u64, String> {
    let time = match seconds(text) {
        Ok(ago) => SystemTime::now().checked_sub(Duration::from_secs(ago.into())),
        Err(_) => parse_rfc3339(text),
    };
    let since = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.and_then(|since| u64::try_from(since.as_millis()).ok()).ok_or_else(|| {
        "give a time such as 2026-11-09T08:00:00Z, or how long ago, such as 30m, 2h or 7d".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_times_or_spans_before_now() {
        assert_eq!(moment("1970-01-01T00:00:01.5Z"), Ok(1_500));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64;
        let hour = moment("1h").expect("a span");
        assert!((now - 3_700_000..=now - 3_500_000).contains(&hour));
        assert!(moment("yesterday").is_err());
    }

    #[test]
    fn a_list_asks_for_what_it_was_told_and_no_more_than_a_page() {
        let list = List {
            edge: Some("shop".parse().expect("a label")),
            actor: Some("ada l".into()),
            action: None,
            since: Some(7),
            until: None,
            limit: 5000,
            how: How::default(),
        };
        assert_eq!(
            list.path(5000, Some(9)),
            "/api/v1/audit?limit=1000&edge=shop&actor=ada%20l&since=7&after=9"
        );
    }
}
