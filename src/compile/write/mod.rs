//! Writes the compiled ruleset.

mod dispatch;
mod early;
mod granted;
mod limits;
mod loopback;
mod own;
mod port;
mod published;
mod segment;
mod shared;
mod speaks;

use std::collections::BTreeSet;

use crate::host::HostView;
use crate::policy::{DefaultAction, InterfacePattern, Policy};
use crate::ruleset::{
    Address, Base, Chain, Conntrack, Direction, Elements, Expression, Hook, Interface, L4Protocol,
    MARK, NameMatch, Origin, Port, Rule, Ruleset, Set, Side, Statement, Tuple, Verdict,
};
use crate::text::Span;
use crate::untrusted::is_deceptive;

use super::logged;
use super::names::{
    CONTAINERS, Context, EGRESS, EXEMPT, FOREIGN, FORWARD, HOST_FROM_CONTAINERS, INPUT, PUBLISHED,
    PUBLISHED_LOOPBACK, REMEMBER, TO_CONTAINER,
};
use granted::Granted;
pub use own::{Overlap, overlaps};
pub use published::{denied, left_open, unnamed};
use shared::Shared;

/// Compiles a policy for a host. `origin` returns the file and line of a span of the policy.
#[must_use]
pub fn compile(policy: &Policy, host: &HostView, origin: &dyn Fn(&Span) -> Origin) -> Ruleset {
    let (policy, granted) = granted::split(policy, &host.grants);
    let policy = policy.as_ref();
    let mut compiler = Compiler {
        policy,
        host,
        origin,
        shared: Shared::of(policy, &granted),
        granted,
        ruleset: Ruleset::default(),
    };
    compiler.bridges();
    compiler.shared_sets();
    compiler.early();
    compiler.forward();
    compiler.input();
    compiler.chain_to_containers();
    if host.old_kernel {
        for chain in compiler.ruleset.chains.values_mut() {
            let ask = |rule: &Rule| {
                rule.expressions.iter().any(|e| {
                    matches!(
                        e,
                        Expression::Interface(Interface::SameInterface | Interface::NoReversePath)
                    )
                })
            };
            chain.rules.retain(|rule| !ask(rule));
        }
    }
    compiler.ruleset
}

struct Compiler<'a> {
    policy: &'a Policy,
    host: &'a HostView,
    origin: &'a dyn Fn(&Span) -> Origin,
    /// The ports without chains of their own.
    shared: Shared<'a>,
    granted: Granted<'a>,
    ruleset: Ruleset,
}

