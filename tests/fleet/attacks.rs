//! Who holds a certificate or writes to the store opens nothing.

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::Named;
use crate::daemon::until;
use crate::fleet::{Fleet, Host, policy};
use crate::sign;

pub(crate) const TRIALS: &[Named] = &[(
    "who_writes_to_the_store_opens_nothing",
    who_writes_to_the_store_opens_nothing,
)];

/// Puts the bytes of a file under a key, with the certificate of a user.
fn put(fleet: &Fleet, user: &str, key: &str, bytes: &[u8]) -> Result<Option<i32>> {
    let file = fleet.cluster.sandbox().write("put", bytes)?;
    let command = format!("etcdctl put {key} <{}", file.display());
    Ok(fleet.cluster.shell(user, &command)?.code)
}

fn who_writes_to_the_store_opens_nothing() -> Result<()> {
    let mut fleet = Fleet::new(&["web-1", "web-2"], &[])?;
    let hosts = fleet.hosts(&["web-1", "web-2"])?;
    fleet.push_now(1)?;
    for host in &hosts {
        host.until_policy(1)?;
    }
    let rules: Vec<_> = hosts.iter().map(Host::rules).collect::<Result<_>>()?;
    rights(&fleet)?;
    let genuine = forged_heads(&fleet, &hosts, &rules)?;
    forged_rollout(&fleet, &hosts, &rules, &genuine)
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

/// Puts a stranger's head with the policy of a stranger, by a certificate that may write; returns the head that was there.
fn forged_heads(fleet: &Fleet, hosts: &[Host], rules: &[String]) -> Result<String> {
    let cluster = &fleet.cluster;
    let stranger = sign::key()?;
    let sandbox = cluster.sandbox();
    fleet.policy("default: deny\nports: {22: any}\n")?;
    let path = |name: &str| sandbox.dir().join(name).to_string_lossy().into_owned();
    let (from, to) = (path("p"), path("forged"));
    let create = [
        "bundle",
        "create",
        &from,
        "--site",
        "prod",
        "--generation",
        "50",
        "--serial",
        "50",
        "-o",
        &to,
        "--json",
    ];
    let document: serde_json::Value = serde_json::from_str(&sandbox.dfw_ok(&create)?)?;
    sign::bundle(to.as_ref(), &document, (&stranger, &stranger))?;
    for folder in ["blobs", "manifests"] {
        for entry in fs::read_dir(format!("{to}/{folder}"))? {
            let entry = entry?;
            let name = entry.file_name().into_string().ok().context("no name")?;
            let piece = if folder == "blobs" { "/000" } else { "" };
            put(
                fleet,
                "dfw-push",
                &format!("/dfw/v1/prod/{folder}/{name}{piece}"),
                &fs::read(entry.path())?,
            )?;
        }
    }
    let genuine = cluster
        .shell("root", "etcdctl get --print-value-only /dfw/v1/prod/head")?
        .stdout;
    let head = fs::read(format!("{to}/head"))?;
    for (name, head, reason) in [
        ("a stranger's head", head.as_slice(), "not trusted"),
        ("no head", b"<html>\n", "malformed"),
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
