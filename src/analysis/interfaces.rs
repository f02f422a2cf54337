//! Classes of interfaces that rules treat alike.
//!
//! Rules name few interfaces and treat all others alike, so evaluating one interface of each class covers all.

use std::collections::BTreeSet;

use crate::compile::CONTAINERS;
use crate::ruleset::{Elements, Expression, Interface, NameMatch, Ruleset, Side};

use super::eval::tells;

/// A class of interfaces that every rule treats alike.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Class {
    /// One interface of the class, for evaluation.
    pub name: String,
    /// The names in rules, ascending; prefixes with `*`.
    pub named: Vec<String>,
    /// Whether the class contains every interface that no rule names.
    pub others: bool,
    /// Whether the interfaces are bridges of a container engine.
    pub containers: Containers,
}

/// For which rulesets interfaces are bridges of a container engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Containers {
    /// For none.
    Never,
    /// For all.
    Always,
    /// For the last of them, and not for all.
    Since,
    /// For some of them, and not for the last.
    Before,
}

impl Class {
    /// Returns the class as text: `eth0, wg0`, `other interfaces`, `containers`.
    #[must_use]
    pub fn title(&self) -> String {
        match (self.containers == Containers::Always, self.others) {
            (true, _) => "containers".to_owned(),
            (false, false) => self.named.join(", "),
            (false, true) if self.named.is_empty() => "any interface".to_owned(),
            (false, true) => "other interfaces".to_owned(),
        }
    }
}

impl Containers {
    fn of(rulesets: &[&Ruleset], name: &str) -> Self {
        let of = |ruleset: &&Ruleset| is_container(ruleset, name);
        if rulesets.iter().all(of) {
            Self::Always
        } else if rulesets.last().is_some_and(of) {
            Self::Since
        } else if rulesets.iter().any(of) {
            Self::Before
        } else {
            Self::Never
        }
    }
}

/// Returns the classes of incoming or outgoing interfaces that these rulesets distinguish, without `lo`; the
/// class that no rule names is first.
#[must_use]
pub fn classes(rulesets: &[&Ruleset], side: Side) -> Vec<Class> {
    let mut asked: Vec<(&Ruleset, &Interface)> = Vec::new();
    let (mut exact, mut prefixes) = (BTreeSet::new(), BTreeSet::new());
    for ruleset in rulesets {
        let rules = ruleset.chains.values().flat_map(|chain| &chain.rules);
        for expression in rules.flat_map(|rule| &rule.expressions) {
            let Expression::Interface(interface) = expression else {
                continue;
            };
            match interface {
                Interface::Name { side: of, name, .. } if *of == side => {
                    match name {
                        NameMatch::Exact(name) => exact.insert(name.clone()),
                        NameMatch::Prefix(prefix) => prefixes.insert(prefix.clone()),
                    };
                }
                Interface::In { side: of, set, .. } if *of == side => {
                    let set = ruleset.sets.get(set).map(|set| &set.elements);
                    if let Some(Elements::Interfaces(names)) = set {
                        exact.extend(names.iter().cloned());
                    }
                }
                Interface::Name { .. }
                | Interface::In { .. }
                | Interface::OutBridge
                | Interface::SameInterface
                | Interface::NoReversePath => continue,
            }
            let known = asked
                .iter()
                .any(|(of, other)| std::ptr::eq(*of, *ruleset) && *other == interface);
            if !known {
                asked.push((ruleset, interface));
            }
        }
    }
    let other = unlike(&exact, &prefixes, "other");
    let mut candidates = vec![(other, None)];
    for prefix in &prefixes {
        let name = unlike_beginning(&exact, prefix);
        candidates.push((name, Some(format!("{prefix}*"))));
    }
    candidates.extend(exact.iter().map(|name| (name.clone(), Some(name.clone()))));
    candidates.retain(|(name, _)| name != "lo");
    let mut classes: Vec<(Vec<bool>, Class)> = Vec::new();
    for (name, named) in candidates {
        let answers: Vec<bool> = asked
            .iter()
            .map(|(ruleset, interface)| tells(ruleset, interface, &name))
            .collect();
        if let Some((_, class)) = classes.iter_mut().find(|(of, _)| *of == answers) {
            class.named.extend(named);
            continue;
        }
        let class = Class {
            containers: Containers::of(rulesets, &name),
            others: named.is_none(),
            named: named.into_iter().collect(),
            name,
        };
        classes.push((answers, class));
    }
    classes.into_iter().map(|(_, class)| class).collect()
}

/// Returns whether an interface is a bridge of a container engine for a ruleset.
fn is_container(ruleset: &Ruleset, name: &str) -> bool {
    let set = ruleset.sets.get(CONTAINERS).map(|set| &set.elements);
    matches!(set, Some(Elements::Interfaces(names)) if names.iter().any(|n| n == name))
}

/// Returns a name that differs from these names and begins with none of these prefixes.
fn unlike(exact: &BTreeSet<String>, prefixes: &BTreeSet<String>, base: &str) -> String {
    let begins = |name: &str| {
        prefixes
            .iter()
            .any(|prefix| name.starts_with(prefix.as_str()))
    };
    let names = (0_u32..).map(|n| format!("{base}{n}"));
    // A prefix of a name that is tried is a prefix of most of those that follow.
    let first = ["", "x", "y", "z", "q", "0", "1", "_"];
    let mut all = first
        .into_iter()
        .map(|letter| format!("{letter}{base}"))
        .chain(names);
    let found = all.find(|name| !exact.contains(name) && !begins(name));
    found.unwrap_or_default()
}

/// Returns a name with this prefix that differs from these names.
fn unlike_beginning(exact: &BTreeSet<String>, prefix: &str) -> String {
    let names = (0_u32..).map(|n| format!("{prefix}{n}"));
    let found = names.into_iter().find(|name| !exact.contains(name));
    found.unwrap_or_default()
}

/// Returns whether some rule of a ruleset matches the reverse path.
#[must_use]
pub fn has_reverse_path_filter(ruleset: &Ruleset) -> bool {
    let rules = ruleset.chains.values().flat_map(|chain| &chain.rules);
    rules
        .flat_map(|rule| &rule.expressions)
        .any(|e| *e == Expression::Interface(Interface::NoReversePath))
}
