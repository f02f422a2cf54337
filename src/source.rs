//! Texts of policy files and lists, and spans into them.
//!
//! This is the only place where dfw reads policy files. It knows nothing of what they mean.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use thiserror::Error;

use crate::file::{self, Accept, Limit};
use crate::untrusted;

/// How many files a policy has at most, lists included.
const FILES: usize = 4096;
/// How many folders beside policies are looked into, and how deep, for policies that nobody reads.
const FOLDERS: usize = 64;
const DEPTH: u32 = 4;

/// A file known to a [`Sources`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub(crate) u32);

/// A range of bytes of one file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The file.
    pub file: FileId,
    /// The bytes of its text, on character boundaries and inside the file.
    pub bytes: BytesRange,
}

/// Start (inclusive) and end (exclusive) of a span, in bytes.
pub type BytesRange = (usize, usize);

impl Span {
    /// The bytes from `start` to `end` of `file`.
    #[must_use]
    pub fn new(file: FileId, start: usize, end: usize) -> Self {
        Self {
            file,
            bytes: (start, end),
        }
    }

    /// The bytes as a range.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        self.bytes.0..self.bytes.1
    }
}

/// Why there are no policies to read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The directory or one of its files cannot be read.
    #[error("cannot read {}: {error}", untrusted::path(path))]
    Unreadable {
        /// The directory or file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The directory holds no file whose name ends in `.yaml`.
    #[error(
        "no policies in {}: no file there has a name that ends in `.yaml`",
        untrusted::path(path)
    )]
    NoPolicies {
        /// The directory.
        path: PathBuf,
        /// What is there and looks like policies.
        neglected: Vec<Neglected>,
    },
}

/// What is wrong with a file before anybody looks at what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// The file is not UTF-8. Its [text](Sources::text) has U+FFFD where it is not.
    NotUtf8 {
        /// The first bytes that are not UTF-8, as a place in that text.
        at: usize,
        /// It begins with the mark of UTF-16.
        utf16: bool,
    },
    /// The file is beside policies and looks like one, but its name does not end in `.yaml`: it
    /// would silently be left out.
    WrongExtension,
    /// The file is no text: what it is, such as `gzip`, and how to make text of it.
    NotText {
        /// What it is.
        what: &'static str,
        /// How to go on.
        help: &'static str,
    },
}

/// What is beside policies, looks like some, and is not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Neglected {
    /// A folder with files whose names are those of policies.
    Folder(PathBuf),
    /// A folder with files whose names end in `.json`, and none like those of policies.
    JsonFolder(PathBuf),
    /// A file whose name ends in `.json`.
    Json(PathBuf),
}

/// Where the bytes come from.
#[derive(Debug)]
enum Store {
    Disk {
        /// Whether a file that everybody can change, or replace, is an error.
        strict: bool,
    },
    Memory(BTreeMap<PathBuf, Vec<u8>>),
}

/// The texts of all files that were read so far.
#[derive(Debug)]
pub struct Sources {
    store: Store,
    files: Vec<File>,
    lists: BTreeMap<PathBuf, FileId>,
    neglected: Vec<Neglected>,
    exposed: BTreeSet<PathBuf>,
    /// The bytes of all files.
    size: u64,
}

#[derive(Debug)]
struct File {
    path: PathBuf,
    name: String,
    text: String,
    problem: Option<Problem>,
    /// Where each line begins; found when somebody asks for a line.
    lines: OnceLock<Vec<usize>>,
}

impl Default for Sources {
    fn default() -> Self {
        Self::new()
    }
}

impl Sources {
    /// Reads from the file system.
    #[must_use]
    pub fn new() -> Self {
        Self::on(Store::Disk { strict: false })
    }

    /// The same for a daemon: what everybody can write to is an error, and so is a pipe.
    #[must_use]
    pub fn strict() -> Self {
        Self::on(Store::Disk { strict: true })
    }

    /// Reads from `files` (path, contents) instead of the file system.
    pub fn in_memory<P, C>(files: impl IntoIterator<Item = (P, C)>) -> Self
    where
        P: Into<PathBuf>,
        C: Into<Vec<u8>>,
    {
        let files = files.into_iter().map(|(p, c)| (p.into(), c.into()));
        Self::on(Store::Memory(files.collect()))
    }

