//! The denial of TCP connections as they arrive, before connection tracking and NAT.
//!
//! ```text
//!  prerouting ─ first segment? ─► opening ─ port ─► early-PORT ─ source ─► accept
//!                                                                └─► early-exempt, this host? ─► drop
//! ```
//!
//! A denied segment costs a third of what it costs behind connection tracking, and leaves no entry there. Only
//! first segments are judged: replies to this host, and to containers behind masquerading, are none. What these
//! chains accept is judged again by `forward` and `input`, which alone see the interface that a packet leaves
//! through. So a key takes part only if it denies without more than a drop, and a packet is denied here only if
//! it would be denied there: the exception is a port that rules of others redirect to another one, of which only
//! the first is seen here.
//!
//! The order is that of the costs: the flags, which other packets see; the port, by which segments of other
//! ports leave; the source; and the interface and the route only of who is denied anyway.

use crate::net::{HostPorts, Protocol};
use crate::policy::{DenyWith, PortPolicy};
use crate::ruleset::{
    Address, Base, Chain, Expression, Hook, Interface, NameMatch, Port, Rule, Side, Statement,
    Tuple,
};

use super::super::names::{
    Context, EARLY_EXEMPT, FOREIGN, List, OPENING, PREROUTING, early_denied_chain,
};
use super::granted::GRANTED;
use super::{Compiler, accept, drop, from_container, from_foreign, goto, jump, note};

/// The priority of the base chain: before connection tracking (-200) and `raw` (-300), after defragmentation
/// (-400), which shows the ports of fragments (`enum nf_ip_hook_priorities` of `linux/netfilter_ipv4.h`).
const PRIORITY: i32 = -310;

impl Compiler<'_> {
    /// Adds the chains, if any key takes part.
    pub(super) fn early(&mut self) {
        let rules = self.dispatch(Context::Early);
        if rules.is_empty() {
            return;
        }
        self.chain(OPENING, rules);
        self.early_exempt();
        let opens = vec![Expression::Port(Port::Opens), goto(OPENING)];
        let base = Some(Base {
            hook: Hook::Prerouting,
            priority: PRIORITY,
        });
        let rules = vec![Rule::new(opens, note("TCP connections as they arrive"))];
        let chain = Chain { base, rules };
        self.ruleset.chains.insert(PREROUTING.to_owned(), chain);
    }

    /// Returns whether connections to a key are denied as they arrive.
    pub(super) fn is_early(&self, key: &HostPorts, port: &PortPolicy) -> bool {
        self.policy.settings.early_drop
            && key.protocol == Protocol::Tcp
            && !port.allow.any
            && !port.log
            && port.deny_with == DenyWith::Drop
            && port.limits.is_empty()
    }

    /// Adds the chain of a key.
    pub(super) fn early_chain(&mut self, key: &HostPorts, port: &PortPolicy) {
        let comment = self.comment(&port.origin);
        let mut rules = Vec::new();
        let elsewhere = self.not_from_interfaces(key, port);
        let excepted = self.selection(&port.except, Tuple::Packet, &List::Except(*key), port);
        let denied = early_denied_chain(key);
        for matches in elsewhere.into_iter().chain(excepted) {
            rules.push(Rule::new(vec![matches, goto(&denied)], comment.clone()));
        }
        let denial = early_denial(
            vec![Expression::Statement(Statement::Counter)],
            comment.clone(),
        );
        if !rules.is_empty() {
            self.chain(&denied, denial.clone());
        }
        let allowed = self.selection(&port.allow, Tuple::Packet, &List::Allow(*key), port);
        rules.extend(
            allowed
                .into_iter()
                .map(|source| Rule::new(vec![source, accept()], comment.clone())),
        );
        let granted = self.granted(key, Tuple::Packet).into_iter();
        rules.extend(granted.map(|source| Rule::new(vec![source, accept()], GRANTED.to_owned())));
        rules.extend(denial);
        self.chain(&Context::Early.port_chain(key), rules);
    }

    /// Adds the chain that leaves packets to the later chains that do not deny them, or cannot be told here.
    fn early_exempt(&mut self) {
        let lo = Expression::Interface(Interface::Name {
            side: Side::In,
            name: NameMatch::Exact("lo".to_owned()),
            equal: true,
        });
        let mut rules = vec![
            Rule::new(vec![lo, accept()], None),
            Rule::new(
                vec![from_container(true), accept()],
                note("packets from containers"),
            ),
        ];
        if self.ruleset.sets.contains_key(FOREIGN) {
            rules.push(Rule::new(
                vec![from_foreign(), accept()],
                note("bridge not managed by a container engine"),
            ));
        }
        self.chain(EARLY_EXEMPT, rules);
    }
}

/// Returns the rules that deny a packet to this host; `counted` counts it.
pub(super) fn early_denial(
    counted: Vec<Expression>,
    comment: impl Into<Option<String>>,
) -> Vec<Rule> {
    let mut deny = vec![Expression::Address(Address::Local)];
    deny.extend(counted);
    deny.push(drop());
    vec![
        Rule::new(vec![jump(EARLY_EXEMPT)], None),
        Rule::new(deny, comment),
    ]
}
