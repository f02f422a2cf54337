//! What a change opens and closes, for people and programs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use indexmap::{IndexMap, IndexSet};
use serde_json::{Value, json};

use crate::analysis::difference::{Decider, Difference, Effect, LimitChange, MANY, Route, Row};
use crate::analysis::interfaces::{Class, Containers};
use crate::analysis::judgement::{Judgement, Reason};
use crate::analysis::path::Kind;
use crate::net::{AddressSet, Counts, Entry, Family, HostPorts, Limits};
use crate::output::json;
use crate::output::table::{count, grouped};
use crate::output::terminal::{Terminal, Tone};
use crate::page;
use crate::page::audit::{Conclusion, shown};
use crate::page::change::{Change, State};
use crate::page::count::Count;

use super::addresses::{addresses_json, counts_json};

/// How many addresses and ports are listed before only their number is shown.
const LISTED: usize = 4;
/// How many rows are shown before only their number is.
const ROWS: usize = 100;
/// How many of them a page shows, and how many ranges of ports of each.
const PAGE: usize = 1000;
const RANGES: usize = 64;

/// Returns a line for each row: the ports, who gains or loses access, and what decides.
pub(in crate::cli) fn text(difference: &Difference, terminal: Terminal) -> String {
    let first = |effect: Effect, what: &str| {
        let (sign, tone) = match effect {
            Effect::Gains => ("+", Tone::Bad),
            Effect::MayGain => ("?", Tone::Bad),
            Effect::Loses => ("-", Tone::Warning),
            Effect::Judged => ("~", Tone::Good),
        };
        format!("{} {what}", terminal.paint(tone, sign))
    };
    let (of_bridges, others): (Vec<&Row>, Vec<&Row>) = difference
        .rows
        .iter()
        .partition(|row| bridge(difference, row).is_some());
    // Everything of one bridge changes for the same reason.
    let bridges: BTreeSet<usize> = of_bridges
        .into_iter()
        .filter_map(|row| bridge(difference, row))
        .collect();
    let bridges = bridges.into_iter();
    let mut rows: Vec<[String; 3]> = bridges
        .filter_map(|index| {
            let class = difference.incoming.get(index)?;
            let (effect, sentence, by) = if class.containers == Containers::Since {
                (
                    Effect::Gains,
                    "its containers gain access to ports of containers and of this host",
                    "a bridge of containers from now on",
                )
            } else {
                (
                    Effect::Loses,
                    "what comes from there is judged like what comes from outside",
                    "no bridge of containers any more",
                )
            };
            let names = class.named.join(", ");
            Some([first(effect, &names), sentence.to_owned(), by.to_owned()])
        })
        .collect();
    rows.extend(others.iter().take(ROWS).map(|row| {
        let mut sentence = sentence(row);
        let paths = paths(difference, &row.routes).join("; ");
        if !paths.is_empty() {
            let _ = write!(sentence, ": {paths}");
        }
        [
            first(row.effect, &ports(&row.ports)),
            sentence,
            deciders(row),
        ]
    }));
    if let more @ 1.. = others.len().saturating_sub(ROWS) {
        let more = format!("and {}", count(more, "more row", "more rows"));
        rows.push(["  …".to_owned(), more, String::new()]);
    }
    terminal.table(&rows) + &limits_text(difference, terminal)
}

/// Returns a line for each changed limit.
pub(in crate::cli) fn limits_text(difference: &Difference, terminal: Terminal) -> String {
    let limits = difference.limits.iter().take(ROWS);
    let rows = limits.map(|change| {
        let sign = terminal.paint(Tone::Warning, "~");
        [format!("{sign} {}", change.key), limit_sentence(change)]
    });
    let mut rows: Vec<[String; 2]> = rows.collect();
    if let more @ 1.. = difference.limits.len().saturating_sub(ROWS) {
        let more = format!("and {}", count(more, "more limit", "more limits"));
        rows.push(["  …".to_owned(), more]);
    }
    terminal.table(&rows)
}

