//! The watchdog of `dfw apply --confirm`: a second process that puts the former rules back unless
//! it is told to keep the new ones.
//!
//! It is forked before anything is changed, in a session of its own, deaf to what a terminal sends,
//! and holds the former rules and the reading end of a pipe. However the process in front ends, by a
//! signal, a crash or with its terminal, its end of the pipe closes, and that is a no. It is a fork
//! because a thread would end with its process, and another program would have to be started, which
//! dfw never does.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use procfs::ProcError;
use procfs::process::{Process, Stat};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::kernel::{Error, Former, Kernel, Restored};
use crate::output::terminal::{Terminal, Tone};
use crate::plan::Installed;
use crate::untrusted::clean_to;

/// How much longer than the user's time a transaction may take, from the fork to its end. A process
/// that is stopped in between must not keep the watchdog for ever.
const COMMIT: Duration = Duration::from_mins(5);

/// What the process in front says, a byte each.
const COMMITTED: u8 = b'c';
const KEEP: u8 = b'k';
const PUT_BACK: u8 = b'n';
const NEVER_MIND: u8 = b'x';

/// What becomes of the new rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum End {
    /// They stay.
    Kept,
    /// They would stay, but somebody has changed or removed them since.
    Gone,
    /// Those before them are back.
    Back,
    /// Somebody has applied others since, which stay.
    Overruled,
    /// Those before them could not be put back.
    Failed(String),
}

impl End {
    fn letter(&self) -> u8 {
        match self {
            Self::Kept => b'K',
            Self::Gone => b'G',
            Self::Back => b'B',
            Self::Overruled => b'O',
            Self::Failed(_) => b'F',
        }
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (letter, rest) = bytes.split_first()?;
        Some(match letter {
            b'K' => Self::Kept,
            b'G' => Self::Gone,
            b'B' => Self::Back,
            b'O' => Self::Overruled,
            b'F' => Self::Failed(String::from_utf8_lossy(rest).into_owned()),
            _ => return None,
        })
    }

    /// What is now true.
    pub(in crate::cli) fn text(&self, former: &Former) -> String {
        match self {
            Self::Kept => "the new rules stay".to_owned(),
            Self::Gone => {
                "confirmed, but somebody has changed the rules since; `dfw status` tells".to_owned()
            }
            Self::Back if former.is_nothing() => {
                "not confirmed: the former rules are back, which were none".to_owned()
            }
            Self::Back => "not confirmed: the former rules are back".to_owned(),
            Self::Overruled => {
                "not confirmed, but other rules were applied since, and they stay; `dfw status` \
                 tells"
                    .to_owned()
            }
            Self::Failed(error) => format!(
                "not confirmed, and the former rules could not be put back: {error}; \
                 `dfw status` tells what is in force"
            ),
        }
    }
}

/// A process that no other one can be taken for: its number is used again, but not with the same time
/// of its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) struct Identity {
    /// Its number.
    process: u32,
    /// When it started, in clock ticks since the boot.
    start: u64,
}

impl Identity {
    /// Returns the identity of a process by its number.
    fn of(process: u32) -> Result<Self, ProcError> {
        let number = i32::try_from(process).map_err(|_| ProcError::NotFound(None))?;
        Self::read(&Process::new(number)?.stat()?).ok_or(ProcError::NotFound(None))
    }

    /// Returns the identity in a process's `stat`; `None` of one that has ended and that its parent has
    /// not waited for, and may never wait for.
    fn read(stat: &Stat) -> Option<Self> {
        let has_ended = matches!(stat.state, 'Z' | 'X' | 'x');
        (!has_ended).then_some(Self {
            process: u32::try_from(stat.pid).ok()?,
            start: stat.starttime,
        })
    }

    /// Whether this process runs.
    fn is_alive(self) -> bool {
        Self::of(self.process).is_ok_and(|now| now == self)
    }
}

/// What the stamp of rules says that wait to be confirmed, before and behind the watchdog's number.
const MARK: &str = " unconfirmed (process ";
const START: &str = ", start ";

