//! An engine that only answers: Docker's API at a Unix socket, from the documents of containers.
//!
//! It starts with what `docker inspect` shows of networks and containers, recorded from a real engine or multiplied
//! from one container, and computes the list of containers from that. `tests/engine` compares what dfw reads from it
//! with what dfw reads from the engine that was recorded.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

/// How long a real engine may take for one answer.
const PATIENCE: Duration = Duration::from_mins(1);
/// The longest request.
const REQUEST: usize = 16 * 1024;
/// How many containers share a network, and the first port that they publish.
const TOGETHER: usize = 100;
pub(crate) const FIRST_PORT: usize = 10_000;

/// What an engine answers.
#[derive(Debug, Clone)]
pub(crate) struct Answers {
    version: Value,
    info: Value,
    networks: Value,
    /// `GET /containers/{id}/json` of each container, the newest first.
    containers: Vec<Value>,
}

impl Answers {
    /// Records a real engine.
    pub(crate) fn recorded(socket: &Path) -> Result<Self> {
        let list = get(socket, "/containers/json?all=1")?;
        let list = list.as_array().context("no containers")?;
        let inspected = list.iter().map(|container| {
            let id = container["Id"].as_str().context("no identifier")?;
            get(socket, &format!("/containers/{id}/json"))
        });
        Ok(Self {
            containers: inspected.collect::<Result<_>>()?,
            version: get(socket, "/version")?,
            info: get(socket, "/info")?,
            networks: get(socket, "/networks")?,
        })
    }

    /// Returns what an engine would answer that runs `count` copies of a container of the recorded engine in
    /// `tests/fixtures/engines`, each with an address and a published port of its own.
    pub(crate) fn many(count: usize) -> Result<Self> {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/fixtures/engines/docker-28.5.json"
        );
        let mut recorded: Value = serde_json::from_slice(&fs::read(path)?)?;
        let containers = recorded["containers"].as_array();
        let app = containers.and_then(|all| all.iter().find(|c| c["Name"] == "/app"));
        let app = app.context("no container to copy")?;
        let networks = recorded["networks"].as_array();
        let apps = networks.and_then(|all| all.iter().find(|n| n["Name"] == "apps"));
        let apps = apps.context("no network to copy")?;
        let copies = (0..count).rev().map(|number| copy(app, number)).collect();
        let networks = (0..count.div_ceil(TOGETHER)).map(|number| network(apps, number));
        Ok(Self {
            networks: networks.collect(),
            containers: copies,
            version: recorded["version"].take(),
            info: recorded["info"].take(),
        })
    }

    fn answer(&self, path: &str) -> Option<String> {
        let value = match path {
            "/version" => &self.version,
            "/info" => &self.info,
            "/networks" => &self.networks,
            "/containers/json" => {
                let summaries: Value = self.containers.iter().map(summary).collect();
                return Some(summaries.to_string());
            }
            _ => {
                let id = path.strip_prefix("/containers/")?.strip_suffix("/json")?;
                self.containers.iter().find(|c| c["Id"] == id)?
            }
        };
        Some(value.to_string())
    }
}

/// A container like another one, with a name, an address and a port of its own.
fn copy(container: &Value, number: usize) -> Value {
    let mut copy = container.clone();
    let port = (FIRST_PORT + number).to_string();
    let id = identifier(0xc0, number);
    let network = number / TOGETHER;
    copy["Name"] = json!(format!("/app-{number}"));
    copy["Config"]["Hostname"] = json!(id[..12]);
    copy["HostConfig"]["NetworkMode"] = json!(network_name(network));
    copy["HostConfig"]["PortBindings"] = json!({"80/tcp": [{"HostIp": "", "HostPort": port}]});
    copy["NetworkSettings"]["Ports"] = json!({"80/tcp": [
        {"HostIp": "0.0.0.0", "HostPort": port},
        {"HostIp": "::", "HostPort": port},
    ]});
    let mut endpoint = copy["NetworkSettings"]["Networks"]["apps"].take();
    endpoint["IPAddress"] = json!(address(number));
    endpoint["Gateway"] = json!(format!("10.{network}.0.1"));
    endpoint["NetworkID"] = json!(identifier(0xe0, network));
    let mut networks = json!({});
    networks[network_name(network)] = endpoint;
    copy["NetworkSettings"]["Networks"] = networks;
    copy["Id"] = json!(id);
    copy
}

