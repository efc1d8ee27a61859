//! Edges and their tunnels.

use std::collections::HashSet;
use std::sync::Arc;

use axum::Extension;
use axum::extract::{FromRequestParts, State};
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, HeaderName, LOCATION};
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use schemars::JsonSchema;
use shared::fingerprint::HostKeyFingerprint;
use shared::id::{EdgeId, EdgeName};
use shared::join_token::JoinToken;
use shared::wire::admin::{self, EdgeSort, MAX_BULK, SortOrder};

use crate::access::Operator;
use crate::audit::Entry;
use crate::http::ApiState;
use crate::http::audited::Noted;
use crate::http::body::{Json, Path};
use crate::http::commands::commands;
use crate::http::conditional::{IfMatch, Tagged};
use crate::http::paging::{self, NO_CURSOR};
use crate::http::peer::{Arrival, Peer};
use crate::http::problem::{Code, Problem, Result};
use crate::tunnels::{AdminError, Cursor, EdgeQuery, Like, NewEdge};

/// Largest body of [`create_many`]: a thousand names of 63 characters, and their tags.
pub(super) const BULK_BODY: usize = 128 * 1024;

/// Query of the list.
#[derive(Default, JsonSchema)]
pub(in crate::http) struct ListQuery {
    /// Part of a name, or a whole tag.
    q: Option<String>,
    /// Only edges with this status.
    status: Option<admin::EdgeStatus>,
    /// Only edges with this tag; with all of them, if given several times.
    tag: Vec<String>,
    /// What they are sorted by: their name, where it is not given.
    sort: Option<EdgeSort>,
    /// Which way: the least first, where it is not given.
    order: Option<SortOrder>,
    /// `next` of the page before, in the same order.
    after: Option<String>,
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
    let noted = Extension(Noted::edge(&edge.name));
    let created = MadeFor { state: &state, peer, arrival: &arrival }.enrolment(edge);
    Ok((StatusCode::CREATED, noted, [NO_STORE, (LOCATION, location)], axum::Json(created)).into_response())
}

/// The answer shows a secret.
const NO_STORE: (HeaderName, HeaderValue) = (CACHE_CONTROL, HeaderValue::from_static("no-store"));

/// For whom join tokens are made: by what they came, they may be reached.
pub struct MadeFor<'a> {
    /// Where the gateway is, and its keys.
    pub state: &'a ApiState,
    /// Who asked.
    pub peer: Peer,
    /// By which address.
    pub arrival: &'a Arrival,
}

impl MadeFor<'_> {
    /// What the agent of this edge needs, with the ways to start it.
    pub fn enrolment(&self, edge: NewEdge) -> admin::EdgeCreated {
        let (key, id) = (edge.key.expose(), EdgeId::random());
        let admin::Enrolled { name, endpoint_id, edge_id, join_token } = self.enrolled(edge, &id);
        let commands = commands(&join_token, &id);
        admin::EdgeCreated { name, endpoint_id, edge_id, key, commands, join_token }
    }

    /// Makes edges that are alike, each name by itself.
    pub async fn enrol_many(
        &self,
        operator: &Operator,
        new: admin::CreateEdges,
    ) -> Result<admin::EdgesCreated> {
        let admin::CreateEdges { names, cluster, interval_s, idle_timeout_s, tags } = new;
        if !(1..=MAX_BULK).contains(&names.len()) {
            let detail = format!("names: {} are given; 1 to {MAX_BULK} are possible at once", names.len());
            return Err(Problem::new(Code::InvalidField, detail));
        }
        stays_in_reach(operator, &tags)?;
        let mut answer = admin::EdgesCreated::default();
        let mut good = Vec::with_capacity(names.len());
        let mut seen = HashSet::new();
        for name in &names {
            match name.parse::<EdgeName>() {
                Err(error) => {
                    answer.refused.push(refused(name, Code::InvalidField, format!("it is {error}")))
                }
                Ok(_) if !seen.insert(name) => {
                    let detail = "it is in the list more than once, and was taken the first time";
                    answer.refused.push(refused(name, Code::EdgeNameTaken, detail));
                }
                Ok(name) => good.push(name),
            }
        }
        let (created, taken) =
            self.state.tunnels.create_edges(good, Like { cluster, interval_s, idle_timeout_s, tags }).await?;
        let taken = taken.into_iter().map(|name| {
            let error = AdminError::NameTaken(name.clone());
            refused(name.as_str(), Code::EdgeNameTaken, error.to_string())
        });
        answer.refused.extend(taken);
        for edge in &created {
            // The request itself is recorded when it is answered; these say which edges it made.
            let entry = Entry::new(operator.into(), "edge.create").from(self.peer.address).edge(&edge.name);
            self.state.audit.note(entry.detail("one of many"));
        }
        answer.created = created.into_iter().map(|edge| self.enrolled(edge, &EdgeId::random())).collect();
        Ok(answer)
    }

    fn enrolled(&self, edge: NewEdge, id: &EdgeId) -> admin::Enrolled {
        let api_url = self.state.public.api_url(self.peer, self.arrival);
        // Over plain HTTP there is no key to pin.
        let tls_pins = if api_url.starts_with("https://") { self.state.tls_pins.clone() } else { Vec::new() };
        let token = JoinToken {
            api_url,
            ssh: self.state.public.ssh(self.arrival),
            key: edge.key,
            host_keys: self.state.host_keys.iter().map(HostKeyFingerprint::of).collect(),
            tls_pins,
        };
        admin::Enrolled {
            name: edge.name,
            endpoint_id: edge.endpoint,
            edge_id: id.to_string(),
            join_token: token.expose(),
        }
    }
}

