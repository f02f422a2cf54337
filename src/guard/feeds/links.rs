//! Notifications of link and address changes.

use std::io;
use std::time::Instant;

use crate::netlink::rtnetlink;
use crate::netlink::socket::Socket;

use super::event::Event;
use super::feed::{Feed, Polled, readable};
use super::notices::each;

/// Receives notifications of link and address changes.
#[derive(Debug)]
pub(in crate::guard) struct Links {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Links {
    pub(in crate::guard) fn open() -> io::Result<Self> {
        Ok(Self {
            socket: Socket::route_notices()?,
            buffer: Vec::new(),
        })
    }
}

impl Feed for Links {
    fn descriptors(&self) -> Vec<Polled<'_>> {
        readable([&self.socket])
    }

    fn drain(&mut self, _: Instant, events: &mut Vec<Event>) -> io::Result<()> {
        let (mut any, mut new) = (false, false);
        each(&self.socket, &mut self.buffer, events, |message, _| {
            any = true;
            new |= rtnetlink::is_new(message);
        })?;
        events.extend(any.then_some(Event::Links { new }));
        Ok(())
    }
}
