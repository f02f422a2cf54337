//! Loads, tests and reports policies for a command.

use std::io;
use std::path::Path;

use rustix::fs::{Timespec, Timestamps, UTIME_NOW, futimens};

use crate::analysis::test::DEPENDS_ON_HOST;
use crate::fetch::Requests;
use crate::file;
use crate::host::HostView;
use crate::host::docker::Ask;
use crate::output::terminal::Terminal;
use crate::policy::List;
use crate::site::{HostFacts, Sockets};
use crate::store::{self, LoadError, Location, Policies, ReadError};
use crate::text::SourceMap;
use crate::text::diagnostic::{Diagnostic, Severity, quoted};
use crate::untrusted;

use super::arguments;
use super::report::failure::Failure;

/// Returns no texts yet, with the places of fetched lists.
pub(super) fn texts() -> SourceMap {
    SourceMap::new().with_fetched(arguments::cache(), Some(arguments::state()))
}

/// Reads the policies and shows their warnings.
pub(super) fn load(terminal: Terminal, location: &Location) -> Result<Policies, Failure> {
    shown(terminal, Policies::read_at(texts(), location), location)
}

/// Does the same with two policies, of which the first one's failure comes first.
pub(super) fn load_both(
    terminal: Terminal,
    old: &Location,
    new: Result<Location, Failure>,
) -> Result<[Policies; 2], Failure> {
    let new = match new {
        Ok(new) => new,
        Err(wrong) => return load(terminal, old).and(Err(wrong)),
    };
    let [old_read, new_read] = Policies::read_both(texts, [old, &new]);
    Ok([
        shown(terminal, old_read, old)?,
        shown(terminal, new_read, &new)?,
    ])
}

/// Shows the warnings of policies.
fn shown(
    terminal: Terminal,
    read: Result<Policies, LoadError>,
    location: &Location,
) -> Result<Policies, Failure> {
    let policies = read.map_err(|wrong| failure(wrong, &location.path))?;
    terminal.diagnostics(&policies.warnings, &policies.sources);
    Ok(policies)
}

/// Reads the policies, runs their tests and returns how many passed.
pub(super) fn load_tested(
    terminal: Terminal,
    location: &Location,
) -> Result<(Policies, usize), Failure> {
    run_tests(terminal, load(terminal, location)?, &location.path)
}

/// Does the same, with warnings about lines that are valid and probably not meant; these are errors if `strict`.
pub(super) fn load_linted(
    terminal: Terminal,
    location: &Location,
    strict: bool,
) -> Result<(Policies, usize), Failure> {
    let read = Policies::read_and_lint(texts(), location);
    let loaded = read.map_err(|wrong| failure(wrong, &location.path))?;
    if strict && !loaded.warnings.is_empty() {
        let warnings = loaded.warnings.into_iter();
        return Err(Failure::Policies {
            diagnostics: warnings.map(Diagnostic::into_error).collect(),
            sources: Box::new(loaded.sources),
        });
    }
    terminal.diagnostics(&loaded.warnings, &loaded.sources);
    run_tests(terminal, loaded, &location.path)
}

/// Runs the tests, shows what they warn of, and returns how many passed.
fn run_tests(
    terminal: Terminal,
    loaded: Policies,
    path: &Path,
) -> Result<(Policies, usize), Failure> {
    let (loaded, passed, earlier) = test(loaded, path)?;
    terminal.diagnostics(&loaded.warnings[earlier..], &loaded.sources);
    Ok((loaded, passed))
}

