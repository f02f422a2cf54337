//! Forms of JSON Schema that several nouns of the language have.

use serde_json::{Value, json};

/// The members of a mapping: every key that the reader knows, and no other.
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

/// A text of this pattern, or a list of them; but none of those that have a meaning of their own.
pub(in crate::policy) fn one_or_many(pattern: &str, not: &Value, description: &str) -> Value {
    json!({
        "description": description,
        "type": ["string", "array"],
        "pattern": pattern,
        "not": not,
        "items": {"type": "string", "pattern": pattern, "not": not},
    })
}
