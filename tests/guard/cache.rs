//! What is in the cache of fetched lists: old, accepted by hand, or closed to the user who asks.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use dfw::store::Policies;
use dfw::text::SourceMap;
use serde_json::{Value, json};

use crate::Named;
use crate::daemon::{Daemon, arguments, until};
use crate::namespace::{DFW, Report, Sandbox};
use crate::support::command::install;

pub(crate) const TRIALS: &[Named] = &[
    ("a_stale_source_is_audited", a_stale_source_is_audited),
    ("what_is_accepted_is_followed", what_is_accepted_is_followed),
    (
        "a_cache_that_is_closed_is_no_empty_one",
        a_cache_that_is_closed_is_no_empty_one,
    ),
];

const NOBODY: u32 = 65_534;
const POLICY: &str = "default: deny\n\
    sources: {list: {url: \"https://lists.example.com/list\"}}\n\
    ports: {80: [list], 81: [192.0.2.9]}\n\
    tests:\n  \
      - {from: 198.51.100.7, to: 80, expect: deny}\n  \
      - {from: 198.51.100.7, to: 81, expect: deny}\n";

/// A policy with a source, its cache, and what runs there.
struct Place {
    sandbox: Sandbox,
    /// The name of the list in the cache.
    key: String,
}

impl Place {
    fn new() -> Result<Self> {
        let sandbox = Sandbox::new()?;
        let policy = sandbox.write("policies/a.yaml", POLICY)?;
        let policies = Policies::read(SourceMap::new(), &policy);
        let policies = policies.ok().context("the policy has errors")?;
        let (_, _, fetched) = policies.policy.fetched().next().context("no source")?;
        let key = fetched.request.key();
        Ok(Self { sandbox, key })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.sandbox.dir().join(name)
    }

    /// Writes a list to the cache, as the fetcher does.
    fn fetch(&self, text: &str) -> Result<()> {
        let new = self.sandbox.write("cache/new", text)?;
        Ok(fs::rename(new, self.path("cache").join(&self.key))?)
    }

    /// A command with the folders of this place.
    fn with_folders(&self, mut command: Command) -> Command {
        command
            .env("DFW_CACHE", self.path("cache"))
            .env("DFW_DOCKER_HOST", "none")
            .env("DFW_GUARD_SOCKET", self.path("guard.sock"))
            .env("STATE_DIRECTORY", self.path("state"));
        command
    }

    fn dfw(&self, arguments: &[&str]) -> Result<Report> {
        let mut command = self.with_folders(self.sandbox.program(arguments));
        Report::of(command.arg(self.path("policies")))
    }

    fn guard(&self) -> Result<Daemon> {
        let mut command = self.sandbox.namespace().command(DFW);
        command.args(arguments(&self.sandbox, &[]));
        Daemon::of(self.with_folders(command))
    }
}

fn a_stale_source_is_audited() -> Result<()> {
    let place = Place::new()?;
    place.fetch("192.0.2.7\n")?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let status = json!({
        "fetched": now - 3 * 24 * 3600 - 60,
        "failure": "lists.example.com\u{1b}[2J does not answer",
    });
    let name = format!("cache/status-{}.json", place.key);
    place.sandbox.write(&name, status.to_string())?;
    let stale = |arguments: &[&str]| -> Result<()> {
        let mut command = place.with_folders(place.sandbox.program(&["audit"]));
        let text = Report::of(command.args(arguments))?.stdout;
        let line = text.lines().find(|line| line.starts_with("stale: "));
        let line = line.with_context(|| text.clone())?;
        ensure!(
            line.starts_with("stale: the source `list` was last fetched 3d ago: lists.example.com"),
            "{line}"
        );
        ensure!(!line.contains('\u{1b}'), "{line:?}");
        let mut command = place.with_folders(place.sandbox.program(&["--json", "audit"]));
        let report: Value = serde_json::from_str(&Report::of(command.args(arguments))?.stdout)?;
        let source = &report["stale_sources"][0];
        let failure = source["failure"].as_str().context("no failure")?;
        ensure!(
            source["name"] == "list" && source["age"].as_u64() >= Some(3 * 24 * 3600),
            "{report:#}"
        );
        ensure!(failure.ends_with("does not answer"), "{report:#}");
        Ok(())
    };
    let policies = place.path("policies").to_string_lossy().into_owned();
    stale(&["--policy", &policies])?;
    // Without a policy, the guard knows.
    let mut guard = place.guard()?;
    guard.expect_in_force()?;
    until("the status of the source", || stale(&[]).ok())?;
    guard.stop()
}

