//! Lists of sources as people have them, made by a generator with a seed.

use std::collections::HashSet;
use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

/// What a list consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nine single IPv4 addresses to one network, as published lists are.
    Lists,
    /// Single IPv4 addresses.
    Singles,
    /// IPv4 networks of mixed lengths.
    Networks,
    /// Nine single IPv6 addresses to one network.
    Ipv6,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lists => "as lists are",
            Self::Singles => "single addresses",
            Self::Networks => "networks",
            Self::Ipv6 => "IPv6",
        }
    }

    pub(crate) fn is_ipv6(self) -> bool {
        self == Self::Ipv6
    }
}

/// `SplitMix64` (Steele, Lea and Flood, 2014): the same list for the same seed on every machine.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).unwrap_or_default()
    }
}

/// `count` different sources, none inside another, in no order.
pub(crate) fn sources(kind: Kind, count: usize, seed: u64) -> Vec<String> {
    let mut random = Random(seed);
    // Each has a slot of 2^11 addresses to itself in IPv4, and of 2^64 in IPv6.
    let mut slots = HashSet::new();
    let mut all = Vec::with_capacity(count);
    while all.len() < count {
        let slot = random.next();
        let inside = random.next();
        let single = match kind {
            Kind::Lists | Kind::Ipv6 => all.len() % 10 != 9,
            Kind::Singles => true,
            Kind::Networks => false,
        };
        let text = if kind.is_ipv6() {
            let slot = 0x2000_0000_0000_0000 | slot >> 3;
            if !slots.insert(slot) {
                continue;
            }
            let bits = u128::from(slot) << 64;
            if single {
                Ipv6Addr::from_bits(bits | u128::from(inside)).to_string()
            } else {
                let length = 64 + inside % 60;
                let host = u128::MAX >> length;
                let bits = bits | u128::from(random.next()) & !host;
                format!("{}/{length}", Ipv6Addr::from_bits(bits))
            }
        } else {
            // 1.0.0.0 to 223.255.255.255, without an end that touches a neighbour's.
            const SLOT: u32 = 11;
            let slot = u32::try_from(slot % (222 << (24 - SLOT))).unwrap_or_default();
            if !slots.insert(u64::from(slot)) {
                continue;
            }
            let base = (1 << 24) + (slot << SLOT);
            let inside = u32::try_from(inside & 0x7ff).unwrap_or_default();
            if single {
                Ipv4Addr::from_bits(base | inside).to_string()
            } else {
                let length = 22 + u32::try_from(random.below(9)).unwrap_or_default();
                let bits = base | inside & !(u32::MAX >> length);
                format!("{}/{length}", Ipv4Addr::from_bits(bits))
            }
        };
        all.push(text);
    }
    all
}

/// One a line, as dfw reads them.
pub(crate) fn list(sources: &[String]) -> String {
    sources.join("\n") + "\n"
}

/// One interval set with all of them, as people write it for `nft -f`.
pub(crate) fn nft(kind: Kind, sources: &[String]) -> String {
    let (kind, word) = if kind.is_ipv6() {
        ("ipv6_addr", "ip6")
    } else {
        ("ipv4_addr", "ip")
    };
    format!(
        "table inet bench {{\n\tset many {{ type {kind}; flags interval; elements = {{\n{}\n}} }}\n\
         \tchain forward {{ type filter hook forward priority -4; policy accept;\n\
         \t\tmeta l4proto udp ct original proto-dst 53 {word} saddr @many accept\n\
         \t\tmeta l4proto udp ct original proto-dst 53 drop\n\t}}\n}}\n",
        sources.join(",\n")
    )
}

/// One set with all of them, as people write it for `ipset restore`.
pub(crate) fn ipset(kind: Kind, sources: &[String]) -> String {
    let family = if kind.is_ipv6() { "inet6" } else { "inet" };
    let size = sources.len().next_power_of_two();
    let mut text = format!("create many hash:net family {family} maxelem {size} hashsize {size}\n");
    for source in sources {
        let _ = writeln!(text, "add many {source}");
    }
    text
}
