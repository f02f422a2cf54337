//! Questions to container engines, over the API of Docker that Podman speaks as well
//! (<https://docs.docker.com/reference/api/engine/>).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::errors::Error as ApiError;
use bollard::models::{
    ContainerInspectResponse, ContainerSummary, EndpointPortConfig, EndpointPortConfigProtocolEnum,
    EndpointPortConfigPublishModeEnum, Network as ApiNetwork, PortMap, Service as ApiService,
    SystemInfo, SystemVersion,
};
use bollard::query_parameters::ListContainersOptionsBuilder;
use bollard::{API_DEFAULT_VERSION, ClientVersion, Docker};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::activation;
use super::busy;
use super::engine::{
    Container, Endpoint, Engine, GatewayMode, Kind, Network, Published, Service, Transport,
};

/// Where engines of the system listen, unless they are told otherwise.
pub(super) const SOCKETS: [&str; 3] = [
    "/run/docker.sock",
    "/var/run/docker.sock",
    "/run/podman/podman.sock",
];
/// How long an engine may take to say all that it is asked. One that starts just now, or hangs,
/// must not hold up a firewall.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// How long one answer may take.
const PATIENCE_EACH: u64 = 5;
/// How long it may say nothing of one container: while it starts or stops one, it may be long.
const PATIENCE_CONTAINER: Duration = Duration::from_secs(2);
/// How long it may tell of containers in all, which leaves time for the rest.
const PATIENCE_CONTAINERS: Duration = Duration::from_secs(8);
/// How many containers it is asked of at once.
const AT_ONCE: usize = 8;
/// The way that Docker names a bridge whose name nobody has chosen: this much of the identifier.
const BRIDGE_ID: usize = 12;

/// Which engines are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Those of the system, wherever one listens.
    System,
    /// The same, but none is started by asking.
    Running,
    /// The one at this address: a path, `unix:///path` or `tcp://host:port`.
    At(String),
    /// None.
    Nobody,
}

/// An engine that has not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the container engine at {address} does not answer: {reason}")]
pub struct Unanswered {
    /// Where it was asked.
    pub address: String,
    /// Why not.
    pub reason: String,
}

/// Everything that one engine was asked for.
#[derive(Debug, Default, Deserialize)]
pub struct Answers {
    /// `GET /version`.
    #[serde(rename = "version")]
    version: SystemVersion,
    /// `GET /info`.
    #[serde(rename = "info")]
    info: SystemInfo,
    /// `GET /networks`.
    #[serde(rename = "networks")]
    networks: Vec<ApiNetwork>,
    /// `GET /containers/{id}/json` of each in `GET /containers/json?all=1`.
    #[serde(rename = "containers")]
    containers: Vec<ContainerInspectResponse>,
    /// `GET /services`; nothing from who manages no swarm.
    #[serde(rename = "services", default)]
    services: Vec<ApiService>,
    /// Whether it said nothing of some containers in time, of which less is known then.
    #[serde(skip)]
    pub(super) partial: bool,
}

/// The ports of containers as they were told last, by the container's identifier.
pub(super) type Told = HashMap<String, PortMap>;

/// Asks engines. Who is not there is no error; who is there and does not answer is.
#[must_use]
pub fn ask(whom: &Ask) -> Vec<Result<Engine, Unanswered>> {
    let addresses = match whom {
        Ask::Nobody => Vec::new(),
        Ask::At(address) => vec![address.clone()],
        Ask::System => sockets(),
        Ask::Running => {
            let mut all = sockets();
            all.retain(|socket| !activation::is_asleep(Path::new(socket)));
            all
        }
    };
    addresses
        .into_iter()
        .filter_map(|address| match ask_one(&address) {
            Ok(engine) => Some(Ok(engine)),
            // A socket that the engine has left behind when it was stopped, or that waits for it.
            Err(Refusal::NobodyThere | Refusal::Asleep) if !matches!(whom, Ask::At(_)) => None,
            Err(refusal) => Some(Err(Unanswered {
                address,
                reason: refusal.to_string(),
            })),
        })
        .collect()
}

