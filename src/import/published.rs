//! Published ports, as the DNAT rules of an engine have them.

use crate::net::{AddressSet, Family, HostPorts, Protocol};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::dump::Dump;
use super::interface::is_containers;
use super::path::Path;
use super::rule::{Kind, PortRange, Rule, Target, WIDE, link_local, protocol_of};

/// The destination of a published port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Way {
    /// The DNAT rule.
    pub(super) rule: usize,
    /// The container's address, if the dump has it.
    pub(super) container: Option<IpAddr>,
    /// The container's port, if the dump has it.
    pub(super) port: Option<u16>,
    /// The bridge of the container, if the dump has it.
    pub(super) bridge: Option<String>,
}

/// The published ports in the dumps.
#[derive(Debug, Default)]
pub(super) struct Published {
    /// Every published port with its families.
    pub(super) ports: BTreeMap<HostPorts, BTreeSet<Family>>,
    /// Ports that only a rule matches, with that rule: their containers may be stopped.
    pub(super) named: BTreeMap<HostPorts, (Family, usize)>,
    /// DNAT rules that do not publish a port, by number.
    pub(super) left_out: Vec<(Family, usize)>,
    /// The addresses of containers.
    pub(super) containers: BTreeSet<IpAddr>,
    /// Whether `nat` has DNAT rules that are not reachable from PREROUTING.
    pub(super) uncalled: bool,
    /// The names of the engines' bridges.
    pub(super) bridges: BTreeSet<String>,
    networks: Vec<(AddressSet, String)>,
}

/// Returns whether a policy can have the port as a key: not port 0, and not at a loopback address.
pub(super) fn is_nameable(port: &HostPorts) -> bool {
    port.to_string().parse::<HostPorts>().is_ok()
}

impl Published {
    /// Finds the published ports in the `nat` tables, and ports that only rules match.
    pub(super) fn find(dump: &Dump, paths: &BTreeMap<Family, Path<'_>>) -> Self {
        let mut published = Self {
            networks: networks(dump),
            ..Self::default()
        };
        published.bridges = published.find_bridges(dump);
        for (&family, path) in paths {
            for (number, rule) in dump.rules_of(&path.nat) {
                if !matches!(rule.target, Target::Dnat(_)) {
                    continue;
                }
                if let Some((container, _)) = target(rule) {
                    published.containers.insert(container);
                }
                match ports(rule, &published.bridges) {
                    Some(ports) => {
                        for port in ports {
                            published.ports.entry(port).or_default().insert(family);
                        }
                    }
                    None => published.left_out.push((family, number)),
                }
            }
        }
        let nat = |family: &Family| dump.table(*family, "nat").into_iter().flatten();
        let mut chains = Family::ALL.iter().flat_map(nat);
        published.uncalled = chains.any(|(name, chain)| {
            name != "OUTPUT"
                && dump.rules_of(&chain.rules).any(|(number, rule)| {
                    let called = paths.values().any(|p| p.nat.binary_search(&number).is_ok());
                    matches!(rule.target, Target::Dnat(_)) && !called
                })
        });
        for (&family, path) in paths {
            for (number, rule) in dump.rules_of(&path.onward) {
                published.name(family, number, rule);
            }
        }
        published
    }

    /// Returns the interfaces that DNAT rules exclude, if they look like bridges or an engine wrote other rules
    /// about them: a user may write `! -i eth0`.
    fn find_bridges(&self, dump: &Dump) -> BTreeSet<String> {
        let names = dump.rules.iter().filter_map(translates_outside);
        let known = |name: &&str| {
            is_containers(name) || self.networks.iter().any(|(_, bridge)| bridge == name)
        };
        names.filter(known).map(str::to_owned).collect()
    }

    /// Returns the bridge whose network contains an address.
    pub(super) fn bridge_of(&self, address: IpAddr) -> Option<&str> {
        let mut networks = self.networks.iter();
        let found = networks.find(|(set, _)| set.contains(address));
        found.map(|(_, bridge)| bridge.as_str())
    }

