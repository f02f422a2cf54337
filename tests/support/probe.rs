//! Traffic: one question and its outcome, conversations that go on, and pings.

use std::fmt;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, ipproto, socket_with};

use super::service::GREETING;

/// How long an answer that must come may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
/// How long to listen for an answer that must not come.
pub(crate) const SILENCE: Duration = Duration::from_secs(1);
/// How often a datagram is sent again while its answer is missing.
const AGAIN: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Udp,
}

/// What a client sees of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The server has answered.
    Open,
    /// The network has said no: a reset, or an ICMP error.
    Refused,
    /// Nothing came back.
    Silent,
    /// A connection without data. With a firewall this means that a packet passed,
    /// so it is neither open nor closed.
    Mute,
}

impl Outcome {
    pub(crate) fn is_closed(self) -> bool {
        matches!(self, Self::Refused | Self::Silent)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Refused => "refused",
            Self::Silent => "silent",
            Self::Mute => "mute",
        })
    }
}

/// Asks once from the calling thread's namespace and waits `patience` for an answer.
pub(crate) fn ask(
    transport: Transport,
    from: Option<IpAddr>,
    to: SocketAddr,
    patience: Duration,
) -> Result<Outcome> {
    let deadline = Instant::now() + patience;
    let answer = match transport {
        Transport::Tcp => greeted(from, to, deadline),
        Transport::Udp => returned(from, to, deadline),
    };
    match answer {
        Ok(outcome) => Ok(outcome),
        Err(error) => verdict_of(&error).with_context(|| format!("{transport:?} to {to}")),
    }
}

fn greeted(from: Option<IpAddr>, to: SocketAddr, deadline: Instant) -> Result<Outcome> {
    let mut stream = connect(from, to, left(deadline))?;
    stream.set_read_timeout(Some(left(deadline)))?;
    let mut greeting = [0; GREETING.len()];
    match stream.read_exact(&mut greeting) {
        Ok(()) if greeting == GREETING.as_bytes() => Ok(Outcome::Open),
        Ok(()) => bail!("an unexpected greeting: {greeting:?}"),
        Err(error) if is_timeout(&error) => Ok(Outcome::Mute),
        // docker-proxy closes when it cannot reach the container.
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(Outcome::Refused),
        Err(error) => Err(error.into()),
    }
}

