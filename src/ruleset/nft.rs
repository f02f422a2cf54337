//! A ruleset as text in nft's own language: for people, and loadable by `nft -f`.

use crate::net::Family;
use std::fmt::{self, Display, Formatter, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    Base, Chain, Direction, Elements, End, Expression, NameMatch, Reject, Rule, Ruleset, Set, Side,
    TABLE, Tuple, Verdict,
};
use super::{EPHEMERAL, OPENED};

/// How many elements of a set are printed on a line.
const ELEMENTS_PER_LINE: usize = 8;

impl Display for Ruleset {
    /// Writes the table as `nft list table` would, base chains first.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "table inet {TABLE} {{")?;
        let mut first = true;
        let mut gap = |f: &mut Formatter<'_>| {
            if std::mem::take(&mut first) {
                Ok(())
            } else {
                f.write_char('\n')
            }
        };
        for line in &self.unknown {
            gap(f)?;
            writeln!(f, "\t# not dfw's: {line}")?;
        }
        for (name, set) in &self.sets {
            gap(f)?;
            write_set(f, name, set)?;
        }
        for (name, chain) in self.chains_in_order() {
            gap(f)?;
            write_chain(f, name, chain)?;
        }
        writeln!(f, "}}")
    }
}

fn write_set(f: &mut Formatter<'_>, name: &str, set: &Set) -> fmt::Result {
    let (keyword, kind) = match &set.elements {
        Elements::Ipv4(_) | Elements::Ipv4Ranges(_) => ("set", "ipv4_addr"),
        Elements::Ipv6(_) | Elements::Ipv6Ranges(_) => ("set", "ipv6_addr"),
        Elements::Interfaces(_) => ("set", "ifname"),
        Elements::PortIpv4(_) => ("set", "inet_service . ipv4_addr"),
        Elements::PortIpv6(_) => ("set", "inet_service . ipv6_addr"),
        Elements::PortCounters(_) => ("set", "inet_proto . inet_service"),
        Elements::PortVerdicts(_) => ("map", "inet_service : verdict"),
        Elements::PortIpv4Verdicts(_) => ("map", "inet_service . ipv4_addr : verdict"),
        Elements::PortIpv6Verdicts(_) => ("map", "inet_service . ipv6_addr : verdict"),
        Elements::Ipv4Verdicts(_) => ("map", "ipv4_addr : verdict"),
        Elements::Ipv6Verdicts(_) => ("map", "ipv6_addr : verdict"),
    };
    writeln!(f, "\t{keyword} {name} {{\n\t\ttype {kind}")?;
    if set.elements.is_interval() {
        writeln!(f, "\t\tflags interval")?;
    } else if let Some(room) = set.elements.room() {
        writeln!(f, "\t\tsize {room}")?;
    }
    if matches!(set.elements, Elements::PortCounters(_)) {
        writeln!(f, "\t\tcounter")?;
    }
    if let Some(comment) = &set.comment {
        writeln!(f, "\t\tcomment \"{comment}\"")?;
    }
    write_elements(f, set.elements.texts())?;
    writeln!(f, "\t}}")
}

impl Elements {
    /// The elements one by one, as nft writes them.
    #[must_use]
    pub fn texts(&self) -> Box<dyn Iterator<Item = String> + '_> {
        let v4 = |a: &u32| Ipv4Addr::from(*a).to_string();
        let v6 = |a: &u128| Ipv6Addr::from(*a).to_string();
        match self {
            Self::Ipv4(all) => Box::new(all.iter().map(v4)),
            Self::Ipv4Ranges(all) => Box::new(all.iter().map(|r| range4(r.0, r.1))),
            Self::Ipv6(all) => Box::new(all.iter().map(v6)),
            Self::Ipv6Ranges(all) => Box::new(all.iter().map(|r| range6(r.0, r.1))),
            Self::Interfaces(all) => Box::new(all.iter().map(|name| format!("\"{name}\""))),
            Self::PortIpv4(all) => Box::new(
                all.iter()
                    .map(move |(port, a)| format!("{port} . {}", v4(a))),
            ),
            Self::PortIpv6(all) => Box::new(
                all.iter()
                    .map(move |(port, a)| format!("{port} . {}", v6(a))),
            ),
            Self::PortCounters(all) => Box::new(all.iter().map(|(protocol, port, comment)| {
                let element = format!("{} . {port}", protocol.name());
                match comment {
                    Some(comment) => format!("{element} comment \"{comment}\""),
                    None => element,
                }
            })),
            Self::PortVerdicts(all) => Box::new(all.iter().map(|(first, last, verdict)| {
                if first == last {
                    format!("{first} : {verdict}")
                } else {
                    format!("{first}-{last} : {verdict}")
                }
            })),
            Self::PortIpv4Verdicts(all) => Box::new(
                all.iter()
                    .map(move |(port, a, verdict)| format!("{port} . {} : {verdict}", v4(a))),
            ),
            Self::PortIpv6Verdicts(all) => Box::new(
                all.iter()
                    .map(move |(port, a, verdict)| format!("{port} . {} : {verdict}", v6(a))),
            ),
            Self::Ipv4Verdicts(all) => Box::new(
                all.iter()
                    .map(move |(a, verdict)| format!("{} : {verdict}", v4(a))),
            ),
            Self::Ipv6Verdicts(all) => Box::new(
                all.iter()
                    .map(move |(a, verdict)| format!("{} : {verdict}", v6(a))),
            ),
        }
    }
}

