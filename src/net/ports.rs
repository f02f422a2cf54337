//! Sets of ports as ranges.

/// A set of port numbers, kept as ascending inclusive ranges that neither overlap nor touch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ports(Vec<(u16, u16)>);

impl FromIterator<(u16, u16)> for Ports {
    fn from_iter<T: IntoIterator<Item = (u16, u16)>>(ranges: T) -> Self {
        let mut ranges: Vec<_> = ranges.into_iter().filter(|(a, b)| a <= b).collect();
        ranges.sort_unstable();
        let mut merged: Vec<(u16, u16)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => {
                    before.1 = before.1.max(last);
                }
                _ => merged.push((first, last)),
            }
        }
        Self(merged)
    }
}

impl Ports {
    /// Returns the ranges, ascending.
    #[must_use]
    pub fn ranges(&self) -> &[(u16, u16)] {
        &self.0
    }

    /// Returns whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the union with another set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.0.iter().chain(&other.0).copied().collect()
    }

    /// Returns the ports that are not in the other set.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let mut left = Vec::new();
        let mut others = other.0.iter().peekable();
        for &(first, last) in &self.0 {
            // Wider than a port, so that what follows the last one is a number as well.
            let (mut next, last) = (u32::from(first), u32::from(last));
            while others.next_if(|(_, end)| u32::from(*end) < next).is_some() {}
            let mut ahead = others.clone();
            while let Some(&(begin, end)) = ahead.next_if(|(begin, _)| u32::from(*begin) <= last) {
                left.extend(range(next, u32::from(begin).checked_sub(1)));
                next = u32::from(end) + 1;
            }
            left.extend(range(next, Some(last)));
        }
        Self(left)
    }

    /// Returns the intersection with another set.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.without(&self.without(other))
    }
}

/// Returns the range, unless it is empty.
fn range(first: u32, last: Option<u32>) -> Option<(u16, u16)> {
    let (first, last) = (u16::try_from(first).ok()?, u16::try_from(last?).ok()?);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ports(ranges: &[(u16, u16)]) -> Ports {
        ranges.iter().copied().collect()
    }

    #[test]
    fn the_ends_of_all_ports_are_ports() {
        let all = ports(&[(0, u16::MAX)]);
        assert!(all.without(&all).is_empty());
        assert_eq!(
            all.without(&ports(&[(0, 0), (65535, 65535)])),
            ports(&[(1, 65534)])
        );
        assert_eq!(ports(&[(1, 5), (6, 9), (3, 7)]).ranges(), [(1, 9)]);
    }

    proptest! {
        #[test]
        fn sets_are_what_their_ports_are(
            a in prop::collection::vec((0u16..64, 0u16..64), 0..8),
            b in prop::collection::vec((0u16..64, 0u16..64), 0..8),
        ) {
            let (a, b) = (ports(&a), ports(&b));
            let has = |ports: &Ports, port: u16| {
                ports.ranges().iter().any(|(first, last)| (*first..=*last).contains(&port))
            };
            for port in 0..64 {
                let (in_a, in_b) = (has(&a, port), has(&b, port));
                prop_assert_eq!(has(&a.union(&b), port), in_a || in_b);
                prop_assert_eq!(has(&a.without(&b), port), in_a && !in_b);
                prop_assert_eq!(has(&a.intersection(&b), port), in_a && in_b);
            }
        }
    }
}
