//! Pages through the router: what every one of them must have, and what each of them shows.

use std::collections::BTreeSet;

use axum::body::Body;
use http::header::{
    ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, LOCATION, SET_COOKIE,
};
use http::{Method, Request, StatusCode};
use serde_json::json;
use shared::wire;

use super::frame::NAVIGATION;
use super::*;
use crate::http::tests::{Agent, Answer, Bench, hello};

mod door;
mod edge;
mod enrolment;
mod people;
mod whole;

const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

impl Answer {
    /// Where the browser is sent on to, and the cookies that it has then.
    #[track_caller]
    pub fn redirect(&self) -> (&str, String) {
        assert_eq!(self.status, StatusCode::SEE_OTHER, "{:?}", self.body);
        assert_eq!(self.headers[CACHE_CONTROL], "no-store");
        let cookies = self.headers.get_all(SET_COOKIE).iter().map(|cookie| {
            let cookie = cookie.to_str().expect("ASCII");
            cookie.split(';').next().expect("a pair")
        });
        (self.headers[LOCATION].to_str().expect("ASCII"), cookies.collect::<Vec<_>>().join("; "))
    }

    /// A page as every page must be, whatever it shows.
    #[track_caller]
    pub fn page(&self) -> &str {
        let header = |name: &str| self.headers.get(name).map(|value| value.to_str().expect("ASCII"));
        assert_eq!(self.headers[CONTENT_TYPE], "text/html; charset=utf-8");
        assert_eq!(self.headers[CONTENT_SECURITY_POLICY], frame::POLICY);
        assert_eq!(self.headers[CACHE_CONTROL], "no-store");
        assert_eq!(header("x-content-type-options"), Some("nosniff"));
        assert_eq!(header("referrer-policy"), Some("same-origin"));
        assert_eq!(header("cross-origin-opener-policy"), Some("same-origin"));
        let html = std::str::from_utf8(&self.body).expect("UTF-8");
        assert!(html.starts_with("<!DOCTYPE html>"), "{html}");
        check_markup(html);
        html
    }
}

/// Nothing inline, nothing of another host, and what people without sight, mouse or script need.
#[track_caller]
fn check_markup(html: &str) {
    for tag in tags(html) {
        let (name, attributes) = (tag.split_whitespace().next().unwrap_or_default(), tag.as_str());
        assert_ne!(name, "style", "an inline style sheet in {html}");
        for attribute in attribute_names(attributes) {
            assert!(!attribute.starts_with("on"), "the inline handler {attribute} in <{tag}>");
            assert!(attribute != "style", "an inline style in <{tag}>");
        }
        for (attribute, value) in attributes_of(attributes) {
            // A file that the page itself carries, to be saved.
            let is_file = value.starts_with("data:text/csv;base64,") && tag.contains("download=");
            if ["href", "src", "action", "formaction", "data-live"].contains(&attribute) && !is_file {
                let is_local = (value.starts_with('/') && !value.starts_with("//")) || value.starts_with('#');
                assert!(is_local, "<{tag}> leads to another host");
            }
        }
        if name == "script" {
            assert!(tag.contains("src="), "an inline script in {html}");
        }
        if name == "button" {
            assert!(tag.contains("type=") || html.contains("<form"), "a button that does nothing: <{tag}>");
        }
    }
    for landmark in ["<main id=\"main\"", "href=\"#main\"", "<title>", "lang=\"en\"", "<h1"] {
        assert!(html.contains(landmark), "no {landmark} in {html}");
    }
    assert_eq!(html.matches("<h1").count(), 1, "{html}");
    let mut ids = BTreeSet::new();
    for id in tags(html).iter().filter_map(|tag| attribute(tag, "id").map(str::to_owned)) {
        assert!(ids.insert(id.clone()), "two elements have the id {id}");
    }
}

/// The insides of all tags but closing ones. Texts and values have no `<`, which is escaped.
pub fn tags(html: &str) -> Vec<String> {
    let inside = |piece: &str| piece.split('>').next().unwrap_or_default().to_owned();
    html.split('<').skip(1).map(inside).filter(|tag| !tag.starts_with(['/', '!'])).collect()
}

/// An attribute's value in a tag.
pub fn attribute<'t>(tag: &'t str, name: &str) -> Option<&'t str> {
    attributes_of(tag).into_iter().find(|(found, _)| *found == name).map(|(_, value)| value)
}

fn attributes_of(tag: &str) -> Vec<(&str, &str)> {
    let mut rest = tag;
    let mut found = Vec::new();
    while let Some((before, after)) = rest.split_once("=\"") {
        let name = before.rsplit(' ').next().unwrap_or_default();
        let (value, after) = after.split_once('"').unwrap_or((after, ""));
        found.push((name, value));
        rest = after;
    }
    found
}

