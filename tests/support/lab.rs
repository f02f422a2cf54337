//! The whole lab: topology, engine, containers, and `dfw` on the lab's host.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::command::{outcome, output, wait_for};
use super::engine::{Engine, Location};
use super::fleet::Fleet;
use super::helper::HELPER;
use super::janitor::Ledger;
use super::netns::Namespace;
use super::probe::{Conversation, Outcome, Transport, ask};
use super::topology::{Topology, source_addresses, well_known};

/// The table that `dfw` keeps its rules in.
pub(crate) const TABLE: &str = "inet dfw-nft";

/// Someone who sends: a machine of the topology or a container, and the address to send from.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) namespace: Namespace,
    from: Option<[IpAddr; 2]>,
}

impl Client {
    /// The address to send from when the other end is `to`.
    fn source(&self, to: IpAddr) -> Option<IpAddr> {
        self.from.map(|[v4, v6]| if to.is_ipv4() { v4 } else { v6 })
    }

    pub(crate) fn ask(&self, to: Target, patience: Duration) -> Result<Outcome> {
        let from = self.source(to.address);
        self.namespace
            .run(|| ask(to.transport, from, (to.address, to.port).into(), patience))
    }

    pub(crate) fn converse(&self, to: Target) -> Result<Conversation> {
        let from = self.source(to.address);
        self.namespace
            .run(|| Conversation::open(to.transport, from, (to.address, to.port).into()))
    }
}

/// Where to send: `tcp host:80`, read by [`Lab::target`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) transport: Transport,
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
}

// Field order is drop order: the ledger, and with it the clean-up, comes last.
pub(crate) struct Lab {
    fleet: Fleet,
    topology: Topology,
    engine: Engine,
    dfw: PathBuf,
    /// Asking the engine takes a tenth of a second, and tables ask often.
    locations: Mutex<BTreeMap<String, Location>>,
    ledger: Ledger,
}

impl Lab {
    /// Builds everything; `dfw` is the program under test.
    pub(crate) fn start(dfw: &str, fleet: Fleet) -> Result<Self> {
        let ledger = Ledger::open()?;
        let topology = Topology::start(&ledger.prefix())?;
        let host = topology.machine("host").context("no host")?;
        let engine = Engine::start(&ledger, host, fleet.edition)?;
        let lab = Self {
            fleet,
            topology,
            engine,
            dfw: dfw.into(),
            locations: Mutex::default(),
            ledger,
        };
        for words in lab.fleet.networks() {
            lab.engine.docker(&format!("network create {words}"))?;
        }
        // Containers with IPv6 are reached by routes, which the engine leaves to the machine.
        lab.host()?.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        thread::scope(|scope| {
            let starts: Vec<_> = lab
                .fleet
                .containers()
                .map(|it| scope.spawn(|| lab.engine.run(it.name, it.options, it.serves)))
                .collect();
            starts
                .into_iter()
                .try_for_each(|start| start.join().map_err(|_| anyhow!("a start panicked"))?)
        })
        .with_context(|| lab.engine.log_tail())?;
        lab.wait_for_containers()?;
        Ok(lab)
    }

    /// The engine's client, for trials that change what runs.
    pub(crate) fn docker(&self, words: &str) -> Result<String> {
        let answer = self.engine.docker(words);
        self.forget_locations();
        answer
    }

    /// Runs one more container that serves what `serves` lists.
    pub(crate) fn run(&self, name: &str, options: &str, serves: &str) -> Result<()> {
        let started = self.engine.run(name, options, serves);
        self.forget_locations();
        started
    }

    /// Makes such a container and does not start it.
    pub(crate) fn create(&self, name: &str, options: &str, serves: &str) -> Result<()> {
        self.engine.create(name, options, serves)
    }

    /// Starts a Swarm service that serves TCP port 80 and publishes what `ports` says.
    pub(crate) fn serve(&self, name: &str, ports: &str) -> Result<()> {
        self.engine.serve(name, ports)
    }

    /// Runs a program of the lab's host that serves such ports as `tcp:80 udp:53`. It lives among the
    /// processes that the engine and `dfw` see; those of the tests themselves do not.
    pub(crate) fn serve_on_host(&self, serves: &str) -> Result<()> {
        let me = std::env::current_exe()?;
        let me = me.display();
        self.script(&format!(
            "{me} {HELPER} serve {serves} </dev/null >/dev/null 2>&1 &"
        ))?;
        for port in serves.split_whitespace() {
            self.wait_until_open(&port.replacen(':', " localhost:", 1))?;
        }
        Ok(())
    }

    /// Returns the engine's socket, as seen from outside of its namespaces.
    pub(crate) fn engine_socket(&self) -> PathBuf {
        self.engine.socket_from_outside()
    }

    /// Runs a script on the lab's host.
    pub(crate) fn script(&self, script: &str) -> Result<()> {
        output(self.engine.command("sh").args(["-c", script]))?;
        Ok(())
    }

    pub(crate) fn stop_engine(&self) -> Result<()> {
        self.engine.stop_daemon()
    }

    pub(crate) fn start_engine(&self) -> Result<()> {
        self.start_engine_with("")
    }

    /// The same, with more options than the engine usually has.
    pub(crate) fn start_engine_with(&self, options: &str) -> Result<()> {
        self.forget_locations();
        self.engine.start_daemon(options)
    }