    /// Returns the destination of a DNAT rule for a port of the host.
    pub(super) fn way(&self, number: usize, rule: &Rule, host: u16) -> Way {
        let found = target(rule);
        let container = found.map(|(container, _)| container);
        let named = rule.matches.iter().find_map(|found| match &found.kind {
            Kind::Incoming(name) if found.negated && self.bridges.contains(name) => {
                Some(name.clone())
            }
            _ => None,
        });
        let network = || self.bridge_of(container?).map(str::to_owned);
        Way {
            rule: number,
            container,
            port: found.and_then(|(_, ports)| ports.of(host)),
            bridge: named.or_else(network),
        }
    }

    /// Adds the ports that a rule matches by the original destination although no rule publishes them.
    fn name(&mut self, family: Family, number: usize, rule: &Rule) {
        let protocol = rule.matches.iter().find_map(|found| match &found.kind {
            Kind::Protocol(name) => Some(protocol_of(name)),
            _ => None,
        });
        let Some(protocol) = protocol.unwrap_or(Some(Protocol::Tcp)) else {
            return;
        };
        for found in &rule.matches {
            let Kind::OriginalPorts(ranges) = &found.kind else {
                continue;
            };
            let narrow = ranges.iter().filter(|(first, last)| last - first < WIDE);
            for port in narrow.flat_map(|(first, last)| *first.max(&1)..=*last) {
                let port = HostPorts::one(None, protocol, port);
                let mut known = self.ports.keys();
                if !known.any(|known| (known.protocol, known.first) == (protocol, port.first)) {
                    self.named.entry(port).or_insert((family, number));
                }
            }
        }
    }
}

/// Returns the networks of bridges, from the engine's masquerade rules and accepts of published ports.
fn networks(dump: &Dump) -> Vec<(AddressSet, String)> {
    let mut networks = Vec::new();
    for ((_, table), chains) in &dump.tables {
        for (_, rule) in chains
            .values()
            .flat_map(|chain| dump.rules_of(&chain.rules))
        {
            let mut sets = rule.matches.iter().filter_map(|found| match &found.kind {
                Kind::Source(set) | Kind::Destination(set) if !found.negated => Some(set),
                _ => None,
            });
            let masquerades = *table == "nat" && rule.called() == Some("MASQUERADE");
            let bridge = match rule.as_engine_accept() {
                Some(bridge) => Some(bridge),
                None if masquerades => rule.matches.iter().find_map(|found| match &found.kind {
                    Kind::Outgoing(name) if found.negated => Some(name.as_str()),
                    _ => None,
                }),
                None => None,
            };
            if let (Some(bridge), Some(set)) = (bridge, sets.next()) {
                networks.push((set.clone(), bridge.to_owned()));
            }
        }
    }
    networks
}

/// Returns the bridge that Docker's DNAT rule excludes.
fn translates_outside(rule: &Rule) -> Option<&str> {
    let mut found = rule.matches.iter().filter_map(|found| match &found.kind {
        Kind::Incoming(name) if found.negated => Some(name.as_str()),
        _ => None,
    });
    found
        .next()
        .filter(|_| matches!(rule.target, Target::Dnat(_)))
}

