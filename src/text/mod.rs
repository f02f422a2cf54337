//! Texts of policy files and lists, places in them, and errors as data.

pub mod diagnostic;
mod encoding;
mod files;
mod problem;
mod source_map;
mod span;

pub use problem::Problem;
pub use source_map::{SourceMap, Unreadable};
pub use span::{FileId, Span};

/// Returns whether a text is a URL or ends in one.
#[must_use]
pub fn is_url(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| {
        let scheme = scheme.rsplit('/').next().unwrap_or(scheme);
        !scheme.is_empty()
            && scheme
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"+.-".contains(&b))
    })
}
