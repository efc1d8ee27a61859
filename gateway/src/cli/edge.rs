//! `tidegate edge`: enrol sites, look at them, open and close their tunnels, let go of them.
//!
//! Here are the short commands; [`create`] enrols, [`change`] changes what is known of an edge, [`wait`] waits for one,
//! and [`view`] shows them.

mod change;
mod create;
pub mod view;
pub mod wait;

use std::fmt::Write as _;

use clap::{Args, Subcommand, ValueEnum};
use http::{HeaderValue, Method};
use shared::id::EdgeName;
use shared::terminal::Text;
use shared::wire::admin::{Edge, EdgeCreated, EdgePage, EdgeSort, SortOrder, StoredSnapshot, Tunnel};

use super::access::How;
use super::client::{Client, Dated, NOTHING, PAGE};
use super::exit::{CliError, complain};
use super::offer::OfferArgs;
use super::output::{confirm, done, print};
use super::snapshot;
use change::{Rename, Set, Tag};
use create::Create;
use wait::Open;

const PATH: &str = "/api/v1/edges";

/// `tidegate edge`.
#[derive(Args, Debug)]
pub struct EdgeArgs {
    #[command(subcommand)]
    command: EdgeCommand,
}

#[derive(Debug, Subcommand)]
enum EdgeCommand {
    /// Enrol a site, or many: make its record, and print what its agent needs
    Create(Create),
    /// List edges
    List(List),
    /// Show one edge
    Show(One),
    /// Give an edge another name; its agent and its tunnel stay
    Rename(Rename),
    /// Give tags to an edge, and take others away
    Tag(Tag),
    /// Change how often an edge checks in, how long its tunnel may be idle, whether it is a cluster
    Set(Set),
    /// Raise the flag: have the edge open its tunnel, and keep it until it is idle
    Open(Open),
    /// Lower the flag and close the tunnel
    Close(One),
    /// Take a snapshot of the site now and show it
    Snapshot {
        /// Show the one that was taken last instead
        #[arg(long)]
        last: bool,
        #[command(flatten)]
        one: One,
    },
    /// For a box on which nothing can be installed: credentials for its own SSH client, and the command to paste
    Offer(OfferArgs),
    /// Free the edge from its agent: the next agent with its join token is bound
    Dissociate(Farewell),
    /// Give the edge a new key: its old join token is worth nothing from then on, and its agent needs the new one
    Rotate(Farewell),
    /// Delete the edge: its join token is worth nothing from then on
    Delete(Farewell),
}