/// The word in the stamp that says so.
pub(in crate::cli) fn mark(watchdog: Identity) -> String {
    let Identity { process, start } = watchdog;
    format!("{MARK}{process}{START}{start})")
}

/// The watchdog in a stamp's mark, and the stamp without the mark.
fn marked(stamp: &str) -> Option<(Identity, String)> {
    let (before, rest) = stamp.split_once(MARK)?;
    let (identity, after) = rest.split_once(')')?;
    let (process, start) = identity.split_once(START)?;
    let identity = Identity {
        process: process.parse().ok()?,
        start: start.parse().ok()?,
    };
    Some((identity, format!("{before}{after}")))
}

/// The watchdog behind the rules in force, by its number, if it lives.
pub(in crate::cli) fn waiting(stamp: Option<&str>) -> Option<u32> {
    named(stamp).and_then(|(process, waits)| waits.then_some(process))
}

/// The watchdog that a stamp names, by its number, and whether it lives.
pub(in crate::cli) fn named(stamp: Option<&str>) -> Option<(u32, bool)> {
    let (watchdog, _) = marked(stamp?)?;
    Some((watchdog.process, watchdog.is_alive()))
}

/// A watchdog, as the process in front knows it.
#[derive(Debug)]
pub(in crate::cli) struct Watchdog {
    identity: Identity,
    orders: File,
    report: File,
    former: Former,
    /// Whether it has been told what to do.
    told: Cell<bool>,
}

impl Watchdog {
    /// Starts one that puts back these rules.
    ///
    /// # Errors
    /// As `fork(2)` and `pipe(2)`, or if this process has other threads.
    pub(in crate::cli) fn start(
        terminal: Terminal,
        former: Former,
        patience: Duration,
    ) -> io::Result<Self> {
        // What other threads hold would be held for ever in the child.
        let threads = Process::myself().and_then(|me| Ok(me.tasks()?.count()));
        if threads.map_err(io::Error::other)? != 1 {
            return Err(io::Error::other("other threads are running"));
        }
        let (order_end, orders) = rustix::pipe::pipe()?;
        let (report, report_end) = rustix::pipe::pipe()?;
        let Some(process) = fork()? else {
            drop((orders, report));
            let watch = || serve(terminal, &former, patience, &order_end, report_end);
            // What is above on the stack is the business of the process in front.
            let _ = catch_unwind(AssertUnwindSafe(watch));
            std::process::exit(0);
        };
        let mut watchdog = Self {
            identity: Identity { process, start: 0 },
            orders: File::from(orders),
            report: File::from(report),
            former,
            told: Cell::new(false),
        };
        let mut start = [0; 8];
        watchdog.report.read_exact(&mut start)?;
        watchdog.identity.start = u64::from_ne_bytes(start);
        Ok(watchdog)
    }

    /// Who it is.
    pub(in crate::cli) fn identity(&self) -> Identity {
        self.identity
    }

    /// What it would put back.
    pub(in crate::cli) fn former(&self) -> &Former {
        &self.former
    }

    /// What becomes readable when it has decided.
    pub(in crate::cli) fn report(&self) -> &File {
        &self.report
    }

    /// The rules are in force, and the user's time begins.
    pub(in crate::cli) fn committed(&self) {
        self.say(COMMITTED);
    }

    /// The user has answered.
    pub(in crate::cli) fn answered(&self, keep: bool) {
        self.told.set(true);
        self.say(if keep { KEEP } else { PUT_BACK });
    }

    fn say(&self, order: u8) {
        // If nobody listens, the report says so: it ends.
        let _ = (&self.orders).write_all(&[order]);
    }

    /// Waits for what it has decided. If it was killed, this process does its work.
    pub(in crate::cli) fn end(self) -> End {
        self.told.set(true);
        let mut report = Vec::new();
        let _ = (&self.report).read_to_end(&mut report);
        End::read(&report).unwrap_or_else(|| put_back(&self.former, self.identity))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        if !self.told.get() {
            self.say(NEVER_MIND);
        }
        let process = i32::try_from(self.identity.process).ok();
        if let Some(process) = process.and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::waitpid(Some(process), rustix::process::WaitOptions::empty());
        }
    }
}

