//! One's own account: password, API tokens, SSH keys. An admin over all edges sees everybody's tokens and keys.
//!
//! The rule: a token is on the answer to the form that made it and nowhere else.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use maud::{Markup, html};
use serde::Deserialize;
use shared::id::UserName;
use shared::secret::Secret;
use uuid::Uuid;

use super::form::{Confirmation, Field, Form, Kind, Nothing, Wrong};
use super::frame::{Visit, redirect_with};
use super::parts::{self, Icon, Tone, copyable, icon, notice, tag_list, text};
use super::users::{bounds, role, roles};
use crate::access::{Credential, KnownKey, Operator, Owner, SshKeyError, TokenError, TokenSpec};
use crate::domain::authority::Role;
use crate::domain::people::ApiToken;
use crate::http::ApiState;
use crate::http::admin::{ssh_keys, tokens, users};
use crate::http::body::Path;
use crate::http::operation::Needs;
use crate::http::peer::Peer;
use crate::http::problem::{Code, Problem, Result};

/// A day, in seconds.
const DAY_S: u64 = 24 * 60 * 60;
/// Bounds of a token's life in the form: a day to ten years.
const DAYS: (u32, u32) = (1, 3653);
/// What a new token's form has at first.
const USUAL_DAYS: &str = "90";

/// The form of one's own password.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Password {
    current: String,
    password: String,
    again: String,
}

/// The form of a new token.
#[derive(Debug, Deserialize)]
#[serde(default)]
pub struct NewToken {
    label: String,
    role: String,
    tags: String,
    days: String,
}

impl Default for NewToken {
    fn default() -> Self {
        let role = Role::Viewer.name().to_owned();
        Self { label: String::new(), role, tags: String::new(), days: USUAL_DAYS.to_owned() }
    }
}

/// The form of a new SSH key.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct NewKey {
    label: String,
    public_key: String,
}

/// Everything that the page shows.
struct Account<'a> {
    state: &'a ApiState,
    visit: &'a Visit,
    operator: &'a Operator,
    token: NewToken,
    key: NewKey,
    wrong: Wrong,
}

/// `GET /account`.
pub async fn show(State(state): State<Arc<ApiState>>, visit: Visit, operator: Operator) -> Response {
    Account::new(&state, &visit, &operator).show()
}

/// `POST /account/password`.
pub async fn set_password(
    State(state): State<Arc<ApiState>>,
    peer: Peer,
    visit: Visit,
    operator: Operator,
    Form(form): Form<Password>,
) -> Result<Response> {
    let account = Account::new(&state, &visit, &operator);
    let name = account.user().ok_or_else(no_user)?;
    if form.password != form.again {
        return Ok(account.wrong(Wrong::field("again", "the two passwords differ")).show());
    }
    let current = Secret::new(form.current);
    if let Err(problem) = users::check_current(&state, &name, current, peer).await {
        return Ok(account.wrong(Wrong::refused(problem, |_| Some("current"))).show());
    }
    let keep = match operator.credential {
        Credential::Session(id) => Some(id),
        Credential::Token(_) | Credential::SshKey(_) => None,
    };
    match state.access.users().set_password(&name, Secret::new(form.password), keep).await {
        Ok(()) => Ok(redirect_with("/account", "Your password is changed; other browsers are signed out.")),
        Err(error) => Ok(account.wrong(Wrong::refused(error.into(), |_| Some("password"))).show()),
    }
}

/// `POST /account/tokens`.
pub async fn make_token(
    State(state): State<Arc<ApiState>>,
    visit: Visit,
    operator: Operator,
    Form(form): Form<NewToken>,
) -> Response {
    match make(&state, &operator, &form).await {
        Ok(made) => {
            let noted = Extension(tokens::noted(&made.record));
            (noted, show_token(&visit, &made.record, made.token.expose())).into_response()
        }
        Err(wrong) => Account { token: form, wrong, ..Account::new(&state, &visit, &operator) }.show(),
    }
}

async fn make(
    state: &ApiState,
    operator: &Operator,
    form: &NewToken,
) -> std::result::Result<crate::access::NewToken, Wrong> {
    let life = match form.days.trim() {
        "" => None,
        days => {
            let days = days.parse::<u32>().ok().filter(|days| (DAYS.0..=DAYS.1).contains(days));
            let detail =
                format!("this must be {} to {} days, or empty for a token that never ends", DAYS.0, DAYS.1);
            let days = days.ok_or_else(|| Wrong::field("days", detail))?;
            Some(Duration::from_secs(u64::from(days) * DAY_S))
        }
    };
    let (role, tags) = (Some(role(&form.role)?), bounds(&form.tags));
    let spec = TokenSpec { label: form.label.trim().to_owned(), role, tags, life };
    state.access.tokens().create_by(operator, spec).await.map_err(|error| {
        let field = match &error {
            TokenError::Label => Some("label"),
            TokenError::Tags(_) => Some("tags"),
            TokenError::Life => Some("days"),
            TokenError::More(_) => Some("role"),
            TokenError::Nobody
            | TokenError::Overtaken
            | TokenError::TooMany
            | TokenError::NoSuchToken(_)
            | TokenError::Last
            | TokenError::Store(_) => None,
        };
        Wrong::refused(Problem::from(error), |_| field)
    })
}

