//! The text of `iptables-save` and `ip6tables-save`: tables, chains, rules.

use crate::net::Family;
use std::collections::BTreeMap;

use super::options;
use super::rule::{Rule, Target};
use super::section::{Line, Section, sections, unknown_line};
use crate::text::diagnostic::Diagnostic;
use crate::text::{FileId, SourceMap};

/// The parsed dumps of all files.
#[derive(Debug, Default)]
pub(super) struct Dump {
    /// Every rule of every chain by number, and base chain policies that drop.
    pub(super) rules: Vec<Rule>,
    pub(super) tables: BTreeMap<(Family, &'static str), Table>,
    /// Diagnostics about its lines.
    pub(super) remarks: Vec<Diagnostic>,
}

/// The chains of a table, by name.
pub(super) type Table = BTreeMap<String, Chain>;

/// A chain.
#[derive(Debug, Default)]
pub(super) struct Chain {
    /// The numbers of its rules, in order.
    pub(super) rules: Vec<usize>,
    /// The number of the chain's policy as a rule, if the policy drops.
    pub(super) policy: Option<usize>,
}

impl Dump {
    /// Parses the dumps.
    ///
    /// # Errors
    /// If it cannot be known which family a table belongs to, if one is there twice, or if a dump
    /// is cut off: what would come of it may be more open than the rules are.
    pub(super) fn read(sources: &SourceMap, files: &[FileId]) -> Result<Self, Box<Diagnostic>> {
        let mut dump = Self::default();
        for section in sections(sources, files, &mut dump.remarks)? {
            dump.take(&section);
        }
        Ok(dump)
    }

    /// Returns whether the dumps have tables of a family.
    pub(super) fn has(&self, family: Family) -> bool {
        self.tables.keys().any(|(of, _)| *of == family)
    }

    pub(super) fn table(&self, family: Family, name: &'static str) -> Option<&Table> {
        self.tables.get(&(family, name))
    }

    /// Returns rules by their numbers.
    pub(super) fn rules_of<'a>(
        &'a self,
        numbers: impl IntoIterator<Item = &'a usize>,
    ) -> impl Iterator<Item = (usize, &'a Rule)> {
        let found = |&number| Some((number, self.rules.get(number)?));
        numbers.into_iter().filter_map(found)
    }

    fn take(&mut self, section: &Section<'_>) {
        let key = (section.family, section.table);
        self.tables.entry(key).or_default();
        for line in &section.lines {
            let words: Vec<_> = line.words.iter().map(|word| word.text.as_str()).collect();
            match words.as_slice() {
                ["-P", chain, policy] | ["-P", chain, policy, ..] => {
                    self.declare(key, chain, policy, line);
                }
                ["-N", chain] => self.declare(key, chain, "-", line),
                [first, policy, ..] if first.starts_with(':') => {
                    self.declare(key, first.trim_start_matches(':'), policy, line);
                }
                [first] if first.starts_with(':') => {
                    self.declare(key, first.trim_start_matches(':'), "-", line);
                }
                _ => self.rule(key, line),
            }
        }
    }

