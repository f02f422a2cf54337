//! The state of the protected host, as plain data.
//!
//! ```text
//!  rtnetlink ─► links ────┐
//!  engine's API ─► docker ┼─► HostView
//!  sock_diag ─► listener ─┘
//! ```

mod activation;
mod answers;
mod cgroup;
mod connection;
pub mod docker;
pub mod engine;
pub mod explanations;
pub mod follow;
pub mod grant;
pub mod holder;
mod inventory;
mod links;
pub mod listener;
pub mod local_ports;
pub mod nat;
mod networks;
mod owner;
pub mod process;
pub mod routes;
pub mod sockets;
mod summary;
pub mod traces;
mod transport;
pub mod units;

use crate::net::{AddressSet, HostPorts};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::netlink::rtnetlink::{Address, Link};
use engine::{Container, Engine, Kind, Published};
use grant::Grant;
use listener::{Listener, Owner};
use local_ports::LocalPorts;
use nat::Nat;

/// The host as the compiler sees it. `check` and `show` use the default, an unknown host: they need no kernel
/// and no engine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostView {
    /// Bridges managed by a container engine, by exact name. Their packets count as sent by a
    /// container.
    pub container_bridges: BTreeSet<String>,
    /// Bridges not managed by a container engine, by exact name: those with a network card, a VLAN or a
    /// virtual machine.
    pub foreign_bridges: BTreeSet<String>,
    /// Bridges of an engine that also have a network card: their packets may come from anywhere.
    pub shared_bridges: BTreeSet<String>,
    /// Ports of engines' bridges other than those of containers, such as a network card, a tunnel or a
    /// virtual machine: interfaces by bridge.
    pub cards: BTreeMap<String, Vec<String>>,
    /// Those of the [`shared_bridges`](Self::shared_bridges) with a default route of the host: the
    /// engine's network is on the uplink.
    pub uplink_bridges: BTreeSet<String>,
    /// Bridges that could not be classified.
    pub other_bridges: BTreeSet<String>,
    /// The interfaces of the host by name, each with its master: a bridge, bond or VRF.
    pub interfaces: BTreeMap<String, Option<String>>,
    /// The networks on the addresses of each interface, by its name, without those that hold link-local or
    /// loopback addresses and those wider than /8 (IPv4) or /16 (IPv6). Empty for an interface without any.
    pub networks: BTreeMap<String, AddressSet>,
    /// The engines that have answered.
    pub engines: Vec<Engine>,
    /// The listening sockets; those at ports that no engine publishes may be left out.
    pub listeners: Vec<Listener>,
    /// Ports in the last answer of an engine that does not answer now.
    pub remembered: Vec<HostPorts>,
    /// The destination NAT rules of other tables; empty if they were not read.
    pub nat: Nat,
    /// The ephemeral port range of the kernel.
    pub local_ports: LocalPorts,
    /// Whether some processes, perhaps docker-proxy, are not visible from here.
    pub blind: bool,
    /// Whether the kernel may be too old to match, in the forward hook, packets that stay on one
    /// interface. Then containers of a network that is still unknown cannot reach each other while
    /// `bridge-nf-call-iptables` is on.
    pub old_kernel: bool,
    /// The permissions for a time, also those that the policy does not allow.
    pub grants: Vec<Grant>,
}

/// A published port and its publisher.
#[derive(Debug, Clone, Copy)]
pub struct Publication<'a> {
    /// The published port.
    pub published: Published,
    /// The engine that does.
    pub engine: &'a Engine,
    /// The container or service behind the port.
    pub of: Publisher<'a>,
}

/// The container or service that a port is published for.
#[derive(Debug, Clone, Copy)]
pub enum Publisher<'a> {
    /// A container.
    Container(&'a Container),
    /// A service of a swarm, reached through every node.
    Service(&'a engine::Service),
}

impl Publication<'_> {
    /// Returns the families in which it is published: Podman reports `0.0.0.0` for both.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let address = self.published.address;
        let v4 = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let both = self.engine.kind == Kind::Podman && address == v4;
        let other = both.then_some(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        [address].into_iter().chain(other)
    }
}

impl Publisher<'_> {
    /// Returns the container or service as text.
    #[must_use]
    pub fn title(&self) -> String {
        match self {
            Self::Container(container) => container.title(),
            Self::Service(service) => format!("{} (swarm service)", service.name),
        }
    }

    /// Returns whether its port is bound now.
    #[must_use]
    pub fn is_running(&self) -> bool {
        match self {
            Self::Container(container) => container.running,
            Self::Service(_) => true,
        }
    }
}

