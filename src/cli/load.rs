//! Reading policies for a verb.

use std::path::Path;

use crate::compile;
use crate::diagnostic::Diagnostic;
use crate::expect;
use crate::host::HostView;
use crate::output::terminal::Terminal;
use crate::policy::{self, Policy};
use crate::ruleset::{Origin, Ruleset};
use crate::source::{FileId, ReadError, Sources, Span};

use super::failure::Failure;

/// A valid policy and the texts that it was read from.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) policy: Policy,
    pub(super) sources: Sources,
    pub(super) files: Vec<FileId>,
    pub(super) warnings: Vec<Diagnostic>,
}

impl Loaded {
    /// Compiles the policy for a host.
    pub(super) fn compile(&self, host: &HostView) -> Ruleset {
        compile::compile(&self.policy, host, &|span| origin(&self.sources, span))
    }

    /// Runs the `tests:` of the policy, all of which must pass; says how many there are.
    pub(super) fn test(self) -> Result<(Self, usize), Failure> {
        let report = expect::run(&self.policy, &|span| origin(&self.sources, span));
        if report.failed.is_empty() {
            Ok((self, report.passed))
        } else {
            Err(Failure::Tests {
                report,
                sources: Box::new(self.sources),
            })
        }
    }
}

/// Reads the policies at `path` and shows their warnings.
pub(super) fn load(terminal: Terminal, path: &Path) -> Result<Loaded, Failure> {
    let mut sources = Sources::new();
    let files = match sources.read_policies(path) {
        Ok(files) => files,
        Err(error @ ReadError::NoPolicies { .. }) => {
            let diagnostic = Diagnostic::error("no-policies", error.to_string()).help(
                "the shortest useful policy is `{default: deny, ports: {80: [203.0.113.0/24]}}`",
            );
            return Err(Failure::Policies {
                diagnostics: vec![diagnostic],
                sources: Box::new(sources),
            });
        }
        Err(error @ ReadError::Unreadable { .. }) => {
            let mut diagnostic = Diagnostic::error("unreadable", error.to_string());
            if path == Path::new(super::DEFAULT_PATH) {
                diagnostic = diagnostic.help("policies elsewhere: name the directory or file");
            }
            return Err(Failure::plain(diagnostic));
        }
    };
    match policy::read(&mut sources, &files) {
        Ok((policy, warnings)) => {
            for warning in &warnings {
                terminal.diagnostic(warning, &sources);
                terminal.gap();
            }
            Ok(Loaded {
                policy,
                sources,
                files,
                warnings,
            })
        }
        Err(diagnostics) => Err(Failure::Policies {
            diagnostics,
            sources: Box::new(sources),
        }),
    }
}

/// Where a span is written, as rules in the kernel say it: the folder left out, so that the same
/// policy gives the same rules wherever it is.
fn origin(sources: &Sources, span: &Span) -> Origin {
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
