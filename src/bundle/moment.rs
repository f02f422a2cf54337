//! Moments: seconds of UTC.

use core::time::Duration;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;

use super::text::as_text;

/// A second of UTC. Its text is RFC 3339 with `Z` and without fractions: `2026-11-29T16:00:00Z`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Timestamp);

impl Moment {
    /// Returns the moment that is this time after 1970; `None` after the year 9999.
    #[must_use]
    pub fn since_epoch(time: Duration) -> Option<Self> {
        let seconds = i64::try_from(time.as_secs()).ok()?;
        Timestamp::from_second(seconds).ok().map(Self)
    }

    /// Returns the seconds since 1970; zero before.
    #[must_use]
    pub fn seconds(self) -> u64 {
        u64::try_from(self.0.as_second()).unwrap_or(0)
    }

    /// Returns a later moment; `None` after the year 9999.
    #[must_use]
    pub fn after(self, time: Duration) -> Option<Self> {
        self.0.checked_add(time).ok().map(Self)
    }

    /// Returns how much later this moment is than another one; zero if it is not.
    #[must_use]
    pub fn since(self, other: Self) -> Duration {
        let seconds = self.0.as_second().saturating_sub(other.0.as_second());
        Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Moment {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let moment: Option<Timestamp> = text.parse().ok();
        // One spelling: others name another time zone, or have fractions.
        moment
            .filter(|moment| moment.subsec_nanosecond() == 0 && moment.to_string() == text)
            .map(Self)
            .ok_or("not a time such as 2026-11-29T16:00:00Z")
    }
}

as_text!(Moment);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_has_one_spelling() {
        let text = "2026-11-29T16:00:00Z";
        let moment: Moment = text.parse().unwrap();
        assert_eq!(moment.to_string(), text);
        let later = moment.after(Duration::from_hours(25)).unwrap();
        assert_eq!(later.to_string(), "2026-11-30T17:00:00Z");
        assert_eq!(later.since(moment), Duration::from_hours(25));
        assert_eq!(moment.since(later), Duration::ZERO);
        let since = Duration::from_secs(1_796_000_000);
        assert_eq!(
            Moment::since_epoch(since).unwrap().to_string(),
            "2026-11-30T00:53:20Z"
        );
        for wrong in [
            "2026-11-29",
            "2026-11-29T16:00:00",
            "2026-11-29T16:00:00+00:00",
            "2026-11-29t16:00:00z",
            "2026-11-29 16:00:00Z",
            "2026-11-29T16:00:00.5Z",
            "2026-11-29T16:00:00.0Z",
            "2026-02-30T16:00:00Z",
            "",
        ] {
            assert!(wrong.parse::<Moment>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn moments_end_with_the_year_9999() {
        assert!(Moment::since_epoch(Duration::MAX).is_none());
        let last: Moment = "9999-12-30T00:00:00Z".parse().unwrap();
        assert!(last.after(Duration::from_hours(72)).is_none());
    }
}
