//! What must go on as if dfw were not there, and what must stop at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Result, anyhow, ensure};

use crate::Named;
use crate::support::command::{output, wait_for};
use crate::support::inside::SAME_NETWORK;
use crate::support::lab::Lab;
use crate::support::paths::POLICY;
use crate::support::probe::{PATIENCE, SILENCE, ping};
use crate::support::table::{Reading, Row, check, row};
use crate::support::topology::SECOND_CARD;

pub(crate) const TRIALS: &[Named] = &[
    (
        "traffic::bridged_frames_through_the_ip_hooks",
        bridged_frames_through_the_ip_hooks,
    ),
    ("traffic::transit", |lab| untouched(lab, TRANSIT)),
    (
        "traffic::transit_to_a_bridge_that_is_no_engines",
        transit_to_a_bridge_that_is_no_engines,
    ),
    ("traffic::pings", pings),
    ("traffic::small_path_mtu", small_path_mtu),
    (
        "traffic::conversations_of_containers_go_on",
        conversations_of_containers_go_on,
    ),
    ("traffic::revoked_published_tcp", |lab| {
        revoked(lab, "tcp host:80")
    }),
    ("traffic::revoked_published_udp", |lab| {
        revoked(lab, "udp host:5353")
    }),
    ("traffic::revoked_marked_tcp", |lab| {
        revoked_marked(lab, "tcp host:80")
    }),
    ("traffic::revoked_marked_udp", |lab| {
        revoked_marked(lab, "udp host:5353")
    }),
    ("traffic::revoked_docker_proxy_tcp", |lab| {
        revoked(lab, "tcp host6:80")
    }),
    ("traffic::revoked_docker_proxy_udp", |lab| {
        revoked(lab, "udp host6:5353")
    }),
    ("traffic::revoked_and_forgotten", revoked_and_forgotten),
    ("traffic::revoked_host_network", |lab| {
        revoked(lab, "tcp host:7000")
    }),
    ("traffic::revoked_host_network_v6", |lab| {
        revoked(lab, "tcp host6:7000")
    }),
    ("traffic::permission_given_back", permission_given_back),
];

/// The engine closes the host for IPv4 that passes through; IPv6 passes.
#[rustfmt::skip]
const TRANSIT: &[Row] = &[
    row("out",                           "tcp trusted6:80",     "office",                 ""),
    row("out, to a port of nobody",      "tcp internet6:443",   "office",                 ""),
];

/// The second card sits in a bridge that is called as the engine calls its own.
#[rustfmt::skip]
const TRANSIT_TO_A_BRIDGE: &[Row] = &[
    row("in",                            "tcp office6:80",      "trusted stranger six",   ""),
    row("in, at a port of nobody",       "tcp office6:22",      "trusted stranger six",   ""),
];

/// Its name begins as those of engines' bridges do, so the policy must say whose it is.
fn transit_to_a_bridge_that_is_no_engines(lab: &Lab) -> Result<()> {
    check(lab, TRANSIT_TO_A_BRIDGE, Reading::Bare)?;
    lab.apply(&format!(
        "{POLICY}settings:\n  foreign-interfaces: [{SECOND_CARD}]\n"
    ))?;
    check(lab, TRANSIT_TO_A_BRIDGE, Reading::Guarded)
}

fn untouched(lab: &Lab, rows: &'static [Row]) -> Result<()> {
    check(lab, rows, Reading::Bare)?;
    lab.apply(POLICY)?;
    check(lab, rows, Reading::Guarded)
}

/// With `bridge-nf-call-iptables` frames between two containers of one bridge pass the forward
/// hook, with the bridge as both interfaces.
fn bridged_frames_through_the_ip_hooks(lab: &Lab) -> Result<()> {
    let host = lab.host()?;
    let keys = [
        "net/bridge/bridge-nf-call-iptables",
        "net/bridge/bridge-nf-call-ip6tables",
    ];
    let set = |value: &str| keys.iter().try_for_each(|key| host.sysctl(key, value));
    if host.sysctl(keys[0], "1").is_err() {
        // A kernel without br_netfilter, or with one value for all namespaces.
        return Ok(());
    }
    set("1")?;
    let called = untouched(lab, SAME_NETWORK);
    lab.remove()?;
    set("0")?;
    let not_called = untouched(lab, SAME_NETWORK);
    set("1")?;
    called.and(not_called)
}

fn pings(lab: &Lab) -> Result<()> {
    lab.apply(POLICY)?;
    for (who, to) in [
        ("trusted", "host"),
        ("stranger", "host"),
        ("stranger", "host6"),
        ("plain", "host"),
        ("plain", "internet"),
        ("app", "internet"),
        ("six", "internet6"),
        ("plain", "web"),
    ] {
        let address = lab.address(to)?;
        let answered = lab.client(who)?.namespace.run(|| ping(address))?;
        ensure!(answered, "{who} gets no echo from {to}");
    }
    Ok(())
}

/// The stranger is behind a link with a smaller MTU than anybody knows of. Large answers reach it
/// only if the router's ICMP errors reach those who send them.
fn small_path_mtu(lab: &Lab) -> Result<()> {
    lab.apply("default: deny\nports:\n  80: [198.51.100.66, \"2001:db8:2::66\"]\n")?;
    for (who, to) in [
        ("stranger", "tcp host:80"),
        ("stranger", "tcp host6:80"),
        ("plain", "tcp internet:80"),
        ("six", "tcp internet6:80"),
    ] {
        let mut conversation = lab.client(who)?.converse(lab.target(to)?)?;
        ensure!(
            conversation.echoes_bulk(300_000)?,
            "{who} does not get large packets from {to}"
        );
    }
    Ok(())
}

