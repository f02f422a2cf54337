//! `{networks-of: INTERFACE}`: the networks that the addresses of interfaces of the host are in.
//!
//! Link-local networks are not among them: each link has `fe80::/64`, and a rule that accepts it would accept the
//! hosts of every other link as well. For the hosts of one link there is `fe80::/10` at a port with `interface`.
//! Nor are networks that hold such addresses besides others, loopback networks, and very wide ones.

use std::collections::BTreeSet;

use serde_json::{Value as Schema, json};

use crate::policy::interface::{self, InterfaceName, parse_name};
use crate::policy::yaml::{Member, Reader, one_or_many};
use crate::text::diagnostic::Diagnostic;

use super::options::Options;
use super::{Content, Draft, Kind, OnHost};

const KEY: &str = "networks-of";

pub(super) const KIND: Kind = Kind {
    key: KEY,
    form: "`{networks-of: INTERFACE}`",
    options: &[],
    read,
    schema,
};

fn read(
    _: &mut Draft,
    reader: &mut Reader<'_>,
    member: &Member,
    _: &mut Options,
) -> Option<Content> {
    let what = "the exact name of an interface";
    let items = reader.one_or_many(&member.value, "`networks-of`", what)?;
    if items.is_empty() {
        reader.report.push(
            Diagnostic::error("interface", "`networks-of` names none")
                .at(member.value.span.clone(), "an empty list")
                .help("write the interface whose networks are meant: `{networks-of: eth0}`"),
        );
        return None;
    }
    let mut names = BTreeSet::new();
    for (text, span) in items {
        match parse_name(text) {
            Ok(name) => drop(names.insert(name)),
            Err(mistake) => reader.report.push(mistake.at(span)),
        }
    }
    Some(Content {
        on_host: Some(OnHost::NetworksOf(names)),
        ..Content::default()
    })
}

fn schema() -> Schema {
    let description = "The networks on the addresses of these interfaces of the host, IPv4 and IPv6: \
                       exact names. As of the last apply; dfw guard follows changes.";
    let mut schema = one_or_many(interface::EXACT, &interface::no_interface(), description);
    schema["minItems"] = json!(1);
    schema
}

/// Returns a description: `networks of eth0, wg0`.
pub(super) fn describe(names: &BTreeSet<InterfaceName>) -> String {
    let names: Vec<_> = names.iter().map(InterfaceName::as_str).collect();
    format!("networks of {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use crate::policy::{Policy, read_text};

    fn source(value: &str) -> Result<Policy, String> {
        let text = format!("default: deny\nsources: {{lan: {value}}}\nports: {{80: [lan]}}\n");
        read_text("a.yaml", &text)
    }

    #[test]
    fn one_interface_or_several_are_named() {
        for (value, text) in [
            ("{networks-of: eth0}", "networks of eth0"),
            ("{networks-of: [wg0, eth0, eth0]}", "networks of eth0, wg0"),
        ] {
            let policy = source(value).unwrap();
            let (_, source, on_host) = policy.on_host().next().unwrap();
            assert_eq!(on_host.describe(), text);
            assert!(source.addresses.is_empty());
        }
    }

    #[test]
    fn what_names_no_interface_is_an_error() {
        for value in [
            "{networks-of: []}",
            "{networks-of: }",
            "{networks-of: br-*}",
            "{networks-of: any}",
            "{networks-of: 10.0.0.0/8}",
            "{networks-of: eth0, file: list}",
            "[{networks-of: eth0}]",
        ] {
            source(value).unwrap_err();
        }
        // It may be nothing one day, and the port would be open to those who were meant.
        let text = "default: deny\nsources: {lan: {networks-of: eth0}}\n\
                    ports: {80: {allow: any, except: [lan]}}\n";
        let error = read_text("a.yaml", text).unwrap_err();
        assert!(error.contains("may be empty"), "{error}");
    }
}
