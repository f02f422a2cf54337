//! UDP packets that a container sends from a published port before a client's request.
//!
//! UDP has no handshake. Once a conntrack entry has expired, a server that sends first (VPN, SIP, games)
//! opens a new one, in which the client's packets are replies: a revoked client would have access again. So
//! packets from a published port are filtered by destination, and packets to it by source, with the policy of
//! the port. Requests of containers from other ports are not filtered.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::super::names::{self, Context, List};
use super::granted::GRANTED;
use super::port::denial;
use super::{Compiler, accept, from_container, jump, note, to_container};
use crate::host::Publisher;
use crate::net::{Family, HostPorts, KeysByPort, Protocol};
use crate::policy::{DefaultAction, PortPolicy};
use crate::ruleset::{
    Address, Conntrack, Direction, EPHEMERAL, Elements, End, Expression, Interface, L4Protocol,
    MapTo, Port, Rule, Set, Side, Statement, Tuple, Verdict,
};

/// The last default ephemeral port on Linux (`net.ipv4.ip_local_port_range`).
const EPHEMERAL_LAST: u16 = 60_999;
/// The most ephemeral ports published at one address that count as server ports. Of more (media ports of a
/// PBX) some are unused at any time, and the container may send its own requests, such as DNS queries, from
/// them.
const FEW: usize = 16;

/// A container's port and address.
type Server = (u16, IpAddr);
/// The keys of the published ports behind it; empty if all are closed.
type Keys<'a> = BTreeSet<&'a HostPorts>;

/// The rules that jump there.
#[derive(Debug, Default)]
pub(super) struct Spoken {
    /// In the chain of packets from containers.
    pub(super) out: Option<Rule>,
    /// Before replies are accepted.
    pub(super) back: Option<Rule>,
    /// The same in the chain of published ports, where packets come whose connection was translated.
    pub(super) back_translated: Option<Rule>,
}

impl<'a> Compiler<'a> {
    /// Adds the chains for both directions; returns the rules that jump there.
    pub(super) fn spoken(&mut self) -> Spoken {
        let servers = self.servers();
        if servers.is_empty() {
            return Spoken::default();
        }
        let udp = Expression::Port(Port::Protocol(L4Protocol::Udp));
        for server in [End::Source, End::Destination] {
            self.udp_chain(server, &servers);
        }
        let out = vec![
            udp.clone(),
            to_container(false),
            jump(names::server_chain(End::Source)),
        ];
        let back = |origin: Option<Expression>| {
            let mut back = vec![
                udp.clone(),
                Expression::Conntrack(Conntrack::Direction(Direction::Reply)),
            ];
            back.extend(origin);
            back.push(jump(names::server_chain(End::Destination)));
            Some(Rule::new(
                back,
                note("to published UDP ports, on a connection opened by the container"),
            ))
        };
        Spoken {
            out: Some(Rule::new(
                out,
                note("from published UDP ports, to a client that may have been revoked"),
            )),
            back: back(None),
            // Only here packets of containers come by, too.
            back_translated: back(Some(from_container(false))),
        }
    }

    /// Returns the published UDP ports of running containers that are not open to everyone.
    fn servers(&self) -> BTreeMap<Server, Keys<'a>> {
        let policy = self.policy;
        let mut servers: BTreeMap<Server, (Keys<'a>, bool)> = BTreeMap::new();
        let keys: KeysByPort<'a> = policy.ports.keys().collect();
        for publication in self.host.publications() {
            let published = publication.published;
            let Publisher::Container(container) = publication.of else {
                continue;
            };
            let is_server = container.running
                && published.protocol == Protocol::Udp
                && !published.address.is_loopback();
            if !is_server {
                continue;
            }
            let key = keys.decisive(&published.port().named());
            let is_open = match key.and_then(|key| policy.ports.get(key)) {
                Some(port) => is_open(port) && !policy.settings.reverse_path_filter,
                None => policy.default == DefaultAction::Allow,
            };
            let addresses = container.endpoints.iter().flat_map(|e| &e.addresses);
            let same_family = |address: &&IpAddr| {
                let mut published = publication.addresses();
                published.any(|published| published.is_ipv4() == address.is_ipv4())
            };
            for address in addresses.filter(same_family) {
                let server = (published.container_port, *address);
                let (keys, open) = servers.entry(server).or_default();
                keys.extend(key);
                *open |= is_open;
            }
        }
        let is_client_port = |port: u16| (EPHEMERAL..=EPHEMERAL_LAST).contains(&port);
        let mut crowds: BTreeMap<IpAddr, usize> = BTreeMap::new();
        for (port, address) in servers.keys() {
            *crowds.entry(*address).or_default() += usize::from(is_client_port(*port));
        }
        servers.retain(|(port, address), (_, open)| {
            let is_crowded = crowds.get(address).is_some_and(|count| *count > FEW);
            !(*open || is_client_port(*port) && is_crowded)
        });
        let servers = servers.into_iter();
        servers.map(|(server, (keys, _))| (server, keys)).collect()
    }

