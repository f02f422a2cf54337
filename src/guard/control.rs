//! The socket at which guard answers: its status to everybody, a reload to root.

use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use super::clients::{Clients, Stream};
use super::event::Event;

/// How long guard may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest question, in bytes.
const LONGEST: usize = 64;

/// What a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// `status`.
    Status,
    /// `reload`.
    Reload,
    /// What it may not have, or nobody understands.
    Refused(&'static str),
}

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
        self.0.answer(number, answer.into_bytes());
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

/// Asks a guard for its status; `None` if none is listening there.
///
/// # Errors
/// As the socket; or it is nobody whom dfw understands.
pub fn ask(path: &Path) -> io::Result<Option<serde_json::Value>> {
    let mut stream = match UnixStream::connect(path) {
        Ok(stream) => stream,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"status\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(Some(serde_json::from_str(&answer)?))
}
