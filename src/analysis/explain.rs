//! Would this source reach that port, and why? Every door of this host that leads there, walked by
//! the packet, with the rules and elements that decided.

use crate::net::HostPorts;
use std::net::IpAddr;

use crate::analysis::eval::{Decision, Packet, Trace, evaluate};
use crate::analysis::path::{Door, Reach, Surroundings, Way, ways};
use crate::host::HostView;
use crate::ruleset::Ruleset;

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Who asks.
    pub from: IpAddr,
    /// The interface that the packet comes in through; any if not given.
    pub via: Option<String>,
    /// The port, and the address of this host or of a container; every address of the host if not
    /// given. `first == last`.
    pub to: HostPorts,
}

/// An answer: one for each door that leads there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What becomes of the packet at each door.
    pub doors: Vec<AtDoor>,
    /// Whether an engine publishes the port; if not, the doors are those that a port has in general.
    pub published: bool,
}

/// What becomes of the packet at a door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AtDoor {
    /// The door.
    pub way: Way,
    /// The packet.
    pub packet: Packet,
    /// Its way through the rules.
    pub trace: Trace,
}

impl AtDoor {
    /// Whether it is let through.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.trace.decision == Decision::Accept
    }
}

impl Answer {
    /// Whether the source reaches the port: by any door.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.doors.iter().any(AtDoor::is_open)
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
    let mut around = around.clone();
    if let Some(via) = &question.via {
        around.interfaces = vec![via.clone()];
    }
    if around.interfaces.is_empty() {
        around.interfaces.push("eth0".to_owned());
    }
    if let Some(address) = question.to.address {
        around.addresses = vec![address];
    }
    let mut found: Vec<Way> = ways(host, &around)
        .into_iter()
        .filter(|way| leads(way, question))
        .collect();
    let published = !found.is_empty();
    if !published {
        found = in_general(question);
    }
    let mut doors: Vec<AtDoor> = found
        .into_iter()
        .filter_map(|way| walk(ruleset, &around, &way, question.from))
        .collect();
    if !published {
        // A socket of the host is its own unless a rule says otherwise.
        doors.retain(|at| at.way.door != Door::HostNetwork || !at.trace.steps.is_empty());
    }
    Answer { doors, published }
}

/// Whether a way leads to what is asked.
fn leads(way: &Way, question: &Question) -> bool {
    let to = &question.to;
    let same_address = match to.address {
        Some(address) => way.address == address || way.address.is_unspecified(),
        None => way.door != Door::Container && way.door != Door::Loopback,
    };
    let port = way.port.unwrap_or(to.first);
    way.address.is_ipv4() == question.from.is_ipv4()
        && same_address
        && port == to.first
        && (way.port.is_none() || to.protocol == way.protocol)
}

/// The doors that a port has where nothing is known of it: translated, or a socket of the host.
fn in_general(question: &Question) -> Vec<Way> {
    let to = &question.to;
    [Door::Dnat, Door::HostNetwork]
        .map(|door| {
            Way::in_general(
                door,
                Reach::Anybody,
                to.protocol,
                to.address,
                question.from.is_ipv4(),
                to.first,
            )
        })
        .into()
}

/// The packet at a door: where it is let through, or else where it is refused first.
fn walk(ruleset: &Ruleset, around: &Surroundings, way: &Way, from: IpAddr) -> Option<AtDoor> {
    let mut refused = None;
    for packet in way.packets(from, around) {
        let trace = evaluate(ruleset, &packet);
        let at = AtDoor {
            way: way.clone(),
            packet,
            trace,
        };
        if at.is_open() {
            return Some(at);
        }
        refused = refused.or(Some(at));
    }
    refused
}
