//! The admin API below `/api/v1/`: what scripts, the CLI and the page may ask.
//!
//! Handlers translate between the wire and the registry, and nothing else: who may is decided in front of them
//! ([`super::guard`]), what happens behind them ([`crate::tunnels`]). An answer that shows a secret is never cached.

pub(super) mod audit;
mod backup;
pub mod edges;
mod events;
mod gateway;
mod history;
pub mod offers;
mod session;
pub(super) mod settings;
pub(super) mod snapshots;
pub(super) mod ssh_keys;
mod status;
pub(super) mod tokens;
pub(super) mod users;

use shared::id::UserName;
use shared::wire::admin as wire;
use uuid::Uuid;

use super::openapi;
use super::operation::{Needs, Operation, delete, get, patch, post, put};
use super::paging::{ByAge, PageQuery};
use super::problem::Code;
use super::stream::OPENING;
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
    const CHANGES: &str = "/api/v1/edges/{edge}/snapshot/changes";
    const HISTORY: &str = "/api/v1/edges/{edge}/history";
    const EVENTS: &str = "/api/v1/events";
    const STATUS: &str = "/api/v1/status";
    const SERIES: &str = "/api/v1/status/series";
    const SETTINGS: &str = "/api/v1/settings";
    const SESSION: &str = "/api/v1/session";
    const LOGIN: &str = "/api/v1/login";
    const SETUP: &str = "/api/v1/setup";
    const USERS: &str = "/api/v1/users";
    const USER: &str = "/api/v1/users/{user}";
    const PASSWORD: &str = "/api/v1/users/{user}/password";
    const TOKENS: &str = "/api/v1/tokens";
    const TOKEN: &str = "/api/v1/tokens/{token}";
    const SSH_KEYS: &str = "/api/v1/ssh-keys";
    const SSH_KEY: &str = "/api/v1/ssh-keys/{key}";
    const GATEWAY: &str = "/api/v1/gateway";
    const BACKUP: &str = "/api/v1/backup";
    const AUDIT: &str = "/api/v1/audit";
    const AUDIT_EXPORT: &str = "/api/v1/audit/export";
    const AUDIT_VERIFY: &str = "/api/v1/audit/verify";
    const OPENAPI: &str = "/api/v1/openapi.json";
    vec![
        get("edge.list", EDGES, Edges(Viewer), edges::list, "Lists edges")
            .query::<edges::ListQuery>()
            .answers::<wire::EdgePage>(200)
            .more("`tag` may be given several times: an edge must have all of them."),
        post("edge.create", EDGES, Edges(Admin), edges::create, "Enrols a site")
            .takes::<wire::CreateEdge>(r#"{"name":"shop-17","tags":["berlin"]}"#)
            .answers::<wire::EdgeCreated>(201)
            .answers_header("location", "Where the edge is.")
            .fails(&[Code::EdgeNameTaken, Code::OutOfReach])
            .durable()
            .once_for_each_key()
            .more("The answer is the only one that shows the edge's key and its join token."),
        post("edge.create-many", wire::BULK_EDGES, Edges(Admin), edges::create_many, "Enrols many sites at once")
            .takes::<wire::CreateEdges>(r#"{"names":["shop-18","shop-19"],"tags":["berlin"]}"#)
            .body_of(edges::BULK_BODY)
            .answers::<wire::EdgesCreated>(200)
            .fails(&[Code::OutOfReach])
            .durable()
            .once_for_each_key()
            .more(
                "Names that are none or are taken are refused, each with its reason; all others are edges when the \
                 answer comes, or none is. The answer is the only one that shows their join tokens.",
            ),
        get("edge.show", EDGE, Edge(Viewer), edges::show, "Shows one edge")
            .answers::<wire::Edge>(200)
            .answers_etag(),
        patch("edge.change", EDGE, Edge(Admin), edges::change, "Changes an edge's name, tags or settings")
            .takes::<wire::ChangeEdge>(r#"{"idle_timeout_s":600}"#)
            .answers::<wire::Edge>(200)
            .answers_etag()
            .fails(&[Code::EdgeNameTaken, Code::OutOfReach])
            .heeds_if_match()
            .durable(),
        delete("edge.delete", EDGE, Edge(Admin), edges::delete, "Revokes an edge's key and closes its tunnel")
            .answers_nothing(204)
            .heeds_if_match()
            .durable(),
        post("edge.dissociate", DISSOCIATE, Edge(Admin), edges::dissociate, "Frees an edge from its agent")
            .answers_nothing(204)
            .heeds_if_match()
            .durable()
            .more("The next agent with the edge's join token is bound."),
        post("edge.rotate", ROTATE, Edge(Admin), edges::rotate, "Gives an edge a new key and join token")
            .answers::<wire::EdgeCreated>(200)
            .heeds_if_match()
            .durable()
            .more("The old join token is worth nothing from then on, and the edge is free for the next agent."),
        get("tunnel.show", TUNNEL, Edge(Viewer), edges::tunnel, "Shows the state of an edge's tunnel")
            .answers::<wire::Tunnel>(200),
        post("tunnel.raise", TUNNEL, Edge(Operator), edges::raise, "Opens the tunnel with the next check-in")
            .answers::<wire::Tunnel>(200)
            .fails(&[Code::Busy])
            .more("Answers at once; `GET` shows when it is open."),
        delete("tunnel.lower", TUNNEL, Edge(Operator), edges::lower, "Closes the tunnel")
            .answers::<wire::Tunnel>(200),
        post("offer.create", OFFER, Edge(Admin), offers::create, "Makes credentials for a stock SSH client")
            .takes::<wire::CreateOffer>(r#"{"services":[{"name":"web","target":"localhost:8080"}]}"#)
            .answers::<wire::OfferCreated>(201)
            .durable()
            .once_for_each_key()
            .more("The answer is the only one that shows them. They take the place of those that there were."),
        delete("offer.revoke", OFFER, Edge(Admin), offers::revoke, "Takes such credentials back")
            .answers_nothing(204)
            .durable(),
        get("snapshot.show", SNAPSHOT, Edge(Viewer), snapshots::show, "Shows the last snapshot")
            .answers::<wire::StoredSnapshot>(200)
            .fails(&[Code::SnapshotNotFound, Code::Busy, Code::StoreFailed, Code::StoreFull]),
        get("snapshot.changes", CHANGES, Edge(Viewer), snapshots::changes, "How the site changed between its snapshots")
            .answers::<wire::SiteChanges>(200)
            .fails(&[Code::SnapshotNotFound, Code::StoreFailed, Code::StoreFull])
            .more("Between the last and the one before: what people would look into, and not load or free memory."),
        post("snapshot.take", SNAPSHOT, Edge(Operator), snapshots::take, "Has the site take a snapshot now")
            .answers::<wire::StoredSnapshot>(200)
            .fails(&OPENING)
            .more("Opens the tunnel where it is closed, and waits for it."),
        get("edge.history", HISTORY, Edge(Viewer), history::show, "Shows what happened to an edge lately")
            .query::<history::HistoryQuery>()
            .answers::<wire::History>(200)
            .fails(&[Code::StoreFailed, Code::StoreFull]),
        get("event.follow", EVENTS, Edges(Viewer), events::follow, "Tells what happens to edges while it happens")
            .query::<events::EventQuery>()
            .answers_bytes(200, "text/event-stream")
            .fails(&[Code::EdgeNotFound, Code::Busy]),
        get("status.show", STATUS, Edges(Viewer), status::show, "How the gateway is")
            .answers::<wire::Status>(200)
            .more("What concerns the gateway as a whole is shown to those who reach every edge."),
        get("status.series", SERIES, Gateway(Viewer), status::series, "How it was during the last hour")
            .answers::<wire::StatusSeries>(200),
        get("settings.show", SETTINGS, Edges(Viewer), settings::show, "Shows the settings")
            .answers::<wire::Settings>(200)
            .answers_etag(),
        patch("settings.change", SETTINGS, Gateway(Admin), settings::change, "Changes settings")
            .takes::<wire::Settings>(r#"{"interval_s":10}"#)
            .answers::<wire::Settings>(200)
            .answers_etag()
            .heeds_if_match()
            .durable(),
        post("setup.first-user", SETUP, Needs::Nothing, session::set_up, "Makes the first user")
            .takes::<wire::SetUp>(r#"{"code":"7QPZ-3M4K-XW8D-0FHT","name":"ada","password":"correct horse battery"}"#)
            .answers::<wire::User>(201)
            .fails(&[Code::SetUpCodeWrong, Code::AlreadySetUp, Code::UserNameTaken, Code::TooManyAttempts])
            .durable()
            .more("With the code that the gateway's log shows at each start, while there is no user."),
        post("session.sign-in", SESSION, Needs::Nothing, session::sign_in, "Signs a browser in")
            .takes::<wire::SignIn>(r#"{"name":"ada","password":"correct horse battery"}"#)
            .answers::<wire::Session>(200)
            .answers_header("set-cookie", "The session, for twelve hours.")
            .fails(&[Code::InvalidRequest, Code::SignInRefused, Code::CrossOrigin, Code::TooManyAttempts])
            .durable(),
        post("session.log-in", LOGIN, Needs::Nothing, session::log_in, "Makes an API token for name and password")
            .takes::<wire::LogIn>(
                r#"{"name":"ada","password":"correct horse battery","label":"ada@laptop","expires_in_s":43200}"#,
            )
            .answers::<wire::TokenCreated>(201)
            .fails(&[Code::SignInRefused, Code::NotAllowed, Code::TooManyAttempts, Code::TooManyTokens])
            .durable()
            .more("For programs, which need no cookie. The token is the user's, and `DELETE /session` revokes it."),
        get("session.show", SESSION, Needs::Anybody, session::show, "Who asks, and what they may")
            .answers::<wire::Session>(200),
        delete("session.end", SESSION, Needs::Anybody, session::end, "Signs out")
            .answers_nothing(204)
            .fails(&[Code::LastToken, Code::TokenNotFound])
            .durable()
            .more("Ends the session whose cookie was shown, or revokes the token."),
        get("user.list", USERS, Gateway(Admin), users::list, "Lists users in order of name")
            .query::<PageQuery<UserName>>()
            .answers::<wire::UserList>(200),
        post("user.create", USERS, Gateway(Admin), users::create, "Makes a user")
            .takes::<wire::CreateUser>(
                r#"{"name":"grace","password":"correct horse battery","role":"operator","tags":["berlin"]}"#,
            )
            .answers::<wire::User>(201)
            .answers_header("location", "Where the user is.")
            .fails(&[Code::UserNameTaken, Code::TooManyUsers])
            .durable()
            .once_for_each_key(),
        get("user.show", USER, Gateway(Admin), users::show, "Shows one user")
            .part::<UserName>("user")
            .answers::<wire::User>(200)
            .answers_etag()
            .fails(&[Code::UserNotFound]),
        patch("user.change", USER, Gateway(Admin), users::change, "Changes a user's role or tags")
            .part::<UserName>("user")
            .takes::<wire::ChangeUser>(r#"{"role":"viewer"}"#)
            .answers::<wire::User>(200)
            .answers_etag()
            .fails(&[Code::UserNotFound, Code::LastAdmin])
            .heeds_if_match()
            .durable()
            .more("What they have open ends: streams, SSH connections, live pages."),
        delete("user.delete", USER, Gateway(Admin), users::delete, "Deletes a user")
            .part::<UserName>("user")
            .answers_nothing(204)
            .fails(&[Code::UserNotFound, Code::LastAdmin])
            .heeds_if_match()
            .durable()
            .more("With their sessions, tokens and SSH keys, and all that they have open."),
        put("user.set-password", PASSWORD, Needs::Anybody, users::set_password, "Sets a user's password")
            .part::<UserName>("user")
            .takes::<wire::SetPassword>(r#"{"password":"another horse battery","current":"correct horse battery"}"#)
            .answers_nothing(204)
            .fails(&[Code::NotAllowed, Code::WrongPassword, Code::UserNotFound, Code::TooManyAttempts])
            .durable()
            .more("One's own with the old one in `current`; an admin over all edges sets others'. Signs the user's other \
                   browsers out."),
        get("token.list", TOKENS, Needs::Anybody, tokens::list, "Lists one's own API tokens; an admin's list has all")
            .query::<PageQuery<ByAge>>()
            .answers::<wire::TokenList>(200),
        post("token.create", TOKENS, Needs::Anybody, tokens::create, "Makes an API token")
            .takes::<wire::CreateToken>(r#"{"label":"nightly script","role":"operator","expires_in_s":2592000}"#)
            .answers::<wire::TokenCreated>(201)
            .fails(&[Code::NotAllowed, Code::TooManyTokens])
            .durable()
            .once_for_each_key()
            .more("The answer is the only one that shows the token. It allows at most what its user may at that moment."),
        delete("token.revoke", TOKEN, Needs::Anybody, tokens::revoke, "Revokes an API token")
            .part::<Uuid>("token")
            .answers_nothing(204)
            .fails(&[Code::TokenNotFound, Code::LastToken])
            .durable()
            .more("What was begun with it ends."),
        get("ssh-key.list", SSH_KEYS, Edges(Operator), ssh_keys::list, "Lists one's own SSH keys; an admin's list has all")
            .query::<PageQuery<ByAge>>()
            .answers::<wire::SshKeyList>(200),
        post("ssh-key.add", SSH_KEYS, Edges(Operator), ssh_keys::add, "Lets the owner of an SSH key in")
            .takes::<wire::AddSshKey>(r#"{"label":"ada","public_key":"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI..."}"#)
            .answers::<wire::SshKey>(201)
            .fails(&[Code::SshKeyExists, Code::TooManySshKeys, Code::UserNotFound])
            .durable()
            .once_for_each_key(),
        delete("ssh-key.remove", SSH_KEY, Edges(Operator), ssh_keys::remove, "Removes an SSH key")
            .part::<Uuid>("key")
            .answers_nothing(204)
            .fails(&[Code::SshKeyNotFound])
            .durable()
            .more("Connections that were made with it end."),
        get("gateway.show", GATEWAY, Needs::Anybody, gateway::show, "Where the gateway is and how to recognise it")
            .answers::<wire::Gateway>(200),
        get("api.document", OPENAPI, Needs::Anybody, openapi::show, "This document")
            .answers::<serde_json::Value>(200),
        get("backup.download", BACKUP, Gateway(Admin), backup::download, "A backup as one file")
            .answers_bytes(200, "application/octet-stream")
            .fails(&[Code::Busy, Code::StoreFailed, Code::StoreFull])
            .always_audited()
            .more("A secret: who has it can stand in for the gateway."),
        get("audit.list", AUDIT, Gateway(Admin), audit::list, "Lists what was done, newest first")
            .query::<audit::ListQuery>()
            .answers::<wire::AuditPage>(200)
            .more("A page that looked through much of the log without finding enough is short, and has a `next`."),
        get("audit.export", AUDIT_EXPORT, Gateway(Admin), audit::download, "The audit log as JSON lines")
            .query::<audit::ExportQuery>()
            .answers_bytes(200, "application/jsonl")
            .fails(&[Code::Busy])
            .always_audited()
            .more("Oldest first, as the log has them: `tidegate audit verify FILE` proves that none was changed."),
        get("audit.verify", AUDIT_VERIFY, Gateway(Admin), audit::verify, "Whether the audit log is intact")
            .answers::<wire::AuditVerdict>(200)
            .fails(&[Code::Busy]),
    ]
}
