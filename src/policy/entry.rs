//! One entry of a list: an address, a network or a range, and what people write instead.

use crate::net::Entry;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Mistake;
use super::reserved::{Place, Reserved, reserved};
use crate::text::diagnostic::quoted;
use crate::text::is_url;

/// What an entry may look like, for `help:` lines.
const FORMS: &str = "write an address (203.0.113.7), a network (203.0.113.0/24) or a range \
                     (203.0.113.10-203.0.113.20); IPv6 likewise";

impl std::str::FromStr for Entry {
    type Err = Mistake;

    fn from_str(text: &str) -> Result<Self, Mistake> {
        parse_entry(text)
    }
}

/// Reads `text` as an address, a network in CIDR notation, or a range `A-B`.
///
/// IPv4-mapped IPv6 addresses and zone ids are refused: the first never appear in a packet, the
/// second mean nothing to a rule.
pub fn parse_entry(text: &str) -> Result<Entry, Mistake> {
    if let Some(entry) = parse_fast(text.as_bytes()) {
        return Ok(entry);
    }
    if text.contains("//") || text.contains(|c: char| c.is_whitespace() || matches!(c, ',' | ';')) {
        return Err(explain(text));
    }
    if let Some((address, bits)) = text.split_once('/') {
        return parse_network(text, address, bits);
    }
    if let Some((first, last)) = text.split_once('-')
        && looks_like_address(first)
    {
        return parse_range(text, first, last);
    }
    match parse_address(text)? {
        IpAddr::V4(v4) => Ok(Entry::V4(v4.into(), v4.into())),
        IpAddr::V6(v6) => Ok(Entry::V6(v6.into(), v6.into())),
    }
}

/// The commonest cases, by hand: lists have a million lines. `None` is not an error yet.
pub(super) fn parse_fast(text: &[u8]) -> Option<Entry> {
    // The first group of an IPv6 address has four digits at most.
    if text.iter().take(5).any(|byte| *byte == b':') {
        parse_v6_fast(text).map(|(first, last)| Entry::V6(first, last))
    } else {
        parse_v4_fast(text).map(|(first, last)| Entry::V4(first, last))
    }
}

/// An IPv4 address, or a network.
fn parse_v4_fast(text: &[u8]) -> Option<(u32, u32)> {
    fn number(text: &[u8], at: &mut usize, most: u32) -> Option<u32> {
        let start = *at;
        let mut value = 0;
        while let Some(digit @ b'0'..=b'9') = text.get(*at) {
            value = value * 10 + u32::from(digit - b'0');
            if value > most {
                return None;
            }
            *at += 1;
        }
        let leading_zero = text.get(start) == Some(&b'0') && *at > start + 1;
        (*at > start && !leading_zero).then_some(value)
    }
    let mut at = 0;
    let mut address = number(text, &mut at, 255)?;
    for _ in 0..3 {
        if text.get(at) != Some(&b'.') {
            return None;
        }
        at += 1;
        address = address << 8 | number(text, &mut at, 255)?;
    }
    match text.get(at) {
        None => Some((address, address)),
        Some(b'/') => {
            at += 1;
            let bits = number(text, &mut at, 32)?;
            let host = u32::MAX.checked_shr(bits).unwrap_or(0);
            (at == text.len() && address & host == 0).then_some((address, address | host))
        }
        Some(_) => None,
    }
}

