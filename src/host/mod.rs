//! What dfw knows of the host that it protects, as plain data.
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
pub mod follow;
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
mod summary;
pub mod traces;
mod transport;

use crate::net::{AddressSet, HostPorts, Protocol};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::netlink::rtnetlink::{Address, Link};
use engine::{Container, Engine, Kind, Published};
use listener::{Listener, Owner, Role};
use local_ports::LocalPorts;
use nat::Nat;

/// The host as the compiler sees it. The default knows nothing, which is what `check` and `show`
/// work with: they need no kernel and no engine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostView {
    /// Bridges that are known to belong to a container engine, by exact name. What comes in
    /// through one of them counts as coming from a container.
    pub container_bridges: BTreeSet<String>,
    /// Bridges that are known to belong to somebody else, by exact name: one that has a network
    /// card, a VLAN or a virtual machine in it.
    pub foreign_bridges: BTreeSet<String>,
    /// Bridges that belong to an engine, and have a network card in them as well: what comes in
    /// there may come from anywhere.
    pub shared_bridges: BTreeSet<String>,
    /// What is in the bridges of engines that are not the ends of containers, such as a network card, a
    /// tunnel or a virtual machine: by bridge, the interfaces.
    pub cards: BTreeMap<String, Vec<String>>,
    /// Those of the [`shared_bridges`](Self::shared_bridges) that a default route of the host goes
    /// through: an engine's network sits on the uplink.
    pub uplink_bridges: BTreeSet<String>,
    /// Bridges of which nothing is known.
    pub other_bridges: BTreeSet<String>,
    /// The interfaces of the host by name, each with the one that it is a port of: a bridge, a bond, a
    /// VRF.
    pub interfaces: BTreeMap<String, Option<String>>,
    /// The networks on the addresses of each interface, by its name, without those that hold link-local or
    /// loopback addresses and those wider than /8 (IPv4) or /16 (IPv6). Empty for an interface without any.
    pub networks: BTreeMap<String, AddressSet>,
    /// The engines that have answered.
    pub engines: Vec<Engine>,
    /// The sockets that wait for clients; whoever builds the view may have left out those at ports
    /// that no engine publishes.
    pub listeners: Vec<Listener>,
    /// Ports of the host that were published when the engine answered last, where it does not now.
    pub remembered: Vec<HostPorts>,
    /// Which destinations others translate; whoever builds the view may not have looked.
    pub nat: Nat,
    /// The ports that the kernel chooses from for this host's own requests.
    pub local_ports: LocalPorts,
    /// Whether there may be processes that are not to be seen from here, docker-proxy among them.
    pub blind: bool,
    /// Whether the kernel may be too old to tell, where packets are forwarded, that they stay on one
    /// interface. Then containers of a network that is not known yet do not reach each other where
    /// `bridge-nf-call-iptables` is on.
    pub old_kernel: bool,
}

/// Who publishes a port.
#[derive(Debug, Clone, Copy)]
pub struct Publication<'a> {
    /// What is published.
    pub published: Published,
    /// The engine that does.
    pub engine: &'a Engine,
    /// The container or service that it is published for.
    pub of: Publisher<'a>,
}

/// What a port is published for.
#[derive(Debug, Clone, Copy)]
pub enum Publisher<'a> {
    /// A container.
    Container(&'a Container),
    /// A service of a swarm, reached through every node.
    Service(&'a engine::Service),
}

impl Publication<'_> {
    /// Returns the families in which it is published: Podman says `0.0.0.0` and means both.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let address = self.published.address;
        let v4 = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let both = self.engine.kind == Kind::Podman && address == v4;
        let other = both.then_some(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        [address].into_iter().chain(other)
    }

    /// Returns the services of this host that have some of its ports instead, see [`HostView::holders`].
    pub fn holders<'a>(&self, host: &'a HostView) -> impl Iterator<Item = &'a Listener> {
        let (port, running) = (self.published.port(), self.of.is_running());
        self.addresses()
            .flat_map(move |address| host.holders(address, &port, running))
    }
}

