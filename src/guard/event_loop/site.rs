//! What the loop does for a site that is followed.

use std::io;
use std::time::Instant;

use serde_json::json;

use crate::guard::due::Need;
use crate::guard::feeds::event::Event;
use crate::guard::log::Level;
use crate::guard::site::{Order, Site};
use crate::kernel::unconfirmed::{self, Identity};

use super::{Guard, Phase};

impl Guard {
    /// Returns whether rules that are not confirmed are, or come, into force.
    pub(super) fn is_trial(&self) -> bool {
        self.site.as_ref().is_some_and(Site::is_trial)
    }

    /// Has the policies read that were confirmed last.
    pub(super) fn pick(&mut self) {
        if let Some(site) = &self.site {
            self.desired.pick(site.pick());
        }
        self.note_site();
    }

    /// Notes how far the site is, for status and metrics.
    pub(super) fn note_site(&mut self) {
        self.record.site = self.site.as_ref().map(Site::report);
        if let Some(site) = &mut self.site {
            let counts = json!({
                "changes": self.record.changes,
                "restored": self.record.repairs,
                "failing": self.record.failure.is_some(),
            });
            site.tell(counts, Instant::now());
        }
    }

    /// Returns the mark of rules that are not confirmed, for the stamp of the table; empty if they are.
    pub(super) fn mark(&self) -> String {
        let own = self
            .is_trial()
            .then(|| Identity::of(std::process::id()).ok());
        own.flatten().map(unconfirmed::mark).unwrap_or_default()
    }

    /// Starts the work for a site that is due.
    pub(super) fn begin_site(&mut self, now: Instant) -> io::Result<()> {
        let is_ready = self.phase == Phase::Running && !self.desired.awaits_last_good();
        let Some(site) = &mut self.site else {
            return Ok(());
        };
        let order = site.begin(now, &self.engines, is_ready)?;
        // The trial of a first generation: there is nothing else to bring into force.
        let is_to_remove = is_ready && site.is_restoring() && self.desired.origin().is_none();
        self.obey(order, now);
        if is_to_remove {
            self.remove_table();
        }
        self.note_site();
        Ok(())
    }

    /// Takes an event of a site.
    pub(super) fn take_from_site(&mut self, event: Event, now: Instant) {
        let is_mine = self.desired.origin().is_some()
            || self.enforcement.is_there().is_ok_and(|is_there| !is_there);
        let Some(site) = &mut self.site else {
            return;
        };
        let order = match event {
            Event::Examined(mut examined) => {
                self.desired
                    .fetch_later(std::mem::take(&mut examined.requests));
                site.take_examined(*examined, is_mine, now)
            }
            Event::Probed(answer) => site.take_probed(answer.as_ref(), now),
            _ => {
                site.look_at(now);
                None
            }
        };
        self.obey(order, now);
    }

    /// Notes whether the desired rules are in force.
    pub(super) fn enforced_for_site(&mut self, is_done: bool) {
        let Some(site) = &mut self.site else {
            return;
        };
        let now = Instant::now();
        let is_restored = is_done && site.is_restoring();
        let order = site.enforced(is_done, now);
        if is_restored {
            // If both have the same rules, the stamp is that of the trial.
            self.confirm_table();
        }
        self.obey(order, now);
    }

    fn obey(&mut self, order: Option<Order>, now: Instant) {
        match order {
            None => {}
            Some(Order::Apply(policies)) => {
                self.desired.try_out(policies);
                self.due.at(Need::Policies, now);
            }
            Some(Order::Keep) => {
                self.desired.end_trial(true);
                self.confirm_table();
                self.due.at(Need::Policies, now);
                self.desired.read_at(now);
            }
            Some(Order::RollBack) => {
                self.desired.end_trial(false);
                self.due.at(Need::Policies, now);
                if self.desired.origin().is_none() {
                    self.remove_table();
                } else if self.desired.ruleset().is_some() {
                    // At once, with what is known of this host.
                    let done = self.enforce(Need::Links);
                    let is_done = done.is_ok();
                    self.done(Need::Host, done);
                    self.enforced_for_site(is_done);
                }
            }
        }
        self.pick();
    }

    /// Removes the table, which the trial of a first generation has created.
    fn remove_table(&mut self) {
        match self.enforcement.remove_unconfirmed() {
            Ok(()) => {
                let text = "rolled back: no rules are in force, as before";
                self.log.say(Level::Warning, text);
                self.record.origin = None;
                self.enforced_for_site(true);
            }
            Err(error) => {
                let text = format!("cannot roll back: {error}");
                self.log.say(Level::Error, &text);
            }
        }
    }

    /// Notes in the table that its rules are confirmed.
    fn confirm_table(&mut self) {
        if let Err(error) = self.enforcement.confirm() {
            // The rules stay; a mark of a process that is gone is ignored.
            let text =
                format!("the stamp of the table says that its rules are not confirmed: {error}");
            self.log.say(Level::Warning, &text);
        }
    }
}
