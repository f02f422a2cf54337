//! The control socket: status for every user, reload for root.

use std::io;
use std::path::Path;
use std::time::Instant;

use super::clients::{Answer, Clients, Stream};
use super::event::{Event, Question};
use super::feed::{Feed, Polled};

/// The longest request, in bytes.
const LONGEST: usize = 64;

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
    let line = bytes.split(|byte| *byte == b'\n').next();
    if !bytes.contains(&b'\n') {
        return full.then_some(Question::Rejected("unknown command"));
    }
    Some(match line {
        Some(b"status") => Question::Status,
        Some(b"reload") if client.is_root() => Question::Reload,
        Some(b"reload") => Question::Rejected("permission denied: only root can reload"),
        _ => Question::Rejected("unknown command"),
    })
}
