//! Containers of an edge's Docker Engine: what runs, start, stop, restart, and their logs as they are written.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;
use shared::id::{EdgeName, ServiceName};
use shared::wire::admin::LogLine;
use shared::wire::snapshot::Container;
use tokio::time::timeout;

use super::form::{Form, Nothing};
use super::frame::{Visit, redirect_with};
use super::parts::text;
use crate::access::Operator;
use crate::http::ApiState;
use crate::http::body::{Path, Query};
use crate::http::docker::engine::{Act, ContainerName};
use crate::http::docker::{self, EngineQuery, Errand, Target};
use crate::http::peer::Peer;
use crate::http::problem::Result;

/// Lines of a log that a page begins with.
const TAIL: u32 = 200;
/// Longest wait for them. The page is live anyway and gets what comes later.
const LOG_TIME: Duration = Duration::from_secs(10);

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
    peer: Peer,
    operator: Operator,
    Path(edge): Path<EdgeName>,
    Query(EngineQuery { service }): Query<EngineQuery>,
) -> Result<Response> {
    let errand = Errand { state: &state, peer, operator: &operator, edge: &edge, service };
    let found = docker::containers(errand).await?;
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
    peer: Peer,
    operator: Operator,
    Path(Order { edge, container, act }): Path<Order>,
    Query(EngineQuery { service }): Query<EngineQuery>,
    Form(Nothing {}): Form<Nothing>,
) -> Result<Response> {
    let errand = Errand { state: &state, peer, operator: &operator, edge: &edge, service };
    docker::act(errand, act, &container).await?;
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
    peer: Peer,
    operator: Operator,
    Path(Target { edge, container }): Path<Target>,
    Query(EngineQuery { service }): Query<EngineQuery>,
) -> Result<Response> {
    let of_service = service.as_ref().map(|service| format!("&service={service}")).unwrap_or_default();
    let errand = Errand { state: &state, peer, operator: &operator, edge: &edge, service };
    let mut log = docker::log(errand, &container, TAIL, false).await?;
    let mut lines = Vec::new();
    // An engine may send more than it was asked for, or never come to an end; what broke off shows what came.
    let reading = async {
        while lines.len() < TAIL as usize
            && let Ok(Some(line)) = log.next().await
        {
            lines.push(line);
        }
    };
    let _ = timeout(LOG_TIME, reading).await;
    let path = format!("/edges/{edge}");
    let stream = format!("/api/v1{path}/containers/{container}/logs?tail={TAIL}&follow=true{of_service}");
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
