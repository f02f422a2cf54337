//! Diagnostics as data: what is wrong, where, and what to do about it.

use crate::source::Span;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The policy cannot be used.
    Error,
    /// The policy can be used, but probably does not say what was meant.
    Warning,
}

/// A place that a diagnostic points at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Where.
    pub span: Span,
    /// What is to be seen there; may be empty.
    pub text: String,
}

/// One thing that is wrong with the policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// A stable name for this kind of problem, such as `host-bits`.
    pub slug: &'static str,
    /// One sentence without a period.
    pub message: String,
    /// The place of the problem; `None` only where there is no text to show.
    pub primary: Option<Label>,
    /// Other places that explain it, such as the first of two equal ports.
    pub related: Vec<Label>,
    /// What the user can do, each a sentence.
    pub help: Vec<String>,
}
