//! Loads policies: reads them, validates them and runs their tests.

mod accepted;
pub mod bundle;
mod checked;
mod compare;
mod directory;
mod location;
pub mod pack;

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use crate::analysis::test::{self, Report};
use crate::analysis::threads::both;
use crate::compile;
use crate::host::HostView;
use crate::policy::{self, Fetched, Policy, SourceName};
use crate::ruleset::{Origin, Ruleset};
use crate::text::diagnostic::Diagnostic;
use crate::text::{FileId, SourceMap, Span};

pub use checked::{Objection, Unfit};
pub use compare::compared;
pub use directory::{ReadError, read_groups, read_policies};
pub use location::Location;

/// A valid policy and the texts that it was read from.
#[derive(Debug)]
pub struct Policies {
    /// The policy of all files together.
    pub policy: Policy,
    /// The texts, including lists.
    pub sources: SourceMap,
    /// The files of the policy, without lists.
    pub files: Vec<FileId>,
    /// The warnings: valid, but probably not intended.
    pub warnings: Vec<Diagnostic>,
}

/// The lengths of policies, in bytes, of which two are read at the same time. What is longer takes memory that is not to
/// be taken twice.
const LONG: RangeInclusive<usize> = 1 << 14..=1 << 20;

/// Reads files as one policy.
type Read = fn(&mut SourceMap, &[FileId]) -> Result<(Policy, Vec<Diagnostic>), Vec<Diagnostic>>;

/// Reasons why policies cannot be loaded.
#[derive(Debug)]
pub enum LoadError {
    /// A file cannot be read.
    Unread(ReadError),
    /// The policy has errors.
    Invalid {
        /// All errors and warnings.
        diagnostics: Vec<Diagnostic>,
        /// The texts that they point into.
        sources: Box<SourceMap>,
    },
    /// Some of the policy's tests failed.
    Failed {
        /// The results of the tests.
        report: Report,
        /// The texts that they point into.
        sources: Box<SourceMap>,
    },
}

impl LoadError {
    /// Returns the texts that were read, if there are any.
    #[must_use]
    pub fn sources(&self) -> Option<&SourceMap> {
        match self {
            Self::Unread(_) => None,
            Self::Invalid { sources, .. } | Self::Failed { sources, .. } => Some(sources),
        }
    }
}

impl Policies {
    /// Reads the policies at `path`, a directory or a file, out of `sources`. A bundle is none.
    ///
    /// # Errors
    /// [`LoadError::Unread`] if a file cannot be read, [`LoadError::Invalid`] if the policy has errors.
    pub fn read(mut sources: SourceMap, path: &Path) -> Result<Self, LoadError> {
        let files = read_policies(&mut sources, path).map_err(LoadError::Unread)?;
        Self::of(sources, files, policy::read)
    }

    /// Reads the policies at a location, which may be a bundle.
    ///
    /// # Errors
    /// See [`read`](Self::read).
    pub fn read_at(mut sources: SourceMap, location: &Location) -> Result<Self, LoadError> {
        let files = location.read(&mut sources).map_err(LoadError::Unread)?;
        Self::of(sources, files, policy::read)
    }

    /// Reads the policies at two locations, each from texts of its own; the second also if the first has errors.
    ///
    /// # Errors
    /// See [`read`](Self::read).
    pub fn read_both(
        texts: fn() -> SourceMap,
        locations: [&Location; 2],
    ) -> [Result<Self, LoadError>; 2] {
        let texts = locations.map(|location| {
            let mut sources = texts();
            let files = location.read(&mut sources).map_err(LoadError::Unread)?;
            Ok((sources, files))
        });
        let length = |(sources, files): &(SourceMap, Vec<FileId>)| {
            let lengths = files.iter().map(|file| sources.text(*file).len());
            lengths.sum::<usize>()
        };
        let takes_long = texts.iter().all(|texts| {
            texts
                .as_ref()
                .is_ok_and(|texts| LONG.contains(&length(texts)))
        });
        both(takes_long, texts, |texts| {
            let (sources, files) = texts?;
            Self::of(sources, files, policy::read)
        })
    }

