//! What was read of a policy so far.

use std::collections::{BTreeMap, BTreeSet};

use super::{DefaultAction, Expectation, NamedSource, PortPolicy, Settings, SourceName};
use crate::net::HostPorts;
use crate::text::diagnostic::Diagnostic;
use crate::text::{FileId, SourceMap, Span};

/// What was read so far.
pub(super) struct Reader<'a> {
    pub(super) sources: &'a mut SourceMap,
    pub(super) report: Vec<Diagnostic>,
    /// Where `default:` is written, and what it says if that makes sense.
    pub(super) default: Option<(Span, Option<DefaultAction>)>,
    pub(super) named: BTreeMap<SourceName, NamedSource>,
    /// Every name of a source that a port uses.
    pub(super) uses: Vec<(String, Span)>,
    /// The sources that were not read without an error: what is in them is not known.
    pub(super) unread: BTreeSet<SourceName>,
    /// Whether there is an error in a list of the source that is being read.
    pub(super) flawed: bool,
    /// The lists whose errors were told.
    pub(super) lists: BTreeSet<FileId>,
    pub(super) ports: BTreeMap<HostPorts, PortPolicy>,
    /// Where each port is written, those with errors too.
    pub(super) port_origins: BTreeMap<HostPorts, Span>,
    /// Where the `except` of a port is written.
    pub(super) excepts: BTreeMap<HostPorts, Span>,
    /// Every `except`, also of ports with errors, and the sources in it.
    pub(super) except_names: Vec<(Span, BTreeSet<SourceName>)>,
    pub(super) settings: Draft,
    pub(super) tests: Vec<Expectation>,
}

/// The settings that were read so far, and where each is written.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) settings: Settings,
    pub(super) origins: BTreeMap<String, Span>,
}
