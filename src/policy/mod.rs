//! The policy: who may reach which port of this host.
//!
//! A [`Policy`] is valid by construction: [`read`] turns texts into it or into diagnostics, and
//! nothing else makes one. It says what the user wants, in the user's terms; how that becomes
//! chains and sets is the business of the compiler.
//!
//! There is one file for each thing that a policy can say. In it are its type, how it is read, its
//! part of the JSON Schema, and the words and the JSON that show it: a new kind of source is a file in
//! `source/`, a new key of a port one in `port/`, and CONTRIBUTING.md has the recipe for both.

mod default;
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
mod yaml;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::net::HostPorts;
use crate::text::Span;

pub use default::DefaultAction;
pub use interface::{InterfaceName, InterfacePattern};
pub use lint::{Database, database};
pub use mistake::Mistake;
pub use port::{DenyWith, PortPolicy, SourceSelection};
pub use read::{read, read_and_lint, read_text};
pub use schema::schema;
pub use settings::Settings;
pub use source::{NamedSource, OnHost, SourceName, parse_entry};
pub use tests::{Claim, Statement, Target};

/// Everything that one policy directory says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// What happens to published ports that no key of [`ports`](Self::ports) names.
    pub default: DefaultAction,
    /// Where `default:` is written.
    pub default_origin: Span,
    /// Named lists of addresses.
    pub sources: BTreeMap<SourceName, NamedSource>,
    /// What is said about each port. Keys are either nested or disjoint, never equal.
    pub ports: BTreeMap<HostPorts, PortPolicy>,
    /// How the host looks and where dfw hooks in.
    pub settings: Settings,
    /// What must be true of it before it is applied.
    pub tests: Vec<Statement>,
}

impl Policy {
    /// Returns the sources of which only a host can tell what they hold.
    pub fn on_host(&self) -> impl Iterator<Item = (&SourceName, &NamedSource, &OnHost)> {
        let sources = self.sources.iter();
        sources.filter_map(|(name, source)| Some((name, source, source.on_host.as_ref()?)))
    }

    /// Returns `default` and the ports, as answers for programs have them.
    #[must_use]
    pub fn json(&self) -> Value {
        let ports = self.ports.iter().map(|(key, port)| port.json(key));
        let on_host = self.on_host();
        let on_host =
            on_host.map(|(name, _, what)| json!({"name": name.as_str(), "what": what.describe()}));
        json!({
            "default": self.default.to_string(),
            "ports": ports.collect::<Vec<_>>(),
            "host_sources": on_host.collect::<Vec<_>>(),
        })
    }
}
