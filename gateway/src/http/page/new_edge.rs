//! A new edge: its form, and then, once, what its agent needs, on a page that turns green when the agent joins.
//!
//! The rule: the join token is on the answer to the form and nowhere else. Who loses it rotates the edge's key.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use maud::{Markup, html};
use serde::Deserialize;
use shared::id::EdgeName;
use shared::wire::admin::{CreateEdge, Edge, EdgeCreated, EdgeStatus};

use super::form::{self, Field, Form, INTERVALS, Kind, Wrong};
use super::frame::Visit;
use super::live::{self, Fragment, View};
use super::parts::{self, Icon, Tone, copyable, icon, notice, text};
use crate::access::Operator;
use crate::domain::authority::Reach;
use crate::domain::event::Event;
use crate::http::ApiState;
use crate::http::admin::edges::{MadeFor, stays_in_reach};
use crate::http::audited::Noted;
use crate::http::body::Query;
use crate::http::peer::{Arrival, Peer};
use crate::http::problem::{Code, Problem, Result};
use crate::tunnels::Tunnels;

/// What new edges have in common, as forms send it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Common {
    tags: String,
    /// Not empty where the box is ticked.
    cluster: String,
    interval_s: String,
}

/// The form.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct NewEdge {
    name: String,
    #[serde(flatten)]
    common: Common,
}

impl Common {
    /// Tags, as they are separated by commas.
    pub fn tags(&self) -> Vec<String> {
        form::tags(&self.tags)
    }

    /// Whether the box is ticked.
    pub fn cluster(&self) -> bool {
        !self.cluster.is_empty()
    }

    /// The interval, if one is given.
    pub fn interval_s(&self) -> std::result::Result<Option<u32>, Wrong> {
        form::seconds("interval_s", &self.interval_s)
    }

    /// The fields.
    pub fn show(&self, wrong: &Wrong) -> Markup {
        html! {
            (Field::new(Kind::Text, "tags", "Tags").value(&self.tags)
                .hint("Words to find it by, and to which users and tokens can be bound, with commas between them")
                .show(wrong))
            (Field::new(Kind::Number(INTERVALS.0, INTERVALS.1), "interval_s", "Check-in interval in seconds")
                .value(&self.interval_s).hint("How soon it hears that it is needed; empty for the gateway's").show(wrong))
            (form::tick(
                "cluster",
                "Cluster",
                "Several agents share this edge, one on each node; any of them opens the tunnel",
                self.cluster(),
            ))
        }
    }
}

/// Beside which field a refusal stands.
pub fn field_of(code: Code) -> Option<&'static str> {
    match code {
        Code::EdgeNameTaken => Some("name"),
        Code::OutOfReach => Some("tags"),
        _ => None,
    }
}

/// `GET /new-edge`.
pub async fn ask(visit: Visit) -> Response {
    show_form(&visit, "", &Common::default(), &Wrong::default())
}

/// `POST /new-edge`.
pub async fn create(
    State(state): State<Arc<ApiState>>,
    peer: Peer,
    arrival: Arrival,
    operator: Operator,
    visit: Visit,
    Form(NewEdge { name, common }): Form<NewEdge>,
) -> Response {
    match enrol(&state, peer, &arrival, &operator, &name, &common).await {
        Ok(created) => {
            let noted = Noted::edge(&created.name);
            (Extension(noted), show_created(&visit, &created)).into_response()
        }
        Err(wrong) => show_form(&visit, &name, &common, &wrong),
    }
}

async fn enrol(
    state: &ApiState,
    peer: Peer,
    arrival: &Arrival,
    operator: &Operator,
    name: &str,
    common: &Common,
) -> std::result::Result<EdgeCreated, Wrong> {
    let name: EdgeName =
        name.trim().parse().map_err(|error| Wrong::field("name", format!("the name is {error}")))?;
    let interval_s = common.interval_s()?;
    let refused = |problem: Problem| Wrong::refused(problem, field_of);
    let (tags, cluster) = (common.tags(), common.cluster());
    stays_in_reach(operator, &tags).map_err(refused)?;
    let new = CreateEdge { name, cluster, interval_s, idle_timeout_s: None, tags };
    let edge = state.tunnels.create_edge(new).await.map_err(|error| refused(error.into()))?;
    Ok(MadeFor { state, peer, arrival }.enrolment(edge))
}

fn show_form(visit: &Visit, name: &str, common: &Common, wrong: &Wrong) -> Response {
    visit.page("New edge").refused(wrong.problem.as_ref()).crumb("Edges", "/").show(html! {
        header .head { h1 { "New edge" } a .button href="/new-edges" { "Many at once" } }
        section .card {
            (wrong.show())
            form .form method="post" action="/new-edge" {
                (Field::new(Kind::Text, "name", "Name").value(name).required().first().most(63)
                    .hint("Small letters, digits and hyphens, as in a host's name: shop-17").show(wrong))
                (common.show(wrong))
                div .actions { button .primary { "Create" } a .button href="/" { "Cancel" } }
            }
        }
    })
}

