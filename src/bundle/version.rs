//! Versions of dfw.

use std::fmt;
use std::str::FromStr;

use super::text::as_text;

/// A version of dfw, such as `0.1.0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version([u32; 3]);

impl Version {
    /// Returns the version of this program.
    #[must_use]
    pub fn own() -> Self {
        // A version that is not released yet (`0.2.0-rc.1`) understands what the release does.
        let text = env!("CARGO_PKG_VERSION");
        let release = text.split(['-', '+']).next().unwrap_or(text);
        release.parse().unwrap_or(Self([0; 3]))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self([major, minor, patch]) = self;
        write!(f, "{major}.{minor}.{patch}")
    }
}

impl FromStr for Version {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "not a version such as 0.1.0";
        let mut numbers = [0; 3];
        let mut parts = text.split('.');
        for number in &mut numbers {
            let part = parts.next().ok_or(wrong)?;
            *number = part.parse().map_err(|_| wrong)?;
        }
        // One spelling: `01` and `+1` are numbers, too.
        let version = Self(numbers);
        if parts.next().is_none() && version.to_string() == text {
            Ok(version)
        } else {
            Err(wrong)
        }
    }
}

as_text!(Version);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let version = |text: &str| text.parse::<Version>().unwrap();
        assert!(version("0.10.0") > version("0.9.9"));
        assert!(version("1.0.0") > version("0.99.0"));
        assert!(Version::own() > version("0.0.0"));
        for wrong in [
            "", "1", "1.0", "1.0.0.0", "01.0.0", "+1.0.0", "1.0.0-rc", "1..0", "v1.0.0",
        ] {
            assert!(wrong.parse::<Version>().is_err(), "{wrong}");
        }
    }
}
