//! Containers of which an engine says nothing for now, because it is starting or stopping them.

use bollard::models::{
    ContainerConfig, ContainerInspectResponse, ContainerState, ContainerSummary,
    ContainerSummaryStateEnum as State, HostConfig, NetworkSettings, PortBinding, PortMap,
    PortSummary, PortSummaryTypeEnum as Type,
};

use super::docker::Told;

/// What the list of all containers says of one, and what was told of its ports before.
pub(super) fn outline(summary: ContainerSummary, told: &mut Told) -> ContainerInspectResponse {
    let running = matches!(
        summary.state,
        Some(State::RUNNING | State::PAUSED | State::RESTARTING)
    );
    let names = summary.names.unwrap_or_default();
    // A container that is linked to has a name in each that links to it, with one more slash.
    let name = names.iter().min_by_key(|name| name.matches('/').count());
    let networks = summary.network_settings.and_then(|all| all.networks);
    ContainerInspectResponse {
        name: name.cloned(),
        state: Some(ContainerState {
            running: Some(running),
            ..ContainerState::default()
        }),
        config: Some(ContainerConfig {
            labels: summary.labels,
            ..ContainerConfig::default()
        }),
        host_config: Some(HostConfig {
            network_mode: summary.host_config.and_then(|host| host.network_mode),
            port_bindings: summary.id.as_ref().and_then(|id| told.remove(id)),
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

/// The ports that a container has whenever it runs, by its identifier.
pub(super) fn ports(container: &ContainerInspectResponse) -> Option<(String, PortMap)> {
    let host = container.host_config.as_ref()?;
    Some((container.id.clone()?, host.port_bindings.clone()?))
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
