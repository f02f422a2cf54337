//! Cases of the field in which packets and the models of their paths once disagreed: each trial compares what
//! clients find with what audit, explain, test and init say.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::Named;
use crate::answers::{any, ask, audit, explained, nobody, printed};
use crate::guard::{Guard, bridge_is_known};
use crate::network_cards::{CARD, with_card};
use crate::socket_holders::{end, serve_as};
use crate::support::lab::Lab;
use crate::support::netns::Namespace;
use crate::support::table::{Reading, Row, check, row};

pub(crate) const TRIALS: &[Named] = &[
    ("cases::joined_to_host_networking", joined),
    ("cases::masquerade_is_no_dnat", masquerade),
    ("cases::without_nat_rules", without_nat_rules),
    ("cases::loopback_after_a_flush_of_nat", loopback_flushed),
    ("cases::a_named_bridge_after_the_apply", named_bridge),
    ("cases::a_named_bridge_while_guarded", named_bridge_guarded),
    ("cases::a_container_published_anew", published_anew),
    ("cases::a_service_of_the_host", service),
    ("cases::an_own_ipv6_address", own_address),
    ("cases::routed_through_a_container", through),
    ("cases::one_of_two_addresses", two_addresses),
    ("cases::a_card_in_docker0", card_in_docker0),
    (
        "cases::a_network_on_the_bridge_of_a_card",
        network_on_a_card,
    ),
    ("cases::an_engine_that_is_stopped", stopped),
];

/// Names no port of these trials.
const ONLY_80: &str = "default: deny\nports: {80: [203.0.113.20]}\n";

/// Addresses of clients of the topology.
const STRANGER: &str = "198.51.100.66";
const STRANGER_V6: &str = "2001:db8:2::66";
const WIRE: &str = "203.0.113.67";

/// Runs a trial with an engine that has further options, and starts the usual one again.
fn with_engine(lab: &Lab, options: &str, trial: impl FnOnce() -> Result<()>) -> Result<()> {
    restart(lab, options)?;
    let tried = trial();
    lab.remove()?;
    restart(lab, "")?;
    tried
}

/// Restarts the engine; it finds no rules of before.
fn restart(lab: &Lab, options: &str) -> Result<()> {
    lab.stop_engine()?;
    lab.script("nft flush ruleset")?;
    // Where an engine finds forwarding on, it leaves the forward policy as it is.
    lab.host()?.sysctl("net/ipv4/ip_forward", "0")?;
    lab.start_engine_with(options)?;
    lab.wait_for_containers()
}

#[rustfmt::skip]
const JOINED: &[Row] = &[
    //  what                             to                     may                       must not
    row("joined to host networking",     "tcp host:7002",       "trusted neighbour stranger", ""),
    row("the same, IPv6",                "tcp host6:7002",      "trusted neighbour stranger", ""),
];

#[rustfmt::skip]
const JOINED_CLOSED: &[Row] = &[
    row("joined to host networking",     "tcp host:7002",       "",                       "trusted neighbour stranger"),
    row("the same, IPv6",                "tcp host6:7002",      "",                       "trusted neighbour stranger"),
];

/// A container that joins a container with host networking has the host's network, too.
fn joined(lab: &Lab) -> Result<()> {
    lab.run("joined", "--network container:open-host", "tcp:7002")?;
    let tried = lab
        .wait_until_open("tcp localhost:7002")
        .and_then(|()| joined_is_known(lab));
    lab.docker("rm --force joined")?;
    tried
}

