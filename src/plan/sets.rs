//! What becomes of each set.

use std::borrow::Cow;
use std::mem::discriminant;

use crate::ruleset::Set;

use super::Diff;
use super::elements::Delta;
use super::installed::{SetFacts, Stray, kernel_names, sketch_name};
use super::operation::Operation;
use super::sketch::{BIG, Sketch};

/// What becomes of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetChange {
    /// Its elements stay.
    Same,
    /// It comes.
    New,
    /// It goes.
    Gone,
    /// Some elements change.
    Elements(Delta),
    /// It was not possible to tell what is in it, and it is filled anew.
    Unknown,
}

/// What is done about it.
enum Way {
    Keep,
    InPlace(Delta),
    Anew,
}

impl<'a> Diff<'a> {
    pub(super) fn sets(&mut self) {
        for (name, set) in &self.wanted.sets {
            let found = self.installed.ruleset.sets.get(name);
            match found.zip(self.installed.facts.sets.get(name)) {
                None => {
                    self.plan.sets.insert(name, SetChange::New);
                    self.make(name, set);
                }
                Some((found, facts)) => self.change_set(name, found, facts, set),
            }
        }
        let found = &self.installed.ruleset.sets;
        for (name, facts) in &self.installed.facts.sets {
            if let Some(set) = found.get(name)
                && !self.wanted.sets.contains_key(name)
            {
                self.plan.sets.insert(name, SetChange::Gone);
                self.unmake(facts, set, false);
            }
        }
        for (name, (set, facts)) in &self.installed.facts.spares {
            if !self.names.values().any(|used| used == name) {
                self.unmake(facts, set, false);
            }
        }
    }

    fn change_set(&mut self, name: &'a str, found: &'a Set, facts: &'a SetFacts, set: &'a Set) {
        let (change, way) = judge(found, facts, set);
        self.plan.sets.insert(name, change);
        if facts.name != *name && !matches!(way, Way::Anew) {
            self.names.insert(name, facts.name.clone());
        }
        match way {
            Way::Keep => {
                // What is remembered is missing, or not of the elements that were read.
                let is_of = |sketch: &Sketch| !facts.read || sketch.is_of(&set.elements);
                if wants_sketch(set) != facts.sketch.as_deref().is_some_and(is_of) {
                    self.renew_sketch(facts, set);
                }
            }
            Way::InPlace(delta) => {
                let Delta { removed, added } = delta;
                let of = name;
                let name = || Cow::Borrowed(facts.name.as_str());
                if !removed.is_empty() {
                    self.elements_go.push(Operation::DeleteElements {
                        set: name(),
                        elements: removed,
                    });
                }
                if !added.is_empty() {
                    self.elements_come.push(Operation::NewElements {
                        set: name(),
                        elements: Cow::Owned(added),
                        counted: self.installed.counted.get(of),
                        comment: set.comment.as_deref(),
                    });
                }
                if facts.sketched || wants_sketch(set) {
                    self.renew_sketch(facts, set);
                }
            }
            Way::Anew => {
                self.unmake(facts, found, true);
                self.renewed.insert(name);
                self.make(name, set);
            }
        }
    }

    /// A set comes, or one that stands ready takes its place.
    fn make(&mut self, name: &'a str, set: &'a Set) {
        let facts = &self.installed.facts;
        let ready = kernel_names(name).find(|name| {
            facts.spares.get(name).is_some_and(|(spare, facts)| {
                spare.comment == set.comment
                    && matches!(judge(spare, facts, set), (SetChange::Same, Way::Keep))
                    && wants_sketch(set) == facts.sketched
            })
        });
        if let Some(ready) = ready {
            self.names.insert(name, ready);
            return;
        }
        let is_taken = |name: &String| {
            facts.spares.contains_key(name)
                || facts.sets.values().any(|set| set.name == *name)
                || facts.strays.contains(&Stray::Set(name.clone()))
        };
        // There are more letters than sets that can be in the way.
        let mut free = kernel_names(name).filter(|name| !is_taken(name));
        let kernel_name = free.next().unwrap_or_else(|| name.to_owned());
        if kernel_name != name {
            self.names.insert(name, kernel_name.clone());
        }
        if set.elements.is_interval() && !set.elements.is_empty() {
            self.two_phases = true;
        }
        self.new_sets.push(Operation::NewSet {
            name: Cow::Owned(kernel_name.clone()),
            set,
        });
        if !set.elements.is_empty() {
            self.new_sets.push(Operation::NewElements {
                set: Cow::Owned(kernel_name.clone()),
                elements: Cow::Borrowed(&set.elements),
                counted: self.installed.counted.get(name),
                comment: set.comment.as_deref(),
            });
        }
        if let Some(sketch) = self.sketch(set) {
            self.new_sets.push(Operation::NewSketch {
                set: Cow::Owned(kernel_name),
                like: &set.elements,
                sketch,
            });
        }
    }

