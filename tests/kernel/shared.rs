//! Many ports that share sets: access, counters, and how the counters continue when lists, policy lines and the
//! number of ports change.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{Context, Result, ensure};
use dfw::plan::Installed;
use serde_json::Value;

use crate::Named;
use crate::namespace::Sandbox;
use crate::property::same;
use crate::pty::Screen;
use crate::support::probe::{Outcome, PATIENCE, SILENCE, Transport, ask};
use crate::traffic::World;

pub(crate) const TRIALS: &[Named] = &[
    ("shared_sets_judge_and_count", shared_sets_judge_and_count),
    (
        "shared_sets_change_alone_and_keep_counters",
        shared_sets_change_alone_and_keep_counters,
    ),
    (
        "a_no_takes_nothing_from_what_shared_ports_counted",
        a_no_takes_nothing_from_what_shared_ports_counted,
    ),
    (
        "changes_of_shared_sets_by_others_are_reported",
        changes_of_shared_sets_by_others_are_reported,
    ),
    (
        "unread_parts_of_big_shared_sets_are_not_reported",
        unread_parts_of_big_shared_sets_are_not_reported,
    ),
];

/// A policy with so many more ports, `head` in front of all lines, and what else is said.
fn policy(more: u16, head: &str, web: &str, other: &str) -> String {
    let mut text = format!("{head}default: deny\nports:\n  80: [{web}]\n");
    text.push_str("  53/udp: [203.0.113.0/24, '2001:db8:1::/64']\n");
    for port in (8000..).take(usize::from(more)) {
        let _ = writeln!(text, "  {port}: [10.0.0.1, {other}]");
    }
    text
}

const CLIENT: &str = "203.0.113.8-203.0.113.9, '2001:db8:1::9'";

fn apply(world: &World, text: &str) -> Result<String> {
    let file = world.host.write("many.yaml", text)?;
    world.host.dfw_ok(&["apply", &file.to_string_lossy()])
}

/// Packets that were allowed and refused, by port.
fn counters(world: &World) -> Result<BTreeMap<String, (u64, u64)>> {
    let status: Value = serde_json::from_str(&world.host.dfw_ok(&["status", "--json"])?)?;
    let ports = status["installed"]["ports"]
        .as_array()
        .context("no ports")?;
    let number = |port: &Value, verdict: &str| port[verdict]["packets"].as_u64();
    let read = ports.iter().map(|port| {
        let name = port["port"].as_str()?.to_owned();
        Some((name, (number(port, "allowed")?, number(port, "denied")?)))
    });
    read.collect::<Option<_>>().context("no counters")
}

/// Asks once, and says whether there was an answer.
fn answers(world: &World, stranger: bool, to: &str) -> Result<bool> {
    let from = if stranger {
        &world.stranger
    } else {
        &world.client
    };
    let udp = to.ends_with(":53");
    let transport = if udp { Transport::Udp } else { Transport::Tcp };
    let patience = if stranger { SILENCE } else { PATIENCE };
    let to = to.parse()?;
    let outcome = from
        .namespace()
        .run(|| ask(transport, None, to, patience))?;
    Ok(outcome == Outcome::Open)
}

