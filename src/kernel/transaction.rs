//! Sends plans as transactions.

use std::time::Duration;

use crate::netlink::answer::Answer;
use crate::netlink::message::Messages;
use crate::plan::{self, Operation, Plan};
use crate::ruleset::Ruleset;

use super::attempts::reads;
use super::gap::Gap;
use super::{
    Batch, ERESTART, Error, FinishedBatch, Kernel, NLMSG_ERROR, Rejection, Subject, What,
    no_subsystem,
};

/// The result of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It took effect.
    Done,
    /// It took effect, except for the last transaction ([`Plan::after`]).
    Unfinished,
    /// Another program changed a ruleset after the snapshot; no verdict was changed.
    Overtaken,
}

/// The result of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commit {
    /// The ruleset is in force.
    InForce {
        /// The generation from which on it is in force; `None` if other programs changed rulesets
        /// meanwhile.
        generation: Option<u32>,
    },
    /// Another program changed a ruleset after the survey. No verdict was changed.
    Overtaken,
}

impl Kernel {
    /// Returns a random number, the key of sketches.
    ///
    /// # Errors
    /// As `getrandom(2)`.
    pub fn seed() -> Result<u128, Error> {
        let mut bytes = [0; 16];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
            .map_err(std::io::Error::from)?;
        Ok(u128::from_ne_bytes(bytes))
    }

    /// Applies a plan made from the snapshot of this generation, if no ruleset has changed since.
    /// `stamp` says who applied it. A rejected plan is rolled back completely.
    ///
    /// # Errors
    /// `Error::Rejected` if the kernel rejects a message, `Error::Owned` if another process owns the table,
    /// `Error::Permission`, `Error::TooLarge` or `Error::TooLong`, `Error::Unanswered` if the change may have
    /// taken effect, and `Error::Socket`.
    pub fn carry_out(
        &self,
        plan: &Plan<'_>,
        stamp: &str,
        generation: u32,
    ) -> Result<Outcome, Error> {
        let mut generation = generation;
        if !plan.before.is_empty() {
            if self.send(&plan.before, stamp, generation)? == Outcome::Overtaken {
                return Ok(Outcome::Overtaken);
            }
            generation = next(generation);
        }
        let done = self.send(&plan.main, stamp, generation);
        if let Err(error) = &done
            && !matches!(error, Error::Unanswered(_))
            && !plan.before.is_empty()
        {
            // If that fails too, the leftovers are unreferenced, and the next plan deletes them.
            let _ = self.send(&plan.undo(), stamp, generation);
        }
        if matches!(done, Ok(Outcome::Done)) && !plan.after.is_empty() {
            // The desired rules are in force. The next plan deletes the leftovers.
            let finished = self.finish(plan, stamp, next(generation));
            return Ok(finished.unwrap_or(Outcome::Unfinished));
        }
        done
    }

    /// Sends the last transaction of a plan. A concurrent commit of another program hardly concerns
    /// dfw's table; if it does, the transaction is rejected, or the next plan corrects it.
    fn finish(&self, plan: &Plan<'_>, stamp: &str, generation: u32) -> Result<Outcome, Error> {
        let mut generation = generation;
        // Once: later packets meet only the rules in force and final sets.
        await_packets();
        for _ in reads() {
            if self.send(&plan.after, stamp, generation)? == Outcome::Done {
                return Ok(Outcome::Done);
            }
            generation = self.generation()?;
        }
        Ok(Outcome::Unfinished)
    }

