//! From the first link that is up, no moment is open.

use anyhow::{Result, ensure};

use crate::Named;
use crate::site::Site;

pub(crate) const TRIALS: &[Named] = &[
    ("without_dfw_a_reboot_is_open", without_dfw_a_reboot_is_open),
    ("a_reboot_is_closed", a_reboot_is_closed),
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

fn a_reboot_is_closed() -> Result<()> {
    let (mut site, mark) = Site::guarded_by("dfw")?;
    site.run("systemctl enable --now nftables")?;
    for _ in 0..2 {
        site.guest.reboot()?;
        site.run("systemctl is-active dfw docker nftables")?;
        site.only_friends_get_in(mark)?;
    }
    site.guest.power_off()?;
    let tries = site.stranger.stop()?;
    eprintln!("two reboots: none of {tries} tries got in");
    Ok(())
}
