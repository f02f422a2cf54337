//! Giving up what a daemon of dfw never needs, before it reads anything of others.

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
    /// Files.
    #[error("cannot give up files: {0}")]
    Landlock(#[from] RulesetError),
}

/// Gives up system calls and all capabilities but these, for this thread and all that it starts.
///
/// # Errors
/// What could not be given up; the rest is.
pub fn confine(needed: CapabilitySet) -> Result<(), Error> {
    // The filter also holds where the rest cannot be given up.
    filter().and(drop_capabilities(needed))
}

/// Gives up all files but these, for this thread and all that it starts: what is below the folders to read can
/// be read, and only the folders to write can be written to, which are made if they are not there. Nothing can be
/// executed, and no TCP port can be listened at but this one. Says whether the kernel can do that.
///
/// # Errors
/// If the kernel denies it.
pub fn give_up_files(
    readable: &[PathBuf],
    folders: &[PathBuf],
    port: Option<u16>,
) -> Result<bool, Error> {
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
    for path in readable {
        allow(path, read)?;
    }
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
    // It also forbids new privileges.
    Ok(seccompiler::apply_filter(&program)?)
}
