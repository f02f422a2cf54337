//! A site: a cluster, the keys that sign, and hosts.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::cluster::{Cluster, MEMBERS};
use crate::daemon::{Daemon, until};
use crate::namespace::{DFW, Report, Sandbox};
use crate::sign::{self, KeyPair};

/// A policy that opens a port to one address.
pub(crate) fn policy(number: u32) -> String {
    format!("default: deny\nports: {{22: [203.0.113.{number}]}}\n")
}

/// Returns a list of so many addresses, each in a line.
pub(crate) fn list(numbers: impl Iterator<Item = u32>) -> String {
    let address = |number: u32| {
        let (high, low) = ((number >> 8) & 255, number & 255);
        format!("100.{}.{high}.{low}", number >> 16)
    };
    let lines: Vec<String> = numbers.map(address).collect();
    lines.join("\n") + "\n"
}

/// The address of the store.
pub(crate) fn store() -> String {
    let members = MEMBERS.map(|member| format!("{member}:2379"));
    format!("etcd://{}/prod", members.join(","))
}

/// A site, and who administers it.
pub(crate) struct Fleet {
    pub(crate) cluster: Cluster,
    pub(crate) key: KeyPair,
    number: u32,
}

/// A host with guard and a fetcher.
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) sandbox: Sandbox,
    pub(crate) guard: Option<Daemon>,
    pub(crate) fetcher: Option<Daemon>,
    /// More words for guard.
    pub(crate) more: Vec<String>,
    /// The version that it runs.
    pub(crate) program: PathBuf,
    identity: PathBuf,
}

impl Fleet {
    /// Starts a cluster for hosts with these names, which have users and roles as `dfw fleet init` says.
    pub(crate) fn new(hosts: &[&str], options: &[&str]) -> Result<Self> {
        let cluster = Cluster::start(options)?;
        let key = sign::key()?;
        let folder = cluster.sandbox();
        folder.write("policy.key", key.sk.to_box(None)?.into_string())?;
        folder.write("policy.pub", sign::public(&key))?;
        let mut init = vec!["fleet", "init"];
        let store = store();
        init.push(&store);
        for host in hosts {
            init.extend(["--host", host]);
        }
        init.push("--json");
        let said: Value = serde_json::from_str(&cluster.sandbox().dfw_ok(&init)?)?;
        for command in said["commands"].as_array().context("no commands")? {
            let words: Vec<_> = command
                .as_str()
                .context("no text")?
                .split(' ')
                .skip(1)
                .collect();
            cluster.etcdctl_ok("root", &words)?;
        }
        Ok(Self {
            cluster,
            key,
            number: 0,
        })
    }

    /// Returns a host, connected to the store.
    pub(crate) fn host(&mut self, name: &str) -> Result<Host> {
        let sandbox = Sandbox::new()?;
        self.number += 1;
        let number = self.number;
        let far = self.cluster.sandbox().namespace();
        far.ip(&format!(
            "link add h{number} type veth peer name eth0 netns {}",
            sandbox.namespace().path().display()
        ))?;
        far.ip(&format!("link set h{number} master br0 up"))?;
        let net = sandbox.namespace();
        net.ip(&format!(
            "address add 198.51.{}.{}/16 dev eth0",
            101 + number / 250,
            1 + number % 250
        ))?;
        net.ip("link set eth0 up")?;
        fs::set_permissions(sandbox.dir(), PermissionsExt::from_mode(0o755))?;
        sandbox.write("policy.pub", sign::public(&self.key))?;
        Ok(Host {
            name: name.to_owned(),
            identity: self.cluster.identity(name)?,
            sandbox,
            guard: None,
            fetcher: None,
            more: Vec::new(),
            program: DFW.into(),
        })
    }

    /// Returns hosts that run.
    pub(crate) fn hosts(&mut self, names: &[&str]) -> Result<Vec<Host>> {
        names
            .iter()
            .map(|name| {
                let mut host = self.host(name)?;
                host.start()?;
                Ok(host)
            })
            .collect()
    }

    /// Writes the policies that are pushed next.
    pub(crate) fn policy(&self, text: &str) -> Result<()> {
        self.cluster.sandbox().write("p/base.yaml", text).map(drop)
    }

    /// `dfw fleet` with words, as the one who pushes.
    pub(crate) fn command(&self, words: &[&str]) -> Result<Command> {
        self.command_of(DFW.as_ref(), words)
    }

    /// The same of another version.
    pub(crate) fn command_of(&self, program: &Path, words: &[&str]) -> Result<Command> {
        let sandbox = self.cluster.sandbox();
        let mut dfw = sandbox.namespace().command(&program.to_string_lossy());
        dfw.arg("fleet")
            .args(words)
            .args(["--trusted-key"])
            .arg(sandbox.dir().join("policy.pub"));
        dfw.env("DFW_STORE", store());
        dfw.env("DFW_ETCD_TLS", self.cluster.identity("dfw-push")?);
        dfw.env("XDG_STATE_HOME", sandbox.dir().join("admin"));
        Ok(dfw)
    }

    pub(crate) fn dfw(&self, words: &[&str]) -> Result<Report> {
        Report::of(&mut self.command(words)?)
    }

    /// The words of a verb that signs.
    pub(crate) fn signing(&self, words: &[&str]) -> Vec<String> {
        let key = self.cluster.sandbox().dir().join("policy.key");
        let key = key.to_string_lossy().into_owned();
        words
            .iter()
            .map(|word| (*word).to_owned())
            .chain(["--secret-key".to_owned(), key])
            .collect()
    }

