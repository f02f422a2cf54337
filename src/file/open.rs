//! Opens files whose path another user may control.
//!
//! dfw runs as root and reads lists of other users. The owner of a directory or symbolic link on the path
//! decides which file it leads to, so the file must belong to that user: otherwise a link to `/etc/shadow`
//! would make dfw read it for them. Each path component is looked up in a descriptor of the directory before
//! it, and the file that was checked is the one that is opened (CWE-59, CWE-367).

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{self, AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{CapabilitySet, capabilities};

use super::{foreign, rejected};
use crate::untrusted;

/// The most symbolic links on a path, as in the kernel (`MAXSYMLINKS`).
const LINKS: u32 = 40;
/// The most names of a directory that are listed.
const NAMES: usize = 20_000;

/// `linux/magic.h`.
const PROC: i64 = 0x9fa0;
const PIPES: i64 = 0x5049_5045;
/// File systems of the kernel: reading their files can block, never end, or have side effects.
const KERNEL: [i64; 8] = [
    PROC,
    0x6265_6572, // sysfs
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0x6367_7270, // cgroup2
    0x0027_e0eb, // cgroup
    0xcafe_4a11, // bpf
];
/// `PROC_ROOT_INO` of the kernel.
const PROC_ROOT: u64 = 1;

/// The kinds of files that may be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accept {
    /// Regular files only.
    Regular,
    /// Regular files only, whose name in the last folder is no symbolic link.
    InPlace,
    /// Also a pipe without a name, such as `/dev/stdin` and the shell's `<(…)`.
    Pipes,
}

/// An open file, with its size and the part of its path that other users can write to.
#[derive(Debug)]
pub struct Opened {
    /// The descriptor, for reading; reads do not block, except from a pipe.
    pub file: File,
    /// Its size in bytes when it was opened; 0 for a pipe.
    pub size: u64,
    /// The file, or a directory on its path, that everyone may write to.
    pub exposed: Option<PathBuf>,
}

/// Opens the file at `path` for reading.
///
/// # Errors
/// If the file does not exist, cannot be read, or is not of an accepted kind. Also, for a privileged process, if a
/// directory or link on the path belongs to a user other than root and the file does not belong to the same user.
pub fn open(path: &Path, accept: Accept) -> io::Result<Opened> {
    let found = Walk::to(path, accept != Accept::InPlace)?;
    match FileType::from_raw_mode(found.stat.st_mode) {
        FileType::RegularFile if KERNEL.contains(&found.file_system()?) => {
            return Err(rejected("a file of the kernel's own, not one on a disk"));
        }
        FileType::RegularFile => {}
        FileType::Fifo if accept == Accept::Pipes && found.file_system()? == PIPES => {}
        other => {
            return Err(rejected(match other {
                FileType::Directory => "not a regular file: a folder",
                FileType::Fifo => "not a regular file: a pipe",
                FileType::Socket => "not a regular file: a socket",
                FileType::CharacterDevice | FileType::BlockDevice => "not a regular file: a device",
                _ => "not a regular file",
            }));
        }
    }
    if is_privileged() {
        found.check_owner("read")?;
    }
    let world = found.stat.st_mode & Mode::WOTH.bits() != 0;
    let regular = FileType::from_raw_mode(found.stat.st_mode) == FileType::RegularFile;
    let exposed = (world && regular).then(|| path.to_owned());
    Ok(Opened {
        file: found.reopen(OFlags::empty())?.into(),
        size: u64::try_from(found.stat.st_size).unwrap_or(0),
        exposed: found.walk.exposed.or(exposed),
    })
}

/// Opens the file at `path` for reading, unless everybody can write to it or put another one in its place.
///
/// # Errors
/// As [`open`]'s, and if [`exposed`](Opened::exposed) is set.
pub fn open_protected(path: &Path, accept: Accept) -> io::Result<Opened> {
    let opened = open(path, accept)?;
    match &opened.exposed {
        Some(at) => Err(rejected(format!(
            "everybody can write to {}: `chmod o-w` it",
            untrusted::path(at)
        ))),
        None => Ok(opened),
    }
}

/// Returns the names in the folder at `path`, in no order, each with whether it is a folder, be it through a
/// link; `None` if `path` is no folder.
///
/// # Errors
/// If it is not there or cannot be read, or has more names than 20,000.
pub fn folder(path: &Path) -> io::Result<Option<Vec<(OsString, bool)>>> {
    let found = Walk::to(path, true)?;
    if FileType::from_raw_mode(found.stat.st_mode) != FileType::Directory {
        return Ok(None);
    }
    let folder = found.reopen(OFlags::DIRECTORY)?;
    let mut names = Vec::new();
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        if names.len() == NAMES {
            return Err(rejected(
                "more than 20,000 files, the most that dfw looks at",
            ));
        }
        let is_folder = match entry.file_type() {
            FileType::Directory => true,
            FileType::Symlink | FileType::Unknown => fs::statat(&folder, name, AtFlags::empty())
                .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory),
            _ => false,
        };
        names.push((name.to_owned(), is_folder));
    }
    Ok(Some(names))
}

