//! How the verbs that talk to the kernel behave where nothing can be written, where nobody reads,
//! and at narrow terminals.

use std::process::Command;

use anyhow::{Result, ensure};

use crate::Named;
use crate::namespace::{DFW, Place, Report};

pub(crate) const TRIALS: &[Named] = &[
    ("a_read_only_system_is_enough", a_read_only_system_is_enough),
    (
        "what_must_be_written_says_why_it_is_not",
        what_must_be_written_says_why_it_is_not,
    ),
    (
        "a_closed_pipe_does_not_stop_an_apply",
        a_closed_pipe_does_not_stop_an_apply,
    ),
];

/// dfw where every file system that it could write to is read-only.
fn read_only(place: &Place, arguments: &[&str]) -> Result<Report> {
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
    let mut command: Command = place.namespace().command("unshare");
    command.args(["--mount", "--", "sh", "-euc", SCRIPT, "sh"]);
    command.arg(place.dir()).arg(DFW).args(arguments);
    Report::of(&mut command)
}

fn a_read_only_system_is_enough() -> Result<()> {
    let place = Place::new()?;
    let policy = place.write("policies/a.yaml", "default: deny\nports: {80: any}\n")?;
    let policy = policy.to_string_lossy();
    for verb in [
        "check", "test", "plan", "apply", "apply", "status", "show", "audit", "remove",
    ] {
        let mut arguments = vec![verb];
        if ["check", "test", "plan", "apply"].contains(&verb) {
            arguments.push(&policy);
        }
        let told = read_only(&place, &arguments)?;
        ensure!(told.code == Some(0), "{verb}: {told:?}");
    }
    Ok(())
}

fn what_must_be_written_says_why_it_is_not() -> Result<()> {
    let place = Place::new()?;
    let rules = format!(
        "{}/tests/import/ban-list/rules.v4",
        env!("CARGO_MANIFEST_DIR")
    );
    let old = place.dir().to_string_lossy().into_owned();
    let new = place.dir().join("new");
    for (dir, what) in [(old.as_str(), "write"), (&new.to_string_lossy(), "create")] {
        let told = read_only(&place, &["import", &rules, "--output", dir])?;
        told.expect_failure(1, "unwritable")?;
        ensure!(
            told.stderr.contains(&format!("cannot {what} {dir}"))
                && told.stderr.contains("Read-only file system")
                && told.stderr.contains("nothing was written"),
            "{told:?}"
        );
    }
    ensure!(!new.exists(), "the directory was made");
    Ok(())
}

fn a_closed_pipe_does_not_stop_an_apply() -> Result<()> {
    let place = Place::new()?;
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
        let told = Report::of(place.program(arguments).stdout(writer))?;
        ensure!(
            told.code == Some(0) && told.stderr.is_empty(),
            "{arguments:?}: {told:?}"
        );
        let is_installed = place.snapshot()?.installed.is_some();
        ensure!(is_installed != (arguments == ["remove"]), "{arguments:?}");
    }
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let arguments = ["plan", "--exit-code", &policy];
    let told = Report::of(place.program(&arguments).stdout(writer))?;
    ensure!(told.code == Some(10), "the exit code is lost: {told:?}");
    Ok(())
}
