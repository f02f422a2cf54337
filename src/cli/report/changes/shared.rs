//! The changes of a plan to sets that ports share.

use crate::compile::SharedSet;
use crate::net::{AddressSet, HostPorts};
use crate::output::table::count;
use crate::plan::{Installed, Plan, SetChange};
use crate::ruleset::{Elements, Ruleset};

use super::{Action, Change};

/// The shared sets that change.
pub(super) struct SharedChanges<'a>(Vec<SharedChange<'a>>);

struct SharedChange<'a> {
    set: SharedSet,
    change: &'a SetChange,
    /// The removed and added addresses; `None` if the old contents were not read.
    removed: Option<&'a Elements>,
    added: &'a Elements,
}

impl<'a> SharedChanges<'a> {
    pub(super) fn of(
        installed: Option<&'a Installed>,
        wanted: &'a Ruleset,
        plan: &'a Plan<'_>,
    ) -> Self {
        let before = |name: &str| {
            let installed = installed?;
            let read = installed.facts.sets.get(name).is_some_and(|set| set.read);
            let set = installed.ruleset.sets.get(name).filter(|_| read)?;
            Some(&set.elements)
        };
        let after = |name: &str| wanted.sets.get(name).map_or(&NOTHING, |set| &set.elements);
        let changes = plan.sets.iter().filter_map(|(name, change)| {
            let (removed, added) = match change {
                SetChange::Same => return None,
                SetChange::New => (Some(&NOTHING), after(name)),
                SetChange::Gone | SetChange::Unknown => (before(name), after(name)),
                SetChange::Elements(delta) => (Some(&delta.removed), &delta.added),
            };
            Some(SharedChange {
                set: SharedSet::named(name)?,
                change,
                removed,
                added,
            })
        });
        Self(changes.collect())
    }

    /// Returns the addresses removed from a port and added to it: all of them if the port itself is removed or
    /// added. `None` if a set was not read.
    ///
    /// Both can overlap: a range is split into networks, which can be split differently.
    pub(super) fn of_port(&self, key: &HostPorts) -> Option<(AddressSet, AddressSet)> {
        let (mut removed, mut added) = (Vec::new(), Vec::new());
        for change in self.0.iter().filter(|c| c.set.protocol == key.protocol) {
            removed.extend(change.set.networks(change.removed?, Some(key.first)));
            added.extend(change.set.networks(change.added, Some(key.first)));
        }
        let sets = (removed, added);
        Some((
            AddressSet::from_entries(sets.0),
            AddressSet::from_entries(sets.1),
        ))
    }

    /// Adds sets whose old contents are unknown; the changes of their ports are unknown, too.
    pub(super) fn unread(&self) -> impl Iterator<Item = Change> {
        let unread = self.0.iter().filter(|change| change.removed.is_none());
        unread.map(|change| {
            let name = format!("set {}", change.set.name());
            let now = count(change.added.len(), "entry", "entries");
            match change.change {
                SetChange::Gone => Change::new(Action::Remove, "set", name).note("a long list"),
                SetChange::Same | SetChange::New | SetChange::Unknown | SetChange::Elements(_) => {
                    Change::new(Action::Change, "set", name).note(format!("now {now}"))
                }
            }
        })
    }
}

static NOTHING: Elements = Elements::PortIpv4(Vec::new());
