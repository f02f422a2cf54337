//! What dfw never touches, as tables: what containers and the host itself do.

use super::table::{Row, row};

#[rustfmt::skip]
pub(crate) const EGRESS: &[Row] = &[
    //  what                             to                     may                       must not
    // The first port is one that the policy names: here it is somebody else's.
    row("tcp",                           "tcp internet:80",     "web plain app peer six", ""),
    row("tcp",                           "tcp internet:443",    "web app six",            ""),
    row("udp",                           "udp internet:53",     "web plain app peer six", ""),
    row("IPv6",                          "tcp internet6:80",    "six",                    ""),
    row("IPv6, udp",                     "udp internet6:53",    "six",                    ""),
    row("a neighbour",                   "tcp trusted:80",      "web app",                ""),
];

#[rustfmt::skip]
pub(crate) const EDGE: &[Row] = &[
    row("tcp",                           "tcp internet:80",     "edge",                   ""),
    row("udp",                           "udp internet:53",     "edge",                   ""),
    row("a neighbour",                   "tcp trusted:80",      "edge",                   ""),
    row("a service of the host",         "tcp host:22",         "edge",                   ""),
];

#[rustfmt::skip]
pub(crate) const SAME_NETWORK: &[Row] = &[
    row("default bridge",                "tcp web:80",          "plain",                  ""),
    row("default bridge, udp",           "udp web:53",          "plain",                  ""),
    row("default bridge, not published", "tcp web:81",          "plain",                  ""),
    row("network of a user",             "tcp app:443",         "peer",                   ""),
    row("network of a user, udp",        "udp app:53",          "peer",                   ""),
    row("the other way",                 "tcp peer:80",         "app",                    ""),
];

#[rustfmt::skip]
pub(crate) const ANOTHER_NETWORK: &[Row] = &[
    row("another network",               "tcp app:80",          "plain",                  ""),
];

#[rustfmt::skip]
pub(crate) const HOST_SERVICES: &[Row] = &[
    row("tcp",                           "tcp host:22",         "trusted neighbour stranger office plain app six", ""),
    row("tcp, IPv6",                     "tcp host6:22",        "trusted neighbour stranger office six", ""),
    row("udp",                           "udp host:2222",       "trusted neighbour stranger", ""),
    row("udp, IPv6",                     "udp host6:2222",      "trusted neighbour stranger", ""),
    row("at another address",            "tcp second-card:22",  "trusted stranger office", ""),
];

#[rustfmt::skip]
pub(crate) const HOST_ITSELF: &[Row] = &[
    row("loopback",                      "tcp localhost:80",    "host",                   ""),
    row("loopback, udp",                 "udp localhost:5353",  "host",                   ""),
    row("published on loopback",         "tcp localhost:8081",  "host",                   ""),
    row("unnamed",                       "tcp localhost:8443",  "host",                   ""),
    row("own address",                   "tcp host:80",         "host",                   ""),
    row("own address, network of a user", "tcp host:8083",      "host",                   ""),
    row("host network",                  "tcp localhost:7000",  "host",                   ""),
    row("beside the engine",             "tcp web:80",          "host",                   ""),
    row("beside the engine, unpublished", "tcp app:81",         "host",                   ""),
    row("beside the engine, IPv6",       "tcp six6:80",         "host",                   ""),
    row("the world",                     "tcp internet:80",     "host",                   ""),
    row("the world, IPv6",               "udp internet6:53",    "host",                   ""),
];

#[rustfmt::skip]
pub(crate) const HOST_ITSELF_V6: &[Row] = &[
    row("loopback, IPv6",                "tcp localhost6:80",   "host",                   ""),
    row("loopback, udp, IPv6",           "udp localhost6:5353", "host",                   ""),
    row("own address, IPv6",             "tcp host6:80",        "host",                   ""),
];
