//! Who holds a port: services of the host, users without rights, rootless engines and a second engine
//! beside the one that publishes.

use anyhow::{Context, Result, ensure};

use crate::Named;
use crate::guard::Guard;
use crate::support::audit::{audit, exposures};
use crate::support::command::wait_for;
use crate::support::helper::HELPER;
use crate::support::lab::Lab;
use crate::support::probe::{PATIENCE, SILENCE};
use crate::support::table::{Reading, Row, check, row};

pub(crate) const TRIALS: &[Named] = &[
    ("socket_holders::each_has_its_own_family", own_family),
    ("socket_holders::a_name_is_no_docker_proxy", name_is_nothing),
    (
        "socket_holders::a_container_is_no_docker_proxy",
        container_is_nothing,
    ),
    ("socket_holders::labels_forge_nothing", labels),
    ("socket_holders::a_range_takes_one_port", range_takes_one),
    ("socket_holders::rootless_engines_are_closed", rootless),
    (
        "socket_holders::guard_closes_rootless_engines",
        rootless_while_guarded,
    ),
    ("socket_holders::replies_to_the_host_pass", own_requests),
    (
        "socket_holders::who_is_revoked_is_no_reply",
        revoked_in_the_range,
    ),
    ("socket_holders::a_second_engine_is_asked", second_engine),
    (
        "socket_holders::a_container_that_joins_the_host_network_is_in_it",
        joined,
    ),
    (
        "socket_holders::a_control_group_of_others_is_no_container",
        delegated,
    ),
];

/// A policy that names none of the ports of these trials.
const NOTHING: &str = "default: deny\nports: {443: any}\n";

/// Runs a server on the lab's host by a user without rights, called as the caller likes. `before` is
/// what starts it.
pub(crate) fn serve_as(lab: &Lab, name: &str, before: &str, serves: &str) -> Result<()> {
    let me = std::env::current_exe()?;
    let (me, port) = (me.display(), serves.rsplit(':').next().context("no port")?);
    lab.script(&format!(
        "mkdir -p /run/names && ln -sf {me} /run/names/{name} && \
         {{ setpriv --reuid=65534 --regid=65534 --clear-groups {before} \
         /run/names/{name} {HELPER} serve {serves} </dev/null >/dev/null 2>&1 & echo $! >/run/names/{port}; }}"
    ))?;
    lab.wait_until_open(&format!("tcp localhost:{port}"))
}

/// Ends what served at a port.
pub(crate) fn end(lab: &Lab, port: u16) -> Result<()> {
    lab.script(&format!("kill $(cat /run/names/{port})"))
}

#[rustfmt::skip]
const OWN_FAMILY: &[Row] = &[
    //  what                             to                     may                       must not
    row("the container's family",        "tcp host6:8096",      "",                       "trusted neighbour stranger"),
    row("the service's family",          "tcp host:8096",       "trusted neighbour stranger", ""),
];

/// A container has a port in IPv6, and a user without rights has it in IPv4: what is the engine's is
/// closed, and what is not is left alone.
fn own_family(lab: &Lab) -> Result<()> {
    lab.run("own-family", "-p [::]:8096:80", "tcp:80")?;
    let checked = serve_as(lab, "service", "", "tcp4:8096")
        .and_then(|()| {
            let dir = lab.write_policy(NOTHING)?;
            let applied = lab.dfw(&["apply", &dir])?;
            let report = String::from_utf8_lossy(&applied.stdout).into_owned();
            let denied = report
                .split("denied by default:")
                .nth(1)
                .unwrap_or_default();
            ensure!(
                denied.contains("8096/tcp (IPv6)") && !denied.contains("8096/tcp  "),
                "{report}"
            );
            Ok(())
        })
        .and_then(|()| check(lab, OWN_FAMILY, Reading::Guarded));
    end(lab, 8096)?;
    lab.docker("rm --force own-family")?;
    checked
}

