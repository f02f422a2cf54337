//! `dfw audit`: who reaches what containers publish, and by which line of the policy.

use std::fmt::Write;
use std::path::Path;

use serde_json::{Value, json};

use crate::analysis::audit::{Admits, Exposure, Report, audit};
use crate::analysis::path::{Door, Reach, Way};
use crate::diagnostic::Diagnostic;
use crate::host::engine::Engine;
use crate::kernel::Kernel;
use crate::netlink::object::{family_name, shares_hook};
use crate::netlink::snapshot::Neighbour;
use crate::output::diagnostic::to_json;
use crate::output::json;
use crate::output::table::count;
use crate::output::terminal::{Terminal, Tone};
use crate::ruleset::{Hook, Ruleset, TABLE};
use crate::site::{Site, Sockets, legacy_tables};
use crate::source::Sources;
use crate::untrusted::clean;

use super::failure::Failure;
use super::host::{self, EngineArgs};
use super::load::load;

pub(super) fn run(
    terminal: Terminal,
    policy: Option<&Path>,
    engine: &EngineArgs,
) -> Result<(), Failure> {
    let loaded = policy.map(|path| load(terminal, path)).transpose()?;
    let found = Site::find(&engine.ask(), Sockets::All)?;
    let kernel = Kernel::open()?;
    // The elements of long lists are not read, which takes long: a stranger is in none of them.
    let snapshot = kernel.survey_shared()?;
    let ruleset: Option<Ruleset> = match &loaded {
        Some(loaded) => Some(loaded.compile(&found.host)),
        None => snapshot.installed.map(|table| table.ruleset),
    };
    let around = found.surroundings(&snapshot.neighbours);
    let report = audit(&found.host, &around, ruleset.as_ref());
    let beside = Beside {
        flowtables: kernel.flowtables()?,
        xdp: found
            .links
            .iter()
            .filter(|link| link.xdp)
            .map(|link| clean(&link.name))
            .collect(),
        refusing: snapshot.neighbours.into_iter().filter(refuses).collect(),
        legacy: !legacy_tables().v4.is_empty() || !legacy_tables().v6.is_empty(),
    };
    let unasked = host::unasked(&found.host);
    let is_incomplete = !found.unanswered.is_empty() || unasked.iter().any(host::is_unknown);
    let mut notices = host::unanswered(&found);
    notices.extend(unasked);
    for notice in &notices {
        terminal.diagnostic(notice, &Sources::new());
        terminal.gap();
    }
    let guarded = ruleset.is_some();
    terminal.answer(
        || {
            document(
                &found,
                &report,
                &beside,
                (guarded, !is_incomplete),
                &notices,
            )
        },
        || {
            text(
                terminal,
                &found,
                &report,
                &beside,
                (guarded, !is_incomplete),
            )
        },
    )?;
    if report.uncovered().next().is_some() {
        return Err(Failure::Exposed);
    }
    if is_incomplete {
        Err(Failure::Incomplete)
    } else {
        Ok(())
    }
}

/// What is beside dfw on this host and decides as well.
struct Beside {
    flowtables: Vec<String>,
    xdp: Vec<String>,
    refusing: Vec<Neighbour>,
    legacy: bool,
}

/// Whether what dfw lets through may still be refused there.
fn refuses(neighbour: &Neighbour) -> bool {
    neighbour.kind == "filter"
        && !neighbour.accepts
        && [Hook::Forward, Hook::Input]
            .iter()
            .any(|hook| shares_hook(neighbour.family, neighbour.hook, *hook))
}

fn text(
    terminal: Terminal,
    found: &Site,
    report: &Report,
    beside: &Beside,
    (guarded, complete): (bool, bool),
) -> String {
    let mut text = String::new();
    for engine in &found.host.engines {
        let _ = writeln!(text, "engine: {}", describe(engine));
    }
    if found.host.engines.is_empty() {
        text.push_str("engine: none answers here\n");
    }
    if !guarded {
        let _ = writeln!(text, "dfw: no rules are in force");
    }
    if !report.exposures.is_empty() {
        let mut rows = vec![["PORT", "CONTAINER", "WAY", "OPEN TO", "BY"].map(str::to_owned)];
        for exposure in &report.exposures {
            let [port, title, way, open, by] = row(exposure);
            match rows.last_mut() {
                // The same port by another door, open to the same people.
                Some([p, t, ways, o, b]) if (&*p, &*t, &*o, &*b) == (&port, &title, &open, &by) => {
                    ways.push_str("; ");
                    ways.push_str(&way);
                }
                _ => rows.push([port, title, way, open, by]),
            }
        }
        text.push_str(&terminal.table(&rows));
    }
    text.push_str(&others(report, beside));
    let uncovered = report.uncovered().count();
    let end = if uncovered == 0 && !complete {
        format!(
            "{}: an engine was not asked or does not answer, and what it publishes is not known\n",
            terminal.paint(Tone::Warning, "incomplete")
        )
    } else if uncovered == 0 && found.host.engines.is_empty() {
        format!(
            "{}: without an engine nothing is known to be published\n",
            terminal.paint(Tone::Warning, "nothing to audit")
        )
    } else if uncovered == 0 {
        format!(
            "{}: nothing that containers publish is open to any without a line of the policy\n",
            terminal.paint(Tone::Good, "covered")
        )
    } else {
        let next = if guarded {
            "name these ports in the policy (`[]` is nobody), and `dfw apply`"
        } else {
            "`dfw init --allow ADDRESS` writes a first policy, of what is published now"
        };
        format!(
            "{}: {} open to any, and no line of a policy says so\nnext: {next}\n",
            terminal.paint(Tone::Bad, "exposed"),
            count(uncovered, "way is", "ways are"),
        )
    };
    text + &end
}