    pub(crate) fn signed(&self, words: &[&str]) -> Result<Report> {
        let words = self.signing(words);
        self.dfw(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Pushes the policies in `p`.
    pub(crate) fn push(&self, more: &[&str]) -> Result<Report> {
        let policies = self
            .cluster
            .sandbox()
            .dir()
            .join("p")
            .to_string_lossy()
            .into_owned();
        self.signed(&[&["push", &policies], more].concat())
    }

    /// Pushes them to all hosts at once, which must succeed.
    pub(crate) fn push_now(&self, number: u32) -> Result<()> {
        self.policy(&policy(number))?;
        let report = self.push(&["--now", "--settle", "0"])?;
        ensure!(report.code == Some(0), "{report:?}");
        Ok(())
    }

    /// Makes a bundle of the policies in `p`, signed by a key; returns its folder.
    pub(crate) fn bundle(
        &self,
        (generation, serial): (u32, u32),
        key: &KeyPair,
        more: &[&str],
    ) -> Result<String> {
        let sandbox = self.cluster.sandbox();
        let path = |name: &str| sandbox.dir().join(name).to_string_lossy().into_owned();
        let (from, to) = (path("p"), path(&format!("bundle-{generation}-{serial}")));
        let (generation, serial) = (generation.to_string(), serial.to_string());
        let create = [
            "bundle", "create", &from, "--site", "prod", "-o", &to, "--json",
        ];
        let numbers = ["--generation", &generation, "--serial", &serial];
        let document = sandbox.dfw_ok(&[&create[..], &numbers[..], more].concat())?;
        let document: Value = serde_json::from_str(&document)?;
        sign::bundle(to.as_ref(), &document, (key, key))?;
        Ok(to)
    }

    /// The status of the site.
    pub(crate) fn status(&self) -> Result<Value> {
        let report = self.dfw(&["status", "--json"])?;
        serde_json::from_str(&report.stdout).with_context(|| format!("{report:?}"))
    }

    /// What the site says of a host.
    pub(crate) fn row(&self, name: &str) -> Result<Value> {
        let status = self.status()?;
        let hosts = status["hosts"].as_array().context("no hosts")?;
        Ok(hosts
            .iter()
            .find(|host| host["name"] == name)
            .cloned()
            .unwrap_or_default())
    }

    /// Waits until a host is in a state, by its own words in the store.
    pub(crate) fn until_host(&self, name: &str, state: &str) -> Result<Value> {
        until(&format!("{name} {state}"), || {
            (self.row(name).ok()?["state"] == state).then_some(())
        })?;
        self.row(name)
    }
}

impl Host {
    pub(crate) fn start(&mut self) -> Result<()> {
        self.start_guard()?;
        self.start_fetcher()
    }

    fn dfw(&self) -> Command {
        let program = self.program.to_string_lossy();
        self.sandbox.namespace().command(&program)
    }

    pub(crate) fn start_guard(&mut self) -> Result<()> {
        let path = |name: &str| self.sandbox.dir().join(name);
        let mut command = self.dfw();
        command.args(["guard", &store()]);
        command.arg("--state").arg(path("state"));
        command.arg("--socket").arg(path("guard.sock"));
        command.arg("--trusted-key").arg(path("policy.pub"));
        command.args(["--docker-host", "none", "--host-id", &self.name]);
        command.args(&self.more);
        command.env("DFW_CACHE", path("cache"));
        let mut guard = Daemon::of(command)?;
        // The fetcher looks for what guard wants.
        let wanted = path("site.json");
        until("site.json", || wanted.exists().then_some(()))?;
        guard.said.clear();
        self.guard = Some(guard);
        Ok(())
    }

    /// The folder with its certificate.
    pub(crate) fn identity(&self) -> &Path {
        &self.identity
    }

    pub(crate) fn start_fetcher(&mut self) -> Result<()> {
        let mut command = self.dfw();
        command
            .args(["fetch", "--daemon"])
            .arg(self.sandbox.dir().join("requests.yaml"));
        command.env("DFW_CACHE", self.sandbox.dir().join("cache"));
        command.env("DFW_ETCD_TLS", &self.identity);
        self.fetcher = Some(Daemon::of(command)?);
        Ok(())
    }

    /// What guard says of itself.
    pub(crate) fn status(&self) -> Result<Value> {
        let socket = self
            .sandbox
            .dir()
            .join("guard.sock")
            .to_string_lossy()
            .into_owned();
        let report = self
            .sandbox
            .dfw(&["status", "--json", "--socket", &socket])?;
        let status: Value =
            serde_json::from_str(&report.stdout).with_context(|| format!("{report:?}"))?;
        Ok(status["guard"]["site"].clone())
    }

    /// Waits for a state by guard's own words.
    pub(crate) fn until(&self, state: &str) -> Result<Value> {
        let what = format!("{} {state}", self.name);
        until(&what, || {
            (self.status().ok()?["state"] == state).then_some(())
        })
        .with_context(|| format!("{:?}", self.status()))?;
        self.status()
    }

    /// How many bytes have reached it.
    pub(crate) fn received(&self) -> Result<u64> {
        let statistics = self
            .sandbox
            .namespace()
            .ip("-json -statistics link show dev eth0")?;
        let statistics: Value = serde_json::from_str(&statistics)?;
        let bytes = statistics[0]["stats64"]["rx"]["bytes"].as_u64();
        bytes.context("no statistics")
    }

    /// The rules in force.
    pub(crate) fn rules(&self) -> Result<String> {
        Ok(self.sandbox.installed()?.to_string())
    }

    /// Waits until the policy of a number is in force.
    pub(crate) fn until_policy(&self, number: u32) -> Result<()> {
        let address = format!("203.0.113.{number}");
        let what = format!("{}: {address}", self.name);
        until(&what, || {
            self.rules().ok()?.contains(&address).then_some(())
        })
    }
}
