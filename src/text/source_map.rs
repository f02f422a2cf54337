//! The source map: the texts of policy files and lists.
//!
//! This is the only place where dfw reads policy files. It knows nothing of what they mean.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::io::Errno;
use rustix::process::geteuid;
use thiserror::Error;

use crate::file::{Accept, Limit};
use crate::untrusted;

use super::diagnostic::Diagnostic;
use super::encoding::decode;
use super::files::{Files, explain};
use super::problem::Problem;
use super::span::{FileId, Span};

/// The most files of a policy, lists included.
const FILES: usize = 4096;
/// What the names of lists that were accepted begin with.
pub(crate) const ACCEPTED: &str = "accepted-";

/// A file that cannot be read.
#[derive(Debug, Error)]
#[error("cannot read {}: {error}", untrusted::path(path))]
pub struct Unreadable {
    /// The file or folder.
    pub path: PathBuf,
    /// The error of the system.
    #[source]
    pub error: io::Error,
}

/// The texts of all files that were read, by number.
#[derive(Debug)]
pub struct SourceMap {
    from: Files,
    /// The files of a bundle, in place of those of the file system: nothing beside them is a policy or a list of a
    /// policy.
    packed: Option<Files>,
    files: Vec<File>,
    lists: BTreeMap<PathBuf, FileId>,
    /// Warnings about files, which have no place in a text.
    warnings: Vec<Diagnostic>,
    exposed: BTreeSet<PathBuf>,
    /// The size of all files together, in bytes.
    size: u64,
    former_spellings: bool,
    fetched: Fetched,
}

/// Where fetched lists are.
#[derive(Debug, Default)]
struct Fetched {
    /// The folder that `dfw fetch` writes to.
    cache: Option<PathBuf>,
    /// The folder of those that were accepted.
    accepted: Option<PathBuf>,
    /// The files that were looked for in the cache.
    wanted: BTreeSet<PathBuf>,
    /// Why new lists are not used, by their keys.
    refused: BTreeMap<String, String>,
    /// How many lists were counted.
    counted: usize,
    /// Whether the policy is read to know what to fetch.
    is_for_fetching: bool,
}

#[derive(Debug)]
struct File {
    path: PathBuf,
    name: String,
    text: String,
    problem: Option<Problem>,
    /// The offset of each line; computed on first use.
    lines: OnceLock<Vec<usize>>,
}

impl Default for SourceMap {
    fn default() -> Self {
        Self::new()
    }
}

impl SourceMap {
    /// Creates a map that reads from the file system.
    #[must_use]
    pub fn new() -> Self {
        Self::on(Files::Disk { strict: false })
    }

    /// Creates a map for a daemon: pipes, and files that other users can write to, are errors.
    #[must_use]
    pub fn strict() -> Self {
        Self::on(Files::Disk { strict: true })
    }

    /// Creates a map that reads from `files` (path, contents) instead of the file system.
    pub fn in_memory<P, C>(files: impl IntoIterator<Item = (P, C)>) -> Self
    where
        P: Into<PathBuf>,
        C: Into<Vec<u8>>,
    {
        let files = files.into_iter().map(|(p, c)| (p.into(), c.into()));
        Self::on(Files::Memory(files.collect()))
    }

    fn on(from: Files) -> Self {
        Self {
            from,
            packed: None,
            files: Vec::new(),
            lists: BTreeMap::new(),
            warnings: Vec::new(),
            exposed: BTreeSet::new(),
            size: 0,
            former_spellings: false,
            fetched: Fetched::default(),
        }
    }

    /// Reads fetched lists in the folder `cache`, and those that were accepted before in `accepted`. Without
    /// this, nothing was ever fetched.
    #[must_use]
    pub fn with_fetched(mut self, cache: PathBuf, accepted: Option<PathBuf>) -> Self {
        self.fetched.cache = Some(cache);
        self.fetched.accepted = accepted;
        self
    }

    /// Takes no new list with one of these keys, for a reason.
    #[must_use]
    pub(crate) fn refusing(mut self, refused: BTreeMap<String, String>) -> Self {
        self.fetched.refused = refused;
        self
    }

    /// Returns why a new list with this key is not used; `None` if it may be.
    pub(crate) fn refusal(&self, key: &str) -> Option<&str> {
        self.fetched.refused.get(key).map(String::as_str)
    }

    /// Reads policies and their lists from `files` (path, contents) only. Fetched lists and those that were accepted
    /// stay where they are.
    pub(crate) fn pack(&mut self, files: BTreeMap<PathBuf, Vec<u8>>) {
        self.packed = Some(Files::Memory(files));
    }

    /// Returns where policies and their lists are.
    fn own(&self) -> &Files {
        self.packed.as_ref().unwrap_or(&self.from)
    }

    /// Reads no fetched list: the policy only says what to fetch, and must not come into force.
    #[must_use]
    pub(crate) fn for_fetching(mut self) -> Self {
        self.fetched.is_for_fetching = true;
        self
    }