    fn on(store: Store) -> Self {
        Self {
            store,
            files: Vec::new(),
            lists: BTreeMap::new(),
            neglected: Vec::new(),
            exposed: BTreeSet::new(),
            size: 0,
        }
    }

    /// Reads the policies at `path`: a file, or the `*.yaml` files of a directory, sorted by name.
    ///
    /// Files that begin with a dot are left out. Files such as `x.yml`, which a user would expect
    /// to be read, are among the result and carry a [`Problem`]; others are [neglected](Self::neglected).
    pub fn read_policies(&mut self, path: &Path) -> Result<Vec<FileId>, ReadError> {
        let unreadable = |path: &Path| {
            let path = path.to_path_buf();
            move |error| ReadError::Unreadable { path, error }
        };
        let entries = self.store.directory(path);
        let entries = entries.map_err(|error| explain(path, error));
        let Some(entries) = entries.map_err(unreadable(path))? else {
            let file = self.read(path, Accept::Pipes, Limit::POLICY, None);
            return Ok(vec![file.map_err(unreadable(path))?]);
        };
        let mut files = Vec::new();
        let mut folders = FOLDERS;
        for (path, is_folder) in entries {
            let kind = judge_name(&path);
            if is_folder {
                let inside = self.store.inside(&path, &mut folders, DEPTH);
                self.neglected.extend(inside.map(|kind| match kind {
                    Inside::Policies => Neglected::Folder(path.clone()),
                    Inside::Json => Neglected::JsonFolder(path.clone()),
                }));
            }
            let problem = match kind {
                Kind::Policy => None,
                Kind::Misnamed => Some(Problem::WrongExtension),
                Kind::Json if !is_folder => {
                    self.neglected.push(Neglected::Json(path));
                    continue;
                }
                Kind::Json | Kind::Other => continue,
            };
            let file = self.read(&path, Accept::Regular, Limit::POLICY, problem);
            files.push(file.map_err(unreadable(&path))?);
        }
        if files.is_empty() {
            return Err(ReadError::NoPolicies {
                path: path.to_path_buf(),
                neglected: std::mem::take(&mut self.neglected),
            });
        }
        Ok(files)
    }

    /// What is beside the policies, looks like more of them, and was not read.
    #[must_use]
    pub fn neglected(&self) -> &[Neglected] {
        &self.neglected
    }

    /// The files that were read, or folders on the way to them, that everybody can write to.
    pub fn exposed(&self) -> impl Iterator<Item = &Path> {
        self.exposed.iter().map(PathBuf::as_path)
    }

    /// Reads one file that is no policy.
    pub fn read_file(&mut self, path: &Path) -> Result<FileId, ReadError> {
        self.read(path, Accept::Pipes, Limit::LIST, None)
            .map_err(|error| {
                let path = path.to_path_buf();
                ReadError::Unreadable { path, error }
            })
    }

    /// Takes a text that was read elsewhere, such as stdin, under a `name` for people.
    pub fn take(&mut self, name: &str, bytes: Vec<u8>) -> FileId {
        self.add(PathBuf::from(name), bytes, None)
    }

    /// Reads the list at `path`, which is relative to the folder of the file `relative_to`.
    ///
    /// A list that was read before is not read again.
    pub fn read_list(&mut self, relative_to: FileId, path: &str) -> io::Result<FileId> {
        let folder = self
            .file(relative_to)
            .and_then(|file| file.path.parent())
            .unwrap_or(Path::new(""));
        let path = folder.join(path);
        if let Some(&known) = self.lists.get(&path) {
            return Ok(known);
        }
        let id = self.read(&path, Accept::Regular, Limit::LIST, None)?;
        self.lists.insert(path, id);
        Ok(id)
    }

    /// Reads a file within the bounds for it and for all of them together.
    fn read(
        &mut self,
        path: &Path,
        accept: Accept,
        limit: Limit,
        problem: Option<Problem>,
    ) -> io::Result<FileId> {
        if self.files.len() >= FILES {
            return Err(io::Error::other(
                "more than 4096 files, the most that a policy has",
            ));
        }
        let read = self.store.read(path, accept, limit);
        let (bytes, exposed) = read.map_err(|error| explain(path, error))?;
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.size = self.size.saturating_add(size);
        if self.size > Limit::SUM.bytes() {
            return Err(io::Error::other(
                "with it the files of this policy are larger than 256 MiB, the most that dfw reads",
            ));
        }
        self.exposed.extend(exposed);
        Ok(self.add(path.to_path_buf(), bytes, problem))
    }

