//! Who holds a certificate or writes to the store opens nothing.

use std::fs;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::Named;
use crate::daemon::until;
use crate::fleet::{Fleet, Host, policy};
use crate::sign;

pub(crate) const TRIALS: &[Named] = &[(
    "who_writes_to_the_store_opens_nothing",
    who_writes_to_the_store_opens_nothing,
)];

/// Hosts that nobody sees but the store.
const LONG: [&str; 3] = ["web-3", "web-4", "web-5"];

/// Puts the bytes of a file under a key, with the certificate of a user.
fn put(fleet: &Fleet, user: &str, key: &str, bytes: &[u8]) -> Result<Option<i32>> {
    let file = fleet.cluster.sandbox().write("put", bytes)?;
    let command = format!("etcdctl put {key} <{}", file.display());
    Ok(fleet.cluster.shell(user, &command)?.code)
}

fn who_writes_to_the_store_opens_nothing() -> Result<()> {
    let names = [&["web-1", "web-2"][..], &LONG].concat();
    let mut fleet = Fleet::new(&names, &[])?;
    let mut hosts = fleet.hosts(&["web-1", "web-2"])?;
    fleet.push_now(1)?;
    for host in &hosts {
        host.until_policy(1)?;
    }
    let rules: Vec<_> = hosts.iter().map(Host::rules).collect::<Result<_>>()?;
    rights(&fleet)?;
    forged_renewal(&fleet, &mut hosts[1])?;
    let genuine = forged_heads(&fleet, &hosts, &rules)?;
    forged_rollout(&fleet, &hosts, &rules, &genuine)?;
    rewritten_head(&fleet, &hosts[0], &rules[0])?;
    fleet.push_now(3)?;
    let are_at = |number| hosts.iter().try_for_each(|host| host.until_policy(number));
    are_at(3)?;
    long_statuses(&fleet)?;
    // What must be out at once is not held up.
    fleet.policy(&policy(5))?;
    let report = fleet.push(&["--now", "--detach"])?;
    ensure!(report.code == Some(0), "{report:?}");
    are_at(5)?;
    for name in LONG {
        let key = format!("/dfw/v1/prod/hosts/{name}/status");
        fleet.cluster.etcdctl_ok(name, &["del", &key])?;
    }
    fleet.push_now(6)?;
    are_at(6)
}

/// A host writes nothing but its own status, and reads its site only.
fn rights(fleet: &Fleet) -> Result<()> {
    let cluster = &fleet.cluster;
    for key in [
        "head",
        "rollout",
        "record",
        "hosts/web-2/status",
        "manifests/x",
    ] {
        let code = put(fleet, "web-1", &format!("/dfw/v1/prod/{key}"), b"x")?;
        ensure!(code != Some(0), "web-1 wrote {key}");
    }
    let own = put(fleet, "web-1", "/dfw/v1/prod/hosts/web-1/status", b"x")?;
    ensure!(own == Some(0));
    let read = cluster.etcdctl("web-1", &["get", "/dfw/v1/test/head"])?;
    ensure!(read.code != Some(0), "{read:?}");
    Ok(())
}

/// Renews the lease of a host that is dead with the certificate of another one, as etcd 3.4 lets everybody: it looks alive
/// until its last word is old, and is said to be what it said last.
fn forged_renewal(fleet: &Fleet, host: &mut Host) -> Result<()> {
    let key = format!("/dfw/v1/prod/hosts/{}/status", host.name);
    let rules = host.rules()?;
    if let Some(fetcher) = host.fetcher.take() {
        fetcher.kill()?;
    }
    let said = fleet
        .cluster
        .etcdctl_ok("root", &["get", &key, "-w", "json"])?;
    let said: serde_json::Value = serde_json::from_str(&said)?;
    let lease = said["kvs"][0]["lease"].as_u64().context("no lease")?;
    let lease = format!("{lease:x}");
    fleet
        .cluster
        .etcdctl_ok("web-1", &["lease", "keep-alive", "--once", &lease])?;
    ensure!(host.rules()? == rules);
    let row = fleet.row(&host.name)?;
    ensure!(row["age"].is_u64() && row["generation"] == 1, "{row}");
    host.start_fetcher()?;
    until("its own word", || {
        let age = fleet.row(&host.name).ok()?["age"].as_u64()?;
        (age < 5).then_some(())
    })
}

