//! The README, run as it is written: its commands print what it says they print.
//!
//! They change the ruleset, so all of it happens in a network namespace of its own, which needs
//! root. `TRYCMD=overwrite` writes the outputs anew.
#![expect(
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "dfw never starts another program, its tests do; a test without a harness tells its own result"
)]

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};

/// Set in the process that runs in its own namespace.
const INSIDE: &str = "DFW_README_INSIDE";

fn main() -> Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os(INSIDE).is_none() {
        return own_namespace();
    }
    let readme = fs::read_to_string(root.join("README.md"))?;
    let policy = fs::read_to_string(root.join("policies/web.yaml"))?;
    ensure!(
        readme.contains(&format!("```yaml\n{policy}```")),
        "the policy that the README shows is not policies/web.yaml"
    );
    // The README shows a time, as a person sees one; every run has its own.
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join("README.md");
    fs::write(&copy, without_time(&readme)?)?;
    trycmd::TestCases::new()
        .default_bin_name("dfw")
        .env("NO_COLOR", "1")
        .case(copy)
        .run();
    println!("\n1 passed, 0 failed");
    Ok(ExitCode::SUCCESS)
}

/// The README with a wildcard for the time at which a policy was applied.
fn without_time(readme: &str) -> Result<String> {
    let (before, rest) = readme
        .split_once("installed: dfw 0.1.0 at ")
        .context("the README shows a status")?;
    let (_, after) = rest
        .split_once(" from")
        .context("the status says where from")?;
    Ok(format!("{before}installed: dfw 0.1.0 at [..] from{after}"))
}

/// Runs this very program again in a new network namespace.
fn own_namespace() -> Result<ExitCode> {
    let me = std::env::current_exe()?;
    let status = Command::new("unshare")
        .arg("--net")
        .arg(me)
        .env(INSIDE, "1")
        .env("DFW_DOCKER_HOST", "none")
        .status()
        .context("util-linux has unshare")?;
    if status.success() {
        return Ok(ExitCode::SUCCESS);
    }
    let is_root = rustix::process::geteuid().is_root();
    if !is_root && std::env::var_os("CI").is_none() {
        println!("skipped: the README's commands need root");
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::FAILURE)
}
