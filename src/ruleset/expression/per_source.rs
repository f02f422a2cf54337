//! Limits per source: the source of a connection's original direction is added to a set, with a limit of its own.
//!
//! Linux 4.18 knows the expressions within elements; what dfw needs of them otherwise, Linux 5.10 has. Where the set
//! is full, a source that is not in it has no limit, and none of these expressions matches.

use std::fmt::{self, Display, Formatter};

use crate::net::{Family, Rate, SOURCE_V6};

use super::super::Ruleset;

/// The burst that nft does not print (`NFT_LIMIT_PKT_BURST_DEFAULT` of the kernel).
const DEFAULT_BURST: u32 = 5;

/// A match on the limit of a connection's source; IPv6 sources are networks of [`SOURCE_V6`] bits. Linux 5.10
/// suffices for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PerSource {
    /// `update @SET { ct original ip saddr timeout 1m limit rate over 30/minute burst 30 packets }`: a packet beyond
    /// the rate of its source. The element's time begins anew. Linux 5.10 suffices.
    OverRate {
        /// The family of the set.
        family: Family,
        /// A set to which rules add addresses for a time.
        set: String,
        /// The rate, whose count is also the size of the bucket.
        rate: Rate,
    },
    /// `add @SET { ct original ip saddr ct count over 20 }`: a connection beyond as many of its source. Adds the
    /// connection to those that are counted, from which the kernel removes those that have ended. Linux 5.10 suffices.
    OverCount {
        /// The family of the set.
        family: Family,
        /// A set to which rules add addresses.
        set: String,
        /// The most connections.
        count: u32,
    },
    /// `ct original ip saddr != @SET`: the source found no place in the set. Linux 5.10 suffices.
    Absent {
        /// The family of the set.
        family: Family,
        /// A set to which rules add addresses.
        set: String,
    },
}

impl PerSource {
    /// Returns the name of the set.
    #[must_use]
    pub fn set(&self) -> &String {
        let (Self::OverRate { set, .. } | Self::OverCount { set, .. } | Self::Absent { set, .. }) =
            self;
        set
    }

    /// Returns the name of the set, mutable.
    pub(super) fn set_mut(&mut self) -> &mut String {
        let (Self::OverRate { set, .. } | Self::OverCount { set, .. } | Self::Absent { set, .. }) =
            self;
        set
    }

    fn family(&self) -> Family {
        let (Self::OverRate { family, .. }
        | Self::OverCount { family, .. }
        | Self::Absent { family, .. }) = self;
        *family
    }

    /// Checks the type of the set, and that no limit is 0.
    pub(super) fn fits(&self, ruleset: &Ruleset) -> bool {
        let key = [self.family().field()];
        let of = ruleset.type_of(self.set());
        let is_added = of.is_some_and(|of| of.key == key && of.dynamic && !of.map);
        let expires = of.is_some_and(|of| of.expiring);
        is_added
            && match self {
                Self::OverRate { rate, .. } => rate.count > 0 && expires,
                Self::OverCount { count, .. } => *count > 0 && !expires,
                Self::Absent { .. } => true,
            }
    }
}

impl Display for PerSource {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let source = source(self.family());
        match self {
            Self::OverRate { set, rate, .. } => {
                let timeout = match rate.memory().as_secs() {
                    hours if hours % 3600 == 0 => format!("{}h", hours / 3600),
                    minutes if minutes % 60 == 0 => format!("{}m", minutes / 60),
                    seconds => format!("{seconds}s"),
                };
                write!(
                    f,
                    "update @{set} {{ {source} timeout {timeout} limit rate over {rate}"
                )?;
                if rate.count != DEFAULT_BURST {
                    write!(f, " burst {} packets", rate.count)?;
                }
                f.write_str(" }")
            }
            Self::OverCount { set, count, .. } => {
                write!(f, "add @{set} {{ {source} ct count over {count} }}")
            }
            Self::Absent { set, .. } => write!(f, "{source} != @{set}"),
        }
    }
}

fn source(family: Family) -> String {
    match family {
        Family::V4 => "ct original ip saddr".to_owned(),
        Family::V6 => {
            let mask = u128::MAX << (u128::BITS - u32::from(SOURCE_V6));
            let mask = std::net::Ipv6Addr::from(mask);
            format!("ct original ip6 saddr & {mask}")
        }
    }
}
