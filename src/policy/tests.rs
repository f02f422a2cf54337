//! `tests:`: what must be allowed and what denied, checked before a policy is applied.

use std::net::IpAddr;

use serde_json::{Value as Schema, json};

use crate::net::HostPorts;
use crate::text::Span;
use crate::text::diagnostic::{Diagnostic, quoted};

use super::port;
use super::source::{address_patterns, parse_address};
use super::yaml::{Member, Node, Reader, Value, is_missing, members};

const KEYS: [&str; 3] = ["from", "to", "expect"];

/// One line of `tests:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    /// The source: an address, or any container of this host.
    pub from: TestSource,
    /// The port; `first == last`.
    pub to: HostPorts,
    /// Whether it is allowed.
    pub allow: bool,
    /// Where it is written.
    pub origin: Span,
}

/// Where a packet of an [`Expectation`] comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TestSource {
    /// This address, from outside.
    Address(IpAddr),
    /// A container of this host.
    Containers,
}

/// Reads what is below `tests:`.
pub(super) fn read(tests: &mut Vec<Expectation>, reader: &mut Reader<'_>, node: &Node) {
    const FORM: &str = "write `- {from: 203.0.113.9, to: 80, expect: allow}` lines below it";
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
            Value::Mapping(members) => read_test(tests, reader, item, members),
            Value::Invalid => {}
            _ => reader.report.push(
                Diagnostic::error("test", "a test has the keys `from`, `to` and `expect`")
                    .at(item.span.clone(), "not a test")
                    .help(FORM),
            ),
        }
    }
}

fn read_test(
    tests: &mut Vec<Expectation>,
    reader: &mut Reader<'_>,
    item: &Node,
    members: &[Member],
) {
    let (mut from, mut to, mut allow) = (None, None, None);
    for member in members {
        match member.key.as_str() {
            "from" => from = read_from(reader, &member.value),
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
    for key in KEYS {
        if is_missing(key, members, &KEYS) {
            reader.report.push(
                Diagnostic::error("missing-key", format!("this test has no `{key}`"))
                    .at(item.span.clone(), "a test has `from`, `to` and `expect`")
                    .help("write `{from: 203.0.113.9, to: 80, expect: allow}`"),
            );
        }
    }
    if let (Some(TestSource::Address(from)), Some(Some(to))) =
        (from, to.as_ref().map(|to| to.address))
        && from.is_ipv4() != to.is_ipv4()
    {
        reader.report.push(
            Diagnostic::error("test", format!("no packet goes from `{from}` to `{to}`"))
                .at(item.span.clone(), "one is IPv4, the other IPv6")
                .help("write both addresses of one family, or the port alone"),
        );
    }
    if let (Some(from), Some(to), Some(allow)) = (from, to, allow) {
        tests.push(Expectation {
            from,
            to,
            allow,
            origin: item.span.clone(),
        });
    }
}

fn read_from(reader: &mut Reader<'_>, node: &Node) -> Option<TestSource> {
    let Some(text) = node.text() else {
        let message = "`from` is one address, or `containers`";
        reader.wrong_value(node, message, &["containers"]);
        return None;
    };
    if text == "containers" {
        return Some(TestSource::Containers);
    }
    let one = "write one address, such as `203.0.113.9`, or `containers`";
    match parse_address(text) {
        Ok(address) if address.is_unspecified() || address.is_multicast() => {
            reader.report.push(
                Diagnostic::error("test", format!("no packet comes from `{address}`"))
                    .at(node.span.clone(), "never a source")
                    .help(one),
            );
            None
        }
        Ok(address) => Some(TestSource::Address(address)),
        Err(_) if text.contains('/') || text.contains('-') || !text.contains(['.', ':']) => {
            let message = format!("{} is not one address", quoted(text));
            let diagnostic = Diagnostic::error("test", message);
            reader.report.push(
                diagnostic
                    .at(node.span.clone(), "where does the packet come from?")
                    .help(one),
            );
            None
        }
        Err(mistake) => {
            reader.report.push(mistake.at(node.span.clone()));
            None
        }
    }
}

fn read_to(reader: &mut Reader<'_>, node: &Node) -> Option<HostPorts> {
    let Some(text) = node.text() else {
        reader.wrong_value(node, "`to` is one port, such as `80` or `53/udp`", &[]);
        return None;
    };
    match text.parse::<HostPorts>() {
        Ok(key) if key.first == key.last => Some(key),
        Ok(key) => {
            reader.report.push(
                Diagnostic::error("test", "a test speaks of one port")
                    .at(node.span.clone(), "a range")
                    .help(format!(
                        "write a test for port {} and one for {}",
                        key.first, key.last
                    )),
            );
            None
        }
        Err(mistake) => {
            reader.report.push(mistake.at(node.span.clone()));
            None
        }
    }
}

pub(super) fn schema() -> Schema {
    json!({
        "description": "What must be true of the policy. One that does not mean what its tests \
                        expect is not applied.",
        "type": ["array", "null"],
        "items": {
            "type": "object",
            "additionalProperties": false,
            "required": KEYS,
            "properties": members([("from", from_schema as fn() -> Schema), ("to", to_schema), ("expect", expect_schema)]),
        },
    })
}

fn from_schema() -> Schema {
    let [v4, v6] = address_patterns();
    json!({
        "description": "Where the packet comes from: one address, or `containers`.",
        "type": "string",
        "pattern": format!("^(containers|{v4}|{v6})$"),
    })
}

fn to_schema() -> Schema {
    json!({
        "description": "One port of this host: 80, 53/udp or 203.0.113.10:8082.",
        "type": ["integer", "string"],
        "minimum": 1,
        "maximum": u16::MAX,
        "pattern": port::pattern(false),
    })
}

fn expect_schema() -> Schema {
    json!({
        "description": "The expected verdict.",
        "enum": ["allow", "deny"],
    })
}
