//! Giving up what guard never needs, before it reads anything of others.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, AccessNet, NetPort, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus,
};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use thiserror::Error;

/// Rulesets; who holds a socket; policies of whichever owner.
const NEEDED: CapabilitySet = CapabilitySet::NET_ADMIN
    .union(CapabilitySet::SYS_PTRACE)
    .union(CapabilitySet::DAC_READ_SEARCH);

/// Starting programs, looking into others, changing the system: nothing that a firewall does.
const FORBIDDEN: &[i64] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_open_by_handle_at,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_fsmount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    // This libc has no name for it there.
    #[cfg(not(all(target_arch = "aarch64", target_env = "musl")))]
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_bpf,
    // What is asked for there passes no filter.
    libc::SYS_io_uring_setup,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_add_key,
    libc::SYS_keyctl,
    libc::SYS_request_key,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_sethostname,
];

/// What could not be given up.
#[derive(Debug, Error)]
pub(super) enum Error {
    #[error("cannot drop capabilities: {0}")]
    Capabilities(#[from] rustix::io::Errno),
    #[error("cannot filter system calls: {0}")]
    Filter(#[from] seccompiler::Error),
    #[error("cannot filter system calls: {0}")]
    Backend(#[from] seccompiler::BackendError),
    #[error("cannot restrict file access (Landlock): {0}")]
    Landlock(#[from] RulesetError),
}

/// Gives up capabilities and system calls, for this thread and all that it starts.
pub(super) fn confine() -> Result<(), Error> {
    // The filter also holds where the rest cannot be given up.
    filter().and(drop_capabilities())
}

/// Gives up all files but for reading, for this thread and all that it starts: only these folders can be
/// written to, which are made if they are not there. Nothing can be executed, and no port can be listened
/// at but this one. Says whether the kernel can do that.
pub(super) fn give_up_files(folders: &[PathBuf], port: Option<u16>) -> Result<bool, Error> {
    // The newest whose rules all make sense here; older kernels know fewer of them.
    const RULES: ABI = ABI::V5;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeSock
        | AccessFs::RemoveFile;
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(RULES))?
        .handle_access(AccessNet::BindTcp)?
        .create()?;
    let mut allow = |path: &PathBuf, access| match PathFd::new(path) {
        Ok(at) => (&mut rules)
            .add_rule(PathBeneath::new(at, access))
            .map(drop),
        // Whoever needs it says so.
        Err(_) => Ok(()),
    };
    allow(&PathBuf::from("/"), read)?;
    for folder in folders {
        // The state's is made before, with a mode of its own.
        let _ = fs::create_dir_all(folder);
        allow(folder, read | write)?;
    }
    if let Some(port) = port {
        (&mut rules).add_rule(NetPort::new(port, AccessNet::BindTcp))?;
    }
    Ok(rules.restrict_self()?.ruleset != RulesetStatus::NotEnforced)
}

fn drop_capabilities() -> Result<(), Error> {
    let kept = capabilities(None)?.permitted.intersection(NEEDED);
    Ok(set_capabilities(
        None,
        CapabilitySets {
            effective: kept,
            permitted: kept,
            inheritable: CapabilitySet::empty(),
        },
    )?)
}

fn filter() -> Result<(), Error> {
    let rules: BTreeMap<i64, _> = FORBIDDEN.iter().map(|call| (*call, Vec::new())).collect();
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM.unsigned_abs()),
        std::env::consts::ARCH.try_into()?,
    )?;
    let program: BpfProgram = filter.try_into()?;
    // It also forbids new privileges.
    Ok(seccompiler::apply_filter(&program)?)
}
