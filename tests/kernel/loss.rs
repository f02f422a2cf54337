//! No packet of an allowed source is lost while rules change.
//!
//! Two streams of new connections, one flow behind the other, each of which must be answered: one
//! from addresses that only a set of ranges allows, one from addresses that only a hash allows.
//! Beside them the rules change a hundred times, in all the ways in which they can.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use dfw::kernel::{Kernel, Outcome};
use dfw::plan;
use dfw::ruleset::{Elements, Expression, Interval, MapTo, Rule, Ruleset, Statement, Verdict};

use crate::Named;
use crate::namespace::compiled_text;
use crate::support::probe::PATIENCE;
use crate::support::size::times;
use crate::traffic::World;

pub(crate) const TRIALS: &[Named] = &[
    (
        "nothing_is_lost_at_1k_sources",
        nothing_is_lost_at_1k_sources,
    ),
    (
        "nothing_is_lost_at_100k_sources",
        nothing_is_lost_at_100k_sources,
    ),
    (
        "nothing_is_lost_between_shared_and_own_sets",
        nothing_is_lost_between_shared_and_own_sets,
    ),
];

fn nothing_is_lost_between_shared_and_own_sets() -> Result<()> {
    let world = steady_world()?;
    let policies = [50, 70, 71, 64, 90].map(|more| {
        let ports = (8000..8000 + more).map(|port| format!("  {port}: [10.0.0.{}]\n", port % 7));
        compiled_text(
            &format!(
                "default: deny\nports:\n  53/udp: [CLIENTS]\n{}",
                ports.collect::<String>()
            )
            .replace("CLIENTS", CLIENTS),
        )
    });
    let policies: Vec<Ruleset> = policies.into_iter().collect::<Result<_>>()?;
    let at = |step: u32| policies[step as usize % policies.len()].clone();
    nothing_is_lost_by(&world, times(CHANGES, CHANGES / 3), &at)
}

/// How often the long version changes the rules.
const CHANGES: u32 = 100;
const TO: &str = "203.0.113.1:53";
/// Allowed by a range, and by a hash: the last parts of addresses in 203.0.113.0/24.
const FROM: [[u8; 4]; 2] = [[32, 33, 34, 35], [11, 13, 15, 17]];
const CLIENTS: &str = "203.0.113.32/30, 203.0.113.11, 203.0.113.13, 203.0.113.15, 203.0.113.17";
/// Each port of a client's address has one flow before the first has another.
const PORTS: std::ops::RangeInclusive<u16> = 1024..=u16::MAX;
const POLICY: &str = "
default: deny
sources: {many: [CLIENTS, FILLER]}
ports: {53/udp: [many]}
";

fn nothing_is_lost_at_1k_sources() -> Result<()> {
    nothing_is_lost(1_000, times(CHANGES, CHANGES / 3))
}

fn nothing_is_lost_at_100k_sources() -> Result<()> {
    // Whole, it takes more than a minute of a busy machine.
    let changes = times(CHANGES, CHANGES / 10);
    nothing_is_lost(100_000, changes)
}

fn steady_world() -> Result<World> {
    let world = World::new()?;
    let host = world.host.namespace();
    // As long as an answer may take: that of a connection which is forgotten is lost.
    let timeout = PATIENCE.as_secs().to_string();
    host.sysctl("net/netfilter/nf_conntrack_udp_timeout", &timeout)?;
    let client = world.client.namespace();
    for last in FROM.as_flattened() {
        client.ip(&format!("addr add 203.0.113.{last}/24 dev eth0"))?;
    }
    Ok(world)
}

fn nothing_is_lost(sources: u32, changes: u32) -> Result<()> {
    let world = steady_world()?;
    // A list that is long from the beginning.
    let filler: Vec<String> = (0..100).map(|n| format!("192.168.{n}.1")).collect();
    let policy = POLICY.replace("CLIENTS", CLIENTS);
    let base = compiled_text(&policy.replace("FILLER", &filler.join(", ")))?;
    nothing_is_lost_by(&world, changes, &|step| at_step(&base, sources, step))
}

/// Changes the rules to those of each step, one after the other.
fn nothing_is_lost_by(
    world: &World,
    changes: u32,
    at: &(dyn Fn(u32) -> Ruleset + Sync),
) -> Result<()> {
    let client = world.client.namespace();
    let ended = AtomicBool::new(false);
    let flows = std::thread::scope(|scope| {
        let ended = &ended;
        let streams = FROM.map(|from| scope.spawn(move || client.run(|| stream(from, ended))));
        let done = world
            .host
            .kernel(|kernel| change_often(kernel, changes, at));
        ended.store(true, Ordering::Release);
        let mut flows = Vec::new();
        for (from, stream) in FROM.into_iter().zip(streams) {
            let stream = stream.join().map_err(|_| anyhow!("a stream panicked"))?;
            // Whether the rules dropped it, or connection tracking forgot it.
            let facts = || -> Result<String> {
                let tracked = world
                    .host
                    .namespace()
                    .run(|| Ok(std::fs::read_to_string("/proc/net/stat/nf_conntrack")?))?;
                Ok(format!("{}\n{tracked}", world.host.dfw_ok(&["status"])?))
            };
            flows.push(stream.with_context(|| format!("from {from:?}: {:?}", facts()))?);
        }
        done?;
        anyhow::Ok(flows)
    })?;
    let steady = flows.iter().all(|flows| *flows > 10 * u64::from(changes));
    ensure!(steady, "only {flows:?} flows");
    // Nothing was refused, and had it been sent again.
    let refused = world.host.dfw_ok(&["status"])?;
    let line = refused.lines().find(|line| line.contains("53/udp"));
    let refused = line.and_then(|line| line.split_whitespace().last());
    ensure!(refused == Some("0"), "{line:?}");
    Ok(())
}

