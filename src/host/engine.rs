//! What a container engine says of itself: networks, containers and what they publish, as plain
//! data.

use crate::net::{HostPorts, Protocol};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// A container engine that has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    /// Which one.
    pub kind: Kind,
    /// Its version, such as `28.5.2`.
    pub version: String,
    /// Where it was asked, such as `/run/docker.sock`.
    pub address: String,
    /// What it writes its rules with, such as `iptables` or `nftables`; `None` if it does not say,
    /// which engines before 28 never do.
    pub firewall: Option<String>,
    /// The process that listens at its socket, which is systemd where that starts the engine; `None`
    /// where it is not known.
    pub process: Option<u32>,
    /// Its networks.
    pub networks: Vec<Network>,
    /// Its containers, also those that do not run.
    pub containers: Vec<Container>,
    /// Its Swarm services; only a manager knows them.
    pub services: Vec<Service>,
}

/// Which engine it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Docker Engine, moby.
    Docker,
    /// Podman.
    Podman,
}

impl Kind {
    /// Returns its name for people.
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
    /// Its name.
    pub name: String,
    /// Its driver: `bridge`, `host`, `none`, `macvlan`, `ipvlan`, `overlay`.
    pub driver: String,
    /// The bridge of this host that it is, by name; `None` for other drivers, and where the engine
    /// does not say and the host has no bridge with the network's [gateway](Self::gateways).
    pub bridge: Option<String>,
    /// The addresses that the host has in it.
    pub gateways: Vec<IpAddr>,
    /// How its containers are reached over IPv4.
    pub mode_v4: GatewayMode,
    /// How its containers are reached over IPv6.
    pub mode_v6: GatewayMode,
    /// Whether it has no way out, `--internal`.
    pub internal: bool,
    /// Whether its containers have IPv6 addresses.
    pub ipv6: bool,
}

/// How containers of a bridge network are reached from outside
/// (`com.docker.network.bridge.gateway_mode_ipv4`, Docker 27 and later).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum GatewayMode {
    /// Through published ports of the host.
    #[default]
    Nat,
    /// Also past the host's ports, at any port of the container's own address.
    NatUnprotected,
    /// At published ports, under the container's own address and port.
    Routed,
    /// Not at all.
    Isolated,
}

impl GatewayMode {
    /// Returns whether the engine lets packets through that are routed straight to a container.
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
    /// Whether it lives in the network of the host: by `--net=host`, or because it joins a container that
    /// does.
    pub host_network: bool,
    /// The container whose network it joins (`--net=container:…`, `network_mode: service:…`): its
    /// identifier, or its name.
    pub joins: Option<String>,
    /// Its first process; `None` while it does not run.
    pub pid: Option<u32>,
    /// What it publishes, or will when it is started.
    pub published: Vec<Published>,
    /// Where it is attached; nothing while it does not run.
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
    /// Its name.
    pub name: String,
    /// What it publishes on every node of the swarm (the ingress network).
    pub published: Vec<Published>,
}

/// A port of the host and the container's port behind it. Of a container that does not run it may be
/// a range, of which the engine takes one when it starts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Published {
    /// The protocol.
    pub protocol: Protocol,
    /// The address of the host; `0.0.0.0` is every IPv4 address, `::` every IPv6 address.
    pub address: IpAddr,
    /// The port of the host, the first of a range. Networks in mode `routed` do not use it, but it is
    /// what `-p` says.
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
    /// Returns what people call it: `web`, or `web (shop/frontend)` for a service of a compose project.
    #[must_use]
    pub fn title(&self) -> String {
        match (&self.project, &self.service) {
            (Some(project), Some(service)) => format!("{} ({project}/{service})", self.name),
            _ => self.name.clone(),
        }
    }
}

impl Engine {
    /// Puts everything into the order in which it is shown.
    pub(super) fn sort(&mut self) {
        self.networks.sort_by(|a, b| a.name.cmp(&b.name));
        let name = |container: &Container| (container.name.clone(), container.id.clone());
        self.containers.sort_by_cached_key(name);
        self.services.sort_by(|a, b| a.name.cmp(&b.name));
    }

    /// Finds out which containers live in the network of the host because they join one that does,
    /// directly or through others. An engine ignores what such a container publishes.
    pub(super) fn join_networks(&mut self) {
        let mut hosts: BTreeSet<String> = BTreeSet::new();
        let names = |container: &Container| [container.id.clone(), container.name.clone()];
        let own = self.containers.iter().filter(|c| c.joins.is_none());
        hosts.extend(own.filter(|c| c.host_network).flat_map(names));
        // Each round finds one more in a row of them, and there are no more rounds than containers.
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
    fn who_joins_the_hosts_network_is_in_it() {
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
