//! What an operation takes and answers, in the words of its row: fluent methods on [`Operation`], and what they leave
//! behind for the API's document ([`crate::http::openapi`]) and its reference page.
//!
//! ```text
//! patch("edge.change", EDGE, Edge(Admin), edges::change, "Changes an edge's name, tags or settings")
//!     .takes::<json::ChangeEdge>(r#"{"tags":["berlin"]}"#)
//!     .answers::<json::Edge>(200)
//!     .fails(&[Code::EdgeNameTaken, Code::OutOfReach])
//!     .durable()
//! ```
//!
//! What follows from the rest of the row is never written down: who may ask ([`Needs`]) brings its
//! refusals, that it is recorded durably ([`Audited`]) what may go wrong with that, `{edge}` of the path `edge-not-found`, a body brings what can be wrong with bodies. A path's other
//! parameters are told by [`Operation::part`].
//!
//! The rule: what is below `/api/v1/` is described, and answers what its description says. Tests hold every row to the
//! first and every answer that they see to the second.

use axum::http::StatusCode;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use shared::id::{EdgeName, ServiceName};

use super::{Audited, Needs, Operation};
use crate::http::problem::Code;

/// Makes the schema of a type.
pub type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// What the row says of requests and answers.
#[derive(Default)]
pub struct Description {
    /// The request's body.
    pub takes: Option<Takes>,
    /// An object with a property for each parameter of the query.
    pub query: Option<SchemaOf>,
    /// Parameters of the path, by their names in the braces.
    pub parts: Vec<(&'static str, SchemaOf)>,
    /// Headers of requests that mean something here.
    pub headers: Vec<Header>,
    /// Answers that are no problems.
    pub answers: Vec<Answer>,
    /// Headers of those answers: name, what it tells.
    pub answer_headers: Vec<(&'static str, &'static str)>,
    /// Problems that the handler itself may answer with.
    pub fails: Vec<Code>,
    /// What there is to know beyond the summary.
    pub more: &'static str,
    /// It is for agents, with their own kind of credentials.
    pub by_agents: bool,
    /// Another row at a path that differs in its end only tells about this one.
    pub told_elsewhere: bool,
}

/// A header of requests.
#[derive(Clone, Copy)]
pub struct Header {
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub what: &'static str,
    /// Whether it must be there.
    pub required: bool,
    /// What its values look like, as a regular expression.
    pub pattern: &'static str,
}

/// A body that is taken.
pub struct Takes {
    /// Its type on the wire.
    pub content: Content,
    /// Whether it must be there.
    pub required: bool,
    /// A body that is as it should be, for JSON.
    pub example: &'static str,
    /// Whether a text is such a body: tests hold the example to it.
    pub reads: fn(&str) -> Result<(), serde_json::Error>,
}

/// A body on the wire.
#[derive(Clone, Copy)]
pub enum Content {
    /// There is none.
    Nothing,
    /// JSON of this schema.
    Json(SchemaOf),
    /// Bytes of this media type.
    Bytes(&'static str),
}

/// An answer.
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its body.
    pub content: Content,
}

impl Operation {
    /// Takes JSON, of which this is an example.
    pub fn takes<T: JsonSchema + DeserializeOwned>(mut self, example: &'static str) -> Self {
        self.description.takes = Some(Takes {
            content: Content::Json(SchemaGenerator::subschema_for::<T>),
            required: true,
            example,
            reads: |text| serde_json::from_str::<T>(text).map(drop),
        });
        self.fails(&[Code::InvalidJson, Code::InvalidField, Code::UnsupportedMediaType])
            .fails(&[Code::BodyTooLarge, Code::BodyTooSlow])
    }

    /// The body of [`Self::takes`] may be left out.
    pub fn body_is_optional(mut self) -> Self {
        if let Some(takes) = &mut self.description.takes {
            takes.required = false;
        }
        self
    }

    /// Takes bytes of this media type.
    pub fn takes_bytes(mut self, media_type: &'static str) -> Self {
        self.description.takes = Some(Takes {
            content: Content::Bytes(media_type),
            required: true,
            example: "",
            reads: |_| Ok(()),
        });
        self.fails(&[Code::InvalidField, Code::BodyTooLarge, Code::BodyTooSlow])
    }

    /// Reads its query: `T` is an object with a property for each parameter.
    pub fn query<T: JsonSchema>(mut self) -> Self {
        self.description.query = Some(SchemaGenerator::subschema_for::<T>);
        self.fails(&[Code::InvalidRequest])
    }

    /// The type of a parameter of its path. Those of `{edge}` and `{service}` are known.
    pub fn part<T: JsonSchema>(mut self, name: &'static str) -> Self {
        self.description.parts.push((name, SchemaGenerator::subschema_for::<T>));
        self.fails(&[Code::InvalidRequest])
    }

