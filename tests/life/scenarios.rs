//! A scenario that whole machines are tried with, tried on a guest of namespaces.

use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use crate::Named;
use crate::guest::Guest;
use crate::lan::{GUEST, Lan};
use crate::namespaces::Namespaces;
use crate::site::root;
use crate::stranger::FAMILIES;
use crate::support::command::program;
use crate::support::{number, record};

pub(crate) const TRIALS: &[Named] = &[(
    "the_scenario_of_a_reboot_holds",
    the_scenario_of_a_reboot_holds,
)];

/// A guest and how scenarios reach it.
struct Stage {
    guest: Namespaces,
    lan: Arc<Lan>,
}

impl Stage {
    fn new() -> Result<Self> {
        let number = number();
        let lan = Arc::new(Lan::new(number, &FAMILIES)?);
        let guest = Namespaces::start(number, &root(), &lan)?;
        Ok(Self { guest, lan })
    }

    fn scenarios(&self, words: &[&str]) -> Result<Command> {
        let mut command = program(concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/run"));
        let net = self.lan.stranger().path();
        command
            .args(words)
            .env("DFW_HOST", self.guest.door()?)
            .env(
                "DFW_STRANGER",
                format!("nsenter --net={} --", net.display()),
            )
            .env("DFW_ADDR4", GUEST[0])
            .env("DFW_ADDR6", GUEST[1])
            .stdin(Stdio::null());
        Ok(command)
    }
}

fn the_scenario_of_a_reboot_holds() -> Result<()> {
    let mut stage = Stage::new()?;
    let mut running = stage.scenarios(&["reboot"])?;
    let running = running.stdout(Stdio::piped()).spawn();
    let running = running.context("cannot run the scenario")?;
    record(running.id())?;
    // What a real machine does by itself.
    stage.guest.come_back()?;
    let output = running.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    // Every step succeeds, and there are some.
    ensure!(said.contains("ok   reboot: "), "{said}");
    ensure!(!said.contains("FAIL "), "{said}");
    ensure!(output.status.success(), "it ended with {}", output.status);
    Ok(())
}