/// `POST /bulk/edges`.
pub(super) async fn create_many(
    State(state): State<Arc<ApiState>>,
    peer: Peer,
    arrival: Arrival,
    operator: Operator,
    Json(new): Json<admin::CreateEdges>,
) -> Result<Response> {
    let answer = MadeFor { state: &state, peer, arrival: &arrival }.enrol_many(&operator, new).await?;
    let noted = Extension(Noted::detail(format!("{} edges", answer.created.len())));
    Ok((noted, [NO_STORE], axum::Json(answer)).into_response())
}

fn refused(name: &str, code: Code, detail: impl Into<String>) -> admin::EdgeRefused {
    admin::EdgeRefused { name: name.to_owned(), code: code.name().to_owned(), detail: detail.into() }
}

/// `GET /edges`.
pub(super) async fn list(
    State(state): State<Arc<ApiState>>,
    operator: Operator,
    query: ListQuery,
) -> Result<axum::Json<admin::EdgePage>> {
    let ListQuery { q, status, tag: tags, sort, order, after, limit } = query;
    let sort = sort.unwrap_or_default();
    let no_cursor = || Problem::new(Code::InvalidRequest, NO_CURSOR);
    let query = EdgeQuery {
        reach: operator.reach,
        text: q.filter(|text| !text.is_empty()),
        status,
        tags,
        sort,
        order: order.unwrap_or_default(),
        after: after.map(|text| Cursor::parse(&text, sort).ok_or_else(no_cursor)).transpose()?,
        limit: paging::limit(limit)?,
    };
    Ok(axum::Json(state.tunnels.edges(query).await))
}

impl ListQuery {
    /// By hand, as `tag` may be there more than once.
    pub(in crate::http) fn read(query: &str) -> std::result::Result<Self, String> {
        fn once<T>(field: &mut Option<T>, name: &str, value: Option<T>) -> std::result::Result<(), String> {
            let value = value.ok_or_else(|| format!("{name} has a value that it can't have"))?;
            field.replace(value).map_or(Ok(()), |_| Err(format!("{name} is given more than once")))
        }
        let mut read = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let value = value.as_ref();
            match name.as_ref() {
                "q" => once(&mut read.q, "q", Some(value.to_owned()))?,
                "status" => {
                    let status = admin::EdgeStatus::ALL.into_iter().find(|status| status.word() == value);
                    once(&mut read.status, "status", status)?;
                }
                "tag" => read.tag.push(value.to_owned()),
                "sort" => {
                    let sort = EdgeSort::ALL.into_iter().find(|sort| sort.word() == value);
                    once(&mut read.sort, "sort", sort)?;
                }
                "order" => {
                    let order = SortOrder::ALL.into_iter().find(|order| order.word() == value);
                    once(&mut read.order, "order", order)?;
                }
                "after" => once(&mut read.after, "after", Some(value.to_owned()))?,
                "limit" => once(&mut read.limit, "limit", value.parse().ok())?,
                other => {
                    let known = "q, status, tag, sort, order, after and limit";
                    return Err(format!("{other:?} is no parameter of this list, which has {known}"));
                }
            }
        }
        Ok(read)
    }
}

impl<S: Sync> FromRequestParts<S> for ListQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self> {
        let query = parts.uri.query().unwrap_or_default();
        Self::read(query).map_err(|detail| Problem::new(Code::InvalidRequest, detail))
    }
}

/// `GET /edges/{edge}`.
pub(super) async fn show(
    State(state): State<Arc<ApiState>>,
    Path(edge): Path<EdgeName>,
) -> Result<Tagged<admin::Edge>> {
    let (edge, version) = state.tunnels.edge_with_version(&edge).await?;
    Ok(Tagged(version, edge))
}

/// `PATCH /edges/{edge}`.
pub(super) async fn change(
    State(state): State<Arc<ApiState>>,
    Path(edge): Path<EdgeName>,
    operator: Operator,
    IfMatch(condition): IfMatch,
    Json(change): Json<admin::ChangeEdge>,
) -> Result<(Extension<Noted>, Tagged<admin::Edge>)> {
    if let Some(tags) = &change.tags {
        stays_in_reach(&operator, tags)?;
    }
    let noted = Extension(Noted::asked(&change));
    let (edge, version) = state.tunnels.provided(condition).change_edge(&edge, change).await?;
    Ok((noted, Tagged(version, edge)))
}

/// `DELETE /edges/{edge}`.
pub(super) async fn delete(
    State(state): State<Arc<ApiState>>,
    Path(edge): Path<EdgeName>,
    IfMatch(condition): IfMatch,
) -> Result<StatusCode> {
    state.tunnels.provided(condition).delete_edge(&edge).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /edges/{edge}/dissociate`.
pub(super) async fn dissociate(
    State(state): State<Arc<ApiState>>,
    Path(edge): Path<EdgeName>,
    IfMatch(condition): IfMatch,
) -> Result<StatusCode> {
    state.tunnels.provided(condition).dissociate(&edge).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /edges/{edge}/rotate`.
pub(super) async fn rotate(
    State(state): State<Arc<ApiState>>,
    peer: Peer,
    arrival: Arrival,
    Path(edge): Path<EdgeName>,
    IfMatch(condition): IfMatch,
) -> Result<Response> {
    let edge = state.tunnels.provided(condition).rotate(&edge).await?;
    let rotated = MadeFor { state: &state, peer, arrival: &arrival }.enrolment(edge);
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
pub fn stays_in_reach(operator: &Operator, tags: &[String]) -> Result<()> {
    if operator.reach.covers(tags) {
        return Ok(());
    }
    let detail = "you are bound to tags; give the edge one of yours, or you would not reach it";
    Err(Problem::new(Code::OutOfReach, detail))
}
