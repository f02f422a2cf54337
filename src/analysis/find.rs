//! Finds the paths of this host. Engines report the containers; listening sockets and NAT rules show which
//! ports are open.
//!
//! Measured with Docker 20.10, 26.1 and 28.5 and Podman 5.4; `tests/matrix` compares with real engines.

use std::net::IpAddr;

use crate::host::engine::{Container, Engine, GatewayMode, Kind as EngineKind, Published};
use crate::host::explanations::Explanations;
use crate::host::holder::Holder;
use crate::host::listener::{Listener, Owner, Role};
use crate::host::nat::{Target, Translation};
use crate::host::sockets::Sockets;
use crate::host::{EndpointView, HostView, Publisher, endpoints_of};
use crate::net::{Family, Ports, Protocol};
use crate::ruleset::L4Protocol;

use super::path::{Kind, Path, Reach};
use super::surroundings::{Surroundings, Translated};

/// The first version of Docker that drops packets routed straight to a container behind NAT, and packets of
/// other hosts to a loopback address.
const DOCKER_CLOSES_SIDE_PATHS: u32 = 28;

/// Returns all paths of this host, ordered by reach, then by port.
#[must_use]
pub fn paths(host: &HostView, around: &Surroundings) -> Vec<Path> {
    let mut paths = Vec::new();
    let (sockets, explanations) = (host.sockets(), host.explanations());
    for engine in &host.engines {
        for container in engine.containers.iter().filter(|c| c.running) {
            for published in families(engine, container) {
                paths.extend(to_published(&sockets, around, engine, container, published));
            }
        }
        for service in &engine.services {
            for published in &service.published {
                paths.extend(to_service(around, engine, service, published));
            }
        }
    }
    for endpoint in host.endpoints() {
        paths.extend(to_container(around, host, &endpoint));
    }
    let mut rules = around.nat.translations();
    // Most lead to containers.
    rules.retain(|rule| match rule.to {
        Target::Host(_) => true,
        Target::Address(address, _) => is_own(around, address),
        Target::Somewhere => false,
    });
    for listener in &host.listeners {
        paths.extend(to_socket(host, &explanations, around, listener));
        paths.extend(redirected((host, &explanations), &rules, listener));
    }
    let traces = host.traces_of_engines();
    for translation in &traces.translations {
        let title = "an engine that does not answer".to_owned();
        paths.extend(translated(translation, &title, None));
    }
    for translation in &traces.manual {
        let endpoint = host.endpoints().find(
            |endpoint| matches!(translation.to, Target::Address(to, _) if to == endpoint.address),
        );
        let title = endpoint.map_or_else(String::new, |endpoint| endpoint.container.title());
        let bridge = endpoint.and_then(|endpoint| endpoint.network?.bridge.as_deref());
        paths.extend(translated(translation, &title, bridge));
    }
    paths.sort_by(|a, b| key(a).cmp(&key(b)));
    paths.dedup();
    paths
}

fn key(path: &Path) -> impl Ord + use<'_> {
    (
        path.reach,
        path.port.is_none(),
        path.port,
        path.protocol,
        path.address,
        path.kind,
        &path.title,
    )
}

/// Returns the published ports of a container by family. Podman reports `0.0.0.0` for both families.
fn families(engine: &Engine, container: &Container) -> Vec<Published> {
    let mut all = container.published.clone();
    if engine.kind == EngineKind::Podman {
        let both = all.iter().filter(|p| p.address == Family::V4.unspecified());
        let v6: Vec<_> = both
            .map(|p| Published {
                address: Family::V6.unspecified(),
                ..*p
            })
            .collect();
        all.extend(v6);
    }
    all.sort_unstable();
    all.dedup();
    all
}

fn path(kind: Kind, published: &Published) -> Path {
    Path::to_socket(kind, published.protocol, published.address, published.first)
}

/// Returns the path to a published port of a Swarm service, which every node has.
fn to_service(
    around: &Surroundings,
    engine: &Engine,
    service: &crate::host::engine::Service,
    published: &Published,
) -> Option<Path> {
    let translated = around.translation(published.address, published.protocol, published.first);
    let v4 = Family::of(published.address) == Family::V4;
    (v4 && translated != Translated::No).then(|| {
        let gateway = engine.network("docker_gwbridge");
        path(Kind::Dnat, published)
            .titled(Publisher::Service(service).title())
            .to(
                Family::V4.unspecified(),
                published.first,
                gateway.and_then(|network| network.bridge.clone()),
            )
    })
}