/// An IPv6 address without an IPv4 address in it, or a network.
fn parse_v6_fast(text: &[u8]) -> Option<(u128, u128)> {
    const GROUPS: usize = 8;
    // Before the gap and behind it, and how many groups there are before it.
    let (mut head, mut tail, mut gap) = (0, 0, None);
    let (mut rest, mut groups) = (text, 0);
    if let [b':', b':', after @ ..] = rest {
        (gap, rest) = (Some(0), after);
    }
    let bits = loop {
        let ends_with_gap = gap == Some(groups) && matches!(rest, [] | [b'/', ..]);
        if !ends_with_gap {
            let (value, digits) = parse_group(rest)?;
            let part: &mut u128 = if gap.is_some() { &mut tail } else { &mut head };
            *part = *part << 16 | value;
            (rest, groups) = (&rest[digits..], groups + 1);
        }
        match rest {
            [] => break None,
            [b'/', bits @ ..] => break Some(bits),
            _ if groups >= GROUPS => return None,
            [b':', b':', after @ ..] if gap.is_none() => (gap, rest) = (Some(groups), after),
            [b':', after @ ..] => rest = after,
            _ => return None,
        }
    };
    let value = match gap {
        None if groups == GROUPS => head,
        // What is left out is at least one group.
        Some(before) if groups < GROUPS && before > 0 => head << (16 * (GROUPS - before)) | tail,
        Some(_) if groups < GROUPS => tail,
        _ => return None,
    };
    // Mapped addresses have errors of their own.
    if value >> 32 == 0xffff {
        return None;
    }
    let Some(bits) = bits else {
        return Some((value, value));
    };
    let length = match bits {
        [b'0'..=b'9'] | [b'1'..=b'9', b'0'..=b'9'] | [b'1', b'0'..=b'2', b'0'..=b'9'] => bits
            .iter()
            .fold(0, |n, digit| n * 10 + u32::from(digit - b'0')),
        _ => return None,
    };
    let host = u128::MAX.checked_shr(length).unwrap_or(0);
    (length <= 128 && value & host == 0).then_some((value, value | host))
}

/// The value of the group of 1 to 4 hexadecimal digits that `text` begins with, and how many they
/// are; the first four of more.
fn parse_group(text: &[u8]) -> Option<(u128, usize)> {
    const LONGEST: usize = 4;
    /// What a byte is worth as a digit; negative if it is none.
    const DIGITS: [i32; 256] = {
        let mut values = [-1; 256];
        let (digits, mut at, mut value) = (*b"0123456789abcdef", 0, 0);
        while at < digits.len() {
            values[digits[at] as usize] = value;
            values[digits[at].to_ascii_uppercase() as usize] = value;
            (at, value) = (at + 1, value + 1);
        }
        values
    };
    let value = |digits: &[u8]| {
        let digits = digits.iter().map(|byte| DIGITS[usize::from(*byte)]);
        u128::try_from(digits.fold(0, |value, digit| value << 4 | digit)).ok()
    };
    // Nearly all are whole.
    if let Some(value) = text.get(..LONGEST).and_then(value) {
        return Some((value, LONGEST));
    }
    let is_digit = |byte: &&u8| DIGITS[usize::from(**byte)] >= 0;
    let digits = text.iter().take(LONGEST).take_while(is_digit).count();
    (digits > 0).then_some((value(&text[..digits])?, digits))
}

/// Reads one address, and says what is wrong with anything else.
pub(super) fn parse_address(text: &str) -> Result<IpAddr, Mistake> {
    match text.parse() {
        Ok(IpAddr::V6(v6)) => match v6.to_ipv4_mapped() {
            Some(v4) => Err(mapped(text, &v4.to_string())),
            None => Ok(IpAddr::V6(v6)),
        },
        Ok(v4) => Ok(v4),
        Err(_) => Err(explain(text)),
    }
}

fn mapped(text: &str, v4: &str) -> Mistake {
    let message = format!("{} is an IPv4 address written as IPv6", quoted(text));
    let label = "no packet carries such an address";
    Mistake::new("mapped-address", message, label).help(format!("write `{v4}`"))
}