    /// Adds the chain that dispatches a packet by the port and the address of the container.
    fn udp_chain(&mut self, server: End, servers: &BTreeMap<Server, Keys<'a>>) {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for ((port, address), keys) in servers {
            let judge = Verdict::Goto(self.judge(server, (*port, *address), keys));
            match address {
                IpAddr::V4(address) => v4.push(MapTo::new((*port, u32::from(*address)), judge)),
                IpAddr::V6(address) => v6.push(MapTo::new((*port, u128::from(*address)), judge)),
            }
        }
        let mut rules = Vec::new();
        for (family, elements) in [
            (Family::V4, Elements::PortIpv4Verdicts(v4)),
            (Family::V6, Elements::PortIpv6Verdicts(v6)),
        ] {
            if elements.is_empty() {
                continue;
            }
            let map = names::server_map(server, family);
            let comment = Some(note("UDP ports published by containers"));
            self.ruleset
                .sets
                .insert(map.clone(), Set { elements, comment });
            let protocol = L4Protocol::Udp;
            let ask = Expression::Port(Port::AddressMap {
                end: server,
                protocol,
                family,
                map,
            });
            rules.push(Rule::new(vec![ask], None));
        }
        self.chain(names::server_chain(server), rules);
    }

    /// Returns the name of the chain that evaluates the other end of a packet.
    fn judge(&mut self, server: End, at: Server, keys: &Keys<'a>) -> String {
        let policy = self.policy;
        let ports = keys
            .iter()
            .filter_map(|key| policy.ports.get_key_value(*key));
        let ports: Vec<_> = ports.collect();
        let name = match &ports[..] {
            [] => names::unnamed_client_chain(server),
            [(key, _)] => names::client_chain(server, key),
            _ => names::clients_at_chain(server, at),
        };
        if self.ruleset.chains.contains_key(&name) {
            return name;
        }
        let mut rules = Vec::new();
        match ports.split_first() {
            None => rules = self.deny_unnamed(&[]),
            Some(((key, port), more)) => {
                let comment = self.comment(&port.origin);
                if more.is_empty() {
                    let deny = |matches: &[Expression]| denial(matches, key, port, &comment);
                    rules = self.admit(server, key, port, deny);
                } else {
                    for (key, port) in &ports {
                        let admitting = names::admitting_chain(server, key);
                        let leave = |matches: &[Expression]| {
                            let mut matches = matches.to_vec();
                            matches
                                .push(Expression::Statement(Statement::Verdict(Verdict::Return)));
                            vec![Rule::new(matches, None)]
                        };
                        let admitted = self.admit(server, key, port, leave);
                        self.chain(&admitting, admitted);
                        rules.push(Rule::new(vec![jump(&admitting)], None));
                    }
                }
                if !more.is_empty() || !port.allow.any {
                    rules.extend(denial(&[], key, port, &comment));
                }
            }
        }
        self.chain(&name, rules);
        name
    }

    /// Returns the rules that accept clients of a port, after those that deny the others.
    fn admit(
        &mut self,
        server: End,
        key: &HostPorts,
        port: &PortPolicy,
        end: impl Fn(&[Expression]) -> Vec<Rule>,
    ) -> Vec<Rule> {
        let mut rules = Vec::new();
        if let Some(mut elsewhere) = self.not_from_interfaces(key, port) {
            if let Expression::Interface(Interface::Name { side, .. } | Interface::In { side, .. }) =
                &mut elsewhere
                && server == End::Source
            {
                *side = Side::Out;
            }
            rules.extend(end(&[elsewhere]));
        }
        if server == End::Destination
            && let Some(strays) = self.no_reverse_path(Context::Container)
        {
            rules.extend(end(&strays));
        }
        let client = |source| match (server, source) {
            (End::Source, Expression::Address(Address::SourceIn { family, set, .. })) => {
                Expression::Address(Address::DestinationIn { family, set })
            }
            (_, source) => source,
        };
        let excepted = self.selection(&port.except, Tuple::Packet, &List::Except(*key), port);
        for source in excepted {
            rules.extend(end(&[client(source)]));
        }
        let comment = self.comment(&port.origin);
        if port.allow.any {
            rules.push(Rule::new(vec![accept()], comment));
        } else {
            let allowed = self.selection(&port.allow, Tuple::Packet, &List::Allow(*key), port);
            let granted = self.granted(key, Tuple::Packet);
            for (sources, comment) in [(allowed, comment), (granted, note(GRANTED))] {
                let allow = |source| Rule::new(vec![client(source), accept()], comment.clone());
                rules.extend(sources.into_iter().map(allow));
            }
        }
        rules
    }
}