fn write_elements(f: &mut Formatter<'_>, elements: impl Iterator<Item = String>) -> fmt::Result {
    let mut count = 0;
    for element in elements {
        f.write_str(match count {
            0 => "\t\telements = { ",
            n if n % ELEMENTS_PER_LINE == 0 => ",\n\t\t             ",
            _ => ", ",
        })?;
        f.write_str(&element)?;
        count += 1;
    }
    if count > 0 {
        f.write_str(" }\n")
    } else {
        Ok(())
    }
}

/// Addresses from a first to a last one of the same family: one, a network, or `a-b`.
pub(crate) fn span(first: IpAddr, last: IpAddr) -> String {
    match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => range4(first.into(), last.into()),
        (IpAddr::V6(first), IpAddr::V6(last)) => range6(first.into(), last.into()),
        _ => format!("{first}-{last}"),
    }
}

fn range4(first: u32, last: u32) -> String {
    let show = |a: u32| Ipv4Addr::from(a).to_string();
    range(
        &show(first),
        &show(last),
        u128::from(first),
        u128::from(last),
        u32::BITS,
    )
}

fn range6(first: u128, last: u128) -> String {
    let show = |a: u128| Ipv6Addr::from(a).to_string();
    range(&show(first), &show(last), first, last, u128::BITS)
}

/// A range of addresses with so many bits as one address, a network, or `a-b`.
fn range(a: &str, b: &str, first: u128, last: u128, bits: u32) -> String {
    // A network starts where its size divides the address; both ends then differ in the host bits
    // only.
    let host = first ^ last;
    let is_network = host & host.wrapping_add(1) == 0 && first & host == 0;
    if first == last {
        a.to_owned()
    } else if is_network {
        format!("{a}/{}", bits - host.count_ones())
    } else {
        format!("{a}-{b}")
    }
}

fn write_chain(f: &mut Formatter<'_>, name: &str, chain: &Chain) -> fmt::Result {
    writeln!(f, "\tchain {name} {{")?;
    if let Some(base) = chain.base {
        writeln!(f, "\t\t{base}")?;
    }
    for rule in &chain.rules {
        writeln!(f, "\t\t{rule}")?;
    }
    writeln!(f, "\t}}")
}

impl Display for Base {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let hook = self.hook.name();
        let priority = match self.priority {
            0 => "filter".to_owned(),
            below if below < 0 => format!("filter - {}", below.unsigned_abs()),
            above => format!("filter + {above}"),
        };
        write!(
            f,
            "type filter hook {hook} priority {priority}; policy accept;"
        )
    }
}

impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (index, expression) in self.expressions.iter().enumerate() {
            if index > 0 {
                f.write_char(' ')?;
            }
            write!(f, "{expression}")?;
        }
        match &self.comment {
            Some(comment) => write!(f, " comment \"{comment}\""),
            None => Ok(()),
        }
    }
}

