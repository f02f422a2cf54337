//! The rules of each chain by the destination port, or else the interface, that they match.
//!
//! An engine has a rule for each published port and for each bridge, and an audit asks about each of these ports:
//! without the index that is a rule for each pair of ports, and of ports and bridges.

use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;

use super::extension;
use crate::nftables::foreign::{Field, Name, NatRules, Order, Step};

/// The length of the name of an interface with the zeros behind it (`IFNAMSIZ`).
const NAME: usize = 16;

/// The rules of a chain, by their places in it.
#[derive(Debug, Clone, Default)]
struct ByPort {
    /// Those that cannot match any other port.
    one: HashMap<u16, Vec<usize>>,
    /// Those that cannot match any other incoming interface, by its name with the zeros behind it.
    interfaces: HashMap<Vec<u8>, Vec<usize>>,
    /// The rest.
    any: Vec<usize>,
}

/// The index of all chains; built on first use.
#[derive(Debug, Clone, Default)]
pub(super) struct Index(OnceLock<BTreeMap<Name, ByPort>>);

/// It follows from the rules.
impl PartialEq for Index {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Index {}

impl Index {
    /// Returns the rules of a chain, in order, without those that cannot match a packet to this port, through this
    /// interface if one is given.
    pub(super) fn rules<'a>(
        &self,
        rules: &'a NatRules,
        chain: &Name,
        (port, interface): (u16, Option<&str>),
    ) -> Vec<&'a Vec<Step>> {
        let chains = self.0.get_or_init(|| of(rules));
        let (Some(index), Some(all)) = (chains.get(chain), rules.rules.get(chain)) else {
            return Vec::new();
        };
        let own = index.one.get(&port).map_or(&[][..], Vec::as_slice);
        let mut places = [own, &index.any].concat();
        match interface {
            Some(interface) => {
                let mut name = interface.as_bytes().to_vec();
                name.resize(NAME, 0);
                places.extend(index.interfaces.get(&name).into_iter().flatten());
            }
            None => places.extend(index.interfaces.values().flatten()),
        }
        places.sort_unstable();
        places.iter().filter_map(|at| all.get(*at)).collect()
    }
}

fn of(rules: &NatRules) -> BTreeMap<Name, ByPort> {
    let chains = rules.rules.iter().map(|(name, rules)| {
        let mut index = ByPort::default();
        for (at, steps) in rules.iter().enumerate() {
            let place = match (port(steps), interface(steps)) {
                (Some(port), _) => index.one.entry(port).or_default(),
                (None, Some(name)) => index.interfaces.entry(name.to_vec()).or_default(),
                (None, None) => &mut index.any,
            };
            place.push(at);
        }
        (name.clone(), index)
    });
    chains.collect()
}

/// Returns the name of the only interface that a rule can match, with the zeros behind it; `None` if there may be
/// others, or if the rule does something before it compares the interface.
fn interface(steps: &[Step]) -> Option<&[u8]> {
    let mut steps = steps.iter().peekable();
    while let Some(step) = steps.next() {
        match step {
            Step::Load {
                field: Field::InterfaceName,
                to,
            } => {
                if let Some(Step::Compare {
                    register,
                    order: Order::Equal,
                    value,
                }) = steps.peek()
                    && register == to
                    && value.len() == NAME
                {
                    return Some(value);
                }
            }
            Step::Nothing
            | Step::SetConnectionMark
            | Step::Untrack
            | Step::Load { .. }
            | Step::Value { .. }
            | Step::Bitwise { .. }
            | Step::Compare { .. }
            | Step::Range { .. }
            | Step::Condition
            | Step::Match(_) => {}
            Step::Lookup { .. }
            | Step::Target(_)
            | Step::Verdict(_)
            | Step::Dnat { .. }
            | Step::Redirect { .. }
            | Step::Unknown => return None,
        }
    }
    None
}

/// Returns the only port that a rule can match; `None` if there may be others, or if it does something before it
/// compares the port.
fn port(steps: &[Step]) -> Option<u16> {
    const PORT: Field = Field::Transport {
        offset: 2,
        length: 2,
    };
    let mut steps = steps.iter().peekable();
    while let Some(step) = steps.next() {
        match step {
            Step::Load { field, to } if *field == PORT => {
                if let Some(Step::Compare {
                    register,
                    order: Order::Equal,
                    value,
                }) = steps.peek()
                    && register == to
                    && let [high, low] = value[..]
                {
                    return Some(u16::from_be_bytes([high, low]));
                }
            }
            Step::Match(extension) => {
                if let Some(port) = extension::port(extension) {
                    return Some(port);
                }
            }
            Step::Nothing
            | Step::SetConnectionMark
            | Step::Untrack
            | Step::Load { .. }
            | Step::Value { .. }
            | Step::Bitwise { .. }
            | Step::Compare { .. }
            | Step::Range { .. }
            | Step::Condition => {}
            Step::Lookup { .. }
            | Step::Target(_)
            | Step::Verdict(_)
            | Step::Dnat { .. }
            | Step::Redirect { .. }
            | Step::Unknown => return None,
        }
    }
    None
}
