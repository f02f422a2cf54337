//! Walks base chains and the chains that they jump to.

use super::packet::{Branch, Effect, Holds, INET, IPV4, IPV6, Narrowed, Packet, address_of};
use std::collections::BTreeSet;
use std::net::IpAddr;

use super::index::Index;
use super::rule::follow;
use super::{Answer, Question, Target, Translation};
use crate::net::{Family, Ports};
use crate::nftables::foreign::{Name, NatChain, NatRules, Verdict};
use crate::untrusted::clean;

/// The deepest jump stack (`NFT_JUMP_STACK_SIZE` of the kernel).
const DEPTH: usize = 16;
/// The most instructions evaluated and elements compared for one query.
const STEPS: usize = 1 << 20;
/// The most translations in a list.
const LISTED: usize = 1 << 16;

/// The possible results of a chain.
#[derive(Debug, Default)]
struct Ends {
    /// It goes on behind the chain.
    passes: bool,
    /// The base chain ends without a translation.
    accepted: bool,
    translated: BTreeSet<Target>,
    /// Whether other results are possible.
    unknown: bool,
}

struct Walk<'a> {
    rules: &'a NatRules,
    /// Without it, all rules are followed.
    index: Option<&'a Index>,
    packet: Packet,
    /// The remaining steps.
    left: usize,
}

/// Returns the effect of all rules on a packet's destination.
pub(super) fn judge(rules: &NatRules, index: Option<&Index>, question: &Question) -> Answer {
    let address = question.address;
    let packet = Packet {
        family: Family::of(address),
        address: Some(address).filter(|address| !address.is_unspecified()),
        source: question.source,
        local: question.local,
        protocol: Some(question.protocol),
        port: Some(question.port),
        interface: question.interface.clone(),
    };
    let mut bases = bases(rules, packet.family);
    bases.sort_by_key(|base| base.priority);
    let mut walk = Walk {
        rules,
        index,
        packet,
        left: STEPS,
    };
    let mut translated = BTreeSet::new();
    // Of chains with the same priority the older one runs first, but their age is unknown.
    for same in bases.chunk_by(|a, b| a.priority == b.priority) {
        let mut passes = true;
        for base in same {
            let mut ends = walk.chain(&base.name, 0);
            ends.unknown |= ends.passes && !base.accepts;
            if ends.unknown {
                return Answer::Unknown;
            }
            passes &= ends.passes || ends.accepted;
            translated.extend(ends.translated);
        }
        if !passes {
            let mut targets = translated.into_iter();
            return match (targets.next(), targets.next()) {
                (Some(to), None) => Answer::Translated { to },
                (Some(_), Some(_)) => Answer::Translated {
                    to: Target::Somewhere,
                },
                // Unreachable: a chain without a fall-through has another result.
                (None, _) => Answer::Unknown,
            };
        }
    }
    if translated.is_empty() {
        Answer::NotTranslated
    } else {
        Answer::Unknown
    }
}

fn bases(rules: &NatRules, family: Family) -> Vec<&NatChain> {
    let family = match family {
        Family::V4 => IPV4,
        Family::V6 => IPV6,
    };
    let bases = rules.bases.iter();
    bases
        .filter(|base| [INET, family].contains(&base.name.0))
        .collect()
}

impl Walk<'_> {
    fn chain(&mut self, name: &Name, depth: usize) -> Ends {
        let mut ends = Ends::default();
        if depth > DEPTH {
            ends.unknown = true;
            return ends;
        }
        let rules = self.rules;
        let few = match (self.index, self.packet.port) {
            (Some(index), Some(port)) => {
                let interface = self.packet.interface.as_ref();
                let interface = interface.map(|(interface, _)| interface.as_str());
                index.rules(rules, name, (port, interface))
            }
            _ => rules.rules.get(name).into_iter().flatten().collect(),
        };
        for steps in few {
            if self.left == 0 {
                ends.unknown = true;
                return ends;
            }
            let narrowed = Narrowed::default();
            let mut goes_on = true;
            let branches = follow(rules, name, steps, &self.packet, &narrowed, &mut self.left);
            for branch in branches {
                let Branch { holds, effect, .. } = branch;
                let continues = self.end(effect, name, depth, &mut ends);
                if holds == Holds::Yes {
                    goes_on = continues;
                }
            }
            if !goes_on {
                return ends;
            }
        }
        ends.passes = true;
        ends
    }

    /// Adds the result of a rule; returns whether the next rule may be reached.
    fn end(&mut self, effect: Effect, chain: &Name, depth: usize, ends: &mut Ends) -> bool {
        let in_table = |to: String| (chain.0, chain.1.clone(), to);
        match effect {
            Effect::Verdict(Verdict::Continue) => return true,
            Effect::Verdict(Verdict::Accept) => ends.accepted = true,
            Effect::Verdict(Verdict::Return) => ends.passes = true,
            Effect::Verdict(Verdict::Jump(to)) => {
                let called = self.chain(&in_table(to), depth + 1);
                ends.take(&called);
                return called.passes;
            }
            Effect::Verdict(Verdict::Goto(to)) => {
                let called = self.chain(&in_table(to), depth + 1);
                ends.take(&called);
                ends.passes |= called.passes;
            }
            Effect::Translate(to) => {
                ends.translated.insert(to);
            }
            Effect::Verdict(Verdict::Other) | Effect::Unknown => ends.unknown = true,
        }
        false
    }
}