fn returned(from: Option<IpAddr>, to: SocketAddr, deadline: Instant) -> Result<Outcome> {
    let socket = datagram(from, to)?;
    loop {
        socket.send(GREETING.as_bytes())?;
        socket.set_read_timeout(Some(AGAIN.min(left(deadline))))?;
        match socket.recv(&mut [0; 64]) {
            Ok(_) => return Ok(Outcome::Open),
            Err(error) if is_timeout(&error) && Instant::now() < deadline => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// What an error of a socket says about the port; any other error is the lab's own.
fn verdict_of(error: &anyhow::Error) -> Result<Outcome> {
    let system = error
        .downcast_ref::<std::io::Error>()
        .and_then(std::io::Error::raw_os_error)
        .or_else(|| {
            error
                .downcast_ref::<Errno>()
                .map(|errno| errno.raw_os_error())
        });
    match system.map(Errno::from_raw_os_error) {
        Some(Errno::INPROGRESS | Errno::AGAIN | Errno::TIMEDOUT) => Ok(Outcome::Silent),
        Some(
            Errno::CONNREFUSED
            | Errno::CONNRESET
            | Errno::HOSTUNREACH
            | Errno::NETUNREACH
            | Errno::ACCESS,
        ) => Ok(Outcome::Refused),
        _ => bail!("{error:#}"),
    }
}

/// Opens a connection from the calling thread's namespace.
pub(crate) fn connect(
    from: Option<IpAddr>,
    to: SocketAddr,
    patience: Duration,
) -> Result<TcpStream> {
    let socket = open(to, SocketType::STREAM, None)?;
    // A blocking connect obeys the send timeout.
    set_socket_timeout(&socket, Timeout::Send, Some(patience))?;
    if let Some(from) = from {
        rustix::net::bind(&socket, &SocketAddr::new(from, 0))?;
    }
    rustix::net::connect(&socket, &to)?;
    Ok(TcpStream::from(socket))
}

fn datagram(from: Option<IpAddr>, to: SocketAddr) -> Result<UdpSocket> {
    let socket = open(to, SocketType::DGRAM, None)?;
    if let Some(from) = from {
        rustix::net::bind(&socket, &SocketAddr::new(from, 0))?;
    }
    rustix::net::connect(&socket, &to)?;
    Ok(UdpSocket::from(socket))
}

fn open(to: SocketAddr, kind: SocketType, protocol: Option<Protocol>) -> Result<OwnedFd> {
    let family = match to {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    // What a trial starts meanwhile must not inherit it, and keep the port.
    Ok(socket_with(family, kind, SocketFlags::CLOEXEC, protocol)?)
}

fn left(deadline: Instant) -> Duration {
    // Zero would mean "for ever" to the kernel.
    deadline
        .saturating_duration_since(Instant::now())
        .max(Duration::from_millis(1))
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
    )
}

/// Sends a word until it has come to another socket, or for so long.
pub(crate) fn arrives(
    from: &UdpSocket,
    to: SocketAddr,
    receiver: &UdpSocket,
    patience: Duration,
) -> Result<bool> {
    receiver.set_nonblocking(true)?;
    while receiver.recv_from(&mut [0; 16]).is_ok() {}
    receiver.set_nonblocking(false)?;
    receiver.set_read_timeout(Some(AGAIN))?;
    let begin = Instant::now();
    while begin.elapsed() < patience {
        // An ICMP error about what was sent before is no loss of this one.
        if from.send_to(b"word", to).is_ok()
            && matches!(receiver.recv_from(&mut [0; 16]), Ok((4, _)))
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A flow that stays the same flow from one question to the next.
pub(crate) struct Conversation {
    socket: Socket,
    said: u64,
}

enum Socket {
    Stream(TcpStream),
    Datagram(UdpSocket),
}

impl Conversation {
    /// Opens a flow from the calling thread's namespace and proves that it works.
    pub(crate) fn open(transport: Transport, from: Option<IpAddr>, to: SocketAddr) -> Result<Self> {
        let socket = match transport {
            Transport::Tcp => {
                let mut stream = connect(from, to, PATIENCE)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                let mut byte = [0];
                while byte != *b"\n" {
                    stream.read_exact(&mut byte).context("no greeting")?;
                }
                Socket::Stream(stream)
            }
            Transport::Udp => Socket::Datagram(datagram(from, to)?),
        };
        let mut conversation = Self { socket, said: 0 };
        ensure!(
            conversation.echoes(PATIENCE)?,
            "a new conversation with {to} is not answered"
        );
        Ok(conversation)
    }

    /// Says something new and tells whether exactly that comes back in time.
    pub(crate) fn echoes(&mut self, patience: Duration) -> Result<bool> {
        self.said += 1;
        let word = format!("{:020}", self.said);
        let deadline = Instant::now() + patience;
        match &mut self.socket {
            Socket::Stream(stream) => {
                stream.write_all(word.as_bytes())?;
                echoed_in_stream(stream, word.as_bytes(), deadline)
            }
            Socket::Datagram(socket) => echoed_in_datagrams(socket, word.as_bytes(), deadline),
        }
    }

    /// Sends and takes back so much that every packet on the way is as large as the path allows.
    pub(crate) fn echoes_bulk(&mut self, length: usize) -> Result<bool> {
        let Socket::Stream(stream) = &mut self.socket else {
            bail!("bulk needs a stream");
        };
        let sent = vec![b'.'; length];
        let mut writer = stream.try_clone()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        writer.set_write_timeout(Some(PATIENCE))?;
        std::thread::scope(|scope| {
            let writing = scope.spawn(|| writer.write_all(&sent));
            let mut returned = vec![0; length];
            let complete = stream.read_exact(&mut returned).is_ok();
            let written = writing.join().is_ok_and(|written| written.is_ok());
            Ok(complete && written && returned == sent)
        })
    }
}

fn echoed_in_stream(stream: &mut TcpStream, word: &[u8], deadline: Instant) -> Result<bool> {
    let mut heard = Vec::new();
    let mut buffer = [0; 256];
    while !heard.ends_with(word) {
        stream.set_read_timeout(Some(left(deadline)))?;
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(false),
            Ok(length) => heard.extend_from_slice(&buffer[..length]),
            Err(error) if is_timeout(&error) => return Ok(false),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

fn echoed_in_datagrams(socket: &UdpSocket, word: &[u8], deadline: Instant) -> Result<bool> {
    let mut buffer = [0; 256];
    while Instant::now() < deadline {
        let step = socket.send(word).and_then(|_| {
            socket.set_read_timeout(Some(AGAIN.min(left(deadline))))?;
            socket.recv(&mut buffer)
        });
        match step {
            Ok(length) if &buffer[..length] == word => return Ok(true),
            // An answer to what was said before, which had come too late.
            Ok(_) => {}
            Err(error) if is_timeout(&error) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

/// Whether `to` answers an echo request.
pub(crate) fn ping(to: IpAddr) -> Result<bool> {
    let (protocol, request, reply) = match to {
        IpAddr::V4(_) => (ipproto::ICMP, 8, 0),
        IpAddr::V6(_) => (ipproto::ICMPV6, 128, 129),
    };
    let to = SocketAddr::new(to, 0);
    let socket = open(to, SocketType::DGRAM, Some(protocol))?;
    rustix::net::connect(&socket, &to)?;
    let socket = UdpSocket::from(socket);
    let deadline = Instant::now() + PATIENCE;
    let mut buffer = [0; 64];
    while Instant::now() < deadline {
        // The kernel fills in the checksum and the identifier.
        socket.send(&[request, 0, 0, 0, 0, 0, 0, 1])?;
        socket.set_read_timeout(Some(AGAIN))?;
        match socket.recv(&mut buffer) {
            Ok(length) if length >= 8 && buffer[0] == reply => return Ok(true),
            Ok(_) => {}
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}
