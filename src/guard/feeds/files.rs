//! Watches files by inotify: policies, and sockets of engines.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use crate::text::SourceMap;

use super::event::Event;
use super::feed::{Feed, Polled, readable};

/// The most subdirectories of the policy directory that are watched for new lists.
const FOLDERS: usize = 64;

/// The most events read in one turn.
const AT_ONCE: u32 = 256;

/// The relevant names in a directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::guard) struct Interest {
    /// Whether every file is.
    all: bool,
    names: BTreeSet<OsString>,
}

/// Directories, and the relevant names in each.
pub(in crate::guard) type Places = BTreeMap<PathBuf, Interest>;

/// The watch.
#[derive(Debug)]
pub(in crate::guard) struct Files {
    inotify: OwnedFd,
    /// Returns the event to report.
    event: fn() -> Event,
    watches: Mutex<BTreeMap<i32, Interest>>,
}

impl Files {
    pub(in crate::guard) fn open(event: fn() -> Event) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self {
            inotify,
            event,
            watches: Mutex::default(),
        })
    }

    /// Watches these directories and no others; returns whether one of them was not watched before, or
    /// could not be. Another thread may drain meanwhile.
    pub(in crate::guard) fn watch(&self, places: &Places) -> bool {
        // Not `MODIFY`: wait until a writer closes the file.
        let flags = WatchFlags::CLOSE_WRITE
            | WatchFlags::ATTRIB
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        let mut watches: BTreeMap<i32, Interest> = BTreeMap::new();
        let mut missed = false;
        for (folder, interest) in places {
            let Ok(watch) = inotify::add_watch(&self.inotify, folder, flags) else {
                // It was deleted just now, or the limit of watches is reached.
                missed = true;
                continue;
            };
            let known = watches.entry(watch).or_default();
            known.all |= interest.all;
            known.names.extend(interest.names.iter().cloned());
        }
        let former = std::mem::replace(&mut *self.watches(), watches.clone());
        let new = missed
            || watches
                .iter()
                .any(|(watch, interest)| former.get(watch) != Some(interest));
        for watch in former.keys() {
            if !watches.contains_key(watch) {
                // The kernel removes a watch with its directory.
                let _ = inotify::remove_watch(&self.inotify, *watch);
            }
        }
        new
    }

    fn watches(&self) -> MutexGuard<'_, BTreeMap<i32, Interest>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether a relevant event occurred since the last call.
    fn take(&self) -> io::Result<bool> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        let mut changed = false;
        for number in 0.. {
            // Writers may be faster than this loop; bound the work.
            if number >= AT_ONCE && reader.is_buffer_empty() {
                break;
            }
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                changed = true;
                continue;
            }
            let watches = self.watches();
            changed |= match (watches.get(&event.wd()), event.file_name()) {
                // The watch is new, or was removed.
                (None, _) => !event.events().contains(ReadFlags::IGNORED),
                // The folder itself.
                (Some(interest), None) => interest.all || !interest.names.is_empty(),
                (Some(interest), Some(name)) => {
                    interest.all || interest.names.contains(OsStr::from_bytes(name.to_bytes()))
                }
            };
        }
        Ok(changed)
    }
}

impl Feed for Arc<Files> {
    fn descriptors(&self) -> Vec<Polled<'_>> {
        readable([&self.inotify])
    }

    fn drain(&mut self, _: Instant, events: &mut Vec<Event>) -> io::Result<()> {
        if self.take()? {
            events.push((self.event)());
        }
        Ok(())
    }
}

/// Returns the directories to watch for the policies at `path` and the files they were read from.
pub(in crate::guard) fn policy_places(path: &Path, sources: Option<&SourceMap>) -> Places {
    let mut places = Places::new();
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    name(&mut places, &path);
    if path.is_dir() {
        places.entry(path.clone()).or_default().all = true;
        let inside = fs::read_dir(&path).into_iter().flatten().flatten();
        let folders = inside
            .map(|entry| entry.path())
            .filter(|path| path.is_dir());
        for folder in folders.take(FOLDERS) {
            places.entry(folder).or_default().all = true;
        }
    }
    let wanted: BTreeSet<&Path> = sources.into_iter().flat_map(SourceMap::wanted).collect();
    for file in &wanted {
        // A link there is not followed.
        let file = std::path::absolute(file).unwrap_or_else(|_| (*file).to_owned());
        name(&mut places, &file);
    }
    let files = sources.into_iter().flat_map(SourceMap::files);
    for (file, _) in files.filter(|(file, _)| !wanted.contains(file)) {
        let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        name(&mut places, &file);
        // Behind a symbolic link.
        if let Ok(real) = file.canonicalize()
            && real != file
        {
            name(&mut places, &real);
        }
    }
    places
}

/// Adds the directory of an engine's socket, and its PID file: systemd may hold the socket of a stopped
/// engine.
pub(in crate::guard) fn add_engine(places: &mut Places, address: &str) {
    let path = Path::new(address.strip_prefix("unix://").unwrap_or(address));
    if path.is_absolute() {
        for path in [path, &path.with_extension("pid")] {
            name(places, path);
        }
    }
}

/// Adds the name that leads to `path`, in the nearest existing directory.
pub(in crate::guard) fn name(places: &mut Places, path: &Path) {
    let mut path = path;
    while let (Some(folder), Some(name)) = (path.parent(), path.file_name()) {
        if folder.is_dir() {
            let interest = places.entry(folder.to_owned()).or_default();
            interest.names.insert(name.to_owned());
            return;
        }
        path = folder;
    }
}
