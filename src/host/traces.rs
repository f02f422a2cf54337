//! Traces of engines that do not answer: sockets and rules of published ports.

use super::holder::Holder;
use super::listener::Listener;
use super::nat::{Target, Translation};
use super::{HostView, Publisher};
use crate::net::Protocol;

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
        let published = reachable().filter(|listener| {
            matches!(
                self.holder(listener),
                Holder::Proxy(_) | Holder::Rootless(_)
            ) && !self.is_explained(listener)
        });
        let containers =
            reachable().filter(|listener| matches!(self.holder(listener), Holder::Unanswered(..)));
        let translations = self.nat.translations().into_iter();
        Traces {
            published: published.collect(),
            containers: containers.collect(),
            translations: translations
                .filter(|one| is_engines(one) && !self.leads_to_container(one))
                .filter(|one| !self.is_translation_explained(one))
                .collect(),
            manual: self
                .nat
                .translations()
                .into_iter()
                .filter(|one| self.leads_to_container(one) && !self.is_translation_explained(one))
                .collect(),
        }
    }

    /// Returns whether a queried engine publishes all ports that a rule translates.
    fn is_translation_explained(&self, translation: &Translation) -> bool {
        let Some(ports) = &translation.ports else {
            return false;
        };
        let protocol = |protocol: Protocol| match protocol {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        };
        ports.ranges().iter().all(|(first, last)| {
            let running = self.publications().filter(|p| p.of.is_running());
            running.into_iter().any(|publication| {
                let published = publication.published;
                let leads_there = match (translation.to, publication.of) {
                    (Target::Address(to, _), Publisher::Container(container)) => {
                        let own = self.endpoints().filter(|e| e.container.id == container.id);
                        own.into_iter().any(|endpoint| endpoint.address == to)
                    }
                    _ => true,
                };
                leads_there
                    && Some(protocol(published.protocol)) == translation.protocol
                    && published.first <= *first
                    && *last <= published.last
            })
        })
    }

    /// Returns whether a rule of another program leads to a container of a queried engine.
    fn leads_to_container(&self, translation: &Translation) -> bool {
        match translation.to {
            Target::Address(to, _) => self.endpoints().any(|endpoint| endpoint.address == to),
            Target::Host(_) | Target::Somewhere => false,
        }
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
