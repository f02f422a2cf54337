//! Matches and targets of xtables, as iptables-nft writes them where it has no expression of nf_tables:
//! `linux/netfilter/xt_tcpudp.h`, `xt_sctp.h`, `xt_multiport.h`, `xt_addrtype.h`, `nf_nat.h`.
//!
//! The structures hold ports of matches in host byte order, addresses and ports of targets in network byte
//! order.

use super::Target;
use super::rule::{Effect, Holds, Narrowed, Packet, address_of};
use crate::netlink::foreign::{Extension, Verdict};

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;
/// All ports.
const ANY: (u16, u16) = (0, u16::MAX);

/// Whether a packet matches, and what it must be to do so.
pub(super) fn matches(extension: &Extension, packet: &Packet, narrowed: &mut Narrowed) -> Holds {
    let data = Bytes(&extension.data);
    let ports = match (extension.name.as_str(), extension.revision) {
        ("comment", _) => return Holds::Yes,
        ("tcp", 0) => tcp(data),
        ("udp", 0) => udp(data),
        ("sctp", 0) => sctp(data),
        ("multiport", revision @ (0 | 1)) => multiport(data, revision),
        ("addrtype", revision @ (0 | 1)) => {
            let holds = address_type(data, revision, packet);
            // The usual one: an address of this host.
            narrowed.conditional |= holds.is_none();
            return holds.unwrap_or(Holds::Maybe);
        }
        _ => None,
    };
    let Some(Ports {
        protocol,
        ranges,
        inverted,
        more,
    }) = ports
    else {
        narrowed.conditional = true;
        return Holds::Maybe;
    };
    let ranges = if inverted {
        outside(&ranges)
    } else {
        ranges.clone()
    };
    let own = match packet.port {
        Some(port) => {
            let mut ranges = ranges.iter();
            let matches = ranges.any(|(first, last)| (*first..=*last).contains(&port));
            Holds::from(matches)
        }
        None => {
            narrowed.take_ports(&ranges);
            Holds::Maybe
        }
    };
    let same = match (protocol, packet.protocol()) {
        (Some(wanted), Some(protocol)) => Holds::from(wanted == protocol),
        // iptables compares the protocol itself.
        _ => Holds::Yes,
    };
    narrowed.conditional |= more;
    let rest = if more { Holds::Maybe } else { Holds::Yes };
    own.min(same).min(rest)
}

/// The ports that a match wants.
struct Ports {
    protocol: Option<u8>,
    ranges: Vec<(u16, u16)>,
    inverted: bool,
    /// Whether it wants something else as well.
    more: bool,
}

/// `struct xt_tcp`: source ports, destination ports, option, mask and bits of flags, what is inverted.
fn tcp(data: Bytes<'_>) -> Option<Ports> {
    const DESTINATION: u8 = 2;
    let (source, destination) = (data.ports(0)?, data.ports(4)?);
    let (option, mask, inverted) = (data.byte(8)?, data.byte(9)?, data.byte(11)?);
    Some(Ports {
        protocol: Some(TCP),
        ranges: vec![destination],
        inverted: inverted & DESTINATION != 0,
        more: source != ANY || option != 0 || mask != 0 || inverted & !DESTINATION != 0,
    })
}

/// `struct xt_udp`: source ports, destination ports, what is inverted.
fn udp(data: Bytes<'_>) -> Option<Ports> {
    const DESTINATION: u8 = 2;
    let (source, destination, inverted) = (data.ports(0)?, data.ports(4)?, data.byte(8)?);
    Some(Ports {
        protocol: Some(UDP),
        ranges: vec![destination],
        inverted: inverted & DESTINATION != 0,
        more: source != ANY || inverted & !DESTINATION != 0,
    })
}

/// `struct xt_sctp_info`: destination ports first, and what is looked at, and what is inverted, at its end.
fn sctp(data: Bytes<'_>) -> Option<Ports> {
    const DESTINATION: u32 = 2;
    let destination = data.ports(0)?;
    let (flags, inverted) = (data.host32(284)?, data.host32(288)?);
    let is_asked = flags & DESTINATION != 0;
    Some(Ports {
        protocol: Some(SCTP),
        ranges: vec![if is_asked { destination } else { ANY }],
        inverted: is_asked && inverted & DESTINATION != 0,
        more: flags & !DESTINATION != 0,
    })
}

/// `struct xt_multiport`, `struct xt_multiport_v1`: which ports, how many, the ports; which of them begin a
/// range with the next one, and whether all of it is inverted.
fn multiport(data: Bytes<'_>, revision: u32) -> Option<Ports> {
    const PORTS: usize = 15;
    const DESTINATION: u8 = 1;
    let (which, count) = (data.byte(0)?, usize::from(data.byte(1)?));
    if which != DESTINATION || count > PORTS {
        return None;
    }
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < count {
        let port = |at: usize| data.host16(2 + 2 * at);
        let begins = revision == 1 && data.byte(32 + at)? != 0 && at + 1 < count;
        let last = at + usize::from(begins);
        ranges.push((port(at)?, port(last)?));
        at = last + 1;
    }
    Some(Ports {
        protocol: None,
        ranges,
        inverted: revision == 1 && data.byte(47)? != 0,
        more: false,
    })
}

