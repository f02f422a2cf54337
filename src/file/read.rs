//! Reading up to a bound.

use std::fmt::Display;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::open::{Accept, Opened, open, open_protected};
use super::rejected;

/// The most bytes that are read of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit(u64);

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

impl Limit {
    /// Of a policy: 8 MiB. All ports there are, each with a line of a hundred bytes, are less.
    pub const POLICY: Self = Self(8 * MIB);
    /// Of a list: 64 MiB. A million IPv6 networks are 44 MB at most.
    pub const LIST: Self = Self(64 * MIB);
    /// Of all files of one policy together: 256 MiB.
    pub const SUM: Self = Self(256 * MIB);
    /// Of what guard keeps: all files of a policy as JSON.
    pub const STATE: Self = Self(512 * MIB);

    /// Of the head of a bundle: 64 KiB.
    pub const HEAD: Self = Self(64 * KIB);
    /// Of the manifest of a bundle: 1 MiB.
    pub const MANIFEST: Self = Self(MIB);

    /// Creates a limit of these bytes, for a file whose size is known.
    #[must_use]
    pub fn of(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Returns the bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.0
    }

    /// Returns the error of a file that has more.
    #[must_use]
    pub fn exceeded(self) -> io::Error {
        let (number, unit) = match self.0 {
            bytes if bytes.is_multiple_of(MIB) => (bytes / MIB, "MiB"),
            bytes if bytes.is_multiple_of(KIB) => (bytes / KIB, "KiB"),
            bytes => (bytes, "bytes"),
        };
        rejected(format!(
            "larger than {number} {unit}, the most that dfw reads of such a file"
        ))
    }
}

/// Reads the whole file at `path`.
///
/// # Errors
/// As [`open`]'s, and if there is more than the limit.
pub fn read(path: &Path, accept: Accept, limit: Limit) -> io::Result<Vec<u8>> {
    open(path, accept)?.read(limit)
}

/// Reads the whole file at `path`, unless everybody can write to it or put another one in its place.
///
/// # Errors
/// As [`open_protected`]'s, and if there is more than the limit.
pub fn read_protected(path: &Path, accept: Accept, limit: Limit) -> io::Result<Vec<u8>> {
    open_protected(path, accept)?.read(limit)
}

/// Returns whether the file at `path` can be read and has exactly this text. Neither is in memory as a whole.
#[must_use]
pub fn holds(path: &Path, accept: Accept, limit: Limit, text: &impl Display) -> bool {
    let Ok(file) = open(path, accept).and_then(|opened| opened.stream(limit)) else {
        return false;
    };
    let mut rest = Rest(file);
    write!(rest, "{text}").is_ok() && matches!(rest.0.read(&mut [0]), Ok(0))
}

/// What is left of a stream after the bytes that were written to it, which must be the same.
struct Rest<R>(R);

impl<R: Read> Write for Rest<R> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut own = vec![0; bytes.len()];
        self.0.read_exact(&mut own)?;
        if own == bytes {
            Ok(bytes.len())
        } else {
            Err(rejected("another text"))
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Opened {
    /// Reads all of it.
    ///
    /// # Errors
    /// If it cannot be read without waiting, or there is more than the limit.
    pub fn read(self, limit: Limit) -> io::Result<Vec<u8>> {
        if self.size > limit.0 {
            return Err(limit.exceeded());
        }
        read_up_to(self.file, self.size, limit)
    }

    /// Returns a stream of all of it. It ends in an error if the file cannot be read without waiting, or has more
    /// than the limit.
    ///
    /// # Errors
    /// If the file has more than the limit already.
    pub fn stream(self, limit: Limit) -> io::Result<impl Read> {
        if self.size > limit.0 {
            return Err(limit.exceeded());
        }
        Ok(Bounded::new(self.file, limit))
    }
}

/// Reads all that a stream has, such as standard input; waits for it.
///
/// # Errors
/// As the stream's, and if there is more than the limit.
pub fn read_all(stream: impl Read + AsFd, limit: Limit) -> io::Result<Vec<u8>> {
    read_up_to(stream, 0, limit)
}

fn read_up_to(stream: impl Read + AsFd, expected: u64, limit: Limit) -> io::Result<Vec<u8>> {
    let room = usize::try_from(expected.min(limit.0)).unwrap_or(0);
    let mut bytes = Vec::with_capacity(room.saturating_add(1));
    Bounded::new(stream, limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A stream that ends in an error if there is more than the limit.
struct Bounded<R> {
    stream: io::Take<Waiting<R>>,
    limit: Limit,
}

impl<R: Read + AsFd> Bounded<R> {
    fn new(stream: R, limit: Limit) -> Self {
        // One byte more tells that there are more.
        let stream = Waiting(stream).take(limit.0 + 1);
        Self { stream, limit }
    }
}

impl<R: Read + AsFd> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.stream.read(buffer)?;
        if length > 0 && self.stream.limit() == 0 {
            return Err(self.limit.exceeded());
        }
        Ok(length)
    }
}

/// A stream that is waited for where it is a pipe; a file that would have to be waited for is none.
struct Waiting<R>(R);

impl<R: Read + AsFd> Read for Waiting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
            let stat = rustix::fs::fstat(&self.0)?;
            if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file() {
                return Err(rejected("nobody knows when it can be read"));
            }
            match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;

    #[test]
    fn what_is_larger_than_the_limit_is_an_error_and_costs_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list");
        fs::write(&path, "1234").unwrap();
        let whole = read(&path, Accept::Regular, Limit(4)).unwrap();
        assert_eq!(whole, b"1234");
        assert!(read(&path, Accept::Regular, Limit(3)).is_err());
        // Its size is enough to know.
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        let error = read(&path, Accept::Regular, Limit::LIST).unwrap_err();
        assert!(error.to_string().contains("larger than 64 MiB"), "{error}");
    }

    #[test]
    fn a_file_is_compared_with_a_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list");
        let holds = |text: &str| holds(&path, Accept::Regular, Limit(8), &text);
        assert!(!holds(""));
        for (text, limit) in [
            ("", true),
            ("1234", true),
            ("12345678", true),
            ("123456789", false),
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(holds(text), limit, "{text}");
            assert!(!holds(&format!("{text}0")) && !holds("x"), "{text}");
            assert!(text.is_empty() || !holds(&text[1..]), "{text}");
        }
    }

    #[test]
    fn a_file_that_grows_while_it_is_read_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list");
        fs::write(&path, "12").unwrap();
        let opened = open(&path, Accept::Regular).unwrap();
        fs::write(&path, "12345678").unwrap();
        assert!(opened.read(Limit(4)).is_err());
    }

    #[test]
    fn a_pipe_is_waited_for_and_bounded() {
        let (reader, mut writer) = io::pipe().unwrap();
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
        assert!(open(Path::new(&path), Accept::Regular).is_err());
        let opened = open(Path::new(&path), Accept::Pipes).unwrap();
        std::thread::scope(|scope| {
            let read = scope.spawn(|| opened.read(Limit(4)));
            writer.write_all(b"1234").unwrap();
            drop(writer);
            assert_eq!(read.join().unwrap().unwrap(), b"1234");
        });
        let error = read_all(File::open("/dev/zero").unwrap(), Limit(1000)).unwrap_err();
        assert!(error.to_string().contains("larger than"), "{error}");
    }

    #[test]
    fn a_million_networks_fit_well() {
        let longest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ff00/120\n".len();
        assert!(u64::try_from(longest).unwrap() * 1_400_000 < Limit::LIST.bytes());
    }
}
