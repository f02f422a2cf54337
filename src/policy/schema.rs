//! The language as a JSON Schema, for editors.
//!
//! It covers keys, values and the forms of entries in one file. Only the reader finds errors that need
//! arithmetic or another file (host bits, reversed ranges, unknown names). No value is a choice between
//! schemas, so that an editor shows an error at its place. Texts that YAML parses as numbers or booleans (an
//! interface called `7`) need quotes here; the reader accepts them without.
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
