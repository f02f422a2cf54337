//! Clients of guard's sockets: each sends one request, gets an answer, and is disconnected.
//!
//! They are polled with all other feeds. Their number, request size, time and work per turn are limited, so
//! that no client delays guard or other clients.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::fs::Mode;
use rustix::net::UCred;
use rustix::net::sockopt::socket_peercred;
use rustix::process::{Uid, umask};

use crate::guard::granted::Sender;

use super::feed::Polled;

/// The most concurrent clients; others wait. Some slots are reserved for root, and each other user has a
/// limit: beyond it connections are closed.
const CLIENTS: usize = 16;
const FOR_ROOT: usize = 4;
const FOR_USER: usize = 8;
/// How long no connection is accepted after `accept` failed for lack of descriptors.
const REST: Duration = Duration::from_secs(1);
/// The time limit of a client to send its request, and again to read the answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// The time limit of guard to prepare an answer.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// The most bytes of a request read in one turn.
pub(super) const READ: usize = 4096;
/// The most bytes of an answer written in one turn.
const AT_ONCE: usize = 256 * 1024;

/// A listening socket and its clients.
#[derive(Debug)]
pub(in crate::guard) struct Clients {
    listener: Listener,
    connected: Vec<Client>,
    /// The time until which no connection is accepted.
    rest: Option<Instant>,
    /// The longest request, in bytes.
    longest: usize,
    number: usize,
}

#[derive(Debug)]
enum Listener {
    Unix {
        listener: UnixListener,
        path: PathBuf,
        /// What was made at the path.
        file: Identity,
    },
    Tcp(TcpListener),
}

/// The device and inode of the socket file, to recognise it later.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    fn of(path: &Path) -> io::Result<Self> {
        let found = fs::symlink_metadata(path)?;
        Ok(Self {
            device: found.dev(),
            inode: found.ino(),
        })
    }
}

/// A connection.
#[derive(Debug)]
pub(in crate::guard) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

#[derive(Debug)]
struct Client {
    number: usize,
    stream: Stream,
    state: State,
    until: Instant,
    /// The user; `None` over TCP, where users are unknown.
    user: Option<Uid>,
}

/// How far a client is.
#[derive(Debug)]
enum State {
    /// The request is incomplete.
    Asking(Vec<u8>),
    /// The answer is being prepared; its input is ignored.
    Waiting,
    /// The answer, and the number of bytes sent.
    Answered(Answer, usize),
}

/// An answer; clients share its body.
#[derive(Debug)]
pub(in crate::guard) struct Answer {
    /// What is for this client.
    pub(in crate::guard) head: Vec<u8>,
    /// The text that follows.
    pub(in crate::guard) body: Arc<str>,
}

impl Answer {
    /// Returns the rest after this many bytes.
    fn rest(&self, at: usize) -> &[u8] {
        match self.head.get(at..) {
            Some(rest @ [_, ..]) => rest,
            _ => &self.body.as_bytes()[at - self.head.len()..],
        }
    }
}

