//! How every error leaves the gateway: RFC 9457 problem details with a stable code. The one file that knows HTTP status
//! codes for errors; handlers return the errors of their area, and these conversions are the only way out.
//!
//! A code is a promise to programs: it never changes its meaning. Details are for people and say what to do next.
//!
//! | status | code | when |
//! | --- | --- | --- |
//! | 400 | `invalid-request` | a header, a query parameter or a name in the path can't be understood |
//! | 400 | `invalid-json` | the body is not JSON |
//! | 401 | `not-authenticated` | the admin API wants a bearer token or a session, and this is none or one that ended |
//! | 401 | `sign-in-refused` | name or password is wrong |
//! | 401 | `unknown-key` | an agent shows a key that no edge has |
//! | 403 | `bound-to-another` | an agent shows a key that is bound to another edge ID |
//! | 403 | `plain-http-refused` | plain HTTP from where the gateway does not take it |
//! | 403 | `wrong-password` | one's own new password needs the old one |
//! | 403 | `set-up-code-wrong` | the first user is made with the code of the gateway's log only |
//! | 403 | `cross-origin` | a browser sent its cookie with a request that is not our page's |
//! | 403 | `not-allowed` | the operator's role does not include this, or their tags do not |
//! | 403 | `browser-refused` | a session's cookie at a service's path that is for programs |
//! | 403 | `no-pass` | a browser's permission to use a service has ended, or is another's |
//! | 403 | `out-of-reach` | somebody who is bound to tags would make or leave an edge without one of them |
//! | 404 | `not-found` | no such path |
//! | 404 | `edge-not-found`, `service-not-found`, `snapshot-not-found`, `engine-not-found`, `container-not-found`, `user-not-found`, `token-not-found`, `ssh-key-not-found` | no such thing |
//! | 405 | `method-not-allowed` | the path exists, with other methods (see `allow`) |
//! | 408 | `body-too-slow` | the body did not arrive in time |
//! | 409 | `second-instance` | a second live agent on an edge that is no cluster |
//! | 409 | `edge-name-taken` | another edge has this name |
//! | 409 | `user-name-taken` | another user has this name |
//! | 409 | `last-admin` | without this user nobody could sign in and do everything |
//! | 409 | `already-set-up` | there is a user, so this is no first run |
//! | 409 | `too-many-users` | there are as many users as there may be |
//! | 409 | `last-token` | revoking it would lock everybody out |
//! | 409 | `too-many-tokens` | there are as many API tokens as there may be |
//! | 409 | `ssh-key-exists` | this SSH key is there already |
//! | 409 | `too-many-ssh-keys` | there are as many SSH keys as there may be |
//! | 409 | `idempotency-key-in-use` | a request with this key is under way |
//! | 412 | `stale` | what `if-match` names is not how it is any more |
//! | 413 | `body-too-large` | the body is larger than this route takes |
//! | 415 | `unsupported-media-type` | the body is not declared as what this route takes |
//! | 422 | `invalid-field` | JSON with an unknown field, a missing one, or a value out of its bounds |
//! | 422 | `idempotency-key-reused` | this key was used for another request |
//! | 426 | `unsupported-protocol` | the agent speaks a check-in protocol that this gateway does not |
//! | 426 | `upgrade-required` | a stream needs `connection: upgrade` on HTTP/1.1 |
//! | 429 | `too-many-attempts` | too many attempts to sign in, or too many wrong credentials from there; `retry-after` says when the next one counts |
//! | 500 | `internal` | a defect of the gateway; its log has more |
//! | 502 | `service-unreachable` | the agent could not connect to the service |
//! | 502 | `tunnel-lost` | the tunnel broke while the stream was being opened |
//! | 502 | `bad-service-answer` | the service did not answer with HTTP that can be passed on |
//! | 503 | `busy` | overload, drain, or too many requests of this operator |
//! | 503 | `stream-refused` | too many streams in this tunnel or of this operator, no memory for one more, or the gateway is shutting down |
//! | 503 | `store-failed` | the change could not be stored |
//! | 504 | `no-tunnel` | the edge opened no tunnel in time |
//! | 507 | `store-full` | the gateway's disk is full |

