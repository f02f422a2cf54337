//! Requests the status of a running guard, from another process.
//!
//! The answer is bounded in time and size, and accepted only from root or the own user: the listener need not
//! be a guard.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_peercred};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::geteuid;
use serde_json::Value;

use super::granted::{self, Request};
use super::record::SCHEMA;

/// The time limit of the whole exchange.
const PATIENCE: Duration = Duration::from_secs(2);
const LONG_PATIENCE: Duration = Duration::from_secs(30);
/// The longest answer, in bytes: a status, and all grants.
const LONGEST: usize = 1 << 20;
const LONGEST_LIST: usize = 64 << 20;

/// The result of a request to guard.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// No guard runs: the socket does not exist or refuses connections.
    Nobody,
    /// The status, a document of schema `dfw/guard/v2`.
    Status(Value),
    /// A process listens and does not answer.
    Silent {
        /// The process; `None` if it is in another PID namespace.
        process: Option<u32>,
        /// The reason.
        reason: &'static str,
    },
    /// Unknown, with the reason.
    Unknown(String),
}

/// Requests the status of the guard that listens on a path; takes two seconds at most.
#[must_use]
pub fn ask(path: &Path) -> Answer {
    ask_for(path, b"status\n", SCHEMA, (PATIENCE, LONGEST))
}

/// Sends a request about grants to the guard that listens on a path; takes half a minute at most. The answer is a
/// document of schema `dfw/grants/v1`.
#[must_use]
pub fn request(path: &Path, request: &Request) -> Answer {
    let text = serde_json::to_string(request).unwrap_or_default();
    let line = format!("grant {text}\n");
    let bounds = (LONG_PATIENCE, LONGEST_LIST);
    ask_for(path, line.as_bytes(), granted::SCHEMA, bounds)
}

fn ask_for(
    path: &Path,
    question: &[u8],
    schema: &str,
    (patience, longest): (Duration, usize),
) -> Answer {
    let until = Instant::now() + patience;
    let stream = match open(path) {
        Ok(stream) => stream,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::CONNREFUSED) => return Answer::Nobody,
        Err(Errno::AGAIN) => {
            return Answer::Silent {
                process: None,
                reason: "its connection queue is full",
            };
        }
        Err(error) => return Answer::Unknown(io::Error::from(error).to_string()),
    };
    // A process of another PID namespace has no number here.
    let peer = socket_peercred(&stream).ok();
    if let Some(peer) = &peer
        && !peer.uid.is_root()
        && peer.uid != geteuid()
    {
        return Answer::Unknown(format!(
            "process {} listens on the socket and runs as user {}, not as root",
            peer.pid,
            peer.uid.as_raw()
        ));
    }
    let process = peer.and_then(|peer| u32::try_from(peer.pid.as_raw_nonzero().get()).ok());
    let silent = |reason| Answer::Silent { process, reason };
    match exchange(stream, question, until, longest) {
        Ok(reply) if reply.is_empty() => silent("it closes the connection"),
        Ok(reply) if reply.len() > longest => silent("its answer is too long"),
        Ok(reply) => match serde_json::from_slice::<Value>(&reply) {
            Ok(status) if status["schema"] == schema => Answer::Status(status),
            _ => silent("its answer is not a status of this version of dfw"),
        },
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            silent("it is stopped, hung or busy")
        }
        Err(_) => silent("it closes the connection"),
    }
}

/// Connects; [`Errno::AGAIN`] if that takes too long, such as when the queue is full.
fn open(path: &Path) -> Result<UnixStream, Errno> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket.into())
}

