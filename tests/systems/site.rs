//! A guest that publishes a port of a container, and a stranger who wants to get in.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::guest::{Guest, PATIENCE};
use crate::lan::{FRIEND, Lan};
use crate::machine::{self, Machine};
use crate::namespaces::Namespaces;
use crate::stranger::{FAMILIES, Mark, PACE, PORT, Stranger, friend_gets_in};
use crate::support::command::wait_for;
use crate::support::edition::roots;
use crate::support::number;

/// The Debian release whose system is booted.
const RELEASE: &str = "trixie";
/// Where the policies of the guest are.
pub(crate) const POLICIES: &str = "/etc/dfw/policies";

/// A port that no policy names, when a container publishes it.
pub(crate) const OTHER: u16 = PORT + 1;

/// The command that makes that container.
pub(crate) fn other(options: &str) -> String {
    format!(
        "docker run -d --name other --stop-signal KILL {options} -p {OTHER}:80 web \
         \"$(command -v busybox)\" httpd -f -p 80"
    )
}

pub(crate) fn root() -> PathBuf {
    roots().join(RELEASE)
}

/// The policy of all trials: one client is allowed, others are denied.
pub(crate) fn policy() -> String {
    let [v4, v6] = FRIEND;
    format!("default: deny\nports: {{{PORT}: [{v4}, \"{v6}\"]}}\n")
}

// Field order is drop order.
pub(crate) struct Site {
    pub(crate) stranger: Stranger,
    pub(crate) guest: Box<dyn Guest>,
    pub(crate) lan: Arc<Lan>,
}

impl Site {
    /// A guest without policies, whose published port is open to everybody.
    pub(crate) fn open() -> Result<Self> {
        Self::with(&FAMILIES, PACE, |number, lan| {
            Ok(Box::new(Namespaces::start(number, &root(), lan)?))
        })
    }

    /// The same on a machine with a release's own kernel, whose engine publishes over these families.
    pub(crate) fn on_a_machine(release: &str, families: &'static [&str]) -> Result<Self> {
        Self::with(families, machine::PACE, |number, lan| {
            Ok(Box::new(Machine::start(number, release, lan)?))
        })
    }

    fn with(
        families: &'static [&str],
        pace: Duration,
        start: impl FnOnce(u32, &Arc<Lan>) -> Result<Box<dyn Guest>>,
    ) -> Result<Self> {
        let number = number();
        let lan = Arc::new(Lan::new(number, families, pace)?);
        let stranger = Stranger::at(PORT, &lan);
        let guest = start(number, &lan)?;
        let site = Self {
            stranger,
            guest,
            lan,
        };
        site.guest.run(&format!(
            "busybox=$(command -v busybox)
             tar -C / -c \"${{busybox#/}}\" | docker import - web
             docker run -d --name web --stop-signal KILL --restart=always -p {PORT}:80 web \"$busybox\" httpd -f -p 80"
        ))?;
        // One who never can get in would prove nothing later on.
        site.stranger.gets_in()?;
        Ok(site)
    }

    /// A guest that is guarded, and since when.
    pub(crate) fn guarded() -> Result<(Self, Mark)> {
        Self::guarded_by("dfw", "")
    }

    /// The same where others can change the table, as on kernels that know no owners.
    pub(crate) fn guarded_without_owner() -> Result<(Self, Mark)> {
        Self::guarded_by("dfw", "Environment=DFW_NO_OWNER=true")
    }

    /// A guest that is guarded by a unit with another setting, and since when.
    pub(crate) fn guarded_by(unit: &str, setting: &str) -> Result<(Self, Mark)> {
        Self::open()?.guard(unit, setting)
    }

    /// Lets a unit with another setting guard it; and since when that is so.
    pub(crate) fn guard(self, unit: &str, setting: &str) -> Result<(Self, Mark)> {
        self.guest.write(
            &format!("/etc/systemd/system/{unit}.service.d/test.conf"),
            &format!("[Service]\n{setting}\n"),
        )?;
        self.guest
            .write(&format!("{POLICIES}/web.yaml"), &policy())?;
        self.run(&format!(
            "systemctl daemon-reload; systemctl enable --now {unit}"
        ))?;
        let mark = self.closed()?;
        Ok((self, mark))
    }

    /// A moment from which on nobody gets in.
    pub(crate) fn closed(&self) -> Result<Mark> {
        // A client that had access before may notice a moment later.
        self.stranger.tries_more()?;
        let mark = self.stranger.mark();
        self.stranger
            .never_got_in(mark)
            .with_context(|| self.journal())?;
        Ok(mark)
    }

    /// Runs a script in the guest; a failure shows what dfw has said there.
    pub(crate) fn run(&self, script: &str) -> Result<String> {
        self.guest.run(script).with_context(|| self.journal())
    }

    /// The end of what dfw has said.
    pub(crate) fn journal(&self) -> String {
        self.guest
            .run("journalctl --no-pager --lines 30 --unit 'dfw*' --output short-precise")
            .unwrap_or_else(|error| format!("no journal: {error:#}"))
    }

    /// Waits until the journal of dfw, since the boot, has these words in it.
    pub(crate) fn said(&self, words: &str) -> Result<()> {
        wait_for(words, PATIENCE, || {
            let found = format!("journalctl --quiet --unit dfw --grep '{words}' --lines 1");
            self.guest.run(&found).ok().map(drop)
        })
        .with_context(|| self.journal())
    }

    /// The process of guard.
    pub(crate) fn pid(&self) -> Result<u32> {
        let pid = self.run("systemctl show --property MainPID --value dfw")?;
        Ok(pid.trim().parse()?)
    }

    /// Waits until another guard than this one runs, and says that it is ready.
    pub(crate) fn successor_of(&self, pid: u32) -> Result<u32> {
        wait_for("another guard", PATIENCE, || {
            self.guest.run("systemctl is-active --quiet dfw").ok()?;
            self.pid().ok().filter(|new| ![0, pid].contains(new))
        })
        .with_context(|| self.journal())
    }

    /// A running guard's answer.
    pub(crate) fn status(&self) -> Result<serde_json::Value> {
        let status: serde_json::Value = serde_json::from_str(&self.run("dfw status --json")?)?;
        Ok(status["guard"].clone())
    }

    /// Waits until nothing is left to be done.
    pub(crate) fn is_settled(&self) -> Result<()> {
        wait_for("the policies to be in force", PATIENCE, || {
            self.guest
                .run(&format!("dfw plan --exit-code {POLICIES}"))
                .ok()
                .map(drop)
        })
        .with_context(|| self.journal())
    }

    /// Fails if the untrusted client had access since then, or if the allowed one has none.
    pub(crate) fn only_friends_get_in(&self, since: Mark) -> Result<()> {
        friend_gets_in(&self.lan).with_context(|| self.journal())?;
        self.stranger
            .never_got_in(since)
            .with_context(|| self.journal())
    }
}
