//! API tokens: the way in for scripts and the command line, and a password for SSH.
//!
//! A token is `tga_` and 256 random bits; it is shown once, and the gateway keeps its SHA-256 only. The check is one
//! look-up by digest: what its time tells a stranger is about the digest, from which nothing leads back to a token.
//!
//! The rule: nobody makes a token that allows more than what they came with, and a user's token is theirs: it shrinks
//! with them and goes with them.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use shared::id::KeyDigest;
use shared::secret::Secret;
use uuid::Uuid;

use super::book::Book;
use super::ledger::Ledger;
use super::{Credential, MAX_LABEL, Operator, is_label};
use crate::domain::authority::{BadTags, Reach, Role, checked_tags};
use crate::domain::edge::{Change, Timestamp};
use crate::domain::people::{ApiToken, User};
use crate::store::StoreError;

/// What every token begins with, so that people and secret scanners know one when they see it.
pub(super) const PREFIX: &str = "tga_";
/// Far more than scripts and people need, and still nothing in memory.
const MAX_TOKENS: usize = 1000;
/// Shorter ones end before they are used; longer ones should be called unending.
const MIN_LIFE: Duration = Duration::from_secs(60);
const MAX_LIFE: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);
/// How long an expired token stays in the list, so that people see why their script stopped.
const KEPT_EXPIRED: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The API tokens. Cheap to clone.
#[derive(Clone)]
pub struct Tokens {
    ledger: Ledger,
}

/// What a token is to be.
#[derive(Clone, Debug)]
pub struct TokenSpec {
    /// What it is for.
    pub label: String,
    /// What it allows at most; as much as whoever makes it may, where `None`.
    pub role: Option<Role>,
    /// To which edges at most: those with one of these tags. As those of what its maker came with, where `None`.
    pub tags: Option<Vec<String>>,
    /// How long it counts; for ever where `None`.
    pub life: Option<Duration>,
}

/// A freshly made token.
#[derive(Debug)]
pub struct NewToken {
    /// What is kept of it.
    pub record: ApiToken,
    /// The token itself: the only copy there is.
    pub token: Secret<String>,
}

