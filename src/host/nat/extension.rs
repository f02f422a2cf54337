//! Matches and targets of xtables, as iptables-nft writes them where it has no expression of nf_tables:
//! `linux/netfilter/xt_tcpudp.h`, `xt_sctp.h`, `xt_multiport.h`, `xt_addrtype.h`, `nf_nat.h`.
//!
//! The structures hold ports of matches in host byte order, addresses and ports of targets in network byte
//! order.

use super::Target;
use super::packet::{Effect, Holds, Narrowed, Packet, Several, address_of};
use crate::net::{Family, Ports};
use crate::nftables::foreign::{Extension, Verdict};

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;
/// All ports.
const ANY: (u16, u16) = (0, u16::MAX);

/// Returns whether a packet matches, and under which conditions.
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
            // The usual case: an address of this host.
            narrowed.conditional |= holds.is_none();
            return holds.unwrap_or(Holds::Maybe);
        }
        _ => None,
    };
    let Some(Wanted {
        protocol,
        ranges,
        inverted,
        more,
    }) = ports
    else {
        narrowed.conditional = true;
        return Holds::Maybe;
    };
    let ranges: Ports = ranges.into_iter().collect();
    let ports = if inverted {
        [ANY].into_iter().collect::<Ports>().without(&ranges)
    } else {
        ranges
    };
    let own = if let Some(port) = packet.port {
        let mut ranges = ports.ranges().iter();
        let matches = ranges.any(|(first, last)| (*first..=*last).contains(&port));
        Holds::from(matches)
    } else {
        narrowed.take_ports(&ports);
        Holds::Maybe
    };
    let same = match (protocol, packet.number()) {
        (Some(wanted), Some(protocol)) => Holds::from(wanted == protocol),
        // iptables compares the protocol itself.
        _ => Holds::Yes,
    };
    narrowed.conditional |= more;
    let rest = if more { Holds::Maybe } else { Holds::Yes };
    own.min(same).min(rest)
}

/// Returns the only destination port that it can match; `None` if there may be others.
pub(super) fn port(extension: &Extension) -> Option<u16> {
    let data = Bytes(&extension.data);
    let wanted = match (extension.name.as_str(), extension.revision) {
        ("tcp", 0) => tcp(data),
        ("udp", 0) => udp(data),
        ("sctp", 0) => sctp(data),
        _ => None,
    };
    let wanted = wanted.filter(|wanted| !wanted.inverted)?;
    match wanted.ranges[..] {
        [(first, last)] if first == last => Some(first),
        _ => None,
    }
}

/// The ports that a match wants.
struct Wanted {
    protocol: Option<u8>,
    ranges: Vec<(u16, u16)>,
    inverted: bool,
    /// Whether there are other conditions.
    more: bool,
}

/// `struct xt_tcp`: source ports, destination ports, option, mask and bits of flags, the inverted fields.
fn tcp(data: Bytes<'_>) -> Option<Wanted> {
    const DESTINATION: u8 = 2;
    let (source, destination) = (data.ports(0)?, data.ports(4)?);
    let (option, mask, inverted) = (data.byte(8)?, data.byte(9)?, data.byte(11)?);
    Some(Wanted {
        protocol: Some(TCP),
        ranges: vec![destination],
        inverted: inverted & DESTINATION != 0,
        more: source != ANY || option != 0 || mask != 0 || inverted & !DESTINATION != 0,
    })
}

/// `struct xt_udp`: source ports, destination ports, the inverted fields.
fn udp(data: Bytes<'_>) -> Option<Wanted> {
    const DESTINATION: u8 = 2;
    let (source, destination, inverted) = (data.ports(0)?, data.ports(4)?, data.byte(8)?);
    Some(Wanted {
        protocol: Some(UDP),
        ranges: vec![destination],
        inverted: inverted & DESTINATION != 0,
        more: source != ANY || inverted & !DESTINATION != 0,
    })
}

/// `struct xt_sctp_info`: destination ports first, and what is looked at, and the inverted fields, at its
/// end.
fn sctp(data: Bytes<'_>) -> Option<Wanted> {
    const DESTINATION: u32 = 2;
    let destination = data.ports(0)?;
    let (flags, inverted) = (data.host32(284)?, data.host32(288)?);
    let is_asked = flags & DESTINATION != 0;
    Some(Wanted {
        protocol: Some(SCTP),
        ranges: vec![if is_asked { destination } else { ANY }],
        inverted: is_asked && inverted & DESTINATION != 0,
        more: flags & !DESTINATION != 0,
    })
}

