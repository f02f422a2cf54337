//! No packet is lost or wrongly accepted between two rulesets, on a model of the kernel.
//!
//! A packet in flight during a transaction traverses the old rules to their end, but sees the new contents of sets
//! from some moment on. The new rules may see changes of interval sets a moment late. A source that is allowed before
//! and afterwards must be allowed in each of these views, and a source that is denied by both must be denied. With
//! connection marks, no view may set a mark by which the new rules accept a packet that they deny.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;

use anyhow::ensure;
use dfw::analysis::eval::{Arrival, Connection, Decision, Flow, Outgoing, Packet, evaluate};
use dfw::compile::compile;
use dfw::host::HostView;
use dfw::plan::{BIG, Delta, Installed, Operation, Place, SetState, Sketch, TableState, diff};
use dfw::policy;
use dfw::ruleset::{
    Base, Chain, Conntrack, Direction, Elements, Expression, Hook, L4Protocol, MARK, Origin, Rule,
    Ruleset, Set, Statement, Verdict,
};
use dfw::text::SourceMap;

use crate::changed::{changed, unlike};
use crate::property::property;
use crate::reference::random::{Edges, crowded, host, packets};

/// How many changes are tried, unless `PROPTEST_CASES` says otherwise; each packet is sent through a dozen
/// views. `DFW_SEED` repeats them.
const CASES: u32 = 160;

#[test]
fn no_packet_is_lost_or_accepted_wrongly_meanwhile() {
    let cases = std::env::var("PROPTEST_CASES").map_or(CASES, |cases| cases.parse().unwrap());
    let values = (changed(), host(), packets());
    let held = property(cases, &values, |((old, new), host, seeds)| {
        // Near what changes.
        let edges = [
            Edges::of(&unlike(&old, &new), &host),
            Edges::of(&unlike(&new, &old), &host),
        ];
        let packets: Vec<_> = edges
            .iter()
            .flat_map(|edges| seeds.iter().map(|seed| edges.packet(seed)))
            .collect();
        let told = lost(
            &old.compile(&host, false),
            &new.compile(&host, false),
            &packets,
        );
        ensure!(told.is_empty(), "{told:#?}");
        Ok(())
    });
    held.unwrap();
}

/// A list of many ports, and others in front.
fn many(default: &str, head: &str, ports: std::ops::Range<u16>, list: &str) -> Ruleset {
    let mut text = format!("default: {default}\nports:\n{head}");
    for port in ports {
        let _ = writeln!(text, "  {port}: [{list}]");
    }
    compiled(text)
}

/// Named lists, and ports that name them.
fn named(sources: &str, ports: &str) -> Ruleset {
    compiled(format!(
        "default: deny\nsources: {{{sources}}}\nports:\n{ports}"
    ))
}

fn compiled(text: String) -> Ruleset {
    let mut sources = SourceMap::in_memory(vec![("p/a.yaml".to_owned(), text)]);
    let ids = dfw::store::read_policies(&mut sources, Path::new("p")).unwrap();
    let (policy, _) = policy::read(&mut sources, &ids).unwrap();
    let origin = |_: &_| Origin {
        file: "a.yaml".to_owned(),
        line: 1,
    };
    compile(&policy, &HostView::default(), &origin)
}

/// Packets from some sources to some ports, published and of the host.
fn strangers(sources: &[&str], ports: &[u16]) -> Vec<Packet> {
    let mut packets = Vec::new();
    for (source, port) in sources
        .iter()
        .flat_map(|s| ports.iter().map(move |p| (s, p)))
    {
        let flow = Flow {
            source: source.parse().unwrap(),
            destination: IpAddr::V4([198, 51, 100, 1].into()),
            port: Some(*port),
        };
        let host = Packet {
            hook: Hook::Input,
            incoming: "eth0".to_owned(),
            outgoing: None,
            protocol: L4Protocol::Tcp,
            flow,
            arrival: Some(Arrival {
                destination: flow.destination,
                port: flow.port,
                local: true,
            }),
            connection: None,
            source_port: None,
            returns: false,
            strays: false,
            resumes: false,
            opened: false,
        };
        packets.push(Packet {
            hook: Hook::Forward,
            outgoing: Some(Outgoing {
                name: "docker0".to_owned(),
                bridge: true,
            }),
            connection: Some(Connection {
                direction: Direction::Original,
                dnat: true,
                related: false,
                original: flow,
            }),
            ..host.clone()
        });
        packets.push(host);
    }
    packets
}