/// What the process in front wants.
enum Order {
    Keep,
    PutBack,
    NeverMind,
    /// It is gone without a word, or time is up.
    None {
        gone: bool,
    },
}

/// The child's life.
fn serve(
    terminal: Terminal,
    former: &Former,
    patience: Duration,
    orders: &OwnedFd,
    report: OwnedFd,
) {
    // Whoever reads what the process in front prints is not kept waiting, nor is who unmounts.
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdin(&null);
        let _ = rustix::stdio::dup2_stdout(&null);
    }
    let _ = std::env::set_current_dir("/");
    let mut report = File::from(report);
    // Without /proc it is of no use, and the process in front hears that it has ended.
    let Ok(own) = Identity::of(std::process::id()) else {
        return;
    };
    if report.write_all(&own.start.to_ne_bytes()).is_err() {
        return;
    }
    let order = listen(orders, patience);
    let end = match order {
        Order::NeverMind => return,
        Order::Keep => keep(own),
        Order::PutBack | Order::None { .. } => put_back(former, own),
    };
    let text = end.text(former);
    log(&text);
    let mut bytes = vec![end.letter()];
    if let End::Failed(error) = &end {
        bytes.extend_from_slice(error.as_bytes());
    }
    let unread = report.write_all(&bytes).is_err();
    if unread || matches!(order, Order::None { gone: true }) {
        terminal.say(Tone::Bad, "failed", &text);
    }
}

/// Waits for an order.
fn listen(orders: &OwnedFd, patience: Duration) -> Order {
    let mut until = Instant::now() + patience + COMMIT;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match readable(&[orders], Some(left)) {
            Err(_) => return Order::None { gone: true },
            Ok(ready) if ready.is_empty() => return Order::None { gone: false },
            Ok(_) => {}
        }
        let mut order = [0];
        match rustix::io::read(orders, &mut order) {
            Err(Errno::INTR) => {}
            Err(_) | Ok(0) => return Order::None { gone: true },
            Ok(_) => match order[0] {
                COMMITTED => until = Instant::now() + patience,
                KEEP => return Order::Keep,
                NEVER_MIND => return Order::NeverMind,
                _ => return Order::PutBack,
            },
        }
    }
}

/// Waits until one of these has something to be read, or has ended, and says which; none if time is
/// up.
pub(in crate::cli) fn readable<F: std::os::fd::AsFd>(
    files: &[F],
    patience: Option<Duration>,
) -> io::Result<Vec<usize>> {
    let until = patience.map(|patience| Instant::now() + patience);
    loop {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let left = left.map(Timespec::try_from).transpose();
        let left = left.map_err(io::Error::other)?;
        let mut polled: Vec<PollFd<'_>> = files
            .iter()
            .map(|file| PollFd::new(file, PollFlags::IN))
            .collect();
        match poll(&mut polled, left.as_ref()) {
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
            Ok(_) => {
                let ready = polled.iter().enumerate();
                let ready = ready.filter(|(_, file)| !file.revents().is_empty());
                return Ok(ready.map(|(at, _)| at).collect());
            }
        }
    }
}

/// Takes the mark off the rules, which stay.
fn keep(own: Identity) -> End {
    let unmarked = |stamp: &str| marked(stamp).filter(|(by, _)| *by == own).map(|m| m.1);
    match Kernel::open().and_then(|kernel| kernel.rename(unmarked)) {
        Ok(false) => End::Gone,
        // They stay; only the word does, too, and nobody believes it of a process that is no more.
        Ok(true) | Err(_) => End::Kept,
    }
}