/// Opens the folder at `path`, to write in it with the rights of its owner, which this returns, too. `trusted` is a user
/// who may own it, also if another user chose it.
///
/// # Errors
/// If it is not there, is no folder, or if a directory or link on the path belongs to a user other than root and the
/// owner: that user could have the owner's files written in their place.
pub fn owned_folder(path: &Path, trusted: u32) -> io::Result<(OwnedFd, u32)> {
    let found = Walk::to(path, true)?;
    if FileType::from_raw_mode(found.stat.st_mode) != FileType::Directory {
        return Err(Errno::NOTDIR.into());
    }
    let owner = found.stat.st_uid;
    if owner != trusted {
        found.check_owner("write")?;
    }
    Ok((found.reopen(OFlags::DIRECTORY)?, owner))
}

/// Makes a folder at `path` that belongs to a user and a group, and opens it; `None` if there is something.
///
/// # Errors
/// Errors of the file system; and if another folder has taken its place meanwhile.
pub fn make_folder(path: &Path, (user, group): (u32, u32)) -> io::Result<Option<OwnedFd>> {
    let name = path.file_name().ok_or(Errno::EXIST)?;
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = fs::open(parent, flags | OFlags::PATH, Mode::empty())?;
    match fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
        Err(Errno::EXIST) => return Ok(None),
        made => made?,
    }
    let folder = fs::openat(&parent, name, flags | OFlags::NOFOLLOW, Mode::empty())?;
    let mut names = Dir::read_from(&folder)?;
    let is_empty = names
        .all(|name| name.is_ok_and(|name| matches!(name.file_name().to_bytes(), b"." | b"..")));
    if !is_empty || fs::fstat(&folder)?.st_uid != geteuid().as_raw() {
        return Err(rejected("another folder has taken its place meanwhile"));
    }
    // Whatever the umask is.
    fs::fchmod(&folder, Mode::from_raw_mode(0o755))?;
    let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
    fs::fchown(&folder, Some(user), Some(group))?;
    Ok(Some(folder))
}

/// Returns whether this process may read more than the owner of a directory.
fn is_privileged() -> bool {
    let reads = CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
    geteuid().is_root() || capabilities(None).is_ok_and(|own| own.effective.intersects(reads))
}

/// The end of a path, as a descriptor without read access (`O_PATH`).
struct Found {
    at: OwnedFd,
    stat: Stat,
    /// The name in the last directory; `None` for a directory given as `.`, `..` or `/`.
    name: Option<OsString>,
    walk: Walk,
}

/// The state of following a path.
struct Walk {
    /// The directory in which the next name is looked up.
    folder: OwnedFd,
    /// The path of that directory.
    path: PathBuf,
    /// The remaining names, the next one last.
    rest: Vec<OsString>,
    links: u32,
    /// Whether the last name of the path may be a link.
    follows_last: bool,
    /// Users other than root who own a directory or link on the path.
    choosers: Vec<(u32, PathBuf)>,
    /// A directory on the path that everyone may write to.
    exposed: Option<PathBuf>,
    /// The directory of the last name, if it is root's and other users may create names in it, such as hard
    /// links.
    shared: Option<PathBuf>,
}

impl Walk {
    fn to(path: &Path, follows_last: bool) -> io::Result<Found> {
        let mut walk = Self {
            folder: open_folder(".")?,
            path: PathBuf::new(),
            rest: Vec::new(),
            links: 0,
            follows_last,
            choosers: Vec::new(),
            exposed: None,
            shared: None,
        };
        if path.as_os_str().is_empty() {
            return Err(Errno::NOENT.into());
        }
        walk.push(path);
        while let Some(name) = walk.rest.pop() {
            if let Some(found) = walk.step(&name)? {
                return Ok(Found {
                    stat: fs::fstat(&found)?,
                    at: found,
                    name: Some(name),
                    walk,
                });
            }
        }
        Ok(Found {
            stat: fs::fstat(&walk.folder)?,
            at: walk.folder.try_clone()?,
            name: None,
            walk,
        })
    }

    fn push(&mut self, path: &Path) {
        let parts = path.components().rev();
        let parts = parts.filter(|part| *part != Component::CurDir);
        self.rest
            .extend(parts.map(|part| part.as_os_str().to_owned()));
    }

