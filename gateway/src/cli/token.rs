//! `tidegate token`: tokens of the admin API.

use clap::{Args, Subcommand};
use http::Method;
use shared::terminal::Text;
use shared::wire::admin::{CreateToken, Token, TokenCreated, TokenList};
use uuid::Uuid;

use super::access::How;
use super::client::{NOTHING, PAGE};
use super::exit::{CliError, complain};
use super::output::{Format, done, print};
use super::people::{RoleArg, Tags, reach, role_word};
use super::units::seconds;

const PATH: &str = "/api/v1/tokens";

/// `tidegate token`.
#[derive(Args, Debug)]
pub struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Make a token and print it; it is shown this once only
    Create {
        /// What it is for
        label: String,
        /// What it allows at most [default: as much as you may]
        #[arg(long, value_enum)]
        role: Option<RoleArg>,
        #[command(flatten)]
        tags: Tags,
        /// When it ends: a number and s, m, h or d, as in 30d [default: never]
        #[arg(long, value_name = "TIME", value_parser = seconds)]
        expires: Option<u32>,
        #[command(flatten)]
        how: How,
    },
    /// List tokens, without what they are
    List {
        #[command(flatten)]
        how: How,
    },
    /// Revoke a token
    Revoke {
        /// Its id, as `list` shows it
        id: Uuid,
        #[command(flatten)]
        how: How,
    },
}

impl TokenArgs {
    /// Does it.
    pub async fn run(self) -> Result<(), CliError> {
        match self.command {
            TokenCommand::Create { label, role, tags, expires, how } => {
                let client = how.access.client()?;
                let new = CreateToken {
                    label,
                    role: role.map(Into::into),
                    tags: tags.given(),
                    expires_in_s: expires,
                };
                let made: TokenCreated = client.make(PATH, &new).await?;
                if how.output == Format::Table {
                    complain(&format!("made token {} ({})", made.listed.id, made.listed.label));
                }
                print(how.output, &made, |made| Text::lines(&format!("{}\n", made.token)))
            }
            TokenCommand::List { how } => {
                let mut list = TokenList { tokens: Vec::new(), next: None };
                let take = |page: TokenList| {
                    list.tokens.extend(page.tokens);
                    page.next
                };
                how.access.client()?.pages(&format!("{PATH}?limit={PAGE}"), take).await?;
                print(how.output, &list, |list| listed(&list.tokens))
            }
            TokenCommand::Revoke { id, how } => {
                how.access.client()?.call::<()>(Method::DELETE, &format!("{PATH}/{id}"), NOTHING).await?;
                done(how.output, "revoked", "token", &id.to_string())
            }
        }
    }
}

fn listed(tokens: &[Token]) -> Text {
    let rows = tokens.iter().map(|token| {
        [
            token.id.to_string(),
            token.label.clone(),
            token.user.as_ref().map_or_else(String::new, ToString::to_string),
            role_word(token.role).to_owned(),
            match (&token.tags, &token.user) {
                // Never more than its user may, whatever that is by now.
                (None, Some(user)) => format!("those of {user}"),
                (tags, _) => reach(tags.as_deref()),
            },
            token.expires_at.clone().unwrap_or_else(|| "never".to_owned()),
            token.created_at.clone(),
        ]
    });
    Text::table(["ID", "LABEL", "USER", "ROLE", "EDGES", "EXPIRES", "CREATED"], rows)
}
