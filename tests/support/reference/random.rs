//! Random policies, hosts and packets.

use std::collections::BTreeSet;
use std::net::IpAddr;

use dfw::analysis::eval::{Arrival, Connection, Flow, Outgoing, Packet};
use dfw::host::HostView;
use dfw::host::engine::{Container, Endpoint, Engine, Kind, Published};
use dfw::host::local_ports::LocalPorts;
use dfw::net::Protocol;
use dfw::ruleset::{Direction, Hook, L4Protocol};
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};

use super::text::address;
use super::{Grant, Meant, Port, Range, Who};

/// The ports that the kernel chooses from, where it does from those that keys name.
const LOCAL: (u16, u16) = (10, 20);

/// How many packets are sent through each policy.
const PACKETS: usize = 100;

const PROTOCOLS: [L4Protocol; 3] = [L4Protocol::Tcp, L4Protocol::Udp, L4Protocol::Sctp];
pub(crate) const INTERFACES: [&str; 11] = [
    "eth0",
    "eth1",
    "wg0",
    "lo",
    "docker0",
    "docker1",
    "br-0123456789ab",
    "br-lan",
    "podman1",
    "virbr0",
    "virbr1",
];
const PATTERNS: [&str; 8] = [
    "docker0", "docker1", "docker*", "br-*", "br-lan", "podman*", "virbr*", "virbr0",
];
/// The beginnings of the ranges of addresses in which sources are: the ends of each family too.
const V4: [u128; 3] = [0xcb00_7100, 0xffff_ff00, 0];
const V6: [u128; 3] = [0x2001_0db8 << 96, u128::MAX - 255, 0x1_0000_0000_0000_0000];

pub(crate) fn range() -> impl Strategy<Value = Range> {
    let size = prop_oneof![Just(0), select(vec![1, 3, 7, 15]), 0..40_u128];
    (any::<bool>(), 0..3_usize, 0..256_u128, size, any::<bool>()).prop_map(
        |(v4, base, at, size, aligned)| {
            let at = if aligned { at & !size } else { at };
            let base = if v4 { V4[base] } else { V6[base] };
            Range {
                v4,
                first: base + at,
                last: base + (at + size).min(255),
            }
        },
    )
}

/// Returns a list, sometimes one that is long enough to be reported in another way.
fn list() -> impl Strategy<Value = Vec<Range>> {
    let filler = |v4: bool, lone: bool| {
        let base = if v4 { 0x0a00_0000 } else { 0xfd << 120 };
        (0..65_u128).map(move |n| Range {
            v4,
            first: base + n * 8,
            last: base + n * 8 + if lone { 0 } else { n % 4 },
        })
    };
    let filler = prop::option::weighted(0.25, (any::<bool>(), any::<bool>()))
        .prop_map(move |kind| kind.map(|(v4, lone)| filler(v4, lone)));
    (prop::collection::vec(range(), 0..5), filler).prop_map(|(mut all, filler)| {
        all.extend(filler.into_iter().flatten());
        all
    })
}

fn who(lists: usize) -> impl Strategy<Value = Who> {
    let names = subsequence((0..lists).collect::<Vec<_>>(), 0..=lists);
    (
        prop::bool::weighted(0.15),
        prop::bool::weighted(0.2),
        names,
        prop::collection::vec(range(), 0..4),
    )
        .prop_map(|(any, containers, named, inline)| Who {
            any,
            containers,
            named,
            inline,
        })
}

/// Addresses of the host.
fn host_address() -> impl Strategy<Value = IpAddr> {
    select(vec!["198.51.100.1", "198.51.100.2", "2001:db8:1::1"])
        .prop_map(|text| text.parse().unwrap())
}

/// A limit that no test reaches.
fn limit() -> impl Strategy<Value = Option<u32>> {
    prop::option::weighted(0.2, 50_000..=65_535_u32)
}