impl Compiler<'_> {
    /// Adds the sets of bridges by exact name: those managed by engines, and others. Settings take
    /// precedence over host facts; a bridge in both counts as an engine's.
    fn bridges(&mut self) {
        let settings = &self.policy.settings;
        let exact_names = |patterns: &[InterfacePattern]| -> BTreeSet<String> {
            patterns.iter().filter_map(exact_name).collect()
        };
        let mut foreign = exact_names(&settings.foreign_interfaces);
        let mut containers = exact_names(&settings.container_interfaces);
        containers.extend(self.host.container_bridges.difference(&foreign).cloned());
        containers.retain(|name| !self.host.shared_bridges.contains(name));
        foreign.extend(self.host.foreign_bridges.iter().cloned());
        foreign.retain(|name| !containers.contains(name));
        self.interfaces(
            CONTAINERS,
            containers,
            "bridges managed by a container engine",
        );
        if !foreign.is_empty() {
            self.interfaces(
                FOREIGN,
                foreign,
                "bridges not managed by a container engine",
            );
        }
    }

    fn interfaces(&mut self, set: &str, names: BTreeSet<String>, comment: &str) {
        let elements = Elements::Interfaces(names.into_iter().collect());
        let comment = Some(comment.to_owned());
        self.ruleset
            .sets
            .insert(set.to_owned(), Set { elements, comment });
    }

    /// Accepts packets to bridges not managed by an engine. Placed after the rules for known containers
    /// and before those for name patterns.
    fn to_foreign(&self) -> impl Iterator<Item = Rule> {
        let set = self.ruleset.sets.contains_key(FOREIGN);
        let set = set.then(|| {
            Expression::Interface(Interface::In {
                side: Side::Out,
                set: FOREIGN.to_owned(),
                member: true,
            })
        });
        let patterns = to_prefixes(&self.policy.settings.foreign_interfaces);
        let note = note("bridge not managed by a container engine");
        set.into_iter()
            .chain(patterns)
            .map(move |to| Rule::new(vec![to, accept()], note.clone()))
    }

    fn forward(&mut self) {
        // Packets to and from published ports first, the most frequent ones; exemptions are only evaluated for
        // those that would be denied. Replies are filtered too, so that revoking takes effect at once.
        let mut rules = Vec::new();
        if self.policy.settings.connection_mark {
            self.remember();
            let judged = vec![Expression::Conntrack(Conntrack::Mark(MARK)), accept()];
            rules.push(Rule::new(
                judged,
                note("connection accepted since the last change"),
            ));
        }
        rules.push(Rule::new(
            vec![
                Expression::Conntrack(Conntrack::DestinationNat),
                goto(PUBLISHED),
            ],
            None,
        ));
        let spoken = self.spoken();
        self.published(spoken.back_translated);
        self.egress(spoken.out);
        rules.push(Rule::new(vec![from_container(true), goto(EGRESS)], None));
        rules.extend(spoken.back);
        rules.push(Rule::new(
            vec![
                Expression::Conntrack(Conntrack::Direction(Direction::Reply)),
                accept(),
            ],
            note("replies to requests of containers"),
        ));
        rules.push(Rule::new(
            vec![to_container(true), goto(TO_CONTAINER)],
            None,
        ));
        rules.extend(self.to_foreign());
        for to_pattern in self.container_patterns() {
            rules.push(Rule::new(vec![to_pattern, goto(TO_CONTAINER)], None));
        }
        self.base(FORWARD, Hook::Forward, rules);
    }

    /// Marks a connection that a port accepts, so that it skips evaluation until the next change.
    /// Marked connections are never denied, so only packets accepted for their port and source alone
    /// may get here.
    fn remember(&mut self) {
        let mark = vec![Expression::Conntrack(Conntrack::SetMark(MARK))];
        let rules = vec![
            Rule::new(
                mark,
                note("accepted without evaluation until the next change"),
            ),
            Rule::new(vec![accept()], None),
        ];
        self.chain(REMEMBER, rules);
    }

    /// Returns how a port accepts: for this packet, or for the connection until the next change.
    fn allow(&self, context: Context) -> Expression {
        let settings = &self.policy.settings;
        // A marked connection skips evaluation, whatever interface its packets come in through.
        let remembers = settings.connection_mark && !settings.reverse_path_filter;
        if remembers && context == Context::Published {
            goto(REMEMBER)
        } else {
            accept()
        }
    }

    /// Matches packets without a reverse path through their interface, if ports deny those. Replies
    /// come in through the container's bridge and are not checked.
    fn no_reverse_path(&self, context: Context) -> Option<Vec<Expression>> {
        let original = Expression::Conntrack(Conntrack::Direction(Direction::Original));
        let original = (context == Context::Published).then_some(original);
        let matches = original
            .into_iter()
            .chain([Expression::Interface(Interface::NoReversePath)]);
        let settings = &self.policy.settings;
        settings.reverse_path_filter.then(|| matches.collect())
    }

    /// Adds the chain of packets from containers, except for those to published ports.
    fn egress(&mut self, from_udp_ports: Option<Rule>) {
        let mut rules = vec![Rule::new(
            vec![
                to_container(false),
                Expression::Conntrack(Conntrack::Resumed),
                Expression::Statement(Statement::Counter),
                drop(),
            ],
            note("mid-stream reply without conntrack entry; client may have been revoked"),
        )];
        rules.extend(from_udp_ports);
        rules.push(Rule::new(vec![accept()], note("packets from containers")));
        self.chain(EGRESS, rules);
    }

    fn input(&mut self) {
        let mut rules = vec![Rule::new(
            vec![
                Expression::Interface(Interface::Name {
                    side: Side::In,
                    name: NameMatch::Exact("lo".to_owned()),
                    equal: true,
                }),
                accept(),
            ],
            None,
        )];
        rules.extend(self.own_replies());
        rules.extend(self.loopback());
        let containers_excepted = self.dispatch(Context::HostFromContainers);
        if !containers_excepted.is_empty() {
            self.chain(HOST_FROM_CONTAINERS, containers_excepted);
            rules.push(Rule::new(
                vec![from_container(true), jump(HOST_FROM_CONTAINERS)],
                note("containers excluded by `except`"),
            ));
        }
        rules.push(Rule::new(
            vec![from_container(true), accept()],
            note("packets from containers"),
        ));
        rules.extend(self.dispatch(Context::Host));
        self.base(INPUT, Hook::Input, rules);
    }

    /// Adds the chain of packets of connections to published ports, in both directions. `back` filters
    /// packets to published UDP ports on connections opened by containers.
    fn published(&mut self, back: Option<Rule>) {
        self.exempt();
        self.published_loopback();
        let to_loopback = vec![
            Expression::Address(Address::ToLoopback(Tuple::Original)),
            jump(PUBLISHED_LOOPBACK),
        ];
        let mut rules = vec![Rule::new(to_loopback, None)];
        rules.extend(back);
        rules.extend(self.dispatch(Context::Published));
        if self.policy.default == DefaultAction::Deny {
            rules.extend(errors());
            rules.push(Rule::new(vec![jump(EXEMPT)], None));
            rules.push(same_interface());
            rules.extend(self.deny_unnamed(&[from_container(true)]));
            rules.extend(self.deny_unnamed(&[to_container(true)]));
            rules.extend(self.to_foreign());
            rules.extend(self.deny_unnamed(&[Expression::Interface(Interface::OutBridge)]));
            for to_pattern in self.container_patterns() {
                rules.extend(self.deny_unnamed(&[to_pattern]));
            }
        }
        self.chain(PUBLISHED, rules);
    }

    /// Adds the chain of connections that went to a loopback address.
    fn published_loopback(&mut self) {
        let back = || Expression::Statement(Statement::Verdict(Verdict::Return));
        let deny = vec![Expression::Statement(Statement::Counter), drop()];
        let rules = vec![
            Rule::new(reply(to_container(true), back()), None),
            Rule::new(reply(from_container(false), back()), None),
            Rule::new(
                deny,
                note("loopback address from the network (RFC 1122, 3.2.1.3)"),
            ),
        ];
        self.chain(PUBLISHED_LOOPBACK, rules);
    }

    /// Adds the chain that exempts packets from containers and foreign interfaces, and replies other than
    /// those that leave containers for others.
    fn exempt(&mut self) {
        let mut rules = vec![
            Rule::new(
                vec![
                    Expression::Conntrack(Conntrack::Direction(Direction::Original)),
                    from_container(true),
                    accept(),
                ],
                note("from containers to ports of this host"),
            ),
            Rule::new(
                reply(to_container(true), accept()),
                note("replies to requests of containers"),
            ),
            Rule::new(
                reply(from_container(false), accept()),
                note("replies that no container sends"),
            ),
        ];
        if self.ruleset.sets.contains_key(FOREIGN) {
            rules.push(Rule::new(
                vec![
                    from_foreign(),
                    Expression::Interface(Interface::SameInterface),
                    accept(),
                ],
                note("within a foreign bridge, such as Kubernetes services"),
            ));
        }
        self.chain(EXEMPT, rules);
    }

    /// Adds the chain of packets routed to a container's address. Only the engine knows the published
    /// port behind it; without its answer `default: deny` denies them all, and `default: allow` treats
    /// the container's port as published under the same number.
    fn chain_to_containers(&mut self) {
        let mut rules: Vec<Rule> = errors().collect();
        rules.push(same_interface());
        rules.extend(self.containers());
        match self.policy.default {
            DefaultAction::Deny => {
                rules.extend(self.deny_unnamed(&[]));
            }
            DefaultAction::Allow => rules.extend(self.dispatch(Context::Host)),
        }
        self.chain(TO_CONTAINER, rules);
    }

    /// Matches packets to possible container interfaces by name patterns. Exact names are in the set
    /// [`CONTAINERS`], except for bridges with foreign ports.
    fn container_patterns(&self) -> impl Iterator<Item = Expression> {
        let patterns = &self.policy.settings.container_interfaces;
        let shared = patterns
            .iter()
            .filter_map(exact_name)
            .collect::<BTreeSet<_>>();
        let shared = shared
            .into_iter()
            .filter(|name| self.host.shared_bridges.contains(name));
        to_prefixes(patterns).chain(shared.map(|name| {
            Expression::Interface(Interface::Name {
                side: Side::Out,
                name: NameMatch::Exact(name),
                equal: true,
            })
        }))
    }

    /// Returns the rules by which `default: deny` denies what matches.
    fn deny_unnamed(&self, matches: &[Expression]) -> Vec<Rule> {
        let comment = self.default_origin();
        let rule = |rest: &[Expression]| Rule::new([matches, rest].concat(), comment.clone());
        let mut rules = Vec::new();
        if self.policy.settings.log {
            rules.push(rule(&logged::denied(logged::UNNAMED, &comment)));
        }
        rules.push(rule(&[Expression::Statement(Statement::Counter), drop()]));
        rules
    }

    fn default_origin(&self) -> String {
        self.comment(&self.policy.default_origin)
    }

    /// Returns the comment that leads back to a line of the policy.
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

