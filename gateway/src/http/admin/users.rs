//! Users.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::LOCATION;
use http::{HeaderValue, StatusCode};
use shared::id::UserName;
use shared::secret::Secret;
use shared::wire::admin;

use crate::access::{ChangeUser, Credential, NewUser, Operator, SignInError};
use crate::domain::people::User;
use crate::domain::version::Version;
use crate::http::ApiState;
use crate::http::audited::Noted;
use crate::http::body::{Json, Path, Query};
use crate::http::conditional::{IfMatch, Tagged};
use crate::http::paging::PageQuery;
use crate::http::peer::Peer;
use crate::http::problem::{Code, Problem, Result};

/// `POST /users`.
pub(super) async fn create(
    State(state): State<Arc<ApiState>>,
    Json(new): Json<admin::CreateUser>,
) -> Result<Response> {
    let admin::CreateUser { name, password, role, tags } = new;
    let user = state.access.users().create(NewUser { name, password, role: role.into(), tags }).await?;
    let noted = Noted::detail(said(&user));
    let location = HeaderValue::try_from(format!("/api/v1/users/{}", user.name))
        .expect("a DNS label has no character that a header could not have");
    Ok((StatusCode::CREATED, Extension(noted), [(LOCATION, location)], axum::Json(to_wire(user)))
        .into_response())
}

/// `GET /users`.
pub(super) async fn list(
    State(state): State<Arc<ApiState>>,
    Query(query): Query<PageQuery<UserName>>,
) -> Result<axum::Json<admin::UserList>> {
    let (users, next) = query.cut(state.access.users().list(), |user| user.name.clone())?;
    Ok(axum::Json(admin::UserList { users: users.into_iter().map(to_wire).collect(), next }))
}

/// `GET /users/{user}`.
pub(super) async fn show(
    State(state): State<Arc<ApiState>>,
    Path(name): Path<UserName>,
) -> Result<Tagged<admin::User>> {
    Ok(tagged(state.access.users().find(&name)?))
}

/// `PATCH /users/{user}`.
pub(super) async fn change(
    State(state): State<Arc<ApiState>>,
    Path(name): Path<UserName>,
    IfMatch(condition): IfMatch,
    Json(change): Json<admin::ChangeUser>,
) -> Result<(Extension<Noted>, Tagged<admin::User>)> {
    let change = ChangeUser { role: change.role.map(Into::into), tags: change.tags };
    let user = state.access.users().provided(condition).change(&name, change).await?;
    Ok((Extension(Noted::detail(said(&user))), tagged(user)))
}

/// `DELETE /users/{user}`.
pub(super) async fn delete(
    State(state): State<Arc<ApiState>>,
    Path(name): Path<UserName>,
    IfMatch(condition): IfMatch,
) -> Result<StatusCode> {
    state.access.users().provided(condition).delete(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `PUT /users/{user}/password`: one's own with the old one, so that a browser that was left open is not enough; and
/// anybody else's for who may everything.
pub(super) async fn set_password(
    State(state): State<Arc<ApiState>>,
    peer: Peer,
    operator: Operator,
    Path(name): Path<UserName>,
    Json(new): Json<admin::SetPassword>,
) -> Result<StatusCode> {
    let users = state.access.users();
    let own = operator.user.and_then(|user| users.name_of(user)).is_some_and(|own| own == name);
    if own {
        check_current(&state, &name, new.current.unwrap_or_else(|| "".into()), peer).await?;
    } else if !operator.may_everything() {
        let detail = "you can set your own password only; ask an admin over all edges to set others'";
        return Err(Problem::new(Code::NotAllowed, detail));
    }
    let keep = match operator.credential {
        Credential::Session(id) if own => Some(id),
        Credential::Session(_) | Credential::Token(_) | Credential::SshKey(_) => None,
    };
    users.set_password(&name, new.password, keep).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Whether `current` is the password of the user.
pub(in crate::http) async fn check_current(
    state: &ApiState,
    name: &UserName,
    current: Secret<String>,
    peer: Peer,
) -> Result<()> {
    state.access.knows_password(name, current, peer.address.ip()).await.map_err(wrong_password)
}

/// Whoever asks is signed in, so that a wrong password is no lack of that.
fn wrong_password(error: SignInError) -> Problem {
    match error {
        SignInError::Wrong => {
            let detail = "`current` is not your password; who has forgotten it asks an admin for a new one";
            Problem::new(Code::WrongPassword, detail)
        }
        SignInError::TooMany(_) | SignInError::Password(_) | SignInError::Store(_) => error.into(),
    }
}

/// What they may, for the audit log.
pub(in crate::http) fn said(user: &User) -> String {
    match &user.tags {
        Some(tags) => format!("user {}: {} of {}", user.name, user.role, tags.join(", ")),
        None => format!("user {}: {} of every edge", user.name, user.role),
    }
}

fn tagged(user: User) -> Tagged<admin::User> {
    let version = Version::of(&user.changeable());
    Tagged(version, to_wire(user))
}

pub(super) fn to_wire(user: User) -> admin::User {
    admin::User {
        name: user.name,
        id: user.id,
        role: user.role.into(),
        tags: user.tags,
        has_password: user.password.is_some(),
        created_at: user.created_at.to_string(),
    }
}