    fn add(&mut self, path: PathBuf, bytes: Vec<u8>, problem: Option<Problem>) -> FileId {
        let (text, encoding) = decode(bytes);
        // Nobody has four thousand million files; the number cannot wrap.
        let id = FileId(u32::try_from(self.files.len()).unwrap_or(u32::MAX));
        self.files.push(File {
            name: untrusted::path(&path),
            path,
            text,
            problem: problem.or(encoding),
            lines: OnceLock::new(),
        });
        id
    }

    fn file(&self, id: FileId) -> Option<&File> {
        self.files.get(usize::try_from(id.0).ok()?)
    }

    /// All files that were read, lists included, with their texts.
    pub fn files(&self) -> impl Iterator<Item = (&Path, &str)> {
        self.files
            .iter()
            .map(|file| (file.path.as_path(), file.text.as_str()))
    }

    /// The name of the file, as the user would write it.
    #[must_use]
    pub fn name(&self, file: FileId) -> &str {
        self.file(file).map_or("", |file| &file.name)
    }

    /// The text of the file, without a byte order mark.
    #[must_use]
    pub fn text(&self, file: FileId) -> &str {
        self.file(file).map_or("", |file| &file.text)
    }

    /// What is wrong with the file as a whole.
    #[must_use]
    pub fn problem(&self, file: FileId) -> Option<&Problem> {
        self.file(file).and_then(|file| file.problem.as_ref())
    }

    /// The line and column where `span` begins, both from 1; columns count characters.
    #[must_use]
    pub fn line_column(&self, span: &Span) -> (u32, u32) {
        self.position(span.file, span.bytes.0)
    }

    /// The line and column of a byte of the file, both from 1; columns count characters.
    #[must_use]
    pub fn position(&self, file: FileId, byte: usize) -> (u32, u32) {
        let Some(file) = self.file(file) else {
            return (1, 1);
        };
        let lines = file.lines();
        let line = lines.partition_point(|&start| start <= byte).max(1);
        let start = lines.get(line - 1).copied().unwrap_or(0);
        let column = file
            .text
            .get(start..byte)
            .map_or(0, |before| before.chars().count());
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        (count(line), count(column.saturating_add(1)))
    }

    /// The line with this number (from 1), without its line break; empty past the end.
    #[must_use]
    pub fn line_span(&self, file: FileId, line: u32) -> Span {
        let Some(found) = self.file(file) else {
            return Span::new(file, 0, 0);
        };
        let lines = found.lines();
        let index = usize::try_from(line)
            .unwrap_or(usize::MAX)
            .saturating_sub(1);
        let length = found.text.len();
        let start = lines.get(index).copied().unwrap_or(length);
        let end = lines
            .get(index.saturating_add(1))
            .copied()
            .unwrap_or(length);
        let text = found.text.get(start..end).unwrap_or("");
        Span::new(
            file,
            start,
            start + text.trim_end_matches(['\n', '\r']).len(),
        )
    }
}

impl File {
    fn lines(&self) -> &[usize] {
        self.lines.get_or_init(|| {
            let breaks = self.text.bytes().enumerate().filter(|&(_, b)| b == b'\n');
            std::iter::once(0)
                .chain(breaks.map(|(at, _)| at + 1))
                .collect()
        })
    }
}

impl Store {
    /// The entries of the directory, sorted, each with whether it is a folder; `None` if `path` is
    /// something else.
    fn directory(&self, path: &Path) -> io::Result<Option<Vec<(PathBuf, bool)>>> {
        let mut entries: Vec<_> = match self {
            Self::Disk { .. } => {
                let Some(names) = file::folder(path)? else {
                    return Ok(None);
                };
                names
                    .into_iter()
                    .map(|(name, is_folder)| (path.join(name), is_folder))
                    .collect()
            }
            Self::Memory(files) => {
                if files.contains_key(path) {
                    return Ok(None);
                }
                if !files.keys().any(|file| file.starts_with(path)) {
                    return Err(io::Error::from_raw_os_error(2));
                }
                let inside = files.keys().filter(|file| file.parent() == Some(path));
                inside.map(|file| (file.clone(), false)).collect()
            }
        };
        entries.sort();
        Ok(Some(entries))
    }

