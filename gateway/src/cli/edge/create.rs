//! `tidegate edge create`: one site with all that its agent needs, or many with a file of their join tokens.
//!
//! The rule: a join token is shown once, so no token is lost that was made. The file of tokens is there before the first
//! edge is, the lines of some edges are on disk before the next ones are made, and what stops half-way says what it made.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::json;
use shared::id::EdgeName;
use shared::terminal::Text;
use shared::wire::admin::{BULK_EDGES, CreateEdge, CreateEdges, EdgeCreated, EdgesCreated, MAX_BULK};

use super::super::access::How;
use super::super::client::Client;
use super::super::exit::{CliError, complain};
use super::super::output::{Format, print};
use super::super::progress::Progress;
use super::super::units::seconds;
use super::{PATH, view, wait};

/// Read of a file of names at most: 15,000 names of 63 characters take less than one.
const MAX_NAMES_FILE: u64 = 4 * 1024 * 1024;
/// Edges asked for at a time. Their tokens are on disk before the next ones are asked for.
const CHUNK: usize = 200;
const _: () = assert!(CHUNK <= MAX_BULK, "the gateway makes no more at a time");

/// `tidegate edge create`.
#[derive(Args, Debug)]
pub(super) struct Create {
    /// Name: a DNS label, such as shop-17
    #[arg(required_unless_present = "from_file")]
    name: Option<EdgeName>,
    /// File with many names, one a line; lines that begin with # are left out
    #[arg(long, value_name = "FILE", conflicts_with_all = ["name", "wait"], requires = "tokens")]
    from_file: Option<PathBuf>,
    /// New file for the join tokens of many: name, tab, token on each line. A secret, made with mode 0600
    #[arg(long, value_name = "FILE", requires = "from_file")]
    tokens: Option<PathBuf>,
    /// Let several instances run with one edge ID, one on each node of a swarm
    #[arg(long)]
    cluster: bool,
    /// Seconds between check-ins of this edge, instead of the gateway's setting
    #[arg(long, value_name = "SECONDS")]
    interval: Option<u32>,
    /// Seconds without use after which its tunnel closes, instead of the gateway's setting
    #[arg(long, value_name = "SECONDS")]
    idle_timeout: Option<u32>,
    /// A word to find it by; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Wait until its agent joins
    #[arg(long)]
    wait: bool,
    /// How long to wait at most: a number and s, m, h or d [default: for ever]
    #[arg(long, value_name = "TIME", value_parser = seconds, requires = "wait")]
    timeout: Option<u32>,
    #[command(flatten)]
    how: How,
}

impl Create {
    /// Does it.
    pub(super) async fn run(self) -> Result<(), CliError> {
        let client = self.how.access.client()?;
        match (&self.name, &self.from_file, &self.tokens) {
            (Some(name), ..) => self.one(&client, name.clone()).await,
            (None, Some(names), Some(tokens)) => self.many(&client, &read_names(names)?, tokens).await,
            (None, ..) => unreachable!("clap asks for a name, or for both files"),
        }
    }

    async fn one(&self, client: &Client, name: EdgeName) -> Result<(), CliError> {
        let created: EdgeCreated = client.make(PATH, &self.asked(name.clone())).await?;
        print(self.how.output, &created, view::enrolment)?;
        if self.wait {
            let patience = self.timeout.map(|s| Duration::from_secs(s.into()));
            let edge = wait::until_joined(client, &name, patience).await?;
            let host = edge.instances.first().map_or_else(String::new, |instance| {
                format!(": agent {} on {}", instance.agent, instance.hostname)
            });
            complain(&format!("{name} joined{host}"));
        }
        Ok(())
    }