/// Matches replies through an interface.
fn reply(interface: Expression, verdict: Expression) -> Vec<Expression> {
    let reply = Expression::Conntrack(Conntrack::Direction(Direction::Reply));
    vec![reply, interface, verdict]
}

/// Accepts related ICMP errors, which have no ports.
fn errors() -> impl Iterator<Item = Rule> {
    [L4Protocol::Icmp, L4Protocol::Icmp6]
        .into_iter()
        .map(|protocol| {
            Rule::new(
                vec![
                    Expression::Port(Port::Protocol(protocol)),
                    Expression::Conntrack(Conntrack::Related),
                    accept(),
                ],
                note("related ICMP errors (path MTU)"),
            )
        })
}

/// Accepts traffic within one bridge, which passes this hook with `bridge-nf-call-iptables`, without knowing
/// the bridge.
fn same_interface() -> Rule {
    Rule::new(
        vec![Expression::Interface(Interface::SameInterface), accept()],
        note("within one container network, known or not"),
    )
}

fn from_container(member: bool) -> Expression {
    Expression::Interface(Interface::In {
        side: Side::In,
        set: CONTAINERS.to_owned(),
        member,
    })
}

/// Matches packets from bridges by exact name that no engine manages.
fn from_foreign() -> Expression {
    Expression::Interface(Interface::In {
        side: Side::In,
        set: FOREIGN.to_owned(),
        member: true,
    })
}