/// `GET /account/tokens/{token}/revoke`.
pub async fn ask_revoke(
    State(state): State<Arc<ApiState>>,
    visit: Visit,
    operator: Operator,
    Path(id): Path<Uuid>,
) -> Result<Response> {
    let mut tokens = state.access.tokens().visible_to(&operator).into_iter();
    let token = tokens.find(|token| token.id == id).ok_or(TokenError::NoSuchToken(id))?;
    let body = html! { p { "Whatever uses " strong { (text(&token.label)) } " stops at once." } };
    Ok(ask(&visit, "Revoke this token?", body, "Revoke", &format!("/account/tokens/{id}/revoke")))
}

/// `POST /account/tokens/{token}/revoke`.
pub async fn revoke(
    State(state): State<Arc<ApiState>>,
    operator: Operator,
    Path(id): Path<Uuid>,
    Form(Nothing {}): Form<Nothing>,
) -> Result<Response> {
    state.access.tokens().revoke(&operator, id).await?;
    Ok(redirect_with("/account", "The token is revoked."))
}

/// `POST /account/keys`.
pub async fn add_key(
    State(state): State<Arc<ApiState>>,
    visit: Visit,
    operator: Operator,
    Form(form): Form<NewKey>,
) -> Response {
    let label = form.label.trim();
    match state.access.ssh_keys().add(&operator, Owner::Maker, label, form.public_key.trim()).await {
        Ok(added) => {
            let noted = ssh_keys::noted(&added);
            (Extension(noted), redirect_with("/account", "The key lets its owner in now.")).into_response()
        }
        Err(error) => {
            let field = match &error {
                SshKeyError::Label => Some("key-label"),
                SshKeyError::Key(_) | SshKeyError::Known { .. } => Some("public_key"),
                SshKeyError::TooMany
                | SshKeyError::NoSuchKey(_)
                | SshKeyError::Nobody
                | SshKeyError::More
                | SshKeyError::Store(_) => None,
            };
            let wrong = Wrong::refused(Problem::from(error), |_| field);
            Account { key: form, wrong, ..Account::new(&state, &visit, &operator) }.show()
        }
    }
}

/// `GET /account/keys/{key}/remove`.
pub async fn ask_remove_key(
    State(state): State<Arc<ApiState>>,
    visit: Visit,
    operator: Operator,
    Path(id): Path<Uuid>,
) -> Result<Response> {
    let mut keys = state.access.ssh_keys().visible_to(&operator).into_iter();
    let key = keys.find(|key| key.record.id == id).ok_or(SshKeyError::NoSuchKey(id))?;
    let body = html! {
        p { strong { (text(&key.record.label)) } " no longer gets in with " code { (key.fingerprint) } ", and what is \
            open with it ends." }
    };
    Ok(ask(&visit, "Remove this key?", body, "Remove", &format!("/account/keys/{id}/remove")))
}

/// `POST /account/keys/{key}/remove`.
pub async fn remove_key(
    State(state): State<Arc<ApiState>>,
    operator: Operator,
    Path(id): Path<Uuid>,
    Form(Nothing {}): Form<Nothing>,
) -> Result<Response> {
    state.access.ssh_keys().remove(&operator, id).await?;
    Ok(redirect_with("/account", "The key is removed."))
}

fn ask(visit: &Visit, title: &str, body: Markup, verb: &str, action: &str) -> Response {
    let question = Confirmation { title, body, verb, action, back: "/account" };
    visit.page(title).crumb("Account", "/account").show(question.show())
}

fn no_user() -> Problem {
    Problem::new(Code::NotAllowed, "you came with a token that is no user's, and have no password here")
}

fn show_token(visit: &Visit, record: &ApiToken, token: &str) -> Response {
    visit.page("New token").crumb("Account", "/account").show(html! {
        header .head { h1 { "New token" } }
        section .card {
            (notice(Tone::Note, &html! {
                "This is the only time that the token is shown. Whoever has it may do what the role "
                strong { (record.role) } " allows; keep it as you keep a password."
            }))
            (copyable("token", "Token", token))
            p { a .button href="/account" { "Done" } }
        }
    })
}

impl<'a> Account<'a> {
    fn new(state: &'a ApiState, visit: &'a Visit, operator: &'a Operator) -> Self {
        let (token, key, wrong) = (NewToken::default(), NewKey::default(), Wrong::default());
        Self { state, visit, operator, token, key, wrong }
    }

    fn wrong(self, wrong: Wrong) -> Self {
        Self { wrong, ..self }
    }

    fn user(&self) -> Option<UserName> {
        self.state.access.users().name_of(self.operator.user?)
    }

