//! The last snapshot as something to read: the host, its disks, its services, its Docker Engines.

use maud::{Markup, html};
use shared::wire::admin::{Edge, SiteChanges};
use shared::wire::snapshot::{Disk, Docker, Host, Snapshot};

use crate::http::page::parts::{Tone, counted, notice, text, time};
use crate::quantities::{bytes, span};

/// What is known of a site.
pub struct Site {
    /// When the gateway got to know it.
    pub received_at: String,
    /// What the site looked like then.
    pub snapshot: Snapshot,
    /// What changed since the snapshot before.
    pub changes: SiteChanges,
}

/// The site, as it looked last.
pub fn show(edge: &Edge, site: Option<&Site>, uses: bool) -> Markup {
    html! {
        section .card #site aria-labelledby="site-title" {
            div .head {
                h2 #site-title { "The site" }
                @if uses {
                    form method="post" action={ "/edges/" (edge.name) "/snapshot" } { button { "Take a snapshot now" } }
                }
            }
            @match site {
                Some(Site { received_at, snapshot, changes }) => {
                    p .muted { "As of " (time(received_at)) }
                    (changed(changes))
                    (host(&snapshot.host))
                    (disks(&snapshot.host.disks))
                    @let silent = snapshot.agent.services.iter().filter(|health| !health.answers);
                    @for health in silent {
                        (notice(Tone::Problem, &html! {
                            "Service " strong { (health.service.name) } " did not answer: "
                            (text(health.reason.as_deref().unwrap_or("no reason is known")))
                        }))
                    }
                    @for engine in &snapshot.docker { (docker(engine)) }
                    @for problem in &snapshot.problems { (notice(Tone::Note, &html! { "Not known: " (text(problem)) })) }
                }
                None => p .muted { "No snapshot yet. Its agent sends one before it closes a tunnel." },
            }
        }
    }
}

fn changed(changes: &SiteChanges) -> Markup {
    html! {
        @if let Some(since) = &changes.since {
            details open[!changes.changes.is_empty()] {
                summary {
                    @if changes.changes.is_empty() { "Nothing has changed" } @else { (counted(changes.changes.len(), "change")) }
                    " since the snapshot of " (time(since))
                }
                ul .changes {
                    @for change in &changes.changes {
                        li {
                            strong { (text(&change.what)) } " "
                            @match (&change.before, &change.now) {
                                (Some(before), Some(now)) => { del { (text(before)) } " → " ins { (text(now)) } },
                                (None, Some(now)) => { "now: " ins { (text(now)) } },
                                (Some(before), None) => { "is gone: " del { (text(before)) } },
                                (None, None) => "changed",
                            }
                        }
                    }
                }
            }
        }
    }
}

fn host(host: &Host) -> Markup {
    html! {
        dl .facts {
            dt { "Host" } dd { (text(&host.name)) }
            dt { "System" } dd { (text(&host.os)) ", " (text(&host.kernel)) ", " (text(&host.architecture)) }
            dt { "Up" } dd { (span(host.uptime_s)) }
            dt { "Processors" }
            dd { (host.cpus) ", load " @for load in host.load { (format!("{load:.2}")) " " } }
            dt { "Memory" }
            dd {
                @let used = host.memory_total.saturating_sub(host.memory_available);
                meter max=(host.memory_total) value=(used) {}
                " " (bytes(host.memory_available)) " of " (bytes(host.memory_total)) " free"
            }
            @if !host.addresses.is_empty() {
                dt { "Addresses" }
                dd {
                    @for address in &host.addresses {
                        code { (text(&address.address)) } " " span .muted { (text(&address.interface)) } " "
                    }
                }
            }
        }
    }
}

fn disks(disks: &[Disk]) -> Markup {
    html! {
        @if !disks.is_empty() {
            div .scroll tabindex="0" role="region" aria-label="Disks" {
                table {
                    thead { tr { @for heading in ["Disk", "Used", "Free", "Size", "Type"] { th scope="col" { (heading) } } } }
                    tbody {
                        @for disk in disks {
                            tr {
                                th scope="row" { (text(&disk.mount)) }
                                td { meter max=(disk.total) value=(disk.total.saturating_sub(disk.available)) {} }
                                td { (bytes(disk.available)) } td { (bytes(disk.total)) }
                                td { (text(&disk.file_system)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn docker(engine: &Docker) -> Markup {
    html! {
        h3 { "Docker " (text(&engine.version)) " behind " (text(&engine.service)) }
        p .muted {
            (counted(engine.containers.len(), "container")) ", " (counted(engine.images.len(), "image")) ", "
            (counted(engine.volumes.len(), "volume")) ", " (counted(engine.networks.len(), "network"))
        }
        @if !engine.containers.is_empty() {
            div .scroll tabindex="0" role="region" aria-label="Containers" {
                table {
                    thead { tr { @for heading in ["Container", "Image", "State", "Ports"] { th scope="col" { (heading) } } } }
                    tbody {
                        @for container in &engine.containers {
                            tr {
                                th scope="row" { (text(&container.name)) }
                                td { (text(&container.image)) }
                                td { (text(&container.state)) " " span .muted { (text(&container.status)) } }
                                td { (text(&container.ports.join(", "))) }
                            }
                        }
                    }
                }
            }
        }
    }
}
