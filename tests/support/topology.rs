//! The hosts around an engine and the wires between them.
//!
//! ```text
//!  stranger 198.51.100.66 ─┐                       ┌─ host      203.0.113.10, the engine's
//!  internet 198.51.100.53 ─┴─ wan [router] lan ────┼─ trusted   203.0.113.20 and .21
//!                                                  ├─ neighbour 203.0.113.66, routes containers
//!                                                  └─ wire      203.0.113.67, sends 127.0.0.1
//!  office 10.9.0.20 ── second card of the host, in the bridge br-office, 10.9.0.10
//! ```
//!
//! IPv6 has the same last numbers: `2001:db8:1::` on the LAN, `2001:db8:2::` on the WAN and
//! `2001:db8:9::` at the second card. Containers with IPv6 live in `2001:db8:c::/48`.

use std::net::IpAddr;

use anyhow::Result;

use super::netns::Namespace;
use super::service;

/// Where the addresses of containers lie, for those who have a route to them.
const CONTAINERS_V6: &str = "2001:db8:c::/48";
/// Docker's, and Podman's.
const CONTAINERS_V4: [&str; 2] = ["172.16.0.0/12", "10.88.0.0/15"];

/// One machine that sends and serves: its name in the tables and the last part of its addresses.
struct Machine {
    name: &'static str,
    link: Link,
    hosts: &'static [u8],
}

#[derive(Clone, Copy, PartialEq)]
enum Link {
    Lan,
    Wan,
    SecondCard,
}

impl Link {
    fn v4(self, host: u8) -> String {
        match self {
            Self::Lan => format!("203.0.113.{host}"),
            Self::Wan => format!("198.51.100.{host}"),
            Self::SecondCard => format!("10.9.0.{host}"),
        }
    }

    fn v6(self, host: u8) -> String {
        match self {
            Self::Lan => format!("2001:db8:1::{host}"),
            Self::Wan => format!("2001:db8:2::{host}"),
            Self::SecondCard => format!("2001:db8:9::{host}"),
        }
    }

    /// The last part of the address that leads to everywhere else.
    fn gateway(self) -> u8 {
        match self {
            Self::Lan | Self::Wan => 1,
            Self::SecondCard => 10,
        }
    }
}

#[rustfmt::skip]
const MACHINES: &[Machine] = &[
    Machine { name: "host",      link: Link::Lan,        hosts: &[10] },
    Machine { name: "trusted",   link: Link::Lan,        hosts: &[20, 21] },
    Machine { name: "neighbour", link: Link::Lan,        hosts: &[66] },
    Machine { name: "wire",      link: Link::Lan,        hosts: &[67] },
    Machine { name: "stranger",  link: Link::Wan,        hosts: &[66] },
    Machine { name: "internet",  link: Link::Wan,        hosts: &[53] },
    Machine { name: "office",    link: Link::SecondCard, hosts: &[20] },
];

/// A small path MTU on the far side of the router, so that large packets need its ICMP errors.
const WAN_MTU: u32 = 1400;

/// The host's second way out.
pub(crate) const SECOND_CARD: &str = "br-office";

pub(crate) struct Topology {
    machines: Vec<(&'static str, Namespace)>,
}

impl Topology {
    /// Makes every namespace, named `PREFIX-MACHINE`, and starts the servers outside the engine.
    pub(crate) fn start(prefix: &str) -> Result<Self> {
        let router = Namespace::create(&format!("{prefix}-router"))?;
        prepare(&router)?;
        for (bridge, link) in [("lan", Link::Lan), ("wan", Link::Wan)] {
            router.ip(&format!("link add {bridge} type bridge"))?;
            address(&router, bridge, link, link.gateway())?;
            router.ip(&format!("link set {bridge} up"))?;
        }
        router.ip(&format!("link set wan mtu {WAN_MTU}"))?;
        router.sysctl("net/ipv4/ip_forward", "1")?;
        router.sysctl("net/ipv6/conf/all/forwarding", "1")?;

        let mut machines = Vec::new();
        for machine in MACHINES {
            let name = format!("{prefix}-{}", machine.name);
            let namespace = Namespace::create(&name)?;
            prepare(&namespace)?;
            machines.push((machine.name, namespace));
        }
        let topology = Self { machines };
        for machine in MACHINES {
            topology.wire_up(machine, &router, prefix)?;
        }
        topology.route_inside(&router)?;
        topology.speak_loopback_over_the_wire()?;
        topology.serve()?;
        Ok(topology)
    }

    /// A machine of [`MACHINES`].
    pub(crate) fn machine(&self, name: &str) -> Option<&Namespace> {
        let known = self.machines.iter().find(|(known, _)| *known == name);
        known.map(|(_, namespace)| namespace)
    }

    fn named(&self, name: &str) -> Result<&Namespace> {
        self.machine(name)
            .ok_or_else(|| anyhow::anyhow!("the topology has no {name}"))
    }

