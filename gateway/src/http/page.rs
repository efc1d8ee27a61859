//! The web page on port 9000: what people see in a browser.
//!
//! | room | what lives there |
//! | --- | --- |
//! | [`frame`] | what stands around every page: who looks, headers, navigation |
//! | [`refusal`] | problems as pages, for whoever asks for HTML |
//! | [`parts`], [`form`], [`flash`] | pieces that pages share: status, times, texts to copy; forms; a word after a redirect |
//! | [`assets`] | style sheet, script and logo, from the binary |
//! | [`live`] | the stream of what changed on a page |
//! | [`door`] | the first run, signing in and out |
//! | [`edges`] | the list of edges |
//! | [`edge`], [`containers`] | one edge, and the containers of its Docker Engine |
//! | [`new_edge`], [`new_edges`], [`offer`] | enrolling a site, or many; a stock SSH client in an agent's place |
//! | [`users`], [`account`] | who may do what; one's own password, tokens and keys |
//! | [`settings`], [`health`], [`audit`] | the gateway as a whole |
//! | [`mod@reference`] | what the admin API can do |
//!
//! Pages are rendered here, whole, and work without any script. The one script that there is makes them live.
//!
//! The rules: a page is a row of the table of operations like everything else, and asks the same functions as the admin
//! API; every page goes out through [`frame::Page::show`], which adds the headers; nothing of an agent's or of an
//! operator's gets into markup but as text; and a browser is never sent to another host.

mod account;
mod assets;
mod audit;
mod containers;
mod door;
mod edge;
mod edges;
mod flash;
mod form;
mod frame;
mod health;
mod live;
mod new_edge;
mod new_edges;
mod offer;
mod parts;
mod reference;
pub mod refusal;
mod settings;
mod users;

#[cfg(test)]
mod tests;

use super::operation::{Needs, Operation as Row, get, post};
use crate::domain::authority::Role;
use edge::change;

