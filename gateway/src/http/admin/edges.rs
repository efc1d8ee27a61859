//! Edges and their tunnels.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, HeaderName, LOCATION};
use http::{HeaderValue, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;
use shared::fingerprint::HostKeyFingerprint;
use shared::id::{EdgeId, EdgeName};
use shared::join_token::JoinToken;
use shared::wire::admin;

use crate::access::Operator;
use crate::http::ApiState;
use crate::http::body::{Json, Path, Query};
use crate::http::commands::commands;
use crate::http::peer::{Arrival, Peer};
use crate::http::problem::{Code, Problem, Result};
use crate::tunnels::{EdgeQuery, NewEdge};

/// Edges of a page where the query names no limit.
const DEFAULT_LIMIT: usize = 100;
/// Most edges of a page: about 200 KiB of JSON.
const MAX_LIMIT: usize = 500;

/// Query of the list.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// Part of a name, or a whole tag.
    q: Option<String>,
    /// Only edges with this status.
    status: Option<admin::EdgeStatus>,
    /// `next` of the page before.
    after: Option<EdgeName>,
    /// Edges of a page: 100 where it is not given.
    #[schemars(range(min = 1, max = 500))]
    limit: Option<usize>,
}

/// `POST /edges`.
pub(super) async fn create(
    State(state): State<Arc<ApiState>>,
    peer: Peer,
    arrival: Arrival,
    operator: Operator,
    Json(new): Json<admin::CreateEdge>,
) -> Result<Response> {
    stays_in_reach(&operator, &new.tags)?;
    let edge = state.tunnels.create_edge(new).await?;
    let location = HeaderValue::try_from(format!("/api/v1/edges/{}", edge.name))
        .expect("a DNS label has no character that a header could not have");
    let created = enrolment(&state, edge, peer, &arrival);
    Ok((StatusCode::CREATED, [NO_STORE, (LOCATION, location)], axum::Json(created)).into_response())
}

/// The answer shows a secret.
const NO_STORE: (HeaderName, HeaderValue) = (CACHE_CONTROL, HeaderValue::from_static("no-store"));

/// What the agent of this edge needs, for somebody who came as `peer` by `arrival`.
fn enrolment(state: &ApiState, edge: NewEdge, peer: Peer, arrival: &Arrival) -> admin::EdgeCreated {
    let api_url = state.public.api_url(peer, arrival);
    // Over plain HTTP there is no key to pin.
    let tls_pins = if api_url.starts_with("https://") { state.tls_pins.clone() } else { Vec::new() };
    let token = JoinToken {
        api_url,
        ssh: state.public.ssh(arrival),
        key: edge.key.clone(),
        host_keys: state.host_keys.iter().map(HostKeyFingerprint::of).collect(),
        tls_pins,
    };
    let (token, edge_id) = (token.expose(), EdgeId::random());
    admin::EdgeCreated {
        name: edge.name,
        endpoint_id: edge.endpoint,
        edge_id: edge_id.to_string(),
        key: edge.key.expose(),
        commands: commands(&token, &edge_id),
        join_token: token,
    }
}

/// `GET /edges`.
pub(super) async fn list(
    State(state): State<Arc<ApiState>>,
    operator: Operator,
    Query(query): Query<ListQuery>,
) -> Result<axum::Json<admin::EdgePage>> {
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        let detail = format!("limit must be 1 to {MAX_LIMIT}; ask for the next page with after");
        return Err(Problem::new(Code::InvalidRequest, detail));
    }
    let text = query.q.filter(|text| !text.is_empty());
    let query = EdgeQuery { reach: operator.reach, text, status: query.status, after: query.after, limit };
    Ok(axum::Json(state.tunnels.edges(query).await))
}

/// `GET /edges/{edge}`.
pub(super) async fn show(
    State(state): State<Arc<ApiState>>,
    Path(edge): Path<EdgeName>,
) -> Result<axum::Json<admin::Edge>> {
    Ok(axum::Json(state.tunnels.edge(&edge).await?))
}

/// `PATCH /edges/{edge}`.
pub(super) async fn change(
    State(state): State<Arc<ApiState>>,
    Path(edge): Path<EdgeName>,
    operator: Operator,
    Json(change): Json<admin::ChangeEdge>,
) -> Result<axum::Json<admin::Edge>> {
    if let Some(tags) = &change.tags {
        stays_in_reach(&operator, tags)?;
    }
    Ok(axum::Json(state.tunnels.change_edge(&edge, change).await?))
}

/// `DELETE /edges/{edge}`.
pub(super) async fn delete(
    State(state): State<Arc<ApiState>>,
    Path(edge): Path<EdgeName>,
) -> Result<StatusCode> {
    state.tunnels.delete_edge(&edge).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /edges/{edge}/dissociate`.
pub(super) async fn dissociate(
    State(state): State<Arc<ApiState>>,
    Path(edge): Path<EdgeName>,
) -> Result<StatusCode> {
    state.tunnels.dissociate(&edge).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /edges/{edge}/rotate`.
pub(super) async fn rotate(
    State(state): State<Arc<ApiState>>,
    peer: Peer,
    arrival: Arrival,
    Path(edge): Path<EdgeName>,
) -> Result<Response> {
    let edge = state.tunnels.rotate(&edge).await?;
    let rotated = enrolment(&state, edge, peer, &arrival);
    Ok(([NO_STORE], axum::Json(rotated)).into_response())
}

/// `POST /edges/{edge}/tunnel`.
pub(super) async fn raise(
    State(state): State<Arc<ApiState>>,
    Path(edge): Path<EdgeName>,
) -> Result<axum::Json<admin::Tunnel>> {
    Ok(axum::Json(state.tunnels.raise(&edge).await?))
}

/// `GET /edges/{edge}/tunnel`.
pub(super) async fn tunnel(
    State(state): State<Arc<ApiState>>,
    Path(edge): Path<EdgeName>,
) -> Result<axum::Json<admin::Tunnel>> {
    Ok(axum::Json(state.tunnels.edge(&edge).await?.tunnel))
}

/// `DELETE /edges/{edge}/tunnel`.
pub(super) async fn lower(
    State(state): State<Arc<ApiState>>,
    Path(edge): Path<EdgeName>,
) -> Result<axum::Json<admin::Tunnel>> {
    Ok(axum::Json(state.tunnels.lower(&edge).await?))
}

/// Nobody makes an edge that they could not see, and nobody gives one away by its tags.
fn stays_in_reach(operator: &Operator, tags: &[String]) -> Result<()> {
    if operator.reach.covers(tags) {
        return Ok(());
    }
    let detail = "you are bound to tags; give the edge one of yours, or you would not reach it";
    Err(Problem::new(Code::OutOfReach, detail))
}
