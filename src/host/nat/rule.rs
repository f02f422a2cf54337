//! What one rule does to a packet of which some bytes are known, and others are not.

use std::borrow::Cow;
use std::net::IpAddr;

use super::{Target, extension};
use crate::net::{Family, Ports, Protocol};
use crate::netlink::foreign::{
    Data, Field, ForeignElement, ForeignSet, Into, Name, NatRules, Order, REGISTERS, Register,
    Step, Verdict,
};

/// How many elements of a set are gone through one by one, where more than one may match.
const BRANCHES: usize = 1024;
/// `RTN_LOCAL` and `RTN_UNICAST` of `linux/rtnetlink.h`.
const RTN_UNICAST: u32 = 1;
const RTN_LOCAL: u32 = 2;
/// `NFPROTO_INET`, `NFPROTO_IPV4` and `NFPROTO_IPV6` of `linux/netfilter.h`.
pub(super) const INET: u8 = 1;
pub(super) const IPV4: u8 = 2;
pub(super) const IPV6: u8 = 10;
/// `NF_CT_STATE_BIT(IP_CT_NEW)` of `linux/netfilter/nf_conntrack_common.h`: nat chains see no other first
/// packet of a client.
const STATE_NEW: u32 = 8;

/// What is known of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packet {
    pub family: Family,
    pub address: Option<IpAddr>,
    pub source: Option<IpAddr>,
    pub local: Option<bool>,
    pub protocol: Option<Protocol>,
    pub port: Option<u16>,
    pub interface: Option<(String, u32)>,
}

impl Packet {
    pub(super) fn number(&self) -> Option<u8> {
        Some(match self.protocol? {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        })
    }
}

/// Whether something holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Holds {
    No,
    Maybe,
    Yes,
}

impl From<bool> for Holds {
    fn from(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }
}

impl Holds {
    pub(super) fn not(self) -> Self {
        match self {
            Self::No => Self::Yes,
            Self::Maybe => Self::Maybe,
            Self::Yes => Self::No,
        }
    }
}

/// What a rule ends with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    Verdict(Verdict),
    Translate(Target),
    /// Anything.
    Unknown,
}

/// What packets must be for a rule to match, as far as it can be said as a translation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Narrowed {
    pub protocol: Option<u8>,
    pub ports: Option<Ports>,
    /// By byte of the address: mask and value.
    pub address: Vec<(usize, u8, u8)>,
    pub conditional: bool,
}

impl Narrowed {
    /// Takes that the port must be one of these.
    pub(super) fn take_ports(&mut self, ports: &Ports) {
        self.ports = Some(match &self.ports {
            Some(before) => before.intersection(ports),
            None => ports.clone(),
        });
    }

    fn take_protocol(&mut self, protocol: u8) {
        self.conditional |= self.protocol.is_some_and(|before| before != protocol);
        self.protocol = Some(protocol);
    }
}

/// One way through a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Branch {
    /// Whether a packet goes this way.
    pub holds: Holds,
    pub effect: Effect,
    pub narrowed: Narrowed,
}

/// Where a byte in a register comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Origin {
    #[default]
    Elsewhere,
    Protocol,
    /// A byte of the port, the first or the second.
    Port(u8),
    /// A byte of the destination, with the bits of it that count.
    Destination(usize, u8),
    Interface,
    AddressType,
}

/// A byte in a register.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Cell {
    value: Option<u8>,
    origin: Origin,
}

impl From<u8> for Cell {
    fn from(value: u8) -> Self {
        Self {
            value: Some(value),
            origin: Origin::Elsewhere,
        }
    }
}

/// A rule half done.
#[derive(Debug, Clone)]
struct State {
    cells: [Cell; REGISTERS],
    holds: Holds,
    narrowed: Narrowed,
}

/// Follows a rule of a table of `chain`'s; returns every way that a packet may take through it. Where that
/// takes more steps than are left, it may do anything.
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
    /// How many steps may still be taken.
    left: &'a mut usize,
}

