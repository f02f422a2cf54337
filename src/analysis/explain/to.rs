//! Who reaches a port: every address of both families, by path, interface and verdict.
//!
//! ```text
//!  Destination ─► paths × addresses of the host × interfaces ─► Judge ─► accesses ─► Block
//! ```
//!
//! Paths, addresses and interfaces for which every source has the same verdict by the same line are one block, so
//! that interfaces are apart only where a rule tells them apart.

use std::cmp::Reverse;
use std::net::IpAddr;
use std::rc::Rc;

use crate::analysis::access::{Access, Judge};
use crate::analysis::eval::{Packet, Pool};
use crate::analysis::interfaces::{Class, Containers, classes};
use crate::analysis::judgement::Reason;
use crate::analysis::path::Path;
use crate::analysis::surroundings::Surroundings;
use crate::host::HostView;
use crate::net::{AddressSet, Family};
use crate::ruleset::{Expression, Interface, Ruleset, Side};

use super::{Destination, Nothing, master};

/// Every address of both families, by verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clients {
    /// The verdicts, apart by path, by address of the host and by interface where these make a difference.
    pub blocks: Vec<Block>,
    /// Why there are no paths, if there are none.
    pub nothing: Option<Nothing>,
    /// Whether nothing listens, and a service of the host that did would not be judged.
    pub services_not_judged: bool,
}

/// Paths on which the same sources have the same verdict by the same line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The paths, of one family.
    pub paths: Vec<Path>,
    /// Whether anything leads there at the moment over this family and through these interfaces; if not, the paths
    /// are those that a port has in general.
    pub exists: bool,
    /// The addresses of the host that are asked for.
    pub addresses: Vec<IpAddr>,
    /// Whether another block is of the same paths at other addresses.
    pub at_some_addresses: bool,
    /// Where the packets come in.
    pub entrances: Vec<Entrance>,
    /// Whether another block is of the same paths and addresses through other interfaces.
    pub through_some_entrances: bool,
    /// Disjoint, and together every address of the family: allowed ones first.
    pub accesses: Vec<Access>,
}

/// Where packets come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entrance {
    /// What people call it: an interface of this host, or a class of them where the host is not known.
    pub title: String,
    /// The interface that rules are asked about.
    pub interface: String,
    /// Whether it is a bridge of a container engine.
    pub containers: bool,
    /// Whether replies to the source would leave through another interface.
    pub strays: bool,
}

impl Clients {
    /// Returns whether anything leads to the port at the moment.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.blocks.iter().any(|block| block.exists)
    }
}

impl Block {
    /// Returns the family of the sources.
    #[must_use]
    pub fn family(&self) -> Family {
        self.paths.first().map_or(Family::V4, Path::family)
    }
}

/// Returns who reaches a destination, through `via` or through any interface.
#[must_use]
pub fn clients(
    host: &HostView,
    around: &Surroundings,
    ruleset: &Ruleset,
    destination: &Destination,
    via: Option<&String>,
) -> Clients {
    let mut around = around.clone();
    if let Some(via) = via {
        around.interfaces = vec![master(host, via)];
    }
    let entrances = entrances(
        host,
        &around,
        ruleset,
        destination.host_known,
        via.is_some(),
    );
    let mut answer = Clients {
        blocks: Vec::new(),
        nothing: None,
        services_not_judged: false,
    };
    let Some(found) = find(host, &mut around, destination, &entrances) else {
        answer.nothing = Some(Nothing::Unreachable);
        return answer;
    };
    let (mut pool, mut judge) = (Pool::default(), Judge::new(ruleset));
    let mut profiles: Vec<Profile> = Vec::new();
    for way in found {
        let of_path: Vec<(usize, &Entrance)> = way
            .entrances
            .iter()
            .filter_map(|number| Some((*number, entrances.get(*number)?)))
            .collect();
        for profile in by_address(&mut pool, &mut judge, &way, &around, &of_path) {
            let same = profiles.iter_mut().find(|other| {
                (other.exists, &other.addresses) == (profile.exists, &profile.addresses)
                    && is_alike(&other.groups, &profile.groups)
            });
            match same {
                Some(other) => other.paths.extend(profile.paths),
                None => profiles.push(profile),
            }
        }
    }
    for profile in &profiles {
        let is_elsewhere = |other: &Profile| {
            other.addresses != profile.addresses
                && other.paths.iter().any(|path| profile.paths.contains(path))
        };
        let at_some_addresses = profiles.iter().any(is_elsewhere);
        for group in &profile.groups {
            let is_service = |access: &Access| access.judgement.reason() == Some(Reason::Service);
            // Nothing listens: what would become of a service is no part of the answer.
            let hides_services = !profile.exists && destination.host_known;
            if hides_services && group.accesses.iter().all(is_service) {
                answer.services_not_judged = true;
                continue;
            }
            let number = entrances.len();
            let entrances = group.entrances.iter().filter_map(|n| entrances.get(*n));
            answer.blocks.push(Block {
                paths: profile.paths.clone(),
                exists: profile.exists,
                addresses: profile.addresses.clone(),
                at_some_addresses,
                entrances: entrances.cloned().collect(),
                through_some_entrances: group.entrances.len() < number,
                accesses: group.accesses.clone(),
            });
        }
    }
    answer
}

/// A path, and the numbers of the entrances from which it leads to the destination.
struct Way {
    path: Path,
    exists: bool,
    entrances: Vec<usize>,
}