/// Returns what a changed limit is, and what it was: `up to 60/minute per source, was up to 30/minute per source`.
pub(in crate::cli) fn limit_sentence(change: &LimitChange) -> String {
    let text = |limits: Limits| {
        if limits.is_empty() {
            "not limited".to_owned()
        } else {
            limits.to_string()
        }
    };
    let before = change
        .before
        .map(|before| format!(", was {}", text(before)));
    text(change.after) + &before.unwrap_or_default()
}

/// Returns the changed limits for programs.
pub(in crate::cli) fn limits_json(difference: &Difference) -> Value {
    let changes = difference.limits.iter().map(|change| {
        json!({
            "port": change.key.to_string(),
            "before": json::limits(change.before.unwrap_or_default()),
            "after": json::limits(change.after),
        })
    });
    changes.collect()
}

/// Returns the class of interfaces that packets of a row come in through, if it is one of bridges that are taken
/// for those of containers in one of the rulesets only.
fn bridge(difference: &Difference, row: &Row) -> Option<usize> {
    let incoming = row.routes.first()?.incoming;
    let containers = difference.incoming.get(incoming)?.containers;
    let changes = matches!(containers, Containers::Since | Containers::Before);
    let is_alone = row.routes.iter().all(|route| route.incoming == incoming);
    (changes && is_alone).then_some(incoming)
}

/// Returns one sentence for a row: who gains or loses access where, and by which line.
pub(in crate::cli) fn message(difference: &Difference, row: &Row) -> String {
    let mut text = format!("{}: {}", ports(&row.ports), sentence(row));
    let paths = paths(difference, &row.routes).join("; ");
    if !paths.is_empty() {
        let _ = write!(text, " ({paths})");
    }
    text + "; " + &deciders(row)
}

/// Returns what a page shows.
pub(in crate::cli) fn page(
    difference: &Difference,
    (old, new): (String, String),
    conclusion: Conclusion,
    unknown: &[String],
) -> Change {
    let counts = |counts: Counts, families: &[Family]| {
        let families = families.iter();
        let each = families.map(|family| Count::new(counts, *family));
        each.collect()
    };
    let state = |of: &Decider, allowed: Counts, families: &[Family]| {
        let by = shown(&decider(of).replace('`', ""));
        State::new(of.judgement.verdict(), counts(allowed, families), by)
    };
    let row = |row: &Row| page::change::Row {
        effect: row.effect,
        ports: row.ports.iter().take(RANGES).map(one).collect(),
        more_ports: row.ports.len().saturating_sub(RANGES),
        sentence: shown(&sentence(row)),
        sources: counts(Counts::of(&row.sources), &row.families),
        before: state(&row.before, row.allowed_before, &row.families),
        after: state(&row.after, row.allowed_after, &row.families),
        paths: match &paths(difference, &row.routes)[..] {
            [] => vec!["every path of a published port".to_owned()],
            paths => paths.iter().map(|path| shown(path)).collect(),
        },
    };
    Change {
        old,
        new,
        conclusion,
        unseen: unknown.iter().map(|line| shown(line)).collect(),
        limits: difference
            .limits
            .iter()
            .take(PAGE)
            .map(|change| shown(&format!("{}: {}", change.key, limit_sentence(change))))
            .collect(),
        rows: difference.rows.iter().take(PAGE).map(row).collect(),
        more: difference.rows.len().saturating_sub(PAGE),
    }
}

/// Returns a count of the openings: `3 openings`.
pub(in crate::cli) fn openings(difference: &Difference) -> Option<String> {
    let openings = difference.openings().count();
    (openings > 0).then(|| count(openings, "opening", "openings"))
}

