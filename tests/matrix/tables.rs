//! The probes, grouped by path.

use anyhow::{Context, Result};

use crate::support::inside;
use crate::support::lab::Lab;
use crate::support::paths;
use crate::support::table::{Row, row};

/// The paths of `docs/paths.md`, and traffic that takes none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PathKind {
    Published,
    PublishedBeyond,
    PublishedV6,
    Proxy,
    HostNetwork,
    Direct,
    Unpublished,
    UnpublishedInUnprotected,
    Internal,
    Routed,
    Unprotected,
    Loopback,
    LoopbackAny,
    Ingress,
    FromContainers,
    FromItself,
    FromOtherBridges,
    FromOtherBridgesV6,
    Egress,
    SameNetwork,
    AnotherNetwork,
    HostServices,
    HostItselfV6,
}

impl PathKind {
    /// Whether it is one through which somebody outside comes to a container.
    pub(crate) fn leads_to_containers(self) -> bool {
        match self {
            Self::Published
            | Self::PublishedBeyond
            | Self::PublishedV6
            | Self::Proxy
            | Self::HostNetwork
            | Self::Direct
            | Self::Unpublished
            | Self::UnpublishedInUnprotected
            | Self::Internal
            | Self::Routed
            | Self::Unprotected
            | Self::Loopback
            | Self::LoopbackAny
            | Self::Ingress => true,
            Self::FromContainers
            | Self::FromItself
            | Self::FromOtherBridges
            | Self::FromOtherBridgesV6
            | Self::Egress
            | Self::SameNetwork
            | Self::AnotherNetwork
            | Self::HostServices
            | Self::HostItselfV6 => false,
        }
    }
}

/// Questions that belong together.
#[derive(Clone, Copy)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) kind: PathKind,
    pub(crate) rows: &'static [Row],
}

const fn table(name: &'static str, kind: PathKind, rows: &'static [Row]) -> Table {
    Table { name, kind, rows }
}

#[rustfmt::skip]
mod shared {
    use super::{PathKind, Table, paths, inside, table};

    pub(crate) const PUBLISHED: Table       = table("published", PathKind::Published, paths::PUBLISHED);
    pub(crate) const BEYOND: Table          = table("published, udp", PathKind::PublishedBeyond, paths::PUBLISHED_BEYOND);
    pub(crate) const UNNAMED: Table         = table("published, unnamed", PathKind::Published, paths::PUBLISHED_UNNAMED);
    pub(crate) const PUBLISHED_V6: Table    = table("published, IPv6", PathKind::PublishedV6, paths::PUBLISHED_V6);
    pub(crate) const PROXY: Table           = table("docker-proxy", PathKind::Proxy, paths::PROXY);
    pub(crate) const HOST_NETWORK: Table    = table("host network", PathKind::HostNetwork, paths::HOST_NETWORK);
    pub(crate) const DIRECT: Table          = table("direct", PathKind::Direct, paths::DIRECT);
    pub(crate) const UNPUBLISHED: Table     = table("direct, not published", PathKind::Unpublished, paths::DIRECT_UNPUBLISHED);
    pub(crate) const LOOPBACK: Table        = table("loopback", PathKind::Loopback, paths::LOOPBACK);
    pub(crate) const LOOPBACK_ANY: Table    = table("loopback, any", PathKind::LoopbackAny, paths::LOOPBACK_ANY);
    pub(crate) const HAIRPIN: Table         = table("from containers", PathKind::FromContainers, paths::HAIRPIN);
    pub(crate) const HAIRPIN_ACROSS: Table  = table("from other bridges", PathKind::FromOtherBridges, paths::HAIRPIN_ACROSS);
    pub(crate) const HAIRPIN_V6: Table      = table("from other bridges, IPv6", PathKind::FromOtherBridgesV6, paths::HAIRPIN_V6);
    pub(crate) const HAIRPIN_SELF: Table    = table("from the container itself", PathKind::FromItself, paths::HAIRPIN_SELF);
    pub(crate) const EGRESS: Table          = table("egress", PathKind::Egress, inside::EGRESS);
    pub(crate) const EGRESS_EDGE: Table     = table("egress, any bridge", PathKind::Egress, inside::EDGE);
    pub(crate) const SAME_NETWORK: Table    = table("same network", PathKind::SameNetwork, inside::SAME_NETWORK);
    pub(crate) const ANOTHER_NETWORK: Table = table("another network", PathKind::AnotherNetwork, inside::ANOTHER_NETWORK);
    pub(crate) const SERVICES: Table        = table("host services", PathKind::HostServices, inside::HOST_SERVICES);
    pub(crate) const HOST_ITSELF: Table     = table("host itself", PathKind::HostServices, inside::HOST_ITSELF);
    pub(crate) const HOST_ITSELF_V6: Table  = table("host itself, IPv6", PathKind::HostItselfV6, inside::HOST_ITSELF_V6);
}
pub(crate) use shared::*;

/// What only the engine's API can tell: which sockets are docker-proxy's, which bridges of any name
/// are containers', and which port of a routed container is published.
pub(crate) mod told_by_the_engine {
    use super::{MODES_ROUTED, MODES_UNPROTECTED, PathKind, Row, Table, paths, row, table};

