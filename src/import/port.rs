//! The sources of each port of the host.

use crate::net::{AddressSet, Entry, Family, HostPorts};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

use super::judge::Judge;
use super::published::is_nameable;
use super::published::{Published, Way};
use super::verdict::Verdict;

/// A port of the host and the sources that reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) host: HostPorts,
    /// The destinations, by family.
    pub(super) ways: BTreeMap<Family, Vec<Way>>,
    pub(super) verdicts: BTreeMap<Family, Rc<Verdict>>,
    pub(super) who: Rc<Who>,
    /// The rule that matches the port, if none publishes it. A policy entry also filters services of the host,
    /// so a port that is not certainly the engine's, such as sshd's, must not become one.
    pub(super) named: Option<usize>,
}

impl Port {
    /// Returns whether an engine publishes the port; otherwise only a rule matches it.
    pub(super) fn is_published(&self) -> bool {
        self.named.is_none()
    }
}

/// The sources of a port, as a policy writes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Who {
    /// Whether all sources of both families are allowed.
    pub(super) any: bool,
    pub(super) allow: AddressSet,
    pub(super) except: AddressSet,
    pub(super) interfaces: Vec<String>,
    pub(super) log: bool,
    pub(super) reject: bool,
}

/// Cached sources by the verdicts of both families.
type Known = BTreeMap<[Option<usize>; 2], Rc<Who>>;

/// Evaluates every published port and the ports that only a rule matches.
pub(super) fn all(judge: &mut Judge<'_>, published: &Published) -> Vec<Port> {
    let mut ports = Vec::new();
    let mut made = Known::new();
    for &port in published.ports.keys() {
        let here = one(judge, &mut made, port, port.address, &Family::ALL);
        let hosts = port.address.is_none().then(|| judge.hosts(port));
        for (family, address) in hosts.into_iter().flatten() {
            // At this address of the host the rules may say something else.
            let there = HostPorts {
                address: Some(address),
                ..port
            };
            if !is_nameable(&there) || published.ports.contains_key(&there) {
                continue;
            }
            let there = one(judge, &mut made, there, Some(address), &[family]);
            // A rule that is not imported is reported at the address where it matches.
            let who = |port: &Port| {
                let verdict = port.verdicts.get(&family)?;
                let met = verdict.trail.skipped.clone();
                Some((verdict.allowed.clone(), verdict.interfaces.clone(), met))
            };
            if who(&there).is_some() && who(&here) != who(&there) {
                ports.push(there);
            }
        }
        ports.push(here);
    }
    for (&port, &(family, rule)) in &published.named {
        let verdict = judge.unpublished(family, port).map(Rc::new);
        let verdicts = verdict
            .map(|verdict| (family, verdict))
            .into_iter()
            .collect();
        ports.push(Port {
            host: port,
            ways: BTreeMap::new(),
            who: Rc::new(Who::of(&verdicts)),
            verdicts,
            named: Some(rule),
        });
    }
    ports.sort_by_key(|port| port.host);
    ports
}

/// Returns a published port of each bridge and family.
pub(super) fn samples(ports: &[Port]) -> impl Iterator<Item = (Family, HostPorts)> {
    let mut samples = BTreeMap::new();
    for port in ports {
        for (family, way) in port
            .ways
            .iter()
            .flat_map(|(f, ways)| ways.iter().map(move |w| (f, w)))
        {
            samples.entry((*family, &way.bridge)).or_insert(port.host);
        }
    }
    samples
        .into_iter()
        .map(|((family, _), port)| (family, port))
}

fn one(
    judge: &mut Judge<'_>,
    known: &mut Known,
    port: HostPorts,
    host: Option<IpAddr>,
    families: &[Family],
) -> Port {
    let mut ways = BTreeMap::new();
    let mut verdicts = BTreeMap::new();
    for &family in families {
        if host.is_some_and(|host| host.is_ipv4() != (family == Family::V4)) {
            continue;
        }
        if let Some((verdict, found)) = judge.port(family, port, host) {
            verdicts.insert(family, verdict);
            ways.insert(family, found);
        }
    }
    let places = Family::ALL.map(|family| verdicts.get(&family).map(|v| Rc::as_ptr(v).addr()));
    let who = known
        .entry(places)
        .or_insert_with(|| Rc::new(Who::of(&verdicts)));
    Port {
        host: port,
        ways,
        who: Rc::clone(who),
        verdicts,
        named: None,
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
        let forms = Family::ALL.map(|family| (family, set(family).map(|set| is_open(family, set))));
        // A family that is not published is as open as the other one.
        let open = |own: Option<bool>| own.unwrap_or(forms.iter().any(|f| f.1 == Some(true)));
        who.any = forms.iter().all(|(_, own)| open(*own));
        for (family, own) in forms {
            let allowed = set(family).cloned();
            if open(own) {
                if !who.any {
                    who.allow = who.allow.union(&AddressSet::all(family));
                }
                let denied = allowed.map(|allowed| AddressSet::all(family).difference(&allowed));
                who.except = who.except.union(&denied.unwrap_or_default());
            } else {
                who.allow = who.allow.union(&allowed.unwrap_or_default());
            }
        }
        who.allow = writable(&who.allow);
        who.except = writable(&who.except);
        who
    }
}

/// Returns whether most addresses are allowed; the policy then lists the exceptions.
fn is_open(family: Family, set: &AddressSet) -> bool {
    match family {
        Family::V4 => set.count_v4() > 1 << 31,
        Family::V6 => set.count_v6() > 1 << 127,
    }
}

/// Returns the set without IPv4-mapped addresses: policies cannot contain them, and no packet has one.
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
    crate::policy::parse_entry(entry).is_ok()
}

/// Returns 10.0.0.0/8, 172.16.0.0/12 and 192.168.0.0/16 (RFC 1918).
pub(super) fn private() -> AddressSet {
    let network = |a, b, c, d, bits: u32| {
        let first = u32::from(Ipv4Addr::new(a, b, c, d));
        Entry::V4(first, first | (u32::MAX >> bits))
    };
    AddressSet::from_entries([
        network(10, 0, 0, 0, 8),
        network(172, 16, 0, 0, 12),
        network(192, 168, 0, 0, 16),
    ])
}

/// Returns whether the listed sources contain all private addresses.
pub(super) fn has_private(port: &Port) -> bool {
    let who = &port.who;
    port.is_published()
        && !who.any
        && who.allow.count_v4() <= 1 << 31
        && private().difference(&who.allow).is_empty()
}
