//! Users: people with a name and a role. What they come with (passwords, tokens, keys, sessions) is theirs and goes with
//! them.
//!
//! The rule: once there is somebody who can sign in and do everything, there always is.

use std::time::SystemTime;

use shared::id::UserName;
use shared::secret::Secret;
use uuid::Uuid;

use super::book::Book;
use super::ledger::Ledger;
use super::passwords::{PasswordError, Passwords};
use crate::domain::authority::{BadTags, Role, checked_tags};
use crate::domain::edge::Change;
use crate::domain::people::User;
use crate::domain::version::Condition;
use crate::store::StoreError;

/// Far more than operators of one gateway, and still nothing in memory.
const MAX_USERS: usize = 1000;

/// The users. Cheap to clone.
#[derive(Clone)]
pub struct Users {
    ledger: Ledger,
    passwords: Passwords,
    condition: Condition,
}

/// A user who is to be.
#[derive(Debug)]
pub struct NewUser {
    /// Unique.
    pub name: UserName,
    /// Without one they can't sign in, and use keys and tokens.
    pub password: Option<Secret<String>>,
    /// What they may do.
    pub role: Role,
    /// To which edges; every one where `None`.
    pub tags: Option<Vec<String>>,
}

/// What changes of a user; what is `None` stays.
#[derive(Debug, Default)]
pub struct ChangeUser {
    /// What they may do.
    pub role: Option<Role>,
    /// To which edges; every one where `Some(None)`.
    pub tags: Option<Option<Vec<String>>>,
}