fn shared_sets_judge_and_count() -> Result<()> {
    let world = World::new()?;
    apply(&world, &policy(70, "", CLIENT, "192.0.2.1"))?;
    let listing = world.host.nft("list table inet dfw-nft")?;
    ensure!(listing.contains("set shared.tcp.ip4-31"), "{listing}");
    ensure!(!listing.contains("chain port-80-tcp"), "{listing}");
    let before = counters(&world)?;
    same(&before["80/tcp"], &(0, 0))?;
    for (stranger, to) in [
        (false, "203.0.113.1:80"),
        (false, "[2001:db8:1::1]:80"),
        (false, "203.0.113.1:53"),
        (false, "[2001:db8:1::1]:53"),
        (true, "198.51.100.1:80"),
        (true, "[2001:db8:2::1]:80"),
        (true, "198.51.100.1:53"),
        (true, "[2001:db8:2::1]:53"),
    ] {
        let open = answers(&world, stranger, to)?;
        ensure!(open != stranger, "{to}, asked by a stranger: {stranger}");
    }
    let after = counters(&world)?;
    for port in ["80/tcp", "53/udp"] {
        let (allowed, refused) = after[port];
        ensure!(allowed > 0 && refused > 0, "{port}: {after:?}");
    }
    same(&after["8000/tcp"], &(0, 0))?;
    same(&after["all others"], &(0, 0))?;
    // `explain` shows the policy line, with the rule and the element that decide.
    let report = world
        .host
        .dfw_ok(&["explain", "--from", "198.51.100.66", "--to", "80"])?;
    ensure!(report.contains("many.yaml:3"), "{report}");
    let report = world
        .host
        .dfw_ok(&["explain", "--from", "203.0.113.9", "--to", "80"])?;
    ensure!(
        report.contains("80 . 203.0.113.8/31 in shared.tcp.ip4-31")
            && report.contains("many.yaml:3"),
        "{report}"
    );
    Ok(())
}

fn shared_sets_change_alone_and_keep_counters() -> Result<()> {
    let world = World::new()?;
    let first = policy(70, "", CLIENT, "192.0.2.1");
    apply(&world, &first)?;
    ensure!(answers(&world, false, "203.0.113.1:80")?, "it is open");
    ensure!(!answers(&world, true, "198.51.100.1:80")?, "it is closed");
    let counted = counters(&world)?["80/tcp"];
    ensure!(counted.0 > 0 && counted.1 > 0, "{counted:?}");
    // One list of another port.
    let report = apply(
        &world,
        &first.replacen("192.0.2.1]", "192.0.2.2, 192.0.2.3]", 1),
    )?;
    let change = "~ 8000/tcp  + 192.0.2.2/31, - 192.0.2.1\n";
    ensure!(
        report.contains(change) && changes(&report).matches('~').count() == 1,
        "{report}"
    );
    same(&counters(&world)?["80/tcp"], &counted)?;
    // All lines of the policy move.
    let report = apply(&world, &policy(70, "# moved\n", CLIENT, "192.0.2.1"))?;
    ensure!(changes(&report).matches('~').count() == 1, "{report}");
    same(&counters(&world)?["80/tcp"], &counted)?;
    // A port goes, and with it elements of several sets.
    let report = apply(&world, &policy(69, "", CLIENT, "192.0.2.1"))?;
    ensure!(
        report.contains("- 8069/tcp  10.0.0.1, 192.0.2.1\n"),
        "{report}"
    );
    same(&counters(&world)?["80/tcp"], &counted)?;
    // So few ports are left that each has its own chain again; no other change is reported.
    let report = apply(&world, &policy(50, "", CLIENT, "192.0.2.1"))?;
    ensure!(changes(&report).matches("  - ").count() == 19, "{report}");
    ensure!(!changes(&report).contains(['~', '+']), "{report}");
    let listing = world.host.nft("list table inet dfw-nft")?;
    ensure!(!listing.contains("shared"), "{listing}");
    ensure!(answers(&world, false, "203.0.113.1:80")?, "it is open");
    ensure!(!answers(&world, true, "198.51.100.1:80")?, "it is closed");
    // And back; a source that is gone is out at once.
    let report = apply(&world, &policy(70, "", "192.0.2.9", "192.0.2.1"))?;
    let come = changes(&report)
        .lines()
        .filter(|line| line.starts_with("  + 80"));
    ensure!(come.count() == 20, "{report}");
    let client = world.client.namespace();
    let to = "203.0.113.1:80".parse()?;
    let outcome = client.run(|| ask(Transport::Tcp, None, to, SILENCE))?;
    ensure!(outcome.is_closed(), "{outcome}");
    let report = world.host.dfw_ok(&[
        "plan",
        &world.host.dir().join("many.yaml").to_string_lossy(),
    ])?;
    ensure!(report.contains("no changes"), "{report}");
    Ok(())
}

