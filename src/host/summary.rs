//! The summary of a container in an engine's list: sufficient for running containers, except for their
//! processes.

use bollard::models::{
    ContainerConfig, ContainerInspectResponse, ContainerState, ContainerSummary,
    ContainerSummaryStateEnum as State, HostConfig, NetworkSettings, PortBinding, PortMap,
    PortSummary, PortSummaryTypeEnum as Type,
};

use super::engine::Network;

/// Returns whether the summary is complete for a container of Docker: its ports are bound, and it does not
/// share the host network. It leaves out ports of `direct` networks (modes `routed` and `nat-unprotected`),
/// where no port of the host is bound. Podman's list leaves out all but the first port of a range.
pub(super) fn is_enough(summary: &ContainerSummary, networks: &[Network]) -> bool {
    let attached = summary.network_settings.as_ref();
    let attached = attached.and_then(|settings| settings.networks.as_ref());
    let is_nat = |name: &String| {
        let network = networks.iter().find(|network| network.name == *name);
        network.is_some_and(|n| !n.mode_v4.is_direct() && !n.mode_v6.is_direct())
    };
    if !attached.is_some_and(|networks| networks.keys().all(is_nat)) {
        return false;
    }
    let mode = summary.host_config.as_ref();
    let mode = mode
        .and_then(|host| host.network_mode.as_deref())
        .unwrap_or_default();
    matches!(summary.state, Some(State::RUNNING | State::PAUSED))
        && mode != "host"
        && !mode.starts_with("container:")
}

/// Returns the container of a summary, with the ports it binds when it starts, if known.
pub(super) fn outline(
    summary: ContainerSummary,
    bindings: Option<PortMap>,
) -> ContainerInspectResponse {
    let running = matches!(
        summary.state,
        Some(State::RUNNING | State::PAUSED | State::RESTARTING)
    );
    let restarting = summary.state == Some(State::RESTARTING);
    let names = summary.names.unwrap_or_default();
    // A linked container has additional names with one more slash.
    let name = names.iter().min_by_key(|name| name.matches('/').count());
    let networks = summary.network_settings.and_then(|all| all.networks);
    ContainerInspectResponse {
        name: name.cloned(),
        state: Some(ContainerState {
            running: Some(running),
            restarting: Some(restarting),
            ..ContainerState::default()
        }),
        config: Some(ContainerConfig {
            labels: summary.labels,
            ..ContainerConfig::default()
        }),
        host_config: Some(HostConfig {
            network_mode: summary.host_config.and_then(|host| host.network_mode),
            port_bindings: bindings,
            ..HostConfig::default()
        }),
        network_settings: Some(NetworkSettings {
            ports: Some(bound(summary.ports.unwrap_or_default())),
            networks,
            ..NetworkSettings::default()
        }),
        id: summary.id,
        ..ContainerInspectResponse::default()
    }
}

fn bound(ports: Vec<PortSummary>) -> PortMap {
    let mut map = PortMap::new();
    for port in ports {
        let Some(public) = port.public_port else {
            continue;
        };
        let transport = match port.typ {
            Some(Type::UDP) => "udp",
            Some(Type::SCTP) => "sctp",
            _ => "tcp",
        };
        let key = format!("{}/{transport}", port.private_port);
        let bindings = map.entry(key).or_default().get_or_insert_default();
        bindings.push(PortBinding {
            host_ip: port.ip,
            host_port: Some(public.to_string()),
        });
    }
    map
}
