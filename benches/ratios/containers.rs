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
use crate::support::fake_engine::{Answers, FIRST_PORT, FakeEngine, networking};
use crate::support::netns::Namespace;

/// How many containers the limits are for.
const MANY: usize = 1_000;
/// As many as a server has.
const FEW: usize = 20;
/// How long guard looks for new sockets after an event: that is part of the cost.
const QUIET: Duration = Duration::from_millis(2_200);

/// The host's own link.
const UPLINK: &str = "link add eth0 type veth peer name wire\nlink set wire up\naddr add 203.0.113.1/24 dev eth0\nlink set eth0 up\n\
    route add default via 203.0.113.2\n";

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
        let (links, nat) = networking(containers);
        fs::write(folder.join("links"), links + UPLINK)?;
        fs::write(folder.join("nat"), nat)?;
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

    /// Makes what an engine has made in its network namespace.
    fn network(&self, namespace: &Namespace) -> Result<()> {
        let mut ip = namespace.command("ip");
        output(ip.arg("-batch").arg(self.folder.join("links")))?;
        let mut nat = namespace.command("iptables-nft-restore");
        output(nat.arg(self.folder.join("nat")))?;
        Ok(())
    }

    fn apply(&self, namespace: &Namespace) -> Result<()> {
        self.network(namespace)?;
        output(namespace.command(dfw()).arg("apply").arg(&self.policy))?;
        Ok(())
    }

    /// Returns guard's processor time for the start of a container, in milliseconds.
    pub(crate) fn event(&self, namespace: &Namespace) -> Result<f64> {
        self.network(namespace)?;
        let state = self.folder.join("guard");
        fs::create_dir_all(&state)?;
        let guard = Guard::start(namespace, &state, &self.policy, Some(self.engine.socket()))?;
        until("the engine", || (self.engine.listeners() > 0).then_some(()))?;
        thread::sleep(QUIET);
        self.change(false)?;
        let before = guard.processor_time()?;
        self.change(true)?;
        let cost = guard.processor_time()? - before;
        let status = guard.status()?;
        ensure!(status["engines"][0]["containers"] != 0, "{status}");
        drop(guard);
        fs::remove_dir_all(&state)?;
        Ok(cost)
    }

    /// Lets a container stop or start, and waits until guard has asked about it and rests.
    fn change(&self, runs: bool) -> Result<()> {
        self.engine.asked();
        let path = self.engine.run(0, runs)?;
        until("an event", || {
            self.engine.asked().contains(&path).then_some(())
        })?;
        thread::sleep(QUIET);
        Ok(())
    }
}

/// Measures both with a thousand containers.
pub(crate) fn containers(track: &mut Track, goals: &mut Goals, scale: Scale) -> Result<()> {
    let number = if scale == Scale::Small { 200 } else { MANY };
    let work = format!("audit of {} containers", short(number));
    let audit = track.race(&work, &[Host::new(track, number)?.audit()])?["dfw"];
    let limit = |wanted, small| scale.limit(number == MANY, wanted, small);
    goals.at_most(&work, "audit, ms", audit.cpu, limit(500.0, 200.0));
    if scale == Scale::Small {
        return Ok(());
    }
    for containers in [FEW, number] {
        let host = Host::new(track, containers)?;
        let mut events = Vec::new();
        for _ in 0..track.rounds {
            events.push(track.inside(|[namespace]| host.event(namespace))?);
        }
        let work = format!("a start among {} containers", short(containers));
        let most = (containers == FEW).then_some(5.0);
        goals.at_most(&work, "guard, ms", median(events), most);
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
pub(crate) fn as_f64(number: usize) -> f64 {
    number as f64
}
