//! One step of a plan.

use std::borrow::Cow;

use crate::ruleset::{Base, Counted, Counter, Elements, Rule, Set};

use super::installed::Stray;
use super::sketch::Sketch;

/// The position of a new rule in its chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In front of all others.
    First,
    /// In front of the rule with this number.
    Before(u64),
    /// Behind all others.
    Last,
}

/// A step of a plan; all names are the kernel's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation<'a> {
    /// Deletes dfw's table with its contents, if it exists.
    DeleteTable,
    /// dfw's table comes.
    NewTable,
    /// A chain comes, without rules.
    NewChain {
        /// The name.
        name: &'a str,
        /// Where it hooks in.
        base: Option<Base>,
    },
    /// All rules of a chain go.
    FlushChain(&'a str),
    /// Deletes a chain with its rules; no rule or map may refer to it.
    DeleteChain(&'a str),
    /// Creates a set without elements.
    NewSet {
        /// The name.
        name: Cow<'a, str>,
        /// Its type, its size and its comment.
        set: &'a Set,
    },
    /// All elements of a set go.
    FlushSet(Cow<'a, str>),
    /// Deletes a set; no rule may refer to it.
    DeleteSet(Cow<'a, str>),
    /// Elements come into a set.
    NewElements {
        /// The set.
        set: Cow<'a, str>,
        /// What comes.
        elements: Cow<'a, Elements>,
        /// The initial counters of elements that count.
        counted: Option<&'a Counted>,
        /// The set's comment, for errors.
        comment: Option<&'a str>,
    },
    /// Elements go out of a set.
    DeleteElements {
        /// The set.
        set: Cow<'a, str>,
        /// What goes.
        elements: Elements,
    },
    /// Creates the sketch of a set's elements.
    NewSketch {
        /// The set that it is of.
        set: Cow<'a, str>,
        /// The type of the elements.
        like: &'a Elements,
        /// What is remembered.
        sketch: Box<Sketch>,
    },
    /// A rule comes.
    NewRule {
        /// The chain.
        chain: &'a str,
        /// The rule.
        rule: Cow<'a, Rule>,
        /// Where in the chain.
        place: Place,
        /// What its counter begins with.
        counter: Option<Counter>,
    },
    /// A rule goes.
    DeleteRule {
        /// The chain.
        chain: &'a str,
        /// The rule's number.
        handle: u64,
    },
    /// What dfw never made goes.
    DeleteStray(&'a Stray),
    /// Writes the stamp: who applied the ruleset, and when.
    Stamp {
        /// Whether the table has a stamp already.
        again: bool,
        /// The [`fingerprint`](super::fingerprint()) of the ruleset in force afterwards.
        fingerprint: u64,
    },
}
