//! Settings that change while everything runs.

use shared::wire::admin::{EdgeStatus, Settings};
use shared::wire::check_in::{Answer, CheckIn};
use tests::gateway::Gateway;
use tests::liar::Liar;
use tests::site::{EDGE, Site};
use tests::wait::{SOON, until};

#[tokio::test]
async fn interval_is_changed_live_for_all_and_for_one_edge() {
    let mut gateway = Gateway::start().await;
    gateway.admin.set(Settings { interval_s: Some(7), ..Settings::default() }).await;
    let edge = gateway.admin.create_with("shop", |edge| edge.interval_s = None).await;
    let liar = Liar::new(&gateway.admin.http, &edge);
    let answer: Answer = liar.check_in(&Liar::hello(&[])).await.expect(200).json();
    assert_eq!(answer.interval_s, 7);
    liar.check_in(&CheckIn::default()).await.expect(204);

    gateway.admin.set(Settings { interval_s: Some(9), ..Settings::default() }).await;
    let answer: Answer = liar.check_in(&CheckIn::default()).await.expect(200).json();
    assert_eq!(answer.interval_s, 9, "a change is told with the next answer");

    let change = serde_json::json!({ "interval_s": 3 });
    let patch = gateway.admin.http.send_json(hyper::Method::PATCH, "/api/v1/edges/shop", &change).await;
    patch.expect("an answer").expect(200);
    let answer: Answer = liar.check_in(&CheckIn::default()).await.expect(200).json();
    assert_eq!(answer.interval_s, 3, "an edge's own interval goes before the gateway's");

    gateway.kill_and_resume().await;
    assert_eq!(gateway.admin.edge("shop").await.interval_s, 3);
    let answer: Answer = liar.check_in(&CheckIn::default()).await.expect(200).json();
    assert!(answer.hello_wanted, "a gateway that was restarted asks who is there");
}

#[tokio::test]
async fn agent_follows_a_new_interval_without_a_restart() {
    let site = Site::start(&[]).await;
    let change = serde_json::json!({ "interval_s": 3600 });
    let path = format!("/api/v1/edges/{EDGE}");
    let patch = site.http().send_json(hyper::Method::PATCH, &path, &change).await.expect("an answer");
    patch.expect(200);
    // Three intervals of one second would have passed long since: it is online for as long as its own interval says.
    let first = site.gateway.admin.edge(EDGE).await.last_seen;
    until(SOON, "the agent hears of it with one more check-in", async || {
        (site.gateway.admin.edge(EDGE).await.last_seen != first).then_some(())
    })
    .await;
    assert_eq!(site.gateway.admin.edge(EDGE).await.status, EdgeStatus::Online);
}

#[tokio::test]
async fn values_out_of_bounds_are_refused_with_the_bounds() {
    let gateway = Gateway::start().await;
    for settings in [
        serde_json::json!({ "interval_s": 0 }),
        serde_json::json!({ "interval_s": 86_401 }),
        serde_json::json!({ "idle_timeout_s": 9 }),
        serde_json::json!({ "public_url": "gate.example.com" }),
    ] {
        let answer = gateway.admin.http.send_json(hyper::Method::PATCH, "/api/v1/settings", &settings).await;
        answer.expect("an answer").problem(422);
    }
    let unknown = serde_json::json!({ "intervall_s": 5 });
    let answer = gateway.admin.http.send_json(hyper::Method::PATCH, "/api/v1/settings", &unknown).await;
    let status = answer.expect("an answer").status.as_u16();
    assert!(matches!(status, 400 | 422), "a misspelt key is an error, not {status}");
}
