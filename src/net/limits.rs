//! How many connections one source may make.

use core::fmt;
use core::time::Duration;

/// The length of the prefix of IPv6 addresses that count as one source: a host has all addresses of its /64
/// (RFC 4291, 2.5.4).
pub const SOURCE_V6: u8 = 64;

/// The limits of a port, for each source; an IPv6 source is a network of [`SOURCE_V6`] bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Limits {
    /// The most new connections in a time.
    pub rate: Option<Rate>,
    /// The most connections that are open at once, from 1.
    pub connections: Option<u32>,
}

impl Limits {
    /// Returns whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rate.is_none() && self.connections.is_none()
    }

    /// Returns the limits as the end of a sentence, with a comma before them; empty without limits.
    #[must_use]
    pub fn clause(&self) -> String {
        if self.is_empty() {
            String::new()
        } else {
            format!(", {self}")
        }
    }
}

/// `up to 30/minute and 20 open per source`; empty without limits.
impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.rate, self.connections) {
            (None, None) => Ok(()),
            (Some(rate), None) => write!(f, "up to {rate} per source"),
            (None, Some(open)) => write!(f, "up to {open} open per source"),
            (Some(rate), Some(open)) => write!(f, "up to {rate} and {open} open per source"),
        }
    }
}

/// New connections in a time: as many at once, and again as many spread over each further time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rate {
    /// How many, from 1.
    pub count: u32,
    /// In which time.
    pub per: Per,
}

/// The time of a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Per {
    /// A second.
    Second,
    /// A minute.
    Minute,
    /// An hour.
    Hour,
}

impl Per {
    /// All times, ascending.
    pub const ALL: [Self; 3] = [Self::Second, Self::Minute, Self::Hour];

    /// Returns the name that policies and nft use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
        }
    }

    /// Returns the time in seconds.
    #[must_use]
    pub fn seconds(self) -> u64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3600,
        }
    }
}

impl Rate {
    /// Returns how long a source is remembered after its last new connection. By then it may make as many as one
    /// that was never seen, so that forgetting it changes nothing.
    #[must_use]
    pub fn memory(self) -> Duration {
        const LEAST: u64 = 10;
        Duration::from_secs(self.per.seconds().max(LEAST))
    }
}

/// `30/minute`.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, self.per.name())
    }
}