/// The sockets that exist, each once: `/var/run` is `/run` on most systems.
fn sockets() -> Vec<String> {
    let mut real: Vec<PathBuf> = Vec::new();
    for path in SOCKETS {
        if let Ok(path) = Path::new(path).canonicalize()
            && !real.contains(&path)
        {
            real.push(path);
        }
    }
    real.iter().map(|path| path.display().to_string()).collect()
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("nobody listens there")]
    NobodyThere,
    #[error("it does not run, and is not started for this")]
    Asleep,
    #[error("{0}")]
    Api(ApiError),
    #[error("no answer within {} seconds", PATIENCE.as_secs())]
    Slow,
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(error) = cause {
            if let Some(io) = error.downcast_ref::<std::io::Error>()
                && matches!(
                    io.kind(),
                    std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::NotFound
                )
            {
                return Self::NobodyThere;
            }
            cause = error.source();
        }
        match error {
            ApiError::SocketNotFoundError(_) => Self::NobodyThere,
            error => Self::Api(error),
        }
    }
}

fn ask_one(address: &str) -> Result<Engine, Refusal> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let answers = runtime.block_on(async {
        tokio::time::timeout(PATIENCE, answers(address))
            .await
            .map_err(|_| Refusal::Slow)?
    })?;
    Ok(engine(address, answers))
}

async fn answers(address: &str) -> Result<Answers, Refusal> {
    answers_of(&connect(address).await?, &mut Told::new()).await
}

/// The path of a socket's address; of others, something that is none.
pub(super) fn path(address: &str) -> &str {
    address.strip_prefix("unix://").unwrap_or(address)
}

/// Whether the engine runs, where whoever connects would start it. Podman's service does nothing but
/// answer, and runs only while it is asked.
pub(super) fn is_awake(address: &str) -> Result<(), Refusal> {
    let path = Path::new(path(address));
    if !path.ends_with("podman.sock") && activation::is_asleep(path) {
        return Err(Refusal::Asleep);
    }
    Ok(())
}

/// A way to an engine, and what it has said of itself.
pub(super) struct Connection {
    pub(super) docker: Docker,
    version: SystemVersion,
}

/// Connects with the engine, by the version of the API that both know. To tell its version takes Podman
/// longer than all the rest, so that it is asked for it once only.
pub(super) async fn connect(address: &str) -> Result<Connection, Refusal> {
    let newest = open(address, API_DEFAULT_VERSION)?;
    let version = newest.version().await?;
    let its_own = version.api_version.as_deref().and_then(api_version);
    let docker = match its_own {
        None => return Err(ApiError::APIVersionParseError {}.into()),
        Some(its_own) if its_own < *API_DEFAULT_VERSION => open(address, &its_own)?,
        Some(_) => newest,
    };
    Ok(Connection { docker, version })
}

fn open(address: &str, version: &ClientVersion) -> Result<Docker, Refusal> {
    if address.starts_with("tcp://") || address.starts_with("http://") {
        Ok(Docker::connect_with_http(address, PATIENCE_EACH, version)?)
    } else {
        is_awake(address)?;
        Ok(Docker::connect_with_socket(
            address,
            PATIENCE_EACH,
            version,
        )?)
    }
}

fn api_version(text: &str) -> Option<ClientVersion> {
    let (major, minor) = text.split_once('.')?;
    Some(ClientVersion {
        major_version: major.parse().ok()?,
        minor_version: minor.parse().ok()?,
    })
}

/// Asks for everything. Of a container that the engine says nothing of, its list tells some, and what
/// was told before the rest.
pub(super) async fn answers_of(
    Connection { docker, version }: &Connection,
    told: &mut Told,
) -> Result<Answers, Refusal> {
    // Containers first, the newest of which is the first of all: one that was created just now tells
    // its ports until it is started.
    let all = ListContainersOptionsBuilder::new().all(true).build();
    let listed = docker.list_containers(Some(all)).await?;
    let end = Instant::now() + PATIENCE_CONTAINERS;
    let answers = stream::iter(listed).map(|summary| inspect(docker, summary, end));
    let answers: Vec<_> = answers.buffer_unordered(AT_ONCE).try_collect().await?;
    let (mut containers, mut busy) = (Vec::new(), Vec::new());
    for answer in answers {
        match answer {
            Inspected::Container(container) => containers.push(*container),
            Inspected::Busy(summary) => busy.push(*summary),
            Inspected::Gone => {}
        }
    }
    let partial = !busy.is_empty();
    containers.extend(busy.into_iter().map(|summary| busy::outline(summary, told)));
    *told = containers.iter().filter_map(busy::ports).collect();
    // It has nothing to say there that is asked for here, and takes long for it.
    let info = if is_podman(version) {
        SystemInfo::default()
    } else {
        docker.info().await?
    };
    let networks = docker.list_networks(None).await?;
    // Who manages no swarm says so with an error.
    let services = docker.list_services(None).await.unwrap_or_default();
    Ok(Answers {
        version: version.clone(),
        info,
        networks,
        containers,
        services,
        partial,
    })
}

