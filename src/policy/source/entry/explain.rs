//! What people write instead of an entry, and what they meant.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::net::Entry;
use crate::policy::Mistake;
use crate::policy::source::reserved::{Place, Reserved, reserved};
use crate::text::diagnostic::quoted;
use crate::text::is_url;

use super::fast::parse_fast;

/// The forms of an entry, for `help:` lines.
pub(super) const FORMS: &str = "write an address (203.0.113.7), a network (203.0.113.0/24) or a range \
                     (203.0.113.10-203.0.113.20); IPv6 likewise";

/// Returns the error about a text that is not an address.
pub(super) fn not_an_address(text: &str, slug: &'static str, label: &'static str) -> Mistake {
    let message = format!("{} is not an address", quoted(text));
    Mistake::new(slug, message, label)
}

/// Returns the error about an IPv4-mapped IPv6 address.
pub(super) fn mapped(text: &str, v4: &str) -> Mistake {
    let message = format!("{} is an IPv4 address written as IPv6", quoted(text));
    let label = "no packet carries such an address";
    Mistake::new("mapped-address", message, label).help(format!("write `{v4}`"))
}

/// Returns the most precise error about a text that is not an address.
pub(super) fn explain(text: &str) -> Mistake {
    let error = |slug, label| not_an_address(text, slug, label);
    if text.is_empty() {
        let message = "an address is missing".to_owned();
        return Mistake::new("address", message, "nothing here").help(FORMS);
    }
    if let Some(mistake) = explain_range(text, error) {
        return mistake;
    }
    if is_url(text) {
        return error("url", "a list to fetch is a source of its own")
            .help("write `NAME: {url: \"https://…\"}` below `sources:`, and `NAME` here");
    }
    if text.contains("//") || text.starts_with("/*") {
        return error("address", "a comment?").help("comments begin with `#`");
    }
    if let Some(meaning) = reserved(text, Place::Allow) {
        return error("reserved-word", "a reserved word").help(match meaning {
            Reserved::Any | Reserved::Everybody => {
                "everybody is `any` at a port, and `0.0.0.0/0` and `::/0` in a list"
            }
            Reserved::Nobody | Reserved::Listed => {
                "nobody is `[]` at a port, and in a list what is not in it"
            }
            Reserved::Containers => "`containers` stands at a port; a list holds addresses",
            Reserved::ThisHost => "processes of this host always reach the port; leave it out",
        });
    }
    if text.contains(';') {
        return error("address", "an address and something else")
            .help("comments begin with `#`, not with `;`");
    }
    if text.contains(',') || text.contains(char::is_whitespace) {
        return explain_two(text, error)
            .unwrap_or_else(|| error("address", "more than one address?").help(SEVERAL));
    }
    if let Some((address, zone)) = text.split_once('%')
        && let Ok(address) = address.parse::<Ipv6Addr>()
    {
        return error("zone", "a zone id means nothing to a rule").help(format!(
            "write `{address}`; to allow it on {} only, add `interface:` to the port",
            quoted(zone)
        ));
    }
    if let Ok(socket) = text.parse::<std::net::SocketAddr>() {
        return error("address-port", "a port has no place here").help(format!(
            "write `{}`; ports are the keys of `ports:`",
            socket.ip()
        ));
    }
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    if let Ok(v6) = bare.parse::<Ipv6Addr>() {
        return error("address", "brackets belong to ports only").help(format!("write `{v6}`"));
    }
    if text.contains('*') {
        return error("address", "`*` means nothing here")
            .help("write the network: `203.0.113.0/24` instead of `203.0.113.*`");
    }
    let parts: Vec<&str> = text.split('.').collect();
    if parts
        .iter()
        .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
    {
        return explain_v4(&parts, error);
    }
    if !text.contains(':') && text.contains(char::is_alphabetic) {
        return error("host-name", "not an address")
            .help("dfw never looks names up: what a name means may change, or be changed by others")
            .help(FORMS);
    }
    error("address", "not an address").help(FORMS)
}

