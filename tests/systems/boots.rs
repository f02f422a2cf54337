//! From the first link that is up, no moment is open.

use anyhow::{Context, Result, ensure};

use crate::Named;
use crate::lan::FRIEND;
use crate::modifiers::FIREWALLD;
use crate::site::{OTHER, POLICIES, Site, other, policy};
use crate::stranger::{Mark, PORT, Stranger};
use crate::support::size::times;
use crate::web::{CERTIFICATES, Web};

pub(crate) const TRIALS: &[Named] = &[
    ("without_dfw_a_reboot_is_open", without_dfw_a_reboot_is_open),
    ("a_reboot_is_closed", a_reboot_is_closed),
    (
        "a_reboot_without_an_owner_is_closed",
        a_reboot_without_an_owner_is_closed,
    ),
    (
        "a_reboot_with_firewalld_is_closed",
        a_reboot_with_firewalld_is_closed,
    ),
    (
        "a_reboot_without_network_keeps_what_was_fetched",
        a_reboot_without_network_keeps_what_was_fetched,
    ),
    (
        "a_reboot_without_the_server_of_a_site_is_closed",
        a_reboot_without_the_server_of_a_site_is_closed,
    ),
    (
        "applied_once_a_reboot_is_closed",
        applied_once_a_reboot_is_closed,
    ),
];

/// What the others' "never" is worth.
fn without_dfw_a_reboot_is_open() -> Result<()> {
    let mut site = Site::open()?;
    let mark = site.stranger.mark();
    site.guest.reboot()?;
    site.stranger.gets_in()?;
    let entries = site.stranger.entries(mark).map(|entries| entries.len());
    site.guest.power_off()?;
    let tries = site.stranger.stop()?;
    eprintln!("without dfw: {entries:?} entries over IPv4 and IPv6 around a reboot, {tries} tries");
    ensure!(entries[0] > 0 && entries[1] > 0);
    Ok(())
}

/// So many reboots, with one who flushes everything when it starts and stops. One more port is published, which no
/// policy names: before the engine says anything, only guard knows of it.
fn reboots(mut site: Site, mark: Mark, units: &str, often: u32) -> Result<()> {
    site.run(&format!("systemctl enable {units}"))?;
    let unnamed = if units.starts_with("dfw ") {
        site.run(&other("--restart=always"))?;
        site.is_settled()?;
        let stranger = Stranger::at(OTHER, &site.lan);
        stranger.tries_more()?;
        Some((stranger.mark(), stranger))
    } else {
        None
    };
    for _ in 0..often {
        site.guest.reboot()?;
        site.run(&format!("systemctl is-active docker {units}"))?;
        site.only_friends_get_in(mark)?;
        if let Some((mark, stranger)) = &unnamed {
            // On the host itself it answers.
            site.run(&format!(
                "until busybox wget -O - http://127.0.0.1:{OTHER}/ 2>&1 | grep 404; do :; done"
            ))?;
            stranger.never_got_in(*mark).context("an unnamed port")?;
        }
    }
    site.guest.power_off()?;
    let tries = site.stranger.stop()?;
    eprintln!("{often} reboots with {units}: none of {tries} tries got in");
    Ok(())
}

/// Twice in the long version: what a boot has left is what the next one begins with.
fn a_reboot_is_closed() -> Result<()> {
    let (site, mark) = Site::guarded()?;
    reboots(site, mark, "dfw nftables", times(2, 1))
}

fn a_reboot_without_an_owner_is_closed() -> Result<()> {
    let (site, mark) = Site::guarded_without_owner()?;
    reboots(site, mark, "dfw nftables", times(2, 1))
}

fn a_reboot_with_firewalld_is_closed() -> Result<()> {
    let (site, mark) = Site::guarded()?;
    site.run(FIREWALLD)?;
    site.only_friends_get_in(mark)?;
    reboots(site, mark, "dfw firewalld", times(2, 1))
}

/// Where the list of a name is in the cache, which a user that comes and goes owns.
const LIST: &str = "/var/cache/private/dfw/name-home.example.com";