fn port(lists: usize) -> impl Strategy<Value = Port> {
    let key = (
        prop::option::weighted(0.3, host_address()),
        select(PROTOCOLS.to_vec()),
        prop_oneof![1..30_u16, Just(u16::MAX - 1)],
        prop_oneof![3 => Just(0_u16), 2 => 1..12_u16],
    );
    let except = prop_oneof![Just(Who::default()), who(lists)];
    let interfaces = prop_oneof![
        2 => Just(vec![]),
        1 => subsequence(INTERFACES[..5].to_vec(), 1..=3),
    ];
    (
        key,
        who(lists),
        except,
        interfaces,
        any::<bool>(),
        any::<bool>(),
        (limit(), limit()),
    )
        .prop_map(
            |((address, protocol, first, more), allow, except, interfaces, log, reject, limits)| {
                Port {
                    address,
                    protocol,
                    first,
                    last: first.saturating_add(more),
                    allow,
                    except: Who {
                        any: false,
                        ..except
                    },
                    interfaces,
                    log,
                    reject,
                    limits,
                }
            },
        )
}

/// A grant to one of some ports, and how much before and behind it.
type Aimed = (Index, Grant);

/// Returns a grant, whose ports are as many before and behind those of a key.
fn grant() -> impl Strategy<Value = Aimed> {
    let everybody = |v4| Range {
        v4,
        first: 0,
        last: if v4 { u32::MAX.into() } else { u128::MAX },
    };
    let from = prop_oneof![2 => range(), 1 => any::<bool>().prop_map(everybody)];
    let address = prop::option::weighted(0.2, host_address());
    let beside = || prop_oneof![Just(6), 4..9_u16, 0..13_u16];
    let grant = (address, beside(), beside(), from, 1..6_u64);
    let grant = grant.prop_map(|(address, first, last, from, end)| Grant {
        address,
        protocol: L4Protocol::Tcp,
        first,
        last,
        from,
        end,
    });
    (any::<Index>(), grant)
}

/// Returns a grant around the ports of a key: all of them, or a part.
fn aimed((at, grant): Aimed, ports: &[Port]) -> Option<Grant> {
    let port = (!ports.is_empty()).then(|| at.get(ports))?;
    let first = port
        .first
        .saturating_add(grant.first)
        .saturating_sub(6)
        .max(1);
    Some(Grant {
        address: port.address.or(grant.address),
        protocol: port.protocol,
        first,
        last: port
            .last
            .saturating_add(grant.last)
            .saturating_sub(6)
            .max(first),
        ..grant
    })
}

/// Returns, with some probability, so many ports with nothing but sources that they share sets, sometimes exactly
/// as many as fit.
fn crowd(share: f64) -> impl Strategy<Value = Vec<Port>> {
    let lists = select(vec![64, 65, 66, 123, 124, 127, 128])
        .prop_flat_map(|count| prop::collection::vec(prop::collection::vec(range(), 0..3), count));
    prop::option::weighted(share, (select(PROTOCOLS.to_vec()), lists)).prop_map(|crowd| {
        let (protocol, lists) = crowd.unwrap_or((L4Protocol::Tcp, Vec::new()));
        let ports = (100..).zip(lists);
        ports
            .map(|(number, inline)| plain(protocol, number, inline))
            .collect()
    })
}

/// Returns a port with sources and no other key.
pub(crate) fn plain(protocol: L4Protocol, number: u16, inline: Vec<Range>) -> Port {
    Port {
        address: None,
        protocol,
        first: number,
        last: number,
        allow: Who {
            inline,
            ..Who::default()
        },
        except: Who::default(),
        interfaces: Vec::new(),
        log: false,
        reject: false,
        limits: (None, None),
    }
}

pub(crate) fn meant() -> impl Strategy<Value = Meant> {
    crowded(0.25)
}