/// Returns the error about a range that is written as `A - B`, `A–B`, `A..B` or `A to B`; `A,B` is not one.
pub(super) fn explain_range(
    text: &str,
    error: impl Fn(&'static str, &'static str) -> Mistake,
) -> Option<Mistake> {
    const BETWEEN: [&str; 6] = ["-", "\u{2013}", "\u{2014}", "\u{2212}", "..", " to "];
    let ends = BETWEEN
        .iter()
        .filter_map(|between| text.split_once(between));
    let (first, last) = ends
        .map(|(first, last)| (first.trim(), last.trim()))
        .find_map(|(first, last)| {
            let start = parse_end(first)?;
            // `10.0.0.1 - 20`
            let number = last.parse::<u8>().ok().map(u32::from);
            let end = match (start, number) {
                (Entry::V4(start, _), Some(number)) => {
                    let last = start & !0xff | number;
                    Entry::V4(last, last)
                }
                _ => parse_end(last)?,
            };
            Some((start, end))
        })?;
    let error = error("range", "not how a range is written");
    let (first, last): (IpAddr, IpAddr) = match (first, last) {
        (Entry::V4(a, b), Entry::V4(c, d)) => (
            Ipv4Addr::from(a.min(c)).into(),
            Ipv4Addr::from(b.max(d)).into(),
        ),
        (Entry::V6(a, b), Entry::V6(c, d)) => (
            Ipv6Addr::from(a.min(c)).into(),
            Ipv6Addr::from(b.max(d)).into(),
        ),
        _ => return Some(error.help("write two ranges, one of IPv4 and one of IPv6")),
    };
    Some(error.help(format!("a range is written `{first}-{last}`")))
}

/// How several addresses are written, for `help:` lines.
const SEVERAL: &str =
    "in YAML write a list, `[203.0.113.7, 203.0.113.8]`; in a list file, one a line";

/// Returns the error about two addresses, which are a network with its mask, a range, or two addresses.
fn explain_two(
    text: &str,
    error: impl Fn(&'static str, &'static str) -> Mistake,
) -> Option<Mistake> {
    let mut words = text
        .split(|c: char| c == ',' || c.is_whitespace())
        .filter(|word| !word.is_empty());
    let (first, last, None) = (words.next()?, words.next()?, words.next()) else {
        return None;
    };
    let (first, last) = (first.parse::<IpAddr>().ok()?, last.parse::<IpAddr>().ok()?);
    if let IpAddr::V4(mask) = last
        && first.is_ipv4()
        && let Some(length) = prefix_length(mask)
    {
        let error = error("prefix", "a netmask instead of a prefix length");
        return Some(error.help(format!("a network is written `{first}/{length}`")));
    }
    let error = error("address", "more than one address?");
    if first.is_ipv4() != last.is_ipv4() {
        return Some(error.help(SEVERAL));
    }
    let (first, last) = (first.min(last), first.max(last));
    let range = format!("if it is a range, write `{first}-{last}`");
    Some(error.help(SEVERAL).help(range))
}

/// Returns the prefix length of a netmask; `None` of what is none, and of `0.0.0.0`.
pub(in crate::policy) fn prefix_length(mask: Ipv4Addr) -> Option<u32> {
    let mask = u32::from(mask);
    let length = mask.leading_ones();
    (length > 0 && mask.count_ones() == length).then_some(length)
}

/// Parses an address or network at one end of a misspelled range.
fn parse_end(text: &str) -> Option<Entry> {
    // No further range: it would have us come here again.
    let is_one = !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_hexdigit() || b".:/".contains(&b));
    is_one.then(|| parse_fast(text.as_bytes())).flatten()
}

/// Returns the error about dotted numbers.
fn explain_v4(parts: &[&str], error: impl Fn(&'static str, &'static str) -> Mistake) -> Mistake {
    if parts.len() != 4 {
        return error("address", "an IPv4 address has four numbers").help(FORMS);
    }
    if parts
        .iter()
        .any(|part| part.len() > 1 && part.starts_with('0'))
    {
        let numbers = parts.iter().map(|part| match part.trim_start_matches('0') {
            "" => "0",
            number => number,
        });
        let plain = numbers.collect::<Vec<_>>().join(".");
        let error = error("leading-zero", "a leading zero")
            .help("some programs read such a number as octal, so dfw does not read it at all");
        return match plain.parse::<Ipv4Addr>() {
            Ok(plain) => error.help(format!("write `{plain}`")),
            Err(_) => error,
        };
    }
    error("address", "a number above 255").help("each number of an IPv4 address is 0 to 255")
}