    /// Does the same as [`read_at`](Self::read_at), with the warnings of [`policy::read_and_lint`].
    ///
    /// # Errors
    /// See [`read`](Self::read).
    pub fn read_and_lint(mut sources: SourceMap, location: &Location) -> Result<Self, LoadError> {
        let files = location.read(&mut sources).map_err(LoadError::Unread)?;
        Self::of(sources, files, policy::read_and_lint)
    }

    /// Reads policies of which every file is known.
    ///
    /// # Errors
    /// See [`read`](Self::read).
    pub fn read_named(mut sources: SourceMap, paths: &[PathBuf]) -> Result<Self, LoadError> {
        let files = directory::read_named(&mut sources, paths).map_err(LoadError::Unread)?;
        Self::of(sources, files, policy::read)
    }

    /// Reads the policies of a directory together with those of folders in it. Of others in folders it warns, but not
    /// of those in the `known` ones.
    ///
    /// # Errors
    /// See [`read`](Self::read).
    pub fn read_groups(
        mut sources: SourceMap,
        path: &Path,
        folders: &[PathBuf],
        known: &[PathBuf],
    ) -> Result<Self, LoadError> {
        let files = read_groups(&mut sources, path, folders, known).map_err(LoadError::Unread)?;
        Self::of(sources, files, policy::read)
    }

    fn of(mut sources: SourceMap, files: Vec<FileId>, read: Read) -> Result<Self, LoadError> {
        match read(&mut sources, &files) {
            Ok((policy, warnings)) => Ok(Self {
                policy,
                sources,
                files,
                warnings,
            }),
            Err(diagnostics) => Err(LoadError::Invalid {
                diagnostics,
                sources: Box::new(sources),
            }),
        }
    }

    /// Runs the `tests:` of the policy, except those that depend on the host; returns how many passed.
    ///
    /// # Errors
    /// [`LoadError::Failed`] if a test fails.
    pub fn test(mut self) -> Result<(Self, usize), LoadError> {
        let report = self.report(None);
        if report.failed.is_empty() {
            self.warnings.extend(report.unjudged);
            Ok((self, report.passed))
        } else {
            Err(LoadError::Failed {
                report,
                sources: Box::new(self.sources),
            })
        }
    }

    /// Returns the results of the tests, without a host or on one.
    fn report(&self, host: Option<&HostView>) -> Report {
        let origin = |span: &Span| origin(&self.sources, span);
        match host {
            None => test::run(&self.policy, &origin),
            Some(host) => test::on_host(&self.policy, host, &origin),
        }
    }

    /// Drops the texts of lists that no warning points into; their addresses are in the policy.
    pub fn release_lists(&mut self) {
        let labels = self.warnings.iter();
        let labels = labels.flat_map(|warning| warning.primary.iter().chain(&warning.related));
        let shown: BTreeSet<FileId> = labels.map(|label| label.span.file).collect();
        self.sources.release_lists(|list| shown.contains(&list));
    }

    /// Returns whether a test depends on the host's services: it expects them to be denied at a port without a
    /// policy entry.
    #[must_use]
    pub fn asks_for_services(&self) -> bool {
        test::asks_for_services(&self.policy)
    }

    /// Runs the tests on a known host, too: with its services, the addresses of its containers and sources that
    /// depend on it. Returns how many passed.
    ///
    /// # Errors
    /// [`LoadError::Failed`] if a test fails on this host.
    pub fn test_on(self, host: &HostView) -> Result<(Self, usize), LoadError> {
        let report = self.report(Some(host));
        if report.failed.is_empty() {
            return Ok((self, report.passed));
        }
        Err(LoadError::Failed {
            report,
            sources: Box::new(self.sources),
        })
    }

    /// Compiles the policy for a host.
    #[must_use]
    pub fn compile(&self, host: &HostView) -> Ruleset {
        compile::compile(&self.policy, host, &|span| origin(&self.sources, span))
    }

    /// Compiles the policy for a host as if every fetched source of which nothing is known held all that it may;
    /// `None` if there is no such source.
    #[must_use]
    pub fn compile_full(&self, host: &HostView) -> Option<Ruleset> {
        self.policy.unknown_lists().next()?;
        Some(compare::full(self, host, |_| true))
    }
}

