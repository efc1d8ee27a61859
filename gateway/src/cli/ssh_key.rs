//! `tidegate ssh-key`: operators' own SSH keys.
//!
//! The rule: what is no public key is found out here and goes nowhere. Who names the wrong one of two files has not
//! shown a private key to anybody.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use http::Method;
use shared::id::UserName;
use shared::terminal::Text;
use shared::wire::admin::{AddSshKey, SshKey, SshKeyList};
use uuid::Uuid;

use super::access::How;
use super::client::{NOTHING, PAGE};
use super::exit::CliError;
use super::output::{done, print};
use crate::access::{OperatorKey, OperatorKeyError};

const PATH: &str = "/api/v1/ssh-keys";
/// Where `ssh-keygen` puts a public key unless it is told otherwise, in the home folder.
const DEFAULT_FILE: &str = ".ssh/id_ed25519.pub";
/// Stands for no user in particular.
const NOBODY: &str = "nobody";
/// Stands for standard input.
const STDIN: &str = "-";
/// Read of a file at most, so that a wrong one does no harm. A public key takes a few hundred bytes.
const MAX_FILE: u64 = 64 * 1024;

/// `tidegate ssh-key`.
#[derive(Args, Debug)]
pub struct SshKeyArgs {
    #[command(subcommand)]
    command: SshKeyCommand,
}

#[derive(Debug, Subcommand)]
enum SshKeyCommand {
    /// Let the owner of an SSH key in on the gateway's SSH port
    Add {
        /// File with the public key, - for standard input [default: ~/.ssh/id_ed25519.pub]
        file: Option<PathBuf>,
        /// Whose key it is [default: the key's comment]
        #[arg(long, value_name = "NAME")]
        label: Option<String>,
        /// The user whose key it is, for an admin to say; `nobody` lets in whoever has it [default: yourself]
        #[arg(long, value_name = "USER", value_parser = owner)]
        user: Option<Owner>,
        #[command(flatten)]
        how: How,
    },
    /// List SSH keys
    List {
        #[command(flatten)]
        how: How,
    },
    /// Remove an SSH key: its owner can't log in with it any more
    Remove {
        /// Its id, as `list` shows it
        id: Uuid,
        #[command(flatten)]
        how: How,
    },
}

impl SshKeyArgs {
    /// Does it.
    pub async fn run(self) -> Result<(), CliError> {
        match self.command {
            SshKeyCommand::Add { file, label, user, how } => {
                let user = user.map(|owner| owner.0);
                let new = AddSshKey { user, ..addition(&file.map_or_else(default_file, Ok)?, label)? };
                let added: SshKey = how.access.client()?.make(PATH, &new).await?;
                print(how.output, &added, |added| listed(std::slice::from_ref(added)))
            }
            SshKeyCommand::List { how } => {
                let mut list = SshKeyList { ssh_keys: Vec::new(), next: None };
                let take = |page: SshKeyList| {
                    list.ssh_keys.extend(page.ssh_keys);
                    page.next
                };
                how.access.client()?.pages(&format!("{PATH}?limit={PAGE}"), take).await?;
                print(how.output, &list, |list| listed(&list.ssh_keys))
            }
            SshKeyCommand::Remove { id, how } => {
                how.access.client()?.call::<()>(Method::DELETE, &format!("{PATH}/{id}"), NOTHING).await?;
                done(how.output, "removed", "SSH key", &id.to_string())
            }
        }
    }
}

/// Somebody, or nobody in particular.
#[derive(Clone, Debug)]
struct Owner(Option<UserName>);

fn owner(text: &str) -> Result<Owner, String> {
    if text == NOBODY {
        return Ok(Owner(None));
    }
    text.parse().map(|name| Owner(Some(name))).map_err(|error| format!("{error}"))
}

fn default_file() -> Result<PathBuf, CliError> {
    let home = std::env::home_dir().filter(|home| !home.as_os_str().is_empty());
    home.map(|home| home.join(DEFAULT_FILE)).ok_or_else(|| {
        CliError::Configuration(
            "there is no home folder to look for a key in; name the key's .pub file".to_owned(),
        )
    })
}

/// What to ask for, of a key that was looked at.
fn addition(file: &Path, label: Option<String>) -> Result<AddSshKey, CliError> {
    let text =
        if file == Path::new(STDIN) { read(io::stdin()) } else { std::fs::File::open(file).and_then(read) };
    let text = text.map_err(|error| {
        let hint = "; `ssh-keygen -t ed25519` makes a key";
        let hint = if error.kind() == io::ErrorKind::NotFound { hint } else { "" };
        CliError::Failed(format!("can't read {}: {error}{hint}", file.display()))
    })?;
    let key = OperatorKey::parse(&text).map_err(|error| match error {
        OperatorKeyError::Private => CliError::Failed(format!(
            "{} holds a private key, which was sent nowhere; name the file with the public key, which ends in .pub",
            file.display()
        )),
        error => CliError::failed(file.display(), error),
    })?;
    let label = label.unwrap_or_else(|| key.comment().to_owned());
    if label.is_empty() {
        let hint = "the key has no comment to tell whose it is; give it a name with --label";
        return Err(CliError::Failed(hint.to_owned()));
    }
    Ok(AddSshKey { label, public_key: key.canonical().to_owned(), user: None })
}

fn read(from: impl Read) -> io::Result<String> {
    let mut text = String::new();
    from.take(MAX_FILE).read_to_string(&mut text)?;
    Ok(text)
}

fn listed(keys: &[SshKey]) -> Text {
    let rows = keys.iter().map(|key| {
        [
            key.id.to_string(),
            key.created_at.clone(),
            key.fingerprint.clone(),
            key.user.as_ref().map_or_else(|| NOBODY.to_owned(), ToString::to_string),
            key.label.clone(),
        ]
    });
    Text::table(["ID", "CREATED", "FINGERPRINT", "USER", "LABEL"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

    fn file(content: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), content).expect("written");
        file
    }

    #[test]
    fn label_is_the_comment_unless_one_is_given_and_only_the_key_is_sent() {
        let commented = file(&format!("{KEY} ada@work\n"));
        let addition = |label| addition(commented.path(), label).expect("a good key");
        assert_eq!(
            addition(None),
            AddSshKey { label: "ada@work".into(), public_key: KEY.into(), user: None }
        );
        assert_eq!(addition(Some("Ada".into())).label, "Ada");
    }

    #[test]
    fn a_key_without_any_label_asks_for_one() {
        let error = addition(file(KEY).path(), None).expect_err("nothing to call it");
        assert!(error.to_string().contains("--label"), "{error}");
    }

    #[test]
    fn a_private_key_goes_nowhere_and_is_not_repeated() {
        let private = file("-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n");
        let error = addition(private.path(), Some("Ada".into())).expect_err("private").to_string();
        assert!(error.contains("sent nowhere") && error.contains(".pub"), "{error}");
        assert!(!error.contains("c2VjcmV0"), "{error}");
    }

    #[test]
    fn a_missing_file_says_how_a_key_is_made() {
        let error = addition(Path::new("/nowhere/id.pub"), None).expect_err("missing").to_string();
        assert!(error.contains("/nowhere/id.pub") && error.contains("ssh-keygen"), "{error}");
    }
}
