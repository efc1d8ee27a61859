//! The list of edges: search, filters, order, pages.
//!
//! The rule: a row's cells that change by themselves have ids of their own, so that the live page replaces
//! a cell and never a row, which somebody may be reading, selecting or tabbing through.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;
use shared::id::EdgeName;
use shared::wire::admin::{Edge, EdgePage, EdgeSort, EdgeStatus, SortOrder, TunnelState};

use super::frame::Visit;
use super::live::{self, Fragment, View};
use super::parts::{self, Icon, count, icon, text};
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

/// What the list's address says; empty is what nobody asked for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListQuery {
    q: String,
    status: String,
    tag: String,
    sort: String,
    order: String,
    after: String,
}

impl ListQuery {
    fn status(&self) -> Option<EdgeStatus> {
        EdgeStatus::ALL.into_iter().find(|status| status.word() == self.status)
    }

    fn sort(&self) -> EdgeSort {
        EdgeSort::ALL.into_iter().find(|sort| sort.word() == self.sort).unwrap_or_default()
    }

    fn order(&self) -> SortOrder {
        SortOrder::ALL.into_iter().find(|order| order.word() == self.order).unwrap_or_default()
    }

    /// The registry's question. What can't be understood in an address is as if it were not there.
    fn question(&self, reach: Reach) -> EdgeQuery {
        let (sort, order) = (self.sort(), self.order());
        let some = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        EdgeQuery {
            text: some(&self.q),
            status: self.status(),
            tags: some(&self.tag).into_iter().collect(),
            sort,
            order,
            after: Cursor::parse(&self.after, sort),
            ..EdgeQuery::first(reach, ROWS)
        }
    }

    /// The address of the list that this is, but for the page and what `change` does.
    fn address(&self, change: impl FnOnce(&mut Self)) -> String {
        let mut query = Self { after: String::new(), ..self.clone() };
        change(&mut query);
        let Self { q, status, tag, sort, order, after } = &query;
        let parameters =
            [("q", q), ("status", status), ("tag", tag), ("sort", sort), ("order", order), ("after", after)];
        let parameters = parameters.iter().filter(|(_, value)| !value.is_empty());
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
        if query.is_empty() { "/".to_owned() } else { format!("/?{query}") }
    }
}