    /// Reads a header.
    pub fn header(mut self, header: Header) -> Self {
        self.description.headers.push(header);
        self.fails(&[Code::InvalidRequest])
    }

    /// Answers with JSON.
    pub fn answers<T: JsonSchema>(self, status: u16) -> Self {
        self.answer(status, Content::Json(SchemaGenerator::subschema_for::<T>))
    }

    /// Answers without a body.
    pub fn answers_nothing(self, status: u16) -> Self {
        self.answer(status, Content::Nothing)
    }

    /// Answers with bytes of this media type.
    pub fn answers_bytes(self, status: u16, media_type: &'static str) -> Self {
        self.answer(status, Content::Bytes(media_type))
    }

    /// Its answers have this header, which tells `what`.
    pub fn answers_header(mut self, name: &'static str, what: &'static str) -> Self {
        self.description.answer_headers.push((name, what));
        self
    }

    /// Problems that the handler may answer with. What follows from the rest of the row need not be repeated.
    pub fn fails(mut self, codes: &[Code]) -> Self {
        self.description.fails.extend(codes);
        self
    }

    /// Answers when its change is durable.
    pub fn durable(self) -> Self {
        self.fails(&[Code::Busy, Code::StoreFailed, Code::StoreFull])
    }

    /// Answers with the etag of what it shows.
    pub fn answers_etag(self) -> Self {
        self.answers_header(
            "etag",
            "For `if-match` of a change that is made only if this is how it still is.",
        )
    }

    /// Is made only if what it changes is as `if-match` says, where a request has that.
    pub fn heeds_if_match(self) -> Self {
        self.header(IF_MATCH).fails(&[Code::Stale])
    }

    /// Says more than the summary does.
    pub fn more(mut self, text: &'static str) -> Self {
        self.description.more = text;
        self
    }

    /// Is for agents, who show the key of their edge.
    pub fn by_agents(mut self) -> Self {
        self.description.by_agents = true;
        self.fails(&[Code::UnknownKey, Code::BoundToAnother, Code::InvalidRequest])
    }

    /// Is another row's but for the end of its path.
    pub fn told_elsewhere(mut self) -> Self {
        self.description.told_elsewhere = true;
        self
    }

    /// Types of the path's parameters, in the order of the path; `None` where nobody told.
    pub fn path_parameters(&self) -> impl Iterator<Item = (&'static str, Option<SchemaOf>)> {
        parameters(self.path).map(|name| {
            let told =
                self.description.parts.iter().find(|(told, _)| *told == name).map(|(_, schema)| *schema);
            let known: Option<SchemaOf> = match name {
                "edge" => Some(SchemaGenerator::subschema_for::<EdgeName>),
                "service" => Some(SchemaGenerator::subschema_for::<ServiceName>),
                _ => None,
            };
            (name, told.or(known))
        })
    }

    /// Every problem that it may answer with, in order and each once.
    pub fn problems(&self) -> Vec<Code> {
        // Of whatever is asked: a defect, and the wrong one of the port's two protocols.
        let mut codes = vec![Code::Internal, Code::PlainHttpRefused];
        if self.audited == Audited::Always {
            codes.extend([Code::StoreFailed, Code::StoreFull]);
        }
        codes.extend(refusals(self.needs));
        codes.extend(&self.description.fails);
        if self.path_parameters().next().is_some() {
            codes.push(Code::InvalidRequest);
        }
        if self.path_parameters().any(|(name, _)| name == "edge") {
            codes.push(Code::EdgeNotFound);
        }
        codes.sort_by_key(|code| (code.status(), code.name()));
        codes.dedup();
        codes
    }

    fn answer(mut self, status: u16, content: Content) -> Self {
        let status = StatusCode::from_u16(status).expect("the table has statuses of HTTP");
        self.description.answers.push(Answer { status, content });
        self
    }
}

/// On what a change depends.
const IF_MATCH: Header = Header {
    name: "if-match",
    what: "The `etag` of an answer. If it was changed since, nothing is changed and the answer is `stale`.",
    required: false,
    pattern: r#"^(\*|"[0-9a-f]{16}")$"#,
};

/// Names of the parameters of a path.
fn parameters(path: &'static str) -> impl Iterator<Item = &'static str> {
    path.split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| name.trim_start_matches('*'))
}

/// What the guard answers to those who may not.
fn refusals(needs: Needs) -> &'static [Code] {
    match needs {
        Needs::Nothing => &[],
        Needs::Anybody => &[Code::NotAuthenticated, Code::CrossOrigin, Code::TooManyAttempts, Code::Busy],
        Needs::Edges(_) | Needs::Edge(_) | Needs::Gateway(_) => {
            &[Code::NotAuthenticated, Code::CrossOrigin, Code::NotAllowed, Code::TooManyAttempts, Code::Busy]
        }
    }
}
