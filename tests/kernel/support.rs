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

/// Each trial is this same program, and so are the janitor and what takes netfilter away from dfw.
pub(crate) fn helper_main() -> Option<ExitCode> {
    helper::main(play)
}

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