/// Puts the files and the manifest of a bundle into the store, by a certificate that may write.
fn put_files(fleet: &Fleet, bundle: &str) -> Result<()> {
    for folder in ["blobs", "manifests"] {
        for entry in fs::read_dir(format!("{bundle}/{folder}"))? {
            let entry = entry?;
            let name = entry.file_name().into_string().ok().context("no name")?;
            let piece = if folder == "blobs" { "/000" } else { "" };
            let key = format!("/dfw/v1/prod/{folder}/{name}{piece}");
            put(fleet, "dfw-push", &key, &fs::read(entry.path())?)?;
        }
    }
    Ok(())
}

/// Puts a stranger's head with the policy of a stranger, by a certificate that may write; returns the head that was there.
fn forged_heads(fleet: &Fleet, hosts: &[Host], rules: &[String]) -> Result<String> {
    let cluster = &fleet.cluster;
    let stranger = sign::key()?;
    fleet.policy("default: deny\nports: {22: any}\n")?;
    let to = fleet.bundle((50, 50), &stranger, &[])?;
    put_files(fleet, &to)?;
    let genuine = cluster
        .shell("root", "etcdctl get --print-value-only /dfw/v1/prod/head")?
        .stdout;
    let head = fs::read(format!("{to}/head"))?;
    let newer = fleet.bundle((40, 40), &fleet.key, &["--requires", "9.0.0"])?;
    put_files(fleet, &newer)?;
    let newer = fs::read(format!("{newer}/head"))?;
    for (name, head, reason) in [
        ("a stranger's head", head.as_slice(), "not trusted"),
        ("no head", b"<html>\n", "malformed"),
        (
            "files for a later dfw",
            newer.as_slice(),
            "requires dfw 9.0.0",
        ),
    ] {
        put(fleet, "dfw-push", "/dfw/v1/prod/head", head)?;
        for (host, rules) in hosts.iter().zip(rules) {
            until(name, || {
                let site = host.status().ok()?;
                let says = |key: &str| site[key].as_str().is_some_and(|text| text.contains(reason));
                (says("reason") || says("failure")).then_some(())
            })?;
            ensure!(host.rules()? == *rules, "{name}: the rules changed");
        }
        let problems = fleet.status()?["problems"].to_string();
        ensure!(problems.contains(reason), "{name}: {problems}");
    }
    for host in hosts {
        let row = fleet.until_host(&host.name, "unsupported")?;
        let note = row["note"].as_str().unwrap_or_default();
        ensure!(
            row["severity"] == "failed" && note.contains("newer dfw"),
            "{row}"
        );
    }
    Ok(genuine)
}

/// Puts a roll-out that nobody signed, which opens no stage.
fn forged_rollout(fleet: &Fleet, hosts: &[Host], rules: &[String], genuine: &str) -> Result<()> {
    let cluster = &fleet.cluster;
    put(
        fleet,
        "dfw-push",
        "/dfw/v1/prod/head",
        genuine.trim_end().as_bytes(),
    )?;
    fleet.policy(&policy(2))?;
    let stages = ["--group", "canary=none-*", "--stage", "canary", "--detach"];
    let report = fleet.push(&stages)?;
    ensure!(report.code == Some(0), "{report:?}");
    for host in hosts {
        host.until("waiting")?;
    }
    let rollout = cluster
        .shell(
            "root",
            "etcdctl get --print-value-only /dfw/v1/prod/rollout",
        )?
        .stdout;
    let forged = rollout.replace("\"open\":1", "\"open\":9");
    ensure!(forged != rollout);
    put(
        fleet,
        "dfw-push",
        "/dfw/v1/prod/rollout",
        forged.trim_end().as_bytes(),
    )?;
    let head = cluster
        .shell("root", "etcdctl get --print-value-only /dfw/v1/prod/head")?
        .stdout;
    put(
        fleet,
        "dfw-push",
        "/dfw/v1/prod/head",
        (head.trim_end().to_owned() + "\n").as_bytes(),
    )?;
    for (host, rules) in hosts.iter().zip(rules) {
        until("a forged roll-out", || {
            let reason = host.status().ok()?["reason"].clone();
            reason.as_str()?.contains("rollout").then_some(())
        })?;
        ensure!(host.rules()? == *rules, "a forged roll-out opened a stage");
    }
    Ok(())
}

