//! How the verbs that talk to the kernel behave where nothing can be written, where nobody reads,
//! and at narrow terminals.

use std::process::Command;

use anyhow::{Result, ensure};

use crate::Named;
use crate::namespace::{DFW, Report, Sandbox};

pub(crate) const TRIALS: &[Named] = &[
    ("a_read_only_system_is_enough", a_read_only_system_is_enough),
    (
        "a_read_only_file_system_is_reported",
        a_read_only_file_system_is_reported,
    ),
    (
        "a_closed_pipe_does_not_stop_an_apply",
        a_closed_pipe_does_not_stop_an_apply,
    ),
];

/// dfw where every file system that it could write to is read-only.
fn read_only(sandbox: &Sandbox, arguments: &[&str]) -> Result<Report> {
    // The mounts are gone with the program.
    const SCRIPT: &str = r#"
        mount --make-rprivate /
        for target in / "$(findmnt --noheadings --output TARGET --target "$1")"; do
            mount -o remount,bind,ro "$target"
        done
        if touch "$1/probe" 2>/dev/null; then echo "$1 can be written to" >&2; exit 99; fi
        shift
        exec "$@"
    "#;
    let mut command: Command = sandbox.namespace().command("unshare");
    command.args(["--mount", "--", "sh", "-euc", SCRIPT, "sh"]);
    command.arg(sandbox.dir()).arg(DFW).args(arguments);
    Report::of(&mut command)
}

fn a_read_only_system_is_enough() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let policy = sandbox.write("policies/a.yaml", "default: deny\nports: {80: any}\n")?;
    let policy = policy.to_string_lossy();
    for verb in [
        "check", "test", "plan", "apply", "apply", "status", "show", "audit", "remove",
    ] {
        let mut arguments = vec![verb];
        if ["check", "test", "plan", "apply"].contains(&verb) {
            arguments.push(&policy);
        }
        let report = read_only(&sandbox, &arguments)?;
        ensure!(report.code == Some(0), "{verb}: {report:?}");
    }
    Ok(())
}

fn a_read_only_file_system_is_reported() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let rules = format!(
        "{}/tests/import/ban-list/rules.v4",
        env!("CARGO_MANIFEST_DIR")
    );
    let old = sandbox.dir().to_string_lossy().into_owned();
    let new = sandbox.dir().join("new");
    for (dir, what) in [(old.as_str(), "write"), (&new.to_string_lossy(), "create")] {
        let report = read_only(&sandbox, &["import", &rules, "--output", dir])?;
        report.expect_failure(1, "unwritable")?;
        ensure!(
            report.stderr.contains(&format!("cannot {what} {dir}"))
                && report.stderr.contains("Read-only file system")
                && report.stderr.contains("nothing was written"),
            "{report:?}"
        );
    }
    ensure!(!new.exists(), "the directory was made");
    Ok(())
}

fn a_closed_pipe_does_not_stop_an_apply() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let policy = format!("{}/policies", env!("CARGO_MANIFEST_DIR"));
    for arguments in [
        &["apply", &policy][..],
        &["apply", &policy, "--json"],
        &["plan", "examples/database"],
        &["show"],
        &["status"],
        &["remove"],
    ] {
        let (reader, writer) = std::io::pipe()?;
        drop(reader);
        let report = Report::of(sandbox.program(arguments).stdout(writer))?;
        ensure!(
            report.code == Some(0) && report.stderr.is_empty(),
            "{arguments:?}: {report:?}"
        );
        let is_installed = sandbox.snapshot()?.installed.is_some();
        ensure!(is_installed != (arguments == ["remove"]), "{arguments:?}");
    }
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let arguments = ["plan", "--exit-code", &policy];
    let report = Report::of(sandbox.program(&arguments).stdout(writer))?;
    ensure!(report.code == Some(10), "the exit code is lost: {report:?}");
    Ok(())
}
