//! nft as a witness: what it makes of dfw's text, and what it sees of dfw's messages, is the same.

use anyhow::{Context, Result};
use dfw::plan::STAMP;
use dfw::ruleset::{Elements, MARK, Ruleset};

use crate::Named;
use crate::arbitrary::{Style, ruleset};
use crate::namespace::{Sandbox, TABLE, compiled, policies};
use crate::property::{property, same};
use crate::support::size::times;

pub(crate) const TRIALS: &[Named] = &[
    ("nft_sees_what_dfw_prints", nft_sees_what_dfw_prints),
    (
        "nft_sees_what_dfw_prints_of_policies",
        nft_sees_what_dfw_prints_of_policies,
    ),
];

/// Two places: in one the text is loaded by nft, in the other dfw installs the ruleset.
struct Witness {
    by_nft: Sandbox,
    by_dfw: Sandbox,
}

impl Witness {
    fn new() -> Result<Self> {
        Ok(Self {
            by_nft: Sandbox::new()?,
            by_dfw: Sandbox::new()?,
        })
    }

    fn agrees(&self, ruleset: &Ruleset) -> Result<()> {
        let text = ruleset.to_string();
        self.by_nft.nft("flush ruleset")?;
        self.by_nft.nft_load(&["-c", "-f"], &text)?;
        self.by_nft.nft_load(&["-f"], &text)?;
        self.by_dfw.install(ruleset)?;
        same(&listing(&self.by_dfw)?, &listing(&self.by_nft)?).with_context(|| {
            format!("nft lists what dfw installed, and then what it loaded\n{text}")
        })?;
        // And the other way round: dfw reads what nft wrote.
        if reaches_the_end(ruleset) {
            return Ok(());
        }
        same(&self.by_nft.installed()?, ruleset).context("what dfw reads of what nft loaded")
    }
}

/// nft marks ranges that reach the greatest key with user data of its own, which dfw never writes
/// and so takes for somebody else's.
fn reaches_the_end(ruleset: &Ruleset) -> bool {
    ruleset.sets.values().any(|set| match &set.elements {
        Elements::Ipv4Ranges(all) => all.last().is_some_and(|range| range.last == u32::MAX),
        Elements::Ipv6Ranges(all) => all.last().is_some_and(|range| range.last == u128::MAX),
        Elements::PortVerdicts(all) => all.last().is_some_and(|range| range.key.last == u16::MAX),
        _ => false,
    })
}

/// dfw's table, less the chain that says who installed it, which the text does not have. Sets and
/// chains are sorted, as the text has the base chains first.
fn listing(sandbox: &Sandbox) -> Result<Vec<String>> {
    let mut listing = sandbox.nft(&format!("list table {TABLE}"))?;
    // Each plan puts a mark of its own in the place of the one that is printed.
    for mark in sandbox
        .snapshot()?
        .installed
        .context("no table")?
        .facts
        .marks
    {
        listing = listing.replace(
            &format!("ct mark {mark:#010x}"),
            &format!("ct mark {MARK:#010x}"),
        );
        let set = [mark, MARK].map(|mark| format!("ct mark set {mark:#010x}"));
        listing = listing.replace(&set[0], &set[1]);
    }
    let blocks = listing
        .strip_prefix("table inet dfw-nft {\n")
        .and_then(|l| l.strip_suffix("}\n"));
    let blocks = blocks.context("not a table")?.split_inclusive("\n\t}\n");
    let mut blocks: Vec<String> = blocks
        .map(|block| block.trim_start_matches('\n').to_owned())
        .filter(|block| !block.starts_with(&format!("\tchain {STAMP} {{")))
        .collect();
    blocks.sort();
    Ok(blocks)
}

fn nft_sees_what_dfw_prints() -> Result<()> {
    let witness = Witness::new()?;
    property(times(60, 20), &ruleset(Style::Plain), |ruleset| {
        witness.agrees(&ruleset)
    })
}

fn nft_sees_what_dfw_prints_of_policies() -> Result<()> {
    let witness = Witness::new()?;
    for path in policies()? {
        witness
            .agrees(&compiled(&path)?)
            .with_context(|| path.clone())?;
    }
    Ok(())
}
