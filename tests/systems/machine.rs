//! A guest that is a machine of its own, in QEMU and without KVM: a release's own kernel and system.
//! It is slow, and it is what a host with that release really is.
//!
//! QEMU itself runs in another root, so that this machine needs none.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::guest::{Guest, PATIENCE, furniture};
use crate::lan::{Lan, MAC, TAP};
use crate::support::command::{install, output, program, wait_for};
use crate::support::edition::{is_complete, roots};
use crate::support::{record, shared_dir};

/// How often an untrusted client tries each path: a container that replies starts a process, which an emulator
/// needs milliseconds for.
pub(crate) const PACE: Duration = Duration::from_millis(50);
/// How long it may say nothing: it boots with a guard and an engine.
const PATIENCE_EMULATED: Duration = Duration::from_mins(10);
/// The root that has QEMU in it.
const QEMU: &str = "qemu";
/// The kernel's command line: no consistency checks and protections that an emulator is slow at, and no
/// module that Docker would want more packages for.
const COMMAND_LINE: &str = "console=ttyS0 loglevel=4 panic=10 mitigations=off apparmor=0 selinux=0 \
     random.trust_cpu=on net.ifnames=0 systemd.show_status=no";

/// A running guest.
pub(crate) struct Machine {
    dir: PathBuf,
    qemu: Child,
    /// The connection to the guest's agent: requests and replies, a line each.
    agent: Mutex<(UnixStream, BufReader<UnixStream>)>,
}

/// The program that is tried there, where one is named: without a C library of its own, as each release has
/// another, and optimized, as an emulator takes its time for every instruction.
pub(crate) fn dfw() -> Option<PathBuf> {
    std::env::var_os("DFW_MACHINES").map(PathBuf::from)
}

/// What this machine lacks.
pub(crate) fn missing(releases: &[&str]) -> Vec<String> {
    let roots = releases
        .iter()
        .chain(&[QEMU])
        .map(|root| roots().join(root));
    roots
        .filter(|root| !is_complete(root))
        .map(|root| format!("{}, which `tests/roots machines` builds", root.display()))
        .collect()
}

impl Machine {
    /// Switches one on, and waits until it is up.
    pub(crate) fn start(number: u32, release: &str, lan: &Arc<Lan>) -> Result<Self> {
        let dir = shared_dir()?.join(format!("machine{number}"));
        let root = roots().join(release);
        fs::create_dir_all(dir.join("system"))?;
        let own = dir.join("own");
        fs::create_dir_all(own.join("usr/bin"))?;
        let dfw = dfw().context("no program is named")?;
        install(&dfw, &own.join("usr/bin/dfw"))?;
        make_disk(
            &dir,
            &format!(
                "{}:{}:{}",
                own.display(),
                furniture()?.display(),
                root.display()
            ),
        )?;
        lan.make_tap()?;
        for file in ["vmlinuz", "initrd"] {
            fs::copy(root.join("boot").join(file), dir.join(file))?;
        }
        let log = fs::File::create(dir.join("qemu"))?;
        let mut qemu = lan
            .switch()
            .command("unshare")
            .args(["--mount", "--propagation", "private"])
            .args(["sh", "-euc", include_str!("qemu.sh"), "qemu"])
            .args([&roots().join(QEMU), &dir])
            .args([COMMAND_LINE, TAP, MAC])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot start QEMU")?;
        record(qemu.id())?;
        let mut ended = None;
        let stream = wait_for("QEMU", PATIENCE, || {
            ended = qemu.try_wait().ok().flatten();
            let stream = UnixStream::connect(dir.join("agent")).ok();
            stream.map(Some).or_else(|| ended.map(|_| None))
        })?;
        let Some(stream) = stream else {
            let said = fs::read_to_string(dir.join("qemu")).unwrap_or_default();
            bail!("QEMU ended with {ended:?}: {said}");
        };
        stream.set_read_timeout(Some(PATIENCE_EMULATED))?;
        let heard = BufReader::new(stream.try_clone()?);
        let machine = Self {
            dir,
            qemu,
            agent: Mutex::new((stream, heard)),
        };
        machine.wait_until_up()?;
        Ok(machine)
    }

    /// Waits for a line of the guest.
    fn hear(&self, heard: &mut BufReader<UnixStream>) -> Result<String> {
        let mut line = String::new();
        let length = heard.read_line(&mut line).with_context(|| self.console())?;
        ensure!(length > 0, "the guest is gone\n{}", self.console());
        Ok(line)
    }

    fn wait_until_up(&self) -> Result<()> {
        {
            let mut agent = self.agent.lock().unwrap_or_else(PoisonError::into_inner);
            while self.hear(&mut agent.1)?.trim() != "ready" {}
        }
        let state = self.run("systemctl is-system-running --wait || true")?;
        let state = state.trim();
        ensure!(matches!(state, "running" | "degraded"), "it is {state}");
        Ok(())
    }

    /// Has a script run, and waits for no answer.
    fn tell(&self, script: &str) -> Result<()> {
        let agent = self.agent.lock().unwrap_or_else(PoisonError::into_inner);
        say(&agent.0, script)
    }

    /// The end of what its kernel has said.
    fn console(&self) -> String {
        let text = fs::read(self.dir.join("console")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

/// A disk with a root of these layers on it.
fn make_disk(dir: &Path, layers: &str) -> Result<()> {
    let script = "mount -t overlay overlay -o \"lowerdir=$1\" \"$0/system\"
        mke2fs -q -t ext4 -O ^has_journal -d \"$0/system\" \"$0/disk\" 3G";
    output(
        program("unshare")
            .args(["--mount", "--propagation", "private"])
            .args(["sh", "-euc", script])
            .arg(dir)
            .arg(layers),
    )
    .map(drop)
}

impl Guest for Machine {
    fn run(&self, script: &str) -> Result<String> {
        let mut agent = self.agent.lock().unwrap_or_else(PoisonError::into_inner);
        let (to, heard) = &mut *agent;
        say(to, script)?;
        let first = self.hear(heard)?;
        ensure!(first.trim() != "ready", "the guest has restarted");
        let (code, length) = first.trim().split_once(' ').context("no answer")?;
        let mut text = vec![0; length.parse()?];
        std::io::Read::read_exact(heard, &mut text)?;
        let text = String::from_utf8_lossy(&text).into_owned();
        ensure!(code == "0", "`{script}` ended with {code}\n{text}");
        Ok(text)
    }

    fn reboot(&mut self) -> Result<()> {
        // The agent may end before it replies.
        self.tell("systemctl --no-block reboot")?;
        self.come_back()
    }

    fn come_back(&mut self) -> Result<()> {
        self.wait_until_up()
    }

    fn power_off(&mut self) -> Result<()> {
        self.tell("systemctl --no-block poweroff")?;
        wait_for("the guest to end", PATIENCE, || {
            self.qemu.try_wait().ok().flatten()
        })
        .map(drop)
    }
}

/// Hands a script over. Its length goes before, so that it may have any lines.
fn say(mut to: &UnixStream, script: &str) -> Result<()> {
    Ok(write!(to, "{}\n{script}", script.len())?)
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}
