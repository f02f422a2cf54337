//! The kernel's notices: of changes of dfw's table, and of links and addresses.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;

use crate::netlink::message::Messages;
use crate::netlink::rtnetlink;
use crate::netlink::socket::Socket;
use crate::nftables::notice::{self, Notice};

use super::event::Event;

/// How many messages are read in one turn: others have theirs, and whoever never rests is heard in the
/// next.
const AT_ONCE: usize = 64;

/// Hears of changes of rulesets.
#[derive(Debug)]
pub(super) struct Monitor {
    socket: Socket,
    buffer: Vec<u8>,
    /// Whether the transaction that is being told of has changed dfw's table.
    ours: bool,
}

impl Monitor {
    /// Listens from now on.
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self {
            socket: Socket::netfilter_notices()?,
            buffer: Vec::new(),
            ours: false,
        })
    }

    pub(super) fn drain(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        let Self {
            socket,
            buffer,
            ours,
        } = self;
        each(
            socket,
            buffer,
            events,
            |message, events| match notice::decode(message) {
                Ok(Some(Notice::Ours)) => *ours = true,
                Ok(Some(Notice::End(meddler))) => {
                    if std::mem::take(ours) {
                        events.push(Event::Table(meddler));
                    }
                }
                Ok(None) => {}
                Err(_) => events.push(Event::Lost),
            },
        )
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Hears of changes of links and addresses.
#[derive(Debug)]
pub(super) struct Links {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Links {
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self {
            socket: Socket::route_notices()?,
            buffer: Vec::new(),
        })
    }

    pub(super) fn drain(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        let (mut any, mut new) = (false, false);
        each(&self.socket, &mut self.buffer, events, |message, _| {
            any = true;
            new |= rtnetlink::is_new(message);
        })?;
        events.extend(any.then_some(Event::Links { new }));
        Ok(())
    }
}

impl AsFd for Links {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn each(
    socket: &Socket,
    buffer: &mut Vec<u8>,
    events: &mut Vec<Event>,
    mut take: impl FnMut(&crate::netlink::message::Message<'_>, &mut Vec<Event>),
) -> io::Result<()> {
    for _ in 0..AT_ONCE {
        match socket.receive(buffer, false) {
            Ok(Some(length)) => {
                for message in Messages::new(&buffer[..length]) {
                    match message {
                        Ok(message) => take(&message, events),
                        Err(_) => events.push(Event::Lost),
                    }
                }
            }
            Ok(None) => return Ok(()),
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NOBUFS) => {
                events.push(Event::Lost);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
