//! Assigns the lines of a text to tables and families.

use crate::net::Family;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use super::words::{Word, words};
use crate::text::diagnostic::Diagnostic;
use crate::text::{FileId, SourceMap, Span};

/// The tables of iptables.
const TABLES: [&str; 5] = ["filter", "mangle", "nat", "raw", "security"];

/// One table of one family.
pub(super) struct Section<'a> {
    pub(super) family: Family,
    pub(super) table: &'static str,
    pub(super) lines: Vec<Line<'a>>,
    file: FileId,
    span: Span,
    /// The family in the comment above, or of the addresses in it.
    hint: Option<Family>,
    /// Whether the comment names the family.
    titled: bool,
    complete: bool,
}

pub(super) struct Line<'a> {
    pub(super) text: &'a str,
    pub(super) span: Span,
    pub(super) words: Vec<Word>,
}

/// Splits all files into tables and determines the family of each.
///
/// # Errors
/// If a table is there twice or its family cannot be known, or if a section is cut off.
pub(super) fn sections<'a>(
    sources: &'a SourceMap,
    files: &[FileId],
    remarks: &mut Vec<Diagnostic>,
) -> Result<Vec<Section<'a>>, Box<Diagnostic>> {
    let mut sections = Vec::new();
    for &file in files {
        split(file, sources.text(file), &mut sections, remarks);
    }
    for section in &mut sections {
        if !section.complete {
            return Err(cut_off(section));
        }
        if section.hint.is_none() {
            section.hint = look(&section.lines)?;
        }
    }
    assign(&mut sections, remarks)?;
    Ok(sections)
}

fn cut_off(section: &Section<'_>) -> Box<Diagnostic> {
    let message = format!("the table `{}` is cut off: it has no COMMIT", section.table);
    Box::new(
        Diagnostic::error("cut-off", message)
            .at(section.span.clone(), "begins here")
            .help("rules may be missing; use the whole output of `iptables-save`"),
    )
}

/// Splits a text into tables.
fn split<'a>(
    file: FileId,
    text: &'a str,
    sections: &mut Vec<Section<'a>>,
    remarks: &mut Vec<Diagnostic>,
) {
    let mut title = None;
    let mut open = false;
    // The output of `iptables -S` has no tables: a `-P` behind other lines begins one.
    let mut policies = false;
    let mut start = 0;
    for line in text.split('\n') {
        let from = start;
        start += line.len() + 1;
        let trimmed = line.trim();
        let begin = from + (line.len() - line.trim_start().len());
        let span = Span::new(file, begin, begin + trimmed.len());
        if let Some(comment) = trimmed.strip_prefix('#') {
            if comment.contains("is incompatible, use 'nft'")
                || comment.contains("iptables-legacy tables present")
            {
                remarks.push(incomplete(span));
            }
            title = titled(comment, title);
            continue;
        }
        if trimmed.is_empty() {
            continue;
        }
        if trimmed == "COMMIT" {
            if let Some(section) = sections.last_mut().filter(|_| open) {
                section.complete = true;
            }
            open = false;
            continue;
        }
        let name = trimmed.strip_prefix('*').map(str::trim);
        let listed = trimmed.starts_with("-P ");
        if let Some(table) = name.and_then(|name| TABLES.iter().find(|table| **table == name)) {
            sections.push(Section {
                family: Family::V4,
                table,
                lines: Vec::new(),
                file,
                span,
                hint: title,
                titled: title.is_some(),
                complete: false,
            });
            (open, policies) = (true, false);
            continue;
        }
        let bare = listed || trimmed.starts_with("-A ") || trimmed.starts_with("-N ");
        let goes_on = sections
            .last()
            .is_some_and(|section| section.file == file && section.table.is_empty());
        if !open && bare && (!goes_on || listed && !policies) {
            sections.push(Section {
                family: Family::V4,
                table: "",
                lines: Vec::new(),
                file,
                span: span.clone(),
                hint: None,
                titled: false,
                complete: true,
            });
        }
        policies = !open && listed;
        let line = Line {
            text: trimmed,
            words: words(file, trimmed, begin),
            span,
        };
        match sections.last_mut() {
            Some(section) if section.file == file && (open || section.table.is_empty()) => {
                section.lines.push(line);
            }
            _ => remarks.push(unknown_line(&line.span)),
        }
    }
    for section in sections.iter_mut().filter(|s| s.table.is_empty()) {
        section.table = listed_table(&section.lines);
    }
}

