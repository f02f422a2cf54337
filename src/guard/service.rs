//! Notifies the service manager, if one started guard (`sd_notify(3)`).

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use super::log::one_line;

/// The service manager.
#[derive(Debug)]
pub(super) struct Service {
    /// The interval of watchdog notifications: half the watchdog timeout.
    every: Option<Duration>,
    /// Not before guard is ready: systemd starts the watchdog with the first notification.
    next: Option<Instant>,
}

impl Service {
    pub(super) fn new() -> Self {
        let every = sd_notify::watchdog_enabled().map(|patience| patience / 2);
        Self { every, next: None }
    }

    pub(super) fn ready(&mut self, status: &str) {
        tell(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
        self.next = self.every.map(|_| Instant::now());
    }

    /// Returns the time of the next watchdog notification.
    pub(super) fn next(&self) -> Option<Instant> {
        self.next
    }

    pub(super) fn alive(&mut self, now: Instant) {
        if self.next.is_some_and(|next| next <= now) {
            tell(&[NotifyState::Watchdog]);
            self.next = self.every.map(|every| now + every);
        }
    }
}

pub(super) fn reloading() {
    let mut states = vec![NotifyState::Reloading];
    states.extend(NotifyState::monotonic_usec_now());
    tell(&states);
}

pub(super) fn status(status: &str) {
    // A line break would start another assignment.
    tell(&[NotifyState::Status(&one_line(status))]);
}

pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(states: &[NotifyState<'_>]) {
    // Without a service manager this does nothing; errors are ignored.
    let _ = sd_notify::notify(states);
}