    fn wire_up(&self, machine: &Machine, router: &Namespace, prefix: &str) -> Result<()> {
        let namespace = self.named(machine.name)?;
        let link = machine.link;
        if link == Link::SecondCard {
            let host = self.named("host")?;
            // A bridge of the machine's own, called as engines call theirs: nothing that comes in
            // here is a container's.
            host.ip(&format!("link add {SECOND_CARD} type bridge"))?;
            host.ip(&format!(
                "link add eth1 type veth peer name eth0 netns {prefix}-{}",
                machine.name
            ))?;
            address(host, SECOND_CARD, link, link.gateway())?;
            host.ip(&format!("link set eth1 master {SECOND_CARD} up"))?;
            host.ip(&format!("link set {SECOND_CARD} up"))?;
        } else {
            let bridge = if link == Link::Lan { "lan" } else { "wan" };
            router.ip(&format!(
                "link add {0} type veth peer name eth0 netns {prefix}-{0}",
                machine.name
            ))?;
            router.ip(&format!("link set {} master {bridge} up", machine.name))?;
        }
        for host in machine.hosts {
            address(namespace, "eth0", link, *host)?;
        }
        namespace.ip("link set eth0 up")?;
        let gateway = link.gateway();
        namespace.ip(&format!("route add default via {}", link.v4(gateway)))?;
        namespace.ip(&format!("-6 route add default via {}", link.v6(gateway)))?;
        Ok(())
    }

    /// Routes to the containers and to the second card, for the router and for those on the LAN.
    fn route_inside(&self, router: &Namespace) -> Result<()> {
        let second = ["10.9.0.0/24", "2001:db8:9::/64"];
        let lan = ["trusted", "neighbour", "wire"];
        for namespace in lan
            .iter()
            .filter_map(|name| self.machine(name))
            .chain([router])
        {
            for network in CONTAINERS_V4.into_iter().chain([second[0]]) {
                namespace.ip(&format!("route add {network} via {}", Link::Lan.v4(10)))?;
            }
            for network in [CONTAINERS_V6, second[1]] {
                namespace.ip(&format!("-6 route add {network} via {}", Link::Lan.v6(10)))?;
            }
        }
        Ok(())
    }

    /// Makes one neighbour send packets for 127.0.0.1 to the host instead of to itself.
    fn speak_loopback_over_the_wire(&self) -> Result<()> {
        let wire = self.named("wire")?;
        wire.sysctl("net/ipv4/conf/all/route_localnet", "1")?;
        wire.sysctl("net/ipv4/conf/eth0/route_localnet", "1")?;
        wire.ip("address delete 127.0.0.1/8 dev lo")?;
        wire.ip(&format!(
            "route add 127.0.0.1/32 via {} dev eth0",
            Link::Lan.v4(10)
        ))?;
        Ok(())
    }

    fn serve(&self) -> Result<()> {
        // The host's own services, which no policy names.
        self.named("host")?
            .run(|| service::spawn(&["tcp:22", "udp:2222"]))?;
        // What containers and forwarded clients talk to.
        self.named("internet")?
            .run(|| service::spawn(&["tcp:80", "tcp:443", "udp:53"]))?;
        self.named("trusted")?.run(|| service::spawn(&["tcp:80"]))?;
        self.named("office")?
            .run(|| service::spawn(&["tcp:80", "tcp:22"]))
    }
}

fn address(namespace: &Namespace, device: &str, link: Link, host: u8) -> Result<()> {
    namespace.ip(&format!("address add {}/24 dev {device}", link.v4(host)))?;
    // Without duplicate detection an address can be used at once.
    namespace.ip(&format!(
        "address add {}/64 dev {device} nodad",
        link.v6(host)
    ))?;
    Ok(())
}

/// What holds in every namespace before its first link exists.
fn prepare(namespace: &Namespace) -> Result<()> {
    // New namespaces copy the machine's value. An engine that finds forwarding on does not set
    // its own forward policy, and the lab would be more open than a fresh server.
    namespace.sysctl("net/ipv4/ip_forward", "0")?;
    for scope in ["all", "default"] {
        namespace.sysctl(&format!("net/ipv4/conf/{scope}/rp_filter"), "0")?;
        namespace.sysctl(&format!("net/ipv6/conf/{scope}/accept_ra"), "0")?;
        namespace.sysctl(&format!("net/ipv6/conf/{scope}/accept_dad"), "0")?;
        namespace.sysctl(&format!("net/ipv6/conf/{scope}/disable_ipv6"), "0")?;
    }
    // Pings without raw sockets.
    namespace.sysctl("net/ipv4/ping_group_range", "0 0")
}

/// The addresses of a name in a table, or of a client: `host`, `trusted2`, `office6` and so on. A
/// name that ends in `6` means IPv6.
pub(crate) fn well_known(name: &str) -> Option<IpAddr> {
    let address = match name {
        "loopback" | "localhost" => "127.0.0.1".to_owned(),
        "localhost6" => "::1".to_owned(),
        "second-card" => Link::SecondCard.v4(Link::SecondCard.gateway()),
        "second-card6" => Link::SecondCard.v6(Link::SecondCard.gateway()),
        _ => {
            let (base, v6) = name
                .strip_suffix('6')
                .map_or((name, false), |base| (base, true));
            let machine = MACHINES.iter().find(|machine| machine.name == base)?;
            let host = *machine.hosts.first()?;
            if v6 {
                machine.link.v6(host)
            } else {
                machine.link.v4(host)
            }
        }
    };
    address.parse().ok()
}

/// The addresses that a client sends from, where its machine has more than one per family and
/// the kernel must not choose: `trusted` and, with the second ones, `trusted2`.
pub(crate) fn source_addresses(client: &str) -> Option<[IpAddr; 2]> {
    let (base, index) = client
        .strip_suffix('2')
        .map_or((client, 0), |base| (base, 1));
    let machine = MACHINES.iter().find(|machine| machine.name == base)?;
    if machine.hosts.len() < 2 {
        return None;
    }
    let host = *machine.hosts.get(index)?;
    Some([
        machine.link.v4(host).parse().ok()?,
        machine.link.v6(host).parse().ok()?,
    ])
}
