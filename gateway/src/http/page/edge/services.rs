//! Services of an edge: a link for what a browser can show, commands to copy for the rest.

use maud::{Markup, html};
use shared::id::ServiceName;
use shared::wire::admin::Edge;
use shared::wire::check_in::{Service, ServiceKind};

use crate::http::page::parts::{copyable, text};

/// How somebody reaches services.
pub struct WaysIn<'a> {
    /// The gateway's address for browsers and our own program.
    pub url: &'a str,
    /// The same for SSH, as `host:port`.
    pub ssh: &'a str,
    /// Whether they may use services at all.
    pub uses: bool,
    /// Whether the gateway knows an SSH key of theirs.
    pub has_key: bool,
}

/// All services, with what there is to do with each.
pub fn show(edge: &Edge, ways: &WaysIn<'_>) -> Markup {
    let announced = announced(edge);
    let stock = edge.stock_client.iter().flat_map(|client| &client.services);
    html! {
        section .card #services aria-labelledby="services-title" {
            h2 #services-title { "Services" }
            @if announced.is_empty() && edge.stock_client.is_none() {
                p .muted { "No agent has said what it exposes. Give it " code { "--expose NAME=TARGET" } "." }
            }
            @if ways.uses && !ways.has_key {
                p .muted { "For commands with " code { "ssh" } ", " a href="/account" { "add your SSH key" } " first." }
            }
            @for service in &announced { (one(edge, service, ways)) }
            @for name in stock { (commands(edge, name, ServiceKind::Tcp, ways)) }
            @if ways.uses && announced.iter().any(|service| service.kind == ServiceKind::Unix) {
                p { a .button href={ "/edges/" (edge.name) "/containers" } { "Docker containers" } }
            }
        }
    }
}

/// Each service once, also where several instances announce it.
fn announced(edge: &Edge) -> Vec<&Service> {
    let mut all: Vec<&Service> = edge.instances.iter().flat_map(|instance| &instance.services).collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all.dedup_by(|a, b| a.name == b.name);
    all
}

fn one(edge: &Edge, service: &Service, ways: &WaysIn<'_>) -> Markup {
    let name = &service.name;
    html! {
        details #{ "service-" (name) } {
            summary { strong { (name) } " " span .muted { (service.kind) " at " (text(&service.target)) } }
            @if ways.uses && service.kind == ServiceKind::Http {
                p {
                    a .button.primary href={ "/edges/" (edge.name) "/services/" (name) "/open" } target="_blank"
                        rel="noopener" { "Open " (name) span .unseen { " in a new tab" } }
                }
            }
            (commands(edge, name, service.kind, ways))
        }
    }
}

/// Commands to copy: by our own program, by stock OpenSSH, by Docker's client.
fn commands(edge: &Edge, service: &ServiceName, kind: ServiceKind, ways: &WaysIn<'_>) -> Markup {
    let WaysIn { url, ssh, .. } = *ways;
    let (edge, id) = (&edge.name, |what: &str| format!("{what}-{service}"));
    let (host, port) = ssh.rsplit_once(':').unwrap_or((ssh, "8000"));
    let local = match kind {
        ServiceKind::Http => "8080",
        ServiceKind::Unix | ServiceKind::Tcp => "5000",
    };
    let connect = format!("TIDEGATE_URL={url} tidegate connect {edge}/{service} --listen 127.0.0.1:{local}");
    let jump = format!("ssh -J admin@{host}:{port} root@{edge}");
    let forward = format!("ssh -N -L 127.0.0.1:{local}:{service}.{edge}:80 -p {port} admin@{host}");
    html! {
        (copyable(&id("connect"), &format!("{service} on a local port"), &connect))
        @if service.as_str() == "ssh" { (copyable(&id("ssh"), "A shell", &jump)) }
        @else { (copyable(&id("forward"), &format!("{service} with stock OpenSSH"), &forward)) }
        @if kind == ServiceKind::Unix && service.as_str() == "docker" {
            (copyable(&id("docker"), "Docker's client", &format!(
                "TIDEGATE_URL={url} tidegate connect {edge}/{service} --listen 127.0.0.1:2375 &\nDOCKER_HOST=tcp://127.0.0.1:2375 docker ps"
            )))
        }
    }
}