/// Some share of them with so many ports that they share sets.
pub(crate) fn crowded(share: f64) -> impl Strategy<Value = Meant> {
    let patterns = || subsequence(PATTERNS.to_vec(), 0..=4);
    (
        (any::<[bool; 4]>(), 0..3_u64),
        prop::collection::vec(list(), 3),
        (
            prop::collection::vec(port(3), 0..10),
            crowd(share),
            prop::collection::vec(grant(), 0..7),
        ),
        patterns(),
        patterns(),
    )
        .prop_map(
            |(
                ([deny, mark, reverse_path, late], moment),
                sources,
                (ports, crowd, grants),
                container_interfaces,
                foreign,
            )| {
                // Keys that are neither nested nor disjoint are no policy.
                let mut kept: Vec<Port> = Vec::new();
                for port in ports {
                    let clashes = |other: &Port| {
                        let (a, b) = ((port.first, port.last), (other.first, other.last));
                        (port.address, port.protocol) == (other.address, other.protocol)
                            && (a == b
                                || (a.0 < b.0 && b.0 <= a.1 && a.1 < b.1)
                                || (b.0 < a.0 && a.0 <= b.1 && b.1 < a.1))
                    };
                    if !kept.iter().any(clashes) {
                        kept.push(port);
                    }
                }
                let grants = grants.into_iter().filter_map(|grant| aimed(grant, &kept));
                let grants = grants.collect();
                kept.extend(crowd);
                Meant {
                    deny,
                    // Both, and mostly as it is unless it is said otherwise.
                    early: !late,
                    mark,
                    reverse_path,
                    sources,
                    ports: kept,
                    grants,
                    moment,
                    container_interfaces,
                    foreign_interfaces: foreign,
                }
            },
        )
}

pub(crate) fn host() -> impl Strategy<Value = HostView> {
    let bridges = ["docker0", "br-0123456789ab", "podman1", "br-lan", "virbr1"];
    // Unknown, a container's, somebody else's, or shared.
    // Whether the kernel chooses from ports that keys name.
    let overlaps = any::<bool>();
    let known = (
        prop::collection::vec(0..4, bridges.len()),
        overlaps,
        engine(),
    );
    known.prop_map(move |(kinds, overlaps, engine)| {
        let of = |kind: i32| -> BTreeSet<String> {
            let names = bridges.iter().zip(&kinds).filter(|(_, k)| **k == kind);
            names.map(|(name, _)| (*name).to_owned()).collect()
        };
        HostView {
            container_bridges: of(1),
            foreign_bridges: of(2),
            shared_bridges: of(3),
            local_ports: LocalPorts::new(overlaps.then_some(LOCAL), Vec::new()),
            engines: vec![engine],
            ..HostView::default()
        }
    })
}

/// Ports of containers: those that clients of the kernel's judge use, and the ephemeral ones among them.
fn container_port() -> impl Strategy<Value = u16> {
    prop_oneof![1025..1125_u16, 32769..32869_u16, 1..30_u16, Just(8080)]
}

/// What a container publishes: several ports at once, as few people do and many random packets need.
fn published() -> impl Strategy<Value = Vec<Published>> {
    let address = select(vec![
        "0.0.0.0",
        "::",
        "198.51.100.1",
        "2001:db8:1::1",
        "127.0.0.1",
    ]);
    let protocol = prop_oneof![6 => Just(Protocol::Udp), 1 => Just(Protocol::Tcp)];
    let many = prop_oneof![3 => 1..12_u16, 1 => 12..40_u16];
    (
        address,
        protocol,
        1..30_u16,
        container_port(),
        many,
        any::<bool>(),
    )
        .prop_map(|(address, protocol, host, port, many, same)| {
            let one = |n: u16| Published {
                protocol,
                address: address.parse().unwrap(),
                first: host,
                last: host,
                container_port: port + n,
            };
            let spread = |n: u16| Published {
                first: host + n % 4,
                last: host + n % 4,
                ..one(n)
            };
            (0..many)
                .map(|n| if same { one(n) } else { spread(n) })
                .collect()
        })
}

