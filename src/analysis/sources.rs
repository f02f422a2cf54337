//! Which sources a path allows, of all addresses of its family.

use std::net::IpAddr;
use std::rc::Rc;

use crate::net::{AddressSet, Family};

use super::access::{Judge, most_permissive};
use super::eval::Pool;
use super::judgement::Verdict;
use super::path::{Path, Reach};
use super::surroundings::Surroundings;

/// The addresses of a path's family by verdict; all others are denied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    /// Those that are allowed, through some interface and at some address of the host.
    pub allowed: Rc<AddressSet>,
    /// Those that are not judged, and nowhere allowed.
    pub not_judged: Rc<AddressSet>,
}

impl Sources {
    /// Judges a path of a known host for every source. Of several interfaces, and of several addresses of the host,
    /// the most permissive verdict counts.
    #[must_use]
    pub fn of(judge: &mut Judge<'_>, pool: &mut Pool, path: &Path, around: &Surroundings) -> Self {
        let accesses = asked(path, around)
            .into_iter()
            .map(|address| judge.on_host(pool, path, around, address));
        let accesses: Vec<_> = accesses.collect();
        let accesses = accesses
            .into_iter()
            .reduce(|a, b| most_permissive(pool, &a, &b))
            .unwrap_or_default();
        let mut with = |verdict: Verdict| {
            let nobody = pool.nobody();
            let accesses = accesses.iter().filter(|access| access.verdict() == verdict);
            accesses.fold(nobody, |all, access| pool.union(&all, &access.sources))
        };
        Self {
            allowed: with(Verdict::Allow),
            not_judged: with(Verdict::NotJudged),
        }
    }
}

/// The addresses of the host that count: those of the link, where only on-link hosts get in.
fn asked(path: &Path, around: &Surroundings) -> Vec<IpAddr> {
    let is_own = path.address.is_unspecified() && path.target.is_none();
    if path.reach == Reach::OnLink && is_own {
        let link = around.link_addresses.iter().copied();
        return link
            .filter(|address| Family::of(*address) == path.family())
            .collect();
    }
    path.asked(around)
}
