//! The way in and out: the first run, signing in, signing out.
//!
//! The rule: what a browser is told here is what the API tells a program; and after a sign-in it goes to a path of this
//! gateway, whatever its address asked for.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::header::SET_COOKIE;
use maud::{Markup, html};
use serde::Deserialize;
use shared::id::UserName;
use shared::secret::Secret;

use super::form::{Confirmation, Field, Form, Kind, Nothing, Wrong};
use super::frame::{Visit, redirect, redirect_with};
use crate::access::{Credential, Operator};
use crate::http::audited::Noted;
use crate::http::body::Query;
use crate::http::peer::Peer;
use crate::http::problem::{Code, Problem, Result};
use crate::http::{ApiState, cookie};

/// Longest path that a sign-in leads on to: a search with some words.
const MAX_NEXT: usize = 1024;

/// The form of the first run.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct SetUp {
    code: String,
    name: String,
    password: String,
    again: String,
}

/// The form of a sign-in.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct SignIn {
    name: String,
    password: String,
    next: String,
}

/// Where a sign-in leads.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Next {
    next: String,
}

/// `GET /setup`.
pub async fn ask_set_up(State(state): State<Arc<ApiState>>, visit: Visit) -> Response {
    if state.access.set_up_code().is_none() {
        return redirect("/sign-in");
    }
    show_set_up(&visit, &SetUp::default(), &Wrong::default())
}

/// `POST /setup`.
pub async fn set_up(
    State(state): State<Arc<ApiState>>,
    peer: Peer,
    visit: Visit,
    Form(form): Form<SetUp>,
) -> Result<Response> {
    let from = peer.address.ip();
    let wrong = match form.name.trim().parse::<UserName>() {
        Err(error) => Wrong::field("name", format!("the name is {error}")),
        Ok(_) if form.password != form.again => Wrong::field("again", "the two passwords differ"),
        Ok(name) => {
            let (code, password) = (Secret::from(form.code.trim()), Secret::from(form.password.as_str()));
            match state.access.set_up(&code, name, password, from).await.map_err(Problem::from) {
                Ok(user) => {
                    let greeting = format!("Welcome, {}. The gateway is set up.", user.name);
                    let answer = redirect_with("/", greeting);
                    return enter(&state, peer, user.name.as_str(), &form.password, answer).await;
                }
                Err(problem) if problem.code() == Code::AlreadySetUp => return Ok(redirect("/sign-in")),
                Err(problem) => Wrong::refused(problem, |code| match code {
                    Code::SetUpCodeWrong | Code::TooManyAttempts => Some("code"),
                    Code::InvalidField => Some("password"),
                    _ => None,
                }),
            }
        }
    };
    Ok(show_set_up(&visit, &form, &wrong))
}

/// `GET /sign-in`.
pub async fn ask_sign_in(
    State(state): State<Arc<ApiState>>,
    visit: Visit,
    Query(Next { next }): Query<Next>,
) -> Response {
    if state.access.set_up_code().is_some() {
        return redirect("/setup");
    }
    show_sign_in(&visit, &SignIn { next, ..SignIn::default() }, &Wrong::default())
}

/// `POST /sign-in`.
pub async fn sign_in(
    State(state): State<Arc<ApiState>>,
    peer: Peer,
    visit: Visit,
    Form(form): Form<SignIn>,
) -> Result<Response> {
    let answer = redirect(local(&form.next));
    enter(&state, peer, form.name.trim(), &form.password, answer).await.or_else(|problem| {
        match problem.code() {
            Code::SignInRefused | Code::TooManyAttempts => {
                let noted = Noted::tried(&state.access, form.name.trim());
                let mut again = show_sign_in(&visit, &form, &Wrong::refused(problem, |_| None));
                again.extensions_mut().insert(noted);
                Ok(again)
            }
            _ => Err(problem),
        }
    })
}

/// `GET /sign-out`.
pub async fn ask_sign_out(visit: Visit) -> Response {
    visit.page("Sign out").show(
        Confirmation {
            title: "Sign out?",
            body: html! { p { "Tunnels that you opened stay open until they are idle." } },
            verb: "Sign out",
            action: "/sign-out",
            back: "/",
        }
        .show(),
    )
}