fn attribute_names(tag: &str) -> Vec<&str> {
    attributes_of(tag).into_iter().map(|(name, _)| name).collect()
}

/// The form that a page would send, and whether it is this gateway's page.
pub struct Sent<'a>(&'a [(&'a str, &'a str)], bool);

/// What our own page sends.
pub fn ours<'a>(fields: &'a [(&'a str, &'a str)]) -> Option<Sent<'a>> {
    Some(Sent(fields, true))
}

impl Bench {
    /// As a browser with these cookies: goes to `path`, or sends a form there.
    pub async fn browse(&self, cookies: &str, path: &str, form: Option<Sent<'_>>) -> Answer {
        let request = Request::builder().uri(path).header(ACCEPT, BROWSER).header(COOKIE, cookies);
        let Some(Sent(fields, is_ours)) = form else {
            return self.send(request.body(Body::empty()).expect("a request")).await;
        };
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let site = if is_ours { "same-origin" } else { "cross-site" };
        let request = request
            .method(Method::POST)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header("sec-fetch-site", site);
        self.send(request.body(Body::from(body)).expect("a request")).await
    }

    /// As the browser of whoever has the token.
    pub async fn look(&self, path: &str) -> Answer {
        let request = Request::get(path)
            .header(ACCEPT, BROWSER)
            .header(AUTHORIZATION, format!("Bearer {}", self.token))
            .body(Body::empty());
        self.send(request.expect("a request")).await
    }
}

#[tokio::test]
async fn list_shows_each_edge_with_what_an_operator_wants_to_know() {
    let bench = Bench::new().await;
    let empty = bench.look("/").await;
    assert!(empty.page().contains("No edges yet"));
    let joined = bench.create("shop").await;
    bench.create("kiosk").await;
    bench.as_agent(wire::check_in::PATH, &Agent::of(&joined), hello()).await;
    let answer = bench.look("/").await;
    let html = answer.page();
    let row = |name: &str| html.split("<tr ").find(|row| row.starts_with(&format!("data-edge=\"{name}\"")));
    let (shop, kiosk) = (row("shop").expect("a row"), row("kiosk").expect("a row"));
    assert!(shop.contains("data-status=\"online\"") && shop.contains("Online"), "{shop}");
    assert!(
        shop.contains("<time datetime=") && shop.contains("0.1.0") && shop.contains("192.0.2.1"),
        "{shop}"
    );
    assert!(shop.contains("href=\"/edges/shop\""), "{shop}");
    assert!(kiosk.contains("data-status=\"never-joined\"") && kiosk.contains("Never joined"), "{kiosk}");
    assert!(html.contains("data-live=\"/live/edges?names=kiosk%2Cshop\""), "{html}");
    assert!(html.contains("class=\"muted\" id=\"edges-online\">1<"), "{html}");
}

#[tokio::test]
async fn reference_of_the_api_is_a_page_like_the_others() {
    let bench = Bench::new().await;
    let answer = bench.look("/api/v1/docs").await;
    let html = answer.page();
    assert!(html.contains("id=\"edge.create\"") && html.contains("id=\"type-EdgePage\""), "{html}");
    let stranger = bench.browse("", "/api/v1/docs", None).await;
    assert!(stranger.redirect().0.starts_with("/sign-in"), "who is not signed in is asked to be");
}

#[tokio::test]
async fn whatever_an_agent_says_is_text() {
    let bench = Bench::new().await;
    let agent = Agent::of(&bench.create("shop").await);
    let hostile = "<script>alert(1)</script>\u{202e}\" onload=\"x";
    let mut body: serde_json::Value = serde_json::from_str(&hello()).expect("JSON");
    body["hello"]["agent"] = json!(hostile);
    body["hello"]["hostname"] = json!(hostile);
    let answer = bench.as_agent(wire::check_in::PATH, &agent, body.to_string()).await;
    assert!(answer.status.is_success(), "{:?}", answer.body);
    let answer = bench.look("/").await;
    let html = answer.page();
    assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;\\u{202e}&quot; onload=&quot;x"), "{html}");
}

