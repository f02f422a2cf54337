//! Choices of sources, as `allow` and `except` make them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value as Schema, json};

use crate::net::{AddressSet, Unmerged};
use crate::policy::report::SHOWN;
use crate::policy::source::{
    self, NAME, NamedSource, Place, Reserved, SourceName, is_name, is_unspecified, needs_quotes,
    read_entry, reserved,
};
use crate::policy::yaml::{Node, Reader, Value};
use crate::text::Span;
use crate::text::diagnostic::{Diagnostic, did_you_mean, quoted};

use crate::policy::lint::{self, List};

use super::Draft;

/// The most comparisons of names in search of similar ones.
const COMPARISONS: usize = 50_000;

/// The most inline addresses in a description.
const LISTED: usize = 4;

/// A selection of sources: named, inline, or special words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceSelection {
    /// `any`: every address.
    pub any: bool,
    /// `containers`: packets from containers of this host.
    pub containers: bool,
    /// Named sources; each exists in [`Policy::sources`](crate::policy::Policy::sources).
    pub named: BTreeSet<SourceName>,
    /// Inline addresses, merged.
    pub inline: AddressSet,
}

impl SourceSelection {
    /// Returns the address sets of the selection.
    pub(super) fn sets<'a>(&'a self, sources: &'a source::Draft) -> Vec<&'a AddressSet> {
        let named = self.named.iter();
        named
            .filter_map(|name| sources.named.get(name))
            .map(|source| &source.addresses)
            .chain([&self.inline])
            .collect()
    }

    /// Returns whether it names a source that depends on the host.
    pub(super) fn is_open(&self, sources: &source::Draft) -> bool {
        let mut named = self.named.iter().filter_map(|name| sources.named.get(name));
        named.any(|source| source.on_host.is_some())
    }

    pub(in crate::policy) fn json(&self) -> Schema {
        json!({
            "any": self.any,
            "containers": self.containers,
            "sources": self.named.iter().map(SourceName::as_str).collect::<Vec<_>>(),
            "addresses": self.inline.iter().map(|entry| entry.to_string()).collect::<Vec<_>>(),
        })
    }

    /// Returns the sources as text; empty if there are none.
    pub(super) fn describe(&self, sources: &BTreeMap<SourceName, NamedSource>) -> String {
        let named = self.named.iter().map(|name| {
            let source = sources.get(name);
            source.map_or_else(|| name.to_string(), |source| source.describe(name))
        });
        let containers = self.containers.then(|| "containers".to_owned());
        let inline = self.inline.iter().take(LISTED);
        let mut texts: Vec<String> = named
            .chain(containers)
            .chain(inline.map(|entry| entry.to_string()))
            .collect();
        match self.inline.len().saturating_sub(LISTED) {
            0 => {}
            1 => texts.push("and 1 more address".to_owned()),
            more => texts.push(format!("and {more} more addresses")),
        }
        texts.join(", ")
    }
}

/// How a list file gets to a port, for `help:` lines.
const NAME_IT: &str = "give the list a name under `sources:` and write the name here";

/// Returns what may stand in a position, for `help:` lines.
fn examples(place: Place) -> &'static str {
    match place {
        Place::Except => "write `[office, 203.0.113.7]`",
        Place::Name | Place::Allow => "write `[office, 203.0.113.7]`, `any`, or `[]` for nobody",
    }
}

