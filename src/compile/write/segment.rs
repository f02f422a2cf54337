//! Cuts nested port ranges into disjoint ones: the most specific key decides.

use crate::net::HostPorts;

/// A range of ports, both ends included, and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment<T> {
    pub(super) first: u16,
    pub(super) last: u16,
    pub(super) value: T,
}

/// Cuts keys of one address and protocol, nested or disjoint, into ascending disjoint segments;
/// each is decided by the narrowest key around it.
pub(super) fn segments<'a, T: Copy>(
    keys: impl IntoIterator<Item = (&'a HostPorts, T)>,
) -> Vec<Segment<T>> {
    let mut keys: Vec<_> = keys.into_iter().collect();
    keys.sort_by_key(|(key, _)| (key.first, std::cmp::Reverse(key.last)));
    let mut done = Vec::new();
    // The keys around the current port, the narrowest on top, and the first port not yet assigned.
    let mut around: Vec<(u16, T)> = Vec::new();
    let mut next: u32 = 0;
    let mut decide = |next: &mut u32, end: u32, value: T| {
        if let (Ok(first), Ok(last)) = (u16::try_from(*next), u16::try_from(end))
            && first <= last
        {
            done.push(Segment { first, last, value });
            *next = end + 1;
        }
    };
    for (key, value) in keys {
        let first = u32::from(key.first);
        while let Some(&(last, value)) = around.last()
            && u32::from(last) < first
        {
            decide(&mut next, u32::from(last), value);
            around.pop();
        }
        if let Some(&(_, value)) = around.last() {
            decide(&mut next, first.wrapping_sub(1), value);
        }
        next = first;
        around.push((key.last, value));
    }
    while let Some((last, value)) = around.pop() {
        decide(&mut next, u32::from(last), value);
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Protocol;
    use proptest::prelude::*;

    fn key(first: u16, last: u16) -> HostPorts {
        HostPorts {
            address: None,
            protocol: Protocol::Tcp,
            first,
            last,
        }
    }

    fn cut(ranges: &[(u16, u16)]) -> Vec<(u16, u16, usize)> {
        let keys: Vec<_> = ranges.iter().map(|r| key(r.0, r.1)).collect();
        segments(keys.iter().zip(0..))
            .iter()
            .map(|s| (s.first, s.last, s.value))
            .collect()
    }

    #[test]
    fn the_narrowest_range_decides() {
        assert_eq!(
            cut(&[(8000, 8010), (8005, 8005)]),
            [(8000, 8004, 0), (8005, 8005, 1), (8006, 8010, 0)]
        );
        assert_eq!(
            cut(&[(1, 65535), (1, 10), (65535, 65535)]),
            [(1, 10, 1), (11, 65534, 0), (65535, 65535, 2)]
        );
        assert_eq!(
            cut(&[(5, 9), (5, 5), (9, 9)]),
            [(5, 5, 1), (6, 8, 0), (9, 9, 2)]
        );
        assert_eq!(cut(&[(20, 30), (1, 3)]), [(1, 3, 1), (20, 30, 0)]);
    }

    proptest! {
        #[test]
        fn every_port_gets_the_narrowest_key_around_it(
            points in prop::collection::btree_set(1u16..200, 2..20)
        ) {
            // Nested ranges: the outermost two points, then inward; and single ports.
            let points: Vec<u16> = points.into_iter().collect();
            let mut ranges: Vec<(u16, u16)> = (0..points.len() / 2)
                .map(|i| (points[i], points[points.len() - 1 - i]))
                .collect();
            ranges.push((300, 300));
            let cut = cut(&ranges);
            for port in 1..400u16 {
                let expected = ranges
                    .iter()
                    .enumerate()
                    .filter(|(_, r)| r.0 <= port && port <= r.1)
                    .min_by_key(|(_, r)| r.1 - r.0)
                    .map(|(i, _)| i);
                let got: Vec<_> =
                    cut.iter().filter(|s| s.0 <= port && port <= s.1).map(|s| s.2).collect();
                prop_assert_eq!(got, expected.into_iter().collect::<Vec<_>>());
            }
        }
    }
}
