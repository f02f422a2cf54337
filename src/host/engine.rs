//! The state of a container engine: networks, containers and published ports, as plain data.

use crate::net::{HostPorts, Protocol};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// A container engine with its networks, containers and services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    /// The engine's kind.
    pub kind: Kind,
    /// Its version, such as `28.5.2`.
    pub version: String,
    /// The address of its API, such as `/run/docker.sock`.
    pub address: String,
    /// Its firewall backend, such as `iptables` or `nftables`; `None` if it does not report it, as
    /// before Docker 28.
    pub firewall: Option<String>,
    /// The process that listens on its socket, which is systemd for socket activation; `None` if
    /// unknown.
    pub process: Option<u32>,
    /// Its networks.
    pub networks: Vec<Network>,
    /// Its containers, including stopped ones.
    pub containers: Vec<Container>,
    /// Its Swarm services; only a manager reports them.
    pub services: Vec<Service>,
}

/// The kind of a container engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Docker Engine, moby.
    Docker,
    /// Podman.
    Podman,
}

impl Kind {
    /// Returns the name as shown to people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Docker => "Docker",
            Self::Podman => "Podman",
        }
    }
}

/// A network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Its identifier.
    pub id: String,
    /// The name.
    pub name: String,
    /// Its driver: `bridge`, `host`, `none`, `macvlan`, `ipvlan`, `overlay`.
    pub driver: String,
    /// Its bridge on this host, by name; `None` for other drivers, or if the engine does not report it
    /// and no bridge has the network's [gateway](Self::gateways).
    pub bridge: Option<String>,
    /// The addresses of the host in the network.
    pub gateways: Vec<IpAddr>,
    /// The gateway mode for IPv4.
    pub mode_v4: GatewayMode,
    /// The gateway mode for IPv6.
    pub mode_v6: GatewayMode,
    /// Whether it is isolated (`--internal`).
    pub internal: bool,
    /// Whether its containers have IPv6 addresses.
    pub ipv6: bool,
}

/// The gateway mode of a bridge network: how its containers are reached from outside
/// (`com.docker.network.bridge.gateway_mode_ipv4`, Docker 27 and later).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum GatewayMode {
    /// `nat`: through published ports of the host.
    #[default]
    Nat,
    /// `nat-unprotected`: also at any port of the container's address.
    NatUnprotected,
    /// `routed`: at published ports of the container's address, without NAT.
    Routed,
    /// Not at all.
    Isolated,
}

impl GatewayMode {
    /// Returns whether the engine accepts packets that are routed to a container's address.
    #[must_use]
    pub fn is_direct(self) -> bool {
        match self {
            Self::NatUnprotected | Self::Routed => true,
            Self::Nat | Self::Isolated => false,
        }
    }
}

/// A container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Container {
    /// Its identifier.
    pub id: String,
    /// Its name, without the slash in front.
    pub name: String,
    /// The compose project it belongs to.
    pub project: Option<String>,
    /// The compose service it belongs to.
    pub service: Option<String>,
    /// Whether it runs.
    pub running: bool,
    /// Whether it uses the host network: by `--net=host`, or by joining such a container.
    pub host_network: bool,
    /// The container whose network it joins (`--net=container:…`, `network_mode: service:…`): the ID or
    /// the name.
    pub joins: Option<String>,
    /// Its init process; `None` while it is stopped.
    pub pid: Option<u32>,
    /// Its published ports, or those it will publish when it starts.
    pub published: Vec<Published>,
    /// Its network endpoints; empty while it is stopped.
    pub endpoints: Vec<Endpoint>,
}

/// A container at a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The network's name.
    pub network: String,
    /// Its addresses there.
    pub addresses: Vec<IpAddr>,
}

/// A Swarm service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// The name.
    pub name: String,
    /// The ports it publishes on every node (the ingress network).
    pub published: Vec<Published>,
}

/// A port of the host and the container's port behind it. For a stopped container it may be a range, of which
/// the engine binds one port at start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Published {
    /// The transport protocol.
    pub protocol: Protocol,
    /// The host address; `0.0.0.0` for all IPv4 addresses, `::` for all IPv6 addresses.
    pub address: IpAddr,
    /// The port of the host, the first of a range. Networks in mode `routed` do not use it, but `-p`
    /// names it.
    pub first: u16,
    /// The last port of the range, at least `first`.
    pub last: u16,
    /// The port of the container.
    pub container_port: u16,
}

