//! Runs work in a thread of its own: a disk may block, the loop must not.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};

/// How long it may take before it is reported: to read a million entries takes a second or two.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many times as long as a run the rest after it is: files may change all the time.
const SHARE: u32 = 4;
/// The longest rest: a disk that was silent for an hour must not delay a change for several.
const LONGEST_REST: Duration = Duration::from_secs(10);

/// Something that is done now and then, by one thread at a time: while one waits for a disk, there is no
/// other.
#[derive(Debug)]
pub(in crate::guard) struct Job<T> {
    name: &'static str,
    wakeup: Arc<OwnedFd>,
    due: Option<Instant>,
    runs: Option<Run<T>>,
    /// Whether it was requested again since it started.
    again: bool,
    /// The time until which it rests, and when it is requested after the rest that follows the run in progress.
    rest: Instant,
    after: Option<Instant>,
}

#[derive(Debug)]
struct Run<T> {
    result: Receiver<T>,
    began: Instant,
    /// The time limit; `None` once its excess was reported.
    deadline: Option<Instant>,
}

/// The result.
#[derive(Debug)]
pub(in crate::guard) enum Outcome<T> {
    /// It is done.
    Done(T),
    /// It exceeds the time limit, and continues.
    Late,
}

impl<T: Send + 'static> Job<T> {
    pub(in crate::guard) fn new(name: &'static str) -> io::Result<Self> {
        let wakeup = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            name,
            wakeup: Arc::new(wakeup),
            due: None,
            runs: None,
            again: false,
            rest: Instant::now(),
            after: None,
        })
    }

    /// Schedules the work for `when`, unless an earlier run is scheduled.
    pub(in crate::guard) fn at(&mut self, when: Instant) {
        self.due = Some(self.due.map_or(when, |due| due.min(when)));
    }

    /// Schedules the work for `when`, but not before the rest after the last run, or after that in progress: what
    /// causes it may happen all the time.
    pub(in crate::guard) fn after_rest(&mut self, when: Instant) {
        if self.runs.is_some() {
            self.after = Some(self.after.map_or(when, |after| after.min(when)));
        } else {
            self.at(when.max(self.rest));
        }
    }

    /// Returns whether a run is scheduled, or in progress within its time limit.
    pub(in crate::guard) fn is_expected(&self) -> bool {
        self.due.is_some() || self.runs.as_ref().is_some_and(|run| run.deadline.is_some())
    }

    /// Returns whether a run is in progress, within its time limit or not.
    pub(in crate::guard) fn is_running(&self) -> bool {
        self.runs.is_some()
    }

    /// Returns the next deadline, apart from events of the eventfd.
    pub(in crate::guard) fn next(&self) -> Option<Instant> {
        let deadline = self.runs.as_ref().and_then(|run| run.deadline);
        deadline.into_iter().chain(self.due).min()
    }

    /// Starts a run if it is due; `work` creates the closure of the thread. While a run is in progress,
    /// the next one follows it, with the time limit from its own start.
    pub(in crate::guard) fn begin(
        &mut self,
        now: Instant,
        work: impl FnOnce() -> Box<dyn FnOnce() -> T + Send>,
    ) -> io::Result<()> {
        if self.due.is_none_or(|due| due > now) {
            return Ok(());
        }
        self.due = None;
        if let Some(run) = &mut self.runs {
            self.again = true;
            run.deadline = run.deadline.or(Some(now + PATIENCE));
            return Ok(());
        }
        let (sender, result) = sync_channel(1);
        let (wakeup, work) = (self.wakeup.clone(), work());
        std::thread::Builder::new()
            .name(self.name.to_owned())
            .spawn(move || {
                // The channel is closed only when guard ends.
                let _ = sender.send(work());
                let _ = rustix::io::write(&wakeup, &1_u64.to_ne_bytes());
            })?;
        let deadline = Some(now + PATIENCE);
        self.runs = Some(Run {
            result,
            began: now,
            deadline,
        });
        Ok(())
    }

    /// Returns the result of a run since the last call.
    pub(in crate::guard) fn outcome(&mut self, now: Instant) -> Option<Outcome<T>> {
        // The counter value does not matter.
        let _ = rustix::io::read(&self.wakeup, &mut [0; 8]);
        let run = self.runs.as_mut()?;
        match run.result.try_recv() {
            Ok(result) => {
                let took = now.saturating_duration_since(run.began);
                self.rest = now + took.saturating_mul(SHARE).min(LONGEST_REST);
                self.runs = None;
                if let Some(after) = self.after.take() {
                    self.after_rest(after);
                }
                if std::mem::take(&mut self.again) {
                    self.at(now);
                }
                Some(Outcome::Done(result))
            }
            Err(TryRecvError::Empty) if run.deadline.is_some_and(|deadline| deadline <= now) => {
                run.deadline = None;
                Some(Outcome::Late)
            }
            Err(TryRecvError::Empty) => None,
            // A panic of the thread ends the process.
            Err(TryRecvError::Disconnected) => {
                self.runs = None;
                None
            }
        }
    }
}