#[rustfmt::skip]
const NAMES: &[Row] = &[
    row("a service by any name",         "tcp host:8097",       "trusted neighbour stranger", ""),
    row("the same, IPv6",                "tcp host6:8097",      "trusted neighbour stranger", ""),
];

/// What a user without rights calls docker-proxy, or a rootless engine's, closes nothing.
fn name_is_nothing(lab: &Lab) -> Result<()> {
    for name in ["docker-proxy", "dockerd", "pasta", "rootlesskit"] {
        serve_as(lab, name, "", "tcp:8097")?;
        let checked = lab
            .apply(NOTHING)
            .and_then(|()| check(lab, NAMES, Reading::Guarded));
        end(lab, 8097)?;
        checked.with_context(|| name.to_owned())?;
    }
    Ok(())
}

/// A container in the host's network runs as root and may call its program as it likes.
fn container_is_nothing(lab: &Lab) -> Result<()> {
    let me = std::env::current_exe()?;
    let me = me.display();
    lab.docker(&format!(
        "run --detach --name false-proxy --net host --volume {me}:/docker-proxy dfw-lab \
         /docker-proxy {HELPER} serve tcp:8097"
    ))?;
    let checked = lab
        .wait_until_open("tcp localhost:8097")
        .and_then(|()| lab.apply(NOTHING))
        .and_then(|()| check(lab, NAMES, Reading::Guarded))
        .and_then(|()| {
            let audit = audit(lab, &[], None)?;
            let paths: Vec<_> = exposures(&audit)?
                .filter(|exposure| exposure["port"] == 8097)
                .map(|exposure| exposure["path"].clone())
                .collect();
            ensure!(paths == ["host-network", "host-network"], "{paths:?}");
            Ok(())
        });
    lab.docker("rm --force false-proxy")?;
    checked
}

/// Labels of a container cannot forge a line of dfw's output.
fn labels(lab: &Lab) -> Result<()> {
    lab.script(
        "docker run --detach --name labelled --publish 8301:80 \
             --label com.docker.compose.project=\"$(printf 'shop\\ncovered: forged')\" \
             --label com.docker.compose.service=\"$(printf 'web\\033[8m\\342\\200\\256')\" \
             dfw-lab /lab test-helper serve tcp:80 >/dev/null",
    )?;
    let checked = labels_are_clean(lab);
    lab.docker("rm --force labelled")?;
    checked
}

fn labels_are_clean(lab: &Lab) -> Result<()> {
    let dir = lab.write_policy(NOTHING)?;
    for words in [&["audit"][..], &["plan", &dir], &["apply", &dir]] {
        let report = lab.dfw(words)?;
        let text = String::from_utf8_lossy(&report.stdout).into_owned();
        ensure!(text.contains("labelled"), "{words:?}: {text}");
        ensure!(
            !text.contains("\ncovered: forged") && !text.contains(['\u{1b}', '\u{202e}']),
            "{words:?}: {text:?}"
        );
    }
    Ok(())
}

#[rustfmt::skip]
const RANGE: &[Row] = &[
    row("the port that it took",         "tcp host6:8200",      "",                       "trusted neighbour stranger"),
    row("a service at another",          "tcp host:8206",       "trusted neighbour stranger", ""),
    row("the same, IPv6",                "tcp host6:8206",      "trusted neighbour stranger", ""),
];

/// Of a range that a running container publishes the engine takes one port.
fn range_takes_one(lab: &Lab) -> Result<()> {
    lab.run("range", "-p 8200-8210:80", "tcp:80")?;
    let checked = lab.apply(NOTHING).and_then(|()| {
        let audit = audit(lab, &[], None)?;
        let ports: Vec<u64> = exposures(&audit)?
            .filter(|exposure| {
                exposure["published_for"] == "range" && exposure["path"] != "container"
            })
            .filter_map(|exposure| exposure["port"].as_u64())
            .collect();
        ensure!(ports == [8200, 8200], "{ports:?}");
        serve_as(lab, "service", "", "tcp:8206")?;
        check(lab, RANGE, Reading::Guarded)
    });
    end(lab, 8206)?;
    lab.docker("rm --force range")?;
    checked
}

