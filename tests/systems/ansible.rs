//! The Ansible role on a system of its own, by the ansible-core of Debian 12, which runs there itself.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::Named;
use crate::guest::{Guest, PATIENCE};
use crate::lan::Lan;
use crate::namespaces::Namespaces;
use crate::package::package;
use crate::stranger::{FAMILIES, PACE};
use crate::support::command::{output, program, wait_for};
use crate::support::edition::{is_complete, roots};
use crate::support::size::is_long;
use crate::support::{number, shared_dir, sign};
use crate::web::{CERTIFICATES, Web};

pub(crate) const TRIALS: &[Named] = &[
    (
        "a_role_installs_policies_and_goes_without_a_trace",
        a_role_installs_policies_and_goes_without_a_trace,
    ),
    (
        "a_role_installs_bundles_and_packages",
        a_role_installs_bundles_and_packages,
    ),
    ("a_role_follows_a_url", a_role_follows_a_url),
];

/// The program under test.
const DFW: &str = env!("CARGO_BIN_EXE_dfw");
/// The role under test.
const ROLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/ansible/dfw");
/// The root with Ansible.
const ROOT: &str = "ansible";
/// What the controller has, in the guest.
const FILES: &str = "/srv";

/// What this machine lacks for these trials, besides what packages need.
pub(crate) fn missing() -> Vec<String> {
    let root = roots().join(ROOT);
    let missing =
        (!is_complete(&root)).then(|| format!("{}, which tests/roots builds", root.display()));
    missing.into_iter().collect()
}

/// A host without dfw, which is its own controller.
// Field order is drop order.
struct Host {
    guest: Namespaces,
    lan: Arc<Lan>,
}

/// What a run of the playbook printed, and how many tasks changed something or failed.
struct Run {
    text: String,
    changed: u32,
    failed: u32,
}

impl Run {
    fn succeeded(self) -> Result<Self> {
        ensure!(self.failed == 0, "the role failed:\n{}", self.text);
        Ok(self)
    }

    fn changed_nothing(&self) -> Result<()> {
        ensure!(self.changed == 0, "it changes again:\n{}", self.text);
        Ok(())
    }

    fn says(&self, words: &str) -> Result<()> {
        ensure!(self.text.contains(words), "no {words} in:\n{}", self.text);
        Ok(())
    }
}

impl Host {
    fn start() -> Result<Self> {
        let number = number();
        let lan = Arc::new(Lan::new(number, &FAMILIES, PACE)?);
        let guest = Namespaces::start(number, &roots().join(ROOT), &lan)?;
        let host = Self { guest, lan };
        host.run("dfw --version")
            .context("the program under test does not run on Debian 12")?;
        host.run("rm /usr/bin/dfw /usr/lib/systemd/system/dfw*.service; systemctl daemon-reload")?;
        let files = host.guest.path(FILES);
        fs::create_dir(files.join("roles"))?;
        // As README.md of the role says: its units are links.
        let copy = program("cp")
            .args(["-rL", ROLE])
            .arg(files.join("roles"))
            .output()?;
        ensure!(copy.status.success(), "cannot copy the role");
        host.write(
            "site.yml",
            "- hosts: all\n  gather_facts: false\n  roles: [dfw]\n",
        )?;
        Ok(host)
    }

    fn run(&self, script: &str) -> Result<String> {
        self.guest.run(script)
    }

