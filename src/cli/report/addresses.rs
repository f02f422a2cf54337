//! Sets of addresses, for people and programs.

use serde_json::{Value, json};

use crate::net::{AddressSet, Counts, Family};
use crate::output::table::{count, grouped};

/// How many ranges are listed before only their number is shown.
const LISTED: usize = 8;

/// Returns the numbers of addresses; those of IPv6 as text, as they are no numbers of most programs.
pub(in crate::cli) fn counts_json(counts: Counts) -> Value {
    let v6 = if counts.are_all(Family::V6) {
        // 2^128, one more than a number here can be.
        "340282366920938463463374607431768211456".to_owned()
    } else {
        counts.v6().to_string()
    };
    json!({"ipv4": counts.v4(), "ipv6": v6})
}

/// Returns the numbers of addresses, and the ranges.
pub(in crate::cli) fn addresses_json(set: &AddressSet) -> Value {
    let mut counts = counts_json(Counts::of(set));
    if let Some(counts) = counts.as_object_mut() {
        let ranges: Vec<String> = set.iter().map(|entry| entry.to_string()).collect();
        counts.insert("ranges".to_owned(), json!(ranges));
    }
    counts
}

/// Returns the ranges of a set of one family, or `all but` the ranges of the rest where the set is more than half of
/// the family: `all but 203.0.113.0/24`. Exact; beyond the first ranges only their number.
#[must_use]
pub(in crate::cli) fn ranges(set: &AddressSet, family: Family) -> String {
    let (but, set) = mostly(set, family);
    if set.is_empty() {
        return but.trim_end_matches(" but ").to_owned();
    }
    let listed: Vec<String> = set.iter().take(LISTED).map(|e| e.to_string()).collect();
    let more = set.len().saturating_sub(LISTED);
    let more = match more {
        0 => String::new(),
        more => format!(" and {}", count(more, "more range", "more ranges")),
    };
    format!("{but}{}{more}", listed.join(", "))
}

/// Returns how many addresses a set of one family has: `256`, `2^96`, `all but 256`.
#[must_use]
pub(in crate::cli) fn size(set: &AddressSet, family: Family) -> String {
    let (but, set) = mostly(set, family);
    let number = match family {
        Family::V4 => u128::from(set.count_v4()),
        Family::V6 => set.count_v6(),
    };
    match number {
        0 => but.trim_end_matches(" but ").to_owned(),
        number if number < 1 << 33 => format!("{but}{}", grouped(number)),
        number if number.is_power_of_two() => format!("{but}2^{}", number.ilog2()),
        number => format!("{but}about 2^{}", number.ilog2()),
    }
}

/// Returns the shorter one of a set and what is missing in it, which `all but ` stands before.
fn mostly(set: &AddressSet, family: Family) -> (&'static str, AddressSet) {
    let is_most = match family {
        Family::V4 => set.count_v4() > 1 << 31,
        Family::V6 => set.count_v6() > 1 << 127,
    };
    if is_most {
        ("all but ", AddressSet::all(family).difference(set))
    } else {
        ("", set.clone())
    }
}
