//! What follows an entry in a line of which only the first word is read.

use std::net::{IpAddr, Ipv4Addr};

use crate::net::Entry;
use crate::policy::Mistake;
use crate::text::diagnostic::quoted;

use super::explain::{explain_range, prefix_length};
use super::{parse_address, parse_entry};

/// Words and signs between the two ends of a range.
const BETWEEN: [&str; 6] = ["-", "\u{2013}", "\u{2014}", "\u{2212}", "..", "to "];

/// Returns the error about an entry that does not mean what its line says, such as `203.0.113.0 -
/// 203.0.113.255`: to ignore the rest would leave most of the range out.
///
/// `rest` is what follows `text`, without a comment. A country, a count or a name may follow.
pub(in crate::policy) fn explain_rest(text: &str, entry: Entry, rest: &str) -> Option<Mistake> {
    let rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
    let word = |text: &str| {
        let ends = |c: char| c.is_whitespace() || matches!(c, ',' | ';');
        text.split(ends).next().unwrap_or_default().to_owned()
    };
    let first = word(rest);
    if first.is_empty() {
        return None;
    }
    let line = || quoted(&format!("{text} {rest}"));
    let error = |slug, label| {
        let message = format!("only the first word of {} would be read", line());
        Mistake::new(slug, message, label)
    };
    if let Some(last) = BETWEEN.iter().find_map(|sign| rest.strip_prefix(sign)) {
        let (last, whole) = (word(last.trim_start()), last.trim());
        // `- 20` may end a range, and `- 20 reports` does not.
        let is_number = last.bytes().all(|b| b.is_ascii_digit());
        return (!is_number || last == whole)
            .then(|| explain_range(&format!("{text}-{last}"), error))
            .flatten();
    }
    if let Some(bits) = rest.strip_prefix('/') {
        let meant = format!("{text}/{}", word(bits.trim_start()));
        return starts_with_digit(bits.trim_start()).then(|| {
            let error = error("prefix", "white space in a network");
            match parse_entry(&meant) {
                Ok(_) => error.help(format!("a network is written `{meant}`")),
                Err(mistake) => mistake.help.into_iter().fold(error, Mistake::help),
            }
        });
    }
    if rest.starts_with('!') || ["nomatch", "except", "not"].contains(&first.as_str()) {
        let error = error("address", "an exception?");
        return Some(error.help(
            "a list has no exceptions: write what is excluded in another list, for `except`",
        ));
    }
    // Most rests are countries, counts and names: no parser for them.
    let Some(second) = looks_like_entry(&first)
        .then(|| parse_entry(&first).ok())
        .flatten()
    else {
        return is_nobody(entry).then(|| {
            error("list-format", "the lines of a hosts file begin so")
                .help("write the addresses to allow or to exclude, one a line")
        });
    };
    if let (Ok(IpAddr::V4(address)), Ok(mask)) = (parse_address(text), first.parse::<Ipv4Addr>())
        && let Some(length) = prefix_length(mask)
    {
        let error = error("prefix", "a netmask instead of a prefix length");
        return Some(error.help(format!("a network is written `{address}/{length}`")));
    }
    let error = error("address", "a range, or more than one address?");
    let one_a_line = "of several addresses, each has a line of its own";
    Some(match (parse_address(text), parse_address(&first)) {
        (Ok(first), Ok(last))
            if matches!(
                (entry, second),
                (Entry::V4(..), Entry::V4(..)) | (Entry::V6(..), Entry::V6(..))
            ) =>
        {
            error
                .help(format!(
                    "a range is written `{}-{}`",
                    first.min(last),
                    first.max(last)
                ))
                .help(one_a_line)
        }
        _ => error.help(one_a_line),
    })
}

fn starts_with_digit(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit())
}

fn looks_like_entry(word: &str) -> bool {
    word.contains(['.', ':']) && word.starts_with(|c: char| c.is_ascii_hexdigit() || c == ':')
}

/// Returns whether an entry is an address that hosts files block names with: `0.0.0.0`, `127.0.0.1`, `::`, `::1`.
fn is_nobody(entry: Entry) -> bool {
    match entry {
        Entry::V4(first, last) => first == last && matches!(first, 0 | 0x7f00_0001),
        Entry::V6(first, last) => first == last && first <= 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rest(text: &str, rest: &str) -> Option<(&'static str, String)> {
        let entry = parse_entry(text).unwrap();
        explain_rest(text, entry, rest).map(|mistake| (mistake.slug, mistake.help.join("; ")))
    }

    #[test]
    fn what_changes_the_meaning_is_not_ignored() {
        let range = "a range is written `192.0.2.0-192.0.2.255`";
        let two = format!("{range}; of several addresses, each has a line of its own");
        let network = "a network is written `192.0.2.0/24`";
        for (after, slug, help) in [
            ("- 192.0.2.255 , 000 , spammers", "range", range),
            ("-192.0.2.255", "range", range),
            ("\u{2013} 192.0.2.255", "range", range),
            ("to 192.0.2.255", "range", range),
            ("- 255", "range", range),
            ("192.0.2.255\t24\t5", "address", &two),
            (",192.0.2.255,AU", "address", &two),
            ("/24", "prefix", network),
            ("/ 24", "prefix", network),
            ("255.255.255.0", "prefix", network),
            (
                "nomatch",
                "address",
                "a list has no exceptions: write what is excluded in another list, for `except`",
            ),
            (
                "except 192.0.2.4",
                "address",
                "a list has no exceptions: write what is excluded in another list, for `except`",
            ),
            (
                "!192.0.2.4",
                "address",
                "a list has no exceptions: write what is excluded in another list, for `except`",
            ),
            (
                "192.0.3.0/24",
                "address",
                "of several addresses, each has a line of its own",
            ),
            (
                "2001:db8::1",
                "address",
                "of several addresses, each has a line of its own",
            ),
        ] {
            assert_eq!(
                rest("192.0.2.0", after),
                Some((slug, help.to_owned())),
                "{after}"
            );
        }
        let network = Some(("prefix", "a network is written `2001:db8::/32`".to_owned()));
        assert_eq!(rest("2001:db8::", "/32"), network);
        assert_eq!(rest("0.0.0.0", "ads.example.org").unwrap().0, "list-format");
        assert_eq!(rest("127.0.0.1", "localhost").unwrap().0, "list-format");
    }

    #[test]
    fn what_describes_an_entry_is_ignored() {
        for after in [
            "",
            "DE",
            ",DE,2026",
            "8",
            "SBL1",
            "Tor",
            "- a description",
            "- 5 reports",
            "to be checked",
            "to",
            "AS64500",
            "example.org",
            "a.b",
            "/",
            "face.book",
        ] {
            assert_eq!(rest("192.0.2.0/24", after), None, "{after}");
        }
    }
}
