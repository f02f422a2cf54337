//! The changes of a plan as ports, sources and settings.
//!
//! Every operation of a plan has a line. Operations that follow from no difference of ports, sources or
//! settings are listed as rules or objects, and so is drift.

pub(in crate::cli) mod access;
mod rules;
mod shared;

use crate::net::{AddressSet, Family, HostPorts, Limits};
use crate::policy::DefaultAction;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::{Value, json};

use crate::compile::{List, PortReading, Reading, Who, addresses, read, shared_sources};
use crate::output::table::count;
use crate::output::terminal::{Terminal, Tone};
use crate::plan::{Installed, Plan, SetChange, Stray};
use crate::ruleset::{Elements, Ruleset, Set};

use shared::SharedChanges;

/// The number of addresses listed before only the count is shown.
const LISTED: usize = 4;
/// The number of ports listed before only the count is shown.
const LINES: usize = 40;

/// Whether something is added, removed or changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Add,
    Remove,
    Change,
}

/// A changed port, source, setting or object: one line.
#[derive(Debug)]
struct Change {
    action: Action,
    kind: &'static str,
    name: String,
    added: Vec<String>,
    removed: Vec<String>,
    /// Notes other than added and removed items.
    notes: Vec<String>,
}

impl Change {
    fn new(action: Action, kind: &'static str, name: impl Into<String>) -> Self {
        Self {
            action,
            kind,
            name: name.into(),
            added: Vec::new(),
            removed: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.notes.is_empty()
    }

    fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    fn text(&self) -> String {
        let signed = |sign: &'static str, items: &[String]| -> Vec<String> {
            let sign = if self.action == Action::Change {
                sign
            } else {
                ""
            };
            items.iter().map(|item| format!("{sign}{item}")).collect()
        };
        let parts = [
            signed("+ ", &self.added),
            signed("- ", &self.removed),
            self.notes.clone(),
        ];
        parts.concat().join(", ")
    }
}

/// The changes of a plan.
#[derive(Debug)]
pub(in crate::cli) struct Changes {
    list: Vec<Change>,
    /// Whether other programs modified the table; `None` if unknown.
    drift: Option<bool>,
}

impl Changes {
    pub(in crate::cli) fn of(
        installed: Option<&Installed>,
        wanted: &Ruleset,
        plan: &Plan<'_>,
    ) -> Self {
        let drift = installed.map_or(Some(false), Installed::has_drifted);
        let mut list = Vec::new();
        if !plan.is_empty() {
            let nothing = Ruleset::default();
            let old = installed.map_or(&nothing, |installed| &installed.ruleset);
            let first = installed.is_none() || old.chains.is_empty();
            let compare = Compare {
                old,
                new: wanted,
                plan,
                was: read(old),
                is: read(wanted),
                shared: SharedChanges::of(installed, wanted, plan),
            };
            compare.ports(&mut list);
            compare.default(&mut list, first);
            compare.sources(&mut list);
            if !first {
                compare.settings(&mut list);
            }
            list.extend(compare.shared.unread());
            if drift != Some(false) || list.is_empty() {
                compare.rules(&mut list);
            }
            let strays = installed.map_or(&[][..], |installed| &installed.facts.strays);
            list.extend(strays.iter().map(stray));
            if list.is_empty() {
                list.push(compare.rest());
            }
        }
        Self { list, drift }
    }

    /// Returns a line about drift; empty if there is none.
    pub(in crate::cli) fn drift_text(&self, terminal: Terminal) -> String {
        if self.drift != Some(true) {
            return String::new();
        }
        let word = terminal.paint(Tone::Warning, "drift");
        format!("{word}: the rules in force differ from those that dfw applied\n")
    }

    /// Returns whether nothing changes.
    pub(in crate::cli) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Returns a line for each.
    pub(in crate::cli) fn text(&self, terminal: Terminal) -> String {
        let mut rows: Vec<[String; 2]> = self
            .list
            .iter()
            .take(LINES)
            .map(|change| {
                let (sign, tone) = match change.action {
                    Action::Add => ("+", Tone::Good),
                    Action::Remove => ("-", Tone::Bad),
                    Action::Change => ("~", Tone::Warning),
                };
                let name = format!("{} {}", terminal.paint(tone, sign), change.name);
                [name, change.text()]
            })
            .collect();
        if let more @ 1.. = self.list.len().saturating_sub(LINES) {
            rows.push([
                "  …".to_owned(),
                format!("and {}", count(more, "more change", "more changes")),
            ]);
        }
        terminal.table(&rows)
    }

