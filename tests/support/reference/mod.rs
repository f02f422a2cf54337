//! What a policy means, said a second time in a few lines: the rules must do just that.
//!
//! With random policies, which are written as text and compiled for a random host, and random
//! packets near the edges of what they say.

pub(crate) mod random;
mod text;

use std::collections::BTreeSet;
use std::net::IpAddr;

use dfw::analysis::eval::{Decision, Flow, Packet};
use dfw::host::HostView;
use dfw::host::engine::Published;
use dfw::ruleset::{Direction, Hook, L4Protocol};

/// A policy as it was meant, before it was written.
#[expect(clippy::struct_excessive_bools, reason = "switches of a policy")]
#[derive(Debug, Clone)]
pub(crate) struct Meant {
    pub(crate) deny: bool,
    /// Whether connections are denied as they arrive, too.
    pub(crate) early: bool,
    /// Whether connections are marked that were judged, which must make no difference.
    pub(crate) mark: bool,
    /// Whether ports refuse what has no reverse path.
    pub(crate) reverse_path: bool,
    pub(crate) sources: Vec<Vec<Range>>,
    pub(crate) ports: Vec<Port>,
    pub(crate) grants: Vec<Grant>,
    /// When the packets come, on the clock of the grants.
    pub(crate) moment: u64,
    /// Names, or beginnings of names with a `*`.
    container_interfaces: Vec<&'static str>,
    foreign_interfaces: Vec<&'static str>,
}

/// A permission until a time, at some ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) address: Option<IpAddr>,
    pub(crate) protocol: L4Protocol,
    pub(crate) first: u16,
    pub(crate) last: u16,
    pub(crate) from: Range,
    pub(crate) end: u64,
}

/// Ports as somebody asks for them, or publishes them.
#[derive(Debug, Clone, Copy)]
struct Asked {
    address: Option<IpAddr>,
    protocol: L4Protocol,
    first: u16,
    last: u16,
}

