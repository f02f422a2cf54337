//! What is applied is what is read back.

use anyhow::{Result, ensure};
use dfw::kernel::{Commit, Kernel, Outcome};
use dfw::ruleset::{Elements, Interval, Ruleset, Set};

use crate::Named;
use crate::arbitrary::{Style, ruleset};
use crate::namespace::{Sandbox, compiled, install, policies};
use crate::property::{property, same};
use crate::support::size::times;

pub(crate) const TRIALS: &[Named] = &[
    ("what_is_applied_is_read_back", what_is_applied_is_read_back),
    ("every_policy_is_read_back", every_policy_is_read_back),
    ("a_big_set_is_read_back", a_big_set_is_read_back),
    (
        "a_stale_generation_changes_nothing",
        a_stale_generation_changes_nothing,
    ),
];

fn read(kernel: &Kernel) -> Result<Option<Ruleset>> {
    Ok(kernel
        .snapshot()?
        .installed
        .map(|installed| installed.ruleset))
}

/// Twice the same is the same, and what was there before leaves no trace.
fn what_is_applied_is_read_back() -> Result<()> {
    let sandbox = Sandbox::new()?;
    property(
        times(60, 20),
        &(ruleset(Style::Wild), ruleset(Style::Wild)),
        |(first, second)| {
            let (after_first, from_nothing) = sandbox.kernel(|kernel| {
                for ruleset in [&first, &first, &second] {
                    install(kernel, ruleset)?;
                    same(&read(kernel)?, &Some(ruleset.clone()))?;
                }
                let after_first = sandbox.listing()?;
                let generation = kernel.snapshot()?.generation;
                ensure!(kernel.remove(generation)? == Outcome::Done);
                ensure!(read(kernel)?.is_none(), "removed, and still there");
                ensure!(sandbox.listing()?.is_empty(), "something is left");
                install(kernel, &second)?;
                same(&read(kernel)?, &Some(second.clone()))?;
                Ok((after_first, sandbox.listing()?))
            })?;
            same(&after_first, &from_nothing)
        },
    )
}

fn every_policy_is_read_back() -> Result<()> {
    let sandbox = Sandbox::new()?;
    for path in policies()? {
        let ruleset = compiled(&path)?;
        sandbox.install(&ruleset)?;
        same(&sandbox.installed()?, &ruleset)?;
    }
    Ok(())
}

/// More than one message of elements, and more than a socket carries unasked.
fn a_big_set_is_read_back() -> Result<()> {
    const MANY: u32 = 20_000;
    let sandbox = Sandbox::new()?;
    let sets = [
        Elements::Ipv4((0..MANY).map(|n| n * 5).collect()),
        Elements::Ipv4Ranges(
            (0..MANY)
                .map(|n| Interval::new(n * 9, n * 9 + n % 8))
                .collect(),
        ),
        Elements::Ipv6Ranges(
            (0..MANY)
                .map(|n| Interval::new(u128::from(n) << 64, (u128::from(n) << 64) + 7))
                .collect(),
        ),
    ];
    let mut ruleset = Ruleset::default();
    for (number, elements) in sets.into_iter().enumerate() {
        let set = Set {
            elements,
            comment: None,
        };
        ruleset.sets.insert(format!("s{number}"), set);
    }
    sandbox.install(&ruleset)?;
    ensure!(
        sandbox.installed()? == ruleset,
        "the sets came back otherwise"
    );
    Ok(())
}

fn a_stale_generation_changes_nothing() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let (first, second) = (
        compiled("policies/web.yaml")?,
        compiled("examples/only-web")?,
    );
    sandbox.kernel(|kernel| {
        let stale = kernel.snapshot()?.generation;
        install(kernel, &first)?;
        let before = (kernel.snapshot()?, sandbox.listing()?);
        ensure!(kernel.replace(&second, "", stale)? == Commit::Overtaken);
        ensure!(kernel.remove(stale)? == Outcome::Overtaken);
        same(&(kernel.snapshot()?, sandbox.listing()?), &before)
    })
}
