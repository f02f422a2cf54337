//! The bundle of a site, from a web server or a store into the cache: its files under their digests, and the head last.
//!
//! Nothing here is verified but what bounds the work: who uses the cache checks signatures, numbers and digests. What
//! is asked for, and what is answered, are files of the one and of the other side:
//!
//! | file | by | contents |
//! |---|---|---|
//! | `site.json` beside the requests | guard | [`Wanted`] |
//! | `site-report.json` beside the requests | guard | what a store is told of this host |
//! | `site/` in the cache | fetch | the bundle |
//! | `site-status.json` in the cache | fetch | [`SiteStatus`] |
//! | `site-probe.json` in the cache | fetch | [`Probed`] |

use std::collections::BTreeSet;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::bundle::word::Word;
use crate::bundle::{
    Address, Digest, Entry, Error, Head, Manifest, Signed, Statement, Verified, delta,
};
use crate::file::{self, Accept, Limit};

use super::cache::seconds;
use super::failed;
use super::web::{NotFetched, Web};

/// What guard asks for, beside the requests.
pub const WANTED: &str = "site.json";
/// What guard says of this host, beside the requests.
pub const REPORT: &str = "site-report.json";
/// The folder of the bundle in the cache.
pub const FOLDER: &str = "site";
/// What became of the last attempt.
pub const STATUS: &str = "site-status.json";
/// The answer to the last probe.
pub const PROBED: &str = "site-probe.json";

/// The roll-out in the folder of the bundle.
pub const ROLLOUT: &str = "rollout";

pub(super) const HEAD: &str = "head";
const MANIFESTS: &str = "manifests";
pub(super) const BLOBS: &str = "blobs";

/// How often the head is fetched, and how much later at most: not all hosts at once.
const EVERY: (Duration, Duration) = (Duration::from_mins(1), Duration::from_secs(30));
/// The longest wait that a server may ask for.
const LONGEST: Duration = Duration::from_hours(1);
/// How many new connections a probe opens: what is in force may have a rule that denies some.
pub const CONNECTIONS: u32 = 3;
/// The longest file of these here, in bytes.
const SMALL: u64 = 1 << 20;
/// The most names in a folder of the cache that are looked at.
const NAMES: usize = 20_000;
/// How long the connection may take that shows the way to the server.
const SOON: Duration = Duration::from_secs(5);

/// What is to be fetched, and whether the server is to be probed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Where the bundle is.
    pub address: Address,
    /// A web server that has its large files, too, if it is in a store.
    pub contents: Option<Address>,
    /// The host, which decides which files it needs.
    pub host: Option<Word>,
    /// The manifests whose files stay beside those of the head; `None` if all files stay.
    pub keep: Option<BTreeSet<Digest>>,
    /// A probe is asked for by another text than before.
    pub probe: Option<String>,
    /// How many new connections a probe opens, from 1 to [`CONNECTIONS`].
    #[serde(default = "most_connections")]
    pub connections: u32,
}

/// What became of the attempts to fetch the bundle.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SiteStatus {
    /// When a head was fetched, with all files that it needs: seconds since 1970.
    pub fetched: Option<u64>,
    /// Why the last attempt failed.
    pub failure: Option<String>,
    /// How many attempts failed.
    pub failures: u64,
}

/// The answer to a probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probed {
    /// The text that asked for it.
    pub probe: String,
    /// Why the server cannot be reached; `None` if each connection has brought a head.
    pub failure: Option<String>,
    /// Whether something came from the server although it failed: a refusal, or anything but a head.
    #[serde(default)]
    pub answered: bool,
    /// A connection to the server, if one was asked for.
    #[serde(default)]
    pub way: Option<Way>,
}

/// A TCP connection that this host has opened to the server of the site, or to the proxy before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// The address of this host.
    pub host: SocketAddr,
    /// That of the server.
    pub server: SocketAddr,
}

impl Way {
    /// Opens a connection and closes it again; `None` if that fails.
    pub(super) fn open(server: SocketAddr) -> Option<Self> {
        let connection = TcpStream::connect_timeout(&server, SOON).ok()?;
        let host = connection.local_addr().ok()?;
        Some(Self { host, server })
    }
}

fn most_connections() -> u32 {
    CONNECTIONS
}

impl Wanted {
    /// Returns how many new connections a probe opens.
    pub(super) fn connections(&self) -> u32 {
        self.connections.clamp(1, CONNECTIONS)
    }

    /// Returns whether a probe also says by which way it went: before the rules change, not in a trial.
    pub(super) fn asks_for_way(&self) -> bool {
        self.connections() == 1
    }

