//! Every path to a port of the host, as tables: which clients [`POLICY`] allows, and which it denies.

use super::table::{Row, row};

/// The policy of most trials: a few ports, each for one client of the LAN.
pub(crate) const POLICY: &str = r#"
default: deny
sources:
  trusted: [203.0.113.20, "2001:db8:1::20"]
ports:
  80: [trusted]
  8083: [trusted]
  8084: [trusted]
  8085: [trusted]
  8086: [trusted]
  203.0.113.10:8082: [trusted]
  5353/udp: [trusted]
  5384/udp: [trusted]
  9000-9002: [trusted]
  7000: [trusted]
  7000/udp: [trusted]
"#;

#[rustfmt::skip]
pub(crate) const PUBLISHED: &[Row] = &[
    //  what                             to                     may                 must not
    row("tcp, default bridge",           "tcp host:80",         "trusted",          "trusted2 neighbour stranger office wire"),
    row("at the second card's address",  "tcp second-card:80",  "trusted",          "neighbour stranger office"),
    row("tcp, network of a user",        "tcp host:8083",       "trusted",          "trusted2 neighbour stranger office"),
    row("tcp, network with IPv6",        "tcp host:8084",       "trusted",          "neighbour stranger office"),
    row("tcp, bridge of another name",   "tcp host:8085",       "trusted",          "neighbour stranger office"),
    row("tcp, at one address only",      "tcp host:8082",       "trusted",          "trusted2 neighbour stranger office"),
    row("udp, default bridge",           "udp host:5353",       "trusted",          "trusted2 neighbour stranger"),
    row("udp, network with IPv6",        "udp host:5384",       "trusted",          "neighbour stranger"),
    row("first of a range",              "tcp host:9000",       "trusted",          "neighbour stranger"),
    row("within a range",                "tcp host:9001",       "trusted",          "neighbour stranger"),
    row("last of a range",               "tcp host:9002",       "trusted",          "neighbour stranger"),
];

/// Replies must leave from the address that was requested, which needs connection tracking.
#[rustfmt::skip]
pub(crate) const PUBLISHED_BEYOND: &[Row] = &[
    row("udp, default bridge",           "udp host:5353",       "",                 "office"),
    row("udp, network with IPv6",        "udp host:5384",       "",                 "office"),
];

#[rustfmt::skip]
pub(crate) const PUBLISHED_UNNAMED: &[Row] = &[
    row("tcp, default bridge",           "tcp host:8500",       "",                 "trusted neighbour stranger office"),
    row("tcp, network of a user",        "tcp host:8443",       "",                 "trusted neighbour stranger office"),
    row("at an inner address",           "tcp second-card:8087", "",                "trusted neighbour stranger office"),
];

#[rustfmt::skip]
pub(crate) const PROXY: &[Row] = &[
    row("tcp, default bridge",           "tcp host6:80",        "trusted",          "trusted2 neighbour stranger office"),
    row("at the second card's address",  "tcp second-card6:80", "trusted",          "neighbour stranger office"),
    row("tcp, network of a user",        "tcp host6:8083",      "trusted",          "neighbour stranger office"),
    row("tcp, bridge of another name",   "tcp host6:8085",      "trusted",          "neighbour stranger office"),
    row("tcp, at one IPv6 address",      "tcp host6:8086",      "trusted",          "neighbour stranger office"),
    row("udp, default bridge",           "udp host6:5353",      "trusted",          "trusted2 neighbour stranger"),
    row("within a range",                "tcp host6:9001",      "trusted",          "neighbour stranger"),
];

/// DNAT by engines that write rules for IPv6, otherwise docker-proxy.
#[rustfmt::skip]
pub(crate) const PUBLISHED_V6: &[Row] = &[
    row("tcp, network with IPv6",        "tcp host6:8084",      "trusted",          "neighbour stranger office"),
    row("udp, network with IPv6",        "udp host6:5384",      "trusted",          "neighbour stranger"),
];

