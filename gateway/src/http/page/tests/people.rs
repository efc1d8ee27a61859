//! Users and accounts: who may do what is changed by forms, and is so at once.

use super::door::{PASSWORD, bench_with_user, sign_in};
use super::*;

/// Cookies of a browser in which this user signed in.
async fn browser_of(bench: &Bench, name: &str, password: &str) -> String {
    sign_in(bench, &[("name", name), ("password", password)]).await.redirect().1
}

async fn make_user(bench: &Bench, ada: &str, name: &str, role: &str, tags: &str) {
    let fields = [("name", name), ("role", role), ("tags", tags), ("password", PASSWORD)];
    assert_eq!(bench.browse(ada, "/users", ours(&fields)).await.redirect().0, "/users");
}

#[tokio::test]
async fn a_user_is_made_bound_to_tags_and_deleted_with_what_is_theirs() {
    let bench = bench_with_user().await;
    let ada = browser_of(&bench, "ada", PASSWORD).await;
    for (name, tags) in [("shop", json!(["berlin"])), ("ship", json!(["sea"]))] {
        bench.ask(Method::POST, "/api/v1/edges", json!({"name": name, "tags": tags})).await;
    }
    make_user(&bench, &ada, "grace", "operator", "berlin, hamburg").await;
    let listed = bench.browse(&ada, "/users", None).await;
    let html = listed.page();
    assert!(html.contains("data-user-row=\"grace\"") && html.contains("berlin"), "{html}");
    assert!(!html.contains(PASSWORD));

    let grace = browser_of(&bench, "grace", PASSWORD).await;
    let edges = bench.browse(&grace, "/", None).await;
    assert!(edges.page().contains("data-edge=\"shop\"") && !edges.page().contains("data-edge=\"ship\""));
    for path in ["/users", "/settings", "/audit", "/health", "/users/ada"] {
        let refused = bench.browse(&grace, path, None).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{path}");
        assert!(refused.page().contains("data-problem=\"not-allowed\""));
        assert!(!edges.page().contains(&format!("href=\"{path}\"")), "{path} is offered to who may not");
    }

    let rights = [("role", "viewer"), ("tags", "")];
    let changed = bench.browse(&ada, "/users/grace", ours(&rights)).await;
    assert_eq!(changed.redirect().0, "/users/grace");
    assert!(bench.browse(&grace, "/", None).await.page().contains("data-edge=\"ship\""), "at once");

    let asked = bench.browse(&ada, "/users/grace/delete", None).await;
    assert!(
        asked.page().contains("data-confirmation") && asked.page().contains("action=\"/users/grace/delete\"")
    );
    assert_eq!(bench.browse(&ada, "/users/grace/delete", ours(&[])).await.redirect().0, "/users");
    assert_eq!(bench.browse(&grace, "/", None).await.redirect().0, "/sign-in");
}

#[tokio::test]
async fn what_can_not_be_is_said_beside_its_field() {
    let bench = bench_with_user().await;
    let ada = browser_of(&bench, "ada", PASSWORD).await;
    for (name, password, role, field) in [
        ("ada", PASSWORD, "viewer", "name"),
        ("Grace Hopper", PASSWORD, "viewer", "name"),
        ("grace", "short", "viewer", "password"),
        ("grace", PASSWORD, "king", "role"),
    ] {
        let fields = [("name", name), ("role", role), ("password", password)];
        let refused = bench.browse(&ada, "/users", ours(&fields)).await;
        assert!(refused.status.is_client_error(), "{name} {role}");
        let html = refused.page();
        assert!(html.contains(&format!("<a href=\"#{field}\">")) && !html.contains(PASSWORD), "{html}");
    }
    let rights = [("role", "viewer"), ("tags", "")];
    let refused = bench.browse(&ada, "/users/ada", ours(&rights)).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert!(refused.page().contains("last admin"));
    assert_eq!(bench.browse(&ada, "/users/nobody", None).await.status, StatusCode::NOT_FOUND);
    let foreign = bench.browse(&ada, "/users", Some(Sent(&[("name", "eve")], false))).await;
    assert!(foreign.page().contains("data-problem=\"cross-origin\""));
}

