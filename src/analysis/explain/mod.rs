//! Whether a source reaches a port, and why: every path of this host that leads there, walked by the packet, with
//! the rules and elements that decide.
//!
//! With the source alone ([`from`]) every path of this host is walked; with the port alone ([`to`]) the paths that
//! lead there are judged for every address at once.

pub mod from;
pub mod to;

use std::net::IpAddr;

use crate::host::HostView;
use crate::net::{Family, HostPorts, Limits};
use crate::ruleset::Ruleset;

use super::eval::{Packet, Trace};
use super::find::{paths, straight};
use super::judgement::{Judgement, Reason, Verdict, judge, limits_of, stays};
use super::path::{Kind, Path, Reach};
use super::surroundings::Surroundings;

/// A query: a source and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The source address.
    pub from: IpAddr,
    /// The incoming interface; any if not given.
    pub via: Option<String>,
    /// What it asks for.
    pub destination: Destination,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// The port, and the address of this host, of a container, or behind one; every address of the host
    /// if not given. `first == last`.
    pub to: HostPorts,
    /// The location of the destination address, if one is given and known.
    pub place: Option<Place>,
    /// Whether this host was inspected. Otherwise an unknown service may listen on the port.
    pub host_known: bool,
}

/// The location of an address, as seen from this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// It is an address of the host.
    Host,
    /// Packets to it leave through this interface.
    Through {
        /// The interface.
        interface: String,
        /// Whether a host on that link forwards them; if not, the address is on the link itself.
        has_gateway: bool,
    },
    /// This host has no route to it.
    Nowhere,
}

/// The results of all paths to the port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The result on each path; separate results where they depend on the address of the host.
    pub walks: Vec<Walk>,
    /// Whether a path to the port exists now; otherwise the paths are those of any port.
    pub exists: bool,
    /// The reason why there are no paths, if there are none.
    pub nothing: Option<Nothing>,
    /// Whether nothing listens, and dfw would not filter a service of the host that did.
    pub services_not_judged: bool,
}

/// The reason why no path leads to a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nothing {
    /// This host has no route to the address.
    Unreachable,
    /// The source is this host itself, whose packets dfw does not filter.
    Own,
}

/// A packet on a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walk {
    /// The path.
    pub path: Path,
    /// The addresses of the host with the same result.
    pub addresses: Vec<IpAddr>,
    /// The packet to the first of these addresses.
    pub packet: Packet,
    /// The verdict of the rules.
    pub judgement: Judgement,
    /// The rules that the packet matched.
    pub trace: Trace,
}

impl Walk {
    /// Returns the limits within which the source is allowed; none if it is not.
    #[must_use]
    pub fn limits(&self, ruleset: &Ruleset) -> Limits {
        match self.judgement {
            Judgement::Accepted => limits_of(ruleset, &self.trace.steps),
            _ => Limits::default(),
        }
    }
}

impl Answer {
    fn nothing(why: Nothing) -> Self {
        Self {
            walks: Vec::new(),
            exists: false,
            nothing: Some(why),
            services_not_judged: false,
        }
    }

    /// Returns the verdict over all paths: allow outweighs not judged, which outweighs deny.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        if self.nothing == Some(Nothing::Unreachable) {
            return Verdict::Deny;
        }
        let verdicts = self.walks.iter().map(|walk| walk.judgement.verdict());
        verdicts.max().unwrap_or(Verdict::NotJudged)
    }
}

/// Answers a question.
#[must_use]
pub fn explain(
    host: &HostView,
    around: &Surroundings,
    ruleset: &Ruleset,
    question: &Question,
) -> Answer {
    let Some(mut around) = entrance(host, around, question.from, question.via.as_ref()) else {
        return Answer::nothing(Nothing::Own);
    };
    let destination = &question.destination;
    let families = [Family::of(question.from)];
    let Some(found) = destination.find(host, &mut around, &families) else {
        return Answer::nothing(Nothing::Unreachable);
    };
    let mut walks: Vec<Walk> = found
        .paths
        .into_iter()
        .flat_map(|path| walk(ruleset, &around, &path, question.from))
        .collect();
    // Nothing listens, so the result for a service is left out.
    let is_judged = |walk: &Walk| {
        found.exists || !destination.host_known || walk.judgement.reason() != Some(Reason::Service)
    };
    let all = walks.len();
    walks.retain(is_judged);
    Answer {
        exists: found.exists,
        nothing: None,
        services_not_judged: walks.len() < all,
        walks,
    }
}

/// Returns the surroundings of a source, which come in through some interfaces only; `None` for one of this
/// host's own, which comes in nowhere.
fn entrance(
    host: &HostView,
    around: &Surroundings,
    from: IpAddr,
    via: Option<&String>,
) -> Option<Surroundings> {
    let mut around = around.clone();
    let is_own = around.addresses.contains(&from) || from.is_loopback();
    if is_own && via.is_none() {
        return None;
    }
    let container = host.endpoints().find(|endpoint| endpoint.address == from);
    let bridge = container.and_then(|endpoint| endpoint.network?.bridge.clone());
    if let (None, Some(bridge)) = (via, bridge) {
        // A container's packets come in through its bridge.
        around.interfaces = vec![bridge];
    }
    if let Some(via) = via {
        around.interfaces = vec![master(host, via)];
    }
    if around.interfaces.is_empty() {
        around.interfaces.push("eth0".to_owned());
    }
    Some(around)
}

