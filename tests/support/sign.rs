//! Signs bundles as `minisign` does.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use anyhow::{Context, Result};
pub(crate) use minisign::KeyPair;
use serde_json::Value;

/// Makes a key.
pub(crate) fn key() -> Result<KeyPair> {
    Ok(KeyPair::generate_unencrypted_keypair()?)
}

/// Returns the file of the public key.
pub(crate) fn public(key: &KeyPair) -> String {
    format!("untrusted comment: a test\n{}\n", key.pk.to_base64())
}

/// Signs the manifest and the head of a bundle, which `dfw bundle create --json` described.
pub(crate) fn bundle(
    folder: &Path,
    document: &Value,
    (manifest, head): (&KeyPair, &KeyPair),
) -> Result<()> {
    let digest = document["manifest"].as_str().context("no manifest")?;
    let (site, generation) = (text(&document["site"])?, &document["generation"]);
    let comment = format!("dfw/v1/manifest site={site} generation={generation}");
    append(&folder.join("manifests").join(digest), manifest, &comment)?;
    self::head(&folder.join("head"), document, head)
}

/// Signs a head, which `dfw bundle create` or `renew` described.
pub(crate) fn head(path: &Path, document: &Value, key: &KeyPair) -> Result<()> {
    let (serial, generation) = (&document["serial"], &document["generation"]);
    let site = text(&document["site"])?;
    let comment = format!("dfw/v1/head site={site} serial={serial} generation={generation}");
    append(path, key, &comment)
}

fn text(value: &Value) -> Result<&str> {
    value.as_str().context("not a text")
}

/// Signs what is in a file, and appends the signature.
pub(crate) fn append(path: &Path, key: &KeyPair, comment: &str) -> Result<()> {
    let body = fs::read_to_string(path)?;
    let signature = minisign::sign(None, &key.sk, Cursor::new(&body), Some(comment), None)?;
    Ok(fs::write(path, body + &signature.into_string())?)
}
