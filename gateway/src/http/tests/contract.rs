//! What operations have in common: pages, conditions, keys that make a request count once.

use super::*;

use std::time::Instant;

use http::header::{ETAG, IF_MATCH};

use crate::http::idempotency;

impl Bench {
    /// As [`Bench::ask`], with one more header.
    async fn ask_with(&self, method: Method, path: &str, body: Value, header: (&str, &str)) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(AUTHORIZATION, format!("Bearer {}", self.token))
            .header(CONTENT_TYPE, "application/json")
            .header(header.0, header.1);
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        self.send(request.body(body).expect("a request")).await
    }

    async fn ask_once(&self, path: &str, body: Value, key: &str) -> Answer {
        self.ask_with(Method::POST, path, body, (idempotency::KEY, key)).await
    }

    async fn create_many(&self, names: &[String]) -> admin::EdgesCreated {
        let answer = self.ask(Method::POST, admin::BULK_EDGES, json!({ "names": names })).await;
        assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.body);
        serde_json::from_slice(&answer.body).expect("edges")
    }

    async fn page(&self, query: &str) -> admin::EdgePage {
        let answer = self.get(&format!("/api/v1/edges?{query}")).await;
        assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.body);
        serde_json::from_slice(&answer.body).expect("a page")
    }
}

fn etag(answer: &Answer) -> String {
    answer.headers[ETAG].to_str().expect("text").to_owned()
}

fn names(page: &admin::EdgePage) -> Vec<&str> {
    page.edges.iter().map(|edge| edge.name.as_str()).collect()
}

#[tokio::test]
async fn a_change_that_depends_on_what_its_author_saw_is_refused_when_that_is_stale() {
    let bench = Bench::new().await;
    for (path, change, another, reader) in [
        ("/api/v1/edges/shop", json!({"tags": ["one"]}), json!({"tags": ["two"]}), "tags"),
        ("/api/v1/settings", json!({"interval_s": 7}), json!({"interval_s": 8}), "interval_s"),
        ("/api/v1/users/grace", json!({"role": "viewer"}), json!({"role": "operator"}), "role"),
    ] {
        if reader == "tags" {
            bench.create("shop").await;
        } else if reader == "role" {
            let new = json!({"name": "grace", "role": "admin"});
            assert_eq!(bench.ask(Method::POST, "/api/v1/users", new).await.status, StatusCode::CREATED);
        }
        let seen = etag(&bench.get(path).await);
        let changed = bench.ask_with(Method::PATCH, path, change.clone(), ("if-match", &seen)).await;
        assert_eq!(changed.status, StatusCode::OK, "{:?}", changed.body);
        assert_eq!(changed.json()[reader], change[reader]);
        assert_eq!(etag(&changed), etag(&bench.get(path).await));

        let late = bench.ask_with(Method::PATCH, path, another.clone(), (IF_MATCH.as_str(), &seen)).await;
        assert_eq!(late.problem(), (412, "stale".into()));
        assert_eq!(bench.get(path).await.json()[reader], change[reader], "nothing was changed");
        let without = bench.ask(Method::PATCH, path, another.clone()).await;
        assert_eq!(without.json()[reader], another[reader]);
        let any = bench.ask_with(Method::PATCH, path, change.clone(), ("if-match", "*")).await;
        assert_eq!(any.status, StatusCode::OK);
        let broken = bench.ask_with(Method::PATCH, path, change, ("if-match", "7")).await;
        assert_eq!(broken.problem(), (400, "invalid-request".into()));
    }
}

