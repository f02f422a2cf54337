//! `allow`: who may reach the port.

use serde_json::json;

use crate::policy::source::{Place, reserved_words};
use crate::policy::yaml::one_or_many;

use super::{Attribute, selection};

pub(super) const ATTRIBUTE: Attribute = Attribute {
    key: "allow",
    read: |draft, reader, line, policy| {
        policy.allow = selection::read(draft, reader, &line.value, "`allow`", &line.key_span);
    },
    schema: || {
        let not = json!({"type": "string", "pattern": reserved_words(Place::Allow)});
        let description = "Who may. `[]` is nobody, `any` everybody.";
        one_or_many(&selection::pattern(), &not, description)
    },
    json: |policy| ("allow", policy.allow.json()),
    describe: |policy, sources| {
        if policy.allow.any {
            return "any".to_owned();
        }
        match policy.allow.describe(sources) {
            who if who.is_empty() => "nobody".to_owned(),
            who => who,
        }
    },
};
