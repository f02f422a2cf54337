//! Rolls back to the ruleset that was installed before.

use std::time::Duration;

use crate::plan::{self, Installed, Operation, Plan};
use crate::ruleset::Ruleset;

use super::{COMMITS, Error, Kernel, Outcome, Snapshot, attempts};

/// The number of attempts while the kernel rejects, and the pause between them.
const REJECTED: u32 = 5;
const REST: Duration = Duration::from_secs(1);

/// An installed ruleset, with the elements of all sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Former(Option<Installed>);

impl Former {
    /// Returns the installed ruleset of a [`Kernel::survey`], to be restored after the plan that brings
    /// `desired` into force. The elements of big sets, which a survey does not read, are computed from
    /// the desired ones and the plan. Only where the plan does not know them are they read, which takes
    /// 90 s for a million.
    ///
    /// # Errors
    /// See [`Error`](enum@Error); [`Error::Busy`](enum@Error) if they changed meanwhile.
    pub fn of(
        kernel: &Kernel,
        installed: Option<&Installed>,
        desired: &Ruleset,
        plan: &Plan<'_>,
    ) -> Result<Self, Error> {
        let Some(mut installed) = installed.cloned() else {
            return Ok(Self(None));
        };
        let mut whole: Option<Installed> = None;
        for (name, set) in &mut installed.ruleset.sets {
            if installed.facts.sets.get(name).is_some_and(|set| set.read) {
                continue;
            }
            set.elements = if let Some(elements) = plan.elements_before(name, desired) {
                elements
            } else {
                let whole = match &mut whole {
                    Some(whole) => whole,
                    none => none.insert(kernel.snapshot()?.installed.ok_or(Error::Busy)?),
                };
                let read = whole.facts.sets.get(name).is_some_and(|set| set.read);
                let set = whole.ruleset.sets.remove(name).filter(|_| read);
                set.ok_or(Error::Busy)?.elements
            };
        }
        Ok(Self(Some(installed)))
    }

    /// Returns the stamp; `None` if there was no table or no stamp.
    #[must_use]
    pub fn comment(&self) -> Option<&str> {
        self.0.as_ref()?.comment.as_deref()
    }

    /// Returns whether there was no table.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.0.is_none()
    }
}

/// The result of a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restored {
    /// The former ruleset is in force.
    Done,
    /// The former ruleset was not restored, as the table was changed since.
    Overruled,
}

impl Kernel {
    /// Restores the former ruleset if `may` returns true for the installed one. While other programs
    /// commit or the kernel rejects, it retries for some seconds.
    ///
    /// # Errors
    /// If the installed ruleset cannot be read, or the kernel still rejects the change after some seconds: the
    /// errors of [`Kernel::snapshot`] and [`Kernel::replace`].
    pub fn restore(
        &self,
        former: &Former,
        may: impl Fn(Option<&Installed>) -> bool,
    ) -> Result<Restored, Error> {
        let mut rejected = 0;
        loop {
            match self.restore_once(former, &may, rejected > 0) {
                Err(_) if rejected < REJECTED => {
                    rejected += 1;
                    std::thread::sleep(REST);
                }
                done => return done,
            }
        }
    }

    fn restore_once(
        &self,
        former: &Former,
        may: impl Fn(Option<&Installed>) -> bool,
        whole: bool,
    ) -> Result<Restored, Error> {
        let seed = Self::seed()?;
        for attempt in attempts(COMMITS) {
            let snapshot = match self.survey() {
                Err(Error::Busy) if !attempt.is_last => continue,
                snapshot => snapshot?,
            };
            let Snapshot {
                installed,
                generation,
                ..
            } = &snapshot;
            let installed = installed.as_ref();
            if !may(installed) {
                return Ok(Restored::Overruled);
            }
            let stamp = former.comment().unwrap_or_default();
            let done = match &former.0 {
                None if installed.is_none() => Outcome::Done,
                None => self.remove(*generation)?,
                Some(former) if whole || attempt.is_last => {
                    let counts = plan::counted(installed, former);
                    let plan = plan::restore(None, former, &counts, seed);
                    let mut operations = vec![Operation::DeleteTable];
                    operations.extend(plan.before);
                    operations.extend(plan.main);
                    let generation = (!attempt.is_last).then_some(*generation);
                    self.send(&operations, stamp, generation)?
                }
                Some(former) => {
                    let counts = plan::counted(installed, former);
                    let plan = plan::restore(installed, former, &counts, seed);
                    if plan.is_empty() {
                        Outcome::Done
                    } else {
                        self.carry_out(&plan, stamp, *generation)?
                    }
                }
            };
            if done != Outcome::Overtaken {
                return Ok(Restored::Done);
            }
        }
        Err(Error::Busy)
    }

    /// Changes the stamp of the installed ruleset if `name` returns another one. `false` if it did not,
    /// or if there is no stamp.
    ///
    /// # Errors
    /// If the table cannot be read or changed: the errors of [`Kernel::snapshot`] and [`Kernel::replace`].
    pub fn rename(&self, name: impl Fn(&str) -> Option<String>) -> Result<bool, Error> {
        for _ in attempts(COMMITS) {
            let Snapshot {
                installed,
                generation,
                ..
            } = self.outline()?;
            let facts = installed.as_ref().map(|installed| &installed.facts);
            let Some(fingerprint) = facts.and_then(|facts| facts.fingerprint) else {
                return Ok(false);
            };
            let comment = installed.as_ref().and_then(|i| i.comment.as_deref());
            let Some(stamp) = comment.and_then(&name) else {
                return Ok(false);
            };
            let plan = Plan {
                main: vec![Operation::Stamp {
                    again: true,
                    fingerprint,
                }],
                ..Plan::default()
            };
            if self.carry_out(&plan, &stamp, generation)? != Outcome::Overtaken {
                return Ok(true);
            }
        }
        Err(Error::Busy)
    }
}
