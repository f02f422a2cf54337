//! Every way to a port of this host, each closed to strangers and open to those named.

use anyhow::Result;

use crate::Named;
use crate::support::lab::Lab;
use crate::support::table::{Reading, Row, check, row};

pub(crate) const TRIALS: &[Named] = &[
    ("doors::all_are_open_without_dfw", all_are_open_without_dfw),
    ("doors::published_port", |lab| guarded(lab, PUBLISHED)),
    ("doors::published_port_that_no_policy_names", |lab| {
        guarded(lab, PUBLISHED_UNNAMED)
    }),
    ("doors::docker_proxy", |lab| guarded(lab, PROXY)),
    ("doors::docker_proxy_at_ports_that_no_policy_names", |lab| {
        guarded(lab, PROXY_UNNAMED)
    }),
    ("doors::host_network", |lab| guarded(lab, HOST_NETWORK)),
    ("doors::direct_to_a_container", |lab| guarded(lab, DIRECT)),
    (
        "doors::direct_to_a_container_behind_a_bridge_of_any_name",
        direct_to_a_container_behind_a_bridge_of_any_name,
    ),
    ("doors::loopback_over_the_wire", |lab| {
        guarded(lab, LOOPBACK)
    }),
    ("doors::containers_reach_ports_of_their_host", |lab| {
        guarded(lab, HAIRPIN)
    }),
    (
        "doors::containers_can_be_excepted",
        containers_can_be_excepted,
    ),
    ("doors::remove_opens_all_again", remove_opens_all_again),
];

/// What most trials apply: a few ports, each for one client of the LAN.
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
    row("udp, default bridge",           "udp host:5353",       "trusted",          "trusted2 neighbour stranger office"),
    row("udp, network with IPv6",        "udp host:5384",       "trusted",          "neighbour stranger office"),
    row("first of a range",              "tcp host:9000",       "trusted",          "neighbour stranger"),
    row("within a range",                "tcp host:9001",       "trusted",          "neighbour stranger"),
    row("last of a range",               "tcp host:9002",       "trusted",          "neighbour stranger"),
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
    row("tcp, network with IPv6",        "tcp host6:8084",      "trusted",          "neighbour stranger office"),
    row("tcp, bridge of another name",   "tcp host6:8085",      "trusted",          "neighbour stranger office"),
    row("tcp, at one IPv6 address",      "tcp host6:8086",      "trusted",          "neighbour stranger office"),
    row("udp, default bridge",           "udp host6:5353",      "trusted",          "trusted2 neighbour stranger"),
    row("udp, network with IPv6",        "udp host6:5384",      "trusted",          "neighbour stranger"),
    row("within a range",                "tcp host6:9001",      "trusted",          "neighbour stranger"),
];

/// Only the engine can tell that a socket of this host is a published port.
#[rustfmt::skip]
pub(crate) const PROXY_UNNAMED: &[Row] = &[
    row("tcp, default bridge",           "tcp host6:8500",      "",                 "trusted neighbour stranger office"),
    row("tcp, network of a user",        "tcp host6:8443",      "",                 "trusted neighbour stranger office"),
];

/// Over UDP only from where an answer leaves by the address that was asked.
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
    row("not published",                 "tcp web:81",          "",                 "(neighbour) (stranger)"),
    row("IPv6, published",               "tcp six6:80",         "",                 "neighbour stranger office"),
    row("IPv6, not published",           "tcp six6:81",         "",                 "neighbour stranger office"),
    row("IPv6, udp",                     "udp six6:53",         "",                 "neighbour stranger"),
];

#[rustfmt::skip]
pub(crate) const DIRECT_EDGE: &[Row] = &[
    row("published port",                "tcp edge:80",         "",                 "neighbour stranger office"),
];

#[rustfmt::skip]
pub(crate) const LOOPBACK: &[Row] = &[
    row("published on 127.0.0.1",        "tcp loopback:8081",   "",                 "wire"),
    row("published everywhere",          "tcp loopback:80",     "",                 "wire"),
];

#[rustfmt::skip]
const HAIRPIN: &[Row] = &[
    row("same bridge or another",        "tcp host:80",         "plain app six",    ""),
    row("same network or another",       "tcp host:8083",       "plain peer six",   ""),
    row("at the bridge's own address",   "tcp docker0:80",      "plain app",        ""),
    row("udp at the bridge's address",   "udp docker0:5353",    "plain",            ""),
    row("IPv6",                          "tcp host6:80",        "six",              ""),
    row("unnamed",                       "tcp host:8500",       "plain app",        ""),
    row("host network",                  "tcp host:7000",       "plain app",        ""),
];

