//! Services in a browser through the router: who gets in where, by what. That a service is reached shows as
//! `service-not-found` here: the agent announced `web` only.

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use serde_json::{Value, json};

use super::*;
use crate::access::NewUser;
use crate::http::tests::{Agent, Answer, Bench, hello};

const OPEN: &str = "/edges/shop/services/nothing/open";
/// Where the router's tests send requests that name no host.
const OWN_HOST: &str = "gate.example.com:9000";

/// A gateway with an edge whose agent has said what it has.
async fn bench() -> Bench {
    let bench = Bench::new().await;
    let agent = Agent::of(&bench.create("shop").await);
    let answer = bench.as_agent("/api/v1/check-in", &agent, hello()).await;
    assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.body);
    bench
}

/// A GET on `host`.
fn get_at(host: &str, path: &str) -> http::request::Builder {
    http::Request::get(path).header(HOST, host)
}

async fn send(bench: &Bench, request: http::request::Builder) -> Answer {
    bench.send(request.body(Body::empty()).expect("a request")).await
}

/// Opens a service as whoever has the bench's token, and says where that leads.
async fn open_at(bench: &Bench, host: &str, path: &str) -> String {
    let bearer = format!("Bearer {}", bench.token);
    let answer = send(bench, get_at(host, path).header(AUTHORIZATION, bearer)).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{:?}", answer.body);
    assert_eq!(
        (&answer.headers[CACHE_CONTROL], &answer.headers[REFERRER_POLICY]),
        (&SECRET[0].1, &SECRET[1].1)
    );
    answer.headers[LOCATION].to_str().expect("ASCII").to_owned()
}

/// Follows a ticket; host and cookie of the service's origin.
async fn entered(bench: &Bench, location: &str) -> (String, String) {
    let url: Uri = location.parse().expect("a URL");
    let host = url.authority().expect("of another host").to_string();
    let path = url.path_and_query().expect("a path").as_str().to_owned();
    let answer = send(bench, get_at(&host, &path)).await;
    assert_eq!(
        (answer.status, &answer.headers[LOCATION]),
        (StatusCode::SEE_OTHER, &HeaderValue::from_static("/"))
    );
    let set = answer.headers[SET_COOKIE].to_str().expect("ASCII");
    let cookie = set.split(';').next().expect("a cookie").to_owned();
    assert_eq!(set.strip_prefix(&cookie), Some("; Path=/; HttpOnly; SameSite=Lax; Secure"));
    let again = send(bench, get_at(&host, &path)).await;
    assert_eq!(again.problem(), (403, "no-pass".into()), "a ticket is used once");
    (host, cookie)
}

const REACHED: (u16, &str) = (404, "service-not-found");
const NO_PASS: (u16, &str) = (403, "no-pass");
const CROSS_ORIGIN: (u16, &str) = (403, "cross-origin");

#[track_caller]
fn assert_problem(answer: &Answer, expected: (u16, &str), about: &str) {
    let (status, code) = answer.problem();
    assert_eq!((status, code.as_str()), expected, "{about}: {:?}", answer.body);
}

#[tokio::test]
async fn a_service_opens_on_an_origin_of_its_own_where_its_cookie_alone_counts() {
    let bench = bench().await;
    let location = open_at(&bench, "localhost:9000", OPEN).await;
    assert!(
        location.starts_with("https://nothing--shop.localhost:9000/.tidegate/enter?ticket=tgp_"),
        "{location}"
    );
    let (host, cookie) = entered(&bench, &location).await;
    let bearer = format!("Bearer {}", bench.token);
    for path in ["/", "/api/v1/edges", "/healthz", "/edges/shop/services/web/open", "/.tidegate/other"] {
        let answer = send(&bench, get_at(&host, path).header(COOKIE, &cookie)).await;
        assert_problem(&answer, REACHED, path);
        let answer = send(&bench, get_at(&host, path).header(AUTHORIZATION, &bearer)).await;
        assert_problem(&answer, NO_PASS, path);
    }
    let planted = format!("__Host-tidegate-pass=tgp_of_a_sibling; {cookie}");
    assert_problem(
        &send(&bench, get_at(&host, "/").header(COOKIE, planted)).await,
        REACHED,
        "beside another",
    );
    let sibling = "web--shop.localhost:9000";
    assert_problem(
        &send(&bench, get_at(sibling, "/").header(COOKIE, &cookie)).await,
        NO_PASS,
        "at a sibling",
    );
    let plain = cookie.replace("__Host-", "");
    assert_problem(
        &send(&bench, get_at(&host, "/").header(COOKIE, plain)).await,
        NO_PASS,
        "by its plain name",
    );
    let at_home = send(&bench, get_at("localhost:9000", "/api/v1/edges").header(COOKIE, &cookie)).await;
    assert_problem(&at_home, (401, "not-authenticated"), "at the gateway");
}

