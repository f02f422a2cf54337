//! Access to the kernel's nf_tables: reads rulesets and changes dfw's table atomically.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use thiserror::Error;

use crate::netlink::answer::Answer;
use crate::netlink::conntrack;
use crate::netlink::message::{DUMP_INTERRUPTED, Malformed, Message, Messages, TooLong};
use crate::netlink::rtnetlink::{self, Address, Link, Route};
use crate::netlink::sock_diag;
use crate::netlink::socket::Socket;
use crate::nftables::object::{self, Object};
use crate::nftables::request;
use crate::plan::Installed;
use crate::ruleset::Elements;
use crate::untrusted::clean;

mod attempts;
mod batch;
mod gap;
mod marks;
mod nat;
mod owner;
mod proposal;
mod restore;
mod snapshot;
mod socket_counts;
mod transaction;
pub mod unconfirmed;
mod watch;

pub use attempts::{Attempt, COMMITS, attempts};
use attempts::{PATIENCE, READS, reads};
pub use batch::{Batch, FinishedBatch, Subject, What};
pub use owner::Claim;
pub use proposal::Proposal;
pub use restore::{Former, Restored};
pub use snapshot::{Builder, ForeignBaseChain};
pub use socket_counts::{Counts, SocketCounts};
pub use transaction::{Commit, Outcome, sound};
pub use watch::{Heard, Listener, Tracer};

/// The oldest supported kernel, Linux 5.10: it has the conntrack original tuple as a key, interface kinds and
/// table comments.
const OLDEST: (u32, u32) = (5, 10);

/// The error of reading or changing the kernel's ruleset. The ruleset is unchanged except for
/// [`Unanswered`](Error::Unanswered).
#[derive(Debug, Error)]
pub enum Error {
    /// There is no nf_tables.
    #[error("this kernel has no nf_tables")]
    NoNfTables,
    /// It is too old.
    #[error("this kernel is Linux {0}, and dfw needs Linux 5.10 or later")]
    TooOld(String),
    /// Not root.
    #[error("no permission to read or change the ruleset")]
    Permission,
    /// The table is owned by another process; the number is the port of its netlink socket.
    #[error("table inet {} belongs to another process", crate::ruleset::TABLE)]
    Owned(u32),
    /// The kernel rejected a transaction.
    #[error("the kernel rejected the ruleset: {}", .0.first().map_or_else(String::new, Rejection::to_string))]
    Rejected(Vec<Rejection>),
    /// A transaction was sent and its acknowledgement was lost: it may have taken effect.
    #[error("the kernel's answer to the transaction was lost: {0}")]
    Unanswered(#[source] Box<Error>),
    /// Another program listens on the group of `nfnetlink_log`.
    #[error("another program already listens on NFLOG group {0}")]
    GroupTaken(u16),
    /// Other programs changed rulesets during every attempt.
    #[error(
        "other programs keep changing rulesets: gave up after {READS} attempts and {PATIENCE:?}"
    )]
    Busy,
    /// The transaction exceeds the send buffer of the socket.
    #[error("the transaction has {0} bytes, more than the netlink socket can send")]
    TooLarge(usize),
    /// The compiled ruleset is invalid, which is a bug.
    #[error("dfw compiled an invalid ruleset, which is a bug: {0}")]
    Unsound(String),
    /// An attribute does not fit into a message.
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// The kernel's answer is malformed.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The holders of sockets cannot be found.
    #[error("cannot read processes in /proc: {0}")]
    Processes(#[source] io::Error),
    /// The socket failed.
    #[error("netlink: {0}")]
    Socket(#[from] io::Error),
}

/// One message of a transaction that the kernel rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The object of the message.
    pub subject: Subject,
    /// The error number.
    pub errno: i32,
    /// The extended acknowledgement of the kernel, if there is one.
    pub text: Option<String>,
}

