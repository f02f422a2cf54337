//! A new generation, step by step: files, deltas, the manifest, and then the head with its roll-out.
//!
//! Each step may be the last one: what is in the store by then changes no host, and the next push goes on from there.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::bundle::moment::Moment;
use crate::bundle::{Digest, Head, Manifest, Rollout, delta};

use super::Error;
use super::keys::Signer;
use super::record::Record;
use super::site::{Site, Snapshot, now};

/// How much a number of a host may be above that of the head: a host that lies must not use up all numbers.
const LEAP: u64 = 1_000_000;
/// How many former generations stay in the store.
const GENERATIONS: usize = 3;
/// The smallest file of which a delta is worth it, in bytes.
const LEAST: u64 = 16 << 10;

/// A generation with its files.
#[derive(Debug)]
pub struct Generation {
    /// The manifest.
    pub manifest: Manifest,
    /// Its signed text.
    pub signed: Vec<u8>,
    /// Its digest.
    pub digest: Digest,
    /// The contents of its files, which may be in the store already.
    pub blobs: BTreeMap<Digest, Vec<u8>>,
}

/// The numbers of the next generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbers {
    /// The generation.
    pub generation: u64,
    /// The serial number of the head.
    pub serial: u64,
}

/// Returns the numbers of the next generation: above those of the head, of all hosts and of the last push from here. So
/// they are right also if the store was restored from an older copy.
#[must_use]
pub fn next(snapshot: &Snapshot, own: Numbers) -> Numbers {
    let head = snapshot.head.as_ref().map(|head| &head.statement);
    let (generation, serial) = head.map_or((0, 0), |head| (head.generation, head.serial));
    let least = Numbers {
        generation: generation.max(own.generation),
        serial: serial.max(own.serial),
    };
    let highest = |least: u64, of: fn(&super::host::Host) -> Option<u64>| {
        let claimed = snapshot.hosts.values().filter_map(of);
        let claimed = claimed.filter(|number| number.saturating_sub(least) <= LEAP);
        claimed.max().unwrap_or_default().max(least) + 1
    };
    Numbers {
        generation: highest(least.generation, |host| host.accepted),
        serial: highest(least.serial, |host| host.serial),
    }
}

/// Returns the next roll-out of a head.
///
/// Its number is the time: it is above all earlier ones also if the store was restored from an older copy.
#[must_use]
pub fn rollout(head: &Head, open: u32, stopped: Option<String>, snapshot: &Snapshot) -> Rollout {
    let known = snapshot
        .rollout
        .as_ref()
        .map_or(0, |rollout| rollout.serial);
    Rollout {
        site: head.site.clone(),
        serial: now().max(known + 1),
        generation: head.generation,
        manifest: head.manifest,
        open,
        stopped,
        created: Moment::since_epoch(Duration::from_secs(now())).unwrap_or_default(),
    }
}

/// Returns what is remembered once so many stages of a generation are open.
#[must_use]
pub fn record(snapshot: &Snapshot, manifest: Digest, open: u32) -> Record {
    let live = snapshot
        .hosts
        .values()
        .filter(|host| host.is_live(snapshot.now));
    let mut seen = snapshot.record.seen.clone();
    seen.extend(
        snapshot
            .hosts
            .values()
            .filter(|host| !host.is_unreadable())
            .map(|host| (host.name.clone(), host.at.min(snapshot.now))),
    );
    Record {
        manifest: Some(manifest),
        open,
        since: snapshot.now,
        live: live.map(|host| host.name.clone()).collect(),
        seen,
    }
}

/// Writes everything of a generation but the head; returns how many bytes.
///
/// # Errors
/// If the store does not take it.
pub fn upload(
    site: &mut Site,
    snapshot: &Snapshot,
    generation: &Generation,
) -> Result<usize, Error> {
    let mut written = 0;
    for (digest, contents) in &generation.blobs {
        written += site.write_blob(digest, contents)?;
    }
    for file in &generation.manifest.files {
        let former = snapshot.manifest.iter().flat_map(|former| &former.files);
        let former = former.clone().find(|former| former.name == file.name);
        let (Some(former), Some(new)) = (former, generation.blobs.get(&file.sha256)) else {
            continue;
        };
        if former.sha256 == file.sha256 || file.size < LEAST {
            continue;
        }
        if let Some(old) = site.blob(&former.sha256, former.size)?
            && let Some(delta) = delta::between(&old, new)
        {
            site.write_delta(&former.sha256, &file.sha256, &delta)?;
            written += delta.len();
        }
    }
    site.write_manifest(&generation.digest, &generation.signed)?;
    Ok(written + generation.signed.len())
}

