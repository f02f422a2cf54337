//! The package, from exposed to protected and back, on a system that has nothing but Docker.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};

use crate::Named;
use crate::guest::PATIENCE;
use crate::lan::FRIEND;
use crate::site::{POLICIES, Site, policy};
use crate::support::command::{find, output, program, wait_for};

pub(crate) const TRIALS: &[Named] = &[
    (
        "a_package_closes_what_is_open_and_goes_without_a_trace",
        a_package_closes_what_is_open_and_goes_without_a_trace,
    ),
    ("an_image_closes_what_is_open", an_image_closes_what_is_open),
];

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");
const TOOLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools");
/// Where the package is in the guest.
const PACKAGE: &str = "/root/dfw.deb";
/// What a word of a command line may be long, in the letters of base64.
const CHUNK: usize = 96_000;

/// What this machine lacks for these trials.
pub(crate) fn missing() -> Option<String> {
    // `packaging/tools` may be at work while the compiler is.
    let lock = Path::new(TOOLS).join("lock");
    if lock.exists() {
        let _ = output(program("flock").arg("--shared").arg(lock).arg("true"));
    }
    let tool = Path::new(TOOLS).join("bin/cargo-deb");
    (!tool.exists() && find("cargo-deb").is_none())
        .then(|| "cargo-deb, which packaging/tools installs".to_owned())
}

/// The package of the program under test, which is built once.
pub(crate) fn package() -> Result<PathBuf> {
    static PACKAGE: Mutex<Option<PathBuf>> = Mutex::new(None);
    let mut package = PACKAGE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(package) = &*package {
        return Ok(package.clone());
    }
    // Cargo is where the caller's environment says.
    let report = output(
        Command::new("packaging/build")
            .args(["binary", "deb"])
            .current_dir(REPOSITORY)
            .env("PROGRAM", env!("CARGO_BIN_EXE_dfw")),
    )?;
    let path = report.lines().last().context("it names what it has made")?;
    Ok(package.insert(PathBuf::from(path)).clone())
}

/// A system without dfw, with the package in its administrator's home.
fn delivered() -> Result<Site> {
    let site = Site::open()?;
    site.run("rm /usr/bin/dfw /usr/lib/systemd/system/dfw*.service; systemctl daemon-reload")?;
    let text = output(program("base64").arg("--wrap=0").arg(package()?))?;
    for chunk in text.trim().as_bytes().chunks(CHUNK) {
        let chunk = String::from_utf8_lossy(chunk);
        site.run(&format!("printf %s {chunk} | base64 -d >>{PACKAGE}"))?;
    }
    Ok(site)
}

