//! A fingerprint of the ruleset, to detect drift.
//!
//! It is stored with the time of the apply. Big sets are not included, since they are not read back; their
//! sketches serve the same purpose.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::ruleset::{Elements, Ruleset, Set};

use super::installed::Installed;
use super::sketch::Sketch;

/// Computes the fingerprint of a desired ruleset.
#[must_use]
pub fn fingerprint(ruleset: &Ruleset) -> u64 {
    of(ruleset, &|_, set| Sketch::is_wanted(set))
}

impl Installed {
    /// Returns whether the table differs from what dfw applied (drift); `None` if that is unknown. The
    /// sets must have been read.
    #[must_use]
    pub fn has_drifted(&self) -> Option<bool> {
        let facts = |name: &str| self.facts.sets.get(name);
        let is_remembered = |name: &str, set: &Set| {
            facts(name).is_some_and(|facts| {
                facts.sketch.is_some() && (!facts.read || Sketch::is_wanted(set))
            })
        };
        let expires = |name: &str| {
            let set = self.ruleset.sets.get(name);
            set.is_some_and(|set| set.elements.set_type().expiring)
        };
        let unread = self.facts.sets.iter();
        let unread =
            unread.filter(|(name, set)| !set.read && set.sketch.is_none() && !expires(name));
        let now = of(&self.ruleset, &is_remembered);
        Some(now != self.facts.fingerprint? || unread.count() > 0)
    }
}

fn of(ruleset: &Ruleset, is_big: &dyn Fn(&str, &Set) -> bool) -> u64 {
    // The key is no secret: this is no protection against those who can write rules.
    let mut hasher = SipHasher13::new();
    ruleset
        .unknown
        .iter()
        .for_each(|line| write(line, &mut hasher));
    for (name, set) in &ruleset.sets {
        write(name, &mut hasher);
        if !is_big(name, set) {
            write(set.comment.as_deref().unwrap_or_default(), &mut hasher);
            elements(&set.elements, &mut hasher);
        }
    }
    for (name, chain) in &ruleset.chains {
        write(name, &mut hasher);
        let base = chain.base.map(|base| base.to_string());
        write(&base.unwrap_or_default(), &mut hasher);
        let rules = chain.rules.iter();
        rules.for_each(|rule| write(&rule.to_string(), &mut hasher));
    }
    hasher.finish()
}

fn write(text: &str, hasher: &mut SipHasher13) {
    hasher.write(text.as_bytes());
    hasher.write_u8(0xff);
}

/// Sets that can have many elements without being big are hashed without formatting them.
fn elements(elements: &Elements, hasher: &mut SipHasher13) {
    match elements {
        // They go without anybody's doing.
        Elements::Ipv4Until(_) | Elements::Ipv6Until(_) => {}
        Elements::PortIpv4(all) => all.iter().for_each(|(port, address)| {
            hasher.write_u16(*port);
            hasher.write_u32(*address);
        }),
        Elements::PortIpv6(all) => all.iter().for_each(|(port, address)| {
            hasher.write_u16(*port);
            hasher.write_u128(*address);
        }),
        others => others.texts().for_each(|text| write(&text, hasher)),
    }
}
