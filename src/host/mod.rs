//! What dfw knows of the host that it protects, as plain data.
//!
//! ```text
//!  rtnetlink ─► links ────┐
//!  engine's API ─► docker ┼─► HostView
//!  sock_diag ─► listener ─┘
//! ```

mod activation;
mod busy;
pub mod docker;
pub mod engine;
pub mod follow;
mod links;
pub mod listener;

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::netlink::link::{Address, Link};
use engine::{Container, Engine, PortRange, Published};
use listener::{Listener, Owner};

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
    /// Bridges of which nothing is known.
    pub other_bridges: BTreeSet<String>,
    /// The engines that have answered.
    pub engines: Vec<Engine>,
    /// The sockets that wait for clients; whoever builds the view may have left out those at ports
    /// that no engine publishes.
    pub listeners: Vec<Listener>,
    /// Ports of the host that were published when the engine answered last, where it does not now.
    pub remembered: Vec<PortRange>,
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
    /// The service of this host that has the port instead, see [`HostView::holder`].
    #[must_use]
    pub fn holder<'a>(&self, host: &'a HostView) -> Option<&'a Listener> {
        host.holder(&self.published.port(), self.of.is_running())
    }
}

impl Publisher<'_> {
    /// What people call it.
    #[must_use]
    pub fn title(&self) -> String {
        match self {
            Self::Container(container) => container.title(),
            Self::Service(service) => format!("{} (swarm service)", service.name),
        }
    }

    /// Whether its port is bound at this moment.
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

    /// The ports at which docker-proxy listens, whether its engine tells of them or not: it does not
    /// while it starts a container.
    pub fn proxied(&self) -> impl Iterator<Item = PortRange> {
        let listeners = self.listeners.iter().filter(|listener| {
            let owner = listener.owner.as_ref();
            owner.is_some_and(Owner::is_proxy) && !listener.address.is_loopback()
        });
        listeners.map(|listener| PortRange {
            address: Some(listener.address).filter(|address| !address.is_unspecified()),
            transport: listener.transport,
            first: listener.port,
            last: listener.port,
        })
    }

    /// The service of this host that holds a port which an engine publishes, and so keeps the
    /// engine from it; a rule for the port would hit that service.
    ///
    /// Who is not to be seen counts as the engine's where the engine holds the port at this moment, for
    /// two cannot hold it; and where docker-proxy itself might not be seen. Else it is a service of
    /// the host: the kernel's own, such as `WireGuard`, has no process.
    #[must_use]
    pub fn holder(&self, port: &PortRange, engine_holds: bool) -> Option<&Listener> {
        self.listeners.iter().find(|listener| {
            // A rule for a port of all addresses is one for both families.
            let concerned = listener.transport == port.transport
                && (port.first..=port.last).contains(&listener.port)
                && !listener.address.is_loopback()
                && port.address.is_none_or(|address| listener.takes(address));
            concerned
                && match &listener.owner {
                    Some(owner) => !owner.is_engine() && self.container_of(owner).is_none(),
                    None => !engine_holds && !self.blind,
                }
        })
    }

    /// The container that a process lives in.
    #[must_use]
    pub fn container_of(&self, owner: &Owner) -> Option<&Container> {
        let containers = self.engines.iter().flat_map(|engine| &engine.containers);
        let id = owner.container.as_ref()?;
        containers.into_iter().find(|container| container.id == *id)
    }

    /// The addresses of containers, and what each of them publishes, by the container's port.
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
    use engine::Transport;

    /// Who is not seen is docker-proxy itself where nobody else's processes are to be seen.
    #[test]
    fn a_port_is_not_given_up_to_somebody_unseen() {
        let any = IpAddr::from([0; 16]);
        let mut host = HostView {
            listeners: vec![Listener {
                transport: Transport::Tcp,
                address: any,
                port: 8080,
                both_families: false,
                owner: None,
            }],
            ..HostView::default()
        };
        let port = PortRange {
            address: Some(any),
            transport: Transport::Tcp,
            first: 8080,
            last: 8080,
        };
        assert!(host.holder(&port, false).is_some());
        assert!(host.holder(&port, true).is_none());
        host.blind = true;
        assert!(host.holder(&port, false).is_none());
        host.listeners[0].owner = Some(Owner {
            pid: 7,
            name: "nginx".to_owned(),
            container: None,
        });
        assert!(host.holder(&port, false).is_some());
    }
}