fn network(network: &Value, number: usize) -> Value {
    let mut copy = network.clone();
    copy["Id"] = json!(identifier(0xe0, number));
    copy["Name"] = json!(network_name(number));
    copy["IPAM"]["Config"] = json!([
        {"Gateway": format!("10.{number}.0.1"), "Subnet": format!("10.{number}.0.0/16")},
    ]);
    copy
}

fn network_name(number: usize) -> String {
    format!("apps-{number}")
}

/// An identifier of 64 hexadecimal digits; the first twelve are also in the name of a network's bridge.
fn identifier(kind: u8, number: usize) -> String {
    format!("{kind:02x}{number:010x}{:052x}", 0)
}

/// What Docker makes of such networks and containers: the bridges, as commands of `ip -batch`, and the rules of its
/// NAT, for `iptables-restore`.
pub(crate) fn networking(count: usize) -> (String, String) {
    let bridge = |network| format!("br-{}", &identifier(0xe0, network)[..12]);
    let mut links = String::new();
    for network in 0..count.div_ceil(TOGETHER) {
        let bridge = bridge(network);
        let _ = writeln!(
            links,
            "link add {bridge} type bridge\naddr add 10.{network}.0.1/16 dev {bridge}\n\
             link set {bridge} up"
        );
    }
    let mut nat = "*nat\n:DOCKER - [0:0]\n\
        -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\n\
        -A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER\n"
        .to_owned();
    for number in 0..count {
        let _ = writeln!(
            nat,
            "-A DOCKER ! -i {} -p tcp -m tcp --dport {} -j DNAT --to-destination {}:80",
            bridge(number / TOGETHER),
            FIRST_PORT + number,
            address(number),
        );
    }
    (links, nat + "COMMIT\n")
}

/// The address of a container.
fn address(number: usize) -> String {
    format!("10.{}.0.{}", number / TOGETHER, 2 + number % TOGETHER)
}

/// Returns what `GET /containers/json` shows of a container.
fn summary(container: &Value) -> Value {
    let settings = &container["NetworkSettings"];
    let ports = settings["Ports"].as_object().into_iter().flatten();
    let ports = ports.flat_map(|(key, bindings)| {
        let (port, protocol) = key.split_once('/').unwrap_or((key, "tcp"));
        let port: u16 = port.parse().unwrap_or_default();
        let unbound = json!({"PrivatePort": port, "Type": protocol});
        let bindings = bindings.as_array().map_or(&[][..], Vec::as_slice);
        // Where no port of the host is bound, the list has only the container's.
        let bound = bindings.iter().filter_map(move |binding| {
            let public: u16 = binding["HostPort"].as_str()?.parse().ok()?;
            Some(json!({
                "IP": binding["HostIp"],
                "PrivatePort": port,
                "PublicPort": public,
                "Type": protocol,
            }))
        });
        let bound: Vec<Value> = bound.collect();
        if bound.is_empty() {
            vec![unbound]
        } else {
            bound
        }
    });
    json!({
        "Id": container["Id"],
        "Names": [container["Name"]],
        "Image": container["Config"]["Image"],
        "ImageID": container["Image"],
        "Command": container["Path"],
        "Labels": container["Config"]["Labels"],
        "State": container["State"]["Status"],
        "Ports": ports.collect::<Vec<_>>(),
        "HostConfig": {"NetworkMode": container["HostConfig"]["NetworkMode"]},
        "NetworkSettings": {"Networks": settings["Networks"]},
        "Mounts": [],
    })
}

/// Asks a real engine.
fn get(socket: &Path, path: &str) -> Result<Value> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let head = answer.windows(4).position(|end| end == b"\r\n\r\n");
    let (head, body) = answer.split_at(head.context("no answer")? + 4);
    ensure!(head.starts_with(b"HTTP/1.0 200"), "{path}");
    Ok(serde_json::from_slice(body)?)
}