/// Returns the rows for programs.
pub(in crate::cli) fn json(difference: &Difference) -> Value {
    let row = |row: &Row| {
        json!({
            "effect": row.effect.name(),
            "opens": row.effect.opens(),
            "everybody": row.is_for_everybody(),
            "ports": row.ports.iter().map(port_json).collect::<Vec<_>>(),
            "families": row.families.iter().map(|family| json::family(*family)).collect::<Vec<_>>(),
            "paths": row
                .routes
                .iter()
                .map(|route| route_json(difference, route))
                .collect::<Vec<_>>(),
            "sources": addresses_json(&row.sources),
            "source": row.source,
            "allowed_before": counts_json(row.allowed_before),
            "allowed_after": counts_json(row.allowed_after),
            "before": decider_json(&row.before),
            "after": decider_json(&row.after),
        })
    };
    difference.rows.iter().map(row).collect()
}

fn port_json(ports: &HostPorts) -> Value {
    json!({
        "address": ports.address,
        "protocol": ports.protocol.name(),
        "port": ports.first,
        "last_port": ports.last,
    })
}

fn route_json(difference: &Difference, route: &Route) -> Value {
    let class = |class: &Class| {
        json!({
            "containers": class.containers == Containers::Always,
            "others": class.others,
            "named": class.named,
        })
    };
    let outgoing = route.outgoing.and_then(|n| difference.outgoing.get(n));
    json!({
        "path": route.kind.name(),
        "incoming": difference.incoming.get(route.incoming).map(class),
        "outgoing": outgoing.map(class),
        "reverse_path": !route.strays,
    })
}

fn decider_json(decider: &Decider) -> Value {
    json!({
        "verdict": decider.judgement.verdict().name(),
        "reason": decider.judgement.reason().map(|reason| reason.to_string()),
        "key": decider.key.map(|key| key.to_string()),
        "origin": decider.line.as_ref().map(ToString::to_string),
    })
}

/// Returns the ports, or the first of them and how many there are.
fn ports(ports: &[HostPorts]) -> String {
    let listed: Vec<String> = ports.iter().take(LISTED).map(one).collect();
    let more = ports.len().saturating_sub(LISTED);
    let mut text = listed.join(", ");
    if more > 0 {
        let _ = write!(text, " and {}", count(more, "more range", "more ranges"));
    }
    text
}

fn one(ports: &HostPorts) -> String {
    if (ports.first, ports.last) == (1, u16::MAX) {
        let at = ports
            .address
            .map_or_else(String::new, |at| format!(" at {at}"));
        return format!("every {} port{at}", ports.protocol.name().to_uppercase());
    }
    ports.to_string()
}

/// Who gains or loses access.
fn sentence(row: &Row) -> String {
    let who = who(row);
    let s = if who.is_many { "" } else { "s" };
    let is = if who.is_many { "are" } else { "is" };
    let who = who.text;
    match row.effect {
        Effect::Gains if row.is_for_everybody() => {
            let before = match number(row.allowed_before) {
                Some(number) => format!("were {number}"),
                None => "was nobody".to_owned(),
            };
            let families = families(&row.families);
            format!("everybody gains access{families}, {before}")
        }
        Effect::Gains => format!("{who} gain{s} access"),
        Effect::MayGain if row.source.is_some() || was_unknown(row) => {
            format!("{who} may gain access")
        }
        Effect::MayGain => format!("{who} {is} not judged from now on, and may have access"),
        Effect::Loses if row.source.is_some() || was_unknown(row) => {
            format!("{who} may lose access")
        }
        Effect::Loses => format!("{who} lose{s} access"),
        Effect::Judged => match row.after.judgement.reason() {
            Some(_) => format!("{who} {is} not judged from now on; had access before"),
            None => format!("{who} {is} allowed by a line; not judged before"),
        },
    }
}

/// Returns whether nobody knows what was decided before, so that it is not certain that anything changes.
fn was_unknown(row: &Row) -> bool {
    row.before.judgement == Judgement::NotJudged(Reason::Foreign)
}

struct Who {
    text: String,
    is_many: bool,
}

