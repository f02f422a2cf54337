//! The compiler: what the user wants and what the host is like, turned into a ruleset.
//!
//! Pure, total and deterministic: no kernel, files, environment or clock.
//!
//! ```text
//!             ┌─ forward ────────────────────────────────┐
//!  client ──► │ answers of published ports ─► published   │
//!   DNAT      │ from a container: let through             │ ──► Docker's own rules
//!             │ translated by Docker ──────► published    │
//!             │ straight to a container ───► direct       │
//!             └───────────────────────────────────────────┘
//!             ┌─ input ──────────────────────────────────┐
//!  client ──► │ from lo or a container: let through       │ ──► docker-proxy, host network
//!             │ a port that a policy names ─► host-…      │
//!             └───────────────────────────────────────────┘
//! ```
//!
//! Neighbours on these hooks, by priority: crowdsec -10, pitkley/dfw -5, **dfw -4**, Docker,
//! netavark and Calico 0, foomuuri +5, firewalld +10. Only a drop is final: what dfw accepts still
//! goes through all that come later.
//!
//! The input side looks at no connection tracking, on purpose: on engines without ip6tables the
//! first rule that asks for it switches it on, connections are then picked up in the middle,
//! possibly the wrong way round, and a stranger would pass as an answer.

mod names;
mod segment;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::host::HostView;
use crate::policy::address::AddressSet;
use crate::policy::{
    DefaultAction, InterfacePattern, Policy, PortKey, PortPolicy, Protocol, Refuse, SourceSelection,
};
use crate::ruleset::{
    Base, Chain, Direction, Elements, Expression, Family, Hook, L4Protocol, NameMatch, Origin,
    Reject, Rule, Ruleset, Set, Side, Tuple, Verdict,
};
use crate::source::Span;
use names::Context;
pub use names::port_of_chain;

/// The set of bridges that are known to belong to a container engine.
pub const CONTAINERS: &str = "containers";
/// The set of bridges that are known to belong to others.
pub const FOREIGN: &str = "foreign";
/// How many refusals are logged per second and port, and how many at once.
const LOG_RATE: (u64, u32) = (10, 20);

/// Compiles a policy for a host. `origin` says where a span of the policy is written.
#[must_use]
pub fn compile(policy: &Policy, host: &HostView, origin: &dyn Fn(&Span) -> Origin) -> Ruleset {
    let mut compiler = Compiler {
        policy,
        host,
        origin,
        ruleset: Ruleset::default(),
    };
    compiler.containers();
    compiler.foreign();
    compiler.forward();
    compiler.input();
    compiler.published();
    compiler.direct();
    compiler.ruleset
}

struct Compiler<'a> {
    policy: &'a Policy,
    host: &'a HostView,
    origin: &'a dyn Fn(&Span) -> Origin,
    ruleset: Ruleset,
}

