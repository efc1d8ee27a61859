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
            TokenCommand::Create { label, how } => {
                let client = how.access.client()?;
                let new = CreateToken { label, ..CreateToken::default() };
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
    let rows =
        tokens.iter().map(|token| [token.id.to_string(), token.created_at.clone(), token.label.clone()]);
    Text::table(["ID", "CREATED", "LABEL"], rows)
}