/// Why a token is not made or not revoked.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// No usable label.
    #[error("a token's label must be 1 to {MAX_LABEL} characters without control characters")]
    Label,
    /// No usable tags.
    #[error(transparent)]
    Tags(#[from] BadTags),
    /// It would end too soon or too late.
    #[error(
        "expires_in_s: {} to {} seconds; leave it out for a token that does not expire", MIN_LIFE.as_secs(), MAX_LIFE.as_secs()
    )]
    Life,
    /// It would allow more than its maker may.
    #[error(
        "a token allows at most what you may yourself, here the role {0} within your tags; ask an admin for more"
    )]
    More(Role),
    /// Its maker is no user.
    #[error(
        "this token is no user's and not an admin's over all edges, so it makes no others; sign in as a user"
    )]
    Nobody,
    /// The user was changed between the check of their password and the token.
    #[error("the user was changed at this very moment; log in again")]
    Overtaken,
    /// There are too many.
    #[error("there are {MAX_TOKENS} API tokens already; revoke some with DELETE /api/v1/tokens/ID")]
    TooMany,
    /// No token has this id, or it is somebody else's.
    #[error("there is no API token with the id {0}; GET /api/v1/tokens lists them")]
    NoSuchToken(Uuid),
    /// Revoking it would lock everybody out.
    #[error(
        "this is the last API token that may do everything, and no admin could sign in; create another one or a user first"
    )]
    Last,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Tokens {
    pub(super) fn new(ledger: Ledger) -> Self {
        Self { ledger }
    }

    /// Makes a token that is nobody's and allows everything for ever. It is durable before this returns.
    pub async fn create_unbound(&self, label: &str) -> Result<NewToken, TokenError> {
        let spec = TokenSpec { label: label.to_owned(), role: None, tags: None, life: None };
        self.create(spec, |_| Ok(Bounds { role: Role::Admin, tags: None, owner: None })).await
    }

    /// Makes a token on behalf of `maker`, whose it is if they are a user. It is durable before this returns.
    pub async fn create_by(&self, maker: &Operator, spec: TokenSpec) -> Result<NewToken, TokenError> {
        if maker.user.is_none() && !maker.may_everything() {
            return Err(TokenError::Nobody);
        }
        let (role, tags) = (spec.role, spec.tags.as_deref().map(checked_tags).transpose()?);
        self.create(spec, |book| Bounds::by(maker, role, tags, book)).await
    }

    /// Makes a token for a user as they were when they proved who they are.
    pub(super) async fn create_at_log_in(
        &self,
        user: &User,
        spec: TokenSpec,
    ) -> Result<NewToken, TokenError> {
        let (role, tags) =
            (spec.role.unwrap_or(user.role), spec.tags.as_deref().map(checked_tags).transpose()?);
        self.create(spec, |book| {
            if book.user(user.id) != Some(user) {
                return Err(TokenError::Overtaken);
            }
            if role > user.role {
                return Err(TokenError::More(user.role));
            }
            Ok(Bounds { role, tags, owner: Some(user.id) })
        })
        .await
    }

    async fn create(
        &self,
        spec: TokenSpec,
        bounds: impl FnOnce(&Book) -> Result<Bounds, TokenError>,
    ) -> Result<NewToken, TokenError> {
        if !is_label(&spec.label) {
            return Err(TokenError::Label);
        }
        if spec.life.is_some_and(|life| !(MIN_LIFE..=MAX_LIFE).contains(&life)) {
            return Err(TokenError::Life);
        }
        let turn = self.ledger.turn().await?;
        let now: Timestamp = SystemTime::now().into();
        let (bounds, gone) = self.ledger.read(|book| {
            let bounds = bounds(book)?;
            let gone: Vec<_> =
                book.tokens().filter(|token| is_long_gone(token, now)).map(|token| token.id).collect();
            if book.tokens().len() - gone.len() >= MAX_TOKENS {
                return Err(TokenError::TooMany);
            }
            Ok((bounds, gone))
        })?;
        let (token, digest) = new_secret(PREFIX);
        let record = ApiToken {
            id: Uuid::new_v4(),
            label: spec.label,
            digest,
            created_at: now,
            role: bounds.role,
            tags: bounds.tags,
            expires_at: spec.life.map(|life| now.after(life)),
            owner: bounds.owner,
        };
        let mut batch: Vec<_> = gone.into_iter().map(Change::DeleteToken).collect();
        batch.push(Change::PutToken(record.clone()));
        turn.commit(batch).await?;
        Ok(NewToken { record, token })
    }

    /// The tokens that `viewer` may see and revoke, oldest first: their own, and everybody's for who may everything.
    pub fn visible_to(&self, viewer: &Operator) -> Vec<ApiToken> {
        let mut tokens: Vec<_> = self
            .ledger
            .read(|book| book.tokens().filter(|token| is_visible(token, viewer)).cloned().collect());
        tokens.sort_by_key(|token| (token.created_at, token.id));
        tokens
    }

    /// Revokes a token that `by` may see: durable, and in force, before this returns.
    pub async fn revoke(&self, by: &Operator, id: Uuid) -> Result<(), TokenError> {
        let turn = self.ledger.turn().await?;
        self.ledger.read(|book| {
            let token =
                book.token(id).filter(|token| is_visible(token, by)).ok_or(TokenError::NoSuchToken(id))?;
            let others = || book.tokens().any(|other| is_lasting_way_in(other) && other.id != id);
            if is_lasting_way_in(token) && !others() && !book.has_admin_besides(None) {
                return Err(TokenError::Last);
            }
            Ok(())
        })?;
        turn.commit(vec![Change::DeleteToken(id)]).await?;
        Ok(())
    }
}

/// What a token is held to.
struct Bounds {
    role: Role,
    tags: Option<Vec<String>>,
    owner: Option<Uuid>,
}

impl Bounds {
    fn by(
        maker: &Operator,
        role: Option<Role>,
        tags: Option<Vec<String>>,
        book: &Book,
    ) -> Result<Self, TokenError> {
        let inherited = match maker.credential {
            Credential::Token(id) => book.token(id).and_then(|token| token.tags.clone()),
            Credential::SshKey(_) | Credential::Session(_) => None,
        };
        let (role, tags, owner) = (role.unwrap_or(maker.role), tags.or(inherited), maker.user);
        let owner_reach =
            owner.and_then(|owner| book.user(owner)).map(|user| Reach::of(user.tags.as_deref()));
        let reach = Reach::of(tags.as_deref()).and(owner_reach.unwrap_or_else(Reach::all));
        if role > maker.role || !reach.is_within(&maker.reach) {
            return Err(TokenError::More(maker.role));
        }
        Ok(Self { role, tags, owner })
    }
}

/// A new secret of 256 random bits that begins with `prefix`, and what is kept of it.
pub(super) fn new_secret(prefix: &str) -> (Secret<String>, KeyDigest) {
    let bytes = Secret::new(rand::random::<[u8; 32]>());
    let secret = Secret::new(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes.expose())));
    let digest = KeyDigest::of(secret.expose().as_bytes());
    (secret, digest)
}

fn is_visible(token: &ApiToken, viewer: &Operator) -> bool {
    viewer.may_everything()
        || viewer.credential == Credential::Token(token.id)
        || (viewer.user.is_some() && viewer.user == token.owner)
}

/// Whether it lets somebody in who may do everything, whatever becomes of users.
fn is_lasting_way_in(token: &ApiToken) -> bool {
    matches!(token, ApiToken { role: Role::Admin, tags: None, expires_at: None, owner: None, .. })
}

fn is_long_gone(token: &ApiToken, now: Timestamp) -> bool {
    token.expires_at.is_some_and(|at| at.after(KEPT_EXPIRED) <= now)
}
