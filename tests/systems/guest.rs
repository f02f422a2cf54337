//! A whole system that can be booted, controlled, restarted and shut down.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::lan::{CARD, GUEST, MAC};
use crate::support::command::install;
use crate::support::shared_dir;

/// The program under test.
const DFW: &str = env!("CARGO_BIN_EXE_dfw");
/// The units under test.
const UNITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd");
const AGENT: &str = include_str!("agent.sh");
/// How long a busy machine may take for anything.
pub(crate) const PATIENCE: Duration = Duration::from_mins(3);

/// What nobody needs here, or who is to come later.
const MASKED: &[&str] = &[
    "console-getty.service",
    "getty@tty1.service",
    "serial-getty@ttyS0.service",
    "e2scrub_reap.service",
    "e2scrub_all.timer",
    "fstrim.timer",
    "systemd-networkd-wait-online.service",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "firewalld.service",
    "podman.service",
    "podman.socket",
    "podman-restart.service",
    "podman-auto-update.service",
    "podman-auto-update.timer",
];

/// A system with its own init, engine and network card.
pub(crate) trait Guest {
    /// Runs a script to a successful end; what it has printed.
    fn run(&self, script: &str) -> Result<String>;

    /// Lets it shut down and start again, and waits until it has.
    fn reboot(&mut self) -> Result<()> {
        self.run("systemctl --no-block reboot")?;
        self.come_back()
    }

    /// Waits until it has restarted.
    fn come_back(&mut self) -> Result<()>;

    /// Lets it shut down, and waits until it is off.
    fn power_off(&mut self) -> Result<()>;

    /// Writes a file, with the folders that lead to it.
    fn write(&self, path: &str, text: &str) -> Result<()> {
        ensure!(!text.contains("\nEND\n"), "this text needs another way");
        let folder = Path::new(path).parent().unwrap_or(Path::new("/"));
        let folder = folder.display();
        let new = format!("{path}.new");
        self.run(&format!(
            "mkdir -p {folder}\ncat >{new} <<'END'\n{text}\nEND\nmv {new} {path}"
        ))
        .map(drop)
    }
}

/// A layer of files for all guests: dfw, its units, and how the card is set up.
pub(crate) fn furniture() -> Result<PathBuf> {
    static DONE: std::sync::Mutex<bool> = std::sync::Mutex::new(false);
    let layer = shared_dir()?.join("furniture");
    let mut done = DONE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if !*done {
        furnish(&layer, Path::new(DFW))?;
        *done = true;
    }
    Ok(layer)
}

fn furnish(layer: &Path, dfw: &Path) -> Result<()> {
    let folder = |path: &str| -> Result<PathBuf> {
        let folder = layer.join(path);
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    };
    install(dfw, &folder("usr/bin")?.join("dfw"))?;
    let units = folder("usr/lib/systemd/system")?;
    for unit in std::fs::read_dir(UNITS)? {
        let unit = unit?;
        std::fs::copy(unit.path(), units.join(unit.file_name()))?;
    }
    let system = folder("etc/systemd/system")?;
    for unit in MASKED {
        std::os::unix::fs::symlink("/dev/null", system.join(unit))?;
    }
    // The network comes up as on any machine: behind network-pre.target.
    std::os::unix::fs::symlink(
        "/lib/systemd/system/systemd-networkd.service",
        folder("etc/systemd/system/multi-user.target.wants")?.join("systemd-networkd.service"),
    )?;
    // Who runs a machine has no other way to talk to it.
    std::fs::write(folder("usr/lib/dfw-life")?.join("agent.sh"), AGENT)?;
    std::fs::write(
        units.join("agent.service"),
        "[Unit]\nConditionVirtualization=!container\n\
         [Service]\nExecStart=/bin/sh /usr/lib/dfw-life/agent.sh\n",
    )?;
    std::os::unix::fs::symlink(
        "/usr/lib/systemd/system/agent.service",
        folder("etc/systemd/system/multi-user.target.wants")?.join("agent.service"),
    )?;
    std::fs::write(
        folder("etc/systemd/network")?.join("10-lan.link"),
        format!("[Match]\nMACAddress={MAC}\n[Link]\nName={CARD}\n"),
    )?;
    let [v4, v6] = GUEST;
    let address =
        |address: &str| format!("[Address]\nAddress={address}\nDuplicateAddressDetection=none\n");
    std::fs::write(
        folder("etc/systemd/network")?.join("lan.network"),
        format!(
            "[Match]\nName={CARD}\n[Network]\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n{}{}",
            address(&format!("{v4}/24")),
            address(&format!("{v6}/64")),
        ),
    )?;
    let etc = folder("etc")?;
    // Without one, systemd takes the first boot for an installation, and enables everything.
    std::fs::write(etc.join("machine-id"), "0123456789abcdef0123456789abcdef\n")?;
    std::fs::write(etc.join("hostname"), "guest\n")?;
    Ok(())
}