impl<T> AsFd for Job<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wakeup.as_fd()
    }
}

/// Returns the result of `work` within a time limit; otherwise its thread continues.
pub(in crate::guard) fn within<T: Send + 'static>(
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Option<T>> {
    let (sender, result) = sync_channel(1);
    let thread = std::thread::Builder::new().name("job".to_owned());
    thread.spawn(move || {
        let _ = sender.send(work());
    })?;
    Ok(result.recv_timeout(patience).ok())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;

    #[test]
    fn one_at_a_time_and_the_last_wish_is_not_lost() {
        let mut job = Job::new("test").unwrap();
        let start = Instant::now();
        assert!(job.next().is_none() && job.outcome(start).is_none());
        job.at(start);
        let (go, wait) = channel();
        job.begin(start, || Box::new(move || wait.recv().unwrap()))
            .unwrap();
        assert!(job.is_expected());
        // A request during a run waits.
        job.at(start);
        job.begin(start, || unreachable!()).unwrap();
        let late = start + PATIENCE;
        assert!(job.outcome(start).is_none());
        assert!(matches!(job.outcome(late), Some(Outcome::Late)));
        assert!(job.outcome(late).is_none());
        assert!(!job.is_expected() && job.next().is_none());
        // A new request gets a new time limit.
        job.at(late);
        job.begin(late, || unreachable!()).unwrap();
        let later = late + PATIENCE;
        assert!(matches!(job.outcome(later), Some(Outcome::Late)));
        go.send(7).unwrap();
        let ring = |job: &Job<i32>| {
            poll(&mut [PollFd::new(job, PollFlags::IN)], None).unwrap();
        };
        ring(&job);
        assert!(matches!(job.outcome(later), Some(Outcome::Done(7))));
        assert_eq!(job.next(), Some(later));
        job.begin(later, || Box::new(|| 8)).unwrap();
        ring(&job);
        assert!(matches!(job.outcome(later), Some(Outcome::Done(8))));
        assert_eq!(job.next(), None);
    }

    #[test]
    fn what_happens_all_the_time_waits_for_a_rest() {
        let mut job = Job::new("test").unwrap();
        let start = Instant::now();
        let run = |job: &mut Job<()>, began, took| {
            job.begin(began, || Box::new(|| ())).unwrap();
            // Something happens in the meantime, and once more.
            job.after_rest(began);
            job.after_rest(began + took);
            job.begin(began + took, || unreachable!()).unwrap();
            poll(&mut [PollFd::new(job, PollFlags::IN)], None).unwrap();
            assert!(matches!(job.outcome(began + took), Some(Outcome::Done(()))));
            job.next().unwrap().duration_since(began + took)
        };
        let second = Duration::from_secs(1);
        job.after_rest(start);
        assert_eq!(job.next(), Some(start));
        assert_eq!(run(&mut job, start, second), 4 * second);
        // In the rest it is no different, and what is urgent need not wait.
        job.after_rest(start + 2 * second);
        assert_eq!(job.next(), Some(start + 5 * second));
        job.at(start + 2 * second);
        assert_eq!(run(&mut job, start + 2 * second, 60 * second), LONGEST_REST);
        let later = start + 600 * second;
        job.begin(later, || Box::new(|| ())).unwrap();
        poll(&mut [PollFd::new(&job, PollFlags::IN)], None).unwrap();
        assert!(matches!(job.outcome(later), Some(Outcome::Done(()))));
        job.after_rest(later + second);
        assert_eq!(job.next(), Some(later + second));
    }
}
