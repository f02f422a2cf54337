//! The bundle of a site in etcd.

mod follow;
mod presence;

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

use crate::bundle::{Address, Digest, delta};
use crate::etcd::{Connection, Endpoint, Error, Identity, Layout, pieces};
use crate::file::Limit;

use super::failed;
use super::names::Names;
use super::site::{BLOBS, HEAD, Remote, Server, Wanted, Way, check_head};
use super::web::{NotFetched, Web};

pub(super) use follow::{Follower, fetch};

/// After how long of silence a probe asks no other member.
const SILENT: Duration = Duration::from_secs(12);

/// The members of a store, and a connection to one of them.
pub(super) struct Store {
    runtime: Runtime,
    identity: Identity,
    layout: Layout,
    endpoints: Vec<Endpoint>,
    /// Which member is asked: another one after each failure.
    at: usize,
    connection: Option<Connection>,
}

impl Store {
    /// Looks the members up. Hosts begin with different ones.
    pub(super) fn new(address: &Address, identity: Identity) -> Result<Self, String> {
        let endpoints = endpoints(address)?;
        let random = RandomState::new().hash_one(0_u8);
        let at = usize::try_from(random % 1_000).unwrap_or_default();
        Ok(Self {
            runtime: Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(failed)?,
            identity,
            layout: Layout::new(address.site()),
            endpoints,
            at,
            connection: None,
        })
    }

    /// Looks the members up again; what was known stays if that fails.
    fn look_up(&mut self, address: &Address) {
        if let Ok(endpoints) = endpoints(address) {
            self.endpoints = endpoints;
        }
    }

    fn endpoint(&self, at: usize) -> Option<&Endpoint> {
        self.endpoints.get(at % self.endpoints.len().max(1))
    }

    /// Returns a connection that no call was made on yet.
    fn open(&self, at: usize) -> Result<Connection, Error> {
        let none = || Error::Other("etcd".to_owned(), "no member".to_owned());
        let endpoint = self.endpoint(at).ok_or_else(none)?;
        self.runtime
            .block_on(Connection::open(endpoint, &self.identity))
    }

    /// Makes sure that there is a connection.
    fn connect(&mut self) -> Result<(), Error> {
        if self.connection.is_none() {
            self.connection = Some(self.open(self.at)?);
        }
        Ok(())
    }

    /// Drops the connection after a failure: the next one is to another member.
    fn disconnect(&mut self) {
        self.connection = None;
        self.at = self.at.wrapping_add(1);
    }

    /// Opens new connections to members, and reads the head on each.
    fn probe(&self, wanted: &Wanted) -> Result<Option<Way>, NotFetched> {
        let keys = [self.layout.head()];
        let mut failure = None;
        let began = Instant::now();
        for at in 0..self.endpoints.len().max(1) {
            // Guard waits for the answer, and silence is one.
            if failure.is_some() && began.elapsed() > SILENT {
                break;
            }
            // One member that is down says nothing about the way.
            let member = self.at.wrapping_add(at);
            let reached = (0..wanted.connections()).try_for_each(|_| {
                let mut connection = self.open(member).map_err(unreached)?;
                let found = self
                    .runtime
                    .block_on(connection.get(&keys))
                    .map_err(unreached)?;
                let head = found.0.into_iter().flatten().next();
                let none = || NotFetched::answered("the store has no head".to_owned());
                check_head(&head.ok_or_else(none)?.value)
            });
            match reached {
                Ok(()) => {
                    let endpoint = self.endpoint(member).filter(|_| wanted.asks_for_way());
                    return Ok(endpoint.and_then(|endpoint| Way::open(endpoint.address)));
                }
                // One member that answers shows that packets pass.
                Err(error) => match &failure {
                    Some(NotFetched { answered: true, .. }) => {}
                    _ => failure = Some(error),
                },
            }
        }
        Err(failure.unwrap_or_else(|| "no member".into()))
    }
}

fn unreached(error: Error) -> NotFetched {
    NotFetched {
        answered: error.is_answer(),
        ..failed(error).into()
    }
}