impl Publisher<'_> {
    /// Returns what people call it.
    #[must_use]
    pub fn title(&self) -> String {
        match self {
            Self::Container(container) => container.title(),
            Self::Service(service) => format!("{} (swarm service)", service.name),
        }
    }

    /// Returns whether its port is bound at this moment.
    #[must_use]
    pub fn is_running(&self) -> bool {
        match self {
            Self::Container(container) => container.running,
            Self::Service(_) => true,
        }
    }
}

impl HostView {
    /// Puts together what the links and addresses of the host and the engines say.
    #[must_use]
    pub fn new(links: &[Link], addresses: &[Address], mut engines: Vec<Engine>) -> Self {
        for network in engines.iter_mut().flat_map(|engine| &mut engine.networks) {
            if network.driver == "bridge" && network.bridge.is_none() {
                network.bridge = links::bridge_with(links, addresses, &network.gateways);
            }
        }
        let said: BTreeSet<&str> = engines
            .iter()
            .flat_map(|engine| &engine.networks)
            .filter_map(|network| network.bridge.as_deref())
            .collect();
        let mut view = links::bridges(links, &said);
        view.engines = engines;
        view.interfaces = links::interfaces(links);
        view.networks = networks::by_interface(links, addresses);
        view
    }

    /// Everything that engines publish, or will when a container is started.
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

    /// Returns the services of this host that hold ports which an engine publishes at an address,
    /// and so keep the engine from them; a rule for such a port would hit that service. An
    /// unspecified address is every address of its family. Where docker-proxy listens at that very
    /// address, nobody else counts.
    ///
    /// Who is not to be seen counts as the engine's where root made the socket and the engine holds the
    /// port at this moment, for two cannot hold it; and where docker-proxy itself might not be seen. Else
    /// it is a service of the host: the kernel's own, such as `WireGuard`, has no process.
    pub fn holders<'a>(
        &'a self,
        address: IpAddr,
        port: &HostPorts,
        engine_holds: bool,
    ) -> impl Iterator<Item = &'a Listener> + use<'a> {
        let port = *port;
        self.listeners
            .iter()
            .filter(move |listener| {
                listener.protocol == port.protocol
                    && (port.first..=port.last).contains(&listener.port)
                    && !listener.address.is_loopback()
                    && listener.takes(address)
                    && !self.is_engines(listener, engine_holds)
            })
            .filter(move |listener| !self.is_proxied(address, port.protocol, listener.port))
    }

    fn is_engines(&self, listener: &Listener, engine_holds: bool) -> bool {
        match &listener.owner {
            Some(owner) => owner.is_engine() || self.container_of(owner).is_some(),
            None => listener.user == 0 && (engine_holds || self.blind),
        }
    }

    /// Returns whether docker-proxy listens at a port of this very address.
    fn is_proxied(&self, address: IpAddr, protocol: Protocol, port: u16) -> bool {
        self.listeners.iter().any(|listener| {
            let owner = listener.owner.as_ref();
            listener.protocol == protocol
                && listener.port == port
                && listener.address == address
                && owner.is_some_and(|owner| owner.role == Role::Proxy)
        })
    }

    /// Returns the sockets that serve published ports, whether their engine tells of them or not:
    /// it does not while it starts a container, and who was not asked never does.
    pub fn serving(&self) -> impl Iterator<Item = &Listener> {
        let listeners = self.listeners.iter();
        listeners
            .filter(|listener| listener.serves_publication() && !listener.address.is_loopback())
    }

    /// Returns whether an engine that was asked publishes the port that a socket serves, for a
    /// container that runs.
    #[must_use]
    pub fn is_explained(&self, listener: &Listener) -> bool {
        let running = self.publications().filter(|p| p.of.is_running());
        running.into_iter().any(|publication| {
            let published = publication.published;
            published.protocol == listener.protocol
                && (published.first..=published.last).contains(&listener.port)
                && publication.addresses().any(|address| {
                    address == listener.address
                        || listener.both_families && address.is_unspecified()
                })
        })
    }

    /// Returns whether some ports count as published although nobody may hold them: those that an
    /// engine published when it answered last, and those of containers that do not run. A service
    /// of the host may take one at any time.
    #[must_use]
    pub fn expects_more(&self) -> bool {
        !self.remembered.is_empty() || self.publications().any(|p| !p.of.is_running())
    }

    /// Cards and tunnels in bridges of engines: what comes in by them within the bridge passes no rule of
    /// dfw's. The bridge, and the interface in it.
    pub fn bridge_ports(&self) -> impl Iterator<Item = (&str, &str)> {
        let cards = self.cards.iter();
        cards.flat_map(|(bridge, cards)| cards.iter().map(|card| (&**bridge, &**card)))
    }

    /// Returns the container that a process lives in.
    #[must_use]
    pub fn container_of(&self, owner: &Owner) -> Option<&Container> {
        let containers = self.engines.iter().flat_map(|engine| &engine.containers);
        let id = owner.container.as_ref()?;
        containers.into_iter().find(|container| container.id == *id)
    }

    /// Returns the addresses of containers, and what each of them publishes, by the container's port.
    pub fn endpoints(&self) -> impl Iterator<Item = EndpointView<'_>> {
        self.engines.iter().flat_map(|engine| {
            engine.containers.iter().flat_map(move |container| {
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
            })
        })
    }
}

