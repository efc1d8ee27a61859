//! How records of people and their credentials are written. The rule is that of the whole format ([`super`]); besides, a
//! record that an older release could know is written as that release wrote it.

use serde::{Deserialize, Serialize};
use shared::id::UserName;
use uuid::Uuid;

use super::{V1, V2, body_of, digest, encoded_digest, from_json, json};
use crate::domain::authority::Role;
use crate::domain::edge::Timestamp;
use crate::domain::people::{ApiToken, Session, SshKey, User};

/// A user as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct UserV1 {
    name: UserName,
    /// PHC.
    password: Option<String>,
    role: String,
    tags: Option<Vec<String>>,
    created_at: u64,
}

pub(super) fn user_value(user: &User) -> Vec<u8> {
    let User { id: _, name, password, role, tags, created_at } = user.clone();
    json(V1, &UserV1 { name, password, role: role.to_string(), tags, created_at: created_at.0 })
}

pub(super) fn user(id: Uuid, value: &[u8]) -> Result<User, String> {
    let UserV1 { name, password, role, tags, created_at } = from_json(value)?;
    Ok(User { id, name, password, role: parse_role(&role)?, tags, created_at: Timestamp(created_at) })
}

/// A session as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SessionV1 {
    /// base64url.
    digest: String,
    user: Uuid,
    created_at: u64,
    expires_at: u64,
}

pub(super) fn session_value(session: &Session) -> Vec<u8> {
    let written = SessionV1 {
        digest: encoded_digest(&session.digest),
        user: session.user,
        created_at: session.created_at.0,
        expires_at: session.expires_at.0,
    };
    json(V1, &written)
}

pub(super) fn session(id: Uuid, value: &[u8]) -> Result<Session, String> {
    let SessionV1 { digest: text, user, created_at, expires_at } = from_json(value)?;
    let (created_at, expires_at) = (Timestamp(created_at), Timestamp(expires_at));
    Ok(Session { id, digest: digest(&text)?, user, created_at, expires_at })
}

/// A token of the admin API that allows everything for ever and is nobody's, as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenV1 {
    label: String,
    /// base64url.
    digest: String,
    created_at: u64,
}

/// Any other token, as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenV2 {
    token: TokenV1,
    role: String,
    tags: Option<Vec<String>>,
    expires_at: Option<u64>,
    owner: Option<Uuid>,
}

pub(super) fn token_value(token: &ApiToken) -> Vec<u8> {
    let first = TokenV1 {
        label: token.label.clone(),
        digest: encoded_digest(&token.digest),
        created_at: token.created_at.0,
    };
    match token {
        ApiToken { role: Role::Admin, tags: None, expires_at: None, owner: None, .. } => json(V1, &first),
        ApiToken { role, tags, expires_at, owner, .. } => {
            let (role, tags, owner) = (role.to_string(), tags.clone(), *owner);
            json(V2, &TokenV2 { token: first, role, tags, expires_at: expires_at.map(|at| at.0), owner })
        }
    }
}

pub(super) fn token(id: Uuid, value: &[u8]) -> Result<ApiToken, String> {
    let second: TokenV2 = match body_of(V2, value) {
        Some(body) => serde_json::from_slice(body).map_err(|error| error.to_string())?,
        None => {
            let role = Role::Admin.to_string();
            TokenV2 { token: from_json(value)?, role, tags: None, expires_at: None, owner: None }
        }
    };
    let TokenV2 { token: TokenV1 { label, digest: text, created_at }, role, tags, expires_at, owner } =
        second;
    Ok(ApiToken {
        id,
        label,
        digest: digest(&text)?,
        created_at: Timestamp(created_at),
        role: parse_role(&role)?,
        tags,
        expires_at: expires_at.map(Timestamp),
        owner,
    })
}

/// An operator's SSH key that is nobody's in particular, as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SshKeyV1 {
    label: String,
    /// As in a `.pub` file, without the comment.
    key: String,
    created_at: u64,
}

