//! A source that is written in place: entries, one or a list of them.

use std::net::IpAddr;

use crate::net::{AddressSet, Unmerged};
use crate::policy::lint;
use crate::policy::yaml::{Node, Reader, Value};
use crate::text::Span;
use crate::text::diagnostic::{Diagnostic, quoted};

use super::entry::parse_entry;
use super::name::is_name;
use super::reserved::{Place, reserved};

/// Reads the entries of a source.
pub(super) fn read(reader: &mut Reader<'_>, items: &[Node]) -> AddressSet {
    let mut set = Unmerged::default();
    for item in items {
        match &item.value {
            Value::Scalar { text, .. } => read_item(reader, text, &item.span, &mut set),
            Value::Invalid => {}
            _ if item.is_address_taken_for_key() => needs_quotes(reader, item),
            _ => reader.report.push(
                Diagnostic::error("source", "not an address")
                    .at(item.span.clone(), "an address is expected here")
                    .help(super::forms()),
            ),
        }
    }
    let (set, redundant) = set.merge_and_count();
    if let Some(redundant) = redundant.filter(|_| reader.lints) {
        let entries = items
            .iter()
            .filter_map(|item| Some((item.text()?, &item.span)));
        reader.report.extend(lint::redundant(&redundant, &entries));
    }
    set
}

fn read_item(reader: &mut Reader<'_>, text: &str, span: &Span, set: &mut Unmerged) {
    if text == "any" {
        reader.report.push(
            Diagnostic::error("nested-source", "`any` is not an address")
                .at(span.clone(), "has no place in a source")
                .help("write `any` at the port, or `0.0.0.0/0` and `::/0` here"),
        );
    } else if is_name(text) && reserved(text, Place::Allow).is_none() {
        reader.report.push(
            Diagnostic::error(
                "nested-source",
                format!("{} is not an address", quoted(text)),
            )
            .at(span.clone(), "a source cannot hold other sources")
            .help("name them together where they are used: `80: [office, monitor]`"),
        );
    } else {
        read_entry(reader, text, span, set);
    }
}

/// Reads one entry.
pub(in crate::policy) fn read_entry(
    reader: &mut Reader<'_>,
    text: &str,
    span: &Span,
    set: &mut Unmerged,
) {
    match parse_entry(text) {
        Ok(entry) => set.push(entry),
        Err(mistake) => reader.report.push(mistake.at(span.clone())),
    }
    if is_unspecified(text) {
        let message = format!("`{text}` is one address: the source of a client without one");
        reader.report.push(
            Diagnostic::warning("unspecified-address", message)
                .at(span.clone(), "not everybody")
                .help("everybody is `any` at a port, and `0.0.0.0/0` and `::/0` in a source; for the one address, write `0.0.0.0/32` or `::/128`"),
        );
    }
}

/// Returns whether a text is `0.0.0.0` or `::`.
pub(in crate::policy) fn is_unspecified(text: &str) -> bool {
    text.parse::<IpAddr>()
        .is_ok_and(|address| address.is_unspecified())
}

/// Reports an address that needs quotes in YAML.
pub(in crate::policy) fn needs_quotes(reader: &mut Reader<'_>, item: &Node) {
    reader.report.push(
        Diagnostic::error("quotes", "an address that ends in `:` must be in quotes")
            .at(item.span.clone(), "YAML takes this for a key")
            .help("write `\"2001:db8::\"`; a network such as `2001:db8::/32` needs none"),
    );
}
