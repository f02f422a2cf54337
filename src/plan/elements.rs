//! What changes between the elements of two sets.

use std::cmp::Ordering;

use crate::ruleset::{Elements, L4Protocol};

/// A port that counts, with its comment.
type PortCounter = (L4Protocol, u16, Option<String>);

/// The elements that go and those that come, of one type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    /// Those that go.
    pub removed: Elements,
    /// Those that come.
    pub added: Elements,
}

impl Delta {
    /// From one set to another; `None` if they are of different types.
    #[must_use]
    pub fn between(from: &Elements, to: &Elements) -> Option<Self> {
        use Elements as E;
        macro_rules! pair {
            ($kind:path, $from:expr, $to:expr) => {{
                let (removed, added) = difference($from, $to);
                (($kind)(removed), ($kind)(added))
            }};
        }
        let (removed, added) = match (from, to) {
            (E::Ipv4(from), E::Ipv4(to)) => pair!(E::Ipv4, from, to),
            (E::Ipv4Ranges(from), E::Ipv4Ranges(to)) => pair!(E::Ipv4Ranges, from, to),
            (E::Ipv6(from), E::Ipv6(to)) => pair!(E::Ipv6, from, to),
            (E::Ipv6Ranges(from), E::Ipv6Ranges(to)) => pair!(E::Ipv6Ranges, from, to),
            (E::Interfaces(from), E::Interfaces(to)) => pair!(E::Interfaces, from, to),
            (E::PortIpv4(from), E::PortIpv4(to)) => pair!(E::PortIpv4, from, to),
            (E::PortIpv6(from), E::PortIpv6(to)) => pair!(E::PortIpv6, from, to),
            (E::PortCounters(from), E::PortCounters(to)) => pair!(E::PortCounters, from, to),
            (E::PortVerdicts(from), E::PortVerdicts(to)) => pair!(E::PortVerdicts, from, to),
            (E::PortIpv4Verdicts(from), E::PortIpv4Verdicts(to)) => {
                pair!(E::PortIpv4Verdicts, from, to)
            }
            (E::PortIpv6Verdicts(from), E::PortIpv6Verdicts(to)) => {
                pair!(E::PortIpv6Verdicts, from, to)
            }
            (E::Ipv4Verdicts(from), E::Ipv4Verdicts(to)) => pair!(E::Ipv4Verdicts, from, to),
            (E::Ipv6Verdicts(from), E::Ipv6Verdicts(to)) => pair!(E::Ipv6Verdicts, from, to),
            _ => return None,
        };
        Some(Self { removed, added })
    }

    /// What there was before, given what there is after it; `None` if it is of another type.
    #[must_use]
    pub fn undone(&self, to: &Elements) -> Option<Elements> {
        use Elements as E;
        macro_rules! undo {
            ($($kind:ident)*) => {
                match (&self.removed, &self.added, to) {
                    $((E::$kind(removed), E::$kind(added), E::$kind(to)) => {
                        let mut all = difference(to, added).0;
                        all.extend_from_slice(removed);
                        all.sort_unstable();
                        Some(E::$kind(all))
                    })*
                    _ => None,
                }
            };
        }
        undo!(Ipv4 Ipv4Ranges Ipv6 Ipv6Ranges Interfaces PortIpv4 PortIpv6 PortCounters PortVerdicts
            PortIpv4Verdicts PortIpv6Verdicts Ipv4Verdicts Ipv6Verdicts)
    }

    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty()
    }

    /// Whether a port goes that `to`, what there is afterwards, does not count under another comment.
    pub(super) fn loses_ports(&self, to: &[PortCounter]) -> bool {
        let key = |(protocol, port, _): &PortCounter| (*protocol, *port);
        let stays = |gone| to.binary_search_by_key(&key(gone), key).is_ok();
        matches!(&self.removed, Elements::PortCounters(gone) if !gone.iter().all(stays))
    }

    /// Whether a range that comes has something in common with one that goes. While a transaction
    /// is being made ready, kernels before 6.18 may find neither of them.
    #[must_use]
    pub fn overlaps(&self) -> bool {
        match (&self.removed, &self.added) {
            (Elements::Ipv4Ranges(a), Elements::Ipv4Ranges(b)) => overlap(a, b, |r| *r),
            (Elements::Ipv6Ranges(a), Elements::Ipv6Ranges(b)) => overlap(a, b, |r| *r),
            (Elements::PortVerdicts(a), Elements::PortVerdicts(b)) => {
                overlap(a, b, |(first, last, _)| (*first, *last))
            }
            _ => false,
        }
    }
}

/// What only the first and what only the second has; both ascend.
fn difference<T: Ord + Clone>(from: &[T], to: &[T]) -> (Vec<T>, Vec<T>) {
    let (mut removed, mut added) = (Vec::new(), Vec::new());
    let (mut from, mut to) = (from.iter().peekable(), to.iter().peekable());
    loop {
        let order = match (from.peek(), to.peek()) {
            (None, None) => return (removed, added),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(old), Some(new)) => old.cmp(new),
        };
        if order != Ordering::Greater
            && let Some(old) = from.next()
            && order == Ordering::Less
        {
            removed.push(old.clone());
        }
        if order != Ordering::Less
            && let Some(new) = to.next()
            && order == Ordering::Greater
        {
            added.push(new.clone());
        }
    }
}

fn overlap<T, N: Ord>(a: &[T], b: &[T], ends: impl Fn(&T) -> (N, N)) -> bool {
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    while let (Some(one), Some(other)) = (a.peek(), b.peek()) {
        let (one, other) = (ends(one), ends(other));
        if one.1 < other.0 {
            a.next();
        } else if other.1 < one.0 {
            b.next();
        } else {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ruleset::Verdict;

    #[test]
    fn only_what_changes_is_in_a_delta() {
        let delta = |from: &[u32], to: &[u32]| {
            Delta::between(&Elements::Ipv4(from.into()), &Elements::Ipv4(to.into())).unwrap()
        };
        let both = delta(&[1, 3, 5, 7], &[2, 3, 7, 9]);
        assert_eq!(both.removed, Elements::Ipv4(vec![1, 5]));
        assert_eq!(both.added, Elements::Ipv4(vec![2, 9]));
        assert!(delta(&[1, 2], &[1, 2]).is_empty());
        let after = Elements::Ipv4(vec![2, 3, 7, 9]);
        assert_eq!(both.undone(&after), Some(Elements::Ipv4(vec![1, 3, 5, 7])));
        let other = Elements::Ipv6(Vec::new());
        assert_eq!(Delta::between(&Elements::Ipv4(Vec::new()), &other), None);
    }

    #[test]
    fn ranges_that_touch_do_not_overlap() {
        let port = |first, last| (first, last, Verdict::Accept);
        let delta = |from: Vec<_>, to: Vec<_>| {
            let (from, to) = (Elements::PortVerdicts(from), Elements::PortVerdicts(to));
            Delta::between(&from, &to).unwrap()
        };
        assert!(!delta(vec![port(80, 80)], vec![port(81, 90)]).overlaps());
        assert!(delta(vec![port(80, 80)], vec![port(80, 90)]).overlaps());
        assert!(delta(vec![port(1, 1), port(5, 9)], vec![port(2, 4), port(9, 9)]).overlaps());
        assert!(!delta(vec![port(80, 80)], vec![port(80, 80), port(81, 81)]).overlaps());
    }
}
