//! The policy as YAML, with the lines of the dump behind each port.

use crate::net::{AddressSet, Entry, Family};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write;
use std::path::Path;

use super::dump::Dump;
use super::port::{Port, Who, has_private, private};
use super::published::Way;
use crate::text::SourceMap;

/// The most lines of a dump in the comment of a port.
const LINES: usize = 8;
/// The most entries that are written at a port; longer lists become a named source.
const INLINE: usize = 6;
/// The longest list on one line, in bytes.
const WIDEST: usize = 80;

/// The named sources.
struct Names {
    /// Whether all private IPv4 addresses are a named source, because several ports share them.
    private: bool,
    others: BTreeMap<Vec<Entry>, String>,
}

/// Returns the text of the policy.
pub(super) fn policy(sources: &SourceMap, dump: &Dump, ports: &[Port], deny: bool) -> String {
    let names = Names::of(ports);
    let mut text = String::from(
        "# Written by `dfw import`. Keys are ports of the host, as in `docker run -p`; the comments name \
         the\n# container's port and the lines of the rules that decide. Review it before you apply it.\n\n",
    );
    if deny {
        text.push_str("# Published ports that are not listed below are denied.\ndefault: deny\n");
    } else {
        text.push_str(
            "# Like the imported rules, this allows ports that are not listed. dfw recommends `deny`: then\n\
             # published ports that are not listed below are denied.\ndefault: allow\n",
        );
    }
    names.write(&mut text);
    let mut written = String::new();
    let mut left_out = String::new();
    for group in groups(ports) {
        let published = group.iter().any(Port::is_published);
        let place = if published {
            &mut written
        } else {
            &mut left_out
        };
        write_group(place, sources, dump, &names, group);
    }
    if written.is_empty() {
        text.push_str("\nports: {}\n");
    } else {
        text.push_str("\nports:\n");
        text.push_str(&written);
    }
    if !left_out.is_empty() {
        text.push_str(
            "\n# Rules match these ports, but no container publishes them now. An entry would also filter \
             services of\n# the host: add those of containers to `ports`.\n",
        );
        for line in left_out.lines() {
            let line = line.trim_start_matches("  # ");
            let _ = writeln!(text, "# {line}");
        }
    }
    text
}

/// Groups ports that can be written as one range.
fn groups(ports: &[Port]) -> Vec<&[Port]> {
    ports.chunk_by(continues).collect()
}

/// Returns whether two ports are adjacent, lead to the same container and have the same sources.
fn continues(a: &Port, b: &Port) -> bool {
    let next = |x: u16, y: u16| x.checked_add(1) == Some(y);
    let onward = |a: &[Way], b: &[Way]| {
        a.len() == b.len()
            && a.iter().zip(b).all(|(a, b)| {
                a.container == b.container
                    && match (a.port, b.port) {
                        (Some(a), Some(b)) => next(a, b),
                        (a, b) => a == b,
                    }
            })
    };
    a.host.address == b.host.address
        && a.host.protocol == b.host.protocol
        && next(a.host.first, b.host.first)
        && a.who == b.who
        && a.named.is_some() == b.named.is_some()
        && a.ways.len() == b.ways.len()
        && a.ways
            .iter()
            .all(|(family, way)| b.ways.get(family).is_some_and(|b| onward(way, b)))
        && a.verdicts == b.verdicts
}

fn write_group(text: &mut String, sources: &SourceMap, dump: &Dump, names: &Names, group: &[Port]) {
    let (Some(first), Some(last)) = (group.first(), group.last()) else {
        return;
    };
    for (family, verdict) in &first.verdicts {
        text.push_str("  # ");
        let found = |port: &Port| port.ways.get(family).cloned().unwrap_or_default();
        let (ways, ends) = (found(first), found(last));
        let places = ways.iter().zip(&ends).map(|(way, end)| place(way, end));
        let places = places.collect::<Vec<_>>().join(" and ");
        let naming_rules = group.iter().filter_map(|port| port.named);
        let rules: Vec<_> = group
            .iter()
            .flat_map(found)
            .map(|way| way.rule)
            .chain(naming_rules)
            .collect();
        match (first.named, ways.is_empty()) {
            (Some(_), _) => text.push_str("not published, but in a rule"),
            (None, true) => text.push_str("no DNAT rule certainly leads to a container"),
            (None, false) => text.push_str(&places),
        }
        let separator = if rules.is_empty() { "" } else { ", " };
        text.push_str(separator);
        text.push_str(&lines(sources, dump, rules.into_iter()));
        let trail = &verdict.trail;
        if trail.deciding.is_empty() {
            text.push_str(", no rule decides");
        } else {
            let decided = lines(sources, dump, trail.deciding.iter().copied());
            let _ = write!(text, ", decided by {decided}");
        }
        text.push('\n');
    }
    let mut key = first.host;
    key.last = last.host.first;
    let key = key.to_string();
    let key = key.strip_suffix("/tcp").unwrap_or(&key);
    if key.starts_with('[') {
        let _ = write!(text, "  \"{key}\":");
    } else {
        let _ = write!(text, "  {key}:");
    }
    write_who(text, names, &first.who);
}

/// Returns the container's address and port as text.
fn place(way: &Way, end: &Way) -> String {
    let mut place = match way.container {
        Some(container) if container.is_ipv6() => format!("[{container}]"),
        Some(container) => container.to_string(),
        None => "a container".to_owned(),
    };
    match (way.port, end.port) {
        (Some(first), Some(last)) if first != last => {
            let _ = write!(place, ":{first}-{last}");
        }
        (Some(port), _) => {
            let _ = write!(place, ":{port}");
        }
        (None, _) => {}
    }
    place
}

