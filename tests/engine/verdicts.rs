//! What a policy can say about a port, besides who.

use anyhow::{Context, Result, ensure};

use crate::Named;
use crate::support::lab::Lab;
use crate::support::probe::{PATIENCE, SILENCE};
use crate::support::table::{Reading, Row, check, row};

pub(crate) const TRIALS: &[Named] = &[
    ("verdicts::default_allow", |lab| {
        ruled(lab, DEFAULT_ALLOW, ALLOWED, Reading::Guarded)
    }),
    ("verdicts::refuse_by_reject", |lab| {
        ruled(lab, REJECT, REJECTED, Reading::Rejected)
    }),
    ("verdicts::refuse_by_drop", |lab| {
        ruled(lab, DROP, DROPPED, Reading::Dropped)
    }),
    ("verdicts::except", |lab| {
        ruled(lab, EXCEPT, EXCEPTED, Reading::Guarded)
    }),
    ("verdicts::interface", |lab| {
        ruled(lab, INTERFACE, BY_INTERFACE, Reading::Guarded)
    }),
    ("verdicts::log", |lab| {
        ruled(lab, LOG, LOGGED, Reading::Guarded)
    }),
    ("verdicts::the_most_exact_key_decides", |lab| {
        ruled(lab, EXACT, BY_KEY, Reading::Guarded)
    }),
    ("verdicts::networks_and_ranges", |lab| {
        ruled(lab, NETWORKS, BY_NETWORK, Reading::Guarded)
    }),
    ("verdicts::limits", limits),
];

fn ruled(lab: &Lab, policy: &str, rows: &'static [Row], reading: Reading) -> Result<()> {
    lab.apply(policy)?;
    check(lab, rows, reading)
}

const DEFAULT_ALLOW: &str = r#"
default: allow
ports:
  80: [203.0.113.20, "2001:db8:1::20"]
  5353/udp: [203.0.113.20, "2001:db8:1::20"]
"#;

#[rustfmt::skip]
const ALLOWED: &[Row] = &[
    //  what                             to                     may                       must not
    row("named",                         "tcp host:80",         "trusted plain app",      "trusted2 neighbour stranger office"),
    row("named, IPv6",                   "tcp host6:80",        "trusted six",            "trusted2 neighbour stranger office"),
    row("named, udp",                    "udp host:5353",       "trusted",                "neighbour stranger"),
    row("named, over the wire",          "tcp loopback:80",     "",                       "wire"),
    row("unnamed",                       "tcp host:8083",       "trusted neighbour stranger office plain", ""),
    row("unnamed, IPv6",                 "tcp host6:8083",      "trusted neighbour stranger office", ""),
    row("unnamed, udp",                  "udp host:5384",       "trusted neighbour stranger", ""),
    row("unnamed, host network",         "tcp host:7000",       "trusted neighbour stranger", ""),
    row("a service of the host",         "tcp host:22",         "stranger",               ""),
    row("the world",                     "tcp internet:80",     "plain app six",          ""),
];

const REJECT: &str = r#"
default: deny
ports:
  80:       {allow: [203.0.113.20, "2001:db8:1::20"], deny-with: reject}
  8083:     {allow: [203.0.113.20, "2001:db8:1::20"], deny-with: reject}
  7000:     {allow: [203.0.113.20, "2001:db8:1::20"], deny-with: reject}
  5353/udp: {allow: [203.0.113.20, "2001:db8:1::20"], deny-with: reject}
  7000/udp: {allow: [203.0.113.20, "2001:db8:1::20"], deny-with: reject}
"#;

#[rustfmt::skip]
const REJECTED: &[Row] = &[
    // Not the office, which comes in by a bridge: there the kernel sends its reset straight back,
    // past the translation, from an address that the client has never heard of.
    row("published",                     "tcp host:80",         "trusted",                "trusted2 neighbour stranger"),
    row("published, network of a user",  "tcp host:8083",       "trusted",                "neighbour stranger"),
    row("docker-proxy",                  "tcp host6:80",        "trusted",                "trusted2 neighbour stranger office"),
    row("host network",                  "tcp host:7000",       "trusted",                "neighbour stranger office"),
    row("host network, IPv6",            "tcp host6:7000",      "trusted",                "neighbour stranger office"),
    row("published, udp",                "udp host:5353",       "trusted",                "neighbour stranger"),
    row("docker-proxy, udp",             "udp host6:5353",      "trusted",                "neighbour stranger"),
    row("host network, udp",             "udp host:7000",       "trusted",                "neighbour stranger"),
];

const DROP: &str = r#"
default: deny
ports:
  80:       [203.0.113.20, "2001:db8:1::20"]
  5353/udp: {allow: [203.0.113.20, "2001:db8:1::20"], deny-with: drop}
"#;

#[rustfmt::skip]
const DROPPED: &[Row] = &[
    row("published",                     "tcp host:80",         "trusted",                "neighbour stranger"),
    row("docker-proxy",                  "tcp host6:80",        "trusted",                "neighbour stranger"),
    row("published, udp",                "udp host:5353",       "trusted",                "neighbour stranger"),
    row("docker-proxy, udp",             "udp host6:5353",      "trusted",                "neighbour stranger"),
];

