//! One entry of a list: an address, a network or a range, and what people write instead.

mod explain;
mod fast;
mod rest;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::net::Entry;
use crate::policy::Mistake;
use crate::text::diagnostic::quoted;

pub(in crate::policy) use explain::prefix_length;
use explain::{FORMS, explain, explain_range, mapped, not_an_address};
pub(in crate::policy) use fast::parse_fast;
pub(in crate::policy) use rest::explain_rest;

impl std::str::FromStr for Entry {
    type Err = Mistake;

    fn from_str(text: &str) -> Result<Self, Mistake> {
        parse_entry(text)
    }
}

/// Parses an address, a network in CIDR notation, or a range `A-B`.
///
/// # Errors
/// If the text is something else, has host bits behind the prefix or a range from a higher to a lower address.
/// IPv4-mapped IPv6 addresses and zone IDs are errors, too: the former never appear in a packet, the latter have
/// no meaning in a rule.
pub fn parse_entry(text: &str) -> Result<Entry, Mistake> {
    if let Some(entry) = parse_fast(text.as_bytes()) {
        return Ok(entry);
    }
    if text.contains("//") || text.contains(|c: char| c.is_whitespace() || matches!(c, ',' | ';')) {
        return Err(explain_spaces(text).unwrap_or_else(|| explain(text)));
    }
    if let Some((address, bits)) = text.split_once('/') {
        let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']'));
        if let Some(bare) = bare.filter(|bare| bare.parse::<Ipv6Addr>().is_ok()) {
            let error = not_an_address(text, "address", "brackets belong to ports only");
            return Err(error.help(format!("write {}", quoted(&format!("{bare}/{bits}")))));
        }
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

/// Parses a single address.
pub(in crate::policy) fn parse_address(text: &str) -> Result<IpAddr, Mistake> {
    match text.parse() {
        Ok(IpAddr::V6(v6)) => match v6.to_ipv4_mapped() {
            Some(v4) => Err(mapped(text, &v4.to_string())),
            None => Ok(IpAddr::V6(v6)),
        },
        Ok(v4) => Ok(v4),
        Err(_) => Err(explain(text)),
    }
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

/// Returns whether a text was probably meant as an address.
fn looks_like_address(text: &str) -> bool {
    text.contains(':') || text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

/// Returns the error about spaces in an entry, such as `10.0.0.0 / 8`.
fn explain_spaces(text: &str) -> Option<Mistake> {
    let (address, bits) = text.split_once('/')?;
    let (address, bits) = (address.trim(), bits.trim());
    address.parse::<IpAddr>().ok()?;
    let is_bits = |b: u8| b.is_ascii_digit() || b == b'.';
    if bits.is_empty() || !bits.bytes().all(is_bits) {
        return None;
    }
    let error = not_an_address(text, "prefix", "white space in a network");
    let meant = format!("{address}/{bits}");
    Some(match parse_entry(&meant) {
        Ok(_) => error.help(format!("a network is written `{meant}`")),
        Err(mistake) => mistake.help.into_iter().fold(error, Mistake::help),
    })
}

const OCTET: &str = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])";

/// Returns the patterns (ECMA 262) of an IPv4 and an IPv6 address. The number of IPv6 groups is checked by the
/// parser only.
pub(in crate::policy) fn address_patterns() -> [String; 2] {
    let v4 = format!("{OCTET}(\\.{OCTET}){{3}}");
    let v6 = format!("[0-9A-Fa-f]*:[0-9A-Fa-f:]*(:{v4})?");
    [v4, v6]
}

/// Returns the pattern (ECMA 262) of an address, network or range.
pub(in crate::policy) fn pattern() -> String {
    let [v4, v6] = address_patterns();
    let v4_bits = "(3[0-2]|[12]?[0-9])";
    let v6_bits = "(12[0-8]|1[01][0-9]|[1-9]?[0-9])";
    format!("{v4}(/{v4_bits}|-{v4})?|{v6}(/{v6_bits}|-{v6})?")
}

#[cfg(test)]
mod tests {
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
}