impl Published {
    /// Returns the ports of the host, of all addresses if it is every address of a family.
    #[must_use]
    pub fn port(&self) -> HostPorts {
        HostPorts {
            address: Some(self.address).filter(|address| !address.is_unspecified()),
            protocol: self.protocol,
            first: self.first,
            last: self.last,
        }
    }
}

impl Container {
    /// Returns its display name: `web`, or `web (shop/frontend)` for a service of a compose project.
    #[must_use]
    pub fn title(&self) -> String {
        match (&self.project, &self.service) {
            (Some(project), Some(service)) => format!("{} ({project}/{service})", self.name),
            _ => self.name.clone(),
        }
    }
}

impl Engine {
    /// Sorts everything for display.
    pub(super) fn sort(&mut self) {
        self.networks.sort_by(|a, b| a.name.cmp(&b.name));
        let name = |container: &Container| (container.name.clone(), container.id.clone());
        self.containers.sort_by_cached_key(name);
        self.services.sort_by(|a, b| a.name.cmp(&b.name));
    }

    /// Marks containers that use the host network because they join a container that does, directly or
    /// indirectly. An engine ignores the published ports of such a container.
    pub(super) fn join_networks(&mut self) {
        let mut hosts: BTreeSet<String> = BTreeSet::new();
        let names = |container: &Container| [container.id.clone(), container.name.clone()];
        let own = self.containers.iter().filter(|c| c.joins.is_none());
        hosts.extend(own.filter(|c| c.host_network).flat_map(names));
        // Each round resolves one more link of a chain; there are at most as many rounds as containers.
        loop {
            let joins = |container: &&mut Container| {
                let joined = container.joins.as_ref();
                joined.is_some_and(|joined| hosts.contains(joined))
                    && !hosts.contains(&container.id)
            };
            let found: Vec<&mut Container> = self.containers.iter_mut().filter(joins).collect();
            if found.is_empty() {
                return;
            }
            for container in found {
                container.host_network = true;
                container.published.clear();
                hosts.extend(names(container));
            }
        }
    }

    /// Returns a network by its name.
    #[must_use]
    pub fn network(&self, name: &str) -> Option<&Network> {
        self.networks.iter().find(|network| network.name == name)
    }

    /// Returns the first number of its version; 0 if it has none.
    #[must_use]
    pub fn major_version(&self) -> u32 {
        let first = self.version.split('.').next();
        first.and_then(|n| n.parse().ok()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine(containers: &[(&str, bool, Option<&str>)]) -> Engine {
        let containers = containers
            .iter()
            .map(|(name, host_network, joins)| Container {
                id: format!("id-of-{name}"),
                name: (*name).to_owned(),
                host_network: *host_network,
                joins: joins.map(str::to_owned),
                published: vec![Published {
                    protocol: Protocol::Tcp,
                    address: [0; 4].into(),
                    first: 80,
                    last: 80,
                    container_port: 80,
                }],
                ..Container::default()
            });
        Engine {
            kind: Kind::Docker,
            version: String::new(),
            address: String::new(),
            firewall: None,
            process: None,
            networks: Vec::new(),
            containers: containers.collect(),
            services: Vec::new(),
        }
    }

    #[test]
    fn a_container_that_joins_the_host_network_is_in_it() {
        let mut engine = engine(&[
            ("third", false, Some("id-of-second")),
            ("second", false, Some("id-of-first")),
            ("by-name", false, Some("first")),
            ("first", true, None),
            ("web", false, None),
            ("beside-web", false, Some("id-of-web")),
            ("nowhere", false, Some("id-of-nobody")),
            ("circle", false, Some("id-of-round")),
            ("round", false, Some("id-of-circle")),
        ]);
        engine.join_networks();
        let on_host = engine.containers.iter().filter(|c| c.host_network);
        let on_host: Vec<_> = on_host.map(|container| container.name.as_str()).collect();
        assert_eq!(on_host, ["third", "second", "by-name", "first"]);
        let publishes = |name: &str| {
            let container = engine.containers.iter().find(|c| c.name == name);
            container.is_some_and(|container| !container.published.is_empty())
        };
        assert!(!publishes("third") && publishes("web") && publishes("beside-web"));
    }
}