/// An engine that answers until it is dropped.
pub(crate) struct FakeEngine {
    socket: PathBuf,
    shared: Arc<Shared>,
}

struct Shared {
    answers: Mutex<Answers>,
    /// Who listens to events.
    listeners: Mutex<Vec<UnixStream>>,
    /// The paths that were asked for.
    asked: Mutex<Vec<String>>,
    gone: AtomicBool,
}

impl FakeEngine {
    pub(crate) fn start(socket: PathBuf, answers: Answers) -> Result<Self> {
        let listener = UnixListener::bind(&socket)?;
        let shared = Arc::new(Shared {
            answers: Mutex::new(answers),
            listeners: Mutex::default(),
            asked: Mutex::default(),
            gone: AtomicBool::new(false),
        });
        let engine = Self {
            socket,
            shared: Arc::clone(&shared),
        };
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if shared.gone.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&shared);
                // A client that leaves early is the client's business.
                thread::spawn(move || shared.serve(client));
            }
        });
        Ok(engine)
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Returns the number of listeners to events.
    pub(crate) fn listeners(&self) -> usize {
        lock(&self.shared.listeners).len()
    }

    /// Returns the paths that were asked for since the last call.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.shared.asked))
    }

    /// Stops or starts a container and sends the event; returns the path that a client then asks for.
    pub(crate) fn run(&self, number: usize, runs: bool) -> Result<String> {
        let mut answers = lock(&self.shared.answers);
        let container = answers.containers.get_mut(number).context("no container")?;
        let bindings = container["HostConfig"]["PortBindings"].clone();
        let (status, action, ports) = if runs {
            ("running", "start", bindings)
        } else {
            ("exited", "die", json!({}))
        };
        container["State"]["Status"] = json!(status);
        container["State"]["Running"] = json!(runs);
        container["NetworkSettings"]["Ports"] = ports;
        let id = container["Id"].as_str().unwrap_or_default().to_owned();
        let name = container["Name"].as_str().unwrap_or_default();
        let actor = json!({"ID": id, "Attributes": {"name": name.trim_start_matches('/')}});
        drop(answers);
        let event = json!({"Type": "container", "Action": action, "Actor": actor});
        let event = format!("{event}\n");
        // A client that is gone listens no more.
        lock(&self.shared.listeners)
            .retain_mut(|listener| write!(listener, "{:x}\r\n{event}\r\n", event.len()).is_ok());
        Ok(format!("/containers/{id}/json"))
    }
}

impl Drop for FakeEngine {
    fn drop(&mut self) {
        self.shared.gone.store(true, Ordering::Relaxed);
        // Wakes who accepts.
        let _ = UnixStream::connect(&self.socket);
        let _ = fs::remove_file(&self.socket);
    }
}

impl Shared {
    fn serve(&self, mut client: UnixStream) -> Result<()> {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            client.read_exact(&mut byte)?;
            request.push(byte[0]);
            ensure!(request.len() < REQUEST, "a long request");
        }
        let request = String::from_utf8_lossy(&request);
        let path = request.split(' ').nth(1).context("no path")?;
        let path = path.split('?').next().unwrap_or_default();
        let path = match path.strip_prefix("/v") {
            Some(rest) if rest.starts_with(|c: char| c.is_ascii_digit()) => {
                &rest[rest.find('/').context("no path")?..]
            }
            _ => path,
        };
        lock(&self.asked).push(path.to_owned());
        if path == "/events" {
            client.write_all(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
                  Transfer-Encoding: chunked\r\n\r\n",
            )?;
            lock(&self.listeners).push(client);
            return Ok(());
        }
        let answer = lock(&self.answers).answer(path);
        let (status, body) = match answer {
            Some(body) => ("200 OK", body),
            // As for services, where there is no swarm.
            None => (
                "503 Service Unavailable",
                json!({"message": "no"}).to_string(),
            ),
        };
        write!(
            client,
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            body.len()
        )?;
        Ok(())
    }
}

/// A thread that panicked leaves nothing half done here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
