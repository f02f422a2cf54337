//! Permissions for a time: who may give them, what bounds them, and that each keeps its own end.

use std::collections::BTreeMap;
use std::hash::Hasher;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use siphasher::sip128::{Hasher128, SipHasher13};

use crate::Named;
use crate::daemon::{Daemon, until};
use crate::namespace::Sandbox;
use crate::support::command::{output, program};

pub(crate) const TRIALS: &[Named] = &[
    ("grants_are_bounded", grants_are_bounded),
    ("only_root_grants", only_root_grants),
    (
        "overlapping_grants_keep_their_ends",
        overlapping_grants_keep_their_ends,
    ),
    ("grants_outlive_guard", grants_outlive_guard),
    ("saved_grants_go_by_the_clock", saved_grants_go_by_the_clock),
    ("a_policy_ends_grants", a_policy_ends_grants),
    ("ten_thousand_grants", ten_thousand_grants),
];

const POLICY: &str = "default: deny
grants: {max-time: 8h, ports: [5432, 8000-8010]}
ports:
  80: any
  5432: [192.0.2.0/24]
  8000-8010: []
";
/// The user `nobody`.
const NOBODY: u32 = 65534;
/// Half an hour, in milliseconds.
const HALF: i64 = 1_800_000;
/// What guard says of rules that it has made, and not of a table that it has found.
const IN_FORCE: &str = " chains)";
/// By how much what two programs say of an end may differ, in seconds.
const EXACT: f64 = 1.0;

struct Site {
    sandbox: Sandbox,
    socket: String,
}

impl Site {
    fn new() -> Result<Self> {
        let sandbox = Sandbox::new()?;
        sandbox.write("policies/a.yaml", POLICY)?;
        let socket = sandbox.dir().join("guard.sock");
        let socket = socket.to_string_lossy().into_owned();
        Ok(Self { sandbox, socket })
    }

    fn guarded(more: &[&str]) -> Result<(Self, Daemon)> {
        let site = Self::new()?;
        let guard = site.guard(more)?;
        Ok((site, guard))
    }

    fn guard(&self, more: &[&str]) -> Result<Daemon> {
        let mut guard = Daemon::start(&self.sandbox, more)?;
        guard.expect(IN_FORCE)?;
        Ok(guard)
    }

