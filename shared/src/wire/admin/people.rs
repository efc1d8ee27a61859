//! People and what they come with: signing in, users, API tokens, SSH keys.
//!
//! The rule: what is a secret travels in a [`Secret`], which no log shows, or stands in the one answer that ever has it.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::present;
use crate::id::UserName;
use crate::secret::{Secret, exposed};

/// What somebody may do. Each role includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Looks.
    Viewer,
    /// Uses edges.
    Operator,
    /// Changes edges, and with a reach over all of them the gateway itself.
    Admin,
}

/// `POST /api/v1/session`: signs a browser in.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    /// The user's name.
    pub name: String,
    /// Their password.
    #[serde(serialize_with = "exposed")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "crate::schema::password"))]
    pub password: Secret<String>,
}

/// `POST /api/v1/login`: makes an API token for a name and a password, for programs, which need no cookie.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct LogIn {
    /// The user's name.
    pub name: String,
    /// Their password.
    #[serde(serialize_with = "exposed")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "crate::schema::password"))]
    pub password: Secret<String>,
    /// The token.
    #[serde(flatten)]
    pub token: CreateToken,
}

/// `POST /api/v1/setup`: makes the first user, an admin over all edges.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SetUp {
    /// The code that the gateway's log shows at its start, while there is no user.
    #[serde(serialize_with = "exposed")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "crate::schema::secret"))]
    pub code: Secret<String>,
    /// Of the user.
    pub name: UserName,
    /// Of the user, 10 to 256 characters.
    #[serde(serialize_with = "exposed")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "crate::schema::new_password"))]
    pub password: Secret<String>,
}

/// `GET /api/v1/session`: who asks, and what they may with what they came with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Session {
    /// Of the user, or the label of a token that is no user's.
    pub name: String,
    /// The user, if it is one.
    pub user: Option<UserName>,
    /// With what they came.
    pub credential: CredentialKind,
    /// Its public id.
    pub credential_id: Uuid,
    /// What they may do.
    pub role: Role,
    /// To which edges: those that have a tag of each of these lists; every edge where there is no list.
    pub bounds: Vec<Vec<String>>,
    /// When the credential ends by itself, if it does.
    #[cfg_attr(feature = "schema", schemars(extend("format" = "date-time")))]
    pub expires_at: Option<String>,
}

/// A kind of credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum CredentialKind {
    /// An API token.
    Token,
    /// An SSH key.
    SshKey,
    /// The cookie of a browser that signed in.
    Session,
}

/// `POST /api/v1/users`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateUser {
    /// Unique.
    pub name: UserName,
    /// 10 to 256 characters. Without one they can't sign in, and use SSH keys that an admin adds for them.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "maybe_exposed")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "crate::schema::new_password_or_none"))]
    pub password: Option<Secret<String>>,
    /// What they may do.
    pub role: Role,
    /// To which edges: those with one of these tags; every edge where absent or null.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "crate::schema::tags_or_all"))]
    pub tags: Option<Vec<String>>,
}

/// `PATCH /api/v1/users/{user}`: only what is given changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ChangeUser {
    /// What they may do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// To which edges: those with one of these tags; every edge for null.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "crate::schema::tags_or_all"))]
    pub tags: Option<Option<Vec<String>>>,
}

/// `PUT /api/v1/users/{user}/password`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SetPassword {
    /// The new one, 10 to 256 characters.
    #[serde(serialize_with = "exposed")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "crate::schema::new_password"))]
    pub password: Secret<String>,
    /// The one that they have, for one's own.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "maybe_exposed")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "crate::schema::password_or_none"))]
    pub current: Option<Secret<String>>,
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct User {
    /// Unique.
    pub name: UserName,
    /// Never given again, also when the name is.
    pub id: Uuid,
    /// What they may do.
    pub role: Role,
    /// To which edges: those with one of these tags; every edge where null.
    pub tags: Option<Vec<String>>,
    /// Whether they can sign in.
    pub has_password: bool,
    /// When the record was made.
    #[cfg_attr(feature = "schema", schemars(extend("format" = "date-time")))]
    pub created_at: String,
}

