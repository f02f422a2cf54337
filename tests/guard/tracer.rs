//! Guard starts no other program, as the kernel sees it.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::Named;
use crate::daemon::{Daemon, arguments};
use crate::namespace::{DFW, Sandbox};

pub(crate) const TRIALS: &[Named] = &[
    ("guard_starts_no_program", guard_starts_no_program),
    (
        "guard_writes_in_its_own_folders_only",
        guard_writes_in_its_own_folders_only,
    ),
    (
        "guard_gives_up_what_it_never_needs",
        guard_gives_up_what_it_never_needs,
    ),
];

/// What root may do by the files' modes, and guard has given up.
fn guard_writes_in_its_own_folders_only() -> Result<()> {
    let sandbox = Sandbox::new()?;
    sandbox.write("policies/a.yaml", "default: deny\nports: {80: any}\n")?;
    let mut guard = Daemon::start(&sandbox, &[])?;
    guard.expect_in_force()?;
    if guard.said.iter().any(|line| line.contains("no Landlock")) {
        eprintln!("not tried: this kernel has no Landlock");
        return Ok(());
    }
    let kept = |folder: &Path| folder.join("last-good").exists();
    // The name of its folder leads elsewhere.
    let [state, former] = ["state", "former"].map(|name| sandbox.dir().join(name));
    let elsewhere = sandbox.dir().with_extension("elsewhere");
    crate::daemon::until("the state", || kept(&state).then_some(()))?;
    std::fs::create_dir(&elsewhere)?;
    std::fs::rename(&state, &former)?;
    std::os::unix::fs::symlink(&elsewhere, &state)?;
    sandbox.write("policies/a.yaml", "default: deny\nports: {81: any}\n")?;
    let line = guard.expect("cannot be saved")?;
    ensure!(line.contains("Permission denied"), "{line}");
    ensure!(!kept(&elsewhere), "it could write elsewhere");
    // Back in its place, it is written to again.
    std::fs::remove_file(&state)?;
    std::fs::rename(&former, &state)?;
    std::fs::remove_file(state.join("last-good"))?;
    sandbox.write("policies/a.yaml", "default: deny\nports: {82: any}\n")?;
    crate::daemon::until("the state", || kept(&state).then_some(()))?;
    guard.stop()
}

/// `CAP_DAC_READ_SEARCH`, `CAP_NET_ADMIN` and `CAP_SYS_PTRACE` of `linux/capability.h`.
const CAPABILITIES: u64 = 1 << 2 | 1 << 12 | 1 << 19;

fn guard_gives_up_what_it_never_needs() -> Result<()> {
    let sandbox = Sandbox::new()?;
    sandbox.write("policies/a.yaml", "default: deny\nports: {80: any}\n")?;
    // With an engine to follow there are five threads: the loop, one for engines, one that writes, and those
    // that look at sockets and at processes.
    let engine = sandbox
        .dir()
        .join("engine.sock")
        .to_string_lossy()
        .into_owned();
    let mut guard = Daemon::start(&sandbox, &["--docker-host", &engine])?;
    guard.expect_in_force()?;
    // What is read once, such as policies, is read by threads that end.
    crate::daemon::until("five threads", || {
        (tasks(guard.pid()).ok()?.len() == 5).then_some(())
    })?;
    for task in tasks(guard.pid())? {
        let text = std::fs::read_to_string(task.join("status"))?;
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key));
            line.map(str::trim).context("no such line")
        };
        for key in ["CapEff:", "CapPrm:"] {
            ensure!(
                u64::from_str_radix(value(key)?, 16)? == CAPABILITIES,
                "{text}"
            );
        }
        // A filter.
        ensure!(
            value("Seccomp:")? == "2" && value("NoNewPrivs:")? == "1",
            "{text}"
        );
    }
    Ok(())
}

/// The folders of its threads.
fn tasks(pid: u32) -> Result<Vec<std::path::PathBuf>> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"))?;
    Ok(tasks
        .map(|task| Ok(task?.path()))
        .collect::<std::io::Result<_>>()?)
}

fn guard_starts_no_program() -> Result<()> {
    let sandbox = Sandbox::new()?;
    sandbox.write("policies/a.yaml", "default: deny\nports: {80: any}\n")?;
    let log = sandbox.dir().join("strace");
    let mut command = sandbox.namespace().command("strace");
    // The tracer stays in the background, so that the process is guard's own.
    command.args(["-D", "-f", "-qq", "-e", "signal=none"]);
    command.args(["-e", "trace=execve,execveat,fork,vfork,clone,clone3", "-o"]);
    command.arg(&log).arg(DFW);
    command.args(arguments(&sandbox, &["--no-owner"]));
    let mut guard = Daemon::of(command)?;
    guard.expect_in_force()?;
    sandbox.nft("flush ruleset")?;
    guard.expect("restored after ")?;
    sandbox.write("policies/a.yaml", "default: [")?;
    guard.expect("have errors and are not applied")?;
    guard.stop()?;
    let log = std::fs::read_to_string(&log).context("strace has written nothing")?;
    let calls: Vec<&str> = log.lines().collect();
    let only = calls[0].contains(&format!("execve(\"{DFW}\""))
        && calls[1..].iter().all(|call| call.contains("CLONE_THREAD"));
    ensure!(only, "it did more than run:\n{log}");
    Ok(())
}
