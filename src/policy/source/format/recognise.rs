//! What a list is that is none: files of other programs, by their first line.

use std::net::{IpAddr, Ipv4Addr};

use crate::policy::source::entry::{parse_entry, prefix_length};

/// A known format that is not a list, and the command that converts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Foreign {
    pub(super) what: &'static str,
    pub(super) help: &'static str,
}

const fn foreign(what: &'static str, help: &'static str) -> Foreign {
    Foreign { what, help }
}

const JSON: Foreign = foreign(
    "JSON",
    "write the addresses in it one a line: \
     `jq -r '..|strings|select(test(\"^[0-9A-Fa-f]*[.:][0-9A-Fa-f.:/]*$\"))' FILE`",
);
/// Text that looks like JSON and is not valid JSON.
const BARE: Foreign = foreign(
    "JSON, or looks like it",
    "write one entry a line, without brackets, quotes and commas",
);
const EMPTY: Foreign = foreign(
    "JSON, and empty",
    "the list of nobody is a file without a line",
);
const CSV: Foreign = foreign(
    "a table (CSV)",
    "keep the column with the addresses, without headings: `cut -d, -f1 FILE` keeps the first",
);
const QUOTED: Foreign = foreign(
    "a table (CSV)",
    "keep the column with the addresses, without headings: `cut -d, -f1 FILE | tr -d '\"'` keeps the first",
);
const SEMICOLONS: Foreign = foreign(
    "a table (CSV)",
    "keep the column with the addresses, without headings: `cut -d';' -f1 FILE | tr -d '\"'` keeps the first",
);
const TABS: Foreign = foreign(
    "a table (CSV)",
    "keep the column with the addresses, without headings: `cut -f1 FILE | tr -d '\"'` keeps the first",
);
/// Two addresses a line, of which the first column would be one address of each range.
const RANGES: Foreign = foreign(
    "a table (CSV) of first and last addresses",
    "write ranges one a line, `203.0.113.0-203.0.113.255`: \
     `tr -d '\"' <FILE | awk -F'[,;\\t]' '{print $1 \"-\" $2}'`",
);
const MASKS: Foreign = foreign(
    "a table (CSV) of networks and masks",
    "write networks one a line, with the prefix length: `203.0.113.0/24`",
);
const IPSET: Foreign = foreign(
    "what `ipset save` prints",
    "keep the entries: `awk '$1 == \"add\" && !/ nomatch/ {print $3}' FILE`; \
     what is `nomatch` is excluded, so write it in another list, for `except`",
);
const IPSET_LIST: Foreign = foreign(
    "what `ipset list` prints",
    "keep the entries: `awk 'seen && NF && !/ nomatch/ {print $1} /^Members:/ {seen = 1}' FILE`; \
     what is `nomatch` is excluded, so write it in another list, for `except`",
);
const IPSET_COMMANDS: Foreign = foreign(
    "commands of ipset",
    "write the entries one a line: `ipset save NAME | awk '$1 == \"add\" && !/ nomatch/ {print $3}'` prints \
     those of a set; what is `nomatch` is excluded, so write it in another list, for `except`",
);
const NFT: Foreign = foreign(
    "a ruleset of nft",
    "write the elements of its sets one a line, without commas",
);
const IPTABLES: Foreign = foreign(
    "what `iptables-save` prints",
    "`dfw import FILE` makes a policy of it; a list has one entry a line",
);
const MARKUP: Foreign = foreign(
    "a web page or XML",
    "is it the answer of a server that had no list? A list has one entry a line",
);
const YAML: Foreign = foreign(
    "YAML",
    "a list has one entry a line, without `- ` before it; or write the entries in the policy itself",
);
const SERVER: Foreign = foreign(
    "configuration of another program",
    "keep the addresses alone, one a line: what it allows in one list, and what it denies in another, for `except`",
);

/// Recognises a format by the first line that is not blank and not an entry.
pub(super) fn recognise(line: &str) -> Option<Foreign> {
    let line = line.trim();
    if line.starts_with('<') {
        return Some(MARKUP);
    }
    let words: Vec<&str> = line.split_ascii_whitespace().take(5).collect();
    json(line)
        .or_else(|| nft(line, &words))
        .or_else(|| ipset(&words))
        .or_else(|| other(&words))
        .or_else(|| table(line))
}