impl Follower<'_> {
    /// Takes work into account; `false` if it is too much.
    fn may(&mut self, work: usize) -> bool {
        let left = self.left.checked_sub(work);
        *self.left = left.unwrap_or_default();
        left.is_some()
    }

    fn go(&mut self, mut state: State, steps: &[Step], ways: &mut Vec<Branch>) {
        for (at, step) in steps.iter().enumerate() {
            if !self.may(1) {
                ways.push(state.ends(Effect::Unknown));
                return;
            }
            let effect = match step {
                Step::Nothing => continue,
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
                    Some(port) => Target::Host(port),
                    None => Target::Somewhere,
                }),
                // What follows may never be reached, and this may do anything.
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

    /// The bytes of a field, as far as they are known.
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

    /// A byte of the network header.
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
        // The next header of IPv6 may be that of an extension.
        match at {
            9 if self.packet.family == Family::V4 => self.protocol(),
            _ => Cell::default(),
        }
    }

    /// A byte of the transport header, of which ports come first in all protocols that have them.
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
        let Some(port) = state.port(port) else {
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

/// An address from its bytes.
pub(super) fn address_of(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let v6 = <[u8; 16]>::try_from(bytes).map(IpAddr::from);
    v4.or(v6).ok()
}

impl State {
    fn ends(self, effect: Effect) -> Branch {
        Branch {
            holds: self.holds,
            effect,
            narrowed: self.narrowed,
        }
    }

    /// Takes a condition; `false` if it does not hold.
    fn take(&mut self, holds: Holds) -> bool {
        self.holds = self.holds.min(holds);
        holds != Holds::No
    }

    /// Writes into registers. A value takes whole ones, the rest of the last of which is zero.
    fn put(&mut self, to: Register, cells: &[Cell]) {
        let end = (to + cells.len().next_multiple_of(4)).min(REGISTERS);
        let mut cells = cells.iter().copied();
        for place in self.cells.get_mut(to..end).into_iter().flatten() {
            *place = cells.next().unwrap_or(Cell::from(0));
        }
    }

    /// Bytes in registers; what is past them is not known.
    fn get(&self, from: Register, length: usize) -> Vec<Cell> {
        let at = |at: usize| self.cells.get(at).copied().unwrap_or_default();
        (from..from + length).map(at).collect()
    }

    fn bytes(&self, from: Register, length: usize) -> Option<Vec<u8>> {
        self.get(from, length)
            .iter()
            .map(|cell| cell.value)
            .collect()
    }

    /// One port, or none; `None` for several, or one that is not known.
    fn port(&self, port: Option<(Register, Register)>) -> Option<Option<u16>> {
        let Some((first, last)) = port else {
            return Some(None);
        };
        let (first, last) = (self.bytes(first, 2)?, self.bytes(last, 2)?);
        let port = <[u8; 2]>::try_from(&first[..]).ok()?;
        (first == last).then_some(Some(u16::from_be_bytes(port)))
    }

    fn mask(&mut self, from: Register, to: Register, mask: &[u8], xor: &[u8]) {
        let cells = self.get(from, mask.len());
        let masked: Vec<Cell> = cells
            .iter()
            .zip(mask.iter().zip(xor))
            .map(|(cell, (mask, xor))| match (cell.origin, *mask, *xor) {
                (_, 0, xor) => Cell::from(xor),
                (_, 0xff, 0) => *cell,
                (Origin::Destination(at, before), mask, 0) => Cell {
                    value: cell.value.map(|value| value & mask),
                    origin: Origin::Destination(at, before & mask),
                },
                (_, mask, xor) => Cell {
                    value: cell.value.map(|value| value & mask ^ xor),
                    origin: Origin::Elsewhere,
                },
            })
            .collect();
        self.put(to, &masked);
    }

    /// Compares a register with a value, and takes what a packet must be for it.
    fn compare(&mut self, register: Register, order: Order, value: &[u8]) -> Holds {
        let cells = self.get(register, value.len());
        let holds = holds(&cells, order, value);
        if holds == Holds::Maybe {
            self.narrow(&cells, order, value);
        }
        holds
    }

    fn range(&mut self, register: Register, inverted: bool, first: &[u8], last: &[u8]) -> Holds {
        let cells = self.get(register, first.len());
        let from = holds(&cells, Order::AtLeast, first);
        let to = holds(&cells, Order::AtMost, last);
        let inside = from.min(to);
        let holds = if inverted { inside.not() } else { inside };
        if holds == Holds::Maybe && inverted {
            self.narrowed.conditional = true;
        } else if holds == Holds::Maybe {
            self.narrow(&cells, Order::AtLeast, first);
            self.narrow(&cells, Order::AtMost, last);
        }
        holds
    }

    /// Takes what packets must be for a comparison to hold; anything else makes it conditional.
    fn narrow(&mut self, cells: &[Cell], order: Order, value: &[u8]) {
        let narrowed = &mut self.narrowed;
        let origins: Vec<Origin> = cells.iter().map(|cell| cell.origin).collect();
        match (&origins[..], order, value) {
            ([Origin::Protocol], Order::Equal, [protocol]) => narrowed.take_protocol(*protocol),
            ([Origin::Port(0), Origin::Port(1)], _, [high, low]) => {
                narrowed.take_ports(&ports(order, u16::from_be_bytes([*high, *low])));
            }
            // A packet from elsewhere does not come in through that one; and it is for this host.
            ([Origin::Interface, ..], Order::Unequal, _) => {}
            ([Origin::AddressType, ..], Order::Equal, value)
                if value == RTN_LOCAL.to_ne_bytes() => {}
            (origins, Order::Equal, value) => {
                for (origin, value) in origins.iter().zip(value) {
                    match origin {
                        Origin::Destination(at, mask) => {
                            narrowed.address.push((*at, *mask, *value));
                        }
                        _ => narrowed.conditional = true,
                    }
                }
            }
            _ => narrowed.conditional = true,
        }
    }

    /// Looks a key up: a state for each element that may be meant, with what it ends the rule with.
    fn look_up(
        self,
        set: Option<&ForeignSet>,
        register: Register,
        inverted: bool,
        into: Into,
    ) -> Vec<(Self, Option<Effect>)> {
        let elements = set.and_then(|set| Some((set, set.elements.as_ref()?)));
        let Some((set, elements)) = elements else {
            return vec![self.lost(into)];
        };
        let key = self.get(register, set.length);
        let found = candidates(set, elements, &key);
        let is_certain = found.iter().any(|(_, holds)| *holds == Holds::Yes);
        if inverted {
            return match (is_certain, found.is_empty()) {
                (true, _) => Vec::new(),
                (false, true) => vec![(self, None)],
                (false, false) => vec![self.lost(into)],
            };
        }
        if found.len() > BRANCHES {
            return vec![self.lost(into)];
        }
        let branch = |(range, holds): (Candidate<'_>, Holds)| {
            let mut state = self.clone();
            state.holds = state.holds.min(holds);
            if holds == Holds::Maybe {
                state.narrow_to(set, &key, &range);
            }
            let effect = match (into, range.data) {
                (Into::Nothing, _) => None,
                (Into::Register(to), Data::Value(value)) => {
                    let cells: Vec<Cell> = value.iter().copied().map(Cell::from).collect();
                    state.put(to, &cells);
                    None
                }
                (Into::Verdict, Data::Verdict(verdict)) => Some(Effect::Verdict(verdict.clone())),
                // An object, or what this kernel alone knows.
                _ => return state.lost(into),
            };
            (state, effect)
        };
        found.into_iter().map(branch).collect()
    }

    /// What is left where a set is not known.
    fn lost(mut self, into: Into) -> (Self, Option<Effect>) {
        self.cells = [Cell::default(); REGISTERS];
        self.holds = Holds::Maybe;
        self.narrowed.conditional = true;
        (self, (into == Into::Verdict).then_some(Effect::Unknown))
    }

    fn narrow_to(&mut self, set: &ForeignSet, key: &[Cell], range: &Candidate<'_>) {
        let (Some(first), Some(last)) = (&range.first, &range.last) else {
            self.narrowed.conditional = true;
            return;
        };
        for (at, length) in parts(set) {
            let part = at..at + length;
            let (Some(cells), Some(first), Some(last)) = (
                key.get(part.clone()),
                first.get(part.clone()),
                last.get(part),
            ) else {
                self.narrowed.conditional = true;
                return;
            };
            if cells.iter().all(|cell| cell.value.is_some()) {
                continue;
            }
            if first == last {
                self.narrow(cells, Order::Equal, first);
            } else if matches!(cells.first(), Some(cell) if is_destination(cell)) {
                self.narrow_prefix(first, last);
            } else {
                self.narrow(cells, Order::AtLeast, first);
                self.narrow(cells, Order::AtMost, last);
            }
        }
    }

    /// Takes a range of addresses, if it is a prefix.
    fn narrow_prefix(&mut self, first: &[u8], last: &[u8]) {
        for (at, (first, last)) in first.iter().zip(last).enumerate() {
            let mask = !(first ^ last);
            self.narrowed.address.push((at, mask, first & mask));
            // The bits that differ must be all 0 in the first address and all 1 in the last.
            self.narrowed.conditional |=
                first & !mask != 0 || mask.leading_ones() + (!mask).count_ones() != 8;
        }
    }
}

fn is_destination(cell: &Cell) -> bool {
    matches!(cell.origin, Origin::Destination(..))
}

/// The ports that compare so with one.
fn ports(order: Order, port: u16) -> Ports {
    let below = port.checked_sub(1).map(|last| (0, last));
    let above = port.checked_add(1).map(|first| (first, u16::MAX));
    match order {
        Order::Equal => [(port, port)].into_iter().collect(),
        Order::Unequal => below.into_iter().chain(above).collect(),
        Order::Less => below.into_iter().collect(),
        Order::AtMost => [(0, port)].into_iter().collect(),
        Order::Greater => above.into_iter().collect(),
        Order::AtLeast => [(port, u16::MAX)].into_iter().collect(),
    }
}

/// Whether bytes compare so with others, of the same number.
fn holds(cells: &[Cell], order: Order, value: &[u8]) -> Holds {
    let known: Option<Vec<u8>> = cells.iter().map(|cell| cell.value).collect();
    let differs = || {
        let mut both = cells.iter().zip(value);
        both.any(|(cell, value)| cell.value.is_some_and(|known| known != *value))
    };
    match (known, order) {
        (Some(known), Order::Equal) => (known == value).into(),
        (Some(known), Order::Unequal) => (known != value).into(),
        (Some(known), Order::Less) => (&known[..] < value).into(),
        (Some(known), Order::AtMost) => (&known[..] <= value).into(),
        (Some(known), Order::Greater) => (&known[..] > value).into(),
        (Some(known), Order::AtLeast) => (&known[..] >= value).into(),
        (None, Order::Equal) if differs() => Holds::No,
        (None, Order::Unequal) if differs() => Holds::Yes,
        (None, _) => Holds::Maybe,
    }
}

/// The places and lengths of the parts of a set's key.
fn parts(set: &ForeignSet) -> Vec<(usize, usize)> {
    if set.parts.is_empty() {
        return vec![(0, set.length)];
    }
    let mut at = 0;
    let place = |length: &usize| {
        let place = (at, *length);
        at += length.next_multiple_of(4);
        place
    };
    set.parts.iter().map(place).collect()
}

/// An element that a key may match, or a range of them. Without a first and a last key it is all that no
/// other element is.
struct Candidate<'a> {
    first: Option<&'a [u8]>,
    last: Option<Cow<'a, [u8]>>,
    data: &'a Data,
}