/// `GET /api/v1/users`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UserList {
    /// In order of name.
    pub users: Vec<User>,
    /// `after` of the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// `POST /api/v1/tokens`. The token is the user's who makes it, and never allows more than they may.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// What the token is for, 1 to 100 characters.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 100)))]
    pub label: String,
    /// What it allows at most; as much as its maker may, where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// To which edges at most: those with one of these tags; as its maker, where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "crate::schema::tags_or_all"))]
    pub tags: Option<Vec<String>>,
    /// After how long it ends, 60 at least; never, where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 60, max = 316_224_000)))]
    pub expires_in_s: Option<u32>,
}

/// The 201 to [`CreateToken`] and [`LogIn`]. The only answer that shows the token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TokenCreated {
    /// As listed from now on.
    #[serde(flatten)]
    pub listed: Token,
    /// The token itself, for `authorization: Bearer`. A secret.
    pub token: String,
}

/// A token of the admin API, as `GET /api/v1/tokens` lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Token {
    /// Public id, to revoke it by.
    pub id: Uuid,
    /// What it is for.
    pub label: String,
    /// When it was made.
    #[cfg_attr(feature = "schema", schemars(extend("format" = "date-time")))]
    pub created_at: String,
    /// What it allows at most.
    pub role: Role,
    /// To which edges at most: those with one of these tags; every edge where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// When it ends; never, where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(extend("format" = "date-time")))]
    pub expires_at: Option<String>,
    /// Whose it is; nobody's, where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserName>,
}

/// `GET /api/v1/tokens`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TokenList {
    /// Oldest first.
    pub tokens: Vec<Token>,
    /// `after` of the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// `POST /api/v1/ssh-keys`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AddSshKey {
    /// Whose key it is, 1 to 100 characters.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 100)))]
    pub label: String,
    /// The line of its `.pub` file.
    pub public_key: String,
    /// The user whose key it is: that of whoever adds it, where absent. An admin over all edges may name anybody, and
    /// nobody with null, which lets in whoever has the key.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub user: Option<Option<UserName>>,
}

/// An operator's SSH key: the 201 to [`AddSshKey`], and as `GET /api/v1/ssh-keys` lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SshKey {
    /// Public id, to remove it by.
    pub id: Uuid,
    /// Whose it is.
    pub label: String,
    /// As `ssh-keygen -l` prints it.
    pub fingerprint: String,
    /// When it was added.
    #[cfg_attr(feature = "schema", schemars(extend("format" = "date-time")))]
    pub created_at: String,
    /// Whose it is; nobody's in particular, where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserName>,
}

/// `GET /api/v1/ssh-keys`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SshKeyList {
    /// Oldest first.
    pub ssh_keys: Vec<SshKey>,
    /// `after` of the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

fn maybe_exposed<S: serde::Serializer>(
    secret: &Option<Secret<String>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match secret {
        Some(secret) => exposed(secret, serializer),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_sent_and_never_shown() {
        let sign_in = SignIn { name: "ada".into(), password: "correct horse".into() };
        assert!(!format!("{sign_in:?}").contains("horse"));
        let sent = serde_json::to_string(&sign_in).expect("serializes");
        assert_eq!(sent, r#"{"name":"ada","password":"correct horse"}"#);
    }

    #[test]
    fn a_login_is_one_flat_object_and_unknown_fields_are_errors() {
        let read = |text: &str| serde_json::from_str::<LogIn>(text);
        let login =
            read(r#"{"name":"ada","password":"x","label":"laptop","expires_in_s":60}"#).expect("good");
        assert_eq!((login.token.label.as_str(), login.token.expires_in_s), ("laptop", Some(60)));
        assert!(read(r#"{"name":"ada","password":"x","label":"laptop","expires":60}"#).is_err());
    }

    #[test]
    fn an_owner_who_is_null_is_another_than_one_who_is_absent() {
        let read = |text: &str| serde_json::from_str::<AddSshKey>(text).expect("good").user;
        assert_eq!(read(r#"{"label":"a","public_key":"b"}"#), None);
        assert_eq!(read(r#"{"label":"a","public_key":"b","user":null}"#), Some(None));
    }
}
