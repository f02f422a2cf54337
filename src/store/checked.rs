//! Policies that pass a check, which new lists may break.
//!
//! A server that has one fetched list must not hold up every other change of the policies. So where a new list breaks a
//! check, that list is refused, and the one that was accepted before stays:
//!
//! ```text
//!  all new ──passes──► these
//!     │ fails
//!  all former ──fails──► an error: the policies are wrong without the new lists, too
//!     │ passes
//!  one new list after the other: those that break the check are refused
//! ```
//!
//! Each reading is checked, so nothing depends on files that stay the same in between.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::swap;
use std::time::{Duration, Instant};

use crate::analysis::test::Report;
use crate::host::HostView;
use crate::policy::{List, NamedSource, SourceName};
use crate::text::SourceMap;
use crate::text::diagnostic::Diagnostic;

use super::{LoadError, Location, Policies, origin};

/// The most new lists that are tried one by one; of more, all are refused.
const MOST: usize = 16;
/// How long they are tried; those that are left are refused. Meanwhile nothing else comes into force.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a check says against policies.
#[derive(Debug)]
pub struct Objection<E> {
    /// What is wrong.
    pub error: E,
    /// What a list does that is the cause: "breaks …".
    pub breach: String,
}

/// Reasons why there are no policies that pass a check.
#[derive(Debug)]
pub enum Unfit<E> {
    /// They cannot be read.
    Load(LoadError),
    /// They do not pass, not with former lists either.
    Failed {
        /// What is wrong.
        error: E,
        /// The texts that it is about.
        sources: Box<SourceMap>,
    },
}

impl Policies {
    /// Returns whether a fetched list is another one than the one that was accepted before, or the first.
    #[must_use]
    pub fn has_new_lists(&self) -> bool {
        !self.new_lists().is_empty()
    }

    /// Returns the keys of such lists.
    fn new_lists(&self) -> BTreeSet<String> {
        let fetched = self.policy.fetched();
        let new = fetched.filter(|(_, _, fetched)| fetched.list == List::New);
        new.map(|(_, _, fetched)| fetched.request.key()).collect()
    }

    /// Reads the policies at a location and runs their tests, on a host, too, if there is one: see
    /// [`test`](Self::test) and [`test_on`](Self::test_on). A new list that breaks a test is not used. Returns how
    /// many passed.
    ///
    /// # Errors
    /// See [`read`](Self::read), and [`LoadError::Failed`] if a test fails with the former lists, too.
    pub fn read_tested(
        texts: &dyn Fn() -> SourceMap,
        location: &Location,
        host: Option<&HostView>,
    ) -> Result<(Self, usize), LoadError> {
        let check = |policies: &Self| {
            let (mut passed, unjudged) = policies.check_tests(None)?;
            if host.is_some() {
                (passed, _) = policies.check_tests(host)?;
            }
            Ok((passed, unjudged))
        };
        match Self::read_checked(texts, location, &check) {
            Ok((mut policies, (passed, unjudged))) => {
                policies.warnings.extend(unjudged);
                Ok((policies, passed))
            }
            Err(Unfit::Load(error)) => Err(error),
            Err(Unfit::Failed { error, sources }) => Err(LoadError::Failed {
                report: error,
                sources,
            }),
        }
    }

    /// Runs the tests as [`test`](Self::test) or [`test_on`](Self::test_on) does; returns how many passed, and what
    /// is not judged.
    ///
    /// # Errors
    /// The report, if a test fails.
    pub fn check_tests(
        &self,
        host: Option<&HostView>,
    ) -> Result<(usize, Vec<Diagnostic>), Objection<Report>> {
        let report = self.report(host);
        let Some(first) = report.failed.first() else {
            return Ok((report.passed, report.unjudged));
        };
        let origin = origin(&self.sources, &first.statement.origin);
        Err(Objection {
            breach: format!("breaks the test at {}:{}", origin.file, origin.line),
            error: report,
        })
    }

