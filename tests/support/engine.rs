//! A real engine: `dockerd` in namespaces of its own.
//!
//! The engine lives in the network namespace of the lab's host, with its own mounts and its own
//! process numbers. The first process of the latter is a helper of this test; when it is killed
//! the kernel ends everything inside (engine, containerd, shims, containers) and with them go the
//! mounts. So no crash of a test can leave an engine behind.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

use super::command::{find, output, output_from, program, wait_for};
use super::helper::HELPER;
use super::janitor::Ledger;
use super::netns::Namespace;

/// The image that all containers run: nothing but this test program and its libraries.
pub(crate) const IMAGE: &str = "dfw-lab";
/// Where the image has this test program.
const PROGRAM: &str = "/lab";
/// How long the engine may take to come up, and to go down, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// What the engine's first process does before it turns into the helper. `$1` is the lab's
/// directory, `$2` this test program.
const SET_UP: &str = r#"
set -eu
# This process as the machine sees it: the old /proc is still in place.
read -r pid rest </proc/self/stat
# A fresh /sys shows the host's network devices, and keeps the machine's cgroups.
mount --rbind /sys/fs/cgroup "$1/cgroup"
mount -t sysfs sysfs /sys
mount --rbind "$1/cgroup" /sys/fs/cgroup
# The machine may have an engine, a containerd and an xtables lock of its own.
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock /var/lib/docker
mount --bind "$1/data" /var/lib/docker
mount -t proc proc /proc
echo "$pid" >"$1/init.new"
mv "$1/init.new" "$1/init"
exec "$2" "$3" init
"#;

/// A running container's place on the network; another one after each start.
#[derive(Clone, Debug)]
pub(crate) struct Location {
    pub(crate) namespace: Namespace,
    pub(crate) v4: Option<IpAddr>,
    pub(crate) v6: Option<IpAddr>,
}

pub(crate) struct Engine {
    init: u32,
    /// Where namespaces and cgroups get their names.
    prefix: String,
    log: PathBuf,
    daemon: Mutex<Option<Child>>,
    /// Kept so that it is collected; the janitor ends it.
    _unshare: Child,
}

impl Engine {
    /// Makes the engine's namespaces, starts it in them and gives it the image.
    pub(crate) fn start(ledger: &Ledger, host: &Namespace) -> Result<Self> {
        let dir = ledger.dir();
        fs::create_dir(dir.join("cgroup"))?;
        fs::create_dir(dir.join("data"))?;
        let log = dir.join("engine.log");
        let unshare = program("nsenter")
            .arg(format!("--net={}", host.path().display()))
            .args(["--", "unshare", "--mount", "--propagation", "private"])
            .args(["--pid", "--fork", "--kill-child"])
            .args(["sh", "-c", SET_UP, "set-up"])
            .arg(dir)
            .arg(std::env::current_exe()?)
            .arg(HELPER)
            .stdout(Stdio::null())
            .stderr(append(&log)?)
            .spawn()
            .context("cannot make the engine's namespaces")?;
        ledger.record(unshare.id())?;
        let init = wait_for("the engine's namespaces", PATIENCE, || {
            let init = fs::read_to_string(dir.join("init")).ok()?;
            init.trim().parse().ok()
        })
        .with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
        ledger.record(init)?;
        let engine = Self {
            init,
            prefix: ledger.prefix(),
            log,
            daemon: Mutex::new(None),
            _unshare: unshare,
        };
        engine.start_daemon()?;
        engine.import_image(dir)?;
        Ok(engine)
    }

    /// Starts `dockerd` and waits until it answers.
    pub(crate) fn start_daemon(&self) -> Result<()> {
        let child = self
            .command("dockerd")
            .args(["--host", "unix:///run/docker.sock"])
            .arg(format!("--cgroup-parent=/{}", self.prefix))
            .stdout(append(&self.log)?)
            .stderr(append(&self.log)?)
            .spawn()
            .context("cannot start dockerd")?;
        *self.daemon()? = Some(child);
        wait_for("dockerd to answer", PATIENCE, || {
            self.answers().then_some(())
        })
        .with_context(|| self.log_tail())
    }

    /// Stops `dockerd` as a service manager would; its containers stop with it.
    pub(crate) fn stop_daemon(&self) -> Result<()> {
        let Some(mut child) = self.daemon()?.take() else {
            return Ok(());
        };
        output(
            self.command("sh")
                .args(["-c", "kill $(cat /run/docker.pid)"]),
        )?;
        wait_for("dockerd to end", PATIENCE, || {
            child.try_wait().ok().flatten()
        })
        .with_context(|| self.log_tail())?;
        Ok(())
    }

