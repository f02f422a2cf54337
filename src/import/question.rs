//! A kind of packet, and what the conditions of a rule say of it.

use crate::net::{AddressSet, Entry, Family, Protocol};
use std::collections::BTreeSet;
use std::net::IpAddr;

use super::interface::Incoming;
use super::ranges::Condition;
use super::rule::{
    ACK, Kind, Match, PortRange, Rule, SYN, Target, is_any_protocol, link_local, protocol_of,
    within,
};

/// Packets of one kind from any source.
#[derive(Debug, Clone)]
pub(super) struct Question<'a> {
    pub(super) family: Family,
    pub(super) protocol: Protocol,
    pub(super) sort: Sort,
    pub(super) stage: Stage,
    pub(super) incoming: &'a Incoming,
    /// The host address that the client connects to; `None` for one that no rule matches.
    pub(super) host: Option<IpAddr>,
    /// Addresses that an otherwise unknown host address does not have: each is evaluated separately, or is a
    /// container's.
    pub(super) others: &'a BTreeSet<IpAddr>,
    /// The port of the host that the client connects to.
    pub(super) host_port: u16,
    /// The container's address, if it is known.
    pub(super) container: Option<IpAddr>,
    /// The container's port, if it is known.
    pub(super) port: Option<u16>,
    /// The container's bridge, if it is known.
    pub(super) bridge: Option<&'a str>,
    /// A published port whose engine rules stand for the ones that this port would have.
    pub(super) stands_for: Option<(Protocol, IpAddr, u16)>,
}

/// The role of a packet in its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sort {
    /// The first packet of a connection to a published port.
    New,
    /// A reply to a connection that a container opened; `host_port` is the server's port.
    Answer,
}

/// The stage of a packet on its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Before conntrack.
    Raw,
    /// Before DNAT: the destination is the host.
    Arriving,
    /// After DNAT: the destination is the container.
    Translated,
}