impl Compiler<'_> {
    fn containers(&mut self) {
        let patterns = &self.policy.settings.container_interfaces;
        let exact = patterns.iter().filter_map(exact_name);
        let names: BTreeSet<_> = exact
            .chain(self.host.container_bridges.iter().cloned())
            .collect();
        self.ruleset.sets.insert(
            CONTAINERS.to_owned(),
            Set {
                elements: Elements::Interfaces(names.into_iter().collect()),
                comment: Some("bridges known to belong to a container engine".to_owned()),
            },
        );
    }

    /// Bridges of others by whole name, from the settings and from the host.
    fn foreign(&mut self) {
        let settings = &self.policy.settings;
        let exact = settings.foreign_interfaces.iter().filter_map(exact_name);
        let mut names: BTreeSet<_> = exact
            .chain(self.host.foreign_bridges.iter().cloned())
            .collect();
        for container in settings.container_interfaces.iter().filter_map(exact_name) {
            names.remove(&container);
        }
        if !names.is_empty() {
            let elements = Elements::Interfaces(names.into_iter().collect());
            let comment = Some("bridges known to belong to others than an engine".to_owned());
            self.ruleset
                .sets
                .insert(FOREIGN.to_owned(), Set { elements, comment });
        }
    }

    /// Lets packets to others' bridges through: the names of containers' interfaces are only
    /// guessed.
    fn to_foreign(&self) -> Vec<Rule> {
        let set = self
            .ruleset
            .sets
            .contains_key(FOREIGN)
            .then(|| Expression::InterfaceIn {
                side: Side::Out,
                set: FOREIGN.to_owned(),
                member: true,
            });
        let patterns = self
            .policy
            .settings
            .foreign_interfaces
            .iter()
            .filter_map(to_prefix);
        set.into_iter()
            .chain(patterns)
            .map(|to| {
                Rule::new(
                    vec![to, accept()],
                    note("to others than a container engine"),
                )
            })
            .collect()
    }

    fn forward(&mut self) {
        let mut rules = vec![Rule::new(
            vec![
                from_container(true),
                to_container(false),
                Expression::Direction(Direction::Reply),
                Expression::DestinationNat,
                goto("published"),
            ],
            note("answers of published ports: a source that loses its permission loses them too"),
        )];
        let containers_excepted = self.dispatch(Context::FromContainers);
        if !containers_excepted.is_empty() {
            self.chain("from-containers", containers_excepted);
            rules.push(Rule::new(
                vec![
                    from_container(true),
                    Expression::Direction(Direction::Original),
                    Expression::DestinationNat,
                    jump("from-containers"),
                ],
                note("containers that a port excepts"),
            ));
        }
        rules.extend([
            Rule::new(
                vec![from_container(true), accept()],
                note("what containers send"),
            ),
            Rule::new(
                vec![Expression::Direction(Direction::Reply), accept()],
                note("answers to what containers asked for"),
            ),
        ]);
        for protocol in [L4Protocol::Icmp, L4Protocol::Icmp6] {
            rules.push(Rule::new(
                vec![
                    Expression::Protocol(protocol),
                    Expression::Related,
                    accept(),
                ],
                note("errors about connections: path MTU"),
            ));
        }
        rules.push(Rule::new(
            vec![Expression::DestinationNat, goto("published")],
            None,
        ));
        rules.push(Rule::new(vec![to_container(true), goto("direct")], None));
        for to_pattern in self.container_patterns() {
            rules.push(Rule::new(vec![to_pattern, goto("direct")], None));
        }
        self.base("forward", Hook::Forward, rules);
    }

    fn input(&mut self) {
        let mut rules = vec![Rule::new(
            vec![
                Expression::Interface {
                    side: Side::In,
                    name: NameMatch::Exact("lo".to_owned()),
                    equal: true,
                },
                accept(),
            ],
            None,
        )];
        let containers_excepted = self.dispatch(Context::HostFromContainers);
        if !containers_excepted.is_empty() {
            self.chain("host-from-containers", containers_excepted);
            rules.push(Rule::new(
                vec![from_container(true), jump("host-from-containers")],
                note("containers that a port excepts"),
            ));
        }
        rules.push(Rule::new(
            vec![from_container(true), accept()],
            note("what containers send"),
        ));
        rules.extend(self.dispatch(Context::Host));
        self.base("input", Hook::Input, rules);
    }

    fn published(&mut self) {
        let mut rules = vec![Rule::new(
            vec![
                Expression::ToLoopback(Tuple::Original),
                Expression::Counter,
                drop(),
            ],
            note("a loopback address never comes over a wire (RFC 1122, 3.2.1.3)"),
        )];
        rules.extend(self.dispatch(Context::Published));
        if self.policy.default == DefaultAction::Deny {
            let comment = self.default_origin();
            let refuse = |matches: Expression| {
                Rule::new(vec![matches, Expression::Counter, drop()], comment.clone())
            };
            rules.extend(self.to_foreign());
            rules.push(same_interface());
            rules.push(refuse(from_container(true)));
            rules.push(refuse(Expression::OutBridge));
            rules.push(refuse(to_container(true)));
            rules.extend(self.container_patterns().map(refuse));
        }
        self.chain("published", rules);
    }

    /// Packets straight to a container's address. Which published port that would be only the
    /// engine knows; without its word `default: deny` refuses them all, and `default: allow`
    /// judges them as if the container's port were published under its own number.
    fn direct(&mut self) {
        let mut rules = vec![same_interface()];
        rules.extend(self.to_foreign());
        match self.policy.default {
            DefaultAction::Deny => {
                rules.push(Rule::new(
                    vec![Expression::Counter, drop()],
                    self.default_origin(),
                ));
            }
            DefaultAction::Allow => rules.extend(self.dispatch(Context::Host)),
        }
        self.chain("direct", rules);
    }

    /// The rules that lead a packet to the chain of the most exact key that names its port, and
    /// those chains. No rule if no key has anything to say in this context.
    fn dispatch(&mut self, context: Context) -> Vec<Rule> {
        let policy = self.policy;
        if matches!(
            context,
            Context::FromContainers | Context::HostFromContainers
        ) && !policy.ports.values().any(|port| port.except.containers)
        {
            return Vec::new();
        }
        let mut by_address: BTreeMap<Option<IpAddr>, Vec<(&PortKey, &PortPolicy)>> =
            BTreeMap::new();
        for (key, port) in &policy.ports {
            by_address.entry(key.address).or_default().push((key, port));
            self.port_chain(context, key, port);
        }
        let anywhere = by_address.remove(&None).unwrap_or_default();

        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (address, keys) in by_address {
            let Some(address) = address else { continue };
            let chain = context.address_chain(address);
            let rules = self.port_maps(context, Some(address), &keys);
            self.chain(&chain, rules);
            match address {
                IpAddr::V4(address) => v4.push((u32::from(address), Verdict::Jump(chain))),
                IpAddr::V6(address) => v6.push((u128::from(address), Verdict::Jump(chain))),
            }
        }
        let mut rules = Vec::new();
        if !v4.is_empty() {
            rules.push(self.address_map(context, Family::V4, Elements::Ipv4Verdicts(v4)));
        }
        if !v6.is_empty() {
            rules.push(self.address_map(context, Family::V6, Elements::Ipv6Verdicts(v6)));
        }
        rules.extend(self.port_maps(context, None, &anywhere));
        rules
    }

    fn address_map(&mut self, context: Context, family: Family, elements: Elements) -> Rule {
        let map = context.address_map(family == Family::V4);
        self.ruleset.sets.insert(
            map.clone(),
            Set {
                elements,
                comment: None,
            },
        );
        Rule::new(
            vec![Expression::DestinationMap {
                tuple: tuple(context),
                family,
                map,
            }],
            None,
        )
    }

    /// One map from ports to chains per protocol, and the rules that look it up.
    fn port_maps(
        &mut self,
        context: Context,
        address: Option<IpAddr>,
        keys: &[(&PortKey, &PortPolicy)],
    ) -> Vec<Rule> {
        let mut rules = Vec::new();
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
            let keys = keys.iter().filter(|(key, _)| key.protocol == protocol);
            let elements: Vec<_> = segment::segments(keys.map(|pair| (pair.0, pair)))
                .into_iter()
                .map(|segment| {
                    let (key, port) = segment.value;
                    (
                        segment.first,
                        segment.last,
                        port_verdict(context, key, port),
                    )
                })
                .collect();
            if elements.is_empty() {
                continue;
            }
            let map = context.port_map(address, protocol);
            let elements = Elements::PortVerdicts(elements);
            self.ruleset.sets.insert(
                map.clone(),
                Set {
                    elements,
                    comment: None,
                },
            );
            rules.push(Rule::new(
                vec![Expression::PortMap {
                    tuple: tuple(context),
                    protocol: l4_protocol(protocol),
                    map,
                }],
                None,
            ));
        }
        rules
    }

    /// The chain that judges who may reach a port.
    fn port_chain(&mut self, context: Context, key: &PortKey, port: &PortPolicy) {
        let comment = self.comment(&port.origin);
        let name = context.port_chain(key);
        let refuse = |matches: Vec<Expression>| refusal(&matches, key, port, &comment);
        let mut rules = Vec::new();
        match context {
            Context::FromContainers | Context::HostFromContainers => {
                if port.except.containers {
                    self.chain(&name, refuse(Vec::new()));
                }
                return;
            }
            Context::Published => {}
            Context::Host => {
                // A key with an address is only reached by packets to that address.
                if key.address.is_none() {
                    rules.push(Rule::new(
                        vec![
                            Expression::ToLoopback(Tuple::Packet),
                            Expression::Counter,
                            drop(),
                        ],
                        comment.clone(),
                    ));
                }
            }
        }
        let tuple = tuple(context);
        if let Some(elsewhere) = self.not_from_interfaces(key, port) {
            let mut matches = vec![elsewhere];
            if tuple == Tuple::Original {
                // Answers come in through the container's bridge.
                matches.insert(0, Expression::Direction(Direction::Original));
            }
            rules.extend(refuse(matches));
        }
        let own = names::port(key);
        let excepted = self.selection(&port.except, tuple, &format!("port-{own}.except"), port);
        rules.extend(excepted.into_iter().flat_map(|source| refuse(vec![source])));
        let allow = |mut matches: Vec<Expression>| {
            matches.extend([Expression::Counter, accept()]);
            Rule::new(matches, comment.clone())
        };
        if port.allow.any {
            rules.push(allow(Vec::new()));
        } else {
            let allowed = self.selection(&port.allow, tuple, &format!("port-{own}"), port);
            rules.extend(allowed.into_iter().map(|source| allow(vec![source])));
            rules.extend(refuse(Vec::new()));
        }
        self.chain(&name, rules);
    }

    /// Matches a packet that came in through none of the interfaces of the policy.
    fn not_from_interfaces(&mut self, key: &PortKey, port: &PortPolicy) -> Option<Expression> {
        let names: Vec<String> = port
            .interfaces
            .iter()
            .map(|name| name.as_str().to_owned())
            .collect();
        match <[String; 1]>::try_from(names) {
            Ok([name]) => Some(Expression::Interface {
                side: Side::In,
                name: NameMatch::Exact(name),
                equal: false,
            }),
            Err(names) if names.is_empty() => None,
            Err(names) => {
                let set = format!("port-{}.interfaces", names::port(key));
                let comment = Some(self.comment(&port.origin));
                let elements = Elements::Interfaces(names);
                self.ruleset
                    .sets
                    .insert(set.clone(), Set { elements, comment });
                Some(Expression::InterfaceIn {
                    side: Side::In,
                    set,
                    member: false,
                })
            }
        }
    }

    /// Matches for the addresses of a selection, one per set that has any; makes the sets.
    fn selection(
        &mut self,
        selection: &SourceSelection,
        tuple: Tuple,
        own: &str,
        port: &PortPolicy,
    ) -> Vec<Expression> {
        let policy = self.policy;
        let mut sets = Vec::new();
        for name in &selection.named {
            if let Some(source) = policy.sources.get(name) {
                sets.extend(self.address_sets(name.as_str(), &source.addresses, &source.origin));
            }
        }
        sets.extend(self.address_sets(own, &selection.inline, &port.origin));
        sets.into_iter()
            .map(|(family, set)| Expression::SourceIn { tuple, family, set })
            .collect()
    }

    /// The sets for a list of addresses, made when they are first asked for: single addresses in
    /// a hash, which is the fastest to look up, the rest in an interval set.
    fn address_sets(
        &mut self,
        name: &str,
        addresses: &AddressSet,
        origin: &Span,
    ) -> Vec<(Family, String)> {
        let kinds: [(Family, &str, &dyn Fn() -> Elements); 4] = [
            (Family::V4, "a4", &|| {
                Elements::Ipv4(singles(addresses.v4()))
            }),
            (Family::V4, "n4", &|| {
                Elements::Ipv4Ranges(ranges(addresses.v4()))
            }),
            (Family::V6, "a6", &|| {
                Elements::Ipv6(singles(addresses.v6()))
            }),
            (Family::V6, "n6", &|| {
                Elements::Ipv6Ranges(ranges(addresses.v6()))
            }),
        ];
        let mut sets = Vec::new();
        for (family, kind, elements) in kinds {
            let set = format!("{name}.{kind}");
            if !self.ruleset.sets.contains_key(&set) {
                let elements = elements();
                if elements.is_empty() {
                    continue;
                }
                let comment = Some(self.comment(origin));
                self.ruleset
                    .sets
                    .insert(set.clone(), Set { elements, comment });
            }
            sets.push((family, set));
        }
        sets
    }

    /// Matches packets to what may be a container's interface by the beginning of its name. Whole
    /// names are in the set of [`CONTAINERS`].
    fn container_patterns(&self) -> impl Iterator<Item = Expression> {
        let patterns = &self.policy.settings.container_interfaces;
        patterns.iter().filter_map(to_prefix)
    }

    fn default_origin(&self) -> String {
        self.comment(&self.policy.default_origin)
    }

    /// The comment that leads back to a line of the policy.
    fn comment(&self, span: &Span) -> String {
        comment(&(self.origin)(span))
    }

    fn chain(&mut self, name: &str, rules: Vec<Rule>) {
        self.ruleset
            .chains
            .insert(name.to_owned(), Chain { base: None, rules });
    }

    fn base(&mut self, name: &str, hook: Hook, rules: Vec<Rule>) {
        let base = Some(Base {
            hook,
            priority: self.policy.settings.priority,
        });
        self.ruleset
            .chains
            .insert(name.to_owned(), Chain { base, rules });
    }
}