#[track_caller]
fn nobody_is_lost(old: &Ruleset, new: &Ruleset, packets: &[Packet]) {
    assert_eq!(lost(old, new, packets), Vec::<String>::new());
    assert_eq!(lost(new, old, packets), Vec::<String>::new(), "and back");
}

#[test]
fn a_source_that_a_narrower_network_still_allows_is_not_lost() {
    for (old, new) in [
        ("10.0.0.0/24, 10.9.9.0/24", "10.0.0.1, 10.9.9.0/24"),
        ("10.0.0.0/30, 10.9.9.0/30", "10.0.0.0-10.0.0.2, 10.9.9.0/30"),
        ("'fd00::/64', 'fd09::/64'", "'fd00::1', 'fd09::/64'"),
    ] {
        let policy = |list, more| {
            let head = format!("  80: [{list}]\n");
            many(
                "deny",
                &head,
                8000..8070,
                &format!("10.1.1.1, 10.2.2.0/24{more}"),
            )
        };
        let packets = strangers(
            &["10.0.0.1", "10.0.0.2", "fd00::1", "10.7.7.7"],
            &[80, 8001],
        );
        // The narrower set is new, and it is there already.
        nobody_is_lost(&policy(old, ""), &policy(new, ""), &packets);
        let more = ", 10.3.3.2/31, 'fd01::1'";
        nobody_is_lost(&policy(old, more), &policy(new, more), &packets);
    }
}

#[test]
fn a_port_that_leaves_a_big_set_is_not_lost() {
    let ports = u16::try_from(BIG).unwrap() + 1000;
    let policy = |head| many("deny", head, 8000..8000 + ports, "10.1.1.1");
    let old = policy("  80: [10.0.0.1]\n");
    let new = policy("  80: {allow: [10.0.0.1], log: true}\n");
    nobody_is_lost(
        &old,
        &new,
        &strangers(&["10.0.0.1", "10.7.7.7"], &[80, 8001]),
    );
}

#[test]
fn a_port_that_was_open_before_it_was_named_is_not_lost() {
    let packets = strangers(&["10.0.0.1", "10.1.1.1", "10.7.7.7"], &[80, 8001, 8123]);
    for default in ["allow", "deny"] {
        let policy = |head, last| many(default, head, 8000..last, "10.1.1.1");
        // Among others, with a prefix of a new length, and so that the sets are too small.
        nobody_is_lost(
            &policy("", 8070),
            &policy("  80: [10.0.0.1]\n", 8070),
            &packets,
        );
        nobody_is_lost(
            &policy("", 8070),
            &policy("  80: [10.0.0.0/24]\n", 8070),
            &packets,
        );
        nobody_is_lost(&policy("", 8123), &policy("", 8129), &packets);
        nobody_is_lost(
            &policy("  81: any\n", 8001),
            &policy("  80: [10.0.0.1]\n  81: any\n", 8001),
            &packets,
        );
    }
}

#[test]
fn a_source_that_moves_between_the_sets_of_a_list_is_not_lost() {
    let filler: Vec<_> = (0..70)
        .map(|n| format!("10.9.{n}.0/31, 10.8.{n}.1"))
        .collect();
    let policy = |networks| {
        let many = format!("many: [{networks}, {}]", filler.join(", "));
        named(&many, "  80: [many]\n")
    };
    let packets = strangers(&["10.0.0.1", "10.0.0.2", "10.7.7.7"], &[80, 81]);
    nobody_is_lost(&policy("10.0.0.0/24"), &policy("10.0.0.1"), &packets);
}

#[test]
fn a_source_in_two_lists_is_not_accepted_wrongly() {
    let policy = |more| {
        let lists = format!("some: [10.1.1.1{more}], bad: [10.1.1.7{more}]");
        named(&lists, "  80: {allow: [some], except: [bad]}\n")
    };
    let packets = strangers(&["10.0.0.1", "10.1.1.1", "10.7.7.7"], &[80, 81]);
    nobody_is_lost(&policy(""), &policy(", 10.0.0.1"), &packets);
}

#[test]
fn a_source_that_a_list_gets_when_a_port_names_it_is_not_lost() {
    let policy = |more, list| {
        let some = format!("some: [10.1.1.1{more}]");
        named(&some, &format!("  80: {list}\n  81: [some]\n"))
    };
    let packets = strangers(&["10.0.0.1", "10.1.1.1", "10.7.7.7"], &[80, 81]);
    nobody_is_lost(
        &policy("", "any"),
        &policy(", 10.0.0.1", "[some]"),
        &packets,
    );
}

