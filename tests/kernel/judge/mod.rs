//! The kernel as the judge: what a policy means, what the evaluator says of the compiled rules, and
//! what the kernel does to a real packet are the same, and so is the way there.
//!
//! `DFW_SEED` repeats a run; what has failed once is tried first in each.

mod change;
mod frame;
mod iptables;
mod sent;
mod world;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::{Context, Result, bail, ensure};
use dfw::analysis::eval::{Decision, Packet, Trace, evaluate};
use dfw::host::HostView;
use dfw::kernel::{Heard, Tracer};
use dfw::netlink::trace::{Event, Outcome, Traced};
use dfw::nftables::tracer::Filter;
use dfw::ruleset::{Direction, Hook, Ruleset, TABLE};

use crate::Named;
use crate::namespace::install;
use crate::property::property_kept;
use crate::reference::random::{Edges, Seed, host, meant, packets};
use crate::reference::{Meant, meaning};
use crate::support::size::times;
use sent::Sent;
use world::{Fate, World};

pub(crate) const TRIALS: &[Named] = &[
    (
        "the_kernel_does_what_the_policy_means",
        the_kernel_does_what_the_policy_means,
    ),
    (
        "the_kernel_agrees_with_comparisons",
        change::the_kernel_agrees_with_comparisons,
    ),
    (
        "iptables_agrees_with_the_model",
        iptables::iptables_agrees_with_the_model,
    ),
];

/// How many policies are tried, each with a hundred packets.
fn policies() -> u32 {
    times(130, 45)
}

/// How many times as many are tried until there are enough packets of each kind.
const ROUNDS: u32 = 8;
/// How many decisions are made at least.
fn decisions() -> u32 {
    policies() * 75
}

/// What has failed once.
const FAILURES: &str = "tests/kernel/judge/failures.txt";

fn the_kernel_does_what_the_policy_means() -> Result<()> {
    let world = World::new()?;
    let tally = RefCell::new(BTreeMap::new());
    // A kind of packets that is rare may need more policies than most runs.
    for round in 1..=ROUNDS {
        property_kept(
            Some(FAILURES),
            policies(),
            &(meant(), host(), packets()),
            |(policy, host, seeds)| judge(&world, &policy, &host, &seeds, &tally),
        )?;
        match too_few(&tally.borrow()) {
            None => break,
            Some(what) if round == ROUNDS => bail!("too few of {what}: {tally:?}"),
            Some(_) => {}
        }
    }
    eprintln!("packets judged by the kernel: {:?}", tally.borrow());
    Ok(())
}

/// Returns a kind of packets that too few were of.
fn too_few(tally: &BTreeMap<String, u32>) -> Option<&'static str> {
    let kinds = [
        ("all", 1),
        ("input", 10),
        ("forward", 3),
        ("Accept", 10),
        ("Drop", 20),
        ("Reject", 80),
        ("translated", 5),
        ("answer", 10),
        ("about", 100),
        ("untracked", 100),
        ("spoken", 300),
        ("loopback", 300),
        ("v6", 5),
        ("traced", 20),
        ("early", 250),
    ];
    let few = |(what, least): &(&str, u32)| {
        let count = tally.get(*what).copied().unwrap_or_default();
        count < decisions() / least
    };
    kinds.into_iter().find(few).map(|(what, _)| what)
}

type Tally = RefCell<BTreeMap<String, u32>>;

