//! What the audit log gets to know of an operation: who asked for what from where, and how it went.
//!
//! The rule: the room for the record of a change is there before its handler runs, and the record is durable before the
//! answer leaves. A client that leaves before leaves its record behind all the same.

use std::time::Instant;

use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use serde::Serialize;
use shared::id::{EdgeName, ServiceName};
use shared::wire::admin::AuditActor;

use super::guard::Guard;
use super::operation::Audited;
use super::peer::Peer;
use super::problem::{self, Code, Problem};
use crate::access::{Access, Operator};
use crate::audit::entry::stranger;
use crate::audit::{Audit, Entry, Promise};
use crate::store::StoreError;

/// Longest value of a path's variable that is repeated: a UUID and a name fit.
const MAX_VARIABLE: usize = 64;

/// What a handler knows better than the guard does: put into the extensions of its answer, it goes into the record.
#[derive(Clone, Debug, Default)]
pub struct Noted {
    /// Who it turned out to be.
    pub actor: Option<AuditActor>,
    /// Which edge it was about, where the path does not say.
    pub edge: Option<EdgeName>,
    /// Which service of it.
    pub service: Option<ServiceName>,
    /// More, for people; never a secret.
    pub detail: String,
    /// Whether it is the answer to something that was done before, given once more.
    pub replayed: bool,
}

impl Noted {
    /// An edge that the path does not name.
    pub fn edge(edge: &EdgeName) -> Self {
        Self { edge: Some(edge.clone()), ..Self::default() }
    }

    /// What was asked for, which holds no secret.
    pub fn asked(asked: &impl Serialize) -> Self {
        Self::detail(serde_json::to_string(asked).unwrap_or_default())
    }

    /// Somebody came as `name` in vain. A name that is nobody's may be a password in the wrong field.
    pub fn tried(access: &Access, name: &str) -> Self {
        let known = name.parse().is_ok_and(|name| access.users().find(&name).is_ok());
        Self::detail(if known { format!("as {name}") } else { "as nobody that there is".to_owned() })
    }

    /// The same, told again: nothing was done this time.
    #[must_use]
    pub fn replayed(self) -> Self {
        Self { replayed: true, ..self }
    }

    /// Words.
    pub fn detail(detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), ..Self::default() }
    }

    /// The record with this.
    fn told_of(&self, entry: Entry) -> Entry {
        let mut entry = entry.and_detail(&self.detail);
        if let Some(actor) = &self.actor {
            entry = entry.by(actor.clone());
        }
        if let Some(edge) = &self.edge {
            entry = entry.edge(edge);
        }
        if let Some(service) = &self.service {
            entry = entry.service(service);
        }
        if self.replayed { entry.replayed() } else { entry }
    }
}

/// A request, as far as the log wants to know it.
pub struct Asked {
    action: &'static str,
    peer: Option<Peer>,
    edge: Option<EdgeName>,
    service: Option<ServiceName>,
    variables: Vec<String>,
    begun: Instant,
}

impl Asked {
    /// The request of an operation.
    pub fn of(guard: &Guard, request: &Request) -> Self {
        let (mut edge, mut service, mut variables) = (None, None, Vec::new());
        for (template, value) in guard.path.split('/').zip(request.uri().path().split('/')) {
            let Some(name) = template.strip_prefix('{').and_then(|name| name.strip_suffix('}')) else {
                continue;
            };
            match name {
                "edge" => edge = value.parse().ok(),
                "service" => service = value.parse().ok(),
                name if name.starts_with('*') => break,
                name => variables.push(format!("{name} {}", value.get(..MAX_VARIABLE).unwrap_or(value))),
            }
        }
        let peer = request.extensions().get().copied();
        Self { action: guard.action, peer, edge, service, variables, begun: Instant::now() }
    }

    /// Records that it was refused before it got to its handler.
    pub fn refused(self, audit: &Audit, operator: Option<&Operator>, problem: &Problem) {
        audit.refused(self.entry(operator).refused(problem.code().name()));
    }

    /// The record as far as it is known. What strangers name is not repeated.
    fn entry(&self, operator: Option<&Operator>) -> Entry {
        let mut entry = Entry::new(operator.map_or_else(stranger, Into::into), self.action);
        if let Some(peer) = self.peer {
            entry = entry.from(peer.address);
        }
        if operator.is_none() {
            return entry;
        }
        if let Some(edge) = &self.edge {
            entry = entry.edge(edge);
        }
        if let Some(service) = &self.service {
            entry = entry.service(service);
        }
        entry.detail(&self.variables.join(", "))
    }
}

