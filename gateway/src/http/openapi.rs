//! The API's document, OpenAPI 3.1, made from the table of operations and the types of the wire: `GET
//! /api/v1/openapi.json`.
//!
//! Nothing is said here about a single operation; that is its row's business. The rule: what the document says is what
//! the code does, as it is made of the same values.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, StatusCode};
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};
use shared::wire::problem;

use super::cookie;
use super::operation::{Answer, Content, Needs, Operation, SchemaOf};
use super::problem::Code;

/// Where shared schemas are, for references to them.
const SCHEMAS: &str = "/components/schemas";
/// For operations that take every method: those that OpenAPI has a place for, without TRACE, which no client sends.
const EVERY_METHOD: [Method; 7] =
    [Method::GET, Method::PUT, Method::POST, Method::DELETE, Method::OPTIONS, Method::HEAD, Method::PATCH];

/// It never changes while the program runs.
static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| {
    let document = document(&super::operations());
    serde_json::to_vec(&document).expect("a JSON value has no failing serializer").into()
});

/// `GET /api/v1/openapi.json`.
pub async fn show() -> Response {
    ([(CONTENT_TYPE, "application/json")], DOCUMENT.clone()).into_response()
}

/// The document of these operations.
pub fn document(operations: &[Operation]) -> Value {
    let mut schemas = Schemas::new();
    let mut paths = Map::new();
    for operation in operations.iter().filter(|it| !it.description.told_elsewhere && !it.is_page()) {
        let path = operation.path.replace("{*", "{");
        let item = paths.entry(path).or_insert_with(|| json!({}));
        match &operation.method {
            Some(method) => {
                item[key(method)] = described(operation, operation.id.to_owned(), &mut schemas);
            }
            None => {
                for method in &EVERY_METHOD {
                    let id = format!("{}.{}", operation.id, key(method));
                    item[key(method)] = described(operation, id, &mut schemas);
                }
            }
        }
    }
    let problem = schemas.answered(SchemaGenerator::subschema_for::<problem::Problem>);
    debug_assert_eq!(problem, reference("Problem"));
    json!({
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "Tidegate",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What the page and the command line use, and scripts may. Times are RFC 3339 in UTC; \
                durations are whole seconds in fields that end in `_s`. Unknown fields are errors. What goes wrong is \
                a problem (RFC 9457), whose `code` never changes its meaning.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/", "description": "This gateway." }],
        "security": [{ "token": [] }, { "session": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas.shared(),
            "securitySchemes": {
                "token": {
                    "type": "http", "scheme": "bearer",
                    "description": "An API token: `tga_` and 43 characters. `tidegate token create` makes one.",
                },
                "session": {
                    "type": "apiKey", "in": "cookie", "name": cookie::SECURE_NAME,
                    "description": "The cookie of a browser that signed in on the page.",
                },
                "edge": {
                    "type": "apiKey", "in": "header", "name": "authorization",
                    "description": "Of agents: `Edge`, a space, the edge ID, a dot and the key of the join token.",
                },
            },
        },
    })
}

/// Schemas of both directions. What is sent and what is answered differ: a field with a default may be left out of the
/// one and is always in the other.
struct Schemas {
    /// Of requests: written out where they are used, so that the two directions share no names.
    taken: SchemaGenerator,
    /// Of answers: shared by name.
    answered: SchemaGenerator,
}

impl Schemas {
    fn new() -> Self {
        let settings = || {
            let mut settings = SchemaSettings::draft2020_12();
            settings.meta_schema = None;
            settings.definitions_path = SCHEMAS.into();
            settings.with_transform(RecursiveTransform(plain_description))
        };
        let mut taken = settings().for_deserialize();
        taken.inline_subschemas = true;
        Self { taken: taken.into_generator(), answered: settings().for_serialize().into_generator() }
    }

    fn taken(&mut self, schema: SchemaOf) -> Value {
        finished(schema(&mut self.taken))
    }

    fn answered(&mut self, schema: SchemaOf) -> Value {
        finished(schema(&mut self.answered))
    }

    fn shared(&mut self) -> Map<String, Value> {
        self.answered.take_definitions(true)
    }
}

/// What is inline has not been through the generator's own transforms.
fn finished(mut schema: Schema) -> Value {
    schemars::transform::Transform::transform(&mut RecursiveTransform(plain_description), &mut schema);
    schema.to_value()
}

/// Descriptions are the documentation of the types; what links there is code here.
fn plain_description(schema: &mut Schema) {
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = text.replace("[`", "`").replace("`]", "`");
    }
}

