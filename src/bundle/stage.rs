//! The stages of a roll-out: which hosts come first.

use std::fmt;
use std::str::FromStr;

use super::digest::Digest;
use super::text::as_text;
use super::word::Word;

/// The hosts that come next in a roll-out: those of a group, or a share of all. What no stage names comes last.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The hosts of a group.
    Group(Word),
    /// This share of all hosts, in percent from 1 to 99. It contains every smaller share.
    Percent(u8),
}

/// Returns the place of a host among 10,000: the same for each generation of a site, and another one for each site.
pub(super) fn place(host: &Word, site: &Word) -> u64 {
    let digest = Digest::of(format!("{site}/{host}").as_bytes()).to_string();
    let number = digest
        .get(..15)
        .and_then(|digits| u64::from_str_radix(digits, 16).ok());
    number.unwrap_or_default() % 10_000
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(group) => group.fmt(f),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl FromStr for Stage {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some(percent) = text.strip_suffix('%') else {
            return text.parse().map(Self::Group);
        };
        let is_plain = !percent.starts_with(['0', '+']);
        let percent = percent
            .parse()
            .ok()
            .filter(|percent| (1..100).contains(percent) && is_plain);
        percent
            .map(Self::Percent)
            .ok_or("not a share: from `1%` to `99%`")
    }
}

as_text!(Stage);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_has_one_spelling() {
        for text in ["canary", "1%", "99%", "5"] {
            assert_eq!(text.parse::<Stage>().unwrap().to_string(), text);
        }
        for wrong in [
            "", "%", "0%", "05%", "+5%", "100%", "5 %", "-1%", "Canary", "300%",
        ] {
            assert!(wrong.parse::<Stage>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn shares_contain_smaller_ones_and_are_about_as_large_as_they_say() {
        let site: Word = "prod".parse().unwrap();
        let hosts: Vec<Word> = (0..10_000)
            .map(|number| format!("web-{number}").parse().unwrap())
            .collect();
        for percent in [1, 5, 25, 99] {
            let hosts = hosts
                .iter()
                .filter(|host| place(host, &site) < percent * 100);
            let found = hosts
                .count()
                .abs_diff(usize::try_from(percent).unwrap() * 100);
            assert!(found < 200, "{percent} %: {found} off");
        }
    }
}
