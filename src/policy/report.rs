//! Limits the number of diagnostics that are shown.

use std::collections::BTreeMap;

use crate::text::FileId;
use crate::text::diagnostic::{Diagnostic, Severity};

/// The most diagnostics with one slug for one file: a generated policy repeats the same mistake.
pub(in crate::policy) const SHOWN: usize = 20;

/// The most diagnostics of all files together.
const SHOWN_IN_ALL: usize = 200;

/// Limits a report to [`SHOWN`] diagnostics for each slug and file, and to [`SHOWN_IN_ALL`] in total; the last
/// of each kind counts those that are left out.
pub(in crate::policy) fn summarise(report: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let mut seen: BTreeMap<(Option<FileId>, &str), usize> = BTreeMap::new();
    let mut kept: Vec<Diagnostic> = Vec::new();
    let mut last: BTreeMap<(Option<FileId>, &str), usize> = BTreeMap::new();
    // A list counts its own.
    let mut left_out: BTreeMap<usize, usize> = BTreeMap::new();
    for diagnostic in report {
        let file = diagnostic.primary.as_ref().map(|label| label.span.file);
        let kind = (file, diagnostic.slug);
        let seen = seen.entry(kind).or_default();
        *seen += 1;
        if *seen <= SHOWN {
            last.insert(kind, kept.len());
            kept.push(diagnostic);
        } else if let Some(at) = last.get(&kind) {
            *left_out.entry(*at).or_default() += 1 + diagnostic.more;
        }
    }
    for (at, more) in left_out {
        if let Some(shown) = kept.get_mut(at) {
            shown.more += more;
            let note = format!("{more} more like this in this file are not shown");
            shown.notes.push(note);
        }
    }
    limit(kept)
}

/// Limits a report to [`SHOWN_IN_ALL`], leaving out warnings first, and appends the number of those left out.
fn limit(report: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let is_error = |diagnostic: &Diagnostic| diagnostic.severity == Severity::Error;
    let errors = report.iter().filter(|d| is_error(d)).count();
    let mut room_for_errors = SHOWN_IN_ALL;
    let mut room_for_warnings = SHOWN_IN_ALL.saturating_sub(errors);
    let (mut more_errors, mut more_warnings) = (0, 0);
    let mut kept = Vec::new();
    for diagnostic in report {
        let (room, more) = if is_error(&diagnostic) {
            (&mut room_for_errors, &mut more_errors)
        } else {
            (&mut room_for_warnings, &mut more_warnings)
        };
        if let Some(less) = room.checked_sub(1) {
            *room = less;
            kept.push(diagnostic);
        } else {
            *more += 1 + diagnostic.more;
        }
    }
    let what = |more: usize, one: &str, many: &str| match more {
        1 => format!("1 more {one} is not shown"),
        _ => format!("{more} more {many} are not shown"),
    };
    if more_errors > 0 {
        let message = what(more_errors, "error", "errors");
        let error = Diagnostic::error("not-shown", message);
        let error = error.help("mend those above first; the next run shows more");
        kept.push(error.and_more(more_errors - 1));
    }
    if more_warnings > 0 {
        let message = what(more_warnings, "warning", "warnings");
        kept.push(Diagnostic::warning("not-shown", message).and_more(more_warnings - 1));
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Span;

    fn total(report: &[Diagnostic]) -> usize {
        report.iter().map(|diagnostic| 1 + diagnostic.more).sum()
    }

    #[test]
    fn thousands_of_files_are_counted_as_one_file_is() {
        let of = |file| {
            let error = Diagnostic::error("unknown-source", "there is no source");
            error.at(Span::new(FileId(file), 0, 1), "")
        };
        let warnings = (0..30).map(|file| {
            let mut warning = of(file);
            warning.severity = Severity::Warning;
            warning
        });
        let one = summarise((0..5000).map(|_| of(0)).collect());
        assert_eq!((one.len(), total(&one)), (SHOWN, 5000));
        let many = summarise(warnings.chain((0..4000).map(of)).collect());
        assert_eq!((many.len(), total(&many)), (SHOWN_IN_ALL + 2, 4030));
        let last: Vec<&str> = many[SHOWN_IN_ALL..].iter().map(|d| &*d.message).collect();
        assert_eq!(
            last,
            [
                "3800 more errors are not shown",
                "30 more warnings are not shown"
            ]
        );
        assert!(
            many[..SHOWN_IN_ALL]
                .iter()
                .all(|d| d.severity == Severity::Error)
        );
    }
}
