//! A connection to one member.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use etcd_client::{
    Client, Compare, CompareOp, ConnectOptions, GetOptions, KeyValue, LeaseKeepAliveStream,
    LeaseKeeper, PutOptions, Txn, TxnOp, TxnOpResponse, WatchOptions, WatchStream,
};
use tokio::time::timeout;

use super::{Error, Identity, PATIENCE};

/// How often a connection is probed, and for how long an answer may be missing. etcd closes connections that are
/// probed each 5 s or more often (`--grpc-keepalive-min-time`).
const PROBE: (Duration, Duration) = (Duration::from_secs(6), Duration::from_secs(3));
/// The most values that are asked for at once, unless they are larger together than the 4 MiB of an answer.
const PAGE: i64 = 500;

/// Where a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The address.
    pub address: SocketAddr,
    /// The name or the address that its certificate has.
    pub host: String,
}

/// A connection to a member.
pub struct Connection {
    client: Client,
    member: String,
}

/// A value, and when it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Vec<u8>,
    /// The revision of the last change of this key.
    pub changed: i64,
    /// Whether the key vanishes with a lease.
    pub is_leased: bool,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Connection({})", self.member)
    }
}

impl Connection {
    /// Prepares a connection, which the first call opens.
    ///
    /// # Errors
    /// If the certificate is no certificate.
    pub async fn open(endpoint: &Endpoint, identity: &Identity) -> Result<Self, Error> {
        let member = endpoint.address.to_string();
        let options = ConnectOptions::new()
            .with_tls(identity.tls(&endpoint.host))
            .with_connect_timeout(PATIENCE)
            .with_keep_alive(PROBE.0, PROBE.1)
            .with_keep_alive_while_idle(true)
            .with_require_leader(true);
        let url = format!("https://{}", endpoint.address);
        let client = within(&member, Client::connect([url], Some(options))).await?;
        Ok(Self { client, member })
    }

    /// Returns the address of the member.
    #[must_use]
    pub fn member(&self) -> &str {
        &self.member
    }

    /// Returns the client, for calls that only one caller needs.
    pub fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// Awaits a call of the [client](Self::client), for a bounded time.
    ///
    /// # Errors
    /// See [`enum@Error`].
    pub async fn call<T>(
        member: &str,
        call: impl Future<Output = Result<T, etcd_client::Error>>,
    ) -> Result<T, Error> {
        within(member, call).await
    }

    /// Returns values by their keys, all as they are at one moment, and the revision of the store.
    ///
    /// # Errors
    /// See [`enum@Error`].
    pub async fn get(&mut self, keys: &[String]) -> Result<(Vec<Option<Found>>, i64), Error> {
        let gets: Vec<TxnOp> = keys
            .iter()
            .map(|key| TxnOp::get(key.as_str(), None))
            .collect();
        let answer = within(&self.member, self.client.txn(Txn::new().and_then(gets))).await?;
        let revision = answer
            .header()
            .map_or(0, etcd_client::ResponseHeader::revision);
        let found = answer
            .op_responses()
            .into_iter()
            .map(|answer| match answer {
                TxnOpResponse::Get(answer) => answer.kvs().first().map(found),
                _ => None,
            });
        Ok((found.collect(), revision))
    }

    /// Returns all values whose keys begin like this, or only their keys if `most` is `None`. Of a value that has more
    /// than `most` bytes it returns as many and one, of any content: who wrote it must not keep others from being read.
    ///
    /// # Errors
    /// See [`enum@Error`].
    pub async fn list(&mut self, prefix: &str, most: Option<usize>) -> Result<Vec<Found>, Error> {
        let end = end_of(prefix);
        let (mut all, mut from) = (Vec::new(), prefix.as_bytes().to_vec());
        let (mut revision, mut page) = (0, PAGE);
        loop {
            // Halved down to a value that is too large alone, of which only the key is asked for.
            let is_value = most.filter(|_| page > 0);
            let mut options = GetOptions::new()
                .with_range(end.clone())
                .with_limit(page.max(1))
                .with_revision(revision);
            if is_value.is_none() {
                options = options.with_keys_only();
            }
            let call = self.client.get(from.clone(), Some(options));
            let answer = match within(&self.member, call).await {
                Err(Error::TooLarge(_)) if page > 0 => {
                    page /= 2;
                    continue;
                }
                answer => answer?,
            };
            if revision == 0 {
                revision = answer
                    .header()
                    .map_or(0, etcd_client::ResponseHeader::revision);
            }
            all.extend(answer.kvs().iter().map(|value| {
                let mut found = found(value);
                if let Some(most) = most {
                    let length = if is_value.is_some() {
                        found.value.len()
                    } else {
                        usize::MAX
                    };
                    found.value.resize(length.min(most.saturating_add(1)), 0);
                    found.value.shrink_to_fit();
                }
                found
            }));
            let last = answer.kvs().last().filter(|_| answer.more());
            let Some(last) = last else {
                return Ok(all);
            };
            if last.key() < from.as_slice() {
                let text = "its answer does not go on after the one before".to_owned();
                return Err(Error::Other(self.member.clone(), text));
            }
            from = last.key().to_vec();
            from.push(0);
            page = (page * 2).clamp(1, PAGE);
        }
    }

