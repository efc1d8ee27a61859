//! Credentials for a stock SSH client that stands in for an agent: the form, and then, once, what to paste at the site.
//!
//! The rule: the secret is on the answer to the form and nowhere else.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use maud::html;
use serde::Deserialize;
use shared::id::EdgeName;
use shared::wire::admin::{CreateOffer, OfferCreated, OfferSecret, OfferedService};

use super::form::{self, Field, Form, Kind, Wrong};
use super::frame::Visit;
use super::parts::{Tone, copyable, notice, time};
use crate::http::ApiState;
use crate::http::admin::offers;
use crate::http::body::Path;
use crate::http::peer::Arrival;
use crate::http::problem::Result;

/// The form.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct NewOffer {
    services: String,
    renew: String,
}

/// `GET /edges/{edge}/offer`.
pub async fn ask(
    State(state): State<Arc<ApiState>>,
    visit: Visit,
    Path(edge): Path<EdgeName>,
) -> Result<Response> {
    state.tunnels.edge(&edge).await?;
    let usual = NewOffer { services: "ssh=localhost:22".to_owned(), ..NewOffer::default() };
    Ok(show_form(&visit, &edge, &usual, &Wrong::default()))
}

/// `POST /edges/{edge}/offer`.
pub async fn create(
    State(state): State<Arc<ApiState>>,
    visit: Visit,
    arrival: Arrival,
    Path(edge): Path<EdgeName>,
    Form(form): Form<NewOffer>,
) -> Response {
    let made = match services(&form.services) {
        Ok(services) => {
            let asked = CreateOffer { services, renew: !form.renew.is_empty(), valid_s: None };
            let made = offers::make(&state, edge.clone(), &arrival, asked).await;
            made.map_err(|problem| Wrong::refused(problem, |_| None))
        }
        Err(wrong) => Err(wrong),
    };
    match made {
        Ok((noted, made)) => (noted, show_made(&visit, &made)).into_response(),
        Err(wrong) => show_form(&visit, &edge, &form, &wrong),
    }
}

/// Each line is a name, `=` and an address, as agents write what they expose.
fn services(text: &str) -> std::result::Result<Vec<OfferedService>, Wrong> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let service = |line: &str| {
        let wrong = |why: String| Wrong::field("services", format!("{line:?} can't be a service: {why}"));
        let (name, target) =
            line.split_once('=').ok_or_else(|| wrong("write it as NAME=HOST:PORT".to_owned()))?;
        let name = name.parse().map_err(|error| wrong(format!("its name is {error}")))?;
        let target =
            target.parse().map_err(|error| wrong(format!("its address is not HOST:PORT: {error}")))?;
        Ok(OfferedService { name, target })
    };
    lines.map(service).collect()
}

fn show_form(visit: &Visit, edge: &EdgeName, form: &NewOffer, wrong: &Wrong) -> Response {
    let page = visit.page("Stock SSH client").refused(wrong.problem.as_ref());
    page.crumb("Edges", "/").crumb(edge.as_str(), format!("/edges/{edge}")).show(html! {
        header .head { h1 { "A stock SSH client for " (edge) } }
        section .card {
            p { "For a box on which nothing can be installed: its own SSH client holds the tunnel in the place of an agent." }
            (wrong.show())
            form .form method="post" action={ "/edges/" (edge) "/offer" } {
                (Field::new(Kind::Lines, "services", "Services").value(&form.services).required()
                    .hint("One on each line, as NAME=HOST:PORT with the address as the box reaches it").show(wrong))
                (form::tick(
                    "renew",
                    "For good",
                    "A key for autossh that works for 30 days, instead of a password for one login",
                    !form.renew.is_empty(),
                ))
                div .actions { button .primary { "Make credentials" } a .button href={ "/edges/" (edge) } { "Cancel" } }
            }
        }
    })
}

fn show_made(visit: &Visit, made: &OfferCreated) -> Response {
    let edge = &made.edge;
    let page = visit.page("Stock SSH client").crumb("Edges", "/");
    page.crumb(edge.as_str(), format!("/edges/{edge}")).show(html! {
        header .head { h1 { "A stock SSH client for " (edge) } }
        section .card {
            (notice(Tone::Note, &html! { "These are shown this once, and work until " (time(&made.expires_at)) "." }))
            (copyable("ssh-command", "Paste this into a shell at the site", &made.command))
            @match &made.secret {
                OfferSecret::Password { password } => {
                    (copyable("ssh-password", "Type this password when it asks", password))
                }
                OfferSecret::Key { fingerprint, .. } => {
                    p .muted { "The key is in the command. Its fingerprint is " code { (fingerprint) } "." }
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_lines_of_name_and_address() {
        let read = |text: &str| {
            let list = services(text).map_err(|wrong| wrong.problem.map(|it| it.code().status().as_u16()))?;
            Ok(list.iter().map(|it| format!("{}>{}", it.name, it.target)).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(
            read("ssh=localhost:22\r\n\n web=[::1]:80 "),
            Ok("ssh>localhost:22 web>[::1]:80".to_owned())
        );
        for bad in ["ssh", "Web=localhost:80", "web=localhost", "web="] {
            assert_eq!(read(bad), Err(Some(422)), "{bad}");
        }
    }
}