/// As the README says it; then again, removed, back, in a chroot, and purged.
fn a_package_closes_what_is_open_and_goes_without_a_trace() -> Result<()> {
    let mut site = delivered()?;
    let said = site.run(&format!("dpkg --install {PACKAGE}"))?;
    ensure!(said.contains("changes nothing yet"), "{said}");
    // The package changes nothing: audit reports the open ports.
    site.stranger.gets_in()?;
    site.run("! systemctl --quiet is-enabled dfw; ! systemctl --quiet is-active dfw")?;
    let said = site.run("dfw audit && exit 1; test $? = 11")?;
    ensure!(said.contains("8080"), "{said}");

    let [v4, v6] = FRIEND;
    site.run(&format!("dfw init --allow {v4},{v6}"))?;
    let said = site.run("dfw plan")?;
    ensure!(said.contains("+ 8080/tcp"), "{said}");
    site.run("echo yes | dfw apply --confirm 60s")?;
    let mark = site.closed()?;
    let said = site.run("dfw status")?;
    ensure!(
        said.contains("  unit: not enabled: dfw.service, "),
        "{said}"
    );
    site.run("systemctl enable --now dfw 2>&1; dfw audit")?;
    let said = site.run("dfw status")?;
    ensure!(said.contains("8080/tcp"), "{said}");
    ensure!(!said.contains("  unit: "), "{said}");
    site.only_friends_get_in(mark)?;
    site.guest.reboot()?;
    site.run("systemctl is-active docker dfw")?;
    site.only_friends_get_in(mark)?;

    // An upgrade is no moment without rules, and ends with the new program: guard, though the other unit,
    // which excludes it, is enabled as well.
    let pid = site.pid()?;
    site.run(&format!(
        "systemctl enable dfw-apply 2>&1; dpkg --install {PACKAGE}; systemctl disable dfw-apply 2>&1"
    ))?;
    site.successor_of(pid)?;
    site.only_friends_get_in(mark)?;
    // Policies need not be files with this name: a bundle has none.
    let said = site.run(&format!(
        "mv {POLICIES}/published.yaml /root; dpkg --install {PACKAGE}; mv /root/published.yaml {POLICIES}"
    ))?;
    ensure!(!said.contains("changes nothing yet"), "{said}");
    site.only_friends_get_in(mark)?;

    // A chroot on this machine must not remove its rules.
    let said = site.run(
        "mkdir -p /run/chroot/upper /run/chroot/work /run/chroot/root
         mount -t overlay overlay /run/chroot/root \
             -o lowerdir=/,upperdir=/run/chroot/upper,workdir=/run/chroot/work
         mount -t proc proc /run/chroot/root/proc
         chroot /run/chroot/root dpkg --purge dfw
         umount /run/chroot/root/proc /run/chroot/root",
    )?;
    ensure!(said.contains("left alone"), "{said}");
    site.only_friends_get_in(mark)?;

    // The rules are removed with the program, which reports it.
    let said = site.run("dpkg --remove dfw")?;
    ensure!(said.contains("published ports are open"), "{said}");
    site.stranger.gets_in()?;
    site.run(
        "! command -v dfw; test -e /etc/dfw/policies/published.yaml; ! nft list table inet dfw-nft",
    )?;
    // Policies and what is enabled are its owner's: back again, all is as before.
    site.run(&format!("dpkg --install {PACKAGE}"))?;
    let mark = site.closed()?;
    site.only_friends_get_in(mark)?;
    // Its cache belongs to a user that comes and goes.
    site.run(
        "systemctl enable --now dfw-fetch 2>&1
         test -d /var/cache/private/dfw
         dpkg --purge dfw
         ! systemctl --quiet is-active dfw-fetch
         ! nft list table inet dfw-nft
         left=$(find / -xdev -name '*dfw*' -not -path '/root/*' -not -path '/var/lib/docker/*' \
             -not -path '/var/log/*' -not -path '/etc/systemd/system/*.d' -not -name dfw-life)
         test -z \"$left\" || { echo \"left: $left\" >&2; exit 1; }",
    )?;
    site.stranger.gets_in()?;
    site.guest.power_off()
}

/// As packaging/image/Dockerfile makes it, and as docs/install.md runs it; with the libraries of a
/// program that is not static.
fn an_image_closes_what_is_open() -> Result<()> {
    const RUN: &str = "--net host --pid host --security-opt apparmor=unconfined \
         --cap-drop ALL --cap-add NET_ADMIN --cap-add SYS_PTRACE --read-only \
         --volume /etc/dfw/policies:/etc/dfw/policies:ro --volume /run/docker.sock:/run/docker.sock \
         --volume dfw:/var/lib/dfw --tmpfs /run/dfw dfw";
    let site = Site::open()?;
    site.guest
        .write(&format!("{POLICIES}/web.yaml"), &policy())?;
    site.run(
        "libraries=$(ldd /usr/bin/dfw | grep --only-matching '/[^ ]*' || true)
         tar -C / -ch usr/bin/dfw $(echo \"$libraries\" | sed s,^/,,) |
             docker import --change 'ENTRYPOINT [\"/usr/bin/dfw\"]' --change 'CMD [\"guard\"]' - dfw
         rm /usr/bin/dfw",
    )?;
    site.run(&format!(
        "docker run --detach --name dfw --restart always {RUN}"
    ))?;
    // The engine waits until the program has started, which takes a while to its first rules.
    let in_force = || site.guest.run("nft list table inet dfw-nft").ok();
    let mark = wait_for("rules", PATIENCE, in_force)
        .and_then(|_| site.closed())
        .with_context(|| {
            let log = site.guest.run("docker logs dfw 2>&1; docker ps -a");
            log.unwrap_or_else(|error| format!("{error:#}"))
        })?;
    site.only_friends_get_in(mark)?;
    // Its end opens nothing; nor does that of the engine, which starts it again.
    site.run("docker kill dfw")?;
    site.only_friends_get_in(mark)?;
    site.run("docker start dfw; systemctl restart docker")?;
    site.only_friends_get_in(mark)?;
    site.run(&format!(
        "docker rm --force dfw; docker run --rm {RUN} remove"
    ))?;
    site.stranger.gets_in()
}
