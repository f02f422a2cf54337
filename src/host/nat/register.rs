//! The registers of a rule, with partially known bytes.

use super::packet::{Branch, Cell, Effect, Holds, Narrowed, Origin, RTN_LOCAL, Several, holds};
use super::set::{Candidate, candidates, parts};
use crate::net::Ports;
use crate::nftables::foreign::{Data, ForeignSet, Into, Order, REGISTERS, Register};

/// The most elements of a set that are tried one by one, if several may match.
const BRANCHES: usize = 1024;

/// A rule half done.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub cells: [Cell; REGISTERS],
    pub holds: Holds,
    pub narrowed: Narrowed,
}

impl State {
    pub(super) fn ends(self, effect: Effect) -> Branch {
        Branch {
            holds: self.holds,
            effect,
            narrowed: self.narrowed,
        }
    }

    /// Adds a condition; `false` if it cannot hold.
    pub(super) fn take(&mut self, holds: Holds) -> bool {
        self.holds = self.holds.min(holds);
        holds != Holds::No
    }

    /// Writes registers. A value fills whole registers, padded with zeros.
    pub(super) fn put(&mut self, to: Register, cells: &[Cell]) {
        let end = (to + cells.len().next_multiple_of(4)).min(REGISTERS);
        let mut cells = cells.iter().copied();
        for place in self.cells.get_mut(to..end).into_iter().flatten() {
            *place = cells.next().unwrap_or(Cell::from(0));
        }
    }

    /// Bytes in registers; bytes past them are unknown.
    pub(super) fn get(&self, from: Register, length: usize) -> Vec<Cell> {
        let at = |at: usize| self.cells.get(at).copied().unwrap_or_default();
        (from..from + length).map(at).collect()
    }

    pub(super) fn bytes(&self, from: Register, length: usize) -> Option<Vec<u8>> {
        self.get(from, length)
            .iter()
            .map(|cell| cell.value)
            .collect()
    }

    /// Returns one port, or none.
    pub(super) fn port(&self, port: Option<(Register, Register)>) -> Result<Option<u16>, Several> {
        let Some((first, last)) = port else {
            return Ok(None);
        };
        match (self.bytes(first, 2).as_deref(), self.bytes(last, 2)) {
            (Some([high, low]), Some(last)) if [*high, *low] == last[..] => {
                Ok(Some(u16::from_be_bytes([*high, *low])))
            }
            _ => Err(Several),
        }
    }

    pub(super) fn mask(&mut self, from: Register, to: Register, mask: &[u8], xor: &[u8]) {
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

    /// Compares a register with a value, and adds the conditions for the comparison to hold.
    pub(super) fn compare(&mut self, register: Register, order: Order, value: &[u8]) -> Holds {
        let cells = self.get(register, value.len());
        let holds = holds(&cells, order, value);
        if holds == Holds::Maybe {
            self.narrow(&cells, order, value);
        }
        holds
    }

    pub(super) fn range(
        &mut self,
        register: Register,
        inverted: bool,
        first: &[u8],
        last: &[u8],
    ) -> Holds {
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

    /// Adds the conditions for a comparison to hold; others make the rule conditional.
    pub(super) fn narrow(&mut self, cells: &[Cell], order: Order, value: &[u8]) {
        let narrowed = &mut self.narrowed;
        let origins: Vec<Origin> = cells.iter().map(|cell| cell.origin).collect();
        match (&origins[..], order, value) {
            ([Origin::Protocol], Order::Equal, [protocol]) => narrowed.take_protocol(*protocol),
            ([Origin::Port(0), Origin::Port(1)], _, [high, low]) => {
                narrowed.take_ports(&ports(order, u16::from_be_bytes([*high, *low])));
            }
            // A packet from another host does not come in through that interface, and is for this host.
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

    /// Looks a key up; returns a state for each element that may match, with its verdict.
    pub(super) fn look_up(
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
                // An object, or a type unknown to dfw.
                _ => return state.lost(into),
            };
            (state, effect)
        };
        found.into_iter().map(branch).collect()
    }

    /// Returns the possible states after the lookup in an unknown set.
    pub(super) fn lost(mut self, into: Into) -> (Self, Option<Effect>) {
        self.cells = [Cell::default(); REGISTERS];
        self.holds = Holds::Maybe;
        self.narrowed.conditional = true;
        (self, (into == Into::Verdict).then_some(Effect::Unknown))
    }

    pub(super) fn narrow_to(&mut self, set: &ForeignSet, key: &[Cell], range: &Candidate<'_>) {
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

    /// Adds the condition of an address range, if it is a prefix.
    pub(super) fn narrow_prefix(&mut self, first: &[u8], last: &[u8]) {
        for (at, (first, last)) in first.iter().zip(last).enumerate() {
            let mask = !(first ^ last);
            self.narrowed.address.push((at, mask, first & mask));
            // The bits that differ must be all 0 in the first address and all 1 in the last.
            self.narrowed.conditional |=
                first & !mask != 0 || mask.leading_ones() + (!mask).count_ones() != 8;
        }
    }
}

pub(super) fn is_destination(cell: &Cell) -> bool {
    matches!(cell.origin, Origin::Destination(..))
}

/// Returns the ports for which a comparison holds.
pub(super) fn ports(order: Order, port: u16) -> Ports {
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