fn joined_is_known(lab: &Lab) -> Result<()> {
    const HOST: &str = "host-network";
    lab.apply(ONLY_80)?;
    check(lab, JOINED, Reading::Guarded)?;
    let open = audit(lab)?;
    open.ends_with(11)?;
    open.has_paths(7002, &[(HOST, "ipv4", any()), (HOST, "ipv6", any())])?;
    open.says(&["7002/tcp", "joined"])?;
    for from in [STRANGER, STRANGER_V6] {
        explained(lab, from, "7002", "allow")?.says(&["joined"])?;
    }

    lab.apply("default: deny\nports: {7002: []}\n")?;
    check(lab, JOINED_CLOSED, Reading::Guarded)?;
    audit(lab)?.has_paths(7002, &[(HOST, "ipv4", nobody()), (HOST, "ipv6", nobody())])?;
    explained(lab, STRANGER, "7002", "deny")?;

    let dir = lab.fresh_folder()?;
    let init = lab.dfw(&["init", &dir, "--allow", "203.0.113.20"])?;
    ensure!(init.status.success(), "{init:?}");
    let mut written = String::new();
    for file in std::fs::read_dir(&dir)? {
        written.push_str(&std::fs::read_to_string(file?.path())?);
    }
    ensure!(written.contains("7002"), "{written}");
    Ok(())
}

#[rustfmt::skip]
const LATE_V6: &[Row] = &[
    row("docker-proxy, IPv6",            "tcp host6:8200",      "trusted neighbour stranger", ""),
    row("DNAT, IPv4",                    "tcp host:8200",       "",                       "trusted neighbour stranger"),
];

/// A line of a VPN in the NAT table of IPv6 translates no destination: docker-proxy serves the port.
fn masquerade(lab: &Lab) -> Result<()> {
    with_engine(lab, "--ipv6 --fixed-cidr-v6 2001:db8:c:1::/64", || {
        lab.script("ip6tables -t nat -A POSTROUTING -o eth0 -s fd42:42:42::/64 -j MASQUERADE")?;
        lab.apply(ONLY_80)?;
        lab.run("late", "-p 8200:80", "tcp:80")?;
        let tried = lab.wait_until_open("tcp late:80").and_then(|()| {
            late_is_served_over_v6(lab).context("with a MASQUERADE line")?;
            lab.script("nft delete table ip6 nat")?;
            late_is_served_over_v6(lab).context("without it")
        });
        lab.docker("rm --force late")?;
        tried
    })
}

fn late_is_served_over_v6(lab: &Lab) -> Result<()> {
    check(lab, LATE_V6, Reading::Guarded)?;
    let audit = audit(lab)?;
    audit.has_paths(
        8200,
        &[("dnat", "ipv4", nobody()), ("proxy", "ipv6", any())],
    )?;
    audit.ends_with(11)?;
    explained(lab, STRANGER_V6, "8200", "allow")?;
    explained(lab, STRANGER, "8200", "deny").map(drop)
}

#[rustfmt::skip]
const LATE_PROXY: &[Row] = &[
    row("docker-proxy",                  "tcp host:8200",       "trusted neighbour stranger", ""),
    row("docker-proxy, IPv6",            "tcp host6:8200",      "trusted neighbour stranger", ""),
];

#[rustfmt::skip]
const OVER_THE_WIRE: &[Row] = &[
    row("published on 127.0.0.1",        "tcp loopback:8081",   "wire",                   ""),
];

#[rustfmt::skip]
const NOT_OVER_THE_WIRE: &[Row] = &[
    row("published on 127.0.0.1",        "tcp loopback:8081",   "",                       "wire"),
];

/// An engine without rules, and the manual line that goes with it: docker-proxy serves all ports, those of
/// 127.0.0.1 as well where the kernel routes such addresses.
fn without_nat_rules(lab: &Lab) -> Result<()> {
    with_engine(lab, "--iptables=false", || {
        lab.script("iptables -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE")?;
        lab.apply(ONLY_80)?;
        lab.run("late", "-p 8200:80", "tcp:80")?;
        let tried = lab
            .wait_until_open("tcp late:80")
            .and_then(|()| late_is_served_by_proxies(lab));
        lab.docker("rm --force late")?;
        tried?;
        lab.remove()?;
        routing_loopback(lab, || {
            loopback_is_open(lab)?;
            lab.apply(ONLY_80)?;
            loopback_is_closed(lab)
        })
    })
}

