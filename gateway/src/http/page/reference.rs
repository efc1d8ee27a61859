//! The reference of the admin API, for people: every operation with what it takes and answers, who may, and a line of
//! curl. Made from the table of operations and the document that programs get ([`crate::http::openapi`]), so the two
//! can't differ.

use std::fmt::Write as _;
use std::sync::LazyLock;

use axum::response::Response;
use http::Method;
use maud::{Markup, PreEscaped, html};
use serde_json::Value;

use super::frame::Visit;
use super::parts;
use crate::http::openapi;
use crate::http::operation::{Needs, Operation};

/// It never changes while the program runs.
static BODY: LazyLock<Markup> = LazyLock::new(|| {
    let operations = crate::http::operations();
    body(&operations, &openapi::document(&operations))
});

/// `GET /api/v1/docs`.
pub async fn show(visit: Visit) -> Response {
    visit.page("Admin API").show(PreEscaped(BODY.0.clone()))
}

fn body(operations: &[Operation], document: &Value) -> Markup {
    let told = |operation: &&Operation| !operation.is_page() && !operation.description.told_elsewhere;
    let mut groups: Vec<(&str, Vec<&Operation>)> = Vec::new();
    for operation in operations.iter().filter(told) {
        match groups.iter_mut().find(|(group, _)| *group == group_of(operation)) {
            Some((_, members)) => members.push(operation),
            None => groups.push((group_of(operation), vec![operation])),
        }
    }
    let types = document["components"]["schemas"].as_object();
    html! {
        header .head {
            h1 { "Admin API" }
            a .button href="/api/v1/openapi.json" { "OpenAPI 3.1" }
        }
        p { (document["info"]["description"].as_str().unwrap_or_default()) }
        p {
            "The examples need " code { "TIDEGATE_URL" } ", the address of this page up to its first slash, and "
            code { "TIDEGATE_TOKEN" } ", which " code { "tidegate token create" } " prints. Where the gateway has a \
            certificate of its own, add " code { "--insecure --pinnedpubkey \"$TIDEGATE_TLS_FINGERPRINT\"" } "."
        }
        nav aria-label="Parts of the API" {
            ul .actions {
                @for (group, _) in &groups { li { a .tag href={ "#" (group) } { (group) } } }
                li { a .tag href="#types" { "types" } }
            }
        }
        @for (group, members) in &groups {
            section .choices aria-labelledby=(group) {
                h2 #(group) { (group) }
                @for operation in members { (described(operation, document)) }
            }
        }
        section .choices aria-labelledby="types" {
            h2 #types { "Types" }
            @for (name, schema) in types.into_iter().flatten() {
                details #{ "type-" (name) } {
                    summary { (name) }
                    @if let Some(told) = schema["description"].as_str() { p { (told) } }
                    (fields(schema))
                }
            }
        }
    }
}

fn group_of(operation: &Operation) -> &'static str {
    operation.id.split_once('.').map_or(operation.id, |(group, _)| group)
}

fn described(operation: &Operation, document: &Value) -> Markup {
    let Operation { id, path, summary, description, .. } = operation;
    let method = operation.method.as_ref().unwrap_or(&Method::GET);
    let told = &document["paths"][path.replace("{*", "{")][method.as_str().to_ascii_lowercase()];
    let body = told["requestBody"]["content"].as_object().and_then(|content| content.iter().next());
    html! {
        details #(id) {
            summary {
                code { (operation.method.as_ref().map_or("any method", Method::as_str)) " " (path) }
                " " span .muted { (summary) }
            }
            @if !description.more.is_empty() { p { (description.more) } }
            p { "Who may: " (who(operation)) }
            @if let Some(parameters) = told["parameters"].as_array() { (parameters_of(parameters)) }
            @if let Some((media_type, body)) = body {
                h3 { "Body: " code { (media_type) } }
                (fields(&body["schema"]))
            }
            h3 { "Answers" }
            (answers(&told["responses"]))
            (parts::copyable(&format!("{id}.curl"), "With curl", &curl(operation, method)))
        }
    }
}

fn who(operation: &Operation) -> String {
    match operation.needs {
        Needs::Nothing if operation.description.by_agents => "agents, with the key of their edge.".to_owned(),
        Needs::Nothing => "anybody.".to_owned(),
        Needs::Anybody => "whoever is signed in.".to_owned(),
        Needs::Edges(role) => format!("the role {role} and those above it, for the edges within reach."),
        Needs::Edge(role) => format!("the role {role} and those above it, if the edge is within reach."),
        Needs::Gateway(role) => format!("the role {role} and those above it, if they reach every edge."),
    }
}