#[test]
fn a_port_that_leaves_a_range_is_not_lost() {
    let policy = |more, port| {
        let some = format!("some: [10.1.1.1{more}]");
        named(&some, &format!("  80-90: [some]\n{port}"))
    };
    let packets = strangers(&["10.0.0.1", "10.1.1.1", "10.7.7.7"], &[80, 81]);
    nobody_is_lost(
        &policy(", 10.0.0.1", ""),
        &policy("", "  80: [10.0.0.1]\n"),
        &packets,
    );
}

/// Compares neither the accepted sources nor the policy line that decides.
#[test]
fn marks_do_not_change_verdicts() {
    let values = (crowded(0.6), host(), packets());
    let held = property(CASES, &values, |(mut meant, host, seeds)| {
        let edges = Edges::of(&meant, &host);
        let rulesets = [false, true].map(|mark| {
            meant.mark = mark;
            meant.compile(&host, false)
        });
        for packet in seeds.iter().map(|seed| edges.packet(seed)) {
            let [plain, marked] = rulesets.each_ref().map(|rules| {
                let trace = evaluate(rules, &packet);
                let last = trace.steps.last();
                (trace.decision, last.and_then(|step| step.comment.clone()))
            });
            ensure!(plain == marked, "{}: {plain:?}, {marked:?}", short(&packet));
        }
        Ok(())
    });
    held.unwrap();
}

#[test]
fn a_source_that_goes_is_not_remembered() {
    let policy = |list| {
        compiled(format!(
            "default: deny\nsettings: {{connection-mark: true}}\nports:\n  80: [{list}]\n"
        ))
    };
    let (old, new) = (policy("10.0.0.1, 10.1.1.1"), policy("10.1.1.1"));
    let packets = strangers(&["10.0.0.1", "10.1.1.1", "10.7.7.7"], &[80, 81]);
    nobody_is_lost(&old, &new, &packets);
    // The set stays, and only its element and the two rules about marks change.
    let installed = installed(&old);
    let plan = diff(Some(&installed), &new, 7);
    assert_eq!(plan.before, []);
    let count = |wanted: fn(&Operation<'_>) -> bool| {
        let of = |operations: &[Operation<'_>]| operations.iter().filter(|o| wanted(o)).count();
        [of(&plan.main), of(&plan.after)]
    };
    assert_eq!(
        count(|o| matches!(o, Operation::DeleteElements { .. })),
        [1, 0]
    );
    assert_eq!(count(|o| matches!(o, Operation::DeleteRule { .. })), [2, 0]);
    assert_eq!(count(|o| matches!(o, Operation::NewRule { .. })), [0, 2]);
    assert!(diff(Some(&installed), &old, 7).is_empty());
}

#[test]
fn a_long_list_is_never_filled_anew_nor_what_changes_alone() {
    let filler: Vec<_> = (0..u32::try_from(BIG).unwrap())
        .map(|n| std::net::Ipv4Addr::from(0x0a00_0000 + 2 * n).to_string())
        .collect();
    let others = (8000..9000).map(|port| format!("  {port}: [10.1.1.1, 10.2.0.0/16]\n"));
    let others: String = others.collect();
    let policy = |more, port: &str| {
        let many = format!("many: [{}{more}]", filler.join(", "));
        named(&many, &format!("  80: [many]\n{port}{others}"))
    };
    let old = policy("", "  7000: [10.1.1.2]\n");
    let moved = |new: &Ruleset| -> usize {
        let installed = installed(&old);
        let plan = diff(Some(&installed), new, 7);
        let all = plan.before.iter().chain(&plan.main).chain(&plan.after);
        let counts = all.map(|operation| match operation {
            Operation::NewElements { elements, .. } => elements.len(),
            Operation::DeleteElements { elements, .. } => elements.len(),
            _ => 0,
        });
        counts.sum()
    };
    let more = ", 192.0.2.1, 192.0.2.3, 198.51.100.0/24";
    assert_eq!(moved(&policy(more, "  7000: [10.1.1.2]\n")), 3);
    assert_eq!(moved(&policy("", "  7000: [10.1.1.3]\n")), 2);
    // A port comes, with its two counters; the maps are short.
    let told = "  7000: [10.1.1.2]\n  7001: [10.1.1.1]\n";
    assert!(moved(&policy(more, told)) < 16);
    // A port gets another network instead: a thousand others are moved, and no list.
    let apart = moved(&policy(more, "  7000: [10.3.0.0/16]\n"));
    assert!((1000..1016).contains(&apart), "{apart}");
}

/// Returns the packets whose verdict in some view differs from the one that the rules before and afterwards
/// share; empty if there are none.
fn lost(old: &Ruleset, new: &Ruleset, packets: &[Packet]) -> Vec<String> {
    let installed = installed(old);
    let plan = diff(Some(&installed), new, 7);
    // By the ways that they take before and behind the transaction that makes the difference, on which
    // they meet sets in other orders.
    let mut groups: BTreeMap<[Way; 2], Vec<Judged<'_>>> = BTreeMap::new();
    let mut unmarked = new.clone();
    for chain in unmarked.chains.values_mut() {
        chain.rules.retain(|rule| !rule.is_about_marks());
    }
    for packet in packets {
        let traces = [old, &unmarked].map(|rules| evaluate(rules, packet));
        let [before, after] = [0, 1].map(|at| traces[at].decision == Decision::Accept);
        let ways = traces.map(|trace| {
            let first = trace.steps.first();
            first.map(|step| (step.chain.clone(), step.rule))
        });
        groups
            .entry(ways)
            .or_default()
            .push((packet, before, after));
    }
    let mut told = Vec::new();
    let mut table = Table::of(&installed);
    let phases = [
        ("before", &plan.before, 0),
        ("main", &plan.main, 0),
        ("after", &plan.after, 1),
    ];
    for (phase, operations, rules) in phases {
        let mut next = table.clone();
        next.gone.clear();
        for operation in operations {
            next.carry_out(operation);
        }
        for (ways, packets) in &groups {
            for (view, rules) in views(&table, &next, &ways[rules]) {
                let wrong = packets.iter().find_map(|judged| misjudged(&rules, judged));
                told.extend(wrong.map(|wrong| format!("{phase}, {view}: {wrong}")));
            }
        }
        table = next;
        let rules = table.ruleset();
        let mut all = rules.chains.values().flat_map(expressions);
        if phase != "before" && !plan.is_empty() && all.any(|e| sets_mark(e, true)) {
            told.push(format!("{phase}: the old mark is still given"));
        }
    }
    told
}

/// A packet, and whether it is allowed before and afterwards.
type Judged<'a> = (&'a Packet, bool, bool);