fn late_is_served_by_proxies(lab: &Lab) -> Result<()> {
    check(lab, LATE_PROXY, Reading::Guarded)?;
    let audit = audit(lab)?;
    audit.has_paths(8200, &[("proxy", "ipv4", any()), ("proxy", "ipv6", any())])?;
    audit.ends_with(11)?;
    explained(lab, STRANGER, "8200", "allow")?;
    explained(lab, STRANGER_V6, "8200", "allow").map(drop)
}

/// Runs a trial on a host that routes 127.0.0.0/8 as kube-proxy has it.
fn routing_loopback(lab: &Lab, trial: impl FnOnce() -> Result<()>) -> Result<()> {
    let route = |value| {
        lab.host()?
            .sysctl("net/ipv4/conf/all/route_localnet", value)
    };
    route("1")?;
    let tried = trial();
    route("0")?;
    tried
}

/// A port that is published on 127.0.0.1 is open to the link, and all say so.
fn loopback_is_open(lab: &Lab) -> Result<()> {
    check(lab, OVER_THE_WIRE, Reading::Guarded)?;
    let audit = audit(lab)?;
    let open = audit.paths(8081);
    ensure!(
        open.iter().any(|(.., open)| **open == any()),
        "{}",
        audit.text
    );
    audit.ends_with(11)?;
    explained(lab, WIRE, "127.0.0.1:8081", "allow").map(drop)
}

/// dfw drops 127.0.0.0/8 over the wire, whether a policy names the port or not.
fn loopback_is_closed(lab: &Lab) -> Result<()> {
    check(lab, NOT_OVER_THE_WIRE, Reading::Guarded)?;
    let audit = audit(lab)?;
    ensure!(
        audit
            .paths(8081)
            .iter()
            .all(|(.., open)| **open == nobody()),
        "{}",
        audit.text
    );
    explained(lab, WIRE, "127.0.0.1:8081", "deny").map(drop)
}

/// The same with the engine's rules, once somebody flushes them.
fn loopback_flushed(lab: &Lab) -> Result<()> {
    routing_loopback(lab, || {
        lab.script("iptables-save -t nat >/run/nat")?;
        lab.apply(ONLY_80)?;
        loopback_is_closed(lab).context("with NAT rules")?;
        lab.script("iptables -t nat -F")?;
        let tried = loopback_is_closed(lab)
            .context("flushed")
            .and_then(|()| lab.remove())
            .and_then(|()| loopback_is_open(lab).context("without dfw"));
        lab.script("iptables-restore -T nat </run/nat")?;
        tried
    })
}

/// A network whose bridge has a chosen name.
const PUBLIC: &str =
    "network create -o com.docker.network.bridge.name=public0 --subnet 172.30.0.0/24 public";

#[rustfmt::skip]
const PUBLISHED_LATE: &[Row] = &[
    row("a published port",              "tcp host:8090",       "trusted",                "neighbour stranger"),
];

#[rustfmt::skip]
const STRAIGHT_CLOSED: &[Row] = &[
    row("straight to the container",     "tcp p1:90",           "",                       "trusted neighbour stranger"),
];

fn named_bridge(lab: &Lab) -> Result<()> {
    lab.apply("default: deny\nports: {8090: [203.0.113.20]}\n")?;
    lab.docker(PUBLIC)?;
    let tried = lab
        .run("p1", "--network public -p 8090:90", "tcp:90")
        .and_then(|()| lab.wait_until_open("tcp p1:90"))
        .and_then(|()| named_bridge_is_reported(lab));
    lab.docker("rm --force p1")?;
    lab.docker("network rm public")?;
    tried
}

/// What is routed to a bridge that the rules do not know may pass; what all say of it is what happens.
fn named_bridge_is_reported(lab: &Lab) -> Result<()> {
    check(lab, PUBLISHED_LATE, Reading::Guarded)?;
    agree_about_p1(lab).context("before the next apply")?;
    lab.apply("default: deny\nports: {8090: [203.0.113.20]}\n")?;
    check(lab, PUBLISHED_LATE, Reading::Guarded)?;
    check(lab, STRAIGHT_CLOSED, Reading::Guarded)?;
    agree_about_p1(lab).context("after it")
}

