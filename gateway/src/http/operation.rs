//! One thing that a client may ask of port 9000, with who may ask it: a row of the table from which the router, the
//! guard in front of every handler, the test of every pair of route and role, the API's document and the audit log's
//! names come.
//!
//! The rule: a handler is reached through its operation only, and an operation has no default for who may: a route
//! that nobody thought about does not compile. The table itself is split by room; [`super::operations`] joins it.
//!
//! What a row takes and answers is told by the methods of [`description`], where there is an example.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::handler::Handler;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodFilter, MethodRouter, any, on};
use http::Method;

use super::guard::{self, Guard};
use super::problem::Code;
use super::{ApiState, MAX_BODY, idempotency};
use crate::access::Operator;
use crate::domain::authority::Role;
pub use description::{Answer, Content, Description, Header, SchemaOf, Takes};

pub mod description;

/// Who may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Anybody at all: health, signing in. Agents' requests too, which carry credentials of another kind that their
    /// handlers check.
    Nothing,
    /// Whoever is signed in: about themselves.
    Anybody,
    /// This role. The handler itself leaves out what is not within the operator's reach: lists, and what is to be made.
    Edges(Role),
    /// This role, and `{edge}` of the path within reach. An edge that is not does not exist, for all that the answer
    /// tells.
    Edge(Role),
    /// This role over every edge: what concerns the gateway as a whole.
    Gateway(Role),
}

impl Needs {
    /// Whether `operator` may, as far as that does not depend on the edge.
    pub fn met_by(self, operator: &Operator) -> bool {
        match self {
            Self::Nothing | Self::Anybody => true,
            Self::Edges(role) | Self::Edge(role) => operator.role >= role,
            Self::Gateway(role) => operator.role >= role && operator.reach.is_all(),
        }
    }
}

/// What the audit log has of an operation. Whoever is refused is recorded in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audited {
    /// Refusals alone: it only shows something.
    Refusals,
    /// Every time, durably before the answer leaves: it changes something, or gives away much.
    Always,
    /// What went wrong; what went well, its handler records, since the guard can't know who it was or when it ends.
    ByHandler,
}

/// A row of the table.
pub struct Operation {
    /// Stable name, for the audit log and the API's document: `edge.create`.
    pub id: &'static str,
    /// `None` is every method: a service's own.
    pub method: Option<Method>,
    /// Path with its parameters in braces.
    pub path: &'static str,
    /// A line for people.
    pub summary: &'static str,
    /// Who may.
    pub needs: Needs,
    /// What is recorded of it.
    pub audited: Audited,
    /// By which name: its own, or that of the operation which does the same for programs.
    pub action: &'static str,
    /// What it takes and answers.
    pub description: Description,
    /// Largest body, in bytes.
    limit: usize,
    /// Whether an answer is given again to who shows its key.
    once: bool,
    route: MethodRouter<Arc<ApiState>>,
}

impl Operation {
    fn new(
        (id, method): (&'static str, Option<Method>),
        path: &'static str,
        needs: Needs,
        summary: &'static str,
        route: MethodRouter<Arc<ApiState>>,
    ) -> Self {
        // Deny by default here too: what does more than show is recorded, unless its row says who does that.
        let audited = if method == Some(Method::GET) { Audited::Refusals } else { Audited::Always };
        Self {
            id,
            method,
            path,
            summary,
            needs,
            audited,
            action: id,
            description: Description::default(),
            limit: MAX_BODY,
            once: false,
            route,
        }
    }

    /// Shows so much that it is recorded every time.
    pub fn always_audited(self) -> Self {
        Self { audited: Audited::Always, ..self }
    }

    /// Is recorded by the name of another operation that does the same.
    pub fn audited_as(self, action: &'static str) -> Self {
        Self { action, ..self }
    }

    /// Is recorded by its handler.
    pub fn audited_by_handler(self) -> Self {
        Self { audited: Audited::ByHandler, ..self }
    }

    /// Makes something: a request that shows an `idempotency-key` does so once, however often it is sent.
    pub fn once_for_each_key(mut self) -> Self {
        self.once = true;
        self.header(idempotency::HEADER).fails(&[
            Code::IdempotencyKeyInUse,
            Code::IdempotencyKeyReused,
            Code::BodyTooSlow,
        ])
    }

    /// Whether it is for people, by a browser; the rest is for programs.
    pub fn is_page(&self) -> bool {
        self.id.starts_with("page.") || self.id == "service.sandbox"
    }

    /// The same row with a handler that answers so and does nothing, for tests of who is let in.
    #[cfg(test)]
    pub fn answering(mut self, status: http::StatusCode) -> Self {
        self.route = match &self.method {
            Some(method) => {
                let filter = MethodFilter::try_from(method.clone()).expect("it was one before");
                on(filter, async move || status)
            }
            None => any(async move || status),
        };
        self
    }

    /// Takes larger bodies than others do.
    pub fn body_of(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }
}

/// An operation that answers `method` at `path`.
fn operation<H, T>(
    (id, method): (&'static str, Method),
    path: &'static str,
    needs: Needs,
    handler: H,
    summary: &'static str,
) -> Operation
where
    H: Handler<T, Arc<ApiState>>,
    T: 'static,
{
    let filter = MethodFilter::try_from(method.clone()).expect("the table has methods that axum knows");
    Operation::new((id, Some(method)), path, needs, summary, on(filter, handler))
}

macro_rules! constructors {
    ($($(#[$meta:meta])* $name:ident = $method:ident;)*) => {$(
        $(#[$meta])*
        pub fn $name<H, T>(
            id: &'static str,
            path: &'static str,
            needs: Needs,
            handler: H,
            summary: &'static str,
        ) -> Operation
        where
            H: Handler<T, Arc<ApiState>>,
            T: 'static,
        {
            operation((id, Method::$method), path, needs, handler, summary)
        }
    )*};
}

constructors! {
    /// Reads; changes nothing. Answers HEAD as well.
    get = GET;
    /// Makes or does something.
    post = POST;
    /// Replaces something.
    put = PUT;
    /// Changes parts of something.
    patch = PATCH;
    /// Removes something.
    delete = DELETE;
}

/// An operation for every method.
pub fn every<H, T>(
    id: &'static str,
    path: &'static str,
    needs: Needs,
    handler: H,
    summary: &'static str,
) -> Operation
where
    H: Handler<T, Arc<ApiState>>,
    T: 'static,
{
    Operation::new((id, None), path, needs, summary, any(handler))
}

/// The router of these operations, each behind its guard.
pub fn router(operations: Vec<Operation>, state: &Arc<ApiState>) -> Router<Arc<ApiState>> {
    let memory = idempotency::Memory::default();
    operations.into_iter().fold(Router::new(), |router, operation| {
        let guard = Guard {
            state: Arc::clone(state),
            id: operation.id,
            path: operation.path,
            needs: operation.needs,
            requests: state.vitals.telemetry().requests(operation.id),
            audited: operation.audited,
            action: operation.action,
        };
        let (guard, limit) =
            (from_fn_with_state(guard, guard::admit), DefaultBodyLimit::max(operation.limit));
        let remembered = from_fn_with_state((memory.clone(), operation.limit), idempotency::once);
        let route = if operation.once { operation.route.route_layer(remembered) } else { operation.route };
        let route = match operation.method {
            Some(_) => route.route_layer(guard).route_layer(limit),
            // What takes every method has no route of a single one, which `route_layer` asks for.
            None => route.layer::<_, Infallible>(guard).layer::<_, Infallible>(limit),
        };
        router.route(operation.path, route)
    })
}
