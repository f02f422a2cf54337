//! Permissions for a time on a machine of its own: its kernel ends them, its clock can be set, and it reboots.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::thread::{Scope, scope};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::lan::{FRIEND, GUEST};
use crate::site::{POLICIES, Site};
use crate::stranger::PORT;
use crate::support::command::wait_for;
use crate::support::netns::Namespace;
use crate::support::probe::{Conversation, Transport, connect};
use crate::support::watch::{Watch, on_one_connection};

/// A port of a container that says back what it hears.
pub(crate) const ECHO: u16 = PORT + 2;
/// The same, of a service of the machine.
const SERVICE: u16 = PORT + 3;
/// What a grant names: all ports that the policy has an entry for, and one that it has none for.
const PORTS: &str = "8080-8083";
/// How often clients ask: the machine is an emulated one.
const PACE: Duration = Duration::from_millis(150);
/// How long a connection is tried that must come about, and one that must not.
const PATIENCE: Duration = Duration::from_mins(1);
const SILENCE: Duration = Duration::from_secs(1);
/// The seconds of the grants whose ends are watched.
const SHORT: u64 = 8;
const LONG: u64 = 16;
/// The time of a grant that goes on over a reboot.
const MINUTES: u64 = 30;
/// How exactly the time that is left is known then: the clock of the hardware has whole seconds.
const EXACT: u64 = 3;
/// By how much an end may differ then besides: a second is lost when that clock is written, and one when it is read.
const HARDWARE: Duration = Duration::from_millis(1500);
/// The clients that only grants allow, by the last part of their addresses.
const CLIENTS: Range<u8> = 31..60;
/// The client whose grant goes on.
const LAST: u8 = 37;
/// The client whose grant ends while the machine is suspended.
const SLEEPER: u8 = 38;
/// The clients whose grants end one after the other around the reboot, whose time nobody knows before: every so many
/// seconds.
const LADDER: Range<u8> = 40..60;
const RUNG: Duration = Duration::from_secs(20);
/// How much must be left of a grant whose end is watched after the reboot: connections are opened first.
const ENOUGH: Duration = Duration::from_secs(15);
/// The seconds of the grant that ends while the machine is suspended, and for how long it is.
const ASLEEP: u64 = 15;

/// The command that says back what it hears.
fn echo() -> &'static str {
    r#""$(command -v busybox)" nc -ll -p 80 -e "$(command -v busybox)" sh -c 'echo hello; exec cat'"#
}

/// The command that makes the container.
pub(crate) fn echo_container() -> String {
    format!(
        "docker run -d --name echo --stop-signal KILL --restart=always -p {ECHO}:80 web {}",
        echo()
    )
}

fn policy() -> String {
    let [v4, v6] = FRIEND;
    format!(
        "default: deny\ngrants: {{max-time: 1h, ports: [{PORTS}]}}\n\
         ports:\n  {PORT}: [{v4}, \"{v6}\"]\n  {ECHO}: []\n  {SERVICE}: []\n"
    )
}

/// The addresses of a client.
fn client(number: u8) -> [String; 2] {
    [format!("192.0.2.{number}"), format!("2001:db8:2::{number}")]
}

/// Brings the policy into force; the clients get their addresses.
fn prepare(site: &Site) -> Result<()> {
    for number in CLIENTS {
        let [v4, v6] = client(number);
        let lan = site.lan.stranger();
        lan.ip(&format!("addr add {v4}/24 dev eth0"))?;
        lan.ip(&format!("addr add {v6}/64 dev eth0 nodad"))?;
    }
    site.guest
        .write(&format!("{POLICIES}/web.yaml"), &policy())?;
    site.is_settled()
}

/// Grants that were in force when the machine went down: one that goes on for long, and those that end one after the
/// other, by their clients.
pub(crate) struct Left {
    end: Range<Instant>,
    ladder: Vec<(u8, Range<Instant>)>,
}

/// Starts the service of the machine that says back what it hears.
fn start_service(site: &Site) -> Result<()> {
    let service = echo().replace("-p 80 ", &format!("-p {SERVICE} "));
    site.run(&format!("systemd-run --quiet {service}"))
        .map(drop)
}

