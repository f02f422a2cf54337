//! Lengths of time as policies say them: `90s`, `5m`, `12h`, `7d`, `2w`, and such behind each other.

use core::ops::RangeInclusive;
use core::time::Duration;

use serde_json::{Value as Schema, json};

use crate::text::diagnostic::Diagnostic;

use super::yaml::{Member, Reader};

/// The seconds of each unit.
const UNITS: [(char, u64); 5] = [
    ('w', 7 * 24 * 3600),
    ('d', 24 * 3600),
    ('h', 3600),
    ('m', 60),
    ('s', 1),
];

/// Parses a length of time in whole seconds: units from the greatest to the least, each at most once. `None` for any
/// other text.
#[must_use]
pub fn parse(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut seconds = 0_u64;
    let mut units = UNITS.iter();
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number: u64 = rest.get(..digits)?.parse().ok()?;
        let unit = rest[digits..].chars().next()?;
        let (_, factor) = units.find(|(name, _)| *name == unit)?;
        seconds = seconds.checked_add(number.checked_mul(*factor)?)?;
        rest = &rest[digits + 1..];
    }
    (!text.is_empty()).then(|| Duration::from_secs(seconds))
}

/// Returns a length of time as [`parse`] reads it: `8h`, `1d12h`. Weeks are used only for whole weeks; fractions of a
/// second are left out.
#[must_use]
pub fn describe(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds == 0 {
        return "0s".to_owned();
    }
    let mut rest = seconds;
    let mut units = UNITS.to_vec();
    units.retain(|(name, factor)| *name != 'w' || seconds.is_multiple_of(*factor));
    let parts = units.into_iter().filter_map(|(name, factor)| {
        let count = rest / factor;
        rest %= factor;
        (count > 0).then(|| format!("{count}{name}"))
    });
    parts.collect()
}

/// Reads the value of a key that is a time within bounds; `None` for anything else, which is reported.
pub(super) fn read(
    reader: &mut Reader<'_>,
    member: &Member,
    bounds: &RangeInclusive<Duration>,
    example: &str,
) -> Option<Duration> {
    let (node, key) = (&member.value, &member.key);
    let (least, most) = (describe(*bounds.start()), describe(*bounds.end()));
    let Some(time) = node.text().and_then(parse) else {
        let what = format!("a time from `{least}` to `{most}`, such as `{example}`");
        reader.not_a(node, key, &what);
        return None;
    };
    if bounds.contains(&time) {
        return Some(time);
    }
    let label = if time < *bounds.start() {
        "too short"
    } else {
        "too long"
    };
    reader.report.push(
        Diagnostic::error(
            "value",
            format!("`{key}` is not between `{least}` and `{most}`"),
        )
        .at(node.span.clone(), label)
        .help(format!(
            "write a time within these bounds, such as `{example}`"
        )),
    );
    None
}

pub(super) fn schema(description: &str) -> Schema {
    json!({
        "description": description,
        "type": "string",
        "pattern": "^([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$",
        "minLength": 2,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_back() {
        for (text, seconds) in [
            ("90s", 90),
            ("5m", 300),
            ("1h30m", 5400),
            ("12h", 43_200),
            ("7d", 604_800),
            ("2w1d", 1_296_000),
        ] {
            assert_eq!(parse(text), Some(Duration::from_secs(seconds)), "{text}");
            assert_eq!(parse(&describe(Duration::from_secs(seconds))), parse(text));
        }
        for wrong in [
            "",
            "5",
            "m",
            "1m1h",
            "1h1h",
            "-5m",
            "1.5h",
            "5 m",
            "99999999999999999999s",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn times_are_printed_in_the_greatest_units() {
        for (text, printed) in [
            ("0s", "0s"),
            ("90s", "1m30s"),
            ("480m", "8h"),
            ("36h", "1d12h"),
            ("7d", "1w"),
            ("30d", "30d"),
            ("52w", "52w"),
        ] {
            assert_eq!(describe(parse(text).unwrap()), printed);
        }
    }
}