/// `GET /`.
pub async fn list(
    State(state): State<Arc<ApiState>>,
    visit: Visit,
    operator: Operator,
    Query(query): Query<ListQuery>,
) -> Response {
    let found = state.tunnels.edges(query.question(operator.reach)).await;
    let names: Vec<_> = found.edges.iter().map(|edge| edge.name.as_str()).collect();
    let mut page = visit.page("Edges");
    if !names.is_empty() {
        page = page.live(format!("/live/edges?names={}", names.join(",")));
    }
    page.show(html! {
        header .head {
            h1 { "Edges" }
            @if visit.may(Needs::Edges(Role::Admin)) {
                a .button.primary href="/new-edge" { (icon(Icon::Add)) "New edge" }
            }
        }
        (filters(&query))
        (states(&query, &found))
        @if found.edges.is_empty() {
            (nothing(&visit, &query))
        } @else {
            (table(&query, &found))
            (pages(&query, &found))
        }
    })
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

fn filters(query: &ListQuery) -> Markup {
    let kept =
        [("status", &query.status), ("tag", &query.tag), ("sort", &query.sort), ("order", &query.order)];
    html! {
        search {
            form .filters action="/" {
                label .search {
                    (icon(Icon::Search))
                    span .unseen { "Search by name or tag" }
                    input type="search" name="q" value=(query.q) placeholder="Search by name or tag"
                        autocomplete="off" spellcheck="false" data-shortcut="/";
                }
                @for (name, value) in kept.into_iter().filter(|(_, value)| !value.is_empty()) {
                    input type="hidden" name=(name) value=(value);
                }
                button { "Search" }
                @if !query.tag.is_empty() {
                    a .button href=(query.address(|query| query.tag.clear())) {
                        "Tag: " (text(&query.tag)) (icon(Icon::Remove)) span .unseen { "Remove" }
                    }
                }
            }
        }
    }
}

/// Each state with how many have it: a filter, and the shape of the whole.
fn states(query: &ListQuery, found: &EdgePage) -> Markup {
    let all = EdgeStatus::ALL.iter().map(|status| found.counts.of(*status)).sum();
    let link = |status: Option<EdgeStatus>, label: Markup, number: usize| {
        let address =
            query.address(|query| query.status = status.map(EdgeStatus::word).unwrap_or_default().to_owned());
        html! {
            li {
                a href=(address) aria-current=[(query.status() == status).then_some("true")] {
                    (label) " " span .muted { (count(number)) }
                }
            }
        }
    };
    html! {
        nav .states aria-label="States" {
            ul {
                (link(None, html! { "All" }, all))
                @for status in EdgeStatus::ALL.into_iter().rev() {
                    (link(Some(status), parts::status(status), found.counts.of(status)))
                }
            }
        }
    }
}

fn table(query: &ListQuery, found: &EdgePage) -> Markup {
    html! {
        div .scroll tabindex="0" role="region" aria-label="Edges" {
            table .edges {
                thead {
                    tr {
                        (heading(query, "Name", EdgeSort::Name, SortOrder::Asc))
                        (heading(query, "State", EdgeSort::Status, SortOrder::Desc))
                        (heading(query, "Last check-in", EdgeSort::LastSeen, SortOrder::Desc))
                        (heading(query, "Agent", EdgeSort::Version, SortOrder::Asc))
                        th scope="col" { "Address" }
                        th scope="col" { "Tags" }
                    }
                }
                tbody { @for edge in &found.edges { (row(edge)) } }
            }
        }
    }
}

/// A column that the list can be sorted by: `first` way at first, and the other way from there.
fn heading(query: &ListQuery, label: &str, sort: EdgeSort, first: SortOrder) -> Markup {
    let current = (query.sort() == sort).then(|| query.order());
    let next = match current {
        None => first,
        Some(SortOrder::Asc) => SortOrder::Desc,
        Some(SortOrder::Desc) => SortOrder::Asc,
    };
    let (told, arrow) = match current {
        None => (None, None),
        Some(SortOrder::Asc) => (Some("ascending"), Some(Icon::Up)),
        Some(SortOrder::Desc) => (Some("descending"), Some(Icon::Down)),
    };
    let address = query.address(|query| {
        query.sort = sort.word().to_owned();
        query.order = next.word().to_owned();
    });
    html! {
        th scope="col" aria-sort=[told] { a href=(address) { (label) @if let Some(arrow) = arrow { (icon(arrow)) } } }
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
    let address = |tag: &String| ListQuery { tag: tag.clone(), ..ListQuery::default() }.address(|_| {});
    html! { @for tag in &edge.tags { a .tag href=(address(tag)) { (text(tag)) } " " } }
}

/// Shown where there is nothing, and read as nothing.
fn none() -> Markup {
    html! { span .muted aria-hidden="true" { "–" } }
}

fn nothing(visit: &Visit, query: &ListQuery) -> Markup {
    let is_filtered =
        [&query.q, &query.status, &query.tag, &query.after].iter().any(|text| !text.trim().is_empty());
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
    html! {
        nav .pages aria-label="Pages" {
            p .muted { (count(found.total)) @if found.total == 1 { " edge" } @else { " edges" } }
            @if !query.after.is_empty() {
                a .button href=(query.address(|_| {})) rel="first" { (icon(Icon::Previous)) "First" }
            }
            @if let Some(next) = &found.next {
                a .button href=(query.address(|query| query.after.clone_from(next))) rel="next" {
                    "Next" (icon(Icon::Next))
                }
            }
        }
    }
}