/// Finds the paths of each entrance and family, as a packet has them; `None` if this host has no route to the
/// address.
fn find(
    host: &HostView,
    around: &mut Surroundings,
    destination: &Destination,
    entrances: &[Entrance],
) -> Option<Vec<Way>> {
    let families = Family::ALL.into_iter().filter(|family| {
        let address = destination.to.address;
        address.is_none_or(|address| Family::of(address) == *family)
    });
    let mut ways: Vec<Way> = Vec::new();
    for family in families {
        for (number, entrance) in entrances.iter().enumerate() {
            // A socket of one interface takes nothing from others, and a translation may be of some only.
            around.interfaces = vec![entrance.interface.clone()];
            let found = destination.find(host, around, &[family])?;
            for path in found.paths {
                let same = ways
                    .iter_mut()
                    .find(|way| way.exists == found.exists && way.path == path);
                match same {
                    Some(way) => way.entrances.push(number),
                    None => ways.push(Way {
                        path,
                        exists: found.exists,
                        entrances: vec![number],
                    }),
                }
            }
        }
    }
    Some(ways)
}

/// Returns where packets come in: through the interfaces of the host and, unless one is asked for, the bridges of
/// its engines; through one of each class that rules tell apart where no host is known.
fn entrances(
    host: &HostView,
    around: &Surroundings,
    ruleset: &Ruleset,
    host_known: bool,
    only_via: bool,
) -> Vec<Entrance> {
    let of = |title: String, interface: String| Entrance {
        containers: host.container_bridges.contains(&interface),
        title,
        interface,
        strays: false,
    };
    let mut all: Vec<Entrance> = if host_known || only_via {
        let bridges = host.container_bridges.iter().filter(|name| {
            !only_via && host.interfaces.contains_key(*name) && !around.interfaces.contains(name)
        });
        let names = around.interfaces.iter().chain(bridges);
        names.map(|name| of(name.clone(), name.clone())).collect()
    } else {
        let of_class = |class: Class| Entrance {
            containers: class.containers == Containers::Always,
            ..of(class.title(), class.name)
        };
        let classes = classes(&[ruleset], Side::In);
        classes.into_iter().map(of_class).collect()
    };
    if all.is_empty() {
        all.push(of("eth0".to_owned(), "eth0".to_owned()));
    }
    let rules = ruleset.chains.values().flat_map(|chain| &chain.rules);
    let mut expressions = rules.flat_map(|rule| &rule.expressions);
    if expressions.any(|e| *e == Expression::Interface(Interface::NoReversePath)) {
        let strays = all.iter().map(|entrance| Entrance {
            strays: true,
            ..entrance.clone()
        });
        let strays: Vec<_> = strays.collect();
        all.extend(strays);
    }
    all
}

/// What becomes of packets to some addresses of the host, apart by where they come in.
struct Profile {
    paths: Vec<Path>,
    exists: bool,
    addresses: Vec<IpAddr>,
    groups: Vec<Group>,
}

/// Entrances for which every source has the same verdict by the same line.
struct Group {
    /// Numbers of entrances, ascending.
    entrances: Vec<usize>,
    accesses: Vec<Access>,
}

/// Judges a path at each address of the host, and joins those for which all is the same.
fn by_address(
    pool: &mut Pool,
    judge: &mut Judge<'_>,
    way: &Way,
    around: &Surroundings,
    entrances: &[(usize, &Entrance)],
) -> Vec<Profile> {
    let mut profiles: Vec<Profile> = Vec::new();
    for address in way.path.asked(around) {
        let groups = by_entrance(pool, judge, &way.path, address, entrances);
        let same = profiles
            .iter_mut()
            .find(|profile| is_alike(&profile.groups, &groups));
        match same {
            Some(profile) => profile.addresses.push(address),
            None => profiles.push(Profile {
                paths: vec![way.path.clone()],
                exists: way.exists,
                addresses: vec![address],
                groups,
            }),
        }
    }
    profiles
}

/// Judges a path at an address of the host for each entrance, and joins those for which all is the same.
fn by_entrance(
    pool: &mut Pool,
    judge: &mut Judge<'_>,
    path: &Path,
    address: IpAddr,
    entrances: &[(usize, &Entrance)],
) -> Vec<Group> {
    let family = path.family();
    let all = pool.keep(AddressSet::all(family));
    let mut groups: Vec<Group> = Vec::new();
    for (number, entrance) in entrances {
        let packet = Packet {
            strays: entrance.strays,
            ..path.packet(family.unspecified(), &entrance.interface, address)
        };
        let mut accesses = judge.packet(pool, path, &packet, &all).accesses;
        accesses.sort_by_cached_key(|access| {
            let first = access.sources.iter().next();
            (Reverse(access.verdict()), first)
        });
        match groups
            .iter_mut()
            .find(|group| are_same(&group.accesses, &accesses))
        {
            Some(group) => group.entrances.push(*number),
            None => groups.push(Group {
                entrances: vec![*number],
                accesses,
            }),
        }
    }
    groups
}

/// Returns whether the same sources have the same verdict by the same line. Both are of one pool.
fn are_same(a: &[Access], b: &[Access]) -> bool {
    let mut pairs = a.iter().zip(b);
    a.len() == b.len() && pairs.all(|(a, b)| a.is_alike(b) && Rc::ptr_eq(&a.sources, &b.sources))
}

/// Returns whether every entrance has the same accesses.
fn is_alike(a: &[Group], b: &[Group]) -> bool {
    let mut pairs = a.iter().zip(b);
    a.len() == b.len()
        && pairs.all(|(a, b)| a.entrances == b.entrances && are_same(&a.accesses, &b.accesses))
}
