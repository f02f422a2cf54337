//! Random rules of hosts, imported: the policy is never more open than a small model of iptables,
//! unless a remark names the line that refuses.
//!
//! `DFW_SEED` repeats a run, `DFW_LONG=1` makes it a long one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use dfw::import::{Error, Import, import};
use dfw::policy::{DefaultAction, Policy, PortPolicy, SourceSelection};
use dfw::text::SourceMap;

use crate::iptables::random::{Host, Rng};
use crate::iptables::{Fate, Packet, Rule, Rules, Table, Then, fate};
use crate::property::seed;
use crate::size::is_long;

/// How many packets are tried at each host.
const PACKETS: usize = 80;

fn size() -> u64 {
    if is_long() { 50_000 } else { 1_500 }
}

/// What became of many packets.
#[derive(Debug, Default)]
struct Tally {
    hosts: u64,
    refused: u64,
    packets: u64,
    delivered: u64,
    allowed: u64,
    remarked: u64,
}

/// One packet that gets in by the policy and not by the rules.
#[derive(Debug)]
struct Opened {
    host: Host,
    packet: Packet,
    fate: Fate,
}

/// A fault of an import: it ignores some rules, or it gives no remark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Rules of users in the chains of engines are not seen.
    EngineChains,
    /// Conditions before the DNAT are not seen.
    BeforeTranslation,
    /// Rules of FORWARD behind the call of DOCKER-USER are not seen.
    BehindUser,
    /// FORWARD's policy is not seen.
    Policy,
    /// Other tables than filter and nat are not seen.
    OtherTables,
    /// A RETURN is not seen.
    Return,
    /// Rules that are not supported get no remark.
    Silence,
}

const FAULTS: [Fault; 7] = [
    Fault::EngineChains,
    Fault::BeforeTranslation,
    Fault::BehindUser,
    Fault::Policy,
    Fault::OtherTables,
    Fault::Return,
    Fault::Silence,
];

impl Fault {
    /// The rules as an import with this fault would see them; each line stays where it is.
    fn blind(self, rules: &mut Rules) {
        if self == Self::Policy {
            rules.drops.clear();
        }
        for ((table, chain), rules) in &mut rules.chains {
            let engines = chain.starts_with("DOCKER") || chain.starts_with("NETAVARK");
            let mut behind = false;
            for rule in rules {
                let hidden = match self {
                    Self::EngineChains => engines && *chain != "DOCKER-USER" && rule.own,
                    Self::BeforeTranslation => *table == Table::Nat && rule.own,
                    Self::BehindUser => {
                        behind |= rule.then == Then::Jump("DOCKER-USER");
                        behind && *chain == "FORWARD" && rule.own
                    }
                    Self::OtherTables => ![Table::Nat, Table::Filter].contains(table),
                    Self::Return => rule.then == Then::Return,
                    Self::Policy | Self::Silence => false,
                };
                if hidden {
                    rule.then = Then::Nothing;
                }
            }
        }
    }
}

/// Imports the rules of a host, and finds a packet that the policy accepts although the rules drop it and no
/// remark reports it.
fn judge(host: &Host, fault: Option<Fault>, rng: &mut Rng, tally: &mut Tally) -> Option<Opened> {
    let mut seen = host.clone();
    if let Some(fault) = fault {
        fault.blind(&mut seen.v4);
        seen.v6.iter_mut().for_each(|rules| fault.blind(rules));
    }
    let (mut text, v4_lines) = seen.v4.text(true, 0);
    let before = u32::try_from(text.lines().count()).unwrap();
    let mut v6_lines = BTreeMap::new();
    if let Some(v6) = &seen.v6 {
        let (more, lines) = v6.text(false, before);
        text.push_str(&more);
        v6_lines = lines;
    }
    if rng.once_in(4) {
        // The one program of both families.
        text = text.replace("by ip6tables-", "by xtables-");
        text = text.replace("by iptables-", "by xtables-");
    }
    let mut sources = SourceMap::in_memory::<&str, &str>([]);
    let file = sources.take("rules", text.clone().into());
    tally.hosts += 1;
    let imported = match import(&sources, &[file]) {
        Ok(imported) => imported,
        Err(Error::Rejected(_)) => {
            tally.refused += 1;
            return None;
        }
        Err(error @ Error::Invalid(_)) => unreachable!("{error}\n{text}"),
    };
    let mut remarked = remarked(&imported, &sources);
    if fault == Some(Fault::Silence) {
        remarked.clear();
    }
    for _ in 0..PACKETS {
        let is_v4 = rng.coin();
        let Some(rules) = host.rules(is_v4) else {
            continue;
        };
        let packet = Packet::aimed(rng, rules, is_v4);
        if !publishes(rules, &packet) {
            continue;
        }
        let fate = fate(rules, &packet, None);
        let allowed = allows(&imported.policy, &packet);
        tally.packets += 1;
        tally.delivered += u64::from(fate.delivered.is_some());
        tally.allowed += u64::from(fate.delivered.is_some() && allowed);
        if !allowed || fate.delivered.is_some() {
            continue;
        }
        let lines = if is_v4 { &v4_lines } else { &v6_lines };
        let mut blame = fate.blame.iter().filter_map(|place| lines.get(place));
        if blame.any(|line| remarked.contains(line)) {
            tally.remarked += 1;
            continue;
        }
        return Some(Opened {
            host: host.clone(),
            packet,
            fate,
        });
    }
    None
}