/// Nobody answers the fetcher after the reboot, and its cache is empty: what was accepted before is in force before
/// Docker starts.
fn a_reboot_without_network_keeps_what_was_fetched() -> Result<()> {
    let (mut site, mark) = Site::guarded()?;
    site.guest.write(
        &format!("{POLICIES}/web.yaml"),
        &format!(
            "default: deny\nsources: {{home: {{name: home.example.com}}}}\nports: {{{PORT}: [home]}}\n"
        ),
    )?;
    site.run("systemctl enable --now dfw-fetch")?;
    site.said("never-fetched: it allows nobody")?;
    let pid = site.run("systemctl show --property MainPID --value dfw-fetch")?;
    let status = site.run(&format!("cat /proc/{}/status", pid.trim()))?;
    for line in ["NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t0000000000000000"] {
        ensure!(status.contains(line), "no {line} in {status}");
    }
    ensure!(!status.contains("Uid:\t0"), "it runs as root: {status}");
    fetches_by_hand(&site)?;
    let [v4, v6] = FRIEND;
    site.run(&format!(
        "cd /var/cache/private/dfw; printf '{v4}\\n{v6}\\n' >new; chown --reference=. new; mv new {LIST}"
    ))?;
    site.is_settled()?;
    site.only_friends_get_in(mark)?;
    site.run(&format!("rm {LIST}"))?;
    site.guest.reboot()?;
    site.run("systemctl is-active docker dfw dfw-fetch")?;
    site.only_friends_get_in(mark)?;
    // The rules were there first.
    site.run(
        "of() { systemctl show --property ActiveEnterTimestampMonotonic --value $1; }
         test $(of dfw) -le $(of docker)",
    )?;
    let security = site.run("systemd-analyze security --no-pager dfw-fetch.service | tail -1")?;
    eprintln!("{}", security.trim());
    site.guest.power_off()
}

/// Root fetches beside the service, into its cache, and nothing there belongs to another user afterwards. Nobody answers
/// here.
fn fetches_by_hand(site: &Site) -> Result<()> {
    let said = site.run(&format!(
        "dfw fetch {POLICIES} 2>&1 || true; dfw fetch https://192.0.2.1/prod/ --host-id web-1 2>&1 || true"
    ))?;
    ensure!(
        said.contains("not fetched: home: ") && !said.contains("the cache"),
        "{said}"
    );
    site.run(
        "cd /var/cache/private/dfw; test -e status-name-home.example.com.json; test -d site/blobs
         test $(find . -not -uid $(stat -c %u .) | wc -l) = 0
         systemctl is-active dfw-fetch",
    )?;
    Ok(())
}

/// Policies come from a web server that is gone at the next boot, as is what was fetched of it: what was confirmed is
/// in force before Docker starts.
fn a_reboot_without_the_server_of_a_site_is_closed() -> Result<()> {
    let mut site = Site::open()?;
    let mut web = Web::start(&site.lan)?;
    web.publish(1, &policy())?;
    site.guest.write(CERTIFICATES, &web.authority()?)?;
    site.guest
        .write("/etc/dfw/policy.pub.d/web.pub", web.key().trim_end())?;
    site.guest.write(
        "/etc/systemd/system/dfw.service.d/site.conf",
        &format!(
            "[Service]\nExecStart=\nExecStart=/usr/bin/dfw guard {} --host-id guest\n",
            Web::address()
        ),
    )?;
    site.run("systemctl daemon-reload; systemctl enable --now dfw dfw-fetch")?;
    site.said("confirmed")?;
    let mark = site.closed()?;
    site.only_friends_get_in(mark)?;

    web.stop();
    site.run(&format!(
        "rm -r /var/cache/private/dfw
         test ! -e {POLICIES}"
    ))?;
    site.guest.reboot()?;
    site.run("systemctl is-active docker dfw dfw-fetch")?;
    site.only_friends_get_in(mark)?;
    let status = site.status()?;
    ensure!(
        status["site"]["generation"] == 1 && status["in_force"] == "last-good",
        "{status}"
    );
    // The rules were there first.
    site.run(
        "of() { systemctl show --property ActiveEnterTimestampMonotonic --value $1; }
         test $(of dfw) -le $(of docker)",
    )?;
    site.guest.power_off()?;
    let tries = site.stranger.stop()?;
    eprintln!("a reboot without the server of a site: none of {tries} tries got in");
    Ok(())
}

/// Without guard, a reboot is closed all the same: what can be flushed later is another matter.
fn applied_once_a_reboot_is_closed() -> Result<()> {
    let (site, mark) = Site::guarded_by("dfw-apply", "")?;
    reboots(site, mark, "dfw-apply nftables", times(2, 1))
}
