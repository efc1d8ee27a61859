//! An edge: its state, "Connect", its services, what its site looked like last, and what happened lately.
//!
//! Who presses "Connect" comes back to the page with `?hold=yes`, and its live stream then holds the tunnel: it raises the
//! flag anew before the gateway's lease is over, for as long as the page is there. The rule: it stops by itself when the
//! tunnel it held is closed, so that "Close" closes it for everybody, pages that are left open included.

pub mod change;
mod past;
mod report;
mod services;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, Uri};
use maud::{Markup, html};
use serde::Deserialize;
use shared::id::EdgeName;
use shared::wire::admin::{Edge, TunnelState};
use tokio::time::Instant;

use self::services::WaysIn;
use super::form::{Form, Nothing};
use super::frame::{Visit, redirect, redirect_with};
use super::live::{self, Fragment, View};
use super::parts::{self, Tone, notice, text};
use crate::access::Operator;
use crate::domain::authority::{Reach, Role};
use crate::domain::event::{Event, What};
use crate::domain::refusal::AdminError;
use crate::http::ApiState;
use crate::http::admin::snapshots::changes_to;
use crate::http::body::{Path, Query};
use crate::http::guard::from_our_page;
use crate::http::operation::Needs;
use crate::http::peer::{Arrival, Peer};
use crate::http::problem::{Problem, Result};
use crate::http::snapshot::unpack;
use crate::tunnels::Tunnels;

/// How often a page says that it holds the tunnel. The gateway's lease is 70 s at least.
const HOLD_EVERY: Duration = Duration::from_secs(30);
/// Entries of the history on the page: a screen.
const PAST: usize = 20;

/// What the page's address says.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EdgeQuery {
    /// Not empty where the page is to hold the tunnel.
    hold: String,
}

/// Where the page of an edge is.
fn path_of(edge: &EdgeName) -> String {
    format!("/edges/{edge}")
}

/// `GET /edges/{edge}`.
pub async fn show(
    State(state): State<Arc<ApiState>>,
    operator: Operator,
    visit: Visit,
    arrival: Arrival,
    peer: Peer,
    Path(name): Path<EdgeName>,
    Query(query): Query<EdgeQuery>,
) -> Result<Response> {
    let edge = state.tunnels.edge(&name).await?;
    let snapshot = match state.tunnels.snapshot(&name).await {
        Ok(blob) => {
            let received_at = blob.received_at.to_string();
            let snapshot = unpack(blob.gzip.into()).await.map_err(Problem::internal)?;
            let changes = changes_to(&state, &name, &snapshot).await?;
            Some(report::Site { received_at, snapshot, changes })
        }
        Err(AdminError::NoSnapshot) => None,
        Err(error) => return Err(error.into()),
    };
    let history = state.tunnels.edge_history(&name, PAST).await?;
    let uses = visit.may(Needs::Edge(Role::Operator));
    let holds = uses && !query.hold.is_empty();
    let live = format!("/live/edges/{name}{}", if holds { "?hold=yes" } else { "" });
    let url = state.public.api_url(peer, &arrival);
    let ssh = state.public.ssh(&arrival);
    let ways = WaysIn { url: &url, ssh: &ssh, uses, has_key: state.access.ssh_keys().lets_in(&operator) };
    Ok(visit.page(name.as_str()).crumb("Edges", "/").live(live).show(html! {
        header .head {
            h1 { (name) }
            @if visit.may(Needs::Edge(Role::Admin)) { a .button href={ (path_of(&name)) "/settings" } { "Settings" } }
        }
        (state_card(&edge, uses, holds))
        (services::show(&edge, &ways))
        (report::show(&edge, snapshot.as_ref(), uses))
        (past::show(&history))
    }))
}

/// `GET /live/edges/{edge}`: the state, as it changes; with `hold`, the tunnel is held meanwhile.
pub async fn follow(
    State(state): State<Arc<ApiState>>,
    peer: Peer,
    operator: Operator,
    uri: Uri,
    headers: HeaderMap,
    Path(name): Path<EdgeName>,
    Query(query): Query<EdgeQuery>,
) -> Result<Response> {
    let uses = operator.role >= Role::Operator;
    // To hold a tunnel is to do something, which another page must not make a browser do.
    let holds = uses && !query.hold.is_empty() && from_our_page(&state, &uri, &headers, peer).is_ok();
    let hold = Mutex::new(if holds { Hold::Wanted { since: None, was_open: false } } else { Hold::Not });
    let reach = operator.reach.clone();
    live::follow(&state, One { tunnels: state.tunnels.clone(), reach, name, uses, hold }).await
}

