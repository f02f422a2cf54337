//! What is wrong on a server changes nothing, and is named.

use std::fs;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use dfw::bundle::Digest;

use super::{Fleet, write_signed};
use crate::bundle::publish_to;
use crate::daemon::until;
use crate::fetched::status;
use crate::sign;

/// Signs a head or a manifest whose text is changed, under a new digest.
fn forge(fleet: &Fleet, numbers: (u64, u64), change: impl Fn(String) -> String) -> Result<()> {
    let digest = fleet.publish(numbers, &[])?;
    let line = |path: &PathBuf| -> Result<String> {
        let text = fs::read_to_string(path)?;
        Ok(text.lines().next().unwrap_or_default().to_owned() + "\n")
    };
    let manifest = change(line(&fleet.www().join("manifests").join(&digest))?);
    let new = Digest::of(manifest.as_bytes()).to_string();
    let (generation, serial) = numbers;
    let comment = format!("dfw/v1/manifest site=prod generation={generation}");
    let path = fleet.www().join("manifests").join(&new);
    write_signed(&path, &fleet.key, &manifest, &comment)?;
    let head = line(&fleet.www().join("head"))?.replace(&digest, &new);
    let comment = format!("dfw/v1/head site=prod serial={serial} generation={generation}");
    write_signed(&fleet.www().join("head"), &fleet.key, &head, &comment)
}

/// Flips a bit in a file of the server.
fn flip(path: &PathBuf, at: usize) -> Result<()> {
    let mut bytes = fs::read(path)?;
    bytes[at] ^= 1;
    Ok(fs::write(path, bytes)?)
}

/// What the server has, and what status says of it.
type Wrong = (&'static str, fn(&Fleet) -> Result<()>, &'static str);

const WRONG: &[Wrong] = &[
    (
        "a key that is not trusted",
        |fleet| {
            let stranger = sign::key()?;
            publish_to(&fleet.host, &fleet.www(), (11, 11), &[], Some(&stranger)).map(drop)
        },
        "signed by a key that is not trusted",
    ),
    (
        "no signature",
        |fleet| publish_to(&fleet.host, &fleet.www(), (11, 11), &[], None).map(drop),
        "the head is not signed",
    ),
    (
        "a bit flipped in the head",
        |fleet| {
            fleet.publish((11, 11), &[])?;
            let head = fleet.www().join("head");
            let text = fs::read_to_string(&head)?;
            fs::write(head, text.replace("\"serial\":11", "\"serial\":10"))?;
            Ok(())
        },
        "the signature of the head is wrong",
    ),
    (
        "a bit flipped in the manifest",
        |fleet| {
            let digest = fleet.publish((11, 11), &[])?;
            let path = fleet.www().join("manifests").join(digest);
            let end = fs::read_to_string(&path)?.find('\n').unwrap_or_default();
            flip(&path, end - 3)
        },
        "the manifest",
    ),
    (
        "a bit flipped in a file",
        |fleet| {
            fleet.policy("default: deny\nports: {80: any}\n# flipped\n")?;
            fleet.publish((11, 11), &[])?;
            for entry in fs::read_dir(fleet.www().join("blobs"))? {
                let path = entry?.path();
                if fs::read_to_string(&path)?.contains("# flipped") {
                    flip(&path, 1)?;
                }
            }
            Ok(())
        },
        "the contents of base.yaml are not those",
    ),
    (
        "a file of 10 GB",
        |fleet| {
            fleet.policy("default: deny\nports: {80: any}\n# large\n")?;
            fleet.publish((11, 11), &[])?;
            for entry in fs::read_dir(fleet.www().join("blobs"))? {
                let path = entry?.path();
                if fs::read_to_string(&path)?.contains("# large") {
                    fs::File::options()
                        .write(true)
                        .open(path)?
                        .set_len(10 << 30)?;
                }
            }
            Ok(())
        },
        "larger than request limit",
    ),
    (
        "a head without an end",
        |fleet| {
            let file = fs::File::create(fleet.www().join("head"))?;
            Ok(file.set_len(10 << 30)?)
        },
        "larger than request limit",
    ),
    (
        "an older serial",
        |fleet| fleet.publish((10, 9), &[]).map(drop),
        "the server is behind",
    ),
    (
        "an older generation",
        |fleet| fleet.publish((9, 11), &[]).map(drop),
        "the server is behind",
    ),
    (
        "a number that is too high",
        |fleet| fleet.publish((2_000_000, 11), &[]).map(drop),
        "the generation grew by more than",
    ),
    (
        "an expired head",
        |fleet| {
            let made = dfw::store::bundle::now().to_string();
            fleet.publish((11, 11), &["--created", &made, "--expires-in", "1m"])?;
            let head = fs::read_to_string(fleet.www().join("head"))?;
            let line = head.lines().next().unwrap_or_default();
            let at = line.rfind("\"expires\":\"").unwrap_or_default() + 11;
            let created = line.rfind("\"created\":\"").unwrap_or_default() + 11;
            let mut text = line.to_owned();
            text.replace_range(at..at + 20, "2020-01-02T00:00:00Z");
            text.replace_range(created..created + 20, "2020-01-01T00:00:00Z");
            let comment = "dfw/v1/head site=prod serial=11 generation=11";
            write_signed(
                &fleet.www().join("head"),
                &fleet.key,
                &(text + "\n"),
                comment,
            )
        },
        "the head expired at 2020-01-02T00:00:00Z",
    ),
    (
        "another site",
        |fleet| fleet.publish((11, 11), &["--site", "test"]).map(drop),
        "the bundle is for the site test, and not for prod",
    ),
    (
        "a manifest in place of a head",
        |fleet| {
            let digest = fleet.publish((11, 11), &[])?;
            fs::copy(
                fleet.www().join("manifests").join(digest),
                fleet.www().join("head"),
            )?;
            Ok(())
        },
        "in place of the head there is another kind of text",
    ),
    (
        "another manifest under its name",
        |fleet| {
            let former = fleet.publish((11, 11), &[])?;
            let digest = fleet.publish((12, 12), &[])?;
            let folder = fleet.www().join("manifests");
            fs::copy(folder.join(former), folder.join(digest))?;
            Ok(())
        },
        "the manifest is not the one that the head names",
    ),
    (
        "a name that leads out of the folder",
        |fleet| {
            forge(fleet, (11, 11), |text| {
                text.replace("base.yaml", "../../base.yaml")
            })
        },
        "the manifest is malformed",
    ),
    (
        "files for a later dfw",
        |fleet| fleet.publish((11, 11), &["--requires", "9.0.0"]).map(drop),
        "requires dfw 9.0.0 or newer",
    ),
    (
        "a web page",
        |fleet| {
            Ok(fs::write(
                fleet.www().join("head"),
                "<!DOCTYPE html>\n<html>no</html>\n",
            )?)
        },
        "the head is malformed",
    ),
    ("nothing", |_| Ok(()), "answers 404"),
];

