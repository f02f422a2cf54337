//! What was installed before a plan, with the elements of big sets, which are not read.

use crate::ruleset::{Elements, Ruleset};

use super::{Installed, Plan, SetChange};

impl Plan<'_> {
    /// Returns the elements of a set before the plan, computed from the desired ones; `None` if unknown.
    #[must_use]
    pub fn elements_before(&self, set: &str, desired: &Ruleset) -> Option<Elements> {
        let elements = &desired.sets.get(set)?.elements;
        match self.sets.get(set)? {
            SetChange::Same => Some(elements.clone()),
            SetChange::Elements(delta) => delta.undone(elements),
            SetChange::New | SetChange::Gone | SetChange::Unknown => None,
        }
    }

    /// Returns the ruleset before the plan with the elements of the sets that were not read, as far as the plan
    /// knows them, and the names of those that it does not know: they are no part of the ruleset, so that
    /// nothing is decided by them.
    #[must_use]
    pub fn ruleset_before(
        &self,
        installed: &Installed,
        desired: &Ruleset,
    ) -> (Ruleset, Vec<String>) {
        let mut before = installed.ruleset.clone();
        let mut unknown = Vec::new();
        before.sets.retain(|name, set| {
            if installed.facts.sets.get(name).is_some_and(|set| set.read) {
                return true;
            }
            let Some(elements) = self.elements_before(name, desired) else {
                unknown.push(name.clone());
                return false;
            };
            set.elements = elements;
            true
        });
        (before, unknown)
    }
}
