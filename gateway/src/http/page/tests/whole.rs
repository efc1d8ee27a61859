//! The gateway as a whole: settings, health, the audit log.

use super::*;

#[tokio::test]
async fn settings_are_changed_by_a_form_that_says_what_is_wrong() {
    let bench = super::door::bench_with_user().await;
    let cookies = super::door::sign_in(&bench, &[("name", "ada"), ("password", super::door::PASSWORD)]).await;
    let ada = cookies.redirect().1;
    let form = [
        ("interval_s", "30"),
        ("idle_timeout_s", "600"),
        ("hold_s", "50"),
        ("public_url", "https://gate.example.com"),
    ];
    assert_eq!(bench.browse(&ada, "/settings", ours(&form)).await.redirect().0, "/settings");
    let shown = bench.browse(&ada, "/settings", None).await;
    let html = shown.page();
    assert!(html.contains("value=\"30\"") && html.contains("value=\"https://gate.example.com\""), "{html}");
    let settings = bench.get("/api/v1/settings").await.json();
    assert_eq!((&settings["idle_timeout_s"], &settings["hold_s"]), (&600.into(), &50.into()));
    for (field, value) in
        [("interval_s", "0"), ("interval_s", "soon"), ("hold_s", "56"), ("public_url", "ftp://x")]
    {
        let mut form = form.to_vec();
        form.retain(|(name, _)| *name != field);
        form.push((field, value));
        let refused = bench.browse(&ada, "/settings", ours(&form)).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{field} {value}");
        let html = refused.page();
        assert!(html.contains("role=\"alert\"") && html.contains(&format!("value=\"{value}\"")), "{html}");
    }
    assert_eq!(bench.get("/api/v1/settings").await.json()["interval_s"], 30);
}

#[tokio::test]
async fn health_says_every_part_and_every_figure_in_words() {
    let bench = Bench::new().await;
    bench.create("shop").await;
    let answer = bench.look("/health").await;
    let html = answer.page();
    for said in ["store", "Edges online", "Check-ins per second", "Free disk", "data-live=\"/live/health\""] {
        assert!(html.contains(said), "no {said} in {html}");
    }
}

#[tokio::test]
async fn audit_shows_what_was_done_by_whom_and_verifies() {
    let bench = Bench::new().await;
    bench.create("shop").await;
    bench.create("kiosk").await;
    let answer = bench.look("/audit").await;
    let html = answer.page();
    assert!(html.contains("edge.create") && html.contains("href=\"/edges/shop\""), "{html}");
    let found = bench.look("/audit?edge=kiosk&actor=&action=edge.").await;
    assert!(found.page().contains("href=\"/edges/kiosk\"") && !found.page().contains("href=\"/edges/shop\""));
    assert!(bench.look("/audit?edge=nobody").await.page().contains("Nothing here"));
    let older = bench.look("/audit?after=1").await;
    assert!(older.page().contains("Newest"));
    assert_eq!(bench.look("/audit?edge=NOT+A+NAME").await.status, StatusCode::BAD_REQUEST);
    let verified = bench.look("/audit/verify").await;
    assert!(verified.page().contains("The log is intact"));
}
