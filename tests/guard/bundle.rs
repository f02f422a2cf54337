//! Bundles in a directory: guard takes what a trusted key signed, and keeps what it has.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use minisign::KeyPair;

use crate::Named;
use crate::daemon::{Daemon, arguments};
use crate::namespace::{DFW, Sandbox};
use crate::sign;

pub(crate) const TRIALS: &[Named] = &[(
    "guard_takes_only_what_a_trusted_key_signed",
    guard_takes_only_what_a_trusted_key_signed,
)];

/// A generation, options of `create`, the key that signs it, and what guard says.
type Case<'a> = (u32, &'a [&'a str], Option<&'a KeyPair>, &'a str);

/// Makes a bundle of the folder `p` and puts it into another one, as rsync does: the head last. What is not signed yet
/// may be changed before; the digest of its manifest is returned.
pub(crate) fn publish_to(
    sandbox: &Sandbox,
    to: &Path,
    (generation, serial): (u64, u64),
    more: &[&str],
    key: Option<&KeyPair>,
) -> Result<String> {
    let path = |name: &str| sandbox.dir().join(name).to_string_lossy().into_owned();
    let (number, serial) = (generation.to_string(), serial.to_string());
    let (from, new) = (path("p"), path(&format!("new-{number}-{serial}")));
    let _ = fs::remove_dir_all(&new);
    let create = [
        "bundle",
        "create",
        &from,
        "--group",
        "web=web-*",
        "--generation",
        &number,
        "--serial",
        &serial,
        "-o",
        &new,
        "--json",
    ];
    let site: &[&str] = if more.contains(&"--site") {
        &[]
    } else {
        &["--site", "prod"]
    };
    let document = sandbox.dfw_ok(&[&create, site, more].concat())?;
    let document: serde_json::Value = serde_json::from_str(&document)?;
    if let Some(key) = key {
        sign::bundle(new.as_ref(), &document, (key, key))?;
    }
    for folder in ["blobs", "manifests"] {
        let folder_there = to.join(folder);
        fs::create_dir_all(&folder_there)?;
        for entry in fs::read_dir(format!("{new}/{folder}"))? {
            let entry = entry?;
            fs::copy(entry.path(), folder_there.join(entry.file_name()))?;
        }
    }
    fs::rename(format!("{new}/head"), to.join("head"))?;
    let manifest = document["manifest"].as_str().context("no manifest")?;
    Ok(manifest.to_owned())
}

/// Puts a bundle into the folder that guard reads.
fn publish(sandbox: &Sandbox, generation: u32, more: &[&str], key: Option<&KeyPair>) -> Result<()> {
    let to = sandbox.dir().join("policies");
    let numbers = (generation.into(), generation.into());
    publish_to(sandbox, &to, numbers, more, key).map(drop)
}

fn guard_takes_only_what_a_trusted_key_signed() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let (key, stranger) = (sign::key()?, sign::key()?);
    let public = sandbox.write("policy.pub", sign::public(&key))?;
    let public = public.to_string_lossy().into_owned();
    sandbox.write("p/base.yaml", "default: deny\nports: {22: [203.0.113.7]}\n")?;
    sandbox.write(
        "p/web/web.yaml",
        "sources: {office: {file: lists/office}}\nports: {443: [office]}\n",
    )?;
    sandbox.write("p/web/lists/office", "203.0.113.8\n")?;
    publish(&sandbox, 1, &[], Some(&key))?;
    let more = [
        "--trusted-key",
        &public,
        "--site",
        "prod",
        "--host-id",
        "web-1",
    ];
    let mut guard = Daemon::start(&sandbox, &more)?;
    guard.expect_in_force()?;
    let first = sandbox.installed()?.to_string();
    for part in ["base.yaml:2", "web.yaml:2", "203.0.113.8"] {
        ensure!(first.contains(part), "{part} is not in {first}");
    }
    // The next one opens a port: not signed, by another key, expired.
    sandbox.write(
        "p/web/web.yaml",
        "sources: {office: {file: lists/office}}\nports: {443: [office], 80: any}\n",
    )?;
    let expired = ["--created", "2020-01-01T00:00:00Z"];
    let cases: [Case<'_>; 3] = [
        (2, &[], None, "the head is not signed"),
        (
            3,
            &[],
            Some(&stranger),
            "signed by a key that is not trusted",
        ),
        (
            4,
            &expired,
            Some(&key),
            "the head expired at 2020-01-08T00:00:00Z",
        ),
    ];
    for (generation, more, key, reason) in cases {
        publish(&sandbox, generation, more, key)?;
        guard.expect(reason)?;
        ensure!(
            sandbox.installed()?.to_string() == first,
            "{reason}: the rules changed"
        );
    }
    guard.stop()?;
    // A new guard has only an expired bundle: the last good policies stay, those of the group, too.
    sandbox.dfw_ok(&["remove"])?;
    let mut guard = Daemon::start(&sandbox, &more)?;
    guard.expect_in_force()?;
    ensure!(
        sandbox.installed()?.to_string() == first,
        "other policies than the last good ones"
    );
    publish(&sandbox, 5, &[], Some(&key))?;
    guard.expect_in_force()?;
    ensure!(sandbox.installed()?.to_string().contains("web.yaml:2"));
    ensure!(sandbox.installed()?.to_string() != first);
    guard.stop()?;
    // Without a key guard does not start.
    let mut command = sandbox.namespace().command(DFW);
    command.args(arguments(&sandbox, &[]));
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(said.contains("no key is trusted"), "{said}");
    // Nor with one that everybody may put in its place, and neither does anything else come into force by it.
    sandbox.dfw_ok(&["remove"])?;
    let keys = sandbox.dir().join("keys");
    sandbox.write("keys/policy.pub", sign::public(&key))?;
    fs::set_permissions(&keys, PermissionsExt::from_mode(0o777))?;
    let keys = keys.to_string_lossy().into_owned();
    let more = ["--trusted-key", &keys, "--host-id", "web-1"];
    let policies = sandbox.dir().join("policies");
    let policies = policies.to_string_lossy().into_owned();
    let apply = ["apply", &policies, "--docker-host", "none"];
    let report = sandbox.dfw(&[&apply[..], &more].concat())?;
    report.expect_failure(1, "key")?;
    let mut guard = Daemon::start(&sandbox, &more)?;
    guard.expect(&format!("everybody can write to {keys}: `chmod o-w` it"))?;
    ensure!(guard.end()? == Some(1));
    let tables = sandbox.nft("list tables")?;
    ensure!(tables.trim().is_empty(), "{tables}");
    Ok(())
}
