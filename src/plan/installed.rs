//! dfw's table as read from the kernel: the ruleset, and the state that is needed to change it in place.

use std::collections::{BTreeMap, BTreeSet};

use crate::ruleset::{Counted, Counter, Expression, Ruleset, Set};

use super::sketch::Sketch;

/// dfw's table as the kernel has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Installed {
    /// Its contents. A set that stands in for another ([`kernel_names`]) has that other's name here.
    pub ruleset: Ruleset,
    /// The stamp: who applied it, and when.
    pub comment: Option<String>,
    /// The counters of its rules, by chain, in the order of the rules.
    pub counters: BTreeMap<String, Vec<Option<Counter>>>,
    /// The counters of set elements, by set; without sets that were not read.
    pub counted: BTreeMap<String, Counted>,
    /// The state that is needed to change it in place.
    pub facts: TableState,
}

impl Installed {
    /// Returns descriptions of the contents that dfw never creates and could not restore.
    #[must_use]
    pub fn foreign(&self) -> Vec<String> {
        let mut foreign = self.ruleset.unknown.clone();
        for (name, chain) in &self.ruleset.chains {
            let is_unknown = |e: &Expression| matches!(e, Expression::Unknown { .. });
            let rules = chain.rules.iter();
            let rules = rules.filter(|rule| rule.expressions.iter().any(is_unknown));
            foreign.extend(rules.map(|rule| format!("a foreign rule in chain {name}: {rule}")));
        }
        foreign
    }
}

/// Kernel state of dfw's table beside the ruleset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableState {
    /// The kernel's numbers of the rules, by chain, in the order of the rules.
    pub handles: BTreeMap<String, Vec<u64>>,
    /// About the sets of the ruleset, by their names there.
    pub sets: BTreeMap<String, SetState>,
    /// Sets that were created as replacements and never used, by the kernel's names.
    pub spares: BTreeMap<String, (Set, SetState)>,
    /// Objects that dfw never creates and can delete by name.
    pub strays: Vec<Stray>,
    /// Base chains of a kind that dfw never makes; in the ruleset they look like ordinary chains.
    pub foreign_bases: Vec<String>,
    /// Whether the table has a comment of dfw's, with who applied it and when.
    pub stamped: bool,
    /// The [`fingerprint`](super::fingerprint()) of the applied ruleset.
    pub fingerprint: Option<u64>,
    /// Whether the table is disabled (`flags dormant`).
    pub dormant: bool,
    /// The marks that its rules match or set. If they are the mark of a plan, the ruleset has
    /// [`MARK`](crate::ruleset::MARK) in its place.
    pub marks: BTreeSet<u32>,
}

/// About one set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SetState {
    /// Its name in the kernel.
    pub name: String,
    /// The maximum number of elements; `None` if unlimited.
    pub size: Option<u32>,
    /// Whether its elements in the ruleset are those that the kernel has.
    pub read: bool,
    /// The sketch of its elements, if it is valid.
    pub sketch: Option<Box<Sketch>>,
    /// Whether a sketch of its elements exists, valid or not.
    pub sketched: bool,
    /// How many elements rules have added to it; `None` for other sets, and if it is not known.
    pub added: Option<u32>,
}

/// An object in dfw's table that dfw does not create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stray {
    /// A set by the kernel's name.
    Set(String),
    /// A stateful object: the kernel's number of its type, and its name.
    Object(u32, String),
    /// A flowtable.
    Flowtable(String),
}

/// The chain whose comment is the stamp: who applied the ruleset, and when. It has no rules, and no rule
/// jumps to it. A comment of the table itself could not be changed without making the table anew.
pub const STAMP: &str = "applied";

/// The suffix of the name of a set that replaces another, followed by a letter. No compiled name has a slash.
const SPARE: &str = "/new-";
/// The suffix of the name of a set that holds the sketch of another.
const SKETCH: &str = "/sketch";

/// Returns the names that a set can have in the kernel: its own, and those of its replacements.
pub fn kernel_names(name: &str) -> impl Iterator<Item = String> {
    let others = ('b'..='z').map(move |letter| format!("{name}{SPARE}{letter}"));
    std::iter::once(name.to_owned()).chain(others)
}

/// Returns the name in the ruleset of a set in the kernel.
#[must_use]
pub fn ruleset_name(kernel_name: &str) -> &str {
    match kernel_name.rsplit_once(SPARE) {
        Some((name, letter)) if letter.len() == 1 => name,
        _ => kernel_name,
    }
}

/// Returns the name of the set that holds the sketch of this one.
#[must_use]
pub fn sketch_name(kernel_name: &str) -> String {
    format!("{kernel_name}{SKETCH}")
}

/// Returns the set whose sketch this one holds.
#[must_use]
pub fn sketch_of(kernel_name: &str) -> Option<&str> {
    kernel_name.strip_suffix(SKETCH)
}
