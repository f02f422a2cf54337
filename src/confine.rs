//! Drops privileges that a daemon never needs, before it reads untrusted input.

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

/// Executing programs, tracing processes, changing the system: calls that a firewall does not need.
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
    // This libc has no constant for it.
    #[cfg(not(all(target_arch = "aarch64", target_env = "musl")))]
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_bpf,
    // Requests through io_uring bypass the filter.
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
pub enum Error {
    /// Capabilities.
    #[error("cannot drop capabilities: {0}")]
    Capabilities(#[from] rustix::io::Errno),
    /// System calls.
    #[error("cannot filter system calls: {0}")]
    Filter(#[from] seccompiler::Error),
    /// The filter for them cannot be built.
    #[error("cannot filter system calls: {0}")]
    Backend(#[from] seccompiler::BackendError),
    /// Landlock's rules.
    #[error("cannot restrict file access (Landlock): {0}")]
    Landlock(#[from] RulesetError),
}

/// Drops all capabilities but these and filters system calls, for this thread and its descendants.
///
/// # Errors
/// The first that failed; the other is done nevertheless.
pub fn confine(needed: CapabilitySet) -> Result<(), Error> {
    // The filter applies even if capabilities cannot be dropped.
    filter().and(drop_capabilities(needed))
}

/// Restricts file access by Landlock, for this thread and its descendants: what is below `readable` can be
/// read, only these directories are writable (created if missing), nothing can be executed, and only this port
/// can be listened on. Returns whether the kernel supports that.
///
/// # Errors
/// If the kernel denies it.
pub fn give_up_files(
    readable: &[PathBuf],
    folders: &[PathBuf],
    port: Option<u16>,
) -> Result<bool, Error> {
    // The newest ABI of which all access rights are used here; older kernels support fewer of them.
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
        // A caller that needs the call gets an error.
        Err(_) => Ok(()),
    };
    for path in readable {
        allow(path, read)?;
    }
    for folder in folders {
        // The state directory is created before, with its own mode.
        let _ = fs::create_dir_all(folder);
        allow(folder, read | write)?;
    }
    if let Some(port) = port {
        (&mut rules).add_rule(NetPort::new(port, AccessNet::BindTcp))?;
    }
    Ok(rules.restrict_self()?.ruleset != RulesetStatus::NotEnforced)
}

fn drop_capabilities(needed: CapabilitySet) -> Result<(), Error> {
    let kept = capabilities(None)?.permitted.intersection(needed);
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
    // Landlock also sets `no_new_privs`.
    Ok(seccompiler::apply_filter(&program)?)
}
