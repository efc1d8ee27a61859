//! An operator's day on the command line: enrol, look, open, close, let go.

use serde_json::Value;
use shared::wire::admin::TunnelState;
use tests::agent::AgentOptions;
use tests::fakes::http::Web;
use tests::gateway::Gateway;
use tests::process::{Ended, run};
use tests::wait::SOON;

async fn tidegate(gateway: &Gateway, line: &str) -> Ended {
    let arguments: Vec<_> = line.split_whitespace().collect();
    run(gateway.cli(&arguments)).await
}

async fn json(gateway: &Gateway, line: &str) -> Value {
    let ended = tidegate(gateway, &format!("{line} --output json")).await.ok();
    serde_json::from_str(&ended.stdout)
        .unwrap_or_else(|error| panic!("{line} printed no JSON: {error}: {ended:?}"))
}

#[tokio::test]
async fn an_edge_is_led_through_its_life_by_commands_alone() {
    let web = Web::start().await;
    let gateway = Gateway::start().await;
    let created = json(&gateway, "edge create shop-17 --interval 1 --tag north").await;
    json(&gateway, "edge create shop-18").await;
    let twice = tidegate(&gateway, "edge create shop-17").await;
    assert!(twice.code == 1 && twice.stderr.contains("shop-17"), "{twice:?}");
    let odd = tidegate(&gateway, "edge create Shop_17").await;
    assert!(odd.code == 2 && odd.stderr.contains("DNS label"), "{odd:?}");

    let token = created["join_token"].as_str().expect("the token is shown once");
    let agent = AgentOptions::with_token(token).expose("web", web.url()).start();
    gateway.admin.wait_online("shop-17").await;
    let listed = tidegate(&gateway, "edge list --query north").await.ok().stdout;
    assert!(listed.contains("shop-17") && !listed.contains("shop-18"), "{listed}");
    let waiting = tidegate(&gateway, "edge list --status never-joined").await.ok().stdout;
    assert!(waiting.contains("shop-18") && !waiting.contains("shop-17"), "{waiting}");

    tidegate(&gateway, "edge open shop-17").await.ok();
    gateway.admin.wait_tunnel("shop-17", TunnelState::Open).await;
    let shown = tidegate(&gateway, "edge show shop-17").await.ok().stdout;
    assert!(shown.contains("web") && shown.contains("open"), "{shown}");
    tidegate(&gateway, "edge close shop-17").await.ok();
    gateway.admin.wait_tunnel("shop-17", TunnelState::Idle).await;

    tidegate(&gateway, "edge dissociate shop-17 --yes").await.ok();
    gateway.admin.wait_bound("shop-17").await;
    tidegate(&gateway, "edge delete shop-17 --yes").await.ok();
    agent.log().wait_for("no edge has this key", SOON).await;
    let gone = tidegate(&gateway, "edge show shop-17").await;
    assert!(gone.code == 1 && gone.stderr.contains("shop-17"), "{gone:?}");
}

#[tokio::test]
async fn an_edge_keeps_its_open_tunnel_under_a_new_name() {
    let web = Web::start().await;
    let gateway = Gateway::start().await;
    let edge = gateway.admin.create("old").await;
    let _agent = AgentOptions::joining(&edge).expose("web", web.url()).start();
    gateway.admin.wait_online("old").await;
    gateway.admin.get(&Gateway::proxy_path("old", "web", "/hello")).await.expect(200);
    let since = gateway.admin.tunnel("old").await.since;

    let change = serde_json::json!({ "name": "new", "tags": ["moved"] });
    let patch = gateway.admin.http.send_json(hyper::Method::PATCH, "/api/v1/edges/old", &change).await;
    patch.expect("an answer").expect(200);
    gateway.admin.get("/api/v1/edges/old").await.problem(404);
    let edge = gateway.admin.edge("new").await;
    assert_eq!((edge.tags.as_slice(), edge.tunnel.since), (["moved".to_owned()].as_slice(), since));
    gateway.admin.get(&Gateway::proxy_path("new", "web", "/hello")).await.expect(200);
}

#[tokio::test]
async fn revoked_token_is_worth_nothing_at_once_and_after_a_restart() {
    let mut gateway = Gateway::start().await;
    let created = json(&gateway, "token create deploy").await;
    let (id, token) = (created["id"].as_str().expect("an id"), created["token"].as_str().expect("a token"));
    let deploy = gateway.admin.http.anonymous().with_authorization(format!("Bearer {token}"));
    deploy.get("/api/v1/edges").await.expect("an answer").expect(200);
    let listed = tidegate(&gateway, "token list").await.ok().stdout;
    assert!(listed.contains("deploy") && !listed.contains(token), "{listed}");

    gateway.kill_and_resume().await;
    deploy.get("/api/v1/edges").await.expect("an answer").expect(200);
    tidegate(&gateway, &format!("token revoke {id}")).await.ok();
    deploy.get("/api/v1/edges").await.expect("an answer").problem(401);
    gateway.kill_and_resume().await;
    deploy.get("/api/v1/edges").await.expect("an answer").problem(401);
}

#[tokio::test]
async fn settings_are_shown_and_changed() {
    let gateway = Gateway::start().await;
    tidegate(&gateway, "settings set --interval 7 --public-url https://gate.example.com").await.ok();
    let settings = json(&gateway, "settings show").await;
    assert_eq!(
        (&settings["interval_s"], &settings["public_url"]),
        (&7.into(), &"https://gate.example.com".into())
    );
    let token: shared::join_token::JoinToken =
        gateway.admin.create("shop").await.join_token.parse().expect("a good token");
    assert_eq!(token.api_url, "https://gate.example.com");
    let wrong = tidegate(&gateway, "settings set --interval 0").await;
    assert!(wrong.code != 0 && wrong.stderr.contains("interval"), "{wrong:?}");
}