impl std::fmt::Display for Rejection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let errno = io::Error::from_raw_os_error(self.errno);
        write!(f, "{}: {errno}", self.subject.what)?;
        match &self.text {
            Some(text) => write!(f, " ({text})"),
            None => Ok(()),
        }
    }
}

/// The kernel's rulesets at one generation, as far as dfw needs them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The generation; each change of any ruleset makes a new one.
    pub generation: u32,
    /// dfw's table, if there is one.
    pub installed: Option<Installed>,
    /// The base chains of all other tables.
    pub foreign_chains: Vec<ForeignBaseChain>,
}

/// dfw's table, and the base chains of all others.
type Read = (Option<Installed>, Vec<ForeignBaseChain>);

/// How much of dfw's table is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// All of it.
    All,
    /// All but the elements of address lists that have a sketch.
    Lists,
    /// All but the elements of sets that have a sketch.
    Remembered,
    /// Only elements with counters.
    Outline,
}

/// A connection to the nf_tables of this network namespace.
#[derive(Debug)]
pub struct Kernel {
    socket: Socket,
    /// The flags of the table when it is created.
    flags: Cell<u32>,
}

impl Kernel {
    /// Opens a connection to nf_tables and checks that the kernel is recent enough.
    ///
    /// # Errors
    /// [`Error::NoNfTables`](enum@Error), [`Error::TooOld`](enum@Error), or the socket's.
    pub fn open() -> Result<Self, Error> {
        use rustix::io::Errno;
        let release = rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned();
        if version(&release).is_some_and(|version| version < OLDEST) {
            return Err(Error::TooOld(release));
        }
        let socket = Socket::netfilter().map_err(|error| match Errno::from_io_error(&error) {
            Some(Errno::PROTONOSUPPORT | Errno::AFNOSUPPORT) => Error::NoNfTables,
            _ => Error::Socket(error),
        })?;
        Ok(Self {
            socket,
            flags: Cell::new(0),
        })
    }

    /// Reads dfw's table and the base chains of all others, all of one generation.
    ///
    /// # Errors
    /// `Error::Busy` if other programs change rulesets during every attempt. `Error::Permission`,
    /// `Error::NoNfTables`, `Error::Malformed` or `Error::Socket` if the kernel cannot be read.
    pub fn snapshot(&self) -> Result<Snapshot, Error> {
        self.consistent(Depth::All)
    }

    /// Reads the same without the elements of big sets, which would take long: those are empty, and
    /// their sketches are in the table state. This is enough for a plan.
    ///
    /// # Errors
    /// `Error::Busy` if other programs change rulesets during every attempt. `Error::Permission`,
    /// `Error::NoNfTables`, `Error::Malformed` or `Error::Socket` if the kernel cannot be read.
    pub fn survey(&self) -> Result<Snapshot, Error> {
        self.consistent(Depth::Remembered)
    }

    /// Returns an earlier survey if no ruleset has changed since, or another one.
    ///
    /// # Errors
    /// As [`survey`](Self::survey).
    pub fn survey_since(&self, earlier: Option<Box<Snapshot>>) -> Result<Snapshot, Error> {
        match earlier {
            Some(earlier) if self.generation()? == earlier.generation => Ok(*earlier),
            _ => self.survey(),
        }
    }

    /// Reads the same with the elements of shared sets, however big: only these hold the sources of a
    /// port, and as hashes they are read back faster than long lists.
    ///
    /// # Errors
    /// `Error::Busy` if other programs change rulesets during every attempt. `Error::Permission`,
    /// `Error::NoNfTables`, `Error::Malformed` or `Error::Socket` if the kernel cannot be read.
    pub fn survey_shared(&self) -> Result<Snapshot, Error> {
        self.consistent(Depth::Lists)
    }

    /// Reads the same without elements, except for sets with counters.
    ///
    /// # Errors
    /// `Error::Busy` if other programs change rulesets during every attempt. `Error::Permission`,
    /// `Error::NoNfTables`, `Error::Malformed` or `Error::Socket` if the kernel cannot be read.
    pub fn outline(&self) -> Result<Snapshot, Error> {
        self.consistent(Depth::Outline)
    }

