//! Random changes of policies.

use proptest::prelude::*;
use proptest::sample::{Index, subsequence};

use crate::reference::random::{crowded, plain, range};
use crate::reference::{Meant, Port, Range};

/// A policy, and what a few changes make of it, or the other way round.
pub(crate) fn changed() -> impl Strategy<Value = (Meant, Meant)> {
    let changes = prop::collection::vec((change(), any::<Index>(), any::<Index>()), 1..6);
    (crowded(0.6), changes, any::<bool>()).prop_map(|(old, changes, back)| {
        let mut new = old.clone();
        for (change, at, which) in changes {
            make(&mut new, change, at, which);
        }
        if back { (new, old) } else { (old, new) }
    })
}

/// What happens to a policy, to one of its ports, or to a list.
#[derive(Debug, Clone)]
enum Change {
    Default,
    Mark,
    Add(Vec<Range>),
    Remove,
    Split,
    Log,
    Allow(Range),
    Narrow,
    Forbid,
    Enlist(Vec<usize>, Range),
    Delist(usize),
    Move(usize, usize),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        1 => Just(Change::Default),
        1 => Just(Change::Mark),
        3 => prop::collection::vec(range(), 1..3).prop_map(Change::Add),
        2 => Just(Change::Remove),
        2 => Just(Change::Split),
        2 => Just(Change::Log),
        2 => range().prop_map(Change::Allow),
        3 => Just(Change::Narrow),
        1 => Just(Change::Forbid),
        2 => (subsequence(vec![0, 1, 2], 1..3), range())
            .prop_map(|(lists, range)| Change::Enlist(lists, range)),
        1 => (0..3_usize).prop_map(Change::Delist),
        2 => (0..3_usize, 0..3_usize).prop_map(|(from, to)| Change::Move(from, to)),
    ]
}

/// What of a policy is not the same in another.
pub(crate) fn unlike(of: &Meant, other: &Meant) -> Meant {
    let moved = |list: &usize| of.sources[*list] != other.sources[*list];
    let mut unlike = of.clone();
    unlike.ports.retain(|port| {
        let mut named = port.allow.named.iter().chain(&port.except.named);
        of.deny != other.deny || !other.ports.contains(port) || named.any(moved)
    });
    for (list, same) in unlike.sources.iter_mut().zip(&other.sources) {
        if list == same {
            list.clear();
        }
    }
    unlike
}

/// Makes one change, at a port and at one of its ranges.
fn make(policy: &mut Meant, change: Change, at: Index, which: Index) {
    let ports = policy.ports.len();
    match change {
        Change::Default => policy.deny = !policy.deny,
        Change::Mark => policy.mark = !policy.mark,
        Change::Enlist(lists, range) => {
            for list in lists {
                policy.sources[list].push(range);
            }
        }
        Change::Delist(list) => drop(taken(&mut policy.sources[list], which)),
        Change::Move(from, to) => {
            let moved = taken(&mut policy.sources[from], which);
            policy.sources[to].extend(moved);
        }
        _ if ports == 0 => {}
        Change::Add(inline) => {
            let Port {
                protocol, first, ..
            } = policy.ports[at.index(ports)];
            let is_free = |number: &u16| {
                let is_there = |port: &Port| port.first <= *number && *number <= port.last;
                !policy.ports.iter().any(is_there)
            };
            if let Some(number) = (first..=u16::MAX).find(is_free) {
                policy.ports.push(plain(protocol, number, inline));
            }
        }
        Change::Remove => drop(policy.ports.remove(at.index(ports))),
        Change::Split => {
            let mut own = policy.ports[at.index(ports)].clone();
            own.last = own.first;
            let same = |port: &Port| (port.first, port.last) == (own.first, own.last);
            if !policy.ports.iter().any(same) {
                policy.ports.push(own);
            }
        }
        Change::Log => {
            let port = &mut policy.ports[at.index(ports)];
            port.log = !port.log;
        }
        Change::Allow(range) => policy.ports[at.index(ports)].allow.inline.push(range),
        Change::Narrow | Change::Forbid => {
            let inline = &mut policy.ports[at.index(ports)].allow.inline;
            let Some(mut range) = taken(inline, which) else {
                return;
            };
            if matches!(change, Change::Narrow) {
                range.first += (range.last - range.first).div_ceil(2);
                inline.push(range);
            }
        }
    }
}

fn taken(ranges: &mut Vec<Range>, which: Index) -> Option<Range> {
    (!ranges.is_empty()).then(|| ranges.remove(which.index(ranges.len())))
}