#[rustfmt::skip]
const ROOTLESS: &[Row] = &[
    row("a rootless engine's port",      "tcp host:8098",       "",                       "trusted neighbour stranger"),
    row("the same, IPv6",                "tcp host6:8098",      "",                       "trusted neighbour stranger"),
];

/// In a user namespace of its own, as pasta, slirp4netns and Podman's rootlessport live.
const INSIDE: &str = "unshare --user";
/// A child lives in one, as that of `RootlessKit` does.
const CHILD: &str = "sh -c 'unshare --user sleep 600 & exec \"$@\"' sh";

fn rootless(lab: &Lab) -> Result<()> {
    for (name, before) in [
        ("pasta", INSIDE),
        ("rootlessport", INSIDE),
        ("rootlesskit", CHILD),
    ] {
        serve_as(lab, name, before, "tcp:8098")?;
        let checked = rootless_is_closed(lab);
        end(lab, 8098)?;
        checked.with_context(|| name.to_owned())?;
        lab.remove()?;
    }
    Ok(())
}

fn rootless_is_closed(lab: &Lab) -> Result<()> {
    let open_to = || -> Result<Vec<serde_json::Value>> {
        let audit = audit(lab, &[], None)?;
        let own = exposures(&audit)?.filter(|exposure| exposure["port"] == 8098);
        Ok(own.map(|exposure| exposure["open_to"].clone()).collect())
    };
    ensure!(open_to()? == ["any", "any"], "before: {:?}", open_to()?);
    lab.apply(NOTHING)?;
    let none = serde_json::json!([]);
    ensure!(
        open_to()? == [none.clone(), none],
        "after: {:?}",
        open_to()?
    );
    check(lab, ROOTLESS, Reading::Guarded)?;
    // By its name in the policy it is opened to its sources.
    lab.apply("default: deny\nports: {8098: [203.0.113.20, \"2001:db8:1::20\"]}\n")?;
    check(lab, ROOTLESS_NAMED, Reading::Guarded)
}

#[rustfmt::skip]
const ROOTLESS_NAMED: &[Row] = &[
    row("a rootless engine's port",      "tcp host:8098",       "trusted",                "neighbour stranger"),
    row("the same, IPv6",                "tcp host6:8098",      "trusted",                "neighbour stranger"),
];

/// Nothing tells of a rootless engine's socket; guard sees it all the same.
fn rootless_while_guarded(lab: &Lab) -> Result<()> {
    let guard = Guard::start(lab, NOTHING)?;
    serve_as(lab, "slirp4netns", INSIDE, "tcp:8098")?;
    let stranger = lab.client("stranger")?;
    let target = lab.target("tcp host:8098")?;
    let checked = wait_for("guard to close it", PATIENCE, || {
        let outcome = stranger.ask(target, SILENCE).ok()?;
        outcome.is_closed().then_some(())
    })
    .and_then(|()| check(lab, ROOTLESS, Reading::Guarded));
    end(lab, 8098)?;
    checked.with_context(|| format!("{:#?}", guard.said))
}

/// The ports that Linux chooses from for a host's own requests.
const LOCAL: &str = "32768-60999";

/// All of them are named, or a container that does not run publishes them: the host's own requests are
/// answered all the same, and nobody else gets in.
fn own_requests(lab: &Lab) -> Result<()> {
    let named =
        format!("default: deny\nports: {{{LOCAL}: [203.0.113.99], {LOCAL}/udp: [203.0.113.99]}}\n");
    let check_requests = || -> Result<()> {
        let host = lab.client("host")?;
        for to in [
            "udp internet:53",
            "tcp internet:80",
            "udp internet6:53",
            "tcp internet6:80",
        ] {
            for number in 0..5 {
                let outcome = host.ask(lab.target(to)?, PATIENCE)?;
                ensure!(!outcome.is_closed(), "{to}, request {number}: {outcome}");
            }
        }
        Ok(())
    };
    // An odd one: the kernel opens connections from even ones while there are any, and one that has ended a minute
    // ago still holds its port.
    lab.serve_on_host("tcp:40083")?;
    // Twice: the first rules turn connection tracking of IPv6 on.
    for _ in 0..2 {
        lab.apply(&named)?;
        check_requests().context("named")?;
        check(lab, SERVED, Reading::Guarded)?;
    }
    lab.create("turn", "-p 50000-50999:50000-50999/udp", "udp:50000")?;
    let checked = lab
        .apply(NOTHING)
        .and_then(|()| check_requests().context("published"));
    lab.docker("rm --force turn")?;
    checked
}

