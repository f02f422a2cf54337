//! Permissions for a time: a granted client has access on every path, until the second at which the grant ends.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::Range;
use std::thread::{Scope, scope};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::Named;
use crate::answers::{ask, audit, explained, printed};
use crate::guard::Guard;
use crate::support::command::output;
use crate::support::explain::agrees;
use crate::support::lab::Lab;
use crate::support::probe::{Outcome, PATIENCE, SILENCE, arrives};
use crate::support::table::{Reading, Row, check, check_all, row};
use crate::support::watch::{Watch, on_one_connection};

pub(crate) const TRIALS: &[Named] = &[
    ("grants::end_in_time_on_every_path", |lab| {
        end_in_time(lab, Variant::LongPolicy)
    }),
    ("grants::end_in_time_without_guard", |lab| {
        end_in_time(lab, Variant::WithoutGuard)
    }),
    ("grants::end_for_a_container_that_sends_first", sends_first),
    ("grants::except_and_interface_hold", keys_of_the_entry_hold),
    ("grants::are_known_to_all_verbs", verbs_know_grants),
];

/// How often clients ask.
const PACE: Duration = Duration::from_millis(20);
/// The time of a grant whose end is watched.
const TIME: Duration = Duration::from_secs(5);

/// The client of the grants, which no policy here allows; it has routes to containers.
const CLIENT: &str = "neighbour";
const CLIENT_ADDRESSES: [&str; 2] = ["203.0.113.66", "2001:db8:1::66"];
/// How verbs name what allows it, and where they list it.
const GRANTED: &str = "granted for a time";
const FIRST: &str = "  GRANTED TO ";
const REASON: &str = "vendor call";

const POLICY: &str = r#"
default: deny
grants: {max-time: 1h, ports: [1-65535, 1-65535/udp]}
sources:
  trusted: [203.0.113.20, "2001:db8:1::20"]
ports:
  22: [trusted]
  80: [trusted]
  5353/udp: [trusted]
  7000: [trusted]
  7000/udp: [trusted]
  8084: [trusted]
  8090: [trusted]
  9000-9002: [trusted]
  5399/udp: [trusted]
"#;

/// What holds while grants end.
#[derive(Clone, Copy)]
enum Variant {
    /// Guard runs; so many ports have a policy that they share sets.
    LongPolicy,
    /// Guard is killed; connections are marked.
    WithoutGuard,
}

impl Variant {
    /// Returns a policy with an entry for these ports of one client each, too.
    fn policy(self, more: Range<u16>) -> String {
        let client = r#"[203.0.113.20, "2001:db8:1::20"]"#;
        let more = more.map(|port| format!("  {port}: {client}\n"));
        let more = more.collect::<Vec<_>>().concat();
        match self {
            // Ports with named sources keep sets of their own.
            Self::LongPolicy => format!("{POLICY}{more}").replace("[trusted]", client),
            Self::WithoutGuard => format!("{POLICY}{more}settings: {{connection-mark: true}}\n"),
        }
    }
}

/// The ports that are granted, and the paths to each, without a grant.
#[rustfmt::skip]
const PATHS: &[(&str, &[Row])] = &[
    //       what                            to                     may                 must not
    ("80", &[
        row("DNAT",                          "tcp host:80",         "trusted",          CLIENT),
        row("docker-proxy, IPv6",            "tcp host6:80",        "trusted",          CLIENT),
    ]),
    ("5353/udp", &[
        row("DNAT, UDP",                     "udp host:5353",       "trusted",          CLIENT),
        row("docker-proxy, UDP, IPv6",       "udp host6:5353",      "trusted",          CLIENT),
    ]),
    ("7000", &[
        row("host network",                  "tcp host:7000",       "trusted",          CLIENT),
        row("host network, IPv6",            "tcp host6:7000",      "trusted",          CLIENT),
    ]),
    ("7000/udp", &[
        row("host network, UDP",             "udp host:7000",       "trusted",          CLIENT),
        row("host network, UDP, IPv6",       "udp host6:7000",      "trusted",          CLIENT),
    ]),
    ("22", &[
        row("a service of the host",         "tcp host:22",         "trusted",          CLIENT),
        row("a service of the host, IPv6",   "tcp host6:22",        "trusted",          CLIENT),
    ]),
    ("8084", &[
        row("network with IPv6",             "tcp host:8084",       "trusted",          CLIENT),
        row("network with IPv6, IPv6",       "tcp host6:8084",      "trusted",          CLIENT),
    ]),
    ("9001", &[
        row("one port of a range",           "tcp host:9001",       "trusted",          CLIENT),
        row("one port of a range, IPv6",     "tcp host6:9001",      "trusted",          CLIENT),
    ]),
    ("8090", STRAIGHT),
];