/// What its agent needs, once.
pub fn show_created(visit: &Visit, created: &EdgeCreated) -> Response {
    let name = &created.name;
    let commands = [
        ("container", "Container", &created.commands.container),
        ("binary", "Plain binary", &created.commands.binary),
        ("compose", "Compose file", &created.commands.compose),
        ("systemd", "systemd", &created.commands.systemd),
    ];
    visit.page(name.as_str()).live(format!("/live/new-edge?name={name}")).crumb("Edges", "/").show(html! {
        header .head { h1 { (name) " is made" } a .button href="/new-edge" { "Another one" } }
        div aria-live="polite" { (waiting(name)) }
        section .card aria-labelledby="start" {
            h2 #start { "Start its agent at the site" }
            (notice(Tone::Note, &html! {
                "The join token is shown this once. Copy it, or a command that has it, before you leave this page."
            }))
            div .choices {
                @for (index, (id, label, command)) in commands.iter().enumerate() {
                    details #{ "way-" (id) } name="way" open[index == 0] {
                        summary { (label) }
                        (copyable(&format!("command-{id}"), &format!("{label}: command"), command))
                    }
                }
                details #way-ssh name="way" {
                    summary { "Stock SSH client" }
                    p {
                        "Where nothing can be installed, the site's own "
                        code { "ssh" } " or " code { "autossh" } " stands in for an agent. "
                        a href={ "/edges/" (name) "/offer" } target="_blank" rel="noopener" {
                            "Make credentials for it (in a new tab)"
                        }
                        "."
                    }
                }
            }
        }
        section .card aria-labelledby="token" {
            h2 #token { "Or by hand" }
            (copyable("join-token", "Join token", &created.join_token))
            (copyable("edge-id", "Edge ID", &created.edge_id))
            p .muted {
                "An agent without a token serves a page on http://127.0.0.1:9080 of its machine, to paste the join token into."
            }
        }
    })
}

/// Before anything is known of an agent.
fn waiting(name: &EdgeName) -> Markup {
    html! {
        div #joining .card.joining data-joined="false" {
            p { span .status { span .dot {} "Waiting for the agent to join" } }
            noscript {
                p {
                    a href={ "/edges/" (name) } target="_blank" rel="noopener" { "See in a new tab" }
                    " whether it has."
                }
            }
        }
    }
}

/// Which edge a page waits for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoiningQuery {
    name: EdgeName,
}

/// `GET /live/new-edge`: whether its agent has joined.
pub async fn follow(
    State(state): State<Arc<ApiState>>,
    operator: Operator,
    Query(JoiningQuery { name }): Query<JoiningQuery>,
) -> Result<Response> {
    let joining = Joining { tunnels: state.tunnels.clone(), reach: operator.reach.clone(), name };
    live::follow(&state, joining).await
}

/// An edge whose agent is waited for.
struct Joining {
    tunnels: Tunnels,
    reach: Reach,
    name: EdgeName,
}

impl View for Joining {
    fn concerns(&self, event: &Event) -> bool {
        event.edge == self.name
    }

    async fn fragments(&self) -> Vec<Fragment> {
        let mut edges = self.tunnels.edges_named(vec![self.name.clone()], self.reach.clone()).await;
        let markup = match edges.pop().flatten() {
            Some(edge) => joining(&edge),
            None => {
                html! { div #joining .card.joining data-joined="false" { p { "This edge is no longer here." } } }
            }
        };
        vec![Fragment { id: "joining".to_owned(), markup }]
    }
}

fn joining(edge: &Edge) -> Markup {
    match edge.status {
        EdgeStatus::NeverJoined => waiting(&edge.name),
        EdgeStatus::Offline | EdgeStatus::Online | EdgeStatus::TunnelOpen => html! {
            div #joining .card.joining data-joined="true" {
                p { (icon(Icon::Done)) strong { (edge.name) " has joined" } " " (parts::status(edge.status)) }
                @if let Some(agent) = edge.instances.first() {
                    p .muted {
                        "Agent " (text(&agent.agent)) " on " (text(&agent.hostname)) ", from " (agent.address)
                    }
                }
                p { a .button.primary href={ "/edges/" (edge.name) } { "Open " (edge.name) } }
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn common(tags: &str, interval_s: &str) -> Common {
        Common { tags: tags.into(), interval_s: interval_s.into(), ..Common::default() }
    }

    #[test]
    fn tags_are_separated_by_commas_and_may_have_spaces() {
        assert_eq!(common(" berlin, ring road ,,west", "").tags(), ["berlin", "ring road", "west"]);
        assert!(common("", "").tags().is_empty());
    }

    #[test]
    fn interval_is_a_number_or_nothing() {
        let read = |typed: &str| {
            common("", typed)
                .interval_s()
                .map_err(|wrong| wrong.problem.map(|it| it.code().status().as_u16()))
        };
        assert_eq!((read(""), read(" 30 ")), (Ok(None), Ok(Some(30))));
        assert_eq!((read("soon"), read("-1"), read("1.5")), (Err(Some(422)), Err(Some(422)), Err(Some(422))));
    }
}
