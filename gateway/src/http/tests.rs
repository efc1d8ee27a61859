//! The router over a real registry and a real store: what comes out for what goes in.

mod matrix;
mod people;

use std::io::Write as _;

use axum::body::Body;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST, LOCATION, RETRY_AFTER, UPGRADE, WWW_AUTHENTICATE,
};
use http::{HeaderMap, Method, Request};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use shared::id::{EdgeId, EdgeKey, InstanceId, UserName};
use shared::join_token::JoinToken;
use shared::wire::check_in::{Authorization, INSTANCE_HEADER, PROTOCOL_VERSION};
use shared::wire::snapshot::{MAX_COMPRESSED, Snapshot};
use tempfile::TempDir;
use tower::ServiceExt as _;

use super::*;
use crate::domain::authority::Reach;
use crate::http::browse::passes::Passes;
use crate::http::peer::Peer;
use crate::http::snapshot::MAX_UPLOADS;
use crate::readiness::Listener;
use crate::store::SledStore;
use crate::telemetry::Telemetry;
use operation::Content;
use shared::wire::{admin, problem as wire_problem};

mod contract;

/// The store's cache: nothing here is large.
const CACHE: u64 = 1024 * 1024;

/// The gateway's host key.
const HOST_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ gate";

pub(super) struct Bench {
    pub router: Router,
    pub state: Arc<ApiState>,
    pub readiness: Readiness,
    pub store: Arc<dyn Store>,
    pub tunnels: Tunnels,
    pub vitals: Vitals,
    pub access: Access,
    pub token: String,
    pub _folder: TempDir,
}

pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    /// Status and code of a problem, whose form is checked.
    #[track_caller]
    pub fn problem(&self) -> (u16, String) {
        assert_eq!(self.headers[CONTENT_TYPE], wire_problem::CONTENT_TYPE);
        let problem: wire_problem::Problem = serde_json::from_slice(&self.body).expect("a problem");
        assert_eq!(problem.status, self.status.as_u16());
        assert_eq!(problem.kind, format!("about:blank#{}", problem.code));
        assert!(!problem.title.is_empty() && !problem.detail.is_empty());
        (problem.status, problem.code)
    }

    pub fn detail(&self) -> String {
        self.json()["detail"].as_str().expect("a problem").to_owned()
    }
}

impl Bench {
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder for the store");
        let store: Arc<dyn Store> = Arc::new(SledStore::open(folder.path(), CACHE).expect("a fresh store"));
        let mut records = store.load().expect("a fresh store");
        let access = Access::load(&mut records, Arc::clone(&store));
        let token = access.tokens().create_unbound("test").await.expect("the first token");
        let token = token.token.expose().clone();
        let audit = Audit::open(folder.path(), 1 << 20).expect("an empty folder");
        let readiness = Readiness::new(Arc::clone(&store), audit.clone());
        let public = PublicAddresses::new(None, None, 8000, &records.settings);
        let telemetry = Telemetry::default();
        let tunnels = Tunnels::start(Arc::clone(&store), records, audit.clone(), telemetry.clone());
        let admission = crate::admission::Admission::new(1000, vec![], telemetry.clone());
        let memory = crate::budget::memory::Memory::new(1 << 30, 0);
        let budget = crate::budget::Budget::new(memory, telemetry.clone());
        let vitals = Vitals::new(
            telemetry,
            tunnels.clone(),
            readiness.clone(),
            (admission, budget.clone()),
            folder.path().to_owned(),
        );
        let state = Arc::new(ApiState {
            public,
            tunnels: tunnels.clone(),
            access: access.clone(),
            audit,
            store: Arc::clone(&store),
            data_dir: folder.path().to_owned(),
            host_keys: vec![PublicKey::from_openssh(HOST_KEY).expect("a key")],
            tls_pins: vec![TlsFingerprint::from_bytes([2; 32])],
            passes: Passes::default(),
            readiness: readiness.clone(),
            uploads: Uploads::default(),
            vitals: vitals.clone(),
            budget,
        });
        let router = router_of(operations(), Arc::clone(&state));
        Self { router, state, readiness, store, tunnels, vitals, access, token, _folder: folder }
    }

    pub async fn send(&self, mut request: Request<Body>) -> Answer {
        let peer = Peer { address: ([192, 0, 2, 1], 5).into(), secure: true };
        request.extensions_mut().insert(peer);
        // What is asked on another host is a service's, or has a test of its own.
        let is_ours = !request.headers().contains_key(HOST);
        request.headers_mut().entry(HOST).or_insert(http::HeaderValue::from_static("gate.example.com:9000"));
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let answer = self.router.clone().oneshot(request).await.expect("a router never fails");
        let (head, body) = answer.into_parts();
        let body = body.collect().await.expect("the whole body").to_bytes();
        let answer = Answer { status: head.status, headers: head.headers, body };
        if is_ours {
            hold_to_description(&method, &path, &answer);
        }
        answer
    }

    /// With the token, and a JSON body where there is one.
    pub async fn ask(&self, method: Method, path: &str, body: Value) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(AUTHORIZATION, format!("Bearer {}", self.token))
            .header(CONTENT_TYPE, "application/json");
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        self.send(request.body(body).expect("a request")).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, Value::Null).await
    }

    pub async fn create(&self, name: &str) -> admin::EdgeCreated {
        let answer = self.ask(Method::POST, "/api/v1/edges", json!({"name": name})).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{:?}", answer.body);
        serde_json::from_slice(&answer.body).expect("an edge")
    }

    pub async fn as_agent(&self, path: &str, agent: &Agent, body: impl Into<Body>) -> Answer {
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(AUTHORIZATION, agent.authorization.expose())
            .header(INSTANCE_HEADER, agent.instance.to_string());
        self.send(request.body(body.into()).expect("a request")).await
    }
}