    /// Writes a file of the controller, with the folders that lead to it.
    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.guest.path(FILES).join(name);
        fs::create_dir_all(path.parent().context("no folder")?)?;
        Ok(fs::write(path, text)?)
    }

    /// Runs the playbook with these variables, to its end.
    fn play(&self, variables: &Value, options: &str) -> Result<Run> {
        let text = self.run(&format!(
            "cd {FILES}
             export LC_ALL=C.UTF-8 ANSIBLE_ROLES_PATH={FILES}/roles ANSIBLE_PIPELINING=1
             export ANSIBLE_PYTHON_INTERPRETER=/usr/bin/python3
             ansible-playbook -i web-1, -c local site.yml {options} -e '{variables}' 2>&1 || true"
        ))?;
        let count = |what: &str| -> Option<u32> {
            let (_, recap) = text.rsplit_once("PLAY RECAP")?;
            let (_, number) = recap.split_once(what)?;
            number.split_whitespace().next()?.parse().ok()
        };
        let counts = count("changed=").zip(count("failed="));
        let (changed, failed) = counts.with_context(|| format!("no recap:\n{text}"))?;
        Ok(Run {
            text,
            changed,
            failed,
        })
    }

    /// Returns the generation of the rulesets and all files that the role could write.
    fn state(&self) -> Result<String> {
        // NFT_MSG_GETGEN, and NFTA_GEN_ID of its answer: linux/netfilter/nf_tables.h.
        self.run(
            "python3 -c '
import socket, struct
asks = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
asks.send(struct.pack(\"=IHHII4x\", 20, 0xa10, 1, 1, 0))
print(\"generation\", struct.unpack_from(\"!I\", asks.recv(4096), 24)[0])'
             for folder in /etc /usr /tmp /var/cache/dfw /var/lib/dfw /run/dfw; do
                 [ ! -e $folder ] || find $folder ! -path /tmp -printf '%p %s %T@ %m\\n'
             done | sort",
        )
    }

    /// Fails unless nothing has changed since.
    fn is_as(&self, before: &str) -> Result<()> {
        let now = self.state()?;
        let lines = |text| str::lines(text).collect::<HashSet<_>>();
        let (now, before) = (lines(&now), lines(before));
        let changes: Vec<_> = now.symmetric_difference(&before).collect();
        ensure!(changes.is_empty(), "it changed {changes:#?}");
        Ok(())
    }

    /// Fails unless guard is active, and the table has these words in it.
    fn enforces(&self, words: &[&str]) -> Result<String> {
        let pid = self.run(
            "systemctl is-active --quiet dfw; systemctl is-enabled --quiet dfw
             systemctl show --property MainPID --value dfw",
        )?;
        let table = self.run("dfw show")?;
        for word in words {
            ensure!(table.contains(word), "no {word} in {table}");
        }
        Ok(pid)
    }
}

fn a_role_installs_policies_and_goes_without_a_trace() -> Result<()> {
    let host = Host::start()?;
    let strip = ["-o", &host.guest.path("/srv/dfw").to_string_lossy(), DFW].map(str::to_owned);
    output(program("strip").args(strip))?;
    host.write(
        "policies/base.yaml.j2",
        "default: deny\nports: {22: [{{ office }}]}\n",
    )?;
    host.write(
        "policies/web.yaml",
        "sources: {list: {file: lists/list}}\nports: {443: [list]}\n",
    )?;
    host.write("policies/lists/list", "203.0.113.8\n")?;
    let variables = json!({
        "dfw_binary": "/srv/dfw",
        "dfw_policies": "/srv/policies",
        "office": "203.0.113.7",
    });

    // There is no dfw on the host: the one that would be installed plans.
    let before = host.state()?;
    if is_long() {
        let run = host.play(&variables, "--check --diff")?.succeeded()?;
        for words in ["+ 22/tcp", "203.0.113.7", "would be enabled and started"] {
            run.says(words)?;
        }
        ensure!(run.changed > 0, "no changes: {}", run.text);
        host.is_as(&before)?;
    }

    host.play(&variables, "")?.succeeded()?;
    let guard = host.enforces(&["203.0.113.7", "203.0.113.8"])?;
    let before = host.state()?;
    if is_long() {
        host.play(&variables, "")?.succeeded()?.changed_nothing()?;
        host.is_as(&before)?;
    }

    // A file more and a file less: one reload.
    host.write("policies/more.yaml", "ports: {80: any}\n")?;
    fs::remove_file(host.guest.path(FILES).join("policies/web.yaml"))?;
    fs::remove_dir_all(host.guest.path(FILES).join("policies/lists"))?;
    if is_long() {
        let run = host.play(&variables, "--check --diff")?.succeeded()?;
        for words in ["+ 80/tcp", "- 443/tcp", "+ports: {80: any}"] {
            run.says(words)?;
        }
        ensure!(run.changed == 1, "not one change: {}", run.text);
        host.is_as(&before)?;
    }
    let run = host.play(&variables, "")?.succeeded()?;
    ensure!(
        run.changed == 2,
        "not one copy and one reload: {}",
        run.text
    );
    ensure!(
        guard == host.enforces(&["port-80-tcp"])?,
        "another guard runs"
    );
    ensure!(
        !host.run("dfw show")?.contains("port-443-tcp"),
        "a port of a deleted file"
    );

    // An error stops the role before anything is copied.
    let before = host.state()?;
    host.write("policies/more.yaml", "ports: {81: [unknown]}\n")?;
    let run = host.play(&variables, "")?;
    ensure!(run.failed == 1, "it does not fail: {}", run.text);
    run.says("more.yaml:1:14")?;
    run.says("nothing was copied")?;
    host.is_as(&before)?;

    host.goes()?;
    if is_long() {
        host.play(&absent(), "")?.succeeded()?.changed_nothing()?;
    }
    Ok(())
}

fn a_role_installs_bundles_and_packages() -> Result<()> {
    let host = Host::start()?;
    fs::copy(package()?, host.guest.path("/srv/dfw_1_amd64.deb"))?;
    let [policy, operations, stranger] = [sign::key()?, sign::key()?, sign::key()?];
    host.write("policy.pub", &sign::public(&policy))?;
    host.write("operations.pub", &sign::public(&operations))?;
    let here = shared_dir()?.join(format!("bundles-{}", number()));
    fs::create_dir_all(here.join("policies"))?;
    fs::write(
        here.join("policies/base.yaml"),
        "default: deny\nports: {22: [203.0.113.7]}\n",
    )?;
    for (name, manifest) in [("good", &policy), ("forged", &stranger)] {
        bundle(&here, name, (manifest, &operations))?;
        let to = host.guest.path(FILES).join(name);
        output(program("cp").arg("-r").args([&here.join(name), &to]))?;
    }
    let variables = |bundle: &str| {
        json!({
            "dfw_package": "/srv/dfw_1_amd64.deb",
            "dfw_bundle": format!("/srv/{bundle}"),
            "dfw_policy_keys": ["/srv/policy.pub"],
            "dfw_operations_keys": ["/srv/operations.pub"],
            "dfw_site": "prod",
        })
    };
    let before = host.state()?;
    // A package that the host must download cannot plan before: one that is there already stands for it.
    host.write("policies/base.yaml", "default: deny\n")?;
    let variables_of_a_name = json!({"dfw_package": "nftables", "dfw_policies": "/srv/policies"});
    let run = host.play(&variables_of_a_name, "--check")?.succeeded()?;
    run.says("there is no plan")?;
    host.is_as(&before)?;
    // Not even the package is installed.
    let run = host.play(&variables("forged"), "")?;
    ensure!(run.failed == 1, "a forged bundle: {}", run.text);
    run.says("signed by a key that is not trusted")?;
    host.is_as(&before)?;

    host.play(&variables("good"), "")?.succeeded()?;
    host.enforces(&["203.0.113.7"])?;
    host.run("systemctl show --property ExecStart dfw | grep 'host-id web-1 --operations-key .* --site prod'")?;
    host.play(&variables("good"), "")?
        .succeeded()?
        .changed_nothing()?;

    // From a bundle to policies: no key is left, and names are fetched from now on.
    host.write(
        "policies/base.yaml",
        "default: deny\nports: {23: [203.0.113.8]}\n",
    )?;
    let variables = json!({
        "dfw_package": "dfw",
        "dfw_policies": "/srv/policies",
        "dfw_fetch": true,
    });
    host.play(&variables, "")?.succeeded()?;
    host.enforces(&["203.0.113.8"])?;
    host.run(
        "systemctl is-active dfw-fetch
         test -z \"$(systemctl show --property DropInPaths --value dfw)\"
         test \"$(ls -A /etc/dfw /etc/dfw/policies | tr '\\n' ' ')\" = '/etc/dfw: policies  /etc/dfw/policies: base.yaml '",
    )?;
    host.goes()
}

fn a_role_follows_a_url() -> Result<()> {
    let host = Host::start()?;
    let strip = ["-o", &host.guest.path("/srv/dfw").to_string_lossy(), DFW].map(str::to_owned);
    output(program("strip").args(strip))?;
    let mut web = Web::start(&host.lan)?;
    host.write("policy.pub", &web.key())?;
    host.write("stranger.pub", &sign::public(&sign::key()?))?;
    host.guest.write(CERTIFICATES, &web.authority()?)?;
    let variables = |key: &str| {
        json!({
            "dfw_binary": "/srv/dfw",
            "dfw_url": Web::address(),
            "dfw_policy_keys": [key],
        })
    };
    let followed = variables("/srv/policy.pub");
    web.publish(1, "default: deny\nports: {22: [203.0.113.7]}\n")?;

    // Fetched, verified and planned where nothing is installed.
    let before = host.state()?;
    let run = host.play(&followed, "--check --diff")?.succeeded()?;
    for words in [
        "+ 22/tcp",
        "203.0.113.7",
        "dfw.service and dfw-fetch.service would be enabled and started",
    ] {
        run.says(words)?;
    }
    host.is_as(&before)?;
    let run = host.play(&variables("/srv/stranger.pub"), "")?;
    ensure!(run.failed == 1, "a forged bundle: {}", run.text);
    run.says("signed by a key that is not trusted")?;
    host.is_as(&before)?;

    host.play(&followed, "")?.succeeded()?;
    let guard = host.enforces(&["203.0.113.7"])?;
    host.run(
        "systemctl is-active --quiet dfw-fetch; systemctl is-enabled --quiet dfw-fetch
         systemctl show --property ExecStart dfw | grep 'guard https://.*/prod/ .*--host-id web-1'
         test \"$(ls -A /etc/dfw)\" = policy.pub.d",
    )?;
    host.play(&followed, "")?.succeeded()?.changed_nothing()?;
    ensure!(guard == host.enforces(&[])?, "another guard runs");

    // A new generation: shown by check mode, and taken by guard without the role.
    host.run("systemctl kill --signal=STOP dfw-fetch")?;
    web.publish(2, "default: deny\nports: {22: [203.0.113.8]}\n")?;
    let run = host.play(&followed, "--check --diff")?.succeeded()?;
    run.says("203.0.113.8")?;
    ensure!(run.changed == 0, "check mode changes: {}", run.text);
    host.run("systemctl restart dfw-fetch")?;
    wait_for("the second generation", PATIENCE, || {
        let status: Value = serde_json::from_str(&host.run("dfw status --json").ok()?).ok()?;
        (status["guard"]["site"]["generation"] == 2).then_some(())
    })?;
    ensure!(
        guard == host.enforces(&["203.0.113.8"])?,
        "another guard runs"
    );

    // A server that is down stops the role, and changes nothing.
    web.stop();
    let run = host.play(&followed, "")?;
    ensure!(run.failed == 1, "without a server: {}", run.text);
    run.says("refused")?;
    host.enforces(&["203.0.113.8"])?;
    host.goes()
}

/// Makes a bundle of the policies in a directory, and signs its manifest and its head.
fn bundle(folder: &Path, name: &str, keys: (&sign::KeyPair, &sign::KeyPair)) -> Result<()> {
    let to = folder.join(name);
    let document = output(
        Command::new(DFW)
            .args(["bundle", "create", "--site", "prod", "--generation", "1"])
            .args(["--serial", "1", "--json", "-o"])
            .args([&to, &folder.join("policies")]),
    )?;
    sign::bundle(&to, &serde_json::from_str(&document)?, keys)
}

impl Host {
    /// Lets the role remove dfw, and fails if it leaves anything.
    fn goes(&self) -> Result<()> {
        self.play(&absent(), "")?.succeeded()?;
        self.run(
            "! nft list table inet dfw-nft 2>/dev/null
             left=$(find / /run /tmp -xdev -name '*dfw*' -not -path '/root/*' -not -path '/srv/*' \
                 -not -path '/var/log/*' -not -name dfw-life)
             test -z \"$left\" || { echo \"left: $left\" >&2; exit 1; }
             test -z \"$(systemctl list-unit-files --no-legend 'dfw*')\"",
        )
        .map(drop)
    }
}

/// The variables with which the role removes dfw.
fn absent() -> Value {
    json!({"dfw_state": "absent"})
}
