//! A network card within a bridge of the host: a LAN that is there after the rules, and a port that
//! names the card.

use std::process::Output;

use anyhow::{Context, Result, ensure};

use crate::Named;
use crate::answers::printed;
use crate::support::lab::Lab;
use crate::support::netns::Namespace;
use crate::support::table::{Reading, Row, check, row};
use crate::support::topology::{SECOND_CARD, well_known};

pub(crate) const TRIALS: &[Named] = &[
    (
        "network_cards::a_lan_that_comes_after_the_rules",
        lan_at_boot,
    ),
    (
        "network_cards::a_port_that_names_a_card_in_a_bridge",
        interface,
    ),
];

/// A card that is no end of a veth pair, which could be a container's: a tunnel over the second one.
pub(crate) const CARD: &str = "card";
/// A bridge called as Docker calls its own, and one as administrators call theirs.
const LAN: &str = "br-lan";
const BRIDGE: &str = "br0";

/// Makes a bridge with the card in it, and the addresses that the second card has elsewhere.
pub(crate) fn make(lab: &Lab, bridge: &str) -> Result<()> {
    let host = lab.host()?;
    host.ip(&format!("link add {bridge} type bridge"))?;
    host.ip(&format!("link set {CARD} master {bridge}"))?;
    host.ip(&format!("link set {bridge} up"))?;
    give_addresses(host, bridge, "second-card")
}

/// Takes such a bridge away again.
fn unmake(lab: &Lab, bridge: &str) -> Result<()> {
    let host = lab.host()?;
    host.ip(&format!("link set {CARD} nomaster"))?;
    host.ip(&format!("link delete {bridge}")).map(drop)
}

/// Gives a device the addresses of a name in the tables.
fn give_addresses(namespace: &Namespace, device: &str, name: &str) -> Result<()> {
    for (family, length) in [("", "24"), ("6", "64 nodad")] {
        let name = format!("{name}{family}");
        let address = well_known(&name).with_context(|| format!("no {name}"))?;
        namespace.ip(&format!("address add {address}/{length} dev {device}"))?;
    }
    Ok(())
}

/// Makes a device the office's way to everywhere.
fn lead_office(office: &Namespace, device: &str) -> Result<()> {
    give_addresses(office, device, "office")?;
    for (family, name) in [("", "second-card"), ("-6 ", "second-card6")] {
        let gateway = well_known(name).context("no second card")?;
        office.ip(&format!(
            "{family}route replace default via {gateway} dev {device}"
        ))?;
    }
    Ok(())
}

/// Runs a trial in which the office is behind the card instead of the second one. The card is in no bridge at
/// the beginning, and at the end in this one or none.
pub(crate) fn with_card(lab: &Lab, bridge: &str, trial: impl FnOnce() -> Result<()>) -> Result<()> {
    let (host, office) = (lab.host()?, lab.client("office")?.namespace);
    host.ip("link set eth1 nomaster")?;
    // Without its link-local address a device cannot ask for neighbours of IPv6.
    host.ip(&format!("address flush dev {SECOND_CARD} scope global"))?;
    office.ip("address flush dev eth0 scope global")?;
    let ends = [(host, "eth1", 2, 1), (&office, "eth0", 1, 2)];
    for (namespace, device, own, other) in ends {
        namespace.ip(&format!("address add 10.99.0.{own}/30 dev {device}"))?;
        namespace.ip(&format!(
            "link add {CARD} type vxlan id 5 dstport 4789 local 10.99.0.{own} remote 10.99.0.{other}"
        ))?;
        namespace.ip(&format!("link set {CARD} up"))?;
    }
    lead_office(&office, CARD)?;
    let tried = trial();
    let links = host.ip("-brief link show type bridge")?;
    if links
        .lines()
        .any(|line| line.starts_with(&format!("{bridge} ")))
    {
        unmake(lab, bridge)?;
    }
    for (namespace, device, own, _) in ends {
        namespace.ip(&format!("link delete {CARD}"))?;
        namespace.ip(&format!("address delete 10.99.0.{own}/30 dev {device}"))?;
    }
    lead_office(&office, "eth0")?;
    host.ip(&format!("link set eth1 master {SECOND_CARD}"))?;
    give_addresses(host, SECOND_CARD, "second-card")?;
    tried
}

/// Returns what a command has printed on both channels; it must have succeeded.
fn report(output: &Output) -> Result<String> {
    let text = printed(output);
    ensure!(output.status.success(), "{}: {text}", output.status);
    Ok(text)
}

#[rustfmt::skip]
const INTO_THE_LAN: &[Row] = &[
    //  what                             to                     may                       must not
    row("routed to the LAN",             "tcp office:80",       "stranger trusted",       ""),
    row("the same, IPv6",                "tcp office6:80",      "stranger trusted",       ""),
];

#[rustfmt::skip]
const NOT_INTO_THE_LAN: &[Row] = &[
    row("routed to the LAN",             "tcp office:80",       "",                       "stranger trusted"),
    row("the same, IPv6",                "tcp office6:80",      "",                       "stranger trusted"),
];

const ROUTER: &str = "default: deny\nports: {80: [203.0.113.20]}\n";

/// At boot the rules are applied before the card is in the LAN's bridge: what is routed there is refused until
/// the next apply, which says how to end it.
fn lan_at_boot(lab: &Lab) -> Result<()> {
    // The engine's forward policy drops IPv4 of others; DOCKER-USER is for exceptions.
    let forward = |verb: &str| {
        lab.script(&format!(
            "iptables -{verb} DOCKER-USER -i eth0 -o {LAN} -j ACCEPT && \
             iptables -{verb} DOCKER-USER -i {LAN} -o eth0 -j ACCEPT"
        ))
    };
    forward("I")?;
    let tried = with_card(lab, LAN, || lan_at_boot_with_forwarding(lab));
    forward("D")?;
    tried
}

