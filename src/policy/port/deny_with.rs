//! `deny-with`: how packets of a port are denied.

use std::fmt;

use serde_json::json;

use super::Attribute;

/// Selects what the sender of a denied packet receives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DenyWith {
    /// Nothing: the packet is dropped.
    #[default]
    Drop,
    /// A TCP reset, or ICMP port unreachable for other protocols.
    Reject,
}

impl fmt::Display for DenyWith {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Drop => "drop",
            Self::Reject => "reject",
        })
    }
}

pub(super) const ATTRIBUTE: Attribute = Attribute {
    key: "deny-with",
    read: |_, reader, line, policy| {
        policy.deny_with = match line.value.text() {
            Some("drop") => DenyWith::Drop,
            Some("reject") => DenyWith::Reject,
            _ => {
                let message = "`deny-with` is `drop` (silent) or `reject` (with a TCP reset or an ICMP error)";
                reader.wrong_value(&line.value, message, &["drop", "reject"]);
                DenyWith::Drop
            }
        }
    },
    schema: || {
        json!({
            "description": "How packets are denied: `drop` (default) silently, `reject` with a \
                            TCP reset or an ICMP port unreachable error.",
            "enum": ["drop", "reject"],
        })
    },
    json: |policy| ("deny_with", json!(policy.deny_with.to_string())),
    describe: |_, _| String::new(),
};
