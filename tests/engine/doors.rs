//! Every way to a port of this host, each closed to strangers and open to those named.

use anyhow::Result;

use crate::Named;
use crate::support::doors::{
    DIRECT, DIRECT_EDGE, HAIRPIN, HAIRPIN_EDGE, HOST_NETWORK, LOOPBACK, POLICY, PROXY,
    PROXY_UNNAMED, PUBLISHED, PUBLISHED_UNNAMED, PUBLISHED_V6,
};
use crate::support::lab::Lab;
use crate::support::table::{Reading, Row, check, row};

pub(crate) const TRIALS: &[Named] = &[
    ("doors::all_are_open_without_dfw", all_are_open_without_dfw),
    ("doors::published_port", |lab| guarded(lab, PUBLISHED)),
    ("doors::published_port_that_no_policy_names", |lab| {
        guarded(lab, PUBLISHED_UNNAMED)
    }),
    ("doors::docker_proxy", |lab| guarded(lab, PROXY)),
    ("doors::published_port_over_v6", |lab| {
        guarded(lab, PUBLISHED_V6)
    }),
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
        PUBLISHED_V6,
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

fn guarded(lab: &Lab, rows: &'static [Row]) -> Result<()> {
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