fn a_no_takes_nothing_from_what_shared_ports_counted() -> Result<()> {
    let world = World::new()?;
    apply(&world, &policy(70, "", CLIENT, "192.0.2.1"))?;
    ensure!(answers(&world, false, "203.0.113.1:80")?, "it is open");
    ensure!(!answers(&world, true, "198.51.100.1:8069")?, "it is closed");
    let before = counters(&world)?;
    ensure!(before["8069/tcp"].1 > 0, "{before:?}");
    // All lines of the policy move, so that all elements come anew, and a port goes.
    let new = policy(69, "# moved\n", CLIENT, "192.0.2.1");
    let new = world.host.write("new.yaml", new)?;
    let words = ["apply", "--confirm", "60s", &new.to_string_lossy()];
    let mut screen = Screen::dfw(&world.host, &words, &[], "")?;
    screen.wait("Keep them? [y/N]")?;
    ensure!(answers(&world, false, "203.0.113.1:80")?, "it is open");
    let meanwhile = counters(&world)?;
    ensure!(meanwhile["80/tcp"].0 > before["80/tcp"].0, "{meanwhile:?}");
    ensure!(!meanwhile.contains_key("8069/tcp"), "{meanwhile:?}");
    screen.type_in("n\n")?;
    let (status, seen) = screen.end()?;
    same(&status.code(), &Some(1)).context(seen)?;
    let after = counters(&world)?;
    same(&after["80/tcp"], &meanwhile["80/tcp"])?;
    same(&after["8069/tcp"], &before["8069/tcp"])
}

/// Returns the changes of a plan as `SIGN NAME`, with the details of each joined by `; `.
fn planned(sandbox: &Sandbox, text: &str) -> Result<BTreeMap<String, String>> {
    let file = sandbox.write("many.yaml", text)?;
    let report = sandbox.dfw(&["plan", "--json", &file.to_string_lossy()])?;
    let plan: Value = serde_json::from_str(&report.stdout)?;
    ensure!(
        report.code == Some((plan["drift"] == true).into()),
        "{report:?}"
    );
    let changes = plan["changes"].as_array().context("no changes")?;
    let report = changes.iter().map(|change| {
        let texts = [("added", "+ "), ("removed", "- "), ("notes", "")].map(|(part, sign)| {
            let texts = change[part].as_array().into_iter().flatten();
            let texts = texts.filter_map(Value::as_str);
            texts.map(|text| format!("{sign}{text}")).collect()
        });
        let texts: Vec<Vec<String>> = texts.into();
        let name = format!(
            "{} {}",
            change["action"].as_str()?,
            change["name"].as_str()?
        );
        Some((name, texts.concat().join("; ")))
    });
    report.collect::<Option<_>>().context("no name")
}

/// What an apply tells of ports, sources and settings, without who gains and loses access.
fn changes(report: &str) -> &str {
    report
        .rsplit_once("that change:\n")
        .map_or(report, |(_, changes)| changes)
}

fn one(name: &str, text: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(name.to_owned(), text.to_owned())])
}

fn changes_of_shared_sets_by_others_are_reported() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let text = policy(70, "", CLIENT, "192.0.2.1");
    let file = sandbox.write("many.yaml", &text)?;
    sandbox.dfw_ok(&["apply", &file.to_string_lossy()])?;
    same(&planned(&sandbox, &text)?, &BTreeMap::new())?;
    // Lines of the policy that move: those of 72 ports in two sets, and that of the default.
    let report = planned(&sandbox, &policy(70, "# moved\n", CLIENT, "192.0.2.1"))?;
    let comments = report.get("change comments").context("no comments")?;
    ensure!(
        report.len() == 1
            && comments.starts_with("policy lines of 1")
            && comments.contains("elements"),
        "{report:?}"
    );
    sandbox.nft("delete element inet dfw-nft shared.allowed { tcp . 80 }")?;
    let report = one("change set shared.allowed", "+ tcp . 80");
    same(&planned(&sandbox, &text)?, &report)?;
    // Beside a port that is added, which is reported as added.
    let more = planned(&sandbox, &policy(71, "", CLIENT, "192.0.2.1"))?;
    same(&more["change set shared.allowed"], &"+ tcp . 80".to_owned())?;
    same(&more["add 8070/tcp"], &"+ 10.0.0.1; + 192.0.2.1".to_owned())?;
    sandbox.write("many.yaml", &text)?;
    sandbox.dfw_ok(&["apply", &file.to_string_lossy()])?;
    sandbox.nft("add element inet dfw-nft shared.allowed { tcp . 9 }")?;
    let report = one("change set shared.allowed", "- tcp . 9");
    same(&planned(&sandbox, &text)?, &report)
}

