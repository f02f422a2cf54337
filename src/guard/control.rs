//! The socket at which guard answers: its status to everybody, a reload to root.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Instant;

use rustix::event::PollFlags;

use super::clients::{Answer, Clients, Stream};
use super::event::{Event, Question};

/// The longest question, in bytes.
const LONGEST: usize = 64;

/// The socket and who is connected to it.
#[derive(Debug)]
pub(super) struct Control(Clients);

impl Control {
    /// Listens at a path; whatever is there is replaced.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Clients::at_path(path, LONGEST).map(Self)
    }

    pub(super) fn sockets(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        self.0.sockets()
    }

    /// When the first client has had its time.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.next()
    }

    pub(super) fn drain(&mut self, now: Instant, events: &mut Vec<Event>) {
        let take = |number, question| events.push(Event::Question(number, question));
        self.0.drain(now, question, take);
    }

    /// Answers a client and lets it go.
    pub(super) fn answer(&mut self, number: usize, answer: String) {
        self.0.answer(
            number,
            Answer {
                head: answer.into_bytes(),
                body: "".into(),
            },
        );
    }
}

/// What the client wants, as soon as it has said so.
fn question(said: &[u8], full: bool, client: &Stream) -> Option<Question> {
    let line = said.split(|byte| *byte == b'\n').next();
    if !said.contains(&b'\n') {
        return full.then_some(Question::Refused("nobody understands that"));
    }
    Some(match line {
        Some(b"status") => Question::Status,
        Some(b"reload") if client.is_root() => Question::Reload,
        Some(b"reload") => Question::Refused("only root may do that"),
        _ => Question::Refused("nobody understands that"),
    })
}
