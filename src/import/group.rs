//! Remarks that say the same of many lines, as one.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::unfollowed::OPENS;
use crate::text::diagnostic::Diagnostic;
use crate::text::{FileId, SourceMap};

/// The most lines that are shown.
const SHOWN: usize = 3;
/// The most ranges of lines that are listed.
const LISTED: usize = 50;

/// Groups equal remarks and sorts them: first those about ports that the policy opens, then in the order of the
/// dumps.
pub(super) fn grouped(sources: &SourceMap, remarks: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let mut groups: BTreeMap<_, Vec<Diagnostic>> = BTreeMap::new();
    for (number, remark) in remarks.into_iter().enumerate() {
        let label = remark.primary.as_ref().map(|label| label.text.clone());
        // A remark with several places, or none, is not grouped.
        let alone = (label.is_none() || !remark.related.is_empty()).then_some(number);
        let key = (
            remark.slug,
            remark.message.clone(),
            remark.help.clone(),
            label,
            alone,
        );
        groups.entry(key).or_default().push(remark);
    }
    let mut remarks: Vec<_> = groups
        .into_values()
        .filter_map(|group| one(sources, group))
        .collect();
    remarks.sort_by_key(|remark| {
        let place = remark.primary.as_ref().map(|label| label.span.clone());
        (remark.slug != OPENS, place)
    });
    remarks
}

fn one(sources: &SourceMap, mut group: Vec<Diagnostic>) -> Option<Diagnostic> {
    group.sort_by_key(|remark| remark.primary.as_ref().map(|label| label.span.clone()));
    let mut others = group.into_iter();
    let mut first = others.next()?;
    let mut rest: BTreeMap<FileId, Vec<u32>> = BTreeMap::new();
    let mut count = 0;
    for (number, label) in others.filter_map(|remark| remark.primary).enumerate() {
        if number + 1 < SHOWN {
            first = first.related(label.span, label.text);
        } else {
            let (line, _) = sources.line_column(&label.span);
            rest.entry(label.span.file).or_default().push(line);
            count += 1;
        }
    }
    if count > 0 {
        let lines: Vec<_> = rest
            .iter()
            .map(|(file, lines)| format!("{}:{}", sources.name(*file), ranges(lines)))
            .collect();
        let word = if count == 1 { "line" } else { "lines" };
        first = first.note(format!("and {count} more {word}: {}", lines.join("; ")));
    }
    Some(first)
}

/// `7, 9-12`.
fn ranges(lines: &[u32]) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for &line in lines {
        match ranges.last_mut() {
            Some((_, last)) if line <= *last + 1 => *last = line,
            _ => ranges.push((line, line)),
        }
    }
    let mut text = String::new();
    for (index, (first, last)) in ranges.iter().enumerate() {
        if index == LISTED {
            let _ = write!(text, " and {} more places", ranges.len() - LISTED);
            break;
        }
        let separator = if index == 0 { "" } else { ", " };
        let _ = if first == last {
            write!(text, "{separator}{first}")
        } else {
            write!(text, "{separator}{first}-{last}")
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_listed_as_ranges() {
        assert_eq!(ranges(&[7, 9, 10, 10, 12]), "7, 9-10, 12");
        let many: Vec<u32> = (0..200).map(|n| n * 2).collect();
        assert!(ranges(&many).ends_with("98 and 150 more places"));
    }
}
