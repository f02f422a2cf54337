//! The text of `iptables-save` and `ip6tables-save`: tables, chains, rules.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use super::options;
use super::rule::{Family, Rule};
use super::words::{Word, words};
use crate::diagnostic::{Diagnostic, quoted};
use crate::source::{FileId, Sources, Span};

/// The tables that iptables has.
const TABLES: [&str; 5] = ["filter", "mangle", "nat", "raw", "security"];
/// How many lines are told that are none of a dump: a file of another kind is wrong in every line.
const SHOWN: usize = 10;
const NEXT: usize = SHOWN + 1;

/// All dumps together.
#[derive(Debug, Default)]
pub(super) struct Dump {
    /// Every rule of every chain, by its number.
    pub(super) rules: Vec<Rule>,
    pub(super) tables: BTreeMap<(Family, String), Table>,
    /// Lines that are no lines of a dump.
    pub(super) remarks: Vec<Diagnostic>,
    /// How many of them there are.
    strange: usize,
}

/// The chains of a table: the numbers of their rules, in order.
pub(super) type Table = BTreeMap<String, Vec<usize>>;

impl Dump {
    /// Reads the texts of `files`. A table that stands in several of them, or twice in one, is the
    /// table that one gets by loading all of them.
    pub(super) fn read(sources: &Sources, files: &[FileId]) -> Self {
        let mut dump = Self::default();
        for &file in files {
            for section in sections(file, sources.text(file), &mut dump.remarks) {
                dump.take(&section);
            }
        }
        dump
    }

    /// Whether there is anything of this family.
    pub(super) fn has(&self, family: Family) -> bool {
        self.tables.keys().any(|(of, _)| *of == family)
    }

    pub(super) fn table(&self, family: Family, name: &str) -> Option<&Table> {
        self.tables.get(&(family, name.to_owned()))
    }

    /// The rules of a chain of a table, with their numbers.
    pub(super) fn rules_of<'a>(
        &'a self,
        numbers: &'a [usize],
    ) -> impl Iterator<Item = (usize, &'a Rule)> {
        let found = |&number| Some((number, self.rules.get(number)?));
        numbers.iter().filter_map(found)
    }

    fn take(&mut self, section: &Section<'_>) {
        let family = section.family();
        let mut table = String::new();
        for line in &section.lines {
            let first = line.words.first().map_or("", |word| word.text.as_str());
            if let Some(name) = table_of(line) {
                name.clone_into(&mut table);
                self.tables.entry((family, table.clone())).or_default();
            } else if table.is_empty() {
                self.not_a_line(line);
            } else if let Some(name) = first.strip_prefix(':') {
                self.chain(family, &table, name);
            } else {
                self.rule(family, &table, line);
            }
        }
    }

    fn chain(&mut self, family: Family, table: &str, name: &str) -> &mut Vec<usize> {
        let table = self.tables.entry((family, table.to_owned())).or_default();
        table.entry(name.to_owned()).or_default()
    }

    fn rule(&mut self, family: Family, table: &str, line: &Line<'_>) {
        let mut words = line.words.as_slice();
        // `-c` of iptables-save puts the counters of a rule before it.
        if let [counters, rest @ ..] = words
            && counters.text.starts_with('[')
        {
            words = rest;
        }
        let [command, chain, rest @ ..] = words else {
            return self.not_a_line(line);
        };
        let (place, rest) = match (command.text.as_str(), rest) {
            ("-A" | "--append", rest) => (None, rest),
            ("-I" | "--insert", [number, after @ ..]) => match number.text.parse::<usize>() {
                Ok(number) => (Some(number.saturating_sub(1)), after),
                Err(_) => (Some(0), rest),
            },
            _ => return self.not_a_line(line),
        };
        let rule = options::read(family, rest, &line.span);
        let number = self.rules.len();
        self.rules.push(rule);
        let chain = self.chain(family, table, &chain.text);
        let place = place.map_or(chain.len(), |place| place.min(chain.len()));
        chain.insert(place, number);
    }

    fn not_a_line(&mut self, line: &Line<'_>) {
        self.strange += 1;
        let message = match self.strange {
            ..=SHOWN => format!("{} is no line of a dump", quoted(line.text)),
            NEXT => "more lines are none of a dump".to_owned(),
            _ => return,
        };
        self.remarks.push(
            Diagnostic::warning("unknown-line", message)
                .at(line.span.clone(), "left out")
                .help("give what `iptables-save` or `ip6tables-save` prints, unchanged"),
        );
    }
}

/// The name of the table that the line begins.
fn table_of<'a>(line: &'a Line<'_>) -> Option<&'a str> {
    let [word] = line.words.as_slice() else {
        return None;
    };
    let name = word.text.strip_prefix('*')?;
    TABLES.contains(&name).then_some(name)
}

