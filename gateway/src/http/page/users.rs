//! Users: who may do what, and to which edges.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use maud::{Markup, html};
use serde::Deserialize;
use shared::id::UserName;
use shared::secret::Secret;

use super::form::{self, Confirmation, Field, Form, Kind, Nothing, Wrong};
use super::frame::{Visit, redirect_with};
use super::parts::{self, Icon, icon, tag_list};
use crate::access::{ChangeUser, NewUser, UserError};
use crate::domain::authority::{NoSuchRole, Role};
use crate::domain::people::User;
use crate::http::ApiState;
use crate::http::admin::users::said;
use crate::http::audited::Noted;
use crate::http::body::Path;
use crate::http::problem::{Problem, Result};

const TAGS_HINT: &str = "Only edges with one of these tags, with commas between them; empty for every edge";
const PASSWORD_HINT: &str = "10 characters at least; empty for somebody who comes with an SSH key only";

/// The form of a new user.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct New {
    name: String,
    role: String,
    tags: String,
    password: String,
}

/// The form of a user's rights.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Rights {
    role: String,
    tags: String,
}

/// The form of a user's password.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Password {
    password: String,
}

/// `GET /users`.
pub async fn list(State(state): State<Arc<ApiState>>, visit: Visit) -> Response {
    show_list(&state, &visit, &New::default(), &Wrong::default())
}

/// `POST /users`.
pub async fn create(State(state): State<Arc<ApiState>>, visit: Visit, Form(form): Form<New>) -> Response {
    match make(&state, &form).await {
        Ok(user) => {
            let flash = format!("{} can come in now.", user.name);
            (Extension(Noted::detail(said(&user))), redirect_with("/users", flash)).into_response()
        }
        Err(wrong) => show_list(&state, &visit, &form, &wrong),
    }
}

async fn make(state: &ApiState, form: &New) -> std::result::Result<User, Wrong> {
    let name =
        form.name.trim().parse().map_err(|error| Wrong::field("name", format!("the name is {error}")))?;
    let password = Some(form.password.as_str()).filter(|password| !password.is_empty()).map(Secret::from);
    let new = NewUser { name, password, role: role(&form.role)?, tags: bounds(&form.tags) };
    state.access.users().create(new).await.map_err(refused)
}

/// `GET /users/{user}`.
pub async fn show(
    State(state): State<Arc<ApiState>>,
    visit: Visit,
    Path(name): Path<UserName>,
) -> Result<Response> {
    Ok(show_user(&visit, &state.access.users().find(&name)?, &Wrong::default()))
}

/// `POST /users/{user}`.
pub async fn change(
    State(state): State<Arc<ApiState>>,
    visit: Visit,
    Path(name): Path<UserName>,
    Form(form): Form<Rights>,
) -> Result<Response> {
    let users = state.access.users();
    let changed = match role(&form.role) {
        Ok(role) => {
            let change = ChangeUser { role: Some(role), tags: Some(bounds(&form.tags)) };
            users.change(&name, change).await.map_err(refused)
        }
        Err(wrong) => Err(wrong),
    };
    match changed {
        Ok(user) => {
            let flash = format!("{name} is changed, as are what they have open.");
            let noted = Extension(Noted::detail(said(&user)));
            Ok((noted, redirect_with(&format!("/users/{name}"), flash)).into_response())
        }
        Err(wrong) => Ok(show_user(&visit, &users.find(&name)?, &wrong)),
    }
}

/// `POST /users/{user}/password`.
pub async fn set_password(
    State(state): State<Arc<ApiState>>,
    visit: Visit,
    Path(name): Path<UserName>,
    Form(form): Form<Password>,
) -> Result<Response> {
    let users = state.access.users();
    match users.set_password(&name, Secret::new(form.password), None).await {
        Ok(()) => {
            let flash = format!("{name} has a new password, and is signed out everywhere.");
            Ok(redirect_with(&format!("/users/{name}"), flash))
        }
        Err(error) => Ok(show_user(&visit, &users.find(&name)?, &refused(error))),
    }
}

/// `GET /users/{user}/delete`.
pub async fn ask_delete(
    State(state): State<Arc<ApiState>>,
    visit: Visit,
    Path(name): Path<UserName>,
) -> Result<Response> {
    let user = state.access.users().find(&name)?;
    let (action, back) = (format!("/users/{}/delete", user.name), format!("/users/{}", user.name));
    Ok(visit.page(format!("Delete {}", user.name)).crumb("Users", "/users").show(
        Confirmation {
            title: &format!("Delete {}?", user.name),
            body: html! { p { "Their API tokens and SSH keys go with them, and what they have open ends." } },
            verb: "Delete",
            action: &action,
            back: &back,
        }
        .show(),
    ))
}

