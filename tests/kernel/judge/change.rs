//! What a comparison of two policies says of a packet is what the kernel does to it, before and afterwards.

use std::cell::RefCell;
use std::collections::BTreeMap;

use anyhow::{Result, bail};
use dfw::analysis::access::{Judge, Slot, destinations, ordinary};
use dfw::analysis::difference::{Difference, Effect, Route, Row};
use dfw::analysis::eval::{Packet, Pool, evaluate};
use dfw::analysis::interfaces::{Class, has_reverse_path_filter};
use dfw::analysis::path::Kind;
use dfw::host::HostView;
use dfw::net::{Family, Protocol};
use dfw::ruleset::{Direction, Hook, L4Protocol, Ruleset};

use super::sent::Sent;
use super::world::World;
use super::{is_early, opened, sendable};
use crate::namespace::install;
use crate::property::property;
use crate::reference::Meant;
use crate::reference::random::{Edges, Seed, host, packets, pair};
use crate::support::size::is_long;

/// How many pairs of policies are tried, each with a hundred packets.
fn pairs() -> u32 {
    if is_long() { 1000 } else { 30 }
}

/// How often pairs are tried until there are enough changes of each kind, each time more of them.
const ROUNDS: u32 = 4;

type Tally = RefCell<BTreeMap<&'static str, u32>>;

pub(super) fn the_kernel_agrees_with_comparisons() -> Result<()> {
    let world = World::new()?;
    let tally = Tally::default();
    // Most of what a pair changes is the same kind of change, and few pairs may have none of one kind.
    for round in 1..=ROUNDS {
        property(
            pairs() * round,
            &(pair(), host(), packets()),
            |((old, new), host, seeds)| judge(&world, [&old, &new], &host, &seeds, &tally),
        )?;
        match too_few(&tally.borrow()) {
            None => break,
            Some(what) if round == ROUNDS => bail!("too few of {what}: {tally:?}"),
            Some(_) => {}
        }
    }
    eprintln!("changes judged by the kernel: {:?}", tally.borrow());
    Ok(())
}

