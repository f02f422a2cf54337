//! What is to be said about each port of the host.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;

use super::named::host_addresses;
use super::published::{HostPort, Way};
use super::rule::Family;
use super::verdict::{Judge, Verdict};
use crate::policy::address::{AddressSet, Entry};

/// A port of the host, and who may reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) host: HostPort,
    pub(super) ways: BTreeMap<Family, Way>,
    pub(super) verdicts: BTreeMap<Family, Rc<Verdict>>,
    pub(super) who: Rc<Who>,
}

impl Port {
    /// Whether an engine publishes it, and not only a rule names it. What a policy says of a port
    /// holds for services of the host as well, so one that is the engine's now and then must not be
    /// in it: it may be sshd's.
    pub(super) fn is_published(&self) -> bool {
        self.ways.values().any(|way| way.container.is_some())
    }
}

/// What a policy says about a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Who {
    /// Everybody, of both families.
    pub(super) any: bool,
    pub(super) allow: AddressSet,
    pub(super) except: AddressSet,
    pub(super) interfaces: Vec<String>,
    pub(super) log: bool,
    pub(super) reject: bool,
}

/// What was made of the verdicts of both families, by where they are kept.
type Known = BTreeMap<[Option<usize>; 2], Rc<Who>>;

/// Asks about every published port.
pub(super) fn all(judge: &mut Judge<'_>) -> Vec<Port> {
    let hosts: BTreeMap<_, _> = Family::BOTH
        .into_iter()
        .map(|family| (family, host_addresses(judge.rules(family))))
        .collect();
    let mut ports = Vec::new();
    let mut made = Known::new();
    for (&port, ways) in judge.published {
        let here = one(judge, &mut made, port, port.address, ways);
        for (family, address) in others(&hosts, port) {
            // At this address of the host the rules may say something else.
            let Some(way) = ways.get(&family) else {
                continue;
            };
            let port = HostPort {
                address: Some(address),
                ..port
            };
            let known = judge.published.contains_key(&port);
            let there = one(
                judge,
                &mut made,
                port,
                Some(address),
                &[(family, way.clone())].into(),
            );
            let same = here
                .verdicts
                .get(&family)
                .map(|v| (&v.allowed, &v.interfaces))
                == there
                    .verdicts
                    .get(&family)
                    .map(|v| (&v.allowed, &v.interfaces));
            if !known && !same {
                ports.push(there);
            }
        }
        ports.push(here);
    }
    ports.sort_by_key(|port| port.host);
    ports
}

/// The addresses of the host that rules name, for a port that is published at all of them.
fn others(
    hosts: &BTreeMap<Family, BTreeSet<IpAddr>>,
    port: HostPort,
) -> impl Iterator<Item = (Family, IpAddr)> + '_ {
    let everywhere = port.address.is_none();
    hosts
        .iter()
        .filter(move |_| everywhere)
        .flat_map(|(family, addresses)| addresses.iter().map(|address| (*family, *address)))
        .filter(move |(_, address)| {
            let key = HostPort {
                address: Some(*address),
                ..port
            };
            key.is_nameable()
        })
}

fn one(
    judge: &mut Judge<'_>,
    known: &mut Known,
    port: HostPort,
    host: Option<IpAddr>,
    ways: &BTreeMap<Family, Way>,
) -> Port {
    let asked = ways.iter().map(|(family, way)| {
        let verdict = judge.port(*family, port, host, way);
        (*family, verdict)
    });
    let verdicts: BTreeMap<_, _> = asked.collect();
    let places = Family::BOTH.map(|family| verdicts.get(&family).map(|v| Rc::as_ptr(v).addr()));
    let who = known
        .entry(places)
        .or_insert_with(|| Rc::new(Who::of(&verdicts)));
    Port {
        host: port,
        ways: ways.clone(),
        who: Rc::clone(who),
        verdicts,
    }
}

impl Who {
    fn of(verdicts: &BTreeMap<Family, Rc<Verdict>>) -> Self {
        let set = |family: Family| verdicts.get(&family).map(|verdict| &verdict.allowed);
        let mut interfaces: Option<Vec<String>> = None;
        for verdict in verdicts.values() {
            interfaces = Some(match interfaces {
                None => verdict.interfaces.clone(),
                Some(known) if known.is_empty() => verdict.interfaces.clone(),
                Some(known) if verdict.interfaces.is_empty() => known,
                Some(known) => {
                    let both = |name: &String| verdict.interfaces.contains(name);
                    known.into_iter().filter(both).collect()
                }
            });
        }
        let interfaces = interfaces.unwrap_or_default();
        let limited = verdicts
            .values()
            .any(|verdict| !verdict.interfaces.is_empty());
        let trails = || verdicts.values().map(|verdict| &verdict.trail);
        let mut who = Self {
            any: false,
            allow: AddressSet::default(),
            except: AddressSet::default(),
            interfaces,
            log: trails().any(|trail| trail.logged),
            reject: trails().any(|trail| !trail.rejecting.is_empty())
                && trails().all(|trail| trail.dropping.is_empty()),
        };
        if limited && who.interfaces.is_empty() {
            // One family comes in here, the other there: no policy says that.
            return who;
        }
        let forms =
            Family::BOTH.map(|family| (family, set(family).map(|set| is_open(family, set))));
        // A family that is not published is as open as the other one.
        let open = |own: Option<bool>| own.unwrap_or(forms.iter().any(|f| f.1 == Some(true)));
        who.any = forms.iter().all(|(_, own)| open(*own));
        for (family, own) in forms {
            let allowed = set(family).cloned();
            if open(own) {
                if !who.any {
                    who.allow = who.allow.union(&family.all());
                }
                let refused = allowed.map(|allowed| family.all().difference(&allowed));
                who.except = who.except.union(&refused.unwrap_or_default());
            } else {
                who.allow = who.allow.union(&allowed.unwrap_or_default());
            }
        }
        who.allow = writable(&who.allow);
        who.except = writable(&who.except);
        who
    }
}

/// Whether most of the world gets in: the rules then name those who do not.
fn is_open(family: Family, set: &AddressSet) -> bool {
    match family {
        Family::V4 => set.count_v4() > 1 << 31,
        Family::V6 => set.count_v6() > 1 << 127,
    }
}

/// The set without IPv4-mapped addresses, if one of them would have to be written: policies refuse
/// them, and no packet has one.
fn writable(set: &AddressSet) -> AddressSet {
    let readable = |entry: Entry| policy_reads(&entry.to_string());
    if set.iter().all(readable) {
        return set.clone();
    }
    let first = 0xffff_u128 << 32;
    let mapped = AddressSet::from_entries([Entry::V6(first, first | u128::from(u32::MAX))]);
    set.difference(&mapped)
}

fn policy_reads(entry: &str) -> bool {
    crate::policy::address::parse_entry(entry).is_ok()
}
