//! Three members of etcd with TLS and users, each in a network namespace of its own, on one bridge.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::daemon::until;
use crate::namespace::{self, Report, Sandbox};
use crate::support::command::{output, program};

/// Where the members are.
pub(crate) const MEMBERS: [&str; 3] = ["198.51.100.11", "198.51.100.12", "198.51.100.13"];
/// The address of the bridge that hosts are connected to.
const BRIDGE: &str = "198.51.100.1/16";

/// A cluster; its members end with it.
pub(crate) struct Cluster {
    /// Where the bridge is, and who administers it.
    sandbox: Sandbox,
    places: Vec<Sandbox>,
    members: [Option<Child>; 3],
    /// The size of the disk of the member that is started next; `None` for this machine's.
    disk: Option<String>,
    /// More words for each member.
    options: Vec<String>,
}

impl Cluster {
    /// Starts three members, which nobody needs a user for yet.
    pub(crate) fn start(options: &[&str]) -> Result<Self> {
        let sandbox = Sandbox::new()?;
        let net = sandbox.namespace();
        net.ip("link add br0 type bridge")?;
        net.ip(&format!("address add {BRIDGE} dev br0"))?;
        net.ip("link set br0 up")?;
        let mut places = Vec::new();
        for (number, member) in MEMBERS.iter().enumerate() {
            let place = Sandbox::new()?;
            let inside = place.namespace();
            net.ip(&format!(
                "link add m{number} type veth peer name eth0 netns {}",
                inside.path().display()
            ))?;
            net.ip(&format!("link set m{number} master br0 up"))?;
            inside.ip(&format!("address add {member}/16 dev eth0"))?;
            inside.ip("link set eth0 up")?;
            places.push(place);
        }
        let mut cluster = Self {
            sandbox,
            places,
            members: [None, None, None],
            disk: None,
            options: options.iter().map(|option| (*option).to_owned()).collect(),
        };
        cluster.authority()?;
        cluster.start_all("new")?;
        Ok(cluster)
    }

    pub(crate) fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    fn path(&self, name: &str) -> PathBuf {
        self.sandbox.dir().join(name)
    }

    /// Makes the authority, and the certificate of all members.
    fn authority(&self) -> Result<()> {
        let extensions = MEMBERS.map(|member| format!("IP:{member}")).join(",");
        let folder = self.path("tls");
        fs::create_dir_all(&folder)?;
        openssl(
            &folder,
            "ecparam -name prime256v1 -genkey -noout -out ca.key",
        )?;
        openssl(
            &folder,
            "req -x509 -new -key ca.key -subj /CN=store -days 2 -out ca.pem",
        )?;
        certificate(
            &folder,
            &folder,
            "member",
            &format!("subjectAltName={extensions},IP:127.0.0.1"),
        )
    }

    /// Makes a certificate with a name; returns its folder.
    pub(crate) fn identity(&self, name: &str) -> Result<PathBuf> {
        let folder = self.path("identities").join(name);
        if !folder.exists() {
            fs::create_dir_all(&folder)?;
            let authority = self.path("tls");
            certificate(&authority, &folder, name, "extendedKeyUsage=clientAuth")?;
            fs::copy(authority.join("ca.pem"), folder.join("ca.pem"))?;
        }
        Ok(folder)
    }

    /// Starts a member with its data, if it has some; `state` is that of a cluster that it does not know yet.
    pub(crate) fn start_member(&mut self, number: usize, state: &str) -> Result<()> {
        let address = MEMBERS[number];
        let cluster = MEMBERS.iter().enumerate();
        let cluster: Vec<_> = cluster
            .map(|(number, address)| format!("m{number}=https://{address}:2380"))
            .collect();
        let tls = self.path("tls");
        let file = |name: &str| tls.join(name).to_string_lossy().into_owned();
        let mut etcd = self.places[number].namespace().command(match &self.disk {
            Some(_) => "unshare",
            None => "etcd",
        });
        if let Some(size) = &self.disk {
            // The mount ends with the process.
            let mount =
                format!("mount -t tmpfs -o size={size},mode=0700 tmpfs \"$0\" && exec etcd \"$@\"");
            etcd.args(["--mount", "--", "sh", "-c", &mount]);
            etcd.arg(self.data(number));
        }
        etcd.args(["--name", &format!("m{number}"), "--data-dir"])
            .arg(self.data(number));
        for (option, port) in [("client", 2379), ("peer", 2380)] {
            etcd.arg(format!("--listen-{option}-urls=https://{address}:{port}"));
            let advertised = if option == "client" {
                "advertise-client"
            } else {
                "initial-advertise-peer"
            };
            etcd.arg(format!("--{advertised}-urls=https://{address}:{port}"));
            let prefix = if option == "client" { "" } else { "peer-" };
            etcd.arg(format!("--{prefix}cert-file={}", file("cert.pem")));
            etcd.arg(format!("--{prefix}key-file={}", file("key.pem")));
            etcd.arg(format!("--{prefix}trusted-ca-file={}", file("ca.pem")));
            etcd.arg(format!("--{prefix}client-cert-auth"));
        }
        etcd.args([
            &format!("--initial-cluster={}", cluster.join(",")),
            &format!("--initial-cluster-state={state}"),
        ]);
        etcd.args(["--logger=zap", "--snapshot-count=10000"])
            .args(&self.options);
        let log = fs::File::create(self.path(&format!("m{number}.log")))?;
        etcd.stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = etcd.spawn()?;
        namespace::record(child.id())?;
        self.members[number] = Some(child);
        Ok(())
    }

