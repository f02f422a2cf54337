//! The table in `docs/paths.md`: made of what the probes have found, never by hand.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::Finding;
use crate::support::table::Answer;
use crate::tables::PathKind;
use crate::variants::VARIANTS;

const BEGIN: &str = "<!-- what the probes have found: begin, written by tests/matrix -->\n";
const END: &str = "<!-- what the probes have found: end -->";

/// The title of each path on the page, with its number.
#[rustfmt::skip]
const PATHS: &[(PathKind, &str)] = &[
    (PathKind::Published,                "1 published port"),
    (PathKind::PublishedBeyond,          "1 published port, UDP, from behind another network card"),
    (PathKind::PublishedV6,              "1 or 2 published port over IPv6, network with IPv6"),
    (PathKind::Ingress,                  "1 Swarm, ingress and host mode"),
    (PathKind::Proxy,                    "2 published port over IPv6, network without IPv6"),
    (PathKind::HostNetwork,              "3 host network"),
    (PathKind::Direct,                   "4 straight to a published port"),
    (PathKind::Unpublished,              "4 straight to a port that is not published"),
    (PathKind::Internal,                 "4 straight into an internal network"),
    (PathKind::Routed,                   "4 routed network, published port"),
    (PathKind::Unprotected,              "4 nat-unprotected network, published port"),
    (PathKind::UnpublishedInUnprotected, "4 nat-unprotected network, port that is not published"),
    (PathKind::Loopback,                 "5 published on 127.0.0.1, from an on-link host"),
    (PathKind::LoopbackAny,              "5 published everywhere, at 127.0.0.1, from an on-link host"),
    (PathKind::FromContainers,           "6 from a container of the same bridge"),
    (PathKind::FromItself,               "6 from the container itself"),
    (PathKind::FromOtherBridges,         "6 from a container of another bridge"),
    (PathKind::FromOtherBridgesV6,       "6 from a container of another bridge, over IPv6"),
    (PathKind::HostItselfV6,             "7 from the host itself, over IPv6"),
    (PathKind::HostServices,             "7 from the host itself; services of the host"),
    (PathKind::Egress,                   "from containers to the world"),
    (PathKind::SameNetwork,              "between containers of one network"),
    (PathKind::AnotherNetwork,           "between containers of two networks"),
];

/// Fails if the page does not say what was found, or writes it where the environment has
/// `UPDATE=1`. Of a variant that was not tried, it may say anything.
pub(crate) fn compare(findings: &[Option<Vec<Finding>>]) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/paths.md");
    let page = fs::read_to_string(&path)?;
    let (before, rest) = page.split_once(BEGIN).context("no begin of the table")?;
    let (present, after) = rest.split_once(END).context("no end of the table")?;
    let desired = format!("{before}{BEGIN}{}{END}{after}", tables(findings, present));
    if desired == page {
        return Ok(());
    }
    if std::env::var("UPDATE").as_deref() == Ok("1") {
        return fs::write(&path, desired).context("cannot write the page");
    }
    bail!("docs/paths.md is out of date: UPDATE=1 writes it. It should say:\n{desired}")
}

/// One table for each engine's family of variants would repeat the paths; one for all is too wide
/// for a page, so engines are numbered.
fn tables(findings: &[Option<Vec<Finding>>], present: &str) -> String {
    let mut text = String::new();
    for (number, variant) in VARIANTS.iter().enumerate() {
        let _ = writeln!(text, "{}. {}", number + 1, variant.name);
    }
    text.push_str("\n| path |");
    for number in 1..=VARIANTS.len() {
        let _ = write!(text, " {number} |");
    }
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(VARIANTS.len()));
    text.push('\n');
    for (kind, name) in PATHS {
        let _ = write!(text, "| {name} |");
        let row = present.lines().find_map(|line| {
            let cells = line.strip_prefix("| ")?.strip_prefix(name)?;
            cells.strip_prefix(" | ")
        });
        let present: Vec<&str> = row.unwrap_or_default().split('|').map(str::trim).collect();
        for (number, found) in findings.iter().enumerate() {
            let cell = match found {
                Some(found) => cell(found, *kind),
                None => present.get(number).copied().unwrap_or_default().to_owned(),
            };
            let _ = write!(text, " {cell} |");
        }
        text.push('\n');
    }
    text
}

/// Results of one path of one engine, without and with dfw.
fn cell(found: &[Finding], kind: PathKind) -> String {
    let of_door: Vec<&Finding> = found.iter().filter(|it| it.kind == kind).collect();
    let bare: Vec<&Answer> = of_door.iter().flat_map(|it| &it.bare).collect();
    let guarded: Vec<&Answer> = of_door.iter().flat_map(|it| &it.guarded).collect();
    if bare.is_empty() {
        return String::new();
    }
    let without = match count_open(&bare) {
        (0, _) if bare.iter().any(|answer| answer.is_mute()) => "mute",
        (0, _) => "closed",
        (open, all) if open == all => "open",
        _ => "partly",
    };
    let (named, others): (Vec<&Answer>, Vec<&Answer>) =
        guarded.into_iter().partition(|answer| answer.may());
    let with = match (count_open(&named), count_open(&others)) {
        ((0, _), (0, _)) if others.iter().any(|answer| answer.is_mute()) => "mute",
        ((0, _), (0, _)) => "closed",
        ((open, all), (0, 1..)) if open == all => "named",
        ((open, all), (others, every)) if open == all && others == every => "open",
        _ => "partly",
    };
    if without == with {
        without.to_owned()
    } else {
        format!("{without} → {with}")
    }
}

/// How many of the answers are open, and how many there are.
fn count_open(answers: &[&Answer]) -> (usize, usize) {
    let open = answers.iter().filter(|answer| answer.is_open()).count();
    (open, answers.len())
}
