//! Guard is killed, stopped and stuck.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::Named;
use crate::site::{POLICIES, Site};
use crate::support::size::times;

pub(crate) const TRIALS: &[Named] = &[
    (
        "a_killed_guard_has_a_successor",
        a_killed_guard_has_a_successor,
    ),
    ("a_stuck_guard_is_replaced", a_stuck_guard_is_replaced),
    ("a_reload_opens_nothing", a_reload_opens_nothing),
];

fn a_killed_guard_has_a_successor() -> Result<()> {
    // More often in a row than a service manager takes for an accident.
    let deaths = times(12, 7);
    let (site, mark) = Site::guarded()?;
    for death in 0..deaths {
        let pid = site.pid()?;
        // At whatever it is doing about this: the next time a little later.
        site.guest.write(
            &format!("{POLICIES}/more.yaml"),
            &format!("ports: {{{}: any}}\n", 1000 + death),
        )?;
        std::thread::sleep(Duration::from_millis(u64::from(death) * 17));
        site.run(&format!("kill -9 {pid}; nft list table inet dfw-nft"))?;
        site.successor_of(pid)?;
    }
    site.is_settled()?;
    site.only_friends_get_in(mark)?;
    ensure!(site.status()?["owned"] == true, "the table has no owner");
    eprintln!("{deaths} guards died, and nobody got in");
    Ok(())
}

fn a_stuck_guard_is_replaced() -> Result<()> {
    let (site, mark) = Site::guarded_by("dfw", "WatchdogSec=2s")?;
    let pid = site.pid()?;
    site.run(&format!("kill -STOP {pid}; nft list table inet dfw-nft"))?;
    site.successor_of(pid)?;
    site.run("journalctl --unit dfw --grep 'Watchdog timeout'")?;
    site.is_settled()?;
    site.only_friends_get_in(mark)
}

fn a_reload_opens_nothing() -> Result<()> {
    let (site, mark) = Site::guarded()?;
    let pid = site.pid()?;
    for _ in 0..times(20, 5) {
        site.run("systemctl reload dfw")?;
    }
    site.is_settled()?;
    site.only_friends_get_in(mark)?;
    ensure!(site.pid()? == pid, "another guard runs");
    // Stopped, it leaves what is in force.
    site.run("systemctl stop dfw; nft list table inet dfw-nft; systemctl restart docker")?;
    site.only_friends_get_in(mark)?;
    site.run("systemctl start dfw")?;
    site.only_friends_get_in(mark)
}