/// Returns the paths to a port that a running container publishes: DNAT, or a socket of the host; both if dfw
/// cannot tell which.
fn to_published(
    sockets: &Sockets<'_>,
    around: &Surroundings,
    engine: &Engine,
    container: &Container,
    published: Published,
) -> Vec<Path> {
    let family = Family::of(published.address);
    let is_loopback = published.address.is_loopback();
    // DNAT to another address than this container's is not the engine's.
    let is_own = |to: IpAddr| {
        let mut own = endpoints_of(engine, container);
        own.any(|endpoint| endpoint.address == to)
    };
    let translates =
        match around.translation(published.address, published.protocol, published.first) {
            Translated::No => Some(false),
            Translated::To(to) => is_own(to).then_some(true),
            Translated::Unknown => None,
        };
    let mut paths = Vec::new();
    if translates != Some(false)
        && let Some((address, bridge)) = nat_endpoint(engine, container, family)
        && (!is_loopback || opens_loopback(engine))
    {
        let (kind, reach) = if is_loopback {
            (Kind::Loopback, Reach::OnLink)
        } else {
            (Kind::Dnat, Reach::Anybody)
        };
        paths.push(path(kind, &published).reached_by(reach).to(
            address,
            published.container_port,
            bridge,
        ));
    }
    let at = || {
        let listeners = sockets.at(published.protocol, published.first);
        listeners.filter(|listener| listener.takes(published.address))
    };
    let listening = |is_holder: &dyn Fn(&Owner) -> bool| {
        at().any(|listener| listener.owner.as_ref().is_some_and(is_holder))
    };
    let unseen = at().any(|listener| listener.owner.is_none());
    let kind = if unseen || listening(&|owner| matches!(owner.role, Role::Proxy | Role::Rootless)) {
        Some(Kind::Proxy)
    } else {
        // Its UDP sockets never reply.
        let keeps = published.protocol == Protocol::Tcp && listening(&Owner::is_engine);
        keeps.then_some(Kind::Held)
    };
    if translates != Some(true)
        && let Some(kind) = kind
    {
        if !is_loopback {
            paths.push(path(kind, &published));
        } else if around.takes_loopback(published.address) {
            paths.push(path(Kind::Loopback, &published).reached_by(Reach::OnLink));
        }
    }
    let titled = |path: Path| path.titled(container.title());
    paths.into_iter().map(titled).collect()
}

/// Returns whether the engine's DNAT also applies to packets of other hosts to a loopback address.
fn opens_loopback(engine: &Engine) -> bool {
    engine.kind == EngineKind::Podman || engine.major_version() < DOCKER_CLOSES_SIDE_PATHS
}

/// Returns the container's address in the engine's DNAT rule, and its bridge.
fn nat_endpoint(
    engine: &Engine,
    container: &Container,
    family: Family,
) -> Option<(IpAddr, Option<String>)> {
    endpoints_of(engine, container)
        .filter(|endpoint| Family::of(endpoint.address) == family)
        .find(|endpoint| mode(endpoint) != GatewayMode::Routed)
        .map(|endpoint| {
            let network = endpoint.network.or_else(|| engine.networks.first());
            (
                endpoint.address,
                network.and_then(|network| network.bridge.clone()),
            )
        })
}

fn mode(endpoint: &EndpointView<'_>) -> GatewayMode {
    endpoint.network.map_or(GatewayMode::Nat, |network| {
        match Family::of(endpoint.address) {
            Family::V4 => network.mode_v4,
            Family::V6 => network.mode_v6,
        }
    })
}

