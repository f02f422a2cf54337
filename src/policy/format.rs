//! What a list is that is none: files of other programs, by their first line.

use super::entry::parse_entry;

/// What it is, and how to make a list of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Format {
    pub(super) what: &'static str,
    pub(super) help: &'static str,
}

const fn format(what: &'static str, help: &'static str) -> Format {
    Format { what, help }
}

const JSON: Format = format(
    "JSON",
    "write one entry a line: `jq -r '.[]' FILE` does it for an array of texts",
);
const CSV: Format = format(
    "a table (CSV)",
    "keep the column with the addresses: `cut -d, -f1 FILE` keeps the first",
);
const IPSET: Format = format(
    "what `ipset save` prints",
    "keep the entries: `awk '$1 == \"add\" {print $3}' FILE`",
);
const NFT: Format = format(
    "a ruleset of nft",
    "write the elements of its sets one a line, without commas",
);
const IPTABLES: Format = format(
    "what `iptables-save` prints",
    "`dfw import FILE` makes a policy of it; a list has one entry a line",
);
const MARKUP: Format = format(
    "a web page or XML",
    "is it the answer of a server that had no list? A list has one entry a line",
);
const YAML: Format = format(
    "YAML",
    "a list has one entry a line, without `- ` before it; or write the entries in the policy itself",
);
const SERVER: Format = format(
    "configuration of another program",
    "keep the addresses alone, one a line",
);

/// What the file is whose first line with anything on it is this, if that is not an entry.
pub(super) fn recognise(line: &str) -> Option<Format> {
    let line = line.trim();
    let mut words = line.split_ascii_whitespace();
    let (first, second) = (words.next()?, words.next());
    let is_json = match line.as_bytes() {
        [b'{' | b'"', ..] | [b'['] => true,
        [b'[', next, ..] => b"\"{[] \t".contains(next),
        _ => false,
    };
    if is_json {
        return Some(JSON);
    }
    if line.starts_with('<') {
        return Some(MARKUP);
    }
    match (first, second) {
        ("create" | "add", Some(_)) if words.next().is_some() && first_is_ipset(line) => {
            return Some(IPSET);
        }
        ("table" | "set" | "define" | "add" | "flush" | "chain" | "include", Some(_)) => {
            return Some(NFT);
        }
        ("elements", Some("=" | "={")) => return Some(NFT),
        ("-A" | "-P" | "-N" | "-I" | ":INPUT" | ":PREROUTING", Some(_))
        | ("*filter" | "*nat" | "*mangle" | "*raw", None) => return Some(IPTABLES),
        ("---", None) | ("-", Some(_)) => return Some(YAML),
        ("allow" | "deny" | "Allow" | "Deny" | "Require" | "acl" | "ip" | "route", Some(_)) => {
            return Some(SERVER);
        }
        _ => {}
    }
    if first.ends_with(':') && first.starts_with(char::is_alphabetic) {
        return Some(YAML);
    }
    let mut fields = line.split([',', '\t']).map(str::trim);
    let is_table = line.contains([',', '\t']);
    let only_entries = fields.all(|field| field.is_empty() || parse_entry(field).is_ok());
    (is_table && !only_entries).then_some(CSV)
}

/// `create NAME TYPE …` and `add NAME ENTRY`, and not nft's `add element …`.
fn first_is_ipset(line: &str) -> bool {
    let mut words = line.split_ascii_whitespace();
    let (verb, name, third) = (words.next(), words.next(), words.next());
    let nft = ["element", "table", "set", "chain", "rule", "map"];
    match verb {
        Some("create") => third.is_some_and(|kind| kind.contains(':')),
        _ => !name.is_some_and(|name| nft.contains(&name)),
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
            ("[]", Some(JSON)),
            ("\"203.0.113.7\",", Some(JSON)),
            ("ip,country", Some(CSV)),
            ("203.0.113.7,DE,2024", Some(CSV)),
            ("\u{feff}x\ty", Some(CSV)),
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
        ];
        for (line, format) in cases {
            assert_eq!(recognise(line), format, "{line}");
        }
    }
}
