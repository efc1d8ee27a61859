//! Who may ask what: every row of the table, with every role, reach and kind of credential, through the real router and
//! the real guard. Handlers are replaced, so that an answer of theirs says that the guard let somebody in, and nothing
//! is changed on the way.
//!
//! The expectations are computed here from what a row says it needs; a new row is tested by being there, and a route
//! that is no row is found by the last test.

use std::fmt;
use std::path::Path;

use http::header::COOKIE;

use super::*;
use crate::access::{Access, NewUser, TokenSpec};
use crate::domain::authority::Role;

/// What replaced handlers answer. No handler of ours does.
const ADMITTED: StatusCode = StatusCode::IM_A_TEAPOT;
const PASSWORD: &str = "correct horse";
/// The edge within the tags of those who are bound, the one that is not, and one that is not there.
const EDGES: [&str; 3] = ["shop", "kiosk", "nowhere"];
const TAG: &str = "berlin";

/// What somebody comes with.
#[derive(Clone, Debug)]
enum Comes {
    Nothing,
    Token(String),
    Session(String),
    /// A browser that another site's page made send it.
    SessionFromElsewhere(String),
}

#[derive(Clone)]
struct Actor {
    /// `None` is nobody.
    role: Option<Role>,
    bound: bool,
    comes: Comes,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.comes {
            Comes::Nothing => "nothing",
            Comes::Token(_) => "a token",
            Comes::Session(_) => "a session",
            Comes::SessionFromElsewhere(_) => "a session from elsewhere",
        };
        write!(f, "{:?}, bound: {}, with {kind}", self.role, self.bound)
    }
}

/// All roles and reaches, each with every kind of credential, and nobody.
async fn actors(access: &Access, root: &str) -> Vec<Actor> {
    let root = access.by_token(root).expect("the first token");
    let mut actors = vec![Actor { role: None, bound: false, comes: Comes::Nothing }];
    for role in Role::ALL {
        for bound in [false, true] {
            let tags = bound.then(|| vec![TAG.to_owned()]);
            let name: UserName = format!("{role}-{bound}").parse().expect("a name");
            let new =
                NewUser { name: name.clone(), password: Some(PASSWORD.into()), role, tags: tags.clone() };
            access.users().create(new).await.expect("a good user");
            let (_, session) = access
                .sign_in(name.as_str(), PASSWORD.into(), [192, 0, 2, 1].into())
                .await
                .expect("the right password");
            let cookie = session.cookie.expose().clone();
            let user = access.by_session(&cookie).expect("just begun");
            let spec = |role, tags| TokenSpec { label: "matrix".into(), role, tags, life: None };
            let tokens = access.tokens();
            let of_user = tokens.create_by(&user, spec(None, None)).await.expect("as much as they may");
            let of_nobody = tokens.create_by(&root, spec(Some(role), tags)).await.expect("less");
            for comes in [
                Comes::Token(of_nobody.token.expose().clone()),
                Comes::Token(of_user.token.expose().clone()),
                Comes::Session(cookie.clone()),
                Comes::SessionFromElsewhere(cookie),
            ] {
                actors.push(Actor { role: Some(role), bound, comes });
            }
        }
    }
    actors
}

/// What the guard must say. `None` is that it lets them in.
fn expected(needs: Needs, method: &Method, actor: &Actor, edge: &str) -> Option<(u16, &'static str)> {
    if needs == Needs::Nothing {
        return None;
    }
    let Some(role) = actor.role else { return Some((401, "not-authenticated")) };
    let safe = [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE].contains(method);
    if matches!(actor.comes, Comes::SessionFromElsewhere(_)) && !safe {
        return Some((403, "cross-origin"));
    }
    let (needed, all, this) = match needs {
        Needs::Nothing | Needs::Anybody => (Role::Viewer, false, false),
        Needs::Edges(role) => (role, false, false),
        Needs::Edge(role) => (role, false, true),
        Needs::Gateway(role) => (role, true, false),
    };
    if role < needed || (all && actor.bound) {
        return Some((403, "not-allowed"));
    }
    // That an edge is not there is the handler's to say to those who reach all.
    (this && actor.bound && edge != EDGES[0]).then_some((404, "edge-not-found"))
}

/// A path of this row. What else is in it does not matter to the guard.
fn path_of(template: &str, edge: &str) -> String {
    let parts = template.split('/').map(|part| match part {
        "{edge}" => edge,
        part if part.starts_with('{') => "x",
        part => part,
    });
    parts.collect::<Vec<_>>().join("/")
}