/// Starts a question of a client again and again, until its access must have ended.
fn watch<'scope, 'env: 'scope>(
    scope: &'scope Scope<'scope, 'env>,
    site: &'env Site,
    what: &str,
    (number, family, port): (u8, usize, u16),
    end: &Range<Instant>,
) -> Result<Watch<'scope>> {
    let what = format!("192.0.2.{number}, {what}");
    let (from, to) = between(number, family, port)?;
    let lan = site.lan.stranger();
    Ok(if port == PORT {
        let ask = move |patience| opens(lan, from, to, patience);
        Watch::start(scope, what, end, PACE, ask)
    } else {
        // One after the other: busybox's nc holds few that it has not accepted.
        let opened = lan.run(|| Conversation::open(Transport::Tcp, Some(from), to));
        let mut opened = Some(opened.with_context(|| what.clone())?);
        let open = move || opened.take().context("opened once");
        Watch::start(scope, what, end, PACE, on_one_connection(open))
    })
}

/// Grants of all kinds end in time, while the clock is set and when guard is dead.
pub(crate) fn end_in_time(site: &Site) -> Result<()> {
    prepare(site)?;
    start_service(site)?;

    let uptime = Uptime::of(site)?;
    // Grants that are repeated, for a longer and for a shorter time; that overlap; that are revoked and given anew.
    let given = site.run(&format!(
        "now() {{ cut -d ' ' -f 1 /proc/uptime; }}
         add() {{ before=$(now); dfw grant add --to {PORTS} \"$@\" >/dev/null; echo $before $(now); }}
         add 192.0.2.34 192.0.2.36 --for {LONG}s
         dfw grant revoke 192.0.2.36 >/dev/null
         add 192.0.2.31 2001:db8:2::31 192.0.2.32/31 192.0.2.34 192.0.2.35 192.0.2.36 --for {SHORT}s
         add 192.0.2.33 192.0.2.35 2001:db8:2::35 --for {LONG}s
         date --set '+1 hour' >/dev/null"
    ))?;
    let times = [LONG, SHORT, LONG].map(Duration::from_secs);
    let ends: Vec<Range<Instant>> = (given.lines().zip(times))
        .map(|(line, time)| uptime.range(line, time))
        .collect::<Result<_>>()?;
    let [repeated, short, long] = &ends[..] else {
        bail!("three grants: {given}");
    };
    scope(|scope| {
        let watch = |what: &str, of: (u8, usize, u16), end| watch(scope, site, what, of, end);
        // Where rules were flushed, there is no DNAT until Docker starts again: docker-proxy takes connections. Where
        // nobody but guard could flush, it does so with those over IPv6.
        let by_proxy = site.lan.families.len() - 1;
        let first = [
            watch("once, new", (31, 0, PORT), short)?,
            watch("once, published, held", (31, 0, ECHO), short)?,
            watch("once, docker-proxy, held", (31, by_proxy, ECHO), short)?,
            watch("once, host, held", (31, 0, SERVICE), short)?,
            watch("once, host, IPv6, held", (31, 1, SERVICE), short)?,
            watch("in a network, new", (32, 0, PORT), short)?,
            watch("revoked and given anew, held", (36, 0, ECHO), short)?,
        ];
        let then = [
            watch("longer than its network, new", (33, 0, PORT), long)?,
            watch("repeated, shorter, held", (34, 0, ECHO), repeated)?,
            watch("repeated, longer, held", (35, 0, ECHO), long)?,
            watch("docker-proxy, held", (35, by_proxy, ECHO), long)?,
            watch("host, IPv6, held", (35, 1, SERVICE), long)?,
        ];
        first.into_iter().try_for_each(Watch::ended_in_time)?;
        site.run(
            "systemctl kill --signal=KILL dfw; systemctl stop dfw
             date --set '-2 hours' >/dev/null",
        )?;
        then.into_iter().try_for_each(Watch::ended_in_time)
    })
    .with_context(|| site.journal())?;
    site.run("systemctl start dfw").map(drop)
}

/// A grant that ends while the machine is suspended has ended when it wakes: the kernel's time stands still meanwhile,
/// and guard's does not.
pub(crate) fn end_in_a_suspended_machine(site: &Site) -> Result<()> {
    let [v4, _] = client(SLEEPER);
    let (from, to) = between(SLEEPER, 0, PORT)?;
    let gets_in = |patience| opens(site.lan.stranger(), from, to, patience);
    site.run(&format!("dfw grant add {v4} --to {PORT} --for {ASLEEP}s"))?;
    ensure!(gets_in(PATIENCE)?, "no access");
    // Guard does nothing before it is told to go on: what is left then is what the kernel makes of it.
    let slept = site.run(&format!(
        "systemctl kill --signal=STOP dfw
         uptime() {{ cut -d ' ' -f 1 /proc/uptime; }}
         alarm=/sys/class/rtc/rtc0/wakealarm
         echo 0 >$alarm
         echo +{ASLEEP} >$alarm
         before=$(uptime)
         echo mem >/sys/power/state
         echo up for $before, then for $(uptime)
         nft list ruleset | grep -o '{v4}.* expires [0-9ms]*'"
    ))?;
    eprintln!("a suspended machine: {}", slept.trim().replace('\n', ", "));
    ensure!(gets_in(PATIENCE)?, "the kernel's time has not stood still");
    site.run("systemctl kill --signal=CONT dfw")?;
    wait_for("the end of the grant", PATIENCE, || {
        listed(site).ok()?.is_empty().then_some(())
    })?;
    ensure!(!gets_in(SILENCE)?, "access after its end");
    Ok(())
}

/// Grants for longer than a reboot takes, and sets the clock back.
pub(crate) fn leave_some(site: &Site) -> Result<Left> {
    let before = Instant::now();
    let [v4, _] = client(LAST);
    site.run(&format!("dfw grant add {v4} --to {PORT} --for {MINUTES}m"))?;
    let time = Duration::from_mins(MINUTES);
    let end = before + time..Instant::now() + time;
    let uptime = Uptime::of(site)?;
    let times = LADDER
        .zip(1..)
        .map(|(number, rung)| (number, 2 * RUNG + RUNG * rung));
    let adds = times.clone().map(|(number, time)| {
        let [v4, v6] = client(number);
        format!("add {v4} {v6} --for {}s", time.as_secs())
    });
    let adds = adds.collect::<Vec<_>>().join("\n");
    let given = site.run(&format!(
        "now() {{ cut -d ' ' -f 1 /proc/uptime; }}
         add() {{ before=$(now); dfw grant add --to {PORTS} \"$@\" >/dev/null; echo $before $(now); }}
         {adds}"
    ))?;
    let ladder = (given.lines().zip(times))
        .map(|(line, (number, time))| Ok((number, uptime.range(line, time)?)))
        .collect::<Result<_>>()?;
    // What is saved now must not say that there is an hour more.
    let [other, _] = client(CLIENTS.start);
    site.run(&format!(
        "date --set '-1 hour' >/dev/null; dfw grant add {other} --to {PORT} --for 1s
         busybox hwclock --systohc --utc"
    ))?;
    Ok(Left { end, ladder })
}

/// The connection of a client in a family.
fn between(number: u8, family: usize, port: u16) -> Result<(IpAddr, SocketAddr)> {
    let from = client(number)[family].parse()?;
    let to: IpAddr = GUEST[family].parse()?;
    Ok((from, (to, port).into()))
}

/// Whether a connection comes about.
fn opens(lan: &Namespace, from: IpAddr, to: SocketAddr, patience: Duration) -> Result<bool> {
    lan.run(|| Ok(connect(Some(from), to, patience).is_ok()))
}

impl Left {
    /// Fails unless guard has restored it, with the time that is left.
    pub(crate) fn is_restored(&self, site: &Site) -> Result<()> {
        self.ends_in_time(site)?;
        let before = Instant::now();
        let listed = listed(site)?;
        let least = self.end.start.saturating_duration_since(Instant::now());
        let most = self.end.end.saturating_duration_since(before);
        let [v4, _] = client(LAST);
        let restored = listed.iter().find(|grant| grant["from"] == *v4);
        let restored = restored.with_context(|| format!("it is not there: {listed:?}"))?;
        let left = restored["seconds_left"]
            .as_u64()
            .context("no time is left")?;
        let expected = least.as_secs().saturating_sub(EXACT)..=most.as_secs() + EXACT;
        eprintln!("{left} s are left after the reboot, expected {least:.1?} to {most:.1?}");
        ensure!(
            expected.contains(&left),
            "{left} s are left, expected {expected:?}"
        );
        ensure!(last_gets_in(site, PATIENCE)?, "no access");
        site.run(&format!("dfw grant revoke {}", client(LAST)[0]))?;
        ensure!(!last_gets_in(site, SILENCE)?, "access is not revoked");
        Ok(())
    }
}

impl Left {
    /// Fails unless the first grant of which enough is left ends in time, with connections that were opened since the
    /// reboot.
    fn ends_in_time(&self, site: &Site) -> Result<()> {
        start_service(site)?;
        let rung = self
            .ladder
            .iter()
            .find(|(_, end)| end.start > Instant::now() + HARDWARE + ENOUGH);
        let (number, end) = rung.context("the reboot took longer than all grants")?;
        let start = end.start.checked_sub(HARDWARE).context("no such moment")?;
        let end = start..end.end + HARDWARE;
        scope(|scope| {
            let watch = |what: &str, family, port| {
                let what = format!("after the reboot, {what}");
                watch(scope, site, &what, (*number, family, port), &end)
            };
            let watches = [
                watch("new", 0, PORT)?,
                watch("DNAT, held", 0, ECHO)?,
                watch("host, held", 0, SERVICE)?,
                watch("host, IPv6, held", 1, SERVICE)?,
            ];
            // Without the rule that translates, docker-proxy takes the next one.
            site.run(&format!(
                "iptables -t nat -S DOCKER | grep 'dport {ECHO} ' | sed 's/^-A/-D/' | xargs iptables -t nat"
            ))?;
            let by_proxy = watch("docker-proxy, held", 0, ECHO)?;
            let mut watches = watches.into_iter().chain([by_proxy]);
            watches.try_for_each(Watch::ended_in_time)
        })
    }
}

fn last_gets_in(site: &Site, patience: Duration) -> Result<bool> {
    let (from, to) = between(LAST, 0, PORT)?;
    opens(site.lan.stranger(), from, to, patience)
}

/// The list of the grants.
fn listed(site: &Site) -> Result<Vec<serde_json::Value>> {
    let list: serde_json::Value = serde_json::from_str(&site.run("dfw grant list --json")?)?;
    let grants = list["grants"].as_array();
    Ok(grants.context("no list")?.clone())
}

/// Grants, and sets the clock back when guard has saved that: a reboot must end it.
pub(crate) fn leave_one_with_a_clock_behind(site: &Site) -> Result<()> {
    let [v4, _] = client(LAST);
    site.run(&format!("dfw grant add {v4} --to {PORT} --for {MINUTES}m"))?;
    ensure!(last_gets_in(site, PATIENCE)?, "no access");
    // A guard that runs would save the grants again.
    site.run(
        "systemctl stop dfw; date --set '-1 hour' >/dev/null
         busybox hwclock --systohc --utc",
    )?;
    Ok(())
}

/// Fails unless a reboot has ended all grants, as the clock is behind.
pub(crate) fn have_ended(site: &Site) -> Result<()> {
    site.said("before the time at which grants were saved: 1 end now")?;
    let listed = listed(site)?;
    ensure!(listed.is_empty(), "{listed:?}");
    ensure!(!last_gets_in(site, SILENCE)?, "access after the reboot");
    Ok(())
}

/// How long the machine has been up, at a moment of this one.
struct Uptime {
    up: f64,
    read: Range<Instant>,
}

impl Uptime {
    fn of(site: &Site) -> Result<Self> {
        let before = Instant::now();
        let up = site.run("cut -d ' ' -f 1 /proc/uptime")?;
        Ok(Self {
            up: up.trim().parse()?,
            read: before..Instant::now(),
        })
    }

    /// The moments between which a time ends that began between two uptimes.
    fn range(&self, uptimes: &str, time: Duration) -> Result<Range<Instant>> {
        let (from, to) = uptimes.split_once(' ').context("no uptimes")?;
        let since = |up: &str| -> Result<Duration> {
            Ok(Duration::try_from_secs_f64(up.parse::<f64>()? - self.up)?)
        };
        let Range { start, end } = self.read;
        Ok(start + since(from)? + time..end + since(to)? + time)
    }
}
