//! A hostile program in the place of the fetcher, which owns the cache: guard opens nothing outside of it, takes nothing
//! that its policies do not allow, and answers all the time.

use std::fs;
use std::os::unix::fs::{chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use rustix::fs::{CWD, FileType, Mode};
use rustix::process::{Pid, Signal, kill_process};

use crate::Named;
use crate::bundle::publish_to;
use crate::daemon::{Daemon, arguments, until};
use crate::fetched::{NOBODY, status};
use crate::namespace::{DFW, Sandbox};
use crate::sign;

pub(crate) const TRIALS: &[Named] = &[
    (
        "a_hostile_fetcher_changes_nothing_but_its_lists",
        a_hostile_fetcher_changes_nothing_but_its_lists,
    ),
    (
        "a_hostile_fetcher_brings_no_generation_of_its_own",
        a_hostile_fetcher_brings_no_generation_of_its_own,
    ),
];

/// What a hostile fetcher puts in place of a file. Beside the second one lies what is right.
type Attack = fn(&Path, &Path) -> std::io::Result<()>;
const ATTACKS: [Attack; 14] = [
    |at, secret| fs::copy(secret.with_file_name("right"), at).map(drop),
    |at, _| fs::write(at, "192.0.2.8\n192.0.2.9\n"),
    |at, _| fs::write(at, "198.51.100.66\n"),
    |at, _| fs::write(at, "0.0.0.0/0\n::/0\n"),
    |at, _| fs::write(at, r#"{"probe": "", "fetched": 1e300, "due": -1}"#),
    |at, secret| symlink(secret, at),
    |at, _| symlink("../secret", at),
    |at, _| symlink("/etc/shadow", at),
    |at, _| symlink(".", at),
    |at, _| {
        rustix::fs::mknodat(CWD, at, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
        Ok(())
    },
    |at, _| fs::create_dir(at),
    |at, _| fs::File::create(at)?.set_len(10 << 30),
    |at, secret| fs::hard_link(secret, at),
    |at, secret| {
        let socket = std::os::unix::net::UnixListener::bind(secret.with_file_name("socket"))?;
        drop(socket);
        fs::rename(secret.with_file_name("socket"), at)
    },
];

/// A guard that is traced, and the files that it may open in the folder of its place.
struct Traced {
    sandbox: Sandbox,
    guard: Daemon,
    trace: PathBuf,
    secret: PathBuf,
}

impl Traced {
    fn start(sandbox: Sandbox, arguments: &[String]) -> Result<Self> {
        let trace = sandbox.dir().join("trace");
        let mut command = sandbox.namespace().command("strace");
        command
            .args(["-f", "-y", "-e", "trace=open,openat,openat2", "-o"])
            .arg(&trace)
            .arg(DFW)
            .current_dir("/")
            .args(arguments)
            .env("DFW_CACHE", sandbox.dir().join("cache"));
        Ok(Self {
            guard: Daemon::of(command)?,
            secret: sandbox.write("secret", "192.0.2.99\n")?,
            sandbox,
            trace,
        })
    }

    /// Attacks these files of the cache while guard is asked, and while its rules are looked at.
    fn attack(&self, names: &[&str], check: impl Fn() -> Result<()>) -> Result<()> {
        let (cache, secret) = (self.sandbox.dir().join("cache"), &self.secret);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let hostile = scope.spawn(|| {
                let mut rounds = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    for attack in ATTACKS {
                        for name in names {
                            replace(&cache.join("new"), &cache.join(name), |new| {
                                attack(new, secret)
                            })?;
                            std::thread::sleep(Duration::from_millis(5));
                        }
                    }
                    rounds += 1;
                }
                anyhow::Ok(rounds)
            });
            let watched = (|| {
                let mut longest = Duration::ZERO;
                for _ in 0..200 {
                    // Who asks waits for two seconds at most, and then this fails.
                    let asked = Instant::now();
                    status(&self.sandbox)?;
                    longest = longest.max(asked.elapsed());
                    check()?;
                    std::thread::sleep(Duration::from_millis(10));
                }
                anyhow::Ok(longest)
            })();
            stop.store(true, Ordering::Relaxed);
            let rounds = hostile.join().map_err(|_| anyhow!("it panicked"))??;
            let longest = watched?;
            eprintln!(
                "{rounds} rounds of {} attacks; the longest answer took {longest:?}",
                ATTACKS.len()
            );
            Ok(())
        })
    }

    /// Ends guard, and fails if it has opened anything in this place but these and the files of its own, or anything of
    /// the system that a program does not need. With `is_looking`, what is only looked at (`O_PATH`) does not count.
    fn has_opened_only(self, allowed: &[&str], is_looking: bool) -> Result<()> {
        // strace ends with what it traces.
        let pid = status(&self.sandbox)?["pid"].as_i64().context("no pid")?;
        let pid = Pid::from_raw(i32::try_from(pid)?).context("no pid")?;
        kill_process(pid, Signal::TERM)?;
        self.guard.end()?;
        let trace = fs::read_to_string(&self.trace)?;
        let dir = self.sandbox.dir();
        let is_allowed = |path: &Path| match path.strip_prefix(dir) {
            Ok(inside) => {
                let inside = inside.to_string_lossy();
                let is = |allowed: &&str| match allowed.strip_suffix('*') {
                    Some(start) => inside.starts_with(start),
                    None => inside == **allowed,
                };
                inside.is_empty() || OWN.iter().chain(allowed).any(is)
            }
            Err(_) => dir.starts_with(path) || SYSTEM.iter().any(|system| path.starts_with(system)),
        };
        let mut count = 0;
        for (line, path) in trace.lines().filter_map(|line| Some((line, opened(line)?))) {
            if is_looking && line.contains("O_PATH") {
                continue;
            }
            ensure!(is_allowed(Path::new(path)), "it has opened {line}");
            count += usize::from(path.contains("/cache/"));
        }
        ensure!(count > 10, "it has opened {count} files of the cache");
        Ok(())
    }
}