/// Whatever a test asks: the operation's description must have an answer like this.
#[track_caller]
fn hold_to_description(method: &Method, path: &str, answer: &Answer) {
    let table = operations();
    let asked = |operation: &&Operation| {
        operation.method.as_ref().is_none_or(|of| of == method) && is_at(operation.path, path)
    };
    let Some(operation) = table.iter().find(asked) else { return };
    let content_type = answer.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    // Pages are for people: the document does not tell about them.
    if operation.is_page() || content_type.is_some_and(|kind| kind.starts_with("text/html")) {
        return;
    }
    if content_type == Some(wire_problem::CONTENT_TYPE) {
        let (_, code) = answer.problem();
        let told = operation.problems();
        let told: Vec<_> = told.iter().map(|code| code.name()).collect();
        assert!(told.contains(&code.as_str()), "{method} {path} answered {code}, told are {told:?}");
        return;
    }
    // What a service answers is its own business.
    if operation.method.is_none() && operation.description.answers.is_empty() {
        return;
    }
    let told = operation.description.answers.iter().find(|told| told.status == answer.status);
    let told =
        told.unwrap_or_else(|| panic!("{method} {path} answered {}, which is not told", answer.status));
    let expected = match told.content {
        Content::Nothing => None,
        Content::Json(_) => Some("application/json"),
        Content::Bytes(media_type) => Some(media_type),
    };
    assert_eq!(content_type, expected, "{method} {path}");
}

/// Whether a request for `path` goes to the operation at `template`.
fn is_at(template: &str, path: &str) -> bool {
    let (mut templates, mut parts) = (template.split('/'), path.split('/'));
    loop {
        match (templates.next(), parts.next()) {
            (None, None) => return true,
            (Some(rest), Some(part)) if rest.starts_with("{*") => return !part.is_empty(),
            (Some(name), Some(part)) if name.starts_with('{') && !part.is_empty() => {}
            (Some(name), Some(part)) if name == part => {}
            (Some(_) | None, Some(_) | None) => return false,
        }
    }
}

pub(super) struct Agent {
    pub authorization: Authorization,
    pub instance: InstanceId,
}

impl Agent {
    pub fn of(edge: &admin::EdgeCreated) -> Self {
        let key = edge.key.parse().expect("a key");
        let edge_id = edge.edge_id.parse().expect("an edge ID");
        Self { authorization: Authorization { edge_id, key }, instance: InstanceId::random() }
    }
}

pub(super) fn hello() -> String {
    let service = json!({"name": "web", "kind": "http", "target": "http://127.0.0.1:8080"});
    let hello = json!({
        "agent": "0.1.0", "protocol": PROTOCOL_VERSION, "hostname": "shop", "services": [service], "tunnel": "closed",
    });
    json!({ "hello": hello }).to_string()
}

pub(super) fn packed(snapshot: &Snapshot) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&serde_json::to_vec(snapshot).expect("serializes")).expect("a Vec takes everything");
    encoder.finish().expect("a Vec takes everything")
}

