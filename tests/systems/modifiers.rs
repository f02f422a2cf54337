//! Others who flush, reload and restart.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::Named;
use crate::site::{OTHER, Site, other};
use crate::stranger::Stranger;
use crate::support::size::times;

pub(crate) const TRIALS: &[Named] = &[
    (
        "an_owned_table_cannot_be_opened",
        an_owned_table_cannot_be_opened,
    ),
    (
        "without_an_owner_a_flush_opens_a_moment",
        without_an_owner_a_flush_opens_a_moment,
    ),
    (
        "applied_once_a_flush_opens_until_the_next_apply",
        applied_once_a_flush_opens_until_the_next_apply,
    ),
];

/// Brings firewalld up, which is to let the published port pass: docker-proxy's clients meet it.
pub(crate) const FIREWALLD: &str = "systemctl unmask firewalld
    firewall-offline-cmd --add-port=8080/tcp
    systemctl enable --now firewalld";

/// What others do, and how often it is tried where trials run whole. It is once where they do not.
const MEDDLING: &[(&str, &str, u32)] = &[
    ("systemctl restart docker", "systemctl restart docker", 1),
    (
        "systemctl restart nftables",
        "systemctl restart nftables",
        3,
    ),
    ("systemctl reload nftables", "systemctl reload nftables", 3),
    ("nft flush ruleset", "nft flush ruleset", 5),
    ("a table deleted", "nft delete table inet dfw-nft", 5),
    ("a table emptied", "nft flush table inet dfw-nft", 5),
    ("firewalld starts", FIREWALLD, 1),
    ("firewall-cmd --reload", "firewall-cmd --reload", 2),
    (
        "firewall-cmd --complete-reload",
        "firewall-cmd --complete-reload",
        1,
    ),
    (
        "systemctl restart firewalld",
        "systemctl restart firewalld",
        1,
    ),
    (
        "systemctl restart docker, again",
        "systemctl restart docker",
        1,
    ),
];

fn an_owned_table_cannot_be_opened() -> Result<()> {
    let (site, mark) = Site::guarded()?;
    site.run("systemctl enable --now nftables")?;
    ensure!(site.status()?["owned"] == true, "the table has no owner");
    for (name, script, whole) in MEDDLING {
        for _ in 0..times(*whole, 1) {
            // A program that may not modify the table may report a failure.
            site.run(&format!("{script} || true"))?;
        }
        site.only_friends_get_in(mark)?;
        eprintln!("owned: {name}: nobody got in");
    }
    Ok(())
}

/// For how long, is printed.
fn without_an_owner_a_flush_opens_a_moment() -> Result<()> {
    let (site, _) = Site::guarded_without_owner()?;
    ensure!(site.status()?["owned"] == false, "the table has an owner");
    site.run("systemctl enable --now nftables")?;
    for (name, script, whole) in MEDDLING {
        let often = times(*whole, 1);
        let mut longest = Duration::ZERO;
        let mut entries = 0;
        let mut repair: f64 = 0.0;
        for _ in 0..often {
            let mark = site.closed()?;
            site.run(script)?;
            site.is_settled()?;
            site.closed()?;
            longest = longest.max(site.stranger.gap(mark));
            entries += site.stranger.entries(mark).concat().len();
            let last = &site.status()?["last_repair"]["milliseconds"];
            repair = repair.max(last.as_f64().unwrap_or_default());
        }
        eprintln!(
            "not owned: {name}, {often} times: {entries} entries, {longest:?} from the first to the \
             last of a time; the longest repair so far took {repair:.1} ms"
        );
    }
    Ok(())
}

/// What nobody guards, others can open.
fn applied_once_a_flush_opens_until_the_next_apply() -> Result<()> {
    let (site, mark) = Site::guarded_by("dfw-apply", "")?;
    site.run(&other("--restart=always"))?;
    let stranger = Stranger::at(OTHER, &site.lan);
    site.run("systemctl enable nftables; systemctl restart docker")?;
    site.only_friends_get_in(mark)?;
    site.run("nft flush ruleset")?;
    site.stranger.gets_in()?;
    stranger.gets_in()?;
    site.run("systemctl reload dfw-apply")?;
    site.closed()?;
    for verb in ["restart", "reload"] {
        let mark = site.stranger.mark();
        site.run(&format!("systemctl {verb} nftables"))?;
        site.is_settled()?;
        site.closed()?;
        eprintln!(
            "applied once: systemctl {verb} nftables was open for {:?}",
            site.stranger.gap(mark)
        );
        // Ports without a policy entry stay closed, too.
        stranger.tries_more()?;
        stranger.never_got_in(stranger.mark())?;
    }
    Ok(())
}
