//! dfw warns before new rules cut the SSH connection of the user who applies them.

use anyhow::{Context, Result, ensure};

use crate::Named;
use crate::namespace::{DFW, Report, Sandbox};
use crate::property::same;
use crate::pty::Screen;
use crate::support::helper::HELPER;

pub(crate) const TRIALS: &[Named] = &[
    (
        "a_cut_connection_is_reported_and_confirmed",
        a_cut_connection_is_reported_and_confirmed,
    ),
    ("only_a_new_cut_is_reported", only_a_new_cut_is_reported),
    (
        "the_server_is_found_without_the_variable",
        the_server_is_found_without_the_variable,
    ),
];

const SSH: &[(&str, &str)] = &[("SSH_CONNECTION", "203.0.113.9 50000 203.0.113.1 22")];
const SLUG: &str = "[cuts-your-connection]";
const WORDS: &str = "this cuts your own SSH connection, from 203.0.113.9 to port 22";
const ASKED: &str = "Apply anyway? [y/N]";
const CUTTING: &str = "default: deny\nports:\n  22: [198.51.100.0/24]\n";
const ALLOWING: &str = "default: deny\nports:\n  22: [203.0.113.0/24]\n";

/// A host with an interface; the paths of a policy that lets the client in, and of one that does
/// not.
fn prepared() -> Result<(Sandbox, String, String)> {
    let sandbox = Sandbox::new()?;
    for words in [
        "link add eth0 type veth peer name eth1",
        "link set eth0 up",
        "addr add 203.0.113.1/24 dev eth0",
        "addr add 203.0.113.9/24 dev eth0",
    ] {
        sandbox.namespace().ip(words)?;
    }
    let path = |name: &str, text: &str| -> Result<String> {
        Ok(sandbox.write(name, text)?.to_string_lossy().into_owned())
    };
    let (allowing, cutting) = (
        path("allowing.yaml", ALLOWING)?,
        path("cutting.yaml", CUTTING)?,
    );
    Ok((sandbox, allowing, cutting))
}

fn dfw(sandbox: &Sandbox, words: &[&str]) -> Result<Report> {
    Report::of(sandbox.program(words).envs(SSH.iter().copied()))
}

fn a_cut_connection_is_reported_and_confirmed() -> Result<()> {
    let (sandbox, allowing, cutting) = prepared()?;
    for first in [None, Some(&allowing)] {
        sandbox.kernel(|kernel| Ok(kernel.remove(None)?))?;
        if let Some(first) = first {
            let report = dfw(&sandbox, &["apply", first])?;
            ensure!(
                report.code == Some(0) && !report.stderr.contains(SLUG),
                "{report:?}"
            );
        }
        let before = (sandbox.snapshot()?, sandbox.listing()?);
        // The plan tells of it, at the line of the policy.
        let report = dfw(&sandbox, &["plan", &cutting])?;
        ensure!(
            report.code == Some(0) && report.stderr.contains(WORDS),
            "{report:?}"
        );
        ensure!(report.stderr.contains("cutting.yaml:3:"), "{report:?}");
        let report = dfw(&sandbox, &["plan", "--json", &cutting])?;
        let plan: serde_json::Value = serde_json::from_str(&report.stdout)?;
        let slugs = plan["warnings"].as_array().context("no warnings")?;
        ensure!(
            slugs.iter().any(|w| w["slug"] == "cuts-your-connection"),
            "{plan:#}"
        );
        // Who cannot be asked is not cut off.
        let report = dfw(&sandbox, &["apply", &cutting])?;
        report.expect_failure(1, "cuts-your-connection")?;
        ensure!(report.stderr.contains("nothing was changed"), "{report:?}");
        // Nor is who says no.
        let mut screen = Screen::dfw(&sandbox, &["apply", &cutting], SSH, "")?;
        screen.wait(ASKED)?;
        screen.type_in("n\n")?;
        let (status, seen) = screen.end()?;
        ensure!(status.code() == Some(1) && seen.contains(WORDS), "{seen}");
        ensure!(seen.contains("nothing was changed"), "{seen}");
        same(&(sandbox.snapshot()?, sandbox.listing()?), &before)?;
    }
    // The rules that may be put back again need no question of their own.
    let mut screen = Screen::dfw(&sandbox, &["apply", "--confirm", "60s", &cutting], SSH, "")?;
    screen.wait("Keep them?")?;
    screen.type_in("n\n")?;
    let (_, seen) = screen.end()?;
    ensure!(seen.contains(WORDS) && !seen.contains(ASKED), "{seen}");
    // Who says yes is believed, at the terminal and before.
    let mut screen = Screen::dfw(&sandbox, &["apply", &cutting], SSH, "")?;
    screen.wait(ASKED)?;
    screen.type_in("y\n")?;
    let (status, seen) = screen.end()?;
    ensure!(
        status.code() == Some(0) && seen.contains("applied:"),
        "{seen}"
    );
    sandbox.dfw_ok(&["apply", &allowing])?;
    let report = dfw(&sandbox, &["apply", "--yes", &cutting])?;
    ensure!(
        report.code == Some(0) && report.stderr.contains(WORDS),
        "{report:?}"
    );
    Ok(())
}

/// There is no warning if the connection is denied already, or if no policy covers its port.
fn only_a_new_cut_is_reported() -> Result<()> {
    let (sandbox, allowing, cutting) = prepared()?;
    let web = sandbox.write("web.yaml", "default: deny\nports: {80: []}\n")?;
    sandbox.dfw_ok(&["apply", &cutting])?;
    let more = sandbox.write("more.yaml", format!("{CUTTING}  80: any\n"))?;
    let names = [
        more.to_string_lossy(),
        web.to_string_lossy(),
        allowing.into(),
    ];
    for policy in names {
        let report = dfw(&sandbox, &["apply", &policy])?;
        ensure!(
            report.code == Some(0) && !report.stderr.contains(SLUG),
            "{report:?}"
        );
    }
    // Another interface than the one that the client comes through.
    let text = "default: deny\nports: {22: {allow: any, interface: [eth2]}}\n";
    let other = sandbox.write("other.yaml", text)?;
    let report = dfw(&sandbox, &["plan", &other.to_string_lossy()])?;
    ensure!(report.stderr.contains(WORDS), "{report:?}");
    Ok(())
}

fn the_server_is_found_without_the_variable() -> Result<()> {
    let (sandbox, allowing, cutting) = prepared()?;
    let this = std::env::current_exe()?;
    let below_sshd = |words: &[&str]| {
        let mut command = sandbox.namespace().command(&this.to_string_lossy());
        let ends = ["203.0.113.9:50000", "203.0.113.1:22"];
        command.args([HELPER, "sshd"]).args(ends);
        Report::of(
            command
                .args(["/bin/sh", "-c", "\"$@\"; exit $?", "sh", DFW])
                .args(words),
        )
    };
    below_sshd(&["apply", &cutting])?.expect_failure(1, "cuts-your-connection")?;
    let report = below_sshd(&["plan", &cutting])?;
    ensure!(report.stderr.contains(WORDS), "{report:?}");
    let report = below_sshd(&["apply", &allowing])?;
    ensure!(
        report.code == Some(0) && !report.stderr.contains(SLUG),
        "{report:?}"
    );
    Ok(())
}
