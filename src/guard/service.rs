//! What guard tells the service manager, if one started it (`sd_notify(3)`).

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use super::log::one_line;

/// The service manager.
#[derive(Debug)]
pub(super) struct Service {
    /// How often it wants to hear that all is well: twice as often as it would give up.
    every: Option<Duration>,
    /// Not before it is ready: from the first sign of life on systemd wants more of them, however long the
    /// first work takes.
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

    /// Returns when it wants to hear next.
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
    // Another line would be another word to the service manager.
    tell(&[NotifyState::Status(&one_line(status))]);
}

pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(states: &[NotifyState<'_>]) {
    // Without a service manager nobody is told; one that does not listen finds out by itself.
    let _ = sd_notify::notify(states);
}
