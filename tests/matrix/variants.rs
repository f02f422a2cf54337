//! The engines, as data: which one, with which options, and which paths it opens by itself.

use anyhow::Result;

use crate::support::edition::{Edition, Maker};
use crate::support::fleet::{
    CONTAINERS, Container, DOCKER_CONTAINERS, DOCKER_NETWORKS, Fleet, NETWORKS, container,
};
use crate::support::lab::Lab;

use crate::swarm;
use crate::tables::told_by_the_engine::{
    DIRECT_EDGE, HAIRPIN_EDGE, PROXY_UNNAMED, ROUTED, STOPPED, UNPROTECTED,
    UNPROTECTED_UNPUBLISHED, V6_UNNAMED,
};
use crate::tables::{
    ANOTHER_NETWORK, BEYOND, DIRECT, EGRESS, EGRESS_EDGE, HAIRPIN, HAIRPIN_ACROSS, HAIRPIN_SELF,
    HAIRPIN_V6, HOST_ITSELF, HOST_ITSELF_V6, HOST_NETWORK, INTERNAL, INTERNAL_PEERS, LOOPBACK,
    LOOPBACK_ANY, MODES_EGRESS, PROXY, PUBLISHED, PUBLISHED_V6, ROUTED_UNPUBLISHED, SAME_NETWORK,
    SERVICES, Table, UNNAMED, UNPUBLISHED,
};

/// What an engine does on a path without another filter.
#[derive(Clone, Copy)]
pub(crate) enum Engine {
    Opens,
    Closes,
    /// It listens, so that nobody else does, and answers nothing.
    Mutes,
}
use Engine::{Closes, Mutes, Opens};

pub(crate) type Paths = &'static [(Table, Engine)];

/// One engine, run in one way.
pub(crate) struct Variant {
    pub(crate) name: &'static str,
    pub(crate) fleet: Fleet,
    /// What is done once the containers run, before the first question.
    pub(crate) prepare: fn(&Lab) -> Result<()>,
    /// The first two are asked once more after dfw is gone.
    paths: &'static [Paths],
}

impl Variant {
    /// The version that the name promises: `28.5` of `docker-28.5, swarm`.
    pub(crate) fn version(&self) -> &'static str {
        let engine = self.name.split(',').next().unwrap_or_default();
        engine.split_once('-').map_or("", |(_, version)| version)
    }

    /// Whether each of its paths, and what opens and closes it, is that of another variant as well.
    pub(crate) fn has_only_known_paths(&self) -> bool {
        KNOWN.contains(&self.name)
    }

    pub(crate) fn tables(&self) -> impl Iterator<Item = (Table, Engine)> {
        self.paths.iter().flat_map(|paths| paths.iter().copied())
    }
}

const fn variant(name: &'static str, edition: Edition, paths: &'static [Paths]) -> Variant {
    Variant {
        name,
        fleet: Fleet::new(edition),
        prepare: |_| Ok(()),
        paths,
    }
}

const fn docker(release: Option<&'static str>, options: &'static str) -> Edition {
    Edition {
        maker: Maker::Docker,
        release,
        options,
        legacy: false,
    }
}

const BOOKWORM: Option<&str> = Some("bookworm");
const TRIXIE: Option<&str> = Some("trixie");
const SID: Option<&str> = Some("sid");

/// Whatever the engine and its options.
const ALWAYS: Paths = &[
    (PUBLISHED, Opens),
    (UNNAMED, Opens),
    (HOST_NETWORK, Opens),
    (HAIRPIN, Opens),
    (EGRESS, Opens),
    (EGRESS_EDGE, Opens),
    (SAME_NETWORK, Opens),
    (INTERNAL_PEERS, Opens),
    (SERVICES, Opens),
    (HOST_ITSELF, Opens),
    (STOPPED, Opens),
];