fn request(method: &Method, path: &str, actor: &Actor) -> Request<Body> {
    let request = Request::builder().method(method).uri(path).header(HOST, "gate.example.com:9000");
    let peer = Peer { address: ([192, 0, 2, 1], 5).into(), secure: true };
    let request = request.extension(peer);
    let request = match &actor.comes {
        Comes::Nothing => request,
        Comes::Token(token) => request.header(AUTHORIZATION, format!("Bearer {token}")),
        Comes::Session(cookie) => request
            .header(COOKIE, format!("__Host-tidegate={cookie}"))
            .header("sec-fetch-site", "same-origin"),
        Comes::SessionFromElsewhere(cookie) => {
            request.header(COOKIE, format!("__Host-tidegate={cookie}")).header("sec-fetch-site", "cross-site")
        }
    };
    request.body(Body::empty()).expect("a request")
}

#[tokio::test]
async fn every_row_lets_in_whom_it_says_and_nobody_else() {
    let bench = Bench::new().await;
    for (edge, tag) in [(EDGES[0], TAG), (EDGES[1], "hamburg")] {
        let new = json!({"name": edge, "tags": [tag]});
        assert_eq!(bench.ask(Method::POST, "/api/v1/edges", new).await.status, StatusCode::CREATED);
    }
    let actors = actors(&bench.access, &bench.token).await;
    let replaced = operations().into_iter().map(|row| row.answering(ADMITTED)).collect();
    let router = router_of(replaced, Arc::clone(&bench.state));
    let mut asked = 0;
    for row in operations() {
        let methods =
            row.method.clone().map_or_else(|| vec![Method::GET, Method::POST], |method| vec![method]);
        let edges = if row.path.contains("{edge}") { &EDGES[..] } else { &EDGES[..1] };
        for (method, edge) in methods.iter().flat_map(|method| edges.iter().map(move |edge| (method, edge))) {
            for actor in &actors {
                let path = path_of(row.path, edge);
                let answer = router.clone().oneshot(request(method, &path, actor)).await;
                let answer = answer.expect("a router never fails");
                let expected = expected(row.needs, method, actor, edge);
                let problem =
                    answer.extensions().get::<problem::Occurred>().map(|occurred| occurred.code.name());
                let got =
                    (answer.status() != ADMITTED).then(|| (answer.status().as_u16(), problem.unwrap_or("")));
                assert_eq!(got, expected, "{method} {path} ({}: {:?}) by {actor}", row.id, row.needs);
                asked += 1;
            }
        }
    }
    assert!(asked > 1000, "only {asked} were asked: the test tests little");
}

#[tokio::test]
async fn what_is_no_row_is_told_to_those_who_are_known_only() {
    let bench = Bench::new().await;
    for actor in actors(&bench.access, &bench.token).await {
        for (method, path, known) in [
            (Method::GET, "/api/v1/nothing/at/all", (404, "not-found")),
            (Method::GET, "/api/v1/", (404, "not-found")),
            (Method::PUT, "/api/v1/settings", (405, "method-not-allowed")),
        ] {
            let answer = bench.router.clone().oneshot(request(&method, path, &actor)).await;
            let answer = answer.expect("a router never fails");
            let code = answer.extensions().get::<problem::Occurred>().map(|occurred| occurred.code.name());
            let from_elsewhere = matches!(actor.comes, Comes::SessionFromElsewhere(_));
            let expected = match (actor.role, from_elsewhere && method == Method::PUT) {
                (None, _) => (401, "not-authenticated"),
                (Some(_), true) => (403, "cross-origin"),
                (Some(_), false) => known,
            };
            assert_eq!(
                (answer.status().as_u16(), code.unwrap_or("")),
                expected,
                "{method} {path} by {actor}"
            );
        }
    }
}

/// The table's own router, and the two paths below the API that are no row.
#[test]
fn nothing_is_routed_past_the_table() {
    let http = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![http.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("the sources are here") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("text");
                // Tests route as they like.
                let code = text.split("\n#[cfg(test)]\nmod").next().unwrap_or_default();
                let routes = [".route(", ".nest(", ".route_service(", ".nest_service(", ".fallback_service("];
                let count: usize = routes.iter().map(|route| code.matches(route).count()).sum();
                let name = path.strip_prefix(&http).expect("below it").display().to_string();
                if count > 0 && !name.contains("tests") {
                    found.push((name, count));
                }
            }
        }
    }
    found.sort();
    assert_eq!(found, [("http.rs".to_owned(), 2), ("http/operation.rs".to_owned(), 1)]);
}