    /// What looks like policies by its name in this folder or below it; looks into so many folders only.
    fn inside(&self, folder: &Path, left: &mut usize, depth: u32) -> Option<Inside> {
        if is_hidden(folder) || depth == 0 || *left == 0 {
            return None;
        }
        *left -= 1;
        // What cannot be read is nothing that was meant to be.
        let entries = self.directory(folder).ok().flatten().unwrap_or_default();
        let mut found = None;
        for (path, is_folder) in entries {
            let this = if is_folder {
                self.inside(&path, left, depth - 1)
            } else {
                match judge_name(&path) {
                    Kind::Policy | Kind::Misnamed => Some(Inside::Policies),
                    Kind::Json => Some(Inside::Json),
                    Kind::Other => None,
                }
            };
            match this {
                Some(Inside::Policies) => return this,
                Some(Inside::Json) => found = this,
                None => {}
            }
        }
        found
    }

    /// The bytes of a file, and what everybody can write to of it and of what leads to it.
    fn read(
        &self,
        path: &Path,
        accept: Accept,
        limit: Limit,
    ) -> io::Result<(Vec<u8>, Option<PathBuf>)> {
        match self {
            Self::Disk { strict } => {
                let accept = if *strict { Accept::Regular } else { accept };
                let opened = file::open(path, accept)?;
                let exposed = opened.exposed.clone();
                if let (true, Some(at)) = (strict, &exposed) {
                    return Err(io::Error::other(format!(
                        "everybody can write to {}: `chmod o-w` it",
                        untrusted::path(at)
                    )));
                }
                Ok((opened.read(limit)?, exposed))
            }
            Self::Memory(files) => files
                .get(path)
                .map(|bytes| (bytes.clone(), None))
                .ok_or_else(|| io::Error::from_raw_os_error(2)),
        }
    }
}

/// What there is in a folder beside policies.
#[derive(Clone, Copy)]
enum Inside {
    Policies,
    Json,
}

/// What the name of a file in a directory of policies says about it.
enum Kind {
    Policy,
    /// A policy by its contents, probably; see [`Problem::WrongExtension`].
    Misnamed,
    Json,
    Other,
}

/// The error, or a better one where nothing is there because it is elsewhere.
fn explain(path: &Path, error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::NotFound && is_url(&path.to_string_lossy()) {
        return io::Error::other("dfw fetches nothing: save it as a file, and name that");
    }
    error
}

/// Whether a text is, or ends in, the address of something to fetch.
#[must_use]
pub fn is_url(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| {
        let scheme = scheme.rsplit('/').next().unwrap_or(scheme);
        !scheme.is_empty()
            && scheme
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"+.-".contains(&b))
    })
}

fn is_hidden(path: &Path) -> bool {
    let hidden = |name: &OsStr| name.as_encoded_bytes().starts_with(b".");
    path.file_name().is_none_or(hidden)
}

fn judge_name(path: &Path) -> Kind {
    if is_hidden(path) {
        return Kind::Other;
    }
    match path.extension() {
        Some(extension) if extension == "yaml" => Kind::Policy,
        Some(extension)
            if extension.eq_ignore_ascii_case("yaml") || extension.eq_ignore_ascii_case("yml") =>
        {
            Kind::Misnamed
        }
        Some(extension) if extension.eq_ignore_ascii_case("json") => Kind::Json,
        _ => Kind::Other,
    }
}

fn decode(mut bytes: Vec<u8>) -> (String, Option<Problem>) {
    if let Some(problem) = no_text(&bytes) {
        return (String::new(), Some(problem));
    }
    if bytes.starts_with(b"\xef\xbb\xbf") {
        bytes.drain(..3);
    }
    let utf16 = bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff");
    String::from_utf8(bytes).map_or_else(
        |error| {
            let at = error.utf8_error().valid_up_to();
            let bytes = error.into_bytes();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            (text, Some(Problem::NotUtf8 { at, utf16 }))
        },
        |text| (text, None),
    )
}