#[tokio::test]
async fn pages_lead_to_the_next_edges_with_the_same_search() {
    let bench = Bench::new().await;
    for number in 0..60 {
        let edge = json!({"name": format!("edge-{number:02}"), "tags": ["a b"]});
        bench.ask(Method::POST, "/api/v1/edges", edge).await;
    }
    let first = bench.look("/?q=a+b&status=never-joined").await;
    assert_eq!(rows_of(first.page()), 50);
    let next = tags(first.page())
        .into_iter()
        .find(|tag| attribute(tag, "rel") == Some("next"))
        .expect("a next page");
    let next = attribute(&next, "href").expect("a link").replace("&amp;", "&");
    assert_eq!(next, "/?q=a+b&status=never-joined&after=edge-49");
    assert_eq!(rows_of(bench.look(&next).await.page()), 10);
    assert!(bench.look("/?q=nothing").await.page().contains("No edge is like this"));
}

#[tokio::test]
async fn list_is_sorted_and_filtered_by_links_that_keep_the_rest() {
    let bench = Bench::new().await;
    for (name, tag) in [("a", "x"), ("b", "x y"), ("c", "x")] {
        bench.ask(Method::POST, "/api/v1/edges", json!({"name": name, "tags": [tag]})).await;
    }
    let answer = bench.look("/?tag=x&sort=name&order=desc").await;
    let html = answer.page();
    let rows: Vec<_> =
        tags(html).iter().filter_map(|tag| attribute(tag, "data-edge").map(str::to_owned)).collect();
    assert_eq!(rows, ["c", "a"]);
    let heading = html.split("<th scope=\"col\"").nth(1).expect("the name's heading");
    assert!(
        heading.starts_with(" aria-sort=\"descending\"><a href=\"/?tag=x&amp;sort=name&amp;order=asc\""),
        "{heading}"
    );
    assert!(html.contains("href=\"/?sort=name&amp;order=desc\""), "the tag is taken away alone");
    assert!(bench.look("/").await.page().contains("class=\"tag\" href=\"/?tag=x+y\""));
    assert!(html.contains("href=\"/?status=online&amp;tag=x&amp;sort=name&amp;order=desc\""), "{html}");
    assert!(html.contains("2 edges"));
    assert_eq!(
        rows_of(bench.look("/?status=no-such&sort=x&order=y&after=%00").await.page()),
        3,
        "as if not there"
    );
}

fn rows_of(html: &str) -> usize {
    html.matches("data-edge=").count()
}

#[tokio::test]
async fn refusals_are_pages_for_browsers_and_problems_for_programs() {
    let bench = Bench::new().await;
    let missing = bench.look("/edges/no-such/thing").await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    assert!(missing.page().contains("data-problem=\"not-found\""));
    assert!(missing.page().contains("aria-label=\"Sections\""), "whoever is known keeps the navigation");
    assert_eq!(bench.get("/edges/no-such/thing").await.problem(), (404, "not-found".into()));
    let request = Request::delete("/sign-out").header(ACCEPT, BROWSER).body(Body::empty());
    let answer = bench.send(request.expect("a request")).await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(answer.page().contains("data-problem=\"method-not-allowed\""));
    assert_eq!(answer.headers[http::header::ALLOW], "GET,HEAD,POST");
}

#[tokio::test]
async fn files_of_the_page_have_their_hash_as_name_and_are_kept_for_good() {
    let bench = Bench::new().await;
    let answer = bench.look("/").await;
    let files: Vec<_> = tags(answer.page())
        .iter()
        .filter_map(|tag| attribute(tag, "src").or(attribute(tag, "href")))
        .filter(|path| path.starts_with("/assets/"))
        .map(str::to_owned)
        .collect();
    assert_eq!(files.len(), 3, "{files:?}");
    for path in files {
        let file = bench.send(Request::get(&path).body(Body::empty()).expect("a request")).await;
        assert_eq!(file.status, StatusCode::OK, "{path} needs no credentials");
        assert_eq!(file.headers[CACHE_CONTROL], "public, max-age=31536000, immutable");
        assert!(!file.headers[CONTENT_TYPE].is_empty() && !file.body.is_empty());
    }
    let old = bench.look("/assets/page.0000000000000000.css").await;
    assert_eq!(old.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn rows_are_followed_by_name_and_bounded() {
    let bench = Bench::new().await;
    for query in ["?names=A", "?names=a,,A", "?name=a"] {
        assert_eq!(bench.get(&format!("/live/edges{query}")).await.problem().0, 400, "{query}");
    }
    let many = vec!["a"; 51].join(",");
    assert_eq!(bench.get(&format!("/live/edges?names={many}")).await.problem().0, 400);
}

#[test]
fn navigation_leads_to_pages_of_the_table_and_shows_what_they_need() {
    for entry in NAVIGATION {
        let operations = crate::http::operations();
        let page = operations.iter().find(|it| it.path == entry.path && it.method == Some(Method::GET));
        assert_eq!(page.map(|page| page.needs), Some(entry.needs), "{}", entry.path);
    }
}