/// Guard reads the policies again every 30 seconds only if they have errors, which a list that is not used is not.
fn what_is_accepted_is_followed() -> Result<()> {
    let place = Place::new()?;
    place.fetch("192.0.2.1\n192.0.2.4\n192.0.2.7\n192.0.2.10\n")?;
    let mut guard = place.guard()?;
    guard.expect_in_force()?;
    let is_in_force = |address: &str| -> Result<bool> {
        let rules = place.sandbox.installed()?.to_string();
        Ok(rules.contains(address))
    };
    place.fetch("192.0.2.10\n")?;
    guard.expect("max-loss: 50%")?;
    ensure!(is_in_force("192.0.2.4")?, "a great loss is in force");
    let report = place.dfw(&["fetch", "--accept", "list"])?;
    ensure!(report.code == Some(0), "{report:?}");
    guard.expect_in_force()?;
    ensure!(
        !is_in_force("192.0.2.4")? && is_in_force("192.0.2.10")?,
        "what was accepted is not in force"
    );
    // The next list is compared with it.
    place.fetch("192.0.2.10\n192.0.2.20\n")?;
    guard.expect_in_force()?;
    guard.stop()
}

/// `DynamicUser` keeps the cache below a directory that only root may enter.
fn a_cache_that_is_closed_is_no_empty_one() -> Result<()> {
    const REASON: &str = "cannot be read from the cache: Permission denied";
    let place = Place::new()?;
    place.fetch("203.0.113.7\n")?;
    fs::set_permissions(place.path("cache"), PermissionsExt::from_mode(0o700))?;
    fs::set_permissions(place.sandbox.dir(), PermissionsExt::from_mode(0o755))?;
    // Where the build put it, others need not have a way to.
    let copy = place.path("dfw");
    install(std::path::Path::new(DFW), &copy)?;
    let ask = |arguments: &[&str]| -> Result<Report> {
        place.sandbox.namespace().run(|| {
            let mut command = place.with_folders(Command::new(&copy));
            command.args(arguments).arg(place.path("policies"));
            Report::of(command.uid(NOBODY).gid(NOBODY))
        })
    };
    let is_true = |report: &Report| -> Result<()> {
        let all = format!("{}{}", report.stdout, report.stderr);
        ensure!(all.contains(REASON), "{report:?}");
        ensure!(!all.contains("never"), "{report:?}");
        Ok(())
    };
    // Whether the list holds the address of the test is not known.
    let check = ask(&["check"])?;
    is_true(&check)?;
    ensure!(check.code == Some(0), "{check:?}");
    let unjudged = "not judged at port 80/tcp: `list` cannot be read";
    ensure!(check.stderr.contains(unjudged), "{check:?}");
    ensure!(!check.stderr.contains("not judged at port 81"), "{check:?}");
    ensure!(ask(&["check", "--strict"])?.code == Some(3), "no error");
    let explain = ask(&[
        "explain",
        "--from",
        "198.51.100.7",
        "--to",
        "80",
        "--policy",
    ])?;
    is_true(&explain)?;
    ensure!(explain.stdout.contains("not judged"), "{explain:?}");
    for command in ["plan", "apply"] {
        let report = ask(&[command])?;
        is_true(&report)?;
        ensure!(report.code == Some(1), "{report:?}");
    }
    // Root may read it.
    let check = place.dfw(&["check"])?;
    ensure!(
        check.code == Some(0) && check.stderr.is_empty(),
        "{check:?}"
    );
    // Nobody would be excepted.
    place.sandbox.write(
        "policies/a.yaml",
        POLICY.replace("80: [list]", "80: {allow: any, except: [list]}"),
    )?;
    let check = ask(&["check"])?;
    is_true(&check)?;
    let error = "the source `list` under `except` cannot be read";
    ensure!(
        check.code == Some(3) && check.stderr.contains(error),
        "{check:?}"
    );
    Ok(())
}