fn unread_parts_of_big_shared_sets_are_not_reported() -> Result<()> {
    // What a few ports with many sources have is as big as what many ports with few have, and is compared in less time.
    const MANY: u16 = 600;
    /// Of each port, with the one that all policies have.
    const EACH: usize = 17;
    let others = |first: u8| {
        let odd = (first..).step_by(2).take(EACH - 1);
        let odd = odd.map(|last| format!("192.0.2.{last}"));
        odd.collect::<Vec<_>>()
    };
    let sources = others(1).join(", ");
    let sandbox = Sandbox::new()?;
    let text = policy(MANY, "", CLIENT, &sources);
    let file = sandbox.write("many.yaml", &text)?;
    sandbox.dfw_ok(&["apply", &file.to_string_lossy()])?;
    let read = |installed: &Installed| installed.facts.sets["shared.tcp.ip4-32"].read;
    let surveyed = sandbox.kernel(|kernel| Ok(kernel.survey()?))?;
    ensure!(!read(&surveyed.installed.context("nothing")?), "it is big");
    // Who asks for ports must know them all.
    let all = sandbox.kernel(|kernel| Ok(kernel.survey_shared()?))?;
    let all = all.installed.context("nothing")?;
    ensure!(read(&all), "it is not read");
    same(&all.ruleset, &sandbox.installed()?)?;
    // One port gets a chain of its own, and nobody gains or loses by it.
    let own = format!("  8000: {{allow: [10.0.0.1, {sources}], log: true}}\n");
    let logged = text.replacen(&format!("  8000: [10.0.0.1, {sources}]\n"), &own, 1);
    same(
        &planned(&sandbox, &logged)?,
        &one("change 8000/tcp", "log: true"),
    )?;
    let changed = logged.replacen("10.0.0.1, 192.0.2.1,", "10.0.0.1, 192.0.2.100,", 1);
    same(
        &planned(&sandbox, &changed)?,
        &one("change 8000/tcp", "+ 192.0.2.100; - 192.0.2.1; log: true"),
    )?;
    let gone = planned(&sandbox, &policy(MANY - 1, "", CLIENT, &sources))?;
    let each = format!("- {EACH} entries");
    same(&gone, &one("remove 8599/tcp", &each))?;
    // More changes than the plan can tell.
    let more = format!("{sources}, {}", others(101).join(", "));
    let report = planned(&sandbox, &policy(MANY, "", CLIENT, &more))?;
    let entries = usize::from(MANY) * (2 * EACH - 1);
    same(
        &report,
        &one(
            "change set shared.tcp.ip4-32",
            &format!("now {entries} entries"),
        ),
    )?;
    // All sets go, and are not read.
    let report = planned(&sandbox, &policy(50, "", CLIENT, &sources))?;
    let (gone, rest): (Vec<_>, Vec<_>) =
        report.iter().partition(|(name, _)| name.ends_with("/tcp"));
    same(&gone.len(), &usize::from(MANY - 50))?;
    let is_gone =
        |(name, text): &(&String, &String)| name.starts_with("remove ") && text.is_empty();
    ensure!(gone.iter().all(is_gone), "{gone:?}");
    let set = (
        "remove set shared.tcp.ip4-32".to_owned(),
        "a long list".to_owned(),
    );
    same(&rest, &vec![(&set.0, &set.1)])
}
