//! A guest that publishes a port of a container, and a stranger who wants to get in.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::guest::Guest;
use crate::lan::{FRIEND, Lan};
use crate::namespaces::Namespaces;
use crate::stranger::{Mark, PORT, Stranger, friend_gets_in};
use crate::support::number;

/// The Debian release whose system is booted.
const RELEASE: &str = "trixie";
/// Where the policies of the guest are.
pub(crate) const POLICIES: &str = "/etc/dfw/policies";

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("target/roots")
        .join(RELEASE)
}

/// The policy of all trials: a friend gets in, and no stranger.
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
        let number = number();
        let lan = Arc::new(Lan::new(number)?);
        let stranger = Stranger::on(&lan);
        let guest = Box::new(Namespaces::start(number, &root(), &lan)?);
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

    /// A guest that is guarded by a unit of dfw, and when that was so.
    pub(crate) fn guarded_by(unit: &str) -> Result<(Self, Mark)> {
        let site = Self::open()?;
        site.guest
            .write(&format!("{POLICIES}/web.yaml"), &policy())?;
        site.run(&format!("systemctl enable --now {unit}"))?;
        // Whoever was let in before may hear of it a moment later.
        site.stranger.tries_more()?;
        let mark = site.stranger.mark();
        site.stranger.never_got_in(mark)?;
        Ok((site, mark))
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

    /// Fails if the stranger got in since then; or if a friend cannot.
    pub(crate) fn only_friends_get_in(&self, since: Mark) -> Result<()> {
        friend_gets_in(&self.lan).with_context(|| self.journal())?;
        self.stranger
            .never_got_in(since)
            .with_context(|| self.journal())
    }
}
