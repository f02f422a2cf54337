//! Forms of JSON Schema that several nouns of the language have.

use serde_json::{Value, json};

/// Returns the schema of a mapping with exactly these keys.
pub(in crate::policy) fn members(
    members: impl IntoIterator<Item = (&'static str, fn() -> Value)>,
) -> Value {
    let members = members.into_iter();
    Value::Object(
        members
            .map(|(key, schema)| (key.to_owned(), schema()))
            .collect(),
    )
}

/// Returns the schema of a text or a list of texts with this pattern, except some words.
pub(in crate::policy) fn one_or_many(pattern: &str, not: &Value, description: &str) -> Value {
    json!({
        "description": description,
        "type": ["string", "array"],
        "pattern": pattern,
        "not": not,
        "items": {"type": "string", "pattern": pattern, "not": not},
    })
}
