//! Connections that bear a mark are not judged again, until something changes.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::Named;
use crate::concurrent_writers::beside_nft;
use crate::namespace::Sandbox;
use crate::support::command::output;
use crate::support::probe::{Conversation, PATIENCE, SILENCE, Transport};
use crate::traffic::World;

pub(crate) const TRIALS: &[Named] = &[
    (
        "marked_connections_are_judged_once",
        marked_connections_are_judged_once,
    ),
    (
        "marked_connections_are_revoked_with_the_apply",
        marked_connections_are_revoked_with_the_apply,
    ),
    (
        "marks_of_others_are_corrected",
        marks_of_others_are_corrected,
    ),
    ("others_who_mark_are_named", others_who_mark_are_named),
    (
        "marks_come_while_others_write",
        marks_come_while_others_write,
    ),
];

const CLIENT: &str = "203.0.113.0/24, '2001:db8:1::/64'";
const OTHER: &str = "198.51.100.0/24, '2001:db8:2::/64'";

fn policy(sources: &str, setting: &str) -> String {
    format!(
        "default: deny\nsettings: {{{setting}}}\nports: {{80: [{sources}], 53/udp: [{sources}]}}\n"
    )
}

fn apply(host: &Sandbox, policy: &str) -> Result<String> {
    let file = host.write("marks.yaml", policy)?;
    host.dfw_ok(&["apply", &file.to_string_lossy()])
}

/// A flow on each forwarded path, in both families.
fn converse(from: &Sandbox, addresses: [&str; 2]) -> Result<Vec<Conversation>> {
    let mut flows = Vec::new();
    for address in addresses {
        for (transport, port) in [(Transport::Tcp, 80), (Transport::Udp, 53)] {
            let to = format!("{address}:{port}").parse()?;
            flows.push(
                from.namespace()
                    .run(|| Conversation::open(transport, None, to))?,
            );
        }
    }
    Ok(flows)
}

const TO_CLIENT: [&str; 2] = ["203.0.113.1", "[2001:db8:1::1]"];
const TO_OTHER: [&str; 2] = ["198.51.100.1", "[2001:db8:2::1]"];

fn echo(flows: &mut [Conversation]) -> Result<()> {
    for (number, flow) in flows.iter_mut().enumerate() {
        ensure!(flow.echoes(PATIENCE)?, "flow {number} is cut");
    }
    Ok(())
}

/// Returns the packets that the two ports accepted.
fn judged(host: &Sandbox) -> Result<u64> {
    let installed = host.snapshot()?.installed.context("no table")?;
    let packets = dfw::analysis::traffic::packets(&installed);
    Ok(packets.iter().map(|(_, port)| port.allowed.packets).sum())
}

/// The mark that connections are given, which is the one that lets them through.
fn mark(host: &Sandbox) -> Result<u32> {
    let installed = host.snapshot()?.installed.context("no table")?;
    let marks: Vec<u32> = installed.facts.marks.into_iter().collect();
    match marks[..] {
        [mark] if mark != 0 => Ok(mark),
        _ => anyhow::bail!("marks {marks:x?}"),
    }
}

fn marked_connections_are_judged_once() -> Result<()> {
    let world = World::new()?;
    let host = &world.host;
    apply(host, &policy(CLIENT, "connection-mark: true"))?;
    let mut flows = converse(&world.client, TO_CLIENT)?;
    for _ in 0..5 {
        echo(&mut flows)?;
    }
    // The first packet of each, in whatever direction.
    let once = judged(host)?;
    ensure!(once == 4, "{once} packets of four connections were judged");
    let first = mark(host)?;
    let listed = host.nft("list table inet dfw-nft")?;
    for rule in ["ct mark", "ct mark set"] {
        let rule = format!("{rule} {first:#010x}");
        ensure!(listed.contains(&rule), "no {rule} in\n{listed}");
    }
    // Again without a change, which leaves the mark alone.
    let report = apply(host, &policy(CLIENT, "connection-mark: true"))?;
    echo(&mut flows)?;
    ensure!(mark(host)? == first, "another mark without a change");
    ensure!(
        judged(host)? == once,
        "judged again without a change: {report}"
    );
    // A change that concerns none of them has all of them judged once more.
    let more = format!("{CLIENT}, 192.0.2.7");
    apply(host, &policy(&more, "connection-mark: true"))?;
    ensure!(mark(host)? != first, "the same mark after a change");
    echo(&mut flows)?;
    // All of them, and what came before the new mark was there.
    let twice = judged(host)?;
    ensure!(
        twice >= once + 4,
        "{twice} packets were judged, of four connections, twice"
    );
    for _ in 0..5 {
        echo(&mut flows)?;
    }
    ensure!(judged(host)? == twice, "judged again without a change");
    // Without the setting every packet is judged.
    apply(host, &policy(&more, "connection-mark: false"))?;
    let before = judged(host)?;
    echo(&mut flows)?;
    echo(&mut flows)?;
    // A word and its answer, and acknowledgements of TCP.
    let every = judged(host)? - before;
    ensure!(
        every >= 16,
        "{every} of sixteen packets and more were judged"
    );
    Ok(())
}

