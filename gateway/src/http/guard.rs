//! In front of every handler: who is it, may they, and is the edge one of theirs. Deny by default: what an operation
//! needs stands in its row of the table, and nothing passes that does not show it.
//!
//! What somebody may see and what exists are one answer: an edge out of reach is `edge-not-found`, as one that never
//! was.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::request::Parts;
use http::{Extensions, HeaderMap, HeaderValue, Method, Uri};
use shared::id::EdgeName;

use super::audited::{Asked, Noted, Recording, refused_outside};
use super::check_in::line;
use super::operation::{Audited, Needs};
use super::origin::OwnOrigin;
use super::peer::{Arrival, Peer};
use super::problem::{Code, Problem, Result, method_not_allowed, not_found};
use super::{ApiState, cookie, origin};
use crate::access::{Access, Credential, Operator, whole_seconds};
use crate::admission::{Caller, Failure};
use crate::domain::authority::Role;
use crate::domain::refusal::AdminError;
use crate::telemetry::Requests;

/// Seconds until a crowd of requests has passed.
const CROWD_S: u32 = 1;

/// What the guard of one operation knows.
#[derive(Clone)]
pub struct Guard {
    /// Credentials and edges.
    pub state: Arc<ApiState>,
    /// Of the operation.
    pub id: &'static str,
    /// Of the operation.
    pub path: &'static str,
    /// Of the operation.
    pub needs: Needs,
    /// Of the operation.
    pub audited: Audited,
    /// Of the operation.
    pub action: &'static str,
    /// Counts its answers.
    pub requests: Requests,
}

/// Passes on what may pass, with the [`Operator`] in its extensions, records and counts it.
pub async fn admit(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let response = guard.pass(request, next).await.into_response();
    if !line::is_kept_back(&response) {
        guard.requests.answered(response.status());
    }
    response
}

/// Fallback below `/api/v1/`: that a path does not exist is told to those who are known only.
pub async fn unknown_path(State(state): State<Arc<ApiState>>, peer: Peer, request: Request) -> Problem {
    match authenticate(&state, &Shown::of(&request)) {
        Ok(_) => not_found().await,
        Err(problem) => {
            refused_outside(&state.audit, "api.unknown", Some(peer), &Noted::default(), &problem);
            turned_away(problem, request.headers(), request.extensions())
        }
    }
}

/// What a stranger gets to hear. A credential that is nobody's counts against its source; from a source that is penalised
/// it is not told what was wrong any more, and when to come back instead.
fn turned_away(problem: Problem, headers: &HeaderMap, extensions: &Extensions) -> Problem {
    let Some(caller) = extensions.get::<Caller>().filter(|_| problem.code() == Code::NotAuthenticated) else {
        return problem;
    };
    let told = penalty(caller);
    let shown = headers.contains_key(AUTHORIZATION)
        || extensions.get().is_some_and(|peer| cookie::session_of(headers, *peer).is_some());
    if shown {
        caller.failed(Failure::Credential);
    }
    told.unwrap_or(problem)
}

/// What somebody is told whose source is penalised, and who shows nothing good.
pub fn penalty(caller: &Caller) -> Option<Problem> {
    let wait = caller.penalty()?;
    let detail =
        format!("too many wrong credentials came from there; come back in {} s", whole_seconds(wait));
    Some(Problem::new(Code::TooManyAttempts, detail).retry_after_s(whole_seconds(wait)))
}

/// Fallback for methods that a path does not have, told in the same way.
pub async fn unknown_method(State(state): State<Arc<ApiState>>, peer: Peer, request: Request) -> Problem {
    if request.uri().path().starts_with("/api/v1/")
        && let Err(problem) = authenticate(&state, &Shown::of(&request))
    {
        refused_outside(&state.audit, "api.unknown", Some(peer), &Noted::default(), &problem);
        return turned_away(problem, request.headers(), request.extensions());
    }
    method_not_allowed(request.method().clone()).await
}

