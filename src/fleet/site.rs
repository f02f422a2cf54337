//! The keys of a site in the store.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::runtime::{Builder, Runtime};
use tokio::time::{sleep, timeout};

use crate::bundle::word::Word;
use crate::bundle::{self, Address, Digest, Head, Keys, Manifest, Rollout, Signed, Statement};
use crate::etcd::{self, Connection, Endpoint, Identity, Layout, PIECE, pieces};

use super::Error;
use super::host::{Host, SIZE};
use super::record::{RECORD, Record};

/// How often a call is tried, each time with another member.
const TRIES: usize = 3;
/// How long a call is tried while the members elect a leader, and how long it waits in between. etcd begins an election
/// when it has heard nothing of the leader for a second (`--election-timeout`), and a busy machine needs several.
const ELECTION: (Duration, Duration) = (Duration::from_secs(10), Duration::from_millis(250));

/// A site, by a connection to one member at a time.
pub struct Site {
    runtime: Runtime,
    identity: Identity,
    keys: Keys,
    name: Word,
    layout: Layout,
    endpoints: Vec<Endpoint>,
    at: usize,
    connection: Option<Connection>,
}

/// A signed text of the store.
#[derive(Debug, Clone)]
pub struct Text<T> {
    /// What it says.
    pub statement: T,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// What the store says at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// The head, if a trusted key signed it.
    pub head: Option<Text<Head>>,
    /// The revision of the last change of the head; 0 if there is none.
    pub changed: i64,
    /// The manifest of the head.
    pub manifest: Option<Manifest>,
    /// The roll-out of the head.
    pub rollout: Option<Rollout>,
    /// What is remembered.
    pub record: Record,
    /// What the hosts say.
    pub hosts: BTreeMap<Word, Host>,
    /// What is wrong.
    pub warnings: Vec<String>,
    /// The revision of the store.
    pub revision: i64,
    /// The time in seconds since 1970.
    pub now: u64,
}

/// Returns the time in seconds since 1970.
#[must_use]
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

impl std::fmt::Debug for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Site({})", self.name)
    }
}

impl Site {
    /// Prepares connections to the members of a store; texts must be signed by one of these keys.
    ///
    /// # Errors
    /// [`Error::File`] if there can be no connection.
    pub fn new(
        address: &Address,
        endpoints: Vec<Endpoint>,
        identity: Identity,
        keys: Keys,
    ) -> Result<Self, Error> {
        let runtime = Builder::new_current_thread().enable_all().build();
        Ok(Self {
            runtime: runtime.map_err(|error| Error::File(error.to_string()))?,
            identity,
            keys,
            name: address.site().clone(),
            layout: Layout::new(address.site()),
            endpoints,
            at: 0,
            connection: None,
        })
    }

    /// Returns the name of the site.
    #[must_use]
    pub fn name(&self) -> &Word {
        &self.name
    }