/// A container at one of its addresses.
#[derive(Debug, Clone, Copy)]
pub struct EndpointView<'a> {
    /// The address.
    pub address: IpAddr,
    /// The container.
    pub container: &'a Container,
    /// The network, unless the engine does not tell of it.
    pub network: Option<&'a engine::Network>,
    /// Whether the network's mode lets packets through that are routed straight to it.
    pub direct: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    const V6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

    fn at(address: IpAddr, user: u32, role: Option<Role>) -> Listener {
        let owner = role.map(|role| Owner {
            pid: 7,
            name: "someone".to_owned(),
            role,
            container: None,
            unanswered: None,
            parent: None,
        });
        Listener {
            protocol: Protocol::Tcp,
            address,
            port: 8080,
            both_families: false,
            device: None,
            user,
            owner,
        }
    }

    fn holders(host: &HostView, address: IpAddr, engine_holds: bool) -> usize {
        let port = HostPorts {
            address: None,
            protocol: Protocol::Tcp,
            first: 8000,
            last: 8080,
        };
        host.holders(address, &port, engine_holds).count()
    }

    /// Who is not seen is docker-proxy itself where nobody else's processes are to be seen.
    #[test]
    fn a_port_is_not_given_up_to_somebody_unseen() {
        let mut host = HostView {
            listeners: vec![at(V6, 0, None)],
            ..HostView::default()
        };
        assert_eq!(holders(&host, V6, false), 1);
        assert_eq!(holders(&host, V6, true), 0);
        host.blind = true;
        assert_eq!(holders(&host, V6, false), 0);
        host.listeners[0] = at(V6, 0, Some(Role::Other));
        assert_eq!(holders(&host, V6, false), 1);
        // No engine's: it was made by somebody else than root.
        host.listeners[0] = at(V6, 65534, None);
        assert_eq!(holders(&host, V6, true), 1);
    }

    #[test]
    fn a_listener_holds_its_own_family_and_address() {
        let mut host = HostView {
            listeners: vec![at(V4, 0, Some(Role::Other))],
            ..HostView::default()
        };
        let address = IpAddr::from([203, 0, 113, 10]);
        assert_eq!(holders(&host, V4, false), 1);
        assert_eq!(holders(&host, address, false), 1);
        assert_eq!(holders(&host, V6, false), 0);
        host.listeners[0].address = address;
        assert_eq!(holders(&host, V4, false), 1);
        assert_eq!(holders(&host, IpAddr::from([203, 0, 113, 11]), false), 0);
        host.listeners[0] = at(V6, 0, Some(Role::Other));
        assert_eq!(holders(&host, V4, false), 0);
        host.listeners[0].both_families = true;
        assert_eq!(holders(&host, V4, false), 1);
    }

    #[test]
    fn where_docker_proxy_listens_nobody_else_counts() {
        let host = HostView {
            listeners: vec![
                at(V4, 1000, Some(Role::Other)),
                at(V4, 0, Some(Role::Proxy)),
                at(V6, 1000, Some(Role::Other)),
            ],
            ..HostView::default()
        };
        assert_eq!(holders(&host, V4, false), 0);
        assert_eq!(holders(&host, V6, false), 1);
    }
}