const EXCEPT: &str = r#"
default: deny
sources:
  lan: [203.0.113.0/24, "2001:db8:1::/64"]
ports:
  80:   {allow: [lan], except: [203.0.113.66, "2001:db8:1::66"]}
  7000: {allow: any, except: [203.0.113.66, "2001:db8:1::66"]}
"#;

#[rustfmt::skip]
const EXCEPTED: &[Row] = &[
    row("out of a network",              "tcp host:80",         "trusted trusted2 plain", "neighbour stranger office"),
    row("out of a network, IPv6",        "tcp host6:80",        "trusted trusted2",       "neighbour stranger office"),
    row("out of all",                    "tcp host:7000",       "trusted stranger office", "neighbour"),
    row("out of all, IPv6",              "tcp host6:7000",      "trusted stranger office", "neighbour"),
];

const INTERFACE: &str = r"
default: deny
ports:
  80:       {allow: any, interface: [eth0]}
  8083:     {allow: any, interface: br-office}
  7000:     {allow: any, interface: [eth0]}
  5353/udp: {allow: any, interface: [eth0]}
";

#[rustfmt::skip]
const BY_INTERFACE: &[Row] = &[
    row("published, first card",         "tcp host:80",         "trusted stranger",       "office"),
    row("docker-proxy, first card",      "tcp host6:80",        "trusted stranger",       "office"),
    row("published, second card",        "tcp host:8083",       "office",                 "trusted stranger"),
    row("docker-proxy, second card",     "tcp host6:8083",      "office",                 "trusted stranger"),
    row("host network, first card",      "tcp host:7000",       "trusted stranger",       "office"),
    row("udp, first card",               "udp host:5353",       "trusted stranger",       "office"),
];

const LOG: &str = r#"
default: deny
ports:
  80:       {allow: [203.0.113.20, "2001:db8:1::20"], log: true}
  5353/udp: {allow: [203.0.113.20, "2001:db8:1::20"], log: true, deny-with: reject}
"#;

#[rustfmt::skip]
const LOGGED: &[Row] = &[
    row("published",                     "tcp host:80",         "trusted plain",          "neighbour stranger"),
    row("docker-proxy",                  "tcp host6:80",        "trusted six",            "neighbour stranger"),
    row("udp",                           "udp host:5353",       "trusted",                "neighbour stranger"),
];

/// The second card's address is for its own link; every other address of the host is for others.
const EXACT: &str = r"
default: deny
ports:
  80: [203.0.113.20]
  10.9.0.10:80: [10.9.0.0/24]
";

#[rustfmt::skip]
const BY_KEY: &[Row] = &[
    row("the key without an address",    "tcp host:80",         "trusted",                "office stranger neighbour"),
    row("the key with an address",       "tcp second-card:80",  "office",                 "trusted stranger neighbour"),
];

const NETWORKS: &str = r#"
default: deny
ports:
  80:   [203.0.113.0-203.0.113.20, 198.51.100.64/27, "2001:db8:1::/122"]
  8083: any
"#;

#[rustfmt::skip]
const BY_NETWORK: &[Row] = &[
    row("a range and a network",         "tcp host:80",         "trusted stranger",       "trusted2 neighbour office"),
    row("a network, IPv6",               "tcp host6:80",        "trusted trusted2",       "neighbour stranger office"),
    row("anybody",                       "tcp host:8083",       "trusted neighbour stranger office", ""),
    row("anybody, IPv6",                 "tcp host6:8083",      "trusted neighbour stranger office", ""),
];

const LIMITS: &str = r#"
default: deny
sources: {trusted: [203.0.113.20, "2001:db8:1::20"]}
ports:
  80:       {allow: trusted, rate: 2/hour}
  8083:     {allow: any, connections: 2}
  7000:     {allow: trusted, connections: 2, deny-with: reject}
  5353/udp: {allow: trusted, rate: 2/hour, log: true}
"#;

/// Each source has its own, on every path: DNAT, docker-proxy, and host networking.
fn limits(lab: &Lab) -> Result<()> {
    lab.apply(LIMITS)?;
    let client = lab.client("trusted")?;
    for to in [
        "tcp host:80",
        "tcp host6:80",
        "tcp host:8083",
        "tcp host6:8083",
        "tcp host:7000",
        "tcp host6:7000",
        "udp host:5353",
        "udp host6:5353",
    ] {
        let target = lab.target(to)?;
        let mut first = client.converse(target).context(to)?;
        let second = client.converse(target).context(to)?;
        let third = client.ask(target, SILENCE)?;
        ensure!(third.is_closed(), "{to}: a third connection is {third}");
        ensure!(first.echoes(PATIENCE)?, "{to}: an open connection is cut");
        drop(second);
    }
    for (who, to, open) in [
        ("stranger", "tcp host:8083", true),
        ("stranger", "tcp host:80", false),
        // Containers are no clients.
        ("plain", "tcp host:80", true),
        ("plain", "tcp host:80", true),
        ("plain", "tcp host:80", true),
    ] {
        let patience = if open { PATIENCE } else { SILENCE };
        let outcome = lab.client(who)?.ask(lab.target(to)?, patience)?;
        ensure!(outcome.is_closed() != open, "{who} to {to}: {outcome}");
    }
    Ok(())
}