/// A user's SSH key as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SshKeyV2 {
    ssh_key: SshKeyV1,
    owner: Uuid,
}

pub(super) fn ssh_key_value(ssh_key: &SshKey) -> Vec<u8> {
    let first =
        SshKeyV1 { label: ssh_key.label.clone(), key: ssh_key.key.clone(), created_at: ssh_key.created_at.0 };
    match ssh_key.owner {
        None => json(V1, &first),
        Some(owner) => json(V2, &SshKeyV2 { ssh_key: first, owner }),
    }
}

pub(super) fn ssh_key(id: Uuid, value: &[u8]) -> Result<SshKey, String> {
    let (SshKeyV1 { label, key, created_at }, owner) = match body_of(V2, value) {
        Some(body) => {
            let SshKeyV2 { ssh_key, owner } =
                serde_json::from_slice(body).map_err(|error| error.to_string())?;
            (ssh_key, Some(owner))
        }
        None => (from_json(value)?, None),
    };
    Ok(SshKey { id, label, key, created_at: Timestamp(created_at), owner })
}

fn parse_role(text: &str) -> Result<Role, String> {
    text.parse().map_err(|_| format!("this version of tidegate knows no role {text:?}"))
}

#[cfg(test)]
mod tests {
    use shared::id::KeyDigest;

    use super::*;

    fn plain_token() -> ApiToken {
        ApiToken {
            id: Uuid::from_bytes([4; 16]),
            label: "ci".into(),
            digest: KeyDigest([8; 32]),
            created_at: Timestamp(7),
            role: Role::Admin,
            tags: None,
            expires_at: None,
            owner: None,
        }
    }

    /// Whatever the first release could know is written so that it reads it.
    #[test]
    fn a_token_that_allows_everything_is_written_as_ever_and_others_with_their_bounds() {
        let written = |token: &ApiToken| String::from_utf8(token_value(token)).expect("text");
        assert_eq!(
            written(&plain_token()),
            "\u{1}{\"label\":\"ci\",\"digest\":\"CAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg\",\"created_at\":7}"
        );
        let owner = Some(Uuid::from_bytes([5; 16]));
        let bound = ApiToken { tags: Some(vec!["berlin".into()]), owner, ..plain_token() };
        assert_eq!(
            written(&bound),
            "\u{2}{\"token\":{\"label\":\"ci\",\"digest\":\"CAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg\",\
             \"created_at\":7},\"role\":\"admin\",\"tags\":[\"berlin\"],\"expires_at\":null,\
             \"owner\":\"05050505-0505-0505-0505-050505050505\"}"
        );
        for token in [
            plain_token(),
            bound,
            ApiToken { role: Role::Viewer, ..plain_token() },
            ApiToken { expires_at: Some(Timestamp(9)), ..plain_token() },
            ApiToken { tags: Some(vec![]), ..plain_token() },
        ] {
            assert_eq!(super::token(token.id, &token_value(&token)), Ok(token));
        }
    }

    #[test]
    fn a_user_is_written_as_ever() {
        let user = User {
            id: Uuid::from_bytes([5; 16]),
            name: "ada".parse().expect("a name"),
            password: Some("$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA".into()),
            role: Role::Operator,
            tags: Some(vec!["berlin".into()]),
            created_at: Timestamp(7),
        };
        assert_eq!(
            String::from_utf8(user_value(&user)).expect("text"),
            "\u{1}{\"name\":\"ada\",\"password\":\"$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA\",\
             \"role\":\"operator\",\"tags\":[\"berlin\"],\"created_at\":7}"
        );
        assert_eq!(super::user(user.id, &user_value(&user)), Ok(user));
    }

    #[test]
    fn a_role_of_a_later_release_is_an_error_and_no_other_role() {
        let value =
            b"\x01{\"name\":\"ada\",\"password\":null,\"role\":\"auditor\",\"tags\":null,\"created_at\":7}";
        assert!(super::user(Uuid::nil(), value).expect_err("unknown").contains("auditor"));
    }
}