/// Puts the former rules back, unless somebody has applied others since.
fn put_back(former: &Former, own: Identity) -> End {
    let may = |installed: Option<&Installed>| {
        let stamp = installed.and_then(|installed| installed.comment.as_deref());
        // Whoever removes a table or flushes all of them has not decided what should be there.
        stamp.is_none_or(|stamp| {
            Some(stamp) == former.comment() || marked(stamp).is_some_and(|(by, _)| by == own)
        })
    };
    let done: Result<Restored, Error> =
        Kernel::open().and_then(|kernel| kernel.restore(former, may));
    match done {
        Ok(Restored::Done) => End::Back,
        Ok(Restored::Overruled) => End::Overruled,
        Err(error) => End::Failed(error.to_string()),
    }
}

/// Tells the system's log: nobody may be left at a terminal.
fn log(text: &str) {
    /// Facility `daemon`, severity `notice`, of `syslog(3)`.
    const PRIORITY: u8 = 3 << 3 | 5;
    /// How many characters of the text the line has at most.
    const LONGEST: usize = 2000;
    let line = format!(
        "<{PRIORITY}>dfw[{}]: apply --confirm: {}",
        std::process::id(),
        clean_to(text, LONGEST)
    );
    let send = |log: UnixDatagram| {
        // A log that takes nothing now holds up nobody who waits for the rules.
        log.set_nonblocking(true)?;
        log.send_to(line.as_bytes(), "/dev/log")
    };
    let _ = UnixDatagram::unbound().and_then(send);
}

/// Goes on as two processes; the child's number, or `None` in the child, which has a session of its
/// own and is deaf to the signals that end a terminal's programs.
#[expect(unsafe_code, reason = "no crate at hand forks without it")]
fn fork() -> io::Result<Option<u32>> {
    // SAFETY: the caller has made sure that there is no other thread that could hold a lock.
    let process = unsafe { libc::fork() };
    match u32::try_from(process) {
        Err(_) => Err(io::Error::last_os_error()),
        Ok(0) => {
            for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
                // SAFETY: no handler is installed, and ignoring a signal touches no memory.
                unsafe { libc::signal(signal, libc::SIG_IGN) };
            }
            let _ = rustix::process::setsid();
            Ok(None)
        }
        Ok(process) => Ok(Some(process)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_can_be_read_and_taken_off() {
        let watchdog = Identity {
            process: 17,
            start: 4711,
        };
        let stamp = format!("dfw 0.1.0{} at noon from /etc/a (b)", mark(watchdog));
        let plain = "dfw 0.1.0 at noon from /etc/a (b)";
        assert_eq!(marked(&stamp), Some((watchdog, plain.to_owned())));
        assert_eq!(marked(plain), None);
        assert_eq!(waiting(Some(plain)), None);
    }

    #[test]
    fn a_process_is_its_number_and_its_start() {
        let own = Identity::of(std::process::id()).unwrap();
        assert_eq!(waiting(Some(&mark(own))), Some(own.process));
        // Its number is used again, by another process of the same name.
        for start in [0, own.start - 1, own.start + 1] {
            let former = Identity { start, ..own };
            assert_eq!(waiting(Some(&mark(former))), None);
        }
        let nobody = Identity {
            process: u32::MAX,
            ..own
        };
        assert_eq!(waiting(Some(&mark(nobody))), None);
    }

    #[test]
    fn who_has_ended_is_nobody_whether_waited_for_or_not() {
        let mut stat = Process::myself().unwrap().stat().unwrap();
        for (state, is_anybody) in [
            ('S', true),
            ('T', true),
            ('D', true),
            ('Z', false),
            ('X', false),
        ] {
            stat.state = state;
            assert_eq!(Identity::read(&stat).is_some(), is_anybody, "{state}");
        }
    }

    #[test]
    fn what_is_reported_is_understood() {
        for end in [
            End::Kept,
            End::Gone,
            End::Back,
            End::Overruled,
            End::Failed("no".to_owned()),
        ] {
            let mut bytes = vec![end.letter()];
            if let End::Failed(text) = &end {
                bytes.extend_from_slice(text.as_bytes());
            }
            assert_eq!(End::read(&bytes), Some(end));
        }
        assert_eq!(End::read(&[]), None);
    }
}
