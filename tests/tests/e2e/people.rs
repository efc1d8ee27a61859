//! People with browsers and programs: the first run, signing in, and what ends with a credential.

use hyper::Method;
use hyper::header::{CONNECTION, COOKIE, SET_COOKIE, UPGRADE};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
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

    let path = format!("/api/v1/edges/{EDGE}/services/db/stream");
    let request = ada.request(Method::GET, &path).header(CONNECTION, "upgrade").header(UPGRADE, "tcp");
    let opened = ada.open(request.body(full("")).expect("a request")).await.expect("an answer");
    assert_eq!(opened.status(), 101);
    let mut stream = TokioIo::new(hyper::upgrade::on(opened).await.expect("it is upgraded"));
    assert_echo(&mut stream, b"before").await;

    ada.call(Method::DELETE, "/api/v1/session").await.expect("an answer").expect(204);
    let ended = tokio::time::timeout(SOON, stream.read_u8()).await.expect("it ends at once");
    assert!(ended.is_err(), "{ended:?}");
    ada.get("/api/v1/session").await.expect("an answer").problem(401);
    site.wait_tunnel(shared::wire::admin::TunnelState::Open).await;
}