    /// Checks that the policies pass their tests with another list of a source.
    ///
    /// # Errors
    /// The report, if a test fails.
    pub fn check_list(
        mut self,
        name: &SourceName,
        list: &NamedSource,
    ) -> Result<(), Objection<Report>> {
        if let Some(source) = self.policy.sources.get_mut(name) {
            source.addresses = list.addresses.clone();
            source.fetched.clone_from(&list.fetched);
        }
        self.check_tests(None).map(drop)
    }

    /// Reads the policies at a location, and checks them; a new list that breaks the check is not used. `texts`
    /// returns texts of which none is read yet. Returns what the check does.
    ///
    /// # Errors
    /// If they cannot be read, and if they do not pass with the former lists either.
    pub fn read_checked<T, E>(
        texts: &dyn Fn() -> SourceMap,
        location: &Location,
        check: &dyn Fn(&Self) -> Result<T, Objection<E>>,
    ) -> Result<(Self, T), Unfit<E>> {
        let mut new = Self::read_at(texts(), location).map_err(Unfit::Load)?;
        let objection = match check(&new) {
            Ok(passed) => return Ok((new, passed)),
            Err(objection) => objection,
        };
        let keys = new.new_lists();
        let whose = match keys.len() {
            1 => "the new list".to_owned(),
            count => format!("one of {count} new lists"),
        };
        let reason = format!("{whose} {}", objection.breach);
        let mut refused: BTreeMap<_, _> = keys
            .iter()
            .map(|key| (key.clone(), reason.clone()))
            .collect();
        let is_several = (2..=MOST).contains(&keys.len());
        if !is_several {
            // A long list is not in memory twice.
            new.policy.sources.clear();
        }
        let former = (!keys.is_empty())
            .then(|| Self::read_at(texts().refusing(refused.clone()), location).ok())
            .flatten();
        let passed = former.and_then(|former| {
            let passed = check(&former).ok()?;
            Some((former, passed))
        });
        let Some((mut former, passed)) = passed else {
            return Err(Unfit::Failed {
                error: objection.error,
                sources: Box::new(new.sources),
            });
        };
        if is_several {
            former.try_each(&mut new, &mut refused, check);
            drop(new);
            let chosen = Self::read_at(texts().refusing(refused), location);
            if let Ok(chosen) = chosen
                && let Ok(passed) = check(&chosen)
            {
                return Ok((chosen, passed));
            }
        }
        Ok((former, passed))
    }

    /// Tries one new list after the other in these policies, which have the former ones and pass; of the refused ones,
    /// those are taken out that break nothing. These policies are unchanged in the end.
    fn try_each<T, E>(
        &mut self,
        new: &mut Self,
        refused: &mut BTreeMap<String, String>,
        check: &dyn Fn(&Self) -> Result<T, Objection<E>>,
    ) {
        let end = Instant::now() + PATIENCE;
        let mut taken = Vec::new();
        for (key, reason) in refused.iter_mut() {
            if Instant::now() > end {
                break;
            }
            self.exchange(new, key);
            match check(self) {
                Ok(_) => taken.push(key.clone()),
                Err(objection) => {
                    self.exchange(new, key);
                    *reason = format!("the new list {}", objection.breach);
                }
            }
        }
        for key in taken {
            self.exchange(new, &key);
            refused.remove(&key);
        }
    }

    /// Exchanges a list with other policies, of which the texts may be others.
    fn exchange(&mut self, others: &mut Self, key: &str) {
        for (name, source) in &mut self.policy.sources {
            let fetched = source.fetched.as_deref();
            if fetched.is_some_and(|fetched| fetched.request.key() == key)
                && let Some(other) = others.policy.sources.get_mut(name)
            {
                swap(&mut source.addresses, &mut other.addresses);
                swap(&mut source.fetched, &mut other.fetched);
            }
        }
    }
}