fn agree_about_p1(lab: &Lab) -> Result<()> {
    use crate::support::probe::{Outcome, SILENCE};
    let target = lab.target("tcp p1:90")?;
    let found = lab.client("stranger")?.ask(target, 2 * SILENCE)?;
    let is_open = found == Outcome::Open;
    let audit = audit(lab)?;
    let straight = audit.rows("paths").into_iter().find(|path| {
        path["address"] == target.address.to_string()
            && (path["port"] == target.port || path["port"].is_null())
    });
    let open_to = straight.map_or(nobody(), |path| path["open_to"].clone());
    ensure!(
        (open_to == any()) == is_open,
        "the stranger finds {found}; open to {open_to}\n{}",
        audit.text
    );
    let verdict = if is_open { "allow" } else { "deny" };
    explained(lab, STRANGER, &format!("{}:90", target.address), verdict).map(drop)
}

fn named_bridge_guarded(lab: &Lab) -> Result<()> {
    let guard = Guard::start(lab, "default: deny\nports: {8090: [203.0.113.20]}\n")?;
    lab.docker(PUBLIC)?;
    let tried = bridge_is_known(lab, "public0")
        .and_then(|()| lab.run("p1", "--network public -p 8090:90", "tcp:90"))
        .and_then(|()| lab.wait_until_open("tcp p1:90"))
        .and_then(|()| check(lab, PUBLISHED_LATE, Reading::Guarded))
        .and_then(|()| check(lab, STRAIGHT_CLOSED, Reading::Guarded));
    lab.docker("rm --force p1")?;
    lab.docker("network rm public")?;
    drop(guard);
    tried
}

/// A network to whose containers packets are routed; Docker before 28 knows no mode and accepts them.
const ROUTED: &str = "network create -o com.docker.network.bridge.gateway_mode_ipv4=nat-unprotected \
     --subnet 172.30.0.0/24 routed";

/// The neighbour has a route to the networks of containers.
const NEIGHBOUR: &str = "default: deny\nports: {8090: [203.0.113.66]}\n";

#[rustfmt::skip]
const STRAIGHT_BEFORE: &[Row] = &[
    row("straight to the container",     "tcp p1:90",           "",                       "neighbour stranger"),
];

#[rustfmt::skip]
const STRAIGHT_AFTERWARDS: &[Row] = &[
    row("straight to the container",     "tcp p1:90",           "neighbour",              "stranger"),
];

/// A key of the policy holds for the container's own address from the next apply, and plan says so.
fn published_anew(lab: &Lab) -> Result<()> {
    lab.apply(NEIGHBOUR)?;
    lab.docker(ROUTED)?;
    let tried = lab
        .run("p1", "--network routed -p 8090:90", "tcp:90")
        .and_then(|()| lab.wait_until_open("tcp p1:90"))
        .and_then(|()| published_anew_is_planned(lab));
    lab.docker("rm --force p1")?;
    lab.docker("network rm routed")?;
    tried
}

fn published_anew_is_planned(lab: &Lab) -> Result<()> {
    check(lab, STRAIGHT_BEFORE, Reading::Guarded).context("before the apply")?;
    let dir = lab.write_policy(NEIGHBOUR)?;
    let plan = ask(lab, &["plan", &dir])?;
    let address = lab.target("tcp p1:90")?.address;
    let row = format!("+ {address}:90/tcp  203.0.113.66 gains access: straight to containers ");
    plan.says(&[
        &row,
        "  + br-",
        " its containers gain access to ports of containers and of this host ",
    ])?;
    ensure!(plan.text.matches("\n  + ").count() == 2, "{}", plan.text);
    lab.apply(NEIGHBOUR)?;
    check(lab, STRAIGHT_AFTERWARDS, Reading::Guarded).context("after the apply")?;
    ask(lab, &["plan", &dir])?.says_none_of(&["gains", "loses"])
}

#[rustfmt::skip]
const SERVICE: &[Row] = &[
    row("a service of the host",         "tcp host:2022",       "trusted neighbour stranger", ""),
    row("the same, IPv6",                "tcp host6:2022",      "trusted neighbour stranger", ""),
];

