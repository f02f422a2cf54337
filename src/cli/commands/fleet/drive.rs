//! `dfw fleet pause` and `resume`: moves a roll-out from stage to stage.

use std::time::{Duration, Instant};

use crate::bundle::Role;
use crate::cli::report::failure::Failure;
use crate::fleet::Error;
use crate::fleet::keys::Signer;
use crate::fleet::progress::{Step, View, Waits};
use crate::fleet::push;
use crate::fleet::site::{Site, Snapshot};
use crate::output::terminal::{Terminal, Tone};

use super::{ResumeArgs, SteerArgs, WaitArgs, status};

/// How often the time is looked at while nothing changes.
const TICK: Duration = Duration::from_secs(5);
/// The wait after another `dfw fleet` was faster.
const REST: Duration = Duration::from_millis(200);

pub(super) fn pause(terminal: Terminal, args: &SteerArgs) -> Result<(), Failure> {
    let signer = Signer::read(&args.secret_key)?;
    let mut site = args.store.open(&[(&signer, Role::Operations)])?;
    let snapshot = site.read()?;
    let open = snapshot.rollout.as_ref().map_or(0, |rollout| rollout.open);
    push::steer(
        &mut site,
        &snapshot,
        open,
        Some(args.reason.clone()),
        &signer,
    )?;
    terminal.say(Tone::Warning, "paused", &args.reason);
    status::show(terminal, &mut site)
}

pub(super) fn resume(terminal: Terminal, args: &ResumeArgs) -> Result<(), Failure> {
    let signer = Signer::read(&args.secret_key)?;
    let mut site = args.store.open(&[(&signer, Role::Operations)])?;
    let snapshot = site.read()?;
    if let Some(rollout) = snapshot
        .rollout
        .as_ref()
        .filter(|rollout| rollout.stopped.is_some())
    {
        push::steer(&mut site, &snapshot, rollout.open, None, &signer)?;
    }
    roll_out(terminal, &mut site, &args.wait, &signer)
}

/// Opens one stage after the other until all hosts have the generation, or one has a problem.
pub(super) fn roll_out(
    terminal: Terminal,
    site: &mut Site,
    args: &WaitArgs,
    signer: &Signer,
) -> Result<(), Failure> {
    let waits = Waits {
        settle: args.settle,
        patience: args.patience,
    };
    let mut driver = Driver {
        terminal,
        waits,
        now: args.now,
        signer,
        healthy: None,
        said: String::new(),
    };
    let is_done = loop {
        let snapshot = site.read()?;
        match driver.step(site, &snapshot) {
            Ok(None) => site.wait(&snapshot, driver.rest())?,
            Ok(Some(is_done)) => break is_done,
            Err(Error::Overtaken) => std::thread::sleep(REST),
            Err(error) => return Err(error.into()),
        }
    };
    let shown = status::show(terminal, site);
    if is_done {
        Ok(())
    } else {
        shown.and(Err(Failure::Incomplete))
    }
}

struct Driver<'a> {
    terminal: Terminal,
    waits: Waits,
    now: bool,
    signer: &'a Signer,
    /// The generation and the open stages of which all hosts are healthy, and since when.
    healthy: Option<(u64, u32, Instant)>,
    said: String,
}

impl Driver<'_> {
    /// Does the next step; returns whether all hosts have the generation, once nothing is left to do.
    fn step(&mut self, site: &mut Site, snapshot: &Snapshot) -> Result<Option<bool>, Error> {
        let (Some(head), Some(manifest)) = (&snapshot.head, &snapshot.manifest) else {
            return Err(push::nothing());
        };
        let Some(rollout) = &snapshot.rollout else {
            push::steer(site, snapshot, 1, None, self.signer)?;
            return Ok(None);
        };
        if let Some(reason) = &rollout.stopped {
            self.say(Tone::Bad, "stopped", reason);
            return Ok(Some(false));
        }
        let key = (rollout.generation, rollout.open);
        let since = self
            .healthy
            .filter(|(generation, open, _)| (*generation, *open) == key);
        let view = View {
            manifest,
            digest: &head.statement.manifest,
            rollout,
            record: &snapshot.record,
            hosts: &snapshot.hosts,
            now: snapshot.now,
            healthy: since.map_or(Duration::ZERO, |(_, _, since)| since.elapsed()),
        };
        let stages = view.stages();
        if self.now && rollout.open < stages {
            push::steer(site, snapshot, stages, None, self.signer)?;
            return Ok(None);
        }
        let step = view.step(self.waits);
        self.healthy = match step {
            Step::Settle => since.or(Some((key.0, key.1, Instant::now()))),
            _ => None,
        };
        match step {
            Step::Wait { done, of } => {
                let text = format!(
                    "generation {}, stage {} of {stages}: {done} of {of} hosts",
                    key.0, key.1
                );
                self.say(Tone::Good, "rolling out", &text);
            }
            Step::Settle => {
                let text = format!(
                    "generation {}, stage {} of {stages}: all hosts have it",
                    key.0, key.1
                );
                self.say(Tone::Good, "rolling out", &text);
            }
            Step::Open(open) => push::steer(site, snapshot, open, None, self.signer)?,
            Step::Stop(reason) => {
                push::steer(site, snapshot, rollout.open, Some(reason), self.signer)?;
            }
            Step::Done => {
                let text = format!(
                    "generation {} is in force on all hosts that are alive",
                    key.0
                );
                self.say(Tone::Good, "done", &text);
                return Ok(Some(true));
            }
        }
        Ok(None)
    }

    /// Returns how long to wait for a change.
    fn rest(&self) -> Duration {
        let left = self
            .healthy
            .map(|(_, _, since)| self.waits.settle.saturating_sub(since.elapsed()));
        left.map_or(TICK, |left| left.min(TICK))
    }

    fn say(&mut self, tone: Tone, word: &str, text: &str) {
        if self.said != text {
            self.terminal.say(tone, word, text);
            text.clone_into(&mut self.said);
        }
    }
}