impl Clients {
    /// Listens on a path, accessible to every user; an existing file is replaced.
    pub(in crate::guard) fn at_path(path: &Path, longest: usize) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        // A former listener is a guard that lost the table to this one, or has ended.
        if let Err(error) = fs::remove_file(path)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        // Every user may connect. A later chmod could hit another file: the directory may belong to
        // another user.
        let former = umask(Mode::from_raw_mode(0o111));
        let listener = UnixListener::bind(path);
        umask(former);
        let listener = listener?;
        listener.set_nonblocking(true)?;
        let file = Identity::of(path)?;
        let path = path.to_owned();
        Ok(Self::new(
            Listener::Unix {
                listener,
                path,
                file,
            },
            longest,
        ))
    }

    /// Listens at an address.
    pub(in crate::guard) fn at_address(address: SocketAddr, longest: usize) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Self::new(Listener::Tcp(listener), longest))
    }

    fn new(listener: Listener, longest: usize) -> Self {
        Self {
            listener,
            connected: Vec::new(),
            rest: None,
            longest,
            number: 0,
        }
    }

    /// Returns the descriptors to poll.
    pub(in crate::guard) fn sockets(&self) -> impl Iterator<Item = Polled<'_>> {
        let open = self.connected.len() < CLIENTS && self.rest.is_none();
        let clients = self.connected.iter().filter_map(|client| {
            let flags = match client.state {
                State::Asking(_) => PollFlags::IN,
                State::Waiting => return None,
                State::Answered(..) => PollFlags::OUT,
            };
            Some((client.stream.as_fd(), flags))
        });
        open.then(|| (self.listener.as_fd(), PollFlags::IN))
            .into_iter()
            .chain(clients)
    }

    /// Returns the next time limit of a client, or when connections are accepted again.
    pub(in crate::guard) fn next(&self) -> Option<Instant> {
        let clients = self.connected.iter().map(|client| client.until);
        clients.chain(self.rest).min()
    }

    /// Accepts clients and continues their transfers. `read` parses a request from the bytes and
    /// whether the limit is reached; complete requests are passed to `take` with the number of the
    /// client.
    pub(in crate::guard) fn drain<Q>(
        &mut self,
        now: Instant,
        read: impl Fn(&[u8], bool, &Stream) -> Option<Q>,
        mut take: impl FnMut(usize, Q),
    ) {
        self.let_in(now);
        let longest = self.longest;
        self.connected.retain_mut(|client| {
            let input = match &mut client.state {
                State::Asking(input) => input,
                State::Waiting => return client.until > now,
                State::Answered(..) => return client.write() && client.until > now,
            };
            let mut bytes = [0; READ];
            match client.stream.read(&mut bytes) {
                Ok(length @ 1..) => {
                    input.extend(&bytes[..length]);
                    let full = input.len() >= longest;
                    if let Some(question) = read(input, full, &client.stream) {
                        // Further input is ignored.
                        client.state = State::Waiting;
                        client.until = now + LONGEST_WAIT;
                        take(client.number, question);
                        return true;
                    }
                    client.until > now
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => client.until > now,
                // It has gone.
                _ => false,
            }
        });
    }

    fn let_in(&mut self, now: Instant) {
        self.rest = self.rest.filter(|rest| *rest > now);
        // Bound the work per turn.
        for _ in 0..CLIENTS {
            if self.connected.len() >= CLIENTS || self.rest.is_some() {
                return;
            }
            let stream = match self.listener.accept() {
                Ok(stream) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.rest = Some(now + REST);
                    return;
                }
            };
            let user = stream.user();
            if !self.has_place_for(user) {
                continue;
            }
            self.number += 1;
            self.connected.push(Client {
                number: self.number,
                stream,
                state: State::Asking(Vec::new()),
                until: now + PATIENCE,
                user,
            });
        }
    }

    /// Returns whether one more client of a user is accepted. Over TCP users are unknown.
    fn has_place_for(&self, user: Option<Uid>) -> bool {
        if matches!(self.listener, Listener::Tcp(_)) || user.is_some_and(Uid::is_root) {
            return true;
        }
        let users = self.connected.iter().map(|client| client.user);
        let others = users.filter(|user| !user.is_some_and(Uid::is_root));
        let (same, all) = others.fold((0, 0), |(same, all), other| {
            (same + usize::from(other == user), all + 1)
        });
        same < FOR_USER && all < CLIENTS - FOR_ROOT
    }

    /// Sends an answer to a client, as fast as it reads, and disconnects it.
    pub(in crate::guard) fn answer(&mut self, number: usize, answer: Answer) {
        let at = self.connected.iter().position(|c| c.number == number);
        let Some(at) = at else { return };
        let client = &mut self.connected[at];
        client.state = State::Answered(answer, 0);
        client.until = Instant::now() + PATIENCE;
        if !client.write() {
            self.connected.swap_remove(at);
        }
    }
}

impl Client {
    /// Writes as much as the socket accepts, up to a limit; returns whether there is more.
    fn write(&mut self) -> bool {
        let State::Answered(answer, at) = &mut self.state else {
            return true;
        };
        let most = *at + AT_ONCE;
        loop {
            let rest = answer.rest(*at);
            let rest = &rest[..rest.len().min(most - *at)];
            if rest.is_empty() {
                return *at >= most;
            }
            match self.stream.write(rest) {
                Ok(length @ 1..) => *at += length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                _ => return false,
            }
        }
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        if let Listener::Unix { path, file, .. } = &self.listener
            // A successor's stays.
            && Identity::of(path).is_ok_and(|now| now == *file)
        {
            let _ = fs::remove_file(path);
        }
    }
}

impl Listener {
    fn accept(&self) -> io::Result<Stream> {
        Ok(match self {
            Self::Unix { listener, .. } => {
                let stream = listener.accept()?.0;
                stream.set_nonblocking(true)?;
                Stream::Unix(stream)
            }
            Self::Tcp(listener) => {
                let stream = listener.accept()?.0;
                stream.set_nonblocking(true)?;
                Stream::Tcp(stream)
            }
        })
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix { listener, .. } => listener.as_fd(),
            Self::Tcp(listener) => listener.as_fd(),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
        }
    }
}

impl Stream {
    /// Returns whether the client is root.
    pub(in crate::guard) fn is_root(&self) -> bool {
        self.user().is_some_and(Uid::is_root)
    }

    /// Returns the user of the client, if known.
    fn user(&self) -> Option<Uid> {
        self.credentials().map(|credentials| credentials.uid)
    }

    /// Returns the user and the process of the client, if known.
    pub(in crate::guard) fn sender(&self) -> Option<Sender> {
        let credentials = self.credentials()?;
        Some(Sender {
            uid: credentials.uid.as_raw(),
            pid: credentials.pid.as_raw_nonzero().get(),
        })
    }

    fn credentials(&self) -> Option<UCred> {
        match self {
            Self::Unix(stream) => socket_peercred(stream).ok(),
            Self::Tcp(_) => None,
        }
    }

    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(bytes),
            Self::Tcp(stream) => stream.read(bytes),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.write(bytes),
            Self::Tcp(stream) => stream.write(bytes),
        }
    }
}
