//! Rules outlive what they guard: containers, networks and the engine come and go.

use anyhow::{Result, ensure};

use crate::Named;
use crate::paths;
use crate::support::command::output;
use crate::support::lab::Lab;
use crate::support::paths::POLICY;
use crate::support::table::{Reading, Row, check, row};
use crate::support::topology::SECOND_CARD;

pub(crate) const TRIALS: &[Named] = &[
    ("lifecycle::status_answers", status_answers),
    ("lifecycle::container_restarts", container_restarts),
    (
        "lifecycle::container_made_after_the_apply",
        container_made_after_the_apply,
    ),
    (
        "lifecycle::network_made_after_the_apply",
        network_made_after_the_apply,
    ),
    ("lifecycle::engine_restarts", engine_restarts),
    (
        "lifecycle::applied_before_the_engine_starts",
        applied_before_the_engine_starts,
    ),
];

fn status_answers(lab: &Lab) -> Result<()> {
    lab.apply(POLICY)?;
    let status = lab.dfw(&["status"])?;
    ensure!(
        status.status.success() && !status.stdout.is_empty(),
        "`dfw status` after an apply: {status:?}"
    );
    Ok(())
}

fn container_restarts(lab: &Lab) -> Result<()> {
    lab.apply(POLICY)?;
    lab.docker("restart -t 0 web")?;
    lab.wait_for_containers()?;
    paths::guarded_now(lab)
}

#[rustfmt::skip]
const LATE_CONTAINER: &[Row] = &[
    //  what                             to                     may                       must not
    row("a port that is named",          "tcp host:8090",       "trusted plain",          "neighbour stranger office"),
    row("a port that is named, IPv6",    "tcp host6:8090",      "trusted",                "neighbour stranger office"),
    row("a port that nobody names",      "tcp host:8091",       "",                       "trusted neighbour stranger office"),
    row("the world",                     "tcp internet:80",     "late",                   ""),
];

/// Its named port is guarded from its first moment, because the rules know ports and not
/// containers.
fn container_made_after_the_apply(lab: &Lab) -> Result<()> {
    lab.apply(&format!("{POLICY}  8090: [trusted]\n"))?;
    lab.run("late", "-p 8090:80 -p 8091:80", "tcp:80")?;
    let checked = lab
        .wait_until_open("tcp late:80")
        .and_then(|()| check(lab, LATE_CONTAINER, Reading::Guarded));
    lab.docker("rm --force late")?;
    checked
}

/// IPv4 only: over IPv6 nothing but the engine's events or a new apply can tell of a new port.
#[rustfmt::skip]
const LATE_NETWORK: &[Row] = &[
    row("a port that is named",          "tcp host:8090",       "trusted",                "neighbour stranger office"),
    row("a port that nobody names",      "tcp host:8091",       "",                       "trusted neighbour stranger office"),
    row("past the host, published",      "tcp late:80",         "",                       "neighbour stranger office"),
    row("the world",                     "tcp internet:80",     "late",                   ""),
    row("the world, udp",                "udp internet:53",     "late",                   ""),
    row("a service of the host",         "tcp host:22",         "late",                   ""),
    row("the same network",              "tcp late:80",         "later",                  ""),
];

#[rustfmt::skip]
const LATE_NETWORK_KNOWN: &[Row] = &[
    row("ports of its host",             "tcp host:80",         "late",                   ""),
    row("its own port",                  "tcp host:8090",       "late later plain",       ""),
];

fn network_made_after_the_apply(lab: &Lab) -> Result<()> {
    let policy = format!("{POLICY}  8090: [trusted]\n");
    lab.apply(&policy)?;
    lab.docker("network create lates")?;
    let checked = lab
        .run("late", "--network lates -p 8090:80 -p 8091:80", "tcp:80")
        .and_then(|()| lab.run("later", "--network lates", "tcp:80"))
        .and_then(|()| lab.wait_until_open("tcp late:80"))
        .and_then(|()| check(lab, LATE_NETWORK, Reading::Guarded))
        .and_then(|()| lab.apply(&policy))
        .and_then(|()| check(lab, LATE_NETWORK, Reading::Guarded))
        .and_then(|()| check(lab, LATE_NETWORK_KNOWN, Reading::Guarded));
    lab.docker("rm --force late later")?;
    lab.docker("network rm lates")?;
    checked
}

fn engine_restarts(lab: &Lab) -> Result<()> {
    lab.apply(POLICY)?;
    lab.stop_engine()?;
    // What the engine published when it answered last is not forgotten while it does not.
    lab.apply(POLICY)?;
    lab.start_engine()?;
    lab.wait_for_containers()?;
    paths::guarded_now(lab)?;
    paths::guarded_by_engine_reports(lab)
}

/// A boot: nothing of the engine is there yet, neither bridges nor rules, when dfw applies.
fn applied_before_the_engine_starts(lab: &Lab) -> Result<()> {
    lab.stop_engine()?;
    let host = lab.host()?;
    output(host.command("nft").args(["flush", "ruleset"]))?;
    for link in host.ip("-brief link show type bridge")?.lines() {
        let name = link.split_whitespace().next().unwrap_or_default();
        if name != SECOND_CARD {
            host.ip(&format!("link delete {name}"))?;
        }
    }
    let applied = lab.apply(POLICY);
    lab.start_engine()?;
    lab.wait_for_containers()?;
    applied?;
    paths::guarded_now(lab)?;
    // What needs to know the bridges is there after the next apply.
    lab.apply(POLICY)?;
    paths::guarded_now(lab)?;
    paths::guarded_by_engine_reports(lab)?;
    paths::hairpin_now(lab)
}
