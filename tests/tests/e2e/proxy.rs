//! HTTP through the gateway: bodies, server-sent events, WebSocket, `Upgrade: tcp`, and honest errors.

use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::BodyExt as _;
use hyper::header::{CONNECTION, COOKIE, UPGRADE};
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use shared::wire::admin::EdgeStatus;
use tests::bulk;
use tests::fakes::http::{Seen, Web};
use tests::fakes::tcp::assert_echo;
use tests::http::full;
use tests::site::{EDGE, Site};
use tests::wait::{SOON, until};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

async fn web_site() -> (Web, Site) {
    let web = Web::start().await;
    let site = Site::start(&[("web", &web.url())]).await;
    (web, site)
}

#[tokio::test]
async fn request_reaches_the_service_as_it_was_sent_without_the_admins_secrets() {
    let (_web, site) = web_site().await;
    let request = site
        .http()
        .request(Method::PUT, &site.proxy("web", "/echo/a%20b/?q=1&r=%2F"))
        .header("x-custom", "kept")
        .header(COOKIE, "theme=dark")
        .body(full("the body"))
        .expect("valid");
    let answer = site.http().send(request).await.expect("an answer").expect(200);
    let seen: Seen = answer.json();
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("PUT", "/echo/a%20b/?q=1&r=%2F"));
    assert_eq!((seen.body.as_str(), seen.header("x-custom")), ("the body", Some("kept")));
    assert_eq!(seen.header("cookie"), Some("theme=dark"));
    assert_eq!(seen.header("authorization"), None, "the admin's token is for the gateway alone");
}

#[tokio::test]
async fn statuses_of_the_service_pass_unchanged() {
    let (_web, site) = web_site().await;
    for code in [204, 304, 404, 418, 500, 503] {
        assert_eq!(site.get("web", &format!("/status/{code}")).await.status.as_u16(), code);
    }
}

#[tokio::test]
async fn server_sent_events_arrive_one_by_one() {
    let (web, site) = web_site().await;
    let request =
        site.http().request(Method::GET, &site.proxy("web", "/events")).body(full("")).expect("valid");
    let mut events =
        site.http().open(request).await.expect("the head comes before the first event").into_body();
    for number in 0..20 {
        web.events.send(format!("event {number}")).expect("the service has a reader");
        let frame = tokio::time::timeout(SOON, events.frame()).await.expect("each event comes by itself");
        let data = frame.expect("no end yet").expect("no error").into_data().expect("no trailers");
        assert_eq!(data, format!("data: event {number}\n\n"));
    }
}

#[tokio::test]
async fn web_socket_works_through_the_proxy() {
    let (_web, site) = web_site().await;
    let url = format!("ws://{}{}", site.gateway.api(), site.proxy("web", "/socket"));
    let mut request = url.into_client_request().expect("a URL");
    let authorization = site.http().authorization().expect("the admin's").parse().expect("a header");
    request.headers_mut().insert("authorization", authorization);
    let connection = site.http().connect().await.expect("the gateway is there");
    let (mut socket, _) =
        tokio_tungstenite::client_async(request, connection).await.expect("it switches protocols");
    for message in [Message::text("hello"), Message::binary(bulk::bytes(1, 200_000)), Message::text("")] {
        socket.send(message.clone()).await.expect("it is open");
        assert_eq!(socket.next().await.expect("no end yet").expect("no error"), message);
    }
    socket.close(None).await.expect("it closes in order");
}

#[tokio::test]
async fn upgrade_to_tcp_works_through_the_proxy() {
    let (_web, site) = web_site().await;
    let request = site
        .http()
        .request(Method::GET, &site.proxy("web", "/upgrade"))
        .header(CONNECTION, "upgrade")
        .header(UPGRADE, "tcp")
        .body(full(""))
        .expect("valid");
    let answer = site.http().open(request).await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(answer.headers()[UPGRADE], "tcp");
    let mut stream = TokioIo::new(hyper::upgrade::on(answer).await.expect("it switched"));
    assert_echo(&mut stream, b"raw bytes").await;
    assert_echo(&mut stream, &bulk::bytes(2, 1_000_000)).await;
}

#[tokio::test]
async fn unknown_edges_and_services_are_named() {
    let (_web, site) = web_site().await;
    let problem = site.get("nothing", "/").await.problem(404);
    assert!(problem.detail.contains("nothing") && problem.detail.contains("web"), "{problem:?}");
    let elsewhere = site.gateway.admin.get("/api/v1/edges/nowhere/services/web/proxy/").await.problem(404);
    assert!(elsewhere.detail.contains("nowhere"), "{elsewhere:?}");
}

#[tokio::test]
async fn request_to_an_edge_that_is_away_is_answered_with_since_when() {
    let (_web, mut site) = web_site().await;
    site.agent.kill();
    until(SOON, "the edge counts as offline", async || {
        (site.gateway.admin.edge(EDGE).await.status == EdgeStatus::Offline).then_some(())
    })
    .await;
    let problem = site.get("web", "/hello").await.problem(504);
    assert!(problem.detail.contains("offline since") || problem.detail.contains("last"), "{problem:?}");
    site.gateway.admin.create("never").await;
    let problem = site.gateway.admin.get("/api/v1/edges/never/services/web/proxy/").await.problem(504);
    assert!(problem.detail.contains("never"), "{problem:?}");
    // The agent comes back while a request waits: that request is answered.
    let Site { gateway, agent, .. } = &mut site;
    let path = tests::gateway::Gateway::proxy_path(EDGE, "web", "/hello");
    let (answer, ()) = tokio::join!(gateway.admin.get(&path), async { agent.resume() });
    assert_eq!(answer.expect(200).text(), "hello");
}

#[tokio::test]
async fn operator_who_hangs_up_frees_the_service_at_once() {
    let (_web, site) = web_site().await;
    let request =
        site.http().request(Method::GET, &site.proxy("web", "/stuck")).body(full("")).expect("valid");
    let http = site.http().clone();
    let stuck = tokio::spawn(async move { http.open(request).await });
    until(SOON, "the request holds the tunnel", async || {
        (site.gateway.admin.tunnel(EDGE).await.holds > 0).then_some(())
    })
    .await;
    stuck.abort();
    until(SOON, "the hold is gone", async || {
        (site.gateway.admin.tunnel(EDGE).await.holds == 0).then_some(())
    })
    .await;
}