pub(super) fn wrong_bundles_change_nothing() -> Result<()> {
    let (mut fleet, mut guard) = Fleet::with_first()?;
    fleet.publish((10, 10), &[])?;
    fleet.fetch()?;
    guard.expect("confirmed")?;
    let rules = fleet.rules()?;
    let changes = status(&fleet.host)?["changes"].clone();
    fleet.policy("default: deny\nports: {80: any}\n")?;
    let named = |fleet: &Fleet, name: &str, reason: &str| -> Result<()> {
        until(name, || {
            let site = fleet.site().ok()?;
            let says = |key: &str| site[key].as_str().is_some_and(|text| text.contains(reason));
            (says("reason") || says("failure")).then_some(())
        })?;
        ensure!(fleet.rules()? == rules, "{name}: the rules changed");
        Ok(())
    };
    for (name, serve, reason) in WRONG {
        fs::remove_dir_all(fleet.www())?;
        fs::create_dir(fleet.www())?;
        serve(&fleet)?;
        let report = fleet.try_to_fetch()?;
        eprintln!("{name}: {report:?}");
        named(&fleet, name, reason)?;
        let state = match *reason {
            "the server is behind" => "store-behind",
            "requires dfw 9.0.0 or newer" => "unsupported",
            "the head expired at 2020-01-02T00:00:00Z" => "stale",
            _ => continue,
        };
        fleet.until(state)?;
    }
    fleet.servers.go_down();
    fleet.try_to_fetch()?;
    named(&fleet, "a server that is down", "efused")?;
    let failures = fleet.site()?["failures"].as_u64().unwrap_or_default();
    ensure!(failures > 0, "{}", fleet.site()?);
    fleet.until_metrics(&[&format!("dfw_site_failures_total {failures}")])?;
    let status = status(&fleet.host)?;
    ensure!(status["changes"] == changes, "{status}");
    let site = &status["site"];
    ensure!(site["generation"] == 10 && site["accepted"] == 10, "{site}");
    // What is right is taken afterwards.
    fleet.servers.host(&fleet.far, "")?;
    fs::create_dir_all(fleet.www())?;
    fleet.publish((13, 13), &[])?;
    fleet.fetch()?;
    guard.expect("confirmed")?;
    ensure!(fleet.rules()? != rules);
    guard.stop()
}
