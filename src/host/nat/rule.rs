//! Evaluates one rule for a packet with partially known bytes.

use super::packet::{
    Branch, Cell, Effect, Holds, INET, IPV4, IPV6, Narrowed, Origin, Packet, RTN_LOCAL, Several,
    address_of,
};
use std::net::IpAddr;

use super::register::State;
use super::{Target, extension};
use crate::net::Family;
use crate::nftables::foreign::{Field, Name, NatRules, REGISTERS, Register, Step, Verdict};

/// `RTN_UNICAST` of `linux/rtnetlink.h`.
const RTN_UNICAST: u32 = 1;

/// `NF_CT_STATE_BIT(IP_CT_NEW)` of `linux/netfilter/nf_conntrack_common.h`: NAT chains see only the first
/// packet of a connection.
const STATE_NEW: u32 = 8;

/// Evaluates a rule of the table of `chain`; returns every possible result. If that exceeds the remaining
/// steps, the rule may do anything.
pub(super) fn follow(
    rules: &NatRules,
    chain: &Name,
    steps: &[Step],
    packet: &Packet,
    narrowed: &Narrowed,
    left: &mut usize,
) -> Vec<Branch> {
    let state = State {
        cells: [Cell::default(); REGISTERS],
        holds: Holds::Yes,
        narrowed: narrowed.clone(),
    };
    let mut ways = Vec::new();
    let mut follower = Follower {
        rules,
        chain,
        packet,
        left,
    };
    follower.go(state, steps, &mut ways);
    ways
}

struct Follower<'a> {
    rules: &'a NatRules,
    chain: &'a Name,
    packet: &'a Packet,
    /// The remaining steps.
    left: &'a mut usize,
}

