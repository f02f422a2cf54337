//! A kind of packet, and what the conditions of a rule say of it.

use std::net::IpAddr;

use super::interface::{Incoming, is_containers};
use super::rule::{ACK, Family, Kind, Match, PortRange, Rule, SYN, within};
use crate::policy::Protocol;
use crate::policy::address::{AddressSet, Entry};

/// All packets of one kind that come through the forward hook, wherever they are from.
#[derive(Debug, Clone)]
pub(super) struct Question<'a> {
    pub(super) family: Family,
    pub(super) protocol: Protocol,
    pub(super) sort: Sort,
    pub(super) incoming: &'a Incoming,
    /// The address of the host that the client asked; `None` is one that no rule names.
    pub(super) host: Option<IpAddr>,
    /// The port of the host that the client asked.
    pub(super) host_port: u16,
    /// The container's address, if it is known.
    pub(super) container: Option<IpAddr>,
    /// The container's port, if it is known.
    pub(super) port: Option<u16>,
    /// The container's bridge, if it is known.
    pub(super) bridge: Option<&'a str>,
}

/// What a packet is to its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    /// The first of a connection to a published port.
    New,
    /// An answer to what a container asked a server outside: `host_port` is the server's.
    Answer,
}

/// For which sources conditions hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Holds {
    /// For these and no others.
    For(AddressSet),
    /// For some of these, perhaps: it depends on what a dump does not tell.
    Perhaps(AddressSet),
}

/// Whether one condition holds.
enum Truth<'a> {
    No,
    Yes,
    From(&'a AddressSet),
    Unsure,
}

impl From<bool> for Truth<'_> {
    fn from(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }
}

impl Question<'_> {
    /// For which of the sources `among` all conditions of the rule hold.
    pub(super) fn holds(&self, rule: &Rule, among: &AddressSet) -> Holds {
        // No copy where a condition says who it is: there may be many ranges, and many rules.
        let mut found = None;
        let mut unsure = false;
        for condition in &rule.matches {
            let sources = found.as_ref().unwrap_or(among);
            found = match self.truth(condition) {
                Truth::Yes => continue,
                Truth::No => return Holds::For(AddressSet::default()),
                Truth::From(set) if condition.negated => Some(sources.difference(set)),
                Truth::From(set) => Some(sources.intersection(set)),
                Truth::Unsure => {
                    unsure = true;
                    continue;
                }
            };
        }
        let sources = found.unwrap_or_else(|| among.clone());
        if unsure {
            Holds::Perhaps(sources)
        } else {
            Holds::For(sources)
        }
    }

    /// Whether it holds; a set of sources is still to be turned round if it is negated.
    fn truth<'a>(&self, condition: &'a Match) -> Truth<'a> {
        match (self.plain(&condition.kind), condition.negated) {
            (Truth::Yes, true) => Truth::No,
            (Truth::No, true) => Truth::Yes,
            (truth, _) => truth,
        }
    }

    fn plain<'a>(&self, kind: &'a Kind) -> Truth<'a> {
        let is_new = self.sort == Sort::New;
        match kind {
            Kind::OriginalDestination(set) if is_new => self.to_host(set),
            Kind::OriginalSource(set) if !is_new => self.to_container(set),
            Kind::Destination(set) => self.to_container(set),
            Kind::Source(set) | Kind::OriginalSource(set) | Kind::OriginalDestination(set) => {
                Truth::From(set)
            }
            Kind::Protocol(name) => self.is_protocol(name).into(),
            Kind::SourcePorts(ports) => source_ports(ports),
            Kind::DestinationPorts(ports) => self
                .port
                .map_or(Truth::Unsure, |port| within(ports, port).into()),
            Kind::OriginalPorts(ports) => within(ports, self.host_port).into(),
            Kind::Incoming(pattern) => self.incoming.matches(pattern).into(),
            Kind::Outgoing(pattern) => self.goes_to(pattern),
            Kind::State(states) => {
                let own: &[&str] = if is_new {
                    &["NEW", "DNAT"]
                } else {
                    // What a container sends out is masqueraded.
                    &["ESTABLISHED", "SNAT"]
                };
                own.iter().any(|state| states.contains(*state)).into()
            }
            Kind::OriginalDirection(original) => (*original == is_new).into(),
            Kind::TcpFlags(mask, set) => {
                let own = if is_new { SYN } else { ACK };
                (self.protocol == Protocol::Tcp && own & mask == *set).into()
            }
            // A container's address is none of the host's own.
            Kind::DestinationType(types) | Kind::SourceType(types) => {
                types.contains("UNICAST").into()
            }
            Kind::Unknown => Truth::Unsure,
        }
    }

    fn is_protocol(&self, name: &str) -> bool {
        name == "all" || name == "0" || super::published::protocol_of(name) == Some(self.protocol)
    }

    fn to_container<'a>(&self, set: &'a AddressSet) -> Truth<'a> {
        if *set == self.family.all() {
            return Truth::Yes;
        }
        self.container
            .map_or(Truth::Unsure, |address| set.contains(address).into())
    }

    fn to_host<'a>(&self, set: &'a AddressSet) -> Truth<'a> {
        if let Some(address) = self.host {
            return set.contains(address).into();
        }
        let single = |entry| match entry {
            Entry::V4(first, last) => first == last,
            Entry::V6(first, last) => first == last,
        };
        if *set == self.family.all() {
            Truth::Yes
        } else if set.iter().all(single) {
            // The host is asked at an address that no rule names.
            Truth::No
        } else {
            Truth::Unsure
        }
    }

    fn goes_to(&self, pattern: &str) -> Truth<'static> {
        let own = match self.bridge {
            Some(bridge) => Incoming::Named(bridge.to_owned()),
            None if pattern == "+" => return Truth::Yes,
            None if is_containers(pattern) || pattern.ends_with('+') => return Truth::Unsure,
            None => return Truth::No,
        };
        own.matches(pattern).into()
    }
}

