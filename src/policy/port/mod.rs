//! `ports:`: who may reach which port of this host.
//!
//! A key of the long form is a file here, and a line in [`ATTRIBUTES`].

mod allow;
mod deny_with;
mod except;
mod interface;
mod key;
mod limits;
mod log;
mod selection;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as Schema, json};

use crate::net::{HostPorts, Limits};
use crate::text::Span;
use crate::text::diagnostic::{Diagnostic, quoted};

use super::interface::InterfaceName;
use super::lint::List;
use super::source::{NamedSource, Place, SourceName, reserved_words};
use super::yaml::{Member, Node, Reader, Value, is_missing, members};

pub use deny_with::DenyWith;
pub(super) use key::pattern;
pub use selection::SourceSelection;
pub(super) use selection::{pattern as selection_pattern, read as read_selection};

/// The sources that a port allows, and how others are denied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortPolicy {
    /// The allowed sources.
    pub allow: SourceSelection,
    /// The sources that are excluded from the allowed ones. `any` is never set here.
    pub except: SourceSelection,
    /// The interfaces on which an allowed packet must arrive, by exact name; empty for all.
    pub interfaces: BTreeSet<InterfaceName>,
    /// Whether denials are logged.
    pub log: bool,
    /// The reply to a denied packet.
    pub deny_with: DenyWith,
    /// How many connections each allowed source may make.
    pub limits: Limits,
    /// The place of the key.
    pub origin: Span,
}

impl PortPolicy {
    /// Creates the policy of a port with default values, which allows nobody.
    fn new(origin: Span) -> Self {
        Self {
            allow: SourceSelection::default(),
            except: SourceSelection::default(),
            interfaces: BTreeSet::new(),
            log: false,
            deny_with: DenyWith::default(),
            limits: Limits::default(),
            origin,
        }
    }

    /// Returns whether it allows everybody, through any interface.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.allow.any && self.interfaces.is_empty()
    }

    /// Returns the allowed sources as text: `office (2 entries) except 203.0.113.7 through eth0`.
    #[must_use]
    pub fn describe(&self, sources: &BTreeMap<SourceName, NamedSource>) -> String {
        let attributes = ATTRIBUTES.iter();
        attributes
            .map(|attribute| (attribute.describe)(self, sources))
            .collect()
    }

    /// Returns the port as in JSON documents.
    pub(super) fn json(&self, key: &HostPorts) -> Schema {
        let attributes = ATTRIBUTES.iter();
        let members = attributes.map(|attribute| (attribute.json)(self));
        let port = [("port", json!(key.to_string()))].into_iter();
        let members = port.chain(members);
        let members: Map<_, _> = members
            .map(|(key, value)| (key.to_owned(), value))
            .collect();
        members.into()
    }
}

/// A key of a port in the long form.
struct Attribute {
    key: &'static str,
    read: fn(&mut Draft, &mut Reader<'_>, &Member, &mut PortPolicy),
    schema: fn() -> Schema,
    /// The name and value in JSON documents.
    json: fn(&PortPolicy) -> (&'static str, Schema),
    /// The text that it adds to the description of a port.
    describe: fn(&PortPolicy, &BTreeMap<SourceName, NamedSource>) -> String,
}

const ATTRIBUTES: [Attribute; 7] = [
    allow::ATTRIBUTE,
    except::ATTRIBUTE,
    interface::ATTRIBUTE,
    log::ATTRIBUTE,
    deny_with::ATTRIBUTE,
    limits::RATE,
    limits::CONNECTIONS,
];

/// Former names of keys, with their current names.
const FORMER: [(&str, &str); 1] = [("refuse", "deny-with")];

/// Ports that are read.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) ports: BTreeMap<HostPorts, PortPolicy>,
    /// The place of each port, including ports with errors.
    origins: BTreeMap<HostPorts, Span>,
    /// Every use of a source name, in ports and tests.
    pub(super) uses: Vec<(String, Span, Place)>,
    /// The place of the `except` of each port.
    excepts: BTreeMap<HostPorts, Span>,
    /// The lists of the port that is being read, for lints.
    lists: Vec<List>,
    /// The lists of each port, for lints.
    pub(super) port_lists: BTreeMap<HostPorts, Vec<List>>,
    /// Every `except` with its source names, including those of ports with errors.
    except_names: Vec<(Span, BTreeSet<SourceName>)>,
}

impl Draft {
    /// Reads the mapping `ports:`.
    pub(super) fn read(&mut self, reader: &mut Reader<'_>, node: &Node) {
        let help = "write `PORT: [source, …]` lines below it";
        for member in reader.section(node, "`ports`", help) {
            self.read_port(reader, member);
        }
    }

