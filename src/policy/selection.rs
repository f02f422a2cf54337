//! Sources: the named lists, and the choices of them that ports make.

use crate::net::AddressSet;
use std::collections::{BTreeMap, BTreeSet};

use super::entry::parse_entry;
use super::list;
use super::mistake::SHOWN;
use super::reader::Reader;
use super::reserved::{Place, Reserved, reserved};
use super::syntax::{Member, Node, Value};
use super::{NamedSource, SourceName, SourceSelection};
use crate::file;
use crate::net::address::Unmerged;
use crate::text::diagnostic::{Diagnostic, Severity, did_you_mean, quoted};
use crate::text::{Span, is_url};

/// The longest name, in bytes: names become part of the names of kernel sets.
pub(super) const LONGEST_NAME: usize = 64;

/// What there is beside names and addresses.
pub(super) const WORDS: [&str; 2] = ["any", "containers"];

/// How many pairs of names are compared at most to find what was meant by wrong ones.
const COMPARISONS: usize = 50_000;

const SOURCE_FORMS: &str = "write an address, a list of addresses, networks and ranges, or \
                            `{file: PATH}`";

/// Whether `text` reads as the name of a source rather than as an address.
fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
}

impl Reader<'_> {
    /// Reads what is below `sources:`.
    pub(super) fn read_sources(&mut self, node: &Node) {
        let help = "write `NAME: [address, …]` lines below it";
        for member in self.section(node, "`sources`", help) {
            let named = self.check_name(member);
            let before = self.report.len();
            self.flawed = false;
            let addresses = self.read_source(member);
            let told = self.report.get(before..).unwrap_or_default();
            let flawed = self.flawed || told.iter().any(|d| d.severity == Severity::Error);
            if member.repeated || !named {
                continue;
            }
            if let Some(first) = self.named.get(&SourceName(member.key.clone())) {
                let message = format!("source {} is written twice", quoted(&member.key));
                self.report.push(
                    Diagnostic::error("duplicate-source", message)
                        .at(member.key_span.clone(), "written again here")
                        .related(first.origin.clone(), "first written here")
                        .help("put all its addresses in one place, or give one another name"),
                );
                continue;
            }
            if flawed {
                self.unread.insert(SourceName(member.key.clone()));
            }
            let source = NamedSource {
                addresses,
                origin: member.key_span.clone(),
            };
            self.named.insert(SourceName(member.key.clone()), source);
        }
    }

    /// Whether the key is a name that a source may have; says so if not.
    fn check_name(&mut self, member: &Member) -> bool {
        let name = &member.key;
        let (message, label, help) = if name.is_empty() {
            (
                "a source needs a name".to_owned(),
                "the name is empty",
                "write a name",
            )
        } else if let Some(meaning) = reserved(name, Place::Name) {
            let help = match meaning {
                Reserved::Any => "`any` is everybody; choose another name",
                Reserved::Containers => {
                    "`containers` is whatever comes from a container of this host; choose another name"
                }
                Reserved::Everybody | Reserved::Nobody | Reserved::Listed => {
                    "at a port it would read as if it decided something; choose another name"
                }
            };
            (
                format!("the name `{name}` is taken"),
                "a reserved word",
                help,
            )
        } else if !is_name(name) {
            let message = format!("{} cannot be the name of a source", quoted(name));
            let help = "a name begins with a letter and goes on with letters, digits, `-` and `_`";
            (message, "not a name", help)
        } else if name.len() > LONGEST_NAME {
            let message = format!("the name {} is too long", quoted(name));
            (message, "more than 64 bytes", "choose a shorter name")
        } else {
            return true;
        };
        self.report.push(
            Diagnostic::error("source-name", message)
                .at(member.key_span.clone(), label)
                .help(help),
        );
        false
    }

    fn read_source(&mut self, member: &Member) -> AddressSet {
        let node = &member.value;
        let mut set = Unmerged::default();
        match &node.value {
            Value::Scalar { text, .. } => self.read_item(text, &node.span, &mut set),
            Value::Sequence(items) => {
                for item in items {
                    match &item.value {
                        Value::Scalar { text, .. } => self.read_item(text, &item.span, &mut set),
                        Value::Refused => {}
                        _ if item.is_address_taken_for_key() => self.needs_quotes(item),
                        _ => self.report.push(
                            Diagnostic::error("source", "not an address")
                                .at(item.span.clone(), "an address is expected here")
                                .help(SOURCE_FORMS),
                        ),
                    }
                }
            }
            Value::Mapping(members) => return self.read_list_source(node, members),
            Value::Null => self.report.push(
                Diagnostic::error("source", format!("source {} is empty", quoted(&member.key)))
                    .at(member.key_span.clone(), "nothing follows")
                    .help(SOURCE_FORMS)
                    .help("write `[]` if nobody is meant"),
            ),
            Value::Refused => {}
        }
        set.merge()
    }

    /// Reads an item of a source.
    fn read_item(&mut self, text: &str, span: &Span, set: &mut Unmerged) {
        if text == "any" {
            self.report.push(
                Diagnostic::error("nested-source", "`any` is not an address")
                    .at(span.clone(), "has no place in a source")
                    .help("write `any` at the port, or `0.0.0.0/0` and `::/0` here"),
            );
        } else if is_name(text) && reserved(text, Place::Allow).is_some() {
            self.read_entry(text, span, set);
        } else if is_name(text) {
            self.report.push(
                Diagnostic::error(
                    "nested-source",
                    format!("{} is not an address", quoted(text)),
                )
                .at(span.clone(), "a source cannot hold other sources")
                .help("name them together where they are used: `80: [office, monitor]`"),
            );
        } else {
            self.read_entry(text, span, set);
        }
    }

    fn needs_quotes(&mut self, item: &Node) {
        self.report.push(
            Diagnostic::error("quotes", "an address that ends in `:` must be in quotes")
                .at(item.span.clone(), "YAML takes this for a key")
                .help("write `\"2001:db8::\"`; a network such as `2001:db8::/32` needs none"),
        );
    }

    fn read_entry(&mut self, text: &str, span: &Span, set: &mut Unmerged) {
        match parse_entry(text) {
            Ok(entry) => set.push(entry),
            Err(mistake) => self.report.push(mistake.at(span.clone())),
        }
    }

    fn read_list_source(&mut self, node: &Node, members: &[Member]) -> AddressSet {
        let mut addresses = AddressSet::default();
        for member in members {
            if member.key != "file" {
                self.unknown_key(member, &["file"], "a source");
            } else if let Some(path) = member.value.text().filter(|path| !path.is_empty()) {
                if !member.repeated {
                    addresses = self.read_list(path, &member.value.span);
                }
            } else if member.value.value != Value::Refused {
                self.report.push(
                    Diagnostic::error("source", "`file` is the path of a list")
                        .at(member.value.span.clone(), "a path is expected here")
                        .help("the path is relative to the folder of this file"),
                );
            }
        }
        if members.is_empty() {
            self.report.push(
                Diagnostic::error("source", "a source without a value")
                    .at(node.span.clone(), "empty")
                    .help(SOURCE_FORMS),
            );
        }
        addresses
    }

    fn read_list(&mut self, path: &str, span: &Span) -> AddressSet {
        if is_url(path) {
            self.report.push(
                Diagnostic::error("url", "a list is a file, not an address to fetch it from")
                    .at(span.clone(), "dfw fetches nothing")
                    .help("fetch it by a timer of your own, such as `curl -fsSo lists/NAME.new URL && mv lists/NAME.new lists/NAME`, and write `{file: lists/NAME}`"),
            );
            return AddressSet::default();
        }
        let file = match self.sources.read_list(span.file, path) {
            Ok(file) => file,
            Err(error) => {
                let message = format!("cannot read the list {}: {error}", quoted(path));
                let relative = "the path is relative to the folder of this file";
                let help = file::advice(&error).unwrap_or(relative);
                self.report.push(
                    Diagnostic::error("list", message)
                        .at(span.clone(), "named here")
                        .help(help)
                        .to_public(format!("cannot read this list: {error}")),
                );
                return AddressSet::default();
            }
        };
        let mut found = Vec::new();
        let addresses = if let Some(problem) = self.sources.error(file) {
            found.push(problem);
            AddressSet::default()
        } else {
            list::parse(file, self.sources.text(file), &mut found)
        };
        if addresses.is_empty() && found.is_empty() {
            self.report.push(
                Diagnostic::warning("empty-list", "this list has no address")
                    .at(span.clone(), "it names nobody"),
            );
        }
        self.flawed |= found.iter().any(|d| d.severity == Severity::Error);
        // Two sources may name one list; its errors are told once.
        if self.lists.insert(file) {
            self.report.append(&mut found);
        }
        addresses
    }

    /// Reads who is meant by the value of a port, of `allow` or of `except`.
    pub(super) fn read_selection(
        &mut self,
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
        let items = match &node.value {
            Value::Sequence(items) => {
                if items.is_empty() && what == "`except`" {
                    self.report.push(
                        Diagnostic::error("empty-except", "this `except` takes nobody away")
                            .at(node.span.clone(), "an empty list")
                            .help("leave the line out, or write who may not"),
                    );
                }
                items.as_slice()
            }
            Value::Scalar { .. } | Value::Refused => std::slice::from_ref(node),
            Value::Null => {
                let help = if what == "`except`" {
                    "leave the line out, or write a list of sources"
                } else {
                    "write `[]` for nobody, `any` for everybody, or a list of sources"
                };
                self.report.push(
                    Diagnostic::error("nobody", format!("nothing is said after {what}"))
                        .at(key.clone(), "nothing follows")
                        .help(help),
                );
                &[]
            }
            Value::Mapping(_) => {
                self.report.push(
                    Diagnostic::error("selection", format!("{what} takes a list of sources"))
                        .at(node.span.clone(), "a mapping")
                        .help("write `[office, 203.0.113.7]`, `any`, or `[]` for nobody"),
                );
                &[]
            }
        };
        for item in items {
            match &item.value {
                Value::Scalar { text, .. } if text == "any" => selection.any = true,
                Value::Scalar { text, .. } if text == "containers" => selection.containers = true,
                Value::Scalar { text, .. } if is_name(text) && reserved(text, place).is_some() => {
                    self.reserved_word(text, &item.span, place);
                }
                Value::Scalar { text, .. } if is_name(text) => {
                    self.uses.push((text.clone(), item.span.clone()));
                    selection.named.insert(SourceName(text.clone()));
                }
                Value::Scalar { text, .. } if text == "*" => self.report.push(
                    Diagnostic::error("unknown-source", "`*` is not a source")
                        .at(item.span.clone(), "not a source")
                        .help("write `any` for everybody"),
                ),
                Value::Scalar { text, .. } if self.is_sentence(text, &item.span, place) => {}
                Value::Scalar { text, .. } => self.read_entry(text, &item.span, &mut inline),
                Value::Refused => {}
                _ if item.is_address_taken_for_key() => self.needs_quotes(item),
                Value::Mapping(members) if members.iter().any(|m| m.key == "file") => {
                    self.report.push(
                        Diagnostic::error("selection", "a list file has no place here")
                            .at(item.span.clone(), "a mapping")
                            .help("give the list a name under `sources:` and write the name here"),
                    );
                }
                _ => self.report.push(
                    Diagnostic::error("selection", "not a source")
                        .at(item.span.clone(), "a name or an address is expected here")
                        .help("write `[office, 203.0.113.7]`, `any`, or `[]` for nobody"),
                ),
            }
        }
        selection.inline = inline.merge();
        if selection.any && (!selection.named.is_empty() || !selection.inline.is_empty()) {
            self.report.push(
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

    /// Whether a text decides or negates, such as `deny all` and `!office`; says what to write instead.
    fn is_sentence(&mut self, text: &str, span: &Span, place: Place) -> bool {
        let mut words = text.split_whitespace().peekable();
        // What is behind `//` was meant to be a comment.
        let first = words.next().filter(|_| !text.contains("//"));
        let Some(first) = first else {
            return false;
        };
        let negates = text.starts_with('!') || matches!(first, "not" | "except" | "but");
        let decides = words
            .peek()
            .and(reserved(first.trim_end_matches(':'), Place::Allow));
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
                "write `[]` for nobody: all packets to this port are refused",
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
        self.report.push(error.at(span.clone(), label).help(help));
        true
    }

    /// Says what to write instead of a word that is no source.
    fn reserved_word(&mut self, word: &str, span: &Span, place: Place) {
        let message = format!("`{word}` is not a source");
        let error = Diagnostic::error("reserved-word", message).at(span.clone(), "a reserved word");
        let everybody = "write `any` for everybody";
        let nobody = "write `[]` for nobody: all packets to this port are refused";
        let error = match reserved(word, place) {
            _ if place == Place::Except => error.help("write names of sources, or addresses"),
            Some(Reserved::Nobody) => error.help(nobody),
            Some(Reserved::Listed) => error
                .help(nobody)
                .help("the source of this name has its place under `except`"),
            _ => error.help(everybody),
        };
        self.report
            .push(error.help("a port says who may reach it: `80: [office, 203.0.113.0/24]`"));
    }

    /// Checks that every name that is used is the name of a source.
    pub(super) fn check_names(&mut self) {
        let named: BTreeSet<&str> = self.named.keys().map(SourceName::as_str).collect();
        let mut wrong: BTreeMap<_, usize> = BTreeMap::new();
        let mut comparisons = COMPARISONS;
        for (name, span) in &self.uses {
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
                self.report.push(error);
                continue;
            }
            let mut known = |name| {
                comparisons = comparisons.checked_sub(named.len() + WORDS.len())?;
                did_you_mean(name, named.iter().copied().chain(WORDS))
            };
            self.report.push(match name.to_ascii_lowercase().as_str() {
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

    /// An `except` of nothing opens the port to those who were meant.
    pub(super) fn check_empty_excepts(&mut self) {
        for (span, selection) in &self.except_names {
            let empty: Vec<&SourceName> = selection
                .iter()
                .filter(|name| {
                    // Nobody knows what an unread one holds, and its error is told.
                    let source = self.named.get(name).filter(|_| !self.unread.contains(name));
                    source.is_some_and(|source| source.addresses.is_empty())
                })
                .collect();
            for name in empty {
                let source = &self.named[name];
                let message = format!(
                    "the source {} under `except` is empty",
                    quoted(name.as_str())
                );
                self.report.push(
                    Diagnostic::error("empty-except", message)
                        .at(
                            span.clone(),
                            "the port would be open to those who were meant",
                        )
                        .related(source.origin.clone(), "this source has no address")
                        .help("leave it out of `except` if nobody is meant"),
                );
            }
        }
    }

    /// The sets that a selection is made of.
    fn sets<'b>(&'b self, selection: &'b SourceSelection) -> Vec<&'b AddressSet> {
        let named = selection.named.iter();
        named
            .filter_map(|name| self.named.get(name))
            .map(|source| &source.addresses)
            .chain([&selection.inline])
            .collect()
    }

    /// Warns of an `except` that takes nothing away.
    pub(super) fn check_excepts(&mut self) {
        let mut warnings = Vec::new();
        for (key, span) in &self.excepts {
            let Some(policy) = self.ports.get(key) else {
                continue;
            };
            let (allow, except) = (&policy.allow, &policy.except);
            if allow.any || except.any || except.containers {
                continue;
            }
            let (allowed, excepted) = (self.sets(allow), self.sets(except));
            let meet = allowed
                .iter()
                .any(|a| excepted.iter().any(|e| a.intersects(e)));
            if !meet && excepted.iter().any(|set| !set.is_empty()) {
                warnings.push(
                    Diagnostic::warning("except-nobody", "this `except` takes nobody away")
                        .at(span.clone(), "none of these is allowed")
                        .help("is an address mistyped, here or in `allow`?"),
                );
            }
        }
        self.report.append(&mut warnings);
    }
}

/// Up to ten names, in backticks.
fn enumerate(names: &BTreeSet<&str>) -> String {
    const SHOWN: usize = 10;
    let shown: Vec<String> = names.iter().take(SHOWN).map(|n| format!("`{n}`")).collect();
    let more = if names.len() > SHOWN { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}