use std::panic::AssertUnwindSafe;

use axum::extract::Request;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt as _;
use http::header::{CONTENT_TYPE, RETRY_AFTER, UPGRADE, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use shared::wire::problem;

use super::browse::without_pass;
use crate::store::StoreError;
use crate::tunnels::{AdminError, CheckInRefusal, OpenError};

/// Seconds that a client waits after trouble with the store: long enough for a passing stall of the disk, and short
/// for an agent that nobody can reach meanwhile.
const STORE_RETRY_S: u32 = 5;

/// The result of a handler.
pub type Result<T> = std::result::Result<T, Problem>;

/// What identifies a problem; the table is in the module's documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is a row of the module's table")]
pub enum Code {
    InvalidRequest,
    InvalidJson,
    NotAuthenticated,
    SignInRefused,
    UnknownKey,
    BoundToAnother,
    PlainHttpRefused,
    WrongPassword,
    SetUpCodeWrong,
    CrossOrigin,
    NotAllowed,
    BrowserRefused,
    NoPass,
    OutOfReach,
    NotFound,
    EdgeNotFound,
    ServiceNotFound,
    SnapshotNotFound,
    EngineNotFound,
    ContainerNotFound,
    UserNotFound,
    TokenNotFound,
    SshKeyNotFound,
    MethodNotAllowed,
    BodyTooSlow,
    SecondInstance,
    EdgeNameTaken,
    UserNameTaken,
    LastAdmin,
    AlreadySetUp,
    TooManyUsers,
    LastToken,
    TooManyTokens,
    SshKeyExists,
    TooManySshKeys,
    IdempotencyKeyInUse,
    Stale,
    BodyTooLarge,
    UnsupportedMediaType,
    InvalidField,
    IdempotencyKeyReused,
    UnsupportedProtocol,
    UpgradeRequired,
    TooManyAttempts,
    Internal,
    ServiceUnreachable,
    TunnelLost,
    BadServiceAnswer,
    Busy,
    StreamRefused,
    StoreFailed,
    NoTunnel,
    StoreFull,
}

impl Code {
    /// Status, code and title.
    const fn facts(self) -> (StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            Self::InvalidRequest => (S::BAD_REQUEST, "invalid-request", "The request can't be understood"),
            Self::InvalidJson => (S::BAD_REQUEST, "invalid-json", "The body is not JSON"),
            Self::NotAuthenticated => {
                (S::UNAUTHORIZED, "not-authenticated", "A sign-in or an API token is needed")
            }
            Self::SignInRefused => (S::UNAUTHORIZED, "sign-in-refused", "Name or password is wrong"),
            Self::UnknownKey => (S::UNAUTHORIZED, "unknown-key", "No edge has this key"),
            Self::BoundToAnother => (S::FORBIDDEN, "bound-to-another", "The key is bound to another edge ID"),
            Self::PlainHttpRefused => {
                (S::FORBIDDEN, "plain-http-refused", "Plain HTTP is not taken from here")
            }
            Self::WrongPassword => (S::FORBIDDEN, "wrong-password", "This is not your password"),
            Self::SetUpCodeWrong => (S::FORBIDDEN, "set-up-code-wrong", "This is not the set-up code"),
            Self::CrossOrigin => (S::FORBIDDEN, "cross-origin", "The request comes from another page"),
            Self::NotAllowed => (S::FORBIDDEN, "not-allowed", "The role or reach does not allow it"),
            Self::BrowserRefused => (S::FORBIDDEN, "browser-refused", "This is not for browsers"),
            Self::NoPass => (S::FORBIDDEN, "no-pass", "The service is not open to this browser"),
            Self::OutOfReach => (S::FORBIDDEN, "out-of-reach", "The edge would be out of reach"),
            Self::NotFound => (S::NOT_FOUND, "not-found", "There is nothing at this path"),
            Self::EdgeNotFound => (S::NOT_FOUND, "edge-not-found", "There is no such edge"),
            Self::ServiceNotFound => (S::NOT_FOUND, "service-not-found", "The edge has no such service"),
            Self::EngineNotFound => (S::NOT_FOUND, "engine-not-found", "The edge has no Docker Engine"),
            Self::ContainerNotFound => (S::NOT_FOUND, "container-not-found", "There is no such container"),
            Self::SnapshotNotFound => (S::NOT_FOUND, "snapshot-not-found", "The edge has no snapshot"),
            Self::UserNotFound => (S::NOT_FOUND, "user-not-found", "There is no such user"),
            Self::TokenNotFound => (S::NOT_FOUND, "token-not-found", "There is no such API token"),
            Self::SshKeyNotFound => (S::NOT_FOUND, "ssh-key-not-found", "There is no such SSH key"),
            Self::MethodNotAllowed => {
                (S::METHOD_NOT_ALLOWED, "method-not-allowed", "This path does not have this method")
            }
            Self::BodyTooSlow => (S::REQUEST_TIMEOUT, "body-too-slow", "The body did not arrive in time"),
            Self::SecondInstance => (S::CONFLICT, "second-instance", "Another agent has this edge ID"),
            Self::EdgeNameTaken => (S::CONFLICT, "edge-name-taken", "Another edge has this name"),
            Self::UserNameTaken => (S::CONFLICT, "user-name-taken", "Another user has this name"),
            Self::LastAdmin => (S::CONFLICT, "last-admin", "This is the last admin who can sign in"),
            Self::AlreadySetUp => (S::CONFLICT, "already-set-up", "The gateway is set up already"),
            Self::TooManyUsers => (S::CONFLICT, "too-many-users", "There are too many users"),
            Self::LastToken => (S::CONFLICT, "last-token", "This is the last API token"),
            Self::TooManyTokens => (S::CONFLICT, "too-many-tokens", "There are too many API tokens"),
            Self::SshKeyExists => (S::CONFLICT, "ssh-key-exists", "This SSH key is there already"),
            Self::TooManySshKeys => (S::CONFLICT, "too-many-ssh-keys", "There are too many SSH keys"),
            Self::IdempotencyKeyInUse => {
                (S::CONFLICT, "idempotency-key-in-use", "A request with this key is under way")
            }
            Self::Stale => (S::PRECONDITION_FAILED, "stale", "It was changed meanwhile"),
            Self::BodyTooLarge => (S::PAYLOAD_TOO_LARGE, "body-too-large", "The body is too large"),
            Self::UnsupportedMediaType => {
                (S::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "The body is of another type")
            }
            Self::InvalidField => (S::UNPROCESSABLE_ENTITY, "invalid-field", "A field is not valid"),
            Self::IdempotencyKeyReused => {
                (S::UNPROCESSABLE_ENTITY, "idempotency-key-reused", "This key was used for another request")
            }
            Self::UnsupportedProtocol => {
                (S::UPGRADE_REQUIRED, "unsupported-protocol", "The check-in protocol does not fit")
            }
            Self::UpgradeRequired => (S::UPGRADE_REQUIRED, "upgrade-required", "An upgrade is needed"),
            Self::TooManyAttempts => {
                (S::TOO_MANY_REQUESTS, "too-many-attempts", "There were too many attempts")
            }
            Self::Internal => (S::INTERNAL_SERVER_ERROR, "internal", "The gateway failed"),
            Self::ServiceUnreachable => {
                (S::BAD_GATEWAY, "service-unreachable", "The edge can't reach the service")
            }
            Self::TunnelLost => (S::BAD_GATEWAY, "tunnel-lost", "The tunnel broke"),
            Self::BadServiceAnswer => {
                (S::BAD_GATEWAY, "bad-service-answer", "The service's answer can't be passed on")
            }
            Self::Busy => (S::SERVICE_UNAVAILABLE, "busy", "The gateway is busy"),
            Self::StreamRefused => {
                (S::SERVICE_UNAVAILABLE, "stream-refused", "No further stream is possible")
            }
            Self::StoreFailed => (S::SERVICE_UNAVAILABLE, "store-failed", "The change could not be stored"),
            Self::NoTunnel => (S::GATEWAY_TIMEOUT, "no-tunnel", "The edge opened no tunnel in time"),
            Self::StoreFull => (S::INSUFFICIENT_STORAGE, "store-full", "The gateway's disk is full"),
        }
    }

    /// HTTP status.
    pub fn status(self) -> StatusCode {
        self.facts().0
    }

    /// What programs know it by: `edge-not-found`.
    pub fn name(self) -> &'static str {
        self.facts().1
    }

    /// A short sentence for people.
    pub fn title(self) -> &'static str {
        self.facts().2
    }

    /// The header that the code's status demands (RFC 9110 §11.6.1, §15.5.22), where it does.
    fn demanded_header(self) -> Option<(HeaderName, HeaderValue)> {
        if matches!(self, Self::NotAuthenticated | Self::SignInRefused) {
            Some((WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"tidegate\"")))
        } else if self == Self::UnknownKey {
            Some((WWW_AUTHENTICATE, HeaderValue::from_static("Edge")))
        } else if self == Self::UpgradeRequired {
            Some((UPGRADE, HeaderValue::from_static("tcp")))
        } else {
            None
        }
    }
}

