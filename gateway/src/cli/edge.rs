//! `tidegate edge`: enrol sites, look at them, open and close their tunnels, let go of them.

use std::fmt::Write as _;

use clap::{Args, Subcommand, ValueEnum};
use http::Method;
use shared::id::EdgeName;
use shared::wire::admin::{
    CreateEdge, Edge, EdgeCreated, EdgePage, EdgeStatus, StoredSnapshot, Tunnel, TunnelState,
};

use super::access::{Access, How};
use super::client::{Client, NOTHING};
use super::exit::{CliError, complain};
use super::offer::OfferArgs;
use super::output::{confirm, facts, print, table};
use super::snapshot;

const PATH: &str = "/api/v1/edges";
/// Edges asked for at a time.
const PAGE: usize = 500;

/// `tidegate edge`.
#[derive(Args, Debug)]
pub struct EdgeArgs {
    #[command(subcommand)]
    command: EdgeCommand,
}

#[derive(Debug, Subcommand)]
enum EdgeCommand {
    /// Enrol a site: make its record, and print what its agent needs
    Create(Create),
    /// List edges
    List(List),
    /// Show one edge
    Show(One),
    /// Raise the flag: have the edge open its tunnel, and keep it until it is idle
    Open(One),
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
    /// Delete the edge: its join token is worth nothing from then on
    Delete(Farewell),
}

#[derive(Args, Debug)]
struct Create {
    /// Name: a DNS label, such as shop-17
    name: EdgeName,
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
    #[command(flatten)]
    how: How,
}