/// Returns the requests of the policies at a location, by the names of their sources. Reads no fetched list, so
/// nothing here can be enforced, and `except` may name a source that was never fetched.
///
/// # Errors
/// [`LoadError::Unread`] and [`LoadError::Invalid`].
pub fn requests(
    texts: SourceMap,
    location: &Location,
) -> Result<Vec<(SourceName, Fetched)>, LoadError> {
    let policies = Policies::read_at(texts.for_fetching(), location)?;
    let sources = policies.policy.sources.into_iter();
    let fetched = sources.filter_map(|(name, source)| Some((name, *source.fetched?)));
    Ok(fetched.collect())
}

/// Returns the file name and line of a span for comments of rules. The folder is left out: the same policy
/// compiles to the same rules wherever it is stored.
fn origin(sources: &SourceMap, span: &Span) -> Origin {
    let name = sources.name(span.file);
    let file = Path::new(name).file_name().map_or_else(
        || name.to_owned(),
        |name| name.to_string_lossy().into_owned(),
    );
    Origin {
        file,
        line: sources.line_column(span).0,
    }
}

/// Returns the policy line of a rule in the kernel, if it is in one of these files.
#[must_use]
pub fn line_behind(sources: &SourceMap, files: &[FileId], origin: &Origin) -> Option<Span> {
    let is_named = |file: &&FileId| {
        let name = Path::new(sources.name(**file)).file_name();
        name.is_some_and(|name| *name == *origin.file)
    };
    let file = files.iter().find(is_named)?;
    Some(sources.line_span(*file, origin.line))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::host::listener::Listener;
    use crate::net::Protocol;

    use super::*;

    /// Of the four expectations, 203.0.113.9 makes two depend on the host.
    const TESTS: &str = "
  - {from: 203.0.113.9, to: 80, expect: allow}
  - {from: 203.0.113.9, to: 81, expect: allow}
  - {from: 192.0.2.7, to: 80, expect: allow}
  - {from: 192.0.2.7, to: 90, expect: deny}
";

    fn tested() -> (Policies, usize) {
        let policy = "default: deny\nsources: {lan: {networks-of: eth0}}\n\
                      ports: {80: [lan, 192.0.2.7], 81: [lan]}\ntests:";
        let sources = SourceMap::in_memory([("a.yaml", format!("{policy}{TESTS}"))]);
        let policies = Policies::read(sources, Path::new("a.yaml")).unwrap();
        policies.test().unwrap()
    }

    fn host(network: &str) -> HostView {
        let networks = [network.parse().unwrap()].into_iter().collect();
        HostView {
            networks: BTreeMap::from([("eth0".to_owned(), networks)]),
            ..HostView::default()
        }
    }

    #[test]
    fn tests_that_only_the_host_decides_are_counted_there() {
        let (policies, passed) = tested();
        assert_eq!(passed, 2);
        let (_, passed) = policies.test_on(&host("203.0.113.0/24")).unwrap();
        assert_eq!(passed, 4);
    }

    #[test]
    fn what_fails_on_the_host_takes_nothing_from_what_passes() {
        let (policies, _) = tested();
        let Err(LoadError::Failed { report, .. }) = policies.test_on(&host("198.51.100.0/24"))
        else {
            panic!("it passes");
        };
        assert_eq!((report.passed, report.failed.len()), (2, 2));
    }

    /// A test that passed without the host is not counted twice.
    #[test]
    fn what_passed_without_the_host_and_fails_on_it_is_taken_off() {
        let (policies, _) = tested();
        let mut host = host("203.0.113.0/24");
        host.listeners = vec![Listener {
            protocol: Protocol::Tcp,
            address: "0.0.0.0".parse().unwrap(),
            port: 90,
            both_families: false,
            device: None,
            user: 0,
            owner: None,
        }];
        let Err(LoadError::Failed { report, .. }) = policies.test_on(&host) else {
            panic!("it passes");
        };
        assert_eq!((report.passed, report.failed.len()), (3, 1));
    }
}