/// Sends the request and reads the answer to its end or the size limit.
fn exchange(
    mut stream: UnixStream,
    question: &[u8],
    until: Instant,
    longest: usize,
) -> io::Result<Vec<u8>> {
    stream.set_nonblocking(true)?;
    let mut left = question;
    while !left.is_empty() {
        match stream.write(left) {
            Ok(length) => left = left.get(length..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                wait(&stream, PollFlags::OUT, until)?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if Instant::now() >= until {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    let mut reply = Vec::new();
    let mut bytes = [0; 4096];
    while reply.len() <= longest {
        match stream.read(&mut bytes) {
            Ok(0) => break,
            Ok(length) => reply.extend_from_slice(&bytes[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                wait(&stream, PollFlags::IN, until)?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        // A slow sender gets no more time.
        if Instant::now() >= until {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    Ok(reply)
}

/// Waits until the socket is ready or the time is over.
fn wait(stream: &UnixStream, flags: PollFlags, until: Instant) -> io::Result<()> {
    let left = until.saturating_duration_since(Instant::now());
    let left = Timespec::try_from(left).map_err(io::Error::other)?;
    match poll(&mut [PollFd::new(stream, flags)], Some(&left)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;

    use super::*;

    /// A temporary path, removed in the end.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let name = format!("dfw-inquiry-{name}-{}", std::process::id());
            Self(std::env::temp_dir().join(name))
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    /// Returns the result for a server that sends this answer and then closes the connection or not.
    fn answered(name: &str, answer: &[u8], hangs_up: bool) -> Answer {
        let place = Place::new(name);
        let listener = UnixListener::bind(&place.0).unwrap();
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| ask(&place.0));
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 7];
            stream.read_exact(&mut request).unwrap();
            assert_eq!(&request, b"status\n");
            // The client may have closed the connection.
            let _ = stream.write_all(answer);
            if hangs_up {
                drop(stream);
                return asked.join().unwrap();
            }
            asked.join().unwrap()
        })
    }

    fn silent(reason: &'static str) -> Answer {
        Answer::Silent {
            process: Some(std::process::id()),
            reason,
        }
    }

    #[test]
    fn a_socket_without_a_listener_is_no_guard() {
        let place = Place::new("nobody");
        assert_eq!(ask(&place.0), Answer::Nobody);
        drop(UnixListener::bind(&place.0).unwrap());
        assert!(place.0.exists());
        assert_eq!(ask(&place.0), Answer::Nobody);
        assert_eq!(ask(&place.0.join("below")), Answer::Nobody);
        let long = Path::new("/").join("x".repeat(200));
        assert!(matches!(ask(&long), Answer::Unknown(_)));
        std::fs::remove_file(&place.0).unwrap();
        let _datagrams = std::os::unix::net::UnixDatagram::bind(&place.0).unwrap();
        assert!(matches!(ask(&place.0), Answer::Unknown(_)));
    }

    #[test]
    fn a_silent_process_is_reported() {
        // No process accepts, as while guard is stopped.
        let place = Place::new("stopped");
        let listener = UnixListener::bind(&place.0).unwrap();
        assert_eq!(ask(&place.0), silent("it is stopped, hung or busy"));
        drop(listener);
        let half = br#"{"schema":"dfw/guard/v2""#;
        assert_eq!(
            answered("half", half, false),
            silent("it is stopped, hung or busy")
        );
        assert_eq!(
            answered("nothing", b"", true),
            silent("it closes the connection")
        );
    }

    #[test]
    fn what_is_no_status_is_none() {
        for (name, answer) in [
            ("garbage", &b"\xff\0\x1b[8m"[..]),
            ("http", b"HTTP/1.1 400 Bad Request\r\n\r\n"),
            ("list", b"[1]"),
            ("other", br#"{"schema":"dfw/guard/v9"}"#),
            ("deep", "[".repeat(10_000).as_bytes()),
        ] {
            let expected = silent("its answer is not a status of this version of dfw");
            assert_eq!(answered(name, answer, true), expected, "{name}");
        }
        let endless = vec![b' '; LONGEST + 8192];
        assert_eq!(
            answered("endless", &endless, false),
            silent("its answer is too long")
        );
        let status = br#"{"schema":"dfw/guard/v2","pid":1}"#;
        let status = answered("status", status, true);
        assert!(matches!(status, Answer::Status(status) if status["pid"] == 1));
    }

    #[test]
    fn a_full_queue_is_not_waited_for_without_end() {
        let place = Place::new("full");
        let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
        let listener = socket_with(family, kind, SocketFlags::CLOEXEC, None).unwrap();
        rustix::net::bind(&listener, &SocketAddrUnix::new(&place.0).unwrap()).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let first = UnixStream::connect(&place.0).unwrap();
        let asked = ask(&place.0);
        assert!(
            matches!(asked, Answer::Silent { process: None, .. }),
            "{asked:?}"
        );
        drop(first);
    }
}
