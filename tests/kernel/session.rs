//! Who changes rules over SSH is warned before they cut him off.

use anyhow::{Context, Result, ensure};

use crate::Named;
use crate::namespace::{DFW, Place, Report};
use crate::property::same;
use crate::pty::Screen;
use crate::support::helper::HELPER;

pub(crate) const TRIALS: &[Named] = &[
    (
        "a_cut_is_told_and_asked_about",
        a_cut_is_told_and_asked_about,
    ),
    ("only_a_new_cut_is_told", only_a_new_cut_is_told),
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
fn prepared() -> Result<(Place, String, String)> {
    let place = Place::new()?;
    for words in [
        "link add eth0 type veth peer name eth1",
        "link set eth0 up",
        "addr add 203.0.113.1/24 dev eth0",
        "addr add 203.0.113.9/24 dev eth0",
    ] {
        place.namespace().ip(words)?;
    }
    let path = |name: &str, text: &str| -> Result<String> {
        Ok(place.write(name, text)?.to_string_lossy().into_owned())
    };
    let (allowing, cutting) = (
        path("allowing.yaml", ALLOWING)?,
        path("cutting.yaml", CUTTING)?,
    );
    Ok((place, allowing, cutting))
}

fn dfw(place: &Place, words: &[&str]) -> Result<Report> {
    Report::of(place.program(words).envs(SSH.iter().copied()))
}

fn a_cut_is_told_and_asked_about() -> Result<()> {
    let (place, allowing, cutting) = prepared()?;
    for first in [None, Some(&allowing)] {
        place.kernel(|kernel| Ok(kernel.remove(None)?))?;
        if let Some(first) = first {
            let told = dfw(&place, &["apply", first])?;
            ensure!(
                told.code == Some(0) && !told.stderr.contains(SLUG),
                "{told:?}"
            );
        }
        let before = (place.snapshot()?, place.listing()?);
        // The plan tells of it, at the line of the policy.
        let told = dfw(&place, &["plan", &cutting])?;
        ensure!(
            told.code == Some(0) && told.stderr.contains(WORDS),
            "{told:?}"
        );
        ensure!(told.stderr.contains("cutting.yaml:3:"), "{told:?}");
        let told = dfw(&place, &["plan", "--json", &cutting])?;
        let plan: serde_json::Value = serde_json::from_str(&told.stdout)?;
        let slugs = plan["warnings"].as_array().context("no warnings")?;
        ensure!(
            slugs.iter().any(|w| w["slug"] == "cuts-your-connection"),
            "{plan:#}"
        );
        // Who cannot be asked is not cut off.
        let told = dfw(&place, &["apply", &cutting])?;
        told.expect_failure(1, "cuts-your-connection")?;
        ensure!(told.stderr.contains("nothing was changed"), "{told:?}");
        // Nor is who says no.
        let mut screen = Screen::dfw(&place, &["apply", &cutting], SSH, "")?;
        screen.wait(ASKED)?;
        screen.type_in("n\n")?;
        let (status, seen) = screen.end()?;
        ensure!(status.code() == Some(1) && seen.contains(WORDS), "{seen}");
        ensure!(seen.contains("nothing was changed"), "{seen}");
        same(&(place.snapshot()?, place.listing()?), &before)?;
    }
    // The rules that may be put back again need no question of their own.
    let mut screen = Screen::dfw(&place, &["apply", "--confirm", "60s", &cutting], SSH, "")?;
    screen.wait("Keep them?")?;
    screen.type_in("n\n")?;
    let (_, seen) = screen.end()?;
    ensure!(seen.contains(WORDS) && !seen.contains(ASKED), "{seen}");
    // Who says yes is believed, at the terminal and before.
    let mut screen = Screen::dfw(&place, &["apply", &cutting], SSH, "")?;
    screen.wait(ASKED)?;
    screen.type_in("y\n")?;
    let (status, seen) = screen.end()?;
    ensure!(
        status.code() == Some(0) && seen.contains("applied:"),
        "{seen}"
    );
    place.dfw_ok(&["apply", &allowing])?;
    let told = dfw(&place, &["apply", "--yes", &cutting])?;
    ensure!(
        told.code == Some(0) && told.stderr.contains(WORDS),
        "{told:?}"
    );
    Ok(())
}

/// Whoever is cut off already is not told again, nor is anybody whose port no policy names.
fn only_a_new_cut_is_told() -> Result<()> {
    let (place, allowing, cutting) = prepared()?;
    let web = place.write("web.yaml", "default: deny\nports: {80: []}\n")?;
    place.dfw_ok(&["apply", &cutting])?;
    let more = place.write("more.yaml", format!("{CUTTING}  80: any\n"))?;
    let names = [
        more.to_string_lossy(),
        web.to_string_lossy(),
        allowing.into(),
    ];
    for policy in names {
        let told = dfw(&place, &["apply", &policy])?;
        ensure!(
            told.code == Some(0) && !told.stderr.contains(SLUG),
            "{told:?}"
        );
    }
    // Another interface than the one that the client comes through.
    let text = "default: deny\nports: {22: {allow: any, interface: [eth2]}}\n";
    let other = place.write("other.yaml", text)?;
    let told = dfw(&place, &["plan", &other.to_string_lossy()])?;
    ensure!(told.stderr.contains(WORDS), "{told:?}");
    Ok(())
}

fn the_server_is_found_without_the_variable() -> Result<()> {
    let (place, allowing, cutting) = prepared()?;
    let this = std::env::current_exe()?;
    let below_sshd = |words: &[&str]| {
        let mut command = place.namespace().command(&this.to_string_lossy());
        let ends = ["203.0.113.9:50000", "203.0.113.1:22"];
        command.args([HELPER, "sshd"]).args(ends);
        Report::of(
            command
                .args(["/bin/sh", "-c", "\"$@\"; exit $?", "sh", DFW])
                .args(words),
        )
    };
    below_sshd(&["apply", &cutting])?.expect_failure(1, "cuts-your-connection")?;
    let told = below_sshd(&["plan", &cutting])?;
    ensure!(told.stderr.contains(WORDS), "{told:?}");
    let told = below_sshd(&["apply", &allowing])?;
    ensure!(
        told.code == Some(0) && !told.stderr.contains(SLUG),
        "{told:?}"
    );
    Ok(())
}
