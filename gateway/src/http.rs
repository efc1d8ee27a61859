//! What port 9000 serves: check-ins, the admin API, and services through their tunnels.
//!
//! | room | what lives there |
//! | --- | --- |
//! | [`problem`] | every error's way out; the one file that knows their status codes |
//! | [`operation`], [`guard`] | what can be asked and who may: one table, and the check in front of every handler |
//! | [`openapi`] | the table as a document for programs |
//! | [`cookie`], [`origin`] | the cookie of a session, and whether our own page sent it |
//! | [`conditional`], [`idempotency`], [`paging`] | what operations have in common: `if-match`, keys of requests, pages |
//! | [`audited`] | what the audit log gets to know of an operation |
//! | [`credentials`] | what goes wrong with operators' credentials, as problems |
//! | [`listener`] | the port itself: TLS and plain HTTP, limits, an orderly end |
//! | [`connection`] | the connection under HTTP, which an upgraded stream gets back |
//! | [`peer`], [`public`] | who sent a request and by which address; which addresses we tell others |
//! | [`check_in`] | what agents ask |
//! | [`admin`], [`commands`], [`offer`] | the admin API, and the commands that start an agent or stand in for one |
//! | [`proxy`], [`stream`], [`upgraded`] | services through their tunnels: HTTP, and any bytes |
//! | [`browse`] | services in a browser, each on an origin of its own |
//! | [`event_stream`] | answers that go on, as server-sent events |
//! | [`docker`] | containers of a Docker Engine behind an edge |
//! | [`page`] | what people see in a browser |
//! | [`body`], [`snapshot`] | taking in bodies and snapshots within bounds |
//!
//! The rule: every route is a row of [`operations`], which says who may ask; whatever else is below `/api/v1/` is told to
//! operators only. Handlers hold no state and take no lock across an await: what they know is in [`ApiState`].

mod admin;
mod audited;
mod body;
pub mod browse;
mod check_in;
mod commands;
mod conditional;
pub mod connection;
mod cookie;
mod credentials;
mod docker;
mod event_stream;
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
mod guard;
mod idempotency;
pub mod listener;
mod offer;
mod openapi;
pub mod operation;
mod origin;
mod page;
mod paging;
pub mod peer;
pub mod problem;
mod proxy;
pub mod public;
pub mod snapshot;
mod stream;
mod upgraded;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::State;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Json, Router};
use http::StatusCode;
use russh::keys::PublicKey;
use shared::fingerprint::TlsFingerprint;
use shared::id::{EdgeName, ServiceName};
use shared::wire::{self, admin as json};

use crate::access::{Access, Operator};
use crate::audit::Audit;
use crate::budget::Budget;
use crate::domain::authority::Role;
use crate::domain::refusal::OpenError;
use crate::link::Stream;
use crate::readiness::Readiness;
use crate::store::Store;
use crate::telemetry::Vitals;
use crate::tunnels::Tunnels;
use browse::passes::Passes;
use operation::{Header, Needs, Operation};
use problem::Code;
use public::PublicAddresses;
use snapshot::Uploads;

/// What the handlers know.
pub struct ApiState {
    /// The registry of edges.
    pub tunnels: Tunnels,
    /// Operators' credentials.
    pub access: Access,
    /// Where what they do is recorded.
    pub audit: Audit,
    /// For backups, as is the data folder.
    pub store: Arc<dyn Store>,
    /// Where keys and certificates are.
    pub data_dir: PathBuf,
    /// Host keys that the SSH server may show.
    pub host_keys: Vec<PublicKey>,
    /// TLS keys to pin in join tokens; empty where agents check the certificate against public roots.
    pub tls_pins: Vec<TlsFingerprint>,
    /// Where the gateway is, for those outside.
    pub public: PublicAddresses,
    /// Browsers that may use a service.
    pub passes: Passes,
    /// Says of each part of the gateway whether it can do its work.
    pub readiness: Readiness,
    /// Places for agents' snapshots.
    pub uploads: Uploads,
    /// How the gateway is.
    pub vitals: Vitals,
    /// What there is for operators' requests.
    pub budget: Budget,
}

impl ApiState {
    /// A stream to a service, for as long as `operator` may: it is cut when what they came with is revoked or allows
    /// something else, and when the edge leaves their reach.
    async fn open(
        &self,
        edge: &EdgeName,
        service: &ServiceName,
        operator: &Operator,
    ) -> Result<Stream, OpenError> {
        let stream = self.tunnels.open(edge, service, operator).await?;
        Ok(stream.until(self.access.until_ended(operator.clone())))
    }
}

/// Largest JSON body of an operator: an edge with all its tags takes a few KiB.
const MAX_BODY: usize = 64 * 1024;

