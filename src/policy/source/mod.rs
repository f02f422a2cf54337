//! `sources:`: named lists of addresses.
//!
//! A source is written in place, or is a mapping with the key of its kind, and options beside it. A kind is a
//! file here, and a line in [`KINDS`]. What only a host can tell of a source ([`OnHost`]) is asked of it when the policy is
//! compiled.

mod bounds;
mod entry;
mod fetched;
mod file;
mod format;
mod host_name;
mod inline;
mod loss;
mod name;
mod networks_of;
mod options;
mod reserved;
mod url;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value as Schema, json};

use crate::net::AddressSet;
use crate::text::diagnostic::{Diagnostic, Severity, quoted};
use crate::text::{FileId, Span};

use super::interface::InterfaceName;
use super::yaml::{Member, Node, Reader, Value, members};

use options::{OPTIONS, Options};

pub use entry::parse_entry;
pub use fetched::{Fetched, List, Request, Unknown, parse_list, requests};
pub use format::{Format, Pointer, Selection};
pub use loss::Compared;

pub(super) use entry::{address_patterns, parse_address, pattern};
pub(super) use inline::{is_unspecified, needs_quotes, read_entry};
pub use name::SourceName;
pub(super) use name::{NAME, is_name};
pub(super) use reserved::{Place, Reserved, pattern as reserved_words, reserved};

/// A named source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedSource {
    /// The addresses that do not depend on the host, merged.
    pub addresses: AddressSet,
    /// The content that depends on the host, if any.
    pub on_host: Option<OnHost>,
    /// Where its addresses come from, if they are fetched.
    pub fetched: Option<Box<Fetched>>,
    /// The copy of its list, if the next one is compared with it.
    pub compared: Option<Compared>,
    /// The place of the name.
    pub origin: Span,
}

impl NamedSource {
    /// Returns the name and the number of entries as text.
    #[must_use]
    pub fn describe(&self, name: &SourceName) -> String {
        if let Some(fetched) = &self.fetched {
            let what = fetched.request.describe();
            return match (&fetched.list, self.addresses.len()) {
                (List::Never, _) => format!("{name} ({what}; never fetched)"),
                (List::Unreadable(_), _) => format!("{name} ({what}; not readable)"),
                (List::Refused(_), _) => format!("{name} ({what}; not used)"),
                (_, 1) => format!("{name} ({what}; 1 entry)"),
                (_, entries) => format!("{name} ({what}; {entries} entries)"),
            };
        }
        match (&self.on_host, self.addresses.len()) {
            (Some(on_host), _) => format!("{name} ({}; depends on the host)", on_host.describe()),
            (None, 1) => name.to_string(),
            (None, entries) => format!("{name} ({entries} entries)"),
        }
    }
}

/// The content of a source that depends on the host and can change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnHost {
    /// The networks of these interfaces' addresses. There may be none, so such a source is not valid under
    /// `except`.
    NetworksOf(BTreeSet<InterfaceName>),
}

impl OnHost {
    /// Returns a description.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::NetworksOf(names) => networks_of::describe(names),
        }
    }
}

/// The content of a source.
#[derive(Default)]
struct Content {
    addresses: AddressSet,
    on_host: Option<OnHost>,
    fetched: Option<Box<Fetched>>,
    compared: Option<Compared>,
}

impl From<AddressSet> for Content {
    fn from(addresses: AddressSet) -> Self {
        Self {
            addresses,
            ..Self::default()
        }
    }
}

/// A kind of source that is written as a mapping with its key.
struct Kind {
    key: &'static str,
    /// The form, for `help:` lines.
    form: &'static str,
    /// The valid options, keys of [`OPTIONS`].
    options: &'static [&'static str],
    /// Reads the value of the key; `None` if it is invalid, which was reported.
    read: fn(&mut Draft, &mut Reader<'_>, &Member, &mut Options) -> Option<Content>,
    schema: fn() -> Schema,
}

const KINDS: [Kind; 4] = [file::KIND, host_name::KIND, networks_of::KIND, url::KIND];

impl Kind {
    /// Returns the kind with this key.
    fn of(key: &str) -> Option<&'static Self> {
        const { &KINDS }.iter().find(|kind| kind.key == key)
    }
}

/// Returns the forms of a source, for `help:` lines.
fn forms() -> String {
    let forms: Vec<_> = KINDS.iter().map(|kind| kind.form).collect();
    format!(
        "write an address, a list of addresses, networks and ranges, or {}",
        forms.join(", or ")
    )
}

/// Sources that are read.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) named: BTreeMap<SourceName, NamedSource>,
    /// Sources with errors, whose content is unknown.
    pub(super) unread: BTreeSet<SourceName>,
    /// Whether a list of the current source has an error.
    flawed: bool,
    /// The lists whose errors were reported, by format.
    lists: Vec<(FileId, Format)>,
}

impl Draft {
    /// Reads the mapping `sources:`.
    pub(super) fn read(&mut self, reader: &mut Reader<'_>, node: &Node) {
        let help = "write `NAME: [address, …]` lines below it";
        for member in reader.section(node, "`sources`", help) {
            let name = SourceName::read(reader, member);
            let before = reader.report.len();
            self.flawed = false;
            let content = self.read_source(reader, member);
            let reported = reader.report.get(before..).unwrap_or_default();
            let flawed = self.flawed || reported.iter().any(|d| d.severity == Severity::Error);
            let Some(name) = name.filter(|_| !member.repeated) else {
                continue;
            };
            if let Some(first) = self.named.get(&name) {
                let message = format!("source {} is written twice", quoted(&member.key));
                reader.report.push(
                    Diagnostic::error("duplicate-source", message)
                        .at(member.key_span.clone(), "written again here")
                        .related(first.origin.clone(), "first written here")
                        .help("put all its addresses in one place, or give one another name"),
                );
                continue;
            }
            if flawed {
                self.unread.insert(name.clone());
            }
            let source = NamedSource {
                addresses: content.addresses,
                on_host: content.on_host,
                fetched: content.fetched,
                compared: content.compared,
                origin: member.key_span.clone(),
            };
            self.named.insert(name, source);
        }
    }

