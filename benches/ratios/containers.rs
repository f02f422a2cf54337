//! Many containers: what `audit` costs, and what guard needs when one of them starts.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::cost::Work;
use crate::daemon::{Guard, until};
use crate::dfw;
use crate::goal::Goals;
use crate::race::{Contender, Track, median};
use crate::size::{Scale, short};
use crate::support::command::output;
use crate::support::fake_engine::{Answers, FIRST_PORT, FakeEngine};
use crate::support::netns::Namespace;

/// How many containers the limits are for.
const MANY: usize = 1_000;
/// How many events are measured together.
const EVENTS: usize = 6;
/// Longer than guard waits for more events before it asks the engine.
const QUIET: Duration = Duration::from_millis(150);

/// An engine with containers, and a policy with an entry for the port of each.
pub(crate) struct Host {
    engine: FakeEngine,
    policy: PathBuf,
    folder: PathBuf,
}

impl Host {
    pub(crate) fn new(track: &Track, containers: usize) -> Result<Self> {
        let folder = track.dir().join(format!("containers-{containers}"));
        fs::create_dir_all(&folder)?;
        let mut policy = "default: deny\nports:\n".to_owned();
        for port in FIRST_PORT..FIRST_PORT + containers {
            let _ = writeln!(policy, "  {port}: [192.0.2.0/24, 203.0.113.7]");
        }
        let path = folder.join("policy.yaml");
        fs::write(&path, policy)?;
        Ok(Self {
            engine: FakeEngine::start(folder.join("engine.sock"), Answers::many(containers)?)?,
            policy: path,
            folder,
        })
    }

    /// `audit` of what the engine runs, with the policy in force.
    pub(crate) fn audit(&self) -> Contender<'_> {
        let socket = self.engine.socket().as_os_str();
        let audit = Work::new([
            dfw().as_ref(),
            "audit".as_ref(),
            "--docker-host".as_ref(),
            socket,
        ]);
        Contender::new("dfw", audit).after(|namespace| self.apply(namespace))
    }

    fn apply(&self, namespace: &Namespace) -> Result<()> {
        output(namespace.command(dfw()).arg("apply").arg(&self.policy))?;
        Ok(())
    }

    /// Returns guard's processor time for the start of a container, in milliseconds.
    pub(crate) fn event(&self, namespace: &Namespace) -> Result<f64> {
        let state = self.folder.join("guard");
        fs::create_dir_all(&state)?;
        let guard = Guard::start(namespace, &state, &self.policy, Some(self.engine.socket()))?;
        until("the engine", || (self.engine.listeners() > 0).then_some(()))?;
        self.settle(1)?;
        let before = guard.processor_time()?;
        self.settle(EVENTS)?;
        let cost = (guard.processor_time()? - before) / as_f64(EVENTS);
        let status = guard.status()?;
        ensure!(status["engines"][0]["containers"] != 0, "{status}");
        drop(guard);
        fs::remove_dir_all(&state)?;
        Ok(cost)
    }

    /// Lets a container stop and start in turn, so often, and waits until guard has asked about each.
    fn settle(&self, events: usize) -> Result<()> {
        for number in 0..events {
            self.engine.asked();
            let path = self.engine.run(0, number % 2 == 1)?;
            until("an event", || {
                self.engine.asked().contains(&path).then_some(())
            })?;
            thread::sleep(QUIET);
        }
        Ok(())
    }
}

/// Measures both with a thousand containers.
pub(crate) fn containers(track: &mut Track, goals: &mut Goals, scale: Scale) -> Result<()> {
    let number = if scale == Scale::Small { 200 } else { MANY };
    let host = Host::new(track, number)?;
    let work = format!("audit of {} containers", short(number));
    let audit = track.race(&work, &[host.audit()])?["dfw"];
    let limit = |wanted, small| scale.limit(number == MANY, wanted, small);
    goals.at_most(&work, "audit, ms", audit.cpu, limit(500.0, 200.0));
    let work = format!("a start among {} containers", short(number));
    let rounds = if scale == Scale::Small {
        1
    } else {
        track.rounds
    };
    let mut events = Vec::new();
    for _ in 0..rounds {
        events.push(track.inside(|[namespace]| host.event(namespace))?);
    }
    let event = median(events);
    goals.at_most(&work, "guard, ms", event, limit(5.0, 5.0));
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
pub(crate) fn as_f64(number: usize) -> f64 {
    number as f64
}
