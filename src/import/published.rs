//! Published ports, as the DNAT rules of an engine have them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::parse::Dump;
use super::rule::{Family, Kind, PortRange, Rule, Target};
use crate::diagnostic::Diagnostic;
use crate::policy::address::{AddressSet, Entry};
use crate::policy::{PortKey, Protocol};

/// A port of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HostPort {
    pub(super) address: Option<IpAddr>,
    pub(super) protocol: Protocol,
    pub(super) number: u16,
}

/// Where an engine sends what comes to a published port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Way {
    /// The container's address, if the dump tells it.
    pub(super) container: Option<IpAddr>,
    /// The container's port, if the dump tells it.
    pub(super) port: Option<u16>,
    /// The bridge of the container, if the dump tells it.
    pub(super) bridge: Option<String>,
    /// The rule behind it.
    pub(super) rule: usize,
}

/// Every published port, and where it leads in each family.
pub(super) type Published = BTreeMap<HostPort, BTreeMap<Family, Way>>;

impl HostPort {
    pub(super) fn key(&self) -> PortKey {
        PortKey {
            address: self.address,
            protocol: self.protocol,
            first: self.number,
            last: self.number,
        }
    }

    /// Whether a policy can name it: not the port 0, and not a port of a loopback address.
    pub(super) fn is_nameable(&self) -> bool {
        self.key().to_string().parse::<PortKey>().is_ok()
    }
}

/// Finds the published ports in the `nat` tables.
pub(super) fn find(dump: &Dump, remarks: &mut Vec<Diagnostic>) -> Published {
    let mut published = Published::new();
    for family in Family::BOTH {
        let Some(nat) = dump.table(family, "nat") else {
            continue;
        };
        for (name, numbers) in nat {
            if ["INPUT", "OUTPUT", "POSTROUTING"].contains(&name.as_str()) {
                continue;
            }
            for (number, rule) in dump.rules_of(numbers) {
                if let Target::Dnat(to) = &rule.target {
                    let added = add(&mut published, family, number, rule, to.as_deref());
                    if added.is_none() {
                        remarks.push(not_a_port(rule));
                    }
                }
            }
        }
    }
    published
}

fn not_a_port(rule: &Rule) -> Diagnostic {
    Diagnostic::warning("translation", "this translation is not imported")
        .at(rule.span.clone(), "left out")
        .help(
            "dfw looks for what engines write: `-p PROTOCOL --dport PORT -j DNAT --to-destination \
             ADDRESS:PORT`, perhaps with `-d ADDRESS` and `! -i BRIDGE`, and once for each port",
        )
        .help("if a container is published here, name its port in the policy yourself")
}

/// Bridges of containers that the rules of an engine name: `! -i BRIDGE` stands in their DNAT.
pub(super) fn bridges(published: &Published) -> BTreeSet<String> {
    let ways = published.values().flat_map(BTreeMap::values);
    ways.filter_map(|way| way.bridge.clone()).collect()
}

fn add(
    published: &mut Published,
    family: Family,
    number: usize,
    rule: &Rule,
    to: Option<&str>,
) -> Option<()> {
    let (container, to_ports) = destination(to?)?;
    let mut protocol = None;
    let mut address = None;
    let mut bridge = None;
    for found in &rule.matches {
        match (&found.kind, found.negated) {
            (Kind::Protocol(name), false) => protocol = Some(protocol_of(name)?),
            (Kind::Destination(set), false) => {
                let mut addresses = set.iter();
                let first = addresses.next()?;
                address = Some(first.to_string().parse().ok()?);
            }
            (Kind::Incoming(name), true) => bridge = Some(name.clone()),
            (Kind::DestinationPorts(_) | Kind::DestinationType(_), false) => {}
            // Neighbours on the link are left to docker-proxy.
            (Kind::Source(set), true) if set.difference(&link_local()).is_empty() => {}
            // A port that is translated now and then may be the host's own otherwise.
            _ => return None,
        }
    }
    let protocol = protocol?;
    let mut known = true;
    let any = HostPort {
        address,
        protocol,
        number: 1,
    };
    if !any.is_nameable() {
        return Some(());
    }
    for &(first, last) in rule.destination_ports()? {
        for host in first.max(1)..=last {
            let port = HostPort {
                number: host,
                ..any
            };
            // The first rule that fits a packet translates it.
            let ways = published.entry(port).or_default();
            let way = Way {
                container: Some(container),
                port: to_ports.of(host),
                bridge: bridge.clone(),
                rule: number,
            };
            let first = ways.entry(family).or_insert_with(|| way.clone());
            known &= (first.container, first.port) == (way.container, way.port);
        }
    }
    known.then_some(())
}

/// Addresses of the link, `fe80::/10`.
fn link_local() -> AddressSet {
    let first = 0xfe80_u128 << 112;
    AddressSet::from_entries([Entry::V6(first, first | (u128::MAX >> 10))])
}

/// The protocol of a name or a number.
pub(super) fn protocol_of(name: &str) -> Option<Protocol> {
    match name {
        "tcp" | "6" => Some(Protocol::Tcp),
        "udp" | "17" => Some(Protocol::Udp),
        "sctp" | "132" => Some(Protocol::Sctp),
        _ => None,
    }
}