enum Inspected {
    Container(Box<ContainerInspectResponse>),
    /// No answer in time.
    Busy(Box<ContainerSummary>),
    /// It has gone since.
    Gone,
}

async fn inspect(
    docker: &Docker,
    summary: ContainerSummary,
    end: Instant,
) -> Result<Inspected, Refusal> {
    let Some(id) = &summary.id else {
        return Ok(Inspected::Gone);
    };
    let end = end.min(Instant::now() + PATIENCE_CONTAINER);
    match timeout_at(end, docker.inspect_container(id, None)).await {
        Ok(Ok(container)) => Ok(Inspected::Container(Box::new(container))),
        Ok(Err(ApiError::DockerResponseServerError {
            status_code: 404, ..
        })) => Ok(Inspected::Gone),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Ok(Inspected::Busy(Box::new(summary))),
    }
}

/// Puts the answers of one engine together.
#[must_use]
pub fn engine(address: &str, answers: Answers) -> Engine {
    let Answers {
        version,
        info,
        networks,
        containers,
        services,
        partial: _,
    } = answers;
    let is_podman = is_podman(&version);
    let mut networks: Vec<_> = networks
        .into_iter()
        .filter_map(|answer| network(answer, is_podman))
        .collect();
    networks.sort_by(|a, b| a.name.cmp(&b.name));
    let mut containers: Vec<_> = containers.into_iter().filter_map(container).collect();
    containers.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    let mut services: Vec<_> = services.into_iter().filter_map(service).collect();
    services.sort_by(|a, b| a.name.cmp(&b.name));
    Engine {
        kind: if is_podman {
            Kind::Podman
        } else {
            Kind::Docker
        },
        version: version.version.unwrap_or_default(),
        address: address.to_owned(),
        firewall: info.firewall_backend.and_then(|firewall| firewall.driver),
        networks,
        containers,
        services,
    }
}

fn is_podman(version: &SystemVersion) -> bool {
    version.components.iter().flatten().any(|component| {
        component
            .name
            .to_ascii_lowercase()
            .contains("podman engine")
    })
}

fn network(answer: ApiNetwork, is_podman: bool) -> Option<Network> {
    let id = answer.id?;
    let driver = answer.driver.unwrap_or_default();
    let options = answer.options.unwrap_or_default();
    let named = options
        .get("com.docker.network.bridge.name")
        .filter(|name| !name.is_empty());
    let bridge = match named {
        _ if driver != "bridge" => None,
        Some(name) => Some(name.clone()),
        // It has names of its own, of which this API does not tell.
        None if is_podman => None,
        None => Some(format!("br-{}", id.get(..BRIDGE_ID).unwrap_or(&id))),
    };
    let gateways = answer.ipam.and_then(|ipam| ipam.config);
    let gateways = gateways.into_iter().flatten();
    let gateways = gateways.filter_map(|subnet| subnet.gateway?.split('/').next()?.parse().ok());
    let name = match answer.name {
        // Only this API calls its default network so; its containers are in one called `podman`.
        Some(name) if is_podman && name == "bridge" => "podman".to_owned(),
        Some(name) => name,
        None => id.clone(),
    };
    Some(Network {
        name,
        id,
        bridge,
        gateways: gateways.collect(),
        mode_v4: mode(&options, "ipv4"),
        mode_v6: mode(&options, "ipv6"),
        internal: answer.internal.unwrap_or_default(),
        ipv6: answer.enable_ipv6.unwrap_or_default(),
        driver,
    })
}

fn mode(options: &HashMap<String, String>, family: &str) -> GatewayMode {
    let key = format!("com.docker.network.bridge.gateway_mode_{family}");
    match options.get(&key).map(String::as_str) {
        Some("nat-unprotected") => GatewayMode::NatUnprotected,
        Some("routed") => GatewayMode::Routed,
        Some("isolated") => GatewayMode::Isolated,
        _ => GatewayMode::Nat,
    }
}

