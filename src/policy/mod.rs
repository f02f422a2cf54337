//! The policy: who may reach which port of this host.
//!
//! A [`Policy`] is valid by construction: only [`read`] creates one, or returns diagnostics. It uses the user's
//! terms; the compiler turns it into chains and sets.
//!
//! Each part of the language has a file with its type, its reader, its part of the JSON Schema, and its text
//! and JSON output. A new kind of source is a file in `source/`, a new key of a port one in `port/`;
//! CONTRIBUTING.md has recipes for both.

mod default;
mod grants;
mod interface;
mod lint;
#[cfg(test)]
mod meaning;
mod mistake;
mod port;
mod read;
mod report;
mod schema;
mod settings;
mod source;
mod tests;
mod time;
mod yaml;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::net::HostPorts;
use crate::text::Span;

pub use default::DefaultAction;
pub use grants::GrantBounds;
pub use interface::{InterfaceName, InterfacePattern};
pub use lint::{Database, database};
pub use mistake::Mistake;
pub use port::{DenyWith, PortPolicy, SourceSelection};
pub use read::{read, read_and_lint, read_text};
pub use schema::schema;
pub use settings::Settings;
pub use source::{
    Compared, Fetched, Format, List, NamedSource, OnHost, Pointer, Request, Selection, SourceName,
    Unknown, parse_entry, parse_list, requests,
};
pub use tests::{Claim, Statement, Target};
pub use time::{describe as describe_time, parse as parse_time};

/// A policy: the content of all files of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The verdict on published ports without a key in [`ports`](Self::ports).
    pub default: DefaultAction,
    /// The place of `default:`.
    pub default_origin: Span,
    /// Named lists of addresses.
    pub sources: BTreeMap<SourceName, NamedSource>,
    /// The policy of each port. Keys are either nested or disjoint, never equal.
    pub ports: BTreeMap<HostPorts, PortPolicy>,
    /// The bounds of grants, which are permissions that expire; `None`: no grant is allowed.
    pub grants: Option<GrantBounds>,
    /// The settings: interfaces of the host, logging, and the base chains' priority.
    pub settings: Settings,
    /// The tests, which must pass before the policy is applied.
    pub tests: Vec<Statement>,
}

impl Policy {
    /// Returns the sources whose addresses depend on the host.
    pub fn on_host(&self) -> impl Iterator<Item = (&SourceName, &NamedSource, &OnHost)> {
        let sources = self.sources.iter();
        sources.filter_map(|(name, source)| Some((name, source, source.on_host.as_ref()?)))
    }

    /// Returns the fetched sources of which nobody knows what they hold: they were never fetched, or the cache cannot
    /// be read.
    pub fn unknown_lists(&self) -> impl Iterator<Item = (&SourceName, &NamedSource, &Fetched)> {
        let fetched = self.fetched();
        fetched.filter(|(_, _, fetched)| fetched.list.unknown().is_some())
    }

    /// Returns the sources that are fetched.
    pub fn fetched(&self) -> impl Iterator<Item = (&SourceName, &NamedSource, &Fetched)> {
        let sources = self.sources.iter();
        sources.filter_map(|(name, source)| Some((name, source, source.fetched.as_deref()?)))
    }

    /// Returns the policy as in JSON documents: `default`, ports, bounds of grants, and sources that depend on the host.
    #[must_use]
    pub fn json(&self) -> Value {
        let ports = self.ports.iter().map(|(key, port)| port.json(key));
        let on_host = self.on_host();
        let on_host =
            on_host.map(|(name, _, what)| json!({"name": name.as_str(), "what": what.describe()}));
        json!({
            "default": self.default.to_string(),
            "ports": ports.collect::<Vec<_>>(),
            "grants": self.grants.as_ref().map(GrantBounds::json),
            "host_sources": on_host.collect::<Vec<_>>(),
        })
    }
}
