//! All that was found out, for those who write about it.

use crate::net::{Family, HostPorts};
use std::collections::BTreeMap;
use std::fmt::Write;

use super::dump::Dump;
use super::path::Path;
use super::port::Port;
use super::published::Published;
use super::rule::Rule;
use crate::text::SourceMap;

/// The most ports in one sentence.
const NAMED: usize = 10;

/// The dumps, the paths of packets through them, and the ports.
pub(super) struct Found<'a> {
    pub(super) sources: &'a SourceMap,
    pub(super) dump: &'a Dump,
    pub(super) paths: &'a BTreeMap<Family, Path<'a>>,
    pub(super) published: &'a Published,
    pub(super) ports: &'a [Port],
}

impl<'a> Found<'a> {
    /// Returns the reachable rules of a family, with their numbers.
    pub(super) fn rules(&self, family: Family) -> impl Iterator<Item = (usize, &'a Rule)> {
        self.paths.get(&family).into_iter().flat_map(Path::rules)
    }

    pub(super) fn line(&self, rule: &Rule) -> u32 {
        self.sources.line_column(&rule.span).0
    }
}

/// Returns ports as text: `port 80/tcp`, or `ports 80/tcp, 443/tcp and 2 more`.
pub(super) fn ports_text(ports: &[HostPorts]) -> String {
    let word = if ports.len() == 1 { "port" } else { "ports" };
    let named = ports
        .iter()
        .take(NAMED)
        .map(std::string::ToString::to_string);
    let mut text = format!("{word} {}", named.collect::<Vec<_>>().join(", "));
    if let more @ 1.. = ports.len().saturating_sub(NAMED) {
        let _ = write!(text, " and {more} more");
    }
    text
}
