//! The page of an edge, and what can be done there.

use shared::wire::snapshot::{Container, Disk, Docker, Host, Snapshot};

use super::*;
use crate::access::TokenSpec;
use crate::domain::authority::Role;
use crate::http::tests::packed;

/// What a hostile site says wherever it can.
const HOSTILE: &str = "<img src=x onerror=alert(1)>\u{1b}[2J\u{202e}";

/// An edge whose agent has checked in.
async fn shop(bench: &Bench) -> Agent {
    let agent = Agent::of(&bench.create("shop").await);
    bench.as_agent(wire::check_in::PATH, &agent, hello()).await;
    agent
}

#[tokio::test]
async fn an_edge_shows_state_services_and_commands() {
    let bench = Bench::new().await;
    shop(&bench).await;
    let answer = bench.look("/edges/shop").await;
    let html = answer.page();
    for part in [
        "data-state=\"idle\"",
        "data-live=\"/live/edges/shop\"",
        "action=\"/edges/shop/connect\"",
        "href=\"/edges/shop/services/web/open\"",
        "tidegate connect shop/web --listen",
        "web.shop:80",
        "No snapshot yet",
        "Enrolled",
    ] {
        assert!(html.contains(part), "no {part} in {html}");
    }
    assert_eq!(bench.look("/edges/nowhere").await.status, StatusCode::NOT_FOUND);
    assert_eq!(bench.get("/api/v1/edges/shop/snapshot/changes").await.problem().1, "snapshot-not-found");
}

#[tokio::test]
async fn connect_raises_the_flag_and_counts_and_close_lowers_it() {
    let bench = Bench::new().await;
    shop(&bench).await;
    let connected = bench.submit("/edges/shop/connect", &[]).await;
    assert_eq!(connected.redirect().0, "/edges/shop?hold=yes");
    let answer = bench.look("/edges/shop?hold=yes").await;
    let html = answer.page();
    assert!(
        html.contains("data-state=\"wanted\"") && html.contains("next check-in <time datetime="),
        "{html}"
    );
    assert!(html.contains("data-live=\"/live/edges/shop?hold=yes\""), "{html}");
    let closed = bench.submit("/edges/shop/close", &[]).await;
    assert_eq!(closed.redirect().0, "/edges/shop");
    assert!(bench.look("/edges/shop").await.page().contains("data-state=\"idle\""));
}

#[tokio::test]
async fn a_viewer_is_offered_nothing_to_do() {
    let bench = Bench::new().await;
    shop(&bench).await;
    let spec = TokenSpec { label: "looks".to_owned(), role: Some(Role::Viewer), tags: None, life: None };
    let operator = bench.access.by_token(&bench.token).expect("its owner");
    let viewer = bench.access.tokens().create_by(&operator, spec).await.expect("a token");
    let token = viewer.token.expose();
    let viewer = Bench { token: token.clone(), router: bench.router.clone(), ..Bench::new().await };
    let answer = viewer.look("/edges/shop").await;
    let html = answer.page();
    assert!(
        !html.contains("action=\"/edges/") && !html.contains("/open\"") && !html.contains("/settings\""),
        "{html}"
    );
    for path in ["/edges/shop/connect", "/edges/shop/close", "/edges/shop/snapshot", "/edges/shop/delete"] {
        assert_eq!(viewer.submit(path, &[]).await.status, StatusCode::FORBIDDEN, "{path}");
    }
    for path in ["/edges/shop/settings", "/edges/shop/containers"] {
        assert_eq!(viewer.look(path).await.status, StatusCode::FORBIDDEN, "{path}");
    }
}

#[tokio::test]
async fn whatever_a_snapshot_says_is_text() {
    let bench = Bench::new().await;
    let agent = shop(&bench).await;
    let said = || HOSTILE.to_owned();
    let container = Container {
        name: said(),
        image: said(),
        status: said(),
        ports: vec![said()],
        ..Container::default()
    };
    let snapshot = Snapshot {
        taken_at: said(),
        host: Host {
            name: said(),
            os: said(),
            memory_total: 8 << 30,
            disks: vec![Disk { mount: said(), total: 1 << 40, ..Disk::default() }],
            ..Host::default()
        },
        docker: vec![Docker {
            service: said(),
            version: said(),
            containers: vec![container],
            ..Docker::default()
        }],
        problems: vec![said()],
        ..Snapshot::default()
    };
    let stored = bench.as_agent(wire::check_in::SNAPSHOT_PATH, &agent, packed(&snapshot)).await;
    assert!(stored.status.is_success(), "{:?}", stored.body);
    let answer = bench.look("/edges/shop").await;
    let html = answer.page();
    assert!(!html.contains("<img") && !html.contains('\u{1b}') && !html.contains('\u{202e}'), "{html}");
    assert!(html.contains("&lt;img src=x onerror=alert(1)&gt;\\u{1b}[2J\\u{202e}"), "{html}");
    assert!(html.contains("8.0 GiB") && html.contains("1.0 TiB"), "{html}");
}

