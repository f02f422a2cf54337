//! What decides which paths there are, beside engines and sockets.

use std::net::IpAddr;

use crate::host::nat::{self, Nat};
use crate::net::{Family, Protocol};

/// Where packets come from, and what becomes of them before and after dfw's rules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The interfaces through which packets come from outside, by name.
    pub interfaces: Vec<String>,
    /// The numbers of interfaces by name.
    pub indices: Vec<(String, u32)>,
    /// The addresses of the host that are asked from outside.
    pub addresses: Vec<IpAddr>,
    /// Who translates destinations before they are routed.
    pub nat: Nat,
    /// Whether an engine writes rules of its own.
    pub engine_rules: Families,
    /// Whether the host forwards packets at all.
    pub forwards: Families,
    /// Whether forwarding is refused by default, by the policy of another base chain.
    pub refuses: Families,
    /// Whether packets to loopback addresses are taken from a wire (`route_localnet`): IPv4 only.
    pub route_localnet: bool,
}

/// One thing of each address family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Families {
    /// IPv4.
    pub v4: bool,
    /// IPv6.
    pub v6: bool,
}

impl Families {
    /// That of a family.
    #[must_use]
    pub fn of(self, family: Family) -> bool {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }
}

impl Surroundings {
    /// Whether a loopback address may be asked over a wire. The kernel never takes one of IPv6.
    #[must_use]
    pub fn takes_loopback(&self, address: IpAddr) -> bool {
        self.route_localnet && address.is_ipv4() && address.is_loopback()
    }

    /// Whether the destination of a packet to a port of the host is translated: `None` if that cannot be
    /// told. An unspecified address is every one of its family.
    #[must_use]
    pub fn translates(&self, address: IpAddr, protocol: Protocol, port: u16) -> Option<bool> {
        let family = Family::of(address);
        let own: Vec<IpAddr> = if address.is_unspecified() {
            let own = self.addresses.iter().copied();
            own.filter(|own| Family::of(*own) == family).collect()
        } else {
            vec![address]
        };
        let asked = if own.is_empty() { vec![address] } else { own };
        let through: Vec<(String, u32)> = self
            .indices
            .iter()
            .filter(|(name, _)| self.interfaces.contains(name))
            .cloned()
            .collect();
        let mut answers = asked.into_iter().map(|address| {
            let question = nat::Question::of_host(address, protocol, port);
            match self.nat.judge_from(&question, &through) {
                nat::Answer::Translated { .. } => Some(true),
                nat::Answer::NotTranslated => Some(false),
                nat::Answer::Unknown => None,
            }
        });
        let first = answers.next()?;
        // Where some addresses are translated and others are not, both happens.
        answers.fold(first, |all, one| all.filter(|_| all == one))
    }
}
