//! Bringing what is wanted into force, whatever others do meanwhile.

use crate::plan::{self, Installed, Plan};
use crate::ruleset::Ruleset;

use super::transaction::next;
use super::{Error, Kernel, Neighbour, Outcome, sound};

/// How often it is tried while others keep changing rulesets.
const TRIES: u32 = 8;

/// What an installation found and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation<T> {
    /// What was said of the plan that was carried out; `None` if there was nothing to do.
    pub proposal: Option<T>,
    /// Who is said to have put there what was found.
    pub found: Option<String>,
    /// The base chains of all other tables; empty if others never rested.
    pub neighbours: Vec<Neighbour>,
    /// The moment from which on all of the ruleset is in force; `None` if others never rested.
    pub generation: Option<u32>,
}

impl Kernel {
    /// Brings a ruleset into force unless it is already. `propose` sees what is installed, the
    /// base chains of other tables and each plan before it is carried out, once for every try, and may refuse it. `stamp` says who does
    /// it, and is asked for each time.
    ///
    /// # Errors
    /// See [`Error`](enum@Error), and what `propose` refuses with.
    pub fn install<T, E: From<Error>>(
        &self,
        ruleset: &Ruleset,
        stamp: impl Fn() -> String,
        mut propose: impl FnMut(Option<&Installed>, &[Neighbour], &Plan<'_>) -> Result<T, E>,
    ) -> Result<Installation<T>, E> {
        sound(ruleset)?;
        let seed = Self::seed()?;
        let mut proposal = None;
        for _ in 0..TRIES {
            let snapshot = match self.survey() {
                Err(Error::Busy) => break,
                snapshot => snapshot?,
            };
            let installed = snapshot.installed.as_ref();
            let plan = plan::diff(installed, ruleset, seed);
            let neighbours = snapshot.neighbours;
            let found = installed.and_then(|installed| installed.comment.clone());
            if plan.is_empty() {
                return Ok(Installation {
                    proposal: None,
                    found,
                    neighbours,
                    generation: Some(snapshot.generation),
                });
            }
            proposal = Some(propose(installed, &neighbours, &plan)?);
            let outcome = self.carry_out(&plan, &stamp(), snapshot.generation)?;
            if outcome != Outcome::Overtaken {
                let sent = [&plan.before, &plan.main, &plan.after];
                let sent = sent.iter().filter(|operations| !operations.is_empty());
                let last = sent.fold(snapshot.generation, |moment, _| next(moment));
                return Ok(Installation {
                    proposal,
                    found,
                    neighbours,
                    generation: (outcome == Outcome::Done).then_some(last),
                });
            }
        }
        // Others never rest. Who replaces the whole table need not know what was there before.
        if proposal.is_none() {
            proposal = Some(propose(None, &[], &plan::replace(ruleset, seed))?);
        }
        self.replace(ruleset, &stamp(), None)?;
        Ok(Installation {
            proposal,
            found: None,
            neighbours: Vec::new(),
            generation: None,
        })
    }
}
