//! How many sockets this network namespace has: one that is new shows there at a hundredth of the cost of asking
//! sock_diag for all of them.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{Access, AtFlags, Mode, OFlags, accessat, open};

use super::has_sctp;

/// The kernel's files (`net/ipv4/proc.c`, `net/ipv6/proc.c`), and what begins the lines whose first number changes when
/// a socket is bound or begins to listen. A kernel without IPv6 lacks the second file.
const FILES: [(&str, &[&str]); 2] = [
    ("/proc/net/sockstat", &["TCP: inuse ", "UDP: inuse "]),
    ("/proc/net/sockstat6", &["TCP6: inuse ", "UDP6: inuse "]),
];
/// The line that counts sockets of every kind: those of SCTP have no line of their own.
const ALL: &str = "sockets: used ";
/// The longest part of a file that is read; the kernel writes less.
const LONGEST: usize = 4096;

/// The files that count sockets, open.
#[derive(Debug)]
pub struct SocketCounts {
    files: Vec<(File, &'static [&'static str])>,
    /// `/proc/net`: a look from there takes a third of that along the path, which leads through two links.
    directory: Option<OwnedFd>,
}

/// The numbers of sockets at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts(Vec<Option<u64>>);

impl SocketCounts {
    /// Opens the files.
    ///
    /// # Errors
    /// If there is none.
    pub fn open() -> io::Result<Self> {
        let mut files = Vec::new();
        for (path, lines) in FILES {
            match File::open(path) {
                Ok(file) => files.push((file, lines)),
                Err(error) if files.is_empty() => return Err(error),
                Err(_) => {}
            }
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = open("/proc/net", flags, Mode::empty()).ok();
        Ok(Self { files, directory })
    }

    /// Reads the numbers. Equal numbers do not prove that nothing changed: a socket may have taken another one's place.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn read(&self) -> io::Result<Counts> {
        let mut counts = Vec::new();
        let with_all = self.has_sctp();
        let mut bytes = [0; LONGEST];
        for (file, lines) in &self.files {
            let length = file.read_at(&mut bytes, 0)?;
            let text = String::from_utf8_lossy(bytes.get(..length).unwrap_or_default());
            let all = with_all.then_some(ALL);
            let lines = lines.iter().copied().chain(all);
            counts.extend(lines.map(|line| number(&text, line)));
        }
        Ok(Counts(counts))
    }

    /// Returns whether SCTP is loaded, as [`has_sctp`] does.
    fn has_sctp(&self) -> bool {
        let Some(directory) = &self.directory else {
            return has_sctp();
        };
        accessat(directory, "sctp", Access::EXISTS, AtFlags::empty()).is_ok()
    }
}

/// Returns the number behind the beginning of a line.
fn number(text: &str, beginning: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(beginning))?;
    rest.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_number_of_a_line_counts() {
        let text =
            "sockets: used 26\nTCP: inuse 12 orphan 5 tw 0 alloc 139 mem 199\nUDP: inuse 3 mem 0\n";
        assert_eq!(number(text, ALL), Some(26));
        assert_eq!(number(text, "TCP: inuse "), Some(12));
        assert_eq!(number(text, "UDP: inuse "), Some(3));
        assert_eq!(number(text, "UDP6: inuse "), None);
    }

    #[test]
    fn a_new_socket_counts() {
        // Other tests open sockets as well, but close none of so many.
        let counts = SocketCounts::open().unwrap();
        let before = counts.read().unwrap();
        let opened: Vec<_> = (0..64)
            .map(|_| std::net::UdpSocket::bind("127.0.0.1:0").unwrap())
            .collect();
        assert_ne!(counts.read().unwrap(), before);
        drop(opened);
    }
}