/// An engine of which everything that packets are sent to may be a container.
fn engine() -> impl Strategy<Value = Engine> {
    let addresses = [
        "192.0.2.1",
        "2001:db8:ffff::1",
        "198.51.100.9",
        "198.51.100.1",
        "2001:db8:1::9",
        "10.201.0.9",
        "fd01::9",
    ];
    let container = (
        subsequence(addresses.to_vec(), 0..=4),
        prop::collection::vec(published(), 0..4),
        prop::bool::weighted(0.9),
    );
    prop::collection::vec(container, 0..3).prop_map(|containers| Engine {
        kind: Kind::Docker,
        version: "28.5.2".to_owned(),
        address: "/run/docker.sock".to_owned(),
        firewall: None,
        process: None,
        networks: Vec::new(),
        services: Vec::new(),
        containers: containers
            .into_iter()
            .zip(0..)
            .map(|((addresses, published, running), number)| Container {
                id: format!("{number}"),
                running,
                published: published.concat(),
                endpoints: vec![Endpoint {
                    network: "bridge".to_owned(),
                    addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
                }],
                ..Container::default()
            })
            .collect(),
    })
}

/// What few packets would hit by chance.
#[derive(Debug, Clone, Copy)]
enum Aim {
    /// Sent from a published UDP port, by the container.
    Speaks,
    /// Sent back to it, on a connection that the container opened.
    IsAnswered,
    /// To a port that is published on a loopback address.
    Loopback,
}

/// Random numbers from which a packet is made for a given policy.
#[derive(Debug, Clone)]
pub(crate) struct Seed {
    input: bool,
    tracked: bool,
    names: (&'static str, &'static str),
    protocol: L4Protocol,
    facts: (bool, bool, bool, bool, bool, bool),
    source_port: u16,
    /// What it is aimed at, by which place in a list.
    aim: Option<(Aim, Index)>,
    /// The translated tuple and the packet's own.
    flows: [(Index, bool, Index, bool, Option<IpAddr>); 2],
}

fn seed() -> impl Strategy<Value = Seed> {
    let to = prop_oneof![
        6 => host_address().prop_map(Some),
        1 => select(vec!["127.0.0.1", "127.255.255.255", "126.255.255.255", "128.0.0.0", "::1"])
            .prop_map(|text| text.parse().ok()),
        1 => Just(None),
    ];
    let flow = (
        any::<Index>(),
        any::<bool>(),
        any::<Index>(),
        any::<bool>(),
        to,
    );
    let protocol =
        prop_oneof![6 => select(PROTOCOLS.to_vec()), 1 => select(L4Protocol::ALL.to_vec())];
    (
        (prop::bool::weighted(0.35), prop::bool::weighted(0.95)),
        (select(INTERFACES.to_vec()), select(INTERFACES.to_vec())),
        protocol,
        (
            any::<bool>(),
            prop::bool::weighted(0.7),
            prop::bool::weighted(0.1),
            any::<bool>(),
            prop::bool::weighted(0.1),
            prop::bool::weighted(0.1),
        ),
        (
            container_port(),
            prop::option::weighted(
                0.25,
                (
                    select(vec![Aim::Speaks, Aim::IsAnswered, Aim::Loopback]),
                    any::<Index>(),
                ),
            ),
        ),
        [flow.clone(), flow],
    )
        .prop_map(
            |((input, tracked), names, protocol, facts, (source_port, aim), flows)| Seed {
                input,
                tracked,
                names,
                protocol,
                facts,
                source_port,
                aim,
                flows,
            },
        )
}

/// Where something could change: the ends of all ranges of a policy, and one beyond.
pub(crate) struct Edges {
    addresses: Vec<IpAddr>,
    ports: Vec<u16>,
    /// UDP ports of containers that are published.
    servers: Vec<(IpAddr, u16)>,
    /// Ports that are published on a loopback address.
    loopback: Vec<(L4Protocol, u16)>,
}