/// What is wrong with how a packet is judged on the way, if something is.
fn misjudged(rules: &Ruleset, (packet, before, after): &Judged<'_>) -> Option<String> {
    let trace = evaluate(rules, packet);
    let allowed = trace.decision == Decision::Accept;
    if before == after && allowed != *after {
        let agreed = if *after { "allowed" } else { "refused" };
        return Some(format!("{} is to be {agreed}", short(packet)));
    }
    let last = trace
        .steps
        .last()
        .map(|step| &rules.chains[&step.chain].rules[step.rule]);
    let end = last.and_then(|rule| match rule.expressions.last()? {
        Expression::Statement(Statement::Verdict(verdict)) => rules.chains.get(verdict.chain()?),
        _ => None,
    });
    let is_marked = end.is_some_and(|chain| expressions(chain).any(|e| sets_mark(e, false)));
    (is_marked && !after).then(|| format!("{} gets the new mark", short(packet)))
}

/// Whether it marks connections, with the old mark or with a new one.
fn sets_mark(expression: &Expression, old: bool) -> bool {
    matches!(expression, Expression::Conntrack(Conntrack::SetMark(mark)) if (*mark == MARK) == old)
}

fn expressions(chain: &Chain) -> impl Iterator<Item = &Expression> {
    chain.rules.iter().flat_map(|rule| &rule.expressions)
}

/// The rule of a base chain that led a packet on, if one did.
type Way = Option<(String, usize)>;

fn short(packet: &Packet) -> String {
    let Packet {
        hook,
        incoming,
        protocol,
        flow,
        connection,
        ..
    } = packet;
    let from = |flow: &Flow| format!("{} > {} {:?}", flow.source, flow.destination, flow.port);
    let connection =
        connection.map(|c| format!("{:?} {} {}", c.direction, c.dnat, from(&c.original)));
    format!(
        "{hook:?} {incoming} {protocol:?} {}, {connection:?}",
        from(flow)
    )
}