/// Returns the addresses of a row: a list where it is short, or all but a short list, or a number.
fn who(row: &Row) -> Who {
    if let Some(source) = &row.source {
        return Who {
            text: format!("what is in {source}"),
            is_many: false,
        };
    }
    let in_family = |entry: &Entry| {
        let family = match entry {
            Entry::V4(..) => Family::V4,
            Entry::V6(..) => Family::V6,
        };
        row.families.contains(&family)
    };
    let few = |set: &AddressSet| -> Option<Vec<String>> {
        let mut entries = set.iter().filter(in_family);
        let listed: Vec<String> = entries
            .by_ref()
            .take(LISTED)
            .map(|e| e.to_string())
            .collect();
        entries.next().is_none().then_some(listed)
    };
    let is_most = |family: &Family| match family {
        Family::V4 => row.sources.count_v4() > 1 << 31,
        Family::V6 => row.sources.count_v6() > 1 << 127,
    };
    // Where families are whole but for a few addresses, those are what matters.
    if row.families.iter().all(is_most)
        && let Some(but) = few(&row.sources.complement())
    {
        let families = families(&row.families);
        let but = if but.is_empty() {
            String::new()
        } else {
            format!(" but {}", but.join(", "))
        };
        return Who {
            text: format!("everybody{families}{but}"),
            is_many: false,
        };
    }
    if let Some(listed) = few(&row.sources) {
        let is_many = listed.len() > 1;
        let mut text = listed.join(", ");
        if let Some(many) = many(row.sources.count_v4()) {
            let _ = write!(text, " ({many})");
        }
        return Who { text, is_many };
    }
    let text = number(Counts::of(&row.sources)).unwrap_or_else(|| "nobody".to_owned());
    Who {
        text,
        is_many: true,
    }
}

/// Returns where only one family is meant.
fn families(families: &[Family]) -> String {
    match families {
        [family] => format!(" over {}", family.title()),
        _ => String::new(),
    }
}

/// Returns how many IPv4 addresses where they are a part of the world; `None` where they are a list.
fn many(number: u64) -> Option<String> {
    let number = (number > MANY).then(|| grouped(number.into()))?;
    Some(format!("{number} IPv4 addresses, more than 2^24"))
}

/// Returns how many addresses, in words; `None` for none.
fn number(counts: Counts) -> Option<String> {
    let mut parts = Vec::new();
    match counts.v4() {
        0 => {}
        number @ 4_294_967_296 => {
            parts.push(format!("all {} IPv4 addresses", grouped(number.into())));
        }
        1 => parts.push("1 address".to_owned()),
        number => {
            let few = || format!("{} addresses", grouped(number.into()));
            parts.push(many(number).unwrap_or_else(few));
        }
    }
    match counts.v6() {
        0 => {}
        1 => parts.push("1 IPv6 address".to_owned()),
        _ if counts.are_all(Family::V6) => parts.push("all IPv6 addresses".to_owned()),
        number if number < 1 << 32 => parts.push(format!("{} IPv6 addresses", grouped(number))),
        number => parts.push(format!("about 2^{} IPv6 addresses", number.ilog2())),
    }
    (!parts.is_empty()).then(|| parts.join(" and "))
}

/// Returns what decided and what decides.
fn deciders(row: &Row) -> String {
    let (before, after) = (decider(&row.before), decider(&row.after));
    if before == after {
        return format!("by {after}");
    }
    match (&row.before, &row.after) {
        (
            Decider {
                key: Some(old),
                line: Some(before),
                ..
            },
            Decider {
                key: Some(new),
                line: Some(after),
                ..
            },
        ) if old == new => format!("by `{new}` ({after}, was {before})"),
        _ => format!("by {after}, was {before}"),
    }
}

/// Returns the key and the line.
fn decider(decider: &Decider) -> String {
    if decider.judgement == Judgement::NotJudged(Reason::Foreign) {
        return "not judged".to_owned();
    }
    let key = decider.key.map(|key| format!("`{key}`"));
    match (key, &decider.line) {
        (Some(key), Some(line)) => format!("{key} ({line})"),
        (Some(key), None) => format!("{key}: {}", decider.reason),
        (None, Some(line)) => format!("default ({line})"),
        (None, None) => decider.reason.clone(),
    }
}