#[rustfmt::skip]
const SERVED: &[Row] = &[
    row("a service among local ports",   "tcp host:40083",      "",                       "trusted neighbour stranger"),
    row("the same, IPv6",                "tcp host6:40083",     "",                       "trusted neighbour stranger"),
];

/// A connection of somebody who loses access is cut there as elsewhere: it is none that the host opened,
/// although the server may send first after conntrack forgot the connection.
fn revoked_in_the_range(lab: &Lab) -> Result<()> {
    lab.serve_on_host("tcp:40081")?;
    lab.apply(&format!("default: deny\nports: {{{LOCAL}: any}}\n"))?;
    let mut open = Vec::new();
    for to in ["tcp host:40081", "tcp host6:40081"] {
        open.push((to, lab.client("stranger")?.converse(lab.target(to)?)?));
    }
    for (to, conversation) in &mut open {
        ensure!(conversation.echoes(PATIENCE)?, "{to}: not let in");
    }
    lab.apply(&format!(
        "default: deny\nports: {{{LOCAL}: [203.0.113.20]}}\n"
    ))?;
    for (to, conversation) in &mut open {
        ensure!(!conversation.echoes(2 * SILENCE)?, "{to}: not cut");
    }
    Ok(())
}

/// A second daemon beside the lab's.
const SECOND: &str = "
    mkdir -p /run/second /var/lib/docker/second
    ip link add second0 type bridge && ip addr add 10.20.30.1/24 dev second0 && ip link set second0 up
    dockerd --bridge=second0 --data-root=/var/lib/docker/second --exec-root=/run/second/exec \
        --host=unix:///run/second.sock --pidfile=/run/second.pid </dev/null >/run/second.log 2>&1 &
    for attempt in $(seq 600); do
        docker --host unix:///run/second.sock info >/dev/null 2>&1 && exit 0
        sleep 0.1
    done
    cat /run/second.log >&2; exit 1
";
const SECOND_ENDS: &str = "
    docker --host unix:///run/second.sock rm --force other >/dev/null 2>&1
    pid=$(cat /run/second.pid) && kill \"$pid\" && while kill -0 \"$pid\" 2>/dev/null; do sleep 0.1; done
    ip link del second0; exit 0
";

#[rustfmt::skip]
const SECONDS: &[Row] = &[
    row("its published port, IPv6",      "tcp host6:9301",      "",                       "trusted neighbour stranger"),
    row("its published port",            "tcp host:9301",       "",                       "trusted neighbour stranger"),
];

fn second_engine(lab: &Lab) -> Result<()> {
    lab.script(SECOND)?;
    let checked = second_engine_is_seen(lab);
    lab.script(SECOND_ENDS)?;
    checked
}