/// Everything that port 9000 answers.
pub fn operations() -> Vec<Operation> {
    use operation::{every, get, post};
    let everywhere = vec![
        get("health.live", "/healthz", Needs::Nothing, healthz, "Whether the process answers")
            .answers::<json::Health>(200),
        get("health.ready", "/readyz", Needs::Nothing, readyz, "Whether every part can do its work")
            .answers::<json::Health>(200)
            .answers::<json::Health>(503),
        post(check_in::line::OPERATION, CHECK_IN, Needs::Nothing, check_in::check_in, "An agent asks if it is needed")
            .audited_by_handler()
            .by_agents()
            .header(INSTANCE)
            .header(PREFER)
            .takes::<wire::check_in::CheckIn>("{}")
            .body_is_optional()
            .answers::<wire::check_in::Answer>(200)
            .answers_nothing(204)
            .fails(&[Code::SecondInstance, Code::UnsupportedProtocol, Code::Busy, Code::StoreFailed])
            .fails(&[Code::BodyTooSlow, Code::TooManyAttempts])
            .more(
                "204 where nothing changed since the last answer. With `prefer: wait=N`, and where the setting `hold_s` is \
                 not 0, the answer may be kept back until there is something to say; `preference-applied: wait` in an \
                 answer says that it is, and that the agent is to ask again at once.",
            ),
        post(
            "agent.snapshot",
            SNAPSHOT,
            Needs::Nothing,
            check_in::put_snapshot,
            "An agent leaves a snapshot",
        )
        .audited_by_handler()
        .by_agents()
        .header(INSTANCE)
        .takes_bytes("application/gzip")
        .answers_nothing(204)
        .fails(&[Code::Busy, Code::StoreFailed, Code::StoreFull]),
        every(
            "service.proxy",
            PROXY,
            USE,
            proxy::add_slash,
            "A service's HTTP, without the slash of its root",
        )
        .audited_by_handler()
        .told_elsewhere()
        .answers_nothing(308),
        every("service.proxy", PROXY_ROOT, USE, proxy::proxy, "A service's HTTP, its root")
            .audited_by_handler()
            .told_elsewhere()
            .fails(&stream::OPENING)
            .fails(&[Code::BadServiceAnswer, Code::BrowserRefused]),
        every("service.proxy", PROXY_PATH, USE, proxy::proxy, "A service's HTTP")
            .audited_by_handler()
            .part::<String>("path")
            .fails(&stream::OPENING)
            .fails(&[Code::BadServiceAnswer, Code::BrowserRefused])
            .more(
                "Opens the tunnel where it is closed, and waits for it. Bodies of any size stream both ways; \
                 WebSocket and other upgrades pass. The path may have any number of segments, or none.",
            ),
        get("service.stream", STREAM, USE, stream::stream, "A service's bytes as they are")
            .audited_by_handler()
            .answers_nothing(101)
            .fails(&stream::OPENING)
            .fails(&[Code::UpgradeRequired])
            .more("With `connection: upgrade` and `upgrade: tcp`, on HTTP/1.1. Opens the tunnel where it is closed."),
    ];
    let rooms = admin::operations()
        .into_iter()
        .chain(docker::operations())
        .chain(browse::operations())
        .chain(page::operations());
    everywhere.into_iter().chain(rooms).collect()
}

const CHECK_IN: &str = wire::check_in::PATH;
const SNAPSHOT: &str = wire::check_in::SNAPSHOT_PATH;
const PROXY: &str = "/api/v1/edges/{edge}/services/{service}/proxy";
const PROXY_ROOT: &str = "/api/v1/edges/{edge}/services/{service}/proxy/";
const PROXY_PATH: &str = "/api/v1/edges/{edge}/services/{service}/proxy/{*path}";
const STREAM: &str = "/api/v1/edges/{edge}/services/{service}/stream";
/// What an agent's requests show besides its key.
const INSTANCE: Header = Header {
    name: wire::check_in::INSTANCE_HEADER,
    what: "The agent's instance id.",
    required: true,
    pattern: "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$",
};
/// For how long an agent would wait for its answer.
const PREFER: Header = Header {
    name: wire::check_in::PREFER_HEADER,
    what: "`wait=SECONDS` (RFC 7240): for how long the answer may be kept back.",
    required: false,
    pattern: "^wait=[1-9][0-9]?$",
};
/// Of whoever uses an edge.
const USE: Needs = Needs::Edge(Role::Operator);

/// All of port 9000. Every request must carry a [`peer::Peer`].
pub fn router(state: ApiState) -> Router {
    router_of(operations(), Arc::new(state))
}

fn router_of(operations: Vec<Operation>, state: Arc<ApiState>) -> Router {
    operation::router(operations, &state)
        .route("/api/v1/", any(guard::unknown_path))
        .route("/api/v1/{*path}", any(guard::unknown_path))
        .fallback(problem::not_found)
        .method_not_allowed_fallback(guard::unknown_method)
        .layer(from_fn_with_state(Arc::clone(&state), browse::dispatch))
        .layer(from_fn(problem::observe))
        .layer(from_fn_with_state(Arc::clone(&state), page::refusal::for_people))
        .with_state(state)
}

/// The process answers.
async fn healthz() -> Json<json::Health> {
    Json(json::Health { status: json::HealthStatus::Ok, parts: BTreeMap::new() })
}

/// Every part can do its work, or which one can't.
async fn readyz(State(state): State<Arc<ApiState>>) -> Response {
    let parts = state.readiness.parts();
    let ready = parts.values().all(|part| part.status == json::HealthStatus::Ok);
    let (code, status) = if ready {
        (StatusCode::OK, json::HealthStatus::Ok)
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, json::HealthStatus::Unavailable)
    };
    (code, Json(json::Health { status, parts })).into_response()
}

#[cfg(test)]
mod tests;