#[tokio::test]
async fn a_token_is_shown_once_works_and_is_revoked() {
    let bench = bench_with_user().await;
    let ada = browser_of(&bench, "ada", PASSWORD).await;
    let form = [("label", "<b>nightly</b>"), ("role", "viewer"), ("tags", "berlin"), ("days", "30")];
    let made = bench.browse(&ada, "/account/tokens", ours(&form)).await;
    let html = made.page();
    let token = html.split("tga_").nth(1).and_then(|rest| rest.split('<').next()).expect("a token");
    let account = bench.browse(&ada, "/account", None).await;
    let html = account.page();
    assert!(!html.contains(token) && html.contains("&lt;b&gt;nightly&lt;/b&gt;"), "{html}");
    let path = tags(html)
        .iter()
        .filter_map(|tag| attribute(tag, "href").map(str::to_owned))
        .rfind(|href| href.ends_with("/revoke"))
        .expect("a link");
    assert!(bench.browse(&ada, &path, None).await.page().contains("data-confirmation"));
    let shown = Bench { token: format!("tga_{token}"), router: bench.router.clone(), ..Bench::new().await };
    assert_eq!(shown.get("/api/v1/edges").await.status, StatusCode::OK);
    assert_eq!(shown.get("/api/v1/users").await.status, StatusCode::FORBIDDEN);
    assert_eq!(bench.browse(&ada, &path, ours(&[])).await.redirect().0, "/account");
    assert_eq!(shown.get("/api/v1/edges").await.status, StatusCode::UNAUTHORIZED);
    for (field, value) in [("days", "0"), ("days", "x"), ("label", "")] {
        let mut form = vec![("label", "a"), ("role", "viewer"), ("days", "1")];
        form.retain(|(name, _)| *name != field);
        form.push((field, value));
        let refused = bench.browse(&ada, "/account/tokens", ours(&form)).await;
        assert!(refused.page().contains(&format!("<a href=\"#{field}\">")), "{field}");
    }
}

#[tokio::test]
async fn one_s_own_password_changes_for_who_knows_the_old_one() {
    let bench = bench_with_user().await;
    let (here, elsewhere) =
        (browser_of(&bench, "ada", PASSWORD).await, browser_of(&bench, "ada", PASSWORD).await);
    let new = "another correct horse";
    for (current, again, field) in [("wrong password", new, "current"), (PASSWORD, "different", "again")] {
        let form = [("current", current), ("password", new), ("again", again)];
        let refused = bench.browse(&here, "/account/password", ours(&form)).await;
        assert!(refused.page().contains(&format!("<a href=\"#{field}\">")), "{field}");
    }
    let form = [("current", PASSWORD), ("password", new), ("again", new)];
    assert_eq!(bench.browse(&here, "/account/password", ours(&form)).await.redirect().0, "/account");
    assert_eq!(bench.browse(&here, "/account", None).await.status, StatusCode::OK, "this browser stays");
    assert_eq!(bench.browse(&elsewhere, "/account", None).await.status, StatusCode::SEE_OTHER);
    browser_of(&bench, "ada", new).await;
}

#[tokio::test]
async fn ssh_keys_are_added_and_removed_by_their_owner() {
    let bench = bench_with_user().await;
    let ada = browser_of(&bench, "ada", PASSWORD).await;
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ ada@work";
    for (label, line, field) in [("", key, "key-label"), ("laptop", "no key", "public_key")] {
        let refused =
            bench.browse(&ada, "/account/keys", ours(&[("label", label), ("public_key", line)])).await;
        assert!(refused.page().contains(&format!("<a href=\"#{field}\">")), "{field}");
    }
    bench.create("shop").await;
    let hint = async || bench.browse(&ada, "/edges/shop", None).await.page().contains("add your SSH key");
    assert!(hint().await, "its commands for ssh would be refused");
    let added = bench.browse(&ada, "/account/keys", ours(&[("label", "laptop"), ("public_key", key)])).await;
    assert_eq!(added.redirect().0, "/account");
    assert!(!hint().await);
    let account = bench.browse(&ada, "/account", None).await;
    assert!(account.page().contains("SHA256:") && account.page().contains("laptop"));
    let links = tags(account.page());
    let path = links.iter().filter_map(|tag| attribute(tag, "href")).find(|href| href.ends_with("/remove"));
    let path = path.expect("a link");
    assert!(bench.browse(&ada, path, None).await.page().contains("data-confirmation"));
    assert_eq!(bench.browse(&ada, path, ours(&[])).await.redirect().0, "/account");
    assert!(!bench.browse(&ada, "/account", None).await.page().contains("SHA256:"));
}