    #[rustfmt::skip]
    pub(crate) const PROXY_UNNAMED: Table = table("docker-proxy, unnamed", PathKind::Proxy, paths::PROXY_UNNAMED);

    /// Rewritten or copied, as [`paths::PUBLISHED_V6`].
    #[rustfmt::skip]
    pub(crate) const V6_UNNAMED: Table = table("published, IPv6, unnamed", PathKind::PublishedV6, &[
        row("tcp, network with IPv6",    "tcp host6:8544",      "",                 "trusted neighbour stranger office"),
    ]);

    #[rustfmt::skip]
    pub(crate) const DIRECT_EDGE: Table = table("direct, any bridge", PathKind::Direct, paths::DIRECT_EDGE);
    #[rustfmt::skip]
    pub(crate) const HAIRPIN_EDGE: Table = table("from a bridge of any name", PathKind::FromOtherBridges, paths::HAIRPIN_EDGE);

    pub(crate) const ROUTED: Table = table("routed", PathKind::Routed, MODES_ROUTED);
    pub(crate) const UNPROTECTED: Table =
        table("nat-unprotected", PathKind::Unprotected, MODES_UNPROTECTED);

    #[rustfmt::skip]
    pub(crate) const UNPROTECTED_UNPUBLISHED: Table = table("nat-unprotected, not published", PathKind::UnpublishedInUnprotected, &[
        row("not published",                 "tcp naked:81",        "",                 "trusted neighbour stranger office"),
        row("not published, IPv6",           "tcp naked6:81",       "",                 "trusted neighbour stranger office"),
    ]);

    /// The number is that of a container which does not run: the socket is the host's own.
    #[rustfmt::skip]
    const STOPPED_ROWS: &[Row] = &[
        row("tcp",                       "tcp host:8600",       "trusted neighbour stranger office plain", ""),
        row("tcp, IPv6",                 "tcp host6:8600",      "trusted neighbour stranger office", ""),
        row("udp",                       "udp host:8601",       "trusted neighbour stranger", ""),
        row("udp, IPv6",                 "udp host6:8601",      "trusted neighbour stranger", ""),
    ];
    pub(crate) const STOPPED: Table = table(
        "number of a stopped container",
        PathKind::HostServices,
        STOPPED_ROWS,
    );
}

/// A container that was never started has bindings; a service of the host has taken its ports.
pub(crate) fn occupy_a_stopped_containers_port(lab: &Lab) -> Result<()> {
    lab.create("made", "-p 8600:80 -p 8601:53/udp", "tcp:80 udp:53")?;
    lab.serve_on_host("tcp:8600 udp:8601")
        .context("a service of the host")
}

#[rustfmt::skip]
const MODES_ROUTED: &[Row] = &[
    row("published as 8088",             "tcp routed:80",       "trusted",          "neighbour stranger office"),
    row("published as 8088, IPv6",       "tcp routed6:80",      "trusted",          "neighbour stranger office"),
    row("published as 5388",             "udp routed:53",       "trusted",          "neighbour stranger"),
    row("published as 5388, IPv6",       "udp routed6:53",      "trusted",          "neighbour stranger"),
    row("published, unnamed",            "tcp routed:85",       "",                 "trusted neighbour stranger office"),
    row("published, unnamed, IPv6",      "tcp routed6:85",      "",                 "trusted neighbour stranger office"),
];

#[rustfmt::skip]
const MODES_UNPROTECTED: &[Row] = &[
    row("published as 8089",             "tcp naked:80",        "trusted",          "neighbour stranger office"),
    row("published as 8089, IPv6",       "tcp naked6:80",       "trusted",          "neighbour stranger office"),
    row("published as 5389",             "udp naked:53",        "trusted",          "neighbour stranger"),
    row("published, unnamed",            "tcp naked:85",        "",                 "trusted neighbour stranger office"),
    row("at the host's port",            "tcp host:8089",       "trusted",          "neighbour stranger office"),
    row("at the host's port, IPv6",      "tcp host6:8089",      "trusted",          "neighbour stranger office"),
    row("at the host's port, unnamed",   "tcp host:8589",       "",                 "trusted stranger"),
];

#[rustfmt::skip]
pub(crate) const INTERNAL: Table = table("internal network", PathKind::Internal, &[
    row("internal network",              "tcp inner:80",        "",                 "neighbour stranger office"),
]);

#[rustfmt::skip]
pub(crate) const INTERNAL_PEERS: Table = table("within an internal network", PathKind::SameNetwork, &[
    row("internal network",              "tcp inner:80",        "inmate",           ""),
]);

#[rustfmt::skip]
pub(crate) const ROUTED_UNPUBLISHED: Table = table("routed, not published", PathKind::Unpublished, &[
    row("not published",                 "tcp routed:81",       "",                 "trusted stranger"),
    row("not published, IPv6",           "tcp routed6:81",      "",                 "trusted stranger"),
]);

#[rustfmt::skip]
pub(crate) const MODES_EGRESS: Table = table("egress, gateway modes", PathKind::Egress, &[
    row("the world",                     "tcp internet:80",     "routed",           ""),
    row("the world, IPv6, udp",          "udp internet6:53",    "routed",           ""),
    row("the world",                     "tcp internet:80",     "naked",            ""),
    row("the world, IPv6, udp",          "udp internet6:53",    "naked",            ""),
]);