    fn read_source(&mut self, reader: &mut Reader<'_>, member: &Member) -> Content {
        let node = &member.value;
        match &node.value {
            Value::Scalar { .. } => inline::read(reader, std::slice::from_ref(node)).into(),
            Value::Sequence(items) => inline::read(reader, items).into(),
            Value::Mapping(members) => self.read_kind(reader, node, members),
            Value::Null => {
                let message = format!("source {} is empty", quoted(&member.key));
                reader.report.push(
                    Diagnostic::error("source", message)
                        .at(member.key_span.clone(), "nothing follows")
                        .help(forms())
                        .help("write `[]` if nobody is meant"),
                );
                Content::default()
            }
            Value::Invalid => Content::default(),
        }
    }

    fn read_kind(&mut self, reader: &mut Reader<'_>, node: &Node, members: &[Member]) -> Content {
        if members.is_empty() {
            reader.report.push(
                Diagnostic::error("source", "a source without a value")
                    .at(node.span.clone(), "empty")
                    .help(forms()),
            );
        }
        let mut kinds = members
            .iter()
            .filter_map(|member| Some((member, Kind::of(&member.key)?)));
        let first = kinds.next();
        let second = kinds.find(|(member, _)| !member.repeated);
        if let (Some((first, _)), Some((second, _))) = (first, second) {
            reader.report.push(
                Diagnostic::error("source", "a source is of one kind")
                    .at(second.key_span.clone(), "another kind")
                    .related(first.key_span.clone(), "one kind")
                    .help("give each a name of its own, and write both where they are used: `80: [lan, office]`"),
            );
        }
        let mut options = Options::default();
        for member in members {
            if Kind::of(&member.key).is_none() {
                read_option(reader, member, first.map(|(_, kind)| kind), &mut options);
            }
        }
        let Some((member, kind)) = first else {
            return Content::default();
        };
        (kind.read)(self, reader, member, &mut options).unwrap_or_default()
    }
}

/// Reads a key that is an option or unknown.
fn read_option(
    reader: &mut Reader<'_>,
    member: &Member,
    kind: Option<&'static Kind>,
    options: &mut Options,
) {
    let option = OPTIONS.iter().find(|option| option.key == member.key);
    match (option, kind) {
        (Some(option), Some(kind)) if kind.options.contains(&option.key) => {
            if !member.repeated {
                (option.read)(options, reader, member);
            }
        }
        (Some(option), Some(kind)) => {
            let message = format!("`{}` has no meaning beside `{}`", option.key, kind.key);
            let error = Diagnostic::error("source", message);
            reader.report.push(
                error
                    .at(member.key_span.clone(), "not for this kind of source")
                    .help("leave it out"),
            );
        }
        (Some(option), None) => {
            let message = format!("`{}` stands beside a source, and is none", option.key);
            let error = Diagnostic::error("source", message);
            reader
                .report
                .push(error.at(member.key_span.clone(), "of what?").help(forms()));
        }
        (None, None) => reader.unknown_key(member, &KINDS.map(|kind| kind.key), "a source"),
        (None, Some(kind)) => {
            let known: Vec<&str> = [kind.key]
                .into_iter()
                .chain(kind.options.iter().copied())
                .collect();
            reader.unknown_key(member, &known, "this source");
        }
    }
}

/// Returns the schema of combinations that are not valid: two kinds, or options of another kind.
fn exclusions() -> Schema {
    let others = |kind: Kind| {
        let options = OPTIONS.map(|option| option.key).into_iter();
        let alien = options.chain(KINDS.map(|kind| kind.key));
        let alien = alien.filter(|key| *key != kind.key && !kind.options.contains(key));
        let alien: Vec<_> = alien.map(|key| json!({"required": [key]})).collect();
        (kind.key.to_owned(), json!({"not": {"anyOf": alien}}))
    };
    Schema::Object(KINDS.into_iter().map(others).collect())
}

pub(super) fn schema() -> Schema {
    let entry = pattern();
    let kinds = KINDS.map(|kind| json!({"required": [kind.key]}));
    let is_of_a_kind = [json!({"not": {"type": "object"}})]
        .into_iter()
        .chain(kinds);
    let is_of_a_kind: Vec<_> = is_of_a_kind.collect();
    json!({
        "description": "Named lists of addresses, usable in every file of the directory.",
        "type": ["object", "null"],
        "additionalProperties": false,
        "propertyNames": {"not": {"pattern": reserved_words(Place::Name)}},
        "patternProperties": {
            name::pattern(): {
                "description": "An address, a network (203.0.113.0/24), a range \
                                (192.0.2.10-192.0.2.20), a list of such, `{file: PATH}`, `{name: HOST}`, \
                                `{networks-of: INTERFACE}`, or `{url: \"https://…\"}`.",
                "type": ["string", "array", "object"],
                "pattern": format!("^({entry})$"),
                "items": {"type": "string", "pattern": format!("^({entry})$")},
                "minProperties": 1,
                "anyOf": is_of_a_kind,
                "dependencies": exclusions(),
                "additionalProperties": false,
                "properties": members(
                    KINDS
                        .map(|kind| (kind.key, kind.schema))
                        .into_iter()
                        .chain(OPTIONS.map(|option| (option.key, option.schema))),
                ),
            },
        },
    })
}