    /// Returns `changes` and `drift` of a JSON document.
    pub(in crate::cli) fn json(&self) -> (Value, Value) {
        let changes = self.list.iter().map(|change| {
            json!({
                "action": match change.action {
                    Action::Add => "add",
                    Action::Remove => "remove",
                    Action::Change => "change",
                },
                "kind": change.kind,
                "name": change.name,
                "added": change.added,
                "removed": change.removed,
                "notes": change.notes,
            })
        });
        (json!(changes.collect::<Vec<_>>()), json!(self.drift))
    }
}

/// Two rulesets and the plan between them.
struct Compare<'a> {
    old: &'a Ruleset,
    new: &'a Ruleset,
    plan: &'a Plan<'a>,
    was: Reading,
    is: Reading,
    shared: SharedChanges<'a>,
}

impl Compare<'_> {
    fn ports(&self, list: &mut Vec<Change>) {
        let all: BTreeSet<&HostPorts> = self.was.ports.keys().chain(self.is.ports.keys()).collect();
        for key in in_order(all) {
            let name = key.to_string();
            let change = match (self.was.ports.get(key), self.is.ports.get(key)) {
                (None, Some(is)) => {
                    let mut change = Change::new(Action::Add, "port", name);
                    describe(&mut change.added, key, is, self.new);
                    change
                }
                (Some(was), None) => {
                    let mut change = Change::new(Action::Remove, "port", name);
                    if was.shared {
                        if let Some((sources, _)) = self.shared.of_port(key) {
                            change.removed = texts_or_nobody(&sources);
                        }
                    } else {
                        describe(&mut change.removed, key, was, self.old);
                    }
                    change
                }
                (Some(was), Some(is)) => self.port(key, was, is),
                (None, None) => continue,
            };
            if change.action != Action::Change || !change.is_empty() {
                list.push(change);
            }
        }
        let (was, is) = (&self.was.unnamed, &self.is.unnamed);
        for (ports, action) in [
            (is.difference(was), Action::Add),
            (was.difference(is), Action::Remove),
        ] {
            // A port that now has a policy entry is listed there.
            let named = |port: &&HostPorts| self.is.ports.contains_key(port);
            let ports = in_order(ports.filter(|port| !named(port)).collect());
            list.extend(ports.into_iter().map(|port| {
                let change = Change::new(action, "unnamed", unnamed(port));
                change.note("published without a policy entry, denied")
            }));
        }
    }

    fn port(&self, key: &HostPorts, was: &PortReading, is: &PortReading) -> Change {
        let mut change = Change::new(Action::Change, "port", key.to_string());
        let any = |who: &Who| who.any.then(|| "any".to_owned());
        let sources = |who: &Who| who.named.iter().cloned().chain(any(who)).collect();
        compare(&sources(&was.allow), &sources(&is.allow), "", &mut change);
        if was.shared || is.shared {
            self.shared(key, was, is, &mut change);
        } else {
            self.own(&List::Allow(*key), "", &mut change);
        }
        let containers = |who: &Who| who.containers.then(|| "containers".to_owned());
        let except = |who: &Who| who.named.iter().cloned().chain(containers(who)).collect();
        let (before, after) = (except(&was.except), except(&is.except));
        compare(&before, &after, "except ", &mut change);
        self.own(&List::Except(*key), "except ", &mut change);
        compare(&was.interfaces, &is.interfaces, "through ", &mut change);
        if was.log != is.log {
            change.notes.push(format!("log: {}", is.log));
        }
        if was.deny_with != is.deny_with {
            change.notes.push(format!("deny: {}", is.deny_with));
        }
        if was.limits != is.limits {
            change.notes.push(limits(is.limits));
        }
        change
    }

    /// Adds changed addresses of a port that shares sets with others, before or after, unless the sets were not
    /// read.
    fn shared(&self, key: &HostPorts, was: &PortReading, is: &PortReading, change: &mut Change) {
        let (before, after) = match (was.shared, is.shared) {
            (true, true) => match self.shared.of_port(key) {
                Some(both) => both,
                None => return,
            },
            (true, false) => match self.shared.of_port(key) {
                Some((before, _)) => (before, written(key, is, self.new)),
                None => return,
            },
            (false, _) => (written(key, was, self.old), written(key, is, self.new)),
        };
        change.removed.extend(texts(&before.difference(&after)));
        change.added.extend(texts(&after.difference(&before)));
    }

    /// Adds changed addresses that the policy lists at the port itself.
    fn own(&self, list: &List, prefix: &str, change: &mut Change) {
        let changes = list
            .sets()
            .filter_map(|name| self.plan.sets.get_key_value(name.as_str()));
        self.addresses(changes.map(|(set, change)| (*set, change)), prefix, change);
    }

    fn addresses<'s>(
        &self,
        sets: impl Iterator<Item = (&'s str, &'s SetChange)>,
        prefix: &str,
        change: &mut Change,
    ) {
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        for (name, set) in sets {
            match set {
                SetChange::Same => {}
                SetChange::New => added.extend(self.new.sets.get(name).map(|set| &set.elements)),
                SetChange::Gone => removed.extend(self.old.sets.get(name).map(|s| &s.elements)),
                SetChange::Elements(delta) => {
                    added.push(&delta.added);
                    removed.push(&delta.removed);
                }
                SetChange::Unknown => {
                    let entries = self.new.sets.get(name).map_or(0, |set| set.elements.len());
                    let entries = count(entries, "entry", "entries");
                    change.notes.push(format!("{prefix}now {entries}"));
                }
            }
        }
        let items = |all: Vec<&Elements>, moved: &BTreeSet<String>| {
            let length = all.iter().map(|elements| elements.len()).sum::<usize>() - moved.len();
            let texts = all.into_iter().flat_map(Elements::texts);
            let all = listed_of(length, texts.filter(|text| !moved.contains(text)));
            all.into_iter().map(|item| format!("{prefix}{item}"))
        };
        // A list that becomes long or short moves to other sets.
        let moved = if added.is_empty() || removed.is_empty() {
            BTreeSet::new()
        } else {
            let texts = |all: &[&Elements]| -> BTreeSet<String> {
                all.iter().flat_map(|elements| elements.texts()).collect()
            };
            &texts(&added) & &texts(&removed)
        };
        change.added.extend(items(added, &moved));
        change.removed.extend(items(removed, &moved));
    }

    fn default(&self, list: &mut Vec<Change>, first: bool) {
        let text = |default: DefaultAction| match default {
            DefaultAction::Deny => "denied if published (default: deny)",
            DefaultAction::Allow => "not filtered (default: allow)",
        };
        let name = "all others";
        if first {
            list.push(Change::new(Action::Add, "default", name).note(text(self.is.default)));
        } else if self.was.default != self.is.default {
            list.push(Change::new(Action::Change, "default", name).note(text(self.is.default)));
        }
    }

    /// Adds named sources that change while they are in use.
    fn sources(&self, list: &mut Vec<Change>) {
        let mut sources: BTreeMap<String, Vec<(&str, &SetChange)>> = BTreeMap::new();
        for (set, change) in &self.plan.sets {
            if let Some(List::Source(name)) = List::of_set(set) {
                sources.entry(name).or_default().push((*set, change));
            }
        }
        for (name, sets) in sources {
            let all = |wanted: &SetChange| sets.iter().all(|(_, change)| *change == wanted);
            // Sources that are added or removed with a port are listed there.
            if all(&SetChange::New) || all(&SetChange::Gone) {
                continue;
            }
            let mut change = Change::new(Action::Change, "source", name);
            self.addresses(sets.into_iter(), "", &mut change);
            if !change.is_empty() {
                list.push(change);
            }
        }
    }

    fn settings(&self, list: &mut Vec<Change>) {
        let (was, is) = (&self.was, &self.is);
        for (name, was, is) in [
            ("connection-mark", was.connection_mark, is.connection_mark),
            // Without a port that takes part there is no chain.
            (
                "early-drop",
                was.early_drop || !was.has_early_ports() && is.early_drop,
                is.early_drop || !is.has_early_ports() && was.early_drop,
            ),
            ("log", was.log, is.log),
            // Only rules of ports use it.
            (
                "reverse-path-filter",
                was.reverse_path_filter || was.ports.is_empty() && is.reverse_path_filter,
                is.reverse_path_filter || is.ports.is_empty() && was.reverse_path_filter,
            ),
        ] {
            if was != is {
                let note = format!("{was} -> {is}");
                list.push(Change::new(Action::Change, "setting", name).note(note));
            }
        }
        if was.priority != is.priority {
            let text =
                |priority: Option<i32>| priority.map_or("none".to_owned(), |p| p.to_string());
            let note = format!("{} -> {}", text(was.priority), text(is.priority));
            list.push(Change::new(Action::Change, "setting", "priority").note(note));
        }
        for (name, was, is) in [
            (
                "container-interfaces",
                &was.container_interfaces,
                &is.container_interfaces,
            ),
            (
                "foreign-interfaces",
                &was.foreign_interfaces,
                &is.foreign_interfaces,
            ),
        ] {
            let mut change = Change::new(Action::Change, "setting", name);
            compare(was, is, "", &mut change);
            list.extend(Some(change).filter(|change| !change.is_empty()));
        }
        for (name, was, is) in [
            (
                "container bridges",
                &was.container_bridges,
                &is.container_bridges,
            ),
            ("other bridges", &was.foreign_bridges, &is.foreign_bridges),
        ] {
            let mut change = Change::new(Action::Change, "host", name);
            compare(was, is, "", &mut change);
            list.extend(Some(change).filter(|change| !change.is_empty()));
        }
    }
}

