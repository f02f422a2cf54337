//! The path of a packet from outside to a published port, in the kernel's order: PREROUTING of raw and mangle,
//! DNAT in nat, FORWARD of mangle, filter and security, and POSTROUTING of mangle.
//!
//! Rules count by their content, independent of the chain's name and the program that wrote them.

use crate::net::Family;
use std::cell::RefCell;
use std::collections::BTreeSet;

use super::dump::{Dump, Table, reachable};
use super::question::{Question, Stage};
use super::ranges::Ranges;
use super::rule::Rule;
use super::trail::Trail;
use super::walk::{End, Memory, walk};

const ARRIVING: [(&str, &str, Stage); 2] = [
    ("raw", "PREROUTING", Stage::Raw),
    ("mangle", "PREROUTING", Stage::Arriving),
];
const ONWARD: [(&str, &str); 4] = [
    ("mangle", "FORWARD"),
    ("filter", "FORWARD"),
    ("security", "FORWARD"),
    ("mangle", "POSTROUTING"),
];
/// Docker's chain for rules of users.
const USER: &str = "DOCKER-USER";

/// The reachable rules of one family, in the order of the hooks.
#[derive(Debug)]
pub(super) struct Path<'a> {
    dump: &'a Dump,
    family: Family,
    /// The rules before DNAT.
    pub(super) arriving: Vec<usize>,
    /// The rules of `nat`.
    pub(super) nat: Vec<usize>,
    /// The rules after DNAT.
    pub(super) onward: Vec<usize>,
    /// The rules of DOCKER-USER and of the chains that it calls, if nothing calls it.
    pub(super) uncalled: Vec<usize>,
    memory: RefCell<Memory>,
}

impl<'a> Path<'a> {
    pub(super) fn of(dump: &'a Dump, family: Family) -> Self {
        let rules = |name: &'static str, chain: &str| {
            let table = dump.table(family, name);
            table.map_or_else(Vec::new, |table| reachable(dump, table, &[chain]))
        };
        let mut arriving = Vec::new();
        for (table, chain, _) in ARRIVING {
            arriving.extend(rules(table, chain));
        }
        let mut onward = Vec::new();
        for (table, chain) in ONWARD {
            onward.extend(rules(table, chain));
        }
        let uncalled = dump
            .table(family, "filter")
            .filter(|table| !is_called(dump, table))
            .map_or_else(Vec::new, |_| rules("filter", USER));
        onward.extend(&uncalled);
        onward.sort_unstable();
        onward.dedup();
        Self {
            dump,
            family,
            arriving,
            nat: rules("nat", "PREROUTING"),
            onward,
            uncalled,
            memory: RefCell::default(),
        }
    }

    /// Returns every reachable rule with its number.
    pub(super) fn rules(&self) -> impl Iterator<Item = (usize, &'a Rule)> + use<'a> {
        let all: BTreeSet<usize> = [&self.arriving, &self.nat, &self.onward]
            .into_iter()
            .flatten()
            .copied()
            .collect();
        let dump = self.dump;
        all.into_iter()
            .filter_map(move |number| Some((number, dump.rules.get(number)?)))
    }

    /// Returns the sources that reach DNAT.
    pub(super) fn arrive(&self, question: &Question<'_>) -> (Ranges, Trail) {
        let hooks = ARRIVING.map(|(table, chain, stage)| (table, chain, stage));
        self.pass(question, &hooks)
    }

    /// Returns the sources whose destination is rewritten, by rule.
    pub(super) fn translate(&self, question: &Question<'_>) -> End {
        let question = Question {
            stage: Stage::Arriving,
            ..question.clone()
        };
        match self.dump.table(self.family, "nat") {
            Some(table) => walk(
                self.dump,
                table,
                "PREROUTING",
                &question,
                true,
                &self.memory,
            ),
            None => End {
                passed: Ranges::all(self.family),
                translated: std::collections::BTreeMap::new(),
                trail: Trail::default(),
            },
        }
    }

    /// Returns the sources that pass from DNAT to the container.
    pub(super) fn go_on(&self, question: &Question<'_>) -> (Ranges, Trail) {
        let mut hooks: Vec<_> = ONWARD
            .iter()
            .map(|(table, chain)| (*table, *chain, Stage::Translated))
            .collect();
        if !self.uncalled.is_empty() {
            hooks.push(("filter", USER, Stage::Translated));
        }
        self.pass(question, &hooks)
    }

    fn pass(
        &self,
        question: &Question<'_>,
        hooks: &[(&'static str, &str, Stage)],
    ) -> (Ranges, Trail) {
        let mut passing = Ranges::all(self.family);
        let mut trail = Trail::default();
        for &(table, chain, stage) in hooks {
            let Some(table) = self.dump.table(self.family, table) else {
                continue;
            };
            let question = Question {
                stage,
                ..question.clone()
            };
            let end = walk(self.dump, table, chain, &question, false, &self.memory);
            passing = passing.intersection(&end.passed);
            trail.add(&end.trail);
        }
        (passing, trail)
    }
}

/// Returns whether DOCKER-USER is reachable from FORWARD.
fn is_called(dump: &Dump, table: &Table) -> bool {
    let rules = reachable(dump, table, &["FORWARD"]);
    dump.rules_of(&rules)
        .any(|(_, rule)| rule.called() == Some(USER))
}