/// `POST /edges/{edge}/connect`.
pub async fn connect(
    State(state): State<Arc<ApiState>>,
    Path(name): Path<EdgeName>,
    Form(Nothing {}): Form<Nothing>,
) -> Result<Response> {
    state.tunnels.raise(&name).await?;
    Ok(redirect(&format!("{}?hold=yes", path_of(&name))))
}

/// `POST /edges/{edge}/close`.
pub async fn close(
    State(state): State<Arc<ApiState>>,
    Path(name): Path<EdgeName>,
    Form(Nothing {}): Form<Nothing>,
) -> Result<Response> {
    state.tunnels.lower(&name).await?;
    Ok(redirect_with(&path_of(&name), "The tunnel is closed"))
}

/// `POST /edges/{edge}/snapshot`.
pub async fn take_snapshot(
    State(state): State<Arc<ApiState>>,
    Path(name): Path<EdgeName>,
    Form(Nothing {}): Form<Nothing>,
) -> Result<Response> {
    state.tunnels.take_snapshot(&name).await?;
    Ok(redirect_with(&format!("{}#site", path_of(&name)), "The site has sent a snapshot"))
}

/// One edge on somebody's screen.
struct One {
    tunnels: Tunnels,
    reach: Reach,
    name: EdgeName,
    uses: bool,
    /// Guards what was held so far; never held across an await.
    hold: Mutex<Hold>,
}

/// Whether the page holds the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    /// Nobody asked for it, or what was held is closed.
    Not,
    /// Since the flag was raised last.
    Wanted { since: Option<Instant>, was_open: bool },
}

impl Hold {
    /// What follows from the tunnel's state, and whether the flag is to be raised now.
    fn next(self, state: TunnelState, now: Instant) -> (Self, bool) {
        let Self::Wanted { since, was_open } = self else { return (self, false) };
        match state {
            // Whoever closed it meant it.
            TunnelState::Idle if was_open => (Self::Not, false),
            TunnelState::Idle | TunnelState::Wanted | TunnelState::Offered | TunnelState::Open => {
                let is_due = since.is_none_or(|since| now.duration_since(since) >= HOLD_EVERY);
                let since = if is_due { Some(now) } else { since };
                (Self::Wanted { since, was_open: was_open || state == TunnelState::Open }, is_due)
            }
        }
    }
}

impl View for One {
    fn concerns(&self, event: &Event) -> bool {
        event.edge == self.name || matches!(&event.what, What::Changed { name, .. } if *name == self.name)
    }

