//! Converts the JSON answers of Docker's API to [`Engine`].
//!
//! Names and labels are untrusted and are cleaned here, where they are read.

use crate::net::Protocol;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bollard::models::{
    ContainerInspectResponse, EndpointPortConfig, EndpointPortConfigProtocolEnum,
    EndpointPortConfigPublishModeEnum, Network as ApiNetwork, PortMap, Service as ApiService,
    SystemInfo, SystemVersion,
};
use serde::Deserialize;

use super::engine::{Container, Endpoint, Engine, GatewayMode, Kind, Network, Published, Service};
use crate::untrusted::clean;

/// The length of the network ID in Docker's default bridge names, in characters.
const BRIDGE_ID: usize = 12;
/// `IFNAMSIZ` of `linux/if.h`, less the zero at the end.
const LONGEST_INTERFACE: usize = 15;

/// The raw answers of an engine's API.
#[derive(Debug, Default, Deserialize)]
pub struct Answers {
    /// `GET /version`.
    #[serde(rename = "version")]
    pub(super) version: SystemVersion,
    /// `GET /info`.
    #[serde(rename = "info")]
    pub(super) info: SystemInfo,
    /// `GET /networks`.
    #[serde(rename = "networks")]
    pub(super) networks: Vec<ApiNetwork>,
    /// `GET /containers/{id}/json` of each in `GET /containers/json?all=1`.
    #[serde(rename = "containers")]
    pub(super) containers: Vec<ContainerInspectResponse>,
    /// `GET /services`; nothing from an engine that manages no swarm.
    #[serde(rename = "services", default)]
    pub(super) services: Vec<ApiService>,
}

/// Builds an engine from its answers.
#[must_use]
pub fn engine(address: &str, answers: Answers) -> Engine {
    let mut engine = outline(address, answers.version, answers.info);
    let networks = answers.networks.into_iter();
    engine.networks = networks.filter_map(|n| network(n, engine.kind)).collect();
    engine.containers = answers
        .containers
        .into_iter()
        .filter_map(container)
        .collect();
    engine.services = services(answers.services);
    engine.join_networks();
    engine.sort();
    engine
}

/// Returns the engine without networks, containers and services.
pub(super) fn outline(address: &str, version: SystemVersion, info: SystemInfo) -> Engine {
    let firewall = info.firewall_backend.and_then(|firewall| firewall.driver);
    Engine {
        kind: if is_podman(&version) {
            Kind::Podman
        } else {
            Kind::Docker
        },
        version: clean(&version.version.unwrap_or_default()),
        address: clean(address),
        firewall: firewall.map(|driver| clean(&driver)),
        process: None,
        networks: Vec::new(),
        containers: Vec::new(),
        services: Vec::new(),
    }
}

pub(super) fn is_podman(version: &SystemVersion) -> bool {
    version.components.iter().flatten().any(|component| {
        component
            .name
            .to_ascii_lowercase()
            .contains("podman engine")
    })
}