/// Returns the ports in numerical order.
fn in_order(ports: BTreeSet<&HostPorts>) -> Vec<&HostPorts> {
    let mut ports: Vec<_> = ports.into_iter().collect();
    ports.sort_by_cached_key(|port| (port.first, port.to_string()));
    ports
}

/// Returns the name of a published port without a policy entry, with its family if only one is denied.
fn unnamed(port: &HostPorts) -> String {
    match port.address.filter(IpAddr::is_unspecified) {
        Some(address) => format!("{} ({})", port.named(), Family::of(address).title()),
        None => port.to_string(),
    }
}

/// Returns the sources of a port in the words of the policy.
fn describe(text: &mut Vec<String>, key: &HostPorts, port: &PortReading, ruleset: &Ruleset) {
    // A port that shares sets has no further options.
    if port.shared {
        text.extend(texts_or_nobody(&written(key, port, ruleset)));
        return;
    }
    text.extend(names(&port.allow, &List::Allow(*key), ruleset));
    if text.is_empty() {
        text.push("nobody".to_owned());
    }
    let except = names(&port.except, &List::Except(*key), ruleset);
    text.extend(except.into_iter().map(|name| format!("except {name}")));
    text.extend(port.interfaces.iter().map(|name| format!("through {name}")));
    text.extend((!port.limits.is_empty()).then(|| limits(port.limits)));
}