    async fn fragments(&self) -> Vec<Fragment> {
        let mut found = self.tunnels.edges_named(vec![self.name.clone()], self.reach.clone()).await;
        let Some(mut edge) = found.pop().flatten() else {
            let gone = html! { section #state .card { p { "This edge is no longer here. " a href="/" { "All edges" } } } };
            return vec![Fragment { id: "state".to_owned(), markup: gone }];
        };
        let (holds, is_due) = {
            let mut hold = self.hold.lock().unwrap_or_else(PoisonError::into_inner);
            let (next, is_due) = hold.next(edge.tunnel.state, Instant::now());
            *hold = next;
            (next != Hold::Not, is_due)
        };
        if is_due && let Ok(tunnel) = self.tunnels.raise(&self.name).await {
            edge.tunnel = tunnel;
        }
        let state = Fragment { id: "state".to_owned(), markup: state_card(&edge, self.uses, holds) };
        let history = self.tunnels.edge_history(&self.name, PAST).await.unwrap_or_default();
        vec![state, Fragment { id: "past".to_owned(), markup: past::show(&history) }]
    }
}

/// What there is to know first, and to do.
fn state_card(edge: &Edge, uses: bool, holds: bool) -> Markup {
    let path = path_of(&edge.name);
    let is_open = edge.tunnel.state == TunnelState::Open;
    html! {
        section #state .card aria-labelledby="state-title" {
            div .head {
                h2 #state-title .unseen { "State" }
                p data-state=(state_word(edge.tunnel.state)) aria-live="polite" { (parts::status(edge.status)) " " (tunnel(edge, holds)) }
                @if uses {
                    div .actions {
                        @if edge.tunnel.state == TunnelState::Idle {
                            form method="post" action={ (path) "/connect" } { button .primary { "Connect" } }
                        } @else {
                            @if is_open && !holds {
                                form method="post" action={ (path) "/connect" } { button { "Keep it open" } }
                            }
                            form method="post" action={ (path) "/close" } {
                                button { @if is_open { "Close" } @else { "Cancel" } }
                            }
                        }
                    }
                }
            }
            @if let Some(duplicate) = &edge.duplicate {
                (notice(Tone::Problem, &html! {
                    "Two agents share this edge: one on " strong { (text(&duplicate.present)) } ", and one on "
                    strong { (text(duplicate.refused.as_deref().unwrap_or("another host"))) }
                    " that is refused. Stop one of them, or make the edge a cluster."
                }))
            }
            dl .facts {
                dt { "Last check-in" }
                dd { @if let Some(at) = &edge.last_seen { (parts::time(at)) } @else { "never" } }
                @for instance in &edge.instances {
                    dt { "Agent" }
                    dd { (text(&instance.agent)) " on " (text(&instance.hostname)) ", from " code { (instance.address) } }
                }
                @if edge.stock_client.is_some() { dt { "Agent" } dd { "A stock SSH client" } }
                dt { "Checks in" } dd { "every " (edge.interval_s) " s; closes after " (edge.idle_timeout_s) " s without use" }
                @if !edge.tags.is_empty() {
                    dt { "Tags" } dd { (parts::tag_list(&edge.tags)) }
                }
                @if edge.cluster { dt { "Cluster" } dd { (edge.instances.len()) " agents" } }
                @if let Some(reason) = edge.tunnel.reason.as_deref().filter(|_| !is_open) {
                    dt { "Last tunnel" } dd { (text(reason)) }
                }
            }
        }
    }
}

fn state_word(state: TunnelState) -> &'static str {
    match state {
        TunnelState::Idle => "idle",
        TunnelState::Wanted => "wanted",
        TunnelState::Offered => "offered",
        TunnelState::Open => "open",
    }
}

/// The tunnel in words.
fn tunnel(edge: &Edge, holds: bool) -> Markup {
    match edge.tunnel.state {
        TunnelState::Idle => html! { span .muted { "No tunnel: it is opened when somebody needs it" } },
        TunnelState::Wanted => html! {
            strong { "Connecting" }
            @match next_check_in(edge) {
                Some(at) => { ", next check-in " (parts::time(&at)) }
                None => ": waiting for its agent to check in",
            }
        },
        TunnelState::Offered => {
            html! { strong { "Connecting" } ": its agent has heard, and opens the tunnel" }
        }
        TunnelState::Open => html! {
            strong { "Connected" } " since " (parts::time(&edge.tunnel.since))
            @if holds { ". This page keeps the tunnel open" }
            @else if edge.tunnel.holds > 0 { ", in use" }
            @else { ", not in use" }
        },
    }
}

/// When an agent of the edge asks next, if one does.
fn next_check_in(edge: &Edge) -> Option<String> {
    let last = edge
        .instances
        .iter()
        .filter_map(|instance| shared::wire::parse_rfc3339(&instance.last_seen))
        .max()?;
    Some(shared::wire::rfc3339(last + Duration::from_secs(edge.interval_s.into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_holds_the_tunnel_until_somebody_closes_it() {
        use TunnelState::{Idle, Offered, Open, Wanted};
        let start = Instant::now();
        let mut hold = Hold::Wanted { since: None, was_open: false };
        for (seconds, state, raises) in [
            (0, Idle, true),
            (5, Wanted, false),
            (10, Offered, false),
            (15, Open, false),
            (30, Open, true),
            (35, Wanted, false),
            (65, Open, true),
            (70, Idle, false),
            (500, Idle, false),
            (600, Open, false),
        ] {
            let (next, raised) = hold.next(state, start + Duration::from_secs(seconds));
            assert_eq!(raised, raises, "after {seconds} s");
            hold = next;
        }
        assert_eq!(hold, Hold::Not);
        assert_eq!(Hold::Not.next(Idle, start), (Hold::Not, false));
    }
}