/// docker-proxy listens for each published port, in both families.
const PROXY_RUNS: Paths = &[
    (PROXY, Opens),
    (PROXY_UNNAMED, Opens),
    (HAIRPIN_ACROSS, Opens),
    (HAIRPIN_EDGE, Opens),
    (HAIRPIN_V6, Opens),
    (HAIRPIN_SELF, Opens),
    (HOST_ITSELF_V6, Opens),
];

const NO_PROXY: Paths = &[
    (PROXY, Closes),
    (PROXY_UNNAMED, Closes),
    (HAIRPIN_ACROSS, Closes),
    (HAIRPIN_EDGE, Closes),
    (HAIRPIN_V6, Closes),
    (HAIRPIN_SELF, Opens),
    (HOST_ITSELF_V6, Closes),
];

/// By docker-proxy, or by rules for IPv6.
const V6_IS_PUBLISHED: Paths = &[(PUBLISHED_V6, Opens), (V6_UNNAMED, Opens)];
const V6_IS_NOT_PUBLISHED: Paths = &[(PUBLISHED_V6, Mutes), (V6_UNNAMED, Mutes)];

const HAS_RULES: Paths = &[
    (BEYOND, Opens),
    (LOOPBACK_ANY, Opens),
    (ANOTHER_NETWORK, Closes),
    (UNPUBLISHED, Closes),
    (INTERNAL, Closes),
];

/// Without rules containers are hosts on a routed network.
const HAS_NO_RULES: Paths = &[
    (BEYOND, Closes),
    (LOOPBACK_ANY, Closes),
    (LOOPBACK, Closes),
    (ANOTHER_NETWORK, Opens),
    (UNPUBLISHED, Opens),
    (INTERNAL, Opens),
    (DIRECT, Opens),
    (DIRECT_EDGE, Opens),
];

/// What Docker opens before version 28.
const BEFORE_28: Paths = &[(DIRECT, Opens), (DIRECT_EDGE, Opens), (LOOPBACK, Opens)];

const SINCE_28: Paths = &[
    (DIRECT, Closes),
    (DIRECT_EDGE, Closes),
    (LOOPBACK, Closes),
    (ROUTED, Opens),
    (ROUTED_UNPUBLISHED, Closes),
    (UNPROTECTED, Opens),
    (UNPROTECTED_UNPUBLISHED, Opens),
    (MODES_EGRESS, Opens),
];

/// Podman keeps neither networks nor unpublished ports apart, and listens in no family.
const PODMAN: Paths = &[
    (PROXY, Closes),
    (PROXY_UNNAMED, Closes),
    (HAIRPIN_ACROSS, Opens),
    (HAIRPIN_EDGE, Opens),
    (HAIRPIN_V6, Closes),
    (HAIRPIN_SELF, Closes),
    (HOST_ITSELF_V6, Closes),
    (BEYOND, Opens),
    (LOOPBACK, Opens),
    (LOOPBACK_ANY, Opens),
    (ANOTHER_NETWORK, Opens),
    (UNPUBLISHED, Opens),
    (INTERNAL, Closes),
    (DIRECT, Opens),
    (DIRECT_EDGE, Opens),
];

#[rustfmt::skip]
const GATEWAY_MODES: &[&str] = &[
    "--ipv6 --subnet 2001:db8:c:1::/64 \
     -o com.docker.network.bridge.gateway_mode_ipv4=routed \
     -o com.docker.network.bridge.gateway_mode_ipv6=routed routes",
    "--ipv6 --subnet 2001:db8:c:2::/64 \
     -o com.docker.network.bridge.gateway_mode_ipv4=nat-unprotected \
     -o com.docker.network.bridge.gateway_mode_ipv6=nat-unprotected unprotected",
];

#[rustfmt::skip]
const IN_GATEWAY_MODES: &[Container] = &[
    container("routed", "--network routes -p 8088:80 -p 5388:53/udp -p 8588:85",
              "tcp:80 tcp:81 tcp:85 udp:53"),
    container("naked", "--network unprotected -p 8089:80 -p 5389:53/udp -p 8589:85",
              "tcp:80 tcp:81 tcp:85 udp:53"),
];