/// Puts a roll-out that is too long, and then the same head again and again: each read of it fails, and is counted.
fn rewritten_head(fleet: &Fleet, host: &Host, rules: &str) -> Result<()> {
    const HEAD: &str = "/dfw/v1/prod/head";
    let long = vec![b'1'; (64 << 10) + 1];
    put(fleet, "dfw-push", "/dfw/v1/prod/rollout", &long)?;
    let head = fleet
        .cluster
        .shell("root", &format!("etcdctl get --print-value-only {HEAD}"))?;
    let head = head.stdout.trim_end().to_owned() + "\n";
    put(fleet, "dfw-push", HEAD, head.as_bytes())?;
    let failures = || -> Option<u64> {
        let status = fs::read(host.sandbox.dir().join("cache/site-status.json")).ok()?;
        let status: serde_json::Value = serde_json::from_slice(&status).ok()?;
        let failure = status["failure"].as_str()?;
        let is_known = failure.contains("the rollout has more than 65536 bytes");
        is_known.then_some(status["failures"].as_u64()?)
    };
    until("the roll-out that is too long", || failures().map(drop))?;
    let (before, since) = (failures().context("no failure")?, Instant::now());
    let file = fleet.cluster.sandbox().write("put", head)?;
    let put = format!("etcdctl put {HEAD} <{} || exit 1", file.display());
    let puts = fleet
        .cluster
        .shell("dfw-push", &format!("for i in $(seq 300); do {put}; done"))?;
    ensure!(puts.code == Some(0), "{puts:?}");
    until("a read", || (failures()? > before).then_some(()))?;
    // One a second, and those at both ends.
    let reads = failures().context("no failure")? - before;
    let most = since.elapsed().as_secs() + 2;
    eprintln!("300 heads were read {reads} times in {:?}", since.elapsed());
    ensure!(reads <= most, "it was read {reads} times, and not {most}");
    ensure!(host.rules()? == rules, "a long roll-out changed the rules");
    Ok(())
}

/// Puts a status as long as the store takes it for each of three hosts: together they are more than an answer may have. All
/// others are read, and these are named and stop a roll-out.
fn long_statuses(fleet: &Fleet) -> Result<()> {
    let long = vec![b'1'; 1_450_000];
    for name in LONG {
        let key = format!("/dfw/v1/prod/hosts/{name}/status");
        ensure!(put(fleet, name, &key, &long)? == Some(0), "{name}");
    }
    let status = fleet.status()?;
    let hosts = status["hosts"].as_array().context("no hosts")?;
    ensure!(hosts.len() == 5, "{status:#}");
    for host in hosts {
        let name = host["name"].as_str().context("no name")?;
        let note = host["note"].as_str().context("no note")?;
        let is_long = LONG.contains(&name);
        ensure!((host["state"] == "unreadable") == is_long, "{host}");
        ensure!(note.contains("more than 4 KiB") == is_long, "{host}");
        ensure!((host["generation"] == 3) != is_long, "{host}");
    }
    fleet.policy(&policy(4))?;
    let report = fleet.push(&["--settle", "0"])?;
    let reason = "the status of web-3 cannot be read: it has more than 4 KiB";
    ensure!(
        report.code != Some(0) && report.stderr.contains(reason),
        "{report:?}"
    );
    let stopped = fleet.status()?["stopped"].clone();
    ensure!(stopped == reason, "{stopped}");
    Ok(())
}
