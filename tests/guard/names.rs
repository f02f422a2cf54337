//! Names that are made to deceive the reader: they forge no line, hide nothing, and stay what they are.

use anyhow::{Context, Result, ensure};

use crate::Named;
use crate::daemon::Daemon;
use crate::namespace::Sandbox;
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
    let sandbox = Sandbox::new()?;
    sandbox.write("policies/a.yaml", POLICY)?;
    let mut guard = Daemon::start(&sandbox, &["--no-owner"])?;
    guard.expect_in_force()?;
    // A process is called what it was started as.
    let name = sandbox.dir().join("a\n<0>b\u{202e}c");
    std::os::unix::fs::symlink(find("nft").context("no nft")?, &name)?;
    output(
        sandbox
            .namespace()
            .command(&name.to_string_lossy())
            .args(["flush", "ruleset"]),
    )?;
    let shown = "`a\\n<0>b\\u{202e}c`";
    guard.expect(&format!("the table was modified by {shown} (pid "))?;
    let socket = sandbox.dir().join("guard.sock");
    let status = sandbox.dfw_ok(&["status", "--socket", &socket.to_string_lossy()])?;
    let last = status.lines().last().context("nothing")?;
    ensure!(
        last.starts_with("guard: process ") && last.contains(shown),
        "{status}"
    );
    guard.stop()
}

fn an_interface_hides_nothing_and_keeps_its_name() -> Result<()> {
    let sandbox = Sandbox::new()?;
    for (name, shown) in [
        ("br-\u{202e}x", "br-\\u{202e}x"),
        ("br-\u{1b}[8my", "br-\\u{1b}[8my"),
    ] {
        let mut ip = sandbox.namespace().command("ip");
        output(ip.args(["link", "add", "name", name, "type", "bridge"]))?;
        let path = sandbox.write("policies/a.yaml", POLICY)?;
        let path = path.to_string_lossy().into_owned();
        let report = sandbox.dfw(&["plan", "--color", "always", &path])?;
        let notice = format!("cannot tell whether bridge `{shown}`");
        ensure!(report.stderr.contains(&notice), "{report:?}");
        let report = sandbox.dfw(&["plan", "--json", &path])?;
        ensure!(!report.stdout.contains(name), "{report:?}");
    }
    // To the policy and to the kernel it is what it is.
    let settings = "settings: {container-interfaces: [\"br-\u{202e}x\"]}\n";
    let path = sandbox.write("policies/a.yaml", format!("{POLICY}{settings}"))?;
    let report = sandbox.dfw(&["apply", &path.to_string_lossy()])?;
    ensure!(!report.stderr.contains("br-\\u{202e}x"), "{report:?}");
    ensure!(
        sandbox.listing()?.contains("br-\u{202e}x"),
        "not in the rules"
    );
    Ok(())
}

fn a_file_forges_no_line() -> Result<()> {
    let sandbox = Sandbox::new()?;
    sandbox.write("policies/a\nok: forged\u{202e}.yaml", "default: [")?;
    let path = sandbox
        .dir()
        .join("policies")
        .to_string_lossy()
        .into_owned();
    let shown = "a\\nok: forged\\u{202e}.yaml";
    let report = sandbox.dfw(&["check", "--color", "always", &path])?;
    ensure!(report.stderr.contains(shown), "{report:?}");
    let forged = report.stderr.lines().find(|line| line.starts_with("ok:"));
    ensure!(forged.is_none(), "{report:?}");
    let mut guard = Daemon::start(&sandbox, &[])?;
    guard.expect(shown)?;
    guard.expect("have errors and are not applied")?;
    let forged = guard.said.iter().find(|line| line.starts_with("ok:"));
    ensure!(forged.is_none(), "{forged:?}");
    guard.stop()
}