    fn read_port(&mut self, reader: &mut Reader<'_>, member: &Member) {
        let key = match member.key.parse::<HostPorts>() {
            Ok(key) => Some(key),
            Err(mistake) => {
                reader.report.push(mistake.at(member.key_span.clone()));
                None
            }
        };
        self.lists.clear();
        let (policy, except) = self.read_port_policy(reader, member);
        let lists = std::mem::take(&mut self.lists);
        let (Some(key), false) = (key, member.repeated) else {
            return;
        };
        if let Some(first) = self.origins.get(&key) {
            reader.report.push(
                Diagnostic::error("duplicate-port", format!("port {key} is written twice"))
                    .at(member.key_span.clone(), "written again here")
                    .related(first.clone(), "first written here")
                    .help("put everybody who may reach the port in one list"),
            );
            return;
        }
        self.origins.insert(key, member.key_span.clone());
        if let Some(span) = except {
            self.excepts.insert(key, span);
        }
        if let Some(policy) = policy {
            self.port_lists.insert(key, lists);
            self.ports.insert(key, policy);
        }
    }

    /// Reads the policy of a port; returns also the place of its `except`.
    fn read_port_policy(
        &mut self,
        reader: &mut Reader<'_>,
        member: &Member,
    ) -> (Option<PortPolicy>, Option<Span>) {
        let mut policy = PortPolicy::new(member.key_span.clone());
        let Value::Mapping(lines) = &member.value.value else {
            let what = quoted(&member.key);
            policy.allow = selection::read(self, reader, &member.value, &what, &member.key_span);
            return (Some(policy), None);
        };
        let keys = ATTRIBUTES.map(|attribute| attribute.key);
        for line in lines {
            let former = FORMER.iter().find(|(former, _)| *former == line.key);
            let key = match former {
                Some((_, key)) if reader.texts.has_former_spellings() => key,
                Some((former, key)) => {
                    reader.renamed_key(line, former, key);
                    continue;
                }
                None => line.key.as_str(),
            };
            match ATTRIBUTES.iter().find(|attribute| attribute.key == key) {
                Some(attribute) => (attribute.read)(self, reader, line, &mut policy),
                None => reader.unknown_key(line, &keys, "a port"),
            }
        }
        let except = lines.iter().find(|line| line.key == "except");
        let except = except.map(|line| line.value.span.clone());
        if is_missing("allow", lines, &keys) {
            let message = format!("port {} has no `allow`", quoted(&member.key));
            reader.report.push(
                Diagnostic::error("missing-key", message)
                    .at(member.key_span.clone(), "who may reach it?")
                    .help("write `allow: [source, …]`, `allow: any`, or `allow: []` for nobody"),
            );
            return (None, except);
        }
        (Some(policy), except)
    }

    /// Reports keys that overlap partly: it would not be clear which of them decides.
    pub(super) fn check_overlaps(&self, reader: &mut Reader<'_>) {
        let mut groups: BTreeMap<_, Vec<(&HostPorts, &Span)>> = BTreeMap::new();
        for (key, span) in &self.origins {
            let group = (key.address, key.protocol);
            groups.entry(group).or_default().push((key, span));
        }
        for keys in groups.values() {
            let mut reported = BTreeSet::new();
            for (index, (outer, outer_span)) in keys.iter().enumerate() {
                // Keys are sorted by their first port.
                let later = keys.iter().skip(index + 1);
                for (key, span) in later.take_while(|(key, _)| key.first <= outer.last) {
                    let overlaps = key.first > outer.first && key.last > outer.last;
                    if overlaps && reported.insert(key) {
                        reader.report.push(overlap(outer, outer_span, key, span));
                    }
                }
            }
        }
    }
}

fn overlap(one: &HostPorts, one_span: &Span, other: &HostPorts, other_span: &Span) -> Diagnostic {
    // What is written later is what is to be changed.
    let (first, second) = if one_span <= other_span {
        (one_span, other_span)
    } else {
        (other_span, one_span)
    };
    let message = format!("ports {one} and {other} overlap, and neither is inside the other");
    Diagnostic::error("overlap", message)
        .at(second.clone(), "which of the two decides?")
        .related(first.clone(), "overlaps with this")
        .help(format!(
            "split one of them so that {}-{} belongs to one key only",
            other.first, one.last
        ))
}

pub(super) fn schema() -> Schema {
    let selection = selection::pattern();
    let no_source = json!({"type": "string", "pattern": reserved_words(Place::Allow)});
    json!({
        "description": "Who may reach which port of this host. A key is \
                        [ADDR:]PORT[-PORT][/tcp|udp|sctp], as on the left of docker's `-p`.",
        "type": ["object", "null"],
        "additionalProperties": false,
        "patternProperties": {
            pattern(true): {
                "description": "Who may: names of sources, addresses, `any` for everybody, \
                                `containers`, a list of such, `[]` for nobody; or the long form.",
                "type": ["string", "array", "object"],
                "pattern": selection,
                "not": no_source,
                "items": {"type": "string", "pattern": selection, "not": no_source},
                "required": ["allow"],
                "additionalProperties": false,
                "properties": members(ATTRIBUTES.map(|attribute| (attribute.key, attribute.schema))),
            },
        },
    })
}
