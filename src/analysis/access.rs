//! Who reaches a port: every address of a family, apart by verdict and by the line that decides.
//!
//! ```text
//!  path, interface, address ─► packet ─► Symbolic::partition ─► regions ─► Access
//! ```
//!
//! On a known host the paths are those of [`find`](super::find), and [`Judge::on_host`] answers for one of them.
//! Without a host, a path is one that a port has in general ([`Slot`]): the interfaces are apart by what rules
//! say of them ([`interfaces`](super::interfaces)).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::rc::Rc;

use crate::net::{AddressSet, Entry, Family, Limits, Protocol};
use crate::ruleset::{Elements, Interface, Origin, Ruleset};

use super::eval::{Last, Packet, Partition, Pool, Step, Symbolic};
use super::judgement::{
    Judgement, Reason, Verdict, judgement, limits_of, line_of, reason_of, stays,
};
use super::path::{Kind, Path};
use super::surroundings::Surroundings;

/// Sources with one judgement by one line of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access<S = Vec<Step>> {
    /// The addresses, never none.
    pub sources: Rc<AddressSet>,
    /// What becomes of the packet.
    pub judgement: Judgement,
    /// The rules that led there, for one of the sets of addresses; none where no rule decides. Of a port in general
    /// the last one.
    pub steps: S,
}

/// The rules that led to a decision, or the last of them.
pub trait Decisive {
    /// Returns the comment of the rule that decides, if there is one; `None` where no rule decides.
    fn comment(&self) -> Option<Option<&str>>;
}

impl Decisive for Vec<Step> {
    fn comment(&self) -> Option<Option<&str>> {
        self.last().map(|step| step.comment.as_deref())
    }
}

impl Decisive for Option<Last<'_>> {
    fn comment(&self) -> Option<Option<&str>> {
        self.map(|last| last.comment)
    }
}

impl<S: Decisive> Access<S> {
    /// Returns the verdict that is shown.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.judgement.verdict()
    }

    /// Returns whether the same decides the same, whatever the addresses.
    #[must_use]
    pub fn is_alike(&self, other: &Self) -> bool {
        // A line is what a comment says.
        self.judgement == other.judgement && self.steps.comment() == other.steps.comment()
    }
}

impl Access {
    /// Returns the line of the policy that decides; `None` where a rule of dfw's own decides, or none at all.
    #[must_use]
    pub fn line(&self) -> Option<Origin> {
        line_of(&self.steps)
    }

    /// Returns what decides, for people: `FILE:LINE`, the comment of a rule of dfw's own, or that no rule does.
    #[must_use]
    pub fn reason(&self) -> String {
        reason_of(&self.steps)
    }

    /// Returns the limits within which each source is allowed; none if they are not.
    #[must_use]
    pub fn limits(&self, ruleset: &Ruleset) -> Limits {
        if self.judgement == Judgement::Accepted {
            limits_of(ruleset, &self.steps)
        } else {
            Limits::default()
        }
    }
}

/// What becomes of a packet from every address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged<'a, S = Vec<Step>> {
    /// Disjoint, and together every address that was asked for; one for each judgement and line.
    pub accesses: Vec<Access<S>>,
    /// The ports for which this is the same, see [`Partition::ports`].
    pub ports: (u16, u16),
    /// The ports for which the address that is asked makes no difference, see [`Partition::any_destination`].
    pub any_destination: Option<(u16, u16)>,
    /// What rules asked of interfaces, see [`Partition::interfaces`].
    pub interfaces: Vec<&'a Interface>,
}

/// What becomes of a packet from every address in general, by the last steps.
pub type General<'a> = Judged<'a, Option<Last<'a>>>;

/// A port, a path and an interface of no host in particular.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot<'a> {
    /// The kind of path: [`Dnat`](Kind::Dnat) for a published port, [`Service`](Kind::Service) for a socket of the
    /// host, [`Container`](Kind::Container) for a packet straight to a container.
    pub kind: Kind,
    /// The family of the source.
    pub family: Family,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The port that is asked, which is the container's own as well.
    pub port: u16,
    /// The address that is asked.
    pub address: IpAddr,
    /// The interface that packets come in through.
    pub incoming: &'a str,
    /// The bridge that forwarded packets leave through.
    pub outgoing: &'a str,
    /// Whether sources are those that would not be answered through that interface.
    pub strays: bool,
}

impl Slot<'_> {
    /// Returns the path.
    #[must_use]
    pub fn path(&self) -> Path {
        let path = Path::to_socket(self.kind, self.protocol, self.address, self.port);
        match self.kind {
            Kind::Dnat | Kind::Container | Kind::Through | Kind::Forwarded => {
                path.to(self.address, self.port, Some(self.outgoing.to_owned()))
            }
            Kind::Proxy | Kind::Held | Kind::HostNetwork | Kind::Service | Kind::Loopback => path,
        }
    }

    /// Returns the packet of a client, from some address of the family.
    #[must_use]
    pub fn packet(&self, path: &Path) -> Packet {
        Packet {
            strays: self.strays,
            ..path.packet(self.family.unspecified(), self.incoming, self.address)
        }
    }
}

/// A ruleset that is asked for the partition of all addresses.
#[derive(Debug)]
pub struct Judge<'a> {
    symbolic: Symbolic<'a>,
}

impl<'a> Judge<'a> {
    /// Returns the judge of a ruleset.
    #[must_use]
    pub fn new(ruleset: &'a Ruleset) -> Self {
        Self {
            symbolic: Symbolic::new(ruleset),
        }
    }

