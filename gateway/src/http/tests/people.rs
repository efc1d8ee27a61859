//! Signing in, users, and credentials that are somebody's, over HTTP.

use http::header::{COOKIE, SET_COOKIE};

use super::*;

const PASSWORD: &str = "correct horse";

impl Bench {
    /// As somebody else's program.
    async fn as_token(&self, token: &str, method: Method, path: &str, body: Value) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(AUTHORIZATION, format!("Bearer {token}"))
            .header(CONTENT_TYPE, "application/json");
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        self.send(request.body(body).expect("a request")).await
    }

    /// As a browser on our own page.
    async fn as_browser(&self, cookie: &str, method: Method, path: &str, body: Value) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(COOKIE, cookie)
            .header("sec-fetch-site", "same-origin")
            .header(CONTENT_TYPE, "application/json");
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        self.send(request.body(body).expect("a request")).await
    }

    async fn nobody(&self, path: &str, body: Value) -> Answer {
        let request = Request::post(path).header(CONTENT_TYPE, "application/json");
        self.send(request.body(Body::from(body.to_string())).expect("a request")).await
    }

    async fn user(&self, name: &str, role: &str, tags: Value) {
        let user = json!({"name": name, "password": PASSWORD, "role": role, "tags": tags});
        let made = self.ask(Method::POST, "/api/v1/users", user).await;
        assert_eq!(made.status, StatusCode::CREATED, "{:?}", made.body);
        assert_eq!(made.headers[LOCATION], format!("/api/v1/users/{name}"));
    }

    /// Signs in; the cookie as a browser sends it back.
    async fn signed_in(&self, name: &str) -> String {
        let answer = self.nobody("/api/v1/session", json!({"name": name, "password": PASSWORD})).await;
        assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.body);
        assert_eq!(answer.json()["name"], name);
        let cookie = answer.headers[SET_COOKIE].to_str().expect("text");
        let (pair, attributes) = cookie.split_once(';').expect("it has attributes");
        assert!(pair.starts_with("__Host-tidegate=tgs_"));
        for attribute in ["Path=/", "HttpOnly", "Secure", "SameSite=Strict", "Max-Age=43200"] {
            assert!(attributes.contains(attribute), "{attributes}");
        }
        assert_eq!(answer.headers[CACHE_CONTROL], "no-store");
        pair.to_owned()
    }

    async fn logged_in(&self, name: &str) -> String {
        let login = json!({"name": name, "password": PASSWORD, "label": "laptop", "expires_in_s": 3600});
        let made = self.nobody("/api/v1/login", login).await;
        assert_eq!(
            (made.status, &made.headers[CACHE_CONTROL]),
            (StatusCode::CREATED, &"no-store".parse().expect("valid"))
        );
        made.json()["token"].as_str().expect("a token").to_owned()
    }
}

#[tokio::test]
async fn a_browser_signs_in_and_out() {
    let bench = Bench::new().await;
    bench.user("ada", "operator", json!(["berlin"])).await;
    let cookie = bench.signed_in("ada").await;
    let who = bench.as_browser(&cookie, Method::GET, "/api/v1/session", Value::Null).await.json();
    assert_eq!(
        (&who["user"], &who["role"], &who["credential"]),
        (&json!("ada"), &json!("operator"), &json!("session"))
    );
    assert_eq!(who["bounds"], json!([["berlin"]]));
    assert!(who["expires_at"].is_string());
    let out = bench.as_browser(&cookie, Method::DELETE, "/api/v1/session", Value::Null).await;
    assert_eq!(out.status, StatusCode::NO_CONTENT);
    assert!(out.headers[SET_COOKIE].to_str().expect("text").contains("Max-Age=0"));
    let gone = bench.as_browser(&cookie, Method::GET, "/api/v1/session", Value::Null).await;
    assert_eq!(gone.problem(), (401, "not-authenticated".into()));
}