#[tokio::test]
async fn a_user_is_deleted_as_they_were_seen_only() {
    let bench = Bench::new().await;
    let path = "/api/v1/users/grace";
    bench.ask(Method::POST, "/api/v1/users", json!({"name": "grace", "role": "viewer"})).await;
    let seen = etag(&bench.get(path).await);
    bench.ask(Method::PATCH, path, json!({"role": "operator"})).await;
    let late = bench.ask_with(Method::DELETE, path, Value::Null, ("if-match", &seen)).await;
    assert_eq!(late.problem(), (412, "stale".into()));
    let seen = etag(&bench.get(path).await);
    let password = json!({"password": "correct horse battery"});
    assert_eq!(
        bench.ask(Method::PUT, &format!("{path}/password"), password).await.status,
        StatusCode::NO_CONTENT
    );
    assert_eq!(etag(&bench.get(path).await), seen, "an etag tells nothing of a password");
    let deleted = bench.ask_with(Method::DELETE, path, Value::Null, ("if-match", &seen)).await;
    assert_eq!(deleted.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn an_edge_is_deleted_dissociated_and_rotated_as_it_was_seen_only() {
    let bench = Bench::new().await;
    let agent = Agent::of(&bench.create("shop").await);
    let path = "/api/v1/edges/shop";
    let unbound = etag(&bench.get(path).await);
    bench.as_agent(wire::check_in::PATH, &agent, hello()).await;
    let bound = etag(&bench.get(path).await);
    bench.as_agent(wire::check_in::PATH, &agent, "").await;
    assert_eq!(etag(&bench.get(path).await), bound, "a check-in changes nothing durable");
    for (method, path) in [
        (Method::DELETE, path.to_owned()),
        (Method::POST, format!("{path}/dissociate")),
        (Method::POST, format!("{path}/rotate")),
    ] {
        let late = bench.ask_with(method, &path, Value::Null, ("if-match", &unbound)).await;
        assert_eq!(late.problem(), (412, "stale".into()), "an agent has joined meanwhile: {path}");
    }
    let deleted = bench.ask_with(Method::DELETE, path, Value::Null, ("if-match", &bound)).await;
    assert_eq!(deleted.status, StatusCode::NO_CONTENT);
    let gone = bench.ask_with(Method::DELETE, path, Value::Null, ("if-match", &bound)).await;
    assert_eq!(gone.problem().1, "edge-not-found");
}

#[tokio::test]
async fn a_request_with_a_key_makes_one_thing_and_answers_the_same_again() {
    let bench = Bench::new().await;
    let line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIH0Y8SbmEACpGhn4WcRxVNTWjOvc544NYcjRAp1lb3Cd";
    for (path, body) in [
        ("/api/v1/edges", json!({"name": "shop"})),
        (admin::BULK_EDGES, json!({"names": ["kiosk", "shop"]})),
        ("/api/v1/edges/shop/offer", json!({})),
        ("/api/v1/tokens", json!({"label": "CI"})),
        ("/api/v1/ssh-keys", json!({"label": "Ada", "public_key": line})),
    ] {
        let first = bench.ask_once(path, body.clone(), path).await;
        assert!(first.status.is_success(), "{path}: {:?}", first.body);
        assert!(!first.headers.contains_key(idempotency::REPLAYED));
        let again = bench.ask_once(path, body, path).await;
        assert_eq!((again.status, &again.body), (first.status, &first.body), "{path}");
        assert_eq!(again.headers.get(LOCATION), first.headers.get(LOCATION));
        assert_eq!(again.headers.get(CACHE_CONTROL), first.headers.get(CACHE_CONTROL));
        assert_eq!(again.headers[idempotency::REPLAYED], "true");
    }
    let recorded = bench.get("/api/v1/audit?action=edge.").await.json();
    let recorded: Vec<_> = recorded["records"].as_array().expect("a page").iter().collect();
    let of =
        |action: &str| -> Vec<_> { recorded.iter().filter(|record| record["action"] == action).collect() };
    let [replay] = of("edge.create.replay")[..] else { panic!("{recorded:#?}") };
    assert_eq!((&replay["edge"], &replay["outcome"]), (&json!("shop"), &json!("ok")));
    assert!(replay["detail"].as_str().is_some_and(|detail| detail.contains("nothing was done")), "{replay}");
    // One of its own, and one of many.
    assert_eq!(of("edge.create").len(), 2, "{recorded:#?}");
    assert_eq!(bench.get("/api/v1/tokens").await.json()["tokens"].as_array().map(Vec::len), Some(2));

    let other = bench.ask_once("/api/v1/edges", json!({"name": "other"}), "/api/v1/edges").await;
    assert_eq!(other.problem(), (422, "idempotency-key-reused".into()));
    let elsewhere = bench.ask_once("/api/v1/tokens", json!({"label": "x"}), "/api/v1/edges").await;
    assert_eq!(elsewhere.problem(), (422, "idempotency-key-reused".into()));
    let unreadable = bench.ask_once("/api/v1/tokens", json!({"label": "x"}), "").await;
    assert_eq!(unreadable.problem(), (400, "invalid-request".into()));

    let refused = bench.ask_once("/api/v1/tokens", json!({"label": ""}), "once more").await;
    assert_eq!(refused.problem(), (422, "invalid-field".into()));
    let mended = bench.ask_once("/api/v1/tokens", json!({"label": "good"}), "once more").await;
    assert_eq!(mended.status, StatusCode::CREATED, "what failed used up no key");
}

#[tokio::test]
async fn a_key_is_its_operators_own() {
    let bench = Bench::new().await;
    let made = bench.ask_once("/api/v1/tokens", json!({"label": "other"}), "k").await;
    let made: admin::TokenCreated = serde_json::from_slice(&made.body).expect("a token");
    let other = Bench { token: made.token, router: bench.router.clone(), ..Bench::new().await };
    let theirs = other.ask_once("/api/v1/tokens", json!({"label": "other"}), "k").await;
    assert!(theirs.status == StatusCode::CREATED && !theirs.headers.contains_key(idempotency::REPLAYED));
}

#[tokio::test]
async fn who_asks_again_after_going_away_gets_what_was_made_meanwhile() {
    let bench = Bench::new().await;
    let path = "/api/v1/edges";
    {
        let asked = bench.ask_once(path, json!({"name": "shop"}), "k");
        tokio::pin!(asked);
        // The client hangs up when the request has been taken in, and nothing has been answered.
        assert!(futures_util::poll!(asked.as_mut()).is_pending());
    }
    let again = loop {
        let again = bench.ask_once(path, json!({"name": "shop"}), "k").await;
        if again.status != StatusCode::CONFLICT {
            break again;
        }
        assert_eq!(again.problem(), (409, "idempotency-key-in-use".into()));
        tokio::task::yield_now().await;
    };
    assert_eq!(again.status, StatusCode::CREATED, "{:?}", again.body);
    let created: admin::EdgeCreated = serde_json::from_slice(&again.body).expect("an edge");
    let agent = Agent::of(&created);
    assert_eq!(bench.as_agent(wire::check_in::PATH, &agent, hello()).await.status, StatusCode::OK);
}

#[tokio::test]
async fn tokens_and_keys_are_listed_in_pages() {
    let bench = Bench::new().await;
    for number in 1..=4 {
        bench.ask(Method::POST, "/api/v1/tokens", json!({"label": number.to_string()})).await;
    }
    let mut labels = Vec::new();
    let mut path = "/api/v1/tokens?limit=2".to_owned();
    for expected in [2, 2, 1] {
        let page: admin::TokenList = serde_json::from_slice(&bench.get(&path).await.body).expect("a page");
        assert_eq!((page.tokens.len(), page.next.is_some()), (expected, expected == 2));
        labels.extend(page.tokens.into_iter().map(|token| token.label));
        path = format!("/api/v1/tokens?limit=2&after={}", page.next.unwrap_or_default());
    }
    // Those that were made in the same millisecond are in order of their ids.
    labels.sort_unstable();
    assert_eq!(labels, ["1", "2", "3", "4", "test"]);
    for list in ["tokens", "ssh-keys"] {
        for query in ["limit=0", "limit=501", "limit=x", "after=x", "size=1"] {
            let answer = bench.get(&format!("/api/v1/{list}?{query}")).await;
            assert_eq!(answer.problem(), (400, "invalid-request".into()), "{list} {query}");
        }
    }
}

#[tokio::test]
async fn many_sites_are_enrolled_at_once_and_each_refusal_has_its_reason() {
    let bench = Bench::new().await;
    bench.create("shop-2").await;
    let body = json!({"names": ["shop-1", "shop-2", "Shop 3", "shop-1", "shop-4"], "tags": ["berlin"], "interval_s": 30});
    let answer = bench.ask(Method::POST, admin::BULK_EDGES, body).await;
    assert_eq!(
        (answer.status, &answer.headers[CACHE_CONTROL]),
        (StatusCode::OK, &"no-store".parse().expect("valid"))
    );
    let answer: admin::EdgesCreated = serde_json::from_slice(&answer.body).expect("edges");
    let created: Vec<_> = answer.created.iter().map(|edge| edge.name.as_str()).collect();
    assert_eq!(created, ["shop-1", "shop-4"]);
    let mut refused: Vec<_> =
        answer.refused.iter().map(|edge| (edge.name.as_str(), edge.code.as_str())).collect();
    refused.sort_unstable();
    let taken = "edge-name-taken";
    assert_eq!(refused, [("Shop 3", "invalid-field"), ("shop-1", taken), ("shop-2", taken)]);
    assert!(answer.refused.iter().all(|edge| !edge.detail.is_empty()));

    let token: JoinToken = answer.created[1].join_token.parse().expect("a join token");
    let edge_id = answer.created[1].edge_id.parse().expect("an edge ID");
    let agent =
        Agent { authorization: Authorization { edge_id, key: token.key }, instance: InstanceId::random() };
    assert_eq!(
        bench.as_agent(wire::check_in::PATH, &agent, hello()).await.json(),
        json!({"interval_s": 30, "need": "none"})
    );
    assert_eq!(bench.store.load().expect("readable").edges.len(), 3, "the store agrees");

    for (body, field) in [
        (json!({"names": []}), "names"),
        (json!({"names": vec!["a"; admin::MAX_BULK + 1]}), "names"),
        (json!({"names": ["a"], "interval_s": 0}), "interval_s"),
        (json!({"names": ["a"], "tags": ["a,b"]}), "tags"),
        (json!({"names": ["a"], "keys": 1}), "keys"),
    ] {
        let answer = bench.ask(Method::POST, admin::BULK_EDGES, body).await;
        assert_eq!(answer.problem(), (422, "invalid-field".into()));
        assert!(answer.detail().contains(field), "{field}: {}", answer.detail());
    }
    let longest: Vec<_> = (0..admin::MAX_BULK).map(|number| format!("{number:063}")).collect();
    assert_eq!(bench.create_many(&longest).await.created.len(), admin::MAX_BULK);
}

#[tokio::test]
async fn edges_are_filtered_sorted_and_counted() {
    let bench = Bench::new().await;
    for (name, tags) in
        [("a", json!(["x", "y"])), ("b", json!(["x"])), ("c", json!(["y", "x"])), ("d", json!([]))]
    {
        bench.ask(Method::POST, "/api/v1/edges", json!({"name": name, "tags": tags})).await;
    }
    let agent = Agent::of(&bench.create("e").await);
    bench.as_agent(wire::check_in::PATH, &agent, hello()).await;

    let page = bench.page("tag=x&tag=y&order=desc&limit=1").await;
    assert_eq!((names(&page), page.total, page.next.as_deref()), (vec!["c"], 2, Some("c")));
    let page = bench.page("tag=x&tag=y&order=desc&limit=1&after=c").await;
    assert_eq!((names(&page), page.total, page.next.as_deref()), (vec!["a"], 2, None));
    let page = bench.page("sort=status&order=desc").await;
    assert_eq!(names(&page), ["e", "a", "b", "c", "d"]);
    assert_eq!((page.counts.online, page.counts.never_joined), (1, 4));
    let page = bench.page("sort=version&order=desc&limit=1").await;
    assert_eq!((names(&page), page.next.as_deref()), (vec!["e"], Some("0.1.0.e")));
    let page = bench.page("sort=last_seen&limit=4").await;
    assert_eq!((names(&page), page.next.as_deref()), (vec!["a", "b", "c", "d"], Some(".d")));
    assert_eq!(names(&bench.page("sort=last_seen&limit=4&after=.d").await), ["e"]);
    let page = bench.page("status=online").await;
    assert_eq!((names(&page), page.total, page.counts.never_joined), (vec!["e"], 1, 4));
    for query in ["sort=size", "order=up", "sort=status&after=c", "status=online&status=offline", "tags=x"] {
        let answer = bench.get(&format!("/api/v1/edges?{query}")).await;
        assert_eq!(answer.problem(), (400, "invalid-request".into()), "{query}");
    }
}

/// Prints how long a list takes and, beside it, how long a check-in waits meanwhile; `cargo test -- --nocapture` shows
/// it. Only what does not depend on the machine is asserted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifteen_thousand_edges_are_listed_while_agents_check_in() {
    const EDGES: usize = 15_000;
    let bench = Bench::new().await;
    let agent = Agent::of(&bench.create("agent").await);
    bench.as_agent(wire::check_in::PATH, &agent, hello()).await;
    let all: Vec<_> = (1..EDGES).map(|number| format!("edge-{number:05}")).collect();
    for names in all.chunks(admin::MAX_BULK) {
        let began = Instant::now();
        assert_eq!(bench.create_many(names).await.created.len(), names.len());
        println!("{} edges enrolled in {:?}", names.len(), began.elapsed());
    }
    for query in
        ["limit=50", "sort=status&limit=50", "sort=last_seen&order=desc&limit=50", "q=edge-149&limit=500"]
    {
        let mut longest_check_in = std::time::Duration::ZERO;
        let began = Instant::now();
        let listing = bench.page(query);
        tokio::pin!(listing);
        let page = loop {
            let asked = Instant::now();
            tokio::select! {
                biased;
                page = &mut listing => break page,
                answer = bench.as_agent(wire::check_in::PATH, &agent, "") => {
                    assert_eq!(answer.status, StatusCode::NO_CONTENT);
                    longest_check_in = longest_check_in.max(asked.elapsed());
                }
            }
        };
        println!("{query}: {:?}, check-ins meanwhile {longest_check_in:?} at most", began.elapsed());
        // edge-14900 to edge-14999, all of them on a page.
        let expected = if query.starts_with("q=") { (100, 100) } else { (EDGES, 50) };
        assert_eq!((page.total, page.edges.len()), expected);
    }
}