/// Looks up where the members of a store are.
pub(super) fn endpoints(address: &Address) -> Result<Vec<Endpoint>, String> {
    let names = Names::new()?;
    let mut endpoints = Vec::new();
    let mut failure = String::new();
    for member in address.members() {
        match names.addresses_of(&member.host) {
            Ok(addresses) => endpoints.extend(addresses.into_iter().map(|address| Endpoint {
                address: (address, member.port).into(),
                host: member.host.clone(),
            })),
            Err(error) => failure = error,
        }
    }
    if endpoints.is_empty() {
        Err(failure)
    } else {
        Ok(endpoints)
    }
}

/// A store that answers with the head of one moment, and the roll-out of the same.
struct Reading<'a> {
    runtime: &'a Runtime,
    layout: &'a Layout,
    connection: RefCell<&'a mut Connection>,
    rollout: RefCell<Option<Vec<u8>>>,
    /// The revision of the store when the head was read.
    revision: RefCell<i64>,
    /// A web server that has the large files, too.
    contents: Option<Server<'a>>,
}

/// Values by their keys, as far as they are there.
type Values = Vec<Option<Vec<u8>>>;

impl Reading<'_> {
    fn values(&self, keys: &[String]) -> Result<(Values, i64), NotFetched> {
        let mut connection = self.connection.borrow_mut();
        let (found, revision) = self
            .runtime
            .block_on(connection.get(keys))
            .map_err(failed)?;
        let values = found
            .into_iter()
            .map(|found| found.map(|found| found.value));
        Ok((values.collect(), revision))
    }

    fn value(&self, key: &str, most: u64) -> Result<Vec<u8>, NotFetched> {
        let (values, _) = self.values(&[key.to_owned()])?;
        let value = values.into_iter().flatten().next();
        let value = value.ok_or_else(|| format!("the store has no {key}"))?;
        if u64::try_from(value.len()).is_ok_and(|length| length <= most) {
            Ok(value)
        } else {
            Err(format!("{key} has more than {most} bytes").into())
        }
    }

    fn head(&self) -> Result<Vec<u8>, NotFetched> {
        let (mut values, revision) = self.values(&[self.layout.head(), self.layout.rollout()])?;
        *self.revision.borrow_mut() = revision;
        *self.rollout.borrow_mut() = values.pop().flatten();
        let head = values.pop().flatten().ok_or("the store has no head")?;
        Ok(head)
    }

    fn blob(&self, name: &str, digest: &Digest, size: u64) -> Result<Vec<u8>, NotFetched> {
        if let Some(server) = &self.contents
            && pieces(size) > 1
            && let Ok(bytes) = server.get(name, size)
        {
            return Ok(bytes);
        }
        let mut bytes = Vec::new();
        for number in 0..pieces(size) {
            let left = size.saturating_sub(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
            bytes.extend(self.value(&self.layout.piece(digest, number), left)?);
        }
        Ok(bytes)
    }
}

impl Remote for Reading<'_> {
    fn get(&self, name: &str, most: u64) -> Result<Vec<u8>, NotFetched> {
        let digest = name
            .strip_prefix(BLOBS)
            .and_then(|rest| rest.strip_prefix('/'));
        match digest.map(str::parse) {
            Some(Ok(digest)) => self.blob(name, &digest, most),
            _ if name == HEAD => self.head(),
            _ => self.value(&self.layout.at(name), most.min(Limit::MANIFEST.bytes())),
        }
    }

    fn rollout(&self) -> Option<Vec<u8>> {
        self.rollout.borrow().clone()
    }

    fn delta(&self, from: &Digest, to: &Digest) -> Option<Vec<u8>> {
        let most = u64::try_from(delta::LIMIT).ok()?;
        self.value(&self.layout.delta(from, to), most).ok()
    }
}

/// Returns the web server that has the large files, too.
fn contents<'a>(web: Option<&'a Web>, address: Option<&'a Address>) -> Option<Server<'a>> {
    let (web, address) = (web?, address?);
    Some(Server { web, address })
}
