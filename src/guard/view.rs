//! The last known host facts.

use std::time::Duration;

use crate::host::HostView;
use crate::host::grant::Grant;
use crate::kernel;
use crate::site::HostFacts;

use super::due::Backoff;
use super::log::{Level, Log};

/// The delay before a retry, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// What is known.
#[derive(Debug)]
pub(super) struct View {
    site: Option<HostFacts>,
    retry: Backoff,
    failing: bool,
    log: Log,
}

impl View {
    pub(super) fn new(log: Log) -> Self {
        Self {
            site: None,
            retry: Backoff::new(RETRY.0, RETRY.1),
            failing: false,
            log,
        }
    }

    /// Returns the host, if it is known.
    pub(super) fn host(&self) -> Option<&HostView> {
        self.site.as_ref().map(|site| &site.host)
    }

    /// Sets the grants, if the host is known.
    pub(super) fn grant(&mut self, grants: Vec<Grant>) {
        if let Some(site) = &mut self.site {
            site.host.grants = grants;
        }
    }

    /// Returns whether links and addresses are unchanged.
    pub(super) fn is_current(&self) -> bool {
        self.site.as_ref().is_some_and(|site| {
            kernel::links().is_ok_and(|links| links == site.links)
                && kernel::addresses().is_ok_and(|addresses| addresses == site.addresses)
        })
    }

    /// Stores new host facts. If reading failed, the known facts stay, since rules compiled without
    /// them would open published ports; then it returns the delay before the next attempt.
    pub(super) fn take(
        &mut self,
        facts: Result<HostFacts, kernel::Error>,
    ) -> Result<Option<Duration>, kernel::Error> {
        match facts {
            Ok(site) => {
                self.site = Some(site);
                self.retry.reset();
                if std::mem::take(&mut self.failing) {
                    self.log
                        .say(Level::Notice, "the state of this host is up to date again");
                }
                Ok(None)
            }
            Err(error) if self.site.is_none() => Err(error),
            Err(error) => Ok(Some(self.fail(&error))),
        }
    }

    /// Logs a failed read of the host; returns the delay before the next attempt.
    pub(super) fn fail(&mut self, error: &kernel::Error) -> Duration {
        let wait = self.retry.next();
        self.failing = true;
        let text =
            format!("{error}; keeping the last known state of this host, retrying in {wait:?}");
        self.log.say(Level::Warning, &text);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_stays() {
        let failed = || {
            Err(kernel::Error::Socket(
                std::io::ErrorKind::OutOfMemory.into(),
            ))
        };
        let site = |old_kernel| HostFacts {
            host: HostView {
                old_kernel,
                ..HostView::default()
            },
            unanswered: Vec::new(),
            links: Vec::new(),
            addresses: Vec::new(),
            survey: None,
        };
        let mut view = View::new(Log::new());
        assert!(view.take(failed()).is_err());
        assert_eq!(view.take(Ok(site(true))).unwrap(), None);
        assert_eq!(view.take(failed()).unwrap(), Some(RETRY.0));
        assert_eq!(view.take(failed()).unwrap(), Some(2 * RETRY.0));
        assert!(view.host().unwrap().old_kernel);
        assert_eq!(view.take(Ok(site(false))).unwrap(), None);
        assert!(!view.host().unwrap().old_kernel);
        assert_eq!(view.take(failed()).unwrap(), Some(RETRY.0));
    }
}