fn json(line: &str) -> Option<Foreign> {
    match line {
        "null" | "{}" | "[]" => return Some(EMPTY),
        "{" | "[" => return Some(JSON),
        _ => {}
    }
    if let Some(object) = line.strip_prefix('{') {
        let is_json = object.trim_start().starts_with(['"', '}']);
        // `{ 203.0.113.7, 203.0.113.8 }`
        return Some(if is_json { JSON } else { NFT });
    }
    if let Some(array) = line.strip_prefix('[') {
        // `[2001:db8::1]:80` is an address.
        let address = array.split(']').next().unwrap_or(array);
        let is_json = array.trim_start().starts_with(['"', '{', '[']);
        let is_bare = || address.parse::<std::net::Ipv6Addr>().is_err();
        return is_json
            .then_some(JSON)
            .or_else(|| is_bare().then_some(BARE));
    }
    if !line.starts_with('"') {
        return None;
    }
    // `"a": 1` is of an object; `"a", "b"` may be of an array or a table.
    let is_member = line
        .split('"')
        .nth(2)
        .is_some_and(|after| after.trim_start().starts_with(':'));
    let plain = |field: &str| field.trim().trim_matches('"').to_owned();
    let only_entries = line
        .split(',')
        .map(plain)
        .all(|field| is_entry_or_nothing(&field));
    (is_member || only_entries).then_some(BARE)
}

fn is_entry_or_nothing(field: &str) -> bool {
    field.is_empty() || parse_entry(field).is_ok()
}

/// The commands of nft.
const NFT_VERBS: [&str; 9] = [
    "add", "create", "delete", "destroy", "flush", "insert", "list", "replace", "reset",
];
/// The objects of nft commands.
const NFT_NOUNS: [&str; 10] = [
    "table",
    "set",
    "map",
    "chain",
    "rule",
    "element",
    "ruleset",
    "counter",
    "flowtable",
    "quota",
];

fn nft(line: &str, words: &[&str]) -> Option<Foreign> {
    let elements = line.strip_prefix("elements").map(str::trim_start);
    if elements.is_some_and(|rest| rest.starts_with('=')) {
        return Some(NFT);
    }
    let is_nft = match words {
        [verb, noun, ..] if NFT_VERBS.contains(verb) => NFT_NOUNS.contains(noun),
        [
            "nft" | "table" | "set" | "map" | "define" | "chain" | "include" | "type" | "typeof",
            _,
            ..,
        ] => true,
        [first, "comment" | "timeout" | "expires" | "counter", _, ..] => parse_entry(first).is_ok(),
        _ => false,
    };
    is_nft.then_some(NFT)
}

fn ipset(words: &[&str]) -> Option<Foreign> {
    match words {
        ["Name:", _] => Some(IPSET_LIST),
        ["-N", _, kind, ..] if kind.contains(':') => Some(IPSET_COMMANDS),
        ["-A", _, entry, ..] if parse_entry(entry).is_ok() => Some(IPSET_COMMANDS),
        ["create", _, kind, ..] if kind.contains(':') => Some(IPSET),
        ["add", _, _, ..] => Some(IPSET),
        ["ipset" | "-exist" | "-!", _, ..]
        | ["flush" | "destroy", _]
        | ["del" | "swap", _, _, ..] => Some(IPSET_COMMANDS),
        _ => None,
    }
}

fn other(words: &[&str]) -> Option<Foreign> {
    match words {
        ["-A" | "-P" | "-N" | "-I" | ":INPUT" | ":PREROUTING", _, ..]
        | ["*filter" | "*nat" | "*mangle" | "*raw"] => Some(IPTABLES),
        ["---"] | ["-", _, ..] => Some(YAML),
        [
            "allow" | "deny" | "Allow" | "Deny" | "Require" | "acl" | "ip" | "route",
            _,
            ..,
        ] => Some(SERVER),
        [first, ..] if first.ends_with(':') && first.starts_with(char::is_alphabetic) => Some(YAML),
        _ => None,
    }
}

fn table(line: &str) -> Option<Foreign> {
    // `203.0.113.7 // office`, and not `203.0.113.7,https://example.org`.
    let is_comment = |at| {
        line.get(..at)
            .is_some_and(|before: &str| !before.ends_with(':'))
    };
    if line.match_indices("//").any(|(at, _)| is_comment(at)) {
        return None;
    }
    let is_table = |between: char| {
        let mut fields = line
            .split(between)
            .map(|field| field.trim().trim_matches('"'));
        line.contains(between) && !fields.all(is_entry_or_nothing)
    };
    // `203.0.113.7 ; office` is a comment of another program, and so is what nothing follows.
    let is_close = |side: Option<char>| side.is_some_and(|c| !c.is_whitespace());
    let close = line.split_once(';').is_some_and(|(before, after)| {
        is_close(before.chars().next_back()) && is_close(after.chars().next())
    });
    if let Some(table) = table_of_ranges(line) {
        Some(table)
    } else if is_table('\t') {
        Some(TABS)
    } else if close && is_table(';') {
        Some(SEMICOLONS)
    } else if is_table(',') {
        Some(if line.contains('"') { QUOTED } else { CSV })
    } else {
        None
    }
}