impl HostView {
    /// Builds the view from links, addresses and engines.
    #[must_use]
    pub fn new(links: &[Link], addresses: &[Address], mut engines: Vec<Engine>) -> Self {
        for network in engines.iter_mut().flat_map(|engine| &mut engine.networks) {
            if network.driver == "bridge" && network.bridge.is_none() {
                network.bridge = links::bridge_with(links, addresses, &network.gateways);
            }
        }
        let engine_bridges: BTreeSet<&str> = engines
            .iter()
            .flat_map(|engine| &engine.networks)
            .filter_map(|network| network.bridge.as_deref())
            .collect();
        let mut view = links::bridges(links, &engine_bridges);
        view.engines = engines;
        view.interfaces = links::interfaces(links);
        view.networks = networks::by_interface(links, addresses);
        view
    }

    /// Returns all published ports, including those of stopped containers.
    pub fn publications(&self) -> impl Iterator<Item = Publication<'_>> {
        self.engines.iter().flat_map(|engine| {
            let containers = engine.containers.iter().flat_map(move |container| {
                container
                    .published
                    .iter()
                    .map(move |published| Publication {
                        published: *published,
                        engine,
                        of: Publisher::Container(container),
                    })
            });
            let services = engine.services.iter().flat_map(move |service| {
                service.published.iter().map(move |published| Publication {
                    published: *published,
                    engine,
                    of: Publisher::Service(service),
                })
            });
            containers.chain(services)
        })
    }

    /// Returns the sockets that serve published ports, whether or not their engine reports them: an
    /// engine does not while it starts a container, nor if it was not queried.
    pub fn serving(&self) -> impl Iterator<Item = &Listener> {
        let listeners = self.listeners.iter();
        listeners
            .filter(|listener| listener.serves_publication() && !listener.address.is_loopback())
    }

    /// Returns whether some ports count as published without a socket: those in the last answer of a
    /// silent engine, and those of stopped containers. A service of the host may bind one at any time.
    #[must_use]
    pub fn expects_more(&self) -> bool {
        !self.remembered.is_empty() || self.publications().any(|p| !p.of.is_running())
    }

    /// Returns network cards and tunnels in engines' bridges, as bridge and interface: bridged packets
    /// from them do not pass dfw's rules.
    pub fn bridge_ports(&self) -> impl Iterator<Item = (&str, &str)> {
        let cards = self.cards.iter();
        cards.flat_map(|(bridge, cards)| cards.iter().map(|card| (&**bridge, &**card)))
    }

    /// Returns the container of a process.
    #[must_use]
    pub fn container_of(&self, owner: &Owner) -> Option<&Container> {
        let containers = self.engines.iter().flat_map(|engine| &engine.containers);
        let id = owner.container.as_ref()?;
        containers.into_iter().find(|container| container.id == *id)
    }

    /// Returns the addresses of containers, and the published ports of each, by the container's port.
    pub fn endpoints(&self) -> impl Iterator<Item = EndpointView<'_>> {
        self.engines.iter().flat_map(|engine| {
            let containers = engine.containers.iter();
            containers.flat_map(move |container| endpoints_of(engine, container))
        })
    }
}

/// Returns the addresses of one container of an engine.
pub fn endpoints_of<'a>(
    engine: &'a Engine,
    container: &'a Container,
) -> impl Iterator<Item = EndpointView<'a>> {
    container.endpoints.iter().flat_map(move |endpoint| {
        let network = engine.network(&endpoint.network);
        endpoint.addresses.iter().map(move |address| EndpointView {
            address: *address,
            container,
            network,
            direct: network.is_some_and(|network| {
                match address {
                    IpAddr::V4(_) => network.mode_v4,
                    IpAddr::V6(_) => network.mode_v6,
                }
                .is_direct()
            }),
        })
    })
}

/// A container at one of its addresses.
#[derive(Debug, Clone, Copy)]
pub struct EndpointView<'a> {
    /// The address.
    pub address: IpAddr,
    /// The container.
    pub container: &'a Container,
    /// The network, if the engine reports it.
    pub network: Option<&'a engine::Network>,
    /// Whether the network's gateway mode accepts packets that are routed to the container's address.
    pub direct: bool,
}
