//! Operators' SSH keys: everybody's own, and all of them for who may everything.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use http::StatusCode;
use shared::wire::admin;
use uuid::Uuid;

use crate::access::{KnownKey, Operator, Owner};
use crate::http::ApiState;
use crate::http::audited::Noted;
use crate::http::body::{Json, Path, Query};
use crate::http::paging::{ByAge, PageQuery};
use crate::http::problem::{Code, Problem, Result};

/// `POST /ssh-keys`.
pub(super) async fn add(
    State(state): State<Arc<ApiState>>,
    operator: Operator,
    Json(new): Json<admin::AddSshKey>,
) -> Result<(StatusCode, Extension<Noted>, axum::Json<admin::SshKey>)> {
    let owner = match new.user {
        None => Owner::Maker,
        Some(_) if !operator.may_everything() => {
            let detail =
                "you can add keys of your own only; leave `user` out, or ask an admin over all edges";
            return Err(Problem::new(Code::NotAllowed, detail));
        }
        Some(Some(name)) => Owner::User(state.access.users().find(&name)?.id),
        Some(None) => Owner::Nobody,
    };
    let added = state.access.ssh_keys().add(&operator, owner, &new.label, &new.public_key).await?;
    let noted = noted(&added);
    Ok((StatusCode::CREATED, Extension(noted), axum::Json(to_wire(&state, added))))
}

/// `GET /ssh-keys`.
pub(super) async fn list(
    State(state): State<Arc<ApiState>>,
    operator: Operator,
    Query(query): Query<PageQuery<ByAge>>,
) -> Result<axum::Json<admin::SshKeyList>> {
    let keys = state.access.ssh_keys().visible_to(&operator);
    let (keys, next) = query.cut(keys, |key| ByAge { at: key.record.created_at, id: key.record.id })?;
    Ok(axum::Json(admin::SshKeyList {
        ssh_keys: keys.into_iter().map(|key| to_wire(&state, key)).collect(),
        next,
    }))
}

/// `DELETE /ssh-keys/{key}`.
pub(super) async fn remove(
    State(state): State<Arc<ApiState>>,
    operator: Operator,
    Path(key): Path<Uuid>,
) -> Result<StatusCode> {
    state.access.ssh_keys().remove(&operator, key).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What the audit log gets to know of it.
pub(in crate::http) fn noted(KnownKey { record, fingerprint }: &KnownKey) -> Noted {
    Noted::detail(format!("key {} {:?} {fingerprint}", record.id, record.label))
}

fn to_wire(state: &ApiState, KnownKey { record, fingerprint }: KnownKey) -> admin::SshKey {
    admin::SshKey {
        id: record.id,
        label: record.label,
        fingerprint,
        created_at: record.created_at.to_string(),
        user: record.owner.and_then(|owner| state.access.users().name_of(owner)),
    }
}
