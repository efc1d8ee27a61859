//! New edges, one and many, and stock SSH clients.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt as _;
use http::Response;
use shared::join_token::JoinToken;
use tower::ServiceExt as _;

use super::*;
use crate::access::TokenSpec;
use crate::http::peer::Peer;

impl Bench {
    /// Sends a form as whoever has the token.
    pub async fn submit(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        self.submit_as(&self.token, path, fields).await
    }

    pub async fn submit_as(&self, token: &str, path: &str, fields: &[(&str, &str)]) -> Answer {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let request = Request::post(path)
            .header(ACCEPT, BROWSER)
            .header(AUTHORIZATION, format!("Bearer {token}"))
            .header("sec-fetch-site", "same-origin")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(request.body(Body::from(body)).expect("a request")).await
    }

    /// A stream of a live page.
    pub async fn follow(&self, path: &str) -> Response<Body> {
        let mut request = Request::get(path)
            .header(ACCEPT, "text/event-stream")
            .header(AUTHORIZATION, format!("Bearer {}", self.token))
            .body(Body::empty())
            .expect("a request");
        request.extensions_mut().insert(Peer { address: ([192, 0, 2, 1], 5).into(), secure: true });
        self.router.clone().oneshot(request).await.expect("a router never fails")
    }
}

/// The text of the element with this id, unescaped as far as our texts need it.
fn text_of(html: &str, id: &str) -> String {
    let (_, rest) = html.split_once(&format!("id=\"{id}\">")).unwrap_or_else(|| panic!("no {id} in {html}"));
    let text = rest.split('<').next().unwrap_or_default();
    text.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

#[tokio::test]
async fn new_edge_shows_its_token_once_with_every_way_to_start_its_agent() {
    let bench = Bench::new().await;
    let asked = bench.look("/new-edge").await;
    assert!(asked.page().contains("action=\"/new-edge\"") && asked.page().contains("name=\"interval_s\""));
    let fields =
        [("name", " shop-17 "), ("tags", "berlin, ring road"), ("cluster", "yes"), ("interval_s", "30")];
    let made = bench.submit("/new-edge", &fields).await;
    assert_eq!(made.status, StatusCode::OK);
    let html = made.page();
    let token = text_of(html, "join-token");
    let parsed: JoinToken = token.parse().expect("a join token");
    assert_eq!(parsed.api_url, "https://gate.example.com:9000");
    let edge_id = text_of(html, "edge-id");
    for way in ["container", "binary", "compose", "systemd"] {
        let command = text_of(html, &format!("command-{way}"));
        assert!(command.contains(&token) && command.contains(&edge_id), "{way}: {command}");
        assert!(html.contains(&format!("data-copy=\"command-{way}\" hidden")), "no button without a script");
    }
    assert!(html.contains("href=\"/edges/shop-17/offer\"") && html.contains("data-joined=\"false\""));
    assert!(html.contains("data-live=\"/live/new-edge?name=shop-17\""));
    let shown = bench.get("/api/v1/edges/shop-17").await.json();
    assert_eq!(shown["tags"], json!(["berlin", "ring road"]));
    assert_eq!((&shown["cluster"], &shown["interval_s"]), (&json!(true), &json!(30)));
}

#[tokio::test]
async fn form_that_was_wrong_keeps_what_was_typed_and_names_the_field() {
    let bench = Bench::new().await;
    bench.create("shop").await;
    for (fields, status, field) in [
        ([("name", "shop"), ("interval_s", "")], 409, "name"),
        ([("name", "Shop 17"), ("interval_s", "")], 422, "name"),
        ([("name", "kiosk"), ("interval_s", "soon")], 422, "interval_s"),
    ] {
        let fields = [fields[0], fields[1], ("tags", "a<b")];
        let answer = bench.submit("/new-edge", &fields).await;
        assert_eq!(answer.status.as_u16(), status, "{fields:?}");
        let html = answer.page();
        let field =
            tags(html).into_iter().find(|tag| attribute(tag, "id") == Some(field)).expect("the field");
        assert_eq!(attribute(&field, "aria-invalid"), Some("true"), "{field}");
        assert!(html.contains("role=\"alert\"") && html.contains("value=\"a&lt;b\""), "{html}");
        assert!(html.contains(&format!("value=\"{}\"", fields[0].1)), "{html}");
    }
    let out = bench.submit("/new-edge", &[("name", "kiosk"), ("interval_s", "0")]).await;
    assert_eq!(out.status, StatusCode::UNPROCESSABLE_ENTITY, "the registry has the last word");
}

#[tokio::test]
async fn page_of_a_new_edge_turns_green_when_its_agent_joins() {
    let bench = Bench::new().await;
    let agent = Agent::of(&bench.create("shop").await);
    let mut stream = bench.follow("/live/new-edge?name=shop").await.into_body().into_data_stream();
    let mut next = async || {
        let message = stream.next().await.expect("a message").expect("no error");
        String::from_utf8(message.into()).expect("text")
    };
    assert!(next().await.contains("data-joined=\"false\""));
    bench.as_agent(wire::check_in::PATH, &agent, hello()).await;
    let joined = next().await;
    assert!(joined.contains("data-joined=\"true\"") && joined.contains("shop has joined"), "{joined}");
    assert!(joined.contains("Agent 0.1.0 on shop, from 192.0.2.1"), "{joined}");
}

#[tokio::test]
async fn open_list_counts_on_and_says_when_other_rows_belong_to_it() {
    let bench = Bench::new().await;
    let shop = Agent::of(&bench.create("shop").await);
    let mut stream = bench.follow("/live/edges?names=shop").await.into_body().into_data_stream();
    let mut next = async || {
        let message = stream.next().await.expect("a message").expect("no error");
        String::from_utf8(message.into()).expect("text")
    };
    let first = next().await;
    assert!(first.contains("class=\"muted\" id=\"edges-all\">1<"), "{first}");
    assert!(first.contains("id=\"list-news\"") && !first.contains("has changed"), "{first}");
    bench.create("kiosk").await;
    let more = next().await;
    assert!(more.contains("class=\"muted\" id=\"edges-all\">2<"), "{more}");
    assert!(more.contains("has changed") && more.contains("<a href=\"/\">"), "{more}");
    assert!(!more.contains("id=\"shop.state\""), "what did not change is not sent: {more}");
    bench.as_agent(wire::check_in::PATH, &shop, hello()).await;
    let online = next().await;
    assert!(online.contains("class=\"muted\" id=\"edges-online\">1<"), "{online}");
}

#[tokio::test]
async fn many_edges_are_made_at_once_and_their_tokens_are_a_file() {
    let bench = Bench::new().await;
    bench.create("taken").await;
    let names = "a\r\nb\r\n\r\ntaken\r\n<script>\r\na";
    let made = bench.submit("/new-edges", &[("names", names), ("tags", "berlin")]).await;
    assert_eq!(made.status, StatusCode::OK);
    let html = made.page();
    assert!(html.contains("2 made, 3 not") && html.contains("&lt;script&gt;"), "{html}");
    assert_eq!(html.matches("data-refused=\"edge-name-taken\"").count(), 2, "{html}");
    assert_eq!(html.matches("data-refused=\"invalid-field\"").count(), 1, "{html}");
    let link =
        tags(html).into_iter().find(|tag| attribute(tag, "id") == Some("tokens-file")).expect("a file");
    let href = attribute(&link, "href").and_then(|href| href.strip_prefix("data:text/csv;base64,"));
    let file = STANDARD.decode(href.expect("a file of lines")).expect("base64");
    let file = String::from_utf8(file).expect("text");
    let lines: Vec<_> = file.split_terminator("\r\n").collect();
    assert_eq!((lines.len(), lines[0]), (3, "name,edge_id,join_token"));
    for (line, name) in lines[1..].iter().zip(["a", "b"]) {
        let cells: Vec<_> = line.split(',').collect();
        assert_eq!((cells.len(), cells[0]), (3, name));
        assert!(cells[2].parse::<JoinToken>().is_ok(), "{line}");
        let shown = bench.get(&format!("/api/v1/edges/{name}")).await.json();
        assert_eq!(shown["tags"], json!(["berlin"]));
    }
    for names in ["", "\n", &"a\n".repeat(1001)] {
        let refused = bench.submit("/new-edges", &[("names", names)]).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(refused.page().contains("aria-invalid=\"true\""));
    }
}

#[tokio::test]
async fn stock_client_gets_a_command_and_its_password_once() {
    let bench = Bench::new().await;
    bench.create("kiosk").await;
    let asked = bench.look("/edges/kiosk/offer").await;
    assert!(asked.page().contains("ssh=localhost:22") && asked.page().contains("aria-label=\"Breadcrumbs\""));
    let made = bench.submit("/edges/kiosk/offer", &[("services", "web=localhost:8080")]).await;
    let command = text_of(made.page(), "ssh-command");
    assert!(command.contains("web:8080:localhost:8080"), "{command}");
    assert!(!text_of(made.page(), "ssh-password").is_empty());
    let renewing =
        bench.submit("/edges/kiosk/offer", &[("services", "ssh=localhost:22"), ("renew", "yes")]).await;
    assert!(text_of(renewing.page(), "ssh-command").contains("autossh"));
    let wrong = bench.submit("/edges/kiosk/offer", &[("services", "<b>")]).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(wrong.page().contains("&lt;b&gt;"));
    assert_eq!(bench.look("/edges/nowhere/offer").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn viewers_and_those_bound_to_tags_get_what_is_theirs() {
    let bench = Bench::new().await;
    let edge = json!({"name": "shop", "tags": ["berlin"]});
    bench.ask(Method::POST, "/api/v1/edges", edge).await;
    bench.create("other").await;
    let viewer = bench.token_of("vera", Role::Viewer, None).await;
    let bound = bench.token_of("bob", Role::Admin, Some("berlin")).await;
    let look = async |token: &str, path: &str| {
        let request =
            Request::get(path).header(ACCEPT, BROWSER).header(AUTHORIZATION, format!("Bearer {token}"));
        bench.send(request.body(Body::empty()).expect("a request")).await
    };
    let list = look(&viewer, "/").await;
    assert!(
        list.page().contains("data-edge=\"shop\"") && !list.page().contains("/new-edge"),
        "no way that is barred"
    );
    for path in ["/new-edge", "/new-edges", "/edges/shop/offer"] {
        let refused = look(&viewer, path).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{path}");
        assert!(refused.page().contains("data-problem=\"not-allowed\""));
        assert_eq!(bench.submit_as(&viewer, path, &[("name", "x")]).await.status, StatusCode::FORBIDDEN);
    }
    let list = look(&bound, "/").await;
    assert!(list.page().contains("data-edge=\"shop\"") && !list.page().contains("other"), "{}", list.page());
    assert_eq!(look(&bound, "/edges/other/offer").await.status, StatusCode::NOT_FOUND);
    let away = bench.submit_as(&bound, "/new-edge", &[("name", "far"), ("tags", "oslo")]).await;
    assert_eq!(away.status, StatusCode::FORBIDDEN);
    assert!(away.page().contains("id=\"tags-error\""), "{}", away.page());
}

impl Bench {
    async fn token_of(&self, label: &str, role: Role, tag: Option<&str>) -> String {
        let maker = self.access.by_token(&self.token).expect("the token of the bench");
        let tags = tag.map(|tag| vec![tag.to_owned()]);
        let spec = TokenSpec { label: label.to_owned(), role: Some(role), tags, life: None };
        let made = self.access.tokens().create_by(&maker, spec).await.expect("less than its maker may");
        made.token.expose().clone()
    }
}
