//! What becomes of the sources that enter a chain.

use std::collections::BTreeMap;

use crate::net::{AddressSet, Family};

use super::ranges::Ranges;

/// The results of the sources that entered a chain.
#[derive(Debug, Clone)]
pub(super) struct Outcome {
    /// The sources that the chain accepts.
    pub(super) passed: Ranges,
    /// The sources whose destination is rewritten, by rule.
    pub(super) translated: BTreeMap<usize, Ranges>,
    /// The sources that return to the calling chain.
    pub(super) returned: Ranges,
}

impl Outcome {
    pub(super) fn none(family: Family) -> Self {
        Self {
            passed: Ranges::none(family),
            translated: BTreeMap::new(),
            returned: Ranges::none(family),
        }
    }

    /// Adds sources whose destination a rule rewrites.
    pub(super) fn translate(&mut self, rule: usize, sources: Ranges) {
        match self.translated.get_mut(&rule) {
            Some(known) => known.add(sources),
            None => {
                self.translated.insert(rule, sources);
            }
        }
    }

    /// Takes back what became of sources that may have left the chain, and returns them to the calling chain; not in
    /// `nat`, where neither a DNAT of this chain nor a later one is certain for them.
    pub(super) fn doubt(&mut self, doubtful: &AddressSet, is_nat: bool) {
        let conditions = [(doubtful, false)];
        let mut doubted = self.passed.take(&conditions);
        for sources in self.translated.values_mut() {
            doubted.add(sources.take(&conditions));
        }
        self.translated.retain(|_, sources| !sources.is_empty());
        if !is_nat {
            self.returned.add(doubted);
        }
    }
}