impl Display for Expression {
    #[expect(clippy::too_many_lines, reason = "one arm for each expression")]
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interface { side, name, equal } => {
                let not = if *equal { "" } else { "!= " };
                write!(f, "{} {not}{name}", side.keyword())
            }
            Self::InterfaceIn { side, set, member } => {
                let not = if *member { "" } else { "!= " };
                write!(f, "{} {not}@{set}", side.keyword())
            }
            Self::OutBridge => f.write_str("meta oifkind \"bridge\""),
            Self::Protocol(protocol) => write!(f, "meta l4proto {}", protocol.name()),
            Self::Direction(Direction::Original) => f.write_str("ct direction original"),
            Self::Direction(Direction::Reply) => f.write_str("ct direction reply"),
            Self::DestinationNat => f.write_str("ct status dnat"),
            Self::Related => f.write_str("ct state related"),
            Self::Mark(mark) => write!(f, "ct mark {mark:#010x}"),
            Self::SetMark(mark) => write!(f, "ct mark set {mark:#010x}"),
            Self::SourceIn { tuple, family, set } => {
                write!(f, "{}{} saddr @{set}", tuple.prefix(), family.keyword())
            }
            Self::PortSourceIn {
                tuple,
                protocol,
                family,
                length,
                set,
            } => {
                let port = match tuple {
                    Tuple::Original => {
                        format!("meta l4proto {} ct original proto-dst", protocol.name())
                    }
                    Tuple::Packet => format!("{} dport", protocol.name()),
                };
                let (prefix, family_name) = (tuple.prefix(), family.keyword());
                let mask = match family.mask(*length) {
                    mask if mask == family.mask(family.bits()) => String::new(),
                    mask => format!(" & {mask}"),
                };
                write!(f, "{port} . {prefix}{family_name} saddr{mask} @{set}")
            }
            Self::DestinationIn { family, set } => {
                write!(f, "{} daddr @{set}", family.keyword())
            }
            Self::PortIn {
                tuple: Tuple::Original,
                set,
            } => write!(f, "meta l4proto . ct original proto-dst @{set}"),
            Self::PortIn {
                tuple: Tuple::Packet,
                set,
            } => write!(f, "meta l4proto . th dport @{set}"),
            Self::ToLoopback(tuple) => write!(f, "{}ip daddr 127.0.0.0/8", tuple.prefix()),
            Self::Resumed => write!(
                f,
                "meta l4proto tcp tcp sport < {EPHEMERAL} ct state new tcp flags & (syn | ack) != \
                 syn"
            ),
            Self::NoteOpening => write!(
                f,
                "meta l4proto tcp tcp flags & (syn | ack) == syn ct state new ct label set {OPENED}"
            ),
            Self::Opened => write!(f, "ct direction reply ct label {OPENED}"),
            Self::Family(Family::V4) => f.write_str("meta nfproto ipv4"),
            Self::Family(Family::V6) => f.write_str("meta nfproto ipv6"),
            Self::SameInterface => f.write_str("fib daddr . iif oif exists"),
            Self::PortMap {
                tuple: Tuple::Original,
                protocol,
                map,
            } => {
                write!(
                    f,
                    "meta l4proto {} ct original proto-dst vmap @{map}",
                    protocol.name()
                )
            }
            Self::PortMap {
                tuple: Tuple::Packet,
                protocol,
                map,
            } => {
                write!(f, "{} dport vmap @{map}", protocol.name())
            }
            Self::DestinationMap { tuple, family, map } => {
                write!(
                    f,
                    "{}{} daddr vmap @{map}",
                    tuple.prefix(),
                    family.keyword()
                )
            }
            Self::PortAddressMap {
                end,
                protocol,
                family,
                map,
            } => {
                let (port, address) = match end {
                    End::Source => ("sport", "saddr"),
                    End::Destination => ("dport", "daddr"),
                };
                let (protocol, family) = (protocol.name(), family.keyword());
                write!(f, "{protocol} {port} . {family} {address} vmap @{map}")
            }
            Self::Limit { per_second, burst } => {
                write!(f, "limit rate {per_second}/second burst {burst} packets")
            }
            Self::Log {
                prefix,
                group: None,
            } => write!(f, "log prefix \"{prefix}\""),
            Self::Log {
                prefix,
                group: Some(group),
            } => write!(f, "log prefix \"{prefix}\" group {group}"),
            Self::Counter => f.write_str("counter"),
            Self::Reject(Reject::TcpReset) => f.write_str("reject with tcp reset"),
            // A bare `reject` behind a match of one family is that family's own error to nft.
            Self::Reject(Reject::PortUnreachable) => {
                f.write_str("reject with icmpx port-unreachable")
            }
            Self::Verdict(verdict) => write!(f, "{verdict}"),
            // As a comment the rest of the line is lost to nft, which is right: dfw does not know
            // what it would have done.
            Self::Unknown { name, data } => write!(f, "# {name}, {} bytes", data.len()),
        }
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
            Self::Return => f.write_str("return"),
        }
    }
}

impl Display for NameMatch {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => write!(f, "\"{name}\""),
            Self::Prefix(name) => write!(f, "\"{name}*\""),
        }
    }
}

impl Side {
    fn keyword(self) -> &'static str {
        match self {
            Self::In => "iifname",
            Self::Out => "oifname",
        }
    }
}

impl Tuple {
    fn prefix(self) -> &'static str {
        match self {
            Self::Original => "ct original ",
            Self::Packet => "",
        }
    }
}

impl Family {
    fn keyword(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_written_as_short_as_they_can_be() {
        assert_eq!(range4(0x0a00_0000, 0x0aff_ffff), "10.0.0.0/8");
        assert_eq!(range4(0, u32::MAX), "0.0.0.0/0");
        assert_eq!(range4(0x0a00_0001, 0x0a00_0002), "10.0.0.1-10.0.0.2");
        assert_eq!(range4(0x0a00_0007, 0x0a00_0007), "10.0.0.7");
        assert_eq!(
            range6(0x2001_0db8 << 96, (0x2001_0db9 << 96) - 1),
            "2001:db8::/32"
        );
        assert_eq!(range6(0, u128::MAX), "::/0");
        assert_eq!(range6(1, 2), "::1-::2");
    }
}