const TWO_SOURCES: &str = r#"
default: deny
sources:
  first:  [203.0.113.20, "2001:db8:1::20"]
  second: [203.0.113.21, "2001:db8:1::21"]
ports:
  80:       [first, second]
  5353/udp: [first, second]
  7000:     [first, second]
"#;

const SECOND_ONLY: &str = r#"
default: deny
sources:
  second: [203.0.113.21, "2001:db8:1::21"]
ports:
  80:       [second]
  5353/udp: [second]
  7000:     [second]
"#;

/// A source that loses its permission loses its live flow with the apply; a flow of a source that
/// keeps it goes on, without a word lost.
fn revoked(lab: &Lab, port: &str) -> Result<()> {
    revoked_with(lab, port, "")
}

/// The same where connections bear a mark that were judged.
fn revoked_marked(lab: &Lab, port: &str) -> Result<()> {
    revoked_with(lab, port, "settings: {connection-mark: true}\n")
}

fn revoked_with(lab: &Lab, port: &str, settings: &str) -> Result<()> {
    lab.apply(&format!("{TWO_SOURCES}{settings}"))?;
    let target = lab.target(port)?;
    let mut loses = lab.client("trusted")?.converse(target)?;
    let mut keeps = lab.client("trusted2")?.converse(target)?;
    let done = AtomicBool::new(false);
    let rounds = thread::scope(|scope| {
        let talking = scope.spawn(|| -> Result<u32> {
            let mut rounds = 0;
            while !done.load(Ordering::Relaxed) {
                ensure!(keeps.echoes(PATIENCE)?, "cut after {rounds} rounds");
                rounds += 1;
            }
            Ok(rounds)
        });
        let applied = lab.apply(&format!("{SECOND_ONLY}{settings}"));
        let cut = applied.and_then(|()| {
            // Not one word of a revoked source is answered; the wait is for what must not come.
            ensure!(
                !loses.echoes(2 * SILENCE)?,
                "the revoked source still has its flow"
            );
            Ok(())
        });
        done.store(true, Ordering::Relaxed);
        let rounds = talking.join().map_err(|_| anyhow!("the talker panicked"))?;
        cut.and(rounds.map_err(|error| error.context("the source that keeps its permission")))
    })?;
    ensure!(rounds > 0, "nothing was said during the apply");
    ensure!(
        keeps.echoes(PATIENCE)?,
        "the source that keeps its permission is cut"
    );
    Ok(())
}

/// Connection tracking forgets the connection of a revoked source (the source can make it, with a
/// reset that the container never sees) while the container still has something to say to it. What
/// the container sends again then looks like a connection of its own.
fn revoked_and_forgotten(lab: &Lab) -> Result<()> {
    lab.apply(TWO_SOURCES)?;
    let client = lab.client("trusted")?;
    let mut loses = client.converse(lab.target("tcp host:80")?)?;
    let nft = |words: &[&str]| output(client.namespace.command("nft").args(words));
    let deaf = "table ip deaf { chain in { type filter hook input priority 0; \
                tcp sport 80 counter drop; }; }";
    nft(&[&format!("add {deaf}")])?;
    let heard = thread::scope(|scope| {
        let asking = scope.spawn(|| loses.echoes(8 * SILENCE));
        let revoked = || -> Result<()> {
            // The container has answered, and will answer again until somebody hears it.
            wait_for("an answer", PATIENCE, || {
                let dropped = nft(&["list", "chain", "ip", "deaf", "in"]).ok()?;
                (!dropped.contains("packets 0 ")).then_some(())
            })?;
            lab.apply(SECOND_ONLY)?;
            output(lab.host()?.command("conntrack").arg("-F"))?;
            Ok(())
        };
        let revoked = revoked();
        nft(&["delete", "table", "ip", "deaf"])?;
        let heard = asking.join().map_err(|_| anyhow!("the asker panicked"))?;
        revoked.and(heard)
    })?;
    ensure!(!heard, "the revoked source still hears the container");
    Ok(())
}

/// Flows that containers have opened do not notice an apply.
fn conversations_of_containers_go_on(lab: &Lab) -> Result<()> {
    let mut conversations = Vec::new();
    for (who, to) in [
        ("plain", "tcp internet:80"),
        ("plain", "udp internet:53"),
        ("app", "tcp internet:443"),
        ("six", "tcp internet6:80"),
        ("plain", "tcp web:80"),
        ("plain", "tcp host:8083"),
        ("neighbour", "tcp host:22"),
        ("neighbour", "tcp host6:22"),
    ] {
        conversations.push((who, to, lab.client(who)?.converse(lab.target(to)?)?));
    }
    for policy in [POLICY, SECOND_ONLY, POLICY] {
        lab.apply(policy)?;
        for (who, to, conversation) in &mut conversations {
            ensure!(
                conversation.echoes(PATIENCE)?,
                "{who} lost its flow to {to}"
            );
        }
    }
    Ok(())
}

/// A flow that was cut lives again when its source may again: refusing destroys nothing.
fn permission_given_back(lab: &Lab) -> Result<()> {
    lab.apply(TWO_SOURCES)?;
    let mut flow = lab
        .client("trusted")?
        .converse(lab.target("tcp host:80")?)?;
    lab.apply(SECOND_ONLY)?;
    ensure!(
        !flow.echoes(SILENCE)?,
        "the revoked source still has its flow"
    );
    lab.apply(TWO_SOURCES)?;
    ensure!(flow.echoes(PATIENCE)?, "the flow does not recover");
    Ok(())
}
