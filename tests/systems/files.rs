//! Policies that vanish, change all the time or are long, and a disk that is full.

use anyhow::{Result, ensure};

use crate::Named;
use crate::site::{POLICIES, Site, policy};
use crate::support::size::times;

pub(crate) const TRIALS: &[Named] = &[
    (
        "vanished_policies_stay_in_force",
        vanished_policies_stay_in_force,
    ),
    ("a_full_disk_opens_nothing", a_full_disk_opens_nothing),
    (
        "a_flood_of_changes_opens_nothing",
        a_flood_of_changes_opens_nothing,
    ),
    (
        "a_long_list_that_changes_opens_nothing",
        a_long_list_that_changes_opens_nothing,
    ),
];

/// Also over a reboot, from what was kept.
fn vanished_policies_stay_in_force() -> Result<()> {
    let (mut site, mark) = Site::guarded()?;
    site.run(&format!("rm -r {POLICIES}"))?;
    site.said("the rules in force stay")?;
    site.only_friends_get_in(mark)?;
    for _ in 0..2 {
        site.guest.reboot()?;
        site.said("using the last good policies")?;
        ensure!(site.status()?["in_force"] == "last-good");
        site.only_friends_get_in(mark)?;
    }
    site.guest
        .write(&format!("{POLICIES}/web.yaml"), &policy())?;
    site.said("valid again")?;
    site.only_friends_get_in(mark)
}

fn a_full_disk_opens_nothing() -> Result<()> {
    let (site, mark) = Site::guarded()?;
    site.run(
        "systemctl stop dfw
         mount -t tmpfs -o size=16k tmpfs /var/lib/dfw
         head -c 1m /dev/zero >/var/lib/dfw/full 2>/dev/null || true
         systemctl start dfw",
    )?;
    site.said("cannot be saved")?;
    site.only_friends_get_in(mark)?;
    // It goes on to take up what changes.
    site.guest
        .write(&format!("{POLICIES}/more.yaml"), "ports: {443: any}\n")?;
    site.is_settled()?;
    site.only_friends_get_in(mark)?;
    site.run("rm /var/lib/dfw/full; systemctl reload dfw")?;
    site.is_settled()?;
    site.only_friends_get_in(mark)
}

fn a_flood_of_changes_opens_nothing() -> Result<()> {
    let (site, mark) = Site::guarded()?;
    let (web, changes) = (policy(), times(2000, 500));
    // Some of them are wrong, and some of them are whole at no moment.
    site.run(&format!(
        "cd {POLICIES}
         i=0
         while [ $i -lt {changes} ]; do
             i=$((i + 1))
             case $((i % 4)) in
                 0) echo 'ports: [' >more.yaml ;;
                 1) echo \"ports: {{$((1000 + i)): any}}\" >more.yaml ;;
                 2) printf '%s' '{web}' >web.yaml ;;
                 3) rm -f more.yaml ;;
             esac
         done
         printf '%s' '{web}' >web.yaml
         echo 'ports: {{443: any}}' >more.yaml"
    ))?;
    site.is_settled()?;
    site.only_friends_get_in(mark)
}

/// A million with a release build; the figures in docs/guard.md are of that.
fn a_long_list_that_changes_opens_nothing() -> Result<()> {
    let count: u32 = std::env::var("DFW_SOURCES")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or_else(|| times(200_000, 50_000));
    let (site, mark) = Site::guarded()?;
    // Every second address, so that none of them can be merged; each time other ones.
    let list = |first: u32| {
        format!(
            "awk 'BEGIN {{ for (i = 0; i < {count}; i++) {{ n = 2 * i + {first};
                 printf \"10.%d.%d.%d\\n\", int(n / 65536) % 256, int(n / 256) % 256, n % 256 }} }}' \
             >/etc/dfw/many.new; mv /etc/dfw/many.new /etc/dfw/many"
        )
    };
    site.run(&list(0))?;
    let web = policy();
    let web = web.replace('[', "[many, ");
    let web = format!("sources: {{many: {{file: ../many}}}}\n{web}");
    site.guest.write(&format!("{POLICIES}/web.yaml"), &web)?;
    site.is_settled()?;
    let memory = |what: &str| -> Result<()> {
        let pid = site.pid()?;
        let status = site.run(&format!("grep -E 'VmRSS|VmHWM' /proc/{pid}/status"))?;
        let status: Vec<_> = status.split_whitespace().collect();
        eprintln!("{count} sources, {what}: {}", status.join(" "));
        Ok(())
    };
    memory("at first")?;
    for change in 0..times(4, 2) {
        site.run(&list(change % 2 + 1))?;
        site.is_settled()?;
        site.only_friends_get_in(mark)?;
    }
    memory("after changes")
}