#[tokio::test]
async fn a_ticket_for_one_service_is_none_for_another() {
    let bench = bench().await;
    let location = open_at(&bench, "localhost:9000", OPEN).await;
    let path = location.split_once(":9000").expect("a port").1;
    assert_problem(&send(&bench, get_at("web--shop.localhost:9000", path)).await, NO_PASS, "at a sibling");
    assert_problem(
        &send(&bench, get_at("nothing--shop.localhost:9000", path)).await,
        NO_PASS,
        "it was shown",
    );
}

#[tokio::test]
async fn the_configured_domain_is_where_services_open() {
    let bench = bench().await;
    let set = json!({"service_domain": "Svc.Example.com"});
    let answer = bench.ask(Method::PATCH, "/api/v1/settings", set).await;
    assert_eq!(answer.json()["service_domain"], "svc.example.com");
    let location = open_at(&bench, OWN_HOST, OPEN).await;
    assert!(
        location.starts_with("https://nothing--shop.svc.example.com:9000/.tidegate/enter?"),
        "{location}"
    );
    entered(&bench, &location).await;
    let wrong =
        bench.ask(Method::PATCH, "/api/v1/settings", json!({"service_domain": "*.example.com"})).await;
    assert_eq!(wrong.problem(), (422, "invalid-field".into()));
}

#[tokio::test]
async fn a_pass_ends_with_what_it_was_made_by_and_with_its_edge() {
    let bench = bench().await;
    let made = bench.ask(Method::POST, "/api/v1/tokens", json!({"label": "short"})).await.json();
    let short = made["token"].as_str().expect("a token");
    let bearer = format!("Bearer {short}");
    let opened = send(&bench, get_at("localhost", OPEN).header(AUTHORIZATION, bearer)).await;
    let location = opened.headers[LOCATION].to_str().expect("ASCII");
    let (host, cookie) = entered(&bench, location).await;
    assert_problem(&send(&bench, get_at(&host, "/").header(COOKIE, &cookie)).await, REACHED, "before");
    let path = format!("/api/v1/tokens/{}", made["id"].as_str().expect("an id"));
    assert_eq!(bench.ask(Method::DELETE, &path, Value::Null).await.status, StatusCode::NO_CONTENT);
    assert_problem(&send(&bench, get_at(&host, "/").header(COOKIE, &cookie)).await, NO_PASS, "after");

    let (host, cookie) = entered(&bench, &open_at(&bench, "localhost", OPEN).await).await;
    assert_eq!(
        bench.ask(Method::DELETE, "/api/v1/edges/shop", Value::Null).await.status,
        StatusCode::NO_CONTENT
    );
    assert_problem(
        &send(&bench, get_at(&host, "/").header(COOKIE, &cookie)).await,
        NO_PASS,
        "without its edge",
    );
    bench.create("shop").await;
    assert_problem(&send(&bench, get_at(&host, "/").header(COOKIE, &cookie)).await, NO_PASS, "another edge");
}

#[tokio::test]
async fn another_page_can_lead_a_person_to_a_service_and_ask_nothing_in_their_name() {
    let bench = bench().await;
    let (host, cookie) = entered(&bench, &open_at(&bench, "localhost:9000", OPEN).await).await;
    let own = format!("https://{host}");
    let sibling = "https://web--shop.localhost:9000";
    for (method, lines, expected) in [
        ("GET", vec![], REACHED),
        ("POST", vec![("origin", own.as_str())], REACHED),
        ("POST", vec![("sec-fetch-site", "same-origin"), ("origin", &own)], REACHED),
        ("GET", vec![("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate")], REACHED),
        (
            "GET",
            vec![
                ("sec-fetch-site", "cross-site"),
                ("sec-fetch-mode", "navigate"),
                ("sec-fetch-dest", "document"),
            ],
            REACHED,
        ),
        (
            "GET",
            vec![
                ("sec-fetch-site", "same-site"),
                ("sec-fetch-mode", "navigate"),
                ("sec-fetch-dest", "iframe"),
            ],
            CROSS_ORIGIN,
        ),
        (
            "POST",
            vec![
                ("sec-fetch-site", "same-site"),
                ("sec-fetch-mode", "navigate"),
                ("sec-fetch-dest", "document"),
            ],
            CROSS_ORIGIN,
        ),
        ("GET", vec![("sec-fetch-site", "same-site"), ("sec-fetch-mode", "no-cors")], CROSS_ORIGIN),
        ("GET", vec![("origin", sibling), ("upgrade", "websocket"), ("connection", "upgrade")], CROSS_ORIGIN),
        ("POST", vec![("origin", sibling)], CROSS_ORIGIN),
        ("POST", vec![("origin", "null")], CROSS_ORIGIN),
    ] {
        let mut request = get_at(&host, "/").method(method).header(COOKIE, &cookie);
        for (name, value) in &lines {
            request = request.header(*name, *value);
        }
        assert_problem(&send(&bench, request).await, expected, &format!("{method} {lines:?}"));
    }
}