fn parse_network(text: &str, address: &str, bits: &str) -> Result<Entry, Mistake> {
    let error = |label| {
        let message = format!("{} is not a network", quoted(text));
        Mistake::new("prefix", message, label)
    };
    // `10.0.0.0/24-10.0.1.0/24`
    if bits.contains('-') && bits.contains('/') {
        let label = "a range goes from address to address";
        let meant = explain_range(text, |_, _| {
            Mistake::new("prefix", format!("{} is not a range", quoted(text)), label)
        });
        return Err(meant.unwrap_or_else(|| error(label).help(FORMS)));
    }
    let address = match address.parse() {
        // The prefix decides whether a mapped address is meant: `::/0` holds them all.
        Ok(IpAddr::V6(v6)) => IpAddr::V6(v6),
        _ => parse_address(address)?,
    };
    let longest = if address.is_ipv4() { 32 } else { 128 };
    if let (IpAddr::V4(_), Ok(mask)) = (address, bits.parse::<Ipv4Addr>()) {
        let length = u32::from(mask).leading_ones();
        let error = error("a netmask instead of a prefix length");
        return Err(if u32::from(mask).count_ones() == length {
            error.help(format!("write `{address}/{length}`"))
        } else {
            error.help(FORMS)
        });
    }
    let length: u32 = match bits.parse() {
        Ok(length) if bits.bytes().all(|b| b.is_ascii_digit()) => length,
        _ => {
            let help = format!("the prefix length is a number from 0 to {longest}");
            return Err(error("no prefix length").help(help));
        }
    };
    if bits.len() > 1 && bits.starts_with('0') {
        return Err(error("a leading zero").help(format!("write `{address}/{length}`")));
    }
    if length > longest {
        let family = if longest == 32 { "IPv4" } else { "IPv6" };
        let help = format!("the prefix of an {family} network is 0 to {longest} bits long");
        return Err(error("the prefix is too long").help(help));
    }
    let (first, last, entry) = match address {
        IpAddr::V4(v4) => {
            let host = u32::MAX.checked_shr(length).unwrap_or(0);
            let (first, last) = (u32::from(v4) & !host, u32::from(v4) | host);
            (
                Ipv4Addr::from(first).into(),
                Ipv4Addr::from(last).into(),
                Entry::V4(first, last),
            )
        }
        IpAddr::V6(v6) => {
            if let (Some(v4), 96..) = (v6.to_ipv4_mapped(), length) {
                return Err(mapped(text, &format!("{v4}/{}", length - 96)));
            }
            let host = u128::MAX.checked_shr(length).unwrap_or(0);
            let (first, last) = (u128::from(v6) & !host, u128::from(v6) | host);
            (
                Ipv6Addr::from(first).into(),
                Ipv6Addr::from(last).into(),
                Entry::V6(first, last),
            )
        }
    };
    let (first, last): (IpAddr, IpAddr) = (first, last);
    if first != address {
        let message = format!("`{address}/{length}` is an address inside a network, not a network");
        return Err(Mistake::new("host-bits", message, "host bits are set")
            .help(format!(
                "for the whole network, {first} to {last}, write `{first}/{length}`"
            ))
            .help(format!("for the one address, write `{address}`")));
    }
    Ok(entry)
}

fn parse_range(text: &str, first: &str, last: &str) -> Result<Entry, Mistake> {
    let bad = |slug, label| Mistake::new(slug, format!("{} is not a range", quoted(text)), label);
    if last.is_empty() {
        return Err(bad("range", "no last address").help(FORMS));
    }
    // `10.0.0.1-20`, as nmap has it.
    if last.bytes().all(|b| b.is_ascii_digit())
        && let Some((network, _)) = first.rsplit_once('.')
    {
        let help = format!("write both addresses in full: `{first}-{network}.{last}`");
        return Err(bad("range", "the last address is not complete").help(help));
    }
    let (first, last) = (parse_address(first)?, parse_address(last)?);
    if last < first && first.is_ipv4() == last.is_ipv4() {
        return Err(
            bad("reversed-range", "the wrong way round").help(format!("write `{last}-{first}`"))
        );
    }
    match (first, last) {
        (IpAddr::V4(a), IpAddr::V4(b)) => Ok(Entry::V4(a.into(), b.into())),
        (IpAddr::V6(a), IpAddr::V6(b)) => Ok(Entry::V6(a.into(), b.into())),
        _ => {
            let label = "from one address family to the other";
            Err(bad("range", label).help("write two ranges, one of IPv4 and one of IPv6"))
        }
    }
}

