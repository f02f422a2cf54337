//! Whatever others do to dfw's table is seen, and the next apply mends it.

use anyhow::{Context, Result, ensure};

use crate::Named;
use crate::namespace::{Place, compiled};
use crate::property::same;
use crate::support::command::output;

pub(crate) const TRIALS: &[Named] = &[
    (
        "every_change_is_seen_and_mended",
        every_change_is_seen_and_mended,
    ),
    (
        "a_flowtable_is_seen_and_mended",
        a_flowtable_is_seen_and_mended,
    ),
];

/// Named ranges, maps, logs and two protocols.
const POLICY: &str = "policies/web.yaml";

/// The most lines that a mended table takes: all its ports and chains.
const MOST_LINES: usize = 24;

/// A change by `nft`, and what `dfw status` says of it.
struct Change {
    by: &'static str,
    drift: Drift,
}

enum Drift {
    /// It is none that dfw would ever have made.
    Foreign(&'static str),
    /// dfw could have made it, and knows that it did not.
    Own,
    /// Nothing is left.
    Gone,
}

const fn own(by: &'static str) -> Change {
    let drift = Drift::Own;
    Change { by, drift }
}

const fn foreign(by: &'static str, drift: &'static str) -> Change {
    let drift = Drift::Foreign(drift);
    Change { by, drift }
}

const CHANGES: &[Change] = &[
    own("add rule inet dfw-nft published counter accept"),
    own("insert rule inet dfw-nft forward accept"),
    foreign(
        "add rule inet dfw-nft published ip ttl 5 drop",
        "a foreign rule in chain published",
    ),
    foreign(
        "insert rule inet dfw-nft input meta mark 7 accept",
        "a foreign rule in chain input",
    ),
    foreign(
        "add rule inet dfw-nft input tcp dport 22 meta mark set 7",
        "a foreign rule in chain input",
    ),
    own("add element inet dfw-nft office.ip4 { 192.0.2.0/24 }"),
    own("delete element inet dfw-nft office.ip4 { 203.0.113.0/24 }"),
    own("add element inet dfw-nft tcp-ports { 8080 : accept }"),
    own("delete element inet dfw-nft tcp-ports { 443 }"),
    own("delete element inet dfw-nft containers { \"docker0\" }"),
    own("flush set inet dfw-nft containers"),
    own("flush map inet dfw-nft tcp-ports"),
    own("add chain inet dfw-nft another"),
    own("add chain inet dfw-nft another { type filter hook output priority 7 ; }"),
    own("add chain inet dfw-nft another { type filter hook input priority 7 ; }"),
    foreign(
        "add chain inet dfw-nft another { type filter hook postrouting priority 0 ; }",
        "chain another has a foreign hook, type or policy",
    ),
    foreign(
        "add chain inet dfw-nft another { type nat hook prerouting priority 0 ; }",
        "chain another has a foreign hook, type or policy",
    ),
    foreign(
        "add chain inet dfw-nft forward { policy drop ; }",
        "chain forward has a foreign hook, type or policy",
    ),
    own("add set inet dfw-nft another { type ipv4_addr ; }"),
    foreign(
        "add set inet dfw-nft another { type mark ; }",
        "set another of a foreign type",
    ),
    foreign(
        "add set inet dfw-nft another { type ipv4_addr ; flags timeout ; }",
        "set another of a foreign type",
    ),
    foreign("add counter inet dfw-nft another", "a stateful object"),
    own("flush chain inet dfw-nft input"),
    own("flush table inet dfw-nft"),
    own("delete rule inet dfw-nft forward handle HANDLE"),
    foreign(
        "add table inet dfw-nft { flags dormant ; }",
        "flag `dormant`",
    ),
    Change {
        by: "delete table inet dfw-nft",
        drift: Drift::Gone,
    },
];

fn every_change_is_seen_and_mended() -> Result<()> {
    let place = Place::new()?;
    let path = format!("{}/{POLICY}", env!("CARGO_MANIFEST_DIR"));
    place.dfw_ok(&["apply", &path])?;
    let wanted = compiled(POLICY)?;
    same(&place.installed()?, &wanted)?;
    for change in CHANGES {
        mend(&place, &path, change, &wanted).context(change.by)?;
    }
    Ok(())
}

/// Kernels may lack flowtables; where there are some, they are seen as well.
fn a_flowtable_is_seen_and_mended() -> Result<()> {
    let add = "add flowtable inet dfw-nft another { hook ingress priority 0 ; devices = { lo } ; }";
    let place = Place::new()?;
    let path = format!("{}/{POLICY}", env!("CARGO_MANIFEST_DIR"));
    place.nft("add table inet dfw-nft")?;
    if let Err(error) = place.nft(add) {
        ensure!(
            format!("{error:#}").contains("No such file or directory"),
            error
        );
        eprintln!("this kernel has no flowtables");
        return Ok(());
    }
    place.dfw_ok(&["apply", &path])?;
    mend(
        &place,
        &path,
        &foreign(add, "a stateful object or a flowtable"),
        &compiled(POLICY)?,
    )
}

fn mend(place: &Place, path: &str, change: &Change, wanted: &dfw::ruleset::Ruleset) -> Result<()> {
    place.nft(&change.by.replace("HANDLE", &last_handle(place)?))?;
    let found = place
        .snapshot()?
        .installed
        .map(|installed| installed.ruleset);
    ensure!(found.as_ref() != Some(wanted), "not seen: {found:#?}");
    let status = place.dfw_ok(&["status"])?;
    let word = match change.drift {
        Drift::Foreign(word) => Some(word),
        Drift::Own => Some("differ from those that dfw applied"),
        Drift::Gone => None,
    };
    match word {
        Some(word) => ensure!(
            status
                .lines()
                .any(|line| line.starts_with("drift: ") && line.contains(word)),
            "no word of {word:?} in\n{status}"
        ),
        None => ensure!(!status.contains("drift"), "{status}"),
    }
    // What rests on a table that is not as dfw left it is no good answer.
    let is_wrong = ["drift: ", "dormant: "]
        .iter()
        .any(|word| status.lines().any(|line| line.starts_with(word)));
    let plan = |arguments: &[&str]| -> Result<String> {
        let told = place.dfw(&[&["plan", path], arguments].concat())?;
        ensure!(told.code == Some(is_wrong.into()), "{told:?}");
        Ok(told.stdout)
    };
    let planned = plan(&[])?;
    ensure!(planned.contains("planned:"), "{planned}");
    let is_told = ["drift: ", "dormant: "]
        .iter()
        .any(|word| planned.starts_with(word));
    same(&is_told, &word.is_some())?;
    let told = plan(&["--json"])?;
    let told: serde_json::Value = serde_json::from_str(&told)?;
    same(&told["drift"], &word.is_some().into())?;
    let lines = told["changes"].as_array().context("no changes")?;
    ensure!(!lines.is_empty(), "{told:#}");
    // What is left alone is not told, let alone touched.
    if word.is_some() {
        ensure!(lines.len() <= MOST_LINES, "{told:#}");
    }
    let applied = place.dfw_ok(&["apply", path])?;
    ensure!(applied.contains("applied:"), "{applied}");
    // The same lines, and then what is now true.
    same(&lines_of(&applied), &lines_of(&planned))?;
    same(&place.installed()?, wanted)?;
    ensure!(!place.dfw_ok(&["status"])?.contains("drift"), "still there");
    let again = place.dfw_ok(&["apply", path])?;
    ensure!(again.contains("no changes:"), "{again}");
    Ok(())
}

fn lines_of(told: &str) -> Vec<String> {
    let lines = told.lines().filter(|line| line.starts_with("  "));
    lines.map(str::to_owned).collect()
}

/// The handle of the last rule of dfw's forward chain.
fn last_handle(place: &Place) -> Result<String> {
    let words = ["-a", "list", "chain", "inet", "dfw-nft", "forward"];
    let listing = output(place.namespace().command("nft").args(words))?;
    let last = listing.lines().rfind(|line| line.contains("# handle"));
    let handle = last.and_then(|line| line.rsplit_once("# handle "));
    Ok(handle.context("no rule")?.1.trim().to_owned())
}
