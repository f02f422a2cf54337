//! What the store says of this host: its status, which vanishes with a lease.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use etcd_client::{LeaseKeepAliveStream, LeaseKeeper};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::bundle::word::Word;
use crate::etcd::{Connection, Error, Layout};
use crate::fetch::cache::seconds;
use crate::fetch::site::jitter;
use crate::file::{self, Accept, Limit};

/// For how long a lease lives without being renewed, in seconds: longer than a host is cut off by rules that it takes back
/// after a minute, and then needs to connect again.
const LEASE: i64 = 120;
/// How often it is renewed.
const RENEW: Duration = Duration::from_secs(20);
/// How often a status is written though nothing changed: at least so often, and at most so much later. A lease alone
/// proves nothing, as each certificate of the authority may renew it (etcd 3.4).
const BEAT: (Duration, Duration) = (Duration::from_mins(4), Duration::from_mins(2));
/// How often it is tried to write a status that is changed by others meanwhile.
const TRIES: usize = 3;
/// The most bytes of what guard says.
const REPORT: u64 = 3 << 10;

/// The status of this host in the store.
pub(super) struct Presence {
    host: Word,
    boot: String,
    beat: u64,
    next_beat: Instant,
    next_renewal: Instant,
    /// What was written on this connection.
    written: Option<Value>,
    /// The revision of the store at which the status was last changed, if this connection knows it. A call on a
    /// connection that is lost may reach the store at any time later, and must not put an older status in place of a
    /// newer one, with a lease that nobody renews.
    changed: Option<i64>,
    lease: Option<(i64, (LeaseKeeper, LeaseKeepAliveStream))>,
}

impl Presence {
    pub(super) fn new(host: Word) -> Self {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Self {
            host,
            boot: boot.trim().to_owned(),
            beat: 0,
            next_beat: Instant::now(),
            next_renewal: Instant::now(),
            written: None,
            changed: None,
            lease: None,
        }
    }

    /// Forgets what a connection had.
    pub(super) fn disconnect(&mut self) {
        self.written = None;
        self.changed = None;
        self.lease = None;
    }

    /// Returns when something is to be done next.
    pub(super) fn next(&self) -> Instant {
        self.next_beat.min(self.next_renewal)
    }

    /// Renews the lease and writes the status, each if it is due.
    pub(super) fn keep(
        &mut self,
        runtime: &Runtime,
        connection: &mut Connection,
        (layout, report): (&Layout, &Path),
    ) -> Result<(), Error> {
        let now = Instant::now();
        if self.next_renewal <= now
            && let Some((_, renewal)) = &mut self.lease
            && !runtime.block_on(connection.renew(renewal))?
        {
            self.lease = None;
            self.written = None;
        }
        if self.next_renewal <= now {
            self.next_renewal = now + RENEW;
        }
        let guard = guard(report);
        if self.written.as_ref() == Some(&guard) && now < self.next_beat {
            return Ok(());
        }
        let lease = if let Some((lease, _)) = &self.lease {
            *lease
        } else {
            let lease = runtime.block_on(connection.lease(LEASE))?;
            let renewal = runtime.block_on(connection.renewal(lease))?;
            self.lease = Some((lease, renewal));
            lease
        };
        if self.next_beat <= now {
            self.beat = self.beat.saturating_add(1);
            self.next_beat = now + BEAT.0 + jitter(BEAT.1);
        }
        let status = json!({
            "format": "dfw/v1/host-status",
            "host": self.host,
            "dfw": env!("CARGO_PKG_VERSION"),
            "boot": self.boot,
            "beat": self.beat,
            "at": seconds(SystemTime::now()),
            "guard": guard,
        });
        let value = serde_json::to_vec(&status).unwrap_or_default();
        let key = layout.status(&self.host);
        runtime.block_on(self.write(connection, &key, (&value, lease)))?;
        self.written = Some(guard);
        Ok(())
    }

    /// Writes a status in place of the last one.
    async fn write(
        &mut self,
        connection: &mut Connection,
        key: &str,
        (value, lease): (&[u8], i64),
    ) -> Result<(), Error> {
        for _ in 0..TRIES {
            let changed = if let Some(changed) = self.changed {
                changed
            } else {
                let (found, _) = connection.get(&[key.to_owned()]).await?;
                let found = found.into_iter().flatten().next();
                found.map_or(0, |found| found.changed)
            };
            self.changed = connection
                .replace_leased((key, changed), value.to_vec(), lease)
                .await?;
            if self.changed.is_some() {
                return Ok(());
            }
        }
        let text = format!("another process writes {key} all the time");
        Err(Error::Other(connection.member().to_owned(), text))
    }
}

/// Reads what guard says of this host; `null` if it says nothing that can be read.
fn guard(path: &Path) -> Value {
    let bytes = file::read(path, Accept::Regular, Limit::of(REPORT));
    let report = bytes
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok());
    report.unwrap_or_default()
}
