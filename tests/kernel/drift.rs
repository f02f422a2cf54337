//! Whatever others do to dfw's table is seen, and the next apply mends it.

use anyhow::{Context, Result, ensure};

use crate::Named;
use crate::namespace::{Sandbox, compiled};
use crate::property::same;
use crate::support::command::output;

pub(crate) const TRIALS: &[Named] = &[
    (
        "every_drift_is_detected_and_corrected",
        every_drift_is_detected_and_corrected,
    ),
    (
        "a_flowtable_is_detected_and_removed",
        a_flowtable_is_detected_and_removed,
    ),
];

/// Named ranges, maps, logs and two protocols.
const POLICY: &str = "policies/web.yaml";

/// The most lines of a corrected table: all its ports and chains.
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

fn every_drift_is_detected_and_corrected() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let path = format!("{}/{POLICY}", env!("CARGO_MANIFEST_DIR"));
    sandbox.dfw_ok(&["apply", &path])?;
    let desired = compiled(POLICY)?;
    same(&sandbox.installed()?, &desired)?;
    for change in CHANGES {
        mend(&sandbox, &path, change, &desired).context(change.by)?;
    }
    Ok(())
}

/// Kernels may lack flowtables; where there are some, they are seen as well.
fn a_flowtable_is_detected_and_removed() -> Result<()> {
    let add = "add flowtable inet dfw-nft another { hook ingress priority 0 ; devices = { lo } ; }";
    let sandbox = Sandbox::new()?;
    let path = format!("{}/{POLICY}", env!("CARGO_MANIFEST_DIR"));
    sandbox.nft("add table inet dfw-nft")?;
    if let Err(error) = sandbox.nft(add) {
        ensure!(
            format!("{error:#}").contains("No such file or directory"),
            error
        );
        eprintln!("this kernel has no flowtables");
        return Ok(());
    }
    sandbox.dfw_ok(&["apply", &path])?;
    mend(
        &sandbox,
        &path,
        &foreign(add, "a stateful object or a flowtable"),
        &compiled(POLICY)?,
    )
}

fn mend(
    sandbox: &Sandbox,
    path: &str,
    change: &Change,
    desired: &dfw::ruleset::Ruleset,
) -> Result<()> {
    sandbox.nft(&change.by.replace("HANDLE", &last_handle(sandbox)?))?;
    let found = sandbox
        .snapshot()?
        .installed
        .map(|installed| installed.ruleset);
    ensure!(found.as_ref() != Some(desired), "not seen: {found:#?}");
    let status = sandbox.dfw_ok(&["status"])?;
    let word = match change.drift {
        Drift::Foreign(word) => Some(word),
        Drift::Own => Some("differ from those that dfw applied"),
        Drift::Gone => None,
    };
    match word {
        Some(word) => ensure!(
            status
                .lines()
                .any(|line| line.starts_with("  drift: ") && line.contains(word)),
            "no word of {word:?} in\n{status}"
        ),
        None => ensure!(!status.contains("drift"), "{status}"),
    }
    // What rests on a table that is not as dfw left it is no good answer.
    let is_wrong = ["  drift: ", "  dormant: "]
        .iter()
        .any(|word| status.lines().any(|line| line.starts_with(word)));
    let plan = |arguments: &[&str]| -> Result<String> {
        let report = sandbox.dfw(&[&["plan", path], arguments].concat())?;
        ensure!(report.code == Some(is_wrong.into()), "{report:?}");
        Ok(report.stdout)
    };
    let planned = plan(&[])?;
    ensure!(planned.contains("planned:"), "{planned}");
    let is_told = ["drift: ", "dormant: "]
        .iter()
        .any(|word| planned.starts_with(word));
    same(&is_told, &word.is_some())?;
    let report = plan(&["--json"])?;
    let report: serde_json::Value = serde_json::from_str(&report)?;
    same(&report["drift"], &word.is_some().into())?;
    let lines = report["changes"].as_array().context("no changes")?;
    ensure!(!lines.is_empty(), "{report:#}");
    // Unchanged objects are neither reported nor touched.
    if word.is_some() {
        ensure!(lines.len() <= MOST_LINES, "{report:#}");
    }
    let applied = sandbox.dfw_ok(&["apply", path])?;
    ensure!(applied.contains("applied:"), "{applied}");
    // The same lines, and then what is now true.
    same(&lines_of(&applied), &lines_of(&planned))?;
    same(&sandbox.installed()?, desired)?;
    ensure!(
        !sandbox.dfw_ok(&["status"])?.contains("drift"),
        "still there"
    );
    let again = sandbox.dfw_ok(&["apply", path])?;
    ensure!(again.contains("no changes:"), "{again}");
    Ok(())
}

fn lines_of(report: &str) -> Vec<String> {
    let lines = report.lines().filter(|line| line.starts_with("  "));
    lines.map(str::to_owned).collect()
}

/// The handle of the last rule of dfw's forward chain.
fn last_handle(sandbox: &Sandbox) -> Result<String> {
    let words = ["-a", "list", "chain", "inet", "dfw-nft", "forward"];
    let listing = output(sandbox.namespace().command("nft").args(words))?;
    let last = listing.lines().rfind(|line| line.contains("# handle"));
    let handle = last.and_then(|line| line.rsplit_once("# handle "));
    Ok(handle.context("no rule")?.1.trim().to_owned())
}