/// The rows of the page.
#[rustfmt::skip]
pub fn operations() -> Vec<Row> {
    use Needs::{Anybody, Edge, Edges, Gateway, Nothing};
    use Role::{Admin, Operator, Viewer};
    const NEW: &str = "/new-edge";
    const NEW_LIVE: &str = "/live/new-edge";
    const MANY: &str = "/new-edges";
    const OFFER: &str = "/edges/{edge}/offer";
    const EDGE: &str = "/edges/{edge}";
    const SETTINGS: &str = "/edges/{edge}/settings";
    const DISSOCIATE: &str = "/edges/{edge}/dissociate";
    const ROTATE: &str = "/edges/{edge}/rotate";
    const DELETE: &str = "/edges/{edge}/delete";
    const CONTAINERS: &str = "/edges/{edge}/containers";
    const LOGS: &str = "/edges/{edge}/containers/{container}/logs";
    const ACT: &str = "/edges/{edge}/containers/{container}/{act}";
    const USERS: &str = "/users";
    const USER: &str = "/users/{user}";
    const USER_PASSWORD: &str = "/users/{user}/password";
    const DELETE_USER: &str = "/users/{user}/delete";
    const PASSWORD: &str = "/account/password";
    const TOKENS: &str = "/account/tokens";
    const REVOKE: &str = "/account/tokens/{token}/revoke";
    const KEYS: &str = "/account/keys";
    const REMOVE: &str = "/account/keys/{key}/remove";
    vec![
        get("page.asset", "/assets/{name}", Nothing, assets::serve, "Style sheet, script and logo of the page"),
        get("page.set-up", "/setup", Nothing, door::ask_set_up, "Page: the first run"),
        post("page.set-up.send", "/setup", Nothing, door::set_up, "Makes the first user, and signs them in")
            .audited_as("setup.first-user"),
        get("page.sign-in", "/sign-in", Nothing, door::ask_sign_in, "Page: signing in"),
        post("page.sign-in.send", "/sign-in", Nothing, door::sign_in, "Signs a browser in")
            .audited_as("session.sign-in"),
        get("page.sign-out", "/sign-out", Anybody, door::ask_sign_out, "Page: signing out"),
        post("page.sign-out.send", "/sign-out", Anybody, door::sign_out, "Signs a browser out")
            .audited_as("session.end"),
        get("page.edges.live", "/live/edges", Edges(Viewer), edges::follow, "Rows of the list, as they change"),
        get("page.new-edge", NEW, Edges(Admin), new_edge::ask, "Page: a new edge"),
        post("page.new-edge.send", NEW, Edges(Admin), new_edge::create, "Enrols a site, and shows its join token")
            .audited_as("edge.create"),
        get("page.new-edge.live", NEW_LIVE, Edges(Admin), new_edge::follow, "Whether the agent has joined"),
        get("page.new-edges", MANY, Edges(Admin), new_edges::ask, "Page: many new edges"),
        post("page.new-edges.send", MANY, Edges(Admin), new_edges::create, "Enrols many sites")
            .audited_as("edge.create-many")
            .body_of(new_edges::MAX_FORM),
        get("page.offer", OFFER, Edge(Admin), offer::ask, "Page: a stock SSH client"),
        post("page.offer.send", OFFER, Edge(Admin), offer::create, "Makes credentials for a stock SSH client")
            .audited_as("offer.create"),
        get("page.edge", EDGE, Edge(Viewer), edge::show, "Page: an edge"),
        get("page.edge.live", "/live/edges/{edge}", Edge(Viewer), edge::follow, "State of an edge, as it changes"),
        post("page.edge.connect", "/edges/{edge}/connect", Edge(Operator), edge::connect, "Opens its tunnel")
            .audited_as("tunnel.raise"),
        post("page.edge.close", "/edges/{edge}/close", Edge(Operator), edge::close, "Closes its tunnel")
            .audited_as("tunnel.lower"),
        post("page.edge.snapshot", "/edges/{edge}/snapshot", Edge(Operator), edge::take_snapshot, "Takes a snapshot")
            .audited_as("snapshot.take"),
        get("page.edge.settings", SETTINGS, Edge(Admin), change::ask, "Page: settings of an edge"),
        post("page.edge.settings.send", SETTINGS, Edge(Admin), change::change, "Changes settings of an edge")
            .audited_as("edge.change"),
        get("page.edge.dissociate", DISSOCIATE, Edge(Admin), change::ask_dissociate, "Page: whether to free an edge"),
        post("page.edge.dissociate.send", DISSOCIATE, Edge(Admin), change::dissociate, "Frees it from its agent")
            .audited_as("edge.dissociate"),
        get("page.edge.rotate", ROTATE, Edge(Admin), change::ask_rotate, "Page: whether to rotate a key"),
        post("page.edge.rotate.send", ROTATE, Edge(Admin), change::rotate, "Gives an edge a new key")
            .audited_as("edge.rotate"),
        get("page.edge.delete", DELETE, Edge(Admin), change::ask_delete, "Page: whether to delete an edge"),
        post("page.edge.delete.send", DELETE, Edge(Admin), change::delete, "Deletes an edge")
            .audited_as("edge.delete"),
        get("page.containers", CONTAINERS, Edge(Operator), containers::list, "Page: containers of an edge"),
        get("page.container.logs", LOGS, Edge(Operator), containers::logs, "Page: a container's log"),
        post("page.container.act", ACT, Edge(Operator), containers::act, "Starts, stops or restarts a container")
            .audited_as("docker.act"),
        get("page.account", "/account", Anybody, account::show, "Page: one's own account"),
        post("page.account.password", PASSWORD, Anybody, account::set_password, "Changes one's own password")
            .audited_as("user.set-password"),
        post("page.token.create", TOKENS, Anybody, account::make_token, "Makes an API token, and shows it")
            .audited_as("token.create"),
        get("page.token", REVOKE, Anybody, account::ask_revoke, "Page: revoking a token"),
        post("page.token.revoke", REVOKE, Anybody, account::revoke, "Revokes an API token")
            .audited_as("token.revoke"),
        post("page.ssh-key.add", KEYS, Edges(Operator), account::add_key, "Lets the owner of an SSH key in")
            .audited_as("ssh-key.add"),
        get("page.ssh-key", REMOVE, Edges(Operator), account::ask_remove_key, "Page: removing an SSH key"),
        post("page.ssh-key.remove", REMOVE, Edges(Operator), account::remove_key, "Removes an SSH key")
            .audited_as("ssh-key.remove"),
        get("page.users", USERS, Gateway(Admin), users::list, "Page: users"),
        post("page.user.create", USERS, Gateway(Admin), users::create, "Makes a user")
            .audited_as("user.create"),
        get("page.user", USER, Gateway(Admin), users::show, "Page: a user"),
        post("page.user.change", USER, Gateway(Admin), users::change, "Changes a user's rights")
            .audited_as("user.change"),
        post("page.user.password", USER_PASSWORD, Gateway(Admin), users::set_password, "Sets a user's password")
            .audited_as("user.set-password"),
        get("page.user.ask-delete", DELETE_USER, Gateway(Admin), users::ask_delete, "Page: deleting a user"),
        post("page.user.delete", DELETE_USER, Gateway(Admin), users::delete, "Deletes a user")
            .audited_as("user.delete"),
        get("page.settings", "/settings", Gateway(Admin), settings::ask, "Page: settings"),
        post("page.settings.change", "/settings", Gateway(Admin), settings::change, "Changes settings")
            .audited_as("settings.change"),
        get("page.health", "/health", Gateway(Viewer), health::show, "Page: how the gateway is"),
        get("page.health.live", "/live/health", Gateway(Viewer), health::follow, "The same, as it changes"),
        get("page.audit", "/audit", Gateway(Admin), audit::list, "Page: the audit log"),
        get("page.audit.verify", "/audit/verify", Gateway(Admin), audit::verify, "Page: whether the log is intact"),
        get("page.reference", "/api/v1/docs", Anybody, reference::show, "Page: what the admin API can do")
            .answers_bytes(200, "text/html; charset=utf-8"),
        get("page.edges", "/", Edges(Viewer), edges::list, "Page: the edges"),
    ]
}