/// The rules that refuse what matches, as the port's policy wants it.
fn refusal(matches: &[Expression], key: &PortKey, port: &PortPolicy, comment: &str) -> Vec<Rule> {
    let mut rules = Vec::new();
    if port.log {
        let mut log = matches.to_vec();
        let (per_second, burst) = LOG_RATE;
        log.extend([
            Expression::Limit { per_second, burst },
            Expression::Log {
                prefix: format!("dfw refused {key}: "),
            },
        ]);
        rules.push(Rule::new(log, comment.to_owned()));
    }
    let mut refuse = matches.to_vec();
    match (port.refuse, key.protocol) {
        (Refuse::Drop, _) => refuse.extend([Expression::Counter, drop()]),
        (Refuse::Reject, Protocol::Tcp) => refuse.extend([
            Expression::Protocol(L4Protocol::Tcp),
            Expression::Counter,
            Expression::Reject(Reject::TcpReset),
        ]),
        (Refuse::Reject, Protocol::Udp | Protocol::Sctp) => {
            refuse.extend([
                Expression::Counter,
                Expression::Reject(Reject::PortUnreachable),
            ]);
        }
    }
    rules.push(Rule::new(refuse, comment.to_owned()));
    rules
}

fn port_verdict(context: Context, key: &PortKey, port: &PortPolicy) -> Verdict {
    match context {
        // Must not fall through to a key without an address.
        Context::FromContainers | Context::HostFromContainers if !port.except.containers => {
            Verdict::Accept
        }
        _ => Verdict::Goto(context.port_chain(key)),
    }
}

