//! `max-loss` of a list in a file: what a change may take away from the list that was accepted last.

use std::path::Path;

use serde_json::json;

use crate::net::AddressSet;
use crate::policy::yaml::Reader;
use crate::text::diagnostic::Diagnostic;
use crate::text::{FileId, Span};

use super::bounds::Bounds;
use super::fetched::{digest, read_accepted};
use super::format::Format;

/// A list in a file that the next one is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// The name of its copy.
    pub key: String,
    /// Whether it is another list than the one that was accepted before, or the first one.
    pub is_new: bool,
}

/// Compares a list with the one that was accepted before. A loss that is too great is reported; then there is
/// nothing to accept.
pub(super) fn compare(
    reader: &mut Reader<'_>,
    (list, span): (FileId, &Span),
    addresses: &AddressSet,
    format: &Format,
    bounds: &Bounds,
) -> Option<Compared> {
    let key = key(&reader.texts.absolute(list)?, format);
    let loss = read_accepted(reader.texts, &key).map(|former| {
        let former = former.map(|(former, _)| former);
        let loss = former.as_ref().map(|it| bounds.check_loss(addresses, it));
        (loss.unwrap_or(Ok(())), former.as_ref() != Some(addresses))
    });
    let error = match loss {
        Ok((Ok(()), is_new)) => return Some(Compared { key, is_new }),
        Ok((Err(breach), _)) => Diagnostic::error(
            "list-bounds",
            format!("this list is not the one that was accepted before: {breach}"),
        ),
        Err(reason) => Diagnostic::error("list-bounds", reason.text).to_public(reason.public),
    };
    reader.report.push(
        error
            .at(span.clone(), "named here")
            .help("if this list is right, accept it: `dfw fetch --accept NAME`"),
    );
    None
}

/// Returns the name of the copy. A file that is read in another way is another list.
fn key(path: &Path, format: &Format) -> String {
    let text = json!([path.to_string_lossy(), format.describe()]).to_string();
    format!("file-{:032x}", digest(text.as_bytes()))
}