/// `POST /users/{user}/delete`.
pub async fn delete(
    State(state): State<Arc<ApiState>>,
    Path(name): Path<UserName>,
    Form(Nothing {}): Form<Nothing>,
) -> Result<Response> {
    state.access.users().delete(&name).await?;
    Ok(redirect_with("/users", format!("{name} is deleted.")))
}

fn show_list(state: &ApiState, visit: &Visit, form: &New, wrong: &Wrong) -> Response {
    let users = state.access.users().list();
    visit.page("Users").refused(wrong.problem.as_ref()).show(html! {
        header .head { h1 { "Users" } }
        div .scroll tabindex="0" role="region" aria-label="Users" {
            table {
                thead { tr { @for heading in ["Name", "Role", "Edges", "Signs in", "Since"] { th scope="col" { (heading) } } } }
                tbody { @for user in &users { (row(user)) } }
            }
        }
        section .card {
            h2 { "New user" }
            (wrong.show())
            form .form method="post" action="/users" {
                (Field::new(Kind::Text, "name", "Name").value(&form.name).required().autocomplete("off").show(wrong))
                (roles(&form.role))
                (Field::new(Kind::Text, "tags", "Tags").value(&form.tags).hint(TAGS_HINT).show(wrong))
                (Field::new(Kind::Password, "password", "Password").hint(PASSWORD_HINT).autocomplete("new-password")
                    .show(wrong))
                div .actions { button .primary { (icon(Icon::Add)) "Create" } }
            }
        }
    })
}

fn row(user: &User) -> Markup {
    html! {
        tr data-user-row=(user.name) {
            th scope="row" { a href={ "/users/" (user.name) } { (user.name) } }
            td { (user.role) }
            td .wraps { (edges(user)) }
            td { @if user.password.is_some() { "with a password" } @else { "with SSH keys only" } }
            td { (parts::time(&user.created_at.to_string())) }
        }
    }
}

fn show_user(visit: &Visit, user: &User, wrong: &Wrong) -> Response {
    let own = format!("/users/{}", user.name);
    visit.page(user.name.as_str()).refused(wrong.problem.as_ref()).crumb("Users", "/users").show(html! {
        header .head {
            h1 { (user.name) }
            a .button.danger href={ (own) "/delete" } data-confirm { "Delete" }
        }
        (wrong.show())
        section .card {
            h2 { "Rights" }
            form .form method="post" action=(own) {
                (roles(user.role.name()))
                (Field::new(Kind::Text, "tags", "Tags")
                    .value(&user.tags.as_deref().unwrap_or_default().join(", ")).hint(TAGS_HINT).show(wrong))
                div .actions { button .primary { "Save" } }
            }
        }
        section .card {
            h2 { "Password" }
            form .form method="post" action={ (own) "/password" } {
                (Field::new(Kind::Password, "password", "New password").required().hint("10 characters at least")
                    .autocomplete("new-password").show(wrong))
                div .actions { button { "Set" } }
            }
        }
    })
}

fn edges(user: &User) -> Markup {
    match &user.tags {
        Some(tags) => tag_list(tags),
        None => html! { "every edge" },
    }
}

/// What roles there are, to choose from.
pub fn roles(chosen: &str) -> Markup {
    let says = |role| match role {
        Role::Viewer => "Viewer: looks at edges",
        Role::Operator => "Operator: opens tunnels and uses services",
        Role::Admin => "Admin: changes edges, and with all of them the gateway",
    };
    html! {
        div .field {
            label for="role" { "Role" }
            select #role name="role" {
                @for role in Role::ALL { option value=(role) selected[role.name() == chosen] { (says(role)) } }
            }
        }
    }
}

/// The role that a form's list gave.
pub fn role(text: &str) -> std::result::Result<Role, Wrong> {
    text.parse().map_err(|error: NoSuchRole| Wrong::field("role", error.to_string()))
}

/// Bounds as they are typed; none is every edge.
pub fn bounds(typed: &str) -> Option<Vec<String>> {
    Some(form::tags(typed)).filter(|tags| !tags.is_empty())
}

fn refused(error: UserError) -> Wrong {
    let field = match &error {
        UserError::NameTaken(_) => Some("name"),
        UserError::Password(_) => Some("password"),
        UserError::Tags(_) => Some("tags"),
        UserError::TooMany
        | UserError::Stale
        | UserError::NoSuchUser(_)
        | UserError::LastAdmin(_)
        | UserError::NotFirst
        | UserError::Store(_) => None,
    };
    Wrong::refused(Problem::from(error), |_| field)
}
