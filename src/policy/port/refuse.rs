//! `refuse`: how a refusal looks to the refused.

use std::fmt;

use serde_json::json;

use super::Attribute;

/// How a refusal looks to the refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Refuse {
    /// Silence.
    #[default]
    Drop,
    /// A TCP reset, or ICMP port unreachable for other protocols.
    Reject,
}

impl fmt::Display for Refuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Drop => "drop",
            Self::Reject => "reject",
        })
    }
}

pub(super) const ATTRIBUTE: Attribute = Attribute {
    key: "refuse",
    read: |_, reader, line, policy| {
        policy.refuse = match line.value.text() {
            Some("drop") => Refuse::Drop,
            Some("reject") => Refuse::Reject,
            _ => {
                let message = "`refuse` is `drop` (silence) or `reject` (an answer)";
                reader.wrong_value(&line.value, message, &["drop", "reject"]);
                Refuse::Drop
            }
        }
    },
    schema: || {
        json!({
            "description": "`drop` (if not said) is silence; `reject` a TCP reset, or ICMP port \
                            unreachable.",
            "enum": ["drop", "reject"],
        })
    },
    json: |policy| ("refuse", json!(policy.refuse.to_string())),
    describe: |_, _| String::new(),
};
