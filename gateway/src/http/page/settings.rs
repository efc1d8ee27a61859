//! Settings of the whole gateway, as a form.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use maud::html;
use serde::Deserialize;
use shared::wire::admin::Settings;

use super::form::{self, Field, Form, IDLE_TIMES, INTERVALS, Kind, Wrong};
use super::frame::{Visit, redirect_with};
use crate::domain::version::Condition;
use crate::http::ApiState;
use crate::http::admin::settings;
use crate::http::audited::Noted;
use crate::http::problem::Problem;

/// Bounds of the hold, in seconds, as the registry has them.
const HOLDS: (u32, u32) = (0, 55);
const INTERVAL_HINT: &str = "Agents ask this often whether they are needed: 5, 10 or 30 suit most. The shorter, the \
    sooner a tunnel opens; the longer, the less traffic";
const IDLE_HINT: &str = "A tunnel that nobody uses closes after this time, in seconds: 300 is five minutes";
const HOLD_HINT: &str = "For so long the gateway may keep the answer to an agent that it does not need: a tunnel then opens at \
    once, with less traffic. 50 suits most; 0 is off";
const URL_HINT: &str = "Where agents and browsers reach this page, as in https://gate.example.com:9000; goes into join \
    tokens. Empty for the address by which you came";
const SSH_HINT: &str = "Where agents and operators reach the tunnel server: gate.example.com:8000";
const DOMAIN_HINT: &str = "Services open in the browser below this domain, each on a name of its own, which DNS and the \
    certificate must cover: services.example.com for *.services.example.com. Empty for a sandbox";

/// The form. All of it is sent each time.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Asked {
    interval_s: String,
    idle_timeout_s: String,
    hold_s: String,
    public_url: String,
    public_ssh: String,
    service_domain: String,
}

/// `GET /settings`.
pub async fn ask(State(state): State<Arc<ApiState>>, visit: Visit) -> Response {
    let now = settings::to_wire(&state.tunnels.settings().await);
    let number = |number: Option<u32>| number.map(|number| number.to_string()).unwrap_or_default();
    let shown = Asked {
        interval_s: number(now.interval_s),
        idle_timeout_s: number(now.idle_timeout_s),
        hold_s: number(now.hold_s),
        public_url: now.public_url.unwrap_or_default(),
        public_ssh: now.public_ssh.unwrap_or_default(),
        service_domain: now.service_domain.unwrap_or_default(),
    };
    show(&visit, &shown, &Wrong::default())
}

/// `POST /settings`.
pub async fn change(State(state): State<Arc<ApiState>>, visit: Visit, Form(asked): Form<Asked>) -> Response {
    let change = match asked.read() {
        Ok(change) => change,
        Err(wrong) => return show(&visit, &asked, &wrong),
    };
    let noted = Extension(Noted::asked(&change));
    match settings::apply(&state, Condition::None, change).await {
        Ok(_) => (noted, redirect_with("/settings", "The settings are changed.")).into_response(),
        Err(error) => show(&visit, &asked, &Wrong::refused(Problem::from(error), |_| None)),
    }
}

impl Asked {
    fn read(&self) -> Result<Settings, Wrong> {
        Ok(Settings {
            interval_s: form::seconds("interval_s", &self.interval_s)?,
            idle_timeout_s: form::seconds("idle_timeout_s", &self.idle_timeout_s)?,
            hold_s: form::seconds("hold_s", &self.hold_s)?,
            // An empty text takes a setting back.
            public_url: Some(self.public_url.trim().to_owned()),
            public_ssh: Some(self.public_ssh.trim().to_owned()),
            service_domain: Some(self.service_domain.trim().to_owned()),
        })
    }
}

fn show(visit: &Visit, asked: &Asked, wrong: &Wrong) -> Response {
    let interval = Kind::Number(INTERVALS.0, INTERVALS.1);
    let idle = Kind::Number(IDLE_TIMES.0, IDLE_TIMES.1);
    let hold = Kind::Number(HOLDS.0, HOLDS.1);
    visit.page("Settings").refused(wrong.problem.as_ref()).show(html! {
        header .head { h1 { "Settings" } }
        section .card {
            (wrong.show())
            form .form method="post" action="/settings" {
                (Field::new(interval, "interval_s", "Check-in interval in seconds").value(&asked.interval_s)
                    .hint(INTERVAL_HINT).required().show(wrong))
                (Field::new(idle, "idle_timeout_s", "Idle time in seconds").value(&asked.idle_timeout_s)
                    .hint(IDLE_HINT).required().show(wrong))
                (Field::new(hold, "hold_s", "Hold check-ins, in seconds").value(&asked.hold_s).hint(HOLD_HINT).required()
                    .show(wrong))
                (Field::new(Kind::Text, "public_url", "Public URL").value(&asked.public_url).hint(URL_HINT)
                    .show(wrong))
                (Field::new(Kind::Text, "public_ssh", "Public SSH address").value(&asked.public_ssh).hint(SSH_HINT)
                    .show(wrong))
                (Field::new(Kind::Text, "service_domain", "Domain of services").value(&asked.service_domain)
                    .hint(DOMAIN_HINT).show(wrong))
                div .actions { button .primary { "Save" } }
            }
        }
        section .card {
            h2 { "Backup" }
            p { "All keys, records and snapshots in one file. It is a secret: who has it can be this gateway." }
            p { a .button href="/api/v1/backup" download { "Download a backup" } }
        }
    })
}
