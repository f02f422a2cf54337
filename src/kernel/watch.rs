//! Receives events of the kernel: traced packets, and packets that rules log.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;

use crate::netlink::answer::Answer;
use crate::netlink::message::{Malformed, Message, Messages};
use crate::netlink::nflog::{self, Logged};
use crate::netlink::socket::Socket;
use crate::netlink::trace::{self, Traced};
use crate::nftables::object::{self, Object, RuleObject, TableObject};
use crate::nftables::request;
use crate::nftables::tracer::{self, Filter};
use crate::untrusted::clean;

use super::{Error, Kernel, NLMSG_ERROR, ask};

/// The result of one wait for notifications.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard<T> {
    /// Messages; none if nothing was there.
    Messages(Vec<T>),
    /// The socket buffer overflowed, and messages were lost (`ENOBUFS`).
    Lost,
}

/// Makes the kernel trace packets, for as long as this lives.
#[derive(Debug)]
pub struct Tracer {
    kernel: Kernel,
    events: Socket,
    table: String,
    /// Whether the kernel deletes the table when this process ends.
    owned: bool,
}

impl Tracer {
    /// Enables tracing for the packets that match `filter`, and deletes tables left behind by earlier
    /// runs.
    ///
    /// # Errors
    /// If the table for tracing cannot be made: the errors of [`Kernel::commit`].
    pub fn begin(filter: &Filter) -> Result<Self, Error> {
        Self::begin_as(filter, true).or_else(|error| match &error {
            // Before Linux 5.12 there are no owned tables.
            Error::Socket(errno) if is(errno, &[Errno::INVAL, Errno::OPNOTSUPP]) => {
                Self::begin_as(filter, false)
            }
            _ => Err(error),
        })
    }

    /// Enables tracing in an owned table, which the kernel deletes by itself, or in one without an
    /// owner.
    ///
    /// # Errors
    /// If the table for tracing cannot be made: the errors of [`Kernel::commit`].
    pub fn begin_as(filter: &Filter, owned: bool) -> Result<Self, Error> {
        let kernel = Kernel::open()?;
        let events = Socket::netfilter()?;
        // Subscribe first, so that no event is missed.
        events.join(trace::GROUP).map_err(permission)?;
        kernel.remove_stale()?;
        let table = format!("{}{}", tracer::PREFIX, kernel.socket.port()?);
        confirmed(&kernel.socket, &tracer::begin(&table, filter, owned)?)?;
        Ok(Self {
            kernel,
            events,
            table,
            owned,
        })
    }

    /// Returns the name of the table that enables tracing.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.table
    }

    /// Returns the received messages, without blocking.
    ///
    /// # Errors
    /// `Error::Malformed` or `Error::Socket` if the socket cannot be read.
    pub fn hear(&self) -> Result<Heard<Traced>, Error> {
        hear(&self.events, trace::decode)
    }

    /// Returns a rule of any table by its handle; `None` if it was deleted.
    ///
    /// # Errors
    /// `Error::Permission`, `Error::NoNfTables`, `Error::Malformed` or `Error::Socket` if the kernel cannot be
    /// read.
    pub fn rule(
        &self,
        family: u8,
        table: &str,
        chain: &str,
        handle: u64,
    ) -> Result<Option<RuleObject>, Error> {
        let mut rule = None;
        let question = request::rule(family, table, chain, handle);
        ask(&self.kernel.socket, &question, |message| {
            if let Some(Object::Rule(found)) = object::decode(message)? {
                rule = Some(found);
            }
            Ok(())
        })?;
        Ok(rule)
    }

    /// Returns the name of an interface, to be shown; `None` if it is gone.
    #[must_use]
    pub fn interface(&self, index: u32) -> Option<String> {
        self.events.interface(index).map(|name| clean(&name))
    }
}

impl AsFd for Tracer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // An owned table is deleted with the socket. A table without an owner is deleted by the next
        // run.
        if let (false, Ok(batch)) = (self.owned, tracer::end(&self.table)) {
            let _ = confirmed(&self.kernel.socket, &batch);
        }
    }
}

impl Kernel {
    /// Deletes tables of traces whose process has ended.
    fn remove_stale(&self) -> Result<(), Error> {
        let mut tables: Vec<TableObject> = Vec::new();
        ask(&self.socket, &request::tables(), |message| {
            if let Some(Object::Table(table)) = object::decode(message)? {
                tables.push(table);
            }
            Ok(())
        })?;
        let port = |table: &TableObject| -> Option<u32> {
            let made_by = table.name.strip_prefix(tracer::PREFIX)?.parse().ok()?;
            object::is_inet(table.family).then_some(made_by)
        };
        let tables: Vec<_> = tables.iter().filter_map(|t| Some((t, port(t)?))).collect();
        if tables.is_empty() {
            return Ok(());
        }
        let Ok(sockets) = std::fs::read_to_string("/proc/thread-self/net/netlink") else {
            return Ok(());
        };
        for (table, port) in tables {
            if !has_netfilter_socket(&sockets, port) {
                // The owner may have ended just now, and its table with it.
                let _ = confirmed(&self.socket, &tracer::end(&table.name)?);
            }
        }
        Ok(())
    }
}