fn lan_at_boot_with_forwarding(lab: &Lab) -> Result<()> {
    // By hand, where the LAN is there: it works, so the warning is the only sign.
    make(lab, LAN)?;
    check(lab, INTO_THE_LAN, Reading::Guarded).context("without dfw")?;
    let dir = lab.write_policy(ROUTER)?;
    let line = line_of(&report(&lab.dfw(&["plan", &dir])?)?).context("plan")?;
    ensure!(
        line == line_of(&report(&lab.dfw(&["apply", &dir])?)?).context("apply")?,
        "plan and apply differ"
    );
    check(lab, INTO_THE_LAN, Reading::Guarded).context("applied by hand")?;

    // As dfw-apply.service has it, before the network.
    lab.remove()?;
    unmake(lab, LAN)?;
    let applied = report(&lab.dfw(&["apply", "--docker-host", "running", &dir])?)?;
    ensure!(!applied.contains(LAN), "before the LAN is there: {applied}");
    make(lab, LAN)?;
    check(lab, NOT_INTO_THE_LAN, Reading::Guarded).context("after a boot")?;
    let again = line_of(&report(&lab.dfw(&["apply", &dir])?)?).context("the first apply")?;
    ensure!(again == line, "{again}");
    check(lab, INTO_THE_LAN, Reading::Guarded).context("after the first apply")?;

    // With the advised line.
    lab.remove()?;
    unmake(lab, LAN)?;
    let dir = lab.write_policy(&format!("{ROUTER}settings:\n  {line}\n"))?;
    report(&lab.dfw(&["apply", "--docker-host", "running", &dir])?)?;
    make(lab, LAN)?;
    check(lab, INTO_THE_LAN, Reading::Guarded).context("after a boot, with the line")?;
    let applied = report(&lab.dfw(&["apply", &dir])?)?;
    ensure!(!applied.contains("lan-like-containers"), "{applied}");
    check(lab, INTO_THE_LAN, Reading::Guarded).context("after an apply, with the line")
}

/// Returns the line for the policy that the warning advises.
fn line_of(report: &str) -> Result<String> {
    ensure!(
        report.contains("lan-like-containers") && report.contains(&format!("`{LAN}`")),
        "no warning about {LAN}: {report}"
    );
    let line = report
        .split('`')
        .find(|part| part.starts_with("foreign-interfaces: ["))
        .with_context(|| format!("no line: {report}"))?;
    // The line replaces the default, so the default is in it.
    for name in [LAN, "virbr*", "lxdbr*", "lxcbr*", "incusbr*", "cni0"] {
        ensure!(line.contains(name), "{name} is not in {line}");
    }
    Ok(line.to_owned())
}

#[rustfmt::skip]
const BY_THE_CARD: &[Row] = &[
    row("published",                     "tcp host:80",         "",                       "office stranger trusted"),
    row("at the bridge's own address",   "tcp second-card:80",  "",                       "office stranger trusted"),
    row("docker-proxy",                  "tcp host6:80",        "",                       "office stranger trusted"),
    row("host network",                  "tcp second-card:7000", "",                      "office stranger trusted"),
];

#[rustfmt::skip]
const BY_THE_BRIDGE: &[Row] = &[
    row("published",                     "tcp host:80",         "office",                 "stranger trusted"),
    row("at the bridge's own address",   "tcp second-card:80",  "office",                 "stranger trusted"),
    row("docker-proxy",                  "tcp host6:80",        "office",                 "stranger trusted"),
    row("host network",                  "tcp second-card:7000", "office",                "stranger trusted"),
];

fn ports_through(interface: &str) -> String {
    format!(
        "default: deny\nports:\n  80: {{allow: any, interface: [{interface}]}}\n  \
         7000: {{allow: any, interface: [{interface}]}}\n"
    )
}

/// Packets come in through the bridge and not through the card in it: nobody gets in through the card, and
/// dfw says through what they would.
fn interface(lab: &Lab) -> Result<()> {
    with_card(lab, BRIDGE, || {
        make(lab, BRIDGE)?;
        let dir = lab.write_policy(&ports_through(CARD))?;
        let warns = |words: &[&str]| -> Result<()> {
            let report = report(&lab.dfw(words)?)?;
            let is_complete = report.contains(&format!(
                "is a port of `{BRIDGE}`: packets arrive on `{BRIDGE}`"
            )) && report.contains(&format!(
                "nobody is allowed through `{CARD}`; write `{BRIDGE}` in its place"
            ));
            ensure!(is_complete, "{words:?}: {report}");
            Ok(())
        };
        for verb in ["plan", "apply"] {
            warns(&[verb, &dir])?;
        }
        warns(&["status"])?;
        check(lab, BY_THE_CARD, Reading::Guarded).context("by the card")?;

        let dir = lab.write_policy(&ports_through(BRIDGE))?;
        for words in [&["plan", &dir][..], &["apply", &dir], &["status"]] {
            let report = report(&lab.dfw(words)?)?;
            ensure!(
                !report.contains("interface-in-another"),
                "{words:?}: {report}"
            );
        }
        check(lab, BY_THE_BRIDGE, Reading::Guarded).context("by the bridge")
    })
}
