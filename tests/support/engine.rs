//! A real engine, Docker or Podman, in namespaces of its own.
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

use super::command::{install, output, output_from, program, wait_for};
use super::edition::{Edition, Maker};
use super::helper::HELPER;
use super::janitor::Ledger;
use super::netns::Namespace;

/// The image that all containers run: nothing but this test program and its libraries.
pub(crate) const IMAGE: &str = "dfw-lab";
/// Where the image has this test program.
const PROGRAM: &str = "/lab";
/// How long the engine may take to come up, and to go down, on a busy machine.
const PATIENCE: Duration = Duration::from_mins(3);

/// What the engine's first process does before it turns into the helper.
const SET_UP: &str = include_str!("engine.sh");

/// A running container's place on the network; another one after each start.
#[derive(Clone, Debug)]
pub(crate) struct Location {
    pub(crate) namespace: Namespace,
    pub(crate) v4: Option<IpAddr>,
    pub(crate) v6: Option<IpAddr>,
}

pub(crate) struct Engine {
    edition: Edition,
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
    pub(crate) fn start(ledger: &Ledger, host: &Namespace, edition: Edition) -> Result<Self> {
        let dir = ledger.dir();
        let me = std::env::current_exe()?;
        // `target/debug` of `target/debug/deps/…`: both the tests and the program that they test.
        let programs = me.ancestors().nth(2).context("no directory of programs")?;
        fs::create_dir(dir.join("cgroup"))?;
        let log = dir.join("engine.log");
        let unshare = program("nsenter")
            .arg(format!("--net={}", host.path().display()))
            .args(["--", "unshare", "--mount", "--propagation", "private"])
            .args(["--pid", "--fork", "--kill-child"])
            .args(["sh", "-c", SET_UP, "set-up"])
            .arg(dir)
            .arg(&me)
            .arg(HELPER)
            .arg(edition.root().unwrap_or_default())
            .arg(programs)
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
            edition,
            init,
            prefix: ledger.prefix(),
            log,
            daemon: Mutex::new(None),
            _unshare: unshare,
        };
        if edition.legacy {
            engine.use_legacy_iptables()?;
        }
        engine.start_daemon("")?;
        engine.import_image(dir)?;
        Ok(engine)
    }

    /// Starts what answers at the engine's socket, with more options than its edition has, and waits until it
    /// does.
    pub(crate) fn start_daemon(&self, options: &str) -> Result<()> {
        let socket = format!("unix://{}", self.socket());
        let mut command = match self.edition.maker {
            Maker::Docker => {
                let mut command = self.command("dockerd");
                command
                    .args(["--host", &socket])
                    .arg(format!("--cgroup-parent=/{}", self.prefix))
                    .args(self.edition.options.split_whitespace())
                    .args(options.split_whitespace());
                command
            }
            Maker::Podman => {
                let mut command = self.command("podman");
                command.args(["system", "service", "--time=0", &socket]);
                command
            }
        };
        let child = command
            .stdout(append(&self.log)?)
            .stderr(append(&self.log)?)
            .spawn()
            .context("cannot start the engine")?;
        *self.daemon()? = Some(child);
        wait_for("the engine to answer", PATIENCE, || {
            self.answers().then_some(())
        })
        .with_context(|| self.log_tail())
    }

    /// Where the engine's API is, inside its own mounts: where a program looks for it first.
    /// Returns its socket, as seen from outside of its namespaces.
    pub(crate) fn socket_from_outside(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{}", self.init, self.socket()))
    }

    fn socket(&self) -> &'static str {
        match self.edition.maker {
            Maker::Docker => "/run/docker.sock",
            Maker::Podman => "/run/podman/podman.sock",
        }
    }

    /// Puts the older iptables where the engine looks for the newer: it goes by its name.
    fn use_legacy_iptables(&self) -> Result<()> {
        let bind = "mount --bind $(readlink -f $(command -v xtables-legacy-multi)) \
                    $(readlink -f $(command -v xtables-nft-multi))";
        output(self.command("sh").args(["-c", bind]))?;
        let version = output(self.command("iptables").arg("--version"))?;
        ensure!(version.contains("legacy"), "not the older one: {version}");
        Ok(())
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
        let socket = format!("/proc/{}/root{}", self.init, self.socket());
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

    /// The engine's own client, `docker` or `podman`, with the words of one line.
    pub(crate) fn docker(&self, words: &str) -> Result<String> {
        output(self.client().args(words.split_whitespace()))
    }

    fn client(&self) -> Command {
        match self.edition.maker {
            Maker::Docker => {
                // The client of the engine's own package comes first in the search path: another
                // one may be too new for this engine.
                let mut command = self.command("docker");
                command.args(["--host", "unix:///run/docker.sock"]);
                command
            }
            Maker::Podman => self.command("podman"),
        }
    }

    /// Runs a container that serves what `serves` lists, such as `tcp:80 udp:53`.
    pub(crate) fn run(&self, name: &str, options: &str, serves: &str) -> Result<()> {
        self.make("run --detach", name, options, serves)
    }

    /// Makes such a container and does not start it.
    pub(crate) fn create(&self, name: &str, options: &str, serves: &str) -> Result<()> {
        self.make("create", name, options, serves)
    }

    fn make(&self, verb: &str, name: &str, options: &str, serves: &str) -> Result<()> {
        self.docker(&format!(
            "{verb} --name {name} --restart always --stop-signal KILL {options} \
             {IMAGE} {PROGRAM} {HELPER} serve {serves}"
        ))?;
        Ok(())
    }

    /// Starts a Swarm service that serves TCP port 80 and publishes what `ports` says.
    pub(crate) fn serve(&self, name: &str, ports: &str) -> Result<()> {
        self.docker(&format!(
            "service create --detach --no-resolve-image --name {name} --publish {ports} \
             {IMAGE} {PROGRAM} {HELPER} serve tcp:80"
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
    install(from, &target)
}

fn append(log: &Path) -> Result<File> {
    Ok(OpenOptions::new().create(true).append(true).open(log)?)
}