#[rustfmt::skip]
const HAIRPIN_EDGE: &[Row] = &[
    row("another bridge",                "tcp host:80",         "edge",             ""),
    row("same bridge",                   "tcp host:8085",       "edge",             ""),
    row("unnamed",                       "tcp host:8500",       "edge",             ""),
];

const EXCEPT_CONTAINERS: &str = r"
default: deny
ports:
  80: {allow: any, except: [containers]}
  5353/udp: {allow: any, except: [containers]}
  8083: any
  7000: {allow: any, except: [containers]}
";

#[rustfmt::skip]
const EXCEPTED: &[Row] = &[
    row("same bridge or another",        "tcp host:80",         "trusted stranger", "plain app six"),
    row("IPv6",                          "tcp host6:80",        "trusted stranger", "six"),
    row("udp",                           "udp docker0:5353",    "trusted",          "plain"),
    row("host network",                  "tcp host:7000",       "trusted",          "plain app"),
    row("another port",                  "tcp host:8083",       "plain peer stranger", ""),
    row("beside the host",               "tcp web:80",          "plain",            ""),
];

/// Who sees no door without dfw cannot see one closed.
fn all_are_open_without_dfw(lab: &Lab) -> Result<()> {
    for rows in [
        PUBLISHED,
        PUBLISHED_UNNAMED,
        PROXY,
        PROXY_UNNAMED,
        HOST_NETWORK,
        HAIRPIN,
        HAIRPIN_EDGE,
        EXCEPTED,
    ] {
        check(lab, rows, Reading::Bare)?;
    }
    side_doors_are_open(lab)
}

/// The doors that engines close themselves from version 28 on.
fn side_doors_are_open(lab: &Lab) -> Result<()> {
    if lab.engine_version()? < 28 {
        for rows in [DIRECT, DIRECT_EDGE, LOOPBACK] {
            check(lab, rows, Reading::Bare)?;
        }
    }
    Ok(())
}

fn guarded(lab: &Lab, rows: &[Row]) -> Result<()> {
    lab.apply(POLICY)?;
    check(lab, rows, Reading::Guarded)
}

/// Whether [`POLICY`] is in force, where nothing but the rules themselves has to be known.
pub(crate) fn guarded_now(lab: &Lab) -> Result<()> {
    for rows in [PUBLISHED, PUBLISHED_UNNAMED, PROXY, HOST_NETWORK, LOOPBACK] {
        check(lab, rows, Reading::Guarded)?;
    }
    Ok(())
}

/// The same for what only the engine can tell.
pub(crate) fn guarded_as_the_engine_says(lab: &Lab) -> Result<()> {
    check(lab, PROXY_UNNAMED, Reading::Guarded)
}

/// Whether one client reaches everything that is published or served for others.
pub(crate) fn trusted_reaches_all(lab: &Lab) -> Result<()> {
    #[rustfmt::skip]
    const ALL: &[Row] = &[
        row("default bridge",            "tcp host:80",         "trusted",          "trusted2 stranger"),
        row("nobody had named it",       "tcp host:8500",       "trusted",          "trusted2 stranger"),
        row("the same, IPv6",            "tcp host6:8500",      "trusted",          "trusted2 stranger"),
        row("at one address",            "tcp host:8082",       "trusted",          "trusted2 stranger"),
        row("at one IPv6 address",       "tcp host6:8086",      "trusted",          "trusted2 stranger"),
        row("a range",                   "tcp host:9001",       "trusted",          "trusted2 stranger"),
        row("udp",                       "udp host:5353",       "trusted",          "trusted2 stranger"),
        row("host network",              "tcp host:7001",       "trusted",          "trusted2 stranger"),
    ];
    check(lab, ALL, Reading::Guarded)
}

/// Whether containers reach the ports of their host.
pub(crate) fn hairpin_now(lab: &Lab) -> Result<()> {
    check(lab, HAIRPIN, Reading::Guarded)
}

fn direct_to_a_container_behind_a_bridge_of_any_name(lab: &Lab) -> Result<()> {
    lab.apply(POLICY)?;
    check(lab, DIRECT_EDGE, Reading::Guarded)?;
    check(lab, HAIRPIN_EDGE, Reading::Guarded)
}

fn containers_can_be_excepted(lab: &Lab) -> Result<()> {
    lab.apply(EXCEPT_CONTAINERS)?;
    check(lab, EXCEPTED, Reading::Guarded)
}

fn remove_opens_all_again(lab: &Lab) -> Result<()> {
    guarded(lab, PUBLISHED)?;
    lab.remove()?;
    for rows in [PUBLISHED, PROXY] {
        check(lab, rows, Reading::Bare)?;
    }
    side_doors_are_open(lab)
}