/// Reads and tests the policies for a command that then runs [`look`] for the tests that depend on the host. A list
/// that this user may not read is an error: nobody would be allowed in place of those who are in it.
pub(super) fn load_for_host(terminal: Terminal, location: &Location) -> Result<Policies, Failure> {
    let (mut loaded, _, earlier) = test_or_refuse(load(terminal, location)?, location, None)?;
    let mut unknown = loaded.policy.unknown_lists();
    let unread = unknown.find(|(_, _, fetched)| matches!(fetched.list, List::Unreadable(_)));
    if let Some((name, ..)) = unread {
        let message = format!("what is in the source `{name}` is not known");
        let error = Diagnostic::error("unreadable-cache", message);
        return Err(Failure::plain(error.help("run this as root")));
    }
    drop(unknown);
    loaded
        .warnings
        .retain(|warning| warning.slug != DEPENDS_ON_HOST);
    show_others(terminal, &loaded, &earlier);
    loaded.release_lists();
    Ok(loaded)
}

/// Runs the tests, on a host if there is one, as guard does: policies are read again with the former lists in place of
/// new ones that break a test. Returns how many passed, and the warnings that existed before.
fn test_or_refuse(
    loaded: Policies,
    location: &Location,
    host: Option<&HostView>,
) -> Result<(Policies, usize, Vec<Diagnostic>), Failure> {
    let (earlier, has_new) = (loaded.warnings.clone(), loaded.has_new_lists());
    let tested = match host {
        None => loaded.test(),
        Some(host) => loaded.test_on(host),
    };
    let tested = match tested {
        Err(LoadError::Failed { .. }) if has_new => Policies::read_tested(&texts, location, host),
        tested => tested,
    };
    let (loaded, passed) = tested.map_err(|wrong| failure(wrong, &location.path))?;
    Ok((loaded, passed, earlier))
}

/// Shows the warnings that were not shown before.
fn show_others(terminal: Terminal, loaded: &Policies, shown: &[Diagnostic]) {
    let others = loaded.warnings.iter();
    let others = others.filter(|warning| !shown.contains(warning)).cloned();
    terminal.diagnostics(&others.collect::<Vec<_>>(), &loaded.sources);
}

/// Runs the tests; returns how many passed, and how many warnings existed before.
fn test(loaded: Policies, path: &Path) -> Result<(Policies, usize, usize), Failure> {
    let earlier = loaded.warnings.len();
    let (loaded, passed) = loaded.test().map_err(|wrong| failure(wrong, path))?;
    Ok((loaded, passed, earlier))
}

/// Reads this host, runs the tests on it, too, and returns how many there are.
pub(super) fn look(
    terminal: Terminal,
    ask: &Ask,
    loaded: Policies,
    location: &Location,
) -> Result<(Policies, usize, HostFacts), Failure> {
    let sockets = if loaded.asks_for_services() {
        Sockets::All
    } else {
        Sockets::of(ask)
    };
    match HostFacts::survey(ask, sockets) {
        Ok(found) => {
            let (mut loaded, passed, shown) = test_or_refuse(loaded, location, Some(&found.host))?;
            loaded
                .warnings
                .retain(|warning| warning.slug != DEPENDS_ON_HOST);
            show_others(terminal, &loaded, &shown);
            Ok((loaded, passed, found))
        }
        Err(error) => Err(Failure::kernel(&error, loaded.sources, &loaded.files)),
    }
}

/// Returns what is to be fetched for the policies.
pub(super) fn requests(location: &Location) -> Result<Requests, Failure> {
    let requests = store::requests(SourceMap::new(), location);
    requests.map_err(|wrong| failure(wrong, &location.path))
}

/// Returns what is to be fetched for the policies, or what is wrong with them in one line.
pub(super) fn requests_or_line(location: &Location) -> Result<Requests, String> {
    let path = &location.path;
    store::requests(SourceMap::new(), location).map_err(|wrong| match wrong {
        LoadError::Unread(error) => error.to_string(),
        LoadError::Invalid { diagnostics, .. } => {
            let mut errors = diagnostics.iter();
            let first = errors.find(|diagnostic| diagnostic.severity == Severity::Error);
            let first = first.map_or("not valid", |error| &*error.message);
            format!("{}: {first}", untrusted::path(path))
        }
        LoadError::Failed { .. } => format!("{}: a test fails", untrusted::path(path)),
    })
}

