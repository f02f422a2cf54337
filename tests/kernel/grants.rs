//! The kernel ends access at each moment as the grants say, with nobody running.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dfw::clock::since_boot;
use dfw::compile;
use dfw::host::HostView;
use dfw::host::grant::Grant;
use dfw::net::{AddressSet, Entry, HostPorts, Protocol};
use proptest::prelude::*;

use crate::Named;
use crate::namespace::{Sandbox, compiled_for, install};
use crate::property::property;

pub(crate) const TRIALS: &[Named] = &[
    (
        "the_kernel_ends_each_grant_in_time",
        the_kernel_ends_each_grant_in_time,
    ),
    (
        "an_end_that_changes_is_changed",
        an_end_that_changes_is_changed,
    ),
];

const POLICY: &str = "default: deny\ngrants: {max-time: 1h, ports: [5432]}\nports: {5432: []}\n";
/// How exact a moment is known: reading takes a while, and the kernel counts in jiffies.
const EXACT: Duration = Duration::from_millis(150);

/// Some sources of both families, and the end in tenths of a second.
fn grants() -> impl Strategy<Value = Vec<(Entry, u64)>> {
    let entry = prop_oneof![
        (0_u32..40, 0_u32..12).prop_map(|(first, more)| Entry::V4(first, first + more)),
        (0_u128..40, 0_u128..12).prop_map(|(first, more)| Entry::V6(first, first + more)),
        Just(Entry::V6(30, u128::MAX)),
    ];
    prop::collection::vec((entry, 3..9_u64), 1..10)
}

fn host(grants: &[(Entry, u64)], now: Duration) -> HostView {
    let grant = |(from, tenths): &(Entry, u64)| Grant {
        to: HostPorts::one(None, Protocol::Tcp, 5432),
        from: *from,
        end: now + Duration::from_millis(tenths * 100),
    };
    HostView {
        grants: grants.iter().map(grant).collect(),
        ..HostView::default()
    }
}

/// Who has access at some moment.
fn allowed(grants: &[Grant], at: Duration) -> AddressSet {
    let held = grants.iter().filter(|grant| grant.end > at);
    held.map(|grant| grant.from).collect()
}

fn the_kernel_ends_each_grant_in_time() -> Result<()> {
    let sandbox = Sandbox::new()?;
    property(6, &grants(), |grants| {
        let host = host(&grants, since_boot());
        let ruleset = compiled_for(POLICY, &host)?;
        sandbox.kernel(|kernel| {
            install(kernel, &ruleset)?;
            let mut sizes = Vec::new();
            loop {
                let before = since_boot();
                let installed = kernel.survey()?.installed.context("no table")?;
                let after = since_boot();
                let found = compile::grants(&installed.ruleset);
                let found: AddressSet = found.iter().map(|grant| grant.from).collect();
                // What ends while it is read may be there or not.
                let least = allowed(&host.grants, after + EXACT);
                let most = allowed(&host.grants, before.saturating_sub(EXACT));
                ensure!(
                    least.difference(&found).is_empty() && found.difference(&most).is_empty(),
                    "{found:?} at {before:?}: {host:?}"
                );
                if sizes.last() != Some(&found.len()) {
                    sizes.push(found.len());
                }
                if most.is_empty() {
                    break;
                }
            }
            ensure!(sizes.len() > 1 && sizes.last() == Some(&0), "{sizes:?}");
            Ok(())
        })
    })
}

fn an_end_that_changes_is_changed() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let network = Entry::V4(0xc633_6400, 0xc633_64ff);
    let address = Entry::V4(0xc633_6407, 0xc633_6407);
    let steps: [&[(Entry, u64)]; 7] = [
        &[(address, 6000)],
        // Linux 5.10 ignores another timeout for an element that is there.
        &[(address, 12_000)],
        &[(address, 3000)],
        // A network over the address is no set of its own.
        &[(address, 9000), (network, 6000)],
        &[(address, 3000), (network, 6000)],
        &[(network, 6000)],
        &[],
    ];
    for step in steps {
        let host = host(step, since_boot());
        let ruleset = compiled_for(POLICY, &host)?;
        sandbox.kernel(|kernel| install(kernel, &ruleset))?;
        let installed = sandbox.installed()?;
        let (found, expected) = (compile::grants(&installed), compile::grants(&ruleset));
        let mut pairs = found.iter().zip(&expected);
        ensure!(
            found.len() == expected.len()
                && pairs.all(|(found, expected)| {
                    found.from == expected.from && found.end.abs_diff(expected.end) <= EXACT
                }),
            "{found:?}, not {expected:?}"
        );
        // Nothing is to be done again.
        let again = sandbox.kernel(|kernel| {
            let survey = kernel.survey()?;
            Ok(kernel.propose(Some(&survey), &ruleset)?.is_empty())
        })?;
        ensure!(again, "{step:?} is not finished");
    }
    Ok(())
}