/// The container's own address.
#[rustfmt::skip]
const STRAIGHT: &[Row] = &[
    row("straight to the container",         "tcp routed:90",       "trusted",          CLIENT),
    row("straight to the container, IPv6",   "tcp routed6:90",      "trusted",          CLIENT),
];

/// The paths to the containers of every lab.
fn usual_paths() -> impl Iterator<Item = &'static Row> {
    let rows = PATHS.iter().flat_map(|(_, rows)| *rows);
    rows.filter(|row| STRAIGHT.iter().all(|straight| straight.to != row.to))
}

fn only_trusted_sources(lab: &Lab) -> Result<()> {
    let tables: Vec<&[Row]> = PATHS.iter().map(|(_, rows)| *rows).collect();
    check_all(lab, &tables, Reading::Guarded)
}

/// So many more ports of a policy that all of it is a long one.
const PORTS: Range<u16> = 20_000..20_080;

/// What the same client must not reach meanwhile.
#[rustfmt::skip]
const BESIDE: &[Row] = &[
    row("the rest of the range",             "tcp host:9000",       "trusted",          CLIENT),
    row("a granted port",                    "tcp host:80",         "trusted",          "wire stranger"),
    row("a granted port, IPv6",              "tcp host6:80",        "trusted",          "wire stranger"),
];

/// A network to whose containers packets are routed; Docker before 28 knows no mode and accepts them.
const ROUTED: &str = "network create -o com.docker.network.bridge.gateway_mode_ipv4=nat-unprotected \
     -o com.docker.network.bridge.gateway_mode_ipv6=nat-unprotected \
     --ipv6 --subnet 172.30.0.0/24 --subnet 2001:db8:c:30::/64 routeds";

fn end_in_time(lab: &Lab, variant: Variant) -> Result<()> {
    lab.docker(ROUTED)?;
    let tried = lab
        .run("routed", "--network routeds -p 8090:90", "tcp:90")
        .and_then(|()| lab.wait_until_open("tcp routed:90"))
        .and_then(|()| every_path_ends(lab, variant));
    lab.docker("rm --force routed")?;
    lab.docker("network rm routeds")?;
    tried
}

fn every_path_ends(lab: &Lab, variant: Variant) -> Result<()> {
    let mut guard = Guard::start(lab, &variant.policy(PORTS))?;
    guard.settles()?;
    only_trusted_sources(lab).context("before the grants")?;
    let mut keeps = lab
        .client("trusted")?
        .converse(lab.target("tcp host:80")?)?;
    scope(|scope| {
        let mut watches = Vec::new();
        for (port, paths) in PATHS {
            let end = grant(lab, &guard, port, TIME)?;
            for path in *paths {
                watches.extend(watch(scope, lab, path, &end)?);
            }
        }
        // A policy that changes leaves grants as they are, with guard and without.
        let changed = variant.policy(PORTS.start..PORTS.end + 1);
        match variant {
            Variant::LongPolicy => {
                lab.write_policy(&changed)?;
                guard.expect("in force: ")?;
            }
            Variant::WithoutGuard => {
                guard.kill()?;
                lab.apply(&changed)?;
            }
        }
        check(lab, BESIDE, Reading::Guarded).context("beside the grants")?;
        watches.into_iter().try_for_each(Watch::ended_in_time)
    })?;
    ensure!(keeps.echoes(PATIENCE)?, "a source of the policy is cut");
    // Without guard the sets stay, with nothing in them: that is no list which was not read.
    audit(lab)?.says_none_of(&["a long list"])?;
    only_trusted_sources(lab).context("after the grants")
}

/// Grants the client a port; returns the moments between which the grant ends.
fn grant(lab: &Lab, guard: &Guard<'_>, port: &str, time: Duration) -> Result<Range<Instant>> {
    let before = Instant::now();
    let seconds = format!("{}s", time.as_secs());
    let about = ["--to", port, "--for", &seconds, "--reason", REASON];
    let words = [&["add"], &CLIENT_ADDRESSES[..], &about].concat();
    change(lab, guard, &words)?;
    Ok(before + time..Instant::now() + time)
}

/// Runs a `dfw grant` that changes something.
fn change(lab: &Lab, guard: &Guard<'_>, words: &[&str]) -> Result<()> {
    let change = lab.dfw(&[&["grant"], words, &["--socket", &guard.socket]].concat())?;
    ensure!(change.status.success(), "{words:?}: {}", printed(&change));
    Ok(())
}