/// Returns whether `/proc/net/netlink` knows a socket of netfilter with this port.
fn has_netfilter_socket(text: &str, port: u32) -> bool {
    /// `NETLINK_NETFILTER`.
    const NETFILTER: &str = "12";
    text.lines().any(|line| {
        let mut words = line.split_whitespace().skip(1);
        words.next() == Some(NETFILTER) && words.next() == Some(port.to_string().as_str())
    })
}

/// Receives the packets that rules log to a group.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
}

impl Listener {
    /// Listens on a group; each group has one listener at most.
    ///
    /// # Errors
    /// `Error::GroupTaken` if another program listens on the group, `Error::Permission`, and `Error::Socket`.
    pub fn open(group: u16) -> Result<Self, Error> {
        let kernel = Kernel::open()?;
        let listen = |connections| -> Result<Self, Error> {
            let socket = Socket::netfilter()?;
            confirmed(&socket, &nflog::listen(group, connections))?;
            Ok(Self { socket })
        };
        listen(true)
            .or_else(|error| match error {
                // Conntrack information needs a kernel module of its own.
                Error::Socket(e) if is(&e, &[Errno::OPNOTSUPP, Errno::AGAIN]) => listen(false),
                error => Err(error),
            })
            .map_err(|error| match error {
                // A process that may read the generation is root, so the error is about the group.
                Error::Permission if kernel.generation().is_ok() => Error::GroupTaken(group),
                Error::Socket(e) if is(&e, &[Errno::BUSY]) => Error::GroupTaken(group),
                error => error,
            })
    }

    /// Returns the received messages, without blocking.
    ///
    /// # Errors
    /// `Error::Malformed` or `Error::Socket` if the socket cannot be read.
    pub fn hear(&self) -> Result<Heard<Logged>, Error> {
        hear(&self.socket, nflog::decode)
    }

    /// Returns the name of an interface, to be shown; `None` if it is gone.
    #[must_use]
    pub fn interface(&self, index: u32) -> Option<String> {
        self.socket.interface(index).map(|name| clean(&name))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn hear<T>(
    socket: &Socket,
    decode: impl Fn(&Message<'_>) -> Result<Option<T>, Malformed>,
) -> Result<Heard<T>, Error> {
    let mut buffer = Vec::new();
    let length = match socket.receive(&mut buffer, false) {
        Ok(length) => length.unwrap_or_default(),
        Err(error) if is(&error, &[Errno::NOBUFS]) => return Ok(Heard::Lost),
        Err(error) => return Err(error.into()),
    };
    let mut heard = Vec::new();
    for message in Messages::new(&buffer[..length]) {
        heard.extend(decode(&message?)?);
    }
    Ok(Heard::Messages(heard))
}

/// Sends a message and waits for its acknowledgement.
fn confirmed(socket: &Socket, bytes: &[u8]) -> Result<(), Error> {
    socket.send(bytes).map_err(permission)?;
    let (mut buffer, mut answered, mut rejected) = (Vec::new(), false, None);
    while let Some(length) = socket.receive(&mut buffer, !answered)? {
        for message in Messages::new(&buffer[..length]) {
            let message = message?;
            if message.kind == NLMSG_ERROR {
                answered = true;
                let errno = Answer::decode(&message)?.errno;
                rejected = rejected.or((errno != 0).then_some(errno));
            }
        }
    }
    rejected.map_or(Ok(()), |errno| {
        Err(permission(io::Error::from_raw_os_error(errno)))
    })
}

fn permission(error: io::Error) -> Error {
    if is(&error, &[Errno::PERM]) {
        Error::Permission
    } else {
        Error::Socket(error)
    }
}

fn is(error: &io::Error, errnos: &[Errno]) -> bool {
    Errno::from_io_error(error).is_some_and(|errno| errnos.contains(&errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_found_by_port_and_protocol() {
        let text = "\
sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode
0000000000000000 0   4242       00000000 0        0        0     2        0        1
0000000000000000 12  77         00000100 0        0        0     2        0        2
";
        assert!(has_netfilter_socket(text, 77));
        assert!(!has_netfilter_socket(text, 4242));
    }
}
