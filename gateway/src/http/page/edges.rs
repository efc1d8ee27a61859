//! The list of edges: search, filter, pages.
//!
//! The rule: a row's cells that change by themselves have ids of their own, so that the live page replaces
//! a cell and never a row, which somebody may be reading, selecting or tabbing through.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;
use shared::id::EdgeName;
use shared::wire::admin::{Edge, EdgePage, EdgeSort, EdgeStatus, TunnelState};

use super::frame::Visit;
use super::live::{self, Fragment, View};
use super::parts::{self, Icon, icon, text};
use crate::access::Operator;
use crate::domain::authority::{Reach, Role};
use crate::domain::event::{Event, What};
use crate::http::ApiState;
use crate::http::body::Query;
use crate::http::operation::Needs;
use crate::http::problem::{Code, Problem, Result};
use crate::tunnels::{Cursor, EdgeQuery, Tunnels};

/// Rows of a page: two screens, and a page of some 40 KiB.
const ROWS: usize = 50;

/// What the list's address says.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListQuery {
    q: String,
    /// Empty where any will do, as forms send it.
    status: String,
    after: String,
}

/// `GET /`.
pub async fn list(
    State(state): State<Arc<ApiState>>,
    visit: Visit,
    operator: Operator,
    Query(query): Query<ListQuery>,
) -> Result<Response> {
    let found = state
        .tunnels
        .edges(EdgeQuery {
            text: Some(query.q.trim().to_owned()).filter(|text| !text.is_empty()),
            status: STATUSES.into_iter().find(|status| parts::status_name(*status) == query.status),
            after: Cursor::parse(&query.after, EdgeSort::Name),
            ..EdgeQuery::first(operator.reach, ROWS)
        })
        .await;
    let names: Vec<_> = found.edges.iter().map(|edge| edge.name.as_str()).collect();
    let mut page = visit.page("Edges");
    if !names.is_empty() {
        page = page.live(format!("/live/edges?names={}", names.join(",")));
    }
    Ok(page.show(html! {
        header .head {
            h1 { "Edges" }
            @if visit.may(Needs::Edges(Role::Admin)) {
                a .button.primary href="/new-edge" { (icon(Icon::Add)) "New edge" }
            }
        }
        (filters(&query))
        @if found.edges.is_empty() { (nothing(&visit, &query)) } @else { (table(&found)) (pages(&query, &found)) }
    }))
}

/// Which rows a live page shows: names with commas between them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowsQuery {
    names: String,
}

/// `GET /live/edges`: the cells of rows, as they change.
pub async fn follow(
    State(state): State<Arc<ApiState>>,
    operator: Operator,
    Query(query): Query<RowsQuery>,
) -> Result<Response> {
    let names: std::result::Result<Vec<EdgeName>, _> = query.names.split(',').map(str::parse).collect();
    let names =
        names.map_err(|error| Problem::new(Code::InvalidRequest, format!("one of the names is {error}")))?;
    if names.len() > ROWS {
        return Err(Problem::new(Code::InvalidRequest, format!("a page has {ROWS} rows at most")));
    }
    let rows = Rows { tunnels: state.tunnels.clone(), reach: operator.reach.clone(), names };
    live::follow(&state, operator, rows).await
}

/// Rows on somebody's screen.
struct Rows {
    tunnels: Tunnels,
    reach: Reach,
    names: Vec<EdgeName>,
}

impl View for Rows {
    fn concerns(&self, event: &Event) -> bool {
        let is_here = |name| self.names.contains(name);
        is_here(&event.edge) || matches!(&event.what, What::Changed { name, .. } if is_here(name))
    }

    async fn fragments(&self) -> Vec<Fragment> {
        let edges = self.tunnels.edges_named(self.names.clone(), self.reach.clone()).await;
        let fragments = self.names.iter().zip(edges).map(|(name, edge)| match edge {
            Some(edge) => Vec::from(cells(&edge)),
            None => vec![cell(name, "state", html! { span .muted { "No longer here" } })],
        });
        fragments.flatten().collect()
    }
}

const STATUSES: [EdgeStatus; 4] =
    [EdgeStatus::TunnelOpen, EdgeStatus::Online, EdgeStatus::Offline, EdgeStatus::NeverJoined];