    /// Judges a packet from every address of its family in general. Interfaces stand for others that rules do not
    /// tell apart from them, so that a packet between two of the same name is one between two bridges.
    pub fn in_general(&mut self, pool: &mut Pool, slot: &Slot<'_>) -> General<'a> {
        let path = slot.path();
        let all = pool.keep(AddressSet::all(slot.family));
        self.in_general_by(pool, &path, &slot.packet(&path), &all)
    }

    /// Does the same for the path and the packet of a slot, and all addresses of its family.
    pub(super) fn in_general_by(
        &mut self,
        pool: &mut Pool,
        path: &Path,
        packet: &Packet,
        all: &Rc<AddressSet>,
    ) -> General<'a> {
        let partition = self.symbolic.partition_by_last(pool, packet, all);
        judged(pool, path, partition, false)
    }

    /// Judges a packet of a path from each of `sources`, which are of the family of its source.
    pub fn packet(
        &mut self,
        pool: &mut Pool,
        path: &Path,
        packet: &Packet,
        sources: &Rc<AddressSet>,
    ) -> Judged<'a> {
        let partition = self.symbolic.partition(pool, packet, sources);
        judged(pool, path, partition, stays(path, packet))
    }

    /// Judges a path of a known host for every address, at one address of the host. Of several interfaces the
    /// one with the most permissive verdict counts, for each source.
    pub fn on_host(
        &mut self,
        pool: &mut Pool,
        path: &Path,
        around: &Surroundings,
        asked: IpAddr,
    ) -> Vec<Access> {
        let family = Family::of(asked);
        let all = pool.keep(AddressSet::all(family));
        let mut worst: Vec<Access> = Vec::new();
        for interface in &around.interfaces {
            let packet = path.packet(family.unspecified(), interface, asked);
            let strays = around.answers_through.keys().copied();
            let strays = strays.filter(|source| Family::of(*source) == family);
            let strays = strays.filter(|source| around.strays(*source, interface));
            let strays = pool.keep(strays.map(Entry::from).collect());
            let rest = pool.difference(&all, &strays);
            let mut accesses = Vec::new();
            for (strays, sources) in [(false, rest), (true, strays)] {
                let packet = Packet {
                    strays,
                    ..packet.clone()
                };
                for access in self.packet(pool, path, &packet, &sources).accesses {
                    add(pool, &mut accesses, access);
                }
            }
            worst = if worst.is_empty() {
                accesses
            } else {
                most_permissive(pool, &worst, &accesses)
            };
        }
        worst
    }
}

/// Joins what one line decides in one way. A packet that stays on one interface passes no rule.
fn judged<'a, S: Decisive>(
    pool: &mut Pool,
    path: &Path,
    partition: Partition<'a, S>,
    stays: bool,
) -> Judged<'a, S> {
    let Partition {
        regions,
        ports,
        any_destination,
        interfaces,
    } = partition;
    let mut accesses = Vec::with_capacity(regions.len());
    for region in regions {
        let judgement = if stays {
            Judgement::NotJudged(Reason::SameInterface)
        } else {
            judgement(path, region.decision, region.steps.comment().is_some())
        };
        let access = Access {
            sources: region.sources,
            judgement,
            steps: region.steps,
        };
        add(pool, &mut accesses, access);
    }
    Judged {
        accesses,
        ports,
        any_destination,
        interfaces,
    }
}

/// Returns, of two partitions of the same addresses, the more permissive verdict for each address; the first of
/// two that are alike.
#[must_use]
pub fn most_permissive(pool: &mut Pool, a: &[Access], b: &[Access]) -> Vec<Access> {
    let mut all = Vec::new();
    for a in a {
        for b in b {
            let sources = pool.intersection(&a.sources, &b.sources);
            let worst = if b.verdict() > a.verdict() { b } else { a };
            let access = Access {
                sources,
                ..worst.clone()
            };
            add(pool, &mut all, access);
        }
    }
    all
}

/// Adds sources to those with which they are alike.
fn add<S: Decisive>(pool: &mut Pool, accesses: &mut Vec<Access<S>>, access: Access<S>) {
    if access.sources.is_empty() {
        return;
    }
    match accesses.iter_mut().find(|other| other.is_alike(&access)) {
        Some(other) => other.sources = pool.union(&other.sources, &access.sources),
        None => accesses.push(access),
    }
}

/// Returns the addresses of destinations that rules of these rulesets tell apart, ascending.
#[must_use]
pub fn destinations(rulesets: &[&Ruleset]) -> BTreeSet<IpAddr> {
    let sets = rulesets.iter().flat_map(|ruleset| ruleset.sets.values());
    let mut addresses = BTreeSet::new();
    for set in sets {
        match &set.elements {
            Elements::Ipv4Verdicts(rows) => {
                addresses.extend(rows.iter().map(|row| IpAddr::V4(row.key.into())));
            }
            Elements::Ipv6Verdicts(rows) => {
                addresses.extend(rows.iter().map(|row| IpAddr::V6(row.key.into())));
            }
            _ => {}
        }
    }
    addresses
}

/// Returns an address of the documentation (RFC 5737, RFC 3849), or one behind it, that is none of these.
#[must_use]
pub fn ordinary(family: Family, destinations: &BTreeSet<IpAddr>) -> IpAddr {
    let mut address = super::path::documented(family);
    while destinations.contains(&address) {
        address = match address {
            IpAddr::V4(v4) => IpAddr::V4(u32::from(v4).wrapping_add(1).into()),
            IpAddr::V6(v6) => IpAddr::V6(u128::from(v6).wrapping_add(1).into()),
        };
    }
    address
}