/// `struct xt_multiport`, `struct xt_multiport_v1`: which ports, how many, the ports; which of them begin a
/// range with the next one, and whether all of it is inverted.
fn multiport(data: Bytes<'_>, revision: u32) -> Option<Wanted> {
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
    Some(Wanted {
        protocol: None,
        ranges,
        inverted: revision == 1 && data.byte(47)? != 0,
        more: false,
    })
}

/// `struct xt_addrtype_info_v1`, `struct ipt_addrtype_info`: types of the source and the destination as bits,
/// and the inverted fields. `None` if it tests anything but whether an address is local.
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
        // A destination that is not local.
        (Holds::Maybe, true) => None,
        (holds, true) => Some(holds.not()),
        (holds, false) => Some(holds),
    }
}

/// Returns the effect of a target; `None` if evaluation continues after it.
pub(super) fn target(target: &Extension, family: Family) -> Option<Effect> {
    let translated = |to: Option<Target>| Some(Effect::Translate(to.unwrap_or(Target::Somewhere)));
    match (target.name.as_str(), target.revision) {
        ("DNAT", 0) => translated(Range::v4(&target.data).map(Range::target)),
        ("DNAT", 1 | 2) => translated(Range::any(&target.data, family).map(Range::target)),
        ("REDIRECT", 0) => {
            let range = if family == Family::V6 {
                Range::any(&target.data, family)
            } else {
                Range::v4(&target.data)
            };
            translated(range.and_then(|range| range.port().ok()).map(Target::Host))
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
    fn any(data: &[u8], family: Family) -> Option<Self> {
        let data = Bytes(data);
        let length = usize::from(family.bits() / 8);
        Some(Self {
            flags: data.host32(0)?,
            first: data.at(4, length)?.to_vec(),
            last: data.at(20, length)?.to_vec(),
            first_port: data.net16(36)?,
            last_port: data.net16(38)?,
        })
    }

    /// Returns one port, or none.
    fn port(&self) -> Result<Option<u16>, Several> {
        const PORTS: u32 = 2;
        const OFFSET: u32 = 1 << 5;
        if self.flags & PORTS == 0 {
            return Ok(None);
        }
        let is_one = self.first_port == self.last_port && self.flags & OFFSET == 0;
        if is_one {
            Ok(Some(self.first_port))
        } else {
            Err(Several)
        }
    }

    fn target(self) -> Target {
        const ADDRESSES: u32 = 1;
        const NETWORK: u32 = 1 << 6;
        let address = address_of(&self.first);
        match (self.port(), address) {
            (Ok(port), Some(address))
                if self.flags & (ADDRESSES | NETWORK) == ADDRESSES && self.first == self.last =>
            {
                Target::Address(address, port)
            }
            _ => Target::Somewhere,
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Protocol;

    fn packet(protocol: Protocol, port: u16) -> Packet {
        Packet {
            family: Family::V4,
            address: None,
            source: None,
            local: Some(true),
            protocol: Some(protocol),
            port: Some(port),
            interface: None,
        }
    }

    fn holds(name: &str, revision: u32, data: &[u8], packet: &Packet) -> Holds {
        let extension = Extension {
            name: name.to_owned(),
            revision,
            data: data.to_vec(),
        };
        matches(&extension, packet, &mut Narrowed::default())
    }

    /// What iptables 1.8.7 wrote for `-p tcp --dport 80`, as Docker 20.10 had it do on Debian 11.
    const DPORT_80: [u8; 16] = [0, 0, 255, 255, 80, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0];

    #[test]
    #[cfg(target_endian = "little")]
    fn matches_of_ports_are_followed() {
        let tcp = |port| packet(Protocol::Tcp, port);
        assert_eq!(holds("tcp", 0, &DPORT_80, &tcp(80)), Holds::Yes);
        assert_eq!(holds("tcp", 0, &DPORT_80, &tcp(81)), Holds::No);
        assert_eq!(
            holds("tcp", 0, &DPORT_80, &packet(Protocol::Udp, 80)),
            Holds::No
        );
        // Inverted matches, and matches on flags and source ports.
        let with = |at: usize, byte| {
            let mut data = DPORT_80;
            data[at] = byte;
            data
        };
        assert_eq!(holds("tcp", 0, &with(11, 2), &tcp(80)), Holds::No);
        assert_eq!(holds("tcp", 0, &with(11, 2), &tcp(81)), Holds::Yes);
        assert_eq!(holds("tcp", 0, &with(9, 2), &tcp(80)), Holds::Maybe);
        assert_eq!(holds("tcp", 0, &with(2, 7), &tcp(80)), Holds::Maybe);
        assert_eq!(holds("tcp", 0, &with(2, 7), &tcp(81)), Holds::No);
        // Another revision or a truncated structure may match anything.
        assert_eq!(holds("tcp", 1, &DPORT_80, &tcp(81)), Holds::Maybe);
        assert_eq!(holds("tcp", 0, &DPORT_80[..7], &tcp(81)), Holds::Maybe);
        let mut sctp = vec![0; 292];
        sctp[..4].copy_from_slice(&[80, 0, 90, 0]);
        sctp[284] = 2;
        for (port, expected) in [(79, Holds::No), (85, Holds::Yes), (91, Holds::No)] {
            let packet = packet(Protocol::Sctp, port);
            assert_eq!(holds("sctp", 0, &sctp, &packet), expected);
        }
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn several_ports_are_followed() {
        use Holds::{Maybe, No, Yes};
        let mut data = [0; 48];
        // Ports 1000 and 2000 to 2010.
        data[..8].copy_from_slice(&[1, 3, 232, 3, 208, 7, 218, 7]);
        data[33] = 1;
        let of = |data: &[u8; 48], port| holds("multiport", 1, data, &packet(Protocol::Udp, port));
        let answers = [1000, 1001, 2000, 2005, 2010, 2011].map(|port| of(&data, port));
        assert_eq!(answers, [Yes, No, Yes, Yes, Yes, No]);
        data[47] = 1;
        assert_eq!([of(&data, 1000), of(&data, 1001)], [No, Yes]);
        // Source ports, and a count beyond the array.
        data[0] = 0;
        assert_eq!(of(&data, 1001), Maybe);
        data[..2].copy_from_slice(&[1, 16]);
        assert_eq!(of(&data, 1001), Maybe);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn types_of_addresses_are_followed() {
        let of = |data: &[u8], local| {
            let packet = Packet {
                local,
                ..packet(Protocol::Tcp, 80)
            };
            holds("addrtype", 1, data, &packet)
        };
        let local = [0, 0, 4, 0, 0, 0, 0, 0];
        assert_eq!(of(&local, Some(true)), Holds::Yes);
        assert_eq!(of(&local, Some(false)), Holds::No);
        assert_eq!(of(&local, None), Holds::Maybe);
        assert_eq!(of(&[0, 0, 4, 0, 2, 0, 0, 0], Some(true)), Holds::No);
        // One interface only, or a broadcast.
        assert_eq!(of(&[0, 0, 4, 0, 4, 0, 0, 0], Some(true)), Holds::Maybe);
        assert_eq!(of(&[0, 0, 8, 0, 0, 0, 0, 0], Some(true)), Holds::Maybe);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn targets_of_one_address_are_distinguished() {
        let mut data = [0; 24];
        data[0] = 1;
        data[4] = 3;
        data[8..12].copy_from_slice(&[172, 17, 0, 2]);
        data[12..16].copy_from_slice(&[172, 17, 0, 2]);
        data[16..20].copy_from_slice(&[0, 80, 0, 80]);
        let of = |data: &[u8], name: &str, revision| {
            let extension = Extension {
                name: name.to_owned(),
                revision,
                data: data.to_vec(),
            };
            target(&extension, Family::V4)
        };
        let address = [172, 17, 0, 2].into();
        assert_eq!(
            of(&data, "DNAT", 0),
            Some(Effect::Translate(Target::Address(address, Some(80))))
        );
        assert_eq!(
            of(&data, "REDIRECT", 0),
            Some(Effect::Translate(Target::Host(Some(80))))
        );
        data[15] = 9;
        let somewhere = Some(Effect::Translate(Target::Somewhere));
        assert_eq!(of(&data, "DNAT", 0), somewhere);
        assert_eq!(of(&data[..9], "DNAT", 2), somewhere);
        assert_eq!(of(&data, "NETMAP", 0), somewhere);
        assert_eq!(of(&[], "LOG", 0), None);
        assert_eq!(of(&[], "anything", 0), Some(Effect::Unknown));
    }
}
