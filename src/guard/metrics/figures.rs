//! What the rules have counted, read by a thread of its own: with thousands of ports that takes longer
//! than the loop may be away.
//!
//! It is read when somebody asks, once for all who ask meanwhile, and not again before it has aged: the
//! work is bounded however many ask.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::kernel::{self, Kernel};

use crate::guard::feeds::job::{Job, Outcome};

use super::file;

/// How old figures must be before the table is read again.
const AGE: Duration = Duration::from_secs(1);
/// The same in times that it took to read them: a tenth of a processor at most reads figures.
const SHARE: u32 = 9;

/// What was counted when the table was read last.
#[derive(Debug, Clone)]
pub(in crate::guard) struct Counted {
    /// Whether the table was there.
    pub(in crate::guard) in_force: bool,
    /// Each counter, as text for Prometheus.
    pub(in crate::guard) text: Arc<str>,
}

/// The thread, and what it has read last.
#[derive(Debug)]
pub(in crate::guard) struct Figures {
    job: Job<(Result<Counted, kernel::Error>, Duration)>,
    /// What was read last, `None` if it could not be read; and until when that is good.
    latest: Option<Counted>,
    until: Option<Instant>,
    /// Whether it is to be read, or being read.
    reading: bool,
    /// How often it was read.
    reads: u64,
}

impl Figures {
    /// Begins.
    ///
    /// # Errors
    /// If there can be no more descriptors.
    pub(in crate::guard) fn new() -> io::Result<Self> {
        Ok(Self {
            job: Job::new("figures")?,
            latest: None,
            until: None,
            reading: false,
            reads: 0,
        })
    }

    /// Returns whether what was read last is new enough. Where not, it is read, which
    /// [`drain`](Self::drain) reports.
    pub(in crate::guard) fn are_new(&mut self, now: Instant) -> bool {
        let new = self.until.is_some_and(|until| now < until);
        if !new && !std::mem::replace(&mut self.reading, true) {
            self.job.at(now);
        }
        new
    }

    /// Returns what was counted when it was read last, if that went well.
    pub(in crate::guard) fn latest(&self) -> Option<&Counted> {
        self.latest.as_ref()
    }

    /// Begins to read if it is to be read; says whether it was read, or why not.
    ///
    /// # Errors
    /// If there can be no more threads.
    pub(in crate::guard) fn drain(
        &mut self,
        now: Instant,
    ) -> io::Result<Option<Result<(), String>>> {
        let read = match self.job.outcome(now) {
            Some(Outcome::Done((read, took))) => {
                self.reading = false;
                self.reads += 1;
                self.until = Some(now + AGE.max(took * SHARE));
                let failure = read.as_ref().err().map(ToString::to_string);
                self.latest = read.ok();
                Some(failure.map_or(Ok(()), Err))
            }
            Some(Outcome::Late) => Some(Err("the kernel does not respond".to_owned())),
            None => None,
        };
        self.job.begin(now, || {
            Box::new(|| {
                let began = Instant::now();
                let read = read_table();
                (read, began.elapsed())
            })
        })?;
        Ok(read)
    }

    /// Returns when there is something to do, apart from what the eventfd reports.
    pub(in crate::guard) fn next(&self) -> Option<Instant> {
        self.job.next()
    }

    /// Returns how often the table was read.
    pub(in crate::guard) fn reads(&self) -> u64 {
        self.reads
    }
}

impl AsFd for Figures {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.job.as_fd()
    }
}

fn read_table() -> Result<Counted, kernel::Error> {
    let table = Kernel::open()?.outline()?;
    let installed = table.installed.as_ref();
    Ok(Counted {
        in_force: installed.is_some(),
        text: file::ports(installed).into(),
    })
}
