//! The scenarios that whole machines are tried with, tried on guests of namespaces.

use std::fs;
use std::process::{Child, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use crate::Named;
use crate::guest::{Guest, PATIENCE};
use crate::lan::{GUEST, Lan};
use crate::namespaces::Namespaces;
use crate::site::root;
use crate::stranger::{FAMILIES, PACE};
use crate::support::command::program;
use crate::support::{number, record};

pub(crate) const TRIALS: &[Named] = &[
    ("the_scenarios_hold", the_scenarios_hold),
    (
        "the_scenario_of_a_reboot_holds",
        the_scenario_of_a_reboot_holds,
    ),
];

const SCENARIOS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios");

/// A guest and how scenarios reach it.
struct Stage {
    guest: Namespaces,
    lan: Arc<Lan>,
}

impl Stage {
    fn new() -> Result<Self> {
        let number = number();
        let lan = Arc::new(Lan::new(number, &FAMILIES, PACE)?);
        let guest = Namespaces::start(number, &root(), &lan)?;
        Ok(Self { guest, lan })
    }

    /// Starts scenarios: all but `reboot`, or those named.
    fn scenarios(&self, words: &[&str]) -> Result<Child> {
        let mut command = program(&format!("{SCENARIOS}/run"));
        let net = self.lan.stranger().path();
        command
            .args(words)
            .env("DFW_HOST", self.guest.entry()?)
            .env(
                "DFW_STRANGER",
                format!("nsenter --net={} --", net.display()),
            )
            .env("DFW_ADDR4", GUEST[0])
            .env("DFW_ADDR6", GUEST[1])
            .env("DFW_PATIENCE", PATIENCE.as_secs().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let running = command.spawn().context("cannot run the scenarios")?;
        record(running.id())?;
        Ok(running)
    }

    /// What the engine and dfw said since the guest booted.
    fn journal(&self) -> String {
        self.guest
            .run("docker ps --all --no-trunc; journalctl --no-pager --lines 60 --output short-precise \
                 --unit 'dfw*' --unit 'docker*' --unit 'containerd*'")
            .unwrap_or_else(|error| format!("no journal: {error:#}"))
    }
}

/// Every step succeeds, and there are some of each scenario.
fn holds(running: Child, scenarios: &[String]) -> Result<()> {
    let output = running.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    for scenario in scenarios {
        ensure!(
            said.contains(&format!("ok   {scenario}: ")),
            "{scenario}?\n{said}"
        );
    }
    ensure!(!said.contains("FAIL "), "{said}");
    ensure!(output.status.success(), "it ended with {}", output.status);
    Ok(())
}

fn the_scenarios_hold() -> Result<()> {
    let stage = Stage::new()?;
    stage.guest.run("systemctl unmask firewalld")?;
    let mut scenarios = Vec::new();
    for file in fs::read_dir(SCENARIOS)? {
        let name = file?.file_name().to_string_lossy().into_owned();
        scenarios.extend(name.strip_suffix(".sh").map(str::to_owned));
    }
    // What the others share, and the one that is tried apart.
    scenarios.retain(|name| !["lib", "reboot"].contains(&name.as_str()));
    ensure!(scenarios.len() > 10, "only {scenarios:?}");
    holds(stage.scenarios(&[])?, &scenarios).with_context(|| stage.journal())
}

fn the_scenario_of_a_reboot_holds() -> Result<()> {
    let mut stage = Stage::new()?;
    let running = stage.scenarios(&["reboot"])?;
    // What a real machine does by itself.
    let back = stage.guest.come_back();
    let held = holds(running, &["reboot".to_owned()]);
    match back {
        Ok(()) => held,
        Err(error) => Err(error.context(format!("{held:?}"))),
    }
    .with_context(|| stage.journal())
}
