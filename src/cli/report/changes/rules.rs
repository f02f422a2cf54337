//! Changes listed as rules and sets: drift, and operations that follow from no difference of ports,
//! sources or settings.

use std::collections::BTreeSet;

use crate::compile::{
    CONTAINERS, FOREIGN, LimitSet, List, Reading, SHARED_ALLOWED, SHARED_DENIED, SharedSet,
    limit_of_chain, port_key, port_of_chain,
};
use crate::output::table::count;
use crate::plan::{SetChange, align as align_rules};
use crate::ruleset::{Elements, L4Protocol, Rule, Ruleset};

use super::{Action, Change, Compare, LISTED, listed};

impl Compare<'_> {
    /// Adds rules that are added or removed in any chain, ignoring comments.
    pub(super) fn rules(&self, list: &mut Vec<Change>) {
        let nothing: &[Rule] = &[];
        let names: BTreeSet<&String> = self
            .old
            .chains
            .keys()
            .chain(self.new.chains.keys())
            .collect();
        for name in names {
            let rules = |ruleset: &'_ Ruleset| -> Vec<Rule> {
                ruleset
                    .chains
                    .get(name)
                    .map_or(nothing, |c| &c.rules)
                    .to_vec()
            };
            let (old, new) = (rules(self.old), rules(self.new));
            let same = align_rules(&old, &new);
            let kept_old: BTreeSet<usize> = same.iter().map(|(old, _)| *old).collect();
            let kept_new: BTreeSet<usize> = same.iter().map(|(_, new)| *new).collect();
            let texts = |rules: &[Rule], kept: &BTreeSet<usize>| {
                let rest = rules
                    .iter()
                    .enumerate()
                    .filter(|(at, _)| !kept.contains(at));
                let rest: Vec<_> = rest.map(|(_, rule)| format!("rule `{rule}`")).collect();
                if rest.len() > LISTED {
                    vec![count(rest.len(), "rule", "rules")]
                } else {
                    rest
                }
            };
            let (is_old, is_new) = (
                self.old.chains.contains_key(name),
                self.new.chains.contains_key(name),
            );
            // Rules of a port that is added or removed are listed there.
            let is_of_port = port_of_chain(name).is_some() || limit_of_chain(name).is_some();
            if is_old != is_new && is_of_port {
                continue;
            }
            let action = match (is_old, is_new) {
                (false, true) => Action::Add,
                (true, false) => Action::Remove,
                _ => Action::Change,
            };
            let mut change = Change::new(action, "chain", format!("chain {name}"));
            change.removed = texts(&old, &kept_old);
            change.added = texts(&new, &kept_new);
            if action != Action::Change || !change.is_empty() {
                list.push(change);
            }
        }
        for (name, set) in &self.plan.sets {
            let is_listed = List::of_set(name).is_some()
                || SharedSet::named(name).is_some()
                || LimitSet::named(name).is_some()
                || [CONTAINERS, FOREIGN].contains(name);
            if [SHARED_ALLOWED, SHARED_DENIED].contains(name) {
                list.extend(self.counting(name, set));
                continue;
            }
            let change = match set {
                _ if is_listed => continue,
                SetChange::Same => continue,
                SetChange::New => Change::new(Action::Add, "set", format!("set {name}")),
                SetChange::Gone => Change::new(Action::Remove, "set", format!("set {name}")),
                SetChange::Elements(_) | SetChange::Unknown => {
                    let mut change = Change::new(Action::Change, "set", format!("set {name}"));
                    self.addresses([(*name, set)].into_iter(), "", &mut change);
                    change
                }
            };
            list.push(change);
        }
    }

    /// Adds ports whose element in a counting set changes although the port stays: without its element, a port
    /// denies everybody.
    fn counting(&self, set: &str, how: &SetChange) -> Option<Change> {
        let (old, new) = (counted(self.old, set), counted(self.new, set));
        let is_listed = |element: &(L4Protocol, u16)| {
            port_key(element.0, element.1).is_some_and(|key| {
                let shares = |reading: &Reading| {
                    let port = reading.ports.get(&key);
                    port.is_some_and(|port| port.shared)
                };
                shares(&self.was) != shares(&self.is)
            })
        };
        let texts = |elements: &BTreeSet<(L4Protocol, u16)>, but: &BTreeSet<(L4Protocol, u16)>| {
            let rest = elements
                .difference(but)
                .filter(|element| !is_listed(element));
            listed(rest.map(|(protocol, port)| format!("{} . {port}", protocol.name())))
        };
        let mut change = Change::new(Action::Change, "set", format!("set {set}"));
        change.removed = texts(&old, &new);
        change.added = texts(&new, &old);
        if *how == SetChange::Unknown {
            let now = count(new.len(), "entry", "entries");
            change = change.note(format!("now {now}"));
        }
        Some(change).filter(|change| !change.is_empty())
    }

    /// Adds comments and leftovers, which decide about no packet.
    pub(super) fn rest(&self) -> Change {
        let (was, is) = (comments(self.old), comments(self.new));
        let different = was.iter().zip(&is).filter(|(a, b)| a != b).count();
        let name = "comments";
        if different == 0 {
            Change::new(Action::Remove, "leftovers", "leftovers")
                .note("of an interrupted apply, or of records of dfw")
        } else {
            let many = count(
                different,
                "rule, set or element",
                "rules, sets and elements",
            );
            Change::new(Action::Change, "comments", name).note(format!("policy lines of {many}"))
        }
    }
}

/// Returns the comments of all rules, sets and elements, in order.
fn comments(ruleset: &Ruleset) -> Vec<Option<&str>> {
    let rules = ruleset.chains.values().flat_map(|chain| &chain.rules);
    let mut comments: Vec<_> = rules.map(|rule| rule.comment.as_deref()).collect();
    for set in ruleset.sets.values() {
        comments.push(set.comment.as_deref());
        if let Elements::PortCounters(all) = &set.elements {
            comments.extend(all.iter().map(|row| row.comment.as_deref()));
        }
    }
    comments
}

/// Returns the elements of a counting set, without comments.
fn counted(ruleset: &Ruleset, set: &str) -> BTreeSet<(L4Protocol, u16)> {
    match ruleset.sets.get(set).map(|set| &set.elements) {
        Some(Elements::PortCounters(all)) => all.iter().map(|row| row.key).collect(),
        _ => BTreeSet::new(),
    }
}