/// An error on its way to a client.
#[derive(Clone, Debug)]
pub struct Problem {
    code: Code,
    detail: String,
    retry_after_s: Option<u32>,
    cause: Option<String>,
}

/// Left in the extensions of a response for [`observe`], and for whoever shows the problem in another form.
#[derive(Clone, Debug)]
pub struct Occurred {
    /// Which problem it is.
    pub code: Code,
    /// What happened in this case and what to do next.
    pub detail: String,
    cause: Option<String>,
}

impl Problem {
    /// A problem with what happened in this case and what to do next.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), retry_after_s: None, cause: None }
    }

    /// Tells the client when to try again.
    pub fn retry_after_s(self, seconds: u32) -> Self {
        Self { retry_after_s: Some(seconds), ..self }
    }

    /// What the log says and the client must not see.
    pub fn because(self, cause: impl ToString) -> Self {
        Self { cause: Some(cause.to_string()), ..self }
    }

    /// A defect of ours: the log has the cause.
    pub fn internal(cause: impl ToString) -> Self {
        Self::new(Code::Internal, "the gateway failed at this request; its log has more").because(cause)
    }

    /// Which problem it is.
    pub fn code(&self) -> Code {
        self.code
    }

    /// What happened in this case and what to do next.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// What to leave in the extensions of an answer that tells the problem in another form than ours.
    pub fn occurred(&self) -> Occurred {
        Occurred { code: self.code, detail: self.detail.clone(), cause: self.cause.clone() }
    }

    /// Seconds after which to try again, where that may help.
    pub fn retry_after(&self) -> Option<u32> {
        self.retry_after_s
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, code, title) = self.code.facts();
        let body = problem::Problem {
            kind: format!("about:blank#{code}"),
            title: title.to_owned(),
            status: status.as_u16(),
            code: code.to_owned(),
            detail: self.detail.clone(),
        };
        let body = serde_json::to_vec(&body).expect("strings and a number have no failing serializer");
        let mut response = (status, [(CONTENT_TYPE, problem::CONTENT_TYPE)], body).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        if let Some((name, value)) = self.code.demanded_header() {
            response.headers_mut().insert(name, value);
        }
        response.extensions_mut().insert(Occurred {
            code: self.code,
            detail: self.detail,
            cause: self.cause,
        });
        response
    }
}