    fn forget_locations(&self) {
        // A panicked holder leaves at worst a map that is emptied here.
        self.locations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    fn locate(&self, container: &str) -> Result<Location> {
        let mut known = self
            .locations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(location) = known.get(container) {
            return Ok(location.clone());
        }
        let location = self.engine.locate(container)?;
        known.insert(container.to_owned(), location.clone());
        Ok(location)
    }

    pub(crate) fn host(&self) -> Result<&Namespace> {
        self.topology.machine("host").context("no host")
    }

    /// Waits until every container serves, tested from the host, which nothing filters.
    pub(crate) fn wait_for_containers(&self) -> Result<()> {
        for container in self.fleet.containers() {
            let port = container
                .serves
                .split_whitespace()
                .next()
                .unwrap_or_default();
            let name = match container.name {
                "open-host" => "localhost",
                name => name,
            };
            self.wait_until_open(&port.replacen(':', &format!(" {name}:"), 1))?;
        }
        Ok(())
    }

    /// Waits until a target answers the host.
    pub(crate) fn wait_until_open(&self, target: &str) -> Result<()> {
        let host = self.client("host")?;
        wait_for(target, Duration::from_mins(3), || {
            // A container that is just starting has no address yet, or not for long.
            self.forget_locations();
            let target = self.target(target).ok()?;
            let outcome = host.ask(target, Duration::from_secs(5)).ok()?;
            (outcome == Outcome::Open).then_some(())
        })
        .with_context(|| self.engine.log_tail())
    }

    /// Someone who sends, by name.
    pub(crate) fn client(&self, name: &str) -> Result<Client> {
        if let Some(machine) = self.topology.machine(name.trim_end_matches('2')) {
            let namespace = machine.clone();
            return Ok(Client {
                namespace,
                from: source_addresses(name),
            });
        }
        let namespace = self.locate(name)?.namespace;
        Ok(Client {
            namespace,
            from: None,
        })
    }

    /// Reads `tcp NAME:PORT`, where a name is a machine, a container, or either with a `6`
    /// behind it for its IPv6 address; `bridge` is the host on the engine's default bridge.
    pub(crate) fn target(&self, text: &str) -> Result<Target> {
        let parse = || {
            let (transport, rest) = text.split_once(' ')?;
            let (name, port) = rest.rsplit_once(':')?;
            let transport = match transport {
                "tcp" => Transport::Tcp,
                "udp" => Transport::Udp,
                _ => return None,
            };
            Some((transport, name, port.parse().ok()?))
        };
        let (transport, name, port) = parse().with_context(|| format!("no target: {text}"))?;
        Ok(Target {
            transport,
            address: self.address(name)?,
            port,
        })
    }

    /// The address of a name; containers' change when they are started again.
    pub(crate) fn address(&self, name: &str) -> Result<IpAddr> {
        if let Some(address) = well_known(name) {
            return Ok(address);
        }
        if name == "bridge" {
            return Ok(self.fleet.edition.maker.bridge_address());
        }
        let location = match name.strip_suffix('6') {
            Some(container) => self.locate(container)?.v6,
            None => self.locate(name)?.v4,
        };
        location.with_context(|| format!("{name} has no address"))
    }

    /// A program that will run on the lab's host.
    pub(crate) fn command(&self, name: &str) -> Command {
        self.engine.command(name)
    }

    /// Runs `dfw` on the lab's host, whatever comes of it.
    pub(crate) fn dfw(&self, arguments: &[&str]) -> Result<Output> {
        outcome(self.engine.command(&self.dfw).args(arguments))
    }

    /// A folder that does not exist yet.
    pub(crate) fn fresh_folder(&self) -> Result<String> {
        let dir = self.ledger.dir().join("fresh");
        match fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(dir.to_string_lossy().into_owned()),
        }
    }

    /// Writes one policy and tells the folder.
    pub(crate) fn write_policy(&self, policy: &str) -> Result<String> {
        let dir = self.ledger.dir().join("policies");
        fs::create_dir_all(&dir)?;
        fs::write(dir.join("policy.yaml"), policy)?;
        Ok(dir.to_string_lossy().into_owned())
    }

    /// Applies one policy and insists on success.
    pub(crate) fn apply(&self, policy: &str) -> Result<()> {
        let dir = self.write_policy(policy)?;
        succeeded(&self.dfw(&["apply", &dir])?, "dfw apply")
            .with_context(|| format!("with the policy\n{policy}"))
    }

    /// Takes every rule of `dfw` away and insists that the kernel agrees.
    pub(crate) fn remove(&self) -> Result<()> {
        succeeded(&self.dfw(&["remove"])?, "dfw remove")?;
        let tables = output(self.host()?.command("nft").args(["list", "tables"]))?;
        ensure!(
            !tables.contains(TABLE),
            "`dfw remove` has left its table:\n{tables}"
        );
        Ok(())
    }

    /// What to read when a trial has failed.
    pub(crate) fn report(&self) -> String {
        let list = |words: &[&str]| match self.host() {
            Ok(host) => {
                output(host.command("nft").args(words)).unwrap_or_else(|e| format!("{e:#}"))
            }
            Err(error) => format!("{error:#}"),
        };
        format!(
            "--- nft list ruleset\n{}\n--- the engine's log\n{}",
            list(&["list", "ruleset"]),
            self.engine.log_tail()
        )
    }
}

fn succeeded(output: &Output, what: &str) -> Result<()> {
    if !output.status.success() {
        bail!(
            "`{what}` ended with {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}
