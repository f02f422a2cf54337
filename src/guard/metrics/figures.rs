//! Reads the counters of the rules in a thread of its own: with thousands of ports that takes longer than the
//! loop may block.
//!
//! The counters are read on request, once for all concurrent requests, and not again before they have aged,
//! so the work is bounded.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::kernel::{self, Kernel};

use crate::guard::feeds::job::{Job, Outcome};

use super::file;

/// The age from which counters are read again.
const AGE: Duration = Duration::from_secs(1);
/// The same as a multiple of the time of the last read, so that reads take a tenth of a CPU at most.
const SHARE: u32 = 9;

/// The counters read last.
#[derive(Debug, Clone)]
pub(in crate::guard) struct Counted {
    /// Whether the table was there.
    pub(in crate::guard) in_force: bool,
    /// Each counter, as text for Prometheus.
    pub(in crate::guard) text: Arc<str>,
}

/// The thread and its last result.
#[derive(Debug)]
pub(in crate::guard) struct Figures {
    job: Job<(Result<Counted, kernel::Error>, Duration)>,
    /// The result of the last read, `None` if it failed, and until when it is valid.
    latest: Option<Counted>,
    until: Option<Instant>,
    /// Whether a read is requested or in progress.
    reading: bool,
    /// How often it was read.
    reads: u64,
}

impl Figures {
    /// Creates the job that reads counters.
    ///
    /// # Errors
    /// If no descriptor can be created.
    pub(in crate::guard) fn new() -> io::Result<Self> {
        Ok(Self {
            job: Job::new("figures")?,
            latest: None,
            until: None,
            reading: false,
            reads: 0,
        })
    }

    /// Returns whether the last result is valid. If not, requests a read, whose end
    /// [`drain`](Self::drain) reports.
    pub(in crate::guard) fn are_new(&mut self, now: Instant) -> bool {
        let new = self.until.is_some_and(|until| now < until);
        if !new && !std::mem::replace(&mut self.reading, true) {
            self.job.at(now);
        }
        new
    }

    /// Returns the last result, if the read succeeded.
    pub(in crate::guard) fn latest(&self) -> Option<&Counted> {
        self.latest.as_ref()
    }

    /// Starts a requested read; returns the end or error of a read.
    ///
    /// # Errors
    /// If a thread cannot be created.
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

    /// Returns the next deadline, apart from events of the eventfd.
    pub(in crate::guard) fn next(&self) -> Option<Instant> {
        self.job.next()
    }

    /// Returns the number of reads.
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
    let kernel = Kernel::open()?;
    let mut table = kernel.outline()?;
    if let Some(installed) = &mut table.installed {
        kernel.count_added(installed)?;
    }
    let installed = table.installed.as_ref();
    Ok(Counted {
        in_force: installed.is_some(),
        text: file::ports(installed).into(),
    })
}