/// Reads a selection: the value of a port, of `allow`, of `except` or of a test.
pub(in crate::policy) fn read(
    draft: &mut Draft,
    reader: &mut Reader<'_>,
    node: &Node,
    what: &str,
    key: &Span,
) -> SourceSelection {
    let place = if what == "`except`" {
        Place::Except
    } else {
        Place::Allow
    };
    let mut selection = SourceSelection::default();
    let mut inline = Unmerged::default();
    let items = items(reader, node, what, key, place);
    for item in items {
        match &item.value {
            Value::Scalar { text, .. } if text == "any" => selection.any = true,
            Value::Scalar { text, .. } if text == "containers" => selection.containers = true,
            Value::Scalar { text, .. } if is_name(text) && reserved(text, place).is_some() => {
                reserved_word(reader, text, &item.span, place);
            }
            Value::Scalar { text, .. } if is_name(text) => {
                draft.uses.push((text.clone(), item.span.clone(), place));
                selection.named.insert(SourceName(text.clone()));
            }
            Value::Scalar { text, .. } if text == "*" => reader.report.push(
                Diagnostic::error("unknown-source", "`*` is not a source")
                    .at(item.span.clone(), "not a source")
                    .help("write `any` for everybody"),
            ),
            Value::Scalar { text, .. } if is_sentence(reader, text, &item.span, place) => {}
            Value::Scalar { text, .. } if place == Place::Except && is_unspecified(text) => {
                let message = format!("`{text}` is one address, not all of them");
                let error = Diagnostic::error("except-nobody", message);
                reader.report.push(
                    error
                        .at(item.span.clone(), "takes nobody away")
                        .help("to deny everybody, write `allow: []` and no `except`; for the one address, write `0.0.0.0/32` or `::/128`"),
                );
            }
            Value::Scalar { text, .. } => read_entry(reader, text, &item.span, &mut inline),
            Value::Invalid => {}
            _ if item.is_address_taken_for_key() => needs_quotes(reader, item),
            Value::Mapping(members) if members.iter().any(|m| m.key == "file") => {
                reader.report.push(
                    Diagnostic::error("selection", "a list file has no place here")
                        .at(item.span.clone(), "a mapping")
                        .help(NAME_IT),
                );
            }
            _ => reader.report.push(
                Diagnostic::error("selection", "not a source")
                    .at(item.span.clone(), "a name or an address is expected here")
                    .help(examples(place)),
            ),
        }
    }
    let (inline, redundant) = inline.merge_and_count();
    selection.inline = inline;
    if reader.lints {
        let entries = items
            .iter()
            .filter_map(|item| Some((item.text()?, &item.span)));
        if let Some(redundant) = redundant {
            reader.report.extend(lint::redundant(&redundant, &entries));
        }
        draft.lists.push(List::new(place, &node.span, entries));
    }
    if selection.any && (!selection.named.is_empty() || !selection.inline.is_empty()) {
        reader.report.push(
            Diagnostic::warning(
                "any-and-more",
                "`any` makes the others of this list pointless",
            )
            .at(node.span.clone(), "everybody is meant")
            .help("write `any` alone, or leave it out"),
        );
    }
    selection
}

/// Returns the items of a selection; reports what is none.
fn items<'a>(
    reader: &mut Reader<'_>,
    node: &'a Node,
    what: &str,
    key: &Span,
    place: Place,
) -> &'a [Node] {
    match &node.value {
        Value::Sequence(items) => {
            if items.is_empty() && what == "`except`" {
                reader.report.push(
                    Diagnostic::error("empty-except", "`except` is empty")
                        .at(node.span.clone(), "an empty list")
                        .help("remove the line, or list the sources to deny"),
                );
            }
            items.as_slice()
        }
        Value::Scalar { .. } | Value::Invalid => std::slice::from_ref(node),
        Value::Null => {
            let help = if what == "`except`" {
                "remove the line, or write a list of sources"
            } else {
                "write `[]` for nobody, `any` for everybody, or a list of sources"
            };
            reader.report.push(
                Diagnostic::error("missing-value", format!("{what} has no value"))
                    .at(key.clone(), "a value is expected after this")
                    .help(help),
            );
            &[]
        }
        Value::Mapping(members) => {
            let help = if members.iter().any(|m| m.key == "file") {
                NAME_IT
            } else {
                examples(place)
            };
            reader.report.push(
                Diagnostic::error("selection", format!("{what} takes a list of sources"))
                    .at(node.span.clone(), "a mapping")
                    .help(help),
            );
            &[]
        }
    }
}

/// Reports a text that is a rule instead of a source, such as `deny all` or `!office`; returns whether it is
/// one.
fn is_sentence(reader: &mut Reader<'_>, text: &str, span: &Span, place: Place) -> bool {
    let mut words = text.split_whitespace().peekable();
    // What is behind `//` was meant to be a comment.
    let first = words.next().filter(|_| !text.contains("//"));
    let Some(first) = first else {
        return false;
    };
    let negates = text.starts_with('!') || matches!(first, "not" | "except" | "but");
    let decides = words
        .peek()
        .and(reserved(first.trim_end_matches(':'), Place::Allow))
        .filter(|meaning| !matches!(meaning, Reserved::Containers | Reserved::ThisHost));
    let all = words.all(|word| {
        word == "from"
            || matches!(reserved(word, Place::Name), Some(r) if r != Reserved::Containers)
    });
    let except = "who may not is written so: `80: {allow: [lan], except: [office]}`";
    let (label, help) = match decides {
        _ if place == Place::Except && (negates || decides.is_some()) => (
            "more than a name",
            "write names of sources, or addresses, of those who may not",
        ),
        _ if negates => ("nothing is negated here", except),
        None => return false,
        Some(Reserved::Nobody | Reserved::Listed) if all => (
            "a decision",
            "write `[]` for nobody: all packets to this port are denied",
        ),
        Some(Reserved::Nobody | Reserved::Listed) => ("a decision", except),
        Some(_) if all => ("a decision", "write `any` for everybody"),
        Some(_) => (
            "a decision",
            "a port says who may reach it: `80: [office, 203.0.113.0/24]`",
        ),
    };
    let message = format!("{} is not a source", quoted(text));
    let error = Diagnostic::error("selection", message);
    reader.report.push(error.at(span.clone(), label).help(help));
    true
}