/// Writes the head of a generation and its roll-out: from then on hosts take it.
///
/// # Errors
/// If the store does not take it, or somebody else has written a head.
pub fn publish(
    site: &mut Site,
    snapshot: &Snapshot,
    (head, text): (&Head, &[u8]),
    (open, signer): (u32, &Signer),
) -> Result<(), Error> {
    let rollout = signer.sign(&rollout(head, open, None, snapshot))?;
    let record = record(snapshot, head.manifest, open);
    site.publish(snapshot, text, &rollout, &record)
}

/// Moves the roll-out of the head: opens stages, stops it, or lets it go on.
///
/// # Errors
/// If there is no head, and as [`publish`].
pub fn steer(
    site: &mut Site,
    snapshot: &Snapshot,
    open: u32,
    stopped: Option<String>,
    signer: &Signer,
) -> Result<(), Error> {
    let head = snapshot.head.as_ref().ok_or_else(nothing)?;
    let is_stopped = stopped.is_some();
    let rollout = rollout(&head.statement, open, stopped, snapshot);
    let mut record = record(snapshot, head.statement.manifest, open);
    if is_stopped {
        // The hosts that count stay those of the stage.
        record.live.clone_from(&snapshot.record.live);
        record.since = snapshot.record.since;
    }
    site.publish(snapshot, &head.bytes, &signer.sign(&rollout)?, &record)
}

/// Returns the error of a site that nothing was pushed to.
#[must_use]
pub fn nothing() -> Error {
    Error::Refused("nothing was pushed to this site yet: `dfw fleet push`".to_owned())
}

/// Removes what neither the last generations nor hosts need.
///
/// # Errors
/// If the store does not take it.
pub fn collect(site: &mut Site, snapshot: &Snapshot, head: &Digest) -> Result<usize, Error> {
    let mut known = BTreeMap::new();
    for digest in site.manifests()? {
        // What nobody who is trusted has signed is not kept.
        if let Ok(manifest) = site.manifest(&digest) {
            known.insert(digest, manifest);
        }
    }
    let named = snapshot
        .hosts
        .values()
        .flat_map(|host| [host.manifest, host.about]);
    let named: Vec<Digest> = named.flatten().chain([*head]).collect();
    let mut last: Vec<(u64, Digest)> = known
        .iter()
        .map(|(digest, manifest)| (manifest.generation, *digest))
        .collect();
    last.sort_unstable();
    let last: Vec<Digest> = last
        .into_iter()
        .rev()
        .take(GENERATIONS)
        .map(|(_, digest)| digest)
        .collect();
    known.retain(|digest, _| named.contains(digest) || last.contains(digest));
    site.collect(&known, head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::host::Host;

    fn host(name: &str, accepted: u64) -> Host {
        Host {
            name: name.parse().unwrap(),
            version: String::new(),
            at: 0,
            state: String::new(),
            reason: None,
            about: None,
            generation: None,
            manifest: None,
            accepted: Some(accepted),
            serial: Some(accepted + 1),
            is_stale: false,
            restored: 0,
            is_failing: false,
        }
    }

    #[test]
    fn numbers_are_above_all_that_are_known() {
        let mut snapshot = Snapshot {
            head: None,
            changed: 0,
            manifest: None,
            rollout: None,
            record: Record::default(),
            hosts: BTreeMap::new(),
            warnings: Vec::new(),
            revision: 1,
            now: 0,
        };
        let own = Numbers {
            generation: 5,
            serial: 9,
        };
        assert_eq!(
            next(&snapshot, own),
            Numbers {
                generation: 6,
                serial: 10
            }
        );
        for (name, accepted) in [("a", 7), ("b", 20), ("liar", 1 << 50)] {
            snapshot
                .hosts
                .insert(name.parse().unwrap(), host(name, accepted));
        }
        assert_eq!(
            next(&snapshot, own),
            Numbers {
                generation: 21,
                serial: 22
            }
        );
    }
}