/// Returns a network; `None` without an identifier.
pub(super) fn network(answer: ApiNetwork, engine: Kind) -> Option<Network> {
    let is_podman = engine == Kind::Podman;
    let id = clean(&answer.id?);
    let driver = clean(&answer.driver.unwrap_or_default());
    let options = answer.options.unwrap_or_default();
    let named = options
        .get("com.docker.network.bridge.name")
        .filter(|name| !name.is_empty());
    let bridge = match named {
        _ if driver != "bridge" => None,
        Some(name) => Some(name.clone()).filter(|name| is_interface(name)),
        // Podman has its own bridge names, which this API does not report.
        None if is_podman => None,
        None => Some(format!("br-{}", id.get(..BRIDGE_ID).unwrap_or(&id))),
    };
    let gateways = answer.ipam.and_then(|ipam| ipam.config);
    let gateways = gateways.into_iter().flatten();
    let gateways = gateways.filter_map(|subnet| subnet.gateway?.split('/').next()?.parse().ok());
    let name = match answer.name {
        // Only this API calls Podman's default network `bridge`; its containers report `podman`.
        Some(name) if is_podman && name == "bridge" => "podman".to_owned(),
        Some(name) => clean(&name),
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

/// Returns whether the kernel lets an interface have this name (`dev_valid_name` of `net/core/dev.c`); names
/// with control characters are rejected as well.
fn is_interface(name: &str) -> bool {
    name.len() <= LONGEST_INTERFACE
        && !name.contains(['/', ':'])
        && !name.contains(|c: char| c.is_whitespace() || c.is_control())
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

/// Returns a container; `None` without an identifier.
pub(super) fn container(answer: ContainerInspectResponse) -> Option<Container> {
    let id = clean(&answer.id?);
    let name = answer.name.unwrap_or_default();
    let labels = answer.config.and_then(|config| config.labels);
    let label = |keys: [&str; 2]| {
        let labels = labels.as_ref()?;
        keys.iter()
            .find_map(|key| labels.get(*key))
            .map(|label| clean(label))
    };
    let state = answer.state.unwrap_or_default();
    let running = state.running.unwrap_or_default();
    let host = answer.host_config.unwrap_or_default();
    let settings = answer.network_settings.unwrap_or_default();
    let mode = host.network_mode.as_deref();
    let host_network = mode == Some("host");
    let joins = mode.and_then(|mode| mode.strip_prefix("container:"));
    let joins = joins.map(clean);
    // Bound ports take precedence: of a range, one port is bound. If nothing is bound, the configured
    // ports apply when the container starts.
    let mut published = bindings(settings.ports.as_ref());
    let mut configured = bindings(host.port_bindings.as_ref());
    if running && !state.restarting.unwrap_or_default() {
        configured.retain(|configured| !is_bound(configured, &published, settings.ports.as_ref()));
    }
    published.extend(configured);
    published.sort_unstable();
    published.dedup();
    let mut endpoints: Vec<_> = settings
        .networks
        .unwrap_or_default()
        .into_iter()
        .map(|(network, endpoint)| Endpoint {
            network: clean(&network),
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
            name => clean(name),
        },
        id,
        project: label(["com.docker.compose.project", "io.podman.compose.project"]),
        service: label(["com.docker.compose.service", "io.podman.compose.service"]),
        running,
        host_network,
        joins,
        pid: state
            .pid
            .filter(|_| running)
            .and_then(|pid| u32::try_from(pid).ok())
            .filter(|pid| *pid != 0),
        // An engine ignores published ports in the host network.
        published: if host_network { Vec::new() } else { published },
        endpoints,
    })
}

/// Returns whether a port of a running container is configured with a host port, so that the bound ports are
/// complete. In networks of mode `routed` no host port is bound: the engine reports an empty port.
fn is_bound(configured: &Published, bound: &[Published], ports: Option<&PortMap>) -> bool {
    let same_port = |other: &&Published| {
        (other.protocol, other.container_port) == (configured.protocol, configured.container_port)
    };
    let key = format!(
        "{}/{}",
        configured.container_port,
        configured.protocol.name()
    );
    let said = ports.and_then(|ports| ports.get(&key)?.as_ref());
    let is_routed = said.into_iter().flatten().any(|binding| {
        let address = binding.host_ip.as_deref().unwrap_or_default();
        let same_family = host_addresses(address)
            .iter()
            .any(|address| address.is_ipv4() == configured.address.is_ipv4());
        binding.host_port.as_deref().unwrap_or_default().is_empty() && same_family
    });
    bound.iter().any(|other| same_port(&other)) && !is_routed
}

/// Reads `{"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}]}`. A port that the engine has not chosen yet
/// is skipped.
fn bindings(ports: Option<&PortMap>) -> Vec<Published> {
    let mut published = Vec::new();
    for (key, bindings) in ports.into_iter().flatten() {
        let (port, protocol) = key.split_once('/').unwrap_or((key, "tcp"));
        let (Ok(container_port), Some(protocol)) = (port.parse(), Protocol::by_name(protocol))
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
            let first = first.max(1);
            if first <= last {
                published.extend(addresses.iter().map(|address| Published {
                    protocol,
                    address: *address,
                    first,
                    last,
                    container_port,
                }));
            }
        }
    }
    published
}

/// Returns the addresses of a binding: the unspecified addresses of both families if none is given.
fn host_addresses(text: &str) -> Vec<IpAddr> {
    match text.parse() {
        Ok(address) => vec![address],
        Err(_) => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
    }
}

/// Returns the services of a swarm.
pub(super) fn services(answers: Vec<ApiService>) -> Vec<Service> {
    answers.into_iter().filter_map(service).collect()
}

fn service(answer: ApiService) -> Option<Service> {
    let name = clean(&answer.spec?.name?);
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
    let protocol = match port.protocol {
        Some(EndpointPortConfigProtocolEnum::UDP) => Protocol::Udp,
        Some(EndpointPortConfigProtocolEnum::SCTP) => Protocol::Sctp,
        _ => Protocol::Tcp,
    };
    host_addresses("")
        .into_iter()
        .map(|address| Published {
            protocol,
            address,
            first: published,
            last: published,
            container_port: target,
        })
        .collect()
}