/// Watches a connection that the client holds, and those that it opens.
fn watch<'scope>(
    scope: &'scope Scope<'scope, '_>,
    lab: &Lab,
    path: &Row,
    end: &Range<Instant>,
) -> Result<[Watch<'scope>; 2]> {
    let (what, target) = (path.what, lab.target(path.to)?);
    let (holder, opener) = (lab.client(CLIENT)?, lab.client(CLIENT)?);
    let hold = on_one_connection(move || holder.converse(target));
    let open = move |patience| Ok(opener.ask(target, patience)? == Outcome::Open);
    Ok([
        Watch::start(scope, format!("{what}, held"), end, PACE, hold),
        Watch::start(scope, format!("{what}, new"), end, PACE, open),
    ])
}

/// A container sends first, so that the client's packets are replies: both directions end with the grant.
fn sends_first(lab: &Lab) -> Result<()> {
    lab.run("speaker", "--network sixes -p 5399:54/udp", "tcp:80")?;
    let tried = lab
        .wait_until_open("tcp speaker:80")
        .and_then(|()| both_directions_end(lab));
    lab.docker("rm --force speaker")?;
    tried
}

fn both_directions_end(lab: &Lab) -> Result<()> {
    let guard = Guard::start(lab, POLICY)?;
    let bind = |name: &str, address: IpAddr, port: u16| -> Result<UdpSocket> {
        let place = lab.client(name)?.namespace;
        place.run(|| Ok(UdpSocket::bind((address, port))?))
    };
    let families = [
        ("IPv4", lab.address("speaker")?, lab.address(CLIENT)?),
        ("IPv6", lab.address("speaker6")?, lab.address("neighbour6")?),
    ];
    let sockets = families.map(|(family, server, client)| {
        let sockets = (bind("speaker", server, 54)?, bind(CLIENT, client, 7000)?);
        Ok((family, sockets))
    });
    let sockets = sockets.into_iter().collect::<Result<Vec<_>>>()?;
    guard.settles()?;
    output(lab.host()?.command("conntrack").arg("-F"))?;
    for (family, (server, client)) in &sockets {
        let reached = arrives(server, client.local_addr()?, client, SILENCE)?;
        ensure!(!reached, "{family}: the container reaches a client");
    }
    output(lab.host()?.command("conntrack").arg("-F"))?;
    let end = grant(lab, &guard, "5399/udp", TIME)?;
    scope(|scope| {
        let mut watches = Vec::new();
        for (family, (server, client)) in &sockets {
            let to_client = client.local_addr()?;
            ensure!(
                arrives(server, to_client, client, PATIENCE)?,
                "{family}: the container does not reach a granted client"
            );
            server.send_to(b"word", to_client)?;
            let (_, to_server): (_, SocketAddr) = client.recv_from(&mut [0; 16])?;
            let out = move |patience| arrives(server, to_client, client, patience);
            let back = move |patience| arrives(client, to_server, server, patience);
            let [sent, replies] = ["sent", "replies"].map(|what| format!("{family}, {what}"));
            watches.push(Watch::start(scope, sent, &end, PACE, out));
            watches.push(Watch::start(scope, replies, &end, PACE, back));
        }
        watches.into_iter().try_for_each(Watch::ended_in_time)
    })
}

/// Of all networks of the topology, an entry still selects.
const KEYS: &str = r#"
default: deny
grants: {max-time: 1h, ports: [1-65535]}
ports:
  80: {allow: [203.0.113.20], except: [203.0.113.67, "2001:db8:1::67"]}
  7000: {allow: [], interface: br-office}
  8083: {allow: [], interface: eth0}
"#;

#[rustfmt::skip]
const KEYS_HOLD: &[Row] = &[
    row("DNAT, except",                  "tcp host:80",         "trusted neighbour office", "wire stranger"),
    row("docker-proxy, except",          "tcp host6:80",        "trusted neighbour office", "wire stranger"),
    row("host network, interface",       "tcp host:7000",       "office",                   "trusted neighbour stranger"),
    row("host network, interface, IPv6", "tcp host6:7000",      "office",                   "trusted neighbour stranger"),
    row("DNAT, interface",               "tcp host:8083",       "trusted neighbour",        "office stranger"),
    row("docker-proxy, interface",       "tcp host6:8083",      "trusted neighbour",        "office stranger"),
];

#[rustfmt::skip]
const REVOKED: &[Row] = &[
    row("DNAT",                          "tcp host:80",         "trusted",                  "neighbour office wire stranger"),
    row("docker-proxy",                  "tcp host6:80",        "",                         "trusted neighbour office wire"),
    row("host network",                  "tcp host:7000",       "",                         "office trusted neighbour"),
    row("DNAT, interface",               "tcp host:8083",       "",                         "trusted neighbour office"),
];