    async fn many(&self, client: &Client, names: &[EdgeName], tokens: &Path) -> Result<(), CliError> {
        let failed = |error| CliError::failed(format!("can't write {}", tokens.display()), error);
        let mut file = new_secret_file(tokens).map_err(failed)?;
        let mut progress = Progress::new();
        let (mut made, mut refused) = (0, Vec::new());
        for some in names.chunks(CHUNK) {
            progress.show(&format!("making edges, {made} of {} are made", names.len()));
            let new = CreateEdges {
                names: some.iter().map(ToString::to_string).collect(),
                cluster: self.cluster,
                interval_s: self.interval,
                idle_timeout_s: self.idle_timeout,
                tags: self.tags.clone(),
            };
            let answer: EdgesCreated = match client.make(BULK_EDGES, &new).await {
                Ok(answer) => answer,
                Err(error) => {
                    progress.clear();
                    complain(&format!(
                        "{made} edges were made before; their join tokens are in {}",
                        tokens.display()
                    ));
                    return Err(error);
                }
            };
            for edge in &answer.created {
                writeln!(file, "{}\t{}", edge.name, edge.join_token).map_err(failed)?;
            }
            file.sync_data().map_err(failed)?;
            made += answer.created.len();
            refused.extend(answer.refused);
        }
        progress.clear();
        match self.how.output {
            Format::Table => complain(&format!(
                "made {made} edges; their join tokens are in {}; keep it secret",
                tokens.display()
            )),
            Format::Json => {
                let counted =
                    json!({ "made": made, "tokens": tokens.display().to_string(), "refused": refused });
                print(self.how.output, &counted, |_| Text::default())?;
            }
        }
        if refused.is_empty() {
            return Ok(());
        }
        let reasons: Vec<_> = refused.iter().map(|edge| format!("{}: {}", edge.name, edge.detail)).collect();
        Err(CliError::Failed(format!("{} names became no edges:\n{}", refused.len(), reasons.join("\n"))))
    }

    fn asked(&self, name: EdgeName) -> CreateEdge {
        CreateEdge {
            name,
            cluster: self.cluster,
            interval_s: self.interval,
            idle_timeout_s: self.idle_timeout,
            tags: self.tags.clone(),
        }
    }
}

/// A file that was not there: tokens of an earlier run are not lost to a later one.
fn new_secret_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().create_new(true).append(true).mode(0o600).open(path)
}

fn read_names(path: &Path) -> Result<Vec<EdgeName>, CliError> {
    let failed = |error| CliError::failed(format!("can't read {}", path.display()), error);
    let mut text = String::new();
    File::open(path).and_then(|file| file.take(MAX_NAMES_FILE).read_to_string(&mut text)).map_err(failed)?;
    names(&text).map_err(|problem| CliError::Failed(format!("{}:{problem}", path.display())))
}

/// Each line's name, once; or the line that has none, and why.
fn names(text: &str) -> Result<Vec<EdgeName>, String> {
    let mut names: Vec<EdgeName> = Vec::new();
    for (index, line) in text.lines().map(str::trim).enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name: EdgeName = line.parse().map_err(|error| format!("{}: {line:?} is {error}", index + 1))?;
        names.push(name);
    }
    let mut sorted = names.clone();
    sorted.sort();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!(" {} stands there twice", pair[0])),
        None if names.is_empty() => Err(" no name stands there".to_owned()),
        None => Ok(names),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_of_names_has_one_a_line_and_each_once() {
        let read = names("# shops\nshop-1\n\n  shop-2 \r\n").expect("two names");
        assert_eq!(read.iter().map(EdgeName::as_str).collect::<Vec<_>>(), ["shop-1", "shop-2"]);
        for (text, word) in
            [("shop-1\nShop_2\n", "2: \"Shop_2\""), ("a\nb\na\n", "a stands there twice"), ("#\n", "no name")]
        {
            let problem = names(text).expect_err(text);
            assert!(problem.contains(word), "{problem}");
        }
    }

    #[test]
    fn a_file_of_tokens_is_private_and_replaces_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tokens");
        let file = new_secret_file(&path).expect("nothing is there");
        assert_eq!(file.metadata().expect("open").permissions().mode() & 0o777, 0o600);
        assert_eq!(new_secret_file(&path).expect_err("it is there").kind(), io::ErrorKind::AlreadyExists);
    }
}
