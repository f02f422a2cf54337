//! The language as a JSON Schema, for editors.
//!
//! It says of one file what can be said without a second look at it: keys, forms of entries, which
//! values there are. What needs arithmetic or another file (host bits, ranges the wrong way round,
//! names that are nowhere) only the reader knows. No value is a choice between schemas, so that an
//! editor shows a mistake where it is made. Texts that YAML itself takes for numbers or truth values
//! (an interface called `7`) have to be in quotes here; the reader takes them either way.
//!
//! Each noun has its schema in its own file.

use serde_json::{Value, json};

use super::read::SECTIONS;
use super::yaml::members;

/// The JSON Schema draft with the widest support in editors.
const DRAFT: &str = "http://json-schema.org/draft-07/schema#";

const ABOUT: &str = "A policy of dfw: who may reach which published port of this host. All *.yaml \
                     files of a directory are one policy. See dfw-policy(5).";

/// Returns the schema of one policy file.
#[must_use]
pub fn schema() -> Value {
    let sections = SECTIONS.map(|section| (section.key, section.schema));
    json!({
        "$schema": DRAFT,
        "title": "dfw policy",
        "description": ABOUT,
        "type": ["object", "null"],
        "additionalProperties": false,
        "properties": members(sections),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_the_reader_has_a_schema() {
        fn look(value: &Value, at: &str) {
            if let Some(members) = value["properties"].as_object() {
                for (key, schema) in members {
                    assert!(schema.is_object(), "{at}/{key}");
                    assert!(schema["description"].is_string(), "{at}/{key}");
                }
            }
            let inner = value.as_object().into_iter().flatten();
            for (key, value) in inner.filter(|(_, value)| value.is_object()) {
                look(value, &format!("{at}/{key}"));
            }
        }
        look(&schema(), "");
    }
}
