//! `tests:`: what must be allowed and what refused, checked before a policy is applied.

use super::entry::parse_address;
use super::reader::Reader;
use super::selection::WORDS;
use super::syntax::{Member, Node, Value};
use super::validate::is_missing;
use super::{Expectation, From};
use crate::net::HostPorts;
use crate::text::diagnostic::{Diagnostic, quoted};

pub(super) const KEYS: [&str; 3] = ["from", "to", "expect"];

impl Reader<'_> {
    /// Reads what is below `tests:`.
    pub(super) fn read_tests(&mut self, node: &Node) {
        const FORM: &str = "write `- {from: 203.0.113.9, to: 80, expect: allow}` lines below it";
        let items = match &node.value {
            Value::Sequence(items) => items,
            Value::Null | Value::Refused => return,
            _ => {
                self.report.push(
                    Diagnostic::error("test", "`tests` is a list")
                        .at(node.span.clone(), "not a list")
                        .help(FORM),
                );
                return;
            }
        };
        for item in items {
            match &item.value {
                Value::Mapping(members) => self.read_test(item, members),
                Value::Refused => {}
                _ => self.report.push(
                    Diagnostic::error("test", "a test has the keys `from`, `to` and `expect`")
                        .at(item.span.clone(), "not a test")
                        .help(FORM),
                ),
            }
        }
    }

    fn read_test(&mut self, item: &Node, members: &[Member]) {
        let (mut from, mut to, mut allow) = (None, None, None);
        for member in members {
            match member.key.as_str() {
                "from" => from = self.read_from(&member.value),
                "to" => to = self.read_to(&member.value),
                "expect" => match member.value.text() {
                    Some("allow") => allow = Some(true),
                    Some("deny") => allow = Some(false),
                    _ => {
                        let message = "`expect` is `allow` or `deny`";
                        self.wrong_value(&member.value, message, &["allow", "deny"]);
                    }
                },
                _ => self.unknown_key(member, &KEYS, "a test"),
            }
        }
        for key in KEYS {
            if is_missing(key, members, &KEYS) {
                self.report.push(
                    Diagnostic::error("missing-key", format!("this test has no `{key}`"))
                        .at(item.span.clone(), "a test has `from`, `to` and `expect`")
                        .help("write `{from: 203.0.113.9, to: 80, expect: allow}`"),
                );
            }
        }
        if let (Some(From::Address(from)), Some(Some(to))) =
            (from, to.as_ref().map(|to| to.address))
            && from.is_ipv4() != to.is_ipv4()
        {
            self.report.push(
                Diagnostic::error("test", format!("no packet goes from `{from}` to `{to}`"))
                    .at(item.span.clone(), "one is IPv4, the other IPv6")
                    .help("write both addresses of one family, or the port alone"),
            );
        }
        if let (Some(from), Some(to), Some(allow)) = (from, to, allow) {
            self.tests.push(Expectation {
                from,
                to,
                allow,
                origin: item.span.clone(),
            });
        }
    }

    fn read_from(&mut self, node: &Node) -> Option<From> {
        let Some(text) = node.text() else {
            let message = "`from` is one address, or `containers`";
            self.wrong_value(node, message, &WORDS[1..]);
            return None;
        };
        if text == "containers" {
            return Some(From::Containers);
        }
        let one = "write one address, such as `203.0.113.9`, or `containers`";
        match parse_address(text) {
            Ok(address) if address.is_unspecified() || address.is_multicast() => {
                self.report.push(
                    Diagnostic::error("test", format!("no packet comes from `{address}`"))
                        .at(node.span.clone(), "never a source")
                        .help(one),
                );
                None
            }
            Ok(address) => Some(From::Address(address)),
            Err(_) if text.contains('/') || text.contains('-') || !text.contains(['.', ':']) => {
                let message = format!("{} is not one address", quoted(text));
                let diagnostic = Diagnostic::error("test", message);
                self.report.push(
                    diagnostic
                        .at(node.span.clone(), "where does the packet come from?")
                        .help(one),
                );
                None
            }
            Err(mistake) => {
                self.report.push(mistake.at(node.span.clone()));
                None
            }
        }
    }

    fn read_to(&mut self, node: &Node) -> Option<HostPorts> {
        let Some(text) = node.text() else {
            self.wrong_value(node, "`to` is one port, such as `80` or `53/udp`", &[]);
            return None;
        };
        match text.parse::<HostPorts>() {
            Ok(key) if key.first == key.last => Some(key),
            Ok(key) => {
                self.report.push(
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
                self.report.push(mistake.at(node.span.clone()));
                None
            }
        }
    }
}