/// A ruleset as it is installed.
fn installed(ruleset: &Ruleset) -> Installed {
    let mut facts = TableState {
        stamped: true,
        ..TableState::default()
    };
    let mut handle = 0;
    for (name, chain) in &ruleset.chains {
        let handles = chain.rules.iter().map(|_| {
            handle += 1;
            handle
        });
        facts.handles.insert(name.clone(), handles.collect());
    }
    for (name, set) in &ruleset.sets {
        let sketch = (set.elements.len() >= BIG).then(|| Sketch::of(&set.elements, 7));
        let sketch = sketch.flatten().map(Box::new);
        let facts_of_set = SetState {
            name: name.clone(),
            size: set.elements.room(),
            read: true,
            sketched: sketch.is_some(),
            sketch,
            added: None,
        };
        facts.sets.insert(name.clone(), facts_of_set);
    }
    Installed {
        ruleset: ruleset.clone(),
        facts,
        ..Installed::default()
    }
}

/// Rules with the kernel's numbers of them.
type Numbered = Vec<(u64, Rule)>;

/// The kernel's table.
#[derive(Clone, Default)]
struct Table {
    chains: BTreeMap<String, (Option<Base>, Numbered)>,
    sets: BTreeMap<String, Set>,
    next_handle: u64,
    /// What the last transaction took away, as who is in flight sees it.
    gone: BTreeMap<String, Set>,
}

impl Table {
    fn of(installed: &Installed) -> Self {
        let Installed { ruleset, facts, .. } = installed;
        let chains = ruleset.chains.iter().map(|(name, chain)| {
            let handles = facts.handles[name].iter().copied();
            let rules = handles.zip(chain.rules.iter().cloned()).collect();
            (name.clone(), (chain.base, rules))
        });
        Self {
            chains: chains.collect(),
            sets: ruleset.sets.clone(),
            next_handle: 1_000_000,
            ..Self::default()
        }
    }

    fn rules(&mut self, chain: &str) -> &mut Numbered {
        &mut self.chains.get_mut(chain).unwrap().1
    }

    fn carry_out(&mut self, operation: &Operation<'_>) {
        match operation {
            Operation::DeleteTable | Operation::NewTable | Operation::DeleteStray(_) => {
                unreachable!("{operation:?}")
            }
            Operation::Stamp { .. } | Operation::NewSketch { .. } => {}
            Operation::NewChain { name, base } => {
                let had = self.chains.insert((*name).to_owned(), (*base, Vec::new()));
                assert!(had.is_none(), "{name} is there");
            }
            Operation::FlushChain(name) => self.rules(name).clear(),
            Operation::DeleteChain(name) => {
                let (_, rules) = self.chains.remove(*name).unwrap();
                assert!(rules.is_empty(), "{name} has rules");
            }
            Operation::NewSet { name, set } => {
                let elements = empty(&set.elements);
                let comment = set.comment.clone();
                let had = self
                    .sets
                    .insert(name.to_string(), Set { elements, comment });
                assert!(had.is_none(), "{name} is there");
            }
            Operation::FlushSet(name) => {
                let set = self.sets.get_mut(name.as_ref()).unwrap();
                set.elements = empty(&set.elements);
            }
            Operation::DeleteSet(name) => {
                // What is remembered of a set is none that packets see.
                if let Some(mut set) = self.sets.remove(name.as_ref()) {
                    if set.elements.set_type().map {
                        set.elements = empty(&set.elements);
                    }
                    self.gone.insert(name.to_string(), set);
                }
            }
            Operation::NewElements { set, elements, .. } => {
                let delta = Delta {
                    removed: elements.as_ref().clone(),
                    added: empty(elements),
                };
                self.change(set, &delta);
            }
            Operation::DeleteElements { set, elements } => {
                let delta = Delta {
                    removed: empty(elements),
                    added: elements.clone(),
                };
                self.change(set, &delta);
            }
            Operation::NewRule {
                chain, rule, place, ..
            } => {
                self.next_handle += 1;
                let handle = self.next_handle;
                let rules = self.rules(chain);
                let at = match place {
                    Place::First => 0,
                    Place::Before(before) => {
                        let mut handles = rules.iter().map(|(handle, _)| handle);
                        handles.position(|handle| handle == before).unwrap()
                    }
                    Place::Last => rules.len(),
                };
                rules.insert(at, (handle, rule.as_ref().clone()));
            }
            Operation::DeleteRule { chain, handle } => {
                self.rules(chain).retain(|(own, _)| own != handle);
            }
        }
    }