/// The elements that a key may match.
fn candidates<'a>(
    set: &ForeignSet,
    elements: &'a [ForeignElement],
    key: &[Cell],
) -> Vec<(Candidate<'a>, Holds)> {
    let mut others = None;
    let mut found = Vec::new();
    for candidate in ranges(set, elements) {
        let (Some(first), Some(last)) = (&candidate.first, &candidate.last) else {
            others = Some(candidate);
            continue;
        };
        let part = |(at, length): (usize, usize)| {
            let part = at..at + length;
            let (Some(cells), Some(first), Some(last)) = (
                key.get(part.clone()),
                first.get(part.clone()),
                last.get(part),
            ) else {
                return Holds::Maybe;
            };
            if first == last {
                return holds(cells, Order::Equal, first);
            }
            holds(cells, Order::AtLeast, first).min(holds(cells, Order::AtMost, last))
        };
        match parts(set).into_iter().map(part).min() {
            Some(Holds::Yes) => return vec![(candidate, Holds::Yes)],
            Some(Holds::No) => {}
            Some(Holds::Maybe) | None => found.push((candidate, Holds::Maybe)),
        }
    }
    if let Some(others) = others {
        let holds = if found.is_empty() {
            Holds::Yes
        } else {
            Holds::Maybe
        };
        found.push((others, holds));
    }
    found
}