/// Returns the interface through which packets of an interface come in: those of a port of a bridge, a bond or a
/// VRF come in through that.
fn master(host: &HostView, via: &String) -> String {
    let master = host.interfaces.get(via).and_then(Option::as_ref);
    master.unwrap_or(via).clone()
}

/// The paths to a destination.
struct Found {
    paths: Vec<Path>,
    /// Whether anything leads there at the moment; if not, the paths are those that a port has in general.
    exists: bool,
}

impl Destination {
    /// Returns the paths of these families; `None` if this host has no route to the address. Makes the address that
    /// is asked for the only one of the surroundings.
    fn find(
        &self,
        host: &HostView,
        around: &mut Surroundings,
        families: &[Family],
    ) -> Option<Found> {
        let mut found: Vec<Path> = elsewhere(host, self);
        if found.is_empty() && self.place == Some(Place::Nowhere) {
            return None;
        }
        if found.is_empty() {
            if let Some(address) = self.to.address {
                around.addresses = vec![address];
            }
            let all = paths(host, around).into_iter();
            found = all
                .filter(|path| families.contains(&path.family()) && leads(path, &self.to))
                .collect();
        }
        let exists = !found.is_empty();
        if !exists {
            found = families
                .iter()
                .flat_map(|family| in_general(&self.to, *family))
                .collect();
        }
        Some(Found {
            paths: found,
            exists,
        })
    }
}

/// Returns the path to an address that is not the host's: a container's own, or one that is routed through a
/// container or elsewhere.
fn elsewhere(host: &HostView, destination: &Destination) -> Vec<Path> {
    let HostPorts {
        address: Some(to),
        protocol,
        first: port,
        ..
    } = destination.to
    else {
        return Vec::new();
    };
    if let Some(endpoint) = host.endpoints().find(|endpoint| endpoint.address == to) {
        return vec![straight(&endpoint, protocol, Some(port), port)];
    }
    let Some(Place::Through {
        interface,
        has_gateway,
    }) = &destination.place
    else {
        return Vec::new();
    };
    let kind = match (host.container_bridges.contains(interface), has_gateway) {
        // No queried engine reports it: its engine may be stopped while its containers run.
        (true, false) => Kind::Container,
        (true, true) => Kind::Through,
        (false, _) => Kind::Forwarded,
    };
    let title = if *has_gateway {
        format!("what is behind {interface}")
    } else {
        format!("what is on {interface}")
    };
    let path = Path::to_socket(kind, protocol, to, port)
        .titled(title)
        .reached_by(Reach::Routed)
        .to(to, port, Some(interface.clone()));
    vec![path]
}

/// Returns whether a path leads to the queried port.
fn leads(path: &Path, to: &HostPorts) -> bool {
    let same_address = match to.address {
        Some(address) => path.address == address || path.address.is_unspecified(),
        None => path.kind != Kind::Container && path.kind != Kind::Loopback,
    };
    let port = path.port.unwrap_or(to.first);
    same_address && port == to.first && (path.port.is_none() || to.protocol == path.protocol)
}

/// Returns the paths of a port that nothing serves: DNAT, and a socket of the host.
fn in_general(to: &HostPorts, family: Family) -> [Path; 2] {
    let address = to.address.unwrap_or(family.unspecified());
    [
        Path::published(to, family),
        Path::to_socket(Kind::Service, to.protocol, address, to.first),
    ]
}

/// Returns the results on a path: one for all addresses of the host with the same result. The interface with
/// the most permissive verdict counts.
fn walk(ruleset: &Ruleset, around: &Surroundings, path: &Path, from: IpAddr) -> Vec<Walk> {
    let mut walks: Vec<Walk> = Vec::new();
    let asked = |packet: &Packet| {
        let original = packet.connection.map(|connection| connection.original);
        original.unwrap_or(packet.flow).destination
    };
    let packets = path.packets(from, around);
    let mut addresses: Vec<IpAddr> = Vec::new();
    for packet in &packets {
        let address = asked(packet);
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    for address in addresses {
        let to_it = packets.iter().filter(|packet| asked(packet) == address);
        let judged = to_it.map(|packet| {
            let (judgement, trace) = judge(ruleset, path, packet);
            if stays(path, packet) {
                (packet, (Judgement::NotJudged(Reason::SameInterface), trace))
            } else {
                (packet, (judgement, trace))
            }
        });
        // The first of those with the worst verdict.
        let worst = judged.reduce(|worst, other| {
            if other.1.0.verdict() > worst.1.0.verdict() {
                other
            } else {
                worst
            }
        });
        let Some((packet, (judgement, trace))) = worst else {
            continue;
        };
        let same = walks
            .iter_mut()
            .find(|walk| walk.judgement == judgement && walk.trace.steps == trace.steps);
        match same {
            Some(walk) => walk.addresses.push(address),
            None => walks.push(Walk {
                path: path.clone(),
                addresses: vec![address],
                packet: packet.clone(),
                judgement,
                trace,
            }),
        }
    }
    walks
}
