//! Watching files by inotify: those of the policy, and the sockets of engines.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use crate::source::Sources;

use super::event::Event;

/// How many folders inside that of the policies are watched for lists to come.
const FOLDERS: usize = 64;

/// How many notices are taken at once before it is the others' turn.
const AT_ONCE: u32 = 256;

/// What is of interest in a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Interest {
    /// Whether every file is one of the policy.
    all: bool,
    policy: BTreeSet<OsString>,
    engine: BTreeSet<OsString>,
}

/// Folders, and what is of interest in each.
pub(super) type Places = BTreeMap<PathBuf, Interest>;

/// The watch.
#[derive(Debug)]
pub(super) struct Files {
    inotify: OwnedFd,
    watches: BTreeMap<i32, Interest>,
}

impl Files {
    pub(super) fn open() -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self {
            inotify,
            watches: BTreeMap::new(),
        })
    }

    /// Watches these places and no others; says whether one of them was not watched before, or
    /// could not be.
    pub(super) fn watch(&mut self, places: &Places) -> bool {
        // Not `MODIFY`: who has a file open for writing is not done with it.
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
                // It has gone just now, or there are more watches than the system allows.
                missed = true;
                continue;
            };
            let known = watches.entry(watch).or_default();
            known.all |= interest.all;
            known.policy.extend(interest.policy.iter().cloned());
            known.engine.extend(interest.engine.iter().cloned());
        }
        let new = missed
            || watches
                .iter()
                .any(|(watch, interest)| self.watches.get(watch) != Some(interest));
        for watch in self.watches.keys() {
            if !watches.contains_key(watch) {
                // It goes by itself when its folder does.
                let _ = inotify::remove_watch(&self.inotify, *watch);
            }
        }
        self.watches = watches;
        new
    }

    pub(super) fn drain(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        let (mut policy, mut engine) = (false, false);
        for number in 0.. {
            // Others may write faster than this reads, and must not keep it from all else.
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
                (policy, engine) = (true, true);
                continue;
            }
            let Some(interest) = self.watches.get(&event.wd()) else {
                continue;
            };
            match event.file_name() {
                // The folder itself.
                None => {
                    policy |= interest.all || !interest.policy.is_empty();
                    engine |= !interest.engine.is_empty();
                }
                Some(name) => {
                    let name = OsStr::from_bytes(name.to_bytes());
                    policy |= interest.all || interest.policy.contains(name);
                    engine |= interest.engine.contains(name);
                }
            }
        }
        events.extend(policy.then_some(Event::Files));
        events.extend(engine.then_some(Event::EngineSocket));
        Ok(())
    }
}

impl AsFd for Files {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// Where changes of the policies at `path`, and of all files that they were read from, show.
pub(super) fn policy_places(path: &Path, sources: Option<&Sources>) -> Places {
    let mut places = Places::new();
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    name(&mut places, &path, |interest| &mut interest.policy);
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
    for (file, _) in sources.into_iter().flat_map(Sources::files) {
        let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        name(&mut places, &file, |interest| &mut interest.policy);
        // Behind a symbolic link.
        if let Ok(real) = file.canonicalize()
            && real != file
        {
            name(&mut places, &real, |interest| &mut interest.policy);
        }
    }
    places
}

/// Where an engine's socket comes and goes, and beside it the file with its process number: systemd may
/// hold the socket of one that does not run.
pub(super) fn add_engine(places: &mut Places, address: &str) {
    let path = Path::new(address.strip_prefix("unix://").unwrap_or(address));
    if path.is_absolute() {
        for path in [path, &path.with_extension("pid")] {
            name(places, path, |interest| &mut interest.engine);
        }
    }
}

/// Adds the name that leads to `path`, in the nearest folder that there is.
fn name(places: &mut Places, path: &Path, of: impl Fn(&mut Interest) -> &mut BTreeSet<OsString>) {
    let mut path = path;
    while let (Some(folder), Some(name)) = (path.parent(), path.file_name()) {
        if folder.is_dir() {
            of(places.entry(folder.to_owned()).or_default()).insert(name.to_owned());
            return;
        }
        path = folder;
    }
}