fn parameters_of(parameters: &[Value]) -> Markup {
    html! {
        h3 { "Parameters" }
        div .scroll tabindex="0" role="group" aria-label="Parameters" {
            table {
                thead { tr { th scope="col" { "Name" } th scope="col" { "Where" } th scope="col" { "Type" } th scope="col" { "Meaning" } } }
                tbody {
                    @for parameter in parameters {
                        tr {
                            th scope="row" { code { (word(&parameter["name"])) } }
                            td { (word(&parameter["in"])) @if parameter["required"] == true { ", needed" } }
                            td .wraps { (shape(&parameter["schema"])) }
                            td .wraps { (word(&parameter["description"])) }
                        }
                    }
                }
            }
        }
    }
}

fn answers(responses: &Value) -> Markup {
    html! {
        div .scroll tabindex="0" role="group" aria-label="Answers" {
            table {
                thead { tr { th scope="col" { "Status" } th scope="col" { "When" } th scope="col" { "Body" } } }
                tbody {
                    @for (status, response) in responses.as_object().into_iter().flatten() {
                        tr {
                            th scope="row" { (status) }
                            td .wraps { (code_words(word(&response["description"]))) }
                            td { (content(&response["content"])) }
                        }
                    }
                }
            }
        }
    }
}

fn content(content: &Value) -> Markup {
    let Some((media_type, content)) = content.as_object().and_then(|content| content.iter().next()) else {
        return html! { "none" };
    };
    match content["schema"]["$ref"].as_str() {
        Some(reference) => link(reference),
        None if media_type == "application/problem+json" => link("/Problem"),
        None => html! { code { (media_type) } },
    }
}

