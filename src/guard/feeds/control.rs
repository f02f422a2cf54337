//! The control socket: status for every user, reload and grants for root.

use std::io;
use std::path::Path;
use std::time::Instant;

use super::clients::{Answer, Clients, READ, Stream};
use super::event::{Event, Question};
use super::feed::{Feed, Polled};

/// The longest request, in bytes, and the longest of those that are not grants of root.
const LONGEST: usize = 2 << 20;
const SHORT: usize = 64;

/// The socket and its clients.
#[derive(Debug)]
pub(in crate::guard) struct Control(Clients);

impl Control {
    /// Listens on a path; an existing file is replaced.
    pub(in crate::guard) fn open(path: &Path) -> io::Result<Self> {
        Clients::at_path(path, LONGEST).map(Self)
    }

    /// Answers a client and disconnects it.
    pub(in crate::guard) fn answer(&mut self, number: usize, answer: String) {
        self.0.answer(
            number,
            Answer {
                head: answer.into_bytes(),
                body: "".into(),
            },
        );
    }
}

impl Feed for Control {
    fn descriptors(&self) -> Vec<Polled<'_>> {
        self.0.sockets().collect()
    }

    /// Returns the next time limit of a client.
    fn deadline(&self) -> Option<Instant> {
        self.0.next()
    }

    fn drain(&mut self, now: Instant, events: &mut Vec<Event>) -> io::Result<()> {
        let take = |number, question| events.push(Event::Question(number, question));
        self.0.drain(now, question, take);
        Ok(())
    }
}

/// Returns the request, once it is complete.
fn question(bytes: &[u8], full: bool, client: &Stream) -> Option<Question> {
    // A long request is not searched again and again: only what came last may have the end of the line.
    let new = bytes.get(bytes.len().saturating_sub(READ)..)?;
    if !new.contains(&b'\n') {
        let may_be_long = bytes.starts_with(b"grant ") && client.is_root();
        let full = full || bytes.len() >= SHORT && !may_be_long;
        return full.then_some(Question::Rejected("unknown command"));
    }
    let line = bytes.split(|byte| *byte == b'\n').next()?;
    Some(match (line, line.strip_prefix(b"grant ")) {
        (b"status", _) => Question::Status,
        (b"reload", _) if client.is_root() => Question::Reload,
        (b"reload", _) => Question::Rejected("permission denied: only root can reload"),
        (_, Some(request)) => match (serde_json::from_slice(request), client.sender()) {
            (Ok(request), Some(sender)) if client.is_root() => Question::Grant(request, sender),
            (Err(_), Some(_)) if client.is_root() => Question::Rejected("unknown command"),
            _ => Question::Rejected("permission denied: only root can grant access"),
        },
        _ => Question::Rejected("unknown command"),
    })
}
