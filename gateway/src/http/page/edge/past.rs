//! What happened to an edge lately, newest first.

use maud::{Markup, html};
use shared::wire::admin::{EdgeEvent, HistoryEntry, TunnelUse};

use crate::http::page::parts::{text, time};
use crate::quantities::{bytes, span};

/// The entries.
pub fn show(entries: &[HistoryEntry]) -> Markup {
    html! {
        section .card #past aria-labelledby="past-title" {
            h2 #past-title { "History" }
            @if entries.is_empty() { p .muted { "Nothing has happened yet." } }
            @else {
                div .scroll tabindex="0" role="region" aria-label="History" {
                    table {
                        thead { tr { th scope="col" { "When" } th scope="col" { "What" } } }
                        tbody {
                            @for entry in entries {
                                tr { td { (time(&entry.at)) } td .wraps { (words(&entry.what)) (used(entry.used.as_ref())) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn words(event: &EdgeEvent) -> Markup {
    let plain = |words: &str| html! { (words) };
    match event {
        EdgeEvent::Created => plain("Enrolled"),
        EdgeEvent::Changed { name_before } => html! { "Changed; its name was " (name_before) },
        EdgeEvent::Deleted => plain("Deleted"),
        EdgeEvent::Joined => plain("An agent joined"),
        EdgeEvent::Dissociated => plain("Freed from its agent"),
        EdgeEvent::Online { hostname, .. } => {
            html! { "Online" @if let Some(hostname) = hostname { " on " (text(hostname)) } }
        }
        EdgeEvent::Offline { last_seen } => {
            html! { "Offline: missed its check-ins" @if let Some(at) = last_seen { "; the last was " (time(at)) } }
        }
        EdgeEvent::Duplicate { present, refused } => html! {
            "A second agent was refused" @if let Some(refused) = refused { " on " (text(refused)) }
            "; the first is on " (text(present))
        },
        EdgeEvent::TunnelWanted => plain("Somebody needs the tunnel"),
        EdgeEvent::TunnelOffered { .. } => plain("The agent heard of it"),
        EdgeEvent::TunnelOpened { .. } => plain("The tunnel opened"),
        EdgeEvent::TunnelClosed { reason, open_s, .. } => {
            html! { "The tunnel closed after " (span(*open_s)) ": " (text(reason)) }
        }
        EdgeEvent::TunnelUnwanted { reason } => html! {
            "The tunnel did not open" @if let Some(reason) = reason { ": " (text(reason)) }
        },
        EdgeEvent::SnapshotReceived { .. } => plain("Sent a snapshot"),
        EdgeEvent::Other => plain("Something that this version does not know"),
    }
}

fn used(used: Option<&TunnelUse>) -> Markup {
    html! {
        @if let Some(used) = used {
            span .muted {
                ". " (used.streams) " streams, " (bytes(used.from_edge_bytes)) " from the site, "
                (bytes(used.to_edge_bytes)) " to it"
                @if !used.operators.is_empty() { ", by " (text(&used.operators.join(", "))) }
            }
        }
    }
}