/// Why a user is not made, changed or deleted.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// The name is taken.
    #[error("there is a user {0} already; choose another name, or change that one")]
    NameTaken(UserName),
    /// Nobody has this name.
    #[error("there is no user {0}; GET /api/v1/users lists them")]
    NoSuchUser(UserName),
    /// Somebody else changed the user meanwhile.
    #[error(
        "this user was changed since you read it; read it again, look whether your change still fits, and send its new etag as if-match"
    )]
    Stale,
    /// There are too many.
    #[error("there are {MAX_USERS} users already; delete some with DELETE /api/v1/users/NAME")]
    TooMany,
    /// No usable tags.
    #[error(transparent)]
    Tags(#[from] BadTags),
    /// No usable password.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// Nobody could sign in and do everything any more.
    #[error(
        "{0} is the last admin over all edges who can sign in; make another user one first, or nobody could manage users"
    )]
    LastAdmin(UserName),
    /// There is a user, so this is no first run.
    #[error("the gateway is set up already; sign in, or have an admin make a user")]
    NotFirst,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Users {
    pub(super) fn new(ledger: Ledger, passwords: Passwords) -> Self {
        Self { ledger, passwords, condition: Condition::None }
    }

    /// A handle that changes and deletes on this condition, which is checked when nobody else can change the same user.
    pub fn provided(self, condition: Condition) -> Self {
        Self { condition, ..self }
    }

    /// Makes a user. They are durable before this returns.
    pub async fn create(&self, new: NewUser) -> Result<User, UserError> {
        self.create_if(new, |_| Ok(())).await
    }

    /// Makes the first user, if there is none.
    pub(super) async fn create_first(
        &self,
        name: UserName,
        password: Secret<String>,
    ) -> Result<User, UserError> {
        let new = NewUser { name, password: Some(password), role: Role::Admin, tags: None };
        self.create_if(new, |book| if book.users().len() == 0 { Ok(()) } else { Err(UserError::NotFirst) })
            .await
    }

    async fn create_if(
        &self,
        new: NewUser,
        check: impl FnOnce(&Book) -> Result<(), UserError>,
    ) -> Result<User, UserError> {
        let tags = new.tags.as_deref().map(checked_tags).transpose()?;
        let password = match new.password {
            Some(password) => Some(self.passwords.hash(password).await?),
            None => None,
        };
        let turn = self.ledger.turn().await?;
        self.ledger.read(|book| {
            check(book)?;
            if book.by_name(&new.name).is_some() {
                return Err(UserError::NameTaken(new.name.clone()));
            }
            if book.users().len() >= MAX_USERS {
                return Err(UserError::TooMany);
            }
            Ok(())
        })?;
        let (id, created_at) = (Uuid::new_v4(), SystemTime::now().into());
        let user = User { id, name: new.name, password, role: new.role, tags, created_at };
        turn.commit(vec![Change::PutUser(user.clone())]).await?;
        Ok(user)
    }

    /// All users, in order of name.
    pub fn list(&self) -> Vec<User> {
        let mut users: Vec<_> = self.ledger.read(|book| book.users().cloned().collect());
        users.sort_by(|a, b| a.name.cmp(&b.name));
        users
    }

    /// The user of this name.
    pub fn find(&self, name: &UserName) -> Result<User, UserError> {
        self.ledger
            .read(|book| book.by_name(name).cloned())
            .ok_or_else(|| UserError::NoSuchUser(name.clone()))
    }

    /// The name of the user with this id.
    pub fn name_of(&self, id: Uuid) -> Option<UserName> {
        self.ledger.read(|book| book.user(id).map(|user| user.name.clone()))
    }

    /// Changes role or tags: durable, and in force for all that they have open, before this returns.
    pub async fn change(&self, name: &UserName, change: ChangeUser) -> Result<User, UserError> {
        let tags = match change.tags {
            Some(Some(tags)) => Some(Some(checked_tags(&tags)?)),
            Some(None) => Some(None),
            None => None,
        };
        let turn = self.ledger.turn().await?;
        let before = self.find(name)?;
        self.check_not_stale(&before)?;
        let user = User {
            role: change.role.unwrap_or(before.role),
            tags: tags.unwrap_or_else(|| before.tags.clone()),
            ..before.clone()
        };
        if !user.is_unbound_admin() {
            self.check_not_last(&before)?;
        }
        turn.commit(vec![Change::PutUser(user.clone())]).await?;
        Ok(user)
    }

    /// Deletes a user with their sessions, tokens and keys: durable, and in force, before this returns.
    pub async fn delete(&self, name: &UserName) -> Result<(), UserError> {
        let turn = self.ledger.turn().await?;
        let user = self.find(name)?;
        self.check_not_stale(&user)?;
        self.check_not_last(&user)?;
        let owner = Some(user.id);
        let batch = self.ledger.read(|book| {
            let tokens =
                book.tokens().filter(|token| token.owner == owner).map(|token| Change::DeleteToken(token.id));
            let keys = book.ssh_keys().map(|key| &key.record).filter(|key| key.owner == owner);
            let keys = keys.map(|key| Change::DeleteSshKey(key.id));
            let sessions = sessions_of(book, user.id, None);
            tokens.chain(keys).chain(sessions).chain([Change::DeleteUser(user.id)]).collect()
        });
        turn.commit(batch).await?;
        Ok(())
    }

    /// Gives a user a new password and signs their browsers out, but for the session `keep`. Durable, and in force,
    /// before this returns.
    pub async fn set_password(
        &self,
        name: &UserName,
        password: Secret<String>,
        keep: Option<Uuid>,
    ) -> Result<(), UserError> {
        let password = Some(self.passwords.hash(password).await?);
        let turn = self.ledger.turn().await?;
        let user = User { password, ..self.find(name)? };
        let mut batch: Vec<_> = self.ledger.read(|book| sessions_of(book, user.id, keep).collect());
        batch.push(Change::PutUser(user));
        turn.commit(batch).await?;
        Ok(())
    }

    fn check_not_stale(&self, user: &User) -> Result<(), UserError> {
        if self.condition.admits(&user.changeable()) { Ok(()) } else { Err(UserError::Stale) }
    }

    fn check_not_last(&self, user: &User) -> Result<(), UserError> {
        let is_way_in = user.is_unbound_admin() && user.password.is_some();
        if is_way_in && !self.ledger.read(|book| book.has_admin_besides(Some(user.id))) {
            return Err(UserError::LastAdmin(user.name.clone()));
        }
        Ok(())
    }
}

/// The end of a user's sessions, but for `keep`.
fn sessions_of(book: &Book, user: Uuid, keep: Option<Uuid>) -> impl Iterator<Item = Change> + '_ {
    let sessions = book.sessions().filter(move |session| session.user == user && Some(session.id) != keep);
    sessions.map(|session| Change::DeleteSession(session.id))
}