/// What a request shows of who sends it. A request itself can't be held across an await: its body is not for two.
struct Shown<'a> {
    method: &'a Method,
    uri: &'a Uri,
    headers: &'a HeaderMap,
    extensions: &'a Extensions,
}

impl<'a> Shown<'a> {
    fn of(request: &'a Request) -> Self {
        let (method, uri) = (request.method(), request.uri());
        Self { method, uri, headers: request.headers(), extensions: request.extensions() }
    }
}

impl Guard {
    async fn pass(&self, mut request: Request, next: Next) -> Result<Response> {
        let (audit, asked) = (&self.state.audit, Asked::of(self, &request));
        let operator = match self.who(&Shown::of(&request)) {
            Ok(operator) => operator,
            Err(problem) => {
                asked.refused(audit, None, &problem);
                return Err(turned_away(problem, request.headers(), request.extensions()));
            }
        };
        if let (Some(_), Some(caller)) = (&operator, request.extensions().get::<Caller>()) {
            caller.welcome();
        }
        if let Some(operator) = &operator {
            if let Err(problem) = self.may(operator, request.uri().path()).await {
                asked.refused(audit, Some(operator), &problem);
                return Err(problem);
            }
            tracing::debug!(operator = %operator.name, operation = self.id, "admitted");
        }
        let room = operator.as_ref().map(|operator| self.state.budget.request(&operator.name)).transpose();
        let _room = room.map_err(|full| Problem::new(Code::Busy, full.to_string()).retry_after_s(CROWD_S))?;
        let recording = Recording::begin(audit, self.audited, asked, operator.clone()).await?;
        if let Some(operator) = &operator {
            request.extensions_mut().insert(operator.clone());
        }
        let response = recording.end(next.run(request).await).await;
        match operator {
            // Goes on for as long as its reader likes, and must not outlive their right to it.
            Some(operator) if is_event_stream(&response) => {
                let end = Box::pin(self.state.access.until_ended(operator));
                Ok(response.map(|body| Body::from_stream(body.into_data_stream().take_until(end))))
            }
            Some(_) | None => Ok(response),
        }
    }

    /// Who asks, where that matters.
    fn who(&self, shown: &Shown<'_>) -> Result<Option<Operator>> {
        match self.needs {
            Needs::Nothing => Ok(None),
            Needs::Anybody | Needs::Edges(_) | Needs::Edge(_) | Needs::Gateway(_) => {
                authenticate(&self.state, shown).map(Some)
            }
        }
    }

    /// Whether they may.
    async fn may(&self, operator: &Operator, path: &str) -> Result<()> {
        match self.needs {
            Needs::Nothing | Needs::Anybody => Ok(()),
            Needs::Edges(role) => has_role(operator, role),
            Needs::Edge(role) => {
                has_role(operator, role)?;
                self.reaches(operator, edge_of(self.path, path)?).await
            }
            Needs::Gateway(role) => {
                has_role(operator, role)?;
                if operator.reach.is_all() {
                    return Ok(());
                }
                let detail = format!(
                    "{} is bound to tags, and this concerns all edges; ask an admin who is not bound",
                    operator.name
                );
                Err(Problem::new(Code::NotAllowed, detail))
            }
        }
    }

    async fn reaches(&self, operator: &Operator, edge: EdgeName) -> Result<()> {
        if operator.reach.is_all() || self.state.tunnels.reaches(&edge, operator.reach.clone()).await {
            return Ok(());
        }
        Err(AdminError::NoSuchEdge(edge).into())
    }
}

fn is_event_stream(response: &Response) -> bool {
    let content_type = response.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    content_type.is_some_and(|value| value.starts_with(b"text/event-stream"))
}

fn has_role(operator: &Operator, needed: Role) -> Result<()> {
    if operator.role >= needed {
        return Ok(());
    }
    let detail = format!(
        "this needs the role {needed}, and {} has the role {}; ask an admin for it",
        operator.name, operator.role
    );
    Err(Problem::new(Code::NotAllowed, detail))
}

