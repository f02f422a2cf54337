//! Where policies come from; and what they are ready for use: read, found valid, put to their own tests.

mod directory;

use std::path::Path;

use crate::analysis::test::{self, Report};
use crate::compile;
use crate::host::HostView;
use crate::policy::{self, Policy};
use crate::ruleset::{Origin, Ruleset};
use crate::text::diagnostic::Diagnostic;
use crate::text::{FileId, SourceMap, Span};

pub use directory::{ReadError, read_policies};

/// A valid policy and the texts that it was read from.
#[derive(Debug)]
pub struct Policies {
    /// What they say.
    pub policy: Policy,
    /// The texts, lists included.
    pub sources: SourceMap,
    /// The files of the policy, without lists.
    pub files: Vec<FileId>,
    /// What is valid, and yet hardly meant.
    pub warnings: Vec<Diagnostic>,
}

/// Why there is no valid policy.
#[derive(Debug)]
pub enum LoadError {
    /// It cannot be read.
    Unread(ReadError),
    /// There is something wrong in it.
    Invalid {
        /// All that is.
        diagnostics: Vec<Diagnostic>,
        /// The texts that they point into.
        sources: Box<SourceMap>,
    },
    /// Some of its own tests failed.
    Failed {
        /// Which.
        report: Report,
        /// The texts that they point into.
        sources: Box<SourceMap>,
    },
}

impl Policies {
    /// Reads the policies at `path`, a directory or a file, out of `sources`.
    ///
    /// # Errors
    /// [`LoadError::Unread`] and [`LoadError::Invalid`].
    pub fn read(mut sources: SourceMap, path: &Path) -> Result<Self, LoadError> {
        let files = read_policies(&mut sources, path).map_err(LoadError::Unread)?;
        match policy::read(&mut sources, &files) {
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

    /// Runs the `tests:` of the policy, all of which must pass; says how many there are.
    ///
    /// # Errors
    /// [`LoadError::Failed`].
    pub fn test(mut self) -> Result<(Self, usize), LoadError> {
        let report = test::run(&self.policy, &|span| origin(&self.sources, span));
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

    /// Whether its tests expect something of services of a host that only that host can tell: that they
    /// are refused at ports that no key covers.
    #[must_use]
    pub fn asks_for_services(&self) -> bool {
        test::asks_for_services(&self.policy)
    }

    /// Puts its tests to a known host as well: to its services, and to the addresses of its containers.
    ///
    /// # Errors
    /// [`LoadError::Failed`].
    pub fn test_on(self, host: &HostView, passed: usize) -> Result<Self, LoadError> {
        let failed = test::on_host(&self.policy, host, &|span| origin(&self.sources, span));
        if failed.is_empty() {
            return Ok(self);
        }
        let report = Report {
            passed: passed.saturating_sub(failed.len()),
            failed,
            unjudged: Vec::new(),
        };
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
}

/// Where a span is written, as rules in the kernel say it: the folder left out, so that the same
/// policy gives the same rules wherever it is.
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

/// Returns the line of the policy that a rule of the kernel comes from, if it is in one of these files.
#[must_use]
pub fn line_behind(sources: &SourceMap, files: &[FileId], origin: &Origin) -> Option<Span> {
    let is_named = |file: &&FileId| {
        let name = Path::new(sources.name(**file)).file_name();
        name.is_some_and(|name| *name == *origin.file)
    };
    let file = files.iter().find(is_named)?;
    Some(sources.line_span(*file, origin.line))
}