const fn with_gateway_modes(edition: Edition) -> Fleet {
    Fleet {
        edition,
        networks: &[NETWORKS, DOCKER_NETWORKS, GATEWAY_MODES],
        containers: &[CONTAINERS, DOCKER_CONTAINERS, IN_GATEWAY_MODES],
    }
}

const OLD: &[Paths] = &[ALWAYS, PROXY_RUNS, V6_IS_PUBLISHED, HAS_RULES, BEFORE_28];
const OLD_WITHOUT_PROXY: &[Paths] = &[ALWAYS, NO_PROXY, V6_IS_NOT_PUBLISHED, HAS_RULES, BEFORE_28];

/// Swarm's own paths, and what stays as it is beside them.
const SWARM: &[Paths] = &[
    &[(swarm::INGRESS, Opens), (swarm::INGRESS_V6, Opens)],
    ALWAYS,
];

/// Engines in ways that another version is run in, too; bridged frames that pass the hooks of IP are among the engine's
/// own trials.
const KNOWN: &[&str] = &[
    "docker-20.10, bridge-nf-call-iptables",
    "docker-20.10, swarm",
    "docker-26.1, userland-proxy=false",
    "docker-28.5, userland-proxy=false",
];

#[rustfmt::skip]
pub(crate) const VARIANTS: &[Variant] = &[
    variant("docker-20.10", docker(BOOKWORM, ""), OLD),
    variant("docker-20.10, userland-proxy=false", docker(BOOKWORM, "--userland-proxy=false"), OLD_WITHOUT_PROXY),
    variant("docker-20.10, iptables-legacy", Edition { legacy: true, ..docker(BOOKWORM, "") }, OLD),
    variant("docker-20.10, iptables=false", docker(BOOKWORM, "--iptables=false"),
            &[ALWAYS, PROXY_RUNS, V6_IS_PUBLISHED, HAS_NO_RULES]),
    Variant {
        prepare: pass_bridged_frames_to_ip,
        ..variant("docker-20.10, bridge-nf-call-iptables", docker(BOOKWORM, ""), OLD)
    },
    Variant {
        prepare: swarm::start,
        ..variant("docker-20.10, swarm", docker(BOOKWORM, ""), SWARM)
    },
    variant("docker-26.1", docker(TRIXIE, ""), OLD),
    variant("docker-26.1, userland-proxy=false", docker(TRIXIE, "--userland-proxy=false"), OLD_WITHOUT_PROXY),
    Variant {
        fleet: with_gateway_modes(docker(SID, "")),
        ..variant("docker-28.5", docker(SID, ""),
                  &[ALWAYS, PROXY_RUNS, V6_IS_PUBLISHED, HAS_RULES, SINCE_28])
    },
    Variant {
        fleet: with_gateway_modes(docker(SID, "--userland-proxy=false")),
        ..variant("docker-28.5, userland-proxy=false", docker(SID, ""),
                  &[ALWAYS, NO_PROXY, V6_IS_PUBLISHED, HAS_RULES, SINCE_28])
    },
    Variant {
        prepare: swarm::start,
        ..variant("docker-28.5, swarm", docker(SID, ""), SWARM)
    },
    variant("podman-5.4", Edition { maker: Maker::Podman, ..docker(TRIXIE, "") },
            &[ALWAYS, V6_IS_PUBLISHED, PODMAN]),
];

/// Frames between two containers of one bridge pass the hooks of IP, as many a distribution has it.
fn pass_bridged_frames_to_ip(lab: &Lab) -> Result<()> {
    let host = lab.host()?;
    host.sysctl("net/bridge/bridge-nf-call-iptables", "1")?;
    host.sysctl("net/bridge/bridge-nf-call-ip6tables", "1")
}