fn described(operation: &Operation, id: String, schemas: &mut Schemas) -> Value {
    let description = &operation.description;
    let (group, _) = operation.id.split_once('.').unwrap_or((operation.id, ""));
    let mut described = json!({
        "operationId": id,
        "summary": operation.summary,
        "tags": [group],
        "responses": responses(operation, schemas),
    });
    if !description.more.is_empty() {
        described["description"] = description.more.into();
    }
    let parameters = parameters(operation, schemas);
    if !parameters.is_empty() {
        described["parameters"] = parameters.into();
    }
    if let Some(takes) = &description.takes {
        let mut body = json!({ "required": takes.required });
        if let Some((media_type, mut content)) = media(takes.content, |schema| schemas.taken(schema)) {
            if !takes.example.is_empty() {
                content["example"] = serde_json::from_str(takes.example).unwrap_or_default();
            }
            body["content"] = json!({ media_type: content });
        }
        described["requestBody"] = body;
    }
    if description.by_agents {
        described["security"] = json!([{ "edge": [] }]);
    } else if operation.needs == Needs::Nothing {
        described["security"] = json!([]);
    }
    described["x-tidegate-needs"] = needs(operation.needs);
    described
}

fn parameters(operation: &Operation, schemas: &mut Schemas) -> Vec<Value> {
    let mut parameters = Vec::new();
    for (name, schema) in operation.path_parameters() {
        let schema = schema.map_or_else(|| json!({ "type": "string" }), |schema| schemas.taken(schema));
        parameters.push(json!({ "name": name, "in": "path", "required": true, "schema": schema }));
    }
    if let Some(query) = operation.description.query {
        let query = schemas.taken(query);
        let required = |name: &str| {
            query["required"].as_array().is_some_and(|names| names.iter().any(|required| required == name))
        };
        for (name, schema) in query["properties"].as_object().into_iter().flatten() {
            let mut schema = without_null(schema.clone());
            let told = schema.as_object_mut().and_then(|schema| schema.remove("description"));
            parameters.push(json!({
                "name": name, "in": "query", "required": required(name),
                "description": told.unwrap_or_default(), "schema": schema,
            }));
        }
    }
    for header in &operation.description.headers {
        parameters.push(json!({
            "name": header.name, "in": "header", "required": header.required, "description": header.what,
            "schema": { "type": "string", "pattern": header.pattern },
        }));
    }
    parameters
}

/// A parameter is there or not; the `null` of what is optional is for JSON.
fn without_null(mut schema: Value) -> Value {
    let is_null = |kind: &Value| *kind == "null";
    if let Some(kinds) = schema["type"].as_array_mut() {
        kinds.retain(|kind| !is_null(kind));
        if let [kind] = kinds.as_slice() {
            schema["type"] = kind.clone();
        }
    }
    let other =
        schema["anyOf"].as_array().and_then(|kinds| kinds.iter().find(|kind| !is_null(&kind["type"])));
    if let Some(mut other) = other.cloned() {
        if let Some(told) = schema.get("description") {
            other["description"] = told.clone();
        }
        schema = other;
    }
    if let Some(schema) = schema.as_object_mut() {
        schema.retain(|_, value| !value.is_null());
    }
    schema
}

fn responses(operation: &Operation, schemas: &mut Schemas) -> Map<String, Value> {
    let mut responses = Map::new();
    for Answer { status, content } in &operation.description.answers {
        let mut response =
            json!({ "description": status.canonical_reason().unwrap_or("As the service says") });
        if let Some((media_type, content)) = media(*content, |schema| schemas.answered(schema)) {
            response["content"] = json!({ media_type: content });
        }
        for (name, what) in &operation.description.answer_headers {
            response["headers"][name] = json!({ "description": what, "schema": { "type": "string" } });
        }
        responses.insert(status.as_str().to_owned(), response);
    }
    let mut problems = BTreeMap::<StatusCode, Vec<Code>>::new();
    for code in operation.problems() {
        problems.entry(code.status()).or_default().push(code);
    }
    for (status, codes) in problems {
        let told: Vec<_> = codes.iter().map(|code| format!("`{}`: {}.", code.name(), code.title())).collect();
        let names: Vec<_> = codes.iter().map(|code| code.name()).collect();
        let schema = json!({
            "allOf": [reference("Problem")],
            "properties": { "status": { "const": status.as_u16() }, "code": { "enum": names } },
        });
        let content = json!({ problem::CONTENT_TYPE: { "schema": schema } });
        let response = json!({ "description": told.join(" "), "content": content });
        // A status that is also an answer (503 of `readyz`) is told by the answer.
        responses.entry(status.as_str()).or_insert(response);
    }
    if operation.method.is_none() {
        let any = json!({ "description": "Whatever the service answers." });
        responses.insert("default".to_owned(), any);
    }
    responses
}

