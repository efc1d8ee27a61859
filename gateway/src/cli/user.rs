//! `tidegate user`: who may sign in, and what they may do.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use http::Method;
use shared::id::UserName;
use shared::terminal::Text;
use shared::wire::admin::{ChangeUser, CreateUser, Session, SetPassword, User, UserList};

use super::access::How;
use super::client::{NOTHING, PAGE};
use super::exit::CliError;
use super::output::{confirm, done, print};
use super::password::{PasswordArgs, from_file};
use super::people::{RoleArg, Tags, reach, role_word};

const PATH: &str = "/api/v1/users";
const SESSION: &str = "/api/v1/session";

/// `tidegate user`.
#[derive(Args, Debug)]
pub struct UserArgs {
    #[command(subcommand)]
    command: UserCommand,
}

#[derive(Debug, Subcommand)]
enum UserCommand {
    /// Make a user
    Add {
        /// Name to sign in with
        name: UserName,
        /// What they may do
        #[arg(long, value_enum)]
        role: RoleArg,
        #[command(flatten)]
        tags: Tags,
        #[command(flatten)]
        password: PasswordArgs,
        /// Give them no password: they use SSH keys that an admin adds for them
        #[arg(long, conflicts_with = "password_file")]
        no_password: bool,
        #[command(flatten)]
        how: How,
    },
    /// List users
    List {
        #[command(flatten)]
        how: How,
    },
    /// Let a user do more or less, from now on
    SetRole {
        /// Whom
        name: UserName,
        /// What they may do
        #[arg(value_enum)]
        role: RoleArg,
        #[command(flatten)]
        how: How,
    },
    /// Bind a user to the edges with some tags, or to none
    SetTags {
        /// Whom
        name: UserName,
        #[command(flatten)]
        reach: NewReach,
        #[command(flatten)]
        how: How,
    },
    /// Set a password: one's own, or as an admin somebody else's. Ends what they are signed in to
    Passwd {
        /// Whose [default: your own]
        name: Option<UserName>,
        #[command(flatten)]
        password: PasswordArgs,
        /// File with the password that you have now, for your own [default: it is asked for]
        #[arg(long, value_name = "FILE")]
        current_password_file: Option<PathBuf>,
        #[command(flatten)]
        how: How,
    },
    /// Delete a user, with their tokens, keys and sessions
    Delete {
        /// Whom
        name: UserName,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
        #[command(flatten)]
        how: How,
    },
}

#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
struct NewReach {
    /// An edge with this tag; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Every edge
    #[arg(long)]
    all: bool,
}

impl UserArgs {
    /// Does it.
    pub async fn run(self) -> Result<(), CliError> {
        match self.command {
            UserCommand::Add { name, role, tags, password, no_password, how } => {
                let client = how.access.client()?;
                let password = if no_password { None } else { Some(password.read_new(name.as_str())?) };
                let new = CreateUser { name, password, role: role.into(), tags: tags.given() };
                let user: User = client.call(Method::POST, PATH, Some(&new)).await?;
                print(how.output, &user, |user| listed(std::slice::from_ref(user)))
            }
            UserCommand::List { how } => {
                let mut list = UserList { users: Vec::new(), next: None };
                let take = |page: UserList| {
                    list.users.extend(page.users);
                    page.next
                };
                how.access.client()?.pages(&format!("{PATH}?limit={PAGE}"), take).await?;
                print(how.output, &list, |list| listed(&list.users))
            }
            UserCommand::SetRole { name, role, how } => {
                let change = ChangeUser { role: Some(role.into()), ..ChangeUser::default() };
                changed(&how, &name, &change).await
            }
            UserCommand::SetTags { name, reach, how } => {
                let tags = (!reach.all).then_some(reach.tags);
                changed(&how, &name, &ChangeUser { tags: Some(tags), ..ChangeUser::default() }).await
            }
            UserCommand::Passwd { name, password, current_password_file, how } => {
                passwd(name, &password, current_password_file, &how).await
            }
            UserCommand::Delete { name, yes, how } => {
                let client = how.access.client()?;
                if !yes {
                    confirm(&format!("Delete {name}, with their tokens, SSH keys and sessions?"))?;
                }
                client.call::<()>(Method::DELETE, &path(&name), NOTHING).await?;
                done(how.output, "deleted", "user", name.as_str())
            }
        }
    }
}

fn path(name: &UserName) -> String {
    format!("{PATH}/{name}")
}

async fn changed(how: &How, name: &UserName, change: &ChangeUser) -> Result<(), CliError> {
    let user: User = how.access.client()?.call(Method::PATCH, &path(name), Some(change)).await?;
    print(how.output, &user, |user| listed(std::slice::from_ref(user)))
}

async fn passwd(
    name: Option<UserName>,
    password: &PasswordArgs,
    current: Option<PathBuf>,
    how: &How,
) -> Result<(), CliError> {
    let client = how.access.client()?;
    let session: Session = client.call(Method::GET, SESSION, NOTHING).await?;
    let nobody = || CliError::Failed("this token is no user's: say whose password to set".to_owned());
    let name = name.or_else(|| session.user.clone()).ok_or_else(nobody)?;
    let current = match current {
        Some(file) => Some(from_file(&file)?),
        None if session.user.as_ref() == Some(&name) => {
            Some(PasswordArgs::default().read("The password that you have now: ")?)
        }
        None => None,
    };
    let new = SetPassword { password: password.read_new(name.as_str())?, current };
    client.call::<()>(Method::PUT, &format!("{}/password", path(&name)), Some(&new)).await?;
    done(how.output, "changed", "the password of", name.as_str())
}

fn listed(users: &[User]) -> Text {
    let rows = users.iter().map(|user| {
        [
            user.name.to_string(),
            role_word(user.role).to_owned(),
            reach(user.tags.as_deref()),
            if user.has_password { "yes" } else { "no" }.to_owned(),
            user.created_at.clone(),
        ]
    });
    Text::table(["NAME", "ROLE", "EDGES", "PASSWORD", "CREATED"], rows)
}