/// What stands between backticks is code.
fn code_words(text: &str) -> Markup {
    html! {
        @for (position, part) in text.split('`').enumerate() {
            @if position % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

/// The fields of an object, and of each form that it may have.
fn fields(schema: &Value) -> Markup {
    let properties = schema["properties"].as_object();
    let needed =
        |name: &str| schema["required"].as_array().is_some_and(|names| names.iter().any(|it| it == name));
    let forms = ["oneOf", "anyOf"].into_iter().filter_map(|key| schema[key].as_array()).flatten();
    let forms: Vec<_> = forms.filter(|form| form["properties"].is_object()).collect();
    html! {
        @if let Some(properties) = properties {
            div .scroll tabindex="0" role="group" aria-label="Fields" {
                table {
                    thead { tr { th scope="col" { "Field" } th scope="col" { "Type" } th scope="col" { "Meaning" } } }
                    tbody {
                        @for (name, field) in properties {
                            tr {
                                th scope="row" { code { (name) } @if needed(name) { " " span .muted { "always" } } }
                                td .wraps { (shape(field)) }
                                td .wraps { (code_words(word(&field["description"]))) }
                            }
                        }
                    }
                }
            }
        } @else if forms.is_empty() {
            p { (shape(schema)) }
        }
        @for form in &forms {
            p { "Or: " (code_words(word(&form["description"]))) }
            (fields(form))
        }
    }
}

/// A schema in a few words.
fn shape(schema: &Value) -> Markup {
    if let Some(reference) = schema["$ref"].as_str() {
        return link(reference);
    }
    if let Some(values) = schema["enum"].as_array() {
        return html! { @for (position, value) in values.iter().enumerate() {
            @if position > 0 { ", " } code { (value.as_str().map_or_else(|| value.to_string(), str::to_owned)) }
        } };
    }
    if !schema["const"].is_null() {
        return html! { code { (schema["const"].as_str().map_or_else(|| schema["const"].to_string(), str::to_owned)) } };
    }
    for key in ["anyOf", "oneOf", "allOf"] {
        if let Some(forms) = schema[key].as_array() {
            return html! { @for (position, form) in forms.iter().enumerate() {
                @if position > 0 { " or " } (shape(form))
            } };
        }
    }
    match &schema["type"] {
        Value::Array(kinds) => html! { @for (position, kind) in kinds.iter().enumerate() {
            @if position > 0 { " or " } (plain(word(kind), schema))
        } },
        kind => plain(word(kind), schema),
    }
}

fn plain(kind: &str, schema: &Value) -> Markup {
    match kind {
        "array" => html! { "list of " (shape(&schema["items"])) },
        "object" => match (schema["properties"].as_object(), &schema["additionalProperties"]) {
            (Some(fields), _) => html! {
                "object of " @for (position, (name, field)) in fields.iter().enumerate() {
                    @if position > 0 { ", " } code { (name) } ": " (shape(field))
                }
            },
            (None, Value::Object(_)) => {
                html! { "object with names of one's own for: " (shape(&schema["additionalProperties"])) }
            }
            (None, _) => html! { "object" },
        },
        "string" => {
            html! { "text" (bounds(schema, "minLength", "maxLength", " characters")) (format(schema)) }
        }
        "integer" | "number" => html! { "number" (bounds(schema, "minimum", "maximum", "")) },
        "boolean" => html! { code { "true" } " or " code { "false" } },
        "null" => html! { code { "null" } },
        other => html! { (other) },
    }
}

fn bounds(schema: &Value, low: &str, high: &str, unit: &str) -> String {
    match (schema[low].as_f64(), schema[high].as_f64()) {
        (Some(low), Some(high)) if low == high => format!(", {high}{unit}"),
        (Some(low), Some(high)) => format!(", {low} to {high}{unit}"),
        (None, Some(high)) => format!(", at most {high}{unit}"),
        (Some(_) | None, None) => String::new(),
    }
}

fn format(schema: &Value) -> Markup {
    html! {
        @if let Some(format) = schema["format"].as_str() { " (" (format) ")" }
        @if let Some(pattern) = schema["pattern"].as_str() { " like " code { (pattern) } }
    }
}

fn link(reference: &str) -> Markup {
    let name = reference.rsplit('/').next().unwrap_or(reference);
    html! { a href={ "#type-" (name) } { (name) } }
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn curl(operation: &Operation, method: &Method) -> String {
    let description = &operation.description;
    let path = operation
        .path
        .split('/')
        .map(|part| match part {
            "{edge}" => "shop-17".to_owned(),
            "{service}" => "web".to_owned(),
            part => match part.strip_prefix('{') {
                Some(name) => name.trim_matches(['*', '}']).to_uppercase(),
                None => part.to_owned(),
            },
        })
        .collect::<Vec<_>>()
        .join("/");
    let mut line = format!("curl \"$TIDEGATE_URL{path}\"");
    // A String takes whatever is written to it.
    if description.by_agents {
        line.push_str(" --header \"authorization: Edge $EDGE_ID.$KEY\"");
    } else if operation.needs != Needs::Nothing {
        line.push_str(" --header \"authorization: Bearer $TIDEGATE_TOKEN\"");
    }
    for header in description.headers.iter().filter(|header| header.required) {
        let _ = write!(line, " --header \"{}: ...\"", header.name);
    }
    let example = description.takes.as_ref().map(|takes| takes.example).filter(|example| !example.is_empty());
    if let Some(example) = example {
        line.push_str(" --header 'content-type: application/json'");
        let _ = write!(line, " --data '{}'", example.replace('\'', r"'\''"));
    } else if description.takes.is_some() {
        line.push_str(" --data-binary @FILE");
    }
    if *method != Method::GET && !(*method == Method::POST && description.takes.is_some()) {
        let _ = write!(line, " --request {method}");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::operations;

    #[test]
    fn every_operation_of_the_document_has_its_place_and_every_link_leads_somewhere() {
        let operations = operations();
        let html = body(&operations, &openapi::document(&operations)).into_string();
        for operation in operations.iter().filter(|operation| !operation.is_page()) {
            assert!(html.contains(&format!("id=\"{}\"", operation.id)), "{}", operation.id);
        }
        for link in html.split("href=\"#").skip(1) {
            let (target, _) = link.split_once('"').expect("attributes end");
            assert!(html.contains(&format!("id=\"{target}\"")), "#{target} is nowhere");
        }
    }

    #[test]
    fn an_example_is_a_command_that_can_be_pasted() {
        let operations = operations();
        let line = |id: &str| {
            let operation =
                operations.iter().find(|operation| operation.id == id).expect("such an operation");
            curl(operation, operation.method.as_ref().unwrap_or(&Method::GET))
        };
        let token = r#"--header "authorization: Bearer $TIDEGATE_TOKEN""#;
        assert_eq!(line("edge.show"), format!(r#"curl "$TIDEGATE_URL/api/v1/edges/shop-17" {token}"#));
        assert_eq!(
            line("edge.delete"),
            format!(r#"curl "$TIDEGATE_URL/api/v1/edges/shop-17" {token} --request DELETE"#)
        );
        assert!(line("edge.create").ends_with(r#"--data '{"name":"shop-17","tags":["berlin"]}'"#));
        assert!(line("edge.change").ends_with(r#"--data '{"idle_timeout_s":600}' --request PATCH"#));
        assert_eq!(line("health.live"), r#"curl "$TIDEGATE_URL/healthz""#);
        assert!(line("token.revoke").contains("/api/v1/tokens/TOKEN\" "));
    }
}