/// A client sends from any port, as a rule from one that no user needs a permission for.
fn source_ports(ports: &[PortRange]) -> Truth<'static> {
    if ports
        .iter()
        .any(|&(first, last)| first <= 1024 && last == u16::MAX)
    {
        Truth::Yes
    } else {
        Truth::Unsure
    }
}

#[cfg(test)]
mod tests {
    use super::super::options;
    use super::super::words::words;
    use super::*;
    use crate::source::{FileId, Span};

    /// For whom the conditions of a rule hold, for a client of port 8083 of the host, behind which
    /// is port 80 of 172.17.0.2: `all`, `none`, `?`, or the sources.
    fn of(sort: Sort, text: &str) -> String {
        let line = Span::new(FileId(0), 0, text.len());
        let rule = options::read(Family::V4, &words(FileId(0), text, 0), &line);
        let question = Question {
            family: Family::V4,
            protocol: Protocol::Tcp,
            sort,
            incoming: &Incoming::Named("eth0".to_owned()),
            host: None,
            host_port: 8083,
            container: Some(IpAddr::from([172, 17, 0, 2])),
            port: Some(80),
            bridge: Some("docker0"),
        };
        match question.holds(&rule, &AddressSet::all_v4()) {
            Holds::Perhaps(_) => "?".to_owned(),
            Holds::For(set) if set.is_empty() => "none".to_owned(),
            Holds::For(set) if set == AddressSet::all_v4() => "all".to_owned(),
            Holds::For(set) => set
                .iter()
                .map(|e| e.to_string())
                .collect::<Vec<_>>()
                .join(" "),
        }
    }

    #[test]
    fn conditions_hold_as_the_kernel_has_them() {
        let cases = [
            ("", "all"),
            ("-s 10.0.0.0/8", "10.0.0.0/8"),
            ("! -s 0.0.0.0/1", "128.0.0.0/1"),
            ("-s 10.0.0.0/8 ! -s 10.0.0.0/9", "10.128.0.0/9"),
            ("-m conntrack --ctorigsrc 10.0.0.0/8", "10.0.0.0/8"),
            ("-p tcp -m tcp --dport 80", "all"),
            ("-p 6 ! --dport 81", "all"),
            ("-p tcp --dport 8083", "none"),
            ("-p udp --dport 80", "none"),
            ("! -p udp", "all"),
            ("-p icmp --icmp-type 8", "none"),
            ("-p tcp --sport 1024:65535", "all"),
            ("-p tcp --sport 53", "?"),
            ("-d 172.16.0.0/12", "all"),
            ("! -d 172.17.0.2", "none"),
            ("-i eth0", "all"),
            ("! -i eth+", "none"),
            ("-i docker0", "none"),
            ("-o docker0", "all"),
            ("! -i docker0 -o docker+", "all"),
            ("-o eth0", "none"),
            ("-m conntrack --ctstate NEW", "all"),
            ("-m conntrack --ctstate DNAT", "all"),
            ("-m conntrack ! --ctstate RELATED,ESTABLISHED", "all"),
            ("-m state --state INVALID", "none"),
            ("-m conntrack --ctorigdstport 8083 --ctdir ORIGINAL", "all"),
            ("-m conntrack --ctorigdstport 80", "none"),
            ("-m conntrack --ctdir REPLY", "none"),
            ("-m conntrack --ctorigdst 203.0.113.1", "none"),
            ("-m conntrack --ctorigdst 203.0.113.0/24", "?"),
            ("-p tcp --syn", "all"),
            ("-p tcp ! --syn", "none"),
            ("-p tcp --tcp-flags SYN,ACK SYN", "all"),
            ("-p tcp --tcp-flags ALL ACK", "none"),
            ("-m addrtype --dst-type LOCAL", "none"),
            ("-m addrtype ! --dst-type LOCAL", "all"),
            ("-m mark --mark 0x1", "?"),
            ("-m mark --mark 0x1 -p udp", "none"),
            ("-m comment --comment x", "all"),
        ];
        for (text, expected) in cases {
            assert_eq!(of(Sort::New, text), expected, "{text}");
        }
    }

    #[test]
    fn an_answer_is_no_new_connection() {
        let cases = [
            ("-m conntrack --ctstate RELATED,ESTABLISHED", "all"),
            ("-m conntrack --ctstate NEW", "none"),
            ("-m conntrack --ctdir ORIGINAL", "none"),
            ("-p tcp --syn", "none"),
            ("-p tcp ! --syn", "all"),
            (
                "! -s 10.0.0.0/8 -i eth0",
                "0.0.0.0-9.255.255.255 11.0.0.0-255.255.255.255",
            ),
            ("-m conntrack --ctorigdst 10.0.0.0/8", "10.0.0.0/8"),
            ("-m conntrack --ctorigsrc 172.17.0.0/16", "all"),
        ];
        for (text, expected) in cases {
            assert_eq!(of(Sort::Answer, text), expected, "{text}");
        }
    }
}
