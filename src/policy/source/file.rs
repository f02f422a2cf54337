//! `{file: PATH}`: a list in a file of its own.

use serde_json::{Value as Schema, json};

use crate::file;
use crate::net::AddressSet;
use crate::policy::lint;
use crate::policy::yaml::{Member, Reader, Value};
use crate::text::diagnostic::{Diagnostic, Severity, quoted};
use crate::text::{Span, is_url};

use super::bounds::Bounds;
use super::format::Format;
use super::options::Options;
use super::{Content, Draft, Kind, loss};

pub(super) const KIND: Kind = Kind {
    key: "file",
    form: "`{file: PATH}`",
    options: &[
        "within", "min", "max", "max-loss", "format", "select", "where",
    ],
    read,
    schema,
};

fn read(
    draft: &mut Draft,
    reader: &mut Reader<'_>,
    member: &Member,
    options: &mut Options,
) -> Option<Content> {
    let format = options.format(reader);
    let bounds = options.bounds();
    let node = &member.value;
    if let Some(path) = node.text().filter(|path| !path.is_empty()) {
        let format = format.filter(|_| !member.repeated)?;
        return Some(read_list(
            draft,
            reader,
            (path, &node.span),
            &format,
            &bounds,
        ));
    }
    if node.value != Value::Invalid {
        reader.report.push(
            Diagnostic::error("source", "`file` is the path of a list")
                .at(node.span.clone(), "a path is expected here")
                .help("the path is relative to the folder of this file"),
        );
    }
    None
}

fn read_list(
    draft: &mut Draft,
    reader: &mut Reader<'_>,
    (path, span): (&str, &Span),
    format: &Format,
    bounds: &Bounds,
) -> Content {
    if is_url(path) {
        reader.report.push(
            Diagnostic::error(
                "url",
                "`file` is a path, not an address to fetch a list from",
            )
            .at(span.clone(), "not a path")
            .help("write `{url: \"https://…\"}`, which `dfw fetch` fetches"),
        );
        return Content::default();
    }
    let list = match reader.texts.read_list(span.file, path) {
        Ok(list) => list,
        Err(error) => {
            let message = format!("cannot read the list {}: {error}", quoted(path));
            let other = if path.starts_with('/') {
                "a list is a regular file with one address, network or range a line"
            } else {
                "the path is relative to the folder of this file"
            };
            let help = file::advice(&error).unwrap_or(other);
            reader.report.push(
                Diagnostic::error("list", message)
                    .at(span.clone(), "named here")
                    .help(help)
                    .to_public(format!("cannot read this list: {error}")),
            );
            return Content::default();
        }
    };
    let mut found = Vec::new();
    let (addresses, redundant) = if let Some(problem) = reader.texts.error(list) {
        found.push(problem);
        (AddressSet::default(), None)
    } else {
        format.parse(list, reader.texts.text(list), &mut found)
    };
    // What a list with errors holds is not known.
    let breach = found.is_empty().then(|| bounds.check(&addresses));
    let is_compared = bounds.max_loss < 100 && matches!(breach, Some(Ok(())));
    let compared = is_compared
        .then(|| loss::compare(reader, (list, span), &addresses, format, bounds))
        .flatten();
    if let Some(Err(breach)) = breach {
        reader.report.push(
            Diagnostic::error(
                "list-bounds",
                format!("this list is out of bounds: {breach}"),
            )
            .at(span.clone(), "named here")
            .help("is the list right? Else change `within`, `min` or `max`"),
        );
    } else if addresses.is_empty() && found.is_empty() {
        reader.report.push(
            Diagnostic::warning("empty-list", "this list has no address")
                .at(span.clone(), "it names nobody"),
        );
    }
    draft.flawed |= found.iter().any(|d| d.severity == Severity::Error);
    // Two sources may name one list; its errors are reported once for each format.
    let read = (list, format.clone());
    if !draft.lists.contains(&read) {
        draft.lists.push(read);
        if let Some(redundant) = redundant.filter(|_| reader.lints) {
            let warning = lint::redundant_line(&redundant, list, reader.texts.text(list));
            found.extend(warning);
        }
        reader.report.append(&mut found);
    }
    Content {
        compared,
        ..addresses.into()
    }
}

fn schema() -> Schema {
    json!({
        "description": "A list with one address, network or range a line and comments behind `#`, or as \
                        `format` says. Relative to the folder of this file.",
        "type": "string",
        "minLength": 1,
        "not": {"pattern": "://"},
    })
}
