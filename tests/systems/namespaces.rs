//! A guest that is no machine of its own: a root's own systemd as the first process of fresh
//! namespaces, on the machine's kernel. It boots within two seconds.
//!
//! Killing its first process ends everything inside; the namespaces and mounts go with it.

use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::guest::{Guest, PATIENCE, furniture};
use crate::lan::Lan;
use crate::site::root;
use crate::support::command::{install, output, program, wait_for};
use crate::support::edition::is_complete;
use crate::support::{prefix, record, shared_dir};

const BOOT: &str = include_str!("boot.sh");
/// The file in a guest's directory that names its init, once that is systemd.
const BOOTED: &str = "booted";
/// Into the namespaces of a process.
const ENTER: &[&str] = &[
    "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--",
];
/// What programs of a guest find in their environment, and nothing else.
const ENVIRONMENT: &[&str] = &[
    "env",
    "--ignore-environment",
    "HOME=/root",
    "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
];

/// A running guest.
pub(crate) struct Namespaces {
    name: String,
    dir: PathBuf,
    layers: String,
    cgroup: PathBuf,
    lan: std::sync::Arc<Lan>,
    /// The process that waits for the guest's init.
    keeper: Child,
    init: u32,
}

/// The second version's hierarchy, wherever it is.
fn cgroups() -> Result<PathBuf> {
    ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        .map(PathBuf::from)
        .into_iter()
        .find(|root| root.join("cgroup.controllers").is_file())
        .context("no cgroups of version 2")
}

/// What this machine lacks.
pub(crate) fn missing() -> Vec<String> {
    let mut missing = Vec::new();
    if !rustix::process::geteuid().is_root() {
        missing.push("root".to_owned());
    }
    let programs = ["ip", "nsenter", "unshare"];
    let lacking = programs
        .iter()
        .filter(|name| crate::support::command::find(name).is_none());
    missing.extend(lacking.map(|name| format!("the program {name}")));
    missing.extend(cgroups().err().map(|error| error.to_string()));
    let root = root();
    if !is_complete(&root) {
        missing.push(format!("{}, which tests/roots builds", root.display()));
    }
    missing
}

impl Namespaces {
    /// Switches one on, and waits until it is up.
    pub(crate) fn start(number: u32, root: &Path, lan: &std::sync::Arc<Lan>) -> Result<Self> {
        let name = format!("guest{number}");
        let dir = shared_dir()?.join(&name);
        for folder in ["upper", "work", "root", "docker", "containerd"] {
            fs::create_dir_all(dir.join(folder))?;
        }
        output(program("mkfifo").arg(dir.join("gate")))?;
        let cgroup = cgroups()?.join(prefix()?).join(&name);
        let layers = format!("{}:{}", furniture()?.display(), root.display());
        let (keeper, init) = boot(&dir, &layers, &name, &cgroup, lan)?;
        let guest = Self {
            name,
            dir,
            layers,
            cgroup,
            lan: lan.clone(),
            keeper,
            init,
        };
        guest.wait_until_up()?;
        Ok(guest)
    }

    /// Returns a program that runs its arguments in the guest, also after a restart. It fails while there is no
    /// guest, and while its root is being made: until then the namespaces show the machine itself.
    pub(crate) fn entry(&self) -> Result<PathBuf> {
        let entry = self.dir.join("enter");
        let words = [ENTER, ENVIRONMENT].concat().join(" ");
        let booted = self.dir.join(BOOTED);
        let script = format!(
            "#!/bin/sh\ninit=$(cat {}) && exec nsenter --target=\"$init\" {words} \"$@\"\n",
            booted.display()
        );
        let text = entry.with_extension("sh");
        fs::write(&text, script)?;
        install(&text, &entry)?;
        Ok(entry)
    }

