//! The list of edges: search, filters, order, pages.
//!
//! The rule: a row's cells that change by themselves have ids of their own, so that the live page replaces
//! a cell and never a row, which somebody may be reading, selecting or tabbing through. For the same reason rows neither
//! come nor go by themselves: the page says that the list is another one now, and its reader decides.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;
use shared::id::EdgeName;
use shared::wire::admin::{Edge, EdgePage, EdgeSort, EdgeStatus, SortOrder, TunnelState};

use super::frame::Visit;
use super::live::{self, Fragment, View};
use super::parts::{self, Icon, count, counted, icon, text};
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
    /// Which rows a live page shows: names with commas between them.
    names: String,
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
        let mut query = Self { after: String::new(), ..self.here() };
        change(&mut query);
        query.at("/")
    }

    /// The list itself, whatever rows a live page shows of it.
    fn here(&self) -> Self {
        Self { names: String::new(), ..self.clone() }
    }

    fn at(&self, path: &str) -> String {
        let Self { q, status, tag, sort, order, after, names } = self;
        let parameters = [
            ("q", q),
            ("status", status),
            ("tag", tag),
            ("sort", sort),
            ("order", order),
            ("after", after),
            ("names", names),
        ];
        let parameters = parameters.iter().filter(|(_, value)| !value.is_empty());
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
        if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
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
    let shown = ListQuery { names: names.join(","), ..query.clone() };
    let page = visit.page("Edges").live(shown.at("/live/edges"));
    page.show(html! {
        header .head {
            h1 { "Edges" }
            @if visit.may(Needs::Edges(Role::Admin)) {
                a .button.primary href="/new-edge" { (icon(Icon::Add)) "New edge" }
            }
        }
        (filters(&query))
        (states(&query, &found))
        (news(&query, false).markup)
        @if found.edges.is_empty() {
            (nothing(&visit, &query))
        } @else {
            (table(&query, &found))
            (pages(&query, &found))
        }
    })
}

/// `GET /live/edges`: the cells of the rows that are shown, and the counts of the list, as they change.
pub async fn follow(
    State(state): State<Arc<ApiState>>,
    operator: Operator,
    Query(query): Query<ListQuery>,
) -> Result<Response> {
    let names = query.names.split(',').filter(|name| !name.is_empty()).map(str::parse);
    let names: Vec<EdgeName> = names
        .collect::<std::result::Result<_, _>>()
        .map_err(|error| Problem::new(Code::InvalidRequest, format!("one of the names is {error}")))?;
    if names.len() > ROWS {
        return Err(Problem::new(Code::InvalidRequest, format!("a page has {ROWS} rows at most")));
    }
    let rows =
        Rows { tunnels: state.tunnels.clone(), reach: operator.reach.clone(), query: query.here(), names };
    live::follow(&state, rows).await
}

/// The list on somebody's screen.
struct Rows {
    tunnels: Tunnels,
    reach: Reach,
    query: ListQuery,
    /// Its rows.
    names: Vec<EdgeName>,
}

impl Rows {
    /// Whether a reload would show other rows. Where their order changes all the time, which of them a page has says
    /// nothing, unless it has all.
    fn is_another(&self, found: &EdgePage) -> bool {
        let now: Vec<_> = found.edges.iter().map(|edge| &edge.name).collect();
        match self.query.sort() {
            EdgeSort::Name => !now.into_iter().eq(&self.names),
            EdgeSort::Status | EdgeSort::LastSeen | EdgeSort::Version => {
                let is_whole = found.next.is_none() && self.query.after.is_empty();
                now.len() != self.names.len() || is_whole && !now.iter().all(|name| self.names.contains(name))
            }
        }
    }
}

impl View for Rows {
    fn concerns(&self, event: &Event) -> bool {
        match &event.what {
            What::Created | What::Changed { .. } | What::Deleted => true,
            What::Joined
            | What::Dissociated
            | What::Online { .. }
            | What::Offline { .. }
            | What::Duplicate { .. }
            | What::TunnelWanted
            | What::TunnelOffered { .. }
            | What::TunnelOpened { .. }
            | What::TunnelClosed { .. }
            | What::TunnelUnwanted { .. }
            | What::SnapshotReceived { .. } => self.names.contains(&event.edge),
        }
    }

    async fn fragments(&self) -> Vec<Fragment> {
        let found = self.tunnels.edges(self.query.question(self.reach.clone())).await;
        let edges = self.tunnels.edges_named(self.names.clone(), self.reach.clone()).await;
        let cells = self.names.iter().zip(edges).flat_map(|(name, edge)| match edge {
            Some(edge) => Vec::from(cells(&edge)),
            None => vec![cell(name, "state", html! { span .muted { "No longer here" } })],
        });
        let mut fragments: Vec<_> = cells.collect();
        fragments.extend(numbers(&found).map(|(_, number)| number));
        fragments.push(news(&self.query, self.is_another(&found)));
        fragments
    }
}

/// What there is to say of the list as a whole since it was shown.
fn news(query: &ListQuery, is_another: bool) -> Fragment {
    let markup = html! {
        p #list-news role="status" {
            @if is_another { "This list has changed. " a href=(query.at("/")) { "Show it as it is now" } }
        }
    };
    Fragment { id: "list-news".to_owned(), markup }
}

/// How many edges have each state, and how many there are; none is all of them.
fn numbers(found: &EdgePage) -> impl Iterator<Item = (Option<EdgeStatus>, Fragment)> {
    let all = EdgeStatus::ALL.iter().map(|status| found.counts.of(*status)).sum();
    let states = EdgeStatus::ALL.into_iter().rev().map(|status| (Some(status), found.counts.of(status)));
    std::iter::once((None, all)).chain(states).map(|(status, number)| {
        // No edge has a dot-less cell, so none has this id.
        let id = format!("edges-{}", status.map_or("all", EdgeStatus::word));
        (status, Fragment { markup: html! { span #(id) .muted { (count(number)) } }, id })
    })
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
    html! {
        nav .states aria-label="States" {
            ul {
                @for (status, number) in numbers(found) {
                    @let word = status.map(EdgeStatus::word).unwrap_or_default();
                    li {
                        a href=(query.address(|query| query.status = word.to_owned()))
                            aria-current=[(query.status() == status).then_some("true")] {
                            @match status { Some(status) => (parts::status(status)), None => "All" }
                            " " (number.markup)
                        }
                    }
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
            p .muted { (counted(found.total, "edge")) }
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