/// Returns the paths to a container that use no port of the host.
fn to_container(around: &Surroundings, host: &HostView, endpoint: &EndpointView<'_>) -> Vec<Path> {
    let family = Family::of(endpoint.address);
    let (Some(network), true) = (endpoint.network, around.forwards.of(family)) else {
        return Vec::new();
    };
    let engine = host
        .engines
        .iter()
        .find(|engine| engine.networks.iter().any(|own| own.id == network.id));
    if network.driver != "bridge" || !endpoint.container.running {
        return Vec::new();
    }
    let guards = engine.is_some_and(|engine| engine.kind == EngineKind::Docker)
        && around.engine_rules.of(family);
    let closes = engine.is_some_and(|e| e.major_version() >= DOCKER_CLOSES_SIDE_PATHS);
    let is_podman = engine.is_some_and(|engine| engine.kind == EngineKind::Podman);
    let (all, published) = match mode(endpoint) {
        // Docker denies it, and Podman's containers have no way back.
        _ if network.internal && (guards || is_podman) => (false, false),
        GatewayMode::Isolated => (false, false),
        GatewayMode::NatUnprotected if guards => (true, true),
        GatewayMode::Routed if guards => (false, true),
        GatewayMode::Nat if guards && closes => (false, false),
        GatewayMode::Nat if guards => (!around.denies.of(family), true),
        // The engine has no rules for this family.
        GatewayMode::Nat | GatewayMode::NatUnprotected | GatewayMode::Routed => {
            let all = !around.denies.of(family);
            (all, all)
        }
    };
    let own = &endpoint.container.published;
    let mut paths = Vec::new();
    if published {
        let mut ports: Vec<_> = own.iter().map(|p| (p.protocol, p.container_port)).collect();
        ports.sort_unstable();
        ports.dedup();
        let to = |(protocol, port)| straight(endpoint, protocol, Some(port), port);
        paths.extend(ports.into_iter().map(to));
    }
    if all {
        // Any port stands for all that the container does not publish.
        let other = (1..=u16::MAX).find(|port| own.iter().all(|p| p.container_port != *port));
        paths.push(straight(endpoint, Protocol::Tcp, None, other.unwrap_or(1)));
    }
    paths
}

/// Returns the path to a container's own address, even if the engine drops its packets.
pub(super) fn straight(
    endpoint: &EndpointView<'_>,
    protocol: Protocol,
    port: Option<u16>,
    target: u16,
) -> Path {
    let bridge = endpoint.network.and_then(|network| network.bridge.clone());
    let path = Path {
        port,
        ..Path::to_socket(Kind::Container, protocol, endpoint.address, target)
    };
    path.titled(endpoint.container.title())
        .reached_by(Reach::Routed)
        .to(endpoint.address, target, bridge)
}

/// Returns the title of a socket's service and the kind of its paths.
fn held(host: &HostView, explanations: &Explanations<'_>, listener: &Listener) -> (Kind, String) {
    let process = |what: &str, owner: &Owner| format!("{what} (process {})", owner.pid);
    let published = || {
        let publication = explanations.first_of(listener.protocol, listener.port);
        publication.map(|publication| publication.of.title())
    };
    match host.holder(listener) {
        // It is in this network namespace, even if its engine reports otherwise.
        Holder::Container(container, _) => (Kind::HostNetwork, container.title()),
        Holder::Unanswered(id, owner) => {
            let what = format!("container {id} of an engine that does not answer");
            (Kind::HostNetwork, process(&what, owner))
        }
        Holder::Rootless(owner) => (
            Kind::Proxy,
            format!("a rootless engine ({}, process {})", owner.name, owner.pid),
        ),
        Holder::Proxy(owner) => {
            let title = published().filter(|_| explanations.explains(listener));
            let unknown = || process("an engine that was not asked", owner);
            (Kind::Proxy, title.unwrap_or_else(unknown))
        }
        Holder::Engine(owner) => match published().filter(|_| explanations.explains(listener)) {
            Some(title) => (Kind::Held, title),
            None => (Kind::Service, process(&owner.name, owner)),
        },
        Holder::Service(owner) => (Kind::Service, process(&owner.name, owner)),
        Holder::Unseen => (Kind::Service, UNSEEN.to_owned()),
    }
}

