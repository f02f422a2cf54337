//! The policy as YAML, with the lines of the dump behind each port.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write;
use std::net::Ipv4Addr;
use std::path::Path;

use super::parse::Dump;
use super::port::{Port, Who};
use super::published::Way;
use super::rule::Family;
use crate::policy::address::{AddressSet, Entry};
use crate::source::Sources;

/// How many lines of a dump are named behind a port.
const LINES: usize = 8;
/// How many entries are written at a port itself; more get a name.
const INLINE: usize = 6;
/// How long a list on one line may be, in bytes.
const WIDEST: usize = 80;

/// Lists of addresses that have a name.
struct Names {
    /// All private addresses of IPv4, if several ports share them.
    private: bool,
    others: BTreeMap<Vec<Entry>, String>,
}

/// The text of the policy.
pub(super) fn policy(sources: &Sources, dump: &Dump, ports: &[Port], deny: bool) -> String {
    let names = Names::of(ports);
    let mut text = String::from(
        "# Imported by `dfw import`. Ports are those of the host, as in `docker run -p`; behind them \
         are\n# the container's port and the lines of the rules that decide. Read it before you \
         apply it.\n\n",
    );
    if deny {
        text.push_str("# A published port that is not named below is refused.\ndefault: deny\n");
    } else {
        text.push_str(
            "# The rules refuse only what they name, and so does this. `deny` is what dfw \
             recommends: then\n# a published port that is not named below is closed.\n\
             default: allow\n",
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
            "\n# Rules name these ports, but nothing publishes them at the moment. A key would also \
             judge services of\n# the host: add those that are containers' to `ports`.\n",
        );
        for line in left_out.lines() {
            let line = line.trim_start_matches("  # ");
            let _ = writeln!(text, "# {line}");
        }
    }
    text
}

/// Ports that can be written as one range.
fn groups(ports: &[Port]) -> Vec<&[Port]> {
    ports.chunk_by(continues).collect()
}

/// Whether the second goes on where the first ends, to the same container, for the same people.
fn continues(a: &Port, b: &Port) -> bool {
    let next = |x: u16, y: u16| x.checked_add(1) == Some(y);
    let onward = |a: &Way, b: &Way| {
        a.container == b.container
            && match (a.port, b.port) {
                (Some(a), Some(b)) => next(a, b),
                (a, b) => a == b,
            }
    };
    a.host.address == b.host.address
        && a.host.protocol == b.host.protocol
        && next(a.host.number, b.host.number)
        && a.who == b.who
        && a.ways.len() == b.ways.len()
        && a.ways
            .iter()
            .all(|(family, way)| b.ways.get(family).is_some_and(|b| onward(way, b)))
        && a.verdicts == b.verdicts
}

fn write_group(text: &mut String, sources: &Sources, dump: &Dump, names: &Names, group: &[Port]) {
    let (Some(first), Some(last)) = (group.first(), group.last()) else {
        return;
    };
    for (family, way) in &first.ways {
        let end = last.ways.get(family);
        text.push_str("  # ");
        text.push_str(&place(way, end));
        let rules = group.iter().filter_map(|port| port.ways.get(family));
        let _ = write!(
            text,
            ", {}",
            lines(sources, dump, rules.map(|way| way.rule))
        );
        if let Some(verdict) = first.verdicts.get(family) {
            let trail = &verdict.trail;
            if trail.deciding.is_empty() {
                text.push_str(", no rule decides about it");
            } else {
                let decided = lines(sources, dump, trail.deciding.iter().copied());
                let _ = write!(text, ", decided by {decided}");
            }
        }
        text.push('\n');
    }
    let mut key = first.host.key();
    key.last = last.host.number;
    let key = key.to_string();
    let key = key.strip_suffix("/tcp").unwrap_or(&key);
    if key.starts_with('[') {
        let _ = write!(text, "  \"{key}\":");
    } else {
        let _ = write!(text, "  {key}:");
    }
    write_who(text, names, &first.who);
}

/// Where a port leads: the container's address and port.
fn place(way: &Way, end: Option<&Way>) -> String {
    let Some(container) = way.container else {
        return "published by none, named by a rule".to_owned();
    };
    let mut place = if container.is_ipv6() {
        format!("[{container}]")
    } else {
        container.to_string()
    };
    match (way.port, end.and_then(|end| end.port)) {
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

/// The places of rules: `rules.v4:7, 9`.
fn lines(sources: &Sources, dump: &Dump, rules: impl Iterator<Item = usize>) -> String {
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
        text.push_str("    refuse: reject\n");
    }
}

/// A list behind a `:`, on the same line if it is short.
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

/// An entry as YAML reads it.
fn entry(entry: &Entry) -> String {
    match entry {
        Entry::V4(..) => entry.to_string(),
        Entry::V6(..) => format!("\"{entry}\""),
    }
}

/// 10.0.0.0/8, 172.16.0.0/12 and 192.168.0.0/16 (RFC 1918).
pub(super) fn private() -> AddressSet {
    let network = |a, b, c, d, bits: u32| {
        let first = u32::from(Ipv4Addr::new(a, b, c, d));
        Entry::V4(first, first | (u32::MAX >> bits))
    };
    AddressSet::from_entries([
        network(10, 0, 0, 0, 8),
        network(172, 16, 0, 0, 12),
        network(192, 168, 0, 0, 16),
    ])
}

/// Whether all private addresses are among those written one by one.
pub(super) fn has_private(port: &Port) -> bool {
    let who = &port.who;
    port.is_published()
        && !who.any
        && who.allow.count_v4() <= 1 << 31
        && private().difference(&who.allow).is_empty()
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
            .flat_map(|family| family.all().iter().collect::<Vec<_>>())
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

    /// What is left without the private addresses.
    fn rest(&self, set: &AddressSet) -> Vec<Entry> {
        if self.includes_private(set) {
            set.difference(&private()).iter().collect()
        } else {
            set.iter().collect()
        }
    }

    /// The items of a list of a port.
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
