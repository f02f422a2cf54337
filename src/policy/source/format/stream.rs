//! Strict `lines` of a stream: a list of a million entries is never in memory as a text.

use std::io::Read;

use memchr::{memchr_iter, memrchr};

use crate::net::{AddressSet, Unmerged};
use crate::text::{FileId, SourceMap};

use super::lines;

/// How many bytes are read at once.
const PIECE: u64 = 1 << 16;

/// Why a list is not used.
pub(in crate::policy::source) struct Reason {
    /// For those who may read the list.
    pub(in crate::policy::source) text: String,
    /// For all others: without a word of it.
    pub(in crate::policy::source) public: String,
}

impl From<String> for Reason {
    fn from(text: String) -> Self {
        let public = text.clone();
        Self { text, public }
    }
}

/// Reads a list of this name; returns the number of its bytes, too.
///
/// # Errors
/// The first error, in one sentence.
pub(in crate::policy::source) fn read_lines(
    name: &str,
    mut stream: impl Read,
) -> Result<(AddressSet, usize), Reason> {
    let mut set = Unmerged::default();
    let (mut size, mut line) = (0, 1);
    let mut piece = Vec::new();
    loop {
        let start = piece.len();
        let mut next = stream.by_ref().take(PIECE);
        let read = next.read_to_end(&mut piece);
        let read = read.map_err(|error| error.to_string())?;
        size += read;
        let end = match memrchr(b'\n', &piece[start..]) {
            _ if read == 0 => piece.len(),
            Some(at) => start + at + 1,
            // A line that is longer than a piece.
            None => continue,
        };
        let rest = piece.split_off(end);
        let text = text(name, std::mem::replace(&mut piece, rest), line)?;
        add(&text, line, &mut set)?;
        line += memchr_iter(b'\n', text.as_bytes()).count();
        if read == 0 {
            return Ok((set.merge(), size));
        }
    }
}

/// Returns the text of a piece that begins at this line of a list.
fn text(name: &str, bytes: Vec<u8>, line: usize) -> Result<String, Reason> {
    if line > 1 {
        return String::from_utf8(bytes).map_err(|error| {
            let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = line + memchr_iter(b'\n', valid).count();
            format!("line {line} is not UTF-8").into()
        });
    }
    // The first bytes say what it is instead of text.
    let mut texts = SourceMap::in_memory::<&str, &str>([]);
    let file = texts.take(name, bytes);
    match texts.error(file) {
        Some(problem) => Err(Reason {
            public: problem.public(),
            text: problem.message,
        }),
        None => Ok(texts.text(file).to_owned()),
    }
}

/// Adds the entries of a piece that begins at this line of a list.
fn add(text: &str, line: usize, set: &mut Unmerged) -> Result<(), Reason> {
    let mut report = Vec::new();
    lines::add(FileId(0), text, lines::strict, set, &mut report);
    let Some(first) = report.into_iter().next() else {
        return Ok(());
    };
    let before = first.primary.as_ref().map(|label| label.span.range().start);
    let before = text.get(..before.unwrap_or(0)).unwrap_or_default();
    let line = line + memchr_iter(b'\n', before.as_bytes()).count();
    Err(Reason {
        public: format!("line {line}: {}", first.public()),
        text: format!("line {line}: {}", first.message),
    })
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    fn read(text: &str) -> Result<(AddressSet, usize), String> {
        read_lines("list", text.as_bytes()).map_err(|reason| reason.text)
    }

    /// Some pieces long.
    fn long(count: u32) -> String {
        let mut text = String::from("\u{feff}# a list\r\n");
        for number in 0..count {
            let _ = writeln!(text, "{}", std::net::Ipv4Addr::from(number * 2));
        }
        text
    }

    #[test]
    fn a_list_is_the_same_in_pieces() {
        let text = long(50_000);
        for text in [&*text, text.trim_end()] {
            let (set, size) = read(text).unwrap();
            assert_eq!((set.len(), size), (50_000, text.len()));
        }
        let (set, _) = read(&set_text(&text)).unwrap();
        assert_eq!(set.len(), 50_000);
        for (text, count) in [("", 0), ("\n", 0), ("192.0.2.1", 1)] {
            assert_eq!(read(text).unwrap().0.len(), count, "{text}");
        }
        // One line of several pieces.
        let comment = format!("#{}\n192.0.2.1\n", "x".repeat(200_000));
        assert_eq!(read(&comment).unwrap().0.len(), 1);
    }

    /// The text of the set of a list.
    fn set_text(text: &str) -> String {
        read(text).unwrap().0.lines().to_string()
    }

    #[test]
    fn an_error_is_in_its_line() {
        let text = long(50_000);
        for wrong in ["x\n", "192.0.2.1/24\n", "192.0.2.1 192.0.2.2"] {
            let error = read(&format!("{text}{wrong}")).unwrap_err();
            assert!(error.starts_with("line 50002: "), "{error}");
        }
        let mut bytes = text.into_bytes();
        bytes.extend(b"192.0.2.1\n\xff\n");
        let error = read_lines("list", &*bytes).err().unwrap().public;
        assert_eq!(error, "line 50003 is not UTF-8");
        // A web page is only recognised where it begins.
        let error = read("<html>\n").unwrap_err();
        assert!(error.starts_with("line 1: this list is "), "{error}");
    }
}