/// Returns the paths to a socket that no queried engine publishes: of a container in the host's network, of
/// another engine, or of a service of the host.
fn to_socket(
    host: &HostView,
    explanations: &Explanations<'_>,
    around: &Surroundings,
    listener: &Listener,
) -> Vec<Path> {
    let is_published = matches!(
        host.holder(listener),
        Holder::Proxy(_) | Holder::Engine(_) | Holder::Unseen
    );
    if is_published && explanations.explains(listener) {
        return Vec::new();
    }
    let (kind, title) = held(host, explanations, listener);
    // A socket bound to an interface accepts nothing from other interfaces.
    let device = listener.device.as_ref();
    if device
        .is_some_and(|device| !around.interfaces.is_empty() && !around.interfaces.contains(device))
    {
        return Vec::new();
    }
    let both = listener.both_families.then_some(Family::V4.unspecified());
    let addresses = [Some(listener.address), both].into_iter().flatten();
    let reached = addresses.filter_map(|address| {
        let path = Path::to_socket(kind, listener.protocol, address, listener.port);
        if !address.is_loopback() {
            Some(path)
        } else if around.takes_loopback(address) {
            Some(path.reached_by(Reach::OnLink))
        } else {
            None
        }
    });
    reached.map(|path| path.titled(title.clone())).collect()
}

/// Returns whether packets to an address stay on the host.
fn is_own(around: &Surroundings, address: IpAddr) -> bool {
    around.addresses.contains(&address) || address.is_loopback()
}

/// Returns the paths to a socket through NAT rules that lead to the host: from ports that rules redirect to it, or whose destination
/// becomes an address of the host.
fn redirected(
    (host, explanations): (&HostView, &Explanations<'_>),
    translations: &[Translation],
    listener: &Listener,
) -> Vec<Path> {
    let (kind, title) = held(host, explanations, listener);
    let mut paths = Vec::new();
    for translation in translations {
        let to = match translation.to {
            Target::Host(to) => to,
            Target::Address(address, to) if listener.takes(address) => to,
            Target::Address(..) | Target::Somewhere => continue,
        };
        let number = L4Protocol::from(listener.protocol).number();
        if translation.protocol.is_some_and(|wanted| wanted != number) {
            continue;
        }
        let ranges = translation.ports.as_ref().map_or(&[][..], Ports::ranges);
        let ports = ranges.iter().flat_map(|(first, last)| *first..=*last);
        let ports = ports.filter(|port| to.unwrap_or(*port) == listener.port);
        for port in ports.take(TRANSLATED) {
            let address = match translation.destination {
                Some((address, length)) if length == translation.family.bits() => address,
                _ => translation.family.unspecified(),
            };
            // From the same port the socket has a path anyway, but for one on a loopback address.
            if port != listener.port || listener.address.is_loopback() {
                let path = Path::to_socket(kind, listener.protocol, address, port);
                paths.push(Path {
                    redirected: Some(listener.port),
                    ..path.titled(title.clone())
                });
            }
        }
    }
    paths
}

/// Returns the paths of a NAT rule that no queried engine explains: a rule of another program, or of an engine
/// that does not answer and whose containers may still run.
fn translated(translation: &Translation, title: &str, bridge: Option<&str>) -> Vec<Path> {
    let address = match translation.destination {
        Some((address, length)) if length == translation.family.bits() => address,
        _ => translation.family.unspecified(),
    };
    let protocols = Protocol::ALL.into_iter();
    let protocols = protocols.filter(|protocol| {
        let number = L4Protocol::from(*protocol).number();
        translation.protocol.is_none_or(|wanted| wanted == number)
    });
    let ranges = translation.ports.as_ref().map_or(&[][..], Ports::ranges);
    let ports = ranges.iter().flat_map(|(first, last)| *first..=*last);
    let ports: Vec<u16> = ports.take(TRANSLATED).collect();
    let to = |protocol, port| {
        let (container, inside) = match translation.to {
            Target::Address(container, inside) => (container, inside.unwrap_or(port)),
            Target::Host(_) | Target::Somewhere => (translation.family.unspecified(), port),
        };
        Path::to_socket(Kind::Dnat, protocol, address, port)
            .titled(title.to_owned())
            .to(container, inside, bridge.map(str::to_owned))
    };
    protocols
        .flat_map(|protocol| {
            ports
                .iter()
                .map(|port| to(protocol, *port))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// The most ports of one rule that become paths of their own.
const TRANSLATED: usize = 256;

/// The title of a socket whose process is not found.
const UNSEEN: &str = "the kernel, or a process that cannot be seen";