    /// Follows one name; returns the file if it is the last one and not a link.
    fn step(&mut self, name: &OsStr) -> io::Result<Option<OwnedFd>> {
        if name == "/" {
            self.folder = open_folder("/")?;
            self.path = PathBuf::from("/");
            return Ok(None);
        }
        let folder = fs::fstat(&self.folder)?;
        if folder.st_uid != 0 {
            self.choosers.push((folder.st_uid, self.here()));
        }
        if name == ".." {
            self.folder = fs::openat(
                &self.folder,
                "..",
                OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )?;
            self.path.push("..");
            return Ok(None);
        }
        let look = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut found = fs::openat(&self.folder, name, look, Mode::empty())?;
        let mut stat = fs::fstat(&found)?;
        self.note_writers(&folder, &stat);
        if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
            let magic = folder.st_ino != PROC_ROOT && file_system(&self.folder)? == PROC;
            if self.rest.is_empty() && !self.follows_last {
                // What it leads to is not even looked at.
                return Err(rejected("a symbolic link, which has no place there"));
            }
            if !magic {
                self.links += 1;
                if self.links > LINKS {
                    return Err(Errno::LOOP.into());
                }
                if stat.st_uid != 0 {
                    self.choosers.push((stat.st_uid, self.path.join(name)));
                }
                let target = fs::readlinkat(&found, "", Vec::new())?.into_bytes();
                self.push(Path::new(&OsString::from_vec(target)));
                return Ok(None);
            }
            // What it says need not be a path: only the kernel can follow it.
            found = fs::openat(
                &self.folder,
                name,
                OFlags::PATH | OFlags::CLOEXEC,
                Mode::empty(),
            )?;
            stat = fs::fstat(&found)?;
        }
        if self.rest.is_empty() && FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Ok(Some(found));
        }
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Err(Errno::NOTDIR.into());
        }
        self.folder = found;
        self.path.push(name);
        Ok(None)
    }

    fn here(&self) -> PathBuf {
        if self.path.as_os_str().is_empty() {
            PathBuf::from(".")
        } else {
            self.path.clone()
        }
    }

    /// Records whether users other than the owner can create names in the directory of `entry`.
    fn note_writers(&mut self, folder: &Stat, entry: &Stat) {
        let may = |mode: Mode| folder.st_mode & mode.bits() != 0;
        let others = may(Mode::WOTH) || (may(Mode::WGRP) && folder.st_gid != 0);
        self.shared = (folder.st_uid == 0 && others).then(|| self.here());
        // In a sticky folder nobody else can take this name away.
        let own = entry.st_uid == 0 || entry.st_uid == geteuid().as_raw();
        if may(Mode::WOTH) && !(may(Mode::SVTX) && own) {
            let here = self.here();
            self.exposed.get_or_insert(here);
        }
    }
}

impl Found {
    /// Checks that the user who controls the path owns the file, which dfw is to read or write.
    fn check_owner(&self, what: &str) -> io::Result<()> {
        let owner = self.stat.st_uid;
        let other = self.walk.choosers.iter().find(|(uid, _)| *uid != owner);
        if let Some((uid, at)) = other {
            return Err(foreign(format!(
                "it belongs to uid {owner}, and {}, on the way to it, to uid {uid}, who could \
                 have dfw {what} files of others",
                untrusted::path(at),
            )));
        }
        if let Some(at) = &self.walk.shared
            && self.stat.st_nlink > 1
            && self.name.is_some()
            && FileType::from_raw_mode(self.stat.st_mode) == FileType::RegularFile
        {
            return Err(foreign(format!(
                "it has another name (a hard link), and others than root can make names in {}: \
                 they could have dfw read files of others",
                untrusted::path(at),
            )));
        }
        Ok(())
    }

    fn file_system(&self) -> io::Result<i64> {
        file_system(&self.at)
    }

    /// Opens exactly the file that was found for reading.
    fn reopen(&self, more: OFlags) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY | more;
        let this = format!("/proc/self/fd/{}", self.at.as_raw_fd());
        let opened = match fs::openat(CWD, this, flags, Mode::empty()) {
            // No `/proc` here.
            Err(Errno::NOENT | Errno::NOTDIR) => {
                let name = self.name.as_deref().unwrap_or(OsStr::new("."));
                fs::openat(
                    &self.walk.folder,
                    name,
                    flags | OFlags::NOFOLLOW,
                    Mode::empty(),
                )
            }
            opened => opened,
        };
        let opened = opened.map_err(|error| match error {
            Errno::AGAIN => rejected("another program holds a lease of it"),
            error => error.into(),
        })?;
        let stat = fs::fstat(&opened)?;
        if (stat.st_dev, stat.st_ino) != (self.stat.st_dev, self.stat.st_ino) {
            return Err(rejected("another file has taken its place meanwhile"));
        }
        Ok(opened)
    }
}

fn open_folder(path: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(fs::openat(CWD, path, flags, Mode::empty())?)
}

fn file_system(of: &impl AsFd) -> io::Result<i64> {
    // Its type differs from one architecture to the next.
    #[expect(clippy::allow_attributes, reason = "not on every architecture")]
    #[allow(
        clippy::unnecessary_cast,
        clippy::cast_possible_wrap,
        clippy::cast_lossless
    )]
    Ok(fs::fstatfs(of)?.f_type as i64)
}