    fn show(self) -> Response {
        let wrong = &self.wrong;
        self.visit.page("Account").refused(wrong.problem.as_ref()).show(html! {
            header .head { h1 { "Account" } }
            (wrong.show())
            @if self.user().is_some() { (self.password()) }
            (self.tokens())
            @if self.visit.may(Needs::Edges(Role::Operator)) { (self.keys()) }
        })
    }

    fn password(&self) -> Markup {
        let wrong = &self.wrong;
        html! {
            section .card {
                h2 { "Password" }
                form .form method="post" action="/account/password" {
                    (Field::new(Kind::Password, "current", "Present password").required()
                        .autocomplete("current-password").show(wrong))
                    (Field::new(Kind::Password, "password", "New password").required().hint("10 characters at least")
                        .autocomplete("new-password").show(wrong))
                    (Field::new(Kind::Password, "again", "New password, once more").required()
                        .autocomplete("new-password").show(wrong))
                    div .actions { button .primary { "Change" } }
                }
            }
        }
    }

    fn tokens(&self) -> Markup {
        let (wrong, form) = (&self.wrong, &self.token);
        let tokens = self.state.access.tokens().visible_to(self.operator);
        html! {
            section .card {
                h2 { "API tokens" }
                @if tokens.is_empty() { p .muted { "None yet. Scripts and the command line come with one." } }
                @else { (self.token_table(&tokens)) }
                form .form method="post" action="/account/tokens" {
                    (Field::new(Kind::Text, "label", "What it is for").value(&form.label).required().most(100).show(wrong))
                    (roles(&form.role))
                    (Field::new(Kind::Text, "tags", "Tags").value(&form.tags)
                        .hint("Only edges with one of these tags; empty for all that you reach").show(wrong))
                    (Field::new(Kind::Number(DAYS.0, DAYS.1), "days", "Days until it ends").value(&form.days)
                        .hint("Empty for a token that never ends").show(wrong))
                    div .actions { button .primary { (icon(Icon::Add)) "Make a token" } }
                }
            }
        }
    }

    fn token_table(&self, tokens: &[ApiToken]) -> Markup {
        html! {
            div .scroll tabindex="0" role="region" aria-label="API tokens" {
                table {
                    thead {
                        tr { @for heading in ["For", "Whose", "Role", "Edges", "Ends", ""] { th scope="col" { (heading) } } }
                    }
                    tbody {
                        @for token in tokens {
                            tr data-token=(token.id) {
                                th scope="row" { (text(&token.label)) }
                                td { (self.owner(token.owner)) }
                                td { (token.role) }
                                td .wraps { @match &token.tags { Some(tags) => (tag_list(tags)), None => "all" } }
                                td { @match token.expires_at { Some(at) => (parts::time(&at.to_string())), None => "never" } }
                                td { a .button.small.danger href={ "/account/tokens/" (token.id) "/revoke" } data-confirm {
                                    "Revoke" span .unseen { " " (text(&token.label)) }
                                } }
                            }
                        }
                    }
                }
            }
        }
    }

    fn keys(&self) -> Markup {
        let (wrong, form) = (&self.wrong, &self.key);
        let keys = self.state.access.ssh_keys().visible_to(self.operator);
        html! {
            section .card {
                h2 { "SSH keys" }
                @if keys.is_empty() { p .muted { "None yet. With one, ssh reaches every edge that you do." } }
                @else { (self.key_table(&keys)) }
                form .form method="post" action="/account/keys" {
                    // Its id is its own on this page, where tokens have labels too.
                    (Field::new(Kind::Text, "label", "What it is on").id("key-label").value(&form.label).required().most(100)
                        .show(wrong))
                    (Field::new(Kind::Lines, "public_key", "Public key").value(&form.public_key).required()
                        .hint("The line of its .pub file: ssh-ed25519 AAAA...").show(wrong))
                    div .actions { button .primary { (icon(Icon::Add)) "Add the key" } }
                }
            }
        }
    }

    fn key_table(&self, keys: &[KnownKey]) -> Markup {
        html! {
            div .scroll tabindex="0" role="region" aria-label="SSH keys" {
                table {
                    thead { tr { @for heading in ["On", "Whose", "Fingerprint", "Since", ""] { th scope="col" { (heading) } } } }
                    tbody {
                        @for KnownKey { record, fingerprint } in keys {
                            tr data-key=(record.id) {
                                th scope="row" { (text(&record.label)) }
                                td { (self.owner(record.owner)) }
                                td { code { (fingerprint) } }
                                td { (parts::time(&record.created_at.to_string())) }
                                td { a .button.small.danger href={ "/account/keys/" (record.id) "/remove" } data-confirm {
                                    "Remove" span .unseen { " " (text(&record.label)) }
                                } }
                            }
                        }
                    }
                }
            }
        }
    }

    fn owner(&self, owner: Option<Uuid>) -> Markup {
        match owner.and_then(|owner| self.state.access.users().name_of(owner)) {
            Some(name) => html! { (name) },
            None => html! { span .muted { "nobody's" } },
        }
    }
}