#[tokio::test]
async fn what_changed_since_the_snapshot_before_is_told() {
    let bench = Bench::new().await;
    let agent = shop(&bench).await;
    let site = |name: &str| Snapshot {
        host: Host { name: name.to_owned(), ..Host::default() },
        ..Snapshot::default()
    };
    bench.as_agent(wire::check_in::SNAPSHOT_PATH, &agent, packed(&site("till-3"))).await;
    assert!(!bench.look("/edges/shop").await.page().contains("since the snapshot of"));
    let none = bench.get("/api/v1/edges/shop/snapshot/changes").await.json();
    assert_eq!(none, json!({"changes": []}));
    bench.as_agent(wire::check_in::SNAPSHOT_PATH, &agent, packed(&site(HOSTILE))).await;
    let answer = bench.look("/edges/shop").await;
    let html = answer.page();
    assert!(html.contains("1 change since the snapshot of") && html.contains("<del>till-3</del>"), "{html}");
    assert!(html.contains("<ins>&lt;img src=x"), "{html}");
    let told = bench.get("/api/v1/edges/shop/snapshot/changes").await.json();
    assert_eq!(told["changes"][0]["before"], "till-3");
}

#[tokio::test]
async fn settings_of_an_edge_are_changed_where_they_can_be_and_shown_again_where_not() {
    let bench = Bench::new().await;
    shop(&bench).await;
    let asked = bench.look("/edges/shop/settings").await;
    assert!(
        asked.page().contains("value=\"shop\"") && asked.page().contains("action=\"/edges/shop/settings\"")
    );
    let wrong = bench.submit("/edges/shop/settings", &[("name", "Shop 17"), ("tags", HOSTILE)]).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(wrong.page().contains("value=\"Shop 17\"") && wrong.page().contains("name-error"));
    let fields = [("name", "store"), ("tags", "north, big"), ("interval_s", "30"), ("idle_timeout_s", "")];
    assert_eq!(bench.submit("/edges/shop/settings", &fields).await.redirect().0, "/edges/store");
    let edge = bench.tunnels.edge(&"store".parse().expect("a name")).await.expect("renamed");
    assert_eq!(
        (edge.tags, edge.interval_s, edge.idle_timeout_s),
        (vec!["big".into(), "north".into()], 30, 300)
    );
}

#[tokio::test]
async fn what_can_not_be_taken_back_is_asked_first() {
    let bench = Bench::new().await;
    let agent = shop(&bench).await;
    for word in ["dissociate", "rotate", "delete"] {
        let path = format!("/edges/shop/{word}");
        let asked = bench.look(&path).await;
        let html = asked.page();
        assert!(html.contains("data-confirmation") && html.contains(&format!("action=\"{path}\"")), "{html}");
    }
    assert_eq!(bench.submit("/edges/shop/dissociate", &[]).await.redirect().0, "/edges/shop");
    let rotated = bench.submit("/edges/shop/rotate", &[]).await;
    assert!(rotated.page().contains("join-token"));
    let refused = bench.as_agent(wire::check_in::PATH, &agent, hello()).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "the old key is worth nothing");
    assert_eq!(bench.submit("/edges/shop/delete", &[]).await.redirect().0, "/");
    assert_eq!(bench.look("/edges/shop").await.status, StatusCode::NOT_FOUND);
    // Nothing of it happens by a link, nor for another page.
    bench.create("kiosk").await;
    let token = bench.token.clone();
    let foreign = Request::post("/edges/kiosk/delete")
        .header(ACCEPT, BROWSER)
        .header(AUTHORIZATION, format!("Bearer {token}"))
        .header("sec-fetch-site", "same-site")
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    let answer = bench.send(foreign.body(Body::empty()).expect("a request")).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(bench.tunnels.edge(&"kiosk".parse().expect("a name")).await.is_ok());
}

#[tokio::test]
async fn containers_of_an_edge_without_an_engine_are_a_page_that_says_so() {
    let bench = Bench::new().await;
    shop(&bench).await;
    for path in ["/edges/shop/containers", "/edges/shop/containers/web/logs"] {
        let answer = bench.look(path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
        assert!(answer.page().contains("data-problem=\"engine-not-found\""), "{path}");
    }
}
