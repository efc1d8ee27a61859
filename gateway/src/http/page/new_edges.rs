//! Many new edges at once: a list of names goes in, a file of join tokens comes out.
//!
//! The rule: the file is part of the page that answers the form, and is kept nowhere else.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::html;
use serde::Deserialize;
use shared::wire::admin::{CreateEdges, EdgesCreated, Enrolled, MAX_BULK};

use super::form::{Field, Form, Kind, Wrong};
use super::frame::Visit;
use super::new_edge::{Common, field_of};
use super::parts::{Icon, Tone, icon, notice, text};
use crate::access::Operator;
use crate::http::ApiState;
use crate::http::admin::edges::MadeFor;
use crate::http::peer::{Arrival, Peer};

/// Largest form: [`MAX_BULK`] names of 63 characters with ends of lines in percent-encoding, and the rest.
pub const MAX_FORM: usize = 128 * 1024;

/// The form.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct NewEdges {
    names: String,
    #[serde(flatten)]
    common: Common,
}

/// `GET /new-edges`.
pub async fn ask(visit: Visit) -> Response {
    show_form(&visit, "", &Common::default(), &Wrong::default())
}

/// `POST /new-edges`.
pub async fn create(
    State(state): State<Arc<ApiState>>,
    peer: Peer,
    arrival: Arrival,
    operator: Operator,
    visit: Visit,
    Form(NewEdges { names, common }): Form<NewEdges>,
) -> Response {
    let made_for = MadeFor { state: &state, peer, arrival: &arrival };
    match enrol(&made_for, &operator, &names, &common).await {
        Ok(created) => show_created(&visit, &created),
        Err(wrong) => show_form(&visit, &names, &common, &wrong),
    }
}

async fn enrol(
    made_for: &MadeFor<'_>,
    operator: &Operator,
    names: &str,
    common: &Common,
) -> Result<EdgesCreated, Wrong> {
    let names: Vec<_> = names_in(names).map(str::to_owned).collect();
    if !(1..=MAX_BULK).contains(&names.len()) {
        let sentence = format!("{} names are given; 1 to {MAX_BULK} are possible at once", names.len());
        return Err(Wrong::field("names", sentence));
    }
    let (interval_s, tags, cluster) = (common.interval_s()?, common.tags(), common.cluster());
    let new = CreateEdges { names, cluster, interval_s, idle_timeout_s: None, tags };
    made_for.enrol_many(operator, new).await.map_err(|problem| Wrong::refused(problem, field_of))
}

/// Lines, or what stands between commas and their like, also in the quotes of spreadsheets.
fn names_in(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .flat_map(|line| line.split([',', ';', '\t']))
        .map(|name| name.trim().trim_matches('"'))
        .filter(|name| !name.is_empty())
}

fn show_form(visit: &Visit, names: &str, common: &Common, wrong: &Wrong) -> Response {
    let hint = format!("One on each line, {MAX_BULK} at most");
    visit.page("New edges").refused(wrong.problem.as_ref()).crumb("Edges", "/").show(html! {
        header .head { h1 { "New edges" } a .button href="/new-edge" { "A single one" } }
        section .card {
            (wrong.show())
            form .form method="post" action="/new-edges" {
                (Field::new(Kind::Lines, "names", "Names").value(names).required().first().hint(&hint).show(wrong))
                div .field data-scripted hidden {
                    label for="file" { "Or from a file" span .muted { " (optional)" } }
                    input #file type="file" accept=".txt,.csv,text/plain,text/csv" data-fills="names"
                        data-most=(MAX_FORM);
                }
                (common.show(wrong))
                div .actions { button .primary { "Create" } a .button href="/" { "Cancel" } }
            }
        }
    })
}

fn show_created(visit: &Visit, created: &EdgesCreated) -> Response {
    let (made, refused) = (created.created.len(), created.refused.len());
    visit.page("New edges").crumb("Edges", "/").show(html! {
        header .head {
            h1 { (made) " made" @if refused > 0 { ", " (refused) " not" } }
            a .button href="/" { "Go to the edges" }
        }
        @if made > 0 {
            section .card aria-labelledby="tokens" {
                h2 #tokens { "Join tokens" }
                (notice(Tone::Note, &html! {
                    "The tokens are in this file, this once. Save it before you leave this page; it is as secret as they are."
                }))
                div .actions {
                    a .button.primary #tokens-file download="tidegate-tokens.csv"
                        href={ "data:text/csv;base64," (STANDARD.encode(file(&created.created))) } {
                        "Save the file"
                    }
                    span .muted { "Columns: name, edge_id, join_token" }
                }
            }
        }
        div .scroll tabindex="0" role="region" aria-label="Results" {
            table {
                thead { tr { th scope="col" { "Name" } th scope="col" { "Result" } } }
                tbody {
                    @for edge in &created.refused {
                        tr data-refused=(edge.code) {
                            th scope="row" { (text(&edge.name)) }
                            td .wraps { span .warning { (icon(Icon::Warning)) "Not made" } ": " (text(&edge.detail)) }
                        }
                    }
                    @for edge in &created.created {
                        tr data-edge=(edge.name) {
                            th scope="row" { a href={ "/edges/" (edge.name) } { (edge.name) } }
                            td { "Made" }
                        }
                    }
                }
            }
        }
    })
}

/// RFC 4180. Names, ids and tokens have no character that would need quotes.
fn file(created: &[Enrolled]) -> String {
    created.iter().fold("name,edge_id,join_token\r\n".to_owned(), |mut file, edge| {
        // Writing to a String does not fail.
        let _ = write!(file, "{},{},{}\r\n", edge.name, edge.edge_id, edge.join_token);
        file
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lines_or_separated() {
        let names = |text: &str| names_in(text).collect::<Vec<_>>().join("|");
        assert_eq!(names("a\r\nb\n\n  c \n"), "a|b|c");
        assert_eq!(names("a, b;c\td"), "a|b|c|d");
        assert_eq!(names("\"a\"\n\"b\""), "a|b");
        assert_eq!(names(" \n,"), "");
    }
}