#[rustfmt::skip]
const SERVICE_CLOSED: &[Row] = &[
    row("a service of the host",         "tcp host:2022",       "",                       "trusted neighbour stranger"),
    row("the same, IPv6",                "tcp host6:2022",      "",                       "trusted neighbour stranger"),
];

/// A service of the host that no key names is not judged; a key closes it.
fn service(lab: &Lab) -> Result<()> {
    serve_as(lab, "sshd", "", "tcp:2022")?;
    let tried = service_is_not_judged(lab);
    end(lab, 2022)?;
    tried
}

fn service_is_not_judged(lab: &Lab) -> Result<()> {
    const TESTS: &str = "tests:\n  - {from: 198.51.100.66, to: 2022, expect: deny}\n";
    lab.apply(ONLY_80)?;
    check(lab, SERVICE, Reading::Guarded)?;
    let explained_so = explained(lab, STRANGER, "2022", "not-judged")?;
    explained_so.says(&["not judged", "sshd"])?;
    explained_so.says_none_of(&["does not reach"])?;
    let listed = audit(lab)?;
    let services = listed.rows("services");
    let own: Vec<_> = services
        .iter()
        .filter(|row| row["port"] == 2022 && row["protocol"] == "tcp")
        .collect();
    ensure!(
        !own.is_empty()
            && own
                .iter()
                .all(|row| row["verdict"] == "not-judged" && row.to_string().contains("sshd")),
        "{services:?}\n{}",
        listed.text
    );

    // A test of it says nothing of the service, and fails where the service is seen.
    let dir = lab.write_policy(&format!("{ONLY_80}{TESTS}"))?;
    let checked = lab.dfw(&["check", &dir])?;
    let report = printed(&checked);
    ensure!(
        checked.status.success()
            && report.contains("container paths only")
            && report.contains("2022: []"),
        "{report}"
    );
    let applied = lab.dfw(&["apply", &dir])?;
    let report = printed(&applied);
    ensure!(
        applied.status.code() == Some(11) && report.contains("2022") && report.contains("sshd"),
        "{}: {report}",
        applied.status
    );

    lab.apply(&format!("default: deny\nports: {{2022: []}}\n{TESTS}"))?;
    check(lab, SERVICE_CLOSED, Reading::Guarded)?;
    explained(lab, STRANGER, "2022", "deny")?;
    let listed = audit(lab)?;
    let services = listed.rows("services");
    let mut own = services.iter().filter(|row| row["port"] == 2022);
    ensure!(own.all(|row| row["verdict"] == "deny"), "{services:?}");
    Ok(())
}

#[rustfmt::skip]
const OWN_ADDRESS: &[Row] = &[
    row("a container's own address",     "tcp web6:80",         "",                       "trusted neighbour stranger"),
    row("the port of the host",          "tcp host6:80",        "trusted",                "neighbour stranger"),
];

/// A packet to a container's own address is not translated, whatever key is written for the address.
fn own_address(lab: &Lab) -> Result<()> {
    let options = "--ipv6 --fixed-cidr-v6 2001:db8:c:1::/64 --experimental --ip6tables";
    with_engine(lab, options, || {
        let own = lab.address("web6")?;
        let trusted = "2001:db8:1::20";
        lab.apply(&format!(
            "default: deny\nports:\n  80: [\"{trusted}\"]\n  \"[{own}]:80\": [\"{trusted}\"]\n"
        ))?;
        check(lab, OWN_ADDRESS, Reading::Guarded)?;
        let answer = explained(lab, trusted, &format!("[{own}]:80"), "deny")?;
        ensure!(
            answer
                .rows("paths")
                .iter()
                .all(|path| path["path"] == "container"),
            "{}",
            answer.text
        );
        explained(lab, trusted, "[2001:db8:1::10]:80", "allow")?;
        explained(lab, STRANGER_V6, "[2001:db8:1::10]:80", "deny").map(drop)
    })
}

