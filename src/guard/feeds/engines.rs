//! Follows container engines in a thread of their own: a request may take long.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

use futures_util::future::join_all;
use rustix::event::{EventfdFlags, eventfd};
use tokio::runtime::Runtime;
use tokio::sync::Notify;

use crate::host::docker::{Ask, Unanswered};
use crate::host::engine::Engine;
use crate::host::follow::{self, Report};
use crate::untrusted::clean_to;

use super::event::Event;
use super::feed::{Feed, Polled, readable};

/// The most queued reports; beyond it the thread blocks.
const WAITING: usize = 16;
/// The longest error text of an engine, in characters.
const REASON: usize = 500;

/// What is known of them.
#[derive(Debug)]
pub(in crate::guard) struct Engines {
    known: BTreeMap<String, Known>,
    wakeup: Arc<OwnedFd>,
    reports: Receiver<(String, Report)>,
    wakes: Vec<Arc<Notify>>,
    /// Engines named by the user, which are reported if absent.
    named: Vec<String>,
}

#[derive(Debug, Default)]
struct Known {
    /// The last report.
    engine: Option<Engine>,
    /// The error of the current query, if it failed.
    unanswered: Option<Unanswered>,
    reported: bool,
    /// Whether events are pending of which the engine has not reported the result.
    busy: bool,
}

impl Engines {
    pub(in crate::guard) fn follow(ask: &Ask) -> io::Result<Self> {
        let addresses = follow::addresses(ask);
        let wakeup = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let (sender, reports) = sync_channel(WAITING);
        let wakes: Vec<Arc<Notify>> = addresses.iter().map(|_| Arc::default()).collect();
        if !addresses.is_empty() {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let (wakeup, wakes, addresses) = (wakeup.clone(), wakes.clone(), addresses.clone());
            std::thread::Builder::new()
                .name("engines".to_owned())
                .spawn(move || follow_all(&runtime, &addresses, &wakes, &sender, &wakeup))?;
        }
        let known = addresses.into_iter().map(|a| (a, Known::default()));
        Ok(Self {
            known: known.collect(),
            wakeup,
            reports,
            wakes,
            named: ask.named.clone(),
        })
    }

    pub(in crate::guard) fn addresses(&self) -> impl Iterator<Item = &str> {
        self.known.keys().map(String::as_str)
    }

    /// Requests a new answer of each engine.
    pub(in crate::guard) fn wake(&self) {
        for wake in &self.wakes {
            wake.notify_one();
        }
    }

    /// Handles a report; returns a text for the log, if there is news, and whether the known state
    /// changed.
    pub(in crate::guard) fn take(
        &mut self,
        address: &str,
        report: Report,
    ) -> (Option<String>, bool) {
        let known = self.known.entry(address.to_owned()).or_default();
        let first =
            !matches!(report, Report::Changing) && !std::mem::replace(&mut known.reported, true);
        known.busy = matches!(
            report,
            Report::Changing | Report::Answer { partial: true, .. }
        );
        match report {
            Report::Answer { engine, partial } => {
                let back = known.unanswered.take().is_some() || known.engine.is_none();
                let changed = known.engine.as_ref() != Some(&*engine);
                let text = back.then(|| {
                    format!(
                        "the container engine at {address} answers: {} {}",
                        engine.kind.name(),
                        engine.version
                    )
                });
                known.engine = Some(*engine);
                // docker-proxy may already listen for containers missing in a partial answer.
                (text, changed || back || first || partial)
            }
            Report::Absent
                if known.engine.is_none() && !self.named.iter().any(|n| n == address) =>
            {
                (None, first)
            }
            Report::Absent => known.lose(address, "no process listens on the socket"),
            Report::Changing => (None, false),
            Report::Silent(Unanswered { reason, .. }) => known.lose(address, &reason),
        }
    }

    /// Returns whether all engines have reported.
    pub(in crate::guard) fn complete(&self) -> bool {
        self.known.values().all(|known| known.reported)
    }

    /// Returns whether an engine has pending events.
    pub(in crate::guard) fn are_busy(&self) -> bool {
        self.known.values().any(|known| known.busy)
    }

    /// Returns whether an engine is known and all of them answer.
    pub(in crate::guard) fn have_answered(&self) -> bool {
        let known = || self.known.values();
        known().any(|known| known.engine.is_some())
            && known().all(|known| known.reported && known.unanswered.is_none())
    }

    /// Returns the last answer of each engine. The published ports of a silent engine stay known.
    pub(in crate::guard) fn engines(&self) -> Vec<Engine> {
        let known = self.known.values();
        known.filter_map(|known| known.engine.clone()).collect()
    }

    /// Returns the engines whose published ports are unknown now.
    pub(in crate::guard) fn unanswered(&self) -> Vec<Unanswered> {
        let yet = |address: &String| Unanswered {
            address: address.clone(),
            reason: "no answer yet".to_owned(),
        };
        let known = self.known.iter();
        known
            .filter_map(|(address, known)| {
                let unanswered = known.unanswered.clone();
                unanswered.or_else(|| (!known.reported).then(|| yet(address)))
            })
            .collect()
    }
}

impl Known {
    fn lose(&mut self, address: &str, reason: &str) -> (Option<String>, bool) {
        let new = self.unanswered.is_none();
        let unanswered = Unanswered {
            address: address.to_owned(),
            reason: clean_to(reason, REASON),
        };
        let text =
            new.then(|| format!("{unanswered}; its last known published ports stay filtered"));
        self.unanswered = Some(unanswered);
        (text, new)
    }
}

impl Feed for Engines {
    fn descriptors(&self) -> Vec<Polled<'_>> {
        readable([&self.wakeup])
    }

    fn drain(&mut self, _: Instant, events: &mut Vec<Event>) -> io::Result<()> {
        // The counter value does not matter.
        let _ = rustix::io::read(&self.wakeup, &mut [0; 8]);
        let reports = self.reports.try_iter();
        events.extend(reports.map(|(address, report)| Event::Engine { address, report }));
        Ok(())
    }
}

fn follow_all(
    runtime: &Runtime,
    addresses: &[String],
    wakes: &[Arc<Notify>],
    sender: &SyncSender<(String, Report)>,
    wakeup: &OwnedFd,
) {
    let tell = |address: &str, report| {
        // The channel is closed only when the process ends.
        let _ = sender.send((address.to_owned(), report));
        let _ = rustix::io::write(wakeup, &1_u64.to_ne_bytes());
    };
    let all = addresses
        .iter()
        .zip(wakes)
        .map(|(address, wake)| follow::follow(address, move |report| tell(address, report), wake));
    runtime.block_on(join_all(all));
}
