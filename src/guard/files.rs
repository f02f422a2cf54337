//! Watching files by inotify: those of the policy, and the sockets of engines.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use crate::text::SourceMap;

/// How many folders inside that of the policies are watched for lists to come.
const FOLDERS: usize = 64;

/// How many notices are taken at once before it is the others' turn.
const AT_ONCE: u32 = 256;

/// What is of interest in a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Interest {
    /// Whether every file is.
    all: bool,
    names: BTreeSet<OsString>,
}

/// Folders, and what is of interest in each.
pub(super) type Places = BTreeMap<PathBuf, Interest>;

/// The watch.
#[derive(Debug)]
pub(super) struct Files {
    inotify: OwnedFd,
    watches: Mutex<BTreeMap<i32, Interest>>,
}

impl Files {
    pub(super) fn open() -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self {
            inotify,
            watches: Mutex::default(),
        })
    }

    /// Watches these places and no others; says whether one of them was not watched before, or
    /// could not be. One thread does so, another may drain meanwhile.
    pub(super) fn watch(&self, places: &Places) -> bool {
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
            known.names.extend(interest.names.iter().cloned());
        }
        let former = std::mem::replace(&mut *self.watches(), watches.clone());
        let new = missed
            || watches
                .iter()
                .any(|(watch, interest)| former.get(watch) != Some(interest));
        for watch in former.keys() {
            if !watches.contains_key(watch) {
                // It goes by itself when its folder does.
                let _ = inotify::remove_watch(&self.inotify, *watch);
            }
        }
        new
    }

    fn watches(&self) -> MutexGuard<'_, BTreeMap<i32, Interest>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether something of interest has happened since the last call.
    pub(super) fn drain(&self) -> io::Result<bool> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        let mut changed = false;
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
                changed = true;
                continue;
            }
            let watches = self.watches();
            changed |= match (watches.get(&event.wd()), event.file_name()) {
                // It was watched just now, or is no more.
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

impl AsFd for Files {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// Where changes of the policies at `path`, and of all files that they were read from, show.
pub(super) fn policy_places(path: &Path, sources: Option<&SourceMap>) -> Places {
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
    for (file, _) in sources.into_iter().flat_map(SourceMap::files) {
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

/// Where an engine's socket comes and goes, and beside it the file with its process number: systemd may
/// hold the socket of one that does not run.
pub(super) fn add_engine(places: &mut Places, address: &str) {
    let path = Path::new(address.strip_prefix("unix://").unwrap_or(address));
    if path.is_absolute() {
        for path in [path, &path.with_extension("pid")] {
            name(places, path);
        }
    }
}

/// Adds the name that leads to `path`, in the nearest folder that there is.
fn name(places: &mut Places, path: &Path) {
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