/// `struct xt_addrtype_info_v1`, `struct ipt_addrtype_info`: types of the source and the destination as
/// bits, and what is inverted. `None` if it is about something else than whether an address is the host's.
fn address_type(data: Bytes<'_>, revision: u32, packet: &Packet) -> Option<Holds> {
    const LOCAL: u16 = 1 << 2;
    const INVERT_DESTINATION: u32 = 2;
    let (source, destination) = (data.host16(0)?, data.host16(2)?);
    let inverted = match revision {
        0 => data.host32(8)? != 0,
        _ => match data.host32(4)? {
            0 => false,
            INVERT_DESTINATION => true,
            _ => return None,
        },
    };
    if source != 0 || destination != LOCAL {
        return None;
    }
    let holds = packet.local.map_or(Holds::Maybe, Holds::from);
    match (holds, inverted) {
        // What is for others than the host.
        (Holds::Maybe, true) => None,
        (holds, true) => Some(holds.not()),
        (holds, false) => Some(holds),
    }
}

/// What a target does; `None` if the rule goes on behind it.
pub(super) fn target(target: &Extension, v6: bool) -> Option<Effect> {
    let translated = |to: Option<Target>| Some(Effect::Translate(to.unwrap_or(Target::Somewhere)));
    match (target.name.as_str(), target.revision) {
        ("DNAT", 0) => translated(Range::v4(&target.data).map(Range::target)),
        ("DNAT", 1 | 2) => translated(Range::any(&target.data, v6).map(Range::target)),
        ("REDIRECT", 0) => {
            let range = if v6 {
                Range::any(&target.data, v6)
            } else {
                Range::v4(&target.data)
            };
            translated(range.and_then(|range| range.port()).map(Target::Host))
        }
        ("NETMAP", _) => translated(None),
        // Without a verdict.
        (
            "AUDIT" | "CLASSIFY" | "CONNMARK" | "CONNSECMARK" | "CT" | "DSCP" | "HL" | "LOG"
            | "MARK" | "NFLOG" | "SECMARK" | "SET" | "TOS" | "TRACE" | "TTL",
            _,
        ) => None,
        ("ACCEPT", _) => Some(Effect::Verdict(Verdict::Accept)),
        _ => Some(Effect::Unknown),
    }
}

/// `struct nf_nat_range2`, or one of its forerunners.
struct Range {
    flags: u32,
    first: Vec<u8>,
    last: Vec<u8>,
    first_port: u16,
    last_port: u16,
}

impl Range {
    /// `struct nf_nat_ipv4_multi_range_compat` with one range.
    fn v4(data: &[u8]) -> Option<Self> {
        let data = Bytes(data);
        (data.host32(0)? == 1).then_some(Self {
            flags: data.host32(4)?,
            first: data.at(8, 4)?.to_vec(),
            last: data.at(12, 4)?.to_vec(),
            first_port: data.net16(16)?,
            last_port: data.net16(18)?,
        })
    }

    /// `struct nf_nat_range`, which `struct nf_nat_range2` begins with.
    fn any(data: &[u8], v6: bool) -> Option<Self> {
        let data = Bytes(data);
        let length = if v6 { 16 } else { 4 };
        Some(Self {
            flags: data.host32(0)?,
            first: data.at(4, length)?.to_vec(),
            last: data.at(20, length)?.to_vec(),
            first_port: data.net16(36)?,
            last_port: data.net16(38)?,
        })
    }

    /// One port, or none; `None` for several.
    fn port(&self) -> Option<Option<u16>> {
        const PORTS: u32 = 2;
        const OFFSET: u32 = 1 << 5;
        if self.flags & PORTS == 0 {
            return Some(None);
        }
        let is_one = self.first_port == self.last_port && self.flags & OFFSET == 0;
        is_one.then_some(Some(self.first_port))
    }

    fn target(self) -> Target {
        const ADDRESSES: u32 = 1;
        const NETWORK: u32 = 1 << 6;
        let address = address_of(&self.first);
        match (self.port(), address) {
            (Some(port), Some(address))
                if self.flags & (ADDRESSES | NETWORK) == ADDRESSES && self.first == self.last =>
            {
                Target::Address(address, port)
            }
            _ => Target::Somewhere,
        }
    }
}

/// The ports in none of these ranges.
fn outside(ranges: &[(u16, u16)]) -> Vec<(u16, u16)> {
    let mut ranges = ranges.to_vec();
    ranges.sort_unstable();
    let mut outside = Vec::new();
    let mut next = Some(0);
    for (first, last) in ranges {
        if let Some(from) = next
            && from < first
        {
            outside.push((from, first - 1));
        }
        next = next.and_then(|from| Some(from.max(last.checked_add(1)?)));
    }
    outside.extend(next.map(|from| (from, u16::MAX)));
    outside
}

/// A structure of the kernel's.
#[derive(Clone, Copy)]
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn at(self, at: usize, length: usize) -> Option<&'a [u8]> {
        self.0.get(at..at + length)
    }

    fn byte(self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }

    fn host16(self, at: usize) -> Option<u16> {
        self.at(at, 2)?.try_into().map(u16::from_ne_bytes).ok()
    }

    fn net16(self, at: usize) -> Option<u16> {
        self.at(at, 2)?.try_into().map(u16::from_be_bytes).ok()
    }

    fn host32(self, at: usize) -> Option<u32> {
        self.at(at, 4)?.try_into().map(u32::from_ne_bytes).ok()
    }

    /// First and last of a range of ports.
    fn ports(self, at: usize) -> Option<(u16, u16)> {
        Some((self.host16(at)?, self.host16(at + 2)?))
    }
}