    fn words<'a>(&'a self, words: &[&'a str]) -> Vec<&'a str> {
        [&["grant"], words, &["--socket", &self.socket]].concat()
    }

    fn grant(&self, words: &str) -> Result<String> {
        let words: Vec<&str> = words.split(' ').collect();
        self.sandbox.dfw_ok(&self.words(&words))
    }

    /// Fails unless it fails and says this.
    fn rejected(&self, words: &str, why: &str) -> Result<()> {
        let words: Vec<&str> = words.split(' ').collect();
        let before = self.sandbox.listing()?;
        let report = self.sandbox.dfw(&self.words(&words))?;
        report.expect_failure(1, "grant")?;
        ensure!(report.stderr.contains(why), "{words:?}: {}", report.stderr);
        ensure!(self.sandbox.listing()? == before, "{words:?} changed rules");
        Ok(())
    }

    /// The grants that guard lists, by number.
    fn list(&self) -> Result<BTreeMap<u64, Value>> {
        let text = self.sandbox.dfw_ok(&self.words(&["list", "--json"]))?;
        let document: Value = serde_json::from_str(&text)?;
        let grants = document["grants"].as_array().context("no grants")?;
        let numbered = grants.iter().map(|grant| {
            let id = grant["id"].as_u64().context("no number")?;
            Ok((id, grant.clone()))
        });
        numbered.collect()
    }

    /// The seconds that are left in the kernel, by sources and ports.
    fn left(&self) -> Result<BTreeMap<(String, String), f64>> {
        let mut left = BTreeMap::new();
        // While guard changes rules, nft may list nothing.
        let list = || -> Option<Value> {
            let mut nft = self.sandbox.namespace().command("nft");
            let ruleset = output(nft.args(["--json", "list", "ruleset"])).ok()?;
            serde_json::from_str(&ruleset).ok()
        };
        let mut ruleset = Value::Null;
        until("a ruleset", || {
            ruleset = list()?;
            Some(())
        })?;
        let objects = ruleset["nftables"].as_array().context("no objects")?;
        for set in objects.iter().filter_map(|object| object.get("set")) {
            let name = set["name"].as_str().unwrap_or_default();
            let Some((key, _)) = name.split_once(".grant.") else {
                continue;
            };
            for element in set["elem"].as_array().into_iter().flatten() {
                let element = &element["elem"];
                let from = match &element["val"] {
                    Value::String(address) => address.clone(),
                    Value::Object(range) if range.contains_key("prefix") => format!(
                        "{}/{}",
                        range["prefix"]["addr"].as_str().unwrap_or_default(),
                        range["prefix"]["len"]
                    ),
                    range => format!(
                        "{}-{}",
                        range["range"][0].as_str().unwrap_or_default(),
                        range["range"][1].as_str().unwrap_or_default()
                    ),
                };
                let seconds = element["expires"].as_f64().context("no end")?;
                left.insert((from, key.to_owned()), seconds);
            }
        }
        Ok(left)
    }

    /// Fails unless these sources had these seconds left at a port at a moment, and no others.
    fn has_left(&self, since: Instant, key: &str, expected: &[(&str, f64)]) -> Result<()> {
        let (left, passed) = (self.left()?, since.elapsed().as_secs_f64());
        let found: BTreeMap<&str, f64> = left
            .iter()
            .filter(|((_, of), _)| of == key)
            .map(|((from, _), seconds)| (from.as_str(), *seconds))
            .collect();
        let is_as_expected = found.len() == expected.len()
            && expected.iter().all(|(from, seconds)| {
                // nft cuts what is left to whole seconds.
                let found = found.get(from);
                found.is_some_and(|found| (found + passed - seconds).abs() <= EXACT + 1.0)
            });
        ensure!(is_as_expected, "{key}: {found:?}, not {expected:?}");
        Ok(())
    }

    /// Whether neither guard nor the kernel has any.
    fn has_none(&self) -> Result<bool> {
        Ok(self.list()?.is_empty() && self.left()?.is_empty())
    }

    fn state(&self) -> PathBuf {
        self.sandbox.dir().join("state/grants")
    }

    /// Changes what is saved, as another guard would have written it.
    fn edit_state(&self, edit: impl FnOnce(&mut Value)) -> Result<()> {
        let text = std::fs::read_to_string(self.state())?;
        let (head, body) = text.split_once('\n').context("no head")?;
        let mut saved: Value = serde_json::from_str(body)?;
        edit(&mut saved);
        let body = saved.to_string();
        let mut hasher = SipHasher13::new();
        hasher.write(body.as_bytes());
        let digest = hasher.finish128().as_u128();
        let (title, _) = head.split_once(", digest ").context("no digest")?;
        std::fs::write(
            self.state(),
            format!("{title}, digest {digest:032x}\n{body}"),
        )?;
        Ok(())
    }
}

fn grants_are_bounded() -> Result<()> {
    let site = Site::new()?;
    let words = ["add", "192.0.2.1", "--to", "5432", "--for", "1h"];
    let report = site.sandbox.dfw(&site.words(&words))?;
    report.expect_failure(1, "no-guard")?;
    let _guard = site.guard(&[])?;
    for (words, why) in [
        ("add 198.51.100.7 --to 80 --for 1h", "no grants for 80/tcp"),
        (
            "add 198.51.100.7 --to 5432/udp --for 1h",
            "no grants for 5432/udp",
        ),
        (
            "add 198.51.100.7 --to 5431-5432 --for 1h",
            "no grants for 5431-5432/tcp",
        ),
        ("add 198.51.100.7 --to 5432 --for 8h1s", "allows 8h at most"),
        ("add 198.51.100.7 --to 5432 --for 0s", "a second at least"),
        ("revoke 1", "there is no grant 1"),
        ("revoke 198.51.100.7", "there is no grant 198.51.100.7"),
    ] {
        site.rejected(words, why)?;
    }
    for words in [
        "add 198.51.100.256 --to 5432 --for 1h",
        "add example.org --to 5432 --for 1h",
        "add 198.51.100.7 --to http --for 1h",
        "add 198.51.100.7 --to 5432 --for 1y",
        "add 198.51.100.7 --to 5432",
        "revoke vendor",
    ] {
        let words: Vec<&str> = words.split(' ').collect();
        let report = site.sandbox.dfw(&site.words(&words))?;
        ensure!(report.code == Some(2), "{words:?}: {report:?}");
    }
    ensure!(site.has_none()?);
    site.sandbox
        .write("policies/a.yaml", "default: deny\nports: {5432: []}\n")?;
    let denied = || {
        let words = ["add", "192.0.2.1", "--to", "5432", "--for", "1h"];
        let report = site.sandbox.dfw(&site.words(&words)).ok()?;
        report
            .stderr
            .contains("the policy allows no grants")
            .then_some(())
    };
    until("a policy without grants", denied)
}

fn only_root_grants() -> Result<()> {
    let (site, _guard) = Site::guarded(&[])?;
    site.grant("add 198.51.100.7 --to 5432 --for 1h --reason secret")?;
    // The folder above is root's alone, so the socket moves.
    let open = std::env::temp_dir().join(format!("dfw-grants-{}.sock", std::process::id()));
    std::fs::rename(&site.socket, &open)?;
    let script = "import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); \
                  s.sendall(sys.argv[2].encode()+b'\\n'); print(s.makefile().read())";
    let add = json!({"add": {"from": ["198.51.100.9"], "to": "5432", "seconds": 60}});
    let asked = [
        format!("grant {add}"),
        "grant \"list\"".to_owned(),
        "grant {\"revoke\":\"1\"}".to_owned(),
        "status".to_owned(),
        // More than a user who is not root may send.
        format!("grant {}", "x".repeat(4000)),
    ]
    .map(|line| {
        let mut command = program("python3");
        command.args(["-c", script]).arg(&open).arg(line);
        output(command.uid(NOBODY).gid(NOBODY))
    });
    std::fs::rename(&open, &site.socket)?;
    let [add, list, revoke, status, long] = asked;
    for answer in [add?, list?, revoke?] {
        ensure!(
            answer.contains("only root") && !answer.contains("secret"),
            "{answer}"
        );
    }
    // How many there are is no secret.
    let status = status?;
    ensure!(
        status.contains("\"grants\":1") && !status.contains("secret"),
        "{status}"
    );
    let long = long?;
    ensure!(
        long.contains("only root") || long.contains("unknown command"),
        "{long}"
    );
    ensure!(site.list()?.len() == 1);
    Ok(())
}

fn overlapping_grants_keep_their_ends() -> Result<()> {
    let (site, mut guard) = Site::guarded(&[])?;
    let began = Instant::now();
    site.grant("add 198.51.100.0/24 2001:db8::/64 --to 5432 --for 1h")?;
    // Long enough for all that is looked at before it ends, on a machine that is busy.
    site.grant("add 198.51.100.7 --to 5432 --for 10s")?;
    // Shorter than what the address has: nothing changes.
    site.has_left(
        began,
        "port-5432-tcp",
        &[("198.51.100.0/24", 3600.0), ("2001:db8::/64", 3600.0)],
    )?;
    site.grant("add 198.51.100.8 198.51.100.7 --to 5432 --for 2h")?;
    site.has_left(
        began,
        "port-5432-tcp",
        &[
            ("198.51.100.0-198.51.100.6", 3600.0),
            ("198.51.100.7-198.51.100.8", 7200.0),
            ("198.51.100.9-198.51.100.255", 3600.0),
            ("2001:db8::/64", 3600.0),
        ],
    )?;
    ensure!(site.list()?.len() == 5);
    guard.expect("ended 3: 198.51.100.7 to 5432/tcp")?;
    ensure!(site.list()?.len() == 4);
    // A part of a range is for that part only.
    let later = Instant::now();
    site.grant("add 203.0.113.1 --to 8005 --for 10s")?;
    site.grant("add 203.0.113.2 --to 8000-8010 --for 1h")?;
    site.has_left(
        later,
        "port-8005-tcp",
        &[("203.0.113.1", 10.0), ("203.0.113.2", 3600.0)],
    )?;
    site.has_left(later, "port-8000-8010-tcp", &[("203.0.113.2", 3600.0)])?;
    for (from, to, verdict) in [
        ("203.0.113.1", "8005", "allow"),
        ("203.0.113.1", "8006", "deny"),
        ("203.0.113.2", "8006", "allow"),
        ("198.51.100.200", "5432", "allow"),
        ("198.51.100.200", "8005", "deny"),
    ] {
        let text = site.sandbox.dfw_ok(&[
            "explain",
            "--docker-host",
            "none",
            "--from",
            from,
            "--to",
            to,
        ])?;
        ensure!(text.starts_with(verdict), "{from} to {to}: {text}");
    }
    guard.expect("ended 6: 203.0.113.1 to 8005/tcp")?;
    let is_one_key = || (!site.sandbox.listing().ok()?.contains("8005")).then_some(());
    until("the part to be no key of its own any more", is_one_key)?;
    // Revoked: the network and the addresses in it.
    site.grant("revoke 198.51.100.0/24")?;
    site.has_left(began, "port-5432-tcp", &[("2001:db8::/64", 3600.0)])?;
    site.grant("revoke 2")?;
    site.grant("revoke 203.0.113.2")?;
    ensure!(site.list()?.is_empty());
    // Nothing is left of it: an empty set would cost every packet.
    let listing = site.sandbox.listing()?;
    ensure!(!listing.contains("grant"), "{listing}");
    Ok(())
}

fn grants_outlive_guard() -> Result<()> {
    let (site, mut guard) = Site::guarded(&["--no-owner"])?;
    let first = Instant::now();
    let text = site.grant("add 198.51.100.7 --to 5432 --for 1h --reason vendor")?;
    ensure!(text.contains(" (1h), grant 1"), "{text}");
    // The journal has who asked, and why.
    let line = guard.expect("granted 1: 198.51.100.7 to 5432/tcp until ")?;
    ensure!(
        line.contains(", asked by user 0 (process ") && line.ends_with("), reason: vendor"),
        "{line}"
    );
    site.grant("add 198.51.100.9 --to 5432 --for 1h --reason once")?;
    site.grant("revoke 2")?;
    let line = guard.expect("revoked 2: 198.51.100.9 to 5432/tcp until ")?;
    ensure!(
        line.contains(", asked by user 0 (process ") && line.ends_with("), reason: once"),
        "{line}"
    );
    let text = site.grant("list")?;
    let row: Vec<_> = text
        .lines()
        .skip(1)
        .flat_map(str::split_whitespace)
        .collect();
    ensure!(
        text.lines()
            .next()
            .is_some_and(|head| head.contains("  BY "))
            && row.ends_with(&["root", "vendor"]),
        "{text}"
    );
    let last = Instant::now();
    site.grant("add 198.51.100.8 --to 8001 --for 2h")?;
    let given = site.list()?;
    let untils = |list: &BTreeMap<u64, Value>| -> Vec<Value> {
        list.values().map(|grant| grant["until"].clone()).collect()
    };
    let is_as_before = |site: &Site| -> Result<()> {
        site.has_left(first, "port-5432-tcp", &[("198.51.100.7", 3600.0)])?;
        site.has_left(last, "port-8001-tcp", &[("198.51.100.8", 7200.0)])
    };
    site.sandbox.nft("flush ruleset")?;
    guard.expect("restored after ")?;
    is_as_before(&site).context("after a flush")?;
    // A longer timeout than guard gave is no one's to give.
    site.sandbox
        .nft("delete element inet dfw-nft port-5432-tcp.grant.ip4 { 198.51.100.7 }")?;
    guard.expect("restored after ")?;
    is_as_before(&site).context("after a deletion")?;
    // By another name, as a set that is made anew has one.
    let listing = site.sandbox.listing()?;
    let set = listing
        .split_whitespace()
        .find(|word| word.starts_with("port-5432-tcp.grant.ip4"))
        .context("no set")?;
    site.sandbox.nft(&format!(
        "delete element inet dfw-nft {set} {{ 198.51.100.7 }}; \
         add element inet dfw-nft {set} {{ 198.51.100.7 timeout 7d }}"
    ))?;
    guard.expect("restored after ")?;
    is_as_before(&site).context("after another timeout")?;
    guard.kill()?;
    is_as_before(&site).context("without guard")?;
    let text = site.sandbox.dfw_ok(&["status", "--socket", &site.socket])?;
    ensure!(
        text.starts_with("problems:\n  guard: not running")
            && text.lines().nth(2) == text.lines().find(|line| line.starts_with("  GRANTED TO "))
            && text.contains("198.51.100.7"),
        "{text}"
    );
    let policies = site.sandbox.dir().join("policies");
    let policies = policies.to_string_lossy();
    let apply = ["apply", "--docker-host", "none", &*policies];
    ensure!(site.sandbox.dfw_ok(&apply)?.contains("no changes"));
    site.sandbox
        .write("policies/b.yaml", "ports: {90: [192.0.2.9]}\n")?;
    let text = site.sandbox.dfw_ok(&apply)?;
    ensure!(
        text.contains("+ 90/tcp") && !text.contains("8001"),
        "{text}"
    );
    is_as_before(&site).context("after an apply without guard")?;
    let _guard = Daemon::start(&site.sandbox, &["--no-owner"])?;
    until("guard to answer", || site.list().ok().map(drop))?;
    until("guard to have grants", || {
        (site.list().ok()?.len() == 2).then_some(())
    })?;
    ensure!(untils(&site.list()?) == untils(&given));
    is_as_before(&site).context("with the next guard")?;
    // And it knows who asked, and why.
    ensure!(site.list()?[&1]["reason"] == "vendor" && site.list()?[&1]["uid"] == 0);
    Ok(())
}

fn saved_grants_go_by_the_clock() -> Result<()> {
    let (site, guard) = Site::guarded(&[])?;
    site.grant("add 198.51.100.7 --to 5432 --for 1h")?;
    site.grant("add 198.51.100.8 --to 5432 --for 2h")?;
    guard.stop()?;
    let began = Instant::now();
    // Another boot, half an hour later by the clock: the time since boot says nothing of before.
    site.edit_state(|saved| {
        saved["boot"] = "another".into();
        saved["at"] = (saved["at"].as_i64().unwrap_or_default() - HALF).into();
        for grant in saved["grants"].as_array_mut().into_iter().flatten() {
            for key in ["made", "until"] {
                grant[key] = (grant[key].as_i64().unwrap_or_default() - HALF).into();
            }
            grant["end"] = 1.into();
        }
    })?;
    let guard = site.guard(&[])?;
    until("the grants", || {
        let expected = [("198.51.100.7", 1800.0), ("198.51.100.8", 5400.0)];
        site.has_left(began, "port-5432-tcp", &expected).ok()
    })?;
    guard.stop()?;
    // A clock that stands before the time of the state is wrong: nobody knows what is left.
    site.edit_state(|saved| {
        saved["boot"] = "a third".into();
        saved["at"] = (saved["at"].as_i64().unwrap_or_default() + 2 * HALF).into();
    })?;
    let mut guard = Daemon::start(&site.sandbox, &[])?;
    guard.expect("2 end now")?;
    guard.expect(IN_FORCE)?;
    ensure!(site.has_none()?, "with a wrong clock");
    site.grant("add 198.51.100.9 --to 5432 --for 1h")?;
    guard.kill()?;
    // What is damaged gives nothing, and is said.
    let text = std::fs::read_to_string(site.state())?;
    std::fs::write(site.state(), text.replace("198.51.100.9", "0.0.0.0/0"))?;
    let mut guard = Daemon::start(&site.sandbox, &[])?;
    guard.expect("is damaged: it is ignored")?;
    guard.expect(IN_FORCE)?;
    ensure!(site.has_none()?);
    Ok(())
}

fn a_policy_ends_grants() -> Result<()> {
    let (site, mut guard) = Site::guarded(&[])?;
    let began = Instant::now();
    site.grant("add 198.51.100.7 --to 5432 --for 4h")?;
    site.grant("add 198.51.100.7 --to 8005 --for 4h")?;
    site.sandbox
        .write("policies/a.yaml", POLICY.replace("8h", "1h"))?;
    guard.expect("shortened 1: ")?;
    guard.expect(IN_FORCE)?;
    site.has_left(began, "port-5432-tcp", &[("198.51.100.7", 3600.0)])?;
    site.sandbox
        .write("policies/a.yaml", POLICY.replace(", 8000-8010]", "]"))?;
    guard.expect("ended 2: 198.51.100.7 to 8005/tcp")?;
    guard.expect(IN_FORCE)?;
    ensure!(site.list()?.len() == 1);
    site.sandbox.write(
        "policies/a.yaml",
        POLICY.replace("  5432: [192.0.2.0/24]\n", ""),
    )?;
    guard.expect("ended 1: 198.51.100.7 to 5432/tcp")?;
    guard.expect(IN_FORCE)?;
    ensure!(site.has_none()?);
    Ok(())
}

fn ten_thousand_grants() -> Result<()> {
    const MANY: usize = 10_000;
    let site = Site::new()?;
    let metrics = site.sandbox.dir().join("metrics.sock");
    let listen = format!("unix:{}", metrics.display());
    let _guard = site.guard(&["--metrics-listen", &listen])?;
    let has_metric = |grants: usize| {
        let line = format!("dfw_grants {grants}");
        until(&line, || {
            let text = crate::control::metrics(&metrics).ok()?;
            text.lines().any(|is| is == line).then_some(())
        })
    };
    has_metric(0)?;
    let addresses: Vec<String> = (0..MANY)
        .map(|n| format!("198.18.{}.{}", n / 256, n % 256))
        .collect();
    let began = Instant::now();
    let mut words = vec!["add"];
    words.extend(addresses.iter().map(String::as_str));
    words.extend(["--to", "5432", "--for", "1h"]);
    let text = site.sandbox.dfw(&site.words(&words))?.stdout;
    ensure!(
        text.contains("and 9,980 more grants") || text.contains("and 9980 more grants"),
        "{text}"
    );
    ensure!(site.list()?.len() == MANY);
    site.has_left(
        began,
        "port-5432-tcp",
        &[("198.18.0.0-198.18.39.15", 3600.0)],
    )?;
    let status = ["status", "--json", "--socket", &site.socket];
    let status: Value = serde_json::from_str(&site.sandbox.dfw_ok(&status)?)?;
    ensure!(status["guard"]["grants"] == MANY && status["grants"].is_array());
    has_metric(MANY)?;
    // Each with an end of its own.
    let mut words = vec!["add"];
    words.extend(addresses.iter().step_by(2).map(String::as_str));
    words.extend(["--to", "5432", "--for", "2h"]);
    let report = site.sandbox.dfw(&site.words(&words))?;
    ensure!(report.code == Some(0), "{}", report.stderr);
    ensure!(site.left()?.len() == MANY);
    let text = site.sandbox.dfw_ok(&["status", "--socket", &site.socket])?;
    ensure!(text.contains("more grants: `dfw grant list`"), "{text}");
    site.grant("revoke 198.18.0.0/16")?;
    ensure!(site.has_none()?);
    has_metric(0)
}
