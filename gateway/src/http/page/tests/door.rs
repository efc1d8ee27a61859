//! The first run, signing in, signing out.

use http::header::RETRY_AFTER;

use super::*;

pub const PASSWORD: &str = "correct horse battery";

/// A bench with a user, as whose browser signs in.
pub async fn bench_with_user() -> Bench {
    let bench = Bench::new().await;
    let code = bench.access.set_up_code().expect("nobody is there");
    let fields =
        [("code", code.expose().as_str()), ("name", "ada"), ("password", PASSWORD), ("again", PASSWORD)];
    let answer = bench.browse("", "/setup", ours(&fields)).await;
    assert_eq!(answer.redirect().0, "/");
    bench
}

pub async fn sign_in(bench: &Bench, fields: &[(&str, &str)]) -> Answer {
    bench.browse("", "/sign-in", ours(fields)).await
}

#[tokio::test]
async fn first_run_makes_a_user_for_who_has_the_code_and_signs_them_in() {
    let bench = Bench::new().await;
    assert_eq!(bench.browse("", "/", None).await.redirect().0, "/sign-in");
    assert_eq!(bench.browse("", "/sign-in", None).await.redirect().0, "/setup");
    let asked = bench.browse("", "/setup", None).await;
    assert!(asked.page().contains("name=\"code\"") && asked.page().contains("action=\"/setup\""));
    assert!(!asked.page().contains("aria-label=\"Sections\""), "nobody is signed in");

    let wrong =
        [("code", "0000-0000-0000-0000"), ("name", "ada"), ("password", PASSWORD), ("again", PASSWORD)];
    let refused = bench.browse("", "/setup", ours(&wrong)).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let html = refused.page();
    assert!(
        html.contains("role=\"alert\"") && html.contains("value=\"ada\"") && !html.contains(PASSWORD),
        "{html}"
    );
    assert!(html.contains("aria-describedby=\"code-hint code-error\""), "{html}");
    let code = bench.access.set_up_code().expect("nobody is there");
    let code = code.expose().as_str();
    for (name, password, again, status) in [
        ("Ada Lovelace", PASSWORD, PASSWORD, 422),
        ("ada", PASSWORD, "another one", 422),
        ("ada", "short", "short", 422),
    ] {
        let fields = [("code", code), ("name", name), ("password", password), ("again", again)];
        let answer = bench.browse("", "/setup", ours(&fields)).await;
        assert_eq!(answer.status.as_u16(), status, "{name} {password}");
        assert!(answer.page().contains("role=\"alert\""));
    }

    let right = [("code", code), ("name", "ada"), ("password", PASSWORD), ("again", PASSWORD)];
    let foreign = bench.browse("", "/setup", Some(Sent(&right, false))).await;
    assert_eq!(foreign.status, StatusCode::FORBIDDEN);
    assert!(foreign.page().contains("data-problem=\"cross-origin\""));
    let done = bench.browse("", "/setup", ours(&right)).await;
    let (path, cookies) = done.redirect();
    assert_eq!(path, "/");
    let first = bench.browse(&cookies, path, None).await;
    assert!(first.page().contains("Welcome, ada.") && first.page().contains("aria-label=\"Sections\""));
    let gone = first.headers.get_all(SET_COOKIE).iter().any(|cookie| {
        cookie
            .to_str()
            .is_ok_and(|cookie| cookie.starts_with("tidegate-flash=;") && cookie.contains("Max-Age=0"))
    });
    assert!(gone, "a word is said once");
    assert_eq!(bench.browse("", "/setup", None).await.redirect().0, "/sign-in");
    assert_eq!(bench.browse("", "/setup", ours(&right)).await.redirect().0, "/sign-in");
}

#[tokio::test]
async fn sign_in_leads_to_where_somebody_wanted_to_go() {
    let bench = bench_with_user().await;
    let asked = bench.browse("", "/?q=a+b&status=online", None).await;
    let (path, _) = asked.redirect();
    assert_eq!(path, "/sign-in?next=%2F%3Fq%3Da%2Bb%26status%3Donline");
    let form = bench.browse("", path, None).await;
    assert!(form.page().contains("name=\"next\" value=\"/?q=a+b&amp;status=online\""), "{}", form.page());
    let done =
        sign_in(&bench, &[("name", "ada"), ("password", PASSWORD), ("next", "/?q=a+b&status=online")]).await;
    let (path, cookies) = done.redirect();
    assert_eq!(path, "/?q=a+b&status=online");
    assert!(cookies.starts_with("__Host-tidegate="), "{cookies}");
    assert!(bench.browse(&cookies, path, None).await.page().contains("data-user>ada<"));
    let elsewhere =
        sign_in(&bench, &[("name", "ada"), ("password", PASSWORD), ("next", "//evil.example/")]).await;
    assert_eq!(elsewhere.redirect().0, "/");
}

#[tokio::test]
async fn wrong_password_is_said_and_many_are_slowed_down() {
    let bench = bench_with_user().await;
    for _ in 0..5 {
        let refused = sign_in(&bench, &[("name", "ada"), ("password", "not this one")]).await;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
        let html = refused.page();
        assert!(html.contains("Name or password is wrong") && html.contains("value=\"ada\""), "{html}");
        assert!(!html.contains("not this one"));
    }
    // Another account, so that only what comes from here counts.
    let refused = loop {
        let refused = sign_in(&bench, &[("name", "eve"), ("password", "not this one")]).await;
        if refused.status != StatusCode::UNAUTHORIZED {
            break refused;
        }
    };
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(refused.page().contains("Too many attempts") && refused.headers.contains_key(RETRY_AFTER));
}

#[tokio::test]
async fn sign_out_is_asked_for_and_ends_the_session() {
    let bench = bench_with_user().await;
    let cookies = sign_in(&bench, &[("name", "ada"), ("password", PASSWORD)]).await.redirect().1;
    let asked = bench.browse(&cookies, "/sign-out", None).await;
    assert!(
        asked.page().contains("data-confirmation")
            && asked.page().contains("method=\"post\" action=\"/sign-out\"")
    );
    let foreign = bench.browse(&cookies, "/sign-out", Some(Sent(&[], false))).await;
    assert_eq!(foreign.status, StatusCode::FORBIDDEN, "another site's page signs nobody out");
    let done = bench.browse(&cookies, "/sign-out", ours(&[])).await;
    let (path, left) = done.redirect();
    assert_eq!(path, "/sign-in");
    assert!(left.contains("__Host-tidegate=;") || left.ends_with("__Host-tidegate="), "{left}");
    assert_eq!(bench.browse(&cookies, "/", None).await.redirect().0, "/sign-in");
    let late = bench.browse(&cookies, "/sign-out", ours(&[])).await;
    let (path, flash) = late.redirect();
    assert_eq!(path, "/sign-in?next=%2Fsign-out");
    assert!(bench.browse(&flash, path, None).await.page().contains("nothing was changed"));
}
