//! A table that belongs to whoever made it, and outlives them.

use anyhow::{Context, Result, ensure};
use dfw::kernel::{Claim, Error, Kernel};

use crate::Named;
use crate::namespace::{Place, TABLE, compiled_text};
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
    let place = Place::new()?;
    let ruleset = compiled_text(POLICY)?;
    place.kernel(|owner| {
        if !claimed(owner, Claim::Nothing)? {
            return Ok(());
        }
        owner.replace(&ruleset, "a test", None)?;
        let before = place.installed()?;
        same(&before, &ruleset)?;
        place.nft("flush ruleset")?;
        ensure!(place.nft(&format!("delete table {TABLE}")).is_err());
        ensure!(place.nft(&format!("flush table {TABLE}")).is_err());
        place.kernel(|other| {
            for refused in [
                other.remove(None),
                other.replace(&ruleset, "another", None),
                other.claim().map(|_| dfw::kernel::Outcome::Done),
            ] {
                ensure!(matches!(refused, Err(Error::Owned(_))), "{refused:?}");
            }
            Ok(())
        })?;
        same(&place.installed()?, &before)?;
        // Who owns it is told, and what to do.
        let path = place.write("web.yaml", "default: deny\nports: {443: any}\n")?;
        let path = path.to_string_lossy();
        for words in [&["apply", &*path][..], &["remove"]] {
            let told = place.dfw(words)?;
            told.expect_failure(1, "owned")?;
            let holder = format!("(process {})", std::process::id());
            ensure!(
                told.stderr.contains("dfw guard")
                    && told.stderr.contains(&holder)
                    && told.stderr.contains("nothing was changed"),
                "{told:?}"
            );
        }
        // Its owner does as it likes.
        owner.replace(&compiled_text("default: allow\n")?, "a test", None)?;
        owner.remove(None)?;
        Ok(())
    })?;
    ensure!(place.snapshot()?.installed.is_none());
    Ok(())
}

fn an_orphan_of_an_owner_is_taken_over_as_it_is() -> Result<()> {
    let place = Place::new()?;
    let ruleset = compiled_text(POLICY)?;
    let supported = place.kernel(|owner| {
        let supported = claimed(owner, Claim::Nothing)?;
        owner.replace(&ruleset, "a test", None)?;
        Ok(supported)
    })?;
    if !supported {
        return Ok(());
    }
    let before = place.snapshot()?.installed.context("the table is gone")?;
    place.kernel(|heir| {
        claimed(heir, Claim::Ours)?;
        same(&place.snapshot()?.installed, &Some(before))?;
        place.nft("flush ruleset")?;
        same(&place.installed()?, &ruleset)
    })?;
    // Whose owner is gone anybody may change.
    let path = place.write("web.yaml", "default: deny\nports: {443: any}\n")?;
    place.dfw_ok(&["apply", &path.to_string_lossy()])?;
    place.dfw_ok(&["remove"])?;
    ensure!(place.snapshot()?.installed.is_none());
    Ok(())
}

fn a_plain_table_gives_way_to_one_of_an_owner() -> Result<()> {
    let place = Place::new()?;
    let ruleset = compiled_text(POLICY)?;
    place.install(&ruleset)?;
    place.kernel(|owner| {
        if !claimed(owner, Claim::Plain)? {
            return Ok(());
        }
        owner.replace(&ruleset, "a test", None)?;
        place.nft("flush ruleset")?;
        same(&place.installed()?, &ruleset)
    })
}
