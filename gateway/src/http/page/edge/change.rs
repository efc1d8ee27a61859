//! Changing an edge: its settings, a new key, another agent, its end. What can't be taken back is asked twice.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use maud::html;
use serde::Deserialize;
use shared::id::EdgeName;
use shared::wire::admin::{ChangeEdge, Edge};

use super::path_of;
use crate::access::Operator;
use crate::http::ApiState;
use crate::http::admin::edges::{MadeFor, stays_in_reach};
use crate::http::body::Path;
use crate::http::page::form::{self, Confirmation, Field, Form, IDLE_TIMES, INTERVALS, Kind, Nothing, Wrong};
use crate::http::page::frame::{Visit, redirect_with};
use crate::http::page::new_edge::{field_of, show_created};
use crate::http::peer::{Arrival, Peer};
use crate::http::problem::{Problem, Result};

/// The form of an edge's settings.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Settings {
    name: String,
    tags: String,
    cluster: String,
    interval_s: String,
    idle_timeout_s: String,
}

impl Settings {
    /// As it is now. What stands there is in force, also where it is the gateway's.
    fn of(edge: &Edge) -> Self {
        Self {
            name: edge.name.to_string(),
            tags: edge.tags.join(", "),
            cluster: if edge.cluster { "yes".to_owned() } else { String::new() },
            interval_s: edge.interval_s.to_string(),
            idle_timeout_s: edge.idle_timeout_s.to_string(),
        }
    }

    /// What differs from how it is now; an empty number takes the gateway's.
    fn change(&self, edge: &Edge) -> std::result::Result<ChangeEdge, Wrong> {
        let name: EdgeName =
            self.name.trim().parse().map_err(|error| Wrong::field("name", format!("the name is {error}")))?;
        let tags = form::tags(&self.tags);
        let interval = form::seconds("interval_s", &self.interval_s)?;
        let idle = form::seconds("idle_timeout_s", &self.idle_timeout_s)?;
        let cluster = !self.cluster.is_empty();
        Ok(ChangeEdge {
            name: (name != edge.name).then_some(name),
            tags: (tags != edge.tags).then_some(tags),
            cluster: (cluster != edge.cluster).then_some(cluster),
            interval_s: (interval != Some(edge.interval_s)).then_some(interval),
            idle_timeout_s: (idle != Some(edge.idle_timeout_s)).then_some(idle),
        })
    }
}

/// `GET /edges/{edge}/settings`.
pub async fn ask(
    State(state): State<Arc<ApiState>>,
    visit: Visit,
    Path(name): Path<EdgeName>,
) -> Result<Response> {
    let edge = state.tunnels.edge(&name).await?;
    Ok(show(&visit, &edge, &Settings::of(&edge), &Wrong::default()))
}

/// `POST /edges/{edge}/settings`.
pub async fn change(
    State(state): State<Arc<ApiState>>,
    visit: Visit,
    operator: Operator,
    Path(name): Path<EdgeName>,
    Form(form): Form<Settings>,
) -> Result<Response> {
    let edge = state.tunnels.edge(&name).await?;
    let changed = async {
        let change = form.change(&edge)?;
        let refused = |problem: Problem| Wrong::refused(problem, field_of);
        if let Some(tags) = &change.tags {
            stays_in_reach(&operator, tags).map_err(refused)?;
        }
        state.tunnels.change_edge(&name, change).await.map_err(|error| refused(error.into()))
    };
    Ok(match changed.await {
        Ok((edge, _)) => redirect_with(&path_of(&edge.name), "The settings are saved"),
        Err(wrong) => show(&visit, &edge, &form, &wrong),
    })
}