    /// Counts the elements that rules have added to sets of dfw's table, where the kernel did not say their number
    /// with the set.
    ///
    /// # Errors
    /// `Error::Permission`, `Error::NoNfTables`, `Error::Malformed` or `Error::Socket` if the kernel cannot be
    /// read.
    pub fn count_added(&self, installed: &mut Installed) -> Result<(), Error> {
        let Installed { ruleset, facts, .. } = installed;
        for (name, facts) in &mut facts.sets {
            let set = ruleset.sets.get(name);
            let is_added = set.is_some_and(|set| set.elements.set_type().dynamic);
            if !is_added || facts.added.is_some() {
                continue;
            }
            let mut count = 0;
            // Packets add elements and time takes them away while they are counted, which no generation says.
            let _ = self.ask(&request::elements(&facts.name), |message| {
                if let Some(Object::Elements { list, .. }) = object::decode(message)? {
                    count += object::element::count(&list)?;
                }
                Ok(())
            })?;
            facts.added = Some(count);
        }
        Ok(())
    }

    /// Reads dfw's table without a consistent generation, for use while other programs keep changing
    /// rulesets: like [`survey`](Self::survey), but it may miss concurrent changes.
    ///
    /// # Errors
    /// `Error::Permission`, `Error::NoNfTables`, `Error::Malformed` or `Error::Socket` if the kernel cannot be
    /// read.
    pub fn glimpse(&self) -> Result<Option<Installed>, Error> {
        let read = self.read(Depth::Remembered, false)?;
        Ok(read.and_then(|(installed, _)| installed))
    }

    fn consistent(&self, depth: Depth) -> Result<Snapshot, Error> {
        for _ in reads() {
            let generation = self.generation()?;
            let Some((installed, foreign_chains)) = self.read(depth, true)? else {
                continue;
            };
            if self.generation()? == generation {
                return Ok(Snapshot {
                    generation,
                    installed,
                    foreign_chains,
                });
            }
        }
        Err(Error::Busy)
    }

    /// Returns the flowtables of all other tables, as `FAMILY TABLE`. Their packets bypass the forward
    /// hook.
    ///
    /// # Errors
    /// `Error::Permission`, `Error::NoNfTables`, `Error::Malformed` or `Error::Socket` if the kernel cannot be
    /// read.
    pub fn flowtables(&self) -> Result<Vec<String>, Error> {
        let mut tables = Vec::new();
        // An interrupted dump misses only what changed during it.
        let _ = ask(&self.socket, &request::all_flowtables(), |message| {
            if let Some(Object::Flowtable { table, .. }) = object::decode(message)? {
                let family = object::family_name(message.family()?);
                tables.push(format!("{family} {}", clean(&table)));
            }
            Ok(())
        })?;
        Ok(tables)
    }

    /// Returns the current generation; each change of any ruleset makes a new one.
    ///
    /// # Errors
    /// `Error::Permission`, `Error::NoNfTables`, `Error::Malformed` or `Error::Socket` if the kernel cannot be
    /// read.
    pub fn generation(&self) -> Result<u32, Error> {
        let mut generation = None;
        let complete = self.ask(&request::generation(), |message| {
            generation = request::decode_generation(message)?;
            Ok(())
        })?;
        match generation {
            Some(generation) if complete => Ok(generation),
            _ => Err(Error::Malformed(Malformed("no generation"))),
        }
    }