    /// Writes a value that never changes, if it is not there; returns whether it was written.
    ///
    /// # Errors
    /// See [`enum@Error`].
    pub async fn create(&mut self, key: &str, value: Vec<u8>) -> Result<bool, Error> {
        let txn = Txn::new()
            .when([Compare::version(key, CompareOp::Equal, 0)])
            .and_then([TxnOp::put(key, value, None)]);
        let answer = within(&self.member, self.client.txn(txn)).await?;
        Ok(answer.succeeded())
    }

    /// Writes values in one transaction if a key was last changed at this revision, or never if that is 0; returns
    /// whether they were written.
    ///
    /// # Errors
    /// See [`enum@Error`].
    pub async fn replace(
        &mut self,
        (key, changed): (&str, i64),
        values: &[(String, Option<Vec<u8>>)],
    ) -> Result<bool, Error> {
        let operations = values.iter().map(|(key, value)| match value {
            Some(value) => TxnOp::put(key.as_str(), value.clone(), None),
            None => TxnOp::delete(key.as_str(), None),
        });
        let txn = Txn::new()
            .when([Compare::mod_revision(key, CompareOp::Equal, changed)])
            .and_then(operations.collect::<Vec<_>>());
        let answer = within(&self.member, self.client.txn(txn)).await?;
        Ok(answer.succeeded())
    }

    /// Writes a value that vanishes with a lease if its key was last changed at this revision, or never if that is 0;
    /// returns the revision of the change, or `None` if it was not written.
    ///
    /// # Errors
    /// See [`enum@Error`].
    pub async fn replace_leased(
        &mut self,
        (key, changed): (&str, i64),
        value: Vec<u8>,
        lease: i64,
    ) -> Result<Option<i64>, Error> {
        let options = PutOptions::new().with_lease(lease);
        let txn = Txn::new()
            .when([Compare::mod_revision(key, CompareOp::Equal, changed)])
            .and_then([TxnOp::put(key, value, Some(options))]);
        let answer = within(&self.member, self.client.txn(txn)).await?;
        let revision = answer
            .header()
            .map_or(0, etcd_client::ResponseHeader::revision);
        Ok(answer.succeeded().then_some(revision))
    }

    /// Creates a lease of so many seconds; returns its number.
    ///
    /// # Errors
    /// See [`enum@Error`].
    pub async fn lease(&mut self, seconds: i64) -> Result<i64, Error> {
        Ok(within(&self.member, self.client.lease_grant(seconds, None))
            .await?
            .id())
    }

    /// Opens a stream that renews a lease.
    ///
    /// # Errors
    /// See [`enum@Error`].
    pub async fn renewal(
        &mut self,
        lease: i64,
    ) -> Result<(LeaseKeeper, LeaseKeepAliveStream), Error> {
        within(&self.member, self.client.lease_keep_alive(lease)).await
    }

    /// Renews a lease; returns whether it is still there.
    ///
    /// # Errors
    /// See [`enum@Error`].
    pub async fn renew(
        &self,
        (keeper, stream): &mut (LeaseKeeper, LeaseKeepAliveStream),
    ) -> Result<bool, Error> {
        within(&self.member, keeper.keep_alive()).await?;
        let answer = within(&self.member, stream.message()).await?;
        // A lease that is lost is renewed without an error, for no time.
        Ok(answer.is_some_and(|answer| answer.ttl() > 0))
    }

    /// Watches the keys that begin like this, or the key alone, from a revision on. Returns `None` if the store does not
    /// have that revision any more, or not yet: then it was restored from an older copy, or compacted.
    ///
    /// # Errors
    /// See [`enum@Error`].
    pub async fn watch(
        &mut self,
        key: &str,
        is_prefix: bool,
        revision: i64,
    ) -> Result<Option<WatchStream>, Error> {
        let mut options = WatchOptions::new()
            .with_start_revision(revision)
            .with_progress_notify();
        if is_prefix {
            options = options.with_range(end_of(key));
        }
        let mut stream = within(&self.member, self.client.watch(key, Some(options))).await?;
        let created = within(&self.member, stream.message()).await?;
        let created = created.filter(|created| created.created() && !created.canceled());
        let now = created.and_then(|created| Some(created.header()?.revision()));
        // A watch on a revision that is not there yet hears of nothing until it is.
        Ok(now.filter(|now| *now + 1 >= revision).map(|_| stream))
    }

    /// Returns the error of a call on a stream of this connection.
    #[must_use]
    pub fn error(&self, error: &etcd_client::Error) -> Error {
        Error::of(&self.member, error)
    }
}

async fn within<T>(
    member: &str,
    call: impl Future<Output = Result<T, etcd_client::Error>>,
) -> Result<T, Error> {
    match timeout(PATIENCE, call).await {
        Ok(answer) => answer.map_err(|error| Error::of(member, &error)),
        Err(_) => Err(Error::Silent(member.to_owned())),
    }
}

fn found(found: &KeyValue) -> Found {
    Found {
        key: String::from_utf8_lossy(found.key()).into_owned(),
        value: found.value().to_vec(),
        changed: found.mod_revision(),
        is_leased: found.lease() != 0,
    }
}

/// Returns the first key behind all that begin like this. Keys are plain text, so the last byte can grow.
fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last = last.saturating_add(1);
    }
    end
}