    /// Changes a set to what it was before a delta.
    fn change(&mut self, set: &str, delta: &Delta) {
        let set = self.sets.get_mut(set).unwrap();
        set.elements = delta.undone(&set.elements).unwrap();
    }

    fn ruleset(&self) -> Ruleset {
        let chains = self.chains.iter().map(|(name, (base, rules))| {
            let rules = rules.iter().map(|(_, rule)| rule.clone()).collect();
            (name.clone(), Chain { base: *base, rules })
        });
        Ruleset {
            chains: chains.collect(),
            sets: self.sets.clone(),
            unknown: Vec::new(),
        }
    }
}

fn empty(elements: &Elements) -> Elements {
    let delta = Delta::between(elements, elements).unwrap();
    delta.added
}

/// What packets can see while one table becomes another, and afterwards.
fn views(old: &Table, new: &Table, way: &Way) -> Vec<(String, Ruleset)> {
    let with_other_chains = |mut rules: Ruleset, others: &Table| {
        // To the rules of the other moment they are empty.
        for name in others.chains.keys() {
            rules.chains.entry(name.clone()).or_default();
        }
        rules
    };
    let mut before = with_other_chains(old.ruleset(), new);
    let after = with_other_chains(new.ruleset(), old);
    let mut views = Vec::new();
    let order = order(&before, way);
    let contents = |name: &String| new.sets.get(name).or_else(|| new.gone.get(name));
    let changes: Vec<(&String, &Set)> = order
        .iter()
        .filter_map(|name| Some((name, contents(name)?)))
        .filter(|(name, set)| before.sets[*name].elements != set.elements)
        .collect();
    // From the last that is looked up on to the first.
    let mut late = before.clone();
    for (name, set) in changes.iter().rev() {
        before.sets.insert((*name).clone(), (*set).clone());
        views.push((format!("old rules, new from {name} on"), before.clone()));
        if !set.elements.set_type().interval {
            late.sets.insert((*name).clone(), (*set).clone());
            views.push((
                format!("old rules, new from {name} on, ranges late"),
                late.clone(),
            ));
        }
    }
    let ranges = changes
        .iter()
        .filter(|(name, set)| set.elements.set_type().interval && new.sets.contains_key(*name));
    let mut all = after.clone();
    for (name, _) in ranges {
        let set = &old.sets[*name];
        let mut one = after.clone();
        for rules in [&mut one, &mut all] {
            rules.sets.insert((*name).clone(), set.clone());
        }
        views.push((format!("new rules, {name} late"), one));
    }
    views.push(("new rules, ranges late".to_owned(), all));
    views.push(("new rules".to_owned(), after));
    views
}

/// The sets in the order in which packets look them up that take a way: by a rule of a base chain,
/// or through all of them.
fn order(ruleset: &Ruleset, way: &Way) -> Vec<String> {
    let (mut seen, mut order) = (BTreeSet::new(), Vec::new());
    for (name, chain) in &ruleset.chains {
        let (rules, last) = match way {
            Some((way, last)) if way == name => (&chain.rules[..*last], chain.rules.get(*last)),
            None if chain.base.is_some() => (&chain.rules[..], None),
            _ => continue,
        };
        for rule in rules {
            visit(ruleset, rule, false, &mut seen, &mut order);
        }
        if let Some(rule) = last {
            visit(ruleset, rule, true, &mut seen, &mut order);
        }
    }
    order
}

fn visit(
    ruleset: &Ruleset,
    rule: &Rule,
    is_taken: bool,
    seen: &mut BTreeSet<String>,
    order: &mut Vec<String>,
) {
    for expression in &rule.expressions {
        let mut verdicts = Vec::new();
        if let Some(set) = expression.set() {
            if !order.iter().any(|seen| seen == set) {
                order.push(set.to_owned());
            }
            verdicts.extend(ruleset.sets[set].elements.verdicts());
        }
        if let Expression::Statement(Statement::Verdict(verdict)) = expression {
            verdicts.push(verdict);
        }
        for verdict in verdicts {
            let returns = matches!(verdict, Verdict::Jump(_));
            let chain = verdict.chain().filter(|_| is_taken || returns);
            let chain = chain.filter(|chain| seen.insert((*chain).to_owned()));
            let rules = chain.map_or(&[][..], |chain| &ruleset.chains[chain].rules);
            for rule in rules {
                visit(ruleset, rule, true, seen, order);
            }
        }
    }
}
