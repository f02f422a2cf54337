//! Netlink multicast notifications.

use std::io;

use rustix::io::Errno;

use crate::netlink::message::{Message, Messages};
use crate::netlink::socket::Socket;

use super::event::Event;

/// The most messages read in one turn; the rest are read in the next.
const AT_ONCE: usize = 64;

/// Reads queued notifications, and reports when some were lost; returns whether there may be more.
pub(super) fn each(
    socket: &Socket,
    buffer: &mut Vec<u8>,
    events: &mut Vec<Event>,
    mut take: impl FnMut(&Message<'_>, &mut Vec<Event>),
) -> io::Result<bool> {
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
            Ok(None) => return Ok(false),
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NOBUFS) => {
                events.push(Event::Lost);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}