/// What every program opens, and where the kernel says what guard asks it.
const SYSTEM: &[&str] = &[
    "/proc",
    "/sys",
    "/dev/null",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/usr/lib",
    "/usr/share/zoneinfo",
    "/lib",
    "/lib64",
];

/// What guard has for itself, beginning like this, and the folder of the cache.
const OWN: &[&str] = &[
    "state*",
    ".requests.yaml.*",
    "requests.yaml",
    ".site.json.*",
    "site.json",
    "site-report.json",
    ".site-report.json.*",
    "site-4*",
    "cache",
];

/// Returns the path of the file that a line of a trace says was opened.
fn opened(line: &str) -> Option<&str> {
    let (_, result) = line.rsplit_once(") = ")?;
    let (number, path) = result.split_once('<')?;
    number.parse::<u32>().ok()?;
    let (path, _) = path.rsplit_once('>')?;
    Some(path.strip_suffix(" (deleted)").unwrap_or(path))
}

/// Puts a file of the fetcher in place of another one.
fn replace(new: &Path, at: &Path, make: impl FnOnce(&Path) -> std::io::Result<()>) -> Result<()> {
    make(new)?;
    // A name of another file changes nothing of it.
    if fs::symlink_metadata(new).is_ok_and(|new| std::os::unix::fs::MetadataExt::nlink(&new) == 1)
        || new.is_dir()
    {
        lchown(new, Some(NOBODY), Some(NOBODY))?;
    }
    // A folder takes the place of nothing but a folder.
    if at.is_dir() && !at.is_symlink() {
        fs::remove_dir(at)?;
    } else {
        let _ = fs::remove_file(at);
    }
    Ok(fs::rename(new, at)?)
}