    pub(super) fn send(
        &self,
        operations: &[Operation<'_>],
        stamp: &str,
        generation: impl Into<Option<u32>>,
    ) -> Result<Outcome, Error> {
        let mut batch = Batch::new(generation).with_flags(self.flags.get());
        for operation in operations {
            batch.operation(operation, stamp);
        }
        self.commit(&batch.finish()?)
    }

    /// Replaces dfw's table in one transaction. For a moment it denies packets to all ports of the ruleset, and never
    /// passes one that both rulesets deny. `stamp` says who applied it. With a `generation`, only
    /// if no ruleset has changed since; without one, the generation of the result is not known.
    ///
    /// # Errors
    /// `Error::Unsound` for an invalid ruleset. `Error::Rejected` if the kernel rejects a message,
    /// `Error::Owned` if another process owns the table, `Error::Permission`, `Error::TooLarge` or
    /// `Error::TooLong`, `Error::Unanswered` if the change may have taken effect, and `Error::Socket`.
    pub fn replace(
        &self,
        ruleset: &Ruleset,
        stamp: &str,
        generation: impl Into<Option<u32>>,
    ) -> Result<Commit, Error> {
        sound(ruleset)?;
        let generation = generation.into();
        let mut operations = plan::replace(ruleset, Self::seed()?).main;
        let gap = Gap::of(ruleset);
        operations.extend(gap.iter().flat_map(Gap::close));
        if self.send(&operations, stamp, generation)? == Outcome::Overtaken {
            return Ok(Commit::Overtaken);
        }
        let mut generation = generation.map(next);
        if let Some(gap) = gap {
            let open = gap.open();
            let opened = self.send(&open, stamp, generation);
            generation = generation
                .filter(|_| matches!(opened, Ok(Outcome::Done)))
                .map(next);
            if matches!(opened, Ok(Outcome::Overtaken)) {
                // If this fails, the next plan takes it out.
                let _ = self.send(&open, stamp, None);
            }
        }
        Ok(Commit::InForce { generation })
    }

    /// Deletes dfw's table. With a `generation`, only if no ruleset has changed since.
    ///
    /// # Errors
    /// `Error::Rejected` if the kernel rejects a message, `Error::Owned` if another process owns the table,
    /// `Error::Permission`, `Error::TooLarge` or `Error::TooLong`, `Error::Unanswered` if the change may have
    /// taken effect, and `Error::Socket`.
    pub fn remove(&self, generation: impl Into<Option<u32>>) -> Result<Outcome, Error> {
        self.send(&[Operation::DeleteTable], "", generation)
    }

    /// Sends a transaction and waits for its acknowledgement.
    ///
    /// # Errors
    /// `Error::Rejected` if the kernel rejects a message, `Error::Owned` if another process owns the table,
    /// `Error::Permission`, `Error::TooLarge` or `Error::TooLong`, `Error::Unanswered` if the change may have
    /// taken effect, and `Error::Socket`.
    pub fn commit(&self, batch: &FinishedBatch) -> Result<Outcome, Error> {
        use rustix::io::Errno;
        self.socket
            .send(&batch.bytes)
            .map_err(|error| match Errno::from_io_error(&error) {
                Some(Errno::MSGSIZE | Errno::NOBUFS) => Error::TooLarge(batch.bytes.len()),
                Some(Errno::PERM) => Error::Permission,
                _ => Error::Socket(error),
            })?;
        // From here on the transaction may have taken effect.
        let rejections = self
            .rejections(batch)
            .map_err(|error| Error::Unanswered(Box::new(error)))?;
        let is = |rejection: &Rejection, errno: Errno| rejection.errno == errno.raw_os_error();
        if rejections.iter().any(|r| is(r, ERESTART)) {
            return Ok(Outcome::Overtaken);
        }
        match rejections.first() {
            None => Ok(Outcome::Done),
            Some(first) if is(first, Errno::PERM) => {
                Err(self.owner().map_or(Error::Permission, Error::Owned))
            }
            Some(first) if first.subject.what == What::Batch && no_subsystem(first.errno) => {
                Err(Error::NoNfTables)
            }
            Some(_) => Err(Error::Rejected(rejections)),
        }
    }

    /// Reads the answers to a transaction. The kernel has processed it when `sendto` returns; at least
    /// one answer is queued, since the last message requests an acknowledgement.
    fn rejections(&self, batch: &FinishedBatch) -> Result<Vec<Rejection>, Error> {
        let mut rejections = Vec::new();
        let (mut buffer, mut answered) = (Vec::new(), false);
        while let Some(length) = self.socket.receive(&mut buffer, !answered)? {
            for message in Messages::new(&buffer[..length]) {
                let message = message?;
                if message.kind != NLMSG_ERROR {
                    continue;
                }
                answered = true;
                let answer = Answer::decode(&message)?;
                if answer.errno != 0 {
                    rejections.push(rejection(batch, answer));
                }
            }
        }
        Ok(rejections)
    }
}

/// Waits until all packets in flight have passed. The kernel distinguishes generations by one bit, so a
/// packet that lasts over two transactions would meet the rules of the second.
fn await_packets() {
    use rustix::thread::{MembarrierCommand, membarrier};
    /// Longer than any packet takes, for kernels that do not wait (`nohz_full`).
    const LONG: Duration = Duration::from_millis(50);
    // `synchronize_rcu` of the kernel, see kernel/sched/membarrier.c.
    if membarrier(MembarrierCommand::Global).is_err() {
        std::thread::sleep(LONG);
    }
}

/// Returns the generation after a transaction: the next number, skipping 0.
#[must_use]
pub(super) fn next(generation: u32) -> u32 {
    generation.checked_add(1).unwrap_or(1)
}

/// Checks a ruleset before it is sent to the kernel.
///
/// # Errors
/// [`Error::Unsound`](enum@Error).
pub fn sound(ruleset: &Ruleset) -> Result<(), Error> {
    match crate::ruleset::check::check(ruleset).into_iter().next() {
        Some(wrong) => Err(Error::Unsound(wrong)),
        None => Ok(()),
    }
}

fn rejection(batch: &FinishedBatch, answer: Answer) -> Rejection {
    let subject = batch.subject(answer.sequence).cloned().unwrap_or(Subject {
        what: What::Batch,
        origin: None,
    });
    Rejection {
        subject,
        errno: answer.errno,
        text: answer.text,
    }
}