#[derive(Args, Debug)]
struct List {
    /// Only those with this in their name, or with this tag
    #[arg(short, long, value_name = "TEXT")]
    query: Option<String>,
    /// Only those with this status
    #[arg(long, value_enum)]
    status: Option<Status>,
    #[command(flatten)]
    how: How,
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
    access: Access,
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
                print(one.how.output, &edge, shown)
            }
            EdgeCommand::Open(one) => one.tunnel(Method::POST).await,
            EdgeCommand::Close(one) => one.tunnel(Method::DELETE).await,
            EdgeCommand::Snapshot { last, one } => {
                let (client, path) = (one.how.access.client()?, format!("{}/snapshot", path(&one.name)));
                let stored: StoredSnapshot = if last {
                    client.call(Method::GET, &path, NOTHING).await?
                } else {
                    client.call_patiently(Method::POST, &path, NOTHING).await?
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

impl Create {
    async fn run(self) -> Result<(), CliError> {
        let new = CreateEdge {
            name: self.name,
            cluster: self.cluster,
            interval_s: self.interval,
            idle_timeout_s: self.idle_timeout,
            tags: self.tags,
        };
        let created: EdgeCreated = self.how.access.client()?.call(Method::POST, PATH, Some(&new)).await?;
        print(self.how.output, &created, enrolment)
    }
}

impl List {
    async fn run(self) -> Result<(), CliError> {
        let client = self.how.access.client()?;
        let page = EdgePage { edges: pages(&client, &self.path()).await?, next: None };
        print(self.how.output, &page, |page| listed(&page.edges))
    }

    fn path(&self) -> String {
        let mut path = first_page();
        if let Some(text) = &self.query {
            let _ = write!(path, "&q={}", percent_encode(text));
        }
        if let Some(status) = self.status.and_then(|status| status.to_possible_value()) {
            let _ = write!(path, "&status={}", status.get_name());
        }
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
    let mut after: Option<EdgeName> = None;
    loop {
        let path = after.as_ref().map_or_else(|| path.to_owned(), |after| format!("{path}&after={after}"));
        let page: EdgePage = client.call(Method::GET, &path, NOTHING).await?;
        edges.extend(page.edges);
        match page.next {
            // A page that does not move on would be asked for again for ever.
            Some(next) if after.as_ref() < Some(&next) => after = Some(next),
            Some(_) | None => return Ok(edges),
        }
    }
}

impl One {
    async fn tunnel(self, method: Method) -> Result<(), CliError> {
        let path = format!("{}/tunnel", path(&self.name));
        let tunnel: Tunnel = self.how.access.client()?.call(method, &path, NOTHING).await?;
        print(self.how.output, &tunnel, |tunnel| format!("{}\n", tunnel_line(tunnel)))
    }
}

impl Farewell {
    async fn run(&self, question: &str, method: Method, path: &str, done: &str) -> Result<(), CliError> {
        let client = self.access.client()?;
        if !self.yes {
            confirm(question)?;
        }
        client.call::<()>(method, path, NOTHING).await?;
        complain(&format!("{done} {}", self.name));
        Ok(())
    }
}

/// Everything but letters, digits and `-._~` as in RFC 3986, section 2.3.
fn percent_encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

fn enrolment(created: &EdgeCreated) -> String {
    let mut text = facts([
        ("name", created.name.to_string()),
        ("endpoint id", created.endpoint_id.to_string()),
        ("edge id", created.edge_id.clone()),
        ("join token", created.join_token.clone()),
    ]);
    let commands = &created.commands;
    text.push_str(
        "\nThe join token is shown this once and is a secret. Start the agent in one of these ways:\n",
    );
    for (way, command) in [
        ("container", &commands.container),
        ("binary", &commands.binary),
        ("compose", &commands.compose),
        ("systemd", &commands.systemd),
    ] {
        let _ = write!(text, "\n--- {way} ---\n{}\n", command.trim_end());
    }
    text
}

fn listed(edges: &[Edge]) -> String {
    let rows = edges.iter().map(|edge| {
        let services: Vec<_> = services(edge).map(|service| service.0).collect();
        [
            edge.name.to_string(),
            status_word(edge.status).to_owned(),
            edge.last_seen.clone().unwrap_or_else(|| "never".to_owned()),
            services.join(","),
            edge.tags.join(","),
        ]
    });
    table(["NAME", "STATUS", "LAST SEEN", "SERVICES", "TAGS"], rows)
}

/// Name and target of what the edge's instances expose, each name once.
fn services(edge: &Edge) -> impl Iterator<Item = (String, String)> + use<> {
    let all = edge.instances.iter().flat_map(|instance| &instance.services);
    let mut services: Vec<_> =
        all.map(|service| (service.name.to_string(), service.target.clone())).collect();
    let stock = edge.stock_client.iter().flat_map(|client| &client.services);
    services.extend(stock.map(|name| (name.to_string(), "behind a stock SSH client".to_owned())));
    services.sort();
    services.dedup_by(|one, other| one.0 == other.0);
    services.into_iter()
}

fn shown(edge: &Edge) -> String {
    let duplicate = edge.duplicate.as_ref().map(|duplicate| {
        let refused = duplicate.refused.as_deref().unwrap_or("an unnamed host");
        format!(
            "an agent on {refused} was refused at {}, since one runs on {}",
            duplicate.at, duplicate.present
        )
    });
    let mut text = facts([
        ("name", edge.name.to_string()),
        ("endpoint id", edge.endpoint_id.to_string()),
        ("status", status_word(edge.status).to_owned()),
        ("last seen", edge.last_seen.clone().unwrap_or_else(|| "never".to_owned())),
        ("tunnel", tunnel_line(&edge.tunnel)),
        (
            "client",
            edge.stock_client.as_ref().map_or("", |_| "a stock SSH client, without snapshots").to_owned(),
        ),
        ("duplicate", duplicate.unwrap_or_default()),
        ("bound", if edge.bound { "yes" } else { "no" }.to_owned()),
        ("cluster", if edge.cluster { "yes" } else { "no" }.to_owned()),
        ("interval", format!("{} s", edge.interval_s)),
        ("idle timeout", format!("{} s", edge.idle_timeout_s)),
        ("tags", edge.tags.join(", ")),
        ("created", edge.created_at.clone()),
    ]);
    if !edge.offers.is_empty() {
        let rows = edge.offers.iter().map(|offer| {
            let what = offer.fingerprint.map_or_else(|| "password, once".to_owned(), |key| key.to_string());
            let names: Vec<_> = offer.services.iter().map(|name| name.as_str()).collect();
            [what, offer.expires_at.clone(), names.join(",")]
        });
        text = text + "\n" + &table(["OFFER", "UNTIL", "SERVICES"], rows);
    }
    if !edge.instances.is_empty() {
        let rows = edge.instances.iter().map(|instance| {
            let (id, host) = (instance.instance.to_string(), instance.hostname.clone());
            [id, host, instance.agent.clone(), instance.address.clone(), instance.last_seen.clone()]
        });
        text = text + "\n" + &table(["INSTANCE", "HOST", "AGENT", "ADDRESS", "LAST SEEN"], rows);
    }
    let services: Vec<_> = services(edge).map(|(name, target)| [name, target]).collect();
    if !services.is_empty() {
        text = text + "\n" + &table(["SERVICE", "TARGET"], services);
    }
    text
}

fn tunnel_line(tunnel: &Tunnel) -> String {
    let state = match tunnel.state {
        TunnelState::Idle => "idle",
        TunnelState::Wanted => "wanted",
        TunnelState::Offered => "offered",
        TunnelState::Open => "open",
    };
    let holds = match tunnel.holds {
        0 => String::new(),
        1 => ", held by 1".to_owned(),
        holds => format!(", held by {holds}"),
    };
    let reason = tunnel.reason.as_ref().map_or_else(String::new, |reason| format!(" ({reason})"));
    format!("{state} since {}{holds}{reason}", tunnel.since)
}

fn status_word(status: EdgeStatus) -> &'static str {
    match status {
        EdgeStatus::NeverJoined => "never-joined",
        EdgeStatus::Offline => "offline",
        EdgeStatus::Online => "online",
        EdgeStatus::TunnelOpen => "tunnel-open",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_encoded() {
        assert_eq!(percent_encode("shop-1 & käse"), "shop-1%20%26%20k%C3%A4se");
    }

    #[test]
    fn status_words_are_those_of_the_api() {
        for (status, word) in Status::value_variants().iter().zip([
            EdgeStatus::NeverJoined,
            EdgeStatus::Offline,
            EdgeStatus::Online,
            EdgeStatus::TunnelOpen,
        ]) {
            let json = serde_json::to_value(word).expect("a word");
            assert_eq!(json, status_word(word));
            assert_eq!(status.to_possible_value().expect("none is hidden").get_name(), status_word(word));
        }
    }
}
