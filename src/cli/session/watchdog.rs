//! The watchdog of `dfw apply --confirm`: a second process that rolls back unless the user confirms.
//!
//! It is forked before anything is changed, runs in its own session, ignores the terminal's signals, and
//! holds the former rules and the reading end of a pipe. When the foreground process ends, by a signal, a
//! crash or with its terminal, its end of the pipe closes, and the watchdog rolls back. It is a fork because
//! a thread would end with its process, and dfw never starts other programs.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use procfs::process::Process;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::kernel::unconfirmed::{Identity, marked};
use crate::kernel::{Error, Former, Kernel, Restored};
use crate::output::terminal::{Terminal, Tone};
use crate::plan::Installed;
use crate::untrusted::clean_to;

/// How much longer than the confirmation time a transaction may take, from the fork to its end. A process that
/// is stopped in between must not keep the watchdog running.
const COMMIT: Duration = Duration::from_mins(5);

/// Messages of the foreground process, one byte each.
const COMMITTED: u8 = b'c';
const KEEP: u8 = b'k';
const PUT_BACK: u8 = b'n';
const NEVER_MIND: u8 = b'x';

/// The outcome of an apply with confirmation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum End {
    /// The new rules stay.
    Kept,
    /// Confirmed, but another program modified or removed the rules in between.
    Gone,
    /// The former rules are restored.
    Back,
    /// Other rules were applied in between; they stay.
    Overruled,
    /// The former rules could not be restored.
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

    /// Returns the outcome as text.
    pub(in crate::cli) fn text(&self, former: &Former) -> String {
        match self {
            Self::Kept => "confirmed: the new rules stay in force".to_owned(),
            Self::Gone => {
                "confirmed, but the rules were modified since; see `dfw status`".to_owned()
            }
            Self::Back if former.is_nothing() => {
                "not confirmed: rolled back, dfw's rules are not in force".to_owned()
            }
            Self::Back => "not confirmed: rolled back, the former rules are in force".to_owned(),
            Self::Overruled => {
                "not confirmed, but other rules were applied since and stay in force; see `dfw status`"
                    .to_owned()
            }
            Self::Failed(error) => format!(
                "not confirmed, and the rollback failed: {error}; `dfw status` shows the rules in force"
            ),
        }
    }
}

/// A watchdog, as the foreground process uses it.
#[derive(Debug)]
pub(in crate::cli) struct Watchdog {
    identity: Identity,
    orders: File,
    report: File,
    former: Former,
    /// Whether it has received the user's answer.
    answered: Cell<bool>,
}

impl Watchdog {
    /// Starts a watchdog that restores these rules.
    ///
    /// # Errors
    /// Errors of `fork(2)` and `pipe(2)`, and if this process has other threads.
    pub(in crate::cli) fn start(
        terminal: Terminal,
        former: Former,
        patience: Duration,
    ) -> io::Result<Self> {
        // Locks held by other threads would stay locked in the child.
        let threads = Process::myself().and_then(|me| Ok(me.tasks()?.count()));
        if threads.map_err(io::Error::other)? != 1 {
            return Err(io::Error::other("other threads are running"));
        }
        let (order_end, orders) = rustix::pipe::pipe()?;
        let (report, report_end) = rustix::pipe::pipe()?;
        let Some(process) = fork()? else {
            drop((orders, report));
            let watch = || serve(terminal, &former, patience, &order_end, report_end);
            // Never return into the stack of the foreground process.
            let _ = catch_unwind(AssertUnwindSafe(watch));
            std::process::exit(0);
        };
        let mut watchdog = Self {
            identity: Identity { process, start: 0 },
            orders: File::from(orders),
            report: File::from(report),
            former,
            answered: Cell::new(false),
        };
        let mut start = [0; 8];
        watchdog.report.read_exact(&mut start)?;
        watchdog.identity.start = u64::from_ne_bytes(start);
        Ok(watchdog)
    }