/// The elements as ranges of keys.
fn ranges<'a>(set: &ForeignSet, elements: &'a [ForeignElement]) -> Vec<Candidate<'a>> {
    let single = |element: &'a ForeignElement| Candidate {
        first: element.key.as_deref(),
        last: element
            .last
            .as_deref()
            .or(element.key.as_deref())
            .map(Cow::from),
        data: &element.data,
    };
    let has_ends = set.interval && set.parts.len() < 2;
    if !has_ends {
        return elements.iter().map(single).collect();
    }
    let (others, mut ends): (Vec<_>, Vec<_>) = elements.iter().partition(|e| e.key.is_none());
    // An end before the start of the next range at the same key.
    ends.sort_by(|a, b| (&a.key, !a.ends).cmp(&(&b.key, !b.ends)));
    let mut ranges: Vec<Candidate<'a>> = others.into_iter().map(single).collect();
    for (at, element) in ends.iter().enumerate() {
        if element.ends {
            continue;
        }
        let next = ends.get(at + 1).and_then(|next| next.key.as_deref());
        ranges.push(Candidate {
            last: match next {
                Some(next) => before(next).map(Cow::from),
                None => Some(vec![0xff; set.length].into()),
            },
            ..single(element)
        });
    }
    ranges
}

/// The key before another, as a big-endian number.
fn before(key: &[u8]) -> Option<Vec<u8>> {
    let mut key = key.to_vec();
    for byte in key.iter_mut().rev() {
        let (less, borrows) = byte.overflowing_sub(1);
        *byte = less;
        if !borrows {
            return Some(key);
        }
    }
    None
}