fn tuple(context: Context) -> Tuple {
    match context {
        Context::Published | Context::FromContainers => Tuple::Original,
        Context::Host | Context::HostFromContainers => Tuple::Packet,
    }
}

fn singles<T: Copy + PartialEq>(ranges: &[(T, T)]) -> Vec<T> {
    ranges
        .iter()
        .filter(|(first, last)| first == last)
        .map(|(first, _)| *first)
        .collect()
}

fn ranges<T: Copy + PartialEq>(ranges: &[(T, T)]) -> Vec<(T, T)> {
    ranges
        .iter()
        .filter(|(first, last)| first != last)
        .copied()
        .collect()
}

/// Traffic that stays on one bridge, which the kernel shows to this hook where
/// `bridge-nf-call-iptables` is on: known without knowing the bridge.
fn same_interface() -> Rule {
    Rule::new(
        vec![Expression::SameInterface, accept()],
        note("between containers of one network, also one that is not known yet"),
    )
}

fn from_container(member: bool) -> Expression {
    Expression::InterfaceIn {
        side: Side::In,
        set: CONTAINERS.to_owned(),
        member,
    }
}

fn to_container(member: bool) -> Expression {
    Expression::InterfaceIn {
        side: Side::Out,
        set: CONTAINERS.to_owned(),
        member,
    }
}