    /// Returns the identity of the watchdog.
    pub(in crate::cli) fn identity(&self) -> Identity {
        self.identity
    }

    /// Returns the rules that it would restore.
    pub(in crate::cli) fn former(&self) -> &Former {
        &self.former
    }

    /// Returns the descriptor that becomes readable when it has decided.
    pub(in crate::cli) fn report(&self) -> &File {
        &self.report
    }

    /// Reports that the rules are in force; the confirmation time starts.
    pub(in crate::cli) fn committed(&self) {
        self.say(COMMITTED);
    }

    /// Sends the user's answer.
    pub(in crate::cli) fn answered(&self, keep: bool) {
        self.answered.set(true);
        self.say(if keep { KEEP } else { PUT_BACK });
    }

    fn say(&self, order: u8) {
        // If the watchdog is gone, its result pipe is closed.
        let _ = (&self.orders).write_all(&[order]);
    }

    /// Waits for its decision. If it was killed, this process rolls back itself.
    pub(in crate::cli) fn end(self) -> End {
        self.answered.set(true);
        let mut report = Vec::new();
        let _ = (&self.report).read_to_end(&mut report);
        End::read(&report).unwrap_or_else(|| put_back(&self.former, self.identity))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        if !self.answered.get() {
            self.say(NEVER_MIND);
        }
        let process = i32::try_from(self.identity.process).ok();
        if let Some(process) = process.and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::waitpid(Some(process), rustix::process::WaitOptions::empty());
        }
    }
}

/// Orders of the foreground process.
enum Order {
    Keep,
    PutBack,
    NeverMind,
    /// It ended, or the time is up.
    None {
        gone: bool,
    },
}

/// Runs the child process.
fn serve(
    terminal: Terminal,
    former: &Former,
    patience: Duration,
    orders: &OwnedFd,
    report: OwnedFd,
) {
    // Keep no pipe of the foreground process open, and no file system busy.
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdin(&null);
        let _ = rustix::stdio::dup2_stdout(&null);
    }
    let _ = std::env::set_current_dir("/");
    let mut report = File::from(report);
    // Without /proc it is useless; the foreground process sees it end.
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

/// Waits until a descriptor is readable or closed, and returns its index; `None` after the timeout.
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

/// Removes the mark from the rules, which stay in force.
fn keep(own: Identity) -> End {
    let unmarked = |stamp: &str| marked(stamp).filter(|(by, _)| *by == own).map(|m| m.1);
    match Kernel::open().and_then(|kernel| kernel.rename(unmarked)) {
        Ok(false) => End::Gone,
        // The rules stay; a mark of a process that is gone is ignored.
        Ok(true) | Err(_) => End::Kept,
    }
}

/// Restores the former rules, unless other rules were applied in between.
fn put_back(former: &Former, own: Identity) -> End {
    let may = |installed: Option<&Installed>| {
        let stamp = installed.and_then(|installed| installed.comment.as_deref());
        // A deleted table or a flushed ruleset is not an apply of other rules.
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

/// Writes to the system log, because the terminal may be gone.
fn log(text: &str) {
    /// Facility `daemon`, severity `notice`, of `syslog(3)`.
    const PRIORITY: u8 = 3 << 3 | 5;
    /// The maximum number of characters of the text.
    const LONGEST: usize = 2000;
    let line = format!(
        "<{PRIORITY}>dfw[{}]: apply --confirm: {}",
        std::process::id(),
        clean_to(text, LONGEST)
    );
    let send = |log: UnixDatagram| {
        // A log that does not accept the line must not delay the rollback.
        log.set_nonblocking(true)?;
        log.send_to(line.as_bytes(), "/dev/log")
    };
    let _ = UnixDatagram::unbound().and_then(send);
}

/// Forks; returns the child's number, or `None` in the child, which gets its own session and ignores the
/// terminal's signals.
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