#[tokio::test]
async fn a_session_opens_services_for_the_browser_and_is_no_use_at_the_path_for_programs() {
    let bench = bench().await;
    let password = || Secret::new("correct horse battery".to_owned());
    let (name, from) = ("ada".parse().expect("a name"), [192, 0, 2, 1].into());
    let new = NewUser { name, password: Some(password()), role: Role::Operator, tags: None };
    bench.access.users().create(new).await.expect("a user");
    let (_, session) = bench.access.sign_in("ada", password(), from).await.expect("the right password");
    let session_cookie = format!("__Host-tidegate={}", session.cookie.expose());
    let signed_in = |host: &str, path: &str| get_at(host, path).header(COOKIE, &session_cookie);
    let refused = send(&bench, signed_in(OWN_HOST, "/api/v1/edges/shop/services/nothing/proxy/")).await;
    assert_problem(&refused, (403, "browser-refused"), "the path for programs");
    let opened = send(&bench, signed_in("localhost", OPEN)).await;
    let (host, pass) = entered(&bench, opened.headers[LOCATION].to_str().expect("ASCII")).await;
    assert_problem(&send(&bench, get_at(&host, "/").header(COOKIE, &pass)).await, REACHED, "by the pass");
    assert_problem(&send(&bench, signed_in(&host, "/")).await, NO_PASS, "by the session");
    bench.access.sessions().end(session.record.id).await.expect("signed out");
    assert_problem(&send(&bench, get_at(&host, "/").header(COOKIE, &pass)).await, NO_PASS, "signed out");
}

#[tokio::test]
async fn without_a_domain_a_service_opens_in_a_sandbox() {
    let bench = bench().await;
    let root = open_at(&bench, OWN_HOST, OPEN).await;
    assert!(root.starts_with("/s/tgp_") && root.ends_with('/'), "{root}");
    assert_problem(&send(&bench, get_at(OWN_HOST, &root)).await, REACHED, "its root");
    assert_problem(&send(&bench, get_at(OWN_HOST, &format!("{root}a%2Fb?c"))).await, REACHED, "below");
    assert_problem(&send(&bench, get_at(OWN_HOST, "/s/tgp_wrong/")).await, NO_PASS, "a wrong pass");
    let script =
        get_at(OWN_HOST, &root).header(SEC_FETCH_SITE, "same-origin").header(SEC_FETCH_DEST, "script");
    assert_problem(&send(&bench, script).await, CROSS_ORIGIN, "as a script of our page");
    let visit =
        get_at(OWN_HOST, &root).header(SEC_FETCH_SITE, "same-origin").header(SEC_FETCH_DEST, "document");
    assert_problem(&send(&bench, visit).await, REACHED, "from our page");

    let preflight = get_at(OWN_HOST, &root)
        .method(Method::OPTIONS)
        .header(ORIGIN, "null")
        .header(ACCESS_CONTROL_REQUEST_METHOD, "PUT")
        .header(ACCESS_CONTROL_REQUEST_HEADERS, "content-type");
    let answer = send(&bench, preflight).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    assert_eq!(answer.headers[ACCESS_CONTROL_ALLOW_ORIGIN], "null");
    assert_eq!(answer.headers[ACCESS_CONTROL_ALLOW_METHODS], "PUT");
    assert_eq!(answer.headers[ACCESS_CONTROL_ALLOW_HEADERS], "content-type");
}

#[tokio::test]
async fn people_read_why_a_service_is_not_open_and_nothing_runs_in_it() {
    let bench = bench().await;
    let host = "web--shop.localhost";
    let answer = send(&bench, get_at(host, "/").header(ACCEPT, "text/html,*/*")).await;
    assert_eq!(
        (answer.status, &answer.headers[CONTENT_TYPE]),
        (StatusCode::FORBIDDEN, &HeaderValue::from_static("text/html; charset=utf-8"))
    );
    let policy = answer.headers[http::header::CONTENT_SECURITY_POLICY].to_str().expect("ASCII");
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    let text = String::from_utf8(answer.body.to_vec()).expect("UTF-8");
    assert!(text.contains("open the service again") && text.contains("no-pass"), "{text}");
}

#[test]
fn logs_have_no_pass() {
    for (path, expected) in [
        ("/s/tgp_secret/a/b", "/s/***/a/b"),
        ("/s/tgp_secret", "/s/***/"),
        ("/api/v1/edges", "/api/v1/edges"),
        ("/", "/"),
    ] {
        assert_eq!(without_pass(path), expected);
    }
}