fn accept() -> Expression {
    Expression::Verdict(Verdict::Accept)
}

fn drop() -> Expression {
    Expression::Verdict(Verdict::Drop)
}

fn goto(chain: &str) -> Expression {
    Expression::Verdict(Verdict::Goto(chain.to_owned()))
}

fn jump(chain: &str) -> Expression {
    Expression::Verdict(Verdict::Jump(chain.to_owned()))
}

fn note(text: &str) -> String {
    text.to_owned()
}

/// An origin as the comment of a rule, cut from the left where a file name is too long for one.
#[must_use]
pub fn comment(origin: &Origin) -> String {
    let text = origin.to_string();
    let over = text
        .len()
        .saturating_sub(crate::ruleset::check::COMMENT_MAX);
    let start = (over..text.len())
        .find(|&i| text.is_char_boundary(i))
        .unwrap_or(0);
    text[start..].replace('"', "'")
}

fn exact_name(pattern: &InterfacePattern) -> Option<String> {
    match pattern {
        InterfacePattern::Exact(name) => Some(name.as_str().to_owned()),
        InterfacePattern::Prefix(_) => None,
    }
}

/// Matches packets that leave through an interface whose name begins so.
fn to_prefix(pattern: &InterfacePattern) -> Option<Expression> {
    match pattern {
        InterfacePattern::Exact(_) => None,
        InterfacePattern::Prefix(prefix) => Some(Expression::Interface {
            side: Side::Out,
            name: NameMatch::Prefix(prefix.clone()),
            equal: true,
        }),
    }
}

fn l4_protocol(protocol: Protocol) -> L4Protocol {
    match protocol {
        Protocol::Tcp => L4Protocol::Tcp,
        Protocol::Udp => L4Protocol::Udp,
        Protocol::Sctp => L4Protocol::Sctp,
    }
}
