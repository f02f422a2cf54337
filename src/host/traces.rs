//! Traces of engines that do not answer: sockets and rules of published ports.

use super::holder::Holder;
use super::listener::Listener;
use super::nat::{Target, Translation};
use super::{HostView, Publication, Publisher};
use crate::net::Protocol;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

/// Sockets and rules of published ports that no queried engine explains.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traces<'a> {
    /// Sockets of docker-proxy and of rootless engines.
    pub published: Vec<&'a Listener>,
    /// Sockets of containers in the network of the host.
    pub containers: Vec<&'a Listener>,
    /// Destination NAT rules in chains named as by engines.
    pub translations: Vec<Translation>,
    /// Destination NAT rules to containers of queried engines, for ports that these do not publish.
    pub manual: Vec<Translation>,
}

impl Traces<'_> {
    /// Returns whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self {
            published,
            containers,
            translations,
            manual: _,
        } = self;
        published.is_empty() && containers.is_empty() && translations.is_empty()
    }
}

impl HostView {
    /// Returns the sockets and rules of published ports that no queried engine explains, as far as they
    /// were read. Sockets on loopback do not count.
    #[must_use]
    pub fn traces_of_engines(&self) -> Traces<'_> {
        let reachable = || {
            let listeners = self.listeners.iter();
            listeners.filter(|listener| !listener.address.is_loopback())
        };
        let explanations = self.explanations();
        let published = reachable().filter(|listener| {
            matches!(
                self.holder(listener),
                Holder::Proxy(_) | Holder::Rootless(_)
            ) && !explanations.explains(listener)
        });
        let containers =
            reachable().filter(|listener| matches!(self.holder(listener), Holder::Unanswered(..)));
        let known = Known::of(self);
        let unexplained = self.nat.translations().into_iter();
        let unexplained = unexplained.filter(|one| !known.explains(one));
        let (manual, others): (Vec<_>, Vec<_>) =
            unexplained.partition(|one| known.leads_to_container(one));
        Traces {
            published: published.collect(),
            containers: containers.collect(),
            translations: others.into_iter().filter(is_engines).collect(),
            manual,
        }
    }
}

/// What queried engines publish, by port: an engine has a rule for each.
struct Known<'a> {
    /// Publications of one port, by the number of the protocol and the port.
    ports: HashMap<(u8, u16), Vec<Publication<'a>>>,
    /// Publications of several ports.
    ranges: Vec<Publication<'a>>,
    /// The addresses of containers.
    containers: HashSet<IpAddr>,
}

impl<'a> Known<'a> {
    fn of(host: &'a HostView) -> Self {
        let mut known = Self {
            ports: HashMap::new(),
            ranges: Vec::new(),
            containers: host.endpoints().map(|endpoint| endpoint.address).collect(),
        };
        for publication in host.publications().filter(|p| p.of.is_running()) {
            let published = publication.published;
            if published.first == published.last {
                let key = (number(published.protocol), published.first);
                known.ports.entry(key).or_default().push(publication);
            } else {
                known.ranges.push(publication);
            }
        }
        known
    }

    /// Returns whether a queried engine publishes all ports that a rule translates.
    fn explains(&self, translation: &Translation) -> bool {
        let (Some(ports), Some(protocol)) = (&translation.ports, translation.protocol) else {
            return false;
        };
        ports.ranges().iter().all(|(first, last)| {
            let own = self.ports.get(&(protocol, *first)).into_iter().flatten();
            own.chain(&self.ranges).any(|publication| {
                let published = publication.published;
                number(published.protocol) == protocol
                    && published.first <= *first
                    && *last <= published.last
                    && leads_to(translation, publication.of)
            })
        })
    }

    /// Returns whether a rule of another program leads to a container of a queried engine.
    fn leads_to_container(&self, translation: &Translation) -> bool {
        match translation.to {
            Target::Address(to, _) => self.containers.contains(&to),
            Target::Host(_) | Target::Somewhere => false,
        }
    }
}

/// Returns the number of a protocol in packets.
fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

/// Returns whether a rule leads to this container, as far as it says where to.
fn leads_to(translation: &Translation, publisher: Publisher<'_>) -> bool {
    match (translation.to, publisher) {
        (Target::Address(to, _), Publisher::Container(container)) => {
            let mut endpoints = container.endpoints.iter();
            endpoints.any(|endpoint| endpoint.addresses.contains(&to))
        }
        _ => true,
    }
}

/// Returns whether a rule is in a chain named as by engines: those of Docker (`DOCKER`, `DOCKER-INGRESS`, and
/// the tables `docker-bridges` of its nftables backend) and of Podman (netavark's, CNI's). Only root gives
/// such names.
fn is_engines(translation: &Translation) -> bool {
    let chains = ["DOCKER", "NETAVARK-", "CNI-", "nv_"];
    let tables = [" docker-bridges", " netavark"];
    let elsewhere = matches!(translation.to, Target::Address(..) | Target::Somewhere);
    elsewhere
        && (chains
            .iter()
            .any(|chain| translation.chain.starts_with(chain))
            || tables
                .iter()
                .any(|table| translation.table.ends_with(table)))
}
