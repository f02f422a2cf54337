//! What the rules have counted, read by a thread of its own: with thousands of ports that takes longer
//! than the loop may be away.
//!
//! It is read when somebody asks, once for all who ask meanwhile, and not again before it has aged: the
//! work is bounded however many ask.

use std::fmt::Debug;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};

use crate::kernel::{self, Kernel};

use super::metrics;

/// How old figures must be before the table is read again.
const AGE: Duration = Duration::from_secs(1);
/// The same in times that it took to read them: a tenth of a processor at most reads figures.
const SHARE: u32 = 9;

/// What was counted when the table was read last.
#[derive(Debug, Clone)]
pub(super) struct Counted {
    /// Whether the table was there.
    pub(super) in_force: bool,
    /// Each counter, as text for Prometheus.
    pub(super) text: Arc<str>,
}

/// What the thread reports.
#[derive(Debug)]
pub(super) enum Done {
    /// It has read what was counted, or could not.
    Read(Result<Counted, kernel::Error>),
    /// It has written the file, or could not.
    Written(io::Result<()>),
}

/// What the thread is to do.
type Job = Box<dyn FnOnce() -> Done + Send>;

/// The thread, and what it has read last.
pub(super) struct Figures {
    jobs: Sender<Job>,
    done: Receiver<(Done, Duration)>,
    bell: Arc<OwnedFd>,
    /// What was read last, `None` if it could not be read; and until when that is good.
    latest: Option<Counted>,
    until: Option<Instant>,
    /// Whether it is being read.
    reading: bool,
    /// How often it was read.
    reads: u64,
}

impl Figures {
    /// Begins.
    ///
    /// # Errors
    /// If there can be no more threads or descriptors.
    pub(super) fn new() -> io::Result<Self> {
        let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let (jobs, given) = channel::<Job>();
        let (report, done) = channel();
        let ring = bell.clone();
        let work = move || {
            // Nobody takes the last report when the process ends.
            for job in given {
                let began = Instant::now();
                let _ = report.send((job(), began.elapsed()));
                let _ = rustix::io::write(&ring, &1_u64.to_ne_bytes());
            }
        };
        std::thread::Builder::new()
            .name("figures".to_owned())
            .spawn(work)?;
        Ok(Self {
            jobs,
            done,
            bell,
            latest: None,
            until: None,
            reading: false,
            reads: 0,
        })
    }

    /// Whether what was read last is new enough. Where not, it is read, which [`drain`](Self::drain)
    /// reports.
    pub(super) fn are_new(&mut self, now: Instant) -> bool {
        if self.until.is_some_and(|until| now < until) {
            return true;
        }
        if !std::mem::replace(&mut self.reading, true) {
            self.give(|| Done::Read(read()));
        }
        false
    }

    /// What was counted when it was read last, if that went well.
    pub(super) fn latest(&self) -> Option<&Counted> {
        self.latest.as_ref()
    }

    /// Has the thread do something else that may take long.
    pub(super) fn give(&self, job: impl FnOnce() -> Done + Send + 'static) {
        // The thread ends with the process only.
        let _ = self.jobs.send(Box::new(job));
    }

    /// Takes what the thread reports: what it has written, and why it could not read.
    pub(super) fn drain(&mut self, now: Instant) -> Vec<Done> {
        // It only says that there is something.
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
        let mut all = Vec::new();
        for (done, took) in self.done.try_iter() {
            if let Done::Read(read) = &done {
                self.reading = false;
                self.reads += 1;
                self.until = Some(now + AGE.max(took * SHARE));
                self.latest = read.as_ref().ok().cloned();
            }
            all.push(done);
        }
        all
    }

    /// How often the table was read.
    pub(super) fn reads(&self) -> u64 {
        self.reads
    }
}

impl Debug for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Figures")
            .field("reads", &self.reads)
            .finish_non_exhaustive()
    }
}

impl AsFd for Figures {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

fn read() -> Result<Counted, kernel::Error> {
    let table = Kernel::open()?.outline()?;
    let installed = table.installed.as_ref();
    Ok(Counted {
        in_force: installed.is_some(),
        text: metrics::ports(installed).into(),
    })
}
