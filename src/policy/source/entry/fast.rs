//! The commonest entries, by hand: lists have a million lines.

use crate::net::Entry;

/// Parses the most common forms of an entry; `None` if the text needs the complete parser.
pub(in crate::policy) fn parse_fast(text: &[u8]) -> Option<Entry> {
    // The first group of an IPv6 address has four digits at most.
    if text.iter().take(5).any(|byte| *byte == b':') {
        parse_v6_fast(text).map(|(first, last)| Entry::V6(first, last))
    } else {
        parse_v4_fast(text).map(|(first, last)| Entry::V4(first, last))
    }
}

/// Parses an IPv4 address or network.
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

/// Parses an IPv6 address or network without an embedded IPv4 address.
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

/// Parses up to four hexadecimal digits; returns their value and number.
fn parse_group(text: &[u8]) -> Option<(u128, usize)> {
    const LONGEST: usize = 4;
    /// The value of each byte as a hexadecimal digit; negative if it is none.
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

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

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