impl Edges {
    pub(crate) fn of(policy: &Meant, host: &HostView) -> Self {
        let mut addresses: Vec<IpAddr> = ["192.0.2.1", "2001:db8:ffff::1"]
            .map(|text| text.parse().unwrap())
            .into();
        let inline = policy
            .ports
            .iter()
            .flat_map(|p| p.allow.inline.iter().chain(&p.except.inline));
        let granted = policy.grants.iter().map(|grant| &grant.from);
        for range in policy.sources.iter().flatten().chain(inline).chain(granted) {
            let largest = if range.v4 { u32::MAX.into() } else { u128::MAX };
            let (before, after) = (range.first.saturating_sub(1), range.last.saturating_add(1));
            for number in [before, range.first, range.last, after] {
                addresses.push(address(range.v4, number.min(largest)));
            }
        }
        let mut ports = vec![1, 22, 80];
        for port in &policy.ports {
            ports.extend([
                port.first - 1,
                port.first,
                port.last,
                port.last.saturating_add(1),
            ]);
        }
        // Grants are few: as many of them as of all the rest.
        let (mut granted, mut granted_ports) = (Vec::new(), Vec::new());
        for grant in &policy.grants {
            let behind = grant.last.saturating_add(1);
            granted_ports.extend([grant.first - 1, grant.first, grant.last, behind]);
            let ends = [grant.from.first, grant.from.last];
            granted.extend(ends.map(|number| address(grant.from.v4, number)));
        }
        let (some, some_ports) = (addresses.len(), ports.len());
        addresses.extend(granted.into_iter().cycle().take(some));
        ports.extend(granted_ports.into_iter().cycle().take(some_ports));
        let containers = || host.engines.iter().flat_map(|engine| &engine.containers);
        let servers = containers().flat_map(|container| {
            let addresses = container.endpoints.iter().flat_map(|e| &e.addresses);
            let addresses: Vec<_> = addresses.copied().collect();
            let udp = container.published.iter();
            let udp = udp.filter(|published| published.protocol == Protocol::Udp);
            udp.flat_map(move |published| {
                let port = published.container_port;
                addresses.clone().into_iter().map(move |a| (a, port))
            })
        });
        let loopback = containers().flat_map(|container| &container.published);
        let loopback = loopback.filter(|published| published.address.is_loopback());
        Self {
            addresses,
            ports,
            servers: servers.collect(),
            loopback: loopback
                .map(|published| (published.protocol.into(), published.first))
                .collect(),
        }
    }

