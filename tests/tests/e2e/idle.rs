//! A tunnel closes when nobody needs it, with a snapshot, and opens again for whoever does.

use std::time::Duration;

use futures_util::future::join_all;
use hyper::Method;
use hyper::header::{CONNECTION, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use shared::wire::admin::{EdgeStatus, TunnelState};
use tests::agent::AgentOptions;
use tests::fakes::http::Web;
use tests::fakes::tcp::{Tcp, assert_echo};
use tests::gateway::Gateway;
use tests::http::full;
use tests::process::run;
use tests::site::{EDGE, Site};
use tests::wait::{SOON, until};
use tokio::time::{Instant, sleep_until};

/// The shortest idle time there is.
const IDLE: Duration = Duration::from_secs(10);

async fn drowsy_site(services: &[(&str, &dyn std::fmt::Display)]) -> Site {
    Site::start_with(services, |edge| edge.idle_timeout_s = Some(10)).await
}

#[tokio::test]
async fn idle_tunnel_sends_a_snapshot_and_closes_and_a_request_wakes_it() {
    let web = Web::start().await;
    let site = drowsy_site(&[("web", &web.url()), ("closed", &"127.0.0.1:9")]).await;
    assert!(site.gateway.admin.snapshot(EDGE).await.is_none());
    site.get("web", "/hello").await.expect(200);
    site.wait_tunnel(TunnelState::Open).await;
    assert_eq!(site.gateway.admin.edge(EDGE).await.status, EdgeStatus::TunnelOpen);

    site.gateway.admin.wait_tunnel_within(EDGE, TunnelState::Idle, IDLE + SOON).await;
    let stored = site.gateway.admin.snapshot(EDGE).await.expect("the agent sent one before it closed");
    let snapshot = stored.snapshot;
    assert_eq!(snapshot.host.architecture, std::env::consts::ARCH);
    assert!(snapshot.host.cpus > 0 && snapshot.host.memory_total > 0 && !snapshot.host.name.is_empty());
    let answers = |name: &str| snapshot.agent.services.iter().find(|s| s.service.name.as_str() == name);
    assert!(answers("web").expect("exposed").answers);
    let closed = answers("closed").expect("exposed");
    assert!(!closed.answers && closed.reason.is_some(), "{closed:?}");

    assert_eq!(site.get("web", "/hello").await.expect(200).text(), "hello");
    site.wait_tunnel(TunnelState::Open).await;
}

#[tokio::test]
async fn open_stream_holds_the_tunnel_beyond_the_idle_time() {
    let echo = Tcp::echo().await;
    let site = drowsy_site(&[("echo", &echo)]).await;
    let mut stream = bare_stream(&site, "echo").await;
    assert_echo(&mut stream, b"before").await;
    let since = site.gateway.admin.tunnel(EDGE).await.since;
    // That nothing happens can be seen only by waiting for as long as it would take to happen, twice.
    tokio::time::sleep(2 * IDLE).await;
    assert_echo(&mut stream, b"after").await;
    assert_eq!(site.gateway.admin.tunnel(EDGE).await.since, since);
    drop(stream);
    site.gateway.admin.wait_tunnel_within(EDGE, TunnelState::Idle, IDLE + SOON).await;
}

/// A stream by the API alone: a listening `tidegate connect` would hold the tunnel by itself.
async fn bare_stream(site: &Site, service: &str) -> TokioIo<Upgraded> {
    let request = site
        .http()
        .request(Method::GET, &format!("/api/v1/edges/{EDGE}/services/{service}/stream"))
        .header(CONNECTION, "upgrade")
        .header(UPGRADE, "tcp")
        .body(full(""))
        .expect("valid");
    let answer = site.http().open(request).await.expect("an answer");
    TokioIo::new(hyper::upgrade::on(answer).await.expect("it switched"))
}

#[tokio::test]
async fn listening_connect_holds_the_tunnel_between_its_connections() {
    let echo = Tcp::echo().await;
    let site = drowsy_site(&[("echo", &echo)]).await;
    let _listen = site.listen("echo").await;
    site.wait_tunnel(TunnelState::Open).await;
    let since = site.gateway.admin.tunnel(EDGE).await.since;
    // That nothing happens can be seen only by waiting for as long as it would take to happen, twice.
    tokio::time::sleep(2 * IDLE).await;
    let tunnel = site.gateway.admin.tunnel(EDGE).await;
    assert_eq!((tunnel.since, tunnel.holds), (since, 1));
}

/// Sites whose tunnels close at the same time, each met by a request a little later than the one before: the closing
/// takes a few milliseconds, and this many requests fall before, into and after it.
const CLOSING: u32 = 32;
const APART: Duration = Duration::from_millis(1);
/// The first request comes this much before its tunnel is idle.
const EARLY: Duration = Duration::from_millis(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_at_the_moment_of_closing_are_answered() {
    let web = Web::start().await;
    let gateway = Gateway::start().await;
    let mut agents = Vec::new();
    for number in 0..CLOSING {
        let edge =
            gateway.admin.create_with(&format!("e{number}"), |edge| edge.idle_timeout_s = Some(10)).await;
        agents.push(AgentOptions::joining(&edge).expose("web", web.url()).start());
    }
    let meet = async |number: u32| {
        let name = format!("e{number}");
        gateway.admin.wait_online(&name).await;
        let path = Gateway::proxy_path(&name, "web", "/hello");
        gateway.admin.get(&path).await.expect(200);
        let closing = Instant::now() + IDLE;
        sleep_until(closing - EARLY + number * APART).await;
        for answer in join_all((0..2).map(|_| gateway.admin.get(&path))).await {
            assert_eq!(answer.expect(200).text(), "hello");
        }
    };
    join_all((0..CLOSING).map(meet)).await;
    let closed = agents.iter().filter(|agent| agent.log().contains("the tunnel is idle")).count();
    assert!(closed > 0, "no request came late enough to find its tunnel closing");
}

#[tokio::test]
async fn snapshot_is_taken_on_demand_and_holds_no_secret() {
    let web = Web::start().await;
    let site = Site::start(&[("web", &web.url())]).await;
    let ended = run(site.gateway.cli(&["edge", "snapshot", EDGE])).await.ok();
    let stored = site.gateway.admin.snapshot(EDGE).await.expect("it was just taken");
    assert!(ended.stdout.contains(&stored.snapshot.host.name), "{ended:?}");
    let text = serde_json::to_string(&stored).expect("it came as JSON");
    assert!(!text.contains(&site.edge.key) && !text.contains(&site.edge.join_token), "{text}");
}

#[tokio::test]
async fn lowering_the_flag_closes_the_tunnel_and_raising_it_opens_one() {
    let web = Web::start().await;
    let site = Site::start(&[("web", &web.url())]).await;
    for _ in 0..3 {
        site.open_tunnel().await;
        site.gateway.admin.lower(EDGE).await;
        site.wait_tunnel(TunnelState::Idle).await;
        // By its agent's log it is an ordinary event.
        let closed = site.agent.log().wait_for("the gateway closed the tunnel", SOON).await;
        assert!(closed.contains("an operator closed the tunnel"), "{closed}");
    }
    assert!(!site.agent.log().contains("is lost"), "{}", site.agent.log().text());
}

#[tokio::test]
async fn snapshot_of_an_edge_that_is_away_is_an_honest_error() {
    let gateway = Gateway::start().await;
    let edge = gateway.admin.create(EDGE).await;
    gateway.admin.get(&format!("/api/v1/edges/{EDGE}/snapshot")).await.problem(404);
    let mut agent = AgentOptions::joining(&edge).start();
    gateway.admin.wait_online(EDGE).await;
    agent.kill();
    until(SOON, "the edge counts as offline", async || {
        (gateway.admin.edge(EDGE).await.status == EdgeStatus::Offline).then_some(())
    })
    .await;
    let path = format!("/api/v1/edges/{EDGE}/snapshot");
    gateway.admin.call(hyper::Method::POST, &path).await.problem(504);
}
