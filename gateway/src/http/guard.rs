//! In front of every handler: who is it, may they, and is the edge one of theirs. Deny by default: what an operation
//! needs stands in its row of the table, and nothing passes that does not show it.
//!
//! What somebody may see and what exists are one answer: an edge out of reach is `edge-not-found`, as one that never
//! was.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, Method, Uri};
use shared::id::EdgeName;

use super::ApiState;
use super::operation::Needs;
use super::problem::{Code, Problem, Result, method_not_allowed, not_found};
use crate::access::{Access, Operator};
use crate::domain::authority::Role;
use crate::domain::refusal::AdminError;
use crate::telemetry::Requests;

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
    /// Counts its answers.
    pub requests: Requests,
}

/// Passes on what may pass, with the [`Operator`] in its extensions.
pub async fn admit(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let response = guard.pass(request, next).await.into_response();
    guard.requests.answered(response.status());
    response
}

/// Fallback below `/api/v1/`: that a path does not exist is told to those who are known only.
pub async fn unknown_path(State(state): State<Arc<ApiState>>, headers: HeaderMap) -> Problem {
    match authenticate(&state.access, &headers) {
        Ok(_) => not_found().await,
        Err(problem) => problem,
    }
}

/// Fallback for methods that a path does not have, told in the same way.
pub async fn unknown_method(
    State(state): State<Arc<ApiState>>,
    uri: Uri,
    method: Method,
    headers: HeaderMap,
) -> Problem {
    if uri.path().starts_with("/api/v1/")
        && let Err(problem) = authenticate(&state.access, &headers)
    {
        return problem;
    }
    method_not_allowed(method).await
}

impl Guard {
    async fn pass(&self, mut request: Request, next: Next) -> Result<Response> {
        if let Some(operator) = self.decide(request.headers(), request.uri().path()).await? {
            tracing::debug!(operator = %operator.name, operation = self.id, "admitted");
            request.extensions_mut().insert(operator);
        }
        Ok(next.run(request).await)
    }

    async fn decide(&self, headers: &HeaderMap, path: &str) -> Result<Option<Operator>> {
        if self.needs == Needs::Nothing {
            return Ok(None);
        }
        let operator = authenticate(&self.state.access, headers)?;
        match self.needs {
            Needs::Nothing | Needs::Anybody => {}
            Needs::Edges(role) => has_role(&operator, role)?,
            Needs::Edge(role) => {
                has_role(&operator, role)?;
                self.reaches(&operator, edge_of(self.path, path)?).await?;
            }
            Needs::Gateway(role) => {
                has_role(&operator, role)?;
                if !operator.reach.is_all() {
                    let detail = format!(
                        "{} is bound to tags, and this concerns all edges; ask an admin who is not bound",
                        operator.name
                    );
                    return Err(Problem::new(Code::NotAllowed, detail));
                }
            }
        }
        Ok(Some(operator))
    }

    async fn reaches(&self, operator: &Operator, edge: EdgeName) -> Result<()> {
        if operator.reach.is_all() || self.state.tunnels.reaches(&edge, operator.reach.clone()).await {
            return Ok(());
        }
        Err(AdminError::NoSuchEdge(edge).into())
    }
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

/// Who shows a valid bearer token (RFC 6750 §2.1).
pub fn authenticate(access: &Access, headers: &HeaderMap) -> Result<Operator> {
    let refused = |detail: &str| Problem::new(Code::NotAuthenticated, detail);
    let header = headers
        .get(AUTHORIZATION)
        .ok_or_else(|| refused("send an API token as `authorization: Bearer tga_...`"))?;
    // Scheme names are case-insensitive (RFC 9110 §11.1).
    let token = match header.to_str().ok().and_then(|text| text.split_once(' ')) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim_start(),
        Some(_) | None => return Err(refused("the authorization header must be `Bearer` and an API token")),
    };
    access.by_token(token).ok_or_else(|| {
        refused("this API token is not known here: it was revoked, or belongs to another gateway")
    })
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
