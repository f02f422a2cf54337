//! What dfw must never change: the rules of everybody else.

use anyhow::{Result, ensure};

use crate::Named;
use crate::support::command::output;
use crate::support::lab::{Lab, TABLE};
use crate::support::paths::POLICY;

pub(crate) const TRIALS: &[Named] = &[
    (
        "other_firewalls::rules_of_others_stay_as_they_are",
        rules_of_others_stay_as_they_are,
    ),
    (
        "other_firewalls::a_flush_by_others_is_repaired_by_apply",
        flush_is_repaired,
    ),
];

/// A table as an administrator would write one, with everything that a careless tool could lose.
const FOREIGN: &str = r#"
table inet administrators {
    set bad { type ipv4_addr; flags interval; elements = { 192.0.2.0/24, 192.0.2.0-192.0.2.255 }; auto-merge; }
    chain input {
        type filter hook input priority filter; policy accept;
        ip saddr @bad counter drop comment "kept"
    }
}
table netdev dfw-nft { }
table ip dfw-nft {
    chain other {
        counter accept
    }
}
"#;

fn rules_of_others_stay_as_they_are(lab: &Lab) -> Result<()> {
    output(lab.host()?.command("nft").arg(FOREIGN))?;
    let compared = compare_around_apply(lab);
    for table in ["inet administrators", "netdev dfw-nft", "ip dfw-nft"] {
        let mut words = vec!["delete", "table"];
        words.extend(table.split(' '));
        output(lab.host()?.command("nft").args(words))?;
    }
    compared
}

fn compare_around_apply(lab: &Lab) -> Result<()> {
    let before = rules_of_others(lab)?;
    let steps: [(&str, &dyn Fn() -> Result<()>); 3] = [
        ("the first apply", &|| lab.apply(POLICY)),
        ("the second apply", &|| lab.apply(POLICY)),
        ("remove", &|| lab.remove()),
    ];
    for (what, step) in steps {
        step()?;
        let after = rules_of_others(lab)?;
        ensure!(
            after == before,
            "{what} has changed the rules of others\n--- before\n{before}\n--- after\n{after}"
        );
    }
    Ok(())
}

/// Every table but dfw's, by both of the tools that people look with, without counters.
fn rules_of_others(lab: &Lab) -> Result<String> {
    let host = lab.host()?;
    let listing = output(host.command("nft").args(["--stateless", "list", "ruleset"]))?;
    let mut rules = String::new();
    let mut ours = false;
    for line in listing.lines() {
        if line.starts_with("table ") {
            ours = line == format!("table {TABLE} {{");
        }
        if !ours {
            rules.push_str(line);
            rules.push('\n');
        }
    }
    for program in ["iptables-save", "ip6tables-save"] {
        for line in output(&mut host.command(program))?.lines() {
            // Comments hold the time, and a chain's line ends with its counters in brackets.
            if !line.starts_with('#') {
                rules.push_str(line.split(" [").next().unwrap_or_default());
                rules.push('\n');
            }
        }
    }
    Ok(rules)
}

/// Somebody empties the whole ruleset and loads their own again: dfw must find that it has to do
/// everything anew, not that nothing has changed since its last apply.
fn flush_is_repaired(lab: &Lab) -> Result<()> {
    lab.apply(POLICY)?;
    let mut delete = lab.host()?.command("nft");
    output(delete.args(["delete", "table"]).args(TABLE.split(' ')))?;
    lab.apply(POLICY)?;
    crate::paths::guarded_now(lab)
}