/// What stands in `path` where `template` has `{edge}`. Names have no character that is escaped in a URL, so the path is
/// read as it is: what a handler might decode differently never gets to it.
fn edge_of(template: &str, path: &str) -> Result<EdgeName> {
    let (_, name) = template
        .split('/')
        .zip(path.split('/'))
        .find(|(parameter, _)| *parameter == "{edge}")
        .ok_or_else(|| Problem::internal("an operation on an edge has no {edge} in its path"))?;
    name.parse().map_err(|error| Problem::new(Code::InvalidRequest, format!("the edge's name is {error}")))
}

/// Who sends a request, if it is one that they may have meant to send.
fn authenticate(state: &ApiState, shown: &Shown<'_>) -> Result<Operator> {
    let peer = shown.extensions.get().copied();
    let operator = who(&state.access, shown.headers, peer)?;
    if let (Credential::Session(_), Some(peer)) = (operator.credential, peer)
        && origin::must_be_ours(shown.method, shown.headers)
    {
        from_our_page(state, shown.uri, shown.headers, peer)?;
    }
    Ok(operator)
}

/// Refuses what a browser sends on behalf of another site's page.
pub fn from_our_page(state: &ApiState, uri: &Uri, headers: &HeaderMap, peer: Peer) -> Result<()> {
    let arrival = Arrival::of(uri, headers)?;
    let public_url = state.public.configured_url();
    let own = OwnOrigin { secure: peer.secure, arrival: &arrival.0, public_url: public_url.as_deref() };
    if origin::is_ours(headers, own) {
        return Ok(());
    }
    let detail = "a form, and a request with a session's cookie, must come from the gateway's own page; programs use an \
                  API token, and behind a proxy that changes `host` the setting `public_url` must be set";
    Err(Problem::new(Code::CrossOrigin, detail))
}

/// Who shows a valid bearer token (RFC 6750 §2.1) or the cookie of a session, whether they meant to or not. A header
/// says more about what its sender means than a cookie that comes by itself, so it is looked at first, and a wrong one is
/// not made good by a cookie.
pub fn who(access: &Access, headers: &HeaderMap, peer: Option<Peer>) -> Result<Operator> {
    let refused = |detail: &str| Problem::new(Code::NotAuthenticated, detail);
    if let Some(header) = headers.get(AUTHORIZATION) {
        // Scheme names are case-insensitive (RFC 9110 §11.1).
        let token = match header.to_str().ok().and_then(|text| text.split_once(' ')) {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim_start(),
            Some(_) | None => {
                return Err(refused("the authorization header must be `Bearer` and an API token"));
            }
        };
        return access.by_token(token).ok_or_else(|| {
            refused("this API token is not known here: it was revoked, has expired, or is another gateway's")
        });
    }
    let peer = peer.ok_or_else(|| Problem::internal("the listener named no peer"))?;
    let session = cookie::session_of(headers, peer)
        .ok_or_else(|| refused("sign in, or send an API token as `authorization: Bearer tga_...`"))?;
    access.by_session(session).ok_or_else(|| refused("this session has ended; sign in again"))
}

impl<S: Sync> FromRequestParts<S> for Operator {
    type Rejection = Problem;

    /// Of an operation that needs somebody.
    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self> {
        parts.extensions.get().cloned().ok_or_else(|| Problem::internal("the guard admitted nobody by name"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edge_is_read_from_the_path_as_it_is() {
        let template = "/api/v1/edges/{edge}/services/{service}/proxy/{*path}";
        let edge = |path: &str| edge_of(template, path).map_err(|problem| problem.code());
        let shop = Ok("shop".parse().expect("a label"));
        assert_eq!(edge("/api/v1/edges/shop/services/web/proxy/%ff/edges/other"), shop);
        assert_eq!(edge("/api/v1/edges/%73hop/services/web/proxy/x"), Err(Code::InvalidRequest));
        assert_eq!(edge_of("/api/v1/edges", "/api/v1/edges").map_err(|it| it.code()), Err(Code::Internal));
    }
}