/// Sends packets through the rules of a policy.
fn judge(
    world: &World,
    policy: &Meant,
    host: &HostView,
    seeds: &[Seed],
    tally: &Tally,
) -> Result<()> {
    let ruleset = policy.compile(host, false);
    let edges = Edges::of(policy, host);
    let sent = sendable(host, seeds.iter().map(|seed| edges.packet(seed)));
    let frames = opened(world, &sent)?;
    let paths = world.host.kernel(|kernel| {
        install(kernel, &ruleset)?;
        let handles = kernel
            .snapshot()?
            .installed
            .context("nothing is installed")?
            .facts
            .handles;
        let tracer = Tracer::begin(&Filter::default())?;
        world.send(frames.clone())?;
        paths(&tracer, &handles)
    })?;
    let seen = world.seen()?;
    // Errors about different connections look the same.
    let sent_alike = |one: &Sent| sent.iter().filter(|other| key(other) == key(one)).count();
    for sent in &sent {
        let (packet, id) = (&sent.packet, sent.frame.0.id);
        let trace = evaluate(&ruleset, packet);
        let meant = meaning(policy, host, packet);
        let context = || format!("{sent:#?}\n{trace:#?}\n{ruleset}");
        ensure!(!trace.unknown, "{}", context());
        let is_early = is_early(&trace);
        let came = seen.came(packet.hook, id);
        ensure!(came != is_early, "it came ({came}): {}", context());
        ensure!(trace.decision == meant, "meant {meant:?}: {}", context());
        let passed = seen.passed(packet.hook, id);
        ensure!(
            passed == (meant == Decision::Accept),
            "meant {meant:?}, and the kernel {}: {}",
            if passed {
                "lets it through"
            } else {
                "does not let it through"
            },
            context()
        );
        let alike = sent_alike(sent);
        let key = if is_early { early_key(sent) } else { key(sent) };
        let path = paths
            .get(&key)
            .filter(|paths| paths.len() == 1 && alike == 1);
        if let Some(path) = path {
            same_way(&ruleset, &trace, &path[0]).with_context(context)?;
        }
        count(tally, sent, &trace, path.is_some());
    }
    Ok(())
}

/// As many packets as can be sent side by side.
fn sendable(host: &HostView, drawn: impl Iterator<Item = Packet>) -> Vec<Sent> {
    // Two that belong to one connection would change what is true of the other.
    let mut connections = BTreeSet::new();
    drawn
        .zip(1..)
        .filter_map(|(packet, id)| Sent::of(&packet, id, server_port(host, &packet)))
        .filter(|sent| sent.connection.is_none_or(|ends| connections.insert(ends)))
        .collect()
}

/// Opens the connections of packets, without any rules. Returns the packets' frames.
fn opened(world: &World, sent: &[Sent]) -> Result<Vec<(Fate, Vec<u8>)>> {
    world.reset()?;
    let openers: Vec<_> = sent.iter().flat_map(|sent| sent.openers.clone()).collect();
    world.send(openers)?;
    Ok(sent.iter().map(|sent| sent.frame.clone()).collect())
}

/// The port that a container opened the connection of a packet from, if it publishes that port.
fn server_port(host: &HostView, packet: &Packet) -> Option<u16> {
    let connection = packet.connection.filter(|c| !c.dnat && !c.related)?;
    let port = match connection.direction {
        Direction::Original => packet.source_port,
        Direction::Reply => packet.flow.port,
    }?;
    let server = connection.original.source;
    let mut containers = host.engines.iter().flat_map(|engine| &engine.containers);
    let is_published = containers.any(|container| {
        let mut addresses = container.endpoints.iter().flat_map(|e| &e.addresses);
        let mut published = container.published.iter();
        addresses.any(|address| *address == server)
            && published.any(|published| published.container_port == port)
    });
    is_published.then_some(port)
}

fn count(tally: &Tally, sent: &Sent, trace: &Trace, traced: bool) {
    let packet = &sent.packet;
    let connection = packet.connection;
    let met = |chain: &str| trace.steps.iter().any(|step| step.chain == chain);
    let what = [
        ("all".to_owned(), true),
        (packet.hook.name().to_owned(), true),
        (format!("{:?}", trace.decision), true),
        ("translated".to_owned(), connection.is_some_and(|c| c.dnat)),
        (
            "answer".to_owned(),
            connection.is_some_and(|c| c.direction == Direction::Reply),
        ),
        ("about".to_owned(), connection.is_some_and(|c| c.related)),
        ("untracked".to_owned(), connection.is_none()),
        (
            "spoken".to_owned(),
            met("from-udp-servers") || met("to-udp-servers"),
        ),
        ("loopback".to_owned(), met("to-loopback")),
        ("v6".to_owned(), packet.flow.source.is_ipv6()),
        ("traced".to_owned(), traced),
        ("early".to_owned(), is_early(trace)),
    ];
    let mut tally = tally.borrow_mut();
    for (what, _) in what.into_iter().filter(|(_, is)| *is) {
        *tally.entry(what).or_default() += 1;
    }
}

/// By what a packet is known again.
type Key = (Hook, IpAddr, IpAddr, u8, Option<(u16, u16)>);
/// The rules that matched, by chain and place, and what each decided.
type Path = Vec<(String, usize, Outcome)>;