fn keys_of_the_entry_hold(lab: &Lab) -> Result<()> {
    const NETWORKS: [&str; 4] = [
        "203.0.113.0/24",
        "10.9.0.0/24",
        "2001:db8:1::/64",
        "2001:db8:9::/64",
    ];
    let guard = Guard::start(lab, KEYS)?;
    check(lab, REVOKED, Reading::Guarded).context("before the grant")?;
    let words = ["--to", "1-65535", "--for", "1h"];
    change(lab, &guard, &[&["add"], &NETWORKS[..], &words].concat())?;
    check(lab, KEYS_HOLD, Reading::Guarded)?;
    for network in NETWORKS {
        change(lab, &guard, &["revoke", network])?;
    }
    check(lab, REVOKED, Reading::Guarded).context("after the revocation")
}

fn verbs_know_grants(lab: &Lab) -> Result<()> {
    let mut guard = Guard::start(lab, POLICY)?;
    guard.settles()?;
    for (port, _) in PATHS {
        grant(lab, &guard, port, Duration::from_mins(10))?;
    }
    let granted = 2 * PATHS.len();

    // What `explain` answers is what packets find, and the rule that it names counts them.
    agrees(lab, usual_paths(), true)?;
    for from in CLIENT_ADDRESSES {
        let words = ["explain", "--from", from];
        explained(lab, from, "80", "allow")?.says(&[GRANTED])?;
        explained(lab, from, "9000", "deny")?.says_none_of(&[GRANTED])?;
        ask(lab, &words)?.says(&[GRANTED])?;
    }
    ask(lab, &["explain", "--to", "80"])?.says(&[GRANTED])?;

    let report = audit(lab)?;
    ensure!(report.text.starts_with(FIRST), "{}", report.text);
    ensure!(report.rows("grants").len() == granted, "{}", report.text);
    for (path, family, from) in [
        ("dnat", "ipv4", CLIENT_ADDRESSES[0]),
        ("proxy", "ipv6", CLIENT_ADDRESSES[1]),
    ] {
        let open_to = json!([from, "trusted"]);
        let open = report.paths(80).contains(&(path, family, &open_to));
        ensure!(open, "{path}: not open to {open_to}\n{}", report.text);
    }
    let status = ask(lab, &["status", "--socket", &guard.socket])?;
    ensure!(status.text.starts_with(FIRST), "{}", status.text);
    ensure!(status.rows("grants").len() == granted, "{}", status.text);
    let list = ["grant", "list", "--socket", &guard.socket];
    let listed = ask(lab, &list)?;
    listed.says(&CLIENT_ADDRESSES)?;
    listed.says(&[REASON])?;
    ensure!(listed.rows("grants").len() == granted, "{}", listed.text);

    // They are no difference between a policy and what is in force.
    for verb in ["plan", "apply"] {
        let answer = ask(lab, &[verb, &guard.policies])?;
        answer.ends_with(0)?;
        answer.says(&["no changes"])?;
    }

    // A grant that is revoked is cut at once, and the others are not.
    let client = lab.client(CLIENT)?;
    let mut revoked = client.converse(lab.target("tcp host:7000")?)?;
    let mut kept = client.converse(lab.target("tcp host6:7000")?)?;
    change(lab, &guard, &["revoke", CLIENT_ADDRESSES[0]])?;
    ensure!(!revoked.echoes(SILENCE)?, "a revoked client is not cut");
    ensure!(kept.echoes(PATIENCE)?, "another grant is cut");

    // Without guard, what it has granted is still listed, and nothing changes.
    guard.kill()?;
    let rules = || output(lab.host()?.command("nft").args(["-s", "list", "ruleset"]));
    let before = rules()?;
    let about = ["add", "203.0.113.67", "--to", "80", "--for", "1m"];
    for words in [&about[..], &["revoke", CLIENT_ADDRESSES[1]], &["list"]] {
        let words = [&["grant"], words, &["--socket", &guard.socket]].concat();
        let answer = lab.dfw(&words)?;
        ensure!(answer.status.code() == Some(1), "{words:?}: {answer:?}");
        let text = printed(&answer);
        ensure!(text.contains("guard does not run"), "{words:?}: {text}");
    }
    ensure!(before == rules()?, "a grant without guard changes rules");
    let report = audit(lab)?;
    ensure!(
        report.rows("grants").len() == granted / 2,
        "{}",
        report.text
    );
    ensure!(kept.echoes(PATIENCE)?, "the grant has ended with guard");
    Ok(())
}