/// What stands beside the table.
fn others(report: &Report, beside: &Beside) -> String {
    let mut text = String::new();
    let mut say = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    for port in &report.unused {
        say(format!("not published: {port}, which the policy names"));
    }
    for network in &report.unjudged {
        say(format!(
            "cannot be judged: {} network {} ({}); its packets pass no hook of this host",
            network.driver,
            network.network,
            network.containers.join(", ")
        ));
    }
    for link in &beside.xdp {
        say(format!(
            "cannot be judged: what the XDP program of {link} passes on by itself"
        ));
    }
    for table in &beside.flowtables {
        say(format!(
            "cannot be judged: connections that the flowtable of table {table} carries past the \
             forward hook"
        ));
    }
    for chain in &beside.refusing {
        say(format!(
            "may still be refused: table {} {}, chain {}, priority {}, drops by default",
            family_name(chain.family),
            chain.table,
            chain.chain,
            chain.priority
        ));
    }
    if beside.legacy {
        say(
            "may still be refused: by rules of iptables-legacy, which cannot be seen from here"
                .to_owned(),
        );
    }
    text
}

fn describe(engine: &Engine) -> String {
    let firewall = engine.firewall.as_ref();
    format!(
        "{} {}{} at {}",
        engine.kind.name(),
        engine.version,
        firewall.map_or_else(String::new, |name| format!(" with {name}")),
        engine.address
    )
}

fn row(exposure: &Exposure) -> [String; 5] {
    let Exposure {
        way,
        admits,
        origin,
    } = exposure;
    [
        port(way),
        way.title.clone(),
        door(way),
        match admits {
            Admits::Any => format!("any{}", reach(way.reach)),
            Admits::Some(who) => who.join(", "),
            Admits::Nobody => "nobody".to_owned(),
        },
        match (origin, admits) {
            (Some(origin), _) => origin.to_string(),
            (None, Admits::Any) => "no policy".to_owned(),
            (None, _) => format!("table {TABLE}"),
        },
    ]
}

/// The port as a policy writes it; all ports of a container by its address.
pub(super) fn port(way: &Way) -> String {
    let protocol = way.protocol.name();
    match (way.port, way.address) {
        (None, address) => format!("{address}, all ports"),
        (Some(port), address) if address.is_unspecified() => format!("{port}/{protocol}"),
        (Some(port), address) => {
            format!("{}/{protocol}", std::net::SocketAddr::new(address, port))
        }
    }
}

pub(super) fn door(way: &Way) -> String {
    let door = match way.door {
        Door::Dnat => "DNAT",
        Door::Proxy => "docker-proxy",
        Door::HostNetwork => "host network",
        Door::Container => "straight to the container",
        Door::Loopback => "127.0.0.1 over the wire",
    };
    let family = if way.address.is_ipv4() {
        "IPv4"
    } else {
        "IPv6"
    };
    format!("{door} ({family})")
}

/// The door's name for programs.
pub(super) fn door_name(door: Door) -> &'static str {
    match door {
        Door::Dnat => "dnat",
        Door::Proxy => "proxy",
        Door::HostNetwork => "host-network",
        Door::Container => "container",
        Door::Loopback => "loopback",
    }
}

fn reach(reach: Reach) -> &'static str {
    match reach {
        Reach::Anybody => "",
        Reach::Routed => " with a route to it",
        Reach::Neighbours => " on the same link",
    }
}

fn document(
    found: &Site,
    report: &Report,
    beside: &Beside,
    (guarded, complete): (bool, bool),
    notices: &[Diagnostic],
) -> Value {
    let sources = Sources::new();
    json!({
        "schema": "dfw/audit/v1",
        "engines": json::engines(&found.host),
        "guarded": guarded,
        "complete": complete,
        "exposed": report.uncovered().next().is_some(),
        "exposures": report.exposures.iter().map(exposure).collect::<Vec<_>>(),
        "not_published": report.unused,
        "unjudged": {
            "networks": report
                .unjudged
                .iter()
                .map(|network| json!({
                    "network": network.network,
                    "driver": network.driver,
                    "containers": network.containers,
                }))
                .collect::<Vec<_>>(),
            "xdp": beside.xdp,
            "flowtables": beside.flowtables,
        },
        "may_still_refuse": beside
            .refusing
            .iter()
            .map(|chain| json!({
                "family": family_name(chain.family),
                "table": chain.table,
                "chain": chain.chain,
                "priority": chain.priority,
            }))
            .collect::<Vec<_>>(),
        "iptables_legacy": beside.legacy,
        "warnings": notices.iter().map(|n| to_json(n, &sources)).collect::<Vec<_>>(),
    })
}

fn exposure(exposure: &Exposure) -> Value {
    let way = &exposure.way;
    json!({
        "address": way.address,
        "port": way.port,
        "protocol": way.protocol.name(),
        "published_for": way.title,
        "door": door_name(way.door),
        "family": if way.address.is_ipv4() { "ipv4" } else { "ipv6" },
        "reach": match way.reach {
            Reach::Anybody => "anybody",
            Reach::Routed => "routed",
            Reach::Neighbours => "neighbours",
        },
        "open_to": match &exposure.admits {
            Admits::Any => json!("any"),
            Admits::Some(who) => json!(who),
            Admits::Nobody => json!([]),
        },
        "origin": exposure.origin.as_ref().map(ToString::to_string),
    })
}