fn key(sent: &Sent) -> Key {
    let packet = &sent.packet;
    let (source, destination) = (packet.flow.source, packet.flow.destination);
    (
        packet.hook,
        source,
        destination,
        packet.protocol.number(),
        sent.ports,
    )
}

/// Whether a packet is denied as it arrives.
fn is_early(trace: &Trace) -> bool {
    let first = trace.steps.first();
    first.is_some_and(|step| step.chain == Hook::Prerouting.name())
}

/// The key of a packet as it arrives.
fn early_key(sent: &Sent) -> Key {
    let (_, source, destination, protocol, ports) = key(sent);
    let arrival = sent.packet.arrival;
    (
        Hook::Prerouting,
        source,
        arrival.map_or(destination, |arrival| arrival.destination),
        protocol,
        ports.map(|(from, to)| (from, arrival.and_then(|a| a.port).unwrap_or(to))),
    )
}

/// The ways of the packets that were traced through dfw's table.
fn paths(
    tracer: &Tracer,
    handles: &BTreeMap<String, Vec<u64>>,
) -> Result<BTreeMap<Key, Vec<Path>>> {
    let mut paths: BTreeMap<Key, Vec<Path>> = BTreeMap::new();
    let mut current: BTreeMap<u32, Key> = BTreeMap::new();
    loop {
        let messages = match tracer.hear()? {
            Heard::Lost => bail!("traces were lost"),
            Heard::Messages(messages) if messages.is_empty() => return Ok(paths),
            Heard::Messages(messages) => messages,
        };
        for message in messages
            .into_iter()
            .filter(|message| message.table == TABLE)
        {
            let Traced {
                id,
                chain,
                event,
                verdict,
                headers,
                ..
            } = message;
            if let Some(headers) = headers {
                let mut hooks = [Hook::Prerouting, Hook::Input].into_iter();
                let hook = hooks.find(|hook| hook.name() == chain);
                let hook = hook.unwrap_or(Hook::Forward);
                let key = (
                    hook,
                    headers.source,
                    headers.destination,
                    headers.protocol,
                    headers.ports,
                );
                current.insert(id, key);
                paths.entry(key).or_default().push(Vec::new());
            }
            if let Event::Rule(handle) = event {
                let sandbox = handles
                    .get(&chain)
                    .and_then(|all| all.iter().position(|known| *known == handle))
                    .with_context(|| format!("no rule {handle} in {chain}"))?;
                let path = current
                    .get(&id)
                    .and_then(|key| paths.get_mut(key)?.last_mut());
                path.context("a way without a beginning")?
                    .push((chain, sandbox, verdict));
            }
        }
    }
}

/// The evaluator's steps are among those of the kernel, and both end at the same rule, but for what comes
/// behind it where a connection is marked.
fn same_way(ruleset: &Ruleset, trace: &Trace, path: &Path) -> Result<()> {
    let mut path = path.clone();
    path.retain(|(chain, sandbox, _)| {
        let rule = &ruleset.chains[chain].rules[*sandbox];
        let marks = rule.is_about_marks() && chain == "remember";
        !marks && !rule.is_mute()
    });
    let mut rest = path.iter();
    for step in &trace.steps {
        let met = rest.any(|(chain, sandbox, _)| *chain == step.chain && *sandbox == step.rule);
        ensure!(
            met,
            "the kernel went another way, not by {step:?}: {path:#?}"
        );
    }
    match (trace.steps.last(), path.last()) {
        (Some(last), Some((chain, sandbox, _))) => {
            ensure!(
                *chain == last.chain && *sandbox == last.rule,
                "the kernel went on: {path:#?}"
            );
            let rule = &ruleset.chains[chain].rules[*sandbox];
            let dropped = matches!(path.last(), Some((_, _, Outcome::Drop)));
            let refused = trace.decision != Decision::Accept;
            ensure!(dropped == refused, "{rule}: {path:#?}");
        }
        (None, _) => {
            let decided = path
                .iter()
                .find(|(_, _, verdict)| matches!(verdict, Outcome::Accept | Outcome::Drop));
            ensure!(decided.is_none(), "the kernel has decided: {path:#?}");
        }
        (Some(_), None) => bail!("the kernel met no rule"),
    }
    Ok(())
}