    /// Reads what is wanted; `None` if nothing is.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        match file::read(path, Accept::Regular, Limit::of(SMALL)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes it, if it is another one than is there.
    ///
    /// # Errors
    /// The error of the file system.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        if Self::read(path).is_ok_and(|known| known.as_ref() == Some(self)) {
            return Ok(());
        }
        file::replace(path, 0o644, &serde_json::to_vec(self)?)
    }
}

/// Reads what the fetcher says; the default if there is nothing, or nothing that can be read.
#[must_use]
pub fn status(cache: &Path) -> SiteStatus {
    read(&cache.join(STATUS)).unwrap_or_default()
}

/// Reads the answer to the last probe.
#[must_use]
pub fn probed(cache: &Path) -> Option<Probed> {
    read(&cache.join(PROBED))
}

fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let bytes = file::read(path, Accept::InPlace, Limit::of(SMALL)).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Makes the folders, which a fetcher cannot after it has given up its rights.
pub(super) fn prepare(cache: &Path) -> io::Result<()> {
    for folder in [MANIFESTS, BLOBS] {
        fs::create_dir_all(cache.join(FOLDER).join(folder))?;
    }
    Ok(())
}

/// Where the files of a bundle are.
pub(super) trait Remote {
    /// Returns a file of the bundle, which has at most so many bytes.
    fn get(&self, name: &str, most: u64) -> Result<Vec<u8>, NotFetched>;

    /// Returns the roll-out of the head that was returned last; `None` if there is none.
    fn rollout(&self) -> Option<Vec<u8>> {
        None
    }

    /// Returns the delta from one file to another, if there is one.
    fn delta(&self, _: &Digest, _: &Digest) -> Option<Vec<u8>> {
        None
    }
}

/// A bundle on a web server.
pub(super) struct Server<'a> {
    pub(super) web: &'a Web,
    pub(super) address: &'a Address,
}

impl Remote for Server<'_> {
    fn get(&self, name: &str, most: u64) -> Result<Vec<u8>, NotFetched> {
        self.web.get(&self.address.of(name), most)
    }
}

/// A cache, and what is to be fetched into it.
#[derive(Debug)]
pub struct Site<'a> {
    /// The cache.
    pub cache: &'a Path,
    /// What is wanted.
    pub wanted: &'a Wanted,
}