/// Whether somebody who wrote `text` meant an address, right or wrong.
fn looks_like_address(text: &str) -> bool {
    text.contains(':') || text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

/// Says what is wrong with a text that is not an address.
fn explain(text: &str) -> Mistake {
    let error = |slug, label| {
        let message = format!("{} is not an address", quoted(text));
        Mistake::new(slug, message, label)
    };
    if text.is_empty() {
        let message = "an address is missing".to_owned();
        return Mistake::new("address", message, "nothing here").help(FORMS);
    }
    if let Some(mistake) = explain_range(text, error) {
        return mistake;
    }
    if is_url(text) {
        return error("url", "dfw fetches nothing").help(
            "fetch it by a timer of your own into a file, and write `{file: PATH}` for that",
        );
    }
    if text.contains("//") || text.starts_with("/*") {
        return error("address", "a comment?").help("comments begin with `#`");
    }
    if let Some(mistake) = explain_spaces(text, error) {
        return mistake;
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
        });
    }
    if text.contains(';') {
        return error("address", "an address and something else")
            .help("comments begin with `#`, not with `;`");
    }
    if text.contains(',') || text.contains(char::is_whitespace) {
        return error("address", "more than one address?").help(
            "in YAML write a list, `[203.0.113.7, 203.0.113.8]`; in a list file, one a line",
        );
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

/// What is wrong with a range in another spelling: `A - B`, `A–B`, `A..B`, `A to B`; `A,B` is none.
fn explain_range(
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

/// The address or network at one end of a range in another spelling.
fn parse_end(text: &str) -> Option<Entry> {
    // No further range: it would have us come here again.
    let is_one = !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_hexdigit() || b".:/".contains(&b));
    is_one.then(|| parse_fast(text.as_bytes())).flatten()
}

/// What is wrong with `10.0.0.0 / 8`.
fn explain_spaces(
    text: &str,
    error: impl Fn(&'static str, &'static str) -> Mistake,
) -> Option<Mistake> {
    let (address, bits) = text.split_once('/')?;
    let (address, bits) = (address.trim(), bits.trim());
    address.parse::<IpAddr>().ok()?;
    let is_bits = |b: u8| b.is_ascii_digit() || b == b'.';
    if bits.is_empty() || !bits.bytes().all(is_bits) {
        return None;
    }
    let error = error("prefix", "white space in a network");
    let meant = format!("{address}/{bits}");
    Some(match parse_entry(&meant) {
        Ok(_) => error.help(format!("a network is written `{meant}`")),
        Err(mistake) => mistake.help.into_iter().fold(error, Mistake::help),
    })
}

/// Says what is wrong with numbers between dots.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn slug(text: &str) -> &'static str {
        parse_entry(text).unwrap_err().slug
    }

    fn help(text: &str) -> String {
        parse_entry(text).unwrap_err().help.join("\n")
    }

    #[test]
    fn the_three_forms_are_read() {
        assert_eq!(
            parse_entry("10.0.0.1"),
            Ok(Entry::V4(0x0a00_0001, 0x0a00_0001))
        );
        assert_eq!(
            parse_entry("10.0.0.0/8"),
            Ok(Entry::V4(0x0a00_0000, 0x0aff_ffff))
        );
        assert_eq!(parse_entry("0.0.0.0/0"), Ok(Entry::V4(0, u32::MAX)));
        assert_eq!(
            parse_entry("10.0.0.1-10.0.0.3"),
            Ok(Entry::V4(0x0a00_0001, 0x0a00_0003))
        );
        assert_eq!(parse_entry("::1"), Ok(Entry::V6(1, 1)));
        assert_eq!(parse_entry("::/0"), Ok(Entry::V6(0, u128::MAX)));
        assert_eq!(parse_entry("::1-::5"), Ok(Entry::V6(1, 5)));
        assert_eq!(parse_entry("fe80::/10").unwrap().to_string(), "fe80::/10");
    }

    #[test]
    fn each_mistake_has_its_own_name() {
        let mistakes = [
            ("203.0.113.5/24", "host-bits"),
            ("2001:db8::5/64", "host-bits"),
            ("10.0.0.0/33", "prefix"),
            ("2001:db8::/129", "prefix"),
            ("10.0.0.0/", "prefix"),
            ("10.0.0.0/+8", "prefix"),
            ("10.0.0.0/08", "prefix"),
            ("10.0.0.0/255.0.0.0", "prefix"),
            ("10.0.0.0/24-10.0.1.0/24", "prefix"),
            ("10.0.0.9-10.0.0.1", "reversed-range"),
            ("10.0.0.1-20", "range"),
            ("10.0.0.1-", "range"),
            ("10.0.0.1-::1", "range"),
            ("::ffff:10.0.0.1", "mapped-address"),
            ("::ffff:10.0.0.0/104", "mapped-address"),
            ("::ffff:10.0.0.1-::ffff:10.0.0.2", "mapped-address"),
            ("fe80::1%eth0", "zone"),
            ("10.0.0.1:80", "address-port"),
            ("[2001:db8::1]:80", "address-port"),
            ("[2001:db8::1]", "address"),
            ("example.org", "host-name"),
            ("https://example.org", "url"),
            ("10.0.0.1 - 10.0.0.9", "range"),
            ("10.0.0.1\u{2013}10.0.0.9", "range"),
            ("2001:db8::1..2001:db8::9", "range"),
            ("// office", "address"),
            ("10.0.0.1 // office", "address"),
            ("010.0.0.1", "leading-zero"),
            ("10.0.0", "address"),
            ("10.0.0.256", "address"),
            ("10.0.0.*", "address"),
            ("10.0.0.1 10.0.0.2", "address"),
            ("10.0.0.1,10.0.0.2", "address"),
            ("", "address"),
            ("80", "address"),
            (":", "address"),
        ];
        for (text, expected) in mistakes {
            assert_eq!(slug(text), expected, "{text}");
        }
    }

    #[test]
    fn the_right_form_is_named() {
        assert!(help("203.0.113.5/24").contains("`203.0.113.0/24`"));
        assert!(help("203.0.113.5/24").contains("`203.0.113.5`"));
        assert!(help("2001:db8::5/64").contains("`2001:db8::/64`"));
        assert!(help("10.0.0.9-10.0.0.1").contains("`10.0.0.1-10.0.0.9`"));
        assert!(help("10.0.0.1-20").contains("`10.0.0.1-10.0.0.20`"));
        assert!(help("::ffff:10.0.0.1").contains("`10.0.0.1`"));
        assert!(help("10.0.0.0/255.0.0.0").contains("`10.0.0.0/8`"));
        assert!(help("010.0.0.1").contains("`10.0.0.1`"));
        for range in [
            "10.0.0.1 - 10.0.0.9",
            "10.0.0.1 to 10.0.0.9",
            "10.0.0.1 \u{2014}10.0.0.9",
        ] {
            assert_eq!(help(range), "a range is written `10.0.0.1-10.0.0.9`");
        }
        assert!(help("10.0.0.1 // office").contains("`#`"));
    }

    #[test]
    fn the_fast_path_agrees_with_the_standard_library() {
        for text in [
            "0.0.0.0",
            "255.255.255.255",
            "1.2.3.4",
            "1.2.3.04",
            "1.2.3",
            "1.2.3.4.5",
        ] {
            let fast = parse_v4_fast(text.as_bytes()).map(|(first, _)| first);
            assert_eq!(fast, text.parse::<Ipv4Addr>().ok().map(u32::from), "{text}");
        }
        assert_eq!(parse_v4_fast(b"10.0.0.0/8 "), None);
        assert_eq!(parse_v4_fast(b"10.0.0.1/8"), None);
        assert_eq!(parse_v4_fast(b"1.2.3.99999999999999999999"), None);
    }

    proptest! {
        /// The library's parser is the judge of what the fast one takes.
        #[test]
        fn the_fast_parser_takes_nothing_else(text in "[0-9a-fF:/]{0,24}|([0-9a-f]{1,5}::?){1,9}[0-9a-f]{0,4}(/[0-9]{1,3})?") {
            if let Some((first, last)) = parse_v6_fast(text.as_bytes()) {
                let (address, bits) = text.split_once('/').unwrap_or((&text, "128"));
                let address = u128::from(address.parse::<Ipv6Addr>().unwrap());
                let bits: u32 = bits.parse().unwrap();
                let host = u128::MAX.checked_shr(bits).unwrap_or(0);
                prop_assert_eq!((first, last), (address, address | host));
            }
        }

        #[test]
        fn the_fast_parser_takes_what_is_common(value in any::<u128>(), shift in 0..128_u32, groups in any::<u16>()) {
            // Groups of zeros here and there.
            let zeros = (0..8).filter(|n| groups >> n & 1 == 1);
            let value = zeros.fold(value >> shift, |v, n| v & !(0xffff << (n * 16)));
            prop_assume!(value >> 32 != 0xffff && value >> 32 != 0);
            let text = Ipv6Addr::from(value).to_string();
            prop_assert_eq!(parse_v6_fast(text.as_bytes()), Some((value, value)));
        }
    }
}
