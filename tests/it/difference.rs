//! What a change opens and closes is what brute force over boundary addresses says, and a comparison that is
//! wrong in one place is found out.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Result, ensure};
use dfw::analysis::access::{Judge, Slot, destinations, ordinary};
use dfw::analysis::difference::{Difference, Effect, KINDS, Route};
use dfw::analysis::eval::Pool;
use dfw::analysis::interfaces::has_reverse_path_filter;
use dfw::analysis::judgement::{Verdict, judge};
use dfw::analysis::path::Kind;
use dfw::host::HostView;
use dfw::net::{AddressSet, Family, Protocol};
use dfw::page::count::Count;
use dfw::ruleset::{Address, Elements, Expression, Interface, Port, Ruleset, Side};
use dfw::store::Policies;
use dfw::text::SourceMap;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::property::{is_refuted, property};
use crate::reference::Meant;
use crate::reference::random::{Edges, host, pair};
use crate::size::is_long;

/// How many pairs of policies are compared in a run.
fn pairs() -> u32 {
    if is_long() { 10_000 } else { 100 }
}

/// How many pairs a planted fault may go unnoticed for.
const FAULTY_PAIRS: u32 = 20_000;
/// How many ports on how many paths are looked at in each pair.
const PROBES: usize = 6;

/// Where to look: the path, the protocol, the address and the port.
type Probe = [Index; 8];

fn probes() -> impl Strategy<Value = Vec<Probe>> {
    prop::collection::vec(any::<Probe>(), PROBES)
}

struct Case<'a> {
    old: &'a Ruleset,
    new: &'a Ruleset,
    /// Sources and ports at which something may change.
    sources: BTreeSet<IpAddr>,
    ports: BTreeSet<u16>,
}

impl<'a> Case<'a> {
    fn new(old: &'a Ruleset, new: &'a Ruleset, edges: [&Edges; 2]) -> Self {
        let of = |family: Family| [family.unspecified(), last(family)];
        let ends = Family::ALL.into_iter().flat_map(of);
        let ports = edges.iter().flat_map(|edges| edges.ports());
        Self {
            old,
            new,
            sources: edges
                .iter()
                .flat_map(|e| e.addresses())
                .chain(ends)
                .collect(),
            ports: ports
                .chain([1, u16::MAX])
                .filter(|port| *port > 0)
                .collect(),
        }
    }

    /// Compares the rows at one place with what one packet after the other says.
    fn probe(&self, difference: &Difference, probe: &Probe) -> Result<()> {
        let kind = *probe[0].get(&KINDS);
        let outgoing = probe[2].index(difference.outgoing.len());
        let route = Route {
            kind,
            incoming: probe[1].index(difference.incoming.len()),
            outgoing: (kind != Kind::Service).then_some(outgoing),
            strays: [self.old, self.new]
                .into_iter()
                .any(has_reverse_path_filter)
                && probe[3].index(2) == 1,
        };
        let family = *probe[4].get(&Family::ALL);
        let named = destinations(&[self.old, self.new]);
        let mut addresses = vec![None];
        let same = named
            .iter()
            .filter(|address| Family::of(**address) == family);
        addresses.extend(same.map(|address| Some(*address)));
        let mut address = *probe[5].get(&addresses);
        let ports: Vec<u16> = self.ports.iter().copied().collect();
        let protocol = *probe[6].get(&Protocol::ALL);
        let port = *probe[7].get(&ports);
        let slot = Slot {
            kind,
            family,
            protocol,
            port,
            address: address.unwrap_or_else(|| ordinary(family, &named)),
            incoming: &difference.incoming[route.incoming].name,
            outgoing: &difference.outgoing[outgoing].name,
            strays: route.strays,
        };
        let mut pool = Pool::default();
        let judged =
            [self.old, self.new].map(|ruleset| Judge::new(ruleset).in_general(&mut pool, &slot));
        let allowed = judged.each_ref().map(|judged| {
            let accesses = judged.accesses.iter();
            let allowed = accesses.filter(|access| access.verdict() == Verdict::Allow);
            allowed.fold(AddressSet::default(), |all, access| {
                all.union(&access.sources)
            })
        });
        if judged.iter().all(|judged| judged.any_destination.is_some()) {
            address = None;
        }
        let path = slot.path();
        let packet = slot.packet(&path);
        let same_family = |source: &&IpAddr| Family::of(**source) == family;
        for source in self.sources.iter().filter(same_family) {
            let packet = packet.from_source(*source);
            let judged = [self.old, self.new].map(|ruleset| judge(ruleset, &path, &packet).0);
            let expected = Effect::of(judged[0], judged[1]);
            let rows = difference.rows.iter().filter(|row| {
                let mut ports = row.ports.iter();
                row.routes.contains(&route)
                    && row.sources.contains(*source)
                    && ports.any(|ports| {
                        (ports.address, ports.protocol) == (address, protocol) && ports.has(port)
                    })
            });
            let found: Vec<_> = rows.collect();
            ensure!(found.len() <= 1, "two rows for {packet:#?}");
            let effect = found.first().map(|row| row.effect);
            ensure!(
                effect == expected,
                "{effect:?} != {expected:?}: {packet:#?}"
            );
            if let Some(row) = found.first() {
                let said = [row.before.judgement, row.after.judgement];
                ensure!(said == judged, "{said:?} != {judged:?}: {packet:#?}");
                let said = [row.allowed_before, row.allowed_after];
                let said = said.map(|allowed| Count::new(allowed, family));
                let have = allowed.each_ref().map(|allowed| Count::of(allowed, family));
                ensure!(said == have, "{said:?} != {have:?}: {packet:#?}");
                let has = allowed.each_ref().map(|allowed| allowed.contains(*source));
                let is_allowed = judged.map(|j| j.verdict() == Verdict::Allow);
                ensure!(has == is_allowed, "{has:?} != {is_allowed:?}: {packet:#?}");
            }
        }
        Ok(())
    }
}