impl Ends {
    fn take(&mut self, called: &Self) {
        self.accepted |= called.accepted;
        self.unknown |= called.unknown;
        self.translated.extend(&called.translated);
    }
}

/// Returns all translations.
pub(super) fn translations(rules: &NatRules) -> Vec<Translation> {
    let mut found = Vec::new();
    for family in Family::ALL {
        let packet = Packet {
            family,
            address: None,
            source: None,
            local: None,
            protocol: None,
            port: None,
            interface: None,
        };
        let mut walk = Walk {
            rules,
            index: None,
            packet,
            left: STEPS,
        };
        for base in bases(rules, family) {
            walk.list(&base.name, &Narrowed::default(), 0, &mut found);
        }
    }
    let key = |one: &Translation| {
        let ports = one.ports.as_ref().map(|ports| ports.ranges().to_vec());
        let asked = (one.family, one.destination, one.protocol, ports);
        (
            one.table.clone(),
            one.chain.clone(),
            asked,
            one.to,
            one.conditional,
        )
    };
    found.sort_by_cached_key(key);
    found.dedup();
    found
}

impl Walk<'_> {
    fn list(
        &mut self,
        name: &Name,
        narrowed: &Narrowed,
        depth: usize,
        found: &mut Vec<Translation>,
    ) {
        let rules = self.rules;
        for steps in rules.rules.get(name).into_iter().flatten() {
            if depth > DEPTH || found.len() >= LISTED || self.left == 0 {
                return;
            }
            let branches = follow(rules, name, steps, &self.packet, narrowed, &mut self.left);
            for branch in branches {
                match branch.effect {
                    Effect::Translate(to) => {
                        found.extend(translation(name, self.packet.family, branch.narrowed, to));
                    }
                    Effect::Verdict(Verdict::Jump(to) | Verdict::Goto(to)) => {
                        let to = (name.0, name.1.clone(), to);
                        self.list(&to, &branch.narrowed, depth + 1, found);
                    }
                    Effect::Verdict(_) | Effect::Unknown => {}
                }
            }
        }
    }
}

/// Returns a translation as data; `None` if its conditions contradict.
fn translation(
    chain: &Name,
    family: Family,
    narrowed: Narrowed,
    to: Target,
) -> Option<Translation> {
    let Narrowed {
        protocol,
        ports,
        address,
        mut conditional,
    } = narrowed;
    if ports.as_ref().is_some_and(Ports::is_empty) {
        return None;
    }
    let destination = destination(family, &address);
    conditional |= destination.is_none() && !address.is_empty();
    let kind = match chain.0 {
        INET => "inet",
        IPV4 => "ip",
        _ => "ip6",
    };
    Some(Translation {
        destination,
        family,
        protocol,
        ports: ports.filter(|ports| ports.ranges() != [(0, u16::MAX)]),
        to,
        table: format!("{kind} {}", clean(&chain.1)),
        chain: clean(&chain.2),
        conditional,
    })
}

/// Returns the prefix that these bytes and masks are, if they are one.
fn destination(family: Family, bytes: &[(usize, u8, u8)]) -> Option<(IpAddr, u8)> {
    let length = usize::from(family.bits() / 8);
    let (mut mask, mut value) = (vec![0_u8; length], vec![0_u8; length]);
    for (at, bits, is) in bytes {
        *mask.get_mut(*at)? |= bits;
        *value.get_mut(*at)? |= is & bits;
    }
    let ones: u32 = mask.iter().map(|byte| byte.count_ones()).sum();
    let mut leading = 0;
    for byte in &mask {
        leading += byte.leading_ones();
        if *byte != 0xff {
            break;
        }
    }
    if ones != leading || ones == 0 {
        return None;
    }
    Some((address_of(&value)?, u8::try_from(leading).ok()?))
}
