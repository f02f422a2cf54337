//! Permissions for a time that root gave by the control socket.
//!
//! Each has an end of its own, on two clocks. While this machine runs it is the time since boot, which nobody can
//! set and which a suspended machine counts. Over a reboot it is the time of day: how much is left is computed from
//! it, and nothing is left if the clock stands behind the moment at which the state was saved.
//!
//! The kernel ends access by itself. Guard wakes at each end, by `CLOCK_BOOTTIME`: the kernel's timeouts stand still
//! while the machine is suspended, and what has ended meanwhile is taken out then.

use std::fmt::Write;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use rustix::fd::AsFd;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use serde_json::{Value, json};

use crate::clock::since_boot;
use crate::host::grant::Grant;
use crate::net::{Entry, HostPorts};
use crate::policy::{Policy, parse_entry};
use crate::untrusted::clean_to;

use super::desired::STATE;
use super::feeds::event::Event;
use super::feeds::feed::{Feed, Polled, readable};
use super::feeds::job::within;
use super::granted::{Given, Request, Saved, Sender};
use super::log::{Level, Log};
use super::record;
use super::state::{self, Error};

/// The most grants at a time.
const MOST: usize = 65_536;
/// The longest reason, in characters.
const REASON: usize = 200;
/// How often the time is saved while there are grants, by which a clock that was set back is recognised at boot.
const SAVE: Duration = Duration::from_mins(1);
/// How long after an end guard looks: the kernel counts in jiffies.
const LATER: Duration = Duration::from_millis(50);

/// The grants, and a timer for the next end.
#[derive(Debug)]
pub(super) struct Grants {
    given: Vec<(Given, Grant)>,
    next: u64,
    boot: String,
    timer: OwnedFd,
    /// When the time is saved next.
    save: Option<Instant>,
    log: Log,
}