/// Which problem an answer of ours is, if it is one.
pub fn code_of(response: &Response) -> Option<Code> {
    response.extensions().get().map(|occurred: &Occurred| occurred.code)
}

/// Outermost layer: a panic of a handler becomes a 500 and an `error` in the log, and so do failures of our own that
/// only the log may explain.
pub async fn observe(request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), without_pass(request.uri().path()).into_owned());
    let response = match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        // The panic hook has logged message and place.
        Err(_) => Problem::internal("a handler panicked").into_response(),
    };
    if let Some(Occurred { code, cause: Some(cause), .. }) = response.extensions().get() {
        if *code == Code::Internal {
            tracing::error!(%method, path, error = cause, "request failed");
        } else {
            tracing::warn!(%method, path, ?code, error = cause, "request failed");
        }
    }
    response
}

/// Fallback for paths that do not exist.
pub async fn not_found() -> Problem {
    Problem::new(Code::NotFound, "there is nothing at this path; the API is below /api/v1/")
}

/// Fallback for methods that a path does not have; the router adds `allow`.
pub async fn method_not_allowed(method: Method) -> Problem {
    let detail = format!("this path does not take {method}; the allow header lists what it takes");
    Problem::new(Code::MethodNotAllowed, detail)
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full => {
                Self::new(Code::StoreFull, "the gateway's disk is full, and nothing was changed; free some space")
                    .because(error)
            }
            StoreError::StandsStill { .. } => Self::new(
                Code::StoreFailed,
                "the gateway's disk does not answer; a change that was under way may be made when it does: look before you try again",
            )
            .retry_after_s(STORE_RETRY_S)
            .because(error),
            StoreError::Failed { .. } | StoreError::Closed => Self::new(
                Code::StoreFailed,
                "the gateway's store failed, and the change may be lost; try again, and see the gateway's log",
            )
            .retry_after_s(STORE_RETRY_S)
            .because(error),
        }
    }
}