fn container(answer: ContainerInspectResponse) -> Option<Container> {
    let id = answer.id?;
    let name = answer.name.unwrap_or_default();
    let labels = answer.config.and_then(|config| config.labels);
    let label = |keys: [&str; 2]| {
        let labels = labels.as_ref()?;
        keys.iter().find_map(|key| labels.get(*key)).cloned()
    };
    let state = answer.state.unwrap_or_default();
    let running = state.running.unwrap_or_default();
    let host = answer.host_config.unwrap_or_default();
    let settings = answer.network_settings.unwrap_or_default();
    let host_network = host.network_mode.as_deref() == Some("host");
    // What is bound now, and what will be when it is started again: a container that restarts has
    // nothing bound for a moment.
    let mut published = bindings(settings.ports.as_ref());
    published.extend(bindings(host.port_bindings.as_ref()));
    published.sort_unstable();
    published.dedup();
    let mut endpoints: Vec<_> = settings
        .networks
        .unwrap_or_default()
        .into_iter()
        .map(|(network, endpoint)| Endpoint {
            network,
            addresses: [endpoint.ip_address, endpoint.global_ipv6_address]
                .into_iter()
                .filter_map(|address| address?.parse().ok())
                .collect(),
        })
        .filter(|endpoint| !endpoint.addresses.is_empty())
        .collect();
    endpoints.sort_by(|a, b| a.network.cmp(&b.network));
    Some(Container {
        name: match name.trim_start_matches('/') {
            "" => id.clone(),
            name => name.to_owned(),
        },
        id,
        project: label(["com.docker.compose.project", "io.podman.compose.project"]),
        service: label(["com.docker.compose.service", "io.podman.compose.service"]),
        running,
        host_network,
        pid: state
            .pid
            .filter(|_| running)
            .and_then(|pid| u32::try_from(pid).ok())
            .filter(|pid| *pid != 0),
        // An engine ignores them in the network of the host.
        published: if host_network { Vec::new() } else { published },
        endpoints,
    })
}

/// Reads `{"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}]}`. A range of ports of the host,
/// of which the engine takes one, is all of them; one that the engine has yet to choose is none.
fn bindings(ports: Option<&PortMap>) -> Vec<Published> {
    let mut published = Vec::new();
    for (key, bindings) in ports.into_iter().flatten() {
        let (port, transport) = key.split_once('/').unwrap_or((key, "tcp"));
        let (Ok(container_port), Some(transport)) = (port.parse(), Transport::by_name(transport))
        else {
            continue;
        };
        for binding in bindings.iter().flatten() {
            let host_port = binding.host_port.as_deref().unwrap_or_default();
            let (first, last) = host_port.split_once('-').unwrap_or((host_port, host_port));
            let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) else {
                continue;
            };
            let addresses = host_addresses(binding.host_ip.as_deref().unwrap_or_default());
            for port in first.max(1)..=last {
                published.extend(addresses.iter().map(|address| Published {
                    transport,
                    address: *address,
                    port,
                    container_port,
                }));
            }
        }
    }
    published
}

/// Every address of both families if none is given.
fn host_addresses(text: &str) -> Vec<IpAddr> {
    match text.parse() {
        Ok(address) => vec![address],
        Err(_) => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
    }
}

fn service(answer: ApiService) -> Option<Service> {
    let name = answer.spec?.name?;
    let mut published: Vec<_> = answer
        .endpoint?
        .ports?
        .iter()
        .filter(|port| port.publish_mode != Some(EndpointPortConfigPublishModeEnum::HOST))
        .flat_map(ingress)
        .collect();
    published.sort_unstable();
    Some(Service { name, published })
}

fn ingress(port: &EndpointPortConfig) -> Vec<Published> {
    let number = |port: Option<i64>| u16::try_from(port?).ok().filter(|port| *port != 0);
    let (Some(published), Some(target)) = (number(port.published_port), number(port.target_port))
    else {
        return Vec::new();
    };
    let transport = match port.protocol {
        Some(EndpointPortConfigProtocolEnum::UDP) => Transport::Udp,
        Some(EndpointPortConfigProtocolEnum::SCTP) => Transport::Sctp,
        _ => Transport::Tcp,
    };
    host_addresses("")
        .into_iter()
        .map(|address| Published {
            transport,
            address,
            port: published,
            container_port: target,
        })
        .collect()
}
