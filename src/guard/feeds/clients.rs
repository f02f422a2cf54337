//! Who is connected to a socket of guard: each asks once, is answered, and is let go.
//!
//! All of them are waited for together with everything else. Their number, their questions and their
//! time are limited, and so is what is done for each in a turn of the loop, so that none of them holds up
//! guard or another one.

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
use rustix::net::sockopt::socket_peercred;
use rustix::process::{Uid, umask};

use super::feed::Polled;

/// How many clients are listened to at once; others wait. Some places are root's, and no other user has
/// more than some of the rest: who finds none has to come again.
const CLIENTS: usize = 16;
const FOR_ROOT: usize = 4;
const FOR_USER: usize = 8;
/// How long nobody is let in after that was not possible, for want of descriptors.
const REST: Duration = Duration::from_secs(1);
/// How long a client may take to ask, and then to read the answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a client waits at most for what guard has to find out first.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How much of an answer is written at once, in bytes: other clients and the rules have their turns.
const AT_ONCE: usize = 256 * 1024;

/// A socket that waits for clients, and who is connected to it.
#[derive(Debug)]
pub(in crate::guard) struct Clients {
    listener: Listener,
    connected: Vec<Client>,
    /// Until when nobody is let in.
    rest: Option<Instant>,
    /// The longest question, in bytes.
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

/// A file that no other one can be taken for while it is there.
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
    /// Whose it is; `None` where nobody is told from others.
    user: Option<Uid>,
}

/// How far a client is.
#[derive(Debug)]
enum State {
    /// What it has said so far is no whole question.
    Asking(Vec<u8>),
    /// Its answer is not there yet. Nothing that it does matters until then.
    Waiting,
    /// What it is answered, and how many bytes of that it has.
    Answered(Answer, usize),
}

/// An answer. Many clients can share the greater part of it.
#[derive(Debug)]
pub(in crate::guard) struct Answer {
    /// What is for this client.
    pub(in crate::guard) head: Vec<u8>,
    /// The text that follows.
    pub(in crate::guard) body: Arc<str>,
}

impl Answer {
    /// Returns what is left behind so many bytes.
    fn rest(&self, at: usize) -> &[u8] {
        match self.head.get(at..) {
            Some(rest @ [_, ..]) => rest,
            _ => &self.body.as_bytes()[at - self.head.len()..],
        }
    }
}

impl Clients {
    /// Listens at a path, for everybody; whatever is there is replaced.
    pub(in crate::guard) fn at_path(path: &Path, longest: usize) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        // Who listens there is a guard that has lost the table to this one, or is dead.
        if let Err(error) = fs::remove_file(path)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        // Everybody may connect. To change the mode afterwards would be to change that of whatever is there
        // by then: the folder may be another user's.
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

    /// Returns what to wait for.
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

    /// Returns when the first client has had its time, or others are let in again.
    pub(in crate::guard) fn next(&self) -> Option<Instant> {
        let clients = self.connected.iter().map(|client| client.until);
        clients.chain(self.rest).min()
    }

    /// Lets clients in and goes on with them. Each question that is whole is handed over with the
    /// number of its client: what `read` makes of the bytes, and whether they are too many to go on.
    pub(in crate::guard) fn drain<Q>(
        &mut self,
        now: Instant,
        read: impl Fn(&[u8], bool, &Stream) -> Option<Q>,
        mut take: impl FnMut(usize, Q),
    ) {
        self.let_in(now);
        let longest = self.longest;
        self.connected.retain_mut(|client| {
            let said = match &mut client.state {
                State::Asking(said) => said,
                State::Waiting => return client.until > now,
                State::Answered(..) => return client.write() && client.until > now,
            };
            let mut bytes = [0; 1024];
            match client.stream.read(&mut bytes) {
                Ok(length @ 1..) => {
                    said.extend(&bytes[..length]);
                    let full = said.len() >= longest;
                    if let Some(question) = read(said, full, &client.stream) {
                        // Whatever else it says is of no interest.
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
        // Whoever knocks all the time holds up nothing else.
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

    /// Returns whether one more client of a user is listened to. Over TCP nobody is told from others.
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

    /// Answers a client, as fast as it reads, and lets it go.
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
    /// Writes what it takes now, up to a bound; says whether there is more.
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
    /// Returns whether it is known to be root's.
    pub(in crate::guard) fn is_root(&self) -> bool {
        self.user().is_some_and(Uid::is_root)
    }

    /// Returns whose it is, if that is known.
    fn user(&self) -> Option<Uid> {
        match self {
            Self::Unix(stream) => Some(socket_peercred(stream).ok()?.uid),
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
