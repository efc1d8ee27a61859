//! The audit log: what was done, newest first, and whether the log is intact.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use form_urlencoded::Serializer;
use maud::{Markup, html};
use serde::Deserialize;
use shared::wire::admin::{AuditOutcome, AuditPage, AuditRecord, AuditVerdict};

use super::frame::Visit;
use super::parts::{self, Icon, Tone, icon, notice, text};
use crate::audit::page;
use crate::domain::edge::Timestamp;
use crate::http::ApiState;
use crate::http::admin::audit;
use crate::http::body::Query;
use crate::http::problem::{Code, Problem, Result};
use crate::quantities::bytes;

/// Records of a page.
const ROWS: usize = 50;

/// What the page's address asks for. What is empty asks for nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Asked {
    edge: String,
    actor: String,
    action: String,
    after: Option<u64>,
}

impl Asked {
    fn read(&self) -> Result<page::Query> {
        let given = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        let edge = given(&self.edge).map(|edge| edge.parse()).transpose();
        let edge =
            edge.map_err(|error| Problem::new(Code::InvalidRequest, format!("the edge's name is {error}")))?;
        let (actor, action) = (given(&self.actor), given(&self.action));
        Ok(page::Query { after: self.after, limit: ROWS, edge, actor, action, since: None, until: None })
    }

    fn at(&self, after: u64) -> String {
        let mut query = Serializer::new(String::new());
        for (name, value) in [("edge", &self.edge), ("actor", &self.actor), ("action", &self.action)] {
            if !value.is_empty() {
                query.append_pair(name, value);
            }
        }
        format!("/audit?{}", query.append_pair("after", &after.to_string()).finish())
    }
}

/// `GET /audit`.
pub async fn list(
    State(state): State<Arc<ApiState>>,
    visit: Visit,
    Query(asked): Query<Asked>,
) -> Result<Response> {
    let found = audit::read(&state, asked.read()?).await?;
    Ok(visit.page("Audit").show(html! {
        header .head {
            h1 { "Audit" }
            a .button href="/audit/verify" { "Verify" }
            a .button href="/api/v1/audit/export" download { "Export" }
        }
        (filters(&asked))
        @if found.records.is_empty() {
            (parts::empty("Nothing here", &html! { p { "No record is like that." } }))
        } @else {
            (table(&found))
        }
        nav .pages aria-label="Pages" {
            @if asked.after.is_some() { a .button href="/audit" { "Newest" } }
            @if let Some(next) = found.next { a .button href=(asked.at(next)) { "Older" (icon(Icon::Next)) } }
        }
    }))
}

/// `GET /audit/verify`.
pub async fn verify(State(state): State<Arc<ApiState>>, visit: Visit) -> Result<Response> {
    let verdict = audit::check(&state).await?;
    Ok(visit.page("Verified").crumb("Audit", "/audit").show(html! {
        header .head { h1 { @if verdict.intact { "The log is intact" } @else { "The log is not intact" } } }
        (said(&verdict))
    }))
}

fn said(verdict: &AuditVerdict) -> Markup {
    html! {
        @if !verdict.intact {
            (notice(Tone::Problem, &html! {
                "Records were changed, removed or added from outside. Keep the files of the log as they are, and see what "
                code { "tidegate audit verify" } " says on the gateway's host."
            }))
        }
        section .card {
            dl .facts {
                dt { "Records looked at" } dd { (verdict.records) }
                dt { "First record kept" } dd { (verdict.anchor.seq + 1) }
                dt { "Last record" } dd { (verdict.head.seq) }
                dt { "Its hash" } dd { code { (verdict.head.hash) } }
                dt { "Damage that the gateway noted itself" } dd { (verdict.damage_noted) }
            }
            p .muted { "Keep number and hash of the last record somewhere else: who can write the gateway's disk could \
                make a whole new log, and only somebody who knows the old hash would notice." }
        }
    }
}

fn filters(asked: &Asked) -> Markup {
    html! {
        search {
            form .filters action="/audit" {
                @for (name, label, value) in [
                    ("edge", "Edge", &asked.edge), ("actor", "Who", &asked.actor), ("action", "Action", &asked.action),
                ] {
                    label .search {
                        (icon(Icon::Search))
                        span .unseen { (label) }
                        input type="search" name=(name) value=(value) placeholder=(label) autocomplete="off"
                            spellcheck="false";
                    }
                }
                button { "Search" }
            }
        }
    }
}

fn table(found: &AuditPage) -> Markup {
    html! {
        div .scroll tabindex="0" role="region" aria-label="Records" {
            table .audit {
                thead {
                    tr {
                        @for heading in ["When", "Who", "From", "Action", "Edge", "Outcome", "Detail"] {
                            th scope="col" { (heading) }
                        }
                    }
                }
                tbody { @for record in &found.records { (row(record)) } }
            }
        }
    }
}

fn row(record: &AuditRecord) -> Markup {
    html! {
        tr data-record=(record.seq) {
            td { (parts::time(&Timestamp(record.at).to_string())) }
            td { (text(&record.actor.name)) }
            td { (text(record.from.as_deref().unwrap_or_default())) }
            th scope="row" { (text(&record.action)) }
            td {
                @if let Some(edge) = &record.edge { a href={ "/edges/" (edge) } { (edge) } }
                @if let Some(service) = &record.service { "/" (service) }
            }
            td { (outcome(record)) }
            td .wraps { (detail(record)) }
        }
    }
}

fn outcome(record: &AuditRecord) -> Markup {
    let (status, word) = match record.outcome {
        AuditOutcome::Ok => ("online", "Done"),
        AuditOutcome::Refused => ("offline", "Refused"),
        AuditOutcome::Failed => ("offline", "Failed"),
    };
    html! {
        span .status data-status=(status) { span .dot {} (word) }
        @if let Some(code) = &record.code { span .muted { " " (text(code)) } }
        @if let Some(count) = record.count { span .muted { " ×" (count) } }
    }
}

fn detail(record: &AuditRecord) -> Markup {
    html! {
        @if let Some(detail) = &record.detail { (text(detail)) " " }
        @if let (Some(received), Some(sent)) = (record.bytes_in, record.bytes_out) {
            span .muted { (bytes(received)) " in, " (bytes(sent)) " out" }
        }
    }
}
