//! `interface`: where an allowed packet must come in.

use std::collections::BTreeSet;

use serde_json::json;

use crate::policy::interface::{self, InterfaceName, parse_name};
use crate::policy::yaml::{Member, Reader, one_or_many};
use crate::text::diagnostic::Diagnostic;

use super::Attribute;

pub(super) const ATTRIBUTE: Attribute = Attribute {
    key: "interface",
    read: |_, reader, line, policy| policy.interfaces = read(reader, line),
    schema: || {
        let description = "Allowed only if the packet comes in here: exact names of interfaces.";
        let mut schema = one_or_many(interface::EXACT, &interface::no_interface(), description);
        schema["minItems"] = json!(1);
        schema
    },
    json: |policy| {
        let names = policy.interfaces.iter().map(InterfaceName::as_str);
        ("interfaces", names.collect())
    },
    describe: |policy, _| {
        if policy.interfaces.is_empty() {
            return String::new();
        }
        let names: Vec<_> = policy
            .interfaces
            .iter()
            .map(InterfaceName::as_str)
            .collect();
        format!(" through {}", names.join(", "))
    },
};

fn read(reader: &mut Reader<'_>, line: &Member) -> BTreeSet<InterfaceName> {
    let what = "the exact name of an interface";
    let Some(items) = reader.one_or_many(&line.value, "`interface`", what) else {
        return BTreeSet::new();
    };
    if items.is_empty() {
        reader.report.push(
            Diagnostic::error("interface", "`interface` names none")
                .at(line.value.span.clone(), "an empty list")
                .help("leave the line out if the port may be reached through all of them"),
        );
    }
    let mut names = BTreeSet::new();
    for (text, span) in items {
        match parse_name(text) {
            Ok(name) => drop(names.insert(name)),
            Err(mistake) => reader.report.push(mistake.at(span)),
        }
    }
    names
}