fn second_engine_is_seen(lab: &Lab) -> Result<()> {
    lab.script(
        "docker save dfw-lab | docker --host unix:///run/second.sock load >/dev/null
         docker --host unix:///run/second.sock run --detach --name other --publish 9301:80 \
             dfw-lab /lab test-helper serve tcp:80 >/dev/null",
    )?;
    lab.wait_until_open("tcp localhost:9301")?;
    // Not asked: its sockets are seen and closed, and the audit does not call itself complete.
    let audit_of = |arguments: &[&str], code| audit(lab, arguments, Some(code));
    lab.apply("default: deny\nports: {7000: [], 7000/udp: [], 7001: []}\n")?;
    check(lab, SECONDS, Reading::Guarded)?;
    let unasked = audit_of(&[], 1)?;
    ensure!(unasked["complete"] == false, "{unasked}");
    // Asked, by name beside the other one.
    let both = [
        "--docker-host",
        "/run/docker.sock",
        "--docker-host",
        "/run/second.sock",
    ];
    // What is routed straight to its container is known then, and open until the next apply knows it, too.
    let open = audit_of(&both, 11)?;
    ensure!(
        exposures(&open)?.any(|e| e["published_for"] == "other" && e["open_to"] == "any"),
        "{open:#}"
    );
    let dir = lab.write_policy("default: deny\nports: {7000: [], 7000/udp: [], 7001: []}\n")?;
    let applied = lab.dfw(&[&["apply"], &both[..], &[&dir]].concat())?;
    ensure!(applied.status.success(), "{applied:?}");
    let asked = audit_of(&both, 0)?;
    ensure!(
        asked["engines"].as_array().map(Vec::len) == Some(2),
        "{asked}"
    );
    let titles: Vec<_> = exposures(&asked)?
        .filter(|exposure| exposure["port"] == 9301)
        .map(|exposure| exposure["published_for"].clone())
        .collect();
    ensure!(titles == ["other", "other"], "{titles:?}");
    Ok(())
}

/// The paths of an audit at a port, each with what is behind it.
fn paths_at(lab: &Lab, port: u16) -> Result<Vec<(String, String)>> {
    let audit = audit(lab, &[], None)?;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let own = exposures(&audit)?.filter(|exposure| exposure["port"] == port);
    Ok(own
        .map(|exposure| (text(&exposure["path"]), text(&exposure["published_for"])))
        .collect())
}

/// A container that joins one in the network of the host listens on the host, and so does one that joins
/// that (`network_mode: service:…`).
fn joined(lab: &Lab) -> Result<()> {
    let both = |name: &str| {
        let path = ("host-network".to_owned(), name.to_owned());
        vec![path.clone(), path]
    };
    lab.run("joins", "--network container:open-host", "tcp:8094")?;
    let checked = lab
        .run("joins-too", "--network container:joins", "tcp:8095")
        .and_then(|()| lab.wait_until_open("tcp localhost:8094"))
        .and_then(|()| lab.wait_until_open("tcp localhost:8095"))
        .and_then(|()| {
            let paths = (paths_at(lab, 8094)?, paths_at(lab, 8095)?);
            ensure!(paths == (both("joins"), both("joins-too")), "{paths:?}");
            Ok(())
        });
    lab.docker("rm --force joins joins-too")?;
    checked
}

/// A user with a delegated control group creates one below it that is named like a container's: the user's
/// service still counts as one of the host.
fn delegated(lab: &Lab) -> Result<()> {
    let id = lab.docker("inspect --format {{.Id}} open-host")?;
    let group = format!(
        "own=/sys/fs/cgroup/systemd; [ -d $own ] || own=/sys/fs/cgroup; \
         own=$own/dfw-delegated-{}; group=$own/docker-{}.scope",
        std::process::id(),
        id.trim()
    );
    serve_as(lab, "service", "unshare --user --mount", "tcp:8099")?;
    let checked = lab
        .script(&format!(
            "{group}; mkdir -p $group && chown -R 65534:65534 $own && \
             cat /run/names/8099 >$group/cgroup.procs && \
             grep -q docker-{} /proc/$(cat /run/names/8099)/cgroup",
            id.trim()
        ))
        .and_then(|()| {
            let paths = paths_at(lab, 8099)?;
            ensure!(paths.is_empty(), "{paths:?}");
            Ok(())
        });
    // A group can be taken away once the last process in it is.
    lab.script(&format!(
        "{group}; kill $(cat /run/names/8099); \
         until rmdir $group $own 2>/dev/null; do [ -d $own ] || exit 0; sleep 0.1; done"
    ))?;
    checked
}
