//! `tidegate token`: tokens of the admin API.

use clap::{Args, Subcommand};
use http::Method;
use shared::wire::admin::{CreateToken, Token, TokenCreated, TokenList};
use uuid::Uuid;

use super::access::{Access, How};
use super::client::NOTHING;
use super::exit::{CliError, complain};
use super::output::{Format, print, table};

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
        access: Access,
    },
}

impl TokenArgs {
    /// Does it.
    pub async fn run(self) -> Result<(), CliError> {
        match self.command {
            TokenCommand::Create { label, how } => {
                let client = how.access.client()?;
                let made: TokenCreated =
                    client.call(Method::POST, PATH, Some(&CreateToken { label })).await?;
                if how.output == Format::Table {
                    complain(&format!("made token {} ({})", made.listed.id, made.listed.label));
                }
                print(how.output, &made, |made| format!("{}\n", made.token))
            }
            TokenCommand::List { how } => {
                let list: TokenList = how.access.client()?.call(Method::GET, PATH, NOTHING).await?;
                print(how.output, &list, |list| listed(&list.tokens))
            }
            TokenCommand::Revoke { id, access } => {
                access.client()?.call::<()>(Method::DELETE, &format!("{PATH}/{id}"), NOTHING).await?;
                complain(&format!("revoked token {id}"));
                Ok(())
            }
        }
    }
}

fn listed(tokens: &[Token]) -> String {
    let rows =
        tokens.iter().map(|token| [token.id.to_string(), token.created_at.clone(), token.label.clone()]);
    table(["ID", "CREATED", "LABEL"], rows)
}
