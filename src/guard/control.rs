//! The socket at which guard answers: its status to everybody, a reload to root.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::net::sockopt::socket_peercred;

use super::event::Event;

/// How many clients are listened to at once; others wait.
const CLIENTS: usize = 16;
/// How long a client may take to say what it wants.
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
pub(super) struct Control {
    listener: UnixListener,
    path: PathBuf,
    clients: Vec<Client>,
    number: usize,
}

#[derive(Debug)]
struct Client {
    number: usize,
    stream: UnixStream,
    said: Vec<u8>,
    until: Instant,
}

impl Control {
    /// Listens at a path; whatever is there is replaced.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        // Who listens there is a guard that has lost the table to this one, or is dead.
        if let Err(error) = fs::remove_file(path)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let listener = UnixListener::bind(path)?;
        listener.set_nonblocking(true)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            clients: Vec::new(),
            number: 0,
        })
    }

    pub(super) fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let room = self.clients.len() < CLIENTS;
        let clients = self.clients.iter().map(|client| client.stream.as_fd());
        room.then(|| self.listener.as_fd())
            .into_iter()
            .chain(clients)
    }

    /// When the first client has had its time.
    pub(super) fn next(&self) -> Option<Instant> {
        self.clients.iter().map(|client| client.until).min()
    }

    pub(super) fn drain(&mut self, now: Instant, events: &mut Vec<Event>) {
        while self.clients.len() < CLIENTS
            && let Ok((stream, _)) = self.listener.accept()
        {
            if stream.set_nonblocking(true).is_ok() {
                self.number += 1;
                self.clients.push(Client {
                    number: self.number,
                    stream,
                    said: Vec::new(),
                    until: now + PATIENCE,
                });
            }
        }
        self.clients.retain_mut(|client| {
            let mut bytes = [0; 16 * LONGEST];
            match client.stream.read(&mut bytes) {
                Ok(length @ 1..) => {
                    client.said.extend(&bytes[..length]);
                    let question = question(client);
                    if let Some(question) = question {
                        events.push(Event::Question(client.number, question));
                        client.said.clear();
                    }
                    true
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => client.until > now,
                // It has gone.
                _ => false,
            }
        });
    }

    /// Answers a client and lets it go.
    pub(super) fn answer(&mut self, number: usize, answer: &str) {
        if let Some(at) = self.clients.iter().position(|c| c.number == number) {
            let mut client = self.clients.swap_remove(at);
            // It is less than a socket holds; one that does not read it does not need it.
            let _ = client.stream.write_all(answer.as_bytes());
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // A successor replaces it.
        let _ = fs::remove_file(&self.path);
    }
}

/// What the client wants, as soon as it has said so.
fn question(client: &Client) -> Option<Question> {
    let said = client.said.split(|byte| *byte == b'\n').next();
    if !client.said.contains(&b'\n') {
        let long = client.said.len() >= LONGEST;
        return long.then_some(Question::Refused("nobody understands that"));
    }
    Some(match said {
        Some(b"status") => Question::Status,
        Some(b"reload") => match socket_peercred(&client.stream) {
            Ok(peer) if peer.uid.is_root() => Question::Reload,
            _ => Question::Refused("only root may do that"),
        },
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