#[derive(Args, Debug)]
struct List {
    /// Only those with this in their name, or with this tag
    #[arg(short, long, value_name = "TEXT")]
    query: Option<String>,
    /// Only those with this status
    #[arg(long, value_enum)]
    status: Option<Status>,
    /// Only those with this tag; with all of them, where it is given several times
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// What to sort by
    #[arg(long, value_enum, default_value = "name")]
    sort: Sort,
    /// The last one first
    #[arg(short, long)]
    reverse: bool,
    #[command(flatten)]
    how: How,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Sort {
    Name,
    Status,
    LastSeen,
    Version,
}

impl From<Sort> for EdgeSort {
    fn from(sort: Sort) -> Self {
        match sort {
            Sort::Name => Self::Name,
            Sort::Status => Self::Status,
            Sort::LastSeen => Self::LastSeen,
            Sort::Version => Self::Version,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Status {
    NeverJoined,
    Offline,
    Online,
    TunnelOpen,
}

#[derive(Args, Debug)]
struct One {
    /// Name of the edge
    name: EdgeName,
    #[command(flatten)]
    how: How,
}

#[derive(Args, Debug)]
struct Farewell {
    /// Name of the edge
    name: EdgeName,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    how: How,
}

impl EdgeArgs {
    /// Does it.
    pub async fn run(self) -> Result<(), CliError> {
        match self.command {
            EdgeCommand::Create(create) => create.run().await,
            EdgeCommand::List(list) => list.run().await,
            EdgeCommand::Show(one) => {
                let edge: Edge =
                    one.how.access.client()?.call(Method::GET, &path(&one.name), NOTHING).await?;
                print(one.how.output, &edge, view::shown)
            }
            EdgeCommand::Rename(rename) => rename.run().await,
            EdgeCommand::Tag(tag) => tag.run().await,
            EdgeCommand::Set(set) => set.run().await,
            EdgeCommand::Open(open) => open.run().await,
            EdgeCommand::Close(one) => {
                let path = format!("{}/tunnel", path(&one.name));
                let tunnel: Tunnel = one.how.access.client()?.call(Method::DELETE, &path, NOTHING).await?;
                print(one.how.output, &tunnel, tunnel_shown)
            }
            EdgeCommand::Snapshot { last, one } => {
                let (client, path) = (one.how.access.client()?, format!("{}/snapshot", path(&one.name)));
                let stored: StoredSnapshot = if last {
                    client.call(Method::GET, &path, NOTHING).await?
                } else {
                    wait::narrated(&client, &one.name, client.call_patiently(Method::POST, &path, NOTHING))
                        .await?
                };
                print(one.how.output, &stored, snapshot::shown)
            }
            EdgeCommand::Offer(offer) => offer.run(&format!("{}/offer", path(offer.name()))).await,
            EdgeCommand::Dissociate(farewell) => {
                let name = &farewell.name;
                let question =
                    format!("Free {name} from its agent, so that the next one with its join token is bound?");
                let path = format!("{}/dissociate", path(name));
                farewell.run(&question, Method::POST, &path, "dissociated").await
            }
            EdgeCommand::Rotate(farewell) => farewell.rotate().await,
            EdgeCommand::Delete(farewell) => {
                let name = &farewell.name;
                let question = format!("Delete {name}, close its tunnel and refuse its agent for good?");
                farewell.run(&question, Method::DELETE, &path(name), "deleted").await
            }
        }
    }
}

fn path(name: &EdgeName) -> String {
    format!("{PATH}/{name}")
}

fn tunnel_shown(tunnel: &Tunnel) -> Text {
    Text::lines(&format!("{}\n", view::tunnel_line(tunnel)))
}

impl List {
    async fn run(self) -> Result<(), CliError> {
        let client = self.how.access.client()?;
        let page = EdgePage { edges: pages(&client, &self.path()).await?, ..EdgePage::default() };
        print(self.how.output, &page, |page| view::listed(&page.edges))
    }

    fn path(&self) -> String {
        let mut path = first_page();
        if let Some(text) = &self.query {
            let _ = write!(path, "&q={}", percent_encode(text));
        }
        if let Some(status) = self.status.and_then(|status| status.to_possible_value()) {
            let _ = write!(path, "&status={}", status.get_name());
        }
        for tag in &self.tags {
            let _ = write!(path, "&tag={}", percent_encode(tag));
        }
        let order = if self.reverse { SortOrder::Desc } else { SortOrder::Asc };
        let _ = write!(path, "&sort={}&order={}", EdgeSort::from(self.sort).word(), order.word());
        path
    }
}

/// Every edge, in order of name.
pub(super) async fn all(client: &Client) -> Result<Vec<Edge>, CliError> {
    pages(client, &first_page()).await
}

fn first_page() -> String {
    format!("{PATH}?limit={PAGE}")
}

/// What is on the page at `path` and all that follow it.
async fn pages(client: &Client, path: &str) -> Result<Vec<Edge>, CliError> {
    let mut edges = Vec::new();
    let take = |page: EdgePage| {
        edges.extend(page.edges);
        page.next
    };
    client.pages(path, take).await?;
    Ok(edges)
}

impl Farewell {
    async fn run(&self, question: &str, method: Method, path: &str, what: &str) -> Result<(), CliError> {
        let (client, version) = self.agreed(question).await?;
        client.change::<()>(method, path, NOTHING, version).await?;
        done(self.how.output, what, "edge", self.name.as_str())
    }

    async fn rotate(&self) -> Result<(), CliError> {
        let name = &self.name;
        let question =
            format!("Give {name} a new key, so that its old join token and its agent are refused for good?");
        let (client, version) = self.agreed(&question).await?;
        let path = format!("{}/rotate", path(name));
        let rotated: EdgeCreated = client.change(Method::POST, &path, NOTHING, version).await?;
        complain(&format!("the key of {name} is a new one; its agent needs the join token below"));
        print(self.how.output, &rotated, view::enrolment)
    }

    /// What was agreed to is done to the edge as it was then: an edge that was changed, or one that took its name while
    /// somebody thought about the question, is left alone.
    async fn agreed(&self, question: &str) -> Result<(Client, Option<HeaderValue>), CliError> {
        let client = self.how.access.client()?;
        let before: Dated<Edge> = client.look(&path(&self.name)).await?;
        if !self.yes {
            confirm(question)?;
        }
        Ok((client, before.version))
    }
}

/// Everything but letters, digits and `-._~` as in RFC 3986, section 2.3.
pub(super) fn percent_encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use shared::wire::admin::EdgeStatus;

    use super::*;

    #[test]
    fn queries_are_encoded() {
        assert_eq!(percent_encode("shop-1 & käse"), "shop-1%20%26%20k%C3%A4se");
    }

    #[test]
    fn statuses_of_the_command_line_are_those_of_the_api() {
        for (status, of_api) in Status::value_variants().iter().zip(EdgeStatus::ALL) {
            let value = status.to_possible_value().expect("none is hidden");
            assert_eq!(value.get_name(), of_api.word());
        }
    }
}
