//! Names that are made to deceive the reader: they forge no line, hide nothing, and stay what they are.

use anyhow::{Context, Result, ensure};

use crate::Named;
use crate::daemon::Daemon;
use crate::namespace::Place;
use crate::support::command::{find, output};

pub(crate) const TRIALS: &[Named] = &[
    (
        "a_process_forges_no_line_of_the_log",
        a_process_forges_no_line_of_the_log,
    ),
    (
        "an_interface_hides_nothing_and_keeps_its_name",
        an_interface_hides_nothing_and_keeps_its_name,
    ),
    ("a_file_forges_no_line", a_file_forges_no_line),
];

const POLICY: &str = "default: deny\nports: {80: [203.0.113.7]}\n";

fn a_process_forges_no_line_of_the_log() -> Result<()> {
    let place = Place::new()?;
    place.write("policies/a.yaml", POLICY)?;
    let mut guard = Daemon::start(&place, &["--no-owner"])?;
    guard.expect_in_force()?;
    // A process is called what it was started as.
    let name = place.dir().join("a\n<0>b\u{202e}c");
    std::os::unix::fs::symlink(find("nft").context("no nft")?, &name)?;
    output(
        place
            .namespace()
            .command(&name.to_string_lossy())
            .args(["flush", "ruleset"]),
    )?;
    let shown = "`a\\n<0>b\\u{202e}c`";
    guard.expect(&format!("the table was modified by {shown} (pid "))?;
    let socket = place.dir().join("guard.sock");
    let status = place.dfw_ok(&["status", "--socket", &socket.to_string_lossy()])?;
    let last = status.lines().last().context("nothing")?;
    ensure!(
        last.starts_with("guard: process ") && last.contains(shown),
        "{status}"
    );
    guard.stop()
}

fn an_interface_hides_nothing_and_keeps_its_name() -> Result<()> {
    let place = Place::new()?;
    for (name, shown) in [
        ("br-\u{202e}x", "br-\\u{202e}x"),
        ("br-\u{1b}[8my", "br-\\u{1b}[8my"),
    ] {
        let mut ip = place.namespace().command("ip");
        output(ip.args(["link", "add", "name", name, "type", "bridge"]))?;
        let path = place.write("policies/a.yaml", POLICY)?;
        let path = path.to_string_lossy().into_owned();
        let told = place.dfw(&["plan", "--color", "always", &path])?;
        let notice = format!("cannot tell whether bridge `{shown}`");
        ensure!(told.stderr.contains(&notice), "{told:?}");
        let told = place.dfw(&["plan", "--json", &path])?;
        ensure!(!told.stdout.contains(name), "{told:?}");
    }
    // To the policy and to the kernel it is what it is.
    let settings = "settings: {container-interfaces: [\"br-\u{202e}x\"]}\n";
    let path = place.write("policies/a.yaml", format!("{POLICY}{settings}"))?;
    let told = place.dfw(&["apply", &path.to_string_lossy()])?;
    ensure!(!told.stderr.contains("br-\\u{202e}x"), "{told:?}");
    ensure!(
        place.listing()?.contains("br-\u{202e}x"),
        "not in the rules"
    );
    Ok(())
}

fn a_file_forges_no_line() -> Result<()> {
    let place = Place::new()?;
    place.write("policies/a\nok: forged\u{202e}.yaml", "default: [")?;
    let path = place.dir().join("policies").to_string_lossy().into_owned();
    let shown = "a\\nok: forged\\u{202e}.yaml";
    let told = place.dfw(&["check", "--color", "always", &path])?;
    ensure!(told.stderr.contains(shown), "{told:?}");
    let forged = told.stderr.lines().find(|line| line.starts_with("ok:"));
    ensure!(forged.is_none(), "{told:?}");
    let mut guard = Daemon::start(&place, &[])?;
    guard.expect(shown)?;
    guard.expect("have errors and are not applied")?;
    let forged = guard.said.iter().find(|line| line.starts_with("ok:"));
    ensure!(forged.is_none(), "{forged:?}");
    guard.stop()
}