/// Where a VPN's clients live, behind a container.
const BEHIND: &str = "10.8.0.6";

/// What is routed through a container to something behind it is refused, by no path to a published port.
fn through(lab: &Lab) -> Result<()> {
    let container = lab.client("web")?.namespace;
    let neighbour = lab.client("neighbour")?.namespace;
    let web = lab.address("web")?;
    let steps: [(&Namespace, String); 3] = [
        (&container, format!("address add {BEHIND}/32 dev lo")),
        (
            lab.host()?,
            format!("route add 10.8.0.0/24 via {web} dev docker0"),
        ),
        (
            &neighbour,
            "route add 10.8.0.0/24 via 203.0.113.10".to_owned(),
        ),
    ];
    // The engine's forward policy drops IPv4 of others; DOCKER-USER is for exceptions.
    let forward = |verb: &str| {
        lab.script(&format!(
            "iptables -{verb} DOCKER-USER -d 10.8.0.0/24 -j ACCEPT && \
             iptables -{verb} DOCKER-USER -s 10.8.0.0/24 -j ACCEPT"
        ))
    };
    forward("I")?;
    for (namespace, step) in &steps {
        namespace.ip(step)?;
    }
    let tried = through_is_denied(lab, &neighbour);
    for (namespace, step) in steps.iter().rev() {
        namespace.ip(&step.replace(" add ", " delete "))?;
    }
    forward("D")?;
    tried
}

fn through_is_denied(lab: &Lab, neighbour: &Namespace) -> Result<()> {
    use crate::support::probe::{Outcome, PATIENCE, SILENCE, Transport, ask};
    let to = format!("{BEHIND}:80");
    let found = |patience| neighbour.run(|| ask(Transport::Tcp, None, to.parse()?, patience));
    ensure!(found(PATIENCE)? == Outcome::Open, "closed without dfw");
    lab.apply(ONLY_80)?;
    ensure!(found(SILENCE)?.is_closed(), "open with dfw");
    let answer = explained(lab, "203.0.113.66", &to, "deny")?;
    let paths = answer.rows("paths");
    let is_right = |path: &&Value| {
        let kind = path["path"].as_str().unwrap_or_default();
        !["dnat", "proxy", "host-network", "loopback"].contains(&kind)
    };
    ensure!(
        !paths.is_empty() && paths.iter().all(is_right),
        "{}",
        answer.text
    );
    Ok(())
}

#[rustfmt::skip]
const ONE_ADDRESS: &[Row] = &[
    row("the address that is open",      "tcp host:8083",       "trusted stranger",       ""),
    row("the other one",                 "tcp second-card:8083", "",                      "trusted stranger office"),
];

/// Of two addresses one is open: explain says which.
fn two_addresses(lab: &Lab) -> Result<()> {
    lab.apply("default: deny\nports:\n  203.0.113.10:8083: any\n")?;
    check(lab, ONE_ADDRESS, Reading::Guarded)?;
    explained(lab, STRANGER, "203.0.113.10:8083", "allow")?;
    explained(lab, STRANGER, "10.9.0.10:8083", "deny")?;
    explained(lab, STRANGER, "8083", "allow")?.says(&["203.0.113.10"])?;
    // In the other order, too: no address of the host is its only one.
    lab.apply("default: deny\nports:\n  10.9.0.10:8083: any\n")?;
    explained(lab, STRANGER, "203.0.113.10:8083", "deny")?;
    explained(lab, STRANGER, "8083", "allow")?
        .says(&["10.9.0.10"])
        .map(drop)
}

/// Names every port of the fleet's container with host networking, so that nothing is exposed.
const COVERED: &str =
    "default: deny\nports: {80: [203.0.113.20], 7000: [], 7000/udp: [], 7001: []}\n";

#[rustfmt::skip]
const IN_DOCKER0: &[Row] = &[
    row("a port of the host",            "tcp host:80",         "",                       "office"),
    row("a container's own port",        "tcp web:80",          "office",                 ""),
    row("one that is not published",     "tcp web:81",          "office",                 ""),
];

