//! Paths of the matrix that need more than one policy to be tested.

use anyhow::Result;

use crate::Named;
use crate::support::lab::Lab;
use crate::support::paths::{
    HAIRPIN, HAIRPIN_ACROSS, HOST_NETWORK, LOOPBACK, LOOPBACK_ANY, POLICY, PROXY, PROXY_UNNAMED,
    PUBLISHED, PUBLISHED_BEYOND, PUBLISHED_UNNAMED, PUBLISHED_V6,
};
use crate::support::table::{Reading, Row, check, check_all, row};

pub(crate) const TRIALS: &[Named] = &[
    (
        "paths::containers_can_be_excepted",
        containers_can_be_excepted,
    ),
    ("paths::remove_opens_all_again", remove_opens_all_again),
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
    row("udp",                           "udp bridge:5353" ,    "trusted",          "plain"),
    row("host network",                  "tcp host:7000",       "trusted",          "plain app"),
    row("another port",                  "tcp host:8083",       "plain peer stranger", ""),
    row("beside the host",               "tcp web:80",          "plain",            ""),
];

/// Checks that [`POLICY`] is in force on paths that need no report of the engine.
pub(crate) fn guarded_now(lab: &Lab) -> Result<()> {
    check_all(
        lab,
        &[
            PUBLISHED,
            PUBLISHED_BEYOND,
            PUBLISHED_UNNAMED,
            PROXY,
            PUBLISHED_V6,
            HOST_NETWORK,
            LOOPBACK,
            LOOPBACK_ANY,
        ],
        Reading::Guarded,
    )
}

/// Checks the ports that only the engine's report identifies as published.
pub(crate) fn guarded_by_engine_reports(lab: &Lab) -> Result<()> {
    check(lab, PROXY_UNNAMED, Reading::Guarded)
}

/// Checks that one client reaches every published port and every service.
pub(crate) fn trusted_reaches_all(lab: &Lab) -> Result<()> {
    #[rustfmt::skip]
    const ALL: &[Row] = &[
        row("default bridge",            "tcp host:80",         "trusted",          "trusted2 stranger"),
        row("not in the policy",       "tcp host:8500",       "trusted",          "trusted2 stranger"),
        row("the same, IPv6",            "tcp host6:8500",      "trusted",          "trusted2 stranger"),
        row("at one address",            "tcp host:8082",       "trusted",          "trusted2 stranger"),
        row("at one IPv6 address",       "tcp host6:8086",      "trusted",          "trusted2 stranger"),
        row("a range",                   "tcp host:9001",       "trusted",          "trusted2 stranger"),
        row("udp",                       "udp host:5353",       "trusted",          "trusted2 stranger"),
        row("host network",              "tcp host:7001",       "trusted",          "trusted2 stranger"),
    ];
    check(lab, ALL, Reading::Guarded)
}

/// Checks that containers reach the ports of their host.
pub(crate) fn hairpin_now(lab: &Lab) -> Result<()> {
    check_all(lab, &[HAIRPIN, HAIRPIN_ACROSS], Reading::Guarded)
}

fn containers_can_be_excepted(lab: &Lab) -> Result<()> {
    check(lab, EXCEPTED, Reading::Bare)?;
    lab.apply(EXCEPT_CONTAINERS)?;
    check(lab, EXCEPTED, Reading::Guarded)
}

fn remove_opens_all_again(lab: &Lab) -> Result<()> {
    lab.apply(POLICY)?;
    guarded_now(lab)?;
    lab.remove()?;
    check_all(lab, &[PUBLISHED, PROXY, PUBLISHED_V6], Reading::Bare)
}
