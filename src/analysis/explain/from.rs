//! Everything that one source reaches on this host.

use std::cmp::Reverse;
use std::net::IpAddr;

use crate::analysis::audit::all_paths;
use crate::analysis::find::paths;
use crate::analysis::judgement::{Verdict, reason_of};
use crate::analysis::surroundings::Surroundings;
use crate::host::HostView;
use crate::net::Family;
use crate::ruleset::Ruleset;

use super::{Nothing, Walk, entrance, walk};

/// The verdict of one source on every path of its family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reachable {
    /// The packets, one for each path and, where that makes a difference, each address of the host. Allowed ones
    /// first, then those that are not judged, then by who gets there and by port.
    pub walks: Vec<Walk>,
    /// Why there are no paths, if the source has none.
    pub nothing: Option<Nothing>,
}

impl Reachable {
    /// Returns how many of the packets have this verdict.
    #[must_use]
    pub fn count(&self, verdict: Verdict) -> usize {
        let verdicts = self.walks.iter().map(|walk| walk.judgement.verdict());
        verdicts.filter(|of| *of == verdict).count()
    }
}

/// Returns everything that a source reaches. It comes in through `via`, or through any interface.
#[must_use]
pub fn reachable(
    host: &HostView,
    around: &Surroundings,
    ruleset: &Ruleset,
    from: IpAddr,
    via: Option<&String>,
) -> Reachable {
    let Some(around) = entrance(host, around, from, via) else {
        return Reachable {
            walks: Vec::new(),
            nothing: Some(Nothing::Own),
        };
    };
    let own = paths(host, &around);
    let of_family = all_paths(host, &around, &[ruleset])
        .into_iter()
        .filter(|path| path.family() == Family::of(from));
    let mut walks: Vec<Walk> = of_family
        .flat_map(|path| walk(ruleset, &around, &path, from))
        .collect();
    // What is true of all other ports of a container is not repeated for each port that a key names.
    let to_all: Vec<Walk> = walks
        .iter()
        .filter(|walk| walk.path.port.is_none())
        .cloned()
        .collect();
    walks.retain(|walk| {
        let is_same = |all: &Walk| {
            (all.path.kind, all.path.address) == (walk.path.kind, walk.path.address)
                && all.judgement == walk.judgement
                && reason_of(&all.trace.steps) == reason_of(&walk.trace.steps)
        };
        walk.path.port.is_none() || own.contains(&walk.path) || !to_all.iter().any(is_same)
    });
    walks.sort_by_key(|walk| Reverse(walk.judgement.verdict()));
    Reachable {
        walks,
        nothing: None,
    }
}
