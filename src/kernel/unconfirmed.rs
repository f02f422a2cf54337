//! The mark of rules that are not confirmed yet, in the stamp of the table: which process would roll them back.

use procfs::ProcError;
use procfs::process::{Process, Stat};

/// The identity of a process: its number, which the kernel reuses, and its start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The process number.
    pub process: u32,
    /// When it started, in clock ticks since the boot.
    pub start: u64,
}

impl Identity {
    /// Returns the identity of a process by its number.
    ///
    /// # Errors
    /// If it does not run, or /proc cannot be read.
    pub fn of(process: u32) -> Result<Self, ProcError> {
        let number = i32::try_from(process).map_err(|_| ProcError::NotFound(None))?;
        Self::read(&Process::new(number)?.stat()?).ok_or(ProcError::NotFound(None))
    }

    /// Parses the identity from a process's `stat`; `None` for a zombie.
    fn read(stat: &Stat) -> Option<Self> {
        let has_ended = matches!(stat.state, 'Z' | 'X' | 'x');
        (!has_ended).then_some(Self {
            process: u32::try_from(stat.pid).ok()?,
            start: stat.starttime,
        })
    }

    /// Returns whether this process runs.
    fn is_alive(self) -> bool {
        Self::of(self.process).is_ok_and(|now| now == self)
    }
}

/// The mark in the stamp of unconfirmed rules, before and after the watchdog's number.
const MARK: &str = " unconfirmed (process ";
const START: &str = ", start ";

/// Returns the mark of unconfirmed rules.
#[must_use]
pub fn mark(watchdog: Identity) -> String {
    let Identity { process, start } = watchdog;
    format!("{MARK}{process}{START}{start})")
}

/// Splits a stamp into the watchdog of its mark and the stamp without the mark.
#[must_use]
pub fn marked(stamp: &str) -> Option<(Identity, String)> {
    let (before, rest) = stamp.split_once(MARK)?;
    let (identity, after) = rest.split_once(')')?;
    let (process, start) = identity.split_once(START)?;
    let identity = Identity {
        process: process.parse().ok()?,
        start: start.parse().ok()?,
    };
    Some((identity, format!("{before}{after}")))
}

/// Returns the process number of the watchdog of the rules in force, if it runs.
#[must_use]
pub fn waiting(stamp: Option<&str>) -> Option<u32> {
    named(stamp).and_then(|(process, waits)| waits.then_some(process))
}

/// Returns the process number of the watchdog in a stamp, and whether it runs.
#[must_use]
pub fn named(stamp: Option<&str>) -> Option<(u32, bool)> {
    let (watchdog, _) = marked(stamp?)?;
    Some((watchdog.process, watchdog.is_alive()))
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
        // The number is reused by another process of the same name.
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
    fn an_ended_process_does_not_run_even_as_a_zombie() {
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
}
