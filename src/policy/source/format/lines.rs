//! `lines` and `lines-loose`: one address, network or range a line.

use crate::net::{AddressSet, Redundant, Unmerged};
use std::collections::BTreeSet;

use memchr::memchr2_iter;

use crate::policy::report::SHOWN;
use crate::policy::source::entry::{explain_rest, parse_entry, parse_fast};
use crate::text::diagnostic::Diagnostic;
use crate::text::{FileId, Span};

use super::recognise::recognise;

/// The first invalid line that is only counted.
const NEXT: usize = SHOWN + 1;
/// The most invalid lines that are read: a hostile list could have millions.
const ENOUGH: usize = 10_000;

/// A function that splits a line into its entry and what the format ignores; without comments.
pub(super) type Cut = fn(&str) -> (&str, &str);

/// Returns the text before a comment.
pub(super) fn strict(line: &str) -> (&str, &str) {
    let entry = line.split_once('#').map_or(line, |(entry, _)| entry);
    (entry, "")
}

/// Splits a line at the first blank or comma, without a comment (`#` or `;`).
pub(super) fn loose(line: &str) -> (&str, &str) {
    let begin = line.len() - line.trim_start().len();
    let ends = |c: char| c.is_whitespace() || matches!(c, '#' | ';' | ',');
    let end = line[begin..].find(ends).map_or(line.len(), |at| begin + at);
    let (entry, rest) = line.split_at(end);
    // `203.0.113.4;203.0.113.5` is no comment.
    let rest = rest.strip_prefix(';').unwrap_or(rest);
    let comment = rest.find(['#', ';']).unwrap_or(rest.len());
    (entry, &rest[..comment])
}

/// Reads a list, and adds its errors to the report.
pub(super) fn parse(
    file: FileId,
    text: &str,
    cut: Cut,
    report: &mut Vec<Diagnostic>,
) -> (AddressSet, Option<Redundant>) {
    let mut set = Unmerged::default();
    add(file, text, cut, &mut set, report);
    set.merge_and_count()
}

/// Adds the entries of a list, or of a part of it, to `set`, and its errors to the report.
///
/// There are no allocations per line, and no second look at most lines: a list may have a million.
pub(super) fn add(
    file: FileId,
    text: &str,
    cut: Cut,
    set: &mut Unmerged,
    report: &mut Vec<Diagnostic>,
) {
    let mut wrong = 0_usize;
    let mut next = None;
    let mut advised = BTreeSet::new();
    let mut start = 0;
    let mut first = set.is_empty();
    // A carriage return alone ends a line, too: a comment would swallow what follows.
    for end in memchr2_iter(b'\n', b'\r', text.as_bytes()).chain([text.len()]) {
        let line_start = std::mem::replace(&mut start, end + 1);
        let line = &text[line_start..end];
        if let Some(entry) = parse_fast(line.as_bytes()) {
            set.push(entry);
            first = false;
            continue;
        }
        let (entry, rest) = cut(line);
        let trimmed = entry.trim();
        if trimmed.is_empty() {
            continue;
        }
        let is_first = std::mem::take(&mut first);
        let read = match parse_entry(trimmed) {
            Ok(known) => match explain_rest(trimmed, known, rest.trim()) {
                None => Ok(known),
                Some(mistake) => Err((mistake, line.trim().len(), false)),
            },
            Err(mistake) => Err((mistake, trimmed.len(), true)),
        };
        match read {
            Ok(entry) => set.push(entry),
            Err((mistake, length, may_be_foreign)) => {
                wrong += 1;
                let at = line_start + (entry.len() - entry.trim_start().len());
                let span = Span::new(file, at, at + length);
                let known = || recognise(trimmed).or_else(|| recognise(line.trim()));
                if is_first
                    && may_be_foreign
                    && let Some(format) = known()
                {
                    let message = format!("this list is {}", format.what);
                    report.push(
                        Diagnostic::error("list-format", message.clone())
                            .at(span, "not an address, a network or a range")
                            .to_public(message)
                            .help(format.help),
                    );
                    return;
                }
                match wrong {
                    ..=SHOWN => {
                        let mut error = mistake.at(span);
                        // The same advice twenty times over would bury the rest.
                        if !advised.insert(error.help.clone()) {
                            error.help.clear();
                        }
                        report.push(error);
                    }
                    NEXT => next = Some(span),
                    ENOUGH => break,
                    _ => {}
                }
            }
        }
    }
    if let Some(span) = next {
        let more = wrong - SHOWN;
        let what = if more == 1 {
            "line of this list is"
        } else {
            "lines of this list are"
        };
        let least = if wrong == ENOUGH { "at least " } else { "" };
        report.push(
            Diagnostic::error("list", format!("{least}{more} more {what} wrong"))
                .at(span, "this and what follows")
                .help("a list has one address, network or range a line; comments begin with `#`")
                .and_more(more - 1),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (AddressSet, Vec<Diagnostic>) {
        let mut report = Vec::new();
        let set = parse(FileId(0), text, strict, &mut report).0;
        (set, report)
    }

    #[test]
    fn loose_lines_end_at_comments_blanks_and_commas() {
        let text = "; Spamhaus\n192.0.2.0/24 ; SBL1\n203.0.113.7,DE,2026\n\t198.51.100.1\tTor\n\
                    # end\n2001:db8::/32;x\r\n\r\n";
        let mut report = Vec::new();
        let set = parse(FileId(0), text, loose, &mut report).0;
        assert_eq!(report, []);
        let texts: Vec<_> = set.iter().map(|e| e.to_string()).collect();
        let expected = [
            "192.0.2.0/24",
            "198.51.100.1",
            "203.0.113.7",
            "2001:db8::/32",
        ];
        assert_eq!(texts, expected);
        // What is no list stays none.
        parse(FileId(0), "<html> 192.0.2.1\n", loose, &mut report);
        assert_eq!(report[0].slug, "list-format");
    }

    #[test]
    fn comments_blanks_and_line_breaks_of_all_kinds_are_fine() {
        let text = "# head\r\n10.0.0.1\r\n\r\n  10.0.0.2  # two\n10.0.0.3#three\n\t2001:db8::/32\n\
                    10.0.0.4-10.0.0.7";
        let (set, report) = read(text);
        assert_eq!(report, []);
        let texts: Vec<_> = set.iter().map(|e| e.to_string()).collect();
        assert_eq!(texts, ["10.0.0.1-10.0.0.7", "2001:db8::/32"]);
        // A comment ends at a carriage return, too.
        let (set, report) = read("10.0.0.1 # a\r10.0.0.3\r# b\r10.0.0.5\n");
        assert_eq!(report, []);
        assert_eq!(set.len(), 3);
    }

    #[test]
    fn an_error_points_at_its_own_text() {
        let text = "10.0.0.1\n  ünïx # no\n10.0.0.5/24\n";
        let (_, report) = read(text);
        let shown: Vec<_> = report
            .iter()
            .map(|d| &text[d.primary.as_ref().unwrap().span.range()])
            .collect();
        assert_eq!(shown, ["ünïx", "10.0.0.5/24"]);
    }

    #[test]
    fn a_list_in_another_format_does_not_flood() {
        let (_, report) = read(&"nonsense\n".repeat(25));
        assert_eq!(report.len(), SHOWN + 1);
        assert_eq!(report[SHOWN].message, "5 more lines of this list are wrong");
        assert_eq!(report[SHOWN].more, 4);
        let (_, report) = read(&"nonsense\n".repeat(1_000_000));
        let message = "at least 9980 more lines of this list are wrong";
        assert_eq!(report[SHOWN].message, message);
    }
}