#[tokio::test]
async fn wrong_names_and_passwords_are_one_answer_and_then_too_many() {
    let bench = Bench::new().await;
    bench.user("ada", "admin", Value::Null).await;
    let try_in = |name: &str, path: &'static str| {
        let body = json!({"name": name, "password": "wrong horse", "label": "x"});
        let body =
            if path.ends_with("login") { body } else { json!({"name": name, "password": "wrong horse"}) };
        bench.nobody(path, body)
    };
    let known = try_in("ada", "/api/v1/session").await;
    let unknown = try_in("nobody", "/api/v1/session").await;
    assert_eq!(known.problem(), (401, "sign-in-refused".into()));
    assert_eq!(known.body, unknown.body);
    assert_eq!(known.headers.get(SET_COOKIE), None);
    assert_eq!(try_in("Not A Name", "/api/v1/login").await.body, known.body);
    let mut last = known;
    for _ in 0..10 {
        last = try_in("ada", "/api/v1/login").await;
    }
    assert_eq!(last.problem(), (429, "too-many-attempts".into()));
    assert!(last.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn a_cookie_counts_for_our_own_page_only() {
    let bench = Bench::new().await;
    bench.user("ada", "admin", Value::Null).await;
    let cookie = bench.signed_in("ada").await;
    let send = |method: Method, path: &str, lines: &[(&'static str, &'static str)]| {
        let mut request = Request::builder().method(method).uri(path).header(COOKIE, &cookie);
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        bench.send(request.body(Body::empty()).expect("a request"))
    };
    let ours = ("origin", "https://gate.example.com:9000");
    let another = ("origin", "https://evil.example");
    let tunnel = "/api/v1/edges/shop/tunnel";
    bench.create("shop").await;
    for lines in [&[][..], &[another], &[("sec-fetch-site", "cross-site")], &[("origin", "null")]] {
        let answer = send(Method::POST, tunnel, lines).await;
        assert_eq!(answer.problem(), (403, "cross-origin".into()), "{lines:?}");
    }
    assert_eq!(send(Method::POST, tunnel, &[ours]).await.status, StatusCode::OK);
    assert_eq!(send(Method::GET, tunnel, &[]).await.status, StatusCode::OK);
    let stream = "/api/v1/edges/shop/services/web/stream";
    let upgrade = [("connection", "upgrade"), ("upgrade", "tcp"), another];
    assert_eq!(send(Method::GET, stream, &upgrade).await.problem(), (403, "cross-origin".into()));
    let both = [another, ("authorization", "Bearer tga_wrong")];
    assert_eq!(send(Method::GET, tunnel, &both).await.problem(), (401, "not-authenticated".into()));

    let sign_in = Request::post("/api/v1/session")
        .header(CONTENT_TYPE, "application/json")
        .header("origin", "https://evil.example")
        .body(Body::from(json!({"name": "ada", "password": PASSWORD}).to_string()));
    let forced = bench.send(sign_in.expect("a request")).await;
    assert_eq!(forced.problem(), (403, "cross-origin".into()));
}

#[tokio::test]
async fn a_program_logs_in_for_a_token_of_its_user_and_revokes_it() {
    let bench = Bench::new().await;
    bench.user("ada", "operator", Value::Null).await;
    let token = bench.logged_in("ada").await;
    let who = bench.as_token(&token, Method::GET, "/api/v1/session", Value::Null).await.json();
    assert_eq!((&who["user"], &who["credential"]), (&json!("ada"), &json!("token")));
    let listed = bench.as_token(&token, Method::GET, "/api/v1/tokens", Value::Null).await.json();
    assert_eq!(
        (listed["tokens"].as_array().map(Vec::len), &listed["tokens"][0]["user"]),
        (Some(1), &json!("ada"))
    );
    let more = json!({"name": "ada", "password": PASSWORD, "label": "x", "role": "admin"});
    assert_eq!(bench.nobody("/api/v1/login", more).await.problem(), (403, "not-allowed".into()));
    let out = bench.as_token(&token, Method::DELETE, "/api/v1/session", Value::Null).await;
    assert_eq!(out.status, StatusCode::NO_CONTENT);
    let gone = bench.as_token(&token, Method::GET, "/api/v1/session", Value::Null).await;
    assert_eq!(gone.problem(), (401, "not-authenticated".into()));
}

#[tokio::test]
async fn the_first_user_is_made_with_the_code_of_the_log() {
    let bench = Bench::new().await;
    let code = bench.access.set_up_code().expect("nobody is there").expose().clone();
    let set_up = |code: &str, name: &str| {
        bench.nobody("/api/v1/setup", json!({"code": code, "name": name, "password": PASSWORD}))
    };
    assert_eq!(set_up("0000-0000-0000-0000", "eve").await.problem(), (403, "set-up-code-wrong".into()));
    let made = set_up(&code.to_lowercase(), "ada").await;
    assert_eq!(made.status, StatusCode::CREATED);
    assert_eq!((&made.json()["role"], &made.json()["tags"]), (&json!("admin"), &Value::Null));
    assert_eq!(set_up(&code, "eve").await.problem(), (409, "already-set-up".into()));
    let cookie = bench.signed_in("ada").await;
    let users = bench.as_browser(&cookie, Method::GET, "/api/v1/users", Value::Null).await;
    assert_eq!(users.json()["users"].as_array().map(Vec::len), Some(1));
    assert!(!String::from_utf8_lossy(&users.body).contains("argon2"));
}

#[tokio::test]
async fn users_are_shown_changed_and_deleted_and_the_last_admin_stays() {
    let bench = Bench::new().await;
    bench.user("ada", "admin", Value::Null).await;
    bench.user("grace", "operator", json!(["berlin"])).await;
    let again = json!({"name": "grace", "role": "viewer"});
    assert_eq!(
        bench.ask(Method::POST, "/api/v1/users", again).await.problem(),
        (409, "user-name-taken".into())
    );
    for (body, field) in [
        (json!({"name": "Eve", "role": "viewer"}), "name"),
        (json!({"name": "eve", "role": "root"}), "role"),
        (json!({"name": "eve", "role": "viewer", "password": "short"}), "password"),
        (json!({"name": "eve", "role": "viewer", "tags": ["a,b"]}), "tags"),
    ] {
        let refused = bench.ask(Method::POST, "/api/v1/users", body).await;
        assert_eq!(refused.problem(), (422, "invalid-field".into()));
        assert!(refused.detail().contains(field), "{}", refused.detail());
    }
    let token = bench.logged_in("grace").await;
    let grace = "/api/v1/users/grace";
    let changed = bench.ask(Method::PATCH, grace, json!({"role": "viewer", "tags": null})).await;
    assert_eq!((&changed.json()["role"], &changed.json()["tags"]), (&json!("viewer"), &Value::Null));
    assert_eq!(bench.get(grace).await.json(), changed.json());
    let who = bench.as_token(&token, Method::GET, "/api/v1/session", Value::Null).await.json();
    assert_eq!((&who["role"], &who["bounds"]), (&json!("viewer"), &json!([])));

    assert_eq!(bench.ask(Method::DELETE, grace, Value::Null).await.status, StatusCode::NO_CONTENT);
    assert_eq!(bench.get(grace).await.problem(), (404, "user-not-found".into()));
    let gone = bench.as_token(&token, Method::GET, "/api/v1/session", Value::Null).await;
    assert_eq!(gone.problem(), (401, "not-authenticated".into()));
    let ada = "/api/v1/users/ada";
    assert_eq!(bench.ask(Method::DELETE, ada, Value::Null).await.problem(), (409, "last-admin".into()));
    let demoted = bench.ask(Method::PATCH, ada, json!({"role": "operator"})).await;
    assert_eq!(demoted.problem(), (409, "last-admin".into()));
}

#[tokio::test]
async fn ones_own_password_needs_the_old_one_and_an_admin_sets_others() {
    let bench = Bench::new().await;
    bench.user("ada", "viewer", Value::Null).await;
    bench.user("grace", "viewer", Value::Null).await;
    let (here, elsewhere) = (bench.signed_in("ada").await, bench.signed_in("ada").await);
    let set = |cookie: &str, name: &str, body: Value| {
        let (cookie, path) = (cookie.to_owned(), format!("/api/v1/users/{name}/password"));
        let bench = &bench;
        async move { bench.as_browser(&cookie, Method::PUT, &path, body).await }
    };
    let new = "another horse";
    for current in [json!({"password": new}), json!({"password": new, "current": "wrong horse"})] {
        assert_eq!(set(&here, "ada", current).await.problem(), (403, "wrong-password".into()));
    }
    let others = set(&here, "grace", json!({"password": new, "current": PASSWORD})).await;
    assert_eq!(others.problem(), (403, "not-allowed".into()));
    let short = set(&here, "ada", json!({"password": "short", "current": PASSWORD})).await;
    assert_eq!(short.problem(), (422, "invalid-field".into()));
    let done = set(&here, "ada", json!({"password": new, "current": PASSWORD})).await;
    assert_eq!(done.status, StatusCode::NO_CONTENT);
    let session = |cookie: String| {
        let bench = &bench;
        async move { bench.as_browser(&cookie, Method::GET, "/api/v1/session", Value::Null).await.status }
    };
    assert_eq!(session(here.clone()).await, StatusCode::OK);
    assert_eq!(session(elsewhere).await, StatusCode::UNAUTHORIZED);
    let by_admin = bench.ask(Method::PUT, "/api/v1/users/ada/password", json!({"password": PASSWORD})).await;
    assert_eq!(by_admin.status, StatusCode::NO_CONTENT);
    assert_eq!(session(here).await, StatusCode::UNAUTHORIZED);
    bench.signed_in("ada").await;
}

#[tokio::test]
async fn tokens_and_keys_are_their_owners_and_an_admin_adds_keys_for_anybody() {
    let bench = Bench::new().await;
    bench.user("ada", "operator", Value::Null).await;
    bench.user("eve", "viewer", Value::Null).await;
    let ada = bench.logged_in("ada").await;
    let line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIH0Y8SbmEACpGhn4WcRxVNTWjOvc544NYcjRAp1lb3Cd ada@work";
    let key = |user: Value| {
        let mut key = json!({"label": "laptop", "public_key": line});
        if user != json!("absent") {
            key["user"] = user;
        }
        key
    };
    let keys = "/api/v1/ssh-keys";
    let foreign = bench.as_token(&ada, Method::POST, keys, key(json!("eve"))).await;
    assert_eq!(foreign.problem(), (403, "not-allowed".into()));
    let added = bench.as_token(&ada, Method::POST, keys, key(json!("absent"))).await.json();
    assert_eq!(added["user"], "ada");
    let path = format!("{keys}/{}", added["id"].as_str().expect("an id"));
    assert_eq!(bench.as_token(&ada, Method::DELETE, &path, Value::Null).await.status, StatusCode::NO_CONTENT);
    for (user, shown) in [(json!("eve"), json!("eve")), (Value::Null, Value::Null)] {
        let added = bench.ask(Method::POST, keys, key(user)).await.json();
        assert_eq!(added["user"], shown);
        let path = format!("{keys}/{}", added["id"].as_str().expect("an id"));
        let foreign = bench.as_token(&ada, Method::DELETE, &path, Value::Null).await;
        assert_eq!(foreign.problem(), (404, "ssh-key-not-found".into()));
        assert_eq!(bench.ask(Method::DELETE, &path, Value::Null).await.status, StatusCode::NO_CONTENT);
    }
    assert_eq!(
        bench.ask(Method::POST, keys, key(json!("nobody"))).await.problem(),
        (404, "user-not-found".into())
    );

    let narrow = json!({"label": "ci", "role": "viewer", "tags": ["web"], "expires_in_s": 600});
    let made = bench.as_token(&ada, Method::POST, "/api/v1/tokens", narrow).await.json();
    assert_eq!(
        (&made["role"], &made["tags"], &made["user"]),
        (&json!("viewer"), &json!(["web"]), &json!("ada"))
    );
    assert!(made["expires_at"].is_string());
    let more = json!({"label": "ci", "role": "admin"});
    let refused = bench.as_token(&ada, Method::POST, "/api/v1/tokens", more).await;
    assert_eq!(refused.problem(), (403, "not-allowed".into()));
    let eve = bench.logged_in("eve").await;
    let path = format!("/api/v1/tokens/{}", made["id"].as_str().expect("an id"));
    let foreign = bench.as_token(&eve, Method::DELETE, &path, Value::Null).await;
    assert_eq!(foreign.problem(), (404, "token-not-found".into()));
    assert_eq!(bench.ask(Method::DELETE, &path, Value::Null).await.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_stream_of_events_ends_with_the_credential_it_was_begun_with() {
    let bench = Bench::new().await;
    bench.user("ada", "viewer", Value::Null).await;
    let token = bench.logged_in("ada").await;
    let reading = tokio::spawn({
        let (router, token) = (bench.router.clone(), token.clone());
        async move {
            let request = Request::get("/api/v1/events")
                .header(AUTHORIZATION, format!("Bearer {token}"))
                .extension(Peer { address: ([192, 0, 2, 1], 5).into(), secure: true })
                .body(Body::empty());
            let answer = router.oneshot(request.expect("a request")).await.expect("a router never fails");
            assert_eq!(answer.status(), StatusCode::OK);
            answer.into_body().collect().await.expect("an orderly end");
        }
    });
    bench.as_token(&token, Method::GET, "/api/v1/session", Value::Null).await;
    assert!(!reading.is_finished());
    let out = bench.as_token(&token, Method::DELETE, "/api/v1/session", Value::Null).await;
    assert_eq!(out.status, StatusCode::NO_CONTENT);
    tokio::time::timeout(std::time::Duration::from_secs(10), reading)
        .await
        .expect("it ends")
        .expect("no panic");
}
