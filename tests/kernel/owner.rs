//! A table that belongs to the process that made it, and outlives that process.

use anyhow::{Context, Result, ensure};
use dfw::kernel::{Claim, Error, Kernel};

use crate::Named;
use crate::namespace::{Sandbox, TABLE, compiled_text};
use crate::property::same;

pub(crate) const TRIALS: &[Named] = &[
    (
        "a_table_of_an_owner_cannot_be_changed_by_others",
        a_table_of_an_owner_cannot_be_changed_by_others,
    ),
    (
        "an_orphan_of_an_owner_is_taken_over_as_it_is",
        an_orphan_of_an_owner_is_taken_over_as_it_is,
    ),
    (
        "a_plain_table_gives_way_to_one_of_an_owner",
        a_plain_table_gives_way_to_one_of_an_owner,
    ),
];

const POLICY: &str = "default: deny\nports: {80: [203.0.113.7]}\n";

/// Claims the table in a fresh place; `None` on a kernel without owners.
fn claimed(kernel: &Kernel, expected: Claim) -> Result<bool> {
    let claim = kernel.claim()?;
    if claim == Claim::Unknown {
        eprintln!("this kernel has no owners of tables");
        return Ok(false);
    }
    same(&claim, &expected)?;
    Ok(true)
}

fn a_table_of_an_owner_cannot_be_changed_by_others() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let ruleset = compiled_text(POLICY)?;
    sandbox.kernel(|owner| {
        if !claimed(owner, Claim::Nothing)? {
            return Ok(());
        }
        owner.replace(&ruleset, "a test", None)?;
        let before = sandbox.installed()?;
        same(&before, &ruleset)?;
        sandbox.nft("flush ruleset")?;
        ensure!(sandbox.nft(&format!("delete table {TABLE}")).is_err());
        ensure!(sandbox.nft(&format!("flush table {TABLE}")).is_err());
        sandbox.kernel(|other| {
            for refused in [
                other.remove(None),
                other.replace(&ruleset, "another", None),
                other.claim().map(|_| dfw::kernel::Outcome::Done),
            ] {
                ensure!(matches!(refused, Err(Error::Owned(_))), "{refused:?}");
            }
            Ok(())
        })?;
        same(&sandbox.installed()?, &before)?;
        // The error names the owner, and what to do.
        let path = sandbox.write("web.yaml", "default: deny\nports: {443: any}\n")?;
        let path = path.to_string_lossy();
        for words in [&["apply", &*path][..], &["remove"]] {
            let report = sandbox.dfw(words)?;
            report.expect_failure(1, "owned")?;
            let holder = format!("(process {})", std::process::id());
            ensure!(
                report.stderr.contains("dfw guard")
                    && report.stderr.contains(&holder)
                    && report.stderr.contains("nothing was changed"),
                "{report:?}"
            );
        }
        // Its owner does as it likes.
        owner.replace(&compiled_text("default: allow\n")?, "a test", None)?;
        owner.remove(None)?;
        Ok(())
    })?;
    ensure!(sandbox.snapshot()?.installed.is_none());
    Ok(())
}

fn an_orphan_of_an_owner_is_taken_over_as_it_is() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let ruleset = compiled_text(POLICY)?;
    let supported = sandbox.kernel(|owner| {
        let supported = claimed(owner, Claim::Nothing)?;
        owner.replace(&ruleset, "a test", None)?;
        Ok(supported)
    })?;
    if !supported {
        return Ok(());
    }
    let before = sandbox.snapshot()?.installed.context("the table is gone")?;
    sandbox.kernel(|heir| {
        claimed(heir, Claim::Ours)?;
        same(&sandbox.snapshot()?.installed, &Some(before))?;
        sandbox.nft("flush ruleset")?;
        same(&sandbox.installed()?, &ruleset)
    })?;
    // Whose owner is gone anybody may change.
    let path = sandbox.write("web.yaml", "default: deny\nports: {443: any}\n")?;
    sandbox.dfw_ok(&["apply", &path.to_string_lossy()])?;
    sandbox.dfw_ok(&["remove"])?;
    ensure!(sandbox.snapshot()?.installed.is_none());
    Ok(())
}

fn a_plain_table_gives_way_to_one_of_an_owner() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let ruleset = compiled_text(POLICY)?;
    sandbox.install(&ruleset)?;
    sandbox.kernel(|owner| {
        if !claimed(owner, Claim::Plain)? {
            return Ok(());
        }
        owner.replace(&ruleset, "a test", None)?;
        sandbox.nft("flush ruleset")?;
        same(&sandbox.installed()?, &ruleset)
    })
}