/// The lines from one `*table` to the next, comments left out.
struct Section<'a> {
    lines: Vec<Line<'a>>,
    /// What the comment above says.
    family: Option<Family>,
}

struct Line<'a> {
    text: &'a str,
    span: Span,
    words: Vec<Word>,
}

impl Section<'_> {
    /// The family; where no comment says it, what the addresses look like.
    fn family(&self) -> Family {
        self.family.unwrap_or_else(|| {
            let words = self.lines.iter().flat_map(|line| &line.words);
            let v6 = |word: &Word| {
                let text = word.text.trim_start_matches('[');
                let text = text.split(['/', ']']).next().unwrap_or("");
                text.parse::<Ipv6Addr>().is_ok()
                    || ["ipv6-icmp", "icmpv6", "icmp6"].contains(&text)
                    || text.starts_with("ufw6-")
            };
            if { words }.any(v6) {
                Family::V6
            } else {
                Family::V4
            }
        })
    }
}

fn sections<'a>(file: FileId, text: &'a str, remarks: &mut Vec<Diagnostic>) -> Vec<Section<'a>> {
    let mut sections: Vec<Section<'_>> = Vec::new();
    let mut family = None;
    let mut start = 0;
    for line in text.split('\n') {
        let from = start;
        start += line.len() + 1;
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed == "COMMIT" {
            continue;
        }
        let begin = from + (line.len() - line.trim_start().len());
        let span = Span::new(file, begin, begin + trimmed.len());
        if let Some(comment) = trimmed.strip_prefix('#') {
            if comment.contains("is incompatible, use 'nft'")
                || comment.contains("iptables-legacy tables present")
            {
                remarks.push(incomplete(span));
            }
            if comment.contains("ip6tables-") && comment.contains("Generated by") {
                family = Some(Family::V6);
            } else if comment.contains("iptables-") && comment.contains("Generated by") {
                family = Some(Family::V4);
            }
            continue;
        }
        let line = Line {
            text: trimmed,
            span,
            words: words(file, trimmed, begin),
        };
        match sections.last_mut() {
            Some(section) if !trimmed.starts_with('*') => section.lines.push(line),
            _ => sections.push(Section {
                lines: vec![line],
                family,
            }),
        }
    }
    sections
}

/// The program that made the dump says that there is more.
fn incomplete(span: Span) -> Diagnostic {
    Diagnostic::warning(
        "incomplete",
        "this dump does not have all the rules of its host",
    )
    .at(span, "there are others")
    .help("give the output of `iptables-legacy-save` too, or look at them with `nft list ruleset`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dump(text: &str) -> Dump {
        let mut sources = Sources::in_memory::<&str, &str>([]);
        let file = sources.take("dump", text.into());
        Dump::read(&sources, &[file])
    }

    #[test]
    fn tables_chains_and_rules_are_found() {
        let dump = dump(
            "# Generated by iptables-save v1.8.9 (nf_tables) on a day\n*filter\n\
             :FORWARD DROP [1:2]\n:DOCKER-USER - [0:0]\n[3:4] -A FORWARD -j DOCKER-USER\n\
             -A DOCKER-USER -j RETURN\n-I DOCKER-USER -s 10.0.0.1 -j DROP\nCOMMIT\n\
             # Generated by ip6tables-save v1.8.9 (nf_tables) on a day\n*nat\n:X - [0:0]\nCOMMIT\n",
        );
        assert_eq!(dump.remarks, []);
        let filter = dump.table(Family::V4, "filter").unwrap();
        assert_eq!(filter["FORWARD"], [0]);
        assert_eq!(filter["DOCKER-USER"], [2, 1]);
        assert!(dump.table(Family::V6, "nat").unwrap()["X"].is_empty());
        assert!(dump.table(Family::V6, "filter").is_none());
    }

    #[test]
    fn the_family_is_seen_without_a_comment() {
        assert!(dump("*filter\n-A X -s fd00::/8 -j DROP\nCOMMIT\n").has(Family::V6));
        assert!(dump("*filter\n-A X -s 10.0.0.0/8 -j DROP\nCOMMIT\n").has(Family::V4));
    }

    #[test]
    fn a_dump_may_say_that_it_is_not_all() {
        let dump = dump(
            "# Warning: iptables-legacy tables present, use iptables-legacy-save to see them\n\
             # Table `nat' is incompatible, use 'nft' tool.\n*filter\nCOMMIT\n",
        );
        let slugs: Vec<_> = dump.remarks.iter().map(|remark| remark.slug).collect();
        assert_eq!(slugs, ["incomplete"; 2]);
    }

    #[test]
    fn other_lines_are_told() {
        let dump = dump("iptables -F\n*filter\n-D X 1\n-A\n");
        let slugs: Vec<_> = dump.remarks.iter().map(|remark| remark.slug).collect();
        assert_eq!(slugs, ["unknown-line"; 3]);
    }
}