    /// The sources at which something may change.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().copied()
    }

    /// The ports at which something may change.
    pub(crate) fn ports(&self) -> impl Iterator<Item = u16> {
        self.ports.iter().copied()
    }

    fn flow(&self, seed: &(Index, bool, Index, bool, Option<IpAddr>), icmp: bool) -> Flow {
        let source = *seed.0.get(&self.addresses);
        let v4 = source.is_ipv4();
        let unnamed = if v4 { "198.51.100.9" } else { "2001:db8:1::9" };
        let to = seed.4.filter(|to| to.is_ipv4() == v4 && seed.3);
        Flow {
            source,
            destination: to.unwrap_or_else(|| unnamed.parse().unwrap()),
            port: (!icmp).then(|| *seed.2.get(&self.ports)),
        }
    }

    pub(crate) fn packet(&self, seed: &Seed) -> Packet {
        let (reply, dnat, related, bridge, returns, resumes) = seed.facts;
        let icmp = [L4Protocol::Icmp, L4Protocol::Icmp6].contains(&seed.protocol);
        let own = self.flow(&seed.flows[1], icmp);
        let original = self.flow(&seed.flows[0], icmp);
        let is_tracked = seed.tracked && (reply || !seed.input);
        let asked = if is_tracked { original } else { own };
        // Sometimes what others redirect, and sometimes to an address that only passes.
        let arrival = Arrival {
            destination: asked.destination,
            port: match seed.source_port % 8 {
                1 => asked.port.map(|_| *seed.flows[1].2.get(&self.ports)),
                _ => asked.port,
            },
            local: !seed.source_port.is_multiple_of(5),
        };
        let is_first = !reply && !related && !resumes && seed.source_port % 8 != 2;
        let packet = Packet {
            hook: if seed.input {
                Hook::Input
            } else {
                Hook::Forward
            },
            incoming: seed.names.0.to_owned(),
            outgoing: (!seed.input).then(|| Outgoing {
                name: seed.names.1.to_owned(),
                bridge,
            }),
            protocol: seed.protocol,
            flow: own,
            arrival: is_first.then_some(arrival),
            source_port: (!icmp).then_some(seed.source_port),
            // In input nothing asks for the connection but rules about replies to this host.
            connection: is_tracked.then_some(Connection {
                direction: if reply {
                    Direction::Reply
                } else {
                    Direction::Original
                },
                dnat,
                related,
                original,
            }),
            returns,
            // Of a kind that nothing else depends on.
            strays: seed.source_port.is_multiple_of(3),
            resumes,
            opened: dnat,
        };
        match (seed.aim, packet.hook) {
            (Some((Aim::Loopback, index)), Hook::Input) => self.at_loopback(seed, index, packet),
            (Some((aim @ (Aim::Speaks | Aim::IsAnswered), index)), Hook::Forward) => {
                self.at_server(seed, aim, index, packet)
            }
            _ => packet,
        }
    }

    fn at_loopback(&self, seed: &Seed, index: Index, packet: Packet) -> Packet {
        let v4 = self.addresses.iter().filter(|address| address.is_ipv4());
        let v4: Vec<_> = v4.copied().collect();
        if self.loopback.is_empty() {
            return packet;
        }
        let (protocol, port) = *index.get(&self.loopback);
        let flow = Flow {
            source: *seed.flows[0].0.get(&v4),
            destination: IpAddr::from([127, 0, 0, 1]),
            port: Some(port),
        };
        Packet {
            protocol,
            flow,
            arrival: packet.arrival.map(|arrival| Arrival {
                destination: flow.destination,
                port: flow.port,
                ..arrival
            }),
            source_port: Some(seed.source_port),
            connection: packet.connection.map(|connection| Connection {
                original: flow,
                ..connection
            }),
            ..packet
        }
    }

    fn at_server(&self, seed: &Seed, aim: Aim, index: Index, packet: Packet) -> Packet {
        if self.servers.is_empty() {
            return packet;
        }
        let (server, port) = *index.get(&self.servers);
        let clients = self.addresses.iter();
        let clients = clients.filter(|address| address.is_ipv4() == server.is_ipv4());
        let clients: Vec<_> = clients.copied().collect();
        let client = *seed.flows[0].0.get(&clients);
        let client_port = *seed.flows[0].2.get(&self.ports);
        let to = |source, destination, port| Flow {
            source,
            destination,
            port: Some(port),
        };
        let original = to(server, client, client_port);
        let (direction, flow, source_port) = match aim {
            Aim::IsAnswered => (Direction::Reply, to(client, server, port), client_port),
            _ => (Direction::Original, original, port),
        };
        Packet {
            protocol: L4Protocol::Udp,
            flow,
            arrival: None,
            source_port: Some(source_port),
            connection: seed.tracked.then_some(Connection {
                direction,
                dnat: false,
                related: false,
                original,
            }),
            ..packet
        }
    }
}

pub(crate) fn packets() -> impl Strategy<Value = Vec<Seed>> {
    prop::collection::vec(seed(), PACKETS)
}

/// A policy and what somebody makes of it: one thing is changed, or everything.
pub(crate) fn pair() -> impl Strategy<Value = (Meant, Meant)> {
    let change = (0..11_u8, any::<Index>(), port(3), range());
    (crowded(0.02), crowded(0.001), change).prop_map(|(old, other, (kind, at, port, range))| {
        let mut new = old.clone();
        let place = at.index(new.ports.len().max(1));
        match (kind, new.ports.get_mut(place)) {
            (0, _) => return (old, other),
            (1, _) => new.deny = !new.deny,
            (2, _) => new.reverse_path = !new.reverse_path,
            (10, _) => new.early = !new.early,
            (3, _) => new.foreign_interfaces = other.foreign_interfaces,
            (4, _) => new.sources = other.sources,
            (5, Some(_)) => drop(new.ports.remove(place)),
            (6, Some(changed)) => changed.except = port.except,
            (7, Some(changed)) => changed.interfaces = port.interfaces,
            (8, Some(changed)) => changed.allow.inline.push(range),
            (_, Some(changed)) => changed.allow = port.allow,
            (_, None) => new.ports = other.ports,
        }
        (old, new)
    })
}