/// The lines of which a remark says that the policy does not have them.
fn remarked(imported: &Import, sources: &SourceMap) -> BTreeSet<u32> {
    let opens = imported
        .remarks
        .iter()
        .filter(|remark| remark.slug == "denial-left-out");
    let mut lines = BTreeSet::new();
    for remark in opens {
        let labels = remark.primary.iter().chain(&remark.related);
        lines.extend(labels.map(|label| sources.line_column(&label.span).0));
        for note in &remark.notes {
            let listed = note.rsplit(':').next().unwrap_or("");
            for range in listed.split(',') {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                let number = |text: &str| text.trim().parse::<u32>().unwrap();
                lines.extend(number(first)..=number(last));
            }
        }
    }
    lines
}

/// Whether some DNAT of the family is about the port: else docker-proxy serves it, past all rules.
fn publishes(rules: &Rules, packet: &Packet) -> bool {
    use crate::iptables::Is;
    let nat = rules
        .chains
        .iter()
        .filter(|((table, _), _)| *table == Table::Nat);
    let about = |rule: &Rule| {
        let key = |is: &Is| rule.matches.contains(&(false, is.clone()));
        let there = rule.matches.iter().all(|(_, is)| match is {
            Is::Destination(net) => net.contains(packet.to),
            _ => true,
        });
        matches!(rule.then, Then::Dnat(..))
            && there
            && key(&Is::Port(packet.port, packet.port))
            && key(&Is::Protocol(packet.protocol))
    };
    nat.flat_map(|(_, rules)| rules).any(about)
}

/// What a policy says of a packet: the most exact key decides, one with an address before others.
fn allows(policy: &Policy, packet: &Packet) -> bool {
    let keys = policy.ports.iter().filter(|(key, _)| {
        key.protocol.to_string() == packet.protocol
            && (key.first..=key.last).contains(&packet.port)
            && key.address.is_none_or(|address| address == packet.to)
    });
    let best = keys.min_by_key(|(key, _)| (key.address.is_none(), key.last - key.first));
    best.map_or(policy.default == DefaultAction::Allow, |(_, port)| {
        port_allows(policy, port, packet)
    })
}

fn port_allows(policy: &Policy, port: &PortPolicy, packet: &Packet) -> bool {
    let has = |selection: &SourceSelection, address: IpAddr| {
        let named = |name| policy.sources[name].addresses.contains(address);
        selection.any || selection.inline.contains(address) || selection.named.iter().any(named)
    };
    let interface = port.interfaces.is_empty()
        || port
            .interfaces
            .iter()
            .any(|name| name.as_str() == packet.incoming);
    interface && has(&port.allow, packet.source) && !has(&port.except, packet.source)
}

#[test]
fn no_policy_is_more_open_than_the_rules() {
    let seed = seed().unwrap();
    let mut rng = Rng(seed);
    let mut tally = Tally::default();
    for number in 0..size() {
        let host = match number {
            0 => Host::telling(),
            _ => Host::random(&mut rng, false),
        };
        let opened = judge(&host, None, &mut rng, &mut tally);
        if let Some(opened) = opened {
            let (v4, _) = opened.host.v4.text(true, 0);
            let v6 = opened.host.v6.as_ref().map(|rules| rules.text(false, 0).0);
            panic!(
                "DFW_SEED={seed}: {:?} gets in by the policy, but {:?}\n{:?}\n{v4}{}",
                opened.packet,
                opened.fate,
                opened.host.engine,
                v6.unwrap_or_default()
            );
        }
    }
    let report = format!("DFW_SEED={seed}: {tally:?}");
    eprintln!("{report}");
    // A policy that lets nobody in proves nothing.
    assert!(tally.packets > size() * 10, "{report}");
    assert!(tally.delivered * 10 > tally.packets, "{report}");
    assert!(tally.allowed * 2 > tally.delivered, "{report}");
    assert!(tally.refused * 4 < tally.hosts, "{report}");
}

#[test]
fn an_import_that_is_blind_is_caught() {
    let seed = seed().unwrap();
    for fault in FAULTS {
        let mut rng = Rng(seed);
        let mut tally = Tally::default();
        let caught = (0..4_000).find(|_| {
            let host = Host::random(&mut rng, false);
            judge(&host, Some(fault), &mut rng, &mut tally).is_some()
        });
        eprintln!("{fault:?} is caught after {caught:?} hosts");
        assert!(caught.is_some(), "DFW_SEED={seed}: {fault:?} is not caught");
    }
}
