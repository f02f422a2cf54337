//! What a change opens and closes, for people and programs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::analysis::difference::{Decider, Difference, Effect, MANY, Route, Row};
use crate::analysis::interfaces::Class;
use crate::analysis::judgement::{Judgement, Reason};
use crate::analysis::path::Kind;
use crate::net::{AddressSet, Entry, Family, HostPorts};
use crate::output::json;
use crate::output::table::count;
use crate::output::terminal::{Terminal, Tone};

use super::addresses::{addresses_json, counts_json, grouped};

/// How many addresses and ports are listed before only their number is shown.
const LISTED: usize = 4;
/// How many rows are shown before only their number is.
const ROWS: usize = 100;

/// Returns a line for each row: the ports, who gains or loses access, and what decides.
pub(in crate::cli) fn text(difference: &Difference, terminal: Terminal) -> String {
    let shown = difference.rows.iter().take(ROWS);
    let mut rows: Vec<[String; 3]> = shown
        .map(|row| {
            let (sign, tone) = match row.effect {
                Effect::Gains => ("+", Tone::Bad),
                Effect::MayGain => ("?", Tone::Bad),
                Effect::Loses => ("-", Tone::Warning),
                Effect::Judged => ("~", Tone::Good),
            };
            let ports = format!("{} {}", terminal.paint(tone, sign), ports(&row.ports));
            let paths = paths(difference, &row.routes);
            [ports, format!("{}: {paths}", sentence(row)), deciders(row)]
        })
        .collect();
    if let more @ 1.. = difference.rows.len().saturating_sub(ROWS) {
        let more = format!("and {}", count(more, "more row", "more rows"));
        rows.push(["  …".to_owned(), more, String::new()]);
    }
    terminal.table(&rows)
}

/// Returns one sentence for a row: who gains or loses access where, and by which line.
pub(in crate::cli) fn message(difference: &Difference, row: &Row) -> String {
    format!(
        "{}: {} ({}); {}",
        ports(&row.ports),
        sentence(row),
        paths(difference, &row.routes),
        deciders(row)
    )
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
            "allowed_before": counts_json(&row.allowed_before),
            "allowed_after": counts_json(&row.allowed_after),
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
            "containers": class.containers,
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

/// The ports, or the first of them and how many there are.
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
            let before = match number(&row.allowed_before) {
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

/// Whether nobody knows what was decided before, so that it is not certain that anything changes.
fn was_unknown(row: &Row) -> bool {
    row.before.judgement == Judgement::NotJudged(Reason::Foreign)
}

struct Who {
    text: String,
    is_many: bool,
}

/// The addresses of a row: a list where it is short, or all but a short list, or a number.
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
    let all = |family: &Family| row.sources.intersects(&AddressSet::all(*family));
    // Where a family is whole but for a few addresses, those are what matters.
    let is_most = row.sources.count_v4() > MANY || row.sources.count_v6() > 1 << 127;
    if is_most
        && row.families.iter().all(all)
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
        let text = listed.join(", ");
        return Who { text, is_many };
    }
    let text = number(&row.sources).unwrap_or_else(|| "nobody".to_owned());
    Who {
        text,
        is_many: true,
    }
}

/// Where only one family is meant.
fn families(families: &[Family]) -> String {
    match families {
        [family] => format!(" over {}", family.title()),
        _ => String::new(),
    }
}

/// How many addresses, in words; `None` for none.
fn number(set: &AddressSet) -> Option<String> {
    let mut parts = Vec::new();
    match set.count_v4() {
        0 => {}
        number @ 4_294_967_296 => {
            parts.push(format!("all {} IPv4 addresses", grouped(number.into())));
        }
        1 => parts.push("1 address".to_owned()),
        number if number > MANY => parts.push(format!(
            "{} IPv4 addresses, more than 2^24",
            grouped(number.into())
        )),
        number => parts.push(format!("{} addresses", grouped(number.into()))),
    }
    match set.count_v6() {
        0 => {}
        1 => parts.push("1 IPv6 address".to_owned()),
        u128::MAX => parts.push("all IPv6 addresses".to_owned()),
        number if number < 1 << 32 => parts.push(format!("{} IPv6 addresses", grouped(number))),
        number => parts.push(format!("about 2^{} IPv6 addresses", number.ilog2())),
    }
    (!parts.is_empty()).then(|| parts.join(" and "))
}

/// What decided and what decides.
fn deciders(row: &Row) -> String {
    let (before, after) = (decider(&row.before), decider(&row.after));
    if before == after {
        return format!("by {after}");
    }
    format!("by {after}, was {before}")
}

/// The key and the line.
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

/// The kinds of paths, each with the interfaces if it is not all of them.
fn paths(difference: &Difference, routes: &[Route]) -> String {
    let mut kinds: BTreeMap<Kind, Vec<&Route>> = BTreeMap::new();
    for route in routes {
        kinds.entry(route.kind).or_default().push(route);
    }
    let kinds = kinds.into_iter().map(|(kind, routes)| {
        let title = match kind {
            Kind::Dnat => "published",
            Kind::Service => "sockets of the host",
            Kind::Container => "straight to containers",
            other => other.title(),
        };
        let incoming: BTreeSet<usize> = routes.iter().map(|route| route.incoming).collect();
        let outgoing: BTreeSet<usize> = routes.iter().filter_map(|route| route.outgoing).collect();
        let mut text = title.to_owned();
        let all = titles(&difference.incoming, &incoming);
        if let Some(all) = all {
            let _ = write!(text, ", from {all}");
        }
        if let Some(all) = titles(&difference.outgoing, &outgoing).filter(|_| !outgoing.is_empty())
        {
            let _ = write!(text, ", to {all}");
        }
        if routes.iter().all(|route| route.strays) {
            text.push_str(", without a reverse path");
        }
        text
    });
    kinds.collect::<Vec<_>>().join("; ")
}

/// The titles of some classes, or of those that are missing beside the interfaces that no rule names; `None` for
/// all of them.
fn titles(classes: &[Class], some: &BTreeSet<usize>) -> Option<String> {
    if some.len() == classes.len() {
        return None;
    }
    let titles = |wanted: bool| {
        let all = classes.iter().enumerate();
        let titles = all.filter(|(n, _)| some.contains(n) == wanted);
        let titles: Vec<String> = titles.map(|(_, class)| class.title()).collect();
        titles.join(", ")
    };
    let is_others = |n: &usize| classes.get(*n).is_some_and(|class| class.others);
    Some(if some.iter().any(is_others) {
        format!("any interface but {}", titles(false))
    } else {
        titles(true)
    })
}
