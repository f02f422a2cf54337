//! dfw is killed at any point: the rules in force are the old ones or the new ones, all of them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dfw::ruleset::{Expression, Ruleset, Verdict};

use crate::Named;
use crate::place::Place;
use crate::property::same;

pub(crate) const TRIALS: &[Named] = &[("killed_at_any_point", killed_at_any_point)];

/// How often it is killed, each time a little later.
const KILLS: u32 = 40;
const SOURCES: u32 = 4_000;

/// What judges packets: what base chains lead to, and the sets that are used there.
fn in_force(ruleset: &Ruleset) -> Ruleset {
    let mut reached = Ruleset::default();
    let bases = ruleset.chains.iter().filter(|(_, c)| c.base.is_some());
    let mut next: Vec<String> = bases.map(|(name, _)| name.clone()).collect();
    let mut seen: BTreeSet<String> = next.iter().cloned().collect();
    while let Some(name) = next.pop() {
        let Some(chain) = ruleset.chains.get(&name) else {
            continue;
        };
        reached.chains.insert(name, chain.clone());
        let mut targets: Vec<Verdict> = Vec::new();
        for expression in chain.rules.iter().flat_map(|rule| &rule.expressions) {
            if let Expression::Verdict(verdict) = expression {
                targets.push(verdict.clone());
            }
            let name = expression.set();
            if let Some((name, set)) = name.and_then(|name| ruleset.sets.get_key_value(name)) {
                targets.extend(set.elements.verdicts().cloned());
                reached.sets.insert(name.clone(), set.clone());
            }
        }
        let targets = targets.iter().filter_map(Verdict::chain);
        let new = targets
            .map(str::to_owned)
            .filter(|t| seen.insert(t.clone()));
        next.extend(new.collect::<Vec<_>>());
    }
    reached
}

/// Two policies with nothing in common but the name of a list.
fn policies(place: &Place) -> Result<[String; 2]> {
    let write = |name: &str, net: u32, port: u16| -> Result<String> {
        let mut list = String::new();
        for n in 0..SOURCES {
            writeln!(list, "{}.{}.{}.0/25", net, n / 256, n % 256)?;
            writeln!(list, "{}.{}.{}.200", net, n / 256, n % 256)?;
        }
        place.write(&format!("{name}/list"), list)?;
        let text = format!(
            "default: deny\nsources: {{many: {{file: list}}}}\nports: {{{port}: [many], 80: any}}\n"
        );
        let file = place.write(&format!("{name}/policy.yaml"), text)?;
        Ok(file.to_string_lossy().into_owned())
    };
    Ok([write("one", 10, 5432)?, write("other", 11, 6379)?])
}

fn killed_at_any_point() -> Result<()> {
    let place = Place::new()?;
    let policies = policies(&place)?;
    let mut wanted = Vec::new();
    let mut longest = Duration::ZERO;
    for policy in &policies {
        let start = Instant::now();
        place.dfw_ok(&["apply", policy])?;
        longest = longest.max(start.elapsed());
        wanted.push(in_force(&place.installed()?));
    }
    ensure!(wanted[0] != wanted[1], "the same");
    let mut changed = [0; 2];
    let mut now = 1;
    for number in 0..KILLS {
        let target = 1 - now;
        let mut apply = place.program(&["apply", &policies[target]]);
        let mut child = apply.stdout(Stdio::null()).spawn()?;
        // Not a wait for anything: the point at which it is killed.
        std::thread::sleep(longest * number / KILLS);
        child.kill()?;
        child.wait()?;
        let found = in_force(&place.installed()?);
        let new = found == wanted[target];
        if !new {
            same(&found, &wanted[now]).with_context(|| format!("kill {number}"))?;
        }
        changed[usize::from(new)] += 1;
        now = if new { target } else { now };
    }
    ensure!(changed[0] > 0, "never killed in time");
    place.dfw_ok(&["apply", &policies[1 - now]])?;
    same(&place.installed()?, &wanted[1 - now])?;
    let again = place.dfw_ok(&["apply", &policies[1 - now]])?;
    ensure!(again.starts_with("no changes"), "{again}");
    Ok(())
}