/// Returns a kind of changes that too few were of.
fn too_few(tally: &BTreeMap<&'static str, u32>) -> Option<&'static str> {
    let kinds = [("same", 1), ("gains", 30), ("loses", 30)];
    let few = |(what, share): &(&str, u32)| {
        tally.get(what).copied().unwrap_or_default() < pairs() / share
    };
    kinds.into_iter().find(few).map(|(what, _)| what)
}

fn judge(
    world: &World,
    policies: [&Meant; 2],
    host: &HostView,
    seeds: &[Seed],
    tally: &Tally,
) -> Result<()> {
    let rulesets = policies.map(|policy| policy.compile(host, false));
    let [old, new] = &rulesets;
    let edges = policies.map(|policy| Edges::of(policy, host));
    let drawn = seeds.iter().zip(edges.iter().cycle());
    let sent = sendable(host, drawn.map(|(seed, edges)| edges.packet(seed)));
    let mut pool = Pool::default();
    let difference = Difference::of(&mut pool, old, new);
    let mut kernel = Vec::new();
    for ruleset in &rulesets {
        let frames = opened(world, &sent)?;
        world.host.kernel(|kernel| {
            install(kernel, ruleset)?;
            world.send(frames)
        })?;
        let seen = world.seen()?;
        let passes = |sent: &Sent| {
            let (hook, id) = (sent.packet.hook, sent.frame.0.id);
            let is_early = is_early(&evaluate(ruleset, &sent.packet));
            (seen.came(hook, id) != is_early).then(|| seen.passed(hook, id))
        };
        kernel.push(sent.iter().map(passes).collect::<Vec<_>>());
    }
    for (index, sent) in sent.iter().enumerate() {
        let Some(row) = row(&difference, &rulesets, &sent.packet) else {
            continue;
        };
        let effect = row.map(|row| row.effect);
        let did = [kernel[0][index], kernel[1][index]];
        let context = || format!("{effect:?}, the kernel {did:?}: {sent:#?}\n{old}\n{new}");
        let [Some(before), Some(after)] = did else {
            bail!("it never came: {}", context());
        };
        let what = match effect {
            Some(Effect::Gains | Effect::MayGain) if !before && after => "gains",
            Some(Effect::MayGain | Effect::Judged) if before && after => "same",
            Some(Effect::Loses) if before && !after => "loses",
            None if before == after => "same",
            _ => bail!("{}", context()),
        };
        let mut tally = tally.borrow_mut();
        *tally.entry(what).or_default() += 1;
    }
    Ok(())
}

/// The row that a packet is in, if any; `None` for a packet of which a comparison says nothing.
#[expect(
    clippy::option_option,
    reason = "a packet without a row is the same as before"
)]
fn row<'a>(
    difference: &'a Difference,
    rulesets: &[Ruleset; 2],
    packet: &Packet,
) -> Option<Option<&'a Row>> {
    let kind =
        match (packet.hook, packet.connection) {
            (Hook::Input, None) => Kind::Service,
            (Hook::Forward, Some(c)) if c.direction == Direction::Original && !c.related => {
                if c.dnat { Kind::Dnat } else { Kind::Container }
            }
            _ => return None,
        };
    let protocol = match packet.protocol {
        L4Protocol::Tcp => Protocol::Tcp,
        L4Protocol::Udp => Protocol::Udp,
        _ => return None,
    };
    let original = packet.connection.map_or(packet.flow, |c| c.original);
    // From the network nothing gets to a loopback address, and comparisons do not speak of it.
    if original.destination.is_loopback() {
        return None;
    }
    let incoming = class(&difference.incoming, &packet.incoming)?;
    let outgoing = packet.outgoing.as_ref().map(|out| out.name.as_str());
    let outgoing = match (kind, outgoing) {
        (Kind::Service, _) => None,
        (_, name) => Some(class(&difference.outgoing, name?)?),
    };
    let [old, new] = rulesets;
    let route = Route {
        kind,
        incoming,
        outgoing,
        strays: packet.strays && rulesets.iter().any(has_reverse_path_filter),
    };
    let named = destinations(&[old, new]);
    // An address that no rule of first packets tells apart is like any other one to a comparison.
    let family = Family::of(original.source);
    let is_known = named.contains(&original.destination);
    let asked = if is_known {
        original.destination
    } else {
        ordinary(family, &named)
    };
    let slot = Slot {
        kind,
        family,
        protocol,
        port: original.port.filter(|port| *port > 0)?,
        address: asked,
        incoming: &packet.incoming,
        outgoing: packet.outgoing.as_ref().map_or("", |out| &out.name),
        strays: packet.strays,
    };
    // A comparison speaks of the first packet of a client, to a port that is the container's own.
    let asked = slot.packet(&slot.path()).from_source(original.source);
    let is_asked = |ruleset: &Ruleset| {
        let [one, other] = [packet, &asked].map(|packet| evaluate(ruleset, packet).decision);
        one == other
    };
    if !rulesets.iter().all(is_asked) {
        return None;
    }
    let mut pool = Pool::default();
    let mut is_as_elsewhere = rulesets.iter().map(|ruleset| {
        let judged = Judge::new(ruleset).in_general(&mut pool, &slot);
        judged.any_destination.is_some()
    });
    let is_named = is_known && !is_as_elsewhere.all(|is| is);
    let address = is_named.then_some(original.destination);
    Some(difference.rows.iter().find(|row| {
        let mut ports = row.ports.iter();
        row.routes.contains(&route)
            && row.sources.contains(original.source)
            && ports.any(|ports| {
                (ports.address, ports.protocol) == (address, protocol) && ports.has(slot.port)
            })
    }))
}

/// The class of an interface: that of its name, or of the longest beginning of it.
fn class(classes: &[Class], name: &str) -> Option<usize> {
    let length = |class: &Class| {
        let lengths = class
            .named
            .iter()
            .filter_map(|named| match named.strip_suffix('*') {
                Some(prefix) => name.starts_with(prefix).then_some(prefix.len()),
                None => (named == name).then_some(usize::MAX),
            });
        lengths.max().or(class.others.then_some(0))
    };
    let classes = classes.iter().enumerate();
    let known = classes.filter_map(|(index, class)| Some((length(class)?, index)));
    known.max().map(|(_, index)| index)
}
