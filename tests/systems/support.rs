//! What is shared with the engine tests, and the helper that this binary is itself.

#[path = "../support/command.rs"]
#[expect(dead_code, reason = "the engine tests use the rest")]
pub(crate) mod command;
#[path = "../support/edition.rs"]
#[expect(dead_code, reason = "the engine tests use the rest")]
pub(crate) mod edition;
#[path = "../support/helper.rs"]
pub(crate) mod helper;
#[path = "../support/janitor.rs"]
pub(crate) mod janitor;
#[path = "../support/netns.rs"]
pub(crate) mod netns;
#[path = "../support/probe.rs"]
#[expect(dead_code, reason = "the engine tests use the rest")]
pub(crate) mod probe;
#[path = "../support/service.rs"]
#[expect(dead_code, reason = "the engine tests use the rest")]
pub(crate) mod service;
#[path = "../support/sign.rs"]
pub(crate) mod sign;
#[path = "../support/size.rs"]
pub(crate) mod size;
#[path = "../support/watch.rs"]
pub(crate) mod watch;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};

use janitor::Ledger;

/// The janitor is this same program.
pub(crate) fn helper_main() -> Option<ExitCode> {
    helper::main(|role, rest| match (role, rest) {
        ("janitor", [dir]) => janitor::wait_and_clean(Path::new(dir)),
        _ => bail!("no such helper"),
    })
}

static LEDGER: Mutex<Option<Ledger>> = Mutex::new(None);
static NUMBER: AtomicU32 = AtomicU32::new(0);

fn with_ledger<T>(work: impl FnOnce(&Ledger) -> T) -> Result<T> {
    let mut ledger = LEDGER.lock().unwrap_or_else(PoisonError::into_inner);
    if ledger.is_none() {
        *ledger = Some(Ledger::open()?);
    }
    ledger.as_ref().map(work).context("no ledger")
}

/// Writes down a process that must not outlive this one.
pub(crate) fn record(pid: u32) -> Result<()> {
    with_ledger(|ledger| ledger.record(pid))?
}

/// Cleans up what trials have left behind.
pub(crate) fn close() {
    LEDGER.lock().unwrap_or_else(PoisonError::into_inner).take();
}

/// The directory of all trials.
pub(crate) fn shared_dir() -> Result<PathBuf> {
    with_ledger(|ledger| ledger.dir().to_owned())
}

/// What the names of all namespaces and cgroups begin with.
pub(crate) fn prefix() -> Result<String> {
    with_ledger(Ledger::prefix)
}

/// A number that nobody else here has.
pub(crate) fn number() -> u32 {
    NUMBER.fetch_add(1, Ordering::Relaxed)
}
