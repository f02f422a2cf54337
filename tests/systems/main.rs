//! dfw's life beside real systemd, Docker, nftables.service and firewalld: boots, restarts, crashes
//! and floods, with a stranger who tries to get in all the time.
//!
//! Where the environment names a static program in `DFW_MACHINES`, as `tests/machines` has it, that one is
//! tried on two machines of their own as well, with other kernels, in QEMU without KVM.
//!
//! Needs root, the packages that `tests/run` installs and the roots that `tests/roots` builds. Without them
//! the trials are skipped, or fail where the environment says `CI=true`.

#![expect(
    clippy::disallowed_types,
    clippy::print_stderr,
    reason = "a black-box test starts programs and reports to the terminal"
)]

mod ansible;
mod boots;
mod deaths;
mod engines;
mod figures;
mod files;
mod grants;
mod guest;
mod lan;
mod limits;
mod machine;
mod machines;
mod modifiers;
mod namespaces;
mod package;
mod scenarios;
mod site;
mod stranger;
mod support;
mod web;

use std::process::ExitCode;

use anyhow::{Result, bail};
use libtest_mimic::{Arguments, Trial};

/// What only the long version tries, unless it is named: the same beside other programs or in another way, and what the
/// remaining trials would find most of.
const LONG: [&str; 9] = [
    "a_role_installs_bundles_and_packages",
    "a_role_follows_a_url",
    "without_dfw_a_reboot_is_open",
    "a_reboot_without_an_owner_is_closed",
    "a_reboot_with_firewalld_is_closed",
    "a_reboot_without_the_server_of_a_site_is_closed",
    "applied_once_a_reboot_is_closed",
    "applied_once_a_flush_opens_until_the_next_apply",
    "a_stopped_engine_stays_so",
];

/// A trial by name.
type Named = (&'static str, fn() -> Result<()>);

fn main() -> ExitCode {
    if let Some(code) = support::helper_main() {
        return code;
    }
    let mut arguments = Arguments::from_args();
    // More would only wait for each other.
    arguments.test_threads.get_or_insert(4);
    let missing = namespaces::missing();
    let with = |more: Vec<String>| [missing.clone(), more].concat();
    let missing_to_packages = with(package::missing().into_iter().collect());
    let missing_to_ansible = [missing_to_packages.clone(), ansible::missing()].concat();
    let missing_to_machines = if has_machines() {
        with(machine::missing(machines::RELEASES))
    } else {
        Vec::new()
    };
    // Who names a trial wants it.
    let is_whole = support::size::is_long() || arguments.filter.is_some();
    let (tried, left): (Vec<Named>, Vec<Named>) =
        all().partition(|(name, _)| is_whole || !LONG.contains(name));
    for (name, _) in left {
        eprintln!("left to `tests/run --long`: {name}");
    }
    for thing in missing_to_ansible.iter().chain(&missing_to_machines) {
        eprintln!("the life tests need {thing}");
    }
    let may_skip = std::env::var("CI").as_deref() != Ok("true");
    let missing: &'static [String] = missing.leak();
    let missing_to_packages: &'static [String] = missing_to_packages.leak();
    let missing_to_ansible: &'static [String] = missing_to_ansible.leak();
    let missing_to_machines: &'static [String] = missing_to_machines.leak();
    let trials = tried
        .into_iter()
        .map(|(name, trial)| {
            let is_of = |group: &[Named]| group.iter().any(|(known, _)| *known == name);
            let missing = if is_of(package::TRIALS) {
                missing_to_packages
            } else if is_of(ansible::TRIALS) {
                missing_to_ansible
            } else if is_of(machines::TRIALS) {
                missing_to_machines
            } else {
                missing
            };
            Trial::test(name, move || {
                let result = if missing.is_empty() {
                    trial()
                } else {
                    missed(missing)
                };
                result.map_err(|error| format!("{error:#}").into())
            })
            .with_ignored_flag(may_skip && !missing.is_empty())
        })
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    support::close();
    conclusion.exit_code()
}

fn missed(missing: &[String]) -> Result<()> {
    bail!("this trial needs {}", missing.join("; "))
}

/// Whether whole machines are booted as well, which takes minutes of all cores.
fn has_machines() -> bool {
    machine::dfw().is_some()
}

fn all() -> impl Iterator<Item = Named> {
    let groups = [
        // Those that take longest begin first.
        if has_machines() {
            machines::TRIALS
        } else {
            &[]
        },
        scenarios::TRIALS,
        ansible::TRIALS,
        package::TRIALS,
        boots::TRIALS,
        modifiers::TRIALS,
        deaths::TRIALS,
        files::TRIALS,
        engines::TRIALS,
        figures::TRIALS,
    ];
    groups.into_iter().flatten().copied()
}
