//! A change of dfw's table: computed from one survey of the kernel, shown, and committed.
//!
//! ```text
//! for attempt in attempts(COMMITS) {
//!     let survey = kernel.try_survey(None)?;
//!     let proposal = kernel.propose(survey.as_ref(), &ruleset)?;
//!     … show it, ask, or nothing of it …
//!     if let Commit::InForce { .. } = proposal.commit(&stamp, attempt)? { break }
//! }
//! ```

use crate::plan::{self, Installed, Plan};
use crate::ruleset::Ruleset;

use super::transaction::{Commit, next};
use super::{Attempt, Error, ForeignBaseChain, Former, Kernel, Outcome, Snapshot, sound};

/// The change that brings a ruleset into force, computed against one snapshot.
#[derive(Debug)]
pub struct Proposal<'a> {
    kernel: &'a Kernel,
    ruleset: &'a Ruleset,
    /// `None` if no consistent snapshot could be taken.
    survey: Option<&'a Snapshot>,
    plan: Plan<'a>,
}

impl Kernel {
    /// Surveys the kernel for a proposal, unless nothing has changed since an earlier survey; `None` if others change
    /// rulesets during every attempt to read them.
    ///
    /// # Errors
    /// `Error::Permission`, `Error::NoNfTables`, `Error::Malformed` or `Error::Socket` if the kernel cannot be
    /// read.
    pub fn try_survey(&self, earlier: Option<Box<Snapshot>>) -> Result<Option<Snapshot>, Error> {
        match self.survey_since(earlier) {
            Err(Error::Busy) => Ok(None),
            survey => survey.map(Some),
        }
    }

    /// Computes the change that brings a ruleset into force.
    ///
    /// # Errors
    /// [`Error::Unsound`](enum@Error) if the ruleset is invalid, or the error of `getrandom(2)`.
    pub fn propose<'a>(
        &'a self,
        survey: Option<&'a Snapshot>,
        ruleset: &'a Ruleset,
    ) -> Result<Proposal<'a>, Error> {
        sound(ruleset)?;
        let seed = Self::seed()?;
        let plan = match survey {
            Some(survey) => plan::diff(survey.installed.as_ref(), ruleset, seed),
            None => plan::replace(ruleset, seed),
        };
        Ok(Proposal {
            kernel: self,
            ruleset,
            survey,
            plan,
        })
    }
}

impl<'a> Proposal<'a> {
    /// Returns whether the ruleset is in force already.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.plan.is_empty()
    }

    /// Returns the operations that lead from what is installed to the ruleset.
    #[must_use]
    pub fn plan(&self) -> &Plan<'a> {
        &self.plan
    }

    /// Returns dfw's table as it was surveyed; `None` if there was none, or if nothing could be surveyed.
    #[must_use]
    pub fn installed(&self) -> Option<&'a Installed> {
        self.survey.and_then(|survey| survey.installed.as_ref())
    }

    /// Returns the comment of dfw's table, which says who put it there.
    #[must_use]
    pub fn stamp(&self) -> Option<&'a str> {
        self.installed()?.comment.as_deref()
    }

    /// Returns the base chains of all other tables; none if nothing could be surveyed.
    #[must_use]
    pub fn foreign_chains(&self) -> &'a [ForeignBaseChain] {
        self.survey.map_or(&[], |survey| &survey.foreign_chains)
    }

    /// Returns the generation of the survey, if there was one.
    #[must_use]
    pub fn generation(&self) -> Option<u32> {
        self.survey.map(|survey| survey.generation)
    }

    /// Returns the installed ruleset, so that it can be restored after the commit.
    ///
    /// # Errors
    /// [`Error::Busy`](enum@Error) if nothing could be surveyed; for others see [`Error`](enum@Error).
    pub fn former(&self) -> Result<Former, Error> {
        let survey = self.survey.ok_or(Error::Busy)?;
        Former::of(
            self.kernel,
            survey.installed.as_ref(),
            self.ruleset,
            &self.plan,
        )
    }

    /// Commits it, with a stamp that says who applied it. At the last attempt, or without a survey, it
    /// replaces the whole table in one transaction without a generation check. A rejected change is
    /// rolled back completely.
    ///
    /// # Errors
    /// `Error::Unsound` for an invalid ruleset. `Error::Rejected` if the kernel rejects a message,
    /// `Error::Owned` if another process owns the table, `Error::Permission`, `Error::TooLarge` or
    /// `Error::TooLong`, `Error::Unanswered` if the change may have taken effect, and `Error::Socket`.
    pub fn commit(&self, stamp: &str, attempt: Attempt) -> Result<Commit, Error> {
        match self.survey {
            Some(survey) if !attempt.is_last => {
                let outcome = self
                    .kernel
                    .carry_out(&self.plan, stamp, survey.generation)?;
                let last = self
                    .plan
                    .transactions()
                    .fold(survey.generation, |moment, _| next(moment));
                Ok(match outcome {
                    Outcome::Overtaken => Commit::Overtaken,
                    Outcome::Done => Commit::InForce {
                        generation: Some(last),
                    },
                    Outcome::Unfinished => Commit::InForce { generation: None },
                })
            }
            _ => {
                self.kernel.replace(self.ruleset, stamp, None)?;
                Ok(Commit::InForce { generation: None })
            }
        }
    }
}
