//! What is shared with the engine tests, and the helpers that this binary is itself.

#[path = "../support/command.rs"]
pub(crate) mod command;
#[path = "../support/helper.rs"]
pub(crate) mod helper;
#[path = "../support/isolated.rs"]
pub(crate) mod isolated;
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
#[path = "../support/size.rs"]
pub(crate) mod size;

use crate::pty;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, anyhow, bail};
use libtest_mimic::{Arguments, Trial};

/// Runs all trials, each in a process of its own and so many at once; or the part of a helper, if this process is one.
/// Where something is missing they are skipped, or fail with `CI=true`. Those of `long` are left to the long version,
/// unless the command line names trials.
pub(crate) fn suite(
    name: &str,
    threads: usize,
    missing: fn() -> Vec<String>,
    long: &[&str],
) -> ExitCode {
    if let Some(code) = helper::main(play) {
        return code;
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(threads));
    let lacking = missing();
    let skip = !lacking.is_empty() && std::env::var("CI").as_deref() != Ok("true");
    for thing in &lacking {
        eprintln!("the {name} tests need {thing}");
    }
    // Who names a trial wants it.
    let is_whole = size::is_long() || arguments.filter.is_some();
    let trials = crate::all()
        .filter(|(name, _)| {
            let is_left = !is_whole && long.contains(name);
            if is_left {
                eprintln!("left to `tests/run --long`: {name}");
            }
            !is_left
        })
        .map(|(name, _)| {
            Trial::test(name, move || {
                let missing = missing();
                let result = if missing.is_empty() {
                    isolated::run(name)
                } else {
                    Err(anyhow!("this trial needs {}", missing.join("; ")))
                };
                result.map_err(|error| format!("{error:#}").into())
            })
            .with_ignored_flag(skip)
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Each trial is this same program, and so are the janitor and what takes netfilter away from dfw.
fn play(role: &str, rest: &[String]) -> Result<()> {
    match (role, rest) {
        (isolated::ROLE, [name]) => isolated::play(name, crate::all(), crate::namespace::close),
        ("janitor", [dir]) => janitor::wait_and_clean(Path::new(dir)),
        ("without-netfilter", [program, arguments @ ..]) => {
            forbid_netfilter()?;
            Err(anyhow!(Command::new(program).args(arguments).exec()))
        }
        ("terminal", [name, program, arguments @ ..]) => {
            pty::play_terminal(name, program, arguments)
        }
        ("sshd", [client, server, program, arguments @ ..]) => {
            pty::play_sshd([client, server], program, arguments)
        }
        _ => bail!("no such helper"),
    }
}

/// From here on `socket(AF_NETLINK, …, NETLINK_NETFILTER)` fails as on a kernel without nfnetlink,
/// for this process and for whatever it becomes.
fn forbid_netfilter() -> Result<()> {
    use seccompiler::{
        BpfProgram, SeccompAction, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, SeccompCondition,
        SeccompFilter, SeccompRule,
    };
    let is = |argument, value: i32| {
        SeccompCondition::new(argument, Dword, Eq, u64::from(value.unsigned_abs()))
    };
    let netlink = is(0, libc::AF_NETLINK)?;
    let netfilter = is(2, libc::NETLINK_NETFILTER)?;
    let rule = SeccompRule::new(vec![netlink, netfilter])?;
    let filter = SeccompFilter::new(
        [(libc::SYS_socket, vec![rule])].into(),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPROTONOSUPPORT.unsigned_abs()),
        std::env::consts::ARCH.try_into()?,
    )?;
    let program: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter(&program).context("cannot install a seccomp filter")
}
