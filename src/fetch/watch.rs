//! Waits for a change of the file or folder that says what to fetch.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

/// How often it is looked for where it cannot be watched.
const AGAIN: Duration = Duration::from_secs(1);
/// How long files take to come to rest.
const SETTLE: Duration = Duration::from_millis(100);

/// A watch on a file or folder that may come and go.
pub(super) struct Watch<'a> {
    path: &'a Path,
    inotify: OwnedFd,
    is_watched: bool,
}

impl<'a> Watch<'a> {
    pub(super) fn new(path: &'a Path) -> io::Result<Self> {
        Ok(Self {
            path,
            inotify: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?,
            is_watched: false,
        })
    }

    /// Begins to watch, if it does not; what is read afterwards is as new as the next change.
    pub(super) fn begin(&mut self) {
        let flags = WatchFlags::CLOSE_WRITE
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        if !self.is_watched {
            let folder = match self.path.parent() {
                Some(folder) if !self.path.is_dir() => folder,
                _ => self.path,
            };
            self.is_watched = inotify::add_watch(&self.inotify, folder, flags).is_ok();
        }
    }

    /// Returns the descriptor that can be read when something changed, for those who wait for more than that.
    #[cfg(feature = "etcd")]
    pub(super) fn descriptor(&self) -> io::Result<OwnedFd> {
        self.inotify.try_clone()
    }

    /// Waits for so long, or until something may have changed, which it returns.
    pub(super) fn wait(&mut self, wait: Duration) -> io::Result<bool> {
        let wait = self.longest(wait);
        let left = Timespec::try_from(wait).map_err(io::Error::other)?;
        match poll(
            &mut [PollFd::new(&self.inotify, PollFlags::IN)],
            Some(&left),
        ) {
            Ok(0) => return Ok(!self.is_watched),
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        std::thread::sleep(SETTLE);
        self.drain()?;
        Ok(true)
    }

    /// Returns how long to wait at most, of so much time: what is not watched is looked for.
    pub(super) fn longest(&self, wait: Duration) -> Duration {
        if self.is_watched {
            wait
        } else {
            wait.min(AGAIN)
        }
    }

    /// Reads what happened.
    pub(super) fn drain(&mut self) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) => {
                    let gone = ReadFlags::IGNORED | ReadFlags::MOVE_SELF;
                    self.is_watched &= !event.events().intersects(gone);
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