    fn chain(&mut self, table: (Family, &'static str), name: &str) -> &mut Chain {
        let table = self.tables.entry(table).or_default();
        table.entry(name.to_owned()).or_default()
    }

    fn declare(
        &mut self,
        table: (Family, &'static str),
        name: &str,
        policy: &str,
        line: &Line<'_>,
    ) {
        let drops = (policy == "DROP").then(|| {
            self.rules.push(Rule {
                span: line.span.clone(),
                table: table.1,
                matches: Vec::new(),
                target: Target::Drop,
                target_span: line.span.clone(),
            });
            self.rules.len() - 1
        });
        let chain = self.chain(table, name);
        chain.policy = drops.or(chain.policy);
    }

    fn rule(&mut self, table: (Family, &'static str), line: &Line<'_>) {
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
        let mut rule = options::read(table.0, rest, &line.span);
        rule.table = table.1;
        let number = self.rules.len();
        self.rules.push(rule);
        let rules = &mut self.chain(table, &chain.text).rules;
        let place = place.map_or(rules.len(), |place| place.min(rules.len()));
        rules.insert(place, number);
    }

    fn not_a_line(&mut self, line: &Line<'_>) {
        self.remarks.push(unknown_line(&line.span));
    }
}

/// Returns the rules of all chains that are reachable from the chains `starts`, by number.
pub(super) fn reachable(dump: &Dump, table: &Table, starts: &[&str]) -> Vec<usize> {
    let mut seen = std::collections::BTreeSet::new();
    let mut next: Vec<&str> = starts.to_vec();
    let mut found = Vec::new();
    while let Some(name) = next.pop() {
        let Some((name, chain)) = table.get_key_value(name) else {
            continue;
        };
        if !seen.insert(name.as_str()) {
            continue;
        }
        found.extend(&chain.rules);
        next.extend(
            dump.rules_of(&chain.rules)
                .filter_map(|(_, rule)| rule.called()),
        );
    }
    found.sort_unstable();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dump(text: &str) -> Dump {
        let mut sources = SourceMap::in_memory::<&str, &str>([]);
        let file = sources.take("dump", text.into());
        Dump::read(&sources, &[file]).unwrap()
    }

    fn denied(text: &str) -> &'static str {
        let mut sources = SourceMap::in_memory::<&str, &str>([]);
        let file = sources.take("dump", text.into());
        Dump::read(&sources, &[file]).unwrap_err().slug
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
        assert_eq!(filter["FORWARD"].policy, Some(0));
        assert_eq!(filter["FORWARD"].rules, [1]);
        assert_eq!(filter["DOCKER-USER"].rules, [3, 2]);
        let x = &dump.table(Family::V6, "nat").unwrap()["X"];
        assert!(x.rules.is_empty() && x.policy.is_none());
        assert!(dump.table(Family::V6, "filter").is_none());
    }

    #[test]
    fn the_family_is_seen_without_a_comment() {
        assert!(dump("*filter\n-A X -s fd00::/8 -j DROP\nCOMMIT\n").has(Family::V6));
        assert!(dump("*filter\n-A X -s 10.0.0.0/8 -j DROP\nCOMMIT\n").has(Family::V4));
    }

    #[test]
    fn an_incomplete_dump_is_detected() {
        let dump = dump(
            "# Warning: iptables-legacy tables present, use iptables-legacy-save to see them\n\
             # Table `nat' is incompatible, use 'nft' tool.\n*filter\nCOMMIT\n",
        );
        let slugs: Vec<_> = dump.remarks.iter().map(|remark| remark.slug).collect();
        assert_eq!(slugs, ["incomplete"; 2]);
    }

    #[test]
    fn other_lines_are_reported() {
        let dump = dump("iptables -F\n*filter\n-D X 1\n-A\nCOMMIT\n");
        let slugs: Vec<_> = dump.remarks.iter().map(|remark| remark.slug).collect();
        assert_eq!(slugs, ["unknown-line"; 3]);
    }

    #[test]
    fn the_same_table_again_is_of_the_other_family() {
        let twice = "*filter\n-A X -j DROP\nCOMMIT\n*filter\n-A Y -j DROP\nCOMMIT\n";
        let dump = dump(twice);
        assert!(dump.table(Family::V4, "filter").unwrap().contains_key("X"));
        assert!(dump.table(Family::V6, "filter").unwrap().contains_key("Y"));
        assert_eq!(dump.remarks.len(), 2, "it is a guess");
        assert_eq!(denied(&twice.repeat(2)), "table-twice");
        let titled = format!("# Generated by iptables-save v1.8.9\n{twice}");
        assert_eq!(denied(&titled), "table-twice");
    }

    #[test]
    fn ambiguous_families_are_errors() {
        let mixed = "*filter\n-A X -s 10.0.0.1 -j DROP\n-A X -s fd00::1 -j DROP\nCOMMIT\n";
        assert_eq!(denied(mixed), "mixed-families");
        assert_eq!(denied("*filter\n-A X -j DROP\n"), "cut-off");
        let between = "*nat\n-A X -s 10.0.0.1 -j Y\nCOMMIT\n*filter\n-A X -j DROP\nCOMMIT\n\
                       *nat\n-A X -s fd00::1 -j Y\nCOMMIT\n";
        assert_eq!(denied(between), "family-unknown");
        // What somebody wrote about a rule is no address.
        let commented = "*nat\n-A X -s 10.0.0.1 -m comment --comment fd00::1 -j DROP\nCOMMIT\n";
        assert!(dump(commented).has(Family::V4));
    }

    #[test]
    fn a_list_of_commands_is_a_table_too() {
        let dump = dump(
            "-P INPUT ACCEPT\n-P FORWARD DROP\n-P OUTPUT ACCEPT\n-N X\n-A X -s 10.0.0.1 -j DROP\n\
             -P PREROUTING ACCEPT\n-P INPUT ACCEPT\n-P OUTPUT ACCEPT\n-P POSTROUTING ACCEPT\n",
        );
        assert_eq!(dump.remarks, []);
        let filter = dump.table(Family::V4, "filter").unwrap();
        assert!(filter["FORWARD"].policy.is_some() && filter["X"].rules.len() == 1);
        assert!(dump.table(Family::V4, "nat").is_some());
    }
}