/// Returns whether a port is open to everyone, through any interface.
fn is_open(port: &PortPolicy) -> bool {
    let except = &port.except;
    port.allow.any
        && port.interfaces.is_empty()
        && !except.any
        && except.named.is_empty()
        && except.inline.is_empty()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::host::HostView;
    use crate::host::engine::{Container, Endpoint, Engine, Kind, Published};
    use crate::policy;
    use crate::ruleset::{Origin, Ruleset};
    use crate::text::SourceMap;

    const POLICY: &str = "default: deny\nports:\n  53/udp: [192.0.2.1]\n  54/udp: [192.0.2.2]\n  \
                          '198.51.100.1:55/udp': [192.0.2.3]\n  56/udp: any\n";

    /// Returns the dispatch of a container's ports, of published ports as (address, port, container
    /// port).
    fn judges(policy: &str, published: &[(&str, u16, u16)], running: bool) -> Vec<String> {
        let published = published.iter().map(|(address, port, own)| Published {
            protocol: Protocol::Udp,
            address: address.parse().unwrap(),
            first: *port,
            last: *port,
            container_port: *own,
        });
        let container = Container {
            running,
            published: published.collect(),
            endpoints: vec![Endpoint {
                network: "bridge".to_owned(),
                addresses: ["172.17.0.2", "fd00::2"].map(|a| a.parse().unwrap()).into(),
            }],
            ..Container::default()
        };
        let host = HostView {
            engines: vec![Engine {
                kind: Kind::Docker,
                version: String::new(),
                address: String::new(),
                firewall: None,
                process: None,
                networks: Vec::new(),
                containers: vec![container],
                services: Vec::new(),
            }],
            ..HostView::default()
        };
        let mut sources = SourceMap::in_memory([("p.yaml", policy)]);
        let files = crate::store::read_policies(&mut sources, Path::new("p.yaml")).unwrap();
        let (policy, _) = policy::read(&mut sources, &files).unwrap();
        let origin = Origin {
            file: "p.yaml".to_owned(),
            line: 1,
        };
        let ruleset: Ruleset = super::super::compile(&policy, &host, &|_| origin.clone());
        let maps = [Family::V4, Family::V6].map(|family| names::server_map(End::Source, family));
        let sets = maps.iter().filter_map(|map| ruleset.sets.get(map));
        sets.flat_map(|set| set.elements.texts()).collect()
    }

    #[test]
    fn a_port_is_judged_by_every_key_that_is_about_it() {
        let v4 = |port| ("0.0.0.0", port, 9);
        assert_eq!(
            judges(POLICY, &[v4(53)], true),
            ["9 . 172.17.0.2 : goto to-clients-53-udp"]
        );
        assert_eq!(
            judges(POLICY, &[v4(53), v4(54)], true),
            ["9 . 172.17.0.2 : goto to-clients-at-172.17.0.2-9"]
        );
        // Open ports are not filtered, and ports without a key are closed.
        assert!(judges(POLICY, &[v4(53), v4(56)], true).is_empty());
        assert_eq!(
            judges(POLICY, &[v4(57)], true),
            ["9 . 172.17.0.2 : goto to-clients-unnamed"]
        );
        assert!(judges("default: allow\n", &[v4(57)], true).is_empty());
        // The key does not apply to another address.
        assert_eq!(
            judges(
                POLICY,
                &[("198.51.100.1", 55, 9), ("198.51.100.2", 55, 9)],
                true
            ),
            ["9 . 172.17.0.2 : goto to-clients-198.51.100.1-55-udp"]
        );
    }

    #[test]
    fn only_what_runs_and_is_published_to_others_is_judged() {
        assert!(judges(POLICY, &[("0.0.0.0", 53, 9)], false).is_empty());
        assert!(judges(POLICY, &[("127.0.0.1", 53, 9)], true).is_empty());
        assert_eq!(
            judges(POLICY, &[("::", 53, 9)], true),
            ["9 . fd00::2 : goto to-clients-53-udp"]
        );
    }

    /// Many ephemeral ports do not count as server ports; all others do.
    #[test]
    fn media_ports_do_not_cut_questions_about_names() {
        let few = u16::try_from(FEW).unwrap();
        let ports = |count: u16| -> Vec<_> {
            let crowd = (0..count).map(|n| ("0.0.0.0", 53, EPHEMERAL + n));
            crowd.chain([("0.0.0.0", 53, 9)]).collect()
        };
        assert_eq!(judges(POLICY, &ports(few), true).len(), FEW + 1);
        assert_eq!(judges(POLICY, &ports(few + 1), true).len(), 1);
    }
}
