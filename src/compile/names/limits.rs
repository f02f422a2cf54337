//! Names of the chains and sets of a port's limits.

use crate::net::{Family, HostPorts};

use super::{Context, HOST, PORT, Part, key, port};

/// The suffixes of the sets of a port's limits.
const RATE: &str = ".rate";
const CONNECTIONS: &str = ".connections";

/// The prefixes of the chains of a port's limits.
const NEW: &str = "new-";
const LIMIT: &str = "limit-";
const EXCESS: &str = "excess-";

/// Returns the chain of a port's limits, which allowed sources get to.
pub(in crate::compile) fn limit_chain(key: &HostPorts) -> String {
    format!("{LIMIT}{}", port(key))
}

/// Returns the chain that denies what is beyond a port's limits.
pub(in crate::compile) fn excess_chain(key: &HostPorts) -> String {
    format!("{EXCESS}{}", port(key))
}

/// The part of a port's limits that a chain is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitChain {
    /// Finds the allowed sources.
    New,
    /// Asks for the limits of a source.
    Limit,
    /// Denies what is beyond them.
    Excess,
}

/// Returns the part of a port's limits that a chain is, and the key; `None` for any other chain.
#[must_use]
pub fn limit_of_chain(chain: &str) -> Option<(LimitChain, HostPorts)> {
    let known = [
        (NEW, LimitChain::New),
        (LIMIT, LimitChain::Limit),
        (EXCESS, LimitChain::Excess),
    ];
    let chain = chain
        .strip_prefix(HOST)
        .filter(|rest| rest.starts_with(NEW))
        .unwrap_or(chain);
    let mut found = known.iter().filter_map(|(prefix, part)| {
        let name = chain.strip_prefix(prefix)?;
        Some((*part, key(name)?))
    });
    found.next()
}

impl Context {
    /// Returns the chain of the first packets to a port with limits.
    pub(in crate::compile) fn new_chain(self, key: &HostPorts) -> String {
        let host = match self {
            Self::Early | Self::Published => "",
            Self::Host | Self::HostFromContainers | Self::Container => HOST,
        };
        format!("{host}{NEW}{}", port(key))
    }
}

/// A set of the sources that a limit of a port holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitSet {
    /// The key of the port.
    pub key: HostPorts,
    /// The limit: `rate` or `connections`.
    pub limit: &'static str,
    /// The family of the sources.
    pub family: Family,
}

impl LimitSet {
    /// Returns the set of the rate of a key.
    pub(in crate::compile) fn rate(key: HostPorts, family: Family) -> Self {
        let limit = &RATE[1..];
        Self { key, limit, family }
    }

    /// Returns the set of the open connections of a key.
    pub(in crate::compile) fn connections(key: HostPorts, family: Family) -> Self {
        let limit = &CONNECTIONS[1..];
        Self { key, limit, family }
    }

    /// Returns the set's name: `port-80-tcp.rate.ip4`.
    #[must_use]
    pub fn name(self) -> String {
        let family = Part::Short(self.family).name();
        format!("{PORT}{}.{}.{family}", port(&self.key), self.limit)
    }

    /// Returns the set of this name; `None` for any other set.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let (rest, part) = name.strip_prefix(PORT)?.rsplit_once('.')?;
        let mut families = Family::ALL.into_iter();
        let family = families.find(|known| Part::Short(*known).name() == part)?;
        let rate = || Some(Self::rate(key(rest.strip_suffix(RATE)?)?, family));
        let open = || {
            Some(Self::connections(
                key(rest.strip_suffix(CONNECTIONS)?)?,
                family,
            ))
        };
        rate().or_else(open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::names::{List, port_of_chain};
    use crate::net::Protocol;

    #[test]
    fn chains_and_sets_of_limits_are_called_as_nothing_else_is() {
        let at = |text: &str| Some(text.parse().unwrap());
        for address in [None, at("203.0.113.10"), at("2001:db8::1")] {
            let key = HostPorts::one(address, Protocol::Tcp, 80);
            for family in Family::ALL {
                let sets = [
                    LimitSet::rate(key, family),
                    LimitSet::connections(key, family),
                ];
                for set in sets {
                    assert_eq!(LimitSet::named(&set.name()), Some(set));
                    assert_eq!(List::of_set(&set.name()), None);
                }
            }
            for (chain, part) in [
                (Context::Published.new_chain(&key), LimitChain::New),
                (Context::Host.new_chain(&key), LimitChain::New),
                (limit_chain(&key), LimitChain::Limit),
                (excess_chain(&key), LimitChain::Excess),
            ] {
                assert_eq!(limit_of_chain(&chain), Some((part, key)), "{chain}");
                assert_eq!(port_of_chain(&chain), None, "{chain}");
            }
        }
        for other in [
            "new-80",
            "limit-080-tcp",
            "host-limit-80-tcp",
            "port-80-tcp",
        ] {
            assert_eq!(limit_of_chain(other), None, "{other}");
        }
    }
}