/// A tunnel within docker0: what comes by it to containers passes no hook of IP.
fn card_in_docker0(lab: &Lab) -> Result<()> {
    with_card(lab, "docker0-is-not-made", || {
        let host = lab.host()?;
        let office = lab.client("office")?.namespace;
        host.ip(&format!("link set {CARD} master docker0"))?;
        office.ip(&format!("address add 172.17.200.200/16 dev {CARD}"))?;
        office.ip("route add 203.0.113.0/24 via 172.17.0.1")?;
        let tried = lab
            .apply(COVERED)
            .and_then(|()| check(lab, IN_DOCKER0, Reading::Guarded))
            .and_then(|()| card_is_not_judged(lab, "docker0"));
        office.ip("route delete 203.0.113.0/24")?;
        office.ip(&format!("address delete 172.17.200.200/16 dev {CARD}"))?;
        host.ip(&format!("link set {CARD} nomaster"))?;
        tried
    })
}

/// An answer that is not complete: nothing is exposed, and not everything is judged.
fn card_is_not_judged(lab: &Lab, bridge: &str) -> Result<()> {
    let audit = audit(lab)?;
    audit.says(&[
        "not judged",
        &format!("packets from {CARD} within bridge {bridge}"),
    ])?;
    audit.says_none_of(&["covered"])?;
    audit.ends_with(1)
}

#[rustfmt::skip]
const ON_A_CARD: &[Row] = &[
    row("a container's own port",        "tcp inside:80",       "office",                 "trusted neighbour stranger"),
];

/// A network of the engine on a bridge of the host that has a card in it.
fn network_on_a_card(lab: &Lab) -> Result<()> {
    with_card(lab, "br0", || {
        crate::network_cards::make(lab, "br0")?;
        lab.docker(
            "network create -o com.docker.network.bridge.name=br0 --subnet 10.9.0.0/24 \
             --gateway 10.9.0.10 --ip-range 10.9.0.128/28 on-card",
        )?;
        let tried = lab
            .run("inside", "--network on-card", "tcp:80")
            .and_then(|()| lab.wait_until_open("tcp inside:80"))
            .and_then(|()| lab.apply(COVERED))
            .and_then(|()| check(lab, ON_A_CARD, Reading::Guarded))
            .and_then(|()| card_is_not_judged(lab, "br0"));
        lab.docker("rm --force inside")?;
        lab.docker("network rm on-card")?;
        tried
    })
}

#[rustfmt::skip]
const SERVED_ALONE: &[Row] = &[
    row("a port that was published",     "tcp host:80",         "trusted neighbour stranger", ""),
];

/// Containers outlive their engine: an audit that cannot ask it is not complete, and says what it sees.
fn stopped(lab: &Lab) -> Result<()> {
    with_engine(lab, "--live-restore", || {
        lab.stop_engine()?;
        let tried = stopped_is_incomplete(lab);
        lab.start_engine_with("--live-restore")?;
        lab.wait_for_containers()?;
        tried
    })
}

fn stopped_is_incomplete(lab: &Lab) -> Result<()> {
    let is_incomplete = || -> Result<()> {
        check(lab, SERVED_ALONE, Reading::Guarded)?;
        let audit = audit(lab)?;
        audit.says_none_of(&["nothing to audit", "covered"])?;
        ensure!(
            audit.json["complete"] == false && matches!(audit.code, Some(1 | 11)),
            "{:?}\n{}",
            audit.code,
            audit.text
        );
        Ok(())
    };
    is_incomplete().context("without dfw")?;
    lab.apply("default: deny\nports: {80: any}\n")?;
    is_incomplete().context("with dfw")?;
    // Nobody tells whose it is, and yet it is on a bridge of containers, not behind one.
    let own = format!("{}:81", lab.address("web")?);
    let answer = explained(lab, STRANGER, &own, "deny")?;
    let paths = answer.rows("paths");
    ensure!(
        paths.iter().all(|path| path["path"] == "container"),
        "{}",
        answer.text
    );
    Ok(())
}