/// Returns the places of rules as text: `rules.v4:7, 9`.
fn lines(sources: &SourceMap, dump: &Dump, rules: impl Iterator<Item = usize>) -> String {
    let mut numbers: Vec<usize> = rules.collect();
    numbers.dedup();
    let mut text = String::new();
    let mut file = None;
    for (index, number) in numbers.iter().enumerate() {
        if index == LINES {
            let _ = write!(text, ", and {} more", numbers.len() - LINES);
            break;
        }
        let Some(rule) = dump.rules.get(*number) else {
            continue;
        };
        let separator = if text.is_empty() { "" } else { ", " };
        text.push_str(separator);
        if file != Some(rule.span.file) {
            file = Some(rule.span.file);
            let name = sources.name(rule.span.file);
            let name = Path::new(name)
                .file_name()
                .map_or(name.into(), OsStr::to_string_lossy);
            // A name may hold what would end a comment.
            let _ = write!(text, "{}:", name.escape_debug());
        }
        let _ = write!(text, "{}", sources.line_column(&rule.span).0);
    }
    text
}

fn write_who(text: &mut String, names: &Names, who: &Who) {
    let allow = if who.any {
        vec!["any".to_owned()]
    } else {
        names.items(&who.allow)
    };
    let short = who.except.is_empty() && who.interfaces.is_empty() && !who.log && !who.reject;
    if short {
        list(text, &allow, "    ");
        return;
    }
    text.push_str("\n    allow:");
    list(text, &allow, "      ");
    if !who.except.is_empty() {
        text.push_str("    except:");
        list(text, &names.items(&who.except), "      ");
    }
    if !who.interfaces.is_empty() {
        text.push_str("    interface:");
        list(text, &who.interfaces, "      ");
    }
    if who.log {
        text.push_str("    log: true\n");
    }
    if who.reject {
        text.push_str("    deny-with: reject\n");
    }
}

/// Writes a list behind a `:`, on the same line if it is short.
fn list(text: &mut String, items: &[String], indent: &str) {
    let line = items.join(", ");
    if items.len() == 1 && line == "any" {
        text.push_str(" any\n");
    } else if line.len() <= WIDEST {
        let _ = writeln!(text, " [{line}]");
    } else {
        text.push('\n');
        for item in items {
            let _ = writeln!(text, "{indent}- {item}");
        }
    }
}

/// Returns an entry as YAML, quoted if necessary.
fn entry(entry: &Entry) -> String {
    match entry {
        Entry::V4(..) => entry.to_string(),
        Entry::V6(..) => format!("\"{entry}\""),
    }
}

impl Names {
    fn of(ports: &[Port]) -> Self {
        let private = ports.iter().filter(|port| has_private(port)).count() > 1;
        let mut names = Self {
            private,
            others: BTreeMap::new(),
        };
        let mut used: BTreeMap<Vec<Entry>, usize> = BTreeMap::new();
        let mut order = Vec::new();
        for group in groups(ports) {
            if !group.iter().any(Port::is_published) {
                continue;
            }
            let who = group.first().map(|port| &port.who);
            let sets = who.map(|who| [&who.allow, &who.except]);
            for set in sets.into_iter().flatten() {
                let rest = names.rest(set);
                let count = used.entry(rest.clone()).or_default();
                *count += 1;
                if *count == 1 {
                    order.push(rest);
                }
            }
        }
        let all: Vec<Entry> = [Family::V4, Family::V6]
            .iter()
            .flat_map(|family| AddressSet::all(*family).iter().collect::<Vec<_>>())
            .collect();
        for entries in order {
            let shared = used.get(&entries).is_some_and(|count| *count > 1);
            let plain = entries.iter().all(|entry| all.contains(entry));
            if !plain && (shared || entries.len() > INLINE) {
                let number = names.others.len() + 1;
                let name = if number == 1 {
                    "imported".to_owned()
                } else {
                    format!("imported-{number}")
                };
                names.others.insert(entries, name);
            }
        }
        names
    }

    fn includes_private(&self, set: &AddressSet) -> bool {
        self.private && set.count_v4() <= 1 << 31 && private().difference(set).is_empty()
    }

    /// Returns the addresses that are not private.
    fn rest(&self, set: &AddressSet) -> Vec<Entry> {
        if self.includes_private(set) {
            set.difference(&private()).iter().collect()
        } else {
            set.iter().collect()
        }
    }

    /// Returns the items of a list of a port.
    fn items(&self, set: &AddressSet) -> Vec<String> {
        let mut items = Vec::new();
        if self.includes_private(set) {
            items.push("private".to_owned());
        }
        let rest = self.rest(set);
        match self.others.get(&rest) {
            Some(name) => items.push(name.clone()),
            None => items.extend(rest.iter().map(entry)),
        }
        items
    }

    fn write(&self, text: &mut String) {
        if !self.private && self.others.is_empty() {
            return;
        }
        text.push_str("\nsources:\n");
        if self.private {
            text.push_str("  private:");
            let items: Vec<_> = private().iter().map(|e| entry(&e)).collect();
            list(text, &items, "    ");
        }
        let mut others: Vec<_> = self.others.iter().collect();
        others.sort_by_key(|(_, name)| (name.len(), name.as_str()));
        for (entries, name) in others {
            let _ = write!(text, "  {name}:");
            let items: Vec<_> = entries.iter().map(entry).collect();
            list(text, &items, "    ");
        }
    }
}