    /// Returns where this machine sees a path of the guest, until the guest restarts.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.init))
    }

    fn wait_until_up(&self) -> Result<()> {
        let mut last = String::new();
        wait_for("the guest to be up", PATIENCE, || {
            // It prints the state and fails unless all units are well.
            let state = self.run("systemctl is-system-running --wait || true");
            last = state.unwrap_or_else(|error| format!("{error:#}"));
            matches!(last.trim(), "running" | "degraded").then_some(())
        })
        .with_context(|| format!("it says: {last}"))
    }

    /// Waits until its init has ended, and returns whether it asked for a reboot.
    fn end(&mut self) -> Result<ExitStatus> {
        wait_for("the guest to end", PATIENCE, || {
            self.keeper.try_wait().ok().flatten()
        })
    }
}

fn boot(dir: &Path, layers: &str, name: &str, cgroup: &Path, lan: &Lan) -> Result<(Child, u32)> {
    fs::create_dir_all(cgroup)?;
    for file in ["init", BOOTED] {
        let _ = fs::remove_file(dir.join(file));
    }
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(dir.join("console"))?;
    let mut keeper = program("sh")
        .args(["-c", "echo $$ >$0/cgroup.procs && exec \"$@\""])
        .arg(cgroup)
        .args(["unshare", "--mount", "--propagation", "private"])
        .args(["--uts", "--ipc", "--net", "--cgroup"])
        .args(["--pid", "--fork", "--kill-child"])
        .args(["sh", "-c", BOOT, "boot"])
        .arg(dir)
        .args([layers, name])
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .context("cannot make a guest's namespaces")?;
    record(keeper.id())?;
    let console = || fs::read_to_string(dir.join("console")).unwrap_or_default();
    let mut ended = None;
    let init = wait_for("a guest's namespaces", PATIENCE, || {
        ended = keeper.try_wait().ok().flatten();
        let init = fs::read_to_string(dir.join("init")).ok();
        init.or_else(|| ended.map(|_| String::new()))
    })
    .with_context(console)?;
    let Ok(init) = init.trim().parse() else {
        bail!(
            "a guest's namespaces cannot be made: {ended:?}\n{}",
            console()
        );
    };
    record(init)?;
    lan.plug_in(init)?;
    let mut gate = fs::OpenOptions::new().write(true).open(dir.join("gate"))?;
    writeln!(gate, "go")?;
    wait_for("the guest's init", PATIENCE, || {
        let name = fs::read_to_string(format!("/proc/{init}/comm")).ok()?;
        (name.trim() == "systemd").then_some(())
    })
    .with_context(console)?;
    let booted = dir.join(BOOTED);
    let new = booted.with_extension("new");
    fs::write(&new, init.to_string())?;
    fs::rename(new, booted)?;
    Ok((keeper, init))
}

impl Guest for Namespaces {
    fn run(&self, script: &str) -> Result<String> {
        output(
            program("nsenter")
                .arg(format!("--target={}", self.init))
                .args(ENTER)
                .args(ENVIRONMENT)
                .args(["sh", "-euc", script]),
        )
    }

    fn come_back(&mut self) -> Result<()> {
        let status = self.end()?;
        // reboot(2) in a namespace of processes ends its init like this.
        let signal = status.signal().or(status.code().map(|code| code - 128));
        ensure!(
            signal == Some(Signal::HUP.as_raw()),
            "no reboot, but {status}"
        );
        let (keeper, init) = boot(&self.dir, &self.layers, &self.name, &self.cgroup, &self.lan)?;
        (self.keeper, self.init) = (keeper, init);
        self.wait_until_up()
    }

    fn power_off(&mut self) -> Result<()> {
        self.run("systemctl poweroff")?;
        let status = self.end()?;
        let signal = status.signal().or(status.code().map(|code| code - 128));
        ensure!(
            signal == Some(Signal::INT.as_raw()),
            "not off, but {status}"
        );
        Ok(())
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        if let Ok(None) = self.keeper.try_wait() {
            let init = i32::try_from(self.init).ok().and_then(Pid::from_raw);
            // Gone already is as good.
            let _ = init.map(|init| kill_process(init, Signal::KILL));
            let _ = self.keeper.wait();
        }
    }
}
