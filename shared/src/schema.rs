//! JSON schemas of what the types alone don't tell: patterns, bounds and formats, for the gateway's OpenAPI document.
//!
//! The rule: a schema admits what the type's parser admits and no more, as far as a schema can say it, so that values
//! which are made from it are values that the gateway takes.

use schemars::{Schema, SchemaGenerator, json_schema};

/// The schema of a type whose JSON is its text, inline wherever it is used.
macro_rules! text {
    ($name:ident $(, $keyword:literal: $value:expr)+) => {
        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string" $(, $keyword: $value)+ })
            }
        }
    };
}
pub(crate) use text;

/// Tags of an edge. An absent field and `null` are the same.
pub(crate) fn tags(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 32,
        "items": { "type": "string", "minLength": 1, "maxLength": 64, "pattern": r"^[^,\x00-\x1f\x7f-\x9f]+$" },
    })
}

/// A host and a port.
pub(crate) fn host_port(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "pattern": r"^([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}$" })
}

/// The tags that something is bound to; `null` is no bound.
pub(crate) fn tags_or_all(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = tags(generator);
    schema.insert("type".to_owned(), ["array", "null"].into());
    schema
}

/// A secret that is compared with another.
pub(crate) fn secret(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string" })
}

/// A password that is compared with another.
pub(crate) fn password(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "password" })
}

/// As [`password`], where there may be none.
pub(crate) fn password_or_none(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "null"], "format": "password" })
}

/// A password that is to be one.
pub(crate) fn new_password(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "password", "minLength": 10, "maxLength": 256 })
}

/// As [`new_password`], where there may be none.
pub(crate) fn new_password_or_none(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "null"], "format": "password", "minLength": 10, "maxLength": 256 })
}