/// Returns the kinds of paths, with the interfaces where it is not all that a kind has in general: from every
/// interface but those of containers, to every bridge of containers. None for what a published port has in
/// general: there, whether the packet is translated or a process of the engine listens.
fn paths(difference: &Difference, routes: &[Route]) -> Vec<String> {
    let mut kinds: BTreeMap<Kind, Vec<&Route>> = BTreeMap::new();
    for route in routes {
        kinds.entry(route.kind).or_default().push(route);
    }
    let is_published = kinds.keys().eq(&[Kind::Dnat, Kind::Service]);
    // Kinds by the interfaces.
    let mut by_interfaces: IndexMap<String, Vec<&'static str>> = IndexMap::new();
    for (kind, routes) in kinds {
        let title = match kind {
            Kind::Dnat => "published",
            Kind::Service => "sockets of the host",
            Kind::Container => "straight to containers",
            other => other.title(),
        };
        let interfaces = interfaces(difference, &routes);
        by_interfaces.entry(interfaces).or_default().push(title);
    }
    if is_published && by_interfaces.keys().eq(&[""]) {
        return Vec::new();
    }
    let kinds = by_interfaces.into_iter();
    kinds
        .map(|(interfaces, kinds)| kinds.join(" and ") + &interfaces)
        .collect()
}

/// Returns the interfaces of paths of one kind, with a comma before each part; nothing where it is all of them.
fn interfaces(difference: &Difference, routes: &[&Route]) -> String {
    let incoming: BTreeSet<usize> = routes.iter().map(|route| route.incoming).collect();
    let outgoing: BTreeSet<usize> = routes.iter().filter_map(|route| route.outgoing).collect();
    let has = |some: &BTreeSet<usize>, classes: &[Class], of: fn(&Class) -> bool| {
        let mut classes = classes.iter().enumerate().filter(|(_, class)| of(class));
        classes.all(|(n, _)| some.contains(&n))
    };
    let is_outside = |class: &Class| class.containers == Containers::Never;
    let is_everywhere = has(&incoming, &difference.incoming, is_outside);
    let knows_bridges = difference.outgoing.iter().any(is_containers);
    let is_everywhere_to =
        outgoing.is_empty() || knows_bridges && has(&outgoing, &difference.outgoing, is_containers);
    let mut text = String::new();
    if let Some(from) = titles(&difference.incoming, &incoming).filter(|_| !is_everywhere) {
        let _ = write!(text, ", from {from}");
    }
    if let Some(to) = titles(&difference.outgoing, &outgoing).filter(|_| !is_everywhere_to) {
        let _ = write!(text, ", to {to}");
    }
    if routes.iter().all(|route| route.strays) {
        text.push_str(", without a reverse path");
    }
    text
}

fn is_containers(class: &Class) -> bool {
    class.containers == Containers::Always
}

/// Returns the titles of some classes, or of those that are missing beside the interfaces that no rule names;
/// `None` for all of them.
fn titles(classes: &[Class], some: &BTreeSet<usize>) -> Option<String> {
    if some.len() == classes.len() {
        return None;
    }
    let titles = |wanted: bool| {
        let is_one = |n: &usize| some.contains(n) == wanted;
        let mut bridges = classes
            .iter()
            .enumerate()
            .filter(|(_, class)| is_containers(class));
        let is_all = bridges.all(|(n, _)| is_one(&n));
        let all = classes.iter().enumerate();
        let titles = all.filter(|(n, _)| is_one(n));
        // Containers are those of all bridges, and some bridges have names.
        let titles: IndexSet<String> = titles
            .map(|(_, class)| {
                if is_containers(class) && !is_all {
                    class.named.join(", ")
                } else {
                    class.title()
                }
            })
            .collect();
        titles.into_iter().collect::<Vec<_>>().join(", ")
    };
    let is_others = |n: &usize| classes.get(*n).is_some_and(|class| class.others);
    Some(if some.iter().any(is_others) {
        format!("any interface but {}", titles(false))
    } else {
        titles(true)
    })
}
