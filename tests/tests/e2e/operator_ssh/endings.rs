//! What `ssh` has open ends when its operator's right to it does.

use hyper::Method;
use serde_json::{Value, json};
use tests::fakes::tcp::{Tcp, assert_echo};
use tests::openssh::give_password;
use tests::process::{Log, Process};
use tests::site::{EDGE, Site};
use tests::wait::SOON;
use tokio::io::AsyncReadExt as _;

use super::{GW, Operator};

#[tokio::test]
async fn a_key_that_is_removed_ends_the_connections_that_were_made_with_it() {
    let echo = Tcp::echo().await;
    let site = Site::with("db", echo.address).await;
    let operator = Operator::of(&site.gateway).await;
    let other = Operator::of(&site.gateway).await;
    let (mut forwarding, mut stream) = operator.connect("db.shop:5432").await;
    let (_others, mut others_stream) = other.connect("db.shop:5432").await;
    assert_echo(&mut stream, b"before").await;
    assert_echo(&mut others_stream, b"before").await;

    let path = format!("/api/v1/ssh-keys/{}", operator.key_id);
    site.gateway.admin.call(Method::DELETE, &path).await.expect(204);
    assert_eq!(forwarding.process.exit(SOON).await.code(), Some(255));
    forwarding.log.wait_for("revoked", SOON).await;
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0, "the stream went with it");
    assert_echo(&mut others_stream, b"somebody else's goes on").await;
}

#[tokio::test]
async fn a_token_that_is_revoked_ends_the_connection_that_it_was_the_password_of() {
    let site = Site::with("db", Tcp::echo().await.address).await;
    let operator = Operator::of(&site.gateway).await;
    let made =
        site.gateway.admin.http.send_json(Method::POST, "/api/v1/tokens", &json!({"label": "ssh"})).await;
    let made: Value = made.expect("an answer").expect(201).json();
    let log = Log::default();
    let mut command =
        operator.command("ssh", &["-N", "-o", "BatchMode=no", "-o", "PubkeyAuthentication=no", GW]);
    give_password(&mut command, operator.folder.path(), made["token"].as_str().expect("a token"));
    let mut session = Process::start("ssh -N", command, &log);
    site.gateway.log().wait_for("operator logged in", SOON).await;
    let path = format!("/api/v1/tokens/{}", made["id"].as_str().expect("an id"));
    site.gateway.admin.call(Method::DELETE, &path).await.expect(204);
    assert_eq!(session.exit(SOON).await.code(), Some(255));
    log.wait_for("revoked", SOON).await;
}

#[tokio::test]
async fn a_user_reaches_the_edges_of_their_tags_only_and_loses_them_at_once() {
    let echo = Tcp::echo().await;
    let site = Site::start_with(&[("db", &echo.address)], |edge| edge.tags = vec!["berlin".into()]).await;
    let admin = &site.gateway.admin;
    admin.create_with("kiosk", |edge| edge.tags = vec!["hamburg".into()]).await;
    let ada = json!({"name": "ada", "role": "operator", "tags": ["berlin"]});
    admin.http.send_json(Method::POST, "/api/v1/users", &ada).await.expect("an answer").expect(201);
    let operator = Operator::with(&site.gateway, &json!("ada")).await;

    let list = operator.ssh(&[GW]).await.ok();
    assert!(list.stdout.contains(EDGE) && !list.stdout.contains("kiosk"), "{}", list.stdout);
    let refused = operator.ssh(&["-W", "db.kiosk:5432", GW]).await;
    assert!(refused.stderr.contains("there is no edge named kiosk"), "{refused:?}");
    let (mut forwarding, mut stream) = operator.connect("db.shop:5432").await;
    assert_echo(&mut stream, b"before").await;

    let change = json!({"tags": ["hamburg"]});
    let changed = admin.http.send_json(Method::PATCH, "/api/v1/users/ada", &change).await;
    changed.expect("an answer").expect(200);
    assert_eq!(forwarding.process.exit(SOON).await.code(), Some(255));
    forwarding.log.wait_for("were changed", SOON).await;
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0, "the stream went with it");
    let refused = operator.ssh(&["-W", "db.shop:5432", GW]).await;
    assert!(refused.stderr.contains("there is no edge named shop"), "{refused:?}");

    admin
        .http
        .send_json(Method::PATCH, "/api/v1/users/ada", &json!({"role": "viewer", "tags": null}))
        .await
        .expect("an answer")
        .expect(200);
    let refused = operator.ssh(&["-W", "db.shop:5432", GW]).await;
    assert!(refused.stderr.contains("viewer"), "{refused:?}");
    admin.call(Method::DELETE, "/api/v1/users/ada").await.expect(204);
    let refused = operator.ssh(&[GW]).await;
    assert!(refused.stderr.contains("Permission denied"), "{refused:?}");
}

#[tokio::test]
async fn an_edge_that_leaves_a_users_tags_takes_their_streams_and_leaves_their_connection() {
    let echo = Tcp::echo().await;
    let site = Site::start_with(&[("db", &echo.address)], |edge| edge.tags = vec!["berlin".into()]).await;
    let admin = &site.gateway.admin;
    let ada = json!({"name": "ada", "role": "operator", "tags": ["berlin"]});
    admin.http.send_json(Method::POST, "/api/v1/users", &ada).await.expect("an answer").expect(201);
    let operator = Operator::with(&site.gateway, &json!("ada")).await;
    let (mut forwarding, mut stream) = operator.connect("db.shop:5432").await;
    assert_echo(&mut stream, b"before").await;

    let path = format!("/api/v1/edges/{EDGE}");
    let changed = admin.http.send_json(Method::PATCH, &path, &json!({"tags": ["hamburg"]})).await;
    changed.expect("an answer").expect(200);
    let ended = tokio::time::timeout(SOON, stream.read(&mut [0; 1])).await.expect("it ends at once");
    assert_eq!(ended.unwrap_or(0), 0);
    assert!(forwarding.process.runs(), "ada reaches other edges over it");
    let refused = operator.ssh(&["-W", "db.shop:5432", GW]).await;
    assert!(refused.stderr.contains("there is no edge named shop"), "{refused:?}");
}
