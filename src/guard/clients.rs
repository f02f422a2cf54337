//! Who is connected to a socket of guard: each asks once, is answered, and is let go.
//!
//! All of them are waited for together with everything else. Their number, their questions and their
//! time are limited, so that none of them holds up guard or another one.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::net::sockopt::socket_peercred;

/// How many clients are listened to at once; others wait. Some places are root's, and who finds no other
/// has to come again.
const CLIENTS: usize = 16;
const FOR_ROOT: usize = 4;
/// How long nobody is let in after that was not possible, for want of descriptors.
const REST: Duration = Duration::from_secs(1);
/// How long a client may take to ask, and to read the answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// A socket that waits for clients, and who is connected to it.
#[derive(Debug)]
pub(super) struct Clients {
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
    Unix(UnixListener, PathBuf),
    Tcp(TcpListener),
}

/// A connection.
#[derive(Debug)]
pub(super) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

#[derive(Debug)]
struct Client {
    number: usize,
    stream: Stream,
    said: Vec<u8>,
    /// What is left of the answer; none as long as there is no answer.
    answer: Option<Vec<u8>>,
    until: Instant,
    is_root: bool,
}

impl Clients {
    /// Listens at a path, for everybody; whatever is there is replaced.
    pub(super) fn at_path(path: &Path, longest: usize) -> io::Result<Self> {
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
        Ok(Self::new(
            Listener::Unix(listener, path.to_owned()),
            longest,
        ))
    }

    /// Listens at an address.
    pub(super) fn at_address(address: SocketAddr, longest: usize) -> io::Result<Self> {
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

    /// What to wait for.
    pub(super) fn sockets(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let open = self.connected.len() < CLIENTS && self.rest.is_none();
        let clients = self.connected.iter().map(|client| {
            let flags = match client.answer {
                Some(_) => PollFlags::OUT,
                None => PollFlags::IN,
            };
            (client.stream.as_fd(), flags)
        });
        open.then(|| (self.listener.as_fd(), PollFlags::IN))
            .into_iter()
            .chain(clients)
    }

    /// When the first client has had its time, or others are let in again.
    pub(super) fn next(&self) -> Option<Instant> {
        let clients = self.connected.iter().map(|client| client.until);
        clients.chain(self.rest).min()
    }

    /// Lets clients in and goes on with them. Each question that is whole is handed over with the
    /// number of its client: what `read` makes of the bytes, and whether they are too many to go on.
    pub(super) fn drain<Q>(
        &mut self,
        now: Instant,
        read: impl Fn(&[u8], bool, &Stream) -> Option<Q>,
        mut take: impl FnMut(usize, Q),
    ) {
        self.let_in(now);
        let longest = self.longest;
        self.connected.retain_mut(|client| {
            if client.answer.is_some() {
                return client.write() && client.until > now;
            }
            let mut bytes = [0; 1024];
            match client.stream.read(&mut bytes) {
                Ok(length @ 1..) => {
                    client.said.extend(&bytes[..length]);
                    let full = client.said.len() >= longest;
                    if let Some(question) = read(&client.said, full, &client.stream) {
                        take(client.number, question);
                        // Whatever else it says is of no interest.
                        client.answer = Some(Vec::new());
                    }
                    true
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => client.until > now,
                // It has gone.
                _ => false,
            }
        });
    }

    fn let_in(&mut self, now: Instant) {
        self.rest = self.rest.filter(|rest| *rest > now);
        // Over TCP nobody is told from others.
        let for_root = match self.listener {
            Listener::Unix(..) => FOR_ROOT,
            Listener::Tcp(_) => 0,
        };
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
            let is_root = stream.is_root();
            let others = self.connected.iter().filter(|client| !client.is_root);
            if !is_root && others.count() >= CLIENTS - for_root {
                continue;
            }
            self.number += 1;
            self.connected.push(Client {
                number: self.number,
                stream,
                said: Vec::new(),
                answer: None,
                until: now + PATIENCE,
                is_root,
            });
        }
    }

    /// Answers a client, as fast as it reads, and lets it go.
    pub(super) fn answer(&mut self, number: usize, answer: Vec<u8>) {
        let at = self.connected.iter().position(|c| c.number == number);
        let Some(at) = at else { return };
        self.connected[at].answer = Some(answer);
        if !self.connected[at].write() {
            self.connected.swap_remove(at);
        }
    }
}

impl Client {
    /// Writes what it takes now; says whether there is more.
    fn write(&mut self) -> bool {
        let Some(answer) = &mut self.answer else {
            return true;
        };
        while !answer.is_empty() {
            match self.stream.write(answer) {
                Ok(length @ 1..) => drop(answer.drain(..length)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                _ => return false,
            }
        }
        false
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        if let Listener::Unix(_, path) = &self.listener {
            // A successor replaces it.
            let _ = fs::remove_file(path);
        }
    }
}

impl Listener {
    fn accept(&self) -> io::Result<Stream> {
        Ok(match self {
            Self::Unix(listener, _) => {
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
            Self::Unix(listener, _) => listener.as_fd(),
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
    /// Whether it is known to be root's.
    pub(super) fn is_root(&self) -> bool {
        match self {
            Self::Unix(stream) => socket_peercred(stream).is_ok_and(|peer| peer.uid.is_root()),
            Self::Tcp(_) => false,
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
