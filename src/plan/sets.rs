//! The change of each set.

use std::borrow::Cow;
use std::mem::discriminant;

use crate::ruleset::{Counted, Set};

use super::Diff;
use super::around::Around;
use super::elements::Delta;
use super::installed::{Installed, SetState, Stray, kernel_names, sketch_name};
use super::operation::Operation;
use super::sketch::{Comparison, Sketch};

/// The change of a set.
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
    /// Its contents are unknown, and it is created anew.
    Unknown,
}

/// What is done about it.
enum Way {
    Keep,
    /// With the sketch of the new elements, if that is known.
    InPlace(Delta, Option<Box<Sketch>>),
    Anew,
}

impl<'a> Diff<'a> {
    pub(super) fn sets(&mut self) {
        let Installed { ruleset, facts, .. } = self.installed;
        let mut judged = Vec::new();
        for (name, set) in &self.desired.sets {
            let current = ruleset.sets.get(name).zip(facts.sets.get(name));
            let (change, current) = match current {
                None => (SetChange::New, None),
                Some((current, facts)) => {
                    let (change, way) = judge(current, facts, set);
                    (change, Some((current, facts, way)))
                }
            };
            self.plan.sets.insert(name, change);
            judged.push((name, set, current));
        }
        let gone = facts
            .sets
            .iter()
            .filter(|(name, _)| !self.desired.sets.contains_key(*name));
        for (name, facts) in gone {
            if let Some(set) = ruleset.sets.get(name) {
                self.plan.sets.insert(name, SetChange::Gone);
                self.unmake(facts, set);
            }
        }
        let around = Around::of(ruleset, self.desired, &self.plan.sets);
        for (name, set, current) in judged {
            let Some((current, facts, way)) = current else {
                self.make(name, set);
                continue;
            };
            let way = match way {
                Way::InPlace(delta, _) if around.misleads(name, &delta, set) => Way::Anew,
                way => way,
            };
            self.change_set(name, current, facts, set, way);
        }
        for (name, (set, facts)) in &facts.spares {
            if !self.names.values().any(|used| used == name) {
                self.unmake(facts, set);
            }
        }
    }

    fn change_set(
        &mut self,
        name: &'a str,
        current: &'a Set,
        facts: &'a SetState,
        set: &'a Set,
        way: Way,
    ) {
        if facts.name != *name && !matches!(way, Way::Anew) {
            self.names.insert(name, facts.name.clone());
        }
        match way {
            Way::Keep => {
                // The sketch is missing, or does not match the elements.
                let is_of = |sketch: &Sketch| !facts.read || sketch.is_of(&set.elements);
                if Sketch::is_wanted(set) != facts.sketch.as_deref().is_some_and(is_of) {
                    self.renew_sketch(facts, set, None);
                }
            }
            Way::InPlace(delta, sketch) => {
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
                        counted: self.counted(of),
                        comment: set.comment.as_deref(),
                    });
                }
                if facts.sketched || Sketch::is_wanted(set) {
                    self.renew_sketch(facts, set, sketch);
                }
            }
            Way::Anew => {
                self.unmake(facts, current);
                self.renewed.insert(name);
                self.make(name, set);
            }
        }
    }

    /// Creates a set, or uses an existing replacement.
    fn make(&mut self, name: &'a str, set: &'a Set) {
        let facts = &self.installed.facts;
        let ready = kernel_names(name).find(|name| {
            facts.spares.get(name).is_some_and(|(spare, facts)| {
                spare.comment == set.comment
                    && matches!(judge(spare, facts, set), (SetChange::Same, Way::Keep))
                    && Sketch::is_wanted(set) == facts.sketched
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
        // There are more letters than sets that can exist.
        let mut free = kernel_names(name).filter(|name| !is_taken(name));
        let kernel_name = free.next().unwrap_or_else(|| name.to_owned());
        if kernel_name != name {
            self.names.insert(name, kernel_name.clone());
        }
        if set.elements.set_type().interval && !set.elements.is_empty() {
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
                counted: self.counted(name),
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

    /// Deletes a set. A packet that traverses the old rules still looks it up while the new ones take
    /// effect, and must find the same elements as before.
    fn unmake(&mut self, facts: &'a SetState, set: &Set) {
        let name = || Cow::Borrowed(facts.name.as_str());
        if set.elements.set_type().map {
            // The elements of a map go with it, on older kernels only if that is said.
            self.plan.after.push(Operation::FlushSet(name()));
            self.plan.after.push(Operation::DeleteSet(name()));
        } else {
            self.objects_go.push(Operation::DeleteSet(name()));
        }
        if facts.sketched {
            self.objects_go
                .push(Operation::DeleteSet(Cow::Owned(sketch_name(&facts.name))));
        }
    }

    /// Returns the counters of a set, also under its former name.
    fn counted(&self, name: &str) -> Option<&'a Counted> {
        let counted = &self.installed.counted;
        let former = || counted.get(self.renamed.set(name)?);
        counted.get(name).or_else(former)
    }

    /// Replaces the sketch of a set by this one, or computes it.
    fn renew_sketch(&mut self, facts: &'a SetState, set: &'a Set, known: Option<Box<Sketch>>) {
        if facts.sketched {
            self.objects_go
                .push(Operation::DeleteSet(Cow::Owned(sketch_name(&facts.name))));
        }
        let known = known.filter(|_| Sketch::is_wanted(set));
        if let Some(sketch) = known.or_else(|| self.sketch(set)) {
            self.sets_come.push(Operation::NewSketch {
                set: Cow::Borrowed(&facts.name),
                like: &set.elements,
                sketch,
            });
        }
    }

    fn sketch(&self, set: &Set) -> Option<Box<Sketch>> {
        if Sketch::is_wanted(set) {
            Sketch::of(&set.elements, self.seed).map(Box::new)
        } else {
            None
        }
    }
}

fn judge(current: &Set, facts: &SetState, set: &Set) -> (SetChange, Way) {
    if discriminant(&current.elements) != discriminant(&set.elements) {
        return (SetChange::Unknown, Way::Anew);
    }
    let mut sketch = None;
    let delta = match (&facts.sketch, facts.read) {
        // An interval whose start has expired ends for a moment without one.
        _ if set.elements.set_type().expiring => Delta::between(&current.elements, &set.elements),
        (_, true) => Delta::between(&current.elements, &set.elements),
        (Some(known), false) => match known.compare(&set.elements) {
            Comparison::Same => None,
            Comparison::Changed(delta, new) => {
                sketch = Some(new);
                Some(delta)
            }
            Comparison::TooFar => return (SetChange::Unknown, Way::Anew),
        },
        (None, false) => return (SetChange::Unknown, Way::Anew),
    };
    let delta = delta.filter(|delta| !delta.is_empty());
    // A comment cannot be changed; a big set is not created anew for its comment.
    let big = Sketch::is_wanted(set);
    let in_place = current.comment == set.comment || big;
    match delta {
        None if in_place => (SetChange::Same, Way::Keep),
        None => (SetChange::Same, Way::Anew),
        Some(delta) => {
            let room = set.elements.set_type().interval
                || facts
                    .size
                    .is_some_and(|size| set.elements.len() <= size as usize);
            // What is to be deleted may expire before, and then nothing of the transaction would take effect.
            let may_expire =
                set.elements.set_type().expiring && !(facts.read && delta.removed.is_empty());
            let way = if in_place && room && !may_expire && (big || !delta.overlaps()) {
                Way::InPlace(delta.clone(), sketch)
            } else {
                Way::Anew
            };
            (SetChange::Elements(delta), way)
        }
    }
}
