//! What runs in a lab: an engine, its networks and its containers, as data.

use super::edition::{Edition, Maker};

/// One container: its name in the tables, the words for the engine's `run`, and what it serves.
pub(crate) struct Container {
    pub(crate) name: &'static str,
    pub(crate) options: &'static str,
    pub(crate) serves: &'static str,
}

pub(crate) const fn container(
    name: &'static str,
    options: &'static str,
    serves: &'static str,
) -> Container {
    Container {
        name,
        options,
        serves,
    }
}

/// Everything that a lab has beside its [topology](super::topology).
#[derive(Clone, Copy)]
pub(crate) struct Fleet {
    pub(crate) edition: Edition,
    /// Words for `network create`, a network each.
    pub(crate) networks: &'static [&'static [&'static str]],
    pub(crate) containers: &'static [&'static [Container]],
}

impl Fleet {
    /// The usual containers on an engine.
    pub(crate) const fn new(edition: Edition) -> Self {
        match edition.maker {
            Maker::Docker => Self {
                edition,
                networks: &[NETWORKS, DOCKER_NETWORKS],
                containers: &[CONTAINERS, DOCKER_CONTAINERS],
            },
            Maker::Podman => Self {
                edition,
                networks: &[NETWORKS, PODMAN_NETWORKS],
                containers: &[CONTAINERS, PODMAN_CONTAINERS],
            },
        }
    }

    pub(crate) fn networks(&self) -> impl Iterator<Item = &'static str> {
        self.networks
            .iter()
            .flat_map(|networks| networks.iter().copied())
    }

    pub(crate) fn containers(&self) -> impl Iterator<Item = &'static Container> {
        self.containers
            .iter()
            .flat_map(|containers| containers.iter())
    }
}

pub(crate) const NETWORKS: &[&str] = &[
    "apps",
    "--ipv6 --subnet 2001:db8:c::/64 sixes",
    "--internal inners",
];

/// A bridge whose name no pattern of well-known bridge names matches.
pub(crate) const DOCKER_NETWORKS: &[&str] = &["-o com.docker.network.bridge.name=lab-edge edges"];
const PODMAN_NETWORKS: &[&str] = &["--interface-name lab-edge edges"];

/// Ports that no policy of the trials names: 8443, 8500, 8501, 8544, 8545, 8087, 7001.
#[rustfmt::skip]
pub(crate) const CONTAINERS: &[Container] = &[
    container("plain", "", "tcp:80"),
    container("app", "--network apps -p 8083:80 -p 8443:443", "tcp:80 tcp:81 tcp:443 udp:53"),
    container("peer", "--network apps", "tcp:80"),
    container("six", "--network sixes -p 8084:80 -p 5384:53/udp -p 8544:84",
              "tcp:80 tcp:81 tcp:84 udp:53"),
    container("edge", "--network edges -p 8085:80 -p 8545:85", "tcp:80 tcp:85"),
    container("inner", "--network inners", "tcp:80"),
    container("inmate", "--network inners", "tcp:80"),
    container("open-host", "--network host", "tcp:7000 udp:7000 tcp:7001"),
];

#[rustfmt::skip]
pub(crate) const DOCKER_CONTAINERS: &[Container] = &[
    container("web", "-p 80:80 -p 127.0.0.1:8081:80 -p 203.0.113.10:8082:80 \
                      -p 9000-9002:9000-9002 -p 5353:53/udp -p [2001:db8:1::10]:8086:80 \
                      -p 8500:85 -p 8501:86/udp -p 10.9.0.10:8087:80",
              "tcp:80 tcp:81 tcp:85 udp:86 tcp:9000 tcp:9001 tcp:9002 udp:53"),
];

/// Podman gives no IPv6 port to a container that has no IPv6 address.
#[rustfmt::skip]
const PODMAN_CONTAINERS: &[Container] = &[
    container("web", "-p 80:80 -p 127.0.0.1:8081:80 -p 203.0.113.10:8082:80 \
                      -p 9000-9002:9000-9002 -p 5353:53/udp \
                      -p 8500:85 -p 8501:86/udp -p 10.9.0.10:8087:80",
              "tcp:80 tcp:81 tcp:85 udp:86 tcp:9000 tcp:9001 tcp:9002 udp:53"),
];