/// Refused, or gone wrong, outside of any operation: to a stranger, unless it is noted who it was.
pub fn refused_outside(audit: &Audit, action: &str, peer: Option<Peer>, noted: &Noted, problem: &Problem) {
    let entry = Entry::new(stranger(), action);
    let entry = noted.told_of(peer.map_or(entry.clone(), |peer| entry.from(peer.address)));
    let (status, code) = (problem.code().status(), problem.code().name());
    audit.refused(if status.is_client_error() { entry.refused(code) } else { entry.failed(code) });
}

/// An operation under way. Its entry is made where one is recorded, which most check-ins and looks are not.
pub struct Recording {
    audit: Audit,
    audited: Audited,
    asked: Asked,
    operator: Option<Operator>,
    /// Room for the record of what is always recorded, until it is written.
    promise: Option<Promise>,
}

impl Recording {
    /// Of an operation that was admitted. Fails where it could not be recorded.
    pub async fn begin(
        audit: &Audit,
        audited: Audited,
        asked: Asked,
        operator: Option<Operator>,
    ) -> Result<Self, StoreError> {
        let promise = match audited {
            Audited::Always => Some(audit.promise().await?),
            Audited::Refusals | Audited::ByHandler => None,
        };
        Ok(Self { audit: audit.clone(), audited, asked, operator, promise })
    }

    /// Records how it went; the answer to give, which is another one where that failed.
    pub async fn end(mut self, mut response: Response) -> Response {
        let noted = response.extensions_mut().remove::<Noted>().unwrap_or_default();
        match (self.problem(&response), self.promise.take()) {
            (None, None) => {}
            (None, Some(promise)) => {
                if let Err(error) = promise.keep(self.entry(&noted)).await {
                    return not_recorded(error).into_response();
                }
            }
            (Some((status, code)), promise) => self.went_wrong(self.entry(&noted), status, &code, promise),
        }
        response
    }

    /// What is known of it now.
    fn entry(&self, noted: &Noted) -> Entry {
        noted.told_of(self.asked.entry(self.operator.as_ref()).took(self.asked.begun.elapsed()))
    }

    /// What is wrong, if something is. What a service answers is none of ours.
    fn problem(&self, response: &Response) -> Option<(StatusCode, String)> {
        if let Some(code) = problem::code_of(response) {
            return Some((code.status(), code.name().to_owned()));
        }
        let status = response.status();
        let wrong = status.is_client_error() || status.is_server_error();
        let ours = self.audited != Audited::ByHandler;
        (wrong && ours).then(|| (status, format!("http-{}", status.as_u16())))
    }

    fn went_wrong(&self, entry: Entry, status: StatusCode, code: &str, promise: Option<Promise>) {
        let refused = status.is_client_error();
        match (self.audited, promise) {
            (Audited::Refusals, _) if !is_about_rights(status) => {}
            (Audited::Refusals | Audited::ByHandler, _) if !refused => self.audit.refused(entry.failed(code)),
            // Perhaps it was done in part: nothing of that is counted away.
            (Audited::Always, Some(promise)) if !refused => promise.keep_later(entry.failed(code)),
            (Audited::Always, None) if !refused => self.audit.note(entry.failed(code)),
            (Audited::Refusals | Audited::ByHandler | Audited::Always, _) => {
                self.audit.refused(entry.refused(code));
            }
        }
    }
}

impl Drop for Recording {
    /// The client left before its answer, or the handler panicked.
    fn drop(&mut self) {
        if let Some(promise) = self.promise.take() {
            let noted = Noted::detail("it ended before its answer; it may have been done");
            promise.keep_later(self.entry(&noted).failed("no-answer"));
        }
    }
}

/// Whether a status says that somebody may not, as opposed to that they asked for the wrong thing.
fn is_about_rights(status: StatusCode) -> bool {
    [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::TOO_MANY_REQUESTS].contains(&status)
}

fn not_recorded(error: StoreError) -> Problem {
    let detail = "this was done, and could not be recorded in the audit log yet; look whether it is as you want it, and \
                  see the gateway's log";
    Problem::new(Code::StoreFailed, detail).because(error)
}