/// Media type and its object in the document.
fn media(content: Content, schema: impl FnOnce(SchemaOf) -> Value) -> Option<(&'static str, Value)> {
    match content {
        Content::Nothing => None,
        Content::Json(of) => Some(("application/json", json!({ "schema": schema(of) }))),
        Content::Bytes(media_type) => Some((media_type, json!({}))),
    }
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#{SCHEMAS}/{name}") })
}

/// Who may: the weakest role that does, and over what.
fn needs(needs: Needs) -> Value {
    match needs {
        Needs::Nothing => json!({ "role": null, "over": null }),
        Needs::Anybody => json!({ "role": "any", "over": "self" }),
        Needs::Edges(role) => json!({ "role": role.name(), "over": "edges within reach" }),
        Needs::Edge(role) => json!({ "role": role.name(), "over": "this edge" }),
        Needs::Gateway(role) => json!({ "role": role.name(), "over": "the gateway" }),
    }
}

/// The key of a method in a path item.
fn key(method: &Method) -> String {
    method.as_str().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::http::operations;

    #[test]
    fn whatever_is_below_the_api_is_described() {
        for operation in operations().iter().filter(|operation| operation.path.starts_with("/api/v1/")) {
            let Operation { id, path, description, .. } = operation;
            let answers = !description.answers.is_empty() || operation.method.is_none();
            assert!(answers, "{id} at {path} does not say what it answers: see http::operation::description");
            for (name, schema) in operation.path_parameters() {
                assert!(
                    schema.is_some(),
                    "{id} does not say what {{{name}}} of {path} is: use Operation::part"
                );
            }
            let takes_nothing = [Some(Method::GET), Some(Method::DELETE), None].contains(&operation.method);
            assert!(
                !takes_nothing || description.takes.is_none(),
                "{id} takes a body that clients do not send"
            );
        }
    }

    #[test]
    fn the_examples_are_bodies_that_would_be_taken() {
        for operation in operations() {
            if let Some(takes) = &operation.description.takes {
                (takes.reads)(takes.example).unwrap_or_else(|error| panic!("{}: {error}", operation.id));
            }
        }
    }

    #[test]
    fn every_reference_of_the_document_leads_somewhere_and_ids_are_unique() {
        let document = document(&operations());
        let mut references = Vec::new();
        collect(&document, "$ref", &mut references);
        assert!(!references.is_empty());
        for reference in references {
            let pointer = reference.strip_prefix('#').expect("references stay in the document");
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
        let mut ids = Vec::new();
        collect(&document, "operationId", &mut ids);
        let unique: HashSet<_> = ids.iter().collect();
        assert_eq!(unique.len(), ids.len(), "{ids:?}");
    }

    #[test]
    fn an_operation_is_told_with_all_that_follows_from_its_row() {
        let document = document(&operations());
        let change = &document["paths"]["/api/v1/edges/{edge}"]["patch"];
        assert_eq!(change["operationId"], "edge.change");
        assert_eq!(change["x-tidegate-needs"], json!({ "role": "admin", "over": "this edge" }));
        assert_eq!(change["parameters"][0]["schema"]["maxLength"], 63);
        let statuses: Vec<_> = change["responses"].as_object().expect("responses").keys().collect();
        assert_eq!(
            statuses,
            [
                "200", "400", "401", "403", "404", "408", "409", "412", "413", "415", "422", "429", "500",
                "503", "507"
            ]
        );
        let conflict = &change["responses"]["409"]["content"]["application/problem+json"]["schema"];
        assert_eq!(conflict["properties"]["code"]["enum"], json!(["edge-name-taken"]));
        let body = &change["requestBody"]["content"]["application/json"]["schema"];
        assert_eq!(body["properties"]["interval_s"]["maximum"], 86_400);
        assert_eq!(body["additionalProperties"], false);
        let query = &document["paths"]["/api/v1/edges"]["get"]["parameters"];
        let limit =
            query.as_array().and_then(|all| all.iter().find(|parameter| parameter["name"] == "limit"));
        let limit = limit.expect("the list has a limit");
        assert_eq!((&limit["in"], &limit["schema"]["type"]), (&json!("query"), &json!("integer")));
    }

    #[test]
    fn descriptions_are_for_readers_of_the_document() {
        let mut told = Vec::new();
        collect(&document(&operations()), "description", &mut told);
        for text in told {
            assert!(!text.contains("[`"), "a link of Rust's documentation is left: {text}");
        }
    }

    fn collect(value: &Value, key: &str, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                for (name, value) in map {
                    match value {
                        Value::String(text) if name == key => found.push(text.clone()),
                        value => collect(value, key, found),
                    }
                }
            }
            Value::Array(values) => values.iter().for_each(|value| collect(value, key, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}