fn to_container(member: bool) -> Expression {
    Expression::Interface(Interface::In {
        side: Side::Out,
        set: CONTAINERS.to_owned(),
        member,
    })
}

fn accept() -> Expression {
    Expression::Statement(Statement::Verdict(Verdict::Accept))
}

fn drop() -> Expression {
    Expression::Statement(Statement::Verdict(Verdict::Drop))
}

fn goto(chain: &str) -> Expression {
    Expression::Statement(Statement::Verdict(Verdict::Goto(chain.to_owned())))
}

fn jump(chain: &str) -> Expression {
    Expression::Statement(Statement::Verdict(Verdict::Jump(chain.to_owned())))
}

fn note(text: &str) -> String {
    text.to_owned()
}

/// Returns an origin as the comment of a rule, cut from the left where a file name is too long for one.
#[must_use]
pub fn comment(origin: &Origin) -> String {
    let text = origin.to_string();
    let over = text
        .len()
        .saturating_sub(crate::ruleset::check::COMMENT_MAX);
    let start = (over..text.len())
        .find(|&i| text.is_char_boundary(i))
        .unwrap_or(0);
    text[start..].replace(|c: char| c == '"' || is_deceptive(c), "?")
}

fn exact_name(pattern: &InterfacePattern) -> Option<String> {
    match pattern {
        InterfacePattern::Exact(name) => Some(name.as_str().to_owned()),
        InterfacePattern::Prefix(_) => None,
    }
}

/// Matches packets whose outgoing interface matches one of the patterns, in any order.
fn to_prefixes(patterns: &[InterfacePattern]) -> impl Iterator<Item = Expression> {
    let prefixes = patterns.iter().filter_map(|pattern| match pattern {
        InterfacePattern::Exact(_) => None,
        InterfacePattern::Prefix(prefix) => Some(prefix.clone()),
    });
    let sorted: BTreeSet<String> = prefixes.collect();
    sorted.into_iter().map(|prefix| {
        Expression::Interface(Interface::Name {
            side: Side::Out,
            name: NameMatch::Prefix(prefix),
            equal: true,
        })
    })
}
