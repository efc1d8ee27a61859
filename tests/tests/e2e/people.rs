//! People with browsers and programs: the first run, signing in, and what ends with a credential.

use http_body_util::BodyExt as _;
use hyper::Method;
use hyper::header::{CONNECTION, COOKIE, SET_COOKIE, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tests::fakes::http::Web;
use tests::fakes::tcp::{Tcp, assert_echo};
use tests::gateway::Gateway;
use tests::http::{Answer, Http, full};
use tests::site::{EDGE, Site};
use tests::wait::{SOON, until};
use tokio::io::AsyncReadExt as _;

const PASSWORD: &str = "correct horse battery";

/// As a browser on the gateway's own page.
async fn browse(http: &Http, cookie: &str, method: Method, path: &str) -> Answer {
    let request = http.request(method, path).header(COOKIE, cookie).header("sec-fetch-site", "same-origin");
    http.send(request.body(full("")).expect("a request")).await.expect("an answer")
}

async fn post(http: &Http, path: &str, body: &Value) -> Answer {
    http.send_json(Method::POST, path, body).await.expect("an answer")
}

/// A stream to the service `db` of the edge.
async fn stream_to_db(http: &Http) -> TokioIo<Upgraded> {
    let path = format!("/api/v1/edges/{EDGE}/services/db/stream");
    let request = http.request(Method::GET, &path).header(CONNECTION, "upgrade").header(UPGRADE, "tcp");
    let opened = http.open(request.body(full("")).expect("a request")).await.expect("an answer");
    assert_eq!(opened.status(), 101);
    TokioIo::new(hyper::upgrade::on(opened).await.expect("it is upgraded"))
}

/// The code that this life of the gateway logged, if it did.
fn code(gateway: &Gateway, start: usize) -> Option<String> {
    let record = gateway
        .log()
        .records(start)
        .into_iter()
        .find(|record| record["message"] == "set up the first user")?;
    assert!(record["url"].as_str().expect("a URL").ends_with("/setup"), "{record}");
    Some(record["code"].as_str().expect("a code").to_owned())
}

#[tokio::test]
async fn the_first_user_is_made_with_the_code_of_the_log_and_stays_signed_in_through_a_restart() {
    let mut gateway = Gateway::start().await;
    let first = until(SOON, "the code is logged", async || code(&gateway, 0)).await;
    let mark = gateway.log().len();
    gateway.kill_and_resume().await;
    let second = until(SOON, "another code is logged", async || code(&gateway, mark)).await;
    assert_ne!(first, second);

    let strangers = gateway.admin.http.anonymous();
    let set_up = |code: &str| json!({"code": code, "name": "ada", "password": PASSWORD});
    let refused = post(&strangers, "/api/v1/setup", &set_up(&first)).await.problem(403);
    assert_eq!(refused.code, "set-up-code-wrong");
    post(&strangers, "/api/v1/setup", &set_up(&second)).await.expect(201);
    assert_eq!(post(&strangers, "/api/v1/setup", &set_up(&second)).await.problem(409).code, "already-set-up");

    let sign_in = json!({"name": "ada", "password": PASSWORD});
    let signed_in = post(&strangers, "/api/v1/session", &sign_in).await.expect(200);
    let cookie =
        signed_in.headers[SET_COOKIE].to_str().expect("text").split(';').next().expect("a pair").to_owned();
    assert!(cookie.starts_with("__Host-tidegate=tgs_"));
    let mark = gateway.log().len();
    gateway.kill_and_resume().await;
    assert_eq!(code(&gateway, mark), None, "there is a user");
    let strangers = gateway.admin.http.anonymous();
    let who: Value = browse(&strangers, &cookie, Method::GET, "/api/v1/session").await.expect(200).json();
    assert_eq!((&who["name"], &who["role"]), (&json!("ada"), &json!("admin")));
    browse(&strangers, &cookie, Method::DELETE, "/api/v1/session").await.expect(204);
    browse(&strangers, &cookie, Method::GET, "/api/v1/session").await.problem(401);

    let log = gateway.log().text();
    assert!(!log.contains(PASSWORD) && !log.contains("tgs_"), "a secret is in the log");
}

#[tokio::test]
async fn a_stream_ends_with_the_token_it_was_opened_with() {
    let echo = Tcp::echo().await;
    let site = Site::with("db", echo.address).await;
    let admin = &site.gateway.admin.http;
    post(admin, "/api/v1/users", &json!({"name": "ada", "password": PASSWORD, "role": "operator"}))
        .await
        .expect(201);
    let login = json!({"name": "ada", "password": PASSWORD, "label": "laptop", "expires_in_s": 3600});
    let made: Value = post(&admin.anonymous(), "/api/v1/login", &login).await.expect(201).json();
    let ada =
        admin.anonymous().with_authorization(format!("Bearer {}", made["token"].as_str().expect("a token")));

    let mut stream = stream_to_db(&ada).await;
    assert_echo(&mut stream, b"before").await;

    ada.call(Method::DELETE, "/api/v1/session").await.expect("an answer").expect(204);
    let ended = tokio::time::timeout(SOON, stream.read_u8()).await.expect("it ends at once");
    assert!(ended.is_err(), "{ended:?}");
    ada.get("/api/v1/session").await.expect("an answer").problem(401);
    site.wait_tunnel(shared::wire::admin::TunnelState::Open).await;
}

#[tokio::test]
async fn what_somebody_has_open_at_an_edge_ends_when_the_edge_leaves_their_reach() {
    let (echo, web) = (Tcp::echo().await, Web::start().await);
    let services: [(&str, &dyn std::fmt::Display); 2] = [("db", &echo.address), ("web", &web.url())];
    let site = Site::start_with(&services, |edge| edge.tags = vec!["berlin".into(), "till".into()]).await;
    let admin = &site.gateway.admin.http;
    let tag = async |tags: &[&str]| {
        let path = format!("/api/v1/edges/{EDGE}");
        let changed = admin.send_json(Method::PATCH, &path, &json!({ "tags": tags })).await;
        changed.expect("an answer").expect(200);
    };
    let token = json!({"label": "berlin", "role": "operator", "tags": ["berlin"]});
    let made: Value = post(admin, "/api/v1/tokens", &token).await.expect(201).json();
    let theirs =
        admin.anonymous().with_authorization(format!("Bearer {}", made["token"].as_str().expect("a token")));
    let (mut stream, mut of_admin) = (stream_to_db(&theirs).await, stream_to_db(admin).await);
    let request = theirs.request(Method::GET, &site.proxy("web", "/events")).body(full("")).expect("valid");
    let mut events = theirs.open(request).await.expect("the head comes before the first event").into_body();
    web.events.send("one".to_owned()).expect("the service has a reader");
    events.frame().await.expect("no end yet").expect("no error");

    tag(&["berlin"]).await;
    assert_echo(&mut stream, b"it has lost a tag that is nothing to them").await;
    tag(&["hamburg"]).await;
    let ended = tokio::time::timeout(SOON, stream.read_u8()).await.expect("it ends at once");
    assert!(ended.is_err(), "{ended:?}");
    let ended = tokio::time::timeout(SOON, events.frame()).await.expect("it ends at once");
    assert!(!matches!(ended, Some(Ok(_))), "nothing more comes");
    assert_echo(&mut of_admin, b"of who reaches every edge").await;
    theirs.get(&site.proxy("web", "/hello")).await.expect("an answer").problem(404);
    theirs.get("/api/v1/session").await.expect("an answer").expect(200);
    tag(&["berlin"]).await;
    assert_echo(&mut stream_to_db(&theirs).await, b"and again").await;
}

/// Reads a stream of events until one of this kind.
async fn wait_for_event(events: &mut hyper::body::Incoming, kind: &str) {
    let line = format!("event: {kind}\n");
    until(SOON, "the event comes", async || {
        let frame = events.frame().await.expect("it goes on").expect("no error");
        let data = frame.into_data().unwrap_or_default();
        String::from_utf8_lossy(&data).contains(&line).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_stream_of_events_ends_with_the_session_or_the_token_that_reads_it() {
    let gateway = Gateway::start().await;
    let admin = &gateway.admin.http;
    post(admin, "/api/v1/users", &json!({"name": "ada", "password": PASSWORD, "role": "viewer"}))
        .await
        .expect(201);
    let sign_in = json!({"name": "ada", "password": PASSWORD});
    let signed_in = post(&admin.anonymous(), "/api/v1/session", &sign_in).await.expect(200);
    let cookie = signed_in.headers[SET_COOKIE].to_str().expect("text").split(';').next().expect("a pair");
    let made: Value = post(admin, "/api/v1/tokens", &json!({"label": "watch"})).await.expect(201).json();
    let watch =
        admin.anonymous().with_authorization(format!("Bearer {}", made["token"].as_str().expect("a token")));
    let follow = async |http: &Http, path: &str, cookie: &str| {
        let request = http.request(Method::GET, path).header(COOKIE, cookie);
        let opened = http.open(request.body(full("")).expect("a request")).await.expect("an answer");
        assert_eq!(opened.status(), 200);
        opened.into_body()
    };
    let mut of_token = follow(&watch, "/api/v1/events", "").await;
    let mut of_session = follow(&admin.anonymous(), "/api/v1/events", cookie).await;
    let mut of_page = follow(&admin.anonymous(), "/live/edges?names=shop", cookie).await;
    let mut of_admin = follow(admin, "/api/v1/events", "").await;
    gateway.admin.create(EDGE).await;
    for events in [&mut of_token, &mut of_session, &mut of_admin] {
        wait_for_event(events, "created").await;
    }
    wait_for_event(&mut of_page, "fragments").await;

    let path = format!("/api/v1/tokens/{}", made["id"].as_str().expect("an id"));
    admin.call(Method::DELETE, &path).await.expect("an answer").expect(204);
    browse(&admin.anonymous(), cookie, Method::DELETE, "/api/v1/session").await.expect(204);
    for (whose, mut events) in [("token", of_token), ("session", of_session), ("page", of_page)] {
        let end = async { while let Some(Ok(_)) = events.frame().await {} };
        tokio::time::timeout(SOON, end).await.unwrap_or_else(|_| panic!("the stream of the {whose} goes on"));
    }
    gateway.admin.call(Method::DELETE, &format!("/api/v1/edges/{EDGE}")).await.expect(204);
    wait_for_event(&mut of_admin, "deleted").await;
}
