//! Metrics over HTTP, for Prometheus on this host: `GET /metrics` only.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Instant;

use httparse::{EMPTY_HEADER, Error, Request as Head, Status};

use crate::guard::feeds::clients::{Answer, Clients};
use crate::guard::feeds::event::{Event, Request};
use crate::guard::feeds::feed::Polled;

/// The longest request, in bytes, and the most headers that it may have.
const LONGEST: usize = 4096;
const HEADERS: usize = 32;

/// The address of the metrics socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// At a path.
    Unix(PathBuf),
    /// At a loopback address.
    Tcp(SocketAddr),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORMS: &str = "unix:/run/dfw/metrics.sock, 127.0.0.1:9123 or [::1]:9123";
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            return if path.is_absolute() {
                Ok(Self::Unix(path))
            } else {
                Err(format!("a path begins with a slash: {FORMS}"))
            };
        }
        match text.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => Ok(Self::Tcp(address)),
            Ok(address) => Err(format!(
                "{} is not a loopback address: metrics are for this host only, at {FORMS}",
                address.ip()
            )),
            Err(_) => Err(format!("expected {FORMS}")),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => path.display().fmt(f),
            Self::Tcp(address) => address.fmt(f),
        }
    }
}

/// The socket and its clients.
#[derive(Debug)]
pub(in crate::guard) struct Scrapes(Clients);

impl Scrapes {
    pub(in crate::guard) fn open(at: &Listen) -> io::Result<Self> {
        match at {
            Listen::Unix(path) => Clients::at_path(path, LONGEST),
            Listen::Tcp(address) => Clients::at_address(*address, LONGEST),
        }
        .map(Self)
    }

    pub(in crate::guard) fn sockets(&self) -> impl Iterator<Item = Polled<'_>> {
        self.0.sockets()
    }

    pub(in crate::guard) fn next(&self) -> Option<Instant> {
        self.0.next()
    }

    pub(in crate::guard) fn drain(&mut self, now: Instant, events: &mut Vec<Event>) {
        let take = |number, request| events.push(Event::Scrape(number, request));
        self.0
            .drain(now, |bytes, full, _| request(bytes, full), take);
    }

    /// Answers a client.
    pub(in crate::guard) fn answer(&mut self, number: usize, answer: Answer) {
        self.0.answer(number, answer);
    }
}

/// Returns the answer with metrics: those of guard, and the shared text of the ports.
pub(in crate::guard) fn figures(totals: &str, ports: Arc<str>) -> Answer {
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    answer("200 OK", kind, totals, ports)
}

/// Returns an error answer with this status.
pub(in crate::guard) fn rejection(status: &str) -> Answer {
    let kind = "text/plain; charset=utf-8";
    answer(status, kind, &format!("{status}\n"), "".into())
}

fn answer(status: &str, kind: &str, first: &str, body: Arc<str>) -> Answer {
    let length = first.len() + body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{first}"
    );
    Answer {
        head: head.into_bytes(),
        body,
    }
}

/// Returns the request, once it is complete.
fn request(bytes: &[u8], full: bool) -> Option<Request> {
    let mut headers = [EMPTY_HEADER; HEADERS];
    let mut head = Head::new(&mut headers);
    Some(match head.parse(bytes) {
        Ok(Status::Complete(_)) => {
            let path = head.path.unwrap_or_default();
            match (head.method, path.split('?').next()) {
                (Some("GET"), Some("/metrics")) => Request::Figures,
                (Some("GET"), _) => Request::Rejected("404 Not Found"),
                _ => Request::Rejected("405 Method Not Allowed"),
            }
        }
        Ok(Status::Partial) if !full => return None,
        Ok(Status::Partial) | Err(Error::TooManyHeaders) => {
            Request::Rejected("431 Request Header Fields Too Large")
        }
        Err(_) => Request::Rejected("400 Bad Request"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_host_may_ask() {
        for right in ["unix:/run/dfw/metrics.sock", "127.0.0.1:9123", "[::1]:9123"] {
            let listen: Listen = right.parse().unwrap();
            assert_eq!(listen.to_string(), right.trim_start_matches("unix:"));
        }
        for (wrong, says) in [
            ("0.0.0.0:9123", "0.0.0.0 is not a loopback address"),
            ("[2001:db8::1]:9123", "not a loopback address"),
            ("unix:metrics", "begins with a slash"),
            ("9123", "expected"),
            ("localhost:9123", "expected"),
        ] {
            let bytes = wrong.parse::<Listen>().unwrap_err();
            assert!(bytes.contains(says), "{bytes}");
        }
    }

    #[test]
    fn requests_are_distinguished() {
        let of = |text: &str| request(text.as_bytes(), false);
        let rejected = |status| Some(Request::Rejected(status));
        let whole = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
        assert_eq!(of(whole), Some(Request::Figures));
        assert_eq!(
            of("GET /metrics?x=1 HTTP/1.0\r\n\r\n"),
            Some(Request::Figures)
        );
        for length in 0..whole.len() {
            assert_eq!(of(&whole[..length]), None);
        }
        assert_eq!(of("GET / HTTP/1.1\r\n\r\n"), rejected("404 Not Found"));
        assert_eq!(
            of("POST /metrics HTTP/1.1\r\n\r\n"),
            rejected("405 Method Not Allowed")
        );
        assert_eq!(of("\0\r\n"), rejected("400 Bad Request"));
        let large = rejected("431 Request Header Fields Too Large");
        assert_eq!(request(b"GET /metrics HTTP/1.1\r\nA: b", true), large);
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(HEADERS + 1));
        assert_eq!(of(&many), large);
    }
}