/// Reports a reserved word, with what to write instead.
fn reserved_word(reader: &mut Reader<'_>, word: &str, span: &Span, place: Place) {
    let message = format!("`{word}` is not a source");
    let error = Diagnostic::error("reserved-word", message).at(span.clone(), "a reserved word");
    let everybody = "write `any` for everybody";
    let nobody = "write `[]` for nobody: all packets to this port are denied";
    let error = match reserved(word, place) {
        Some(Reserved::Containers) => {
            reader.report.push(error.help("write `containers`"));
            return;
        }
        _ if place == Place::Except => error.help("write names of sources, or addresses"),
        Some(Reserved::ThisHost) => {
            error.help("processes of this host always reach the port; write `[]` for nobody else")
        }
        Some(Reserved::Nobody) => error.help(nobody),
        Some(Reserved::Listed) => error
            .help(nobody)
            .help("the source of this name has its place under `except`"),
        _ => error.help(everybody),
    };
    reader
        .report
        .push(error.help("a port says who may reach it: `80: [office, 203.0.113.0/24]`"));
}

impl Draft {
    /// Reports names of sources that do not exist.
    pub(in crate::policy) fn check_names(&self, reader: &mut Reader<'_>, sources: &source::Draft) {
        let named: BTreeSet<&str> = sources.named.keys().map(SourceName::as_str).collect();
        let mut wrong: BTreeMap<_, usize> = BTreeMap::new();
        let mut comparisons = COMPARISONS;
        for (name, span, place) in &self.uses {
            if named.contains(name.as_str()) {
                continue;
            }
            let message = format!("there is no source {}", quoted(name));
            let error =
                Diagnostic::error("unknown-source", message).at(span.clone(), "not a source");
            let wrong = wrong.entry(span.file).or_default();
            *wrong += 1;
            if *wrong > SHOWN {
                // It is counted only: nobody needs to know what was meant by it.
                reader.report.push(error);
                continue;
            }
            let mut known = |name| {
                comparisons = comparisons.checked_sub(named.len() + 1)?;
                let known = named.iter().copied().chain(["containers"]);
                did_you_mean(name, known)
                    .or_else(|| (*place == Place::Allow && is_almost_any(name)).then_some("any"))
            };
            reader
                .report
                .push(match name.to_ascii_lowercase().as_str() {
                    "anywhere" | "everywhere" | "public" | "world" => {
                        error.help("write `any` for everybody")
                    }
                    _ => match known(name) {
                        Some(meant) => error.help(format!("did you mean `{meant}`?")),
                        None if named.is_empty() => error.help(format!(
                            "name it under `sources:`: `{name}: [203.0.113.0/24]`"
                        )),
                        None => error.help(format!("the sources are {}", enumerate(&named))),
                    },
                });
        }
    }
}

/// Returns whether a name has the letters of `any` and begins as it does: to suggest `any` for each similar name,
/// such as `andy`, would open ports.
fn is_almost_any(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.starts_with('a')
        && name.len() <= 4
        && name.bytes().collect::<BTreeSet<_>>() == BTreeSet::from(*b"any")
}

/// Returns up to ten names in backticks.
fn enumerate(names: &BTreeSet<&str>) -> String {
    const SHOWN: usize = 10;
    let shown: Vec<String> = names.iter().take(SHOWN).map(|n| format!("`{n}`")).collect();
    let more = if names.len() > SHOWN { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}

/// Returns the pattern (ECMA 262) of a source name or an entry.
pub(in crate::policy) fn pattern() -> String {
    format!("^({NAME}|{})$", source::pattern())
}