/// Only the engine can tell that a socket of this host is a published port.
#[rustfmt::skip]
pub(crate) const PROXY_UNNAMED: &[Row] = &[
    row("tcp, default bridge",           "tcp host6:8500",      "",                 "trusted neighbour stranger office"),
    row("tcp, network of a user",        "tcp host6:8443",      "",                 "trusted neighbour stranger office"),
    row("tcp, bridge of another name",   "tcp host6:8545",      "",                 "trusted neighbour stranger office"),
    row("udp, default bridge",           "udp host6:8501",      "",                 "trusted neighbour stranger"),
];

/// Over UDP only from clients whose replies leave from the address that was requested.
#[rustfmt::skip]
pub(crate) const HOST_NETWORK: &[Row] = &[
    row("tcp",                           "tcp host:7000",       "trusted",          "trusted2 neighbour stranger office"),
    row("tcp, IPv6",                     "tcp host6:7000",      "trusted",          "trusted2 neighbour stranger office"),
    row("udp",                           "udp host:7000",       "trusted",          "trusted2 neighbour stranger"),
    row("udp, IPv6",                     "udp host6:7000",      "trusted",          "trusted2 neighbour stranger"),
    row("unnamed: a service of the host", "tcp host:7001",      "trusted neighbour stranger office", ""),
    row("unnamed, IPv6",                 "tcp host6:7001",      "trusted neighbour stranger office", ""),
];

#[rustfmt::skip]
pub(crate) const DIRECT: &[Row] = &[
    row("published port, default bridge", "tcp web:80",         "",                 "neighbour stranger office"),
    row("published udp port",            "udp web:53",          "",                 "neighbour stranger"),
    row("published port, user's network", "tcp app:80",         "",                 "neighbour stranger office"),
    row("published under another number", "tcp app:443",        "",                 "neighbour stranger"),
    row("IPv6, published",               "tcp six6:80",         "",                 "neighbour stranger office"),
    row("IPv6, not published",           "tcp six6:81",         "",                 "neighbour stranger office"),
    row("IPv6, udp",                     "udp six6:53",         "",                 "neighbour stranger"),
];

#[rustfmt::skip]
pub(crate) const DIRECT_UNPUBLISHED: &[Row] = &[
    row("not published",                 "tcp web:81",          "",                 "neighbour stranger"),
];

#[rustfmt::skip]
pub(crate) const DIRECT_EDGE: &[Row] = &[
    row("published port",                "tcp edge:80",         "",                 "neighbour stranger office"),
];

#[rustfmt::skip]
pub(crate) const LOOPBACK: &[Row] = &[
    row("published on 127.0.0.1",        "tcp loopback:8081",   "",                 "wire"),
];

#[rustfmt::skip]
pub(crate) const LOOPBACK_ANY: &[Row] = &[
    row("published everywhere",          "tcp loopback:80",     "",                 "wire"),
];

#[rustfmt::skip]
pub(crate) const HAIRPIN: &[Row] = &[
    row("same bridge",                   "tcp host:80",         "plain",            ""),
    row("same network",                  "tcp host:8083",       "peer",             ""),
    row("at the bridge's own address",   "tcp bridge:80",       "plain",            ""),
    row("udp at the bridge's address",   "udp bridge:5353",     "plain",            ""),
    row("unnamed",                       "tcp host:8500",       "plain",            ""),
    row("host network",                  "tcp host:7000",       "plain app edge",   ""),
];

/// The engine isolates its bridges: only docker-proxy connects one with another.
#[rustfmt::skip]
pub(crate) const HAIRPIN_ACROSS: &[Row] = &[
    row("another bridge",                "tcp host:80",         "app six",          ""),
    row("another network",               "tcp host:8083",       "plain six",        ""),
    row("at another bridge's address",   "tcp bridge:80",       "app",              ""),
    row("unnamed",                       "tcp host:8500",       "app",              ""),
];

#[rustfmt::skip]
pub(crate) const HAIRPIN_V6: &[Row] = &[
    row("IPv6",                          "tcp host6:80",        "six",              ""),
];

#[rustfmt::skip]
pub(crate) const HAIRPIN_EDGE: &[Row] = &[
    row("another bridge",                "tcp host:80",         "edge",             ""),
    row("unnamed",                       "tcp host:8500",       "edge",             ""),
];

#[rustfmt::skip]
pub(crate) const HAIRPIN_SELF: &[Row] = &[
    row("its own port",                  "tcp host:8085",       "edge",             ""),
];