fn marked_connections_are_revoked_with_the_apply() -> Result<()> {
    let world = World::new()?;
    let host = &world.host;
    let both = policy(&format!("{CLIENT}, {OTHER}"), "connection-mark: true");
    apply(host, &both)?;
    let mut loses = converse(&world.client, TO_CLIENT)?;
    let mut keeps = converse(&world.stranger, TO_OTHER)?;
    for _ in 0..3 {
        echo(&mut loses)?;
        echo(&mut keeps)?;
    }
    apply(host, &policy(OTHER, "connection-mark: true"))?;
    std::thread::scope(|scope| {
        let silent = loses.iter_mut().enumerate().map(|(number, flow)| {
            scope.spawn(move || -> Result<()> {
                ensure!(
                    !flow.echoes(SILENCE)?,
                    "flow {number} of a revoked source goes on"
                );
                Ok(())
            })
        });
        let silent: Vec<_> = silent.collect();
        echo(&mut keeps)?;
        silent
            .into_iter()
            .try_for_each(|flow| flow.join().map_err(|_| anyhow::anyhow!("a panic"))?)
    })?;
    // A flow that was denied meanwhile and is still in conntrack is accepted again.
    apply(host, &both)?;
    let mut again = loses.into_iter().skip(1).step_by(2).collect::<Vec<_>>();
    echo(&mut again)?;
    echo(&mut keeps)
}

/// Commits of another program between the two transactions of a change do not prevent the second.
fn marks_come_while_others_write() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let writes = beside_nft(&sandbox, || {
        for sources in [CLIENT, OTHER].into_iter().cycle().take(20) {
            let policy = policy(sources, "connection-mark: true");
            apply(&sandbox, &policy)?;
            mark(&sandbox)?;
            let file = sandbox.write("marks.yaml", policy)?;
            sandbox.dfw_ok(&["plan", "--exit-code", &file.to_string_lossy()])?;
        }
        Ok(())
    })?;
    ensure!(writes > 0, "nobody wrote");
    Ok(())
}

/// What others do to the rules about marks is a difference, and the next apply mends it.
/// By nft and by iptables, and not those who only read marks, or who mark packets.
fn others_who_mark_are_named() -> Result<()> {
    let host = &Sandbox::new()?;
    let named = |setting: &str| -> Result<Vec<String>> {
        apply(host, &policy(CLIENT, setting))?;
        let status: Value = serde_json::from_str(&host.dfw_ok(&["status", "--json"])?)?;
        let problems = status["problems"].as_array().context("no problems")?;
        let marks = problems.iter().filter(|problem| problem["kind"] == "mark");
        marks
            .map(|problem| Ok(problem["text"].as_str().context("no text")?.to_owned()))
            .collect()
    };
    host.nft(
        "table ip reads { chain c { type filter hook forward priority 0; ct mark 1 meta mark set ct mark; }; }",
    )?;
    ensure!(named("connection-mark: true")?.is_empty());
    host.nft("table inet sets { chain c { ct mark set 0x1; }; }")?;
    let words = "-w -t mangle -A PREROUTING -j CONNMARK --save-mark";
    for program in ["iptables", "ip6tables"] {
        output(host.namespace().command(program).args(words.split(' ')))?;
    }
    let found = named("connection-mark: true")?;
    let tables = ["`inet sets`", "`ip mangle`", "`ip6 mangle`"];
    ensure!(
        found.len() == tables.len()
            && tables
                .iter()
                .all(|table| found.iter().any(|text| text.contains(table))),
        "{found:?}"
    );
    ensure!(named("")?.is_empty());
    Ok(())
}

fn marks_of_others_are_corrected() -> Result<()> {
    let host = &Sandbox::new()?;
    let policy = policy(CLIENT, "connection-mark: true");
    apply(host, &policy)?;
    let file = host.write("marks.yaml", &policy)?;
    let file = file.to_string_lossy();
    let plan = |code: i32| -> Result<String> {
        let report = host.dfw(&["plan", "--exit-code", &file])?;
        ensure!(
            report.code == Some(code),
            "{:?}\n{}{}",
            report.code,
            report.stdout,
            report.stderr
        );
        Ok(report.stdout)
    };
    plan(0)?;
    for change in [
        "delete rule inet dfw-nft forward handle FIRST",
        "delete rule inet dfw-nft remember handle FIRST",
        // Another mark than the one that is given, and one that every connection bears.
        "insert rule inet dfw-nft forward ct mark 0x7 accept",
        "replace rule inet dfw-nft forward handle FIRST ct mark 0x7 accept",
        "replace rule inet dfw-nft forward handle FIRST ct mark 0x0 accept",
        "replace rule inet dfw-nft remember handle FIRST ct mark set 0x0",
    ] {
        let table = host.snapshot()?.installed.context("no table")?;
        let chain = change.split(' ').nth(4).context("no chain")?;
        let handles = table.facts.handles.get(chain);
        let first = handles.and_then(|all| all.first()).context("no rule")?;
        host.nft(&change.replace("FIRST", &first.to_string()))?;
        let report = plan(10).context(change)?;
        // Not what dfw would have in its place.
        if let Some((_, rule)) = change.split_once(" ct ") {
            let (what, mark) = rule.split_once("0x").context("no mark")?;
            let number = mark.split(' ').next().unwrap_or_default();
            let rule = format!("rule `ct {what}0x{number:0>8}");
            ensure!(report.contains(&rule), "no {rule} in\n{report}");
        }
        apply(host, &policy)?;
        plan(0).with_context(|| format!("after {change}"))?;
        mark(host).with_context(|| format!("after {change}"))?;
    }
    Ok(())
}