    /// A set goes. A packet that is on its way through the old rules still looks it up while the
    /// new ones take effect, and must find in a set what it would have found before.
    fn unmake(&mut self, facts: &'a SetFacts, set: &Set, is_replaced: bool) {
        let name = || Cow::Borrowed(facts.name.as_str());
        let leads = set.elements.is_map();
        // The elements of a map go with it, on older kernels only if that is said.
        if leads && is_replaced {
            self.plan.after.push(Operation::FlushSet(name()));
            self.plan.after.push(Operation::DeleteSet(name()));
        } else {
            if leads {
                self.elements_go.push(Operation::FlushSet(name()));
            }
            self.objects_go.push(Operation::DeleteSet(name()));
        }
        if facts.sketched {
            self.objects_go
                .push(Operation::DeleteSet(Cow::Owned(sketch_name(&facts.name))));
        }
    }

    fn renew_sketch(&mut self, facts: &'a SetFacts, set: &'a Set) {
        if facts.sketched {
            self.objects_go
                .push(Operation::DeleteSet(Cow::Owned(sketch_name(&facts.name))));
        }
        if let Some(sketch) = self.sketch(set) {
            self.sets_come.push(Operation::NewSketch {
                set: Cow::Borrowed(&facts.name),
                like: &set.elements,
                sketch,
            });
        }
    }

    fn sketch(&self, set: &Set) -> Option<Box<Sketch>> {
        if wants_sketch(set) {
            Sketch::of(&set.elements, self.seed).map(Box::new)
        } else {
            None
        }
    }
}

pub(super) fn wants_sketch(set: &Set) -> bool {
    set.elements.len() >= BIG && Sketch::fits(&set.elements)
}

fn judge(found: &Set, facts: &SetFacts, set: &Set) -> (SetChange, Way) {
    if discriminant(&found.elements) != discriminant(&set.elements) {
        return (SetChange::Unknown, Way::Anew);
    }
    let delta = match (&facts.sketch, facts.read) {
        (_, true) => Delta::between(&found.elements, &set.elements),
        (Some(sketch), false) if sketch.is_of(&set.elements) => None,
        (Some(sketch), false) => match sketch.delta(&set.elements) {
            Some(delta) => Some(delta),
            None => return (SetChange::Unknown, Way::Anew),
        },
        (None, false) => return (SetChange::Unknown, Way::Anew),
    };
    let delta = delta.filter(|delta| !delta.is_empty());
    // A comment cannot be changed; that of a big set is not worth filling it anew.
    let big = wants_sketch(set);
    let in_place = found.comment == set.comment || big;
    match delta {
        None if in_place => (SetChange::Same, Way::Keep),
        None => (SetChange::Same, Way::Anew),
        Some(delta) => {
            let room = set.elements.is_interval()
                || facts
                    .size
                    .is_some_and(|size| set.elements.len() <= size as usize);
            let sudden = delta.overlaps() || delta.loses_ports(&set.elements);
            let way = if in_place && room && (big || !sudden) {
                Way::InPlace(delta.clone())
            } else {
                Way::Anew
            };
            (SetChange::Elements(delta), way)
        }
    }
}
