//! `tests:`: what must be true of a policy, checked before it is applied.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::{Value as Schema, json};

use crate::net::{AddressSet, Entry, Family, HostPorts};
use crate::text::Span;
use crate::text::diagnostic::Diagnostic;

use super::port::{self, SourceSelection};
use super::source::{Place, reserved_words};
use super::yaml::{Member, Node, Reader, Value, is_missing, members, one_or_many};

const KEYS: [&str; 5] = ["from", "except", "to", "expect", "only"];
/// The forms of a test, for `help:` lines.
const FORM: &str =
    "write `{from: 203.0.113.9, to: 80, expect: allow}` or `{to: 5432, only: [office]}`";

/// One line of `tests:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The claim.
    pub claim: Claim,
    /// The ports of the claim.
    pub to: Target,
    /// The place of the test.
    pub origin: Span,
}

/// The claim of a [`Statement`] about its ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// Every source has the same verdict at every port.
    Each {
        /// The sources.
        from: SourceSelection,
        /// The sources that the claim excludes.
        except: SourceSelection,
        /// Whether the sources are expected to be allowed.
        allow: bool,
    },
    /// No other address is allowed. Packets from containers of this host are not part of the claim.
    Only(SourceSelection),
}

/// The ports of a [`Statement`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// One port or a range.
    Ports(HostPorts),
    /// `any`: every port of every protocol.
    Any,
    /// `others`: every port that no key of the policy covers.
    Others,
}

impl Statement {
    /// Returns whether the sources are expected to be allowed.
    #[must_use]
    pub fn expects_allow(&self) -> bool {
        matches!(self.claim, Claim::Each { allow: true, .. })
    }

    /// Returns the statement as in JSON documents.
    pub(crate) fn json(&self) -> Schema {
        match &self.claim {
            Claim::Each {
                from,
                except,
                allow,
            } => {
                let expect = if *allow { "allow" } else { "deny" };
                let mut json =
                    json!({"from": from.json(), "to": self.to.to_string(), "expect": expect});
                if *except != SourceSelection::default() {
                    json["except"] = except.json();
                }
                json
            }
            Claim::Only(only) => json!({"only": only.json(), "to": self.to.to_string()}),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ports(ports) => ports.fmt(f),
            Self::Any => f.write_str("any"),
            Self::Others => f.write_str("others"),
        }
    }
}

/// Reads the list `tests:`.
pub(super) fn read(
    tests: &mut Vec<Statement>,
    ports: &mut port::Draft,
    reader: &mut Reader<'_>,
    node: &Node,
) {
    let items = match &node.value {
        Value::Sequence(items) => items,
        Value::Null | Value::Invalid => return,
        _ => {
            reader.report.push(
                Diagnostic::error("test", "`tests` is a list")
                    .at(node.span.clone(), "not a list")
                    .help(FORM),
            );
            return;
        }
    };
    for item in items {
        match &item.value {
            Value::Mapping(members) => {
                tests.extend(read_test(ports, reader, item, members));
            }
            Value::Invalid => {}
            _ => reader.report.push(
                Diagnostic::error(
                    "test",
                    "a test has the keys `from`, `to` and `expect`, or `to` and `only`",
                )
                .at(item.span.clone(), "not a test")
                .help(FORM),
            ),
        }
    }
}

fn read_test(
    ports: &mut port::Draft,
    reader: &mut Reader<'_>,
    item: &Node,
    members: &[Member],
) -> Option<Statement> {
    let (mut from, mut except, mut only, mut to, mut allow) = (None, None, None, None, None);
    for member in members {
        let mut sources = |what| Some(read_sources(ports, reader, member, what));
        match member.key.as_str() {
            "from" => from = sources("`from`"),
            "except" => except = sources("`except`"),
            "only" => only = sources("`only`"),
            "to" => to = read_to(reader, &member.value),
            "expect" => match member.value.text() {
                Some("allow") => allow = Some(true),
                Some("deny") => allow = Some(false),
                _ => {
                    let message = "`expect` is `allow` or `deny`";
                    reader.wrong_value(&member.value, message, &["allow", "deny"]);
                }
            },
            _ => reader.unknown_key(member, &KEYS, "a test"),
        }
    }
    let is_only = members.iter().any(|member| member.key == "only");
    if is_only {
        let others = members.iter();
        for other in others.filter(|m| matches!(m.key.as_str(), "from" | "except" | "expect")) {
            reader.report.push(
                Diagnostic::error("test", format!("`{}` does not go with `only`", other.key))
                    .at(other.key_span.clone(), "`only` states all of it")
                    .help("write `{to: 5432, only: [office]}`: nobody but `office` is allowed"),
            );
        }
    }
    let required: &[&str] = if is_only {
        &["to"]
    } else {
        &["from", "to", "expect"]
    };
    for key in required {
        if is_missing(key, members, &KEYS) {
            reader.report.push(
                Diagnostic::error("missing-key", format!("this test has no `{key}`"))
                    .at(
                        item.span.clone(),
                        "a test has `from`, `to` and `expect`, or `to` and `only`",
                    )
                    .help(FORM),
            );
        }
    }
    let to = to?;
    let claim = match (only, from, allow) {
        (Some(only), None, None) => Claim::Only(only),
        (None, Some(from), Some(allow)) => {
            one_family(reader, item, &from, to);
            let except = except.unwrap_or_default();
            Claim::Each {
                from,
                except,
                allow,
            }
        }
        _ => return None,
    };
    Some(Statement {
        claim,
        to,
        origin: item.span.clone(),
    })
}