    /// Returns whether the policy only says what to fetch.
    pub(crate) fn is_for_fetching(&self) -> bool {
        self.fetched.is_for_fetching
    }

    /// Returns the folder of fetched lists.
    pub(crate) fn cache(&self) -> Option<&Path> {
        self.fetched.cache.as_deref()
    }

    /// Returns the files that were looked for in the folder of fetched lists, there or not.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = &Path> {
        self.fetched.wanted.iter().map(PathBuf::as_path)
    }

    /// Opens the list that was fetched last; `None` if there is none. Its text is not kept: a list may have a
    /// million lines.
    pub(crate) fn cached(&self, key: &str) -> io::Result<Option<Box<dyn Read + '_>>> {
        let Some(cache) = &self.fetched.cache else {
            return Ok(None);
        };
        let path = cache.join(key);
        if_there(self.from.stream(&path, Accept::InPlace, Limit::LIST))
    }

    /// Notes that a fetched list is looked for.
    pub(crate) fn want(&mut self, key: &str) {
        if let Some(cache) = &self.fetched.cache {
            self.fetched.wanted.insert(cache.join(key));
        }
    }

    /// Opens the list that was accepted last; `None` if there is none.
    pub(crate) fn accepted(&self, key: &str) -> io::Result<Option<Box<dyn Read + '_>>> {
        let Some(folder) = &self.fetched.accepted else {
            return Ok(None);
        };
        let path = folder.join(format!("{ACCEPTED}{key}"));
        match if_there(self.from.stream(&path, Accept::InPlace, Limit::LIST)) {
            // Only root puts a policy in force; the folder is closed to others.
            Err(error) if self.is_for_others(&error) => Ok(None),
            read => read,
        }
    }

    /// Returns whether an error says that this user may not read a file, and another user may. A daemon must
    /// read all files.
    pub(crate) fn is_for_others(&self, error: &io::Error) -> bool {
        let is_denied = error.raw_os_error() == Some(Errno::ACCESS.raw_os_error());
        is_denied && !geteuid().is_root() && !matches!(self.from, Files::Disk { strict: true })
    }

    /// Counts a fetched list of this size in bytes.
    ///
    /// # Errors
    /// If the policy has too many files, or they are too large together.
    pub(crate) fn count_fetched(&mut self, size: usize) -> io::Result<()> {
        self.count(size)?;
        self.fetched.counted += 1;
        Ok(())
    }

    /// Accepts former names of policy keys: the texts are dfw's own copies of an earlier version.
    pub(crate) fn accept_former_spellings(&mut self) {
        self.former_spellings = true;
    }

    /// Returns whether keys may have the names that they had in version 1 of guard's state.
    pub(crate) fn has_former_spellings(&self) -> bool {
        self.former_spellings
    }

    /// Adds a warning about files beside the policies.
    pub(crate) fn warn(&mut self, warning: Diagnostic) {
        self.warnings.push(warning);
    }

    /// Returns the warnings about ignored files and about files that other users can modify.
    pub(crate) fn warnings(&self) -> impl Iterator<Item = Diagnostic> {
        let exposed = self.exposed.iter().map(|path| {
            let path = untrusted::path(path);
            let message = format!("everybody on this host can write to {path}");
            Diagnostic::warning("world-writable", message).help(
                "take that away with `chmod o-w`; `dfw guard` reads no policy and no list like this",
            )
        });
        self.warnings.iter().cloned().chain(exposed)
    }

    /// Returns the sorted entries of a directory, each with whether it is a directory; `None` if `path` is not
    /// one.
    ///
    /// # Errors
    /// If it cannot be read, or is not there.
    pub(crate) fn folder(&self, path: &Path) -> Result<Option<Vec<(PathBuf, bool)>>, Unreadable> {
        let entries = self.own().folder(path);
        entries.map_err(|error| unreadable(path, explain(path, error)))
    }

    /// Reads a policy file; `problem` is a problem that is already known.
    ///
    /// # Errors
    /// If it cannot be read, or is larger than a policy may be.
    pub(crate) fn read_policy(
        &mut self,
        path: &Path,
        accept: Accept,
        problem: Option<Problem>,
    ) -> Result<FileId, Unreadable> {
        let file = self.read(path, accept, Limit::POLICY, problem);
        file.map_err(|error| unreadable(path, error))
    }

    /// Reads a file that is not a policy.
    ///
    /// # Errors
    /// If it cannot be read, or is larger than a list may be.
    pub fn read_file(&mut self, path: &Path) -> Result<FileId, Unreadable> {
        let file = self.read(path, Accept::Pipes, Limit::LIST, None);
        file.map_err(|error| unreadable(path, error))
    }

    /// Takes a text that was read elsewhere, such as stdin, under a `name` for people.
    pub fn take(&mut self, name: &str, bytes: Vec<u8>) -> FileId {
        self.add(PathBuf::from(name), bytes, None)
    }

    /// Reads the list at `path`, which is relative to the folder of the file `relative_to`.
    ///
    /// A list that was read before is not read again.
    ///
    /// # Errors
    /// If it cannot be read, is larger than a list may be, or the policy has too many files.
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
        let read = self.own().read(path, accept, limit);
        let (bytes, exposed) = read.map_err(|error| explain(path, error))?;
        self.count(bytes.len())?;
        self.exposed.extend(exposed);
        Ok(self.add(path.to_path_buf(), bytes, problem))
    }

    /// Counts a file of this size, if there is room for it.
    fn count(&mut self, size: usize) -> io::Result<()> {
        if self.files.len() + self.fetched.counted >= FILES {
            return Err(io::Error::other(
                "more than 4096 files, the most that a policy has",
            ));
        }
        let size = u64::try_from(size).unwrap_or(u64::MAX);
        self.size = self.size.saturating_add(size);
        if self.size > Limit::SUM.bytes() {
            return Err(io::Error::other(
                "with it the files of this policy are larger than 256 MiB, the most that dfw reads",
            ));
        }
        Ok(())
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

    /// Returns all files that were read, lists included, with their texts.
    pub fn files(&self) -> impl Iterator<Item = (&Path, &str)> {
        self.files
            .iter()
            .map(|file| (file.path.as_path(), file.text.as_str()))
    }

    /// Drops the texts of lists, except those to `keep`: a million IPv6 addresses are 40 MB of text.
    pub(crate) fn release_lists(&mut self, keep: impl Fn(FileId) -> bool) {
        let lists = self.lists.values().copied();
        for id in lists.filter(|id| !keep(*id)) {
            let file = usize::try_from(id.0).ok();
            if let Some(file) = file.and_then(|at| self.files.get_mut(at)) {
                file.text = String::new();
                file.lines = OnceLock::new();
            }
        }
    }

    /// Returns the name of the file, as the user would write it.
    #[must_use]
    pub fn name(&self, file: FileId) -> &str {
        self.file(file).map_or("", |file| &file.name)
    }

    /// Returns the path of the file as it was given.
    pub(crate) fn path(&self, file: FileId) -> Option<&Path> {
        self.file(file).map(|file| &*file.path)
    }

    /// Returns where the file is, from the root; `None` if that is not known.
    pub(crate) fn absolute(&self, file: FileId) -> Option<PathBuf> {
        std::path::absolute(&self.file(file)?.path).ok()
    }

    /// Returns the text of the file, without a byte order mark.
    #[must_use]
    pub fn text(&self, file: FileId) -> &str {
        self.file(file).map_or("", |file| &file.text)
    }

    /// Returns the problem of the whole file, if any.
    #[must_use]
    pub fn problem(&self, file: FileId) -> Option<&Problem> {
        self.file(file).and_then(|file| file.problem.as_ref())
    }

    /// Returns the error about the whole file, if any.
    #[must_use]
    pub fn error(&self, file: FileId) -> Option<Diagnostic> {
        let found = self.file(file)?;
        let problem = found.problem.as_ref()?;
        Some(problem.error(file, &found.name, &found.text))
    }

    /// Returns the line and column where `span` begins, both from 1; columns count characters.
    #[must_use]
    pub fn line_column(&self, span: &Span) -> (u32, u32) {
        self.position(span.file, span.bytes.0)
    }

    /// Returns the line and column of a byte of the file, both from 1; columns count characters.
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

    /// Returns the line with this number (from 1), without its line break; empty past the end.
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

/// What was read, if it is there.
fn if_there<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn unreadable(path: &Path, error: io::Error) -> Unreadable {
    let path = path.to_path_buf();
    Unreadable { path, error }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(files: &[(&str, &str)]) -> SourceMap {
        SourceMap::in_memory(files.iter().map(|(path, text)| (*path, *text)))
    }

    #[test]
    fn lines_and_columns_count_characters_from_one() {
        let mut sources = memory(&[("a.yaml", "\u{feff}ab\r\nüx\nz")]);
        let file = sources.read_file(Path::new("a.yaml")).unwrap();
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
        let file = sources.read_file(Path::new("p/a.yaml")).unwrap();
        let list = sources.read_list(file, "lists/x").unwrap();
        assert_eq!(sources.name(list), "p/lists/x");
        assert_eq!(sources.read_list(file, "lists/x").unwrap(), list);
        assert!(sources.read_list(file, "lists/y").is_err());
    }

    #[test]
    fn bytes_that_are_not_utf8_are_found() {
        let mut sources = SourceMap::in_memory([("a.yaml", b"ab\xffc".to_vec())]);
        let file = sources.read_file(Path::new("a.yaml")).unwrap();
        let problem = Problem::NotUtf8 {
            at: 2,
            utf16: false,
        };
        assert_eq!(sources.problem(file), Some(&problem));
        assert_eq!(sources.text(file), "ab\u{fffd}c");
    }
}