    pub(crate) fn data(&self, number: usize) -> PathBuf {
        self.path(&format!("data-{number}"))
    }

    /// Waits until each member that runs answers.
    pub(crate) fn until_healthy(&self) -> Result<()> {
        for (number, address) in MEMBERS.iter().enumerate() {
            if self.members[number].is_some() {
                until(address, || {
                    let health = self.etcdctl(
                        "root",
                        &[
                            "--endpoints",
                            &format!("https://{address}:2379"),
                            "get",
                            "x",
                        ],
                    );
                    health
                        .ok()
                        .filter(|report| report.code == Some(0))
                        .map(drop)
                })?;
            }
        }
        Ok(())
    }

    /// `etcdctl` with the certificate of a user.
    pub(crate) fn etcdctl(&self, user: &str, words: &[&str]) -> Result<Report> {
        let identity = self.identity(user)?;
        let mut etcdctl = self.sandbox.namespace().command("etcdctl");
        etcdctl.env("ETCDCTL_API", "3");
        for (option, name) in [
            ("cacert", "ca.pem"),
            ("cert", "cert.pem"),
            ("key", "key.pem"),
        ] {
            etcdctl.arg(format!("--{option}={}", identity.join(name).display()));
        }
        if !words.contains(&"--endpoints") {
            let endpoints = MEMBERS.map(|member| format!("https://{member}:2379"));
            etcdctl.arg(format!("--endpoints={}", endpoints.join(",")));
        }
        Report::of(etcdctl.args(words))
    }

    /// Does the same, which must succeed.
    pub(crate) fn etcdctl_ok(&self, user: &str, words: &[&str]) -> Result<String> {
        let report = self.etcdctl(user, words)?;
        ensure!(report.code == Some(0), "{words:?}: {report:?}");
        Ok(report.stdout)
    }

    /// A command line for `sh`, in which `etcdctl` has the certificate of a user.
    pub(crate) fn shell(&self, user: &str, line: &str) -> Result<Report> {
        let identity = self.identity(user)?;
        let mut shell = self.sandbox.namespace().command("sh");
        shell.env("ETCDCTL_API", "3");
        let endpoints = MEMBERS.map(|member| format!("https://{member}:2379"));
        shell.env("ETCDCTL_ENDPOINTS", endpoints.join(","));
        for (option, name) in [
            ("CACERT", "ca.pem"),
            ("CERT", "cert.pem"),
            ("KEY", "key.pem"),
        ] {
            shell.env(format!("ETCDCTL_{option}"), identity.join(name));
        }
        Report::of(shell.args(["-c", line]))
    }

    /// Puts a new member with a disk of a size in place of another one, which is dead.
    pub(crate) fn replace_small(&mut self, number: usize, size: &str) -> Result<()> {
        let address = MEMBERS[number];
        // Each may have to wait for a leader, or for members that have been there for some seconds.
        for line in [
            format!(
                "id=$(etcdctl member list | grep {address}:) && etcdctl member remove ${{id%%,*}}"
            ),
            format!("etcdctl member add m{number} --peer-urls=https://{address}:2380"),
        ] {
            until(&line, || {
                let report = self.shell("root", &line).ok()?;
                (report.code == Some(0)).then_some(())
            })?;
        }
        self.disk = Some(size.to_owned());
        self.start_member(number, "existing")?;
        self.disk = None;
        self.until_healthy()
    }