/// Returns the limits of a port as a note.
fn limits(limits: Limits) -> String {
    if limits.is_empty() {
        "without limits".to_owned()
    } else {
        limits.to_string()
    }
}

fn names(who: &Who, own: &List, ruleset: &Ruleset) -> Vec<String> {
    let mut names = Vec::new();
    if who.any {
        names.push("any".to_owned());
    }
    for name in &who.named {
        let source = List::Source(name.clone());
        names.push(match entries(&source, ruleset) {
            // Large sets are not read.
            0 | 1 => name.clone(),
            entries => format!("{name} ({entries} entries)"),
        });
    }
    if who.containers {
        names.push("containers".to_owned());
    }
    let own = sets_of(ruleset, own);
    names.extend(listed(own.flat_map(|set| set.elements.texts())));
    names
}

/// Returns the allowed addresses listed at a port itself, as far as they were read.
fn written(key: &HostPorts, port: &PortReading, ruleset: &Ruleset) -> AddressSet {
    if port.shared {
        shared_sources(ruleset, key)
    } else {
        addresses(ruleset, &List::Allow(*key))
    }
}

/// Returns the addresses, or their count if they are many.
fn texts(addresses: &AddressSet) -> Vec<String> {
    listed_of(
        addresses.len(),
        addresses.iter().map(|entry| entry.to_string()),
    )
}

fn texts_or_nobody(addresses: &AddressSet) -> Vec<String> {
    if addresses.is_empty() {
        vec!["nobody".to_owned()]
    } else {
        texts(addresses)
    }
}

fn entries(list: &List, ruleset: &Ruleset) -> usize {
    let sets = sets_of(ruleset, list);
    sets.map(|set| set.elements.len()).sum()
}

fn stray(stray: &Stray) -> Change {
    let name = match stray {
        Stray::Set(name) => format!("set {name}"),
        Stray::Object(_, name) => format!("object {name}"),
        Stray::Flowtable(name) => format!("flowtable {name}"),
    };
    Change::new(Action::Remove, "stray", name).note("not created by dfw")
}

fn sets_of<'a>(ruleset: &'a Ruleset, list: &List) -> impl Iterator<Item = &'a Set> {
    list.sets().filter_map(|name| ruleset.sets.get(&name))
}

fn compare(was: &BTreeSet<String>, is: &BTreeSet<String>, prefix: &str, change: &mut Change) {
    let named = |name: &String| format!("{prefix}{name}");
    change.added.extend(is.difference(was).map(named));
    change.removed.extend(was.difference(is).map(named));
}

fn listed(texts: impl Iterator<Item = String>) -> Vec<String> {
    let all: Vec<String> = texts.collect();
    listed_of(all.len(), all.into_iter())
}

/// Returns the texts, or their count if they are many.
fn listed_of(length: usize, texts: impl Iterator<Item = String>) -> Vec<String> {
    match length {
        0..=LISTED => texts.collect(),
        _ => vec![count(length, "entry", "entries")],
    }
}