fn read_sources(
    ports: &mut port::Draft,
    reader: &mut Reader<'_>,
    member: &Member,
    what: &str,
) -> SourceSelection {
    let node = &member.value;
    let selection = port::read_selection(ports, reader, node, what, &member.key_span);
    let mut single = selection.inline.iter().filter_map(address_of);
    let never = single.find(|address| address.is_unspecified() || address.is_multicast());
    drop(single);
    if let Some(address) = never {
        reader.report.push(
            Diagnostic::error("test", format!("no packet comes from `{address}`"))
                .at(node.span.clone(), "never a source")
                .help("write addresses of clients, such as `203.0.113.9`"),
        );
    }
    let is_empty = matches!(&node.value, Value::Sequence(items) if items.is_empty());
    if is_empty && what == "`from`" {
        reader.report.push(
            Diagnostic::error("test", "this test states nothing")
                .at(node.span.clone(), "an empty list")
                .help("write the sources, or `any` for everybody"),
        );
    }
    selection
}

/// Returns the address of an entry that is a single address.
fn address_of(entry: Entry) -> Option<IpAddr> {
    match entry {
        Entry::V4(first, last) => (first == last).then(|| Ipv4Addr::from(first).into()),
        Entry::V6(first, last) => (first == last).then(|| Ipv6Addr::from(first).into()),
    }
}

/// Reports a test of addresses of one family at an address of the other.
fn one_family(reader: &mut Reader<'_>, item: &Node, from: &SourceSelection, to: Target) {
    let Target::Ports(HostPorts {
        address: Some(to), ..
    }) = to
    else {
        return;
    };
    if from.any || from.containers || !from.named.is_empty() || from.inline.is_empty() {
        return;
    }
    if !from.inline.intersects(&AddressSet::all(Family::of(to))) {
        let first = from.inline.iter().next().map(|entry| entry.to_string());
        let message = format!(
            "no packet goes from `{}` to `{to}`",
            first.unwrap_or_default()
        );
        reader.report.push(
            Diagnostic::error("test", message)
                .at(item.span.clone(), "one is IPv4, the other IPv6")
                .help("write both addresses of one family, or the port alone"),
        );
    }
}

fn read_to(reader: &mut Reader<'_>, node: &Node) -> Option<Target> {
    let words = ["any", "others"];
    match node.text() {
        Some("any") => return Some(Target::Any),
        Some("others") => return Some(Target::Others),
        Some(text) => match text.parse::<HostPorts>() {
            Ok(ports) => return Some(Target::Ports(ports)),
            Err(mistake) => reader.report.push(mistake.at(node.span.clone())),
        },
        None => {
            let message = "`to` is a port, a range, `any` or `others`";
            reader.wrong_value(node, message, &words);
        }
    }
    None
}

pub(super) fn schema() -> Schema {
    json!({
        "description": "What must be true of the policy. One that does not mean what its tests \
                        expect is not applied.",
        "type": ["array", "null"],
        "items": {
            "type": "object",
            "additionalProperties": false,
            "required": ["to"],
            "oneOf": [
                {"required": ["from", "expect"]},
                {
                    "required": ["only"],
                    "not": {"anyOf": [
                        {"required": ["from"]}, {"required": ["except"]}, {"required": ["expect"]},
                    ]},
                },
            ],
            "properties": members([
                ("from", from_schema as fn() -> Schema),
                ("except", except_schema),
                ("to", to_schema),
                ("expect", expect_schema),
                ("only", only_schema),
            ]),
        },
    })
}

/// Returns the schema of a selection of sources; `least` is the minimum number of items.
fn sources_schema(place: Place, least: u8, description: &str) -> Schema {
    let not = json!({"type": "string", "pattern": reserved_words(place)});
    let mut schema = one_or_many(&port::selection_pattern(), &not, description);
    if least > 0 {
        schema["minItems"] = json!(least);
    }
    schema
}

fn from_schema() -> Schema {
    let description = "The sources: every one has the expected verdict.";
    sources_schema(Place::Allow, 1, description)
}

fn except_schema() -> Schema {
    let description = "The sources of `from` that nothing is stated of.";
    sources_schema(Place::Except, 1, description)
}

fn only_schema() -> Schema {
    sources_schema(
        Place::Allow,
        0,
        "Nobody but these is allowed, on any path. Containers are not part of it.",
    )
}

fn to_schema() -> Schema {
    json!({
        "description": "Ports of this host: 80, 53/udp, 8000-8010 or 203.0.113.10:8082; `any`; or \
                        `others`, every port without a key.",
        "type": ["integer", "string"],
        "minimum": 1,
        "maximum": u16::MAX,
        "pattern": format!("{}|^(any|others)$", port::pattern(true)),
    })
}

fn expect_schema() -> Schema {
    json!({
        "description": "The expected verdict.",
        "enum": ["allow", "deny"],
    })
}
