//! Lists of ports: sources that others of the same list cover, and those that `except` takes away.

use crate::net::{AddressSet, Entry, Family};
use crate::policy::port::{self, PortPolicy, SourceSelection};
use crate::policy::source::{self, Place, SourceName, is_name, parse_entry};
use crate::text::Span;
use crate::text::diagnostic::{Diagnostic, quoted};

use super::{Inside, addresses};

/// How many items of a list are looked at one by one.
const LOOKED_AT: usize = 1000;

/// A list of sources, as it is written.
pub(in crate::policy) struct List {
    place: Place,
    /// Where the list is.
    span: Span,
    /// The first items.
    items: Vec<(Item, Span)>,
}

enum Item {
    Name(SourceName),
    Entry(Entry),
}

impl List {
    /// Keeps the names and the entries among these texts.
    pub(in crate::policy) fn new<'a>(
        place: Place,
        span: &Span,
        texts: impl Iterator<Item = (&'a str, &'a Span)>,
    ) -> Self {
        let items = texts.take(LOOKED_AT).filter_map(|(text, span)| {
            let entry = || parse_entry(text).ok().map(Item::Entry);
            let is_source = is_name(text) && !matches!(text, "any" | "containers");
            let item = if is_source {
                Some(Item::Name(SourceName(text.to_owned())))
            } else {
                entry()
            };
            Some((item?, span.clone()))
        });
        Self {
            place,
            span: span.clone(),
            items: items.collect(),
        }
    }
}

/// Returns warnings about the lists of each port.
pub(super) fn covered(ports: &port::Draft, sources: &source::Draft) -> Vec<Diagnostic> {
    let mut inside = Inside::new();
    let mut report = Vec::new();
    for (key, lists) in &ports.port_lists {
        let Some(policy) = ports.ports.get(key) else {
            continue;
        };
        let allow = lists.iter().find(|list| list.place == Place::Allow);
        if let Some(allow) = allow
            && let Some(warning) = excepted(&mut inside, policy, sources, allow)
        {
            report.push(warning);
            continue;
        }
        for list in lists {
            let selection = match list.place {
                Place::Except => &policy.except,
                _ => &policy.allow,
            };
            if !selection.any {
                report.extend(by_others(&mut inside, selection, sources, list));
            }
        }
    }
    report
}

/// The sets that a choice of sources is made of; `None` if only a host can tell one of them.
fn sets<'a>(
    selection: &'a SourceSelection,
    sources: &'a source::Draft,
) -> Option<Vec<&'a AddressSet>> {
    let named = selection.named.iter().map(|name| addresses(sources, name));
    named.chain([Some(&selection.inline)]).collect()
}

/// Returns a warning if `except` takes away everybody that the port allows, or one item of its list.
fn excepted(
    inside: &mut Inside,
    policy: &PortPolicy,
    sources: &source::Draft,
    list: &List,
) -> Option<Diagnostic> {
    // What only a host can tell is not denied for certain.
    let except: Vec<&AddressSet> = sets(&policy.except, sources)?;
    if except.iter().all(|set| set.is_empty()) {
        return None;
    }
    let (allow, whole) = (
        sets(&policy.allow, sources),
        Family::ALL.map(AddressSet::all),
    );
    let containers_left = policy.allow.containers && !policy.except.containers;
    let mut all_inside = |sets: &[&AddressSet]| {
        let mut sets = sets.iter().filter(|set| !set.is_empty()).peekable();
        sets.peek().is_some() && sets.all(|set| inside.is_inside(set, &except))
    };
    let nobody = match allow {
        _ if policy.allow.any => all_inside(&whole.each_ref()),
        Some(allow) => all_inside(&allow),
        None => false,
    };
    if nobody && !containers_left {
        let warning = Diagnostic::warning(
            "allow-inside-except",
            "this port allows nobody: `except` has everybody in `allow`",
        );
        return Some(
            warning
                .at(list.span.clone(), "all of these are denied")
                .help("write `allow: []` and no `except` if nobody is meant"),
        );
    }
    if policy.allow.any {
        return None;
    }
    let denied = list.items.iter().find(|(item, _)| match item {
        Item::Name(name) => {
            addresses(sources, name).is_some_and(|set| inside.is_inside(set, &except))
        }
        Item::Entry(entry) => inside.is_inside(&AddressSet::from_entries([*entry]), &except),
    });
    let (item, span) = denied?;
    let message = format!("{} is inside `except`, and is denied", item.title());
    Some(
        Diagnostic::warning("allow-inside-except", message)
            .at(span.clone(), "decides nothing")
            .help("leave it out of `allow`, or out of `except`"),
    )
}

/// Returns a warning about the items of a list that the sources of it cover, at the first of them.
fn by_others(
    inside: &mut Inside,
    selection: &SourceSelection,
    sources: &source::Draft,
    list: &List,
) -> Option<Diagnostic> {
    let mut left: Vec<&SourceName> = selection.named.iter().collect();
    let mut covered: Vec<&(Item, Span)> = Vec::new();
    // Of two that are the same, the later one can be left out.
    for item in list.items.iter().rev() {
        let known = |name: &&SourceName| addresses(sources, name);
        let is_covered = match &item.0 {
            Item::Name(name) => {
                let others = left.iter().filter(|other| **other != name);
                let named = others.filter_map(&known);
                let sets: Vec<_> = named.chain([&selection.inline]).collect();
                let own = addresses(sources, name);
                let is_covered = own.is_some_and(|own| inside.is_inside(own, &sets));
                if is_covered {
                    left.retain(|other| *other != name);
                }
                is_covered
            }
            Item::Entry(entry) => {
                let sets: Vec<_> = left.iter().filter_map(known).collect();
                inside.is_inside(&AddressSet::from_entries([*entry]), &sets)
            }
        };
        if is_covered {
            covered.push(item);
        }
    }
    let (item, span) = covered.last()?;
    let message = format!("{} is inside the other sources of this list", item.title());
    let warning = Diagnostic::warning("redundant-entry", message)
        .at(span.clone(), "decides nothing")
        .help("leave it out: the list means the same without it");
    Some(match covered.len() - 1 {
        0 => warning,
        1 => warning.note("1 more of this list is").and_more(1),
        more => warning
            .note(format!("{more} more of this list are"))
            .and_more(more),
    })
}

impl Item {
    fn title(&self) -> String {
        match self {
            Self::Name(name) => format!("the source {}", quoted(name.as_str())),
            Self::Entry(entry) => quoted(&entry.to_string()),
        }
    }
}