/// Recognises a table whose second column belongs to the address in the first one.
fn table_of_ranges(line: &str) -> Option<Foreign> {
    let mut fields = line
        .split([',', ';', '\t'])
        .map(|field| field.trim().trim_matches('"'));
    let first: IpAddr = fields.next()?.parse().ok()?;
    let second: IpAddr = fields.next()?.parse().ok()?;
    let is_mask = |mask: Ipv4Addr| first.is_ipv4() && prefix_length(mask).is_some();
    // Two fields alone have errors of their own.
    fields.next()?;
    match second {
        IpAddr::V4(mask) if is_mask(mask) => Some(MASKS),
        _ if first.is_ipv4() == second.is_ipv4() => Some(RANGES),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_others_are_known_by_their_first_line() {
        let cases = [
            ("{", Some(JSON)),
            ("[\"203.0.113.7\"]", Some(JSON)),
            ("[", Some(JSON)),
            ("[]", Some(EMPTY)),
            ("null", Some(EMPTY)),
            ("[203.0.113.7]", Some(BARE)),
            ("[203.0.113.7, 203.0.113.8]", Some(BARE)),
            ("\"203.0.113.7\",", Some(BARE)),
            (
                "{\"prefixes\":[{\"ip_prefix\":\"203.0.113.0/24\"}]}",
                Some(JSON),
            ),
            ("[{\"ip\":\"203.0.113.7\"}]", Some(JSON)),
            ("\"1.0.0.0/24\",\"AU\"", Some(QUOTED)),
            ("\"network\",\"country\"", Some(QUOTED)),
            ("ip;country", Some(SEMICOLONS)),
            ("1.0.0.0/24;AU", Some(SEMICOLONS)),
            ("1.0.0.0/24\tAU", Some(TABS)),
            ("203.0.113.7,https://example.org", Some(CSV)),
            ("{ 203.0.113.7, 203.0.113.8 }", Some(NFT)),
            ("203.0.113.7 comment \"x\",", Some(NFT)),
            ("elements={", Some(NFT)),
            ("destroy table inet filter", Some(NFT)),
            ("delete table inet filter", Some(NFT)),
            ("flush ruleset", Some(NFT)),
            ("type ipv4_addr; flags interval;", Some(NFT)),
            (
                "nft add element inet filter blocked { 203.0.113.7 }",
                Some(NFT),
            ),
            ("Name: blocked", Some(IPSET_LIST)),
            ("flush blocked", Some(IPSET_COMMANDS)),
            ("ipset add blocked 203.0.113.7", Some(IPSET_COMMANDS)),
            ("-exist create blocked hash:net", Some(IPSET_COMMANDS)),
            ("-N blocked hash:net", Some(IPSET_COMMANDS)),
            ("-N DOCKER-USER", Some(IPTABLES)),
            ("ip,country", Some(CSV)),
            ("1.0.0.0,1.0.0.255,AU", Some(RANGES)),
            ("\"1.0.0.0\",\"1.0.0.255\",\"AU\"", Some(RANGES)),
            ("1.0.0.0\t1.0.0.255\t24", Some(RANGES)),
            ("1.0.0.0,255.255.255.0,AU", Some(MASKS)),
            ("203.0.113.7,DE,2024", Some(CSV)),
            ("\u{feff}x\ty", Some(TABS)),
            ("create blocked hash:net family inet", Some(IPSET)),
            ("add blocked 203.0.113.7", Some(IPSET)),
            ("add element inet filter blocked { 203.0.113.7 }", Some(NFT)),
            ("table inet filter {", Some(NFT)),
            ("elements = { 203.0.113.7,", Some(NFT)),
            ("define blocked = {", Some(NFT)),
            ("*filter", Some(IPTABLES)),
            ("-A INPUT -s 203.0.113.7 -j DROP", Some(IPTABLES)),
            ("<!DOCTYPE html>", Some(MARKUP)),
            ("- 203.0.113.7", Some(YAML)),
            ("sources:", Some(YAML)),
            ("deny 203.0.113.7;", Some(SERVER)),
            // These have errors of their own.
            ("203.0.113.7, 203.0.113.8", None),
            ("[2001:db8::1]", None),
            ("example.org", None),
            ("1.10.16.0/20 ; SBL256894", None),
            ("203.0.113.7 - 203.0.113.9", None),
            ("::1 x", None),
            ("203.0.113.7;203.0.113.8", None),
            ("203.0.113.7;", None),
            ("//", None),
            ("203.0.113.7//office", None),
            ("203.0.113.7\t// office, door", None),
            ("[2001:db8::1]:80", None),
        ];
        for (line, format) in cases {
            assert_eq!(recognise(line), format, "{line}");
        }
    }
}