    /// Reads everything once; `None` if it changed meanwhile and it must not.
    fn read(&self, depth: Depth, whole: bool) -> Result<Option<Read>, Error> {
        let mut builder = Builder::default();
        let add = |question: &[u8], builder: &mut Builder| {
            self.ask(question, |message| {
                object::decode(message)?.map_or(Ok(()), |object| builder.add(object))
            })
        };
        for question in [request::tables(), request::chains()] {
            if !add(&question, &mut builder)? && whole {
                return Ok(None);
            }
        }
        if !builder.has_table() {
            return Ok(Some(builder.finish()));
        }
        for question in [
            request::sets(),
            request::rules(),
            request::objects(),
            request::flowtables(),
        ] {
            if !add(&question, &mut builder)? && whole {
                return Ok(None);
            }
        }
        let mut sets = builder.memories();
        match depth {
            Depth::All => sets.extend(builder.to_be_read(|_| true)),
            Depth::Lists => sets.extend(builder.to_be_read(is_shared)),
            Depth::Remembered => sets.extend(builder.to_be_read(|_| false)),
            Depth::Outline => sets = builder.counting(),
        }
        for set in sets {
            if !add(&request::elements(&set), &mut builder)? && whole {
                return Ok(None);
            }
        }
        Ok(Some(builder.finish()))
    }