    fn daemon(&self) -> Result<std::sync::MutexGuard<'_, Option<Child>>> {
        self.daemon
            .lock()
            .map_err(|_| anyhow!("a trial panicked while it held the daemon"))
    }

    fn answers(&self) -> bool {
        let socket = format!("/proc/{}/root/run/docker.sock", self.init);
        let ping = || {
            let mut stream = UnixStream::connect(&socket)?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(b"GET /_ping HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            std::io::Result::Ok(answer)
        };
        ping().is_ok_and(|answer| answer.contains(" 200 OK"))
    }

    /// A program that will run on the lab's host: its network, mounts and processes.
    pub(crate) fn command(&self, name: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = program("nsenter");
        command
            .arg(format!("--target={}", self.init))
            .args(["--net", "--mount", "--pid", "--"])
            .arg(name)
            .env_remove("DFW_DOCKER_HOST");
        command
    }

    /// The engine's own client, with the words of one line.
    pub(crate) fn docker(&self, words: &str) -> Result<String> {
        output(self.client().args(words.split_whitespace()))
    }

    fn client(&self) -> Command {
        // The client of the engine's own package comes first: another one in the search path may
        // be too new for this engine.
        let mut command = self.command(find("docker").unwrap_or_else(|| "docker".into()));
        command.args(["--host", "unix:///run/docker.sock"]);
        command
    }

    /// Runs a container that serves what `serves` lists, such as `tcp:80 udp:53`.
    pub(crate) fn run(&self, name: &str, options: &str, serves: &str) -> Result<()> {
        self.docker(&format!(
            "run --detach --name {name} --restart always --stop-signal KILL {options} \
             {IMAGE} {PROGRAM} {HELPER} serve {serves}"
        ))?;
        Ok(())
    }

    /// Where a running container is on the network right now.
    pub(crate) fn locate(&self, container: &str) -> Result<Location> {
        const FORMAT: &str = "{{.State.Pid}}/{{range.NetworkSettings.Networks}}{{.IPAddress}}/\
                              {{.GlobalIPv6Address}}/{{end}}";
        let facts = self.docker(&format!("inspect --format {FORMAT} {container}"))?;
        let mut facts = facts.trim().split('/');
        let pid: u32 = facts.next().unwrap_or_default().parse()?;
        ensure!(pid != 0, "the container {container} is not running");
        // Its number is the engine's; so is the /proc that understands it.
        let path = format!("/proc/{}/root/proc/{pid}/ns/net", self.init);
        let mut address = || facts.next().unwrap_or_default().parse().ok();
        Ok(Location {
            namespace: Namespace::at(PathBuf::from(path)),
            v4: address(),
            v6: address(),
        })
    }

    /// The last lines of what the engine has logged.
    pub(crate) fn log_tail(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    fn import_image(&self, dir: &Path) -> Result<()> {
        let root = dir.join("image");
        copy_into(&root, &std::env::current_exe()?, Path::new(PROGRAM))?;
        for library in libraries(&std::env::current_exe()?)? {
            copy_into(&root, &library, &library)?;
        }
        let archive = dir.join("image.tar");
        output(
            program("tar")
                .arg("-cf")
                .arg(&archive)
                .arg("-C")
                .arg(&root)
                .arg("."),
        )?;
        output_from(self.client().args(["import", "-", IMAGE]), &archive)?;
        Ok(())
    }
}

/// The life of the first process: collect whatever the engine orphans, and live until killed.
pub(crate) fn reap_forever() -> Result<()> {
    loop {
        match rustix::process::wait(rustix::process::WaitOptions::empty()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            // No orphan at the moment. A kernel tells nobody of those to come.
            Err(rustix::io::Errno::CHILD) => std::thread::sleep(Duration::from_millis(200)),
            Err(error) => return Err(error.into()),
        }
    }
}

/// What stands in the way of starting an engine here; empty when nothing does.
pub(crate) fn missing() -> Vec<String> {
    let mut missing = Vec::new();
    if !rustix::process::geteuid().is_root() {
        missing.push("the right to make namespaces: run as root".to_owned());
    }
    let programs = [
        ("dockerd", "docker.io"),
        ("docker", "docker.io or docker-cli"),
        ("containerd", "containerd"),
        ("iptables", "iptables"),
        ("iptables-save", "iptables"),
        ("nft", "nftables"),
        ("ip", "iproute2"),
        ("nsenter", "util-linux"),
        ("unshare", "util-linux"),
        ("ldd", "libc-bin"),
    ];
    for (name, package) in programs {
        if find(name).is_none() {
            missing.push(format!("the program {name}, of the package {package}"));
        }
    }
    if !Path::new("/sys/fs/cgroup").is_dir() {
        missing.push("cgroups, mounted on /sys/fs/cgroup".to_owned());
    }
    missing
}

/// The files that the loader would bring in for a program.
fn libraries(program_path: &Path) -> Result<Vec<PathBuf>> {
    let listing = output(program("ldd").arg(program_path))?;
    let paths = listing
        .split_whitespace()
        .filter(|word| word.starts_with('/'));
    Ok(paths.map(PathBuf::from).collect())
}

fn copy_into(root: &Path, from: &Path, to: &Path) -> Result<()> {
    let target = root.join(to.strip_prefix("/")?);
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::copy(from, &target).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(())
}

fn append(log: &Path) -> Result<File> {
    Ok(OpenOptions::new().create(true).append(true).open(log)?)
}