    /// Returns whether a member runs.
    pub(crate) fn is_running(&mut self, number: usize) -> bool {
        let member = self.members[number].as_mut();
        member.is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Starts all members with the contents of a snapshot, in place of what they have.
    pub(crate) fn restore(&mut self, snapshot: &Path) -> Result<()> {
        for (member, address) in MEMBERS.iter().enumerate() {
            self.kill(member)?;
            fs::remove_dir_all(self.data(member))?;
            let cluster = MEMBERS.iter().enumerate();
            let cluster: Vec<_> = cluster
                .map(|(number, address)| format!("m{number}=https://{address}:2380"))
                .collect();
            let line = format!(
                "etcdctl snapshot restore {} --name m{member} --data-dir {} --initial-cluster {} \
                 --initial-advertise-peer-urls https://{address}:2380",
                snapshot.display(),
                self.data(member).display(),
                cluster.join(","),
            );
            let report = self.shell("root", &line)?;
            ensure!(report.code == Some(0), "{report:?}");
        }
        self.start_all("existing")
    }

    /// Starts all members with nothing.
    pub(crate) fn empty(&mut self) -> Result<()> {
        for member in 0..MEMBERS.len() {
            self.kill(member)?;
            fs::remove_dir_all(self.data(member))?;
        }
        self.start_all("new")
    }

    fn start_all(&mut self, state: &str) -> Result<()> {
        for member in 0..MEMBERS.len() {
            self.start_member(member, state)?;
        }
        self.until_healthy()
    }

    pub(crate) fn signal(&self, number: usize, signal: Signal) -> Result<()> {
        let member = self.members[number].as_ref().context("it does not run")?;
        // Its parent is `nsenter`, which becomes it.
        let pid = Pid::from_raw(i32::try_from(member.id())?).context("no pid")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Kills a member; its data stay.
    pub(crate) fn kill(&mut self, number: usize) -> Result<()> {
        if let Some(mut member) = self.members[number].take() {
            member.kill()?;
            member.wait()?;
        }
        Ok(())
    }

    /// Takes a member off the network, until [`join`](Self::join).
    pub(crate) fn part(&self, number: usize) -> Result<()> {
        self.sandbox
            .namespace()
            .ip(&format!("link set m{number} nomaster"))
            .map(drop)
    }

    pub(crate) fn join(&self, number: usize) -> Result<()> {
        self.sandbox
            .namespace()
            .ip(&format!("link set m{number} master br0"))
            .map(drop)
    }

    /// The memory that a member holds, in KiB.
    pub(crate) fn memory(&self, number: usize) -> Result<u64> {
        let member = self.members[number].as_ref().context("it does not run")?;
        let status = fs::read_to_string(format!("/proc/{}/status", member.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        Ok(number.context("no memory")?.parse()?)
    }

    /// For how long a member has worked, in hundredths of a second.
    pub(crate) fn ticks(&self, number: usize) -> Result<u64> {
        let member = self.members[number].as_ref().context("it does not run")?;
        let stat = fs::read_to_string(format!("/proc/{}/stat", member.id()))?;
        let fields: Vec<_> = stat.split_whitespace().collect();
        Ok(fields[13].parse::<u64>()? + fields[14].parse::<u64>()?)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in self.members.iter_mut().flatten() {
            let _ = member.kill();
            let _ = member.wait();
        }
    }
}

fn openssl(folder: &Path, words: &str) -> Result<()> {
    let mut command: Command = program("openssl");
    output(command.current_dir(folder).args(words.split_whitespace())).map(drop)
}

/// Makes `cert.pem` and `key.pem` with a name, signed by the authority of a folder.
fn certificate(authority: &Path, folder: &Path, name: &str, extensions: &str) -> Result<()> {
    openssl(
        folder,
        "ecparam -name prime256v1 -genkey -noout -out ec.pem",
    )?;
    // rustls reads PKCS #8.
    openssl(folder, "pkcs8 -topk8 -nocrypt -in ec.pem -out key.pem")?;
    openssl(
        folder,
        &format!("req -new -key key.pem -subj /CN={name} -out request.pem"),
    )?;
    fs::write(folder.join("extensions"), format!("{extensions}\n"))?;
    let authority = authority.display();
    openssl(
        folder,
        &format!(
            "x509 -req -in request.pem -CA {authority}/ca.pem -CAkey {authority}/ca.key -CAcreateserial -days 2 \
             -extfile extensions -out cert.pem"
        ),
    )
}