fn show(visit: &Visit, edge: &Edge, form: &Settings, wrong: &Wrong) -> Response {
    let path = path_of(&edge.name);
    let page = visit.page("Settings").refused(wrong.problem.as_ref()).crumb("Edges", "/");
    page.crumb(edge.name.as_str(), path.as_str()).show(html! {
        header .head { h1 { "Settings of " (edge.name) } }
        section .card {
            (wrong.show())
            form .form method="post" action={ (path) "/settings" } {
                (Field::new(Kind::Text, "name", "Name").value(&form.name).required().most(63)
                    .hint("Commands and host names that have the old one stop working").show(wrong))
                (Field::new(Kind::Text, "tags", "Tags").value(&form.tags).hint("With commas between them").show(wrong))
                (Field::new(Kind::Number(INTERVALS.0, INTERVALS.1), "interval_s", "Check-in interval in seconds")
                    .value(&form.interval_s).hint("Empty for the gateway's").show(wrong))
                (Field::new(Kind::Number(IDLE_TIMES.0, IDLE_TIMES.1), "idle_timeout_s", "Idle time in seconds")
                    .value(&form.idle_timeout_s)
                    .hint("A tunnel that nobody uses for so long is closed; empty for the gateway's").show(wrong))
                (form::tick(
                    "cluster",
                    "Cluster",
                    "Several agents share this edge, one on each node; any of them opens the tunnel",
                    !form.cluster.is_empty(),
                ))
                div .actions { button .primary { "Save" } a .button href=(path) { "Cancel" } }
            }
        }
        section .card aria-labelledby="agent" {
            h2 #agent { "Its agent" }
            p { "Another machine takes over: free the edge, and start an agent with the same join token there." }
            p { a .button href={ (path) "/dissociate" } data-confirm { "Dissociate" } }
            p { "A join token has leaked, or is lost: give the edge a new key. Its agent needs the new join token." }
            p { a .button href={ (path) "/rotate" } data-confirm { "Rotate the key" } }
            p { "Nothing can be installed there: let a stock SSH client stand in." }
            p { a .button href={ (path) "/offer" } { "Make credentials for an SSH client" } }
            p { "The site is no more." }
            p { a .button.danger href={ (path) "/delete" } data-confirm { "Delete the edge" } }
        }
    })
}

/// A question about an edge, with what it will do.
fn question(visit: &Visit, edge: &EdgeName, verb: &str, title: &str, word: &str, body: &str) -> Response {
    let path = path_of(edge);
    let (action, back) = (format!("{path}/{word}"), format!("{path}/settings"));
    let title = format!("{title} {edge}?");
    visit.page(title.as_str()).crumb("Edges", "/").crumb(edge.as_str(), path.as_str()).show(
        Confirmation { title: &title, body: html! { p { (body) } }, verb, action: &action, back: &back }
            .show(),
    )
}

/// `GET /edges/{edge}/dissociate`.
pub async fn ask_dissociate(visit: Visit, Path(edge): Path<EdgeName>) -> Response {
    let body = "Its tunnel closes, and its agent is refused until it joins anew. The first agent that shows the join \
                token from now on has the edge.";
    question(&visit, &edge, "Dissociate", "Dissociate", "dissociate", body)
}

/// `POST /edges/{edge}/dissociate`.
pub async fn dissociate(
    State(state): State<Arc<ApiState>>,
    Path(edge): Path<EdgeName>,
    Form(Nothing {}): Form<Nothing>,
) -> Result<Response> {
    state.tunnels.dissociate(&edge).await?;
    Ok(redirect_with(&path_of(&edge), "The edge is free for another agent"))
}

/// `GET /edges/{edge}/rotate`.
pub async fn ask_rotate(visit: Visit, Path(edge): Path<EdgeName>) -> Response {
    let body = "Its join token is worth nothing from then on, its tunnel closes, and its agent stays away until it gets \
                the new one, which you see next.";
    question(&visit, &edge, "Rotate the key", "Rotate the key of", "rotate", body)
}

/// `POST /edges/{edge}/rotate`.
pub async fn rotate(
    State(state): State<Arc<ApiState>>,
    peer: Peer,
    arrival: Arrival,
    visit: Visit,
    Path(edge): Path<EdgeName>,
    Form(Nothing {}): Form<Nothing>,
) -> Result<Response> {
    let edge = state.tunnels.rotate(&edge).await?;
    let created = MadeFor { state: &state, peer, arrival: &arrival }.enrolment(edge);
    Ok(show_created(&visit, &created).into_response())
}

/// `GET /edges/{edge}/delete`.
pub async fn ask_delete(visit: Visit, Path(edge): Path<EdgeName>) -> Response {
    let body = "Its key is revoked, its tunnel closes, and its snapshot and history are gone. This can't be taken back.";
    question(&visit, &edge, "Delete", "Delete", "delete", body)
}

/// `POST /edges/{edge}/delete`.
pub async fn delete(
    State(state): State<Arc<ApiState>>,
    Path(edge): Path<EdgeName>,
    Form(Nothing {}): Form<Nothing>,
) -> Result<Response> {
    state.tunnels.delete_edge(&edge).await?;
    Ok(redirect_with("/", format!("{edge} is deleted")))
}