/// One new flow behind the other until the end; says how many.
fn stream(from: [u8; 4], ended: &AtomicBool) -> Result<u64> {
    let mut flows = 0_u32;
    // Each flow is a connection of its own, which the kernel remembers as long as an answer may take. So long, a
    // stream makes a third of those that it has room for: half of them at once, and then in turn.
    let room: u32 = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_max")?
        .trim()
        .parse()?;
    let (at_once, mut due) = (room / 6, Instant::now());
    let mut ends = from
        .into_iter()
        .flat_map(|last| PORTS.map(move |port| (Ipv4Addr::new(203, 0, 113, last), port)))
        .cycle();
    while !ended.load(Ordering::Acquire) {
        let socket = UdpSocket::bind(ends.next().context("no ports")?)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.connect(TO)?;
        socket.send(b"?")?;
        socket
            .recv(&mut [0; 64])
            .with_context(|| format!("flow {flows} was not answered"))?;
        flows += 1;
        let now = Instant::now();
        if flows > at_once {
            std::thread::sleep(due.saturating_duration_since(now));
            due = due.max(now) + PATIENCE / at_once.max(1);
        }
    }
    Ok(flows.into())
}

fn change_often(kernel: &Kernel, changes: u32, at: &dyn Fn(u32) -> Ruleset) -> Result<()> {
    for step in 0..=changes {
        let desired = at(step);
        let snapshot = kernel.survey()?;
        let plan = plan::diff(snapshot.installed.as_ref(), &desired, 7);
        ensure!(!plan.is_empty(), "nothing changes at step {step}");
        let done = kernel.carry_out(&plan, "a test", snapshot.generation);
        ensure!(done? == Outcome::Done, "overtaken at step {step}");
    }
    Ok(())
}

/// The rules after some changes: a few addresses always, and now and then something else.
fn at_step(base: &Ruleset, sources: u32, step: u32) -> Ruleset {
    const NET: u32 = 0x0a00_0000;
    let mut ruleset = base.clone();
    // Sometimes the whole list changes, which is too much to be listed entry by entry.
    let start = NET + step * 5 + if step % 25 >= 20 { sources } else { 0 };
    for (name, set) in &mut ruleset.sets {
        match &mut set.elements {
            Elements::Ipv4(all) if name == "many.addr4" => {
                all.splice(
                    0..0,
                    (0..sources * 6 / 10).map(|n| (start + n) * 2 % (1 << 31) + NET),
                );
                all.sort_unstable();
                all.dedup();
            }
            Elements::Ipv4Ranges(all) if name == "many.net4" => {
                // At every fourth step some of the ranges grow, and so overlap their former selves.
                let wide = |n: u32| u32::from(step % 4 == 3 && n.is_multiple_of(97));
                let ranges = (0..sources * 4 / 10).map(|n| {
                    let first = NET + (start - NET + n) * 8;
                    Interval::new(first, first + 3 + wide(n))
                });
                all.splice(0..0, ranges);
            }
            _ => {}
        }
    }
    for chain in ruleset.chains.values_mut() {
        if let Some(base) = &mut chain.base
            && step % 10 >= 5
        {
            base.priority -= 1;
        }
        for rule in &mut chain.rules {
            // The line of the policy moves.
            if step % 7 == 3 && rule.comment.is_some() {
                rule.comment = Some("moved.yaml:1".to_owned());
            }
        }
    }
    if step % 3 == 1 {
        for set in ruleset.sets.values_mut() {
            set.comment = Some(format!("moved.yaml:{step}"));
        }
        let rules = vec![Rule::new(
            vec![Expression::Statement(Statement::Verdict(Verdict::Accept))],
            None,
        )];
        let chain = dfw::ruleset::Chain { base: None, rules };
        ruleset.chains.insert("port-99-udp".to_owned(), chain);
        for set in ruleset.sets.values_mut() {
            if let Elements::PortVerdicts(all) = &mut set.elements {
                let verdict = Verdict::Goto("port-99-udp".to_owned());
                all.push(MapTo::new(Interval::new(99, 99), verdict));
            }
        }
    }
    ruleset
}
