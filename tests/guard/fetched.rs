//! Names and lists from a real resolver and a real web server: what is right comes into force, what is wrong
//! changes nothing and is warned of once.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::Named;
use crate::daemon::{Daemon, until};
use crate::namespace::{Place, Report};
use crate::servers::Servers;

pub(crate) const TRIALS: &[Named] = &[("bad_answers_change_nothing", bad_answers_change_nothing)];

const LISTS: &str = "https://lists.example.com";

/// A source, and a part of the reason why its second answer is not used.
type Kind = (&'static str, &'static str, &'static str);

/// What the fetcher does not take.
const NOT_FETCHED: [Kind; 17] = [
    ("nxdomain", "{name: gone.example.com}", "NXDOMAIN"),
    ("no-answer", "{name: a.dead.example.com}", "no answer for"),
    ("no-address", "{name: bare.example.com}", "has no address"),
    ("web-page", "{url: LISTS/page}", "a web page"),
    ("empty", "{url: LISTS/empty}", "no address"),
    ("half", "{url: LISTS/half}", "line 2"),
    ("binary", "{url: LISTS/binary}", "line 1"),
    ("too-big", "{url: LISTS/big}", "limit"),
    ("not-json", "{url: LISTS/json, select: /a/*}", "JSON"),
    (
        "nothing-selected",
        "{url: LISTS/other, select: /a/*}",
        "no address",
    ),
    ("loop", "{url: LISTS/loop}", "redirect"),
    ("plain", "{url: LISTS/plain}", "https"),
    ("error", "{url: LISTS/error}", "answers 500"),
    ("missing", "{url: LISTS/missing}", "answers 404"),
    (
        "to-private",
        "{url: LISTS/private}",
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
    ("everything", "{url: LISTS/everything}", "more than half"),
    ("loss", "{url: LISTS/loss}", "max-loss: 50%"),
    (
        "few",
        "{url: LISTS/few, min: 2, max-loss: 100%}",
        "fewer entries (1)",
    ),
];

/// The names that the first answers are about; all have an address.
const GOOD_RECORDS: [&str; 8] = [
    "--host-record=gone.example.com,192.0.2.1",
    "--host-record=a.dead.example.com,192.0.2.1",
    "--host-record=bare.example.com,192.0.2.1",
    "--host-record=sink.example.com,192.0.2.1",
    "--host-record=outside.example.com,192.0.2.1",
    "--host-record=many.example.com,192.0.2.1",
    "--host-record=moved.example.com,203.0.113.10",
    "--host-record=closed.example.com,203.0.113.10",
];

const BAD_RECORDS: [&str; 10] = [
    "--txt-record=bare.example.com,nothing",
    // Nobody answers there.
    "--server=/dead.example.com/127.0.0.1#5399",
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
    location /error { return 500; }
    location /missing { return 404; }
    location /private { return 302 https://private.example.com/good; }
";

fn policy() -> String {
    let all = NOT_FETCHED.iter().chain(&NOT_USED);
    let sources: String = all
        .clone()
        .map(|(name, source, _)| {
            let source = source.replace("LISTS/", &format!("\"{LISTS}/"));
            // The quote ends where the address does.
            let source = match source.split_once(&format!("\"{LISTS}/")) {
                Some((before, rest)) => {
                    let end = rest.find([',', '}']).unwrap_or(rest.len());
                    format!("{before}\"{LISTS}/{}\"{}", &rest[..end], &rest[end..])
                }
                None => source,
            };
            format!("  {name}: {source}\n")
        })
        .collect();
    let names: Vec<&str> = all.map(|(name, ..)| *name).collect();
    format!(
        "default: deny\nsources:\n{sources}ports:\n  80: [{}]\n",
        names.join(", ")
    )
}

/// Lets all sources be due, as time would.
fn make_due(place: &Place) -> Result<()> {
    for entry in fs::read_dir(place.dir().join("cache"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|it| it == "json") {
            let mut status: Value = serde_json::from_slice(&fs::read(&path)?)?;
            status["due"] = json!(0);
            fs::write(&path, status.to_string())?;
        }
    }
    Ok(())
}

fn fetch_due(place: &Place, servers: &Servers) -> Result<Report> {
    make_due(place)?;
    let mut dfw = servers.dfw(place);
    Report::of(
        dfw.args(["fetch", "--due"])
            .arg(place.dir().join("policies")),
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

fn status(place: &Place) -> Result<Value> {
    let socket = place.dir().join("guard.sock");
    match dfw::guard::ask(&socket) {
        dfw::guard::Answer::Status(status) => Ok(status),
        other => anyhow::bail!("{other:?}"),
    }
}

fn bad_answers_change_nothing() -> Result<()> {
    let place = Place::new()?;
    let mut servers = Servers::start(&place, &GOOD_RECORDS, "")?;
    place.namespace().ip("address add 203.0.113.12/32 dev lo")?;
    for name in [
        "page",
        "empty",
        "half",
        "binary",
        "big",
        "loop",
        "plain",
        "error",
        "missing",
        "private",
        "certificate",
        "unreachable",
        "everything",
        "good",
        "few",
        "loss",
    ] {
        servers.serve(name, "192.0.2.0/24\n198.51.100.7\n")?;
    }
    for name in ["json", "other"] {
        servers.serve(name, r#"{"a": ["192.0.2.0/24"]}"#)?;
    }
    place.write("policies/a.yaml", policy())?;
    let mut dfw = servers.dfw(&place);
    let first = Report::of(dfw.arg("fetch").arg(place.dir().join("policies")))?;
    ensure!(first.code == Some(0), "{first:?}");
    let cache = place.dir().join("cache");
    ensure!(fs::metadata(&cache)?.uid() != 0, "it has fetched as root");
    let right = lists(&cache)?;
    ensure!(
        right.len() == NOT_FETCHED.len() + NOT_USED.len(),
        "{right:?}"
    );

    let mut guard = guard(&place)?;
    guard.expect_in_force()?;
    let before = place.installed()?;
    let changes = status(&place)?["changes"].clone();

    servers.resolve(&place, &BAD_RECORDS)?;
    servers.host(&place, BAD_LOCATIONS)?;
    servers.serve("page", "<!DOCTYPE html>\n<html>no</html>\n")?;
    servers.serve("empty", "")?;
    servers.serve("half", "192.0.2.1\n192.0.")?;
    servers.serve("binary", [1, 2, 3])?;
    servers.serve("json", "192.0.2.1\n")?;
    servers.serve("other", r#"{"b": ["192.0.2.0/24"]}"#)?;
    servers.serve("everything", "0.0.0.0/0\n")?;
    servers.serve("loss", "198.51.100.7\n")?;
    servers.serve("few", "192.0.2.0/24\n")?;
    servers.serve_large("big", 70 << 20)?;
    let second = fetch_due(&place, &servers)?;
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
    let now = lists(&cache)?;
    let other = now
        .iter()
        .filter(|(name, text)| right.get(*name) != Some(text));
    ensure!(
        other.count() == NOT_USED.len(),
        "a failure has changed the cache: {now:?}"
    );
    for (name, _, reason) in NOT_USED {
        guard.expect(reason).context(name)?;
    }
    // Not again, unless it is another failure.
    let third = fetch_due(&place, &servers)?;
    ensure!(third.stderr.is_empty(), "{third:?}");
    until("the failures", || {
        let status = status(&place).ok()?;
        let failures = status["sources"].as_array()?.iter();
        let failed = failures.filter(|source| source["failures"] == 2).count();
        (failed == NOT_FETCHED.len()).then_some(())
    })?;
    let status = status(&place)?;
    ensure!(status["changes"] == changes, "{status}");
    ensure!(
        place.installed()? == before,
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

/// A guard with the cache of the place.
fn guard(place: &Place) -> Result<Daemon> {
    let mut command = place.namespace().command(crate::namespace::DFW);
    command
        .args(crate::daemon::arguments(place, &[]))
        .env("DFW_CACHE", place.dir().join("cache"));
    Daemon::of(command)
}