impl From<CheckInRefusal> for Problem {
    fn from(refusal: CheckInRefusal) -> Self {
        let detail = refusal.to_string();
        match refusal {
            CheckInRefusal::UnknownKey => Self::new(Code::UnknownKey, detail),
            CheckInRefusal::BoundToAnother => Self::new(Code::BoundToAnother, detail),
            CheckInRefusal::SecondInstance { .. } => Self::new(Code::SecondInstance, detail),
            CheckInRefusal::Protocol { .. } => Self::new(Code::UnsupportedProtocol, detail),
            CheckInRefusal::Busy { retry_after_s } => {
                Self::new(Code::Busy, detail).retry_after_s(retry_after_s)
            }
            // Agents know 503 with retry-after as trouble with the store, a full disk included.
            CheckInRefusal::Store(error) => Self::new(
                Code::StoreFailed,
                "the gateway can't store the binding now; its operator finds the reason in its log",
            )
            .retry_after_s(STORE_RETRY_S)
            .because(error),
        }
    }
}

impl From<AdminError> for Problem {
    fn from(error: AdminError) -> Self {
        let detail = error.to_string();
        match error {
            AdminError::NoSuchEdge(_) => Self::new(Code::EdgeNotFound, detail),
            AdminError::NameTaken(_) => Self::new(Code::EdgeNameTaken, detail),
            AdminError::Invalid(_) => Self::new(Code::InvalidField, detail),
            AdminError::Stale => Self::new(Code::Stale, detail),
            AdminError::NoSnapshot => Self::new(Code::SnapshotNotFound, detail),
            AdminError::Busy { retry_after_s } => Self::new(Code::Busy, detail).retry_after_s(retry_after_s),
            AdminError::Store(error) => error.into(),
        }
    }
}

impl From<OpenError> for Problem {
    fn from(error: OpenError) -> Self {
        let detail = error.to_string();
        match error {
            OpenError::NoSuchEdge(_) => Self::new(Code::EdgeNotFound, detail),
            OpenError::NoSuchService { .. } => Self::new(Code::ServiceNotFound, detail),
            OpenError::NoTunnel { .. } => Self::new(Code::NoTunnel, detail),
            OpenError::Dial { .. } => Self::new(Code::ServiceUnreachable, detail),
            OpenError::Lost(_) => Self::new(Code::TunnelLost, detail),
            OpenError::Refused { .. } => Self::new(Code::StreamRefused, detail).retry_after_s(1),
        }
    }
}

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        let code = match rejection.status() {
            StatusCode::UNPROCESSABLE_ENTITY => Code::InvalidField,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Code::UnsupportedMediaType,
            StatusCode::PAYLOAD_TOO_LARGE => Code::BodyTooLarge,
            _ => Code::InvalidJson,
        };
        Self::new(code, rejection.body_text())
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(Code::InvalidRequest, rejection.body_text())
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Self::new(Code::InvalidRequest, rejection.body_text())
    }
}