/// The ports behind the address of a DNAT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ToPorts {
    /// None: the port stays as it is.
    Same,
    One(u16),
    /// A range, and the host's port that becomes the first of it.
    Range(PortRange, Option<u16>),
}

impl ToPorts {
    /// What a port of the host becomes; `None` if that is the kernel's choice.
    fn of(self, host: u16) -> Option<u16> {
        match self {
            Self::Same => Some(host),
            Self::One(port) => Some(port),
            Self::Range((first, last), Some(base)) => {
                let port = first.checked_add(host.checked_sub(base)?)?;
                (port <= last).then_some(port)
            }
            // The kernel keeps a port that is in the range already.
            Self::Range((first, last), None) => (first..=last).contains(&host).then_some(host),
        }
    }
}

/// `ADDRESS`, `ADDRESS:PORT`, `ADDRESS:PORT-PORT` or `ADDRESS:PORT-PORT/BASE`, with brackets around
/// an IPv6 address that has a port.
fn destination(text: &str) -> Option<(IpAddr, ToPorts)> {
    if let Ok(address) = text.parse() {
        return Some((address, ToPorts::Same));
    }
    let (address, ports) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once("]:")?,
        None => text.split_once(':')?,
    };
    let address = address.parse().ok()?;
    let (ports, base) = match ports.split_once('/') {
        Some((ports, base)) => (ports, Some(base.parse().ok()?)),
        None => (ports, None),
    };
    let to = match ports.split_once('-') {
        None => ToPorts::One(ports.parse().ok()?),
        Some((first, last)) => ToPorts::Range((first.parse().ok()?, last.parse().ok()?), base),
    };
    Some((address, to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Sources;

    fn published(text: &str) -> (Vec<String>, usize) {
        let mut sources = Sources::in_memory::<&str, &str>([]);
        let file = sources.take("dump", text.into());
        let mut remarks = Vec::new();
        let found = find(&Dump::read(&sources, &[file]), &mut remarks);
        let told = found.iter().flat_map(|(port, ways)| {
            ways.values().map(|way| {
                format!(
                    "{} -> {} {} {}",
                    port.key(),
                    way.container.map_or_else(String::new, |c| c.to_string()),
                    way.port.map_or_else(|| "?".to_owned(), |p| p.to_string()),
                    way.bridge.as_deref().unwrap_or("-"),
                )
            })
        });
        (told.collect(), remarks.len())
    }

    #[test]
    fn docker_podman_and_swarm_publish() {
        let (told, remarks) = published(
            "*nat\n\
             -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\n\
             -A DOCKER -i docker0 -j RETURN\n\
             -A DOCKER ! -i docker0 -p tcp -m tcp --dport 8083 -j DNAT --to-destination 172.17.0.2:80\n\
             -A DOCKER -d 203.0.113.10/32 ! -i docker0 -p udp -m udp --dport 53 -j DNAT --to-destination 172.17.0.3:53\n\
             -A DOCKER -d 127.0.0.1/32 ! -i docker0 -p tcp -m tcp --dport 8081 -j DNAT --to-destination 172.17.0.2:80\n\
             -A DOCKER-INGRESS -p tcp -m tcp --dport 90 -j DNAT --to-destination 172.18.0.2:90\n\
             -A NETAVARK-DN-1 -p tcp -m tcp --dport 9000:9001 -j DNAT --to-destination 10.88.0.2:80-81/9000\n\
             -A PREROUTING -i eth0 -p tcp --dport 22 -j DNAT --to-destination 10.0.0.1\n\
             -A PREROUTING -p tcp --dport 90 -j DNAT --to-destination 10.0.0.1\n\
             -A OUTPUT -p tcp --dport 99 -j DNAT --to-destination 10.0.0.1\n\
             -A PREROUTING -p tcp -j DNAT --to-destination 10.0.0.1\n\
             COMMIT\n\
             # Generated by ip6tables-save\n*nat\n\
             -A DOCKER ! -i br-web -p tcp -m tcp --dport 8084 ! -s fe80::/10 -j DNAT --to-destination [fd00:17::2]:80\n",
        );
        assert_eq!(
            told,
            [
                "90/tcp -> 172.18.0.2 90 -",
                "8083/tcp -> 172.17.0.2 80 docker0",
                "8084/tcp -> fd00:17::2 80 br-web",
                "9000/tcp -> 10.88.0.2 80 -",
                "9001/tcp -> 10.88.0.2 81 -",
                "203.0.113.10:53/udp -> 172.17.0.3 53 docker0",
            ]
        );
        assert_eq!(remarks, 3);
    }

    #[test]
    fn a_range_without_a_base_is_the_kernels_choice() {
        let (_, to) = destination("10.0.0.1:80-90").unwrap();
        assert_eq!((to.of(85), to.of(8080)), (Some(85), None));
        let (_, to) = destination("[fd00::1]:80-90/8080").unwrap();
        assert_eq!((to.of(8085), to.of(8091), to.of(1)), (Some(85), None, None));
        assert!(destination("10.0.0.1-10.0.0.9:80").is_none());
        assert_eq!(destination("fd00::1").unwrap().1, ToPorts::Same);
    }
}