/// `POST /sign-out`.
pub async fn sign_out(
    State(state): State<Arc<ApiState>>,
    peer: Peer,
    operator: Operator,
    Form(Nothing {}): Form<Nothing>,
) -> Result<Response> {
    match operator.credential {
        Credential::Session(id) => state.access.sessions().end(id).await?,
        // Nothing that a browser could forget.
        Credential::Token(_) | Credential::SshKey(_) => {}
    }
    let mut response = redirect_with("/sign-in", "You are signed out.");
    response.headers_mut().append(SET_COOKIE, cookie::end(peer));
    Ok(response)
}

/// Signs in, and gives the browser its cookie with the answer.
async fn enter(
    state: &ApiState,
    peer: Peer,
    name: &str,
    password: &str,
    mut answer: Response,
) -> Result<Response> {
    let (user, session) = state.access.sign_in(name, Secret::from(password), peer.address.ip()).await?;
    tracing::info!(user = %user.name, peer = %peer.address.ip(), "signed in");
    let actor =
        state.access.operator(Credential::Session(session.record.id)).map(|operator| (&operator).into());
    answer.extensions_mut().insert(Noted { actor, ..Noted::default() });
    answer.headers_mut().append(SET_COOKIE, cookie::begin(&session, peer));
    Ok(answer)
}

/// A path of this gateway: what was asked for if it is one, or else the first page. Browsers take `//host` and `/\host` for
/// other hosts.
fn local(next: &str) -> &str {
    let is_plain =
        next.len() <= MAX_NEXT && next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if is_plain && next.starts_with('/') && !next.starts_with("//") { next } else { "/" }
}

fn show_set_up(visit: &Visit, form: &SetUp, wrong: &Wrong) -> Response {
    let body = html! {
        section .card {
            h1 { "Set up this gateway" }
            p { "Make the first user, who may do everything. The gateway's log has shown the set-up code at its start." }
            (wrong.show())
            form .form method="post" action="/setup" {
                (Field::new(Kind::Text, "code", "Set-up code").value(&form.code).required().first()
                    .hint("Like 1A2B-3C4D-5E6F-7G8H").show(wrong))
                (Field::new(Kind::Text, "name", "Your name").value(&form.name).required().autocomplete("username")
                    .hint("Small letters, digits and hyphens").show(wrong))
                (Field::new(Kind::Password, "password", "Password").required().autocomplete("new-password").show(wrong))
                (Field::new(Kind::Password, "again", "Password, once more").required().autocomplete("new-password")
                    .show(wrong))
                div .actions { button .primary { "Set up" } }
            }
        }
    };
    visit.page("Set up").refused(wrong.problem.as_ref()).show(body)
}

fn show_sign_in(visit: &Visit, form: &SignIn, wrong: &Wrong) -> Response {
    let next = local(&form.next);
    let body: Markup = html! {
        section .card {
            h1 { "Sign in" }
            (wrong.show())
            form .form method="post" action="/sign-in" {
                @if next != "/" { input type="hidden" name="next" value=(next); }
                (Field::new(Kind::Text, "name", "Name").value(&form.name).required().first().autocomplete("username")
                    .show(wrong))
                (Field::new(Kind::Password, "password", "Password").required().autocomplete("current-password")
                    .show(wrong))
                div .actions { button .primary { "Sign in" } }
            }
        }
    };
    visit.page("Sign in").refused(wrong.problem.as_ref()).show(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_this_gateway_are_gone_to() {
        for good in ["/", "/edges/shop", "/?q=a+b&status=online", "/%2F%2Fevil"] {
            assert_eq!(local(good), good);
        }
        let long = format!("/{}", "a".repeat(MAX_NEXT));
        for bad in [
            "",
            "//evil.example",
            "/\\evil",
            "https://evil.example",
            "evil",
            "/a\r\nx: y",
            "/ä",
            "/a b",
            &long,
        ] {
            assert_eq!(local(bad), "/", "{bad}");
        }
    }
}
