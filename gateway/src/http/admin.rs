//! The admin API below `/api/v1/`: what scripts, the CLI and the page may ask.
//!
//! Handlers translate between the wire and the registry, and nothing else: who may is decided in front of them
//! ([`super::guard`]), what happens behind them ([`crate::tunnels`]). An answer that shows a secret is never cached.

mod backup;
mod edges;
mod events;
mod gateway;
mod offers;
mod settings;
mod snapshots;
mod ssh_keys;
mod tokens;

use super::operation::{Needs, Operation, delete, get, patch, post};
use crate::domain::authority::Role;

/// The rows of the admin API.
#[rustfmt::skip]
pub fn operations() -> Vec<Operation> {
    use Needs::{Edge, Edges, Gateway};
    use Role::{Admin, Operator, Viewer};
    const EDGES: &str = "/api/v1/edges";
    const EDGE: &str = "/api/v1/edges/{edge}";
    const DISSOCIATE: &str = "/api/v1/edges/{edge}/dissociate";
    const ROTATE: &str = "/api/v1/edges/{edge}/rotate";
    const TUNNEL: &str = "/api/v1/edges/{edge}/tunnel";
    const OFFER: &str = "/api/v1/edges/{edge}/offer";
    const SNAPSHOT: &str = "/api/v1/edges/{edge}/snapshot";
    const EVENTS: &str = "/api/v1/events";
    const SETTINGS: &str = "/api/v1/settings";
    const TOKENS: &str = "/api/v1/tokens";
    const TOKEN: &str = "/api/v1/tokens/{token}";
    const SSH_KEYS: &str = "/api/v1/ssh-keys";
    const SSH_KEY: &str = "/api/v1/ssh-keys/{key}";
    const GATEWAY: &str = "/api/v1/gateway";
    const BACKUP: &str = "/api/v1/backup";
    vec![
        get("edge.list", EDGES, Edges(Viewer), edges::list, "Lists edges in order of name"),
        post("edge.create", EDGES, Edges(Admin), edges::create, "Enrols a site"),
        get("edge.show", EDGE, Edge(Viewer), edges::show, "Shows one edge"),
        patch("edge.change", EDGE, Edge(Admin), edges::change, "Changes an edge's name, tags or settings"),
        delete("edge.delete", EDGE, Edge(Admin), edges::delete, "Revokes an edge's key and closes its tunnel"),
        post("edge.dissociate", DISSOCIATE, Edge(Admin), edges::dissociate, "Frees an edge from its agent"),
        post("edge.rotate", ROTATE, Edge(Admin), edges::rotate, "Gives an edge a new key and join token"),
        get("tunnel.show", TUNNEL, Edge(Viewer), edges::tunnel, "Shows the state of an edge's tunnel"),
        post("tunnel.raise", TUNNEL, Edge(Operator), edges::raise, "Opens the tunnel with the next check-in"),
        delete("tunnel.lower", TUNNEL, Edge(Operator), edges::lower, "Closes the tunnel"),
        post("offer.create", OFFER, Edge(Admin), offers::create, "Makes credentials for a stock SSH client"),
        delete("offer.revoke", OFFER, Edge(Admin), offers::revoke, "Takes such credentials back"),
        get("snapshot.show", SNAPSHOT, Edge(Viewer), snapshots::show, "Shows the last snapshot"),
        post("snapshot.take", SNAPSHOT, Edge(Operator), snapshots::take, "Has the site take a snapshot now"),
        get("event.follow", EVENTS, Edges(Viewer), events::follow, "Tells what happens to edges while it happens"),
        get("settings.show", SETTINGS, Edges(Viewer), settings::show, "Shows the settings"),
        patch("settings.change", SETTINGS, Gateway(Admin), settings::change, "Changes settings"),
        get("token.list", TOKENS, Gateway(Admin), tokens::list, "Lists API tokens"),
        post("token.create", TOKENS, Gateway(Admin), tokens::create, "Makes an API token"),
        delete("token.revoke", TOKEN, Gateway(Admin), tokens::revoke, "Revokes an API token"),
        get("ssh-key.list", SSH_KEYS, Gateway(Admin), ssh_keys::list, "Lists operators' SSH keys"),
        post("ssh-key.add", SSH_KEYS, Gateway(Admin), ssh_keys::add, "Lets the owner of an SSH key in"),
        delete("ssh-key.remove", SSH_KEY, Gateway(Admin), ssh_keys::remove, "Removes an SSH key"),
        get("gateway.show", GATEWAY, Needs::Anybody, gateway::show, "Where the gateway is and how to recognise it"),
        get("backup.download", BACKUP, Gateway(Admin), backup::download, "A backup as one file"),
    ]
}