fn a_hostile_fetcher_changes_nothing_but_its_lists() -> Result<()> {
    const KEY: &str = "name-home.example.com";
    const STATUS: &str = "status-name-home.example.com.json";
    let sandbox = Sandbox::new()?;
    sandbox.write(
        "policies/a.yaml",
        "default: deny\nsources: {home: {name: home.example.com, within: 192.0.2.0/28}}\n\
         ports: {80: [home]}\n",
    )?;
    let right = sandbox.write("right", "192.0.2.7\n")?;
    let cache = sandbox.dir().join("cache");
    let list = sandbox.write(&format!("cache/{KEY}"), fs::read(right)?)?;
    for path in [&cache, &list] {
        chown(path, Some(NOBODY), Some(NOBODY))?;
    }
    let arguments = arguments(&sandbox, &[]);
    let mut traced = Traced::start(sandbox, &arguments)?;
    traced.guard.expect_in_force()?;
    traced.attack(&[KEY, STATUS], || {
        let rules = traced.sandbox.installed()?.to_string();
        ensure!(
            !rules.contains("198.51.100") && !rules.contains("192.0.2.99"),
            "{rules}"
        );
        Ok(())
    })?;
    // What is right is taken afterwards.
    replace(&cache.join("new"), &list, |new| {
        fs::write(new, "192.0.2.10\n")
    })?;
    until("the right list", || {
        let rules = traced.sandbox.installed().ok()?.to_string();
        rules.contains("192.0.2.10").then_some(())
    })?;
    // What guard keeps of each source is bounded, and it says what it does not read.
    replace(&cache.join("new"), &cache.join(STATUS), |new| {
        let long = "1".repeat(1 << 20);
        fs::write(new, serde_json::json!({"failure": long}).to_string())
    })?;
    until("the status that is too long", || {
        let status = status(&traced.sandbox).ok()?;
        let failure = status["sources"][0]["failure"].as_str()?;
        failure.contains("larger than 16 KiB").then_some(())
    })?;
    let (list, status) = (format!("cache/{KEY}"), format!("cache/{STATUS}"));
    traced.has_opened_only(&["policies*", &list, &status], false)
}

fn a_hostile_fetcher_brings_no_generation_of_its_own() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let key = sign::key()?;
    sandbox.write("policy.pub", sign::public(&key))?;
    sandbox.write("p/base.yaml", "default: deny\nports: {22: [203.0.113.7]}\n")?;
    let cache = sandbox.dir().join("cache");
    publish_to(&sandbox, &cache.join("site"), (1, 1), &[], Some(&key))?;
    fs::copy(cache.join("site/head"), sandbox.dir().join("right"))?;
    for path in ["", "site", "site/head", "site/manifests", "site/blobs"] {
        chown(cache.join(path), Some(NOBODY), Some(NOBODY))?;
    }
    let path = |name: &str| sandbox.dir().join(name).to_string_lossy().into_owned();
    let mut arguments = vec![
        "guard".to_owned(),
        "https://lists.example.com/prod/".to_owned(),
    ];
    for (option, value) in [
        ("--state", &*path("state")),
        ("--socket", &path("guard.sock")),
        ("--trusted-key", &path("policy.pub")),
        ("--docker-host", "none"),
        ("--host-id", "web-1"),
    ] {
        arguments.extend([option.to_owned(), value.to_owned()]);
    }
    let mut traced = Traced::start(sandbox, &arguments)?;
    traced
        .guard
        .expect("no generation of the site was accepted yet")?;
    let names = [
        "site/head",
        "site-probe.json",
        "site-status.json",
        "site/rollout",
    ];
    traced.attack(&names, || {
        // Nobody answers for the server, so the one generation that is signed is tried at most.
        let rules = traced.sandbox.listing()?;
        let signed = rules.contains("203.0.113.7") && rules.contains("unconfirmed");
        ensure!(signed || !rules.contains("dfw-nft"), "{rules}");
        Ok(())
    })?;
    ensure!(status(&traced.sandbox)?["site"]["generation"].is_null());
    // A file of a bundle may be a link, and what it leads to is looked at: it is not opened unless its owner made the link.
    let allowed = [
        "policy.pub",
        "cache/site",
        "cache/site/head",
        "cache/site/rollout",
        "cache/site/manifests*",
        "cache/site/blobs*",
        "cache/site-probe.json",
        "cache/site-status.json",
    ];
    traced.has_opened_only(&allowed, true)
}