impl Site<'_> {
    /// Fetches the head, and whatever it needs that is not there; returns its generation and whether the head is a new
    /// one, and after how long the next attempt may be.
    pub fn fetch(&self) -> (Result<(u64, bool), String>, Duration) {
        let address = &self.wanted.address;
        let done = Web::of_host().and_then(|web| self.fetch_from(&Server { web: &web, address }));
        self.note(done)
    }

    /// Writes what became of an attempt; returns it, and after how long the next one may be.
    pub(super) fn note(
        &self,
        done: Result<(u64, bool), NotFetched>,
    ) -> (Result<(u64, bool), String>, Duration) {
        let mut status = status(self.cache);
        let wait = match &done {
            Ok(_) => {
                status.fetched = Some(seconds(SystemTime::now()));
                status.failure = None;
                EVERY.0 + jitter(EVERY.1)
            }
            Err(NotFetched { reason, wait, .. }) => {
                status.failure = Some(reason.clone());
                status.failures = status.failures.saturating_add(1);
                wait.unwrap_or(EVERY.0).clamp(EVERY.0, LONGEST) + jitter(EVERY.1)
            }
        };
        let done = done.map_err(|failure| failure.reason);
        let written = write(&self.cache.join(STATUS), &status);
        (done.and_then(|done| written.map(|()| done)), wait)
    }

    /// Opens new connections to the server, and writes whether each brought a head.
    ///
    /// # Errors
    /// The answer cannot be written.
    pub fn probe(&self, probe: &str) -> Result<(), String> {
        let head = self.wanted.address.of(HEAD);
        let reached = Web::of_host().and_then(|web| {
            (0..self.wanted.connections())
                .try_for_each(|_| check_head(&web.get_soon(&head, Limit::HEAD.bytes())?))?;
            let servers = if self.wanted.asks_for_way() {
                web.servers(&head)
            } else {
                Vec::new()
            };
            Ok(servers.into_iter().find_map(Way::open))
        });
        self.answer(probe, reached)
    }

    /// Writes the answer to a probe.
    pub(super) fn answer(
        &self,
        probe: &str,
        reached: Result<Option<Way>, NotFetched>,
    ) -> Result<(), String> {
        let (way, failure) = match reached {
            Ok(way) => (way, None),
            Err(failure) => (None, Some(failure)),
        };
        let answer = Probed {
            probe: probe.to_owned(),
            way,
            answered: failure.as_ref().is_some_and(|failure| failure.answered),
            failure: failure.map(|failure| failure.reason),
        };
        write(&self.cache.join(PROBED), &answer)
    }

    /// Fetches the head and what it needs; returns its generation, and whether the head or the roll-out is new.
    pub(super) fn fetch_from(&self, remote: &dyn Remote) -> Result<(u64, bool), NotFetched> {
        let folder = self.cache.join(FOLDER);
        let bytes = remote.get(HEAD, Limit::HEAD.bytes())?;
        let head = parse::<Head>(&bytes)?.statement;
        let rollout = remote.rollout();
        let most = Limit::HEAD.bytes();
        if let Some(rollout) = &rollout
            && u64::try_from(rollout.len()).is_ok_and(|length| length > most)
        {
            return Err(format!("the {ROLLOUT} has more than {most} bytes").into());
        }
        let path = folder.join(HEAD);
        let known = file::read(&path, Accept::InPlace, Limit::HEAD);
        let is_new = known.as_ref().map_or(true, |known| *known != bytes);
        let manifest = self.manifest(remote, &head.manifest, is_new)?;
        // Before anything is fetched: what attempts that failed have left would fill the disk otherwise.
        let former = known.ok().and_then(|known| parse::<Head>(&known).ok());
        let former = former.map(|former| former.statement.manifest);
        self.clean(former.into_iter().chain([head.manifest]));
        if let Ok(manifest) = &manifest {
            for entry in self.files(manifest) {
                self.blob(remote, &entry)?;
            }
        }
        // Before the head: who reads both finds a new head with its own roll-out.
        let has_moved = self.keep_rollout(rollout)?;
        if is_new {
            file::replace(&path, 0o644, &bytes).map_err(|error| unwritten(&error))?;
        }
        manifest.map_err(failed)?;
        if is_new {
            self.clean([head.manifest]);
        }
        Ok((head.generation, is_new || has_moved))
    }

    /// Writes the roll-out, or removes it if there is none; returns whether it is another one than before.
    fn keep_rollout(&self, rollout: Option<Vec<u8>>) -> Result<bool, NotFetched> {
        let path = self.cache.join(FOLDER).join(ROLLOUT);
        let known = file::read(&path, Accept::InPlace, Limit::HEAD).ok();
        if known == rollout {
            return Ok(false);
        }
        let written = match rollout {
            Some(bytes) => file::replace(&path, 0o644, &bytes),
            None => fs::remove_file(&path),
        };
        written.map_err(|error| unwritten(&error))?;
        Ok(true)
    }

    /// Returns the files of a manifest that this host needs.
    fn files(&self, manifest: &Manifest) -> Vec<Entry> {
        let host = self.wanted.host.as_ref();
        let groups = host.map_or_else(BTreeSet::new, |host| {
            manifest.groups_of(host).cloned().collect()
        });
        manifest.files_of(&groups).cloned().collect()
    }

    /// Returns the manifest with a digest, from the cache if guard has accepted it, or else from the server. Its signature
    /// is not part of the digest: one that is wrong must not stay. One that only a newer dfw understands is kept for
    /// guard, which says so.
    fn manifest(
        &self,
        remote: &dyn Remote,
        digest: &Digest,
        is_new: bool,
    ) -> Result<Result<Manifest, Error>, NotFetched> {
        let name = format!("{MANIFESTS}/{digest}");
        let path = self.cache.join(FOLDER).join(&name);
        let is_accepted = |keep: &BTreeSet<Digest>| keep.contains(digest);
        if !is_new
            && self.wanted.keep.as_ref().is_some_and(is_accepted)
            && let Some(known) = kept_manifest(&path, digest)
        {
            return Ok(Ok(known));
        }
        let bytes = remote.get(&name, Limit::MANIFEST.bytes())?;
        let read = Signed::split::<Manifest>(&bytes).and_then(|signed| signed.read());
        let manifest = match read {
            Ok(read) if read.digest == *digest => Ok(read.statement),
            Ok(_) => return Err(failed(Error::Mixed).into()),
            Err(error @ (Error::Unsupported(_) | Error::Newer(_))) => Err(error),
            Err(error) => return Err(failed(error).into()),
        };
        let known = file::read(&path, Accept::InPlace, Limit::MANIFEST);
        if known.map_or(true, |known| known != bytes) {
            file::replace(&path, 0o644, &bytes).map_err(|error| unwritten(&error))?;
        }
        Ok(manifest)
    }

    /// Fetches the contents of a file, if they are not there.
    fn blob(&self, remote: &dyn Remote, entry: &Entry) -> Result<(), NotFetched> {
        let name = format!("{BLOBS}/{}", entry.sha256);
        let path = self.cache.join(FOLDER).join(&name);
        let known = file::read(&path, Accept::InPlace, Limit::of(entry.size));
        if known.is_ok_and(|known| entry.check(&known).is_ok()) {
            return Ok(());
        }
        let bytes = match self.changed(remote, entry) {
            Some(bytes) => bytes,
            None => remote.get(&name, entry.size)?,
        };
        entry.check(&bytes).map_err(failed)?;
        Ok(file::replace(&path, 0o644, &bytes).map_err(|error| unwritten(&error))?)
    }

    /// Makes the contents of a file from those that it had before, if there is a delta that fits.
    fn changed(&self, remote: &dyn Remote, entry: &Entry) -> Option<Vec<u8>> {
        let folder = self.cache.join(FOLDER);
        self.wanted.keep.iter().flatten().find_map(|digest| {
            let path = folder.join(MANIFESTS).join(digest.to_string());
            let manifest = kept_manifest(&path, digest)?;
            let former = manifest
                .files
                .iter()
                .find(|former| former.name == entry.name)?;
            let path = folder.join(BLOBS).join(former.sha256.to_string());
            let old = file::read(&path, Accept::InPlace, Limit::of(former.size)).ok()?;
            let delta = remote.delta(&former.sha256, &entry.sha256)?;
            let new = delta::apply(&old, &delta, entry.size).ok()?;
            entry.check(&new).is_ok().then_some(new)
        })
    }

    /// Removes what neither these manifests nor those that guard names need. Other files of one that is being fetched
    /// stay: the next attempt needs them.
    fn clean(&self, manifests: impl IntoIterator<Item = Digest>) {
        let folder = self.cache.join(FOLDER);
        let Some(keep) = &self.wanted.keep else {
            return;
        };
        let kept: BTreeSet<Digest> = keep.iter().copied().chain(manifests).collect();
        let manifests: BTreeSet<String> = kept.iter().map(Digest::to_string).collect();
        let mut blobs = BTreeSet::new();
        for digest in &kept {
            let path = folder.join(MANIFESTS).join(digest.to_string());
            let manifest = kept_manifest(&path, digest);
            let entries = manifest.iter().flat_map(|manifest| self.files(manifest));
            blobs.extend(entries.map(|entry| entry.sha256.to_string()));
        }
        for (name, kept) in [(MANIFESTS, manifests), (BLOBS, blobs)] {
            let entries = fs::read_dir(folder.join(name))
                .into_iter()
                .flatten()
                .flatten();
            for entry in entries.take(NAMES) {
                let is_kept = entry
                    .file_name()
                    .to_str()
                    .is_some_and(|name| kept.contains(name));
                if !is_kept {
                    // It is tried again the next time.
                    let _ = fs::remove_file(entry.path());
                }
            }
        }
    }
}

