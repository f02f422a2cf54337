//! dfw is killed at any point: the rules in force are the old ones or the new ones, all of them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use dfw::ruleset::{Expression, Ruleset, Statement, Verdict};

use crate::Named;
use crate::change::{Counters, install_counting, same_counters};
use crate::concurrent_writers::{add_chain, beside};
use crate::namespace::Sandbox;
use crate::property::{same, seed};
use crate::support::size::times;

pub(crate) const TRIALS: &[Named] = &[
    ("killed_at_any_point", killed_at_any_point),
    ("killed_in_a_crowd", killed_in_a_crowd),
];

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
            if let Expression::Statement(Statement::Verdict(verdict)) = expression {
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
fn policies(sandbox: &Sandbox) -> Result<[String; 2]> {
    let write = |name: &str, net: u32, port: u16| -> Result<String> {
        let mut list = String::new();
        for n in 0..SOURCES {
            writeln!(list, "{}.{}.{}.0/25", net, n / 256, n % 256)?;
            writeln!(list, "{}.{}.{}.200", net, n / 256, n % 256)?;
        }
        sandbox.write(&format!("{name}/list"), list)?;
        let text = format!(
            "default: deny\nsources: {{many: {{file: list}}}}\nports: {{{port}: [many], 80: any}}\n"
        );
        let file = sandbox.write(&format!("{name}/policy.yaml"), text)?;
        Ok(file.to_string_lossy().into_owned())
    };
    Ok([write("one", 10, 5432)?, write("other", 11, 6379)?])
}

/// Two policies, and what is in force of each; the first is installed, and has counted.
struct Scene {
    sandbox: Sandbox,
    policies: [String; 2],
    desired: [Ruleset; 2],
    longest: Duration,
}

impl Scene {
    fn new() -> Result<Self> {
        let sandbox = Sandbox::new()?;
        let policies = policies(&sandbox)?;
        let mut longest = Duration::ZERO;
        let mut rulesets = Vec::new();
        for policy in policies.iter().rev() {
            let start = Instant::now();
            sandbox.dfw_ok(&["apply", policy])?;
            longest = longest.max(start.elapsed());
            rulesets.push(sandbox.installed()?);
        }
        let (Some(first), Some(second)) = (rulesets.pop(), rulesets.pop()) else {
            bail!("not two");
        };
        sandbox.kernel(|kernel| {
            kernel.remove(None)?;
            install_counting(kernel, &first)
        })?;
        let desired = [in_force(&first), in_force(&second)];
        ensure!(desired[0] != desired[1], "the same");
        Ok(Self {
            sandbox,
            policies,
            desired,
            longest,
        })
    }

    /// Starts an apply and kills it at once or later, perhaps when it has ended.
    fn kill(&self, target: usize, after: Duration) -> Result<()> {
        let mut apply = self.sandbox.program(&["apply", &self.policies[target]]);
        let mut child = apply.stdout(Stdio::null()).spawn()?;
        // Not a wait for anything: the point at which it is killed.
        std::thread::sleep(after);
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Which of the two is in force, all of it: this one, or else that which was.
    fn is_there(&self, target: usize) -> Result<bool> {
        let found = in_force(&self.sandbox.installed()?);
        let new = found == self.desired[target];
        if !new {
            same(&found, &self.desired[1 - target])?;
        }
        Ok(new)
    }

    /// The next apply leaves nothing but what it should.
    fn mends(&self, target: usize) -> Result<()> {
        self.sandbox.dfw_ok(&["apply", &self.policies[target]])?;
        same(&self.sandbox.installed()?, &self.desired[target])?;
        let again = self.sandbox.dfw_ok(&["apply", &self.policies[target]])?;
        ensure!(again.starts_with("no changes"), "{again}");
        Ok(())
    }
}

/// A point in time by chance, up to a longest.
fn point(random: &mut u64, longest: Duration) -> Duration {
    // The generator of Knuth's MMIX.
    *random = random
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    longest * u32::try_from(*random >> 54).unwrap_or_default() / 1024
}

fn killed_at_any_point() -> Result<()> {
    let seed = seed()?;
    killed(seed).with_context(|| format!("DFW_SEED={seed}"))
}

fn killed(mut random: u64) -> Result<()> {
    let scene = Scene::new()?;
    let counters = || -> Result<Counters> {
        let installed = scene.sandbox.snapshot()?.installed;
        Ok(installed.context("nothing is installed")?.counters)
    };
    let mut changed = [0; 2];
    let mut now = 0;
    for number in 0..times(40, 14) {
        let target = 1 - now;
        let before = counters()?;
        scene.kill(target, point(&mut random, scene.longest))?;
        let new = scene
            .is_there(target)
            .with_context(|| format!("kill {number}"))?;
        let is = if new { target } else { now };
        // What is in both goes on counting.
        same_counters(
            &before,
            &counters()?,
            &scene.desired[now],
            &scene.desired[is],
        )
        .with_context(|| format!("kill {number}"))?;
        changed[usize::from(new)] += 1;
        now = is;
    }
    ensure!(changed[0] > 0, "never killed in time");
    let before = counters()?;
    scene.mends(1 - now)?;
    let [from, to] = [&scene.desired[now], &scene.desired[1 - now]];
    same_counters(&before, &counters()?, from, to)
}

/// The same while another program commits all the time, without a pause.
fn killed_in_a_crowd() -> Result<()> {
    let seed = seed()?;
    crowded(seed).with_context(|| format!("DFW_SEED={seed}"))
}

fn crowded(mut random: u64) -> Result<()> {
    let scene = Scene::new()?;
    scene.sandbox.nft("add table ip foreign")?;
    let mut now = 0;
    let mut written = 0;
    // dfw has to begin again some times, and takes longer.
    let longest = scene.longest * 4;
    let kills = times(12, 4);
    for number in 0..kills {
        let target = 1 - now;
        // The last is left alone, and comes to its end.
        let killed = number + 1 < kills;
        let after = point(&mut random, longest);
        let (done, writes) = scene.sandbox.namespace().run(|| {
            let socket = mnl::Socket::new(mnl::Bus::Netfilter)?;
            let mut chain = written;
            let write = || {
                chain += 1;
                add_chain(&socket, chain)
            };
            beside(write, || {
                if killed {
                    scene.kill(target, after)
                } else {
                    let report = scene.sandbox.dfw_ok(&["apply", &scene.policies[target]])?;
                    ensure!(report.contains("applied:"), "{report}");
                    Ok(())
                }
            })
        })?;
        done.with_context(|| format!("kill {number}"))?;
        written += writes;
        let new = scene
            .is_there(target)
            .with_context(|| format!("kill {number}"))?;
        ensure!(killed || new, "applied, and not in force");
        now = if new { target } else { now };
    }
    scene.mends(1 - now)?;
    let listing = scene.sandbox.nft("list table ip foreign")?;
    same(&listing.matches("chain c").count(), &written)
}