fn filters(query: &ListQuery) -> Markup {
    html! {
        search {
            form .filters action="/" {
                label .search {
                    (icon(Icon::Search))
                    span .unseen { "Search by name or tag" }
                    input type="search" name="q" value=(query.q) placeholder="Search by name or tag"
                        autocomplete="off" spellcheck="false" data-shortcut="/";
                }
                label {
                    span .unseen { "State" }
                    select name="status" data-submits {
                        option value="" { "Any state" }
                        @for status in STATUSES {
                            @let name = parts::status_name(status);
                            option value=(name) selected[name == query.status] { (parts::status_label(status)) }
                        }
                    }
                }
                button { "Search" }
            }
        }
    }
}

fn table(found: &EdgePage) -> Markup {
    html! {
        div .scroll tabindex="0" role="region" aria-label="Edges" {
            table .edges {
                thead {
                    tr {
                        @for heading in ["Name", "State", "Last check-in", "Agent", "Address", "Tags"] {
                            th scope="col" { (heading) }
                        }
                    }
                }
                tbody { @for edge in &found.edges { (row(edge)) } }
            }
        }
    }
}

fn row(edge: &Edge) -> Markup {
    let [state, seen, agent, address] = cells(edge);
    html! {
        tr data-edge=(edge.name) {
            th scope="row" { a href={ "/edges/" (edge.name) } { (edge.name) } }
            (state.markup) (seen.markup) (agent.markup) (address.markup)
            td { (tags(edge)) }
        }
    }
}

/// The cells that change by themselves.
fn cells(edge: &Edge) -> [Fragment; 4] {
    let cell = |column, body| cell(&edge.name, column, body);
    let first = edge.instances.first();
    let others = edge.instances.len().saturating_sub(1);
    let more = html! { @if others > 0 { " " span .muted { "+" (others) } } };
    [
        cell("state", state(edge)),
        cell("seen", html! { @if let Some(at) = &edge.last_seen { (parts::time(at)) } @else { (none()) } }),
        cell(
            "agent",
            html! {
                @if let Some(first) = first { (text(&first.agent)) (more) }
                @else if edge.stock_client.is_some() { "SSH client" }
                @else { (none()) }
            },
        ),
        cell(
            "address",
            html! { @if let Some(first) = first { code { (first.address) } (more) } @else { (none()) } },
        ),
    ]
}

fn cell(edge: &EdgeName, column: &str, body: Markup) -> Fragment {
    let id = format!("{edge}.{column}");
    Fragment { markup: html! { td #(id) { (body) } }, id }
}

fn state(edge: &Edge) -> Markup {
    let tunnel = match edge.tunnel.state {
        TunnelState::Wanted | TunnelState::Offered => Some("connecting"),
        TunnelState::Idle | TunnelState::Open => None,
    };
    html! {
        (parts::status(edge.status))
        @if let Some(tunnel) = tunnel { " " span .muted { (tunnel) } }
        @if edge.duplicate.is_some() { " " span .warning { (icon(Icon::Warning)) "two agents" } }
    }
}

fn tags(edge: &Edge) -> Markup {
    html! { @for tag in &edge.tags { a .tag href=(address(&[("q", tag)])) { (text(tag)) } " " } }
}

/// Shown where there is nothing, and read as nothing.
fn none() -> Markup {
    html! { span .muted aria-hidden="true" { "–" } }
}

fn nothing(visit: &Visit, query: &ListQuery) -> Markup {
    let is_filtered = !(query.q.trim().is_empty() && query.status.is_empty() && query.after.is_empty());
    if is_filtered {
        return parts::empty("No edge is like this", &html! { p { a href="/" { "Show all edges" } } });
    }
    let body = if visit.may(Needs::Edges(Role::Admin)) {
        html! {
            p { "An edge is one remote site. Make one, and start its agent with the command that you get." }
            p { a .button.primary href="/new-edge" { (icon(Icon::Add)) "New edge" } }
        }
    } else {
        html! { p { "An admin can make one, or give you access to one." } }
    };
    parts::empty("No edges yet", &body)
}

fn pages(query: &ListQuery, found: &EdgePage) -> Markup {
    let at = |after: &str| address(&[("q", query.q.trim()), ("status", &query.status), ("after", after)]);
    html! {
        nav .pages aria-label="Pages" {
            @if !query.after.is_empty() { a .button href=(at("")) rel="first" { (icon(Icon::Previous)) "First" } }
            @if let Some(next) = &found.next {
                a .button href=(at(next.as_str())) rel="next" { "Next" (icon(Icon::Next)) }
            }
        }
    }
}

/// The list's address with what is not empty of these.
fn address(parameters: &[(&str, &str)]) -> String {
    let parameters = parameters.iter().filter(|(_, value)| !value.is_empty());
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
    if query.is_empty() { "/".to_owned() } else { format!("/?{query}") }
}