/// What a file that is no text is, by how it begins.
fn no_text(bytes: &[u8]) -> Option<Problem> {
    const FORMATS: [(&[u8], &str, &str); 6] = [
        (
            b"\x1f\x8b",
            "compressed by gzip",
            "unpack it first: `gunzip FILE`",
        ),
        (
            b"\x28\xb5\x2f\xfd",
            "compressed by zstd",
            "unpack it first: `unzstd FILE`",
        ),
        (
            b"\xfd7zXZ\0",
            "compressed by xz",
            "unpack it first: `unxz FILE`",
        ),
        (
            b"BZh",
            "compressed by bzip2",
            "unpack it first: `bunzip2 FILE`",
        ),
        (
            b"PK\x03\x04",
            "a ZIP archive",
            "unpack it first: `unzip FILE`",
        ),
        (
            b"%PDF-",
            "a PDF",
            "a policy or a list is plain text in UTF-8",
        ),
    ];
    let known = FORMATS.iter().find(|(magic, ..)| bytes.starts_with(magic));
    if let Some((_, what, help)) = known {
        return Some(Problem::NotText { what, help });
    }
    let utf32 = bytes.starts_with(b"\xff\xfe\0\0") || bytes.starts_with(b"\0\0\xfe\xff");
    if utf32 {
        return Some(Problem::NotText {
            what: "UTF-32",
            help: "save it as UTF-8: `iconv -f UTF-32 -t UTF-8 FILE`",
        });
    }
    // The beginning is enough: text has none of them at all.
    let head = &bytes[..bytes.len().min(4096)];
    let zeros = |odd: usize| {
        head.iter()
            .skip(odd)
            .step_by(2)
            .filter(|byte| **byte == 0)
            .count()
    };
    let (even, odd) = (zeros(0), zeros(1));
    if even + odd == 0 || bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return None;
    }
    // ASCII in UTF-32 has three zeros for each character.
    let utf32 = |character: usize| {
        let mut quads = head.chunks_exact(4).peekable();
        quads.peek().is_some()
            && quads.all(|quad| (0..4).all(|at| (quad.get(at) == Some(&0)) != (at == character)))
    };
    // ASCII in UTF-16 has a zero in every second byte.
    let utf16 = even.max(odd) * 4 > head.len() && even.min(odd) * 4 <= even.max(odd);
    let (what, help) = if utf32(0) {
        (
            "UTF-32",
            "save it as UTF-8: `iconv -f UTF-32LE -t UTF-8 FILE`",
        )
    } else if utf32(3) {
        (
            "UTF-32",
            "save it as UTF-8: `iconv -f UTF-32BE -t UTF-8 FILE`",
        )
    } else if utf16 && even > odd {
        (
            "UTF-16, the higher byte first",
            "save it as UTF-8: `iconv -f UTF-16BE -t UTF-8 FILE`",
        )
    } else if utf16 {
        (
            "UTF-16, as some programs on Windows save text",
            "save it as UTF-8: `iconv -f UTF-16LE -t UTF-8 FILE`",
        )
    } else {
        (
            "no text: it has zero bytes",
            "a policy or a list is plain text in UTF-8",
        )
    };
    Some(Problem::NotText { what, help })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn memory(files: &[(&str, &str)]) -> Sources {
        Sources::in_memory(files.iter().map(|(path, text)| (*path, *text)))
    }

    #[test]
    fn a_directory_is_its_yaml_files_sorted() {
        let mut sources = memory(&[
            ("p/b.yaml", "b"),
            ("p/a.yaml", "a"),
            ("p/.hidden.yaml", ""),
            ("p/README.md", ""),
            ("p/sub/c.yaml", ""),
        ]);
        let files = sources.read_policies(Path::new("p")).unwrap();
        let names: Vec<_> = files.iter().map(|&f| sources.name(f)).collect();
        assert_eq!(names, ["p/a.yaml", "p/b.yaml"]);
    }

    #[test]
    fn no_file_and_no_policy_are_told_apart() {
        let mut sources = memory(&[("p/list.txt", "")]);
        let error = sources.read_policies(Path::new("q")).unwrap_err();
        assert!(error.to_string().starts_with("cannot read q: No such file"));
        let error = sources.read_policies(Path::new("p")).unwrap_err();
        assert!(error.to_string().starts_with("no policies in p"));
    }

    #[test]
    fn a_file_with_a_near_name_is_not_left_out_silently() {
        let mut sources = memory(&[("p/a.yml", ""), ("p/b.YAML", "")]);
        let files = sources.read_policies(Path::new("p")).unwrap();
        assert_eq!(files.len(), 2);
        for file in files {
            assert_eq!(sources.problem(file), Some(&Problem::WrongExtension));
        }
    }

    #[test]
    fn lines_and_columns_count_characters_from_one() {
        let mut sources = memory(&[("a.yaml", "\u{feff}ab\r\nüx\nz")]);
        let file = sources.read_policies(Path::new("a.yaml")).unwrap()[0];
        assert_eq!(sources.text(file), "ab\r\nüx\nz");
        assert_eq!(sources.line_column(&Span::new(file, 0, 1)), (1, 1));
        assert_eq!(sources.line_column(&Span::new(file, 6, 7)), (2, 2));
        assert_eq!(sources.line_column(&Span::new(file, 8, 9)), (3, 1));
        assert_eq!(sources.line_span(file, 1).range(), 0..2);
        assert_eq!(sources.line_span(file, 2).range(), 4..7);
        assert_eq!(sources.line_span(file, 3).range(), 8..9);
        assert_eq!(sources.line_span(file, 4).range(), 9..9);
    }

    #[test]
    fn a_list_is_beside_its_policy_and_read_once() {
        let mut sources = memory(&[("p/a.yaml", ""), ("p/lists/x", "1.2.3.4")]);
        let file = sources.read_policies(Path::new("p")).unwrap()[0];
        let list = sources.read_list(file, "lists/x").unwrap();
        assert_eq!(sources.name(list), "p/lists/x");
        assert_eq!(sources.read_list(file, "lists/x").unwrap(), list);
        assert!(sources.read_list(file, "lists/y").is_err());
    }

    #[test]
    fn bytes_that_are_not_utf8_are_found() {
        let mut sources = Sources::in_memory([("a.yaml", b"ab\xffc".to_vec())]);
        let file = sources.read_policies(Path::new("a.yaml")).unwrap()[0];
        let problem = Problem::NotUtf8 {
            at: 2,
            utf16: false,
        };
        assert_eq!(sources.problem(file), Some(&problem));
        assert_eq!(sources.text(file), "ab\u{fffd}c");
    }

    #[test]
    fn each_encoding_has_its_own_advice() {
        let units = |text: &str| text.encode_utf16().collect::<Vec<u16>>();
        let wide = |text: &str| text.chars().map(u32::from).collect::<Vec<u32>>();
        let text = "203.0.113.7\n203.0.113.8\n";
        let (two, four) = (units(text), wide(text));
        let le: Vec<u8> = two.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        let be: Vec<u8> = two.iter().flat_map(|unit| unit.to_be_bytes()).collect();
        let le4: Vec<u8> = four.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        let be4: Vec<u8> = four.iter().flat_map(|unit| unit.to_be_bytes()).collect();
        let marked = |mark: &[u8], bytes: &[u8]| [mark, bytes].concat();
        for (bytes, from) in [
            (le, "UTF-16LE"),
            (be, "UTF-16BE"),
            (le4.clone(), "UTF-32LE"),
            (be4.clone(), "UTF-32BE"),
            (marked(b"\xff\xfe\0\0", &le4), "UTF-32"),
            (marked(b"\0\0\xfe\xff", &be4), "UTF-32"),
        ] {
            let Some(Problem::NotText { help, .. }) = decode(bytes).1 else {
                panic!("{from} is taken for text");
            };
            assert!(help.contains(&format!("iconv -f {from} -t")), "{help}");
        }
        let Some(Problem::NotText { what, .. }) = decode(vec![0; 64]).1 else {
            panic!("zeros are taken for text");
        };
        assert_eq!(what, "no text: it has zero bytes");
    }

    #[test]
    fn the_file_system_reads_the_same_way() {
        let folder = std::env::temp_dir().join(format!("dfw-source-{}", std::process::id()));
        fs::create_dir_all(folder.join("d.yaml")).unwrap();
        let mut sources = Sources::new();
        let error = sources.read_policies(&folder).unwrap_err().to_string();
        assert!(
            error.ends_with("d.yaml: not a regular file: a folder"),
            "{error}"
        );
        fs::remove_dir(folder.join("d.yaml")).unwrap();
        fs::write(folder.join("a.yaml"), "a").unwrap();
        let files = sources.read_policies(&folder).unwrap();
        assert_eq!(sources.text(files[0]), "a");
        fs::remove_dir_all(&folder).unwrap();
    }
}