/// Addresses from a first to a last one, as numbers of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    v4: bool,
    pub(crate) first: u128,
    pub(crate) last: u128,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Port {
    address: Option<IpAddr>,
    pub(crate) protocol: L4Protocol,
    pub(crate) first: u16,
    pub(crate) last: u16,
    pub(crate) allow: Who,
    pub(crate) except: Who,
    interfaces: Vec<&'static str>,
    pub(crate) log: bool,
    reject: bool,
    /// So many in an hour, and so many at once, that no packet here is beyond it: a limit gives no access.
    limits: (Option<u32>, Option<u32>),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Who {
    any: bool,
    containers: bool,
    /// Places of named lists, from 0.
    pub(crate) named: Vec<usize>,
    pub(crate) inline: Vec<Range>,
}

/// The reference: what a policy means for a packet, straight from the description of the language
/// and of the paths. Nothing here was taken from the compiler.
pub(crate) fn meaning(policy: &Meant, host: &HostView, packet: &Packet) -> Decision {
    use Decision::{Accept, Drop};
    if policy.denies_early(host, packet) {
        return Drop;
    }
    let way = packet.connection.map(|c| c.direction);
    let (answer, asked) = (
        way == Some(Direction::Reply),
        way == Some(Direction::Original),
    );
    let translated = packet.connection.filter(|c| c.dnat).map(|c| c.original);
    let out = packet.outgoing.as_ref().map_or("", |out| &out.name);
    let from_container = policy.knows_container(host, &packet.incoming);
    let icmp = [L4Protocol::Icmp, L4Protocol::Icmp6].contains(&packet.protocol);
    // `incoming` is given where the packet opens the connection.
    let judge = |port: &Port, asked: Option<Asked>, flow: Flow, incoming: Option<&String>| {
        if policy.reverse_path && packet.strays && incoming.is_some() {
            port.refused_if(true)
        } else {
            port.judge(policy, asked, flow, incoming)
        }
    };
    let at = |flow: Flow| Asked::of(packet.protocol, flow);

    if packet.hook == Hook::Input {
        let port = policy.most_exact(packet.protocol, packet.flow);
        return match port {
            // The host's own sockets are its own unless a policy names them.
            _ if packet.incoming == "lo" => Accept,
            // What comes back to a port that the kernel chose for this host's own request.
            Some(_) if policy.is_own_reply(host, packet) => Accept,
            _ if is_loopback(packet.flow) && is_published_on_loopback(host, packet) => Drop,
            Some(port) if from_container => port.refused_if(port.except.containers),
            None => drop_if(!from_container && policy.deny && is_published(host, packet)),
            _ if is_loopback(packet.flow) => Drop,
            Some(port) => judge(port, at(packet.flow), packet.flow, Some(&packet.incoming)),
        };
    }
    let out_of_reach = !policy.knows_container(host, out);
    let judged = translated.filter(|_| asked || answer && from_container && out_of_reach);
    if judged.is_some_and(is_loopback) {
        return Drop; // A loopback address never comes over a wire.
    }
    if icmp && packet.connection.is_some_and(|c| c.related) {
        return Accept; // Errors about connections: path MTU.
    }
    let tcp = packet.protocol == L4Protocol::Tcp;
    let related = packet.connection.is_some_and(|c| c.related);
    let opens = asked && translated.is_none() && !related;
    if from_container && out_of_reach && tcp && opens && packet.resumes {
        return Drop; // What it answers nobody knows any more; nothing says that it may.
    }
    let udp = packet.protocol == L4Protocol::Udp;
    let server = (packet.source_port, packet.flow.source);
    if udp && from_container && out_of_reach && translated.is_none() {
        // A packet that a published port sends to a client that is not allowed.
        let (client, through) = (packet.flow.destination, out);
        if let Some(refusal) = policy.refuses_client(host, server, client, (through, false)) {
            return refusal;
        }
    }
    let server = (packet.flow.port, packet.flow.destination);
    if udp && answer && !from_container {
        let (client, through) = (packet.flow.source, &packet.incoming);
        let strays = policy.reverse_path && packet.strays;
        if let Some(refusal) = policy.refuses_client(host, server, client, (through, strays)) {
            return refusal;
        }
    }
    let named = translated.and_then(|to| policy.most_exact(packet.protocol, to));
    let answers_outside = answer && !policy.knows_container(host, out);
    match translated {
        // Packets of containers of this host are accepted unless the port excepts them, and so are replies to them,
        // but not replies from a published port to others.
        _ if from_container && !(translated.is_some() && answers_outside) => match named {
            Some(port) if asked => port.refused_if(port.except.containers),
            _ => Accept,
        },
        _ if answer && !from_container => Accept,
        // What stays within a bridge of others is their own business.
        Some(_) if packet.returns && policy.names_foreign(host, &packet.incoming) => Accept,
        // The original destination decides.
        Some(to) => match named {
            Some(port) => judge(port, at(to), to, asked.then_some(&packet.incoming)),
            None if !policy.deny || packet.returns => Accept,
            None if from_container => Drop,
            None if policy.is_foreign(host, out) => Accept,
            None if packet.outgoing.as_ref().is_some_and(|o| o.bridge) => Drop,
            None => drop_if(policy.may_be_container(host, out)),
        },
        // Straight to a container: as if its port were published under its own number.
        None if !policy.is_routed_to_container(host, out) || packet.returns => Accept,
        None if policy.deny => Drop,
        None => match policy.behind(host, packet) {
            Some(_) if is_loopback(packet.flow) => Drop,
            Some((port, asked)) => judge(port, asked, packet.flow, Some(&packet.incoming)),
            None => Accept,
        },
    }
}

fn is_loopback(flow: Flow) -> bool {
    matches!(flow.destination, IpAddr::V4(to) if to.octets()[0] == 127)
}

fn drop_if(refused: bool) -> Decision {
    if refused {
        Decision::Drop
    } else {
        Decision::Accept
    }
}

/// Whether a port of the host is published there, so that nobody but an engine has it.
fn is_published(host: &HostView, packet: &Packet) -> bool {
    let Some(number) = packet.flow.port else {
        return false;
    };
    let is_automatic = host
        .local_ports
        .range()
        .is_some_and(|(first, last)| (first..=last).contains(&number));
    let is_there = |address: IpAddr| {
        !address.is_loopback() && (address.is_unspecified() || address == packet.flow.destination)
    };
    !is_automatic
        && host.publications().any(|publication| {
            let published = publication.published;
            is_protocol(published.protocol, packet.protocol)
                && (published.first..=published.last).contains(&number)
                && is_there(published.address)
        })
}

fn is_published_on_loopback(host: &HostView, packet: &Packet) -> bool {
    let is_automatic = |number| {
        let range = host.local_ports.range();
        range.is_some_and(|(first, last)| (first..=last).contains(&number))
    };
    packet.flow.port.is_some_and(|number| {
        !is_automatic(number)
            && host.publications().any(|publication| {
                let published = publication.published;
                is_protocol(published.protocol, packet.protocol)
                    && (published.first..=published.last).contains(&number)
                    && published.address.is_loopback()
            })
    })
}

fn is_protocol(protocol: dfw::net::Protocol, l4: L4Protocol) -> bool {
    protocol.name() == l4.name()
}

impl Meant {
    /// The key that decides about what is published.
    fn key_of(&self, published: &Published, protocol: L4Protocol) -> Option<&Port> {
        let matching = self.ports.iter().filter(|port| {
            let address = Some(published.address).filter(|address| !address.is_unspecified());
            port.protocol == protocol
                && port.first <= published.first
                && published.last <= port.last
                && (port.address.is_none() || port.address == address)
        });
        matching.min_by_key(|port| (port.address.is_none(), port.last - port.first))
    }

    /// How a packet between a container's UDP port and somebody outside is refused: the port is
    /// published, and by none of its names that one may reach it.
    fn refuses_client(
        &self,
        host: &HostView,
        server: (Option<u16>, IpAddr),
        client: IpAddr,
        (through, strays): (&str, bool),
    ) -> Option<Decision> {
        let udp = L4Protocol::Udp;
        let number = server.0?;
        let publications = host.engines.iter().flat_map(|e| &e.containers);
        let publications = publications.filter(|c| {
            let mut addresses = c.endpoints.iter().flat_map(|e| &e.addresses);
            c.running && addresses.any(|address| *address == server.1)
        });
        let publications: Vec<_> = publications
            .flat_map(|c| &c.published)
            .filter(|p| {
                is_protocol(p.protocol, udp)
                    && !p.address.is_loopback()
                    && p.address.is_ipv4() == server.1.is_ipv4()
            })
            .collect();
        let is_client_port = |number: u16| (32768..61000).contains(&number);
        let numbers: BTreeSet<u16> = publications.iter().map(|p| p.container_port).collect();
        let many = numbers.iter().filter(|n| is_client_port(**n)).count() > 16;
        if many && is_client_port(number) {
            return None;
        }
        let mut keys = Vec::new();
        for published in publications.iter().filter(|p| p.container_port == number) {
            match self.key_of(published, udp) {
                Some(port) => keys.push((port, Asked::published(published))),
                None if self.deny => {}
                None => return None,
            }
        }
        if !numbers.contains(&number) {
            return None;
        }
        let allows = |(port, asked): &(&Port, Asked)| {
            let elsewhere = !port.interfaces.is_empty() && !port.interfaces.contains(&through);
            !elsewhere
                && !strays
                && !self.is_among(&port.except, client)
                && (self.is_among(&port.allow, client) || self.grants(*asked, client))
        };
        if keys.iter().any(allows) {
            return None;
        }
        // The first of several keys says how: without an address, then by number.
        let first = keys
            .into_iter()
            .map(|(port, _)| port)
            .min_by_key(|port| (port.address, port.first, port.last));
        Some(first.map_or(Decision::Drop, |port| port.refused_if(true)))
    }

    /// What decides about a packet straight to a container: the last of the names of its port that the
    /// policy knows, or nothing, where the engine tells of any; else the container's own port.
    fn behind(&self, host: &HostView, packet: &Packet) -> Option<(&Port, Option<Asked>)> {
        let containers = host.engines.iter().flat_map(|e| &e.containers);
        let at = containers.filter(|c| {
            let mut addresses = c.endpoints.iter().flat_map(|e| &e.addresses);
            addresses.any(|address| *address == packet.flow.destination)
        });
        let names = at.flat_map(|c| &c.published).filter(|p| {
            is_protocol(p.protocol, packet.protocol) && Some(p.container_port) == packet.flow.port
        });
        let names: Vec<_> = names.collect();
        if names.is_empty() {
            let port = self.most_exact(packet.protocol, packet.flow)?;
            return Some((port, Asked::of(packet.protocol, packet.flow)));
        }
        let mut names = names.into_iter().rev();
        names.find_map(|published| {
            let port = self.key_of(published, packet.protocol)?;
            Some((port, Some(Asked::published(published))))
        })
    }

    /// Whether somebody may reach all of these ports for a time that has not ended.
    fn grants(&self, asked: Asked, source: IpAddr) -> bool {
        self.grants.iter().any(|grant| {
            grant.end > self.moment
                && grant.protocol == asked.protocol
                && grant.first <= asked.first
                && asked.last <= grant.last
                && (grant.address.is_none() || grant.address == asked.address)
                && grant.from.has(source)
        })
    }

    /// A key with an address before one without, then the narrower range.
    fn most_exact(&self, protocol: L4Protocol, to: Flow) -> Option<&Port> {
        let number = to.port?;
        let matching = self.ports.iter().filter(|port| {
            port.protocol == protocol
                && port.first <= number
                && number <= port.last
                && (port.address.is_none() || port.address == Some(to.destination))
        });
        matching.min_by_key(|port| (port.address.is_none(), port.last - port.first))
    }

    /// Whether a connection that arrives for this host is denied at once: its port allows some only, and denies
    /// without a word. Those that the later rules may exempt are left to them.
    fn denies_early(&self, host: &HostView, packet: &Packet) -> bool {
        let Some(arrival) = packet.arrival.filter(|arrival| arrival.local) else {
            return false;
        };
        let to = Flow {
            source: packet.connection.map_or(packet.flow, |c| c.original).source,
            destination: arrival.destination,
            port: arrival.port,
        };
        let from = packet.incoming.as_str();
        let is_exempt =
            from == "lo" || self.knows_container(host, from) || self.names_foreign(host, from);
        let port = self.most_exact(packet.protocol, to);
        let takes_part = |port: &&Port| {
            !port.allow.any && !port.log && !port.reject && port.limits == (None, None)
        };
        self.early
            && packet.protocol == L4Protocol::Tcp
            && !is_exempt
            && port.filter(takes_part).is_some_and(|port| {
                let asked = Asked::of(packet.protocol, to);
                port.judge(self, asked, to, Some(&packet.incoming)) != Decision::Accept
            })
    }

    /// TCP on a connection that this host opened, and UDP that answers something: at a port of any key
    /// that the kernel chooses from.
    fn is_own_reply(&self, host: &HostView, packet: &Packet) -> bool {
        let Some((number, (first, last))) = packet.flow.port.zip(host.local_ports.range()) else {
            return false;
        };
        let is_named = self.ports.iter().any(|port| {
            port.protocol == packet.protocol && port.first <= number && number <= port.last
        });
        let replies = packet
            .connection
            .is_some_and(|c| c.direction == Direction::Reply);
        let is_own = match packet.protocol {
            L4Protocol::Tcp => packet.opened,
            protocol => protocol == L4Protocol::Udp,
        };
        replies && is_own && is_named && (first..=last).contains(&number)
    }

    fn is_among(&self, who: &Who, source: IpAddr) -> bool {
        let named = who.named.iter().flat_map(|name| &self.sources[*name]);
        who.any || named.chain(&who.inline).any(|range| range.has(source))
    }

    /// By whole name, from the settings or from the host; the settings stand above the host.
    pub(crate) fn knows_container(&self, host: &HostView, name: &str) -> bool {
        let looks_so = host.container_bridges.contains(name);
        let said = self.container_interfaces.contains(&name);
        (said || looks_so && !self.foreign_interfaces.contains(&name))
            && !host.shared_bridges.contains(name)
    }

    fn may_be_container(&self, host: &HostView, name: &str) -> bool {
        self.knows_container(host, name)
            || self.container_interfaces.contains(&name)
            || fits(&self.container_interfaces, name)
    }

    /// What is known to be a container's is nobody else's.
    fn is_foreign(&self, host: &HostView, name: &str) -> bool {
        let fits = fits(&self.foreign_interfaces, name);
        self.names_foreign(host, name) || fits && !self.knows_container(host, name)
    }

    /// By whole name.
    fn names_foreign(&self, host: &HostView, name: &str) -> bool {
        let said = self.foreign_interfaces.contains(&name);
        !self.knows_container(host, name) && (said || host.foreign_bridges.contains(name))
    }

    /// What is another's is left alone, whatever else its name says.
    fn is_routed_to_container(&self, host: &HostView, name: &str) -> bool {
        self.may_be_container(host, name) && !self.is_foreign(host, name)
    }
}

/// Whether one of the patterns that end in `*` is the beginning of a name.
fn fits(patterns: &[&str], name: &str) -> bool {
    let beginnings = patterns.iter().filter_map(|p| p.strip_suffix('*'));
    beginnings.into_iter().any(|p| name.starts_with(p))
}

impl Port {
    fn refused_if(&self, refused: bool) -> Decision {
        match (refused, self.reject) {
            (false, _) => Decision::Accept,
            (true, false) => Decision::Drop,
            (true, true) => Decision::Reject,
        }
    }

    fn judge(
        &self,
        policy: &Meant,
        asked: Option<Asked>,
        flow: Flow,
        incoming: Option<&String>,
    ) -> Decision {
        let elsewhere = incoming.is_some_and(|name| {
            !self.interfaces.is_empty() && !self.interfaces.contains(&name.as_str())
        });
        let excepted = policy.is_among(&self.except, flow.source);
        let granted = asked.is_some_and(|asked| policy.grants(asked, flow.source));
        let allowed = granted || policy.is_among(&self.allow, flow.source);
        self.refused_if(elsewhere || excepted || !allowed)
    }
}

impl Asked {
    fn of(protocol: L4Protocol, to: Flow) -> Option<Self> {
        let port = to.port?;
        Some(Self {
            address: Some(to.destination),
            protocol,
            first: port,
            last: port,
        })
    }

    fn published(published: &Published) -> Self {
        Self {
            address: Some(published.address).filter(|address| !address.is_unspecified()),
            protocol: published.protocol.into(),
            first: published.first,
            last: published.last,
        }
    }
}

impl Range {
    fn has(self, address: IpAddr) -> bool {
        let number = match address {
            IpAddr::V4(v4) => u32::from(v4).into(),
            IpAddr::V6(v6) => u128::from(v6),
        };
        address.is_ipv4() == self.v4 && self.first <= number && number <= self.last
    }
}
