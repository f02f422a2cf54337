//! dfw's table as it was found: the ruleset, and what must be known to change it in place.

use std::collections::{BTreeMap, BTreeSet};

use crate::ruleset::{Counted, Counter, Expression, Ruleset, Set};

use super::sketch::Sketch;

/// dfw's table as the kernel has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Installed {
    /// Its contents. A set that stands in for another ([`kernel_names`]) has that other's name here.
    pub ruleset: Ruleset,
    /// Who put it there, and when.
    pub comment: Option<String>,
    /// The counters of its rules, by chain, in the order of the rules.
    pub counters: BTreeMap<String, Vec<Option<Counter>>>,
    /// What the elements of its sets have counted, by the name of the set; without those that were
    /// not read.
    pub counted: BTreeMap<String, Counted>,
    /// What else must be known to change it in place.
    pub facts: TableState,
}

impl Installed {
    /// Returns what is in it that dfw would never have put there and could not put there again, in words.
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

/// What the kernel knows of dfw's table beside the ruleset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableState {
    /// The kernel's numbers of the rules, by chain, in the order of the rules.
    pub handles: BTreeMap<String, Vec<u64>>,
    /// About the sets of the ruleset, by their names there.
    pub sets: BTreeMap<String, SetState>,
    /// Sets that were made to stand in for others and never did, by the kernel's names.
    pub spares: BTreeMap<String, (Set, SetState)>,
    /// What dfw would never have put there and can take away by name.
    pub strays: Vec<Stray>,
    /// Base chains of a kind that dfw never makes; in the ruleset they look like ordinary chains.
    pub foreign_bases: Vec<String>,
    /// Whether the table says who put it there.
    pub stamped: bool,
    /// The [`fingerprint`](super::fingerprint()) of what was put there.
    pub fingerprint: Option<u64>,
    /// Whether the table is switched off.
    pub dormant: bool,
    /// The marks that its rules look for or set. If they are one that a plan has made, there is
    /// [`MARK`](crate::ruleset::MARK) in its place in the ruleset.
    pub marks: BTreeSet<u32>,
}

/// About one set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SetState {
    /// Its name in the kernel.
    pub name: String,
    /// How many elements it was made for; `None` if it may grow.
    pub size: Option<u32>,
    /// Whether its elements in the ruleset are those that the kernel has.
    pub read: bool,
    /// What is remembered of its elements, if it can be believed.
    pub sketch: Option<Box<Sketch>>,
    /// Whether something is remembered of its elements, be it right or wrong.
    pub sketched: bool,
}

/// Something in dfw's table that dfw never makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stray {
    /// A set by the kernel's name.
    Set(String),
    /// A stateful object: the kernel's number of its type, and its name.
    Object(u32, String),
    /// A flowtable.
    Flowtable(String),
}

/// The chain whose comment says who put the table there. It has no rules, and nothing leads to it.
/// A comment of the table itself could not be changed without making the table anew.
pub const STAMP: &str = "applied";

/// What the name of a set ends in that stands in for another, and behind it a letter. No compiled
/// name has a slash.
const SPARE: &str = "/new-";
/// What the name of a set ends in that remembers what is in another.
const SKETCH: &str = "/sketch";

/// Returns the names that the kernel may know a set by: its own, and those of sets that stand in for it.
pub fn kernel_names(name: &str) -> impl Iterator<Item = String> {
    let others = ('b'..='z').map(move |letter| format!("{name}{SPARE}{letter}"));
    std::iter::once(name.to_owned()).chain(others)
}

/// Returns the name that a ruleset knows a set of the kernel's by.
#[must_use]
pub fn ruleset_name(kernel_name: &str) -> &str {
    match kernel_name.rsplit_once(SPARE) {
        Some((name, letter)) if letter.len() == 1 => name,
        _ => kernel_name,
    }
}

/// Returns the name of the set that remembers what is in this one.
#[must_use]
pub fn sketch_name(kernel_name: &str) -> String {
    format!("{kernel_name}{SKETCH}")
}

/// Returns the set whose elements this one remembers.
#[must_use]
pub fn sketch_of(kernel_name: &str) -> Option<&str> {
    kernel_name.strip_suffix(SKETCH)
}