fn last(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([255; 4]),
        Family::V6 => IpAddr::from([255; 16]),
    }
}

/// Two policies, a host, and where to look.
fn cases() -> impl Strategy<Value = ((Meant, Meant), HostView, Vec<Probe>)> {
    (pair(), host(), probes())
}

/// Compares a pair of policies; `fault` changes what the comparison gets to see of the new one.
fn compare(
    ((old, new), host, probes): ((Meant, Meant), HostView, Vec<Probe>),
    fault: impl Fn(&mut Ruleset),
) -> Result<()> {
    let edges = [&old, &new].map(|policy| Edges::of(policy, &host));
    let [old, new] = [old, new].map(|policy| policy.compile(&host, false));
    let mut seen = new.clone();
    fault(&mut seen);
    let difference = Difference::of(&mut Pool::default(), &old, &seen);
    let by_classes = Difference::by_classes(&mut Pool::default(), &old, &seen, 0);
    ensure!(
        by_classes == difference,
        "by classes of sources: {by_classes:#?}\n!= {difference:#?}"
    );
    let case = Case::new(&old, &new, [&edges[0], &edges[1]]);
    let mut probes = probes.iter();
    probes.try_for_each(|probe| case.probe(&difference, probe))
}

#[test]
fn differences_agree_with_brute_force() {
    property(pairs(), &cases(), |case| compare(case, |_| {})).unwrap();
}

fn rules(ruleset: &mut Ruleset) -> impl Iterator<Item = &mut Vec<Expression>> {
    let chains = ruleset.chains.values_mut();
    chains
        .flat_map(|chain| &mut chain.rules)
        .map(|rule| &mut rule.expressions)
}

/// What a wrong comparison would make of a ruleset.
type Fault = fn(&mut Ruleset);

#[test]
fn faults_are_found() {
    let faults: [(&str, Fault); 5] = [
        ("a rule is left out", |ruleset| {
            for chain in ruleset
                .chains
                .values_mut()
                .filter(|chain| chain.rules.len() > 2)
            {
                chain.rules.pop();
            }
        }),
        ("the interface is ignored", |ruleset| {
            for rule in rules(ruleset) {
                let is_name = |e: &Expression| {
                    matches!(
                        e,
                        Expression::Interface(Interface::Name {
                            side: Side::In,
                            equal: false,
                            ..
                        })
                    )
                };
                if rule.iter().any(is_name) {
                    rule.clear();
                }
            }
        }),
        ("a range ends a port too early", |ruleset| {
            for set in ruleset.sets.values_mut() {
                if let Elements::PortVerdicts(rows) = &mut set.elements {
                    for row in rows.iter_mut().filter(|row| row.key.first < row.key.last) {
                        row.key.last -= 1;
                    }
                }
            }
        }),
        ("an exception is ignored", |ruleset| {
            for rule in rules(ruleset) {
                let excepts = |e: &Expression| e.set().is_some_and(|set| set.contains(".except."));
                if rule.iter().any(excepts) {
                    rule.clear();
                }
            }
        }),
        ("families are swapped", |ruleset| {
            for e in rules(ruleset).flatten() {
                if let Expression::Address(
                    Address::SourceIn { family, .. } | Address::Family(family),
                )
                | Expression::Port(Port::SourceIn { family, .. }) = e
                {
                    *family = match family {
                        Family::V4 => Family::V6,
                        Family::V6 => Family::V4,
                    };
                }
            }
        }),
    ];
    for (name, fault) in faults {
        let is_found = is_refuted(FAULTY_PAIRS, &cases(), |case| compare(case, fault));
        assert!(is_found.unwrap(), "{name}: nobody noticed");
    }
}

/// A long list in both families, of which some entries change, and which some ports gain and lose.
#[test]
fn long_lists_are_compared_as_short_ones_are() {
    let list = |numbers: &mut dyn Iterator<Item = u16>| -> String {
        let entries = numbers.flat_map(|number| {
            let [high, low] = number.to_be_bytes();
            // Ranges and single addresses.
            let range = format!("10.{high}.{low}.16/{}", 28 + number % 5);
            [range, format!("2001:db8:{number:x}::/{}", 48 + number % 81)]
        });
        entries.collect::<Vec<_>>().join(", ")
    };
    let policy = |sources: String, ports: &str| -> Ruleset {
        let text = format!("default: deny\nsources: {{office: [{sources}]}}\nports:\n{ports}");
        let sources = SourceMap::in_memory([("p.yaml", text.as_str())]);
        let policies = Policies::read(sources, "p.yaml".as_ref()).unwrap();
        policies.compile(&HostView::default())
    };
    let old = policy(
        list(&mut (0..6000)),
        "  80: [office]\n  81: any\n  82: [office]\n  83: [192.0.2.1, office]\n  84: [2001:db8::/32]\n",
    );
    let new = policy(
        list(&mut (3..6003).filter(|number| number % 1000 != 7)),
        "  80: [office]\n  81: [office]\n  82: any\n  83: {allow: [office], except: [10.1.0.0/16]}\n  84: [office]\n",
    );
    for [old, new] in [[&old, &new], [&new, &old], [&old, &old]] {
        let of = |long| Difference::by_classes(&mut Pool::default(), old, new, long);
        let each = of(usize::MAX);
        assert_eq!(Difference::of(&mut Pool::default(), old, new), each);
        assert_eq!(of(0), each);
        assert_eq!(each.rows.is_empty(), std::ptr::eq(old, new));
    }
}