/// The sources for which conditions hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Holds<'a> {
    /// No source.
    Never,
    /// The sources that meet all of these conditions.
    For(Vec<Condition<'a>>),
    /// Unknown for the sources that meet these conditions: it depends on something that is not in a dump.
    Perhaps(Vec<Condition<'a>>),
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
    /// Returns the sources for which all conditions of a rule hold.
    pub(super) fn holds<'r>(&self, rule: &'r Rule) -> Holds<'r> {
        if let Some((protocol, container, port)) = self.stands_for
            && rule.as_engine_accept().is_some()
        {
            let own = Question {
                protocol,
                container: Some(container),
                port: Some(port),
                stands_for: None,
                ..self.clone()
            };
            return own.holds(rule);
        }
        let mut conditions = Vec::new();
        let mut unsure = false;
        for condition in &rule.matches {
            match self.truth(condition) {
                // Docker leaves neighbours on the link to docker-proxy.
                Truth::From(set)
                    if condition.negated
                        && matches!(rule.target, Target::Dnat(_))
                        && set.difference(&link_local()).is_empty() => {}
                Truth::Yes => {}
                Truth::No => return Holds::Never,
                Truth::From(set) => conditions.push((set, condition.negated)),
                Truth::Unsure => unsure = true,
            }
        }
        if unsure {
            Holds::Perhaps(conditions)
        } else {
            Holds::For(conditions)
        }
    }

    /// Evaluates a condition; negation of a set of sources is left to the caller.
    fn truth<'r>(&self, condition: &'r Match) -> Truth<'r> {
        match (self.plain(&condition.kind), condition.negated) {
            (Truth::Yes, true) => Truth::No,
            (Truth::No, true) => Truth::Yes,
            (truth, _) => truth,
        }
    }

    fn plain<'r>(&self, kind: &'r Kind) -> Truth<'r> {
        let is_new = self.sort == Sort::New;
        match kind {
            Kind::State(_)
            | Kind::OriginalDirection(_)
            | Kind::OriginalSource(_)
            | Kind::OriginalDestination(_)
            | Kind::OriginalPorts(_)
                if self.stage == Stage::Raw =>
            {
                Truth::Unsure
            }
            Kind::OriginalDestination(set) if is_new => self.to_host(set),
            Kind::OriginalSource(set) if !is_new => self.to_container(set),
            Kind::Destination(set) if self.stage < Stage::Translated => self.to_host(set),
            Kind::Destination(set) => self.to_container(set),
            Kind::Source(set) | Kind::OriginalSource(set) | Kind::OriginalDestination(set) => {
                Truth::From(set)
            }
            Kind::Protocol(name) => {
                (is_any_protocol(name) || protocol_of(name) == Some(self.protocol)).into()
            }
            Kind::SourcePorts(ports) => source_ports(ports),
            Kind::DestinationPorts(ports) if self.stage < Stage::Translated => {
                within(ports, self.host_port).into()
            }
            Kind::DestinationPorts(ports) => self
                .port
                .map_or(Truth::Unsure, |port| within(ports, port).into()),
            Kind::OriginalPorts(ports) => within(ports, self.host_port).into(),
            Kind::Incoming(pattern) => self.incoming.matches(pattern).into(),
            Kind::Outgoing(pattern) => self.goes_to(pattern),
            Kind::State(states) => {
                let own: &[&str] = match (is_new, self.stage) {
                    (true, Stage::Translated) => &["NEW", "DNAT"],
                    (true, _) => &["NEW"],
                    // What a container sends out is masqueraded.
                    (false, _) => &["ESTABLISHED", "SNAT"],
                };
                own.iter().any(|state| states.contains(*state)).into()
            }
            Kind::OriginalDirection(original) => (*original == is_new).into(),
            Kind::TcpFlags(mask, set) => {
                let own = if is_new { SYN } else { ACK };
                (self.protocol == Protocol::Tcp && own & mask == *set).into()
            }
            Kind::DestinationType(types) if self.stage < Stage::Translated => {
                types.contains("LOCAL").into()
            }
            // A container's address is none of the host's own.
            Kind::DestinationType(types) | Kind::SourceType(types) => {
                types.contains("UNICAST").into()
            }
            Kind::EngineNetworks if self.bridge.is_some() && self.stage == Stage::Translated => {
                Truth::Yes
            }
            Kind::EngineNetworks | Kind::List | Kind::Unknown => Truth::Unsure,
        }
    }

    fn to_container<'r>(&self, set: &'r AddressSet) -> Truth<'r> {
        if *set == AddressSet::all(self.family) {
            return Truth::Yes;
        }
        self.container
            .map_or(Truth::Unsure, |address| set.contains(address).into())
    }

    fn to_host<'r>(&self, set: &'r AddressSet) -> Truth<'r> {
        if let Some(address) = self.host {
            return set.contains(address).into();
        }
        let other = |entry: Entry| match entry {
            Entry::V4(first, last) => {
                // Loopback, and what has many receivers or none.
                let [a, ..] = first.to_be_bytes();
                let special = |a| a == 127 || a >= 224;
                let [b, ..] = last.to_be_bytes();
                special(a) && special(b) && (a == 127) == (b == 127)
                    || first == last && self.others.contains(&IpAddr::V4(first.into()))
            }
            Entry::V6(first, last) => {
                let special = |a: u128| a == 1 || a >> 120 == 0xff;
                special(first) && special(last)
                    || first == last && self.others.contains(&IpAddr::V6(first.into()))
            }
        };
        if *set == AddressSet::all(self.family) {
            Truth::Yes
        } else if set.iter().all(other) {
            // The host is asked at an address that no rule names.
            Truth::No
        } else {
            Truth::Unsure
        }
    }

    fn goes_to(&self, pattern: &str) -> Truth<'static> {
        match self.bridge {
            Some(bridge) => Incoming::Named(bridge.to_owned()).matches(pattern).into(),
            None if pattern == "+" => Truth::Yes,
            None => Truth::Unsure,
        }
    }
}

/// Evaluates a match of source ports: clients use any port, usually an unprivileged one.
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
    use super::super::ranges::Ranges;
    use super::super::words::words;
    use super::*;
    use crate::text::{FileId, Span};

    /// Returns the sources for which the conditions of a rule hold, for a client of port 8083 of the host,
    /// behind which is port 80 of 172.17.0.2: `all`, `none`, `?`, or the sources.
    fn of(sort: Sort, text: &str) -> String {
        let line = Span::new(FileId(0), 0, text.len());
        let rule = options::read(Family::V4, &words(FileId(0), text, 0), &line);
        let others = &BTreeSet::from([IpAddr::from([203, 0, 113, 1])]);
        let question = Question {
            family: Family::V4,
            protocol: Protocol::Tcp,
            sort,
            stage: Stage::Translated,
            others,
            stands_for: None,
            incoming: &Incoming::Named("eth0".to_owned()),
            host: None,
            host_port: 8083,
            container: Some(IpAddr::from([172, 17, 0, 2])),
            port: Some(80),
            bridge: Some("docker0"),
        };
        let conditions = match question.holds(&rule) {
            Holds::Never => return "none".to_owned(),
            Holds::Perhaps(_) => return "?".to_owned(),
            Holds::For(conditions) => conditions,
        };
        let set = Ranges::all(Family::V4).take(&conditions).to_set();
        if set == AddressSet::all(Family::V4) {
            return "all".to_owned();
        }
        let texts: Vec<_> = set.iter().map(|e| e.to_string()).collect();
        texts.join(" ")
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
            ("-p ip", "all"),
            ("-m set --match-set docker-ext-bridges-v4 dst", "all"),
            ("-m set --match-set banned src", "?"),
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
