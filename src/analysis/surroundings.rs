//! The facts besides engines and sockets that determine the paths of this host.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::host::nat::{self, Nat, Target};
use crate::net::{Family, Protocol};

/// The state of the host around dfw's rules: interfaces, routes, NAT and other filters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The interfaces through which packets come from outside, by name.
    pub interfaces: Vec<String>,
    /// The numbers of interfaces by name.
    pub indices: BTreeMap<String, u32>,
    /// The addresses of the host that clients can use as a destination.
    pub addresses: Vec<IpAddr>,
    /// Link-local addresses, which only on-link hosts reach (RFC 3927, RFC 4291).
    pub link_addresses: Vec<IpAddr>,
    /// The rules that rewrite destinations before routing.
    pub nat: Nat,
    /// Whether an engine writes rules of its own, by family.
    pub engine_rules: Families,
    /// Whether the host forwards packets, by family.
    pub forwards: Families,
    /// Whether the policy of another base chain drops forwarded packets, by family.
    pub denies: Families,
    /// The outgoing interface for each queried address; `None` without a route.
    pub answers_through: BTreeMap<IpAddr, Option<String>>,
    /// Whether the host accepts packets to loopback addresses from other hosts (`route_localnet`, IPv4 only).
    pub route_localnet: bool,
}

/// A value for each address family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Families {
    /// IPv4.
    pub v4: bool,
    /// IPv6.
    pub v6: bool,
}

impl Families {
    /// Returns the value of a family.
    #[must_use]
    pub fn of(self, family: Family) -> bool {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }
}

impl Surroundings {
    /// Returns whether replies to a source on an interface would leave through another one. An unknown source
    /// counts as replied to on its own interface.
    #[must_use]
    pub fn strays(&self, source: IpAddr, interface: &str) -> bool {
        let route = self.answers_through.get(&source);
        route.is_some_and(|route| route.as_deref() != Some(interface))
    }

    /// Returns whether the host accepts packets of other hosts to a loopback address; never for IPv6.
    #[must_use]
    pub fn takes_loopback(&self, address: IpAddr) -> bool {
        self.route_localnet && address.is_ipv4() && address.is_loopback()
    }

    /// Returns the new destination of packets to a port of the host; `None` without DNAT. An unspecified
    /// address is every one of its family.
    #[must_use]
    pub fn translation(&self, address: IpAddr, protocol: Protocol, port: u16) -> Translated {
        let family = Family::of(address);
        let own: Vec<IpAddr> = if address.is_unspecified() {
            let own = self.addresses.iter().copied();
            own.filter(|own| Family::of(*own) == family).collect()
        } else {
            vec![address]
        };
        let asked = if own.is_empty() { vec![address] } else { own };
        // Of thousands of interfaces, few have packets from outside.
        let links = self.interfaces.iter();
        let links: Vec<(String, u32)> = links
            .filter_map(|name| Some((name.clone(), *self.indices.get(name)?)))
            .collect();
        let answer = |address| {
            let question = nat::Question::of_host(address, protocol, port);
            match self.nat.judge_from(&question, &links) {
                nat::Answer::Translated {
                    to: Target::Address(to, _),
                } => Translated::To(to),
                nat::Answer::NotTranslated => Translated::No,
                // To the host itself, where a socket answers, or to one of several.
                nat::Answer::Translated { .. } | nat::Answer::Unknown => Translated::Unknown,
            }
        };
        if asked.len() > 1 {
            // A host has an address for each network of an engine, and few rules ask for one.
            let anywhere = answer(family.unspecified());
            if anywhere != Translated::Unknown {
                return anywhere;
            }
        }
        let mut answers = asked.into_iter().map(answer);
        let first = answers.next().unwrap_or(Translated::Unknown);
        // Where some addresses are translated and others are not, both happens.
        answers.fold(
            first,
            |all, one| {
                if all == one { all } else { Translated::Unknown }
            },
        )
    }
}

/// The result of DNAT for a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Translated {
    /// The destination is unchanged.
    No,
    /// The destination becomes another address.
    To(IpAddr),
    /// The result is unknown, or differs between packets.
    Unknown,
}