#[tokio::test]
async fn nothing_below_the_api_is_there_without_a_token() {
    let bench = Bench::new().await;
    for path in [
        "/api/v1/edges",
        "/api/v1/edges/shop",
        "/api/v1/edges/shop/tunnel",
        "/api/v1/edges/shop/offer",
        "/api/v1/edges/shop/services/web/stream",
        "/api/v1/edges/shop/services/web/proxy/x",
        "/api/v1/settings",
        "/api/v1/tokens",
        "/api/v1/backup",
        "/api/v1/nothing/at/all",
    ] {
        for authorization in
            [None, Some("Bearer tga_wrong"), Some("Basic eDp5"), Some("Bearer"), Some("Edge x.y")]
        {
            for method in [Method::GET, Method::POST, Method::DELETE, Method::PUT] {
                let mut request = Request::builder().method(method).uri(path);
                if let Some(authorization) = authorization {
                    request = request.header(AUTHORIZATION, authorization);
                }
                let answer = bench.send(request.body(Body::empty()).expect("a request")).await;
                assert_eq!(answer.problem(), (401, "not-authenticated".into()), "{path} {authorization:?}");
                assert_eq!(answer.headers[WWW_AUTHENTICATE], "Bearer realm=\"tidegate\"");
            }
        }
    }
    assert_eq!(bench.get("/api/v1/nothing").await.problem(), (404, "not-found".into()));
    let lower = Request::get("/api/v1/tokens").header(AUTHORIZATION, format!("bearer {}", bench.token));
    assert_eq!(bench.send(lower.body(Body::empty()).expect("a request")).await.status, StatusCode::OK);
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems() {
    let bench = Bench::new().await;
    assert_eq!(bench.get("/nothing").await.problem(), (404, "not-found".into()));
    let answer = bench.ask(Method::PUT, "/api/v1/settings", Value::Null).await;
    assert_eq!(answer.problem(), (405, "method-not-allowed".into()));
    assert_eq!(answer.headers[ALLOW], "GET,HEAD,PATCH");
    let answer = bench.ask(Method::GET, "/api/v1/check-in", Value::Null).await;
    assert_eq!(answer.problem(), (405, "method-not-allowed".into()));
}

#[tokio::test]
async fn tokens_are_shown_once_and_revoked_at_once_and_the_last_one_stays() {
    let bench = Bench::new().await;
    let made = bench.ask(Method::POST, "/api/v1/tokens", json!({"label": "CI"})).await;
    assert_eq!(
        (made.status, &made.headers[CACHE_CONTROL]),
        (StatusCode::CREATED, &"no-store".parse().expect("valid"))
    );
    let made: admin::TokenCreated = serde_json::from_slice(&made.body).expect("a token");
    assert!(made.token.starts_with("tga_") && made.token.len() == 47, "{}", made.token.len());
    let listed = bench.get("/api/v1/tokens").await;
    assert!(!String::from_utf8_lossy(&listed.body).contains("tga_"));
    assert_eq!(listed.json()["tokens"].as_array().map(Vec::len), Some(2));

    let other = Bench { token: made.token, router: bench.router.clone(), ..Bench::new().await };
    assert_eq!(other.get("/api/v1/tokens").await.status, StatusCode::OK);
    let path = format!("/api/v1/tokens/{}", made.listed.id);
    assert_eq!(bench.ask(Method::DELETE, &path, Value::Null).await.status, StatusCode::NO_CONTENT);
    assert_eq!(other.get("/api/v1/tokens").await.problem().1, "not-authenticated");
    assert_eq!(
        bench.ask(Method::DELETE, &path, Value::Null).await.problem(),
        (404, "token-not-found".into())
    );
    let last = &bench.get("/api/v1/tokens").await.json()["tokens"][0]["id"];
    let path = format!("/api/v1/tokens/{}", last.as_str().expect("an id"));
    assert_eq!(bench.ask(Method::DELETE, &path, Value::Null).await.problem(), (409, "last-token".into()));

    let again = Access::load(&mut bench.store.load().expect("readable"), Arc::clone(&bench.store));
    assert!(again.by_token(&bench.token).is_some(), "the store agrees");
    assert!(again.by_token(&other.token).is_none(), "the store agrees");
}

#[tokio::test]
async fn ssh_keys_are_added_listed_and_removed() {
    let bench = Bench::new().await;
    let line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIH0Y8SbmEACpGhn4WcRxVNTWjOvc544NYcjRAp1lb3Cd ada@work";
    let add = |label: &str, key: &str| {
        bench.ask(Method::POST, "/api/v1/ssh-keys", json!({"label": label, "public_key": key}))
    };
    let added = add("Ada", line).await;
    assert_eq!(added.status, StatusCode::CREATED, "{:?}", added.body);
    let key: admin::SshKey = serde_json::from_slice(&added.body).expect("a key");
    assert_eq!(key.label, "Ada");
    // `ssh-keygen -lf` on this very key.
    assert_eq!(key.fingerprint, "SHA256:cqGS7q9umZc8w9uAwxbRVkIe4I/Cc+SAjKNlZ/RHsF8");
    assert_eq!(bench.get("/api/v1/ssh-keys").await.json(), json!({"ssh_keys": [added.json()]}));

    let again = add("Grace", line).await;
    assert_eq!(again.problem(), (409, "ssh-key-exists".into()));
    assert!(again.detail().contains(&key.id.to_string()), "{}", again.detail());
    assert_eq!(add("", line).await.problem(), (422, "invalid-field".into()));
    let private = add("Ada", "-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0").await;
    assert_eq!(private.problem(), (422, "invalid-field".into()));
    assert!(private.detail().contains("private key") && !private.detail().contains("c2VjcmV0"));

    let path = format!("/api/v1/ssh-keys/{}", key.id);
    assert_eq!(bench.ask(Method::DELETE, &path, Value::Null).await.status, StatusCode::NO_CONTENT);
    let gone = bench.ask(Method::DELETE, &path, Value::Null).await;
    assert_eq!(gone.problem(), (404, "ssh-key-not-found".into()));
    assert_eq!(bench.get("/api/v1/ssh-keys").await.json(), json!({"ssh_keys": []}));
    assert!(bench.store.load().expect("readable").ssh_keys.is_empty(), "the store agrees");
}

#[tokio::test]
async fn gateway_says_where_it_is_and_how_to_recognise_it() {
    let bench = Bench::new().await;
    let answer: admin::Gateway =
        serde_json::from_slice(&bench.get("/api/v1/gateway").await.body).expect("a gateway");
    assert_eq!(answer.public_url, "https://gate.example.com:9000");
    assert_eq!(answer.public_ssh, "gate.example.com:8000");
    let [key] = answer.host_keys.as_slice() else { panic!("one host key, got {:?}", answer.host_keys) };
    assert_eq!(key.algorithm, "ssh-ed25519");
    assert_eq!(Some(key.public_key.as_str()), HOST_KEY.strip_suffix(" gate"), "without its comment");
    let token: JoinToken = bench.create("shop").await.join_token.parse().expect("a join token");
    assert_eq!((token.host_keys, token.tls_pins), (vec![key.fingerprint], answer.tls_pins));
}

#[tokio::test]
async fn a_new_edge_comes_with_all_that_its_agent_needs() {
    let bench = Bench::new().await;
    let answer =
        bench.ask(Method::POST, "/api/v1/edges", json!({"name": "shop-17", "tags": ["north"]})).await;
    assert_eq!(answer.headers[LOCATION], "/api/v1/edges/shop-17");
    assert_eq!(answer.headers[CACHE_CONTROL], "no-store");
    let created: admin::EdgeCreated = serde_json::from_slice(&answer.body).expect("an edge");
    let token: JoinToken = created.join_token.parse().expect("a join token");
    assert_eq!(token.api_url, "https://gate.example.com:9000");
    assert_eq!(token.ssh, "gate.example.com:8000");
    assert_eq!(token.key.expose(), created.key);
    assert_eq!((token.host_keys.len(), token.tls_pins.len()), (1, 1));
    assert!(created.commands.binary.contains(&created.join_token));
    assert!(created.commands.binary.contains(&created.edge_id));
    let again = bench.ask(Method::POST, "/api/v1/edges", json!({"name": "shop-17"})).await;
    assert_eq!(again.problem(), (409, "edge-name-taken".into()));
}

#[tokio::test]
async fn public_addresses_of_the_settings_are_in_the_next_join_token() {
    let bench = Bench::new().await;
    let change = json!({"public_url": "http://set.example.com", "public_ssh": "set.example.com:22"});
    let answer = bench.ask(Method::PATCH, "/api/v1/settings", change).await;
    assert_eq!(answer.json()["public_ssh"], "set.example.com:22");
    assert_eq!(bench.get("/api/v1/settings").await.json(), answer.json());
    let token: JoinToken = bench.create("shop").await.join_token.parse().expect("a join token");
    assert_eq!(
        (token.api_url.as_str(), token.ssh.as_str()),
        ("http://set.example.com", "set.example.com:22")
    );
    assert!(token.tls_pins.is_empty(), "there is nothing to pin over plain HTTP");
}

#[tokio::test]
async fn bodies_that_are_not_what_they_should_be_are_refused_and_the_field_is_named() {
    let bench = Bench::new().await;
    let answer = bench.ask(Method::POST, "/api/v1/edges", json!({"name": "shop", "intervall_s": 5})).await;
    assert_eq!(answer.problem(), (422, "invalid-field".into()));
    assert!(answer.detail().contains("intervall_s"), "{}", answer.detail());
    let answer = bench.ask(Method::POST, "/api/v1/edges", json!({"name": "Shop 17"})).await;
    assert_eq!(answer.problem(), (422, "invalid-field".into()));
    assert!(answer.detail().contains("name") && answer.detail().contains("DNS label"), "{}", answer.detail());
    let answer = bench.ask(Method::POST, "/api/v1/edges", json!({"name": "shop", "interval_s": 0})).await;
    assert_eq!(answer.problem(), (422, "invalid-field".into()));
    assert!(answer.detail().contains("interval_s"), "{}", answer.detail());

    let post = || Request::post("/api/v1/edges").header(AUTHORIZATION, format!("Bearer {}", bench.token));
    for (request, problem) in [
        (post().header(CONTENT_TYPE, "application/json").body(Body::from("{")), (400, "invalid-json")),
        (post().body(Body::from("{}")), (415, "unsupported-media-type")),
        (
            post().header(CONTENT_TYPE, "application/json").body(Body::from(vec![b' '; 70_000])),
            (413, "body-too-large"),
        ),
    ] {
        let answer = bench.send(request.expect("a request")).await;
        assert_eq!(answer.problem(), (problem.0, problem.1.into()));
    }
}

#[tokio::test]
async fn edges_are_listed_in_pages_shown_changed_and_deleted() {
    let bench = Bench::new().await;
    for name in ["a", "b", "c"] {
        bench.create(name).await;
    }
    let page: admin::EdgePage =
        serde_json::from_slice(&bench.get("/api/v1/edges?limit=2").await.body).expect("a page");
    assert_eq!((page.edges.len(), page.next.as_deref()), (2, Some("b")));
    let page: admin::EdgePage =
        serde_json::from_slice(&bench.get("/api/v1/edges?after=b&status=never-joined&q=").await.body)
            .expect("a page");
    assert_eq!((page.edges.len(), page.next), (1, None));
    for query in ["limit=0", "limit=501", "status=sleeping", "after=B", "size=1"] {
        let answer = bench.get(&format!("/api/v1/edges?{query}")).await;
        assert_eq!(answer.problem(), (400, "invalid-request".into()), "{query}");
    }
    let changed = bench.ask(Method::PATCH, "/api/v1/edges/a", json!({"name": "z", "interval_s": 30})).await;
    assert_eq!((&changed.json()["name"], &changed.json()["interval_s"]), (&json!("z"), &json!(30)));
    let reset = bench.ask(Method::PATCH, "/api/v1/edges/z", json!({"interval_s": null})).await;
    assert_eq!(reset.json()["interval_s"], 5);
    assert_eq!(bench.get("/api/v1/edges/a").await.problem(), (404, "edge-not-found".into()));
    assert_eq!(bench.get("/api/v1/edges/A").await.problem(), (400, "invalid-request".into()));
    assert_eq!(
        bench.ask(Method::DELETE, "/api/v1/edges/z", Value::Null).await.status,
        StatusCode::NO_CONTENT
    );
    assert_eq!(bench.ask(Method::DELETE, "/api/v1/edges/z", Value::Null).await.problem().1, "edge-not-found");
}

#[tokio::test]
async fn tunnel_is_raised_shown_and_lowered() {
    let bench = Bench::new().await;
    bench.create("shop").await;
    let path = "/api/v1/edges/shop/tunnel";
    assert_eq!(bench.get(path).await.json()["state"], "idle");
    assert_eq!(bench.ask(Method::POST, path, Value::Null).await.json()["state"], "wanted");
    assert_eq!(bench.get(path).await.json()["state"], "wanted");
    assert_eq!(bench.ask(Method::DELETE, path, Value::Null).await.json()["state"], "idle");
}

#[tokio::test]
async fn an_agent_checks_in_and_its_key_is_its_own() {
    let bench = Bench::new().await;
    let edge = bench.create("shop").await;
    let agent = Agent::of(&edge);
    let path = wire::check_in::PATH;
    let answer = bench.as_agent(path, &agent, hello()).await;
    assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.body);
    assert_eq!(answer.json(), json!({"interval_s": 5, "need": "none"}));
    let answer = bench.as_agent(path, &agent, "").await;
    assert_eq!((answer.status, answer.body.len()), (StatusCode::NO_CONTENT, 0));

    bench.ask(Method::POST, "/api/v1/edges/shop/tunnel", Value::Null).await;
    let needed = bench.as_agent(path, &agent, "").await.json();
    assert_eq!(
        (&needed["need"], &needed["offer"]["ssh"]),
        (&json!("tunnel"), &json!("gate.example.com:8000"))
    );
    let shown = bench.get("/api/v1/edges/shop").await.json();
    assert_eq!(shown["instances"][0]["address"], "192.0.2.1");

    let mut other = Agent::of(&edge);
    other.authorization.edge_id = EdgeId::random();
    assert_eq!(bench.as_agent(path, &other, hello()).await.problem(), (403, "bound-to-another".into()));
    other.authorization.key = EdgeKey::random();
    let answer = bench.as_agent(path, &other, hello()).await;
    assert_eq!(answer.problem(), (401, "unknown-key".into()));
    assert_eq!(answer.headers[WWW_AUTHENTICATE], "Edge");
    let second = Agent { authorization: agent.authorization.clone(), instance: InstanceId::random() };
    assert_eq!(bench.as_agent(path, &second, hello()).await.problem(), (409, "second-instance".into()));
    let newer = hello().replace("\"protocol\":1", "\"protocol\":2");
    assert_eq!(bench.as_agent(path, &agent, newer).await.problem(), (426, "unsupported-protocol".into()));
    let flood = vec![b' '; wire::check_in::MAX_BODY + 1];
    assert_eq!(bench.as_agent(path, &agent, flood).await.problem(), (413, "body-too-large".into()));
}

