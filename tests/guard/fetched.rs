//! Names and lists from a real resolver and a real web server: what is right comes into force, what is wrong
//! changes nothing and is warned of once.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use serde_json::{Value, json};

use crate::Named;
use crate::control::metrics;
use crate::daemon::{Daemon, until};
use crate::namespace::{Report, Sandbox};
use crate::servers::Servers;
use crate::support::probe::{Conversation, Outcome, PATIENCE, SILENCE, Transport, ask};
use crate::support::service::spawn;
use crate::support::size::is_long;

pub(crate) const TRIALS: &[Named] = &[
    ("bad_answers_change_nothing", bad_answers_change_nothing),
    (
        "a_changed_record_moves_access_and_cuts_connections",
        a_changed_record_moves_access_and_cuts_connections,
    ),
    (
        "a_long_list_costs_the_fetcher_little_memory",
        a_long_list_costs_the_fetcher_little_memory,
    ),
];

pub(crate) const NOBODY: u32 = 65_534;
const LISTS: &str = "https://lists.example.com";

/// A source, and a part of the reason why its second answer is not used.
type Kind = (&'static str, &'static str, &'static str);

/// What the fetcher does not take.
const NOT_FETCHED: [Kind; 19] = [
    ("nxdomain", "{name: gone.example.com}", "NXDOMAIN"),
    ("no-answer", "{name: a.example.org}", "no answer for"),
    ("no-address", "{name: bare.example.com}", "has no address"),
    ("web-page", r#"{url: "LISTS/page"}"#, "a web page"),
    ("empty", r#"{url: "LISTS/empty"}"#, "no address"),
    ("half", r#"{url: "LISTS/half"}"#, "line 2"),
    ("binary", r#"{url: "LISTS/binary"}"#, "line 1"),
    ("too-big", r#"{url: "LISTS/big"}"#, "limit"),
    ("not-json", r#"{url: "LISTS/json", select: /a/*}"#, "JSON"),
    (
        "nothing-selected",
        r#"{url: "LISTS/other", select: /a/*}"#,
        "no address",
    ),
    ("loop", r#"{url: "LISTS/loop"}"#, "redirect"),
    ("slow", r#"{url: "LISTS/slow"}"#, "too slow"),
    ("plain", r#"{url: "LISTS/plain"}"#, "https"),
    ("words", r#"{url: "LISTS/words"}"#, r"\u{202e}\u{9b}31m"),
    ("error", r#"{url: "LISTS/error"}"#, "answers 500"),
    ("missing", r#"{url: "LISTS/missing"}"#, "answers 404"),
    (
        "to-private",
        r#"{url: "LISTS/private"}"#,
        "private address 10.1.1.1",
    ),
    (
        "certificate",
        "{url: \"https://moved.example.com/certificate\"}",
        "certificate",
    ),
    (
        "unreachable",
        "{url: \"https://closed.example.com/unreachable\"}",
        "efused",
    ),
];

/// What the policy does not take.
const NOT_USED: [Kind; 6] = [
    (
        "sinkhole",
        "{name: sink.example.com}",
        "0.0.0.0 is not the address of a host",
    ),
    (
        "outside",
        "{name: outside.example.com, within: 192.0.2.0/24}",
        "198.51.100.66 is not `within`",
    ),
    (
        "many",
        "{name: many.example.com, max: 2}",
        "more addresses (3)",
    ),
    (
        "everything",
        r#"{url: "LISTS/everything"}"#,
        "more than half",
    ),
    ("loss", r#"{url: "LISTS/loss"}"#, "max-loss: 50%"),
    (
        "few",
        r#"{url: "LISTS/few", min: 2, max-loss: 100%}"#,
        "fewer entries (1)",
    ),
];

/// The lists that are right at first.
const SERVED: [&str; 18] = [
    "page",
    "empty",
    "half",
    "binary",
    "big",
    "loop",
    "slow",
    "plain",
    "words",
    "error",
    "missing",
    "private",
    "certificate",
    "unreachable",
    "everything",
    "good",
    "few",
    "loss",
];

/// The names that the first answers are about; all have an address.
const GOOD_RECORDS: [&str; 8] = [
    "--host-record=gone.example.com,192.0.2.1",
    "--host-record=a.example.org,192.0.2.1,2001:db8::1",
    "--host-record=bare.example.com,192.0.2.1",
    "--host-record=sink.example.com,192.0.2.1",
    "--host-record=outside.example.com,192.0.2.1",
    "--host-record=many.example.com,192.0.2.1",
    "--host-record=moved.example.com,203.0.113.10",
    "--host-record=closed.example.com,203.0.113.10",
];

const BAD_RECORDS: [&str; 9] = [
    "--txt-record=bare.example.com,nothing",
    "--host-record=sink.example.com,0.0.0.0",
    "--host-record=outside.example.com,198.51.100.66",
    "--host-record=many.example.com,192.0.2.1",
    "--host-record=many.example.com,192.0.2.3",
    "--host-record=many.example.com,192.0.2.5",
    "--host-record=moved.example.com,203.0.113.11",
    "--host-record=closed.example.com,203.0.113.12",
    "--host-record=sink.example.com,::",
];

const BAD_LOCATIONS: &str = "
    location /loop { return 302 https://lists.example.com/loop; }
    location /plain { return 302 http://lists.example.com/good; }
    location /words { return 302 \"http://lists.example.com/\u{202e}\u{9b}31mgood\"; }
    location /slow { limit_rate 1; limit_rate_after 1k; }
    location /error { return 500; }
    location /missing { return 404; }
    location /private { return 302 https://private.example.com/good; }
";

fn policy() -> String {
    let all = NOT_FETCHED.iter().chain(&NOT_USED);
    let lines = all.clone();
    let lines: Vec<String> = lines
        .map(|(name, source, _)| format!("  {name}: {}\n", source.replace("LISTS", LISTS)))
        .collect();
    let sources = lines.concat();
    let names: Vec<&str> = all.map(|(name, ..)| *name).collect();
    format!(
        "default: deny\nsources:\n{sources}ports:\n  80: [{}]\n",
        names.join(", ")
    )
}

/// Lets all sources be due, as time would.
pub(crate) fn make_due(sandbox: &Sandbox) -> Result<()> {
    for entry in fs::read_dir(sandbox.dir().join("cache"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|it| it == "json") {
            let mut status: Value = serde_json::from_slice(&fs::read(&path)?)?;
            status["due"] = json!(0);
            fs::write(&path, status.to_string())?;
        }
    }
    Ok(())
}

fn fetch_due(sandbox: &Sandbox, servers: &Servers) -> Result<Report> {
    make_due(sandbox)?;
    let mut dfw = servers.dfw(sandbox);
    Report::of(
        dfw.args(["fetch", "--due"])
            .arg(sandbox.dir().join("policies")),
    )
}

/// The lists in the cache, by name.
fn lists(folder: &Path) -> Result<BTreeMap<String, String>> {
    let mut lists = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("status-") {
            lists.insert(name, fs::read_to_string(entry.path())?);
        }
    }
    Ok(lists)
}

/// Whether what is remembered of a source has this word.
fn has_word(folder: &Path, word: &str) -> Result<bool> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_status = path.extension().is_some_and(|it| it == "json");
        if is_status && fs::read_to_string(path)?.contains(word) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What guard says of itself.
pub(crate) fn status(sandbox: &Sandbox) -> Result<Value> {
    let socket = sandbox.dir().join("guard.sock");
    match dfw::guard::ask(&socket) {
        dfw::guard::Answer::Status(status) => Ok(status),
        other => anyhow::bail!("{other:?}"),
    }
}

/// Serves lists that are no lists, or not those that were expected.
fn serve_bad_lists(servers: &Servers) -> Result<()> {
    servers.serve("page", "<!DOCTYPE html>\n<html>no</html>\n")?;
    servers.serve("empty", "")?;
    servers.serve("half", "192.0.2.1\n192.0.secret")?;
    servers.serve("binary", [1, 2, 3])?;
    servers.serve("slow", "192.0.2.1\n".repeat(4096))?;
    servers.serve("json", "192.0.2.1\n")?;
    servers.serve("other", r#"{"others": ["192.0.2.0/24"]}"#)?;
    servers.serve("everything", "0.0.0.0/0\n")?;
    servers.serve("loss", "198.51.100.7\n")?;
    servers.serve("few", "192.0.2.0/24\n")?;
    servers.serve_large("big", 70 << 20)
}

fn bad_answers_change_nothing() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let mut servers = Servers::start(&sandbox, &GOOD_RECORDS, "")?;
    sandbox
        .namespace()
        .ip("address add 203.0.113.12/32 dev lo")?;
    for name in SERVED {
        servers.serve(name, "192.0.2.0/24\n198.51.100.7\n")?;
    }
    for name in ["json", "other"] {
        servers.serve(name, r#"{"a": ["192.0.2.0/24"]}"#)?;
    }
    sandbox.write("policies/a.yaml", policy())?;
    let mut dfw = servers.dfw(&sandbox);
    let first = Report::of(dfw.arg("fetch").arg(sandbox.dir().join("policies")))?;
    ensure!(first.code == Some(0), "{first:?}");
    let cache = sandbox.dir().join("cache");
    ensure!(fs::metadata(&cache)?.uid() != 0, "it has fetched as root");
    let right = lists(&cache)?;
    ensure!(
        right.len() == NOT_FETCHED.len() + NOT_USED.len(),
        "{right:?}"
    );

    let socket = sandbox.dir().join("metrics.sock");
    let listen = format!("unix:{}", socket.display());
    let mut guard = guard(&sandbox, &["--metrics-listen", &listen])?;
    guard.expect_in_force()?;
    let before = sandbox.installed()?;
    let changes = status(&sandbox)?["changes"].clone();

    servers.resolve(&sandbox, &BAD_RECORDS)?;
    servers.host(&sandbox, BAD_LOCATIONS)?;
    serve_bad_lists(&servers)?;
    let second = fetch_due(&sandbox, &servers)?;
    for (name, _, reason) in NOT_FETCHED {
        let start = format!("not fetched: {name}: ");
        let lines: Vec<&str> = second
            .stderr
            .lines()
            .filter(|line| line.starts_with(&start))
            .collect();
        ensure!(
            lines.len() == 1 && lines[0].contains(reason),
            "{name}: {second:?}"
        );
    }
    // Everybody may read why: it has no word of a list, and none of a server that deceives.
    for word in ["secret", "\u{202e}", "\u{9b}"] {
        let is_said = has_word(&cache, word)? || second.stderr.contains(word);
        ensure!(!is_said, "{word:?}: {second:?}");
    }
    let now = lists(&cache)?;
    let other = now
        .iter()
        .filter(|(name, text)| right.get(*name) != Some(text));
    ensure!(
        other.count() == NOT_USED.len(),
        "a failure has changed the cache: {now:?}"
    );
    for (name, _, reason) in NOT_USED {
        // They come in the order in which the lists do.
        if !guard.said.iter().any(|line| line.contains(reason)) {
            guard.expect(reason).context(name)?;
        }
    }
    // Not again, unless it is another failure.
    let third = fetch_due(&sandbox, &servers)?;
    ensure!(third.stderr.is_empty(), "{third:?}");
    until("the failures", || {
        let status = status(&sandbox).ok()?;
        let failures = status["sources"].as_array()?.iter();
        let failed = failures.filter(|source| source["failures"] == 2).count();
        (failed == NOT_FETCHED.len()).then_some(())
    })?;
    has_metrics(&metrics(&socket)?)?;
    let status = status(&sandbox)?;
    ensure!(status["changes"] == changes, "{status}");
    ensure!(
        sandbox.installed()? == before,
        "a bad answer has changed the rules"
    );
    for (_, _, reason) in NOT_USED {
        let times = guard
            .said
            .iter()
            .filter(|line| line.contains(reason))
            .count();
        ensure!(times == 1, "{reason}: {:?}", guard.said);
    }
    guard.stop()
}

/// What monitors see of sources of which some were not fetched twice and others are not used.
fn has_metrics(metrics: &str) -> Result<()> {
    let value = |name: &str, source: &str| -> Result<u64> {
        let start = format!("dfw_source_{name}{{source=\"{source}\"}} ");
        let value = metrics.lines().find_map(|line| line.strip_prefix(&start));
        Ok(value
            .with_context(|| format!("no {start}in {metrics}"))?
            .parse()?)
    };
    for (kinds, failures, unused) in [(&NOT_FETCHED[..], 2, 0), (&NOT_USED, 0, 1)] {
        for (name, ..) in kinds {
            ensure!(
                value("failures_total", name)? == failures,
                "{name}: {metrics}"
            );
            ensure!(value("unused", name)? == unused, "{name}: {metrics}");
            ensure!(
                (1..=2).contains(&value("entries", name)?),
                "{name}: {metrics}"
            );
            // All were fetched when this began.
            ensure!(value("age_seconds", name)? < 3600, "{name}: {metrics}");
        }
    }
    Ok(())
}

/// A record of a host that is elsewhere now: the new address is let in and the old one is out, with the connection
/// that it has. `DFW_LONG` waits for the TTL; else the trial sets the clock of the cache forward.
fn a_changed_record_moves_access_and_cuts_connections() -> Result<()> {
    const SERVED: u16 = 7000;
    /// The TTL of the record, which is too short, and what it counts as.
    const TTL: u64 = 1;
    const BOUND: Duration = Duration::from_secs(30 + 2);
    let sandbox = Sandbox::new()?;
    let [host, old, new]: [IpAddr; 3] = ["198.51.100.1", "198.51.100.66", "198.51.100.67"]
        .map(|text| IpAddr::V4(text.parse().unwrap_or(Ipv4Addr::LOCALHOST)));
    let record = |address: IpAddr| format!("--host-record=home.example.com,{address},{TTL}");
    let mut servers = Servers::start(&sandbox, &[&record(old)], "")?;
    let clients = Sandbox::new()?;
    sandbox.namespace().ip(&format!(
        "link add eth0 type veth peer name eth0 netns {}",
        clients.namespace().path().display()
    ))?;
    for (namespace, address) in [
        (sandbox.namespace(), host),
        (clients.namespace(), old),
        (clients.namespace(), new),
    ] {
        namespace.ip(&format!("address add {address}/24 dev eth0"))?;
        namespace.ip("link set eth0 up")?;
    }
    sandbox
        .namespace()
        .run(|| spawn(&[&format!("tcp:{SERVED}")]))?;
    let to = SocketAddr::new(host, SERVED);
    let ask = |from: IpAddr, patience| {
        clients
            .namespace()
            .run(|| ask(Transport::Tcp, Some(from), to, patience))
    };

    sandbox.write(
        "policies/a.yaml",
        format!(
            "default: deny\nsources: {{home: {{name: home.example.com, within: 198.51.100.0/24}}}}\n\
             ports: {{{SERVED}: [home]}}\n"
        ),
    )?;
    let mut guard = guard(&sandbox, &[])?;
    guard.expect("never-fetched: it allows nobody")?;
    guard.expect_in_force()?;
    ensure!(
        ask(old, SILENCE)?.is_closed(),
        "open before anything is fetched"
    );
    let requests = sandbox.dir().join("requests.yaml");
    let mut dfw = servers.dfw(&sandbox);
    dfw.args(["fetch", "--daemon"]).arg(&requests);
    let mut fetcher = Daemon::of(dfw)?;
    fetcher.expect("home: 1 entries, changed")?;
    guard.expect_in_force()?;
    ensure!(
        ask(old, PATIENCE)? == Outcome::Open,
        "closed to the address"
    );
    ensure!(ask(new, SILENCE)?.is_closed(), "open to another address");
    let open = || Conversation::open(Transport::Tcp, Some(old), to);
    let mut live = clients.namespace().run(open)?;

    servers.resolve(&sandbox, &[&record(new)])?;
    let since = Instant::now();
    let is_whole = is_long();
    if !is_whole {
        make_due(&sandbox)?;
        fs::write(&requests, fs::read(&requests)?)?;
    }
    guard.expect_in_force()?;
    let took = since.elapsed();
    eprintln!("a changed record was in force after {took:?}");
    ensure!(!is_whole || took <= BOUND, "in force after {took:?}");
    ensure!(
        !live.echoes(SILENCE)?,
        "the connection of the old address lives"
    );
    ensure!(
        ask(old, SILENCE)?.is_closed(),
        "still open to the old address"
    );
    ensure!(
        ask(new, PATIENCE)? == Outcome::Open,
        "closed to the new address"
    );
    // A resolver that is gone takes nothing away, and is warned of.
    servers.resolve(&sandbox, &["--address=/home.example.com/"])?;
    make_due(&sandbox)?;
    fs::write(&requests, fs::read(&requests)?)?;
    fetcher.expect("not fetched: home: home.example.com does not exist")?;
    ensure!(
        ask(new, PATIENCE)? == Outcome::Open,
        "a failure closed the port"
    );
    fetcher.kill()?;
    guard.stop()
}

/// A million addresses that are fetched, and of which some change.
fn a_long_list_costs_the_fetcher_little_memory() -> Result<()> {
    const MOST: i64 = 64 << 10;
    let sandbox = Sandbox::new()?;
    let servers = Servers::start(&sandbox, &[], "")?;
    sandbox.write(
        "policies/a.yaml",
        format!(
            "default: deny\nsources: {{many: {{url: \"{LISTS}/many\", max: 2000000}}}}\n\
             ports: {{80: [many]}}\n"
        ),
    )?;
    for first in 0..2 {
        let addresses = (first..1_000_100).map(|number| Ipv4Addr::from((100 << 24) + 2 * number));
        servers.serve_list("many", addresses)?;
        let mut dfw = servers.dfw(&sandbox);
        let report = Report::of(dfw.arg("fetch").arg(sandbox.dir().join("policies")))?;
        let expected = format!("many: {} entries, changed", 1_000_100 - first);
        ensure!(report.stdout.contains(&expected), "{report:?}");
        // This process and all its other children are small: a child begins with the peak of its parent.
        let peak = getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss();
        eprintln!("the fetcher has {} MiB at most", peak >> 10);
        ensure!(peak < MOST, "{peak} KiB");
    }
    Ok(())
}

/// A guard with the cache of the sandbox.
pub(crate) fn guard(sandbox: &Sandbox, more: &[&str]) -> Result<Daemon> {
    let mut command = sandbox.namespace().command(crate::namespace::DFW);
    command
        .args(crate::daemon::arguments(sandbox, more))
        .env("DFW_CACHE", sandbox.dir().join("cache"));
    Daemon::of(command)
}
