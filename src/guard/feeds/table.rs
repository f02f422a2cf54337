//! Notifications of changes of dfw's table.

use std::io;
use std::time::Instant;

use crate::netlink::socket::Socket;
use crate::nftables::notice::{self, Notice};

use super::event::Event;
use super::feed::{Feed, Polled, readable};
use super::notices::each;

/// Hears of changes of rulesets.
#[derive(Debug)]
pub(in crate::guard) struct Monitor {
    socket: Socket,
    buffer: Vec<u8>,
    /// Whether the current transaction changed dfw's table.
    ours: bool,
}

impl Monitor {
    /// Listens from now on.
    pub(in crate::guard) fn open() -> io::Result<Self> {
        Ok(Self {
            socket: Socket::netfilter_notices()?,
            buffer: Vec::new(),
            ours: false,
        })
    }
}

impl Monitor {
    /// Reads some of what was heard; returns whether there may be more. Reports nothing but modifications of dfw's table,
    /// and that notifications were lost.
    pub(in crate::guard) fn read(&mut self, events: &mut Vec<Event>) -> io::Result<bool> {
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
                Ok(Some(Notice::End(modifier))) => {
                    if std::mem::take(ours) {
                        events.push(Event::Table(modifier));
                    }
                }
                Ok(None) => {}
                Err(_) => events.push(Event::Lost),
            },
        )
    }
}

impl Feed for Monitor {
    fn descriptors(&self) -> Vec<Polled<'_>> {
        readable([&self.socket])
    }

    fn drain(&mut self, _: Instant, events: &mut Vec<Event>) -> io::Result<()> {
        self.read(events).map(drop)
    }
}