/// Returns the host ports of a DNAT rule in the form that engines write. A rule with further conditions is not:
/// otherwise the port may be a service of the host, which a policy would close.
fn ports(
    rule: &Rule,
    bridges: &BTreeSet<String>,
) -> Option<impl Iterator<Item = HostPorts> + use<>> {
    let mut protocol = None;
    let mut address = None;
    for found in &rule.matches {
        match (&found.kind, found.negated) {
            (Kind::Protocol(name), false) => protocol = Some(protocol_of(name)?),
            (Kind::Destination(set), false) => {
                let mut addresses = set.iter();
                let first = addresses.next()?;
                address = Some(first.to_string().parse().ok()?);
            }
            (Kind::Incoming(name), true) if bridges.contains(name) => {}
            (Kind::DestinationPorts(_) | Kind::DestinationType(_), false) => {}
            (Kind::Source(set), true) if set.difference(&link_local()).is_empty() => {}
            _ => return None,
        }
    }
    let protocol = protocol?;
    let ranges = rule.destination_ports()?.to_vec();
    let numbers = ranges.into_iter().flat_map(|(first, last)| first..=last);
    let port = move |number| HostPorts::one(address, protocol, number);
    Some(numbers.map(port).filter(is_nameable))
}

/// Returns the destination of a DNAT rule.
fn target(rule: &Rule) -> Option<(IpAddr, ToPorts)> {
    match &rule.target {
        Target::Dnat(to) => destination(to.as_deref()?),
        _ => None,
    }
}

/// The ports in `--to-destination`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ToPorts {
    /// The port is unchanged.
    Same,
    One(u16),
    /// A range, and the host port that maps to its first port.
    Range(PortRange, Option<u16>),
}

impl ToPorts {
    /// Returns the port that a host port maps to; `None` if the kernel chooses it.
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

/// Parses `ADDRESS`, `ADDRESS:PORT`, `ADDRESS:PORT-PORT` or `ADDRESS:PORT-PORT/BASE`, with brackets around an
/// IPv6 address that has a port.
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
    use crate::text::SourceMap;

    fn published(text: &str) -> (Vec<String>, usize) {
        let mut sources = SourceMap::in_memory::<&str, &str>([]);
        let file = sources.take("dump", text.into());
        let dump = Dump::read(&sources, &[file]).unwrap();
        let paths = Family::ALL.map(|family| (family, Path::of(&dump, family)));
        let found = Published::find(&dump, &paths.into());
        let mut rows = Vec::new();
        for (port, families) in &found.ports {
            for rule in &dump.rules {
                let here =
                    ports(rule, &found.bridges).is_some_and(|mut ports| ports.any(|p| p == *port));
                let v6 = families.contains(&Family::V6);
                let way = found.way(0, rule, port.first);
                if here && way.container.is_some_and(|c| c.is_ipv6() == v6) {
                    rows.push(format!(
                        "{} -> {} {} {}",
                        port,
                        way.container.unwrap(),
                        way.port.map_or_else(|| "?".to_owned(), |p| p.to_string()),
                        way.bridge.as_deref().unwrap_or("-"),
                    ));
                    break;
                }
            }
        }
        (rows, found.left_out.len())
    }

    #[test]
    fn docker_podman_and_swarm_publish() {
        let (rows, remarks) = published(
            "*nat\n\
             -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\n\
             -A PREROUTING -j DOCKER-INGRESS\n-A PREROUTING -j NETAVARK-DN-1\n\
             -A POSTROUTING -s 172.18.0.0/16 ! -o docker_gwbridge -j MASQUERADE\n\
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
             # Generated by ip6tables-save\n*nat\n-A PREROUTING -j DOCKER\n\
             -A DOCKER ! -i br-0123456789ab -p tcp -m tcp --dport 8084 ! -s fe80::/10 -j DNAT --to-destination [fd00:17::2]:80\nCOMMIT\n",
        );
        assert_eq!(
            rows,
            [
                "90/tcp -> 172.18.0.2 90 docker_gwbridge",
                "8083/tcp -> 172.17.0.2 80 docker0",
                "8084/tcp -> fd00:17::2 80 br-0123456789ab",
                "9000/tcp -> 10.88.0.2 80 -",
                "9001/tcp -> 10.88.0.2 81 -",
                "203.0.113.10:53/udp -> 172.17.0.3 53 docker0",
            ]
        );
        assert_eq!(remarks, 2);
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
