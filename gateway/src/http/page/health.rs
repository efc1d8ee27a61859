//! How the gateway is: what it says of its parts, and the last hour in small charts, drawn here so that they need no
//! script.
//!
//! The rule: every chart says its latest number in words beside it; the lines are for the eye only.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use maud::{Markup, html};
use shared::wire::admin::{GatewayStatus, HealthStatus, Status, StatusPoint, StatusSeries};

use super::frame::Visit;
use super::live::{self, Fragment, View};
use super::parts;
use crate::domain::authority::Reach;
use crate::domain::event::Event;
use crate::http::ApiState;
use crate::http::problem::Result;
use crate::quantities::bytes;
use crate::telemetry::Vitals;

/// Of a chart's own coordinates; the style sheet says how large it is shown.
const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 60.0;
/// Above the highest point, so that its line is whole.
const MARGIN: f64 = 4.0;

/// `GET /health`.
pub async fn show(State(state): State<Arc<ApiState>>, visit: Visit) -> Response {
    let status = state.vitals.status(Reach::all()).await;
    visit.page("Gateway").live("/live/health").show(html! {
        header .head { h1 { "Gateway" } }
        (facts(&status))
        (charts(&state.vitals.last_hour()))
    })
}

/// `GET /live/health`.
pub async fn follow(State(state): State<Arc<ApiState>>) -> Result<Response> {
    live::follow(&state, Health(state.vitals.clone())).await
}

struct Health(Vitals);

impl View for Health {
    /// All of it moves by itself, and is looked at now and then.
    fn concerns(&self, _: &Event) -> bool {
        false
    }

    async fn fragments(&self) -> Vec<Fragment> {
        let status = self.0.status(Reach::all()).await;
        vec![
            Fragment { id: "facts".into(), markup: facts(&status) },
            Fragment { id: "charts".into(), markup: charts(&self.0.last_hour()) },
        ]
    }
}

fn facts(status: &Status) -> Markup {
    let edges = &status.edges;
    html! {
        section #facts .cards {
            @if let Some(gateway) = &status.gateway { (parts_of(gateway)) }
            section .card {
                h2 { "Edges" }
                dl .facts {
                    dt { "Enrolled" } dd { (parts::count(edges.total())) }
                    dt { "Online" } dd { (parts::count(edges.online + edges.tunnel_open)) }
                    dt { "With an open tunnel" } dd { (parts::count(edges.tunnel_open)) }
                    dt { "Offline" } dd { (parts::count(edges.offline)) }
                    dt { "Never joined" } dd { (parts::count(edges.never_joined)) }
                }
            }
            @if let Some(gateway) = &status.gateway { (process(status, gateway)) }
        }
    }
}

fn parts_of(gateway: &GatewayStatus) -> Markup {
    html! {
        section .card {
            h2 { "Health" }
            dl .facts {
                @for (name, part) in &gateway.parts {
                    dt { (name) }
                    dd {
                        @match part.status {
                            HealthStatus::Ok => span .status data-status="online" { span .dot {} "Well" },
                            HealthStatus::Unavailable => {
                                span .status data-status="offline" { span .dot {} "Not well" }
                                @if let Some(reason) = &part.reason { ": " (reason) }
                            },
                        }
                    }
                }
            }
        }
    }
}

fn process(status: &Status, gateway: &GatewayStatus) -> Markup {
    html! {
        section .card {
            h2 { "Process" }
            dl .facts {
                dt { "Version" } dd { (status.version) }
                dt { "Started" } dd { (parts::time(&status.started_at)) }
                dt { "Connections" } dd { (parts::count(gateway.connections)) }
                dt { "Streams" } dd { (parts::count(gateway.streams)) }
                dt { "Live pages" } dd { (parts::count(gateway.watchers)) }
                @if let Some(memory) = gateway.memory_bytes { dt { "Memory" } dd { (bytes(memory)) } }
                @if let (Some(open), Some(most)) = (gateway.open_files, gateway.max_open_files) {
                    dt { "Open files" } dd { (open) " of " (most) }
                }
                @if let (Some(free), Some(total)) = (gateway.disk_free_bytes, gateway.disk_total_bytes) {
                    dt { "Free disk" } dd { (bytes(free)) " of " (bytes(total)) }
                }
            }
        }
    }
}

/// A chart's name, what it draws of a point, and how a value is said.
type Chart = (&'static str, fn(&StatusPoint) -> f64, fn(f64) -> String);

const CHARTS: [Chart; 5] = [
    ("Edges online", |point| point.online as f64, whole),
    ("Check-ins per second", |point| point.check_ins_per_s, rate),
    ("Open tunnels", |point| point.tunnels as f64, whole),
    ("From edges", |point| point.from_edges_per_s as f64, bytes_per_second),
    ("To edges", |point| point.to_edges_per_s as f64, bytes_per_second),
];

fn charts(series: &StatusSeries) -> Markup {
    html! {
        section #charts .cards aria-label="The last hour" {
            @for (label, value, said) in CHARTS {
                @let values: Vec<f64> = series.points.iter().map(value).collect();
                figure .card.chart {
                    figcaption {
                        (label)
                        strong { @match values.last() { Some(last) => (said(*last)), None => "no figure yet" } }
                    }
                    svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } preserveAspectRatio="none" aria-hidden="true" {
                        path d=(line(&values)) {}
                    }
                    p .muted { "At most " (said(values.iter().copied().fold(0.0, f64::max))) " in the last hour" }
                }
            }
        }
    }
}

/// The values from left to right as a path (SVG 2, section 9.3), zero at the bottom and the highest at the top.
fn line(values: &[f64]) -> String {
    let highest = values.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let step = WIDTH / (values.len().max(2) - 1) as f64;
    let mut path = String::new();
    for (at, value) in values.iter().enumerate() {
        let (x, y) = (at as f64 * step, HEIGHT - value / highest * (HEIGHT - MARGIN));
        // Writing to a String does not fail.
        let _ = write!(path, "{}{x:.1} {y:.1}", if at == 0 { "M" } else { "L" });
    }
    path
}

fn whole(value: f64) -> String {
    format!("{value:.0}")
}

fn rate(value: f64) -> String {
    format!("{value:.1}")
}

fn bytes_per_second(value: f64) -> String {
    format!("{}/s", bytes(value as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_goes_from_edge_to_edge_with_its_highest_value_below_the_top() {
        assert_eq!(line(&[]), "");
        assert_eq!(line(&[0.0, 0.0]), "M0.0 60.0L300.0 60.0");
        assert_eq!(line(&[0.0, 2.0, 1.0]), "M0.0 60.0L150.0 4.0L300.0 32.0");
    }
}