impl Follower<'_> {
    /// Counts work; `false` if it exceeds the limit.
    fn may(&mut self, work: usize) -> bool {
        let left = self.left.checked_sub(work);
        *self.left = left.unwrap_or_default();
        left.is_some()
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each kind of step")]
    fn go(&mut self, mut state: State, steps: &[Step], ways: &mut Vec<Branch>) {
        for (at, step) in steps.iter().enumerate() {
            if !self.may(1) {
                ways.push(state.ends(Effect::Unknown));
                return;
            }
            let effect = match step {
                Step::Nothing | Step::SetConnectionMark | Step::Untrack => continue,
                Step::Load { field, to } => {
                    self.load(&mut state, *field, *to);
                    continue;
                }
                Step::Value { to, value } => {
                    let cells: Vec<Cell> = value.iter().copied().map(Cell::from).collect();
                    state.put(*to, &cells);
                    continue;
                }
                Step::Bitwise {
                    from,
                    to,
                    mask,
                    xor,
                } => {
                    state.mask(*from, *to, mask, xor);
                    continue;
                }
                Step::Compare {
                    register,
                    order,
                    value,
                } => {
                    let holds = state.compare(*register, *order, value);
                    if !state.take(holds) {
                        return;
                    }
                    continue;
                }
                Step::Range {
                    register,
                    inverted,
                    first,
                    last,
                } => {
                    let holds = state.range(*register, *inverted, first, last);
                    if !state.take(holds) {
                        return;
                    }
                    continue;
                }
                Step::Condition => {
                    state.cells = [Cell::default(); REGISTERS];
                    state.holds = Holds::Maybe;
                    state.narrowed.conditional = true;
                    continue;
                }
                Step::Lookup {
                    set,
                    register,
                    inverted,
                    into,
                } => {
                    let name = (self.chain.0, self.chain.1.clone(), set.clone());
                    let set = self.rules.sets.get(&name);
                    let elements = set
                        .and_then(|set| set.elements.as_ref())
                        .map_or(0, Vec::len);
                    if !self.may(elements) {
                        ways.push(state.ends(Effect::Unknown));
                        return;
                    }
                    for (state, effect) in state.look_up(set, *register, *inverted, *into) {
                        match effect {
                            Some(effect) => ways.push(state.ends(effect)),
                            None => self.go(state, &steps[at + 1..], ways),
                        }
                    }
                    return;
                }
                Step::Match(extension) => {
                    let narrowed = &mut state.narrowed;
                    let holds = extension::matches(extension, self.packet, narrowed);
                    state.holds = state.holds.min(holds);
                    if holds == Holds::No {
                        return;
                    }
                    continue;
                }
                Step::Target(target) => match extension::target(target, self.packet.family) {
                    Some(effect) => effect,
                    None => continue,
                },
                Step::Verdict(Verdict::Continue) => break,
                Step::Verdict(verdict) => Effect::Verdict(verdict.clone()),
                Step::Dnat { family, .. } if ![INET, self.family()].contains(family) => continue,
                Step::Dnat {
                    family: _,
                    address,
                    port,
                    network,
                } => Effect::Translate(self.dnat(&state, *address, *port, *network)),
                Step::Redirect { port } => Effect::Translate(match state.port(*port) {
                    Ok(port) => Target::Host(port),
                    Err(Several) => Target::Somewhere,
                }),
                // The rest may be unreachable, and this may do anything.
                Step::Unknown => {
                    ways.push(state.ends(Effect::Unknown));
                    return;
                }
            };
            ways.push(state.ends(effect));
            return;
        }
        ways.push(state.ends(Effect::Verdict(Verdict::Continue)));
    }

    /// Returns the bytes of a field, as far as they are known.
    fn load(&self, state: &mut State, field: Field, to: Register) {
        let packet = self.packet;
        let known = |bytes: &[u8]| bytes.iter().copied().map(Cell::from).collect::<Vec<_>>();
        let unknown = |length: usize, origin| {
            let cell = Cell {
                value: None,
                origin,
            };
            vec![cell; length]
        };
        let cells = match field {
            Field::Network { offset, length } => (offset..offset + length)
                .map(|at| self.network(at))
                .collect(),
            Field::Transport { offset, length } => (offset..offset + length)
                .map(|at| self.transport(at))
                .collect(),
            Field::Protocol => vec![self.protocol()],
            Field::Family => known(&[self.family()]),
            Field::EtherType => known(&match packet.family {
                Family::V4 => [0x08, 0x00],
                Family::V6 => [0x86, 0xdd],
            }),
            Field::InterfaceName => match &packet.interface {
                Some((name, _)) => {
                    let mut bytes = name.as_bytes().to_vec();
                    bytes.resize(16, 0);
                    known(&bytes)
                }
                None => unknown(16, Origin::Interface),
            },
            Field::InterfaceIndex => match packet.interface {
                Some((_, index)) => known(&index.to_ne_bytes()),
                None => unknown(4, Origin::Interface),
            },
            Field::State => known(&STATE_NEW.to_ne_bytes()),
            Field::AddressType => match packet.local {
                Some(true) => known(&RTN_LOCAL.to_ne_bytes()),
                Some(false) => known(&RTN_UNICAST.to_ne_bytes()),
                None => unknown(4, Origin::AddressType),
            },
            Field::Other => unknown(16, Origin::Elsewhere),
        };
        state.put(to, &cells);
    }

    fn family(&self) -> u8 {
        match self.packet.family {
            Family::V4 => IPV4,
            Family::V6 => IPV6,
        }
    }

    fn protocol(&self) -> Cell {
        Cell {
            value: self.packet.number(),
            origin: Origin::Protocol,
        }
    }

    /// Returns a byte of the network header.
    fn network(&self, at: usize) -> Cell {
        let octet = |address: Option<IpAddr>, index: usize| match address? {
            IpAddr::V4(address) => address.octets().get(index).copied(),
            IpAddr::V6(address) => address.octets().get(index).copied(),
        };
        // `struct iphdr`, `struct ipv6hdr`: source, destination.
        let (source, destination, end) = match self.packet.family {
            Family::V4 => (12, 16, 20),
            Family::V6 => (8, 24, 40),
        };
        if (destination..end).contains(&at) {
            let index = at - destination;
            return Cell {
                value: octet(self.packet.address, index),
                origin: Origin::Destination(index, 0xff),
            };
        }
        if (source..destination).contains(&at) {
            return Cell {
                value: octet(self.packet.source, at - source),
                origin: Origin::Elsewhere,
            };
        }
        // The next header of IPv6 may be an extension header.
        match at {
            9 if self.packet.family == Family::V4 => self.protocol(),
            _ => Cell::default(),
        }
    }

    /// Returns a byte of the transport header, of which ports come first in all protocols that have them.
    fn transport(&self, at: usize) -> Cell {
        let [high, low] = match self.packet.port.map(u16::to_be_bytes) {
            Some([high, low]) => [Some(high), Some(low)],
            None => [None, None],
        };
        match at {
            2 => Cell {
                value: high,
                origin: Origin::Port(0),
            },
            3 => Cell {
                value: low,
                origin: Origin::Port(1),
            },
            _ => Cell::default(),
        }
    }

    fn dnat(
        &self,
        state: &State,
        address: Option<(Register, Register)>,
        port: Option<(Register, Register)>,
        network: bool,
    ) -> Target {
        let Ok(port) = state.port(port) else {
            return Target::Somewhere;
        };
        let Some((first, last)) = address else {
            // The address stays, and a packet for the host stays with it.
            return match self.packet.local {
                Some(true) => Target::Host(port),
                _ => Target::Somewhere,
            };
        };
        let length = usize::from(self.packet.family.bits() / 8);
        match (state.bytes(first, length), state.bytes(last, length)) {
            (Some(first), Some(last)) if first == last && !network => {
                address_of(&first).map_or(Target::Somewhere, |to| Target::Address(to, port))
            }
            _ => Target::Somewhere,
        }
    }
}
