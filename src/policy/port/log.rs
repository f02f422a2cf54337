//! `log`: whether denials are logged.

use serde_json::json;

use super::Attribute;

pub(super) const ATTRIBUTE: Attribute = Attribute {
    key: "log",
    read: |_, reader, line, policy| policy.log = reader.read_flag(line),
    schema: || {
        json!({
            "description": "Whether denials go to the kernel log and to `dfw log`, at most 10 a \
                            second.",
            "type": "boolean",
        })
    },
    json: |policy| ("log", json!(policy.log)),
    describe: |_, _| String::new(),
};