/// Returns the name of the table whose base chains these lines list.
fn listed_table(lines: &[Line<'_>]) -> &'static str {
    let has = |name: &str| {
        lines.iter().any(|line| {
            let mut words = line.words.iter().map(|word| word.text.as_str());
            words.next() == Some("-P") && words.next() == Some(name)
        })
    };
    match (has("PREROUTING"), has("POSTROUTING"), has("FORWARD")) {
        (true, true, true) => "mangle",
        (true, true, false) => "nat",
        (true, false, _) => "raw",
        _ => "filter",
    }
}

/// Returns the family in a comment, or the one before: `xtables-save` was the name of both programs.
fn titled(comment: &str, before: Option<Family>) -> Option<Family> {
    if comment.contains("Completed on") {
        return None;
    }
    match comment.split_once("Generated by ") {
        Some((_, program)) if program.starts_with("ip6tables") => Some(Family::V6),
        Some((_, program)) if program.starts_with("iptables") => Some(Family::V4),
        Some(_) => None,
        None => before,
    }
}

/// Returns the error about a line that may be a rule.
pub(super) fn unknown_line(span: &Span) -> Diagnostic {
    Diagnostic::warning("unknown-line", "not a line of iptables-save output")
        .at(span.clone(), "ignored")
        .help("use the unchanged output of `iptables-save` or `ip6tables-save`")
}

/// Returns the error about a dump that the program itself marks as incomplete.
fn incomplete(span: Span) -> Diagnostic {
    Diagnostic::warning(
        "incomplete",
        "this dump does not contain all rules of its host",
    )
    .at(span, "other rules exist")
    .help(
        "list the others with `iptables-legacy-save` or `nft list ruleset`: their denials are not in the \
         policy",
    )
}

/// Returns the family of the addresses in lines.
fn look(lines: &[Line<'_>]) -> Result<Option<Family>, Box<Diagnostic>> {
    let mut found: Option<(Family, &Word)> = None;
    for word in lines.iter().flat_map(telling) {
        let Some(family) = family_of(&word.text) else {
            continue;
        };
        match found {
            Some((known, first)) if known != family => {
                return Err(Box::new(
                    Diagnostic::error("mixed-families", "one table has addresses of both families")
                        .at(word.span.clone(), family.title())
                        .related(first.span.clone(), known.title())
                        .help("use the unchanged output of `iptables-save` and `ip6tables-save`"),
                ));
            }
            Some(_) => {}
            None => found = Some((family, word)),
        }
    }
    Ok(found.map(|(family, _)| family))
}

/// Returns the words of a line without its comment.
fn telling<'a>(line: &'a Line<'_>) -> impl Iterator<Item = &'a Word> {
    const FREE: [&str; 6] = [
        "--comment",
        "--log-prefix",
        "--nflog-prefix",
        "--string",
        "--hex-string",
        "--name",
    ];
    let before = std::iter::once("").chain(line.words.iter().map(|word| word.text.as_str()));
    let words = line.words.iter().zip(before);
    words.filter_map(|(word, before)| (!FREE.contains(&before)).then_some(word))
}

fn family_of(word: &str) -> Option<Family> {
    let text = word.trim_start_matches('[');
    let text = text.split(['/', ']', ',']).next().unwrap_or("");
    if text.parse::<Ipv6Addr>().is_ok()
        || ["ipv6-icmp", "icmpv6", "icmp6"].contains(&text)
        || text.starts_with("ufw6-")
        || text.starts_with("icmp6-")
    {
        return Some(Family::V6);
    }
    let text = text.split([':', '-']).next().unwrap_or("");
    (text.parse::<Ipv4Addr>().is_ok() || text == "icmp").then_some(Family::V4)
}

/// Assigns a family to every table. Consecutive distinct tables in a file have one family; a repeated table
/// begins the other one.
fn assign(
    sections: &mut [Section<'_>],
    remarks: &mut Vec<Diagnostic>,
) -> Result<(), Box<Diagnostic>> {
    let mut dumps: Vec<(Option<Family>, Vec<usize>)> = Vec::new();
    let mut tables = BTreeSet::new();
    for (index, section) in sections.iter().enumerate() {
        let joins = |hint: Option<Family>, first: usize| {
            let other = hint.is_some() && section.hint.is_some() && hint != section.hint;
            !other && sections.get(first).is_some_and(|s| s.file == section.file)
        };
        match dumps.last_mut() {
            Some((hint, members))
                if members.first().is_some_and(|first| joins(*hint, *first))
                    && !tables.contains(section.table) =>
            {
                *hint = hint.or(section.hint);
                members.push(index);
            }
            _ => {
                tables.clear();
                dumps.push((section.hint, vec![index]));
            }
        }
        tables.insert(section.table);
    }
    if let Some(unknown) = between(sections, &dumps) {
        return Err(family_unknown(unknown));
    }
    let mut taken: BTreeMap<(Family, &str), Span> = BTreeMap::new();
    let several = dumps.len() > 1;
    dumps.sort_by_key(|(hint, _)| hint.is_none());
    for (hint, members) in dumps {
        let of = |index: &usize| sections.get(*index);
        let free = |family: Family| {
            let mut members = members.iter().filter_map(of);
            !members.any(|section| taken.contains_key(&(family, section.table)))
        };
        let empty = |family: Family| !taken.keys().any(|(of, _)| *of == family);
        let family = hint.unwrap_or_else(|| {
            if free(Family::V4) && (empty(Family::V4) || !empty(Family::V6) || !free(Family::V6)) {
                Family::V4
            } else {
                Family::V6
            }
        });
        for (number, index) in members.into_iter().enumerate() {
            let Some(section) = sections.get_mut(index) else {
                continue;
            };
            section.family = family;
            if hint.is_none() && several && number == 0 {
                remarks.push(guessed(section));
            }
            // What an unused backend prints.
            if section.is_blank() {
                continue;
            }
            let key = (family, section.table);
            if let Some(first) = taken.insert(key, section.span.clone()) {
                return Err(twice(section, first));
            }
        }
    }
    Ok(())
}

/// Returns the error about a table between two dumps in one file that may belong to either.
fn between<'s, 'a>(
    sections: &'s [Section<'a>],
    dumps: &[(Option<Family>, Vec<usize>)],
) -> Option<&'s Section<'a>> {
    dumps.windows(2).find_map(|pair| {
        let [(_, first), (_, second)] = pair else {
            return None;
        };
        let of = |numbers: &[usize]| {
            let found = numbers.iter().filter_map(|number| sections.get(*number));
            found.collect::<Vec<_>>()
        };
        let (first, second) = (of(first), of(second));
        let mut last = first
            .iter()
            .rev()
            .take_while(|section| section.hint.is_none());
        let unknown = last.find(|section| {
            let again = second.iter().any(|other| other.table == section.table);
            !again && !section.is_blank()
        })?;
        let one_file = second.first().is_some_and(|next| next.file == unknown.file);
        one_file.then_some(*unknown)
    })
}

fn family_unknown(section: &Section<'_>) -> Box<Diagnostic> {
    let message = format!("cannot tell the family of the table `{}`", section.table);
    Box::new(
        Diagnostic::error("family-unknown", message)
            .at(section.span.clone(), "between tables of both")
            .help("import the output of `iptables-save` and of `ip6tables-save` as two files"),
    )
}

impl Section<'_> {
    /// Returns whether the table has no effect.
    fn is_blank(&self) -> bool {
        self.lines
            .iter()
            .all(|line| line.text.starts_with(':') && !line.text.contains(" DROP"))
    }
}

fn guessed(section: &Section<'_>) -> Diagnostic {
    let message = format!(
        "cannot tell the family of this dump; assuming {}",
        section.family.title()
    );
    Diagnostic::warning("family-guessed", message)
        .at(section.span.clone(), "no address, and no header comment")
        .help("import the unchanged output of `iptables-save` and `ip6tables-save`, with its comments")
}

fn twice(section: &Section<'_>, first: Span) -> Box<Diagnostic> {
    let message = format!(
        "the table `{}` of {} occurs twice",
        section.table,
        section.family.title()
    );
    let titled = if section.titled {
        "the dumps of two hosts or of two backends (`iptables-legacy-save`, `iptables-nft-save`) \
         cannot be imported together: a packet passes both"
    } else {
        "if one of them is of the other family, keep the header comments of `iptables-save` and \
         `ip6tables-save`"
    };
    Box::new(
        Diagnostic::error("table-twice", message)
            .at(section.span.clone(), "again")
            .related(first, "the first one")
            .help(titled),
    )
}