impl Grants {
    /// Reads the saved grants, of which those that have ended are left out.
    ///
    /// # Errors
    /// If there is no timer.
    pub(super) fn open(folder: PathBuf, log: Log) -> io::Result<Self> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        let boot = boot.map(|boot| boot.trim().to_owned());
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let mut grants = Self {
            given: Vec::new(),
            next: 1,
            boot: boot.unwrap_or_default(),
            timer: timerfd_create(TimerfdClockId::Boottime, flags)?,
            save: None,
            log,
        };
        match within(STATE, move || state::read_grants(&folder))? {
            Some(Ok(saved)) => grants.take_up(saved, Timestamp::now(), since_boot()),
            Some(Err(Error::Missing(_))) => {}
            Some(Err(error)) => log.say(Level::Warning, &error.to_string()),
            None => log.say(
                Level::Warning,
                "the saved grants cannot be read in time: they end",
            ),
        }
        // The boot of this machine may be another one by now.
        grants.save = Some(Instant::now());
        grants.set_timer();
        Ok(grants)
    }

    /// Takes saved grants up, as of a time of day and a time since boot.
    fn take_up(&mut self, saved: Saved, today: Timestamp, now: Duration) {
        self.next = saved.next;
        let same_boot = !self.boot.is_empty() && saved.boot == self.boot;
        if !same_boot && today.as_millisecond() < saved.at && !saved.grants.is_empty() {
            let text = format!(
                "the clock stands at {today}, before the time at which grants were saved: {} end now",
                saved.grants.len()
            );
            return self.log.say(Level::Warning, &text);
        }
        for mut given in saved.grants {
            let (Ok(from), Ok(to)) = (parse_entry(&given.from), given.to.parse()) else {
                continue;
            };
            if !same_boot {
                let left = given.until.saturating_sub(today.as_millisecond()).max(0);
                let left = Duration::from_millis(u64::try_from(left).unwrap_or_default());
                given.end = milliseconds(now.saturating_add(left));
            }
            let end = Duration::from_millis(given.end);
            if end > now {
                self.given.push((given, Grant { to, from, end }));
            }
        }
    }

    /// Returns the grants for the compiler.
    pub(super) fn in_force(&self) -> Vec<Grant> {
        self.given.iter().map(|(_, grant)| grant.clone()).collect()
    }

    /// Returns how many there are.
    pub(super) fn count(&self) -> usize {
        self.given.len()
    }

    /// Returns what is to be saved.
    pub(super) fn to_save(&self) -> Saved {
        Saved {
            at: Timestamp::now().as_millisecond(),
            boot: self.boot.clone(),
            next: self.next,
            grants: self.given.iter().map(|(given, _)| given.clone()).collect(),
        }
    }

    /// Handles a request that changes something, under a policy in force; returns the grants that it is about.
    ///
    /// # Errors
    /// Why not, for people; then nothing has changed.
    pub(super) fn change(
        &mut self,
        request: &Request,
        policy: Option<&Policy>,
        by: Sender,
    ) -> Result<Vec<Value>, String> {
        let about = match request {
            Request::Add {
                from,
                to,
                seconds,
                reason,
            } => self.add(from, to, Duration::from_secs(*seconds), reason, policy, by)?,
            Request::Revoke(what) => self.revoke(what, by)?,
            Request::List => self.given.iter().map(|(given, _)| given.clone()).collect(),
        };
        self.set_timer();
        Ok(about.iter().map(document).collect())
    }

    fn add(
        &mut self,
        from: &[String],
        to: &str,
        time: Duration,
        reason: &str,
        policy: Option<&Policy>,
        by: Sender,
    ) -> Result<Vec<Given>, String> {
        let policy = policy.ok_or("guard has no policies in force yet")?;
        let to: HostPorts = to.parse().map_err(|_| "this is no port".to_owned())?;
        may_be_given(&to, time, policy)?;
        let entries: Result<Vec<Entry>, _> = from
            .iter()
            .map(|text| {
                parse_entry(text).map_err(|_| format!("`{}` is no address", clean_to(text, 80)))
            })
            .collect();
        let entries = entries?;
        if self.given.len() + entries.len() > MOST {
            return Err(format!("there are {MOST} grants at most"));
        }
        let (today, now) = (Timestamp::now(), since_boot());
        let end = now.saturating_add(time);
        let until = today.saturating_add(SignedDuration::try_from(time).unwrap_or_default());
        let until = until.map_err(|_| "this time has no end".to_owned())?;
        let mut about = Vec::new();
        for from in entries {
            let given = Given {
                id: self.next,
                from: from.to_string(),
                to: to.to_string(),
                made: today.as_millisecond(),
                until: until.as_millisecond(),
                end: milliseconds(end),
                uid: by.uid,
                reason: clean_to(reason, REASON),
            };
            self.next += 1;
            let end = Duration::from_millis(given.end);
            self.given.push((given.clone(), Grant { to, from, end }));
            about.push(given);
        }
        self.tell("granted", &about, &format!(", asked by {}", sender(by)));
        Ok(about)
    }

    /// Ends the grant with a number, or those of an address or a network and of the addresses in it.
    fn revoke(&mut self, what: &str, by: Sender) -> Result<Vec<Given>, String> {
        let id: Option<u64> = what.parse().ok();
        let entry = parse_entry(what).ok();
        if id.is_none() && entry.is_none() {
            return Err(format!(
                "`{}` is neither the number of a grant nor an address",
                clean_to(what, 80)
            ));
        }
        let is_meant = |given: &Given, grant: &Grant| {
            Some(given.id) == id || entry.is_some_and(|entry| entry.covers(grant.from))
        };
        let gone = self.remove(is_meant);
        if gone.is_empty() {
            return Err(format!("there is no grant {}", clean_to(what, 80)));
        }
        self.tell("revoked", &gone, &format!(", asked by {}", sender(by)));
        Ok(gone)
    }

    /// Takes out what has ended; returns whether anything has.
    pub(super) fn end(&mut self) -> bool {
        let now = since_boot();
        let gone = self.remove(|_, grant| grant.end <= now);
        self.tell("ended", &gone, "");
        self.set_timer();
        !gone.is_empty()
    }

    /// Ends what the policy does not allow any more, and shortens what is longer than it allows; returns whether
    /// anything changed.
    pub(super) fn follow(&mut self, policy: &Policy) -> bool {
        let gone = self
            .remove(|_, grant| may_be_given(&grant.to, Duration::from_secs(1), policy).is_err());
        self.tell("ended", &gone, ": the policy allows it no more");
        let mut shorter = Vec::new();
        if let Some(bounds) = &policy.grants {
            let most = milliseconds(bounds.max_time);
            for (given, grant) in &mut self.given {
                let length = u64::try_from(given.until - given.made).unwrap_or_default();
                if let Some(over @ 1..) = length.checked_sub(most) {
                    given.until = given.until.saturating_sub_unsigned(over);
                    given.end = given.end.saturating_sub(over);
                    grant.end = Duration::from_millis(given.end);
                    shorter.push(given.clone());
                }
            }
        }
        self.tell("shortened", &shorter, ": the policy allows less time");
        self.set_timer();
        !gone.is_empty() || !shorter.is_empty()
    }

    fn remove(&mut self, is_meant: impl Fn(&Given, &Grant) -> bool) -> Vec<Given> {
        let gone = self
            .given
            .extract_if(.., |(given, grant)| is_meant(given, grant));
        gone.map(|(given, _)| given).collect()
    }

    /// Logs what became of grants; of many, the first and their number.
    fn tell(&self, word: &str, about: &[Given], why: &str) {
        const LINES: usize = 10;
        for given in about.iter().take(LINES) {
            let until = time(given.until);
            let mut text = format!(
                "{word} {}: {} to {} until {until}",
                given.id, given.from, given.to
            );
            text.push_str(why);
            if !given.reason.is_empty() {
                let _ = write!(text, ", reason: {}", given.reason);
            }
            self.log.say(Level::Notice, &text);
        }
        if let Some(more @ 1..) = about.len().checked_sub(LINES) {
            self.log
                .say(Level::Notice, &format!("{word}: {more} more grants{why}"));
        }
    }

    /// Sets the timer to the next end, also of a machine that is suspended until then.
    fn set_timer(&mut self) {
        let next = self.given.iter().map(|(_, grant)| grant.end).min();
        let at = next.map_or(Duration::ZERO, |end| end.saturating_add(LATER));
        let at = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec::try_from(at).unwrap_or_default(),
        };
        if let Err(error) = timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &at) {
            let text = format!("no timer for the end of grants: {error}");
            self.log.say(Level::Error, &text);
        }
        self.save = next.map(|_| self.save.unwrap_or_else(|| Instant::now() + SAVE));
    }

    /// Returns whether the time is to be saved again.
    pub(super) fn is_save_due(&mut self, now: Instant) -> bool {
        let is_due = self.save.is_some_and(|when| when <= now);
        if is_due {
            self.save = Some(now + SAVE);
        }
        is_due
    }
}