    /// Returns the keys of the site.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Returns the members.
    #[must_use]
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// Makes a call to one member, which must be named: some calls are about a member.
    ///
    /// # Errors
    /// See [`etcd::Error`].
    pub fn call_member<T>(
        &self,
        endpoint: &Endpoint,
        work: impl AsyncFnOnce(&mut Connection) -> Result<T, etcd::Error>,
    ) -> Result<T, etcd::Error> {
        self.runtime.block_on(async {
            let mut connection = Connection::open(endpoint, &self.identity).await?;
            work(&mut connection).await
        })
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "a closure is made where it is passed"
    )]
    /// Makes a call to any member, and to another one if that fails; for some seconds, if they elect a leader.
    ///
    /// # Errors
    /// The last error; see [`etcd::Error`].
    pub fn call<T>(
        &mut self,
        work: impl AsyncFn(&mut Connection, &Layout) -> Result<T, etcd::Error>,
    ) -> Result<T, Error> {
        let mut last = etcd::Error::Other(self.name.to_string(), "no member".to_owned());
        let begun = Instant::now();
        let (mut tries, mut are_electing) = (0, false);
        while tries < TRIES.max(self.endpoints.len())
            || are_electing && begun.elapsed() < ELECTION.0
        {
            tries += 1;
            let done = self.runtime.block_on(async {
                let connection = match &mut self.connection {
                    Some(connection) => connection,
                    none => {
                        let at = self.at % self.endpoints.len().max(1);
                        let endpoint = self.endpoints.get(at).ok_or_else(|| last.clone())?;
                        none.insert(Connection::open(endpoint, &self.identity).await?)
                    }
                };
                work(connection, &self.layout).await
            });
            match done {
                Ok(done) => return Ok(done),
                // Another member says the same.
                Err(error @ (etcd::Error::Denied(_) | etcd::Error::Full)) => {
                    return Err(error.into());
                }
                Err(error) => last = error,
            }
            if last.is_election() {
                are_electing = true;
                self.runtime.block_on(async { sleep(ELECTION.1).await });
            }
            self.connection = None;
            self.at = self.at.wrapping_add(1);
        }
        Err(last.into())
    }

    /// Reads what the store says now.
    ///
    /// # Errors
    /// If the store does not answer.
    pub fn read(&mut self) -> Result<Snapshot, Error> {
        let (found, hosts, revision) = self.call(async |connection, layout| {
            let keys = [layout.head(), layout.rollout(), layout.at(RECORD)];
            let (found, revision) = connection.get(&keys).await?;
            let hosts = connection.list(&layout.hosts(), Some(SIZE)).await?;
            Ok((found, hosts, revision))
        })?;
        let mut found = found.into_iter();
        let (head, rollout, record) = (
            found.next().flatten(),
            found.next().flatten(),
            found.next().flatten(),
        );
        let mut warnings = Vec::new();
        let changed = head.as_ref().map_or(0, |head| head.changed);
        let head = head.and_then(|found| self.text::<Head>(found.value, &mut warnings));
        let head = head.filter(|head| {
            let checked = head.statement.check_site(&self.name);
            checked
                .map_err(|error| warnings.push(error.to_string()))
                .is_ok()
        });
        let rollout = rollout.and_then(|found| self.text::<Rollout>(found.value, &mut warnings));
        let rollout = rollout.map(|rollout| rollout.statement);
        let rollout = rollout.zip(head.as_ref()).and_then(|(rollout, head)| {
            rollout
                .check_head(&head.statement)
                .is_ok()
                .then_some(rollout)
        });
        let manifest = match &head {
            Some(head) => self
                .manifest(&head.statement.manifest)
                .map_err(|error| warnings.push(error.to_string()))
                .ok(),
            None => None,
        };
        let prefix = self.layout.hosts();
        let hosts = hosts.iter().filter_map(|found| Host::read(found, &prefix));
        Ok(Snapshot {
            changed,
            manifest,
            rollout,
            record: Record::read(record.as_ref().map(|found| found.value.as_slice())),
            hosts: hosts.map(|host| (host.name.clone(), host)).collect(),
            warnings,
            revision,
            now: now(),
            head,
        })
    }

    /// Reads a signed text, or says what is wrong with it.
    fn text<T: Statement>(&self, bytes: Vec<u8>, warnings: &mut Vec<String>) -> Option<Text<T>> {
        match self.verify::<T>(&bytes) {
            Ok(statement) => Some(Text { statement, bytes }),
            Err(error) => {
                warnings.push(error.to_string());
                None
            }
        }
    }

    fn verify<T: Statement>(&self, bytes: &[u8]) -> Result<T, bundle::Error> {
        let signed = Signed::split::<T>(bytes)?;
        Ok(signed.verify::<T>(&self.keys)?.statement)
    }

    /// Reads a manifest of the store.
    ///
    /// # Errors
    /// If it is not there, or nobody who is trusted signed it.
    pub fn manifest(&mut self, digest: &Digest) -> Result<Manifest, Error> {
        let (found, _) =
            self.call(async |connection, layout| connection.get(&[layout.manifest(digest)]).await)?;
        let found = found.into_iter().flatten().next();
        let missing = || Error::Refused(format!("the store has no manifest {digest}"));
        let bytes = found.ok_or_else(missing)?.value;
        let verified = Signed::split::<Manifest>(&bytes)?.verify::<Manifest>(&self.keys)?;
        if verified.digest == *digest {
            Ok(verified.statement)
        } else {
            Err(bundle::Error::Mixed.into())
        }
    }

    /// Returns the digests of all manifests in the store.
    ///
    /// # Errors
    /// If the store does not answer.
    pub fn manifests(&mut self) -> Result<BTreeSet<Digest>, Error> {
        let prefix = self.layout.at("manifests/");
        let found = self.call(async |connection, _| connection.list(&prefix, None).await)?;
        let names = found
            .iter()
            .filter_map(|found| found.key.strip_prefix(&prefix)?.parse().ok());
        Ok(names.collect())
    }

    /// Writes a manifest, if it is not there.
    ///
    /// # Errors
    /// If the store does not take it.
    pub fn write_manifest(&mut self, digest: &Digest, bytes: &[u8]) -> Result<(), Error> {
        self.call(async |connection, layout| {
            connection
                .create(&layout.manifest(digest), bytes.to_vec())
                .await
        })?;
        Ok(())
    }

    /// Writes the pieces of a file that are not there; returns how many bytes were written.
    ///
    /// # Errors
    /// If the store does not take them.
    pub fn write_blob(&mut self, digest: &Digest, contents: &[u8]) -> Result<usize, Error> {
        let prefix = self.layout.at(&format!("blobs/{digest}/"));
        let known = self.call(async |connection, _| connection.list(&prefix, None).await)?;
        let known: BTreeSet<String> = known.into_iter().map(|found| found.key).collect();
        let mut written = 0;
        let size = u64::try_from(contents.len()).unwrap_or(u64::MAX);
        for number in 0..pieces(size) {
            let piece = contents.chunks(PIECE).nth(number).unwrap_or_default();
            let key = self.layout.piece(digest, number);
            if known.contains(&key) {
                continue;
            }
            self.call(async |connection, _| connection.create(&key, piece.to_vec()).await)?;
            written += piece.len();
        }
        Ok(written)
    }

    /// Reads the contents of a file of the store; `None` if they are not complete.
    ///
    /// # Errors
    /// If the store does not answer.
    pub fn blob(&mut self, digest: &Digest, size: u64) -> Result<Option<Vec<u8>>, Error> {
        let mut contents = Vec::new();
        for number in 0..pieces(size) {
            let key = self.layout.piece(digest, number);
            let (found, _) =
                self.call(async |connection, _| connection.get(std::slice::from_ref(&key)).await)?;
            let Some(found) = found.into_iter().flatten().next() else {
                return Ok(None);
            };
            contents.extend(found.value);
        }
        Ok((Digest::of(&contents) == *digest).then_some(contents))
    }

    /// Writes a delta.
    ///
    /// # Errors
    /// If the store does not take it.
    pub fn write_delta(&mut self, from: &Digest, to: &Digest, delta: &[u8]) -> Result<(), Error> {
        self.call(async |connection, layout| {
            connection
                .create(&layout.delta(from, to), delta.to_vec())
                .await
        })?;
        Ok(())
    }

    /// Writes a head, a roll-out and what is remembered at once, if nobody has written a head since the snapshot.
    ///
    /// # Errors
    /// [`Error::Overtaken`] if somebody has, and if the store does not take them.
    pub fn publish(
        &mut self,
        snapshot: &Snapshot,
        head: &[u8],
        rollout: &[u8],
        record: &Record,
    ) -> Result<(), Error> {
        let (own, moved) = (self.layout.head(), self.layout.rollout());
        let values = [
            (own.clone(), Some(head.to_vec())),
            (moved.clone(), Some(rollout.to_vec())),
            (self.layout.at(RECORD), Some(record.write())),
        ];
        let changed = snapshot.changed;
        let is_done = self.call(async |connection, _| {
            if connection.replace((&own, changed), &values).await? {
                return Ok(true);
            }
            // An attempt before may have succeeded without an answer.
            let (found, _) = connection.get(&[own.clone(), moved.clone()]).await?;
            let found: Vec<_> = found
                .iter()
                .flatten()
                .map(|found| found.value.as_slice())
                .collect();
            Ok(found == [head, rollout])
        })?;
        if is_done {
            Ok(())
        } else {
            Err(Error::Overtaken)
        }
    }

    /// Removes manifests, files and deltas that none of these manifests needs; returns how many keys.
    ///
    /// # Errors
    /// If the store does not take it.
    pub fn collect(
        &mut self,
        keep: &BTreeMap<Digest, Manifest>,
        head: &Digest,
    ) -> Result<usize, Error> {
        let blobs: BTreeSet<Digest> = keep
            .values()
            .flat_map(|manifest| &manifest.files)
            .map(|file| file.sha256)
            .collect();
        let current = keep.get(head).map(|manifest| &manifest.files);
        let current: BTreeSet<Digest> = current
            .into_iter()
            .flatten()
            .map(|file| file.sha256)
            .collect();
        let mut removed = 0;
        for folder in ["manifests/", "blobs/", "deltas/"] {
            let prefix = self.layout.at(folder);
            let found = self.call(async |connection, _| connection.list(&prefix, None).await)?;
            for found in found {
                let mut parts = found
                    .key
                    .strip_prefix(&prefix)
                    .unwrap_or_default()
                    .split('/');
                let first = parts.next().and_then(|part| part.parse().ok());
                let is_kept = match folder {
                    "manifests/" => first.is_some_and(|digest| keep.contains_key(&digest)),
                    "blobs/" => first.is_some_and(|digest| blobs.contains(&digest)),
                    _ => {
                        let to = parts.next().and_then(|part| part.parse().ok());
                        to.is_some_and(|digest| current.contains(&digest))
                    }
                };
                if !is_kept {
                    // A call that comes late must not remove what is there again.
                    let key = (found.key.as_str(), found.changed);
                    let nothing = [(found.key.clone(), None)];
                    self.call(async |connection, _| connection.replace(key, &nothing).await)?;
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }

    /// Waits until a host or the head changes, at most for so long.
    ///
    /// # Errors
    /// If the store does not answer.
    pub fn wait(&mut self, snapshot: &Snapshot, most: Duration) -> Result<(), Error> {
        let revision = snapshot.revision + 1;
        self.call(async |connection, layout| {
            // The pieces of files lie between, and do not change now.
            let watched = connection.watch(&layout.at("h"), true, revision).await?;
            if let Some(mut stream) = watched {
                let change = async {
                    loop {
                        match stream.message().await {
                            Ok(Some(message))
                                if message.events().is_empty() && !message.canceled() => {}
                            Ok(_) => return Ok(()),
                            Err(error) => match connection.error(&error) {
                                // Changes that are too large to be received are some, too.
                                etcd::Error::TooLarge(_) => return Ok(()),
                                error => return Err(error),
                            },
                        }
                    }
                };
                if let Ok(Err(error)) = timeout(most, change).await {
                    return Err(error);
                }
            }
            Ok(())
        })
    }
}
