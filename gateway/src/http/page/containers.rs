//! Containers of an edge's Docker Engine: what runs, start, stop, restart, and their logs as they are written.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;
use shared::id::{EdgeName, ServiceName};
use shared::wire::admin::LogLine;
use shared::wire::snapshot::Container;

use super::form::{Form, Nothing};
use super::frame::{Visit, redirect_with};
use super::parts::text;
use crate::access::Operator;
use crate::http::ApiState;
use crate::http::body::{Path, Query};
use crate::http::docker::engine::{Act, ContainerName};
use crate::http::docker::{self, EngineQuery, Target};
use crate::http::problem::Result;

/// Lines of a log that a page begins with.
const TAIL: u32 = 200;

/// Characters of an id, and of what Docker shows of one.
const ID: usize = 64;
const SHORT_ID: usize = 12;

/// Which container, and what is done to it.
#[derive(Debug, Deserialize)]
pub struct Order {
    edge: EdgeName,
    container: ContainerName,
    act: Act,
}

/// `GET /edges/{edge}/containers`.
pub async fn list(
    State(state): State<Arc<ApiState>>,
    visit: Visit,
    operator: Operator,
    Path(edge): Path<EdgeName>,
    Query(query): Query<EngineQuery>,
) -> Result<Response> {
    let found = docker::containers(&state, &operator, &edge, query.service).await?;
    let path = format!("/edges/{edge}");
    Ok(visit.page("Containers").crumb("Edges", "/").crumb(edge.as_str(), path.as_str()).show(html! {
        header .head {
            h1 { "Containers of " (edge) }
            a .button href={ (path) "/containers?service=" (found.service) } { "Refresh" }
        }
        @if found.containers.is_empty() { p .muted { "There is no container, running or not." } }
        @else {
            div .scroll tabindex="0" role="region" aria-label="Containers" {
                table {
                    thead { tr { @for heading in ["Container", "State", "Image", "Ports", ""] { th scope="col" { (heading) } } } }
                    tbody { @for container in &found.containers { (row(&path, &found.service, container)) } }
                }
            }
        }
    }))
}

fn row(path: &str, service: &ServiceName, container: &Container) -> Markup {
    let at = |word: &str| format!("{path}/containers/{}/{word}?service={service}", container.id);
    let runs = matches!(container.state.as_str(), "running" | "restarting" | "paused");
    let acts: &[(Act, &str)] =
        if runs { &[(Act::Stop, "Stop"), (Act::Restart, "Restart")] } else { &[(Act::Start, "Start")] };
    html! {
        tr data-container=(text(&container.name)) {
            th scope="row" { (text(&container.name)) }
            td { (text(&container.state)) " " span .muted { (text(&container.status)) } }
            td { (text(&container.image)) }
            td .wraps { (text(&container.ports.join(", "))) }
            td {
                // An id that is none can't be asked for.
                @if container.id.parse::<ContainerName>().is_ok() {
                    div .actions {
                        a .button.small href=(at("logs")) { "Logs" }
                        @for (act, label) in acts {
                            form method="post" action=(at(act.name())) { button .small { (label) } }
                        }
                    }
                }
            }
        }
    }
}

/// `POST /edges/{edge}/containers/{container}/{act}`.
pub async fn act(
    State(state): State<Arc<ApiState>>,
    operator: Operator,
    Path(order): Path<Order>,
    Query(query): Query<EngineQuery>,
    Form(Nothing {}): Form<Nothing>,
) -> Result<Response> {
    let Order { edge, container, act } = order;
    docker::act(&state, &operator, act, &edge, &container, query.service).await?;
    let word = match act {
        Act::Start => "started",
        Act::Stop => "stopped",
        Act::Restart => "restarted",
    };
    Ok(redirect_with(&format!("/edges/{edge}/containers"), format!("The container is {word}")))
}

/// `GET /edges/{edge}/containers/{container}/logs`.
pub async fn logs(
    State(state): State<Arc<ApiState>>,
    visit: Visit,
    operator: Operator,
    Path(Target { edge, container }): Path<Target>,
    Query(query): Query<EngineQuery>,
) -> Result<Response> {
    let service = query.service.as_ref().map(|service| format!("&service={service}")).unwrap_or_default();
    let mut log = docker::log(&state, &operator, &edge, &container, query.service, TAIL, false).await?;
    let mut lines = Vec::new();
    // What broke off shows what came.
    while let Ok(Some(line)) = log.next().await {
        lines.push(line);
    }
    let path = format!("/edges/{edge}");
    let stream = format!("/api/v1{path}/containers/{container}/logs?tail={TAIL}&follow=true{service}");
    let name = container.to_string();
    let shown_name = short(&name);
    let page =
        visit.page(format!("Log of {shown_name}")).crumb("Edges", "/").crumb(edge.as_str(), path.as_str());
    Ok(page.crumb("Containers", format!("{path}/containers")).show(html! {
        header .head { h1 { "Log of " (shown_name) } }
        pre .log tabindex="0" role="log" aria-label="Log" data-log=(stream) { @for line in &lines { (shown(line)) } }
    }))
}

/// An id as Docker shows it in lists; a name as it is.
fn short(container: &str) -> &str {
    let is_id = container.len() == ID && container.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_id { &container[..SHORT_ID] } else { container }
}

fn shown(line: &LogLine) -> Markup {
    html! { span title=[line.at.as_deref()] { (text(&line.text)) "\n" } }
}
