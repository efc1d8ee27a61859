//! `tidegate backup` and `tidegate restore`.
//!
//! The rule: a backup stands at its place only when it is whole and checked, and it is as secret as the gateway's keys.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use shared::terminal::Text;

use super::access::How;
use super::download::write_to;
use super::exit::{CliError, complain};
use super::output::{Format, print};
use crate::backup::{Summary, restore, verify};
use crate::config::DEFAULT_DATA_DIR;
use crate::data_dir::SecretFile;

const PATH: &str = "/api/v1/backup";

/// `tidegate backup`.
#[derive(Args, Debug)]
pub struct BackupArgs {
    /// Where to put the backup; an older one there is replaced once the new one is whole
    file: PathBuf,
    #[command(flatten)]
    how: How,
}

/// `tidegate restore`.
#[derive(Args, Debug)]
pub struct RestoreArgs {
    /// The backup
    file: PathBuf,
    /// Data folder to make of it: one that is absent or empty
    #[arg(long, env = "TIDEGATE_DATA_DIR", value_name = "DIR", default_value = DEFAULT_DATA_DIR)]
    data_dir: PathBuf,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
}

impl BackupArgs {
    /// Downloads it, checks it, and puts it in place.
    pub async fn run(self) -> Result<(), CliError> {
        let body = self.how.access.client()?.download(PATH).await?;
        let shown = self.file.display().to_string();
        let failed = |error| CliError::failed(format!("can't write {shown}"), error);
        let mut file = SecretFile::create(&self.file).map_err(failed)?;
        write_to(&mut file, &shown, body, "backup").await?;
        let summary =
            verify(file.beside()).map_err(|error| CliError::failed("the backup is no good", error))?;
        file.commit().map_err(failed)?;
        let said = format!("backed up {} to {shown}; keep it secret", contents(summary));
        finish(self.how.output, summary, &said)
    }
}

impl RestoreArgs {
    /// Makes a data folder of it, without a gateway.
    pub async fn run(self) -> Result<(), CliError> {
        let restored = restore(&self.file, &self.data_dir).await;
        let summary = restored.map_err(|error| CliError::Failed(error.to_string()))?;
        let said = format!("restored {} into {}", contents(summary), self.data_dir.display());
        finish(self.output, summary, &said)
    }
}

fn finish(format: Format, summary: Summary, said: &str) -> Result<(), CliError> {
    match format {
        Format::Table => {
            complain(&said);
            Ok(())
        }
        Format::Json => {
            let Summary { edges, users, tokens, ssh_keys, snapshots, files } = summary;
            let counted = json!({ "edges": edges, "users": users, "tokens": tokens, "ssh_keys": ssh_keys,
                "snapshots": snapshots, "files": files });
            print(format, &counted, |_| Text::default())
        }
    }
}

fn contents(summary: Summary) -> String {
    let Summary { edges, users, tokens, ssh_keys, snapshots, files } = summary;
    format!(
        "{edges} edges, {users} users, {tokens} API tokens, {ssh_keys} SSH keys, {snapshots} snapshots and {files} files"
    )
}