/// Accepts the list in the cache, or in its file, for a source of the policies, whatever it takes away from the one that
/// was accepted before; says how many entries it has.
pub(super) fn accept(location: &Location, name: &str) -> Result<usize, Failure> {
    let plain = |message: String| Failure::plain(Diagnostic::error("fetch", message));
    // Not compared with another list, and within all other bounds.
    let texts = SourceMap::new().with_fetched(arguments::cache(), None);
    let read = Policies::read_at(texts, location);
    let policies = read.map_err(|wrong| failure(wrong, &location.path))?;
    let mut sources = policies.policy.sources.iter();
    let source = sources.find(|(known, _)| known.as_str() == name);
    // What is accepted is not refused later: it would hold up all policies.
    if let (Some((name, source)), Ok((others, _))) =
        (source, Policies::read_tested(&self::texts, location, None))
        && let Err(objection) = others.check_list(name, source)
    {
        let message = format!("the new list {}: change the test first", objection.breach);
        return Err(plain(message));
    }
    let kept = source.and_then(|(_, source)| {
        let kept = policies.keep(&arguments::state(), source);
        (source.fetched.is_some() || kept.is_some()).then_some((source, kept))
    });
    let Some((source, kept)) = kept else {
        let name = quoted(name);
        return Err(plain(format!(
            "no source {name} of the policies is fetched, or a file with `max-loss`"
        )));
    };
    let Some(kept) = kept else {
        let unknown = source
            .fetched
            .as_ref()
            .and_then(|fetched| fetched.list.unknown());
        let reason = unknown.map_or("has no new list".into(), |unknown| unknown.reason);
        return Err(plain(format!("the source `{name}` {reason}")));
    };
    // A policy with errors is read again without this.
    let touched = kept.and_then(|()| match &source.fetched {
        Some(fetched) => touch(&arguments::cache().join(fetched.request.key())),
        None => Ok(()),
    });
    touched.map_err(|error| plain(format!("cannot accept the list: {error}")))?;
    Ok(source.addresses.len())
}

/// Has guard read the file again.
fn touch(path: &Path) -> io::Result<()> {
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: UTIME_NOW,
    };
    let times = Timestamps {
        last_access: now,
        last_modification: now,
    };
    let opened = file::open(path, file::Accept::InPlace)?;
    Ok(futimens(&opened.file, &times)?)
}

pub(super) fn failure(wrong: LoadError, path: &Path) -> Failure {
    match wrong {
        LoadError::Unread(ref error @ ReadError::NoPolicies { ref neglected, .. }) => {
            let error = Diagnostic::error("no-policies", error.to_string())
                .help("a minimal policy is `{default: deny, ports: {80: [203.0.113.0/24]}}`");
            Failure::Policies {
                diagnostics: std::iter::once(error)
                    .chain(neglected.iter().cloned())
                    .collect(),
                sources: Box::new(SourceMap::new()),
            }
        }
        LoadError::Unread(ref wrong @ ReadError::Unreadable(ref unreadable)) => {
            let mut diagnostic = Diagnostic::error("unreadable", wrong.to_string());
            if let Some(advice) = file::advice(&unreadable.error) {
                return Failure::plain(diagnostic.help(advice));
            }
            if path == Path::new(super::arguments::DEFAULT_PATH) {
                diagnostic = diagnostic
                    .help("`dfw init` writes a first policy there from the published ports")
                    .help("if the policies are elsewhere, name the directory or file");
            }
            Failure::plain(diagnostic)
        }
        LoadError::Unread(ReadError::Bundle(error)) => Failure::bundle(&error),
        LoadError::Invalid {
            diagnostics,
            sources,
        } => Failure::Policies {
            diagnostics,
            sources,
        },
        LoadError::Failed { report, sources } => Failure::Tests { report, sources },
    }
}