/// Checks that these are the bytes of a head.
pub(super) fn check_head(bytes: &[u8]) -> Result<(), NotFetched> {
    let read = Signed::split::<Head>(bytes).map(drop);
    read.map_err(|error| NotFetched::answered(failed(error)))
}

/// Reads a manifest in the cache, if it is the one with this digest.
fn kept_manifest(path: &Path, digest: &Digest) -> Option<Manifest> {
    let bytes = file::read(path, Accept::InPlace, Limit::MANIFEST).ok()?;
    let known = parse::<Manifest>(&bytes).ok()?;
    (known.digest == *digest).then_some(known.statement)
}

/// Reads a signed text without checking who signed it.
fn parse<T: Statement>(bytes: &[u8]) -> Result<Verified<T>, NotFetched> {
    let read = Signed::split::<T>(bytes).and_then(|signed| signed.read());
    Ok(read.map_err(failed)?)
}

fn unwritten(error: &io::Error) -> String {
    format!("cannot write to the cache: {error}")
}

fn write(path: &Path, what: &impl Serialize) -> Result<(), String> {
    let bytes = serde_json::to_vec(what).map_err(failed)?;
    file::replace(path, 0o644, &bytes).map_err(|error| unwritten(&error))
}

/// Returns a random time below this.
pub(super) fn jitter(most: Duration) -> Duration {
    let random = RandomState::new().hash_one(0_u8);
    let most = u64::try_from(most.as_millis()).unwrap_or(u64::MAX).max(1);
    Duration::from_millis(random % most)
}

#[cfg(test)]
mod tests;