    /// Sends a request and reads the answer; `false` if a change interrupted the dump.
    fn ask(
        &self,
        question: &[u8],
        each: impl FnMut(&Message<'_>) -> Result<(), Malformed>,
    ) -> Result<bool, Error> {
        ask(&self.socket, question, each)
    }
}

/// Reads the links of this network namespace.
///
/// # Errors
/// `Error::Malformed` or `Error::Socket` if rtnetlink cannot be read.
pub fn links() -> Result<Vec<Link>, Error> {
    about_links(&rtnetlink::links(), rtnetlink::decode_link)
}

/// Reads the addresses of this network namespace.
///
/// # Errors
/// `Error::Malformed` or `Error::Socket` if rtnetlink cannot be read.
pub fn addresses() -> Result<Vec<Address>, Error> {
    about_links(&rtnetlink::addresses(), rtnetlink::decode_address)
}

/// Returns the route to an address; `None` if this host has none.
///
/// # Errors
/// `Error::Malformed` or `Error::Socket` if rtnetlink cannot be read.
pub fn route_to(address: IpAddr) -> Result<Option<Route>, Error> {
    let socket = Socket::route()?;
    let mut found = None;
    let asked = ask(&socket, &rtnetlink::route(address), |message| {
        found = rtnetlink::decode_route(message)?;
        Ok(())
    });
    match asked {
        // These are the errors that a sender would get: unreachable, prohibited, black hole.
        Err(Error::Socket(_) | Error::NoNfTables) => Ok(None),
        Err(error) => Err(error),
        Ok(_) => Ok(found),
    }
}

/// Returns whether the kernel tracks the TCP connection that this host has opened, in its usual zone. It does so for two
/// minutes after the connection was closed (`nf_conntrack_tcp_timeout_time_wait`).
///
/// # Errors
/// `Error::Malformed` or `Error::Socket` if conntrack cannot be read.
pub fn is_tracked(from: SocketAddr, to: SocketAddr) -> Result<bool, Error> {
    let socket = Socket::netfilter()?;
    // The answer is the connection, or an error that means: none.
    ask(&socket, &conntrack::tcp_connection(from, to), |_| Ok(()))
}

fn about_links<T>(
    question: &[u8],
    decode: impl Fn(&Message<'_>) -> Result<Option<T>, Malformed>,
) -> Result<Vec<T>, Error> {
    let socket = Socket::route()?;
    for _ in reads() {
        let mut found = Vec::new();
        let complete = ask(&socket, question, |message| {
            found.extend(decode(message)?);
            Ok(())
        })?;
        if complete {
            return Ok(found);
        }
    }
    Err(Error::Busy)
}

/// Reads the listening sockets of this network namespace. A protocol that the kernel lacks has none.
///
/// # Errors
/// `Error::Malformed` or `Error::Socket` if sock_diag cannot be read.
pub fn listeners() -> Result<Vec<sock_diag::Socket>, Error> {
    let socket = Socket::sock_diag()?;
    let mut sockets = Vec::new();
    let protocols = sock_diag::PROTOCOLS.into_iter();
    // A request for a missing protocol would make the kernel load a module.
    let protocols = protocols.filter(|protocol| *protocol != sock_diag::SCTP || has_sctp());
    for (family, protocol) in protocols.flat_map(|protocol| {
        let families = sock_diag::FAMILIES.into_iter();
        families.map(move |family| (family, protocol))
    }) {
        // An interrupted dump misses only sockets that changed during it.
        let _ = ask(
            &socket,
            &sock_diag::listeners(family, protocol),
            |message| {
                sockets.extend(sock_diag::decode_listener(message, protocol)?);
                Ok(())
            },
        )?;
    }
    Ok(sockets)
}

/// Returns whether SCTP is loaded; it may be a module, which the first socket loads.
fn has_sctp() -> bool {
    !Path::new("/proc/net").exists() || Path::new("/proc/net/sctp").exists()
}

/// `NLMSG_ERROR` and `NLMSG_DONE` of `linux/netlink.h`.
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// The generation has changed (`ERESTART`, which never reaches programs otherwise).
const ERESTART: rustix::io::Errno = rustix::io::Errno::from_raw_os_error(85);

/// Sends a request and reads the answer; `false` if a change interrupted the dump.
fn ask(
    socket: &Socket,
    question: &[u8],
    each: impl FnMut(&Message<'_>) -> Result<(), Malformed>,
) -> Result<bool, Error> {
    socket.send(question)?;
    let mut buffer = socket.take_buffer();
    let answer = answer(socket, &mut buffer, each);
    socket.keep_buffer(buffer);
    answer
}

fn answer(
    socket: &Socket,
    buffer: &mut Vec<u8>,
    mut each: impl FnMut(&Message<'_>) -> Result<(), Malformed>,
) -> Result<bool, Error> {
    use rustix::io::Errno;
    /// `NLM_F_MULTI`: more follows.
    const MULTI: u16 = 2;
    let mut complete = true;
    loop {
        let length = socket.receive(buffer, true)?.unwrap_or_default();
        for message in Messages::new(&buffer[..length]) {
            let message = message?;
            complete &= message.flags & DUMP_INTERRUPTED == 0;
            match message.kind {
                NLMSG_DONE => return Ok(complete),
                NLMSG_ERROR => {
                    let answer = Answer::decode(&message)?;
                    if answer.errno == 0 {
                        return Ok(complete);
                    }
                    return match Errno::from_raw_os_error(answer.errno) {
                        // The table was deleted between two requests.
                        Errno::NOENT | Errno::INTR => Ok(false),
                        Errno::PERM => Err(Error::Permission),
                        _ if no_subsystem(answer.errno) => Err(Error::NoNfTables),
                        errno => Err(Error::Socket(errno.into())),
                    };
                }
                _ => each(&message)?,
            }
            if message.flags & MULTI == 0 {
                return Ok(complete);
            }
        }
    }
}

/// Returns whether an error says that nf_tables is not available.
fn no_subsystem(errno: i32) -> bool {
    use rustix::io::Errno;
    [Errno::INVAL, Errno::OPNOTSUPP]
        .iter()
        .any(|e| e.raw_os_error() == errno)
}

/// Returns whether elements are those of a set that ports share.
fn is_shared(elements: &Elements) -> bool {
    matches!(elements, Elements::PortIpv4(_) | Elements::PortIpv6(_))
}

/// Returns the first two numbers of a kernel's release.
pub(crate) fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_number() {
        assert_eq!(version("5.10.0-32-amd64"), Some((5, 10)));
        assert_eq!(version("6.18.44"), Some((6, 18)));
        assert_eq!(version("6.1+"), Some((6, 1)));
        assert!(version("4.18.0-553.el8").unwrap() < OLDEST);
        assert!(version("5.9.1").unwrap() < OLDEST);
        assert_eq!(version("unknown"), None);
    }
}
