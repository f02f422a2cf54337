//! `{file: PATH}`: a list in a file of its own.

mod format;
mod lines;

use serde_json::{Value as Schema, json};

use crate::file;
use crate::net::AddressSet;
use crate::policy::yaml::{Member, Reader, Value};
use crate::text::diagnostic::{Diagnostic, Severity, quoted};
use crate::text::{Span, is_url};

use super::{Content, Draft, Kind};

pub(super) const KIND: Kind = Kind {
    key: "file",
    form: "`{file: PATH}`",
    read,
    schema,
};

fn read(draft: &mut Draft, reader: &mut Reader<'_>, member: &Member) -> Option<Content> {
    if let Some(path) = member.value.text().filter(|path| !path.is_empty()) {
        return (!member.repeated)
            .then(|| read_list(draft, reader, path, &member.value.span).into());
    }
    if member.value.value != Value::Invalid {
        reader.report.push(
            Diagnostic::error("source", "`file` is the path of a list")
                .at(member.value.span.clone(), "a path is expected here")
                .help("the path is relative to the folder of this file"),
        );
    }
    None
}

fn read_list(draft: &mut Draft, reader: &mut Reader<'_>, path: &str, span: &Span) -> AddressSet {
    if is_url(path) {
        reader.report.push(
            Diagnostic::error("url", "a list is a file, not an address to fetch it from")
                .at(span.clone(), "dfw fetches nothing")
                .help("fetch it by a timer of your own, such as `curl -fsSo lists/NAME.new URL && mv lists/NAME.new lists/NAME`, and write `{file: lists/NAME}`"),
        );
        return AddressSet::default();
    }
    let list = match reader.texts.read_list(span.file, path) {
        Ok(list) => list,
        Err(error) => {
            let message = format!("cannot read the list {}: {error}", quoted(path));
            let relative = "the path is relative to the folder of this file";
            let help = file::advice(&error).unwrap_or(relative);
            reader.report.push(
                Diagnostic::error("list", message)
                    .at(span.clone(), "named here")
                    .help(help)
                    .to_public(format!("cannot read this list: {error}")),
            );
            return AddressSet::default();
        }
    };
    let mut found = Vec::new();
    let addresses = if let Some(problem) = reader.texts.error(list) {
        found.push(problem);
        AddressSet::default()
    } else {
        lines::parse(list, reader.texts.text(list), &mut found)
    };
    if addresses.is_empty() && found.is_empty() {
        reader.report.push(
            Diagnostic::warning("empty-list", "this list has no address")
                .at(span.clone(), "it names nobody"),
        );
    }
    draft.flawed |= found.iter().any(|d| d.severity == Severity::Error);
    // Two sources may name one list; its errors are told once.
    if draft.lists.insert(list) {
        reader.report.append(&mut found);
    }
    addresses
}

fn schema() -> Schema {
    json!({
        "description": "A list with one address, network or range a line and \
                        comments behind `#`. Relative to the folder of this file.",
        "type": "string",
        "minLength": 1,
        "not": {"pattern": "://"},
    })
}