impl Feed for Grants {
    fn descriptors(&self) -> Vec<Polled<'_>> {
        readable([&self.timer])
    }

    fn deadline(&self) -> Option<Instant> {
        self.save
    }

    fn drain(&mut self, _: Instant, events: &mut Vec<Event>) -> io::Result<()> {
        let mut ticks = [0; 8];
        if rustix::io::read(self.timer.as_fd(), &mut ticks).is_ok() {
            events.push(Event::GrantsEnd);
        }
        Ok(())
    }
}

/// Returns whether a policy allows a grant; if not, why.
fn may_be_given(to: &HostPorts, time: Duration, policy: &Policy) -> Result<(), String> {
    let Some(bounds) = &policy.grants else {
        return Err("the policy allows no grants: it has no `grants:`".to_owned());
    };
    if !bounds.permits(to) {
        return Err(format!("the policy allows no grants for {to}"));
    }
    if time.is_zero() {
        return Err("a grant takes a second at least".to_owned());
    }
    if time > bounds.max_time {
        let most = crate::policy::describe_time(bounds.max_time);
        return Err(format!("the policy allows {most} at most"));
    }
    if !policy.ports.keys().any(|key| key.meets(to)) {
        return Err(format!(
            "the policy has no entry for {to}: a grant adds a source to an entry"
        ));
    }
    Ok(())
}

/// Returns a grant as in JSON documents.
fn document(given: &Given) -> Value {
    let left = Duration::from_millis(given.end).saturating_sub(since_boot());
    json!({
        "id": given.id,
        "from": given.from,
        "to": given.to,
        "made": time(given.made),
        "until": time(given.until),
        "seconds_left": left.as_secs(),
        "uid": given.uid,
        "reason": given.reason,
    })
}

/// Returns a time for people, in whole seconds.
fn time(milliseconds: i64) -> String {
    let time = Timestamp::from_millisecond(milliseconds);
    time.map_or_else(|_| "?".to_owned(), |time| record::rounded(time).to_string())
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn sender(by: Sender) -> String {
    format!("user {} (process {})", by.uid, by.pid)
}