#[tokio::test]
async fn snapshot_waits_in_line_for_a_place_and_is_asked_to_come_again_where_there_is_none() {
    let bench = Bench::new().await;
    let agent = Agent::of(&bench.create("shop").await);
    bench.as_agent(wire::check_in::PATH, &agent, hello()).await;
    let path = wire::check_in::SNAPSHOT_PATH;
    let endless = || Body::from_stream(futures_util::stream::pending::<std::io::Result<Vec<u8>>>());
    let mut slow: FuturesUnordered<_> =
        (0..=MAX_UPLOADS).map(|_| bench.as_agent(path, &agent, endless())).collect();
    // Whatever the store is asked for has its answer; from here on only timers are waited for.
    tokio::time::pause();
    let refused = slow.next().await.expect("one is too many");
    tokio::time::resume();
    assert_eq!(refused.headers[RETRY_AFTER], "1");
    assert_eq!(refused.problem(), (503, "busy".into()));
    let in_line = bench.as_agent(path, &agent, packed(&Snapshot::default()));
    let freed = async {
        tokio::task::yield_now().await;
        drop(slow);
    };
    let (stored, ()) = tokio::join!(in_line, freed);
    assert_eq!(stored.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_snapshot_is_kept_as_it_came_and_shown() {
    let bench = Bench::new().await;
    let agent = Agent::of(&bench.create("shop").await);
    bench.as_agent(wire::check_in::PATH, &agent, hello()).await;
    assert_eq!(bench.get("/api/v1/edges/shop/snapshot").await.problem(), (404, "snapshot-not-found".into()));
    let snapshot = Snapshot { taken_at: "2026-11-09T08:00:00Z".into(), ..Snapshot::default() };
    let path = wire::check_in::SNAPSHOT_PATH;
    let answer = bench.as_agent(path, &agent, packed(&snapshot)).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT, "{:?}", answer.body);
    let stored: admin::StoredSnapshot =
        serde_json::from_slice(&bench.get("/api/v1/edges/shop/snapshot").await.body).expect("a snapshot");
    assert_eq!((stored.snapshot, stored.instance), (snapshot, agent.instance));

    assert_eq!(bench.as_agent(path, &agent, "{}").await.problem(), (422, "invalid-field".into()));
    let flood = vec![0; MAX_COMPRESSED + 1];
    assert_eq!(bench.as_agent(path, &agent, flood).await.problem(), (413, "body-too-large".into()));
    let mut stranger = agent;
    stranger.authorization.key = EdgeKey::random();
    let flood = Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
    let refused = bench.as_agent(path, &stranger, flood).await;
    assert_eq!(refused.problem(), (401, "unknown-key".into()), "before its body is read");
}

#[tokio::test]
async fn services_of_unknown_edges_and_streams_without_upgrade_are_problems() {
    let bench = Bench::new().await;
    let services = "/api/v1/edges/shop/services/web";
    for method in [Method::GET, Method::PUT, Method::OPTIONS] {
        let answer = bench.ask(method, &format!("{services}/proxy/a//b%2Fc%ff"), Value::Null).await;
        assert_eq!(answer.problem(), (404, "edge-not-found".into()));
    }
    assert_eq!(bench.get(&format!("{services}/proxy/")).await.problem().1, "edge-not-found");
    assert_eq!(
        bench.get(&format!("{services}/proxy?x")).await.headers[LOCATION],
        format!("{services}/proxy/?x")
    );
    let answer = bench.get(&format!("{services}/stream")).await;
    assert_eq!(answer.problem(), (426, "upgrade-required".into()));
    assert_eq!(answer.headers[UPGRADE], "tcp");
}

#[tokio::test]
async fn health_needs_no_token_and_readiness_names_the_part_that_is_not() {
    let bench = Bench::new().await;
    let get = |path| Request::get(path).body(Body::empty()).expect("a request");
    assert_eq!(bench.send(get("/healthz")).await.json(), json!({"status": "ok"}));
    let starting = bench.send(get("/readyz")).await;
    assert_eq!(starting.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        starting.json()["parts"].as_object().is_some_and(|parts| parts.len() >= 3),
        "{:?}",
        starting.body
    );
    let _up = (bench.readiness.up(Listener::Http), bench.readiness.up(Listener::Ssh));
    let ready = bench.send(get("/readyz")).await;
    assert_eq!((ready.status, &ready.json()["status"]), (StatusCode::OK, &json!("ok")));
}

#[tokio::test]
async fn backup_is_downloaded() {
    let bench = Bench::new().await;
    bench.create("shop").await;
    let backup = bench.get("/api/v1/backup").await;
    assert_eq!(
        (backup.status, &backup.headers[CACHE_CONTROL]),
        (StatusCode::OK, &"no-store".parse().expect("valid"))
    );
    assert!(backup.body.starts_with(b"tidegate-backup 1\n"));
}

#[tokio::test]
async fn a_panic_of_a_handler_is_an_internal_problem() {
    async fn broken() {
        panic!("a defect");
    }
    let router: Router =
        Router::new().route("/", axum::routing::get(broken)).layer(from_fn(problem::observe));
    let bench = Bench { router, ..Bench::new().await };
    let answer = bench.get("/").await;
    assert_eq!(answer.problem(), (500, "internal".into()));
    assert!(!answer.detail().contains("defect"));
}

#[tokio::test]
async fn offers_for_stock_clients_show_their_secret_once_and_are_revoked() {
    let bench = Bench::new().await;
    bench.create("kiosk").await;
    let path = "/api/v1/edges/kiosk/offer";
    let answer = bench.ask(Method::POST, path, json!({})).await;
    assert_eq!(
        (answer.status, &answer.headers[CACHE_CONTROL]),
        (StatusCode::CREATED, &"no-store".parse().expect("valid"))
    );
    let made: admin::OfferCreated = serde_json::from_slice(&answer.body).expect("an offer");
    let admin::OfferSecret::Password { password } = &made.secret else { panic!("no password: {made:?}") };
    assert!(made.command.contains("ssh:22:localhost:22") && !made.command.contains(password));
    let host_key = HOST_KEY.strip_suffix(" gate").expect("it has a comment");
    assert_eq!(made.known_hosts, format!("[gate.example.com]:8000 {host_key}\n"));

    let services = json!([{"name": "web", "target": "localhost:8080"}]);
    let answer = bench.ask(Method::POST, path, json!({"services": services, "renew": true})).await;
    let made: admin::OfferCreated = serde_json::from_slice(&answer.body).expect("an offer");
    let admin::OfferSecret::Key { private_key, fingerprint } = &made.secret else { panic!("{made:?}") };
    assert!(made.command.contains(private_key) && made.command.contains("autossh"));
    let shown = bench.get("/api/v1/edges/kiosk").await;
    assert!(!String::from_utf8_lossy(&shown.body).contains("PRIVATE"));
    let edge: admin::Edge = serde_json::from_slice(&shown.body).expect("an edge");
    let standing: Vec<_> = edge.offers.iter().map(|offer| offer.fingerprint).collect();
    assert_eq!(standing, [None, Some(*fingerprint)]);
    let stored = bench.store.load().expect("readable").edges.remove(0).stock_key;
    assert_eq!(stored.map(|key| key.fingerprint), Some(*fingerprint), "the store agrees");

    assert_eq!(bench.ask(Method::DELETE, path, Value::Null).await.status, StatusCode::NO_CONTENT);
    assert_eq!(bench.get("/api/v1/edges/kiosk").await.json().get("offers"), None);
    assert_eq!(bench.store.load().expect("readable").edges.remove(0).stock_key, None, "the store agrees");
}

#[tokio::test]
async fn offers_that_make_no_sense_are_refused_and_the_field_is_named() {
    let bench = Bench::new().await;
    bench.create("kiosk").await;
    let path = "/api/v1/edges/kiosk/offer";
    let web = json!({"name": "web", "target": "localhost:8080"});
    for (body, field) in [
        (json!({"valid_s": 1}), "valid_s"),
        (json!({"valid_s": 86_401}), "valid_s"),
        (json!({"services": [web, web]}), "services"),
        (json!({"services": [{"name": "web", "target": "8080"}]}), "target"),
        (json!({"services": [{"name": "Web", "target": "localhost:1"}]}), "name"),
        (json!({"forever": true}), "forever"),
    ] {
        let answer = bench.ask(Method::POST, path, body).await;
        assert_eq!(answer.problem(), (422, "invalid-field".into()));
        assert!(answer.detail().contains(field), "{field}: {}", answer.detail());
    }
    let nowhere = bench.ask(Method::POST, "/api/v1/edges/nowhere/offer", json!({})).await;
    assert_eq!(nowhere.problem(), (404, "edge-not-found".into()));
}

/// The events of a stream that has ended: kind and edge of each.
fn messages(body: &[u8]) -> Vec<(String, String)> {
    let text = std::str::from_utf8(body).expect("events are text");
    let field = |message: &str, name: &str| {
        let line = message.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.unwrap_or_default().to_owned()
    };
    let edge = |message: &str| {
        let data: Value = serde_json::from_str(&field(message, "data")).expect("JSON");
        data["edge"].as_str().unwrap_or_default().to_owned()
    };
    text.split_terminator("\n\n").map(|message| (field(message, "event"), edge(message))).collect()
}

fn told(events: &[(&str, &str)]) -> Vec<(String, String)> {
    events.iter().map(|(kind, edge)| ((*kind).to_owned(), (*edge).to_owned())).collect()
}

#[tokio::test]
async fn events_are_told_from_the_last_that_was_seen_until_the_gateway_drains() {
    let bench = Bench::new().await;
    bench.create("one").await;
    let seen = bench.tunnels.last_event().await;
    bench.create("two").await;
    let drained = async {
        let change = json!({"name": "three"});
        let changed = bench.ask(Method::PATCH, "/api/v1/edges/one", change).await;
        assert_eq!(changed.status, StatusCode::OK);
        bench.tunnels.drain().await;
    };
    let paths = [
        "/api/v1/events".to_owned(),
        format!("/api/v1/events?after={seen}"),
        format!("/api/v1/events?edge=one&after={seen}"),
    ];
    let (anew, after, of_one, ()) =
        tokio::join!(biased; bench.get(&paths[0]), bench.get(&paths[1]), bench.get(&paths[2]), drained);
    assert_eq!(anew.headers[CONTENT_TYPE], "text/event-stream");
    assert_eq!(messages(&anew.body), told(&[("resync", ""), ("changed", "three")]));
    assert_eq!(messages(&after.body), told(&[("created", "two"), ("changed", "three")]));
    assert_eq!(messages(&of_one.body), told(&[("changed", "three")]));
    assert_eq!(bench.get("/api/v1/events").await.problem(), (503, "busy".to_owned()));
    assert_eq!(bench.get("/api/v1/events?edge=none").await.problem(), (404, "edge-not-found".to_owned()));
}

#[tokio::test]
async fn status_counts_edges_and_shows_the_gateway_to_who_reaches_all_of_them() {
    let bench = Bench::new().await;
    let new = bench.create("shop").await;
    bench.create("other").await;
    bench.as_agent("/api/v1/check-in", &Agent::of(&new), hello()).await;
    let status: admin::Status =
        serde_json::from_slice(&bench.get("/api/v1/status").await.body).expect("a status");
    let counts = status.edges;
    assert_eq!((counts.never_joined, counts.online, counts.total()), (1, 1, 2));
    let gateway = status.gateway.expect("the token reaches every edge");
    assert_eq!((gateway.agents, gateway.streams, gateway.watchers), (1, 0, 0));
    assert!(gateway.parts.contains_key("store") && gateway.memory_bytes > Some(0));
    let bound = bench.vitals.status(Reach::tagged(["berlin".to_owned()])).await;
    assert_eq!((bound.edges.total(), bound.gateway), (0, None));
    let series = bench.get("/api/v1/status/series").await.json();
    assert_eq!(series["step_s"], 10);
    let counted = bench.vitals.telemetry().requests("status.show");
    assert!(format!("{counted:?}").contains("\"2xx\": 1"), "{counted:?}");
}

#[tokio::test]
async fn history_of_an_edge_tells_what_happened_newest_first() {
    let bench = Bench::new().await;
    let new = bench.create("shop").await;
    let agent = Agent::of(&new);
    bench.as_agent("/api/v1/check-in", &agent, hello()).await;
    let entries = |answer: &Answer| {
        let history: admin::History = serde_json::from_slice(&answer.body).expect("a history");
        history.entries.iter().map(|entry| entry.what.kind()).collect::<Vec<_>>()
    };
    let answer = bench.get("/api/v1/edges/shop/history").await;
    assert_eq!(entries(&answer), ["online", "joined", "created"]);
    bench.ask(Method::POST, "/api/v1/edges/shop/tunnel", Value::Null).await;
    bench.ask(Method::DELETE, "/api/v1/edges/shop/tunnel", Value::Null).await;
    let answer = bench.get("/api/v1/edges/shop/history?limit=1").await;
    assert_eq!(
        entries(&answer),
        ["tunnel-unwanted"],
        "why it did not open is told, that it was wanted is not"
    );
    for limit in ["0", "51", "-1", "x"] {
        let answer = bench.get(&format!("/api/v1/edges/shop/history?limit={limit}")).await;
        assert_eq!(answer.problem(), (400, "invalid-request".to_owned()), "{limit}");
    }
    bench.ask(Method::DELETE, "/api/v1/edges/shop", Value::Null).await;
    bench.create("shop").await;
    assert_eq!(entries(&bench.get("/api/v1/edges/shop/history").await), ["created"], "of the new one only");
}
