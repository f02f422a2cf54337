//! What answers is what the audit says, and the other way round. The matrix asks the same of every engine.

use anyhow::{Context, Result};

use crate::Named;
use crate::support::lab::Lab;
use crate::support::reach::{both_ways, guarded_now};
use crate::support::size::is_long;

pub(crate) const TRIALS: &[Named] = &[
    ("reach::what_answers_is_audited", |lab| both_ways(lab, true)),
    ("reach::rules_of_others_are_seen", rules_of_others),
];

/// What root of the host may have written beside the engine: what it is, the command, and its opposite.
#[rustfmt::skip]
const OTHERS: &[[&str; 3]] = &[
    ["a redirect to docker-proxy",
     "iptables -t nat -I PREROUTING -m addrtype --dst-type LOCAL -p tcp --dport 80 -j REDIRECT",
     "iptables -t nat -D PREROUTING -m addrtype --dst-type LOCAL -p tcp --dport 80 -j REDIRECT"],
    ["a redirect from another port",
     "iptables -t nat -I PREROUTING -m addrtype --dst-type LOCAL -p tcp --dport 9443 -j REDIRECT --to-ports 7000",
     "iptables -t nat -D PREROUTING -m addrtype --dst-type LOCAL -p tcp --dport 9443 -j REDIRECT --to-ports 7000"],
    ["a client without translation",
     "iptables -t nat -I PREROUTING -s 198.51.100.0/24 -p tcp --dport 8083 -j ACCEPT",
     "iptables -t nat -D PREROUTING -s 198.51.100.0/24 -p tcp --dport 8083 -j ACCEPT"],
    ["a port without connection tracking",
     "iptables -t raw -A PREROUTING -p tcp --dport 8083 -j CT --notrack",
     "iptables -t raw -D PREROUTING -p tcp --dport 8083 -j CT --notrack"],
    ["the same, in nftables",
     "nft 'add table ip raws; add chain ip raws p { type filter hook prerouting priority -300 ; }; \
      add rule ip raws p tcp dport 8083 notrack'",
     "nft delete table ip raws"],
    ["another bridge",
     "ip link add virbr9 type bridge && ip link set virbr9 up",
     "ip link delete virbr9"],
];

/// Whatever translates, or keeps from it, what the audit lists answers, and nothing else does.
fn rules_of_others(lab: &Lab) -> Result<()> {
    for [what, make, unmake] in OTHERS {
        lab.script(make).context(*what)?;
        let defaults = ["default: deny", "default: allow"];
        // Which default it is makes little difference to what rules of others do.
        let defaults = if is_long() {
            &defaults[..]
        } else {
            &defaults[..1]
        };
        let tried = defaults
            .iter()
            .try_for_each(|default| guarded_now(lab, default));
        lab.script(unmake)?;
        lab.remove()?;
        tried.context(*what)?;
    }
    Ok(())
}
